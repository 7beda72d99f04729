"""Parts that several condensation methods share."""
