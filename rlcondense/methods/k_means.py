"""Rows nearest to the centres of scikit-learn's k-means (Lloyd, 1982; Sculley, 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.features import FeatureConfig, features_of


class KMeans(Method[FeatureConfig]):
    """Keeps the row nearest to the centre of each cluster of features."""

    Config = FeatureConfig
    label_kinds = ("hard", "soft", "continuous")
    id = "k-means"

    def _condense(self, problem: Problem) -> Condensation:
        features, gradients = features_of(problem, self.config)
        rows = nearest_to_centres(features, problem.size, int(problem.rng().integers(2**31)))
        selected = select(problem.dataset, np.sort(rows), self.config.labels)
        return selected.costing(gradients)


def nearest_to_centres(x: npt.NDArray[Any], size: int, seed: int) -> npt.NDArray[np.int64]:
    """Return `size` distinct rows of `(N, F)`, each the nearest free row to a centre."""
    from sklearn.cluster import MiniBatchKMeans

    clustering = MiniBatchKMeans(size, n_init=1, random_state=seed).fit(x)
    free = np.ones(len(x), bool)
    rows = np.empty(size, np.int64)
    for i, centre in enumerate(clustering.cluster_centers_):
        distance = np.where(free, ((x - centre) ** 2).sum(1), np.inf)
        rows[i] = int(distance.argmin())
        free[rows[i]] = False
    return rows
