"""Rewards of OGBench's own files by the goal of a task (Park et al. 2024, arXiv:2410.20092).

The files hold what the simulator saw (`qpos`), and no rewards: those of a single task follow from
its goal, by OGBench's own rule. The last row of a trajectory is its last state and no step, which
OGBench leaves out. A trajectory goes on after its goal is reached, and ends where it is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rlcondense.errors import CorruptArtifact, MissingExtra
from rlcondense.tasks.base import Task
from rlcondense.tasks.gymnasium import GymnasiumTask
from rlcondense.types import Array

SINGLE_TASK = "-singletask"  # in the id of an environment with one goal
STATES = ("qpos", "button_states")  # what a goal is about


def has_one_goal(task: Task) -> bool:
    """Return whether a task is one of OGBench's environments with a single goal."""
    return isinstance(task, GymnasiumTask) and SINGLE_TASK in task.env


def rewards_of(task: Task, states: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    """Compute the rewards of a single task: zero at its goal, and below zero elsewhere.

    Args:
        task: for which `has_one_goal` is true.
        states: columns of a file, of those in `STATES`.

    Returns:
        `(N,)` rewards.

    Raises:
        MissingExtra: OGBench is not installed.
        CorruptArtifact: they are states of another environment.
    """
    assert isinstance(task, GymnasiumTask)
    try:
        from ogbench.relabel_utils import relabel_dataset
    except ImportError:
        raise MissingExtra("ogbench", "ogbench") from None
    columns = dict(states)
    env = task.make_env()
    try:
        relabel_dataset(task.env, env, columns)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(
            f"the states of {task.env!r} are others than those of the file: {error}"
        ) from error
    finally:
        env.close()  # type: ignore[no-untyped-call]
    return np.asarray(columns["rewards"], np.float32)
