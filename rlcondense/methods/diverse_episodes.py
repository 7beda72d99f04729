"""Diverse episodes by a greedy log-determinant, after FAKTUAL (Sirigiri et al., 2026, arXiv
2603.11634).

    max_{S, |S| = n}  log det K_S,   K the kernel of two episodes' paths,

one episode after another, each the one that adds most (a greedy MAP estimate of a determinantal
point process: Chen, Zhang and Zhou, 2018, arXiv 1709.05135). FAKTUAL maximises the entropy of a
signature kernel of paths. Here the signature is cut off at level two: displacements, and the
integrals of each component along each; K is the Gaussian kernel of these, whose width is the root
of the median squared distance. Its diagonal is one, so that it does not choose the first episode,
which is drawn. Frames are seen by a network that the seed trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcondense.config import check_positive
from rlcondense.datasets.scores import Scores
from rlcondense.limits import check_most
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import FeatureConfig
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.methods.parts.vectors import state_vectors
from rlcondense.scaling import units_of
from rlcondense.types import Array

RIDGE = 1e-6  # keeps the determinant of copies above zero


@dataclass(frozen=True)
class DiverseConfig(FeatureConfig):
    """Settings.

    Attributes:
        components: maximal number of principal components of the states that a path visits.
        drawn: number of episodes that the seed draws, before the others are chosen beside them.
    """

    components: int = 8
    drawn: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "components", "drawn")


class DiverseEpisodes(EpisodeScorer[DiverseConfig]):
    """Keeps episodes whose paths are unlike those of all that are kept before.

    The score is the logarithm of what an episode adds to the determinant when its turn comes.
    """

    Config = DiverseConfig
    stochastic = True
    id = "diverse-episodes"

    def _score(self, problem: Problem) -> Scores:
        c, dataset = self.config, problem.dataset
        check_most("episodes of the data", len(dataset.episodes), "episodes that are compared")
        states, cost = state_vectors(problem, c, c.components)
        paths = [signature(states[rows.start : rows.stop]) for rows in dataset.episodes]
        kernel = gaussian_kernel(np.array(paths))
        order, gains = greedy_determinant(kernel, problem.rng().permutation(len(paths))[: c.drawn])
        gains[: c.drawn] = gains[0]  # they come first, however alike they are
        values = np.empty(len(order))
        values[order] = gains
        return Scores(values, gradient_evaluations=cost)


def signature(path: Array) -> npt.NDArray[np.float64]:
    """Return the signature to level two of a path `(T, C)`, time added as its last component."""
    time = np.linspace(0, 1, len(path))[:, None]
    x = np.concatenate([np.asarray(path, np.float64), time], 1)
    steps = np.diff(x, axis=0)
    halfway = x[:-1] + steps / 2 - x[0]
    return np.concatenate([x[-1] - x[0], (halfway.T @ steps).ravel()])


def gaussian_kernel(x: Array) -> npt.NDArray[np.float64]:
    """Return the Gaussian kernel of rows `(E, F)` in deviations, its width the median one."""
    x = (x - x.mean(0)) / units_of(x.std(0))  # time along itself is a half for every path
    squares = (x**2).sum(1)
    apart = (squares[:, None] + squares - 2 * x @ x.T).clip(0)
    median = np.median(apart[~np.eye(len(x), dtype=bool)]) if len(x) > 1 else 0.0
    return np.asarray(np.exp(-apart / (2 * (median or 1.0))))


def greedy_determinant(
    kernel: Array, first: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return an order of items, each of which adds most to the determinant, and the log gains.

    Args:
        kernel: `(E, E)`, positive semi-definite.
        first: the items that the order begins with.
    """
    count = len(kernel)
    factors = np.zeros((count, count))  # of Cholesky, a row an item chosen
    left = np.diag(kernel) + RIDGE
    order, gains = np.empty(count, np.int64), np.empty(count)
    for i in range(count):
        best = int(first[i]) if i < len(first) else int(left.argmax())
        order[i], gains[i] = best, np.log(max(left[best], RIDGE))
        factors[i] = (kernel[best] - factors[:i, best] @ factors[:i]) / np.sqrt(left[best])
        left = left - factors[i] ** 2
        left[order[: i + 1]] = -np.inf
    return order, gains
