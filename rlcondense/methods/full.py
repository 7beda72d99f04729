"""All the data: no condensation, and the ceiling of every selection."""

from __future__ import annotations

import numpy as np

from rlcondense.methods.base import (
    Condensation,
    LabelConfig,
    Method,
    Problem,
    selection_labels,
)


class Full(Method[LabelConfig]):
    """Keeps everything, without a copy of the observations."""

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    stochastic = False
    id = "full"

    def _condense(self, problem: Problem) -> Condensation:
        dataset = problem.dataset
        labels = selection_labels(dataset, self.config.labels)
        columns = {**dataset.columns(), "next_rows": dataset.next_rows}
        return Condensation(columns, labels, np.arange(len(dataset)))
