"""EL2N scores (Paul et al., 2021, arXiv 2107.07075, definition 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import (
    BATCH,
    FeatureConfig,
    action_spread,
    cloned_network,
    encode,
    targets_of,
)
from rlcondense.methods.parts.scorers import RowScorer
from rlcondense.networks import PolicyNetwork


@dataclass(frozen=True)
class ScoreConfig(FeatureConfig):
    """Settings.

    Attributes:
        updates: number of updates of behavioural cloning before the scores are computed.
        networks: number of networks over which scores are averaged (the paper: 10).
        keep: `hardest` (highest scores, as in the paper) or `easiest`.
    """

    updates: int = 100
    networks: int = 3
    keep: str = "hardest"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "networks")
        check_choice(self, "keep", ("hardest", "easiest"))


class EL2N(RowScorer[ScoreConfig]):
    """Keeps the rows with the largest L2 norm of a network's error early in training.

    The error is of the action probabilities, or of continuous actions in standard deviations.

    Paper: networks=10
    """

    Config = ScoreConfig
    id = "el2n"

    def _score(self, problem: Problem) -> Scores:
        targets = targets_of(problem, self.config.labels).cpu().numpy()
        unit = action_spread(problem).cpu().numpy() if problem.continuous else 1.0

        def score(network: PolicyNetwork) -> npt.NDArray[Any]:
            _, probabilities = encode(network, problem.dataset)
            norms: npt.NDArray[Any] = np.linalg.norm((probabilities - targets) / unit, axis=1)
            return norms

        return mean_scores(problem, self.config, score)


def mean_scores(
    problem: Problem,
    config: ScoreConfig,
    score: Callable[[PolicyNetwork], npt.NDArray[Any]],
) -> Scores:
    """Score rows by the mean over networks, or by its negative where the lowest are kept.

    Args:
        problem: the problem with the data.
        config: number of networks, length of their training, and which end is kept.
        score: function that returns the scores `(N,)` of all rows on one network.
    """
    scores = np.zeros(len(problem.dataset))
    for seed in problem.rng().integers(2**31, size=config.networks):
        network = cloned_network(problem, config.network, config.updates, config.labels, int(seed))
        scores += score(network) / config.networks
    values = -scores if config.keep == "easiest" else scores
    return Scores(values, "rows", config.networks * config.updates * BATCH)
