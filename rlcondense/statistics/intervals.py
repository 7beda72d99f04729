"""Estimates with intervals over sets and students, never over episodes.

The students of a row's sets have the same seeds, hence the same initial weights and draws of
actions, so that sets and students are crossed: the error of a mean is that of both. Where a row has
one set, it is that of its students. Aggregates over tasks follow Agarwal et al. (2021),
arXiv:2108.13264, in what they estimate. Their percentile bootstrap covers 76% instead of 95% with
three seeds; intervals here are Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from rlcondense.records.record import Record, SummaryJson
    from rlcondense.types import Split

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Array], Array]
Variance = tuple[float, float]  # and its degrees of freedom
CONFIDENCE = 0.95
RESAMPLES = 1000
NAN = float("nan")
_LEAST_SPREAD = 1e-9  # of units that differ, relative to their mean
_MOST_OF_TWO = 2.0  # degrees of freedom where two sets are part of a variance


@dataclass(frozen=True)
class Interval:
    """An estimate, its standard error and its 95% interval, from `n` units.

    With one unit neither error nor interval is known, and both are NaN.
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """True if there is an interval."""
        return not np.isnan(self.low)

    @property
    def spread(self) -> bool:
        """True if its units differ; equal units do not show how far others would lie."""
        return self.standard_error > _LEAST_SPREAD * max(1.0, abs(self.estimate))

    @property
    def above_zero(self) -> bool:
        """True if the whole interval lies above zero, and has a width."""
        return self.low > 0 and self.spread

    @property
    def below_zero(self) -> bool:
        """True if the whole interval lies below zero, and has a width."""
        return self.high < 0 and self.spread

    def scaled(self, factor: float, shift: float = 0.0) -> Interval:
        """Return the interval of `factor * x + shift`, for a factor above zero."""
        low, high = factor * self.low + shift, factor * self.high + shift
        estimate = factor * self.estimate + shift
        return Interval(estimate, factor * self.standard_error, low, high, self.n)

    def to_json(self) -> dict[str, float | int | None]:
        """Return the interval as plain values, None for unknown ones.

        They have ten digits, since the last ones depend on the machine that computes them.
        """
        names = ("estimate", "standard_error", "low", "high")
        values = {name: getattr(self, name) for name in names}
        plain = {k: None if np.isnan(v) else float(f"{v:.10g}") for k, v in values.items()}
        return {**plain, "n": self.n}


def student_interval(values: Sequence[float] | npt.NDArray[Any]) -> Interval:
    """Compute the interval of the mean of independent values, one for each unit."""
    x = np.asarray(values, np.float64)
    n = len(x)
    mean = float(x.mean())
    if n < 2:
        return Interval(mean, NAN, NAN, NAN, n)
    away = x - mean
    spread = math.sqrt(float((away * away).sum()) / (n - 1))
    return _around(mean, spread / math.sqrt(n), n - 1, n)


def _around(estimate: float, error: float, degrees: float, n: int) -> Interval:
    half = _quantile(degrees) * error
    return Interval(estimate, error, estimate - half, estimate + half, n)


@cache
def _quantile(degrees: float) -> float:
    """Return the quantile of Student's t with half of the excluded probability above it."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def summarise(returns: Sequence[Sequence[float]]) -> SummaryJson:
    """Summarise a cell on one split, from `(learner seeds, episodes)` returns.

    The unit is the learner seed; a single seed gives no interval, and the standard error over
    its episodes is a separate field.
    """
    rows = np.asarray(returns, np.float64)
    interval = student_interval(rows.mean(1))
    known = interval.known
    return {
        "mean": interval.estimate,
        "standard_error": interval.standard_error if known else None,
        "interval": [interval.low, interval.high] if known else None,
        "episode_standard_error": _over_episodes(rows),
        "seeds": interval.n,
        "episodes": int(rows.size),
    }


def _over_episodes(rows: Array) -> float | None:
    """Compute the standard error over levels, each averaged over the seeds that played it."""
    by_level = rows.mean(0)
    if by_level.size < 2:
        return None
    return float(by_level.std(ddof=1) / np.sqrt(by_level.size))


def mean(values: Array) -> Array:
    """Compute the mean along the last axis."""
    return np.asarray(values.mean(-1))


def median(values: Array) -> Array:
    """Compute the median along the last axis."""
    n = values.shape[-1]
    low, high = (
        (n - 1) // 2,
        n // 2,
    )  # np.median takes five times as long, because it looks for NaNs
    ordered = np.partition(values, (low, high), -1)
    return np.asarray((ordered[..., low] + ordered[..., high]) / 2)


def interquartile_mean(values: Array) -> Array:
    """Compute the mean along the last axis without the lowest and the highest quarter."""
    n = values.shape[-1]
    cut = n // 4
    middle = np.partition(values, (cut, n - cut - 1), -1)[..., cut : n - cut]
    return np.asarray(middle.mean(-1))


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "interquartile_mean": interquartile_mean,
    "median": median,
}


def student_means(records: Sequence[Record], split: Split) -> Array:
    """Compute the mean return of each student of a row: `(sets, students)`.

    Args:
        records: those of one row, one for each condensation seed.
        split: `seen` or `heldout`.
    """
    return mean(student_returns(records, split))


def student_returns(records: Sequence[Record], split: Split) -> Array:
    """Return the returns of each student of a row, level by level: `(sets, students, levels)`."""
    return np.stack([np.asarray(record["returns"][split], np.float64) for record in records])


def level_means(records: Sequence[Record], split: Split) -> Array:
    """Compute the mean return `(levels,)` of a row's students on each level."""
    return np.asarray(student_returns(records, split).mean((0, 1)))


def by_unit(scores: Array) -> Array:
    """Return what an interval's `n` counts: sets averaged over students, or students of one set.

    Args:
        scores: `(sets, students, ...)`.

    Returns:
        `(units, ...)`.
    """
    return scores[0] if len(scores) == 1 else np.asarray(scores.mean(1))


def crossed_interval(scores: Array) -> Interval:
    """Compute the interval of the mean of students' scores `(sets, students)`.

    Its variance is that of the sets' means and what the students' vary beyond chance (a two-way
    layout). Its degrees of freedom are Satterthwaite's, rounded down, and two at most with two
    sets or two students, which tell little of their own share. In simulations of two to ten sets of
    two to ten students it covers 90% to 99.9%, least where two or three students of many sets
    differ and sets do not. An interval of the sets' means alone covers 86% with three sets of five
    students that differ twice as much as sets do, and 76% with five such sets.
    """
    n = len(by_unit(scores))
    estimate = float(scores.mean())
    if n < 2:
        return Interval(estimate, NAN, NAN, NAN, n)
    variance, degrees = _variance(scores)
    return _around(estimate, math.sqrt(float(variance)), float(degrees), n)


def _variance(scores: Array) -> tuple[Array, Array]:
    """Compute the variance of the mean of `(..., sets, students)` and its degrees of freedom."""
    sets, students = scores.shape[-2:]
    of_sets, of_students = scores.mean(-1), scores.mean(-2)
    if sets == 1:
        variance = of_students.var(-1, ddof=1) / students
        return variance, np.full(variance.shape, students - 1.0)
    by_sets = of_sets.var(-1, ddof=1) / sets
    if students == 1:
        return by_sets, np.full(by_sets.shape, sets - 1.0)
    rest = scores - of_sets[..., None] - of_students[..., None, :]
    rest += scores.mean((-1, -2))[..., None, None]
    chance = (rest**2).sum((-1, -2)) / ((sets - 1) * (students - 1)) / (sets * students)
    by_students = np.maximum(0.0, of_students.var(-1, ddof=1) / students - chance)
    variance = by_sets + by_students
    squares = by_sets**2 / (sets - 1) + by_students**2 / (students - 1)
    known = np.divide(variance**2, squares, out=np.full_like(variance, 1.0), where=squares > 0)
    differ = by_sets > _LEAST_SPREAD * variance
    most = np.where(differ, _MOST_OF_TWO, np.inf) if sets == 2 else np.inf
    most = np.minimum(most, _MOST_OF_TWO) if students == 2 else most
    return variance, np.clip(np.floor(known + _LEAST_SPREAD), 1.0, most)


def difference(a: Sequence[Record], b: Sequence[Record], split: Split) -> Interval:
    """Compute the interval of the mean difference of two rows that played the same levels.

    Students of the same seeds are paired, and sets where both rows have as many, or one row has one
    set; else the difference is Welch's.
    """
    return difference_of(student_means(a, split), student_means(b, split))


def difference_of(x: Array, y: Array) -> Interval:
    """Compute the interval of the difference of two rows from their students' `(sets, students)`.

    See `difference`.
    """
    return crossed_interval(x - y) if _pair(x, y) else _unlike(x, y)


def _unlike(x: Array, y: Array) -> Interval:
    """Compute the same of two rows whose sets or students are not paired."""
    n = min(len(by_unit(x)), len(by_unit(y)))
    estimate = float(x.mean() - y.mean())
    if n < 2:
        return Interval(estimate, NAN, NAN, NAN, n)
    variance, known = _welch([_variance(z) for z in (x, y)], _fewest(x, y))
    return _around(estimate, math.sqrt(variance), known, n)


def _pair(x: Array, y: Array) -> bool:
    """Return whether two rows of students, and of levels if there are some, can be subtracted."""
    return x.shape[1:] == y.shape[1:] and (len(x) == len(y) or 1 in (len(x), len(y)))


def welch_interval(x: Array, y: Array) -> Interval:
    """Compute the interval of the difference of two independent means (Welch, 1947).

    Args:
        x: `(n,)` values, one for each unit.
        y: `(m,)` values.
    """
    return _unlike(x[None], y[None])


def _fewest(*rows: Array) -> int:
    """Return the fewest sets, or students, of which one of several rows has more than one."""
    return min(size for row in rows for size in row.shape if size > 1)


def _welch(parts: Sequence[tuple[Array, Array]], n: int) -> Variance:
    """Compute the variance of a difference of two means, and its degrees of freedom.

    Args:
        parts: of each mean its variance and degrees of freedom.
        n: the fewest sets or students that one of them has.
    """
    variances, degrees = zip(*(map(float, part) for part in parts), strict=True)
    known = _satterthwaite(variances, degrees)
    return sum(variances), min(known, _MOST_OF_TWO) if n == 2 else known


def places_among(x: Array, others: Array) -> tuple[int, int] | None:
    """Count the rows that lie above a row, and those below, by the intervals of differences.

    Args:
        x: `(sets, students)` means of the row's students.
        others: `(rows, sets, students)` of other rows.

    Returns:
        The two counts; None where a single unit leaves an interval unknown.
    """
    if not len(others):
        return 0, 0
    if not _pair(x, others[0]):
        each = [difference_of(x, other) for other in others]
        if not all(one.known for one in each):
            return None
        return sum(one.below_zero for one in each), sum(one.above_zero for one in each)
    apart = x - others
    if apart.shape[-2:] == (1, 1):
        return None
    means = apart.mean((-1, -2))
    variances, degrees = _variance(apart)
    errors = np.sqrt(variances)
    half = np.array([_quantile(float(known)) for known in degrees]) * errors
    spread = errors > _LEAST_SPREAD * np.maximum(1.0, np.abs(means))
    above, below = (means + half < 0) & spread, (means - half > 0) & spread
    return int(above.sum()), int(below.sum())


def _satterthwaite(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Compute the degrees of freedom of a sum of separately estimated variances."""
    total = sum(variances)
    if not total:
        return min(degrees)
    known = total**2 / sum(v**2 / own for v, own in zip(variances, degrees, strict=True))
    return max(1.0, math.floor(known + _LEAST_SPREAD))  # since the weights are estimated too


def recovery_of(r: Array, f: Array, c: Array) -> Interval | None:
    """Compute (R - R_random_policy) / (R_expert - R_random_policy) by Fieller's theorem.

    The interval accounts for the uncertainty of all three means.

    Args:
        r: `(sets, students)` means of the row's students.
        f: of the random policy.
        c: of the expert.

    Returns:
        None if the expert is not significantly above the random policy.
    """
    if not difference_of(c, f).above_zero:
        return None
    top, bottom = float(r.mean() - f.mean()), float(c.mean() - f.mean())
    share = top / bottom
    n = min(len(by_unit(x)) for x in (r, f, c))
    if n < 2:
        return Interval(share, NAN, NAN, NAN, n)
    if _pair(r, f) and _pair(c, f):
        v_top, v_bottom, v_apart = (float(_variance(x)[0]) for x in (r - f, c - f, r - c))
        most = math.sqrt(v_top * v_bottom)  # each variance is cut at 0 by itself
        both = min(most, max(-most, (v_top + v_bottom - v_apart) / 2))
        degrees = float(_variance(r - f - share * (c - f))[1])
    else:
        variances, known = zip(*(map(float, _variance(x)) for x in (r, f, c)), strict=True)
        v_r, v_f, v_c = variances
        v_top, both, v_bottom = v_r + v_f, v_f, v_c + v_f
        degrees = _satterthwaite([v_r, (1 - share) ** 2 * v_f, share**2 * v_c], known)
        degrees = min(degrees, _MOST_OF_TWO) if _fewest(r, f, c) == 2 else degrees
    return _ratio(top, bottom, v_top, both, v_bottom, degrees, len(by_unit(r)))


def _ratio(
    top: float, bottom: float, v_top: float, both: float, v_bottom: float, degrees: float, n: int
) -> Interval | None:
    """Compute Fieller's interval of a ratio, or None if it is unbounded."""
    t2 = _quantile(degrees) ** 2
    a = bottom**2 - t2 * v_bottom
    if a <= 0:
        return None
    middle = (top * bottom - t2 * both) / a
    half = np.sqrt(max(0.0, middle**2 - (top**2 - t2 * v_top) / a))
    share = top / bottom
    error = np.sqrt(max(0.0, v_top - 2 * share * both + share**2 * v_bottom)) / abs(bottom)
    return Interval(share, float(error), float(middle - half), float(middle + half), n)


def ratio_of_deviations(x: Array, y: Array) -> Interval | None:
    """Compute the ratio of the standard deviations of paired values (Pitman, 1939; Morgan, 1939).

    The interval inverts the test that `x - y` and `x + y` are uncorrelated after scaling, which is
    exact for pairs from a bivariate normal distribution.

    Args:
        x: `(n,)` values, whose deviation is divided.
        y: `(n,)` values of the same units.

    Returns:
        The ratio; None with fewer than three pairs, or where one of the two does not vary.
    """
    n = len(x)
    if n < 3 or min(np.ptp(x), np.ptp(y)) <= 0:
        return None
    share = float(x.std(ddof=1) / y.std(ddof=1))
    free = max(0.0, 1.0 - float(np.corrcoef(x, y)[0, 1]) ** 2) / (n - 2)
    k = 1 + 2 * free * _quantile(n - 2) ** 2
    wide = math.sqrt(k + math.sqrt(k**2 - 1))
    return Interval(share, share * math.sqrt(free), share / wide, share * wide, n)


def probability_of_improvement(x: Array, y: Array) -> Interval:
    """Estimate the probability that a unit of one row beats one of another; ties count half.

    Units are sets, averaged over their students, where both rows have several, and otherwise
    students, of all sets, since means of students vary less than students do. The interval counts
    those that were drawn independently: the sets of a row of several, the students of one set.

    The interval is Newcombe's (2006) fifth, the score interval of the Mann-Whitney statistic, with
    Student's t for the normal quantile. It stays within [0, 1], has a width even if all units of
    one row lie above the other's, and is rather too wide for few units: three against three never
    exclude a half.

    Args:
        x: `(sets, students)` mean returns of one row's students.
        y: likewise of the other's.
    """
    from scipy.optimize import brentq

    n, m = len(by_unit(x)), len(by_unit(y))
    of_sets = min(len(x), len(y)) > 1
    of_x, of_y = (z.mean(1) if of_sets else z.ravel() for z in (x, y))
    greater = np.sign(of_x[:, None] - of_y[None, :])
    share = float((greater.mean() + 1) / 2)
    if min(n, m) < 2:
        return Interval(share, NAN, NAN, NAN, min(n, m))
    t2, more = _quantile(n + m - 2) ** 2, (n + m) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (share - theta) ** 2 - t2 * theta * (1 - theta) * spread / (n * m)

    inside = min(max(share, 1e-9), 1 - 1e-9)  # at exactly 0 and 1 the excess is zero
    low = brentq(excess, 0.0, inside) if share > 0 else 0.0
    high = brentq(excess, inside, 1.0) if share < 1 else 1.0
    return Interval(share, NAN, float(low), float(high), min(n, m))


def aggregate(scores: Sequence[Array], statistic: str) -> Interval:
    """Estimate an aggregate over tasks, with an interval over sets, students and levels.

    The point is Agarwal et al.'s: the mean, or the interquartile mean, of all units' mean scores
    on all tasks, or the median over tasks of each task's mean; units are as in `by_unit`, and all
    tasks weigh the same. The error of the mean is that of `crossed_interval` and of levels, by the
    mean squares of a two-way layout. That of the others is as many times larger as it is in a
    crossed bootstrap of units and levels of each task, which by itself counts their interaction
    three times and omits a share of 1/n of the units' variance (Owen, 2007).

    Args:
        scores: of each task `(sets, students, levels)`.
        statistic: one of `STATISTICS`.
    """
    tables = [by_unit(task) for task in scores]
    n = min(map(len, tables))
    estimate = float(_over_tasks([table.mean(1)[None] for table in tables], statistic)[0])
    if n < 2:
        return Interval(estimate, NAN, NAN, NAN, n)
    error, known = _over([_variances(task) for task in scores])
    if statistic != "mean" and error:
        drawn = _crossed(tables)
        own, means = (_over_tasks(drawn, name).std(ddof=1) for name in (statistic, "mean"))
        error *= float(own / means) if means else 0.0  # equal scores, but for rounding
    if statistic == "median":  # the median may rest on one task
        known = max(n - 1, known / len(scores))
    return _around(estimate, error, known, n)


def difference_over_tasks(a: Sequence[Array], b: Sequence[Array]) -> Interval:
    """Compute the interval of the mean difference of two rows over tasks, seeds and levels.

    On each task sets and students are paired as in `difference`; levels always are.

    Args:
        a: of each task `(sets, students, levels)`, on one scale for all tasks.
        b: the other row's, of the same levels.
    """
    pairs = list(zip(a, b, strict=True))
    estimate = float(np.mean([x.mean() - y.mean() for x, y in pairs]))
    n = min(len(by_unit(x)) for pair in pairs for x in pair)
    if all(_pair(x, y) for x, y in pairs):
        n = min(len(by_unit(x - y)) for x, y in pairs)
    if n < 2:
        return Interval(estimate, NAN, NAN, NAN, n)
    parts = [_variances(x - y) if _pair(x, y) else _unpaired(x, y) for x, y in pairs]
    return _around(estimate, *_over(parts), n)


def gap_over_tasks(seen: Sequence[Array], heldout: Sequence[Array]) -> Interval:
    """Compute the interval of the mean of seen minus held-out returns over tasks.

    Both splits have levels of their own, which count as drawn.

    Args:
        seen: of each task `(sets, students, levels)`, on one scale for all tasks.
        heldout: the same students on other levels.
    """
    pairs = list(zip(seen, heldout, strict=True))
    estimate = float(np.mean([x.mean() - y.mean() for x, y in pairs]))
    n = min(len(by_unit(x)) for x in seen)
    if n < 2:
        return Interval(estimate, NAN, NAN, NAN, n)
    parts = []
    for x, y in pairs:
        variance, degrees = map(float, _variance(x.mean(-1) - y.mean(-1)))
        levels = [part for z in (x, y) for part in _variances(z)[1:]]
        parts.append([(variance, degrees), *levels])
    return _around(estimate, *_over(parts), n)


def _over(parts: Sequence[Sequence[Variance]]) -> tuple[float, float]:
    """Compute the standard error of a mean over tasks and its degrees of freedom.

    Args:
        parts: of each task the variances of its mean.
    """
    variances, degrees = zip(*(part for task in parts for part in task), strict=True)
    return math.sqrt(sum(variances)) / len(parts), _satterthwaite(variances, degrees)


def _variances(scores: Array) -> list[Variance]:
    """Compute the variances of the mean of `(sets, students, levels)` by seeds and by levels.

    Of several sets both hold the interaction of students and levels, which makes intervals over
    tasks a little too wide.
    """
    variance, degrees = map(float, _variance(scores.mean(-1)))
    table = by_unit(scores)
    levels = table.shape[1]
    if levels < 2:
        return [(variance, degrees)]
    of_levels = float(table.mean(0).var(ddof=1)) / levels - _chance(table)
    return [(variance, degrees), (max(0.0, of_levels), levels - 1)]


def _unpaired(x: Array, y: Array) -> list[Variance]:
    """Compute the same of the difference of two rows whose sets or students are not paired."""
    tables = [by_unit(z) for z in (x, y)]
    seeds = _welch([_variance(z.mean(-1)) for z in (x, y)], _fewest(x.mean(-1), y.mean(-1)))
    levels = x.shape[-1]
    if levels < 2:
        return [seeds]
    apart = tables[0].mean(0) - tables[1].mean(0)
    of_levels = float(apart.var(ddof=1)) / levels - sum(map(_chance, tables))
    return [seeds, (max(0.0, of_levels), levels - 1)]


def _chance(table: Array) -> float:
    """Compute what the interaction of units and levels adds to the variance of levels' means."""
    n, levels = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float((rest**2).sum()) / ((n - 1) * (levels - 1)) / (n * levels)


def _over_tasks(means: Sequence[Array], statistic: str) -> Array:
    """Compute the aggregate of means `(draws, units)` of each task: one value per draw.

    Tasks weigh the same, whatever their numbers of units.
    """
    if statistic == "interquartile_mean":
        most = math.lcm(*(task.shape[1] for task in means))
        alike = [np.repeat(task, most // task.shape[1], 1) for task in means]
        return interquartile_mean(np.concatenate(alike, 1))
    return STATISTICS[statistic](np.stack([task.mean(1) for task in means], 1))


def _crossed(scores: Sequence[Array]) -> list[Array]:
    """Compute mean scores `(draws, units)` of each task for resampled units and levels."""
    draws = _draws(tuple(task.shape for task in scores))
    return [  # not @: BLAS adds in an order that depends on the number of threads
        np.take_along_axis(np.einsum("dl,ul->du", times, task) / task.shape[1], chosen, 1)
        for task, (times, chosen) in zip(scores, draws, strict=True)
    ]


@lru_cache(maxsize=4)  # rows of a suite share their shapes, and resampling takes most of the time
def _draws(shapes: tuple[tuple[int, ...], ...]) -> list[tuple[Array, Counts]]:
    """Draw for each task how often each level is taken, `(draws, levels)`, and which units."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.multinomial(levels, np.full(levels, 1 / levels), RESAMPLES).astype(np.float64),
            rng.integers(0, n, (RESAMPLES, n)),
        )
        for n, levels in shapes
    ]


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> tuple[float, int] | None:
    """Compute Kendall's tau-b of two scores of the same items, and the number of items.

    Returns:
        None with fewer than three items, or if one score is the same for all.
    """
    from scipy.stats import kendalltau

    if len(a) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    return float(kendalltau(a, b).statistic), len(a)
