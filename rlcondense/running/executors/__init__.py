"""The executors: local worker processes, and Ray."""
