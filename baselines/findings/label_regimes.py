"""Do distributions as labels make methods equal? The records of a suite, as a page.

python baselines/findings/label_regimes.py leaderboard/results    # into docs/results

Methods are paired between the two regimes. Those of `LABEL_BLIND` keep the same rows in both;
others look at the labels that they have, and choose other rows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pages import compare, draw, mean_of, publish, read_suite, size_asked, task_name

from rlcondense.comparison.columns import bracketed, number, seeds_text
from rlcondense.comparison.rows import Group, Row
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import Interval, ratio_of_deviations

Array = npt.NDArray[np.float64]

SUITE = "label-regimes"
HARD, DISTRIBUTIONS = "hard", ("soft", "taught")
LABEL_BLIND = ("random", "random-balanced", "stratified", "top-return", "critical")
OUTLYING = ("el2n", "grand")  # keep what networks err on most; below most others with hard labels


@dataclass(frozen=True)
class Regimes:
    """The methods of one task and size, each with hard labels and with distributions of one kind.

    Attributes:
        task: the task's alias.
        size: the budget in rows.
        labels: the kind of the distributions, `soft` or `taught`.
        selection: of the students' actions, `sample` or `greedy`.
        pairs: of rows, by method: hard labels, distributions.
        records: all records by cell id.
    """

    task: str
    size: int
    labels: str
    selection: str
    pairs: Mapping[str, tuple[Row, Row]]
    records: Mapping[str, Record]

    @property
    def name(self) -> str:
        """The task, the size, the kind of the distributions, and greedy students."""
        greedy = ", greedy students" if self.selection == "greedy" else ""
        return f"{self.task}, {self.size} rows, {self.labels}{greedy}"

    def means(self, side: int) -> Array:
        """Return held-out means of the methods with hard labels (0) or distributions (1)."""
        return np.array([mean_of(pair[side], "heldout").estimate for pair in self.pairs.values()])

    def beyond_noise(self, side: int) -> float:
        """Return the standard deviation between methods that the errors of their means leave.

        It is a little too small: what all methods' students of a seed share is no spread between
        methods, and is subtracted too.
        """
        errors = [mean_of(pair[side], "heldout").standard_error for pair in self.pairs.values()]
        left = self.means(side).var(ddof=1) - np.mean(np.square(errors))
        return float(np.sqrt(max(0.0, left)))

    @property
    def ratio(self) -> Interval | None:
        """The standard deviation between methods with distributions over that with hard labels."""
        return ratio_of_deviations(self.means(1), self.means(0))

    @property
    def ratio_of_others(self) -> Interval | None:
        """The same without the outlying methods."""
        return self._ratio_without(*OUTLYING)

    @property
    def ratio_of_rest(self) -> Interval | None:
        """The same without these and without the method that returns most with hard labels."""
        return self._ratio_without(*OUTLYING, self.best)

    def _ratio_without(self, *names: str) -> Interval | None:
        kept = np.array([name not in names for name in self.pairs])
        return ratio_of_deviations(self.means(1)[kept], self.means(0)[kept])

    def gain(self, method: str) -> Interval:
        """Return what a method's rows teach more with distributions than with hard labels."""
        hard, soft = self.pairs[method]
        return compare(soft, hard, self.records).difference

    @property
    def best(self) -> str:
        """The method that returns most with hard labels, random rows apart."""
        means = dict(zip(self.pairs, self.means(0), strict=True))
        return max((name for name in means if name != RANDOM_SUBSET), key=lambda name: means[name])

    @property
    def choice(self) -> Interval:
        """What the best choice adds to random rows, both with hard labels."""
        best, random_rows = (self.pairs[method][0] for method in (self.best, RANDOM_SUBSET))
        return compare(best, random_rows, self.records).difference


def read_regimes(folder: Path) -> list[Regimes]:
    """Read the tasks and sizes of the suite that have random rows and two methods beside them."""
    groups, records = read_suite(folder, SUITE)
    found = [
        regimes(group, size, labels, records)
        for group in groups
        for size in _sizes(group)
        for labels in DISTRIBUTIONS
    ]
    kept = [one for one in found if RANDOM_SUBSET in one.pairs and len(one.pairs) > 2]
    return sorted(kept, key=lambda one: (one.task, one.size, one.name))


def _sizes(group: Group) -> list[int]:
    return sorted({size_asked(row) for row in group.rows} - {0})


def regimes(group: Group, size: int, labels: str, records: Mapping[str, Record]) -> Regimes:
    """Pair the methods of a group at one size that have hard and these labels."""
    rows = [row for row in group.rows if row.status == "done" and size_asked(row) == size]
    hard = {row.id: row for row in rows if row.labels == HARD}
    others = {row.id: row for row in rows if row.labels == labels}
    pairs = {name: (row, others[name]) for name, row in hard.items() if name in others}
    selection = group.action_selection or ""
    return Regimes(task_name(group.task), size, labels, selection, pairs, records)


def verdict_of(ratio: Interval | None) -> str:
    """Say whether methods lie closer together with distributions."""
    if ratio is None:
        return "not judged"
    return "closer" if ratio.high < 1 else "further apart" if ratio.low > 1 else "not told apart"


def page(found: Sequence[Regimes]) -> str:
    """Format the spread between methods of every task and size, and the methods of each."""
    lines = [
        [
            one.task,
            str(one.size),
            str(len(one.pairs)),
            one.labels,
            one.selection,
            *(_spread(one, side) for side in (0, 1)),
            bracketed(one.ratio),
            bracketed(one.ratio_of_others),
            bracketed(one.ratio_of_rest),
            verdict_of(one.ratio),
            bracketed(one.gain(RANDOM_SUBSET), "{:+.2f}"),
            f"{bracketed(one.choice, '{:+.2f}')} ({one.best})",
        ]
        for one in found
    ]
    headers = ["task", "rows", "methods", "distributions", "students"]
    ratios = [
        "sd, hard",
        "sd, distributions",
        "ratio",
        "without el2n, grand",
        "nor the best choice",
        "methods lie",
    ]
    gains = ["labels add to random rows", "the best choice adds to them"]
    verdicts = [verdict_of(one.ratio) for one in found]
    counted = (
        f"Of {len(found)} comparisons, methods lie closer together with distributions in "
        f"{verdicts.count('closer')}, further apart in {verdicts.count('further apart')}."
    )
    return "\n\n".join(
        [counted, markdown_table([*headers, *ratios, *gains], lines), *map(methods, found)]
    )


def _spread(one: Regimes, side: int) -> str:
    return f"{number(one.means(side).std(ddof=1))} ({number(one.beyond_noise(side))})"


def methods(one: Regimes) -> str:
    """Format the methods of one task and size, best with hard labels first."""
    ordered = sorted(one.pairs, key=lambda m: -mean_of(one.pairs[m][0], "heldout").estimate)
    lines = [
        [
            name if name in LABEL_BLIND else f"{name} (other rows)",
            seeds_text(one.pairs[name][0]),
            *(bracketed(mean_of(row, "heldout")) for row in one.pairs[name]),
            bracketed(one.gain(name), "{:+.2f}"),
        ]
        for name in ordered
    ]
    headers = ["method", "sets x students", "hard", f"distributions ({one.labels})", "difference"]
    return f"### {one.name}\n\n{markdown_table(headers, lines)}"


def picture(found: Sequence[Regimes]) -> str:
    """Draw the ratios of the standard deviations, as powers of two."""
    bars = []
    for one in found:
        if one.ratio is not None:
            estimate, low, high = np.log2([one.ratio.estimate, one.ratio.low, one.ratio.high])
            error = one.ratio.standard_error / one.ratio.estimate / np.log(2)
            power = Interval(float(estimate), float(error), float(low), float(high), one.ratio.n)
            bars.append((one.name, power))
    label = "spread of methods, distributions beside hard labels: -1 is half, +1 is twice"
    return draw(bars, label)


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_regimes(Path(sys.argv[1]))
    publish("label-regimes", page(found), picture(found))


if __name__ == "__main__":
    main()
