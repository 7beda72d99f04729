"""First transitions of the best episodes: a return filter, which ReDOR's reviewers ask for.

ReDOR (Yang et al., 2025, arXiv 2502.18955) filters by return before it selects; this row is the
filter alone. With `gamma` below 1 it is `discounted-return`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlcondense.config import LATER
from rlcondense.datasets.scores import Scores
from rlcondense.errors import BadConfig
from rlcondense.methods.base import LabelConfig, Problem
from rlcondense.methods.parts.scorers import EpisodeScorer


@dataclass(frozen=True)
class ReturnConfig(LabelConfig):
    """Settings.

    Attributes:
        gamma: discount factor of the return by which episodes are ranked. Below 1, a reward counts
            less the later it comes, so that among games won alike (returns of 0 or 10) the one won
            sooner is better. Episodes that are still equal, such as lost games, keep the data's
            order: the earlier episode is kept.
    """

    gamma: float = field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma <= 1:
            raise BadConfig(f"gamma must lie in (0, 1], not {self.gamma}")


class TopReturn(EpisodeScorer[ReturnConfig]):
    """Keeps episodes of highest return until the size is met; the last episode is cut off."""

    Config = ReturnConfig
    needs = frozenset({"rewards", "episodes"})
    id = "top-return"

    def _score(self, problem: Problem) -> Scores:
        return Scores(problem.dataset.episode_returns(self.config.gamma))
