"""What a sweep adds to its cells, and how well workers keep out of each other's way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.records.record import SCHEMA_VERSION
from rlcondense.records.store import Store
from rlcondense.running.plan import plan_suite
from rlcondense.running.states import State
from rlcondense.running.suite import load_suite, suite_from
from rlcondense.running.sweep import sweep
from rlcondense.running.watcher import Silent
from tests.conftest import TINY


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
def test_the_overhead_of_a_cell(tmp_path: Path, tiny: TransitionDataset, executor: str) -> None:
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
    print(f"\n{executor}: {np.mean(work):.3f} s of work a cell, {overhead:.3f} s beside it")
    assert overhead < 0.5


def test_two_workers_against_one(tmp_path: Path, tiny: TransitionDataset) -> None:
    rates = {}
    for workers in (1, 2):
        clock = Clock()
        suite = cells(10, 150, "nature")
        sweep(suite, results=tmp_path / str(workers), workers=workers, watcher=clock)
        seconds = clock.ended_at[-1] - clock.ended_at[workers - 1]  # from each one's first cell on
        rates[workers] = (clock.todo - workers) / seconds
    ratio = rates[2] / rates[1]
    print(f"\ncells/s with 1 worker {rates[1]:.3f}, with 2 {rates[2]:.3f}: {ratio:.2f} times")
    assert ratio > 1.7


def test_ten_thousand_cells(tmp_path: Path) -> None:
    file = tmp_path / "many.toml"
    file.write_text(
        'tasks = ["starpilot"]\nmethods = ["random"]\ncondensation_seeds = 5\nlearner_seeds = 5\n'
        f"references = false\nsizes = {list(range(1, 2001))}\n"
    )
    store = Store(tmp_path / "results")
    plan = plan_suite(load_suite(str(file)), store.look)
    assert len(plan) == 10_000
    rng = np.random.default_rng(0)
    returns = rng.integers(0, 9, (5, 100)).astype(float).tolist()
    for planned in plan:
        assert planned.cell is not None
        record = {
            "schema_version": SCHEMA_VERSION,
            "cell_id": planned.id,
            "cell": planned.cell.to_json(),
            "status": "done",
            "key": {"device": "cpu", "threads": 1},
            "timings": {"train": {"wall": 1.0, "cpu": 1.0, "gpu": 0.0}},
            "memory": {"peak_bytes": 1, "peak_gpu_bytes": 0},
            "labels": "hard",
            "action_selection": "sample",
            "report": {"size": planned.cell.budget["size"] if planned.cell.budget else 0},
            "returns": {"seen": returns, "heldout": returns},
            "lengths": {"seen": [[1] * 100] * 5, "heldout": [[1] * 100] * 5},
        }
        store.write_record(record)
    for what in (["sweep", "--dry-run"], ["sweep"], ["status"]):
        name, *options = what
        command = [sys.executable, "-m", "rlcondense.cli", name, str(file), *options]
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            done = subprocess.run(
                [*command, "--results", str(store.root)], capture_output=True, text=True, check=True
            )
            seconds.append(time.perf_counter() - started)
            assert "10000 done" in done.stdout
        print(f"\n{' '.join(what)}: {min(seconds):.1f} s for 10,000 cells")
        assert min(seconds) < 5
