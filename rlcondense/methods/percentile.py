"""%BC: the episodes of highest return (Chen et al., 2021, arXiv 2106.01345, section 5.1).

Light et al. (2024) keep a percentage of the episodes; Mediratta et al. (2024) keep the best
episodes up to a percentage of the transitions. `Budget.unit` says which. Light et al. then train on
a random fifth of the transitions that are kept, which their code does and their paper leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rlcondense.config import LATER
from rlcondense.datasets.budget import share_of
from rlcondense.datasets.scores import Scores
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Problem, select
from rlcondense.methods.parts.scorers import EpisodeScorer, by_score
from rlcondense.methods.top_return import ReturnConfig


@dataclass(frozen=True)
class PercentileConfig(ReturnConfig):
    """Settings.

    Attributes:
        fraction: share of the kept episodes' transitions, drawn uniformly without replacement; 1
            keeps all. Light et al. (2024) ran 0.2.
    """

    fraction: float = field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fraction <= 1:
            raise BadConfig(f"fraction must lie in (0, 1], not {self.fraction}")


class Percentile(EpisodeScorer[PercentileConfig]):
    """Keeps whole episodes of highest return; among equal returns, the earlier episode.

    A `gamma` below 1 distinguishes games that were won alike. If the budget counts transitions, it
    stops before the first episode that does not fit.
    """

    Config = PercentileConfig
    needs = frozenset({"rewards", "episodes"})
    id = "percentile"

    def __init__(self, config: PercentileConfig | None = None, *, id: str = "") -> None:
        super().__init__(config, id=id)
        self.stochastic = self.config.fraction < 1 or self._draws_views

    def _score(self, problem: Problem) -> Scores:
        return Scores(problem.dataset.episode_returns(self.config.gamma))

    def _condense(self, problem: Problem) -> Condensation:
        dataset, budget = problem.dataset, problem.budget
        if budget.percent is None:
            raise BadConfig(f"method {self.id!r} takes a percentage, not a size")
        scores = self._score(problem)
        best = by_score(scores.values)
        if budget.unit == "episodes":
            count = budget.episodes(dataset)
        else:
            ends = np.cumsum([len(dataset.episodes[i]) for i in best])
            count = int(np.searchsorted(ends, problem.size, side="right"))
        if count == 0:
            raise BadConfig(
                f"the best episode has {len(dataset.episodes[best[0]])} transitions, "
                f"{budget.percent}% of the data only {problem.size}"
            )
        rows = rows_of_best(dataset, count, self.config.gamma)
        if self.config.fraction < 1:
            size = max(1, share_of(len(rows), self.config.fraction, of=1))
            rows = np.sort(problem.rng().choice(rows, size, replace=False))
        return replace(select(dataset, rows, self.config.labels), scores=scores)


def rows_of_best(
    dataset: TransitionDataset, count: int, gamma: float = 1.0
) -> npt.NDArray[np.int64]:
    """Return all rows of the `count` episodes of highest return, in the data's order."""
    best = by_score(dataset.episode_returns(gamma))
    return np.concatenate([np.asarray(dataset.episodes[i]) for i in sorted(best[:count])])
