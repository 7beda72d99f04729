"""Learners, which train policies on a condensed dataset."""
