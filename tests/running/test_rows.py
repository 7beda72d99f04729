"""Rows of a command in worker processes: the same results, each row once, failures as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlcondense import catalogue
from rlcondense.console import ConsoleProgress
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.running import rows
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.planned import Planned
from rlcondense.running.runner import RunResult, run
from rlcondense.running.transfer import transfer
from tests.conftest import TINY

PLUGIN = """
from pathlib import Path

from rlcondense.methods.random import Random


class Refusing(Random):
    id = "refusing"

    def _condense(self, problem):
        with Path(__file__).with_name("tries").open("a") as file:
            file.write(f"{problem.seed}\\n")
        raise RuntimeError("no set")
"""


@pytest.fixture(autouse=True)
def _dataset(tiny: TransitionDataset) -> None:
    """The small dataset is there."""


def quick(results: Path, method: str = "random", **changes: Any) -> RunResult:
    small = {"updates": 2, "batch_size": 256, "network": "compact"}
    options = {"size": 6, "seeds": 2, "episodes": 4, "condensations": 2, "device": "cpu"}
    return run(
        method,
        "starpilot",
        dataset=TINY,
        learner_settings=small,
        results=results,
        **{**options, **changes},
    )


def numbers(result: RunResult) -> dict[str, Any]:
    rows = [*result.records, *result.references]
    return {r["cell_id"]: (r["status"], r.get("returns")) for r in rows}


def sets(result: RunResult) -> dict[str, bytes]:
    folder = result.store.condensed_path("x").parent
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/*.safetensors")}


@pytest.mark.slow
def test_workers_give_the_rows_that_this_process_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = quick(tmp_path / "alone", workers=1)
    monkeypatch.setattr(rows, "WORTH_SECONDS", 0.0)
    phases: dict[str, None] = {}

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        phases[phase] = None

    beside = quick(tmp_path / "beside", workers=2, progress=progress)
    assert list(phases) == ["rows"]  # nothing was computed in this process
    assert numbers(beside) == numbers(alone)
    assert sets(beside) == sets(alone) != {}
    assert (alone.reused, beside.reused) == (0, 0)
    assert (str(beside), beside.warnings) == (str(alone), [])
    again = quick(tmp_path / "beside", workers=2)
    assert again.reused == len(numbers(alone))


@pytest.mark.slow
def test_a_row_that_fails_in_a_worker_ends_the_run_with_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WORTH_SECONDS", 0.0)
    plugin = tmp_path / "refusing.py"
    plugin.write_text(PLUGIN)
    catalogue.register("methods", "refusing", f"{plugin}:Refusing")
    with pytest.raises(RuntimeError, match="no set"):
        quick(tmp_path / "results", "refusing", workers=2)
    tries = (tmp_path / "tries").read_text().split()
    # In a worker, where another seed may be beside it, and here for its error.
    assert sorted(tries) in (["0", "0"], ["0", "0", "1"])
    assert not any('"done"' in file.read_text() for file in tmp_path.glob("results/records/*"))


LEARNERS = """
from pathlib import Path

from rlcondense.errors import RLCondenseError
from rlcondense.learners.bc import BehaviouralCloning


class Diverging(BehaviouralCloning):
    id = "diverging"

    def fit(self, *_, **__):
        with Path(__file__).with_name("fits").open("a") as file:
            print("once", file=file)
        raise RLCondenseError("diverged")
"""


@pytest.mark.slow
def test_a_student_that_diverges_in_a_worker_is_a_row_and_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WORTH_SECONDS", 0.0)
    plugin = tmp_path / "diverging.py"
    plugin.write_text(LEARNERS)
    catalogue.register("learners", "diverging", f"{plugin}:Diverging")
    done = transfer(
        "random", ["diverging", "bc:network=compact,updates=2,batch_size=256"], "starpilot",
        dataset=TINY, size=6, seeds=2, episodes=4, device="cpu", results=tmp_path / "results",
        workers=2,
    )  # fmt: skip
    failed = {r["cell_id"] for r in done.records if r["status"] == "failed"}
    assert failed
    assert len((tmp_path / "fits").read_text().split()) == len(failed)


def test_the_time_left_is_of_the_work_and_not_of_the_number_of_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rlcondense.console.PLAIN_SECONDS", -1)
    progress = ConsoleProgress()
    watcher = rows._Watcher(progress, Rates((), "cpu"), lambda cell_id: False)
    watcher.began([], 7, 2)
    watcher.at(0, Planned("full"), "train 3/9")
    watcher.ended(Planned("random"), "done", "", Estimate(600.0, 1, 0, 0))
    watcher.at(0, Planned("full"), "train 4/9")
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "rows: 1/7 full: train 4/9; about 10 min left"
    for done in (1, 1, 2):
        progress("train", done, 2, "loss 0.1")
    _, second, third = capsys.readouterr().err.splitlines()
    assert second == "train: 1/2 loss 0.1"  # nobody knows yet how long one takes
    assert third == "train: 2/2 loss 0.1, 0 s left"
