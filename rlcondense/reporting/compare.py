"""The comparison of two records, paired by seed and by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcondense.comparison.columns import bracketed, plus_minus
from rlcondense.comparison.rows import draws_at_random
from rlcondense.errors import BadConfig
from rlcondense.records.record import Record
from rlcondense.records.schema import misshapen
from rlcondense.statistics.intervals import (
    Interval,
    difference,
    probability_of_improvement,
    student_interval,
    unit_means,
    units,
)
from rlcondense.types import SPLITS, Split

MADE_BY = ("dataset_sha256", "expert_sha256", "source_sha256", "device", "threads")


@dataclass(frozen=True)
class SplitComparison:
    """The comparison of A and B on one split.

    Attributes:
        a: A's mean, over learner seeds.
        b: B's.
        difference: A minus B, paired by seed.
        by_level: A minus B with levels as units: each averaged over the learner seeds.
        probability: that a student of A returns more than one of B.
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


def compare(a: Record, b: Record) -> dict[Split, SplitComparison]:
    """Compare two records of one task and one protocol, by split.

    Raises:
        BadConfig: they are not comparable: one has no returns, or their levels differ.
    """
    for record in (a, b):
        if (status := record.get("status")) != "done":
            raise BadConfig(f"one of the two is {status!r}: nothing to compare")
        if wrong := misshapen(record):
            raise BadConfig(f"one of the two is no record: {wrong}")
    for name in ("task", "evaluation"):
        if a["cell"][name] != b["cell"][name]:
            raise BadConfig(
                f"the records are of different {name}s: {a['cell'][name]} and {b['cell'][name]}"
            )
    if a["level_seeds"] != b["level_seeds"]:
        raise BadConfig("the records were evaluated on different levels")
    return {split: _compared(a, b, split) for split in SPLITS}


def _compared(a: Record, b: Record, split: Split) -> SplitComparison:
    of_levels = units([a], split).mean(0) - units([b], split).mean(0)
    signs = [int((np.sign(of_levels) == sign).sum()) for sign in (1, 0, -1)]
    means = unit_means([a], split), unit_means([b], split)
    return SplitComparison(
        a=student_interval(means[0]),
        b=student_interval(means[1]),
        difference=difference([a], [b], split),
        by_level=student_interval(of_levels),
        probability=probability_of_improvement(*means),
        levels=(signs[0], signs[1], signs[2]),
    )


def compare_text(a: Record, b: Record) -> str:
    """Return the text that `rlcondense compare` prints."""
    from tabulate import tabulate

    splits = compare(a, b)
    table = [
        [
            {"seen": "seen", "heldout": "held-out"}[split],
            plus_minus(comparison.a),
            plus_minus(comparison.b),
            bracketed(comparison.difference, "{:+.2f}"),
            bracketed(comparison.by_level, "{:+.2f}"),
            bracketed(comparison.probability, "{:.2f}"),
            " / ".join(map(str, comparison.levels)),
        ]
        for split, comparison in splits.items()
    ]
    headers = ["", "A", "B", "A - B", "A - B, by level", "P(A > B)", "levels A / = / B"]
    cell = a["cell"]
    lines = [
        f"{cell['task']}, {cell['evaluation']['environments'] * cell['evaluation']['quota']} "
        "episodes a student and split, equal levels",
        f"A  {a['cell_id']}  {_name(a)}",
        f"B  {b['cell_id']}  {_name(b)}",
        *_differences(a, b),
        "",
        str(tabulate(table, headers, disable_numparse=True)),
        "",
        "± is the standard error over learner seeds. Brackets are 95% intervals: over learner",
        "seeds, which are paired where there are as many, and by level over levels, each averaged",
        "over the seeds. P(A > B): that a student of A returns more than one of B.",
        f"On held-out levels {_verdict(splits['heldout'].difference)}, by the interval over seeds.",
        *_judged(a, b),
    ]
    return "\n".join(lines)


def _judged(*records: Record) -> list[str]:
    """Return a note if a record's method is stochastic: a record covers only one set."""
    learned = [r["cell"]["method"]["id"] for r in records if r["cell"]["learner"] is not None]
    drawn = [method for method in dict.fromkeys(learned) if draws_at_random(method)]
    return [f"Of {' and '.join(drawn)} that is one set: not judged."] if drawn else []


def _name(record: Record) -> str:
    cell = record["cell"]
    size = record.get("report", {}).get("size")
    words = [cell["method"]["id"]]
    words += [f"{size} transitions"] if size else []
    words += [f"learner {cell['learner']['id']}"] if cell["learner"] else []
    return ", ".join([*words, f"{len(cell['learner_seeds'])} learner seeds"])


def _differences(a: Record, b: Record) -> list[str]:
    """Return lines on the differences of two records other than their numbers."""
    pairs = list(_unequal(a["cell"], b["cell"], ""))
    keys = {name: (a["key"].get(name), b["key"].get(name)) for name in MADE_BY}
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
    return "A is below B" if interval.below_zero else "A and B cannot be told apart"
