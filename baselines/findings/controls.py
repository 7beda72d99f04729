"""What do methods teach beside their controls? The records of two suites, as a page.

python baselines/findings/controls.py leaderboard/results    # into docs/results/controls.md

A score of whole episodes has to beat length. A choice of rows and a synthesis have to beat as many
random rows with the same labels, which are those that the syntheses of the suite start from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradmatch_parts import short_name
from pages import (
    compare,
    draw,
    mean_of,
    of_suite,
    publish,
    read_records,
    size_asked,
    task_name,
    way_to_expert,
)

from rlcondense import catalogue
from rlcondense.comparison.columns import bracketed, number, seeds_text
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.reporting.formats import markdown_table

SUITES = ("cartpole-sizes", "procgen-plain")
LENGTH = ("longest", "shortest")


@dataclass(frozen=True)
class Beside:
    """A row beside its control.

    Attributes:
        task: alias of the task of both.
        row: of the method.
        control: the row that it has to beat.
        comparison: of both, on held-out levels.
        way: what the expert of the task returns beyond the random policy; None where not known.
    """

    task: str
    row: Row
    control: Row
    comparison: FloorComparison
    way: float | None


def controls_of(method: str) -> tuple[str, ...]:
    """Return the methods of which the better one, by its return, is a method's control."""
    cls = catalogue.find("methods", method).load()
    return LENGTH if issubclass(cls, EpisodeScorer) else (RANDOM_SUBSET,)


def beside(group: Group, records: Mapping[str, Record]) -> Iterator[Beside]:
    """Yield each row of a group with its control of the same budget and labels.

    Rows are left out whose controls are not all done.
    """
    rows = [row for row in group.rows if row.status == "done" and size_asked(row)]
    for row in rows:
        if row.id in (*LENGTH, RANDOM_SUBSET, *WHOLE):
            continue
        alike = [
            other
            for other in rows
            if other.id in controls_of(row.id)
            and (other.budget, other.labels) == (row.budget, row.labels)
        ]
        if {other.id for other in alike} == set(controls_of(row.id)):
            control = max(alike, key=lambda other: mean_of(other, "heldout").estimate)
            comparison = compare(row, control, records)
            task, way = task_name(group.task), way_to_expert(group)
            yield Beside(task, row, control, comparison, way)


def page(pairs: Sequence[Beside]) -> str:
    """Format the pairs by task and size, and how many of them are told apart."""
    out = []
    for task, size in sorted({(pair.task, size_asked(pair.row)) for pair in pairs}):
        of_size = [p for p in pairs if (p.task, size_asked(p.row)) == (task, size)]
        of_size.sort(key=lambda pair: -mean_of(pair.row, "heldout").estimate)
        verdicts = [pair.comparison.verdict for pair in of_size if pair.comparison.judged]
        above, below = verdicts.count("above"), verdicts.count("below")
        out.append(f"### {task}, {size:,} rows")
        out.append(f"Of {len(verdicts)} rows, {above} above their control, {below} below.")
        lines = [
            [
                short_name(pair.row),
                str(pair.row.labels),
                seeds_text(pair.row),
                bracketed(mean_of(pair.row, "heldout")),
                f"{pair.control.id} ({seeds_text(pair.control)})",
                number(mean_of(pair.control, "heldout").estimate),
                bracketed(pair.comparison.difference, "{:+.2f}"),
                VERDICTS[pair.comparison.verdict],
            ]
            for pair in of_size
        ]
        headers = ["method", "labels", "sets x students", "held-out", "control", "its"]
        out.append(markdown_table([*headers, "difference", "verdict"], lines))
    return "\n\n".join(out)


def picture(pairs: Sequence[Beside]) -> str:
    """Draw the differences, as shares of the way from random policy to expert, by task and size."""
    bars = [
        (
            f"{pair.task}, {size_asked(pair.row):,}, {short_name(pair.row)}",
            pair.comparison.difference.scaled(1 / pair.way),
        )
        for pair in sorted(pairs, key=_place)
        if pair.way is not None
    ]
    return draw(bars, "beside its control, of what the expert returns beyond the random policy")


def _place(pair: Beside) -> tuple[str, int, float]:
    return pair.task, size_asked(pair.row), -pair.comparison.difference.estimate


def read_pairs(folder: Path) -> list[Beside]:
    """Read the rows of the suites with their controls from a folder of records."""
    every = read_records(folder)
    suites = [of_suite(every, suite) for suite in SUITES]
    return [
        pair for groups, records in suites for group in groups for pair in beside(group, records)
    ]


def main() -> None:
    """Fill the page."""
    pairs = read_pairs(Path(sys.argv[1]))
    publish("controls", page(pairs), picture(pairs))


if __name__ == "__main__":
    main()
