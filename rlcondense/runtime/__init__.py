"""Runtime support: checkpoints, cost meters, progress and provenance."""
