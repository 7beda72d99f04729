"""All the data: no condensation, and the ceiling of every selection."""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem


class Full(Method[LabelConfig]):
    """Keeps everything, without a copy of the observations."""

    Config = LabelConfig
    label_kinds = ("hard", "soft")
    stochastic = False
    id = "full"

    def _condense(self, problem: Problem) -> Condensation:
        dataset = problem.dataset
        return Condensation(dataset.columns(), self.config.labels, np.arange(len(dataset)))
