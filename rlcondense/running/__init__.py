"""The computation of cells: plans, executors, sweeps and runs."""
