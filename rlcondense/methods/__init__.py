"""Condensation methods: each makes a small dataset of a large one, within a budget."""
