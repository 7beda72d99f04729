"""What do ordinary backgrounds cost? The records of a suite, as a page.

python baselines/findings/backgrounds.py leaderboard/results    # into docs/results

A game's two tasks have the same episodes of the same teacher as data, drawn in two ways.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import compare, draw, mean_of, publish, read_suite, size_asked, task_name

from rlcondense.comparison.columns import bracketed, number
from rlcondense.comparison.rows import Group, Row
from rlcondense.records.record import Record
from rlcondense.references import CONVERGED, EXPERT, FLOOR, MARGINAL
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import Interval, difference_of, student_means

SUITE = "signal"
PLAIN = "-plain"


@dataclass(frozen=True)
class Views:
    """A game's plain and ordinary rows of one method and size.

    Attributes:
        game: its name.
        plain: the row of plain frames.
        ordinary: the row of ordinary frames.
        groups: the rows beside each.
        records: all records by cell id.
    """

    game: str
    plain: Row
    ordinary: Row
    groups: tuple[Group, Group]
    records: Mapping[str, Record]

    @property
    def rows(self) -> str:
        """How many rows students learned from, and how, if of all."""
        if size_asked(self.plain):
            return f"{size_asked(self.plain):,}"
        return "all" if self.plain.id == CONVERGED else "all, 800 updates"

    @property
    def cost(self) -> Interval:
        """The return on held-out levels that students of plain frames have more."""
        sides = (self.plain, self.ordinary)
        x, y = (student_means([self.records[c] for c in row.cells], "heldout") for row in sides)
        return difference_of(x, y)  # students of one seed saw the same states in the same order

    def policy(self, name: str, side: int = 0) -> float:
        """Return the held-out return of a policy of the plain task, or of the ordinary one (1)."""
        row = self.groups[side].find(name)
        return float("nan") if row is None else mean_of(row, "heldout").estimate

    @property
    def share(self) -> Interval | None:
        """The cost as a share of what all plain frames teach beyond the policy that never looks.

        None where they are not shown to teach anything.
        """
        whole = next(row for row in self.groups[0].of_id(CONVERGED) if row.status == "done")
        blind = self.groups[0].find(MARGINAL)
        if blind is None:
            return None
        room = compare(whole, blind, self.records).difference
        return self.cost.scaled(1 / room.estimate) if room.above_zero else None


def read_views(folder: Path) -> list[Views]:
    """Read the games of which both views have students of all the data."""
    groups, records = read_suite(folder, SUITE)
    by_task = {task_name(group.task): group for group in groups if _done(group, CONVERGED)}
    found = []
    for name, plain in sorted(by_task.items()):
        game = name.removesuffix(PLAIN)
        if name.endswith(PLAIN) and game in by_task:
            for row in plain.rows:
                other = _like(by_task[game], row)
                if row.status == "done" and row.learner_seeds > 1 and other is not None:
                    found.append(Views(game, row, other, (plain, by_task[game]), records))
    return found


def _done(group: Group, method: str) -> list[Row]:
    return [row for row in group.of_id(method) if row.status == "done"]


def _like(group: Group, row: Row) -> Row | None:
    """Return the row of the same method, budget and labels in another group."""
    if row.labels is None:
        return None
    alike = [
        other
        for other in _done(group, row.id)
        if (other.budget, other.labels) == (row.budget, row.labels)
    ]
    return alike[0] if alike else None


def page(found: Sequence[Views]) -> str:
    """Format what students of both views return."""
    whole = [one for one in found if one.plain.id == CONVERGED]
    lines = [
        [
            one.game,
            one.rows,
            *(number(one.policy(name)) for name in (FLOOR, MARGINAL)),
            *(bracketed(mean_of(row, "heldout")) for row in (one.plain, one.ordinary)),
            bracketed(one.cost, "{:+.2f}"),
            bracketed(one.share, "{:+.2f}"),
            *(number(one.policy(EXPERT, side)) for side in (0, 1)),
        ]
        for one in found
    ]
    headers = ["game", "rows", "random policy", "marginal policy", "plain", "ordinary"]
    more = ["plain - ordinary", "of the way", "teacher, plain", "pixel expert, ordinary"]
    costly = [one.game for one in whole if one.cost.above_zero]
    return (
        f"Of {len(whole)} games, students of all the data return less on ordinary frames in "
        f"{len(costly)} ({', '.join(costly) or 'none'}), by intervals that exclude zero.\n\n"
        f"{markdown_table([*headers, *more], lines)}"
    )


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_views(Path(sys.argv[1]))
    bars = [(f"{one.game}, {one.rows}", one.share) for one in found if one.share]
    label = "plain - ordinary, as a share of what all plain frames teach beyond the marginal policy"
    publish("backgrounds", page(found), draw(bars, label))


if __name__ == "__main__":
    main()
