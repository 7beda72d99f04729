"""Density of states: how close the other states of a dataset lie to each."""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import BATCH, cloned_network, encode
from rlcondense.scaling import Scaling
from rlcondense.types import Array

COMPONENTS = 32  # principal components of the features in which distances are measured
NEIGHBOURS = 10
CHUNK = 2048
UPDATES = 300  # of the network whose features frames are compared by


def neighbour_distances(features: Array, problem: Problem) -> Array:
    """Return the distance `(N,)` of each row of features `(N, F)` to its k-th nearest neighbour.

    The sparser a region, the larger it is (Loftsgaarden and Quesenberry, 1965).
    """
    from sklearn.neighbors import NearestNeighbors

    count = len(features)
    centred = features - features.mean(0)
    _, components = np.linalg.eigh(centred.T @ centred)  # the largest come last
    x = centred @ components[:, -COMPONENTS:]
    neighbours = min(NEIGHBOURS + 1, count)  # the row itself is the first
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(x)
    distances = []
    for start in range(0, count, CHUNK):
        neighbour_distances, _ = search.kneighbors(x[start : start + CHUNK])
        distances.append(neighbour_distances[:, -1])
        problem.progress("estimate densities", min(start + CHUNK, count), count)
    return np.concatenate(distances)


def sparsity_weights(problem: Problem, network: str, power: float) -> tuple[Array, int]:
    """Return weights `(N,)` of states, 1 on average and larger in sparse regions, and the cost.

    They are the k-th neighbour's distance to some power: of standardised vectors, or of a cloned
    network's features of frames.

    Args:
        problem: the problem with the data.
        network: name of the network whose features frames are compared by.
        power: exponent of the distance.
    """
    dataset = problem.dataset
    if dataset.observations.ndim > 2:
        policy = cloned_network(problem, network, UPDATES, "hard", problem.torch_seed(3))
        features, cost = encode(policy, dataset)[0], UPDATES * BATCH
    else:
        scaling = Scaling.of(dataset.observations)
        features, cost = (dataset.observations - scaling.mean) / scaling.deviation, 0
    distances = neighbour_distances(features, problem).astype(np.float64)
    distances = np.maximum(distances, 1e-9)
    weights = distances**power
    if not 0 < weights.mean() < np.inf:  # of large powers
        weights = (distances / distances.max()) ** power
    return (weights / weights.mean()).astype(np.float32), cost
