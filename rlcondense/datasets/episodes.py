"""Episodes as arrays, as they are recorded, stored and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.types import Array

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import TransitionDataset


@dataclass(frozen=True)
class Episode:
    """Episode of T steps.

    Attributes:
        observations: `(T, *observation)`.
        actions: `(T,)` or `(T, A)`.
        rewards: `(T,)`.
        level_seed: level of the episode, or None if it is not known.
        action_probs: `(T, A)` or None.
        truncated: whether the episode was truncated after its last step instead of terminating.
    """

    observations: Array
    actions: Array
    rewards: Array
    level_seed: int | None
    action_probs: Array | None = None
    truncated: bool = False


def what_is_wrong_with(episode: Any) -> str:
    """Return what an episode of a stranger's class is in place of one, or nothing."""
    if not isinstance(episode, Episode):
        return f"{type(episode).__name__}, not rlcondense.datasets.episodes.Episode"
    arrays = {
        name: getattr(episode, name)
        for name in ("observations", "actions", "rewards", "action_probs")
        if name != "action_probs" or episode.action_probs is not None
    }
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or not array.ndim:
            return f"an episode whose {name} are {type(array).__name__}, not an array of rows"
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{count} {name}" for name, count in lengths.items())
        return f"an episode with {said}: a row a step each"
    return ""


def episode_of(data: TransitionDataset, number: int) -> Episode:
    """Return a copy of one episode of a dataset.

    What does not terminate is truncated, whether or not the data say so: the last episode of a file
    may have no end. What both terminates and is truncated has terminated.
    """
    rows = data.episodes[number]
    part = {name: np.array(c[rows.start : rows.stop]) for name, c in data.columns().items()}
    return episode_from(part, truncated=not part["terminations"][-1])


def episode_from(columns: Mapping[str, Array], *, truncated: bool) -> Episode:
    """Return the episode that columns by our names are of, whose rows are all of one level."""
    levels = columns.get("level_seeds")
    return Episode(
        observations=columns["observations"],
        actions=columns["actions"],
        rewards=columns["rewards"],
        level_seed=None if levels is None else int(levels[0]),
        action_probs=columns.get("action_probs"),
        truncated=truncated,
    )
