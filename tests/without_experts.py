"""The command line as if no expert were shipped: episodes of an expert on frames take seconds."""

from rlcondense.cli import main
from rlcondense.running import bench

bench.shipped_experts = dict

if __name__ == "__main__":
    main()
