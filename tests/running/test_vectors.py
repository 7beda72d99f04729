"""Runs on tasks of vectors, with discrete and with continuous actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rlcondense.errors import BadConfig
from rlcondense.make import make_learner, make_method
from rlcondense.records.store import MISSING, StoredState
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.running.plan import plan_suite
from rlcondense.running.runner import RunResult, run
from rlcondense.running.suite import suite_from
from rlcondense.submissions.content import known_here, problems

QUICK = {"updates": 250, "learning_rate": 0.005, "width": 64}


def _run(tmp_path: Path, method: str, task: str, **arguments: Any) -> RunResult:
    usual: dict[str, Any] = {"size": 150, "seeds": 1, "episodes": 10, "learner_settings": QUICK}
    return run(method, task, results=tmp_path, device="cpu", **{**usual, **arguments})


@pytest.mark.slow
def test_cartpole_is_learned_from_few_rows_and_its_records_are_plausible(tmp_path: Path) -> None:
    result = _run(tmp_path, "random-balanced", "cartpole")
    assert result.record["cell"]["learner"]["config"]["network"] == "mlp"
    returns = {
        r["cell"]["method"]["id"]: r["summary"]["heldout"]["mean"]
        for r in [result.record, *result.references]
    }
    assert returns["expert"] == 500
    assert returns["random-policy"] < 40
    assert returns["random-balanced"] > 100
    known = known_here()
    for record in [result.record, *result.references]:
        assert list(problems(record, record["cell_id"], known)) == []


@pytest.mark.slow
def test_pendulum_is_run_from_data_to_policies_that_can_be_evaluated_again(tmp_path: Path) -> None:
    result = _run(tmp_path, "random", "pendulum", keep_policies=True)
    record = result.record
    assert record["labels"] == "continuous"
    names = [r["cell"]["method"]["id"] for r in result.references]
    assert sorted(names) == [
        "expert", "full", "full-converged", "marginal-policy", "random-policy"
    ]  # fmt: skip
    known = known_here()
    assert list(problems(record, record["cell_id"], known)) == []
    folder = tmp_path / "policies" / record["cell_id"]
    again = evaluate_artifact(
        str(folder), "pendulum", episodes=10, results=tmp_path / "again", device="cpu"
    )
    assert again.record["returns"] == record["returns"]
    with pytest.raises(BadConfig, match=r"holds gaussian policies .* needs categorical ones"):
        evaluate_artifact(str(folder), "cartpole", results=tmp_path / "other", device="cpu")


@pytest.mark.slow
def test_gradients_are_matched_on_vectors(tmp_path: Path) -> None:
    for task in ("cartpole", "pendulum"):
        result = _run(
            tmp_path, "gradmatch", task, size=8, settings={"iterations": 3}, references=False
        )
        assert result.record["cell"]["method"]["config"]["network"] == "mlp"
        assert result.record["report"]["displacement"]["mean"] > 0


def test_defaults_for_frames_give_way_and_what_was_asked_for_does_not() -> None:
    assert make_method("gradmatch").config.network == "nature"
    assert make_method("gradmatch", "starpilot").config.network == "nature"
    assert make_method("gradmatch", "cartpole").config.network == "mlp"
    assert make_method("gradmatch", "cartpole", network="cnn4").config.network == "cnn4"
    assert make_method("distmatch", "starpilot").config.augmentation == "shift"
    assert make_method("distmatch", "cartpole").config.augmentation == "none"
    assert make_learner("dqn", "cartpole").config.network == "mlp"
    assert make_learner("bc", "cartpole", width=8).config.width == 8


def _nothing(ids: Iterable[str]) -> Mapping[str, StoredState]:
    return dict.fromkeys(ids, MISSING)


def test_one_suite_holds_tasks_of_frames_and_of_vectors() -> None:
    suite = suite_from(
        "s", {"tasks": ["starpilot", "cartpole"], "methods": ["gradmatch"], "sizes": [15]}
    )
    networks = {
        (p.cell.task, part["config"]["network"])
        for p in plan_suite(suite, _nothing)
        if p.cell and p.cell.method["id"] == "gradmatch"
        for part in (p.cell.method, p.cell.learner)
        if part
    }
    frames = "procgen/starpilot-easy-v0"
    assert networks == {
        (frames, "nature"), (frames, "impala-patch2"), ("classic/cartpole-v0", "mlp")
    }  # fmt: skip


def test_the_reference_rows_of_continuous_actions_have_no_soft_labels() -> None:
    suite = suite_from("s", {"tasks": ["pendulum"], "methods": ["dbc"], "sizes": [15]})
    labels = {
        p.cell.method["config"]["labels"]
        for p in plan_suite(suite, _nothing)
        if p.cell and p.cell.method["id"] in ("random", "full")
    }
    assert labels == {"hard"}
