"""Training of experts, and collection of their data."""
