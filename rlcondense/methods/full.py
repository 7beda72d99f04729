"""All the data: no condensation, and the ceiling of every selection."""

from __future__ import annotations

import numpy as np

from rlcondense.datasets.transitions import TransitionDataset
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
    keeps_everything = True
    id = "full"

    def _condense(self, problem: Problem) -> Condensation:
        return everything(problem.dataset, self.config.labels)


def everything(dataset: TransitionDataset, label_kind: str) -> Condensation:
    """All rows of a dataset, as they lie there.

    Raises:
        BadConfig: soft labels are wanted, and there are none.
    """
    labels = selection_labels(dataset, label_kind)
    columns = {**dataset.columns(), "next_rows": dataset.next_rows}
    return Condensation(columns, labels, np.arange(len(dataset)))
