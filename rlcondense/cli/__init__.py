"""The command line; heavy imports happen inside the commands, so that `list` is quick."""

from rlcondense.cli import (  # noqa: F401  (each registers its commands)
    check,
    dataset,
    dataset_making,
    expert,
    export,
    leaderboard,
    leaderboard_sharing,
    report,
    run,
    score,
    show,
    status,
    sweep,
)
from rlcondense.cli.base import main

__all__ = ["main"]
