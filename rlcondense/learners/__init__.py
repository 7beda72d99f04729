"""Learners: what trains policies on a condensed dataset."""
