from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Box, Discrete

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig
from rlcondense.make import make_method, make_task
from rlcondense.running.multitask import merged, multitask
from rlcondense.running.padded import PaddedTask
from rlcondense.submissions.verification import verify
from tests.small_tasks import Reach

SMALL = {
    "population": 4, "generations": 2, "width": 8, "inner_updates": 5, "inner_rate": 0.02,
    "sigma": 0.3, "episodes": 1, "horizon": 20,
}  # fmt: skip
CARTPOLE, ACROBOT, PENDULUM, CARS = (
    make_task(name) for name in ("cartpole", "acrobot", "pendulum", "mountain-car")
)


def test_a_padded_task_is_the_task_with_zeros_behind() -> None:
    padded = PaddedTask(CARTPOLE, [CARTPOLE, ACROBOT])
    assert padded.observation_space.shape == (6,)
    assert padded.action_space == Discrete(3)
    ours, theirs = (task.make_vec("seen", 4, seed=2) for task in (padded, CARTPOLE))
    shown, expected = ours.reset(seed=2)[0], theirs.reset(seed=2)[0]
    for _ in range(60):
        assert np.array_equal(shown[:, :4], expected)
        assert not shown[:, 4:].any()
        actions = np.array([0, 1, 2, 2])  # cart-pole has no 2: it pushes right
        shown, *rest, infos = ours.step(actions)
        expected, *others, same = theirs.step(np.minimum(actions, 1))
        assert all(np.array_equal(a, b) for a, b in zip(rest, others, strict=True))
        assert np.array_equal(infos["level_seed"], same["level_seed"])


def test_continuous_actions_are_padded_and_cut() -> None:
    padded = PaddedTask(PENDULUM, [PENDULUM, Reach()])
    assert isinstance(padded.action_space, Box)
    taken = padded.taken(np.array([[9.0, 1.0], [-0.5, 1.0]], np.float32))
    assert taken.tolist() == [[2.0], [-0.5]]
    data = CondensedDataset(
        observations=np.ones((2, 3), np.float32),
        actions=np.ones((2, 1), np.float32),
        weights=np.ones(2, np.float32),
        label_kind="continuous",
    )
    assert padded.padded(data).actions.tolist() == [[1, 0], [1, 0]]


def test_soft_labels_and_tasks_without_a_range_are_refused(tmp_path: Path) -> None:
    tasks, settings = ["cartpole", "mountain-car"], {"labels": "soft"}
    with pytest.raises(BadConfig, match="soft labels are not padded"):
        multitask(tasks, "random", size=4, settings=settings, results=tmp_path)
    made_by = "rlcondense.tasks.classic_control:ClassicControlTask"
    rlc.register("tasks", "tests/no-range-v0", made_by, env="CartPole-v1")
    with pytest.raises(BadConfig, match="no score range"):
        multitask(["tests/no-range-v0", "acrobot"], settings=SMALL, results=tmp_path)


@pytest.mark.slow
def test_records_of_several_tasks_can_be_published(tmp_path: Path) -> None:
    result = multitask(
        ["cartpole", "acrobot"], settings=SMALL, seeds=2, episodes=2, results=tmp_path,
        learner_settings={"width": 8, "updates": 2}, size=4, device="cpu",
    )  # fmt: skip
    assert verify(tmp_path).findings == ()
    printed = result.to_json()["records"]
    stored = {path.stem for path in (tmp_path / "records").glob("*.json")}
    assert {record["cell_id"] for record in printed} == stored


def test_every_task_counts_the_same_in_a_merged_set() -> None:
    parts = [
        PaddedTask(task, [CARTPOLE, ACROBOT]).padded(
            make_method("hades-r", **SMALL).condense(None, task=task, budget=size)
        )
        for task, size in ((CARTPOLE, 2), (ACROBOT, 6))
    ]
    data = merged(parts)
    assert data.observations.shape == (8, 6)
    assert data.actions.tolist() == [0, 1, 0, 0, 1, 1, 2, 2]
    assert data.weights[:2].sum() == pytest.approx(data.weights[2:].sum())


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (["cartpole"], "two tasks or more"),
        (["cartpole", "classic/cartpole-v0"], "each once"),
        (["cartpole", "pendulum"], "share no policy"),
        (["cartpole", "digits"], "only vectors are padded"),
    ],
)
def test_tasks_that_share_no_policy_are_refused(tasks: list[str], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        multitask(tasks, settings=SMALL)


def test_sets_for_one_network_each_are_refused() -> None:
    with pytest.raises(BadConfig, match="one network each"):
        multitask(["cartpole", "acrobot"], "hades-f", settings=SMALL)
    with pytest.raises(BadConfig, match="one network each"):
        multitask(
            ["cartpole", "acrobot"], "hades-f", settings={**SMALL, "student": "learner"},
            learner_settings={"batch_size": None, "updates": 3, "learning_rate": 0.02},
        )  # fmt: skip
    with pytest.raises(BadConfig, match="tasks share no scaling"):
        multitask(["cartpole", "acrobot"], settings={**SMALL, "standardise": True})
    with pytest.raises(BadConfig, match="tasks share no initial network"):
        multitask(["cartpole", "acrobot"], settings=SMALL, learner_settings={"init": "dataset"})


def test_rows_that_are_held_back_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="sets with held_back of their own task"):
        multitask(["cartpole", "acrobot"], "full-converged", results=tmp_path)


@pytest.mark.slow
def test_hard_labels_with_the_datas_probabilities_beside_them_are_padded(tmp_path: Path) -> None:
    quick = {"network": "mlp", "width": 8, "updates": 2}
    found = multitask(
        ["cartpole", "acrobot"], "random", size=4, seeds=1, episodes=1, learner_settings=quick,
        results=tmp_path,
    )  # fmt: skip
    assert found.sizes["all"] == 8
    assert found.unjudged == "one set: not judged"


@pytest.mark.slow
def test_the_command_compares_all_with_each(tmp_path: Path) -> None:
    pairs = [part for k, v in SMALL.items() for part in ("--set", f"{k}={v}")]
    arguments = [
        "multitask", "--task", "cartpole", "--task", "mountain-car", "--size", "4", "--seeds", "2",
        "--episodes", "2", "--results", str(tmp_path), *pairs,
    ]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "learned from" in done.stdout
    assert "random-policy" in done.stdout
    records = {file: file.stat().st_mtime_ns for file in (tmp_path / "records").iterdir()}
    assert len(records) == 2 * 4  # tasks x (all, either alone, random-policy)
    methods = [json.loads(file.read_text())["cell"]["method"] for file in records]
    outputs = {m["config"]["outputs"] for m in methods if m["id"] == "condensed:multitask"}
    assert outputs == {3}  # mountain-car's actions, of which cart-pole takes two
    again = CliRunner().invoke(main, [*arguments, "--json"])
    assert records == {file: file.stat().st_mtime_ns for file in (tmp_path / "records").iterdir()}
    found = json.loads(again.stdout)
    assert found["tasks"] == [CARTPOLE.id, CARS.id]
    assert found["sizes"] == {"all": 8, CARTPOLE.id: 4, CARS.id: 4}
    for name in ("all", CARTPOLE.id, CARS.id, "random-policy"):
        assert np.shape(found["returns"][name][CARTPOLE.id]) == (2, 2)
    # The normalised score of the random policy is nothing, by what 0 means.
    assert np.mean(found["normalised"]["random-policy"]) == pytest.approx(0, abs=1e-9)
    apart = np.subtract(found["normalised"]["all"], found["normalised"][CARS.id])
    assert found["gains"][CARS.id]["estimate"] == pytest.approx(apart.mean(), abs=1e-6)
    assert f"all - {CARS.id}: " in done.stdout
    assert "? one set: not judged." in done.stdout
    assert found["unjudged"] == "one set: not judged"
    kept = list((tmp_path / "condensed").iterdir())
    assert len(kept) == 2
