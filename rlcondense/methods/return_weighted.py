"""All the data, each row weighed by its episode's return (Light, Liu and Hu, 2024, arXiv
2407.20299, equation 1).

    L_BC(theta | D) = sum_{(s, a) in D}  w(s, a, G_0) |pi_theta(s) - a|

Their w is 1 for episodes of return G_0 >= b and 0 for others. The smooth alternative is
reward-weighted regression (Peters and Schaal, 2007) in the form of advantage-weighted regression
(Peng et al., 2019, arXiv 1910.00177): w = exp(z / temperature), clipped at 20, where z is the
episode's return, standardised over episodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.scores import Scores
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem
from rlcondense.methods.full import everything
from rlcondense.methods.percentile import rows_of_best

LARGEST = 20.0  # omega_max of Peng et al.


@dataclass(frozen=True)
class ReturnWeightedConfig(LabelConfig):
    """Settings.

    Attributes:
        weighting: `exponential`, or `indicator` of the best episodes.
        temperature: temperature of `exponential`, in standard deviations of the return.
        best: fraction of the episodes with weight 1 under `indicator`.
    """

    weighting: str = "exponential"
    temperature: float = 1.0
    best: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "weighting", ("exponential", "indicator"))
        check_positive(self, "temperature", "best")
        if self.best > 1:
            raise BadConfig(f"best must be at most 1, not {self.best}")


class ReturnWeighted(Method[ReturnWeightedConfig]):
    """Keeps everything; rows of episodes with high returns have higher weights."""

    Config = ReturnWeightedConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"rewards", "episodes"})
    stochastic = False
    keeps_everything = True
    id = "return-weighted"

    def _condense(self, problem: Problem) -> Condensation:
        c, dataset = self.config, problem.dataset
        if c.weighting == "indicator":
            weights = indicator(dataset, c.best)
        else:
            weights = exponential(dataset, c.temperature)
        scores = self._score(problem)
        return replace(everything(dataset, c.labels), weights=weights, scores=scores)

    def _score(self, problem: Problem) -> Scores:
        return Scores(problem.dataset.episode_returns())


def indicator(dataset: TransitionDataset, best: float) -> npt.NDArray[np.float32]:
    """Return weights `(N,)`: 1 in the best episodes, which `percentile` keeps, and 0 elsewhere."""
    weights = np.zeros(len(dataset), np.float32)
    count = Budget(percent=100 * best, unit="episodes").episodes(dataset)
    weights[rows_of_best(dataset, count)] = 1
    return weights


def exponential(dataset: TransitionDataset, temperature: float) -> npt.NDArray[np.float32]:
    """Return positive weights `(N,)` that grow with the return of the row's episode."""
    returns: npt.NDArray[Any] = dataset.episode_returns()
    z = (returns - returns.mean()) / (returns.std() or 1.0)
    lengths = [len(rows) for rows in dataset.episodes]
    # Weights too small for float32 are clipped too, so that none is zero.
    exponent = np.clip(z / temperature, -np.log(1e30), np.log(LARGEST))
    return np.repeat(np.exp(exponent), lengths).astype(np.float32)
