"""The comparison of two rows, paired by seed and by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlcondense.comparison.columns import bracketed, coding_of, plus_minus
from rlcondense.comparison.rows import draws_at_random, reason_unjudged
from rlcondense.errors import BadConfig
from rlcondense.files import canonical_json
from rlcondense.records.cell import episodes_of
from rlcondense.records.record import Record
from rlcondense.records.schema import unreadable
from rlcondense.records.store import read_record_file
from rlcondense.statistics.intervals import (
    Interval,
    crossed_interval,
    difference_of,
    level_means,
    probability_of_improvement,
    student_interval,
    student_means,
)
from rlcondense.types import SPLIT_NAMES, SPLITS, Split


class HasRecords(Protocol):
    """A result of `run`."""

    @property
    def records(self) -> Sequence[Record]:
        """Return the records of its methods, one for each condensation seed."""


Comparable = HasRecords | Record | str | Path


@dataclass(frozen=True)
class SplitComparison:
    """The comparison of A and B on one split.

    Attributes:
        a: A's mean, over sets and students.
        b: B's.
        difference: A minus B; see `rlcondense.statistics.intervals.difference`.
        by_level: A minus B with levels as units: each averaged over the seeds.
        probability: that a set (or student, if a row has one set) of A returns more than one of B.
        levels: how many levels A is better on, how many are equal, and how many B is better on.
    """

    a: Interval
    b: Interval
    difference: Interval
    by_level: Interval
    probability: Interval
    levels: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        plain = {n: v.to_json() for n, v in vars(self).items() if isinstance(v, Interval)}
        return {**plain, "levels": dict(zip(("a", "equal", "b"), self.levels, strict=True))}


@dataclass(frozen=True)
class Comparison:
    """The comparison of two rows.

    Attributes:
        a: records of A, one for each condensation seed.
        b: records of B.
        splits: the figures by split.
    """

    a: Sequence[Record]
    b: Sequence[Record]
    splits: Mapping[Split, SplitComparison]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values, by split."""
        return {split: comparison.to_json() for split, comparison in self.splits.items()}

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        """Return the text that `rlcondense compare` prints."""
        from tabulate import tabulate

        table = [
            [
                SPLIT_NAMES[split].removesuffix(" levels"),
                plus_minus(comparison.a),
                plus_minus(comparison.b),
                bracketed(comparison.difference, "{:+.2f}"),
                bracketed(comparison.by_level, "{:+.2f}"),
                bracketed(comparison.probability, "{:.2f}"),
                " / ".join(map(str, comparison.levels)),
            ]
            for split, comparison in self.splits.items()
        ]
        headers = ["", "A", "B", "A - B", "A - B, by level", "P(A > B)", "levels A / = / B"]
        cell = self.a[0]["cell"]
        noun = "set" if min(len(self.a), len(self.b)) > 1 else "student"
        units = "learner seeds" if len(self.a) == len(self.b) == 1 else "sets and students"
        lines = [
            f"{cell['task']}, {episodes_of(cell['evaluation'])} episodes a student and split, "
            "equal levels",
            f"A  {_ids(self.a)}  {_name(self.a)}",
            f"B  {_ids(self.b)}  {_name(self.b)}",
            *_differences(self.a[0], self.b[0]),
            "",
            str(tabulate(table, headers, disable_numparse=True)),
            "",
            f"± is the standard error over {units}. Brackets are 95% intervals: over {units},",
            "paired where both have as many or one has one set, and by level over levels, each",
            f"averaged over the seeds. P(A > B): that a {noun} of A returns more than one of B.",
            _judged(self.a, self.b)
            or f"On held-out levels {_verdict(self.splits['heldout'].difference)}, by the interval "
            "over seeds.",
        ]
        return "\n".join(lines)


def compare(a: Comparable, b: Comparable) -> Comparison:
    """Compare two rows of one task and one protocol, paired by seed and by level.

    Args:
        a: a result of `run` with one method, a record, or the path of one.
        b: likewise.

    Raises:
        BadConfig: they are not comparable: one has no returns, or their levels differ.

    Example:
        >>> a, b = (run(name, "cartpole", size=16) for name in ("random", "k-center"))
        >>> compare(b, a).splits["heldout"].difference
    """
    rows = _records_of(a), _records_of(b)
    first = rows[0][0]
    for record in (*rows[0], *rows[1]):
        if (status := record.get("status")) != "done":
            raise BadConfig(f"one of the two is {status!r}: nothing to compare")
        if wrong := unreadable(record):
            raise BadConfig(f"one of the two is no record: {wrong}")
        for name in ("task", "evaluation"):
            if first["cell"][name] != record["cell"][name]:
                raise BadConfig(
                    f"the records are of different {name}s: {first['cell'][name]} and "
                    f"{record['cell'][name]}"
                )
        if first["level_seeds"] != record["level_seeds"]:
            raise BadConfig("the records were evaluated on different levels")
    return Comparison(*rows, {split: _compared(*rows, split) for split in SPLITS})


def _records_of(row: Comparable) -> list[Record]:
    """Return the records of a row, one for each condensation seed."""
    if isinstance(row, (str, Path)):
        return [read_record_file(Path(row))]
    if isinstance(row, Mapping):
        return [row]
    records = list(row.records)
    if len({canonical_json(record["cell"]["method"]) for record in records}) > 1:
        names = dict.fromkeys(record["cell"]["method"]["id"] for record in records)
        raise BadConfig(f"compare takes a run of one method, not of {', '.join(names)}")
    return records


def _compared(a: Sequence[Record], b: Sequence[Record], split: Split) -> SplitComparison:
    levels = level_means(a, split), level_means(b, split)
    of_levels = levels[0] - levels[1]
    of_levels[np.isclose(*levels, rtol=1e-9, atol=1e-9)] = 0  # sums of unequal numbers of students
    signs = [int((np.sign(of_levels) == sign).sum()) for sign in (1, 0, -1)]
    means = student_means(a, split), student_means(b, split)
    return SplitComparison(
        a=crossed_interval(means[0]),
        b=crossed_interval(means[1]),
        difference=difference_of(*means),
        by_level=student_interval(of_levels),
        probability=probability_of_improvement(*means),
        levels=(signs[0], signs[1], signs[2]),
    )


def _judged(*rows: Sequence[Record]) -> str:
    """Return a note if a row lacks the sets or the students that a verdict needs."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        cell = row[0]["cell"]
        if cell["learner"] is None:
            continue
        draws = draws_at_random(cell["method"])
        if reason := reason_unjudged(draws, len(row), len(cell["learner_seeds"])):
            reasons.setdefault(reason, []).append(cell["method"]["id"])
    return " ".join(
        f"Of {' and '.join(dict.fromkeys(methods))} that is {reason}."
        for reason, methods in reasons.items()
    )


def _ids(row: Sequence[Record]) -> str:
    return ", ".join(record["cell_id"] for record in row)


def _name(row: Sequence[Record]) -> str:
    cell = row[0]["cell"]
    size = row[0].get("report", {}).get("size")
    words = [cell["method"]["id"]]
    words += [f"{size} transitions"] if size else []
    words += filter(None, [coding_of(cell["budget"])])
    words += [f"learner {cell['learner']['id']}"] if cell["learner"] else []
    words += [f"{len(row)} condensation seeds"] if len(row) > 1 else []
    return ", ".join([*words, f"{len(cell['learner_seeds'])} learner seeds"])


def _differences(a: Record, b: Record) -> list[str]:
    """Return lines on the differences of two records other than their numbers."""
    pairs = list(_unequal(a["cell"], b["cell"], ""))
    names = sorted({*a["key"], *b["key"]})
    keys = {name: (a["key"].get(name), b["key"].get(name)) for name in names}
    pairs += [(name, *values) for name, values in keys.items() if values[0] != values[1]]
    return [f"   {name}: {_short(of_a)} / {_short(of_b)}" for name, of_a, of_b in pairs]


def _unequal(a: Any, b: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _unequal(a.get(key, "-"), b.get(key, "-"), f"{name}.{key}".lstrip("."))
    elif a != b:
        yield name, a, b


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _verdict(interval: Interval) -> str:
    if not interval.known:
        return "nothing can be told from one learner seed"
    if interval.above_zero:
        return "A is above B"
    if interval.estimate and not interval.spread:
        return "nothing can be told: units that are equal do not show how far others would lie"
    return "A is below B" if interval.below_zero else "A and B are not told apart"
