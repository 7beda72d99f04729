from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.files import read_arrays, write_arrays
from rlcondense.make import make_method
from rlcondense.methods.gradmatch import _Validation
from rlcondense.records.store import Store
from rlcondense.running.condensing import UNFINISHED
from rlcondense.running.condensing import condense as rlc_condense
from rlcondense.running.runner import RunResult, run
from rlcondense.runtime import checkpoint as checkpoints
from rlcondense.runtime.checkpoint import Checkpoint
from rlcondense.runtime.progress import RESUMED, Progress, silent
from tests.methods.test_methods import EXPERT
from tests.small_tasks import Gridworld, play

GRID = Gridworld()
DATA = play(GRID, GRID.shortest, 300, noise=0.3)
QUICK = {"network": "mlp", "iterations": 5}
CASES: dict[str, dict[str, Any]] = {
    "dbc": {"real_batch": 16, "inner_steps": 6, "window": 3},
    "gradmatch": {"real_batch": 4, "theta": "initial"},
    "gradmatch-trajectory": {"real_batch": 4, "trajectory": 2},
    "frepo": {"real_batch": 8, "pool": 2, "oldest": 4},
    "frepo-frozen": {"real_batch": 8, "encoder": "frozen"},
    "ncfm": {"real_batch": 8, "frequencies": 16, "networks": 2, "network_updates": 2},
    "ppmo": {"num_envs": 2, "rollout_length": 8, "epochs": 1, "minibatches": 2},
    "qmatch": {"real_batch": 4, "learners": 1, "updates": 4, "every": 2},
    "qmatch-student": {"real_batch": 4, "theta": "student", "updates": 5, "every": 2},
    "trajmatch": {"teachers": 2, "teacher_updates": 6, "keep_every": 2, "inner_steps": 3},
}


class _Killed(BaseException):
    pass


def killed_at(iteration: int) -> Progress:
    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        if phase.endswith("condense") and done == iteration:
            raise _Killed

    return progress


def condense(case: str, path: Path | None, **more: Any) -> CondensedDataset:
    method = make_method(case.split("-", maxsplit=1)[0], **QUICK, **CASES[case])
    more = {"seed": 3, "progress": silent, **more}
    return method.condense(DATA, task=GRID, budget=70, checkpoint=path, **more)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)


def check_goes_on(make: Callable[[Path | None, Progress], CondensedDataset], path: Path) -> None:
    """Compare a run that was killed and went on with a whole one."""
    whole = make(None, silent)
    with pytest.raises(_Killed):
        make(path, killed_at(4))
    assert path.exists()
    began: list[int] = []

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "condense":
            began.append(done)

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    resumed = make(path, progress)
    assert torch.rand(1) == expected
    assert began[0] in (2, 3)  # not from the start
    assert resumed.sha256 == whole.sha256
    assert resumed.report is not None
    assert whole.report is not None
    assert resumed.report.cost.gradient_evaluations == whole.report.cost.gradient_evaluations
    assert resumed.report.matching_loss == whole.report.matching_loss
    assert path.exists()  # until the result is stored


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_killed_run_goes_on_to_the_same_bytes(case: str, always: None, tmp_path: Path) -> None:
    check_goes_on(
        lambda path, progress: condense(case, path, progress=progress), tmp_path / "unfinished"
    )


def test_a_killed_run_that_validates_goes_on_with_the_best_rows(
    always: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {**QUICK, "real_batch": 4, "theta": "initial", "validate_every": 1}

    def make(path: Path | None, progress: Progress) -> CondensedDataset:
        method = make_method("gradmatch", **settings)
        kept = {"seed": 3, "progress": progress, "checkpoint": path}
        return method.condense(DATA, task=GRID, budget=70, **kept)

    moved: list[float] = []

    def loss(validation: _Validation) -> float:
        moved.append(validation._matching.synthetic.moved())
        return abs(moved[-1] - moved[1]) if len(moved) > 1 else 1e9

    monkeypatch.setattr(_Validation, "_loss", loss)
    whole = make(None, silent)  # the best rows are those after the first of five iterations
    assert whole.report is not None
    assert whole.report.displacement is not None
    assert whole.report.displacement.mean == pytest.approx(moved[1])
    assert moved[1] > 0
    assert moved[-1] > moved[1]
    check_goes_on(make, tmp_path / "unfinished")


def test_a_killed_run_that_matches_an_experts_gradients_goes_on(
    always: None, tiny: TransitionDataset, tmp_path: Path
) -> None:
    method = make_method("gradmatch-light2024", iterations=5, real_batch=2)
    check_goes_on(
        lambda path, progress: method.condense(
            tiny, task="starpilot", budget=15, expert=EXPERT, checkpoint=path, progress=progress
        ),
        tmp_path / "unfinished",
    )


def test_a_checkpoint_of_something_else_or_a_torn_one_is_ignored(
    always: None, tmp_path: Path
) -> None:
    path = tmp_path / "unfinished.safetensors"
    whole = condense("gradmatch", None, seed=4)
    with pytest.raises(_Killed):
        condense("gradmatch", path, progress=killed_at(4))
    kept = path.read_bytes()
    assert condense("gradmatch", path, seed=4).sha256 == whole.sha256
    path.write_bytes(kept[: len(kept) // 2])
    assert condense("gradmatch", path, seed=4).sha256 == whole.sha256
    write_arrays(path, {"facts": np.zeros(3, np.uint8)})
    assert condense("gradmatch", path, seed=4).sha256 == whole.sha256


def test_the_seconds_of_both_runs_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = Checkpoint(path, {"seed": 0}, "cuda")
    first.before.wall = 100.0
    first.write({"x": np.arange(3)}, {"iteration": 2})
    second = Checkpoint(path, {"seed": 0}, "cuda")
    found = second.read()
    assert found is not None
    assert found[0]["x"].tolist() == [0, 1, 2]
    assert found[1] == {"iteration": 2}
    assert 100 <= second.before.wall < 110
    assert 0 <= second.before.gpu < 10
    assert Checkpoint(path, {"seed": 1}).read() is None
    assert set(read_arrays(path)) == {"x", "facts"}


def run_small(data: TransitionDataset, results: Path, progress: Progress = silent) -> RunResult:
    return run(
        "frepo", "starpilot", dataset=data.id, size=5, seeds=1, episodes=2,
        settings={"network": "compact", "iterations": 5, "real_batch": 4, "pool": 1},
        learner_settings={"network": "compact", "updates": 2}, results=results,
        references=False, progress=progress, device="cpu",
    )  # fmt: skip


def into(heard: list[tuple[int, str]]) -> Progress:
    """Note the place and the note of each report of a condensation."""

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        if "condense" in phase:
            heard.append((done, note))

    return progress


def test_a_run_that_was_killed_goes_on(
    always: None, tiny: TransitionDataset, tmp_path: Path
) -> None:
    with pytest.raises(_Killed):
        run_small(tiny, tmp_path / "a", killed_at(4))
    assert len(list((tmp_path / "a" / "unfinished").iterdir())) == 1
    began: list[tuple[int, str]] = []
    done = run_small(tiny, tmp_path / "a", into(began))
    assert began[0] == (3, RESUMED)
    assert began[1][0] == 4
    assert not list((tmp_path / "a" / "unfinished").iterdir())
    assert done.record["returns"] == run_small(tiny, tmp_path / "b").record["returns"]


def test_a_set_that_cannot_be_stored_is_not_begun_again(
    always: None, tiny: TransitionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RLCondenseError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write_condensed", full)
        with pytest.raises(RLCondenseError, match="no space"):
            run_small(tiny, tmp_path)
    assert len(list((tmp_path / "unfinished").iterdir())) == 1
    began: list[tuple[int, str]] = []
    run_small(tiny, tmp_path, into(began))
    assert began[0][0] > 0
    assert began[0][1] == RESUMED
    assert not list((tmp_path / "unfinished").iterdir())


def test_condense_refuses_a_folder_with_unfinished_work_of_another_kind(
    always: None, tmp_path: Path
) -> None:
    def go(method: str, seed: int = 0, progress: Progress = silent, **settings: Any) -> Any:
        return rlc_condense(
            "classic/cartpole/expert-v0", method, "cartpole", size=4, seed=seed,
            out=tmp_path / "c", settings=settings, progress=progress, device="cpu",
        )  # fmt: skip

    small = {"network": "mlp", "width": 8, "iterations": 5, "real_batch": 4, "pool": 1}
    with pytest.raises(_Killed):
        go("frepo", progress=killed_at(4), **small)
    kept = (tmp_path / "c" / UNFINISHED).read_bytes()
    for method, seed, settings in (("random", 0, {}), ("frepo", 1, small)):
        with pytest.raises(BadConfig, match="of another run that is unfinished"):
            go(method, seed, **settings)
        assert (tmp_path / "c" / UNFINISHED).read_bytes() == kept
    assert len(go("frepo", **small)) == 4
    assert not (tmp_path / "c" / UNFINISHED).exists()
