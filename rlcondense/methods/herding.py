"""Herding (Welling, 2009; as in iCaRL: Rebuffi et al., 2017, arXiv 1611.07725, algorithm 4).

iCaRL herds each class separately, with equally many rows each; by default all rows are one class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.config import LATER, check_choice
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.features import FeatureConfig, features_of
from rlcondense.methods.random_balanced import shares


@dataclass(frozen=True)
class HerdingConfig(FeatureConfig):
    """Settings.

    Attributes:
        classes: `joint` herds all rows together; `per-class` herds the rows of each discrete action
            separately, equally many of each as far as possible (as in iCaRL).
    """

    classes: str = field(default="joint", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "classes", ("joint", "per-class"))


class Herding(Method[HerdingConfig]):
    """Keeps rows whose mean feature is greedily kept nearest to the mean of all the data.

    Paper: classes=per-class
    """

    Config = HerdingConfig
    label_kinds = ("hard", "soft", "continuous")
    id = "herding"

    def _condense(self, problem: Problem) -> Condensation:
        if self.config.classes == "per-class" and problem.continuous:
            raise BadConfig("classes=per-class is for discrete actions")
        features, gradients = features_of(problem, self.config)
        if self.config.classes == "per-class":
            rows = herd_each(features, np.asarray(problem.dataset.actions), problem.size)
        else:
            rows = herd(features, problem.size)
        selected = select(problem.dataset, np.sort(rows), self.config.labels)
        return selected.costing(gradients)


def herd_each(x: npt.NDArray[Any], actions: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Herd rows of `(N, F)` for each of the actions `(N,)` separately, equally many of each."""
    present, counts = np.unique(actions, return_counts=True)
    chosen = []
    for action, share in zip(present, shares(counts, size), strict=True):
        rows = np.flatnonzero(actions == action)
        chosen.append(rows[herd(x[rows], int(share))])
    return np.concatenate(chosen)


def herd(x: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Return rows of `(N, F)`, each of which moves the mean so far nearest to the mean of all."""
    mean, total = x.mean(0), np.zeros(x.shape[1])
    squares = (x**2).sum(1)
    rows = np.empty(size, np.int64)
    taken = np.zeros(len(x), bool)
    for i in range(size):
        # |mean - (total + x) / n|^2 up to terms that are the same for all rows.
        n = i + 1
        distance = squares / n - 2 * x @ (mean - total / n)
        distance[taken] = np.inf
        rows[i] = int(distance.argmin())
        taken[rows[i]] = True
        total += x[rows[i]]
    return rows
