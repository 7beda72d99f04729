"""Integrations of other libraries."""
