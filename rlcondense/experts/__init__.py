"""Experts: the policies that datasets come from."""
