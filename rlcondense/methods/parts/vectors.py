"""States as short vectors that distances and kernels can be taken of."""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import FeatureConfig, features_of
from rlcondense.scaling import SMALLEST, units_of
from rlcondense.types import Array


def state_vectors(problem: Problem, config: FeatureConfig, components: int) -> tuple[Array, int]:
    """Return states `(N, C)` in principal components of variance 1, and their gradient cost.

    Args:
        problem: the problem with the data. Frames are shown by a cloned network's features, vectors
            by themselves.
        config: of the network.
        components: how many, at most.
    """
    observations, cost = problem.dataset.observations, 0
    x = observations
    if observations.ndim > 2:
        x, cost = features_of(problem, config)
    centred = np.asarray(x, np.float64) - x.mean(0)
    if observations.ndim == 2:  # of unlike units
        centred = centred / units_of(centred.std(0))
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = np.argsort(-values)[:components]
    kept = kept[values[kept] > SMALLEST * values.max()]
    return centred @ axes[:, kept] / np.sqrt(values[kept]), cost
