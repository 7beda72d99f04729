"""Clocks, pairs of measurements, and the tables of docs/results/speed.md; needs no pytest."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from rlcondense.runtime.provenance import describe

CLOCK = "clock"  # in place of a device: seconds that pass
PAGE = Path(__file__).parents[2] / "docs" / "results" / "speed.md"
# A table, its heading's line left as it is: where and when, then the table itself.
PLACE = "<!-- measured {} -->\n(.*?)<!-- /measured -->"


def now(device: str = "cpu") -> float:
    """Seconds: of this process on all cores; on a GPU of the clock, when its work is done.

    What else runs on the machine takes from the clock's seconds, hardly from the process's.
    """
    if device == "cpu":
        return time.process_time()
    if device != CLOCK:
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(function: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one call takes."""
    started = now(device)
    function()
    return now(device) - started


def paired(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    device: str = "cpu",
) -> tuple[float, float]:
    """Median seconds of two functions that are called in turns, after one call of each."""
    ours(), theirs()
    both = [(seconds_of(ours, device), seconds_of(theirs, device)) for _ in range(rounds)]
    mine, other = np.median(both, 0)
    return float(mine), float(other)


def machine(device: str = "cpu") -> str:
    """A line that names the machine, the day and what else the machine did."""
    here, cores = describe(device, torch.get_num_threads()), len(os.sched_getaffinity(0))
    gpu = f"{here['gpu']}, " if here["gpu"] else ""
    load = f"load average {os.getloadavg()[1]:.1f} in the last five minutes"
    day = f"{datetime.datetime.now(datetime.UTC):%d %B %Y}".lstrip("0")
    return f"{day}: {gpu}{here['cpu']}, {cores} cores, torch {torch.__version__}, {load}."


def fill(
    table: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    device: str = "cpu",
    page: Path = PAGE,
) -> None:
    """Write rows into a table of a page; those of another name in the first column stay.

    Args:
        table: name in the page's comment.
        header: columns.
        rows: a cell for each column.
        device: whose name stands above the table.
        page: what is changed.
    """
    text, new = page.read_text(), {row[0]: list(row) for row in rows}
    match = re.search(PLACE.format(table), text, re.DOTALL)
    assert match is not None, f"{page} has no table {table!r}"
    for line in re.findall(r"^\| (.*) \|$", match[1], re.MULTILINE)[2:]:
        cells = line.split(" | ")
        new.setdefault(cells[0], cells)
    lines = [list(header), ["---"] * len(header), *sorted(new.values())]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    filled = f"<!-- measured {table} -->\n{machine(device)}\n\n{body}\n<!-- /measured -->"
    page.write_text(text[: match.start()] + filled + text[match.end() :])
