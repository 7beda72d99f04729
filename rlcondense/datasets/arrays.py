"""Datasets from arrays in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.flat import NEEDED, fitted_columns, flags, levels_of
from rlcondense.datasets.sources import local_id
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.files import sha256_arrays
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task
from rlcondense.types import Array
from rlcondense.validation import as_array, check_dataset

_OWNER = "from_arrays"


def from_arrays(
    *,
    observations: npt.ArrayLike,
    actions: npt.ArrayLike,
    rewards: npt.ArrayLike,
    terminations: npt.ArrayLike | None = None,
    truncations: npt.ArrayLike | None = None,
    task: str | Task,
    action_probs: npt.ArrayLike | None = None,
    level_seeds: npt.ArrayLike | None = None,
    heldout_data: bool = False,
) -> TransitionDataset:
    """Make a dataset of arrays with a row a step, as `run`, `condense` and `export` take it.

    An episode ends where it terminates or is truncated; the last one at the end of the arrays.

    Args:
        observations: `(N, *observation)`, copied; frames may have their channels last, if that is
            their shortest side.
        actions: `(N,)`, or `(N, A)` for continuous actions.
        rewards: `(N,)`.
        terminations: `(N,)` flags.
        truncations: `(N,)` flags.
        task: the task that they were collected on, by name perhaps.
        action_probs: `(N, A)` distributions that the actions were drawn from, for soft labels.
        level_seeds: `(N,)` levels, each episode's the same.
        heldout_data: take data of held-out levels, and let a method's `condense` have them; `run`
            and `condense` have an argument of this name, too.

    Raises:
        CorruptArtifact: a shape, a type or a value does not fit the task.
        BadConfig: the data are of held-out levels, and `heldout_data` does not allow it.

    Example:
        >>> data = from_arrays(
        ...     observations=np.zeros((3, 4)), actions=[0, 1, 0], rewards=[1, 1, 1],
        ...     terminations=[False, False, True], task="cartpole",
        ... )  # fmt: skip
        >>> len(data), data.task
        (3, 'classic/cartpole-v0')
    """
    task = make_task(task)
    columns = {
        name: _array(name, values)
        for name, values in {
            "observations": observations,
            "actions": actions,
            "rewards": rewards,
            "terminations": terminations,
            "truncations": truncations,
            "action_probs": action_probs,
            "level_seeds": level_seeds,
        }.items()
        if values is not None
    }
    if missing := [name for name in NEEDED if name not in columns]:
        raise CorruptArtifact(f"{_OWNER} gave no {' and no '.join(missing)}")
    if lone := [name for name, column in columns.items() if not column.ndim]:
        raise CorruptArtifact(f"{_OWNER} gave {', '.join(lone)} as one value, not a row a step")
    rows = len(columns["rewards"])
    uneven = [f"{len(column)} of {name}" for name, column in columns.items() if len(column) != rows]
    if uneven or not rows:
        raise CorruptArtifact(f"{_OWNER} gave {rows} rewards, and {', '.join(uneven) or 'no rows'}")
    ends = {
        name: flags(columns[name], f"{_OWNER}: {name}") if name in columns else np.zeros(rows, bool)
        for name in ("terminations", "truncations")
    }
    last = ends["terminations"] | ends["truncations"]
    last[-1] = True
    # What both terminates and is truncated has terminated; the last episode may be cut off.
    ends["truncations"] = last & ~ends["terminations"]
    episode = fitted_columns(columns, task, _OWNER)
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    lengths = np.diff([*starts, rows])
    levels = columns.get("level_seeds")
    made: dict[str, Any] = {
        **episode,
        **ends,
        "episode_ids": np.repeat(np.arange(len(starts)), lengths),
        "steps": np.arange(rows) - np.repeat(starts, lengths),
        **({} if levels is None else {"level_seeds": levels_of(levels, lengths, _OWNER)}),
    }
    for column in made.values():
        column.flags.writeable = False  # its sha256 is known
    data = TransitionDataset(
        **made,
        id=local_id([sha256_arrays(made), task.id]),
        task=task.id,
        last_observation_repeated=True,
        heldout_allowed=heldout_data,
    )
    check_dataset(data, task)
    return data


def _array(name: str, values: npt.ArrayLike) -> Array:
    try:
        return np.array(as_array(values))  # a copy, since the caller may use its array again
    except (TypeError, ValueError) as error:  # such as rows of different lengths
        raise CorruptArtifact(f"{_OWNER} gave {name} that are no array: {error}") from error
