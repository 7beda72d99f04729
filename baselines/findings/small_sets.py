"""Which methods beat their floors with at most 500 rows, and do they generalise? As two pages.

python baselines/findings/small_sets.py leaderboard/results    # into docs/results

Read are the records of Procgen's games, whatever suite they are of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gradmatch_parts import short_name
from pages import draw, mean_of, publish, read_records, task_name, way_to_expert

from rlcondense.comparison.columns import bracketed, number, seeds_text
from rlcondense.comparison.rows import LEAST_STUDENTS, FloorComparison, Group, Row, groups_of
from rlcondense.records.record import Record
from rlcondense.references import EXPERT, FLOOR, MARGINAL, RANDOM_SUBSET, WHOLE
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import (
    Interval,
    crossed_interval,
    difference_of,
    student_means,
)
from rlcondense.types import SPLITS

Array = npt.NDArray[np.float64]

MOST_ROWS = 500
TASKS = "procgen/"
CONSTANT = "constant-policy"
VERDICTS = {
    (True, True): "above both",
    (True, False): "above the blind policy",
    (False, True): "above random rows",
    (False, False): "above neither",
}
HEADERS = ["", "task", "data", "method", "rows", "labels", "student", "sets x students"]


@dataclass(frozen=True)
class Judged:
    """A method with at most `MOST_ROWS` rows that is judged against both floors.

    Attributes:
        group: the rows that it is compared with.
        row: the method's.
        records: all records by cell id.
    """

    group: Group
    row: Row
    records: Mapping[str, Record]

    @property
    def task(self) -> str:
        """The game and its view, as on the command line."""
        return task_name(self.group.task)

    @property
    def student(self) -> str:
        """The student's network, and how it acts where that is not by sampling."""
        network = str(self.group.learner["config"].get("network", self.group.learner["id"]))
        return network if self.group.action_selection == "sample" else f"{network}, greedy"

    def against(self, floor: str) -> FloorComparison:
        """Return the comparison with a floor, on held-out levels."""
        return next(one for one in self.row.against if one.floor == floor)

    @property
    def blind(self) -> FloorComparison:
        """The comparison with the policy that never looks and returns most on average."""
        found = [one for one in self.row.against if one.floor in (MARGINAL, FLOOR)]
        return min(found, key=lambda one: one.difference.estimate)

    @property
    def verdict(self) -> str:
        """The floors that it is above."""
        sides = self.blind, self.against(RANDOM_SUBSET)
        return VERDICTS[sides[0].verdict == "above", sides[1].verdict == "above"]

    @property
    def random_gap(self) -> Interval:
        """What students of random rows return more on seen levels than on held-out ones."""
        return crossed_interval(self._gaps(self.against(RANDOM_SUBSET).cells))

    @property
    def worse_gap(self) -> Interval:
        """How much wider its own gap is."""
        random_rows = self.against(RANDOM_SUBSET).cells
        return difference_of(self._gaps(self.row.cells), self._gaps(random_rows))

    def _gaps(self, cells: Iterable[str]) -> Array:
        return gaps_of([self.records[cell] for cell in cells])

    @property
    def constant(self) -> str:
        """The return of the policy that always takes the data's most frequent action."""
        found = [
            record
            for record in self.records.values()
            if record["cell"]["method"]["id"] == CONSTANT
            and record["cell"]["task"] == self.group.task
            and record["cell"]["dataset"] == self.group.dataset
        ]
        if not found:
            return ""
        most = max(found, key=lambda record: np.size(record["returns"]["heldout"]))
        return number(float(np.mean(most["returns"]["heldout"])))

    @property
    def span(self) -> float | None:
        """The way from the random policy to the expert, None where it is not shown."""
        return None if self.row.recovery is None else way_to_expert(self.group)

    @property
    def cells(self) -> list[str]:
        """What it is, for the columns of `HEADERS` after the first."""
        data = self.group.dataset.rsplit("/", 1)[1]
        size, labels = str(self.row.size), str(self.row.labels)
        student, seeds = self.student, seeds_text(self.row)
        return [self.task, data, short_name(self.row), size, labels, student, seeds]


def read_groups(folder: Path) -> tuple[list[Group], dict[str, Record]]:
    """Read the records of Procgen's tasks in a folder, as comparable groups and by cell id."""
    records = {
        cell: record
        for cell, record in read_records(folder).items()
        if record["status"] == "done" and record["cell"]["task"].startswith(TASKS)
    }
    return groups_of(records.values()), records


def judged(groups: Iterable[Group], records: Mapping[str, Record]) -> list[Judged]:
    """Return the methods that are judged against both floors, by task, size and gain."""
    out = []
    for group in groups:
        for row in group.rows:
            small = row.size is not None and row.size <= MOST_ROWS
            floors = [row.verdicts.get(name, "unknown") for name in (MARGINAL, RANDOM_SUBSET)]
            if small and row.id not in (RANDOM_SUBSET, *WHOLE) and "unknown" not in floors:
                out.append(Judged(group, row, records))

    def place(one: Judged) -> tuple[str, int, float]:
        return one.task, one.row.size or 0, -one.against(RANDOM_SUBSET).difference.estimate

    return sorted(out, key=place)


def tasks_of(rows: Iterable[Judged]) -> str:
    """List the tasks of rows."""
    return ", ".join(dict.fromkeys(one.task for one in rows)) or "none"


def floors_page(rows: Sequence[Judged]) -> str:
    """Format how methods stand to both floors."""
    both = [one for one in rows if one.verdict == VERDICTS[True, True]]
    lines = []
    for place, one in enumerate(rows, 1):
        name = one.blind.id or ("" if one.blind.floor == MARGINAL else one.blind.floor)
        lines.append(
            [
                str(place),
                *one.cells,
                number(mean_of(one.row, "heldout").estimate),
                bracketed(one.blind.difference, "{:+.2f}") + (f" ({name})" if name else ""),
                bracketed(one.against(RANDOM_SUBSET).difference, "{:+.2f}"),
                one.verdict,
                one.constant,
            ]
        )
    beside = ["beside the blind policy", "beside random rows", "verdict", "constant policy"]
    headers = [*HEADERS, "held-out", *beside]
    counted, tasks = len({one.task for one in both}), len({one.task for one in rows})
    return (
        f"{len(rows)} rows on {tasks} tasks are judged. On {counted} of these tasks a row lies "
        f"above both floors: {tasks_of(both)}.\n\n{markdown_table(headers, lines)}"
    )


def generalisation_page(rows: Sequence[Judged], found: Sequence[Whole]) -> str:
    """Format what students of small sets and of all the data lose on held-out levels."""
    worse = [one for one in rows if one.worse_gap.above_zero]
    better = [one for one in rows if one.worse_gap.below_zero]
    lines = [
        [
            str(place),
            *one.cells,
            *(number(mean_of(one.row, split).estimate) for split in SPLITS),
            bracketed(one.row.gap, "{:+.2f}"),
            bracketed(one.random_gap, "{:+.2f}"),
            bracketed(one.worse_gap, "{:+.2f}"),
        ]
        for place, one in enumerate(rows, 1)
    ]
    headers = [*HEADERS, "seen", "held-out", "seen - held-out", "of random rows", "difference"]
    return "\n\n".join(
        [
            f"Of {len(rows)} rows on {len({one.task for one in rows})} tasks, {len(worse)} lose "
            f"more than random rows of their size and labels ({tasks_of(worse)}), {len(better)} "
            f"less ({tasks_of(better)}), by intervals that exclude zero.",
            markdown_table(headers, lines),
            counted(found),
            whole_table(found),
        ]
    )


@dataclass(frozen=True)
class Whole:
    """Students of all the data, with soft labels and until converged, beside the policies.

    Attributes:
        row: theirs.
        group: the rows beside them.
        records: all records by cell id.
    """

    row: Row
    group: Group
    records: Mapping[str, Record]

    @property
    def name(self) -> list[str]:
        """The task, the data, the student and how many there are."""
        task, data, *_, student, _ = Judged(self.group, self.row, self.records).cells
        return [task, data, student, str(self.row.learner_seeds)]

    @property
    def episodes(self) -> int:
        """How many episodes all students play on each split."""
        return sum(map(len, self.records[self.row.cells[0]]["returns"]["heldout"]))

    @property
    def beside_expert(self) -> Interval | None:
        """How much more they lose on held-out levels than the expert does."""
        expert = self.group.find(EXPERT)
        if expert is None:
            return None
        rows = (self.row, expert)
        return difference_of(*(gaps_of([self.records[c] for c in row.cells]) for row in rows))


def gaps_of(records: Sequence[Record]) -> Array:
    """Return what each student of a row returns more on seen levels: `(sets, students)`."""
    return student_means(records, "seen") - student_means(records, "heldout")


def wholes(groups: Iterable[Group], records: Mapping[str, Record]) -> list[Whole]:
    """Return the students of all the data by task: of equal ones, those of most episodes."""
    found = [
        Whole(row, group, records)
        for group in groups
        for row in group.of_id("full-converged")
        if row.status == "done" and row.labels == "soft" and row.learner_seeds >= LEAST_STUDENTS
    ]
    most: dict[tuple[str, ...], Whole] = {}
    for one in sorted(found, key=lambda one: one.episodes):
        most[tuple(one.name[:3])] = one
    return sorted(most.values(), key=lambda one: one.name)


def whole_table(found: Sequence[Whole]) -> str:
    """Format seen minus held-out returns of policies and of students of all the data."""
    lines = []
    for one in found:
        rows = [one.group.find(EXPERT), one.row]
        rows += [one.group.find(name) for name in (MARGINAL, FLOOR)]
        gaps = [bracketed(row.gap, "{:+.2f}") if row else "" for row in rows]
        beside = bracketed(one.beside_expert, "{:+.2f}")
        lines.append([*one.name, *gaps[:2], beside, *gaps[2:]])
    headers = ["task", "data", "student", "students", "expert", "all the data", "all - expert"]
    return markdown_table([*headers, "marginal policy", "random policy"], lines)


def counted(found: Sequence[Whole]) -> str:
    """Count the students of all the data that lose more than their expert, and less."""
    apart = [(one.name[0], one.beside_expert) for one in found]
    told = [(task, beside) for task, beside in apart if beside is not None]
    more = [task for task, beside in told if beside.above_zero]
    less = [task for task, beside in told if beside.below_zero]
    return (
        f"Of {len(told)} groups of students of all the data, {len(more)} lose more than their "
        f"expert ({', '.join(more) or 'none'}), {len(less)} less ({', '.join(less) or 'none'}). "
        "Seen minus held-out returns of theirs, with soft labels and until converged, beside the "
        "policies of their task:"
    )


def picture(rows: Sequence[Judged], of: str, label: str) -> str:
    """Draw a difference of each row as a share of the way from the random policy to the expert.

    Args:
        rows: with the numbers that they have in the table.
        of: `gain`, beside random rows, or `gap`, what is lost beside them.
        label: what the axis measures.
    """
    bars = []
    for place, one in enumerate(rows, 1):
        value = one.worse_gap if of == "gap" else one.against(RANDOM_SUBSET).difference
        if one.span is not None and value.known:
            name = f"{place}: {one.task}, {one.row.id}, {one.row.size}, {one.student}"
            bars.append((name, value.scaled(1 / one.span)))
    return draw(bars, label)


def main() -> None:
    """Fill both pages and draw their pictures."""
    groups, records = read_groups(Path(sys.argv[1]))
    rows = judged(groups, records)
    way = "as a share of the way from the random policy to the expert"
    gains = picture(rows, "gain", f"return beside random rows, {way}")
    lost = picture(rows, "gap", f"lost on held-out levels beside random rows, {way}")
    publish("small-sets", floors_page(rows), gains)
    publish("generalisation", generalisation_page(rows, wholes(groups, records)), lost)


if __name__ == "__main__":
    main()
