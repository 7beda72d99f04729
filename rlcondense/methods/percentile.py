"""%BC: the episodes of highest return (Chen et al., 2021, arXiv 2106.01345, section 5.1).

Light et al. (2024) keep a percentage of the episodes; Mediratta et al. (2024) keep the best
episodes up to a percentage of the transitions. `Budget.unit` says which.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select


class Percentile(Method[LabelConfig]):
    """Keeps whole episodes, best first; of equal returns, the earlier episode.

    By transitions, it stops before the first episode that no longer fits.
    """

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"rewards", "episodes"})
    stochastic = False
    id = "percentile"

    def _condense(self, problem: Problem) -> Condensation:
        dataset, budget = problem.dataset, problem.budget
        if budget.percent is None:
            raise BadConfig(f"method {self.id!r} takes a percentage, not a size")
        best = np.argsort(-dataset.episode_returns(), kind="stable")
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
        return select(dataset, rows_of_best(dataset, count), self.config.labels)


def rows_of_best(dataset: TransitionDataset, count: int) -> npt.NDArray[np.int64]:
    """All rows of the `count` episodes of highest return, in the data's order."""
    best = np.argsort(-dataset.episode_returns(), kind="stable")
    return np.concatenate([np.asarray(dataset.episodes[i]) for i in sorted(best[:count])])
