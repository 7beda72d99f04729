"""States in which the action matters, by VIPER's weight (Bastani, Pu and Solar-Lezama, 2018, arXiv
1805.08328, section 3).

    w(s) = max_a Q(s, a) - min_a Q(s, a)

is the most that a wrong action can cost. VIPER draws the rows that it trains on in proportion to
it, from the oracle's Q; here Q is that of conservative Q-learning on the data, as in `sdr`. That
lowers the values of actions that the data lack, so states whose action is always the same weigh
more than their true values say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Condensation, LabelConfig, Problem, select
from rlcondense.methods.parts.q_values import shared_critic
from rlcondense.methods.parts.scorers import RowScorer, by_score
from rlcondense.networks import ENCODERS


@dataclass(frozen=True)
class CriticalConfig(LabelConfig):
    """Settings.

    Attributes:
        network: name of the Q-function's network.
        value_updates: number of updates of Q-learning. However many they are, the target network
            is renewed twenty times in them, so that values look some twenty steps ahead.
        keep: rows that are kept: `drawn`, in proportion to the weight and without replacement
            (VIPER draws with replacement), or `highest`.
    """

    network: str = "nature"
    value_updates: int = 500
    keep: str = "drawn"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "network", tuple(ENCODERS))
        check_positive(self, "value_updates")
        check_choice(self, "keep", ("drawn", "highest"))


class Critical(RowScorer[CriticalConfig]):
    """Keeps rows of states in which one action is worth much more than another.

    Of continuous actions the highest and lowest value are those of 32 actions drawn uniformly.
    """

    Config = CriticalConfig
    needs = frozenset({"rewards"})
    id = "critical"

    def _score(self, problem: Problem) -> Scores:
        c = self.config
        critic = shared_critic(problem, c.network, c.value_updates)
        return Scores(critic.spread(problem), "rows", critic.gradient_evaluations)

    def _condense(self, problem: Problem) -> Condensation:
        scores = self._score(problem)
        order = scores.values
        if self.config.keep == "drawn":
            # The largest of log w + Gumbel noise are a draw without replacement (Vieira, 2014).
            noise = np.random.default_rng([problem.seed, 4]).gumbel(size=len(order))
            order = np.log(np.maximum(order, 1e-12)) + noise
        rows = np.sort(by_score(order)[: problem.size])
        selected = select(problem.dataset, rows, self.config.labels)
        return replace(selected, scores=scores, gradient_evaluations=scores.gradient_evaluations)
