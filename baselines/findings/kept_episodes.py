"""What do the episodes that a score keeps teach, where faults are known? A part of a page.

python baselines/findings/kept_episodes.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import RESULTS, Rows, compare, draw, mean_of, read_suite, size_asked

from rlcondense.comparison.columns import bracketed
from rlcondense.comparison.rows import Group, Row
from rlcondense.files import write_bytes
from rlcondense.references import RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.reporting.publish import fill_part
from rlcondense.statistics.intervals import Interval

SUITE = "faults"
ALL = "full"
CLEAN = "expert-v0"  # the data into which the faults were written
CLEAN_ROWS = "random rows of clean data"


@dataclass(frozen=True)
class Kept(Rows):
    """The rows of one faulty dataset.

    Attributes:
        clean: the random rows of the data without faults, as many; None without a record.
    """

    clean: Row | None = None

    @property
    def name(self) -> str:
        """The game and the fault."""
        fault = self.group.dataset.rsplit("/", 1)[1].removeprefix("expert-").removesuffix("-v0")
        return f"{self.task.removesuffix('-plain')}, {fault}"

    def mean(self, method: str) -> str:
        """Format a method's return on held-out levels."""
        row = self.rows.get(method)
        return "" if row is None else bracketed(mean_of(row, "heldout"))

    @property
    def clean_gain(self) -> Interval | None:
        """What random rows of the data without faults teach beside random rows of these."""
        if self.clean is None:
            return None
        return compare(self.clean, self.rows[RANDOM_SUBSET], self.records).difference


def read_kept(folder: Path) -> list[Kept]:
    """Read the datasets of the suite whose random rows have a record."""
    groups, records = read_suite(folder, SUITE)
    faulty = [one for one in groups if not one.dataset.endswith(CLEAN)]
    found = [Kept(group, records, clean_row(group, groups)) for group in faulty]
    return sorted((one for one in found if RANDOM_SUBSET in one.rows), key=lambda one: one.name)


def clean_row(of: Group, groups: Sequence[Group]) -> Row | None:
    """Find as many random rows of the data without faults as a faulty dataset's scores keep."""
    sizes = {size_asked(row) for row in of.of_id(RANDOM_SUBSET)}
    found = [
        row
        for group in groups
        if group.task == of.task and group.dataset.endswith(CLEAN)
        for row in group.of_id(RANDOM_SUBSET)
        if row.status == "done" and size_asked(row) in sizes
    ]
    return found[0] if found else None


def page(found: Sequence[Kept]) -> str:
    """Format what the scores' rows teach beside random rows, by dataset."""
    if not found:
        return "No row of the suite has a record yet."
    methods = sorted({name for one in found for name in one.rows} - {RANDOM_SUBSET, ALL})
    met = [one.beside(name, RANDOM_SUBSET) for name in methods for one in found]
    verdicts = [gain.verdict for gain in met if gain is not None and gain.judged]
    lines = [
        [name, *(bracketed(one.gain(name, RANDOM_SUBSET), "{:+.2f}") for one in found)]
        for name in methods
    ]
    clean = [CLEAN_ROWS, *(bracketed(o.clean_gain, "{:+.2f}") for o in found)]
    means = [
        ["random rows return", *(one.mean(RANDOM_SUBSET) for one in found)],
        ["all the data return", *(one.mean(ALL) for one in found)],
    ]
    above = verdicts.count("above")
    return (
        f"Of {len(verdicts)} comparisons with random rows, {above} are above zero, "
        f"{verdicts.count('below')} below.\n\n"
        f"{markdown_table(['kept by', *(one.name for one in found)], [*lines, clean, *means])}"
    )


def picture(found: Sequence[Kept]) -> str:
    """Draw what the rows teach beside random ones, by dataset, highest first."""
    bars = [
        (f"{one.name}: {name}", gain)
        for one in found
        for name, gain in sorted(gains(one).items(), key=lambda item: -item[1].estimate)
    ]
    return draw(bars, "what the kept rows teach beside random ones: mean return on held-out levels")


def gains(one: Kept) -> dict[str, Interval]:
    """Return what methods' rows, and random ones of clean data, teach beside random rows."""
    kept = one.rows.keys() - {RANDOM_SUBSET, ALL}
    met = {name: one.gain(name, RANDOM_SUBSET) for name in sorted(kept)}
    found = {**met, CLEAN_ROWS: one.clean_gain}
    return {name: gain for name, gain in found.items() if gain is not None and gain.known}


def main() -> None:
    """Fill the part of the page and draw its picture."""
    found = read_kept(Path(sys.argv[1]))
    fill_part(RESULTS / "faults.md", "kept", page(found))
    write_bytes(RESULTS / "faults.svg", picture(found).encode())


if __name__ == "__main__":
    main()
