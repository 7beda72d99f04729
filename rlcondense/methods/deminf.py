"""DemInf: mutual information of states and actions (Hejna et al., 2025, arXiv 2502.08623).

An episode's score is the mean over its steps of

    -[ log n_s(r) + log n_a(r) ],   r the distance to the k-th neighbour of (z_s, z_a),

what a step adds to the k-NN estimate of I(S; A) (Kraskov et al., 2004): n_s and n_a count the
states and actions within r. As in the authors' code the mean is over k = 2 to 4, neighbours are
searched in random batches of up to 1024 steps, and steps below the first and above the last
percentile are drawn in to it. Here each step is in four batches and is drawn in after their mean;
their code goes four times through the data, each time with another half of each episode, and draws
in before the mean. Their z are the latents of two autoencoders. Here z_s are a cloned network's
features, or vectors as they are, in principal components of variance 1; z_a are actions in
deviations, one-hot vectors, or with soft labels the distributions. Discrete actions and frames
coincide, so that more than k pairs may lie within r: the logarithm of their number is added (Gao et
al., 2017, arXiv 1709.06212), which is a constant elsewhere. Euclidean distances and logarithms of
counts are those of Gao, Oh and Viswanath (2018, arXiv 1604.03006), as in the code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcondense.config import check_positive
from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import FeatureConfig, action_spread, targets_of
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.methods.parts.vectors import state_vectors
from rlcondense.types import Array

NEIGHBOURS = (2, 3, 4)
BATCH = 1024
REPEATS = 4
PERCENTILES = (1, 99)


@dataclass(frozen=True)
class DemInfConfig(FeatureConfig):
    """Settings.

    Attributes:
        components: maximal number of principal components of the states.
    """

    components: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "components")


class DemInf(EpisodeScorer[DemInfConfig]):
    """Keeps episodes whose actions are the most predictable from varied states.

    Of vectors in at most 1024 rows, which are one batch, each seed gives the same scores.
    """

    Config = DemInfConfig
    stochastic = True
    id = "deminf"

    def _score(self, problem: Problem) -> Scores:
        c, problem = self.config, problem.as_taken()
        states, cost = state_vectors(problem, c, c.components)
        actions = targets_of(problem, c.labels).cpu().numpy()
        if problem.continuous:
            actions = actions / action_spread(problem).cpu().numpy()
        rng = np.random.default_rng([problem.seed, 5])
        steps = np.mean([information(states, actions, rng) for _ in range(REPEATS)], axis=0)
        steps = steps.clip(*np.percentile(steps, PERCENTILES))
        values = Scores(steps, "rows").of_episodes(problem.dataset)
        return Scores(values, gradient_evaluations=cost)


def information(states: Array, actions: Array, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return what each step `(N,)` adds to the mutual information of states and actions.

    A constant, the same for all steps, is left out.

    Args:
        states: `(N, F)`.
        actions: `(N, A)`.
        rng: draws the batches in which neighbours are searched.
    """
    count = len(states)
    out = np.zeros(count)
    for rows in np.array_split(rng.permutation(count), -(-count // BATCH)):
        apart_s, apart_a = (_squared_distances(x[rows]) for x in (states, actions))
        radii = np.sort(apart_s + apart_a, axis=1)  # the step itself comes first
        for k in NEIGHBOURS:
            r = radii[:, [min(k, len(rows) - 1)]]
            n_sa, n_s, n_a = (
                np.log(((apart <= r).sum(1) - 1).clip(1))
                for apart in (apart_s + apart_a, apart_s, apart_a)
            )
            out[rows] += (n_sa - n_s - n_a) / len(NEIGHBOURS)
    return out


def _squared_distances(x: Array) -> npt.NDArray[np.float64]:
    x = x.astype(np.float64)
    squares = (x**2).sum(1)
    apart = (squares[:, None] + squares - 2 * x @ x.T).clip(0)
    np.fill_diagonal(apart, 0)
    return np.asarray(apart)
