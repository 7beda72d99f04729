"""Is there anything to teach? What the records of the suite `signal` say of each game, as a page.

python baselines/students/teachable.py leaderboard/results    # into docs/results/signal.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlcondense.comparison.columns import bracketed, number
from rlcondense.errors import BadConfig
from rlcondense.learners.bc import PATIENCE
from rlcondense.records.reading import record_files, record_path
from rlcondense.records.record import Record
from rlcondense.records.store import read_record_file
from rlcondense.references import CONVERGED, EXPERT, FLOOR, MARGINAL, RANDOM_SUBSET
from rlcondense.reporting.publish import fill_part
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import load_suite
from rlcondense.statistics.intervals import Interval, difference
from rlcondense.types import SPLITS, Split

SUITE = "signal"
PAGE = Path(__file__).parents[2] / "docs" / "results" / "signal.md"
BUDGET = "full"
STUDENTS = {CONVERGED: "until converged", BUDGET: "800 updates"}  # of all the data
SIZES = (150, 500, 1500)
COLUMNS = {
    FLOOR: "random policy",
    MARGINAL: "marginal policy",
    **{f"{RANDOM_SUBSET} {size}": f"{size:,} rows" for size in SIZES},
    **{key: f"all, {STUDENTS[key]}" for key in (BUDGET, CONVERGED)},
    EXPERT: "expert",
}


@dataclass(frozen=True)
class Game:
    """The records of one task.

    Attributes:
        task: its id without `procgen/` and version.
        records: by the keys of `COLUMNS`; those that are not done are missing.
    """

    task: str
    records: Mapping[str, Record]

    @property
    def is_plain(self) -> bool:
        """Return whether it is the plain view of a game."""
        return self.task.endswith("-plain")

    def gain(self, split: Split, students: str = CONVERGED) -> Interval | None:
        """Compute what students of all the data return more than the marginal policy."""
        if not {students, MARGINAL} <= self.records.keys():
            return None
        return difference([self.records[students]], [self.records[MARGINAL]], split)

    @property
    def capped(self) -> int:
        """Count the students of all the data whose training the cap ended, not the loss."""
        training = self.records[CONVERGED].get("training") if CONVERGED in self.records else None
        if not training:
            return 0
        every, cap = training["updates"][0], training["cap"]
        curves = zip(training["held_back_loss"], training["best_update"], strict=True)
        ended = [(len(losses) * every, best) for losses, best in curves]
        return sum(last + every > cap and last - best < PATIENCE * every for last, best in ended)

    def cells(self, split: Split) -> list[str]:
        """Format its line of the table of a split."""
        means = [
            number(float(np.mean(self.records[key]["returns"][split])))
            if key in self.records
            else ""
            for key in COLUMNS
        ]
        gains = [self.gain(split, students) for students in STUDENTS]
        shown = [bracketed(gain, "{:+.2f}") if gain else "not run" for gain in gains]
        return [self.task, *means, *shown]


def read_games(folder: Path) -> list[Game]:
    """Read the records of the suite, by game.

    Raises:
        BadConfig: the folder holds no records.
    """
    if not record_files(folder):
        raise BadConfig(f"{folder} holds no records")
    games: dict[str, dict[str, Record]] = {}
    for planned in plan_suite(load_suite(SUITE)):
        cell = planned.cell
        if cell is None:
            continue
        task = cell.task.removeprefix("procgen/").removesuffix("-v0").removesuffix("-easy")
        records = games.setdefault(task, {})
        file = record_path(folder, cell.id)
        if file.is_file() and (record := read_record_file(file))["status"] == "done":
            size = f" {cell.budget['size']}" if cell.budget and "size" in cell.budget else ""
            records[cell.method["id"] + size] = record
    return [Game(task, records) for task, records in sorted(games.items())]


def table(games: Iterable[Game], split: Split) -> str:
    """Format the table of a split as Markdown."""
    headers = ["game", *COLUMNS.values(), *(f"{name} - marginal" for name in STUDENTS.values())]
    rows = [headers, ["---"] * len(headers), *(game.cells(split) for game in games)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def verdict(games: Iterable[Game], students: str) -> str:
    """Say on how many games students of all the data lie above the marginal policy."""
    counts = []
    for split in SPLITS:
        gains = [gain for game in games if (gain := game.gain(split, students))]
        above = sum(gain.above_zero for gain in gains)
        levels = "held-out" if split == "heldout" else split
        counts.append(f"{above} of {len(gains)} games on {levels} levels")
    return (
        f"Students of all the data, {STUDENTS[students]}, lie above the marginal policy on "
        f"{' and '.join(counts)}."
    )


def page(games: list[Game]) -> str:
    """Format what stands between the marks of the page."""
    out = []
    for view, of_view in (
        ("Plain games", [game for game in games if game.is_plain]),
        ("Ordinary games", [game for game in games if not game.is_plain]),
    ):
        run = [game for game in of_view if game.records.keys() - {FLOOR, MARGINAL, EXPERT}]
        out += [f"### {view}", "\n".join(verdict(of_view, students) for students in STUDENTS)]
        if missing := [game.task for game in of_view if CONVERGED not in game.records]:
            out += [f"Students of all the data were not trained yet on {', '.join(missing)}."]
        if capped := [f"{game.task} {game.capped}" for game in of_view if game.capped]:
            out += [f"Students whose training the cap ended: {', '.join(capped)}."]
        if run:
            out += ["Held-out levels:", table(run, "heldout"), "Seen levels:", table(run, "seen")]
    return "\n\n".join(out)


def main() -> None:
    """Fill the page."""
    text = page(read_games(Path(sys.argv[1])))
    fill_part(PAGE, SUITE, text)


if __name__ == "__main__":
    main()
