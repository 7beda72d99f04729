"""Herding (Welling, 2009; as in iCaRL: Rebuffi et al., 2017, arXiv 1611.07725, algorithm 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.features import FeatureConfig, features_of


class Herding(Method[FeatureConfig]):
    """Keeps rows whose mean feature stays as near as can be to that of all the data."""

    Config = FeatureConfig
    label_kinds = ("hard", "soft")
    id = "herding"

    def _condense(self, problem: Problem) -> Condensation:
        features, gradients = features_of(problem, self.config)
        rows = herd(features, problem.size)
        selected = select(problem.dataset, np.sort(rows), self.config.labels)
        return selected.costing(gradients)


def herd(x: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Rows of `(N, F)`, each bringing the mean of those so far nearest to the mean of all."""
    mean, total = x.mean(0), np.zeros(x.shape[1])
    squares = (x**2).sum(1)
    rows = np.empty(size, np.int64)
    taken = np.zeros(len(x), bool)
    for i in range(size):
        # |mean - (total + x) / n|^2 up to what is the same for all rows.
        n = i + 1
        distance = squares / n - 2 * x @ (mean - total / n)
        distance[taken] = np.inf
        rows[i] = int(distance.argmin())
        taken[rows[i]] = True
        total += x[rows[i]]
    return rows
