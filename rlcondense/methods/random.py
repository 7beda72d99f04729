"""Uniform random subset of the transitions: the row that every other method has to beat."""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select


class Random(Method[LabelConfig]):
    """Draws transitions uniformly without replacement."""

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    id = "random"

    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.rng().choice(len(problem.dataset), problem.size, replace=False)
        return select(problem.dataset, np.sort(rows), self.config.labels)
