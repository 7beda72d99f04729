"""Means with honest intervals: the unit of replication is the seed, never the episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Record = dict[str, Any]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, its standard error and a 95% interval by Student's t over `n` units.

    With one unit neither error nor interval is known, and both are NaN.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def holds_zero(self) -> bool:
        """Whether zero cannot be ruled out; so too where nothing is known."""
        return not (self.low > 0 or self.high < 0)


def student_interval(values: Sequence[float] | npt.NDArray[Any]) -> Interval:
    """The interval of the mean of independent values, one for each unit."""
    x = np.asarray(values, np.float64)
    n = len(x)
    mean = float(x.mean())
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), float("nan"), n)
    error = float(x.std(ddof=1) / np.sqrt(n))
    half = _quantile(n - 1) * error
    return Interval(mean, error, mean - half, mean + half, n)


@cache
def _quantile(degrees: int) -> float:
    """Of Student's t, where half of what is outside the interval lies above."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def summarise(returns: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A cell's summary on one split, from `(learner seeds, episodes)` returns.

    The unit is the learner seed; a lone seed gives no interval, and the standard error over
    its episodes is given apart.
    """
    rows = np.asarray(returns, np.float64)
    interval = student_interval(rows.mean(1))
    known = interval.n > 1
    return {
        "mean": interval.mean,
        "standard_error": interval.standard_error if known else None,
        "interval": [interval.low, interval.high] if known else None,
        "episode_standard_error": _over_episodes(rows),
        "seeds": interval.n,
        "episodes": int(rows.size),
    }


def _over_episodes(rows: npt.NDArray[np.float64]) -> float | None:
    """The standard error over levels, each averaged over the seeds that played it."""
    by_level = rows.mean(0)
    if by_level.size < 2:
        return None
    return float(by_level.std(ddof=1) / np.sqrt(by_level.size))


def unit_means(records: Sequence[Record], split: str) -> npt.NDArray[np.float64]:
    """The mean return of each unit of a row.

    Args:
        records: those of one row, one for each condensation seed.
        split: `seen` or `heldout`.

    Returns:
        One mean for each condensation seed, or for each learner seed where there is one of those.
    """
    means = np.array([np.asarray(record["returns"][split]).mean(1) for record in records])
    return np.asarray(means[0] if len(records) == 1 else means.mean(1))


def difference(a: Sequence[Record], b: Sequence[Record], split: str) -> Interval:
    """The interval of the mean difference of two rows that played the same levels.

    Units are paired where there are as many of them in both rows; else the difference is Welch's.
    """
    x, y = unit_means(a, split), unit_means(b, split)
    if len(x) == len(y):
        return student_interval(x - y)
    if min(len(x), len(y)) < 2:
        return student_interval([float(x.mean() - y.mean())])
    from scipy.stats import ttest_ind

    result = ttest_ind(x, y, equal_var=False)
    mean = float(x.mean() - y.mean())
    bounds = result.confidence_interval(CONFIDENCE)
    error = float(np.sqrt(x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y)))
    return Interval(mean, error, float(bounds.low), float(bounds.high), min(len(x), len(y)))


def recovery(
    row: Sequence[Record], floor: Sequence[Record], ceiling: Sequence[Record], split: str
) -> Interval | None:
    """(R - R_random_policy) / (R_expert - R_random_policy), its interval given the two.

    Returns:
        None where the interval of the denominator holds zero.
    """
    span = difference(ceiling, floor, split)
    if span.holds_zero:
        return None
    bottom = float(unit_means(floor, split).mean())
    return student_interval((unit_means(row, split) - bottom) / span.mean)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, int] | None:
    """Kendall's tau-b of two scores of the same things, and how many things there are.

    Returns:
        None with fewer than three things, or where one score is the same for all.
    """
    from scipy.stats import kendalltau

    if len(a) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    return float(kendalltau(a, b).statistic), len(a)
