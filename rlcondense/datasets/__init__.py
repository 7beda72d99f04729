"""Offline datasets: transitions in memory, Minari on disk, and how they are collected."""
