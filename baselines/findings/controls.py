"""What do methods teach beside their controls? The records of a suite, as a page.

python baselines/findings/controls.py leaderboard/results    # into docs/results/controls.md

A score of episodes has to beat length, a choice of rows as many random ones with the same labels,
and a synthesis the rows that it starts from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from small_sets import fill, mean_of, read_records, table

from rlcondense import catalogue
from rlcondense.comparison.columns import bracketed, number
from rlcondense.comparison.rows import Group, Row, groups_of
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.records.record import Record
from rlcondense.records.store import StoredState
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import load_suite
from rlcondense.statistics.intervals import Interval, difference

SUITE = "cartpole-sizes"
LENGTH, START = ("longest", "shortest"), "init-only"


@dataclass(frozen=True)
class Beside:
    """A row beside its control.

    Attributes:
        row: of the method.
        control: the row that it has to beat.
        difference: of the returns on held-out levels.
    """

    row: Row
    control: Row
    difference: Interval

    @property
    def verdict(self) -> str:
        """Say on which side of zero the interval lies, if both rows have what a verdict needs."""
        if self.row.unjudged or self.control.unjudged:
            return self.row.unjudged or f"{self.control.name}: {self.control.unjudged}"
        if self.difference.above_zero:
            return "above"
        return "below" if self.difference.below_zero else "not told apart"


def controls_of(method: str) -> tuple[str, ...]:
    """Return the methods of which the better one, by its return, is a method's control."""
    cls = catalogue.find("methods", method).load()
    if issubclass(cls, EpisodeScorer):
        return LENGTH
    return (START,) if "observations" in (cls.gives or ()) else (RANDOM_SUBSET,)


def beside(group: Group, records: dict[str, Record]) -> Iterator[Beside]:
    """Return each row of a group with its control, if both are done."""
    rows = [row for row in group.rows if row.status == "done" and _asked(row)]
    for row in rows:
        names = controls_of(row.id)
        if row.id in (*LENGTH, START, RANDOM_SUBSET, *WHOLE):
            continue
        alike = [one for one in rows if one.id in names and one.budget == row.budget]
        if names == (RANDOM_SUBSET,):
            alike = [one for one in alike if one.labels == row.labels]
        if alike:
            control = max(alike, key=lambda one: mean_of(one, "heldout").estimate)
            mine, its = ([records[cell] for cell in one.cells] for one in (row, control))
            yield Beside(row, control, difference(mine, its, "heldout"))


def page(pairs: Sequence[Beside]) -> str:
    """Format the pairs by size, and how many of them are told apart."""
    out = []
    for size in sorted({_asked(pair.row) for pair in pairs}):
        of_size = [pair for pair in pairs if _asked(pair.row) == size]
        of_size.sort(key=lambda pair: -mean_of(pair.row, "heldout").estimate)
        verdicts = [pair.verdict for pair in of_size]
        above, below = verdicts.count("above"), verdicts.count("below")
        out.append(f"### {size:,} rows")
        out.append(f"Of {len(of_size)} methods, {above} above their control, {below} below.")
        lines = [
            [
                f"`{pair.row.name}`",
                str(pair.row.labels),
                f"{pair.row.condensation_seeds} x {pair.row.learner_seeds}",
                bracketed(mean_of(pair.row, "heldout")),
                f"`{pair.control.id}`",
                number(mean_of(pair.control, "heldout").estimate),
                bracketed(pair.difference, "{:+.2f}"),
                pair.verdict,
            ]
            for pair in of_size
        ]
        headers = [
            "method",
            "labels",
            "sets x students",
            "held-out",
            "control",
            "its",
            "difference",
        ]
        out.append(table([*headers, "verdict"], lines))
    return "\n\n".join(out)


def read_pairs(folder: Path) -> list[Beside]:
    """Read the rows of the suite with their controls from a folder of records."""
    planned = plan_suite(load_suite(SUITE), lambda ids: dict.fromkeys(ids, StoredState("missing")))
    ids = {one.cell.id for one in planned if one.cell is not None}
    records = {cell: record for cell, record in read_records(folder).items() if cell in ids}
    done = [record for record in records.values() if record["status"] == "done"]
    return [pair for group in groups_of(done) for pair in beside(group, records)]


def _asked(row: Row) -> int:
    """Return the budget in rows, 0 without one."""
    budget = row.budget
    return budget["size"] if budget is not None and "size" in budget else 0


def main() -> None:
    """Fill the page."""
    fill("controls", page(read_pairs(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
