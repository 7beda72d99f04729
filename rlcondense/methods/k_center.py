"""Greedy k-center (Sener and Savarese, 2018, arXiv 1708.00489, algorithm 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.features import FeatureConfig, features_of


class KCenter(Method[FeatureConfig]):
    """Keeps, repeatedly, the row that is farthest from all rows kept so far."""

    Config = FeatureConfig
    label_kinds = ("hard", "soft", "continuous")
    id = "k-center"

    def _condense(self, problem: Problem) -> Condensation:
        features, gradients = features_of(problem, self.config)
        first = int(problem.rng().integers(len(features)))
        rows = farthest_first(features, problem.size, first)
        selected = select(problem.dataset, np.sort(rows), self.config.labels)
        return selected.costing(gradients)


def farthest_first(x: npt.NDArray[Any], size: int, first: int) -> npt.NDArray[np.int64]:
    """Return rows of `(N, F)`, each the farthest from those before it; of equal ones, the first."""
    rows = np.empty(size, np.int64)
    nearest = np.full(len(x), np.inf)
    rows[0] = first
    for i in range(1, size):
        nearest = np.minimum(nearest, ((x - x[rows[i - 1]]) ** 2).sum(1))
        nearest[rows[i - 1]] = -1.0  # never twice, even where all frames are alike
        rows[i] = int(nearest.argmax())
    return rows
