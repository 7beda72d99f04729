"""What a GPU is worth, in nine minutes at most: `make gpu`, or `python -m tests.benchmarks.gpu`.

Runs the checks of the device, the demonstration's command on the device and on the CPU, students of
ten seeds together and one by one, and an iteration of gradient matching beside its passes, and
writes the table of docs/results/speed.md. Needs only what the package imports; without a GPU,
`--device cpu --small` runs the same in a minute.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlcondense.errors import RLCondenseError
from rlcondense.make import default_dataset, load_dataset, make_method, make_task
from rlcondense.runtime.provenance import resolve_device
from tests.benchmarks.figures import PAGE, fill, machine
from tests.benchmarks.parts import (
    gradmatch_and_its_passes,
    made_up,
    students_together_and_apart,
)
from tests.device_checks import CHECKS

LIMIT = 9 * 60 - 20  # seconds of the whole; the last part ends before
HEADER = ("what", "device", "beside", "ratio")
PHASES = {
    "condense": "condensation",
    "train": "students",
    "evaluate_seen": "evaluation",
    "evaluate_heldout": "evaluation",
}
SMALL = (
    "--size", "15", "--seeds", "1", "--condensations", "1", "--episodes", "2",
    "--set", "iterations=1", "--set", "network=compact", "--set", "learner.network=compact",
    "--set", "learner.updates=2",
)  # fmt: skip
Row = tuple[str, str, str, str]


class Report:
    """The rows so far, each printed when it is known.

    Attributes:
        rows: of the table.
        failed: whether something did not work.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.failed = False
        self._started = time.perf_counter()

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return LIMIT - (time.perf_counter() - self._started)

    def add(self, what: str, device: str, beside: str = "", ratio: str = "") -> None:
        """Note a row."""
        self.rows.append((what, device, beside, ratio))
        at = time.perf_counter() - self._started
        cells = ", ".join(x for x in self.rows[-1] if x)
        print(f"{at:5.0f} s  {cells}", flush=True)


def demonstration(
    device: str, small: bool, dataset: str, limit: float
) -> tuple[dict[str, float], float]:
    """Run the demonstration's command on a device.

    Returns:
        Seconds of each phase over all rows, and seconds of the whole on the clock.

    Raises:
        subprocess.TimeoutExpired: it took longer than the limit.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "rlcondense.cli", "run", "--method", "gradmatch",
            "--task", "starpilot", "--device", device, "--results", folder, "--json",
            *(("--dataset", dataset) if dataset else ()), *(SMALL if small else ()),
        ]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        whole = time.perf_counter() - started
    if done.returncode:
        raise RLCondenseError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    phases: Counter[str] = Counter()
    for record in _records(result):
        for name, seconds in record.get("timings", {}).items():
            phases[PHASES.get(name, name)] += seconds["wall"]
    return dict(phases), whole


def _records(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every record in what `run --json` printed."""
    found = {}
    for value in result.values():
        for record in value if isinstance(value, list) else [value]:
            if isinstance(record, dict) and "cell_id" in record:
                found[record["cell_id"]] = record
    return list(found.values())


def compare_demonstrations(report: Report, device: str, small: bool, dataset: str) -> None:
    """Note a row for each phase on the device and on the CPU; the CPU may run out of time."""
    phases, whole = demonstration(device, small, dataset, report.left)
    try:
        others, other = demonstration("cpu", small, dataset, report.left)
    except subprocess.TimeoutExpired as error:
        others, other = {}, -float(error.timeout)
    for name in sorted(phases):
        seconds = others.get(name, 0.0)
        ratio = f"{seconds / phases[name]:.1f}" if phases[name] and seconds else ""
        beside = f"CPU {seconds:.1f} s" if seconds else ""
        report.add(f"demonstration: {name}, all rows", f"{phases[name]:.1f} s", beside, ratio)
    beside = f"CPU {other:.0f} s" if other > 0 else f"CPU more than {-other:.0f} s"
    ratio = f"{other / whole:.1f}" if other > 0 else ""
    report.add("demonstration: whole, on the clock", f"{whole:.0f} s", beside, ratio)


def run_checks(report: Report, device: str) -> None:
    """Run the checks of a device; print what fails."""
    data, task, passed = made_up(300), make_task("starpilot"), 0
    for check in CHECKS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                check(data, task, Path(folder), device)
            passed += 1
        except Exception:
            report.failed = True
            traceback.print_exc()
    report.add("checks passed", f"{passed} of {len(CHECKS)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="least sizes, to try the script")
    parser.add_argument("--dataset", default="", help="of the demonstration")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose table is written")
    options = parser.parse_args(arguments)
    device, small = resolve_device(options.device), options.small
    print(machine(device), flush=True)
    report, task = Report(), make_task("starpilot")

    started = time.perf_counter()
    load_dataset(options.dataset or default_dataset("starpilot"))
    report.add("data: built from the trace, or read", f"{time.perf_counter() - started:.1f} s")

    sizes: dict[str, Any] = {"network": "compact", "classes": 2} if small else {}
    data, iterations = made_up(600), 1 if small else 10
    iteration, alone = gradmatch_and_its_passes(data, task, iterations, device=device, **sizes)
    report.add(
        "gradmatch: an iteration of 150 frames",
        f"{1e3 * iteration:.0f} ms",
        f"its passes {1e3 * alone:.0f} ms",
        f"{iteration / alone:.2f}",
    )
    rows = make_method("full").condense(data, task=task, budget=len(data))
    seeds, updates = range(2 if small else 10), 2 if small else 100
    together, apart = students_together_and_apart(rows, task, seeds, device, updates)
    report.add(
        f"{len(seeds)} students, default network, {updates} updates: together",
        f"{together:.2f} s",
        f"one by one {apart:.2f} s",
        f"{apart / together:.1f}",
    )
    run_checks(report, device)
    compare_demonstrations(report, device, small, options.dataset)
    if device == "cuda":
        report.add("peak of GPU memory", f"{torch.cuda.max_memory_allocated() / 1e6:.0f} MB")
    fill("gpu", HEADER, report.rows, device, options.page)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
