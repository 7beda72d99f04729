"""First transitions of the best episodes: a return filter, which ReDOR's reviewers ask for.

ReDOR (Yang et al., 2025, arXiv 2502.18955) filters by return before it selects; this row is the
filter alone.
"""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select


class TopReturn(Method[LabelConfig]):
    """Keeps episodes of highest return until the size is met; the last episode is cut off."""

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"rewards", "episodes"})
    stochastic = False
    id = "top-return"

    def _condense(self, problem: Problem) -> Condensation:
        dataset = problem.dataset
        best = np.argsort(-dataset.episode_returns(), kind="stable")
        rows = np.concatenate([np.asarray(dataset.episodes[i]) for i in best])
        return select(dataset, np.sort(rows[: problem.size]), self.config.labels)
