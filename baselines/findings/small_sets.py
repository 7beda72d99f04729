"""Which sets of at most 500 rows beat their floors, and do they generalise? As two pages.

python baselines/findings/small_sets.py leaderboard/results    # into docs/results

Read are the records of Procgen's games, whatever suite they are of.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlcondense.comparison.columns import bracketed, number
from rlcondense.comparison.rows import Group, Row, groups_of
from rlcondense.files import write_bytes
from rlcondense.records.record import Record
from rlcondense.records.store import read_record_file
from rlcondense.references import EXPERT, FLOOR, MARGINAL, RANDOM_SUBSET, WHOLE
from rlcondense.statistics.intervals import Interval, difference_of, unit_means
from rlcondense.types import Split

MOST_ROWS = 500
Array = npt.NDArray[np.float64]
TASKS = "procgen/"
RESULTS = Path(__file__).parents[2] / "docs" / "results"
PLACE = r"(<!-- {} -->)\n.*?(<!-- /{} -->)"
VERDICTS = {
    (True, True): "above both",
    (True, False): "above the policy that does not look",
    (False, True): "above the random subset",
    (False, False): "above neither",
}
LINE, NAMES, WIDTH, COUNTED = 20, 400, 820, 120  # pixels of a picture's parts


@dataclass(frozen=True)
class SmallSet:
    """A row of at most `MOST_ROWS` rows that is judged against both floors.

    Attributes:
        group: the rows that it is compared with.
        row: the set's.
        control: the random subset's of the same size and labels.
        records: all of both, by cell id.
    """

    group: Group
    row: Row
    control: Row
    records: dict[str, Record]

    @property
    def task(self) -> str:
        """The game and its view, as on the command line."""
        return task_name(self.group.task)

    @property
    def student(self) -> str:
        """The student's network, and how it acts where that is not by sampling."""
        network = str(self.group.learner["config"].get("network", self.group.learner["id"]))
        return network if self.group.action_selection == "sample" else f"{network}, greedy"

    @property
    def seeds(self) -> str:
        """The numbers of sets and of students of each."""
        return f"{self.row.condensation_seeds} x {self.row.learner_seeds}"

    def against(self, floor: str) -> Interval:
        """Return the difference from a floor, on held-out levels."""
        return next(one.difference for one in self.row.against if one.floor == floor)

    @property
    def verdict(self) -> str:
        """Say which of the two floors it is above."""
        verdicts = self.row.verdicts
        return VERDICTS[verdicts[MARGINAL] == "above", verdicts[RANDOM_SUBSET] == "above"]

    @property
    def worse_gap(self) -> Interval:
        """Compute how much more of the return is lost on held-out levels than by random rows."""
        return difference_of(self._gaps(self.row), self._gaps(self.control))

    def _gaps(self, row: Row) -> Array:
        records = [self.records[cell] for cell in row.cells]
        return unit_means(records, "seen") - unit_means(records, "heldout")

    @property
    def span(self) -> float | None:
        """Return the distance of expert and random policy on held-out levels, if both are done."""
        expert, floor = self.group.find(EXPERT), self.group.find(FLOOR)
        if expert is None or floor is None:
            return None
        return mean_of(expert, "heldout").estimate - mean_of(floor, "heldout").estimate


def task_name(task: str) -> str:
    """Shorten the id of a task to its alias."""
    return task.removeprefix(TASKS).removesuffix("-v0").removesuffix("-easy")


def mean_of(row: Row, split: Split) -> Interval:
    """Return the mean return of a row that is done."""
    assert row.returns is not None
    return row.returns[split]["mean"]


def read_records(folder: Path) -> dict[str, Record]:
    """Read the records of a folder, by cell id."""
    read = [read_record_file(path) for path in sorted(folder.glob("*.json"))]
    return {record["cell_id"]: record for record in read}


def read_groups(folder: Path) -> tuple[list[Group], dict[str, Record]]:
    """Read the records of Procgen's tasks in a folder, as comparable groups and by cell id."""
    records = {
        cell: record
        for cell, record in read_records(folder).items()
        if record["cell"]["task"].startswith(TASKS)
    }
    return groups_of(records.values()), records


def small_sets(groups: Iterable[Group], records: dict[str, Record]) -> list[SmallSet]:
    """Return the sets that are judged against both floors, by task, size and gain."""
    out = []
    for group in groups:
        for row in group.rows:
            small = row.size is not None and row.size <= MOST_ROWS
            floors = [row.verdicts.get(floor, "unknown") for floor in (MARGINAL, RANDOM_SUBSET)]
            if not small or row.id in (RANDOM_SUBSET, *WHOLE) or "unknown" in floors:
                continue
            control = next(
                other
                for other in group.of_id(RANDOM_SUBSET)
                if (other.size, other.labels, other.status) == (row.size, row.labels, "done")
            )
            out.append(SmallSet(group, row, control, records))
    return sorted(
        out,
        key=lambda one: (one.task, one.row.size or 0, -one.against(RANDOM_SUBSET).estimate),
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def games(sets: Iterable[SmallSet]) -> str:
    """List the tasks of sets."""
    return ", ".join(dict.fromkeys(one.task for one in sets)) or "none"


def floors_page(sets: Sequence[SmallSet]) -> str:
    """Format how sets stand to both floors."""
    both = [one for one in sets if one.verdict == VERDICTS[True, True]]
    tasks = {one.task for one in sets}
    rows = [
        [
            one.task,
            f"`{one.row.name}`",
            str(one.row.size),
            str(one.row.labels),
            one.student,
            one.seeds,
            number(mean_of(one.row, "heldout").estimate),
            bracketed(one.against(MARGINAL), "{:+.2f}"),
            bracketed(one.against(RANDOM_SUBSET), "{:+.2f}"),
            one.verdict,
        ]
        for one in sets
    ]
    headers = [
        "task", "method", "rows", "labels", "student", "sets x students", "held-out",
        "beside the marginal policy", "beside random rows", "verdict",
    ]  # fmt: skip
    counted = len({one.task for one in both})
    return "\n\n".join(
        [
            f"Judged are {len(sets)} sets on {len(tasks)} tasks. Above both floors is a set on "
            f"{counted} of them: {games(both)}.",
            table(headers, rows),
        ]
    )


def generalisation_page(sets: Sequence[SmallSet], groups: Iterable[Group]) -> str:
    """Format what sets and students of all the data lose on held-out levels."""
    worse = [one for one in sets if one.worse_gap.above_zero]
    better = [one for one in sets if one.worse_gap.below_zero]
    rows = [
        [
            one.task,
            f"`{one.row.name}`",
            str(one.row.size),
            str(one.row.labels),
            one.student,
            one.seeds,
            *(number(mean_of(one.row, split).estimate) for split in ("seen", "heldout")),
            bracketed(one.row.gap, "{:+.2f}"),
            bracketed(one.control.gap, "{:+.2f}"),
            bracketed(one.worse_gap, "{:+.2f}"),
        ]
        for one in sets
    ]
    headers = [
        "task", "method", "rows", "labels", "student", "sets x students", "seen", "held-out",
        "seen - held-out", "of random rows", "difference",
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"Of {len(sets)} sets on {len({one.task for one in sets})} tasks, {len(worse)} lose "
            f"more than random rows of their size and labels ({games(worse)}), {len(better)} less "
            f"({games(better)}), by intervals that exclude zero.",
            table(headers, rows),
            "Students of all the data, until converged, beside the policies of their task:",
            whole_table(groups),
        ]
    )


def whole_table(groups: Iterable[Group]) -> str:
    """Format seen minus held-out returns of policies and of students of all the data."""
    names = (EXPERT, "full-converged", MARGINAL, FLOOR)
    rows = []
    for group in groups:
        if group.task.endswith("-light2024-v0"):
            continue
        for row in group.of_id("full-converged"):
            if row.status == "done" and row.labels == "soft" and row.learner_seeds >= 5:
                others = [group.find(name) for name in names if name != row.id]
                found = [others[0], row, *others[1:]]
                gaps = [bracketed(one.gap, "{:+.2f}") if one else "" for one in found]
                data = group.dataset.rsplit("/", 1)[1]
                network = str(group.learner["config"]["network"])
                rows.append([task_name(group.task), data, network, *gaps])
    headers = [
        "task",
        "data",
        "student",
        "expert",
        "all the data",
        "marginal policy",
        "random policy",
    ]
    return table(headers, sorted(rows))


def draw(bars: Sequence[tuple[str, Interval]], label: str) -> str:
    """Draw intervals below each other as SVG, with a line at zero.

    Args:
        bars: name and interval of each.
        label: what the axis measures.
    """
    ends = [end for _, bar in bars for end in (bar.low, bar.high)] or [-1.0, 1.0]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    height = LINE * len(bars) + 40

    def x(value: float) -> float:
        return NAMES + (value - low) / (high - low) * (WIDTH - NAMES - COUNTED)

    parts = [f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    parts.append(f'<path d="M{x(0):.1f} 6V{height - 30}" stroke="#888" stroke-dasharray="4 3"/>')
    for place, (name, bar) in enumerate(bars):
        y = 16 + LINE * place
        colour = "#0b6e99" if bar.above_zero else "#c2410c" if bar.below_zero else "#777"
        shown = bracketed(bar, "{:+.2f}")
        parts += [
            f'<text x="{NAMES - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>',
            f'<path d="M{x(bar.low):.1f} {y}H{x(bar.high):.1f}" stroke="{colour}"/>',
            f'<circle cx="{x(bar.estimate):.1f}" cy="{y}" r="3.5" fill="{colour}"/>',
            f'<text x="{WIDTH - COUNTED + 8}" y="{y + 4}" font-size="10">{escape(shown)}</text>',
        ]
    middle = (NAMES + WIDTH - COUNTED) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    return f'{head} {style} aria-label="{escape(label)}">\n{chr(10).join(parts)}\n</svg>\n'


def picture(sets: Iterable[SmallSet], of: str, label: str) -> str:
    """Draw a difference of each set as a share of the way from the random policy to the expert."""
    bars = []
    for one in sets:
        value = one.worse_gap if of == "worse_gap" else one.against(of)
        if one.span is not None and one.span > 0:
            name = f"{one.task}, {one.row.id}, {one.row.size}, {one.student}"
            bars.append((name, value.scaled(1 / one.span)))
    return draw(bars, label)


def fill(name: str, text: str) -> None:
    """Write what stands between the marks of a page."""
    page = RESULTS / f"{name}.md"
    place = re.compile(PLACE.format(name, name), re.DOTALL)
    page.write_text(place.sub(lambda mark: f"{mark[1]}\n{text}\n{mark[2]}", page.read_text()))


def main() -> None:
    """Fill both pages and draw their pictures."""
    groups, records = read_groups(Path(sys.argv[1]))
    sets = small_sets(groups, records)
    fill("small-sets", floors_page(sets))
    fill("generalisation", generalisation_page(sets, groups))
    way = "as a share of the way from the random policy to the expert"
    gains = picture(sets, RANDOM_SUBSET, f"return beside random rows, {way}")
    lost = picture(sets, "worse_gap", f"lost on held-out levels beside random rows, {way}")
    write_bytes(RESULTS / "small-sets.svg", gains.encode())
    write_bytes(RESULTS / "generalisation.svg", lost.encode())


if __name__ == "__main__":
    main()
