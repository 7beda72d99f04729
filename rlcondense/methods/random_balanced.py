"""Random subset with equally many transitions of each action, as far as the data allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select


class RandomBalanced(Method[LabelConfig]):
    """Draws the same number of transitions of each action: Light et al.'s (2024) initial frames.

    All transitions of an action with fewer than its share are kept; the other actions get more, so
    that the budget is met exactly.
    """

    Config = LabelConfig
    label_kinds = ("hard", "soft")
    id = "random-balanced"

    def _condense(self, problem: Problem) -> Condensation:
        actions = np.asarray(problem.dataset.actions)
        rows = balanced_rows(actions, problem.size, problem.rng())
        return select(problem.dataset, rows, self.config.labels)


def balanced_rows(
    actions: npt.NDArray[Any], size: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw rows without replacement, equally many of each action as far as possible.

    Args:
        actions: `(N,)` discrete actions.
        size: rows to draw, at most N.
        rng: generator of the draw.

    Returns:
        `(size,)` rows, sorted by action and then by row.

    Raises:
        BadConfig: the actions are continuous.
    """
    if actions.dtype.kind == "f":
        raise BadConfig("equally many rows of each action need discrete actions")
    present, counts = np.unique(actions, return_counts=True)
    chosen = [
        np.sort(rng.choice(np.flatnonzero(actions == action), share, replace=False))
        for action, share in zip(present, shares(counts, size), strict=True)
    ]
    return np.concatenate(chosen)


def shares(counts: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Split `size` as evenly as `counts` allow; a remainder goes to the most frequent."""
    order = np.argsort(counts, kind="stable")
    out = np.zeros(len(counts), np.int64)
    left = size
    for place, i in enumerate(order):
        out[i] = min(counts[i], left // (len(counts) - place))
        left -= out[i]
    return out
