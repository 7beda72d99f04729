"""Statistics of the comparison."""
