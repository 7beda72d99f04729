"""Sizes of benchmarks, their figures, and the limits that these are judged by."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.benchmarks.figures import CLOCK, fill, paired, seconds_of

FULL = bool(os.environ.get("BENCH"))
HEADER = {
    "ratios": ("what", "ours", "beside", "ratio", "aim"),
    "large-sets": ("method", "frames", "iterations", "s an iteration", "minutes", "peak memory"),
}
Rows = dict[str, list[tuple[str, ...]]]
ROWS: Rows = {name: [] for name in HEADER}


class Bench:
    """Sizes of a benchmark, and where its figures go.

    Attributes:
        full: whether time is measured, judged and written to docs/results/speed.md.
        missed: aims that a figure missed, for the end of the test.
    """

    full = FULL

    def __init__(self) -> None:
        self.missed: list[str] = []

    def size(self, full: int, small: int = 1) -> int:
        """The size of something."""
        return full if self.full else small

    def paired(
        self,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        rounds: int,
        *,
        clock: bool = False,
    ) -> tuple[float, float]:
        """Median seconds of two functions that are called in turns; once each if small.

        Args:
            ours: called first.
            theirs: called after it.
            rounds: how often.
            clock: seconds on the clock, for what does several things at once.
        """
        if not self.full:
            return seconds_of(ours), seconds_of(theirs)
        return paired(ours, theirs, rounds, CLOCK if clock else "cpu")

    def ratio(
        self, what: str, ours: str, beside: str, ratio: float, *, least: float = 0, most: float = 0
    ) -> None:
        """Note a ratio, and judge it by what it is to be at least or at most."""
        aim = f"at least {least:g}" if least else f"at most {most:g}" if most else ""
        self.row("ratios", what, ours, beside, f"{ratio:.2f}", aim)
        if ratio < least or (most and ratio > most):
            self.missed.append(f"{what}: {ratio:.2f}, {aim}")

    def seconds(self, what: str, seconds: float, most: float = 0) -> None:
        """Note the seconds that something takes, and judge them."""
        aim = f"at most {most:g} s" if most else ""
        self.row("ratios", what, f"{seconds:.2f} s", "", "", aim)
        if most and seconds > most:
            self.missed.append(f"{what}: {seconds:.2f} s, {aim}")

    def row(self, table: str, *cells: str) -> None:
        """Note a row of a table."""
        print(f"\n{', '.join(cell for cell in cells if cell)}")
        ROWS[table].append((*cells, *[""] * (len(HEADER[table]) - len(cells))))


def write() -> None:
    """Write the figures into docs/results/speed.md, if they are of full size."""
    for table, rows in ROWS.items():
        if FULL and rows:
            fill(table, HEADER[table], rows)
