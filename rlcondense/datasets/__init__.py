"""Offline datasets: transitions in memory, Minari on disk, traces, recordings, condensed sets."""
