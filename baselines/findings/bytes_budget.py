"""What is a byte worth? Rows of one budget in bytes and several codings, as a page.

python baselines/findings/bytes_budget.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import compare, draw, mean_of, publish, read_suite, task_name

from rlcondense.comparison.columns import bracketed, seeds_text
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row
from rlcondense.datasets.report import BytesJson
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import Interval

SUITE = "bytes"
OWN_BITS = 8  # of a pixel as the task gives it


@dataclass(frozen=True)
class Coding:
    """A row of one coding beside the rows of the same bytes as the task gives them.

    Attributes:
        task: the task's alias.
        row: of the coding.
        comparison: with frames as they are; None for these themselves.
        control: of a method's rows, the comparison with random ones of the same coding and labels.
    """

    task: str
    row: Row
    comparison: FloorComparison | None
    control: FloorComparison | None

    @property
    def budget(self) -> BytesJson:
        """Its bytes, bits of a pixel and side of a frame."""
        budget = budget_of(self.row)
        assert budget is not None
        return budget

    @property
    def name(self) -> str:
        """The bits of a pixel, and the side of a frame where it is coarser."""
        bits, side = self.budget["bits"], self.budget.get("resolution")
        return f"{bits} bit{'s' if bits > 1 else ''}{f', {side} x {side}' if side else ''}"

    @property
    def gain(self) -> Interval | None:
        """What it teaches beside frames as they are."""
        return None if self.comparison is None else self.comparison.difference


def read_codings(folder: Path) -> list[Coding]:
    """Read the codings of the suite, by task and from few rows to many."""
    groups, records = read_suite(folder, SUITE)
    return [one for group in groups for one in codings(group, records)]


def codings(group: Group, records: Mapping[str, Record]) -> list[Coding]:
    """Compare the codings of one task, if frames as they are have a row."""
    rows = sorted(
        (row for row in group.rows if row.status == "done" and budget_of(row)),
        key=lambda row: row.size or 0,
    )
    own = {_alike(row): row for row in rows if _is_own(row)}

    def control(row: Row) -> FloorComparison | None:
        coded = (
            other
            for other in rows
            if other.id == RANDOM_SUBSET != row.id
            and (other.budget, other.labels) == (row.budget, row.labels)
        )
        fitting = next(coded, None)
        return compare(row, fitting, records) if fitting else None

    return [
        Coding(
            task_name(group.task),
            row,
            compare(row, own[_alike(row)], records) if not _is_own(row) else None,
            control(row),
        )
        for row in rows
        if _alike(row) in own
    ]


def _alike(row: Row) -> tuple[object, ...]:
    """Return what codings must share to be compared: the bytes, the method and the labels."""
    budget = budget_of(row)
    return (budget and budget["bytes"], row.id, row.labels)


def budget_of(row: Row) -> BytesJson | None:
    """Return a row's budget in bytes, None if it has another one."""
    return row.budget if row.budget is not None and "bytes" in row.budget else None


def _is_own(row: Row) -> bool:
    budget = budget_of(row)
    return budget is not None and (budget["bits"], budget.get("resolution")) == (OWN_BITS, None)


def page(found: Sequence[Coding]) -> str:
    """Format the codings, and how many of a method are told apart from its rows as they are."""
    lines = [
        [
            one.task,
            f"{one.budget['bytes']:,}",
            one.row.id,
            one.name,
            f"{one.row.size or 0:,}",
            seeds_text(one.row),
            bracketed(mean_of(one.row, "seen")),
            bracketed(mean_of(one.row, "heldout")),
            *_told(one.comparison),
            *_told(one.control),
        ]
        for one in found
    ]
    headers = ["task", "bytes", "method", "coding", "rows", "sets x students", "seen", "held-out"]
    beside = ["beside its frames as they are", "verdict", "beside random rows so coded", "verdict"]
    counted = "\n".join(_counted(method, found) for method in sorted({one.row.id for one in found}))
    return f"{counted}\n\n{markdown_table([*headers, *beside], lines)}"


def _told(comparison: FloorComparison | None) -> tuple[str, str]:
    if comparison is None:
        return "", ""
    return bracketed(comparison.difference, "{:+.2f}"), VERDICTS[comparison.verdict]


def _counted(method: str, found: Sequence[Coding]) -> str:
    of_method = [one.comparison for one in found if one.row.id == method]
    verdicts = [met.verdict for met in of_method if met is not None and met.judged]
    return (
        f"- Of {len(verdicts)} codings of `{method}`, {verdicts.count('above')} teach more than as "
        f"many bytes of its frames as they are, {verdicts.count('below')} less."
    )


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_codings(Path(sys.argv[1]))
    bars = [
        (f"{one.task}, {one.name}: {one.row.size} rows by {one.row.id}", one.gain)
        for one in found
        if one.gain
    ]
    label = "held-out return beside that of as many bytes of frames as they are"
    publish("bytes", page(found), draw(bars, label))


if __name__ == "__main__":
    main()
