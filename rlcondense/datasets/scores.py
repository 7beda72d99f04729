"""Scores of a dataset's episodes or rows, by which selections keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.report import CorrelationsJson
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.types import Array

UNITS = ("episodes", "rows")


@dataclass(frozen=True)
class Scores:
    """Scores of a dataset; the highest are kept first.

    Attributes:
        values: `(E,)` score of each episode, or `(N,)` of each row.
        unit: what has a score, `episodes` or `rows`.
        gradient_evaluations: number of gradients of one observation's loss that they took.
        environment_steps: steps taken in seen levels.
    """

    values: Array
    unit: str = "episodes"
    gradient_evaluations: int = 0
    environment_steps: int = 0

    def check(self, dataset: TransitionDataset, owner: str) -> None:
        """Raise `CorruptArtifact` unless there is one finite number for each episode or row."""
        if self.unit not in UNITS:
            raise CorruptArtifact(f"{owner} scored {self.unit!r}, not one of {', '.join(UNITS)}")
        count = len(dataset.episodes) if self.unit == "episodes" else len(dataset)
        if self.values.shape != (count,) or not np.isfinite(self.values).all():
            raise CorruptArtifact(f"{owner} gave no finite score for each of {count} {self.unit}")

    def of_episodes(self, dataset: TransitionDataset) -> npt.NDArray[np.float64]:
        """Return the score `(E,)` of each episode: of scored rows, the mean of its rows."""
        values = np.asarray(self.values, np.float64)
        if self.unit == "episodes":
            return values
        return np.array([values[rows.start : rows.stop].mean() for rows in dataset.episodes])

    def rank_correlations(self, dataset: TransitionDataset) -> CorrelationsJson:
        """Return Spearman's correlation of episodes' scores with their `length` and `return`.

        It is None where either is the same for all episodes.
        """
        scores = self.of_episodes(dataset)
        lengths = np.array([len(rows) for rows in dataset.episodes])
        return {
            "length": rank_correlation(scores, lengths),
            "return": rank_correlation(scores, dataset.episode_returns()),
        }

    def auroc(self, dataset: TransitionDataset, faulty: Sequence[bool]) -> float | None:
        """Return how often a clean episode scores above a faulty one; of equal scores, half.

        1 is a score that sees the fault, 0.5 one that is blind to it, 0 one that prefers it.

        Args:
            dataset: the dataset.
            faulty: `(E,)` whether each episode is faulty, or empty.

        Returns:
            None if no episode is faulty, or each.
        """
        is_clean = ~np.asarray(faulty, np.bool_)
        clean, bad = int(is_clean.sum()), int((~is_clean).sum())
        if not clean or not bad:
            return None
        below = mean_ranks(self.of_episodes(dataset))[is_clean].sum() - clean * (clean + 1) / 2
        return round(float(below) / (clean * bad), 6)


def rank_correlation(a: Array, b: Array) -> float | None:
    """Return Spearman's rank correlation, with mean ranks for ties; None if one is constant."""
    x, y = (mean_ranks(values) - (len(values) + 1) / 2 for values in (a, b))
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / spread, 6) if spread > 0 else None


def mean_ranks(values: Array) -> npt.NDArray[np.float64]:
    """Return the ranks of values from 1 on; equal ones share their mean rank.

    As `scipy.stats.rankdata`, whose module takes a second to import.
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
