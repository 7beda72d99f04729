"""Integration of d3rlpy."""
