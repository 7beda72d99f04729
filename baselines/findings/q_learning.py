"""Do fewer, better rows help a Q-learner? The records of a suite, as a page.

python baselines/findings/q_learning.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pages import RESULTS, compare, draw, mean_of, read_suite, task_name

from rlcondense.comparison.columns import bracketed
from rlcondense.comparison.rows import Group, Row
from rlcondense.files import write_bytes
from rlcondense.records.record import Record
from rlcondense.references import EXPERT, FLOOR, MARGINAL, RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.reporting.publish import fill_part
from rlcondense.statistics.intervals import Interval

SUITE = "q-learning"
ALL, BEST, EPISODES = "full", "top-return", "stratified"
OTHERS = {ALL: "all the data", RANDOM_SUBSET: "random rows", EPISODES: "random episodes"}


@dataclass(frozen=True)
class Learning:
    """What one learner makes of one task's data.

    Attributes:
        group: the rows of the learner.
        records: all records by cell id.
    """

    group: Group
    records: Mapping[str, Record]

    @property
    def task(self) -> str:
        """The task's alias."""
        return task_name(self.group.task)

    @property
    def learner(self) -> str:
        """The learner and its updates."""
        return f"{self.group.learner['id']}, {self.group.learner['config']['updates']:,} updates"

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Its rows that are done, by method."""
        return {row.id: row for row in self.group.rows if row.status == "done"}

    def beside(self, other: str) -> Interval:
        """Return what the best episodes teach beside another choice of rows."""
        return compare(self.rows[BEST], self.rows[other], self.records).difference

    @property
    def span(self) -> float:
        """The way from the random policy to the expert."""
        ends = [mean_of(self.rows[name], "heldout").estimate for name in (EXPERT, FLOOR)]
        return ends[0] - ends[1]


def read_learning(folder: Path) -> list[Learning]:
    """Read the learners of the suite, each on each task."""
    groups, records = read_suite(folder, SUITE)
    needed = {ALL, FLOOR, MARGINAL, EXPERT}
    found = [Learning(group, records) for group in groups if needed <= _ids(group)]
    return sorted(found, key=lambda one: (one.task, one.learner))


def _ids(group: Group) -> set[str]:
    return {row.id for row in group.rows if row.status == "done"}


def compared(found: Sequence[Learning]) -> list[Learning]:
    """Return those whose best episodes can be compared with every other choice."""
    return [one for one in found if {BEST, *OTHERS} <= one.rows.keys()]


def page(found: Sequence[Learning]) -> str:
    """Format the returns and the differences, by task and learner."""
    lines = []
    for one in found:
        cells = [one.rows.get(name) for name in (ALL, RANDOM_SUBSET, EPISODES, BEST)]
        lines.append(
            [
                one.task,
                one.learner,
                *(bracketed(mean_of(row, "heldout")) if row else "" for row in cells),
                *(_difference(one, other) for other in OTHERS),
            ]
        )
    headers = ["task", "learner", *OTHERS.values(), "best episodes"]
    more = [f"best - {name}" for name in OTHERS.values()]
    return "\n\n".join(
        [
            *map(counted, OTHERS, [compared(found)] * len(OTHERS)),
            markdown_table([*headers, *more], lines),
            "Policies beside them:",
            policies(found),
        ]
    )


def _difference(one: Learning, other: str) -> str:
    both = BEST in one.rows and other in one.rows
    return bracketed(one.beside(other), "{:+.2f}") if both else ""


def counted(other: str, found: Sequence[Learning]) -> str:
    """Count the learners that learn more, and less, of the best episodes than of others."""
    above = [one for one in found if one.beside(other).above_zero]
    below = [one for one in found if one.beside(other).below_zero]
    return (
        f"Beside {OTHERS[other]}, the best episodes teach more in {len(above)} of {len(found)} "
        f"comparisons ({_named(above)}), less in {len(below)} ({_named(below)})."
    )


def _named(found: Sequence[Learning]) -> str:
    return "; ".join(f"{one.task}, {one.learner}" for one in found) or "none"


def policies(found: Sequence[Learning]) -> str:
    """Format the policies of each task."""
    names = (FLOOR, MARGINAL, EXPERT)
    lines: dict[str, list[str]] = {}
    for one in found:
        rows = [one.rows[name] for name in names]
        lines[one.task] = [one.task, *(bracketed(mean_of(row, "heldout")) for row in rows)]
    return markdown_table(
        ["task", "random policy", "marginal policy", "expert"], list(lines.values())
    )


def bars(found: Sequence[Learning]) -> Iterator[tuple[str, Interval]]:
    """Return the differences to draw, as shares of the way from the random policy to the expert."""
    for one in compared(found):
        for other in (ALL, EPISODES):
            name = f"{one.task}, {one.learner}: {OTHERS[other]}"
            yield name, one.beside(other).scaled(1 / one.span)


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_learning(Path(sys.argv[1]))
    fill_part(RESULTS / "q-learning.md", "q-learning", page(found))
    label = "the best episodes beside others, as a share of the way from random policy to expert"
    write_bytes(RESULTS / "q-learning.svg", draw(list(bars(found)), label).encode())


if __name__ == "__main__":
    main()
