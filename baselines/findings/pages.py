"""What the scripts of the findings share: records, names, and pictures of intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path

from rlcondense.comparison.columns import bracketed
from rlcondense.comparison.rows import FloorComparison, Group, Row, groups_of
from rlcondense.errors import BadConfig
from rlcondense.files import write_bytes
from rlcondense.records.reading import record_files
from rlcondense.records.record import Record
from rlcondense.records.store import read_record_file
from rlcondense.references import EXPERT, FLOOR
from rlcondense.reporting.publish import fill_part
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import load_suite
from rlcondense.statistics.intervals import (
    Interval,
    difference_of,
    probability_of_improvement,
    student_means,
)
from rlcondense.types import Split

RESULTS = Path(__file__).parents[2] / "docs" / "results"
LINE, NAMES, WIDTH, COUNTED = 20, 330, 820, 130  # pixels of a picture's parts
LETTER = 6.2  # pixels of a letter on average, with room


@cache  # of thousands it takes seconds
def read_records(folder: Path) -> dict[str, Record]:
    """Read the records of a folder, by cell id, once in a process: change none of them.

    Raises:
        BadConfig: there are none, as in a folder that does not exist.
    """
    read = [read_record_file(path) for path in record_files(folder)]
    if not read:
        raise BadConfig(f"{folder} holds no records")
    return {record["cell_id"]: record for record in read}


def read_suite(folder: Path, suite: str) -> tuple[list[Group], dict[str, Record]]:
    """Read the records of a suite that are done, as comparable groups and by cell id."""
    return of_suite(read_records(folder), suite)


def of_suite(records: Mapping[str, Record], suite: str) -> tuple[list[Group], dict[str, Record]]:
    """Return the records of a suite that are done, as comparable groups and by cell id."""
    planned = plan_suite(load_suite(suite))
    ids = {one.cell.id for one in planned if one.cell is not None}
    done = {
        cell: record
        for cell, record in records.items()
        if cell in ids and record["status"] == "done"
    }
    return groups_of(done.values()), done


def task_name(task: str) -> str:
    """Shorten the id of a task to its alias."""
    return task.rsplit("/", 1)[-1].removesuffix("-v0").removesuffix("-easy")


def mean_of(row: Row, split: Split) -> Interval:
    """Return the mean return of a row that is done."""
    assert row.returns is not None
    return row.returns[split]["mean"]


def way_to_expert(group: Group) -> float | None:
    """Return what the expert returns beyond the random policy.

    None without one of them, or where the expert returns no more: there is no way then.
    """
    expert, floor = group.find(EXPERT), group.find(FLOOR)
    if expert is None or floor is None:
        return None
    way = mean_of(expert, "heldout").estimate - mean_of(floor, "heldout").estimate
    return way if way > 0 else None


def size_asked(row: Row) -> int:
    """Return the budget in rows, 0 without one."""
    budget = row.budget
    return budget["size"] if budget is not None and "size" in budget else 0


def compare(row: Row, control: Row, records: Mapping[str, Record]) -> FloorComparison:
    """Compare two rows on held-out levels."""
    x, y = (
        student_means([records[cell] for cell in one.cells], "heldout") for one in (row, control)
    )
    return FloorComparison(
        control.id,
        difference_of(x, y),
        probability_of_improvement(x, y),
        judged=not row.unjudged and not control.unjudged,
        cells=control.cells,
    )


@dataclass(frozen=True)
class Rows:
    """The rows of one student on one dataset.

    Attributes:
        group: all of them.
        records: all records by cell id.
    """

    group: Group
    records: Mapping[str, Record]

    @property
    def task(self) -> str:
        """The task's alias."""
        return task_name(self.group.task)

    @cached_property
    def rows(self) -> dict[str, Row]:
        """The rows that are done, by method."""
        return {row.id: row for row in self.group.rows if row.status == "done"}

    def beside(self, method: str, other: str) -> FloorComparison | None:
        """Compare what a method's rows teach with another's, None where one is missing."""
        if method not in self.rows or other not in self.rows:
            return None
        return compare(self.rows[method], self.rows[other], self.records)

    def gain(self, method: str, other: str) -> Interval | None:
        """Return what a method's rows teach beside another's, None where one is missing."""
        comparison = self.beside(method, other)
        return None if comparison is None else comparison.difference


def publish(name: str, text: str, picture: str = "") -> None:
    """Fill the part of a page that has the page's name, and write its picture if there is one."""
    fill_part(RESULTS / f"{name}.md", name, text)
    if picture:
        write_bytes(RESULTS / f"{name}.svg", picture.encode())


def draw(bars: Sequence[tuple[str, Interval]], label: str) -> str:
    """Draw intervals below each other as SVG, with a line at zero.

    Args:
        bars: name and interval of each.
        label: what the axis measures.
    """
    names = max([NAMES, *(math.ceil(LETTER * len(name)) + 20 for name, _ in bars)])
    width = WIDTH + names - NAMES
    ends = [end for _, bar in bars for end in (bar.low, bar.high)] or [-1.0, 1.0]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    high += high == low
    height = LINE * len(bars) + 40

    def x(value: float) -> float:
        return names + (value - low) / (high - low) * (width - names - COUNTED)

    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    parts.append(f'<path d="M{x(0):.1f} 6V{height - 30}" stroke="#888" stroke-dasharray="4 3"/>')
    for place, (name, bar) in enumerate(bars):
        y = 16 + LINE * place
        colour = "#0b6e99" if bar.above_zero else "#c2410c" if bar.below_zero else "#777"
        shown = bracketed(bar, "{:+.2f}")
        parts += [
            f'<text x="{names - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>',
            f'<path d="M{x(bar.low):.1f} {y}H{x(bar.high):.1f}" stroke="{colour}"/>',
            f'<circle cx="{x(bar.estimate):.1f}" cy="{y}" r="3.5" fill="{colour}"/>',
            f'<text x="{width - COUNTED + 8}" y="{y + 4}" font-size="10">{escape(shown)}</text>',
        ]
    middle = (names + width - COUNTED) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    return f'{head} {style} aria-label="{escape(label)}">\n{chr(10).join(parts)}\n</svg>\n'
