"""What a sweep adds to its cells, and how well workers keep out of each other's way."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store
from rlcondense.running.plan import plan_suite
from rlcondense.running.states import State
from rlcondense.running.suite import load_suite, suite_from
from rlcondense.running.sweep import sweep
from rlcondense.running.watcher import Silent
from tests.benchmarks.bench import Bench
from tests.conftest import TINY
from tests.reporting.boards import RANDOM, read_shipped, shipped_leaderboard

IN_TESTS = "starting workers takes seconds; tests/running/test_sweeps.py starts as many"


class Clock(Silent):
    """How many cells there were, and when each had ended."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []
        self.todo = 0

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        self.todo = todo

    def ended(self, planned: Any, status: str, reason: str, left: Any) -> None:
        assert status == "done"
        self.ended_at.append(time.perf_counter())


def cells(number: int, updates: int, network: str) -> Any:
    """A suite of as many alike cells."""
    config = {"network": network, "updates": updates, "batch_size": 64 if updates > 9 else 8}
    return suite_from(
        "bench",
        {
            "tasks": ["starpilot"],
            "datasets": [TINY],
            "methods": ["random"],
            "sizes": list(range(20, 20 + number)),
            "learners": [{"id": "bc", "config": config}],
            "learner_seeds": 1,
            "episodes": 2,
            "references": False,
        },
    )


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_the_overhead_of_a_cell(
    tmp_path: Path, tiny: TransitionDataset, executor: str, bench: Bench
) -> None:
    if not bench.full:
        pytest.skip(IN_TESTS)
    clock = Clock()
    suite = cells(40, 2, "cnn4")
    result = sweep(suite, results=tmp_path, workers=1, executor=executor, watcher=clock)
    work = [
        sum(phase["wall"] for phase in state.facts["timings"].values())
        for state in result.states
        if state.facts is not None
    ]
    # The first cells load what all of them use.
    work, between = work[2:], np.diff(clock.ended_at)[1:]
    overhead = float(between.mean() - np.mean(work))
    bench.seconds(f"a cell, beside its work, executor {executor}", overhead, most=0.5)


def test_two_workers_against_one(tmp_path: Path, tiny: TransitionDataset, bench: Bench) -> None:
    if not bench.full:
        pytest.skip(IN_TESTS)
    rates = {}
    for workers in (1, 2):
        clock = Clock()
        suite = cells(10, 150, "nature")
        sweep(suite, results=tmp_path / str(workers), workers=workers, watcher=clock)
        seconds = clock.ended_at[-1] - clock.ended_at[workers - 1]  # from each one's first cell on
        rates[workers] = (clock.todo - workers) / seconds
    bench.ratio(
        "sweep, 2 workers",
        f"{rates[2]:.2f} cells/s",
        f"1 worker {rates[1]:.2f}",
        rates[2] / rates[1],
        least=1.7,
    )


def _command_seconds(bench: Bench, *arguments: str) -> tuple[float, str]:
    """Least processor seconds of a command in a process of its own, and what it prints.

    Alone on a machine they are the clock's. At the smallest size it is called in this process.
    """
    if not bench.full:
        result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0
        return 0.0, result.output
    seconds = []
    for _ in range(2):
        started = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "rlcondense.cli", *arguments],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = ended.ru_utime - started.ru_utime, ended.ru_stime - started.ru_stime
        seconds.append(sum(spent))
    return min(seconds), done.stdout


def test_list(bench: Bench) -> None:
    seconds, out = _command_seconds(bench, "list")
    assert "gradmatch" in out
    bench.seconds("`list`", seconds, most=0.4)


def _copy(cell: Cell) -> dict[str, Any]:
    """A published record of a random subset, as if it were of another cell."""
    record = read_shipped(RANDOM)
    record |= {"cell": cell.to_json(), "cell_id": cell.id}
    record["report"] |= {"budget": cell.budget, "seed": cell.condensation_seed, **cell.budget}
    return record


def test_ten_thousand_cells(tmp_path: Path, bench: Bench) -> None:
    sizes = bench.size(2000, 4)
    file = tmp_path / "many.toml"
    file.write_text(
        'tasks = ["starpilot"]\nmethods = ["random"]\ncondensation_seeds = 5\nlearner_seeds = 3\n'
        f"references = false\nsizes = {list(range(1, sizes + 1))}\n"
    )
    store = Store(tmp_path / "results")
    plan = plan_suite(load_suite(str(file)), store.look)
    assert len(plan) == 5 * sizes
    for planned in plan:
        assert planned.cell is not None
        store.write_record(_copy(planned.cell))
    for command in (["sweep", "--dry-run"], ["sweep"], ["status"]):
        name, *options = command
        results = ["--results", str(store.root)]
        seconds, out = _command_seconds(bench, name, str(file), *options, *results)
        assert f"{len(plan)} done" in out
        bench.seconds(f"`{' '.join(command)}`, 10,000 cells", seconds, most=5)


def test_a_site_of_five_thousand_records(tmp_path: Path, bench: Bench) -> None:
    """Copies of a published record for other sizes, and the site of them all."""
    folder = shipped_leaderboard(tmp_path / "board")
    copies = bench.size(5000, 20)
    cell = Cell.from_json(read_shipped(RANDOM)["cell"])
    for k in range(copies):
        other = replace(cell, condensation_seed=k % 5, budget={"size": 1 + k // 5})
        (folder / "results" / f"{other.id}.json").write_text(json.dumps(_copy(other)))
    command = ["leaderboard", "build", str(folder), "--site", str(tmp_path / "site")]
    seconds, _ = _command_seconds(bench, *command)
    pages = len(list((tmp_path / "site").rglob("*.html")))
    assert pages > copies
    bench.seconds("site of 5,000 records", seconds, most=20)
