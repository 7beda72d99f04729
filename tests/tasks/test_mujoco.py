"""Robots stepped together beside Gymnasium's own environments, one by one."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.envs.registration import EnvSpec

from rlcondense import catalogue
from rlcondense.checks import check_task
from rlcondense.cli import main
from rlcondense.errors import BadConfig, MissingExtra, UnknownName
from rlcondense.evaluation import evaluate
from rlcondense.make import make_task
from rlcondense.policies import random_policies
from rlcondense.protocol import Protocol
from rlcondense.submissions.content import known_here
from rlcondense.tasks.base import SPLITS
from rlcondense.tasks.mujoco import ROBOTS, STEPS, MujocoTask, MujocoVectorEnv

TASKS = sorted(id_ for id_ in catalogue.entries("tasks") if id_.startswith("mujoco/"))
Array = np.ndarray[Any, Any]


@pytest.fixture
def _installed() -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")


def _made(name: str, split: str = "seen", seed: int = 3, **settings: Any) -> MujocoVectorEnv:
    task = make_task(name)
    assert isinstance(task, MujocoTask)
    return task.make_vec(split, 4, seed=seed, **settings)


def test_every_robot_is_a_task_with_a_variant_of_other_physics() -> None:
    made = [make_task(id_) for id_ in TASKS]
    for env in ROBOTS:
        assert {bool(task.masses) for task in made if task.env == env} == {False, True}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("id_", TASKS)
def test_robots_do_what_gymnasiums_environments_do(id_: str) -> None:
    task, ours = make_task(id_), _made(id_, num_threads=2)
    assert isinstance(task, MujocoTask)
    theirs = [task.make_env() for _ in range(4)]
    assert theirs[0].unwrapped.action_space == task.action_space
    shown, infos = ours.reset()
    levels = [int(level) for level in infos["level_seed"]]
    for env, level, look in zip(theirs, levels, shown, strict=True):
        assert (env.reset(seed=level)[0] == look).all()
    ends = 0
    ours.action_space.seed(0)
    for _ in range(120):
        actions = ours.action_space.sample()
        shown, rewards, terminations, truncations, infos = ours.step(actions)
        done = [env.step(action) for env, action in zip(theirs, actions, strict=True)]
        assert (infos["final_obs"] == np.stack([step[0] for step in done])).all()
        assert rewards == pytest.approx(np.array([step[1] for step in done]), rel=1e-5, abs=1e-6)
        assert terminations.tolist() == [step[2] for step in done]
        assert truncations.tolist() == [step[3] for step in done]
        for i in np.flatnonzero(terminations | truncations):
            assert (theirs[i].reset(seed=int(infos["level_seed"][i]))[0] == shown[i]).all()
            ends += 1
    assert (ends > 0) == ("cheetah" not in id_)


@pytest.mark.usefixtures("_installed")
def test_an_episode_is_cut_where_gymnasium_cuts_it() -> None:
    env = _made("half-cheetah")
    env.reset()
    still = np.zeros((4, 6), np.float32)
    for step in range(1, STEPS + 1):
        _, _, terminations, truncations, _ = env.step(still)
        assert not terminations.any()
        assert (truncations == (step == STEPS)).all()
    assert {gymnasium.spec(name).max_episode_steps for name in ROBOTS} == {STEPS}


@pytest.mark.usefixtures("_installed")
def test_a_heavier_torso_moves_otherwise_from_the_same_levels() -> None:
    usual, heavy = (_made(name) for name in ("hopper", "hopper-heavy"))
    assert (usual.reset()[0] == heavy.reset()[0]).all()
    push = np.ones((4, 3), np.float32)
    assert not (usual.step(push)[0] == heavy.step(push)[0]).any(1).all()
    masses = [env._one.model.body("torso").mass[0] for env in (usual, heavy)]
    assert masses[1] == pytest.approx(1.5 * masses[0])


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("name", ["ant", "hopper"])
def test_a_kept_state_goes_on_as_it_would_have(name: str) -> None:
    env, other = _made(name), _made(name, seed=8)
    env.action_space.seed(0)
    env.reset()
    other.reset()
    for _ in range(15):
        shown = env.step(env.action_space.sample())[0]
    assert (other.set_state(env.get_state()) == shown).all()
    going = np.ones(4, np.bool_)
    for _ in range(15):
        actions = env.action_space.sample()
        ours, theirs = env.step(actions), other.step(actions)
        assert (ours[4]["final_obs"][going] == theirs[4]["final_obs"][going]).all()
        assert (ours[1][going] == theirs[1][going]).all()
        going &= ~(ours[2] | ours[3])
    assert going.any()


@pytest.mark.usefixtures("_installed")
def test_a_robot_that_rested_moves_again_from_a_kept_state() -> None:
    env, push = _made("hopper"), np.ones((4, 3), np.float32)
    shown, _ = env.reset()
    kept, moved = env.get_state(), [env.step(push)[0] for _ in range(2)]
    env.rest(np.array([True, True, False, False]))
    assert (env.set_state(kept) == shown).all()
    assert all((env.step(push)[0] == expected).all() for expected in moved)


@pytest.mark.usefixtures("_installed")
def test_hopper_passes_the_checks_of_tasks() -> None:
    assert {result.status for result in check_task("hopper")} == {"passed"}


@pytest.mark.usefixtures("_installed")
def test_gymnasium_makes_one_environment_of_either_split() -> None:
    task = make_task("hopper")
    for split in SPLITS:
        env = gymnasium.make("rlcondense.tasks:mujoco/hopper-v0", split=split)
        assert env.observation_space == task.observation_space
        shown, info = env.reset(seed=0)
        assert env.observation_space.contains(shown)
        assert info["level_seed"] in task.splits[split]
        assert (env.reset(seed=0)[0] == shown).all()
        assert env.spec is not None
        again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
        assert (again.reset(seed=0)[0] == shown).all()


def test_without_mujoco_tasks_are_known_but_not_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    task = make_task("hopper")
    assert task.observation_space.shape == (11,)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[mujoco\]'"):
        task.make_vec("seen", 1, seed=0)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[mujoco\]'"):
        gymnasium.make("rlcondense.tasks:mujoco/hopper-v0")


def test_levels_of_a_record_are_known_without_playing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    known, protocol = known_here(), Protocol(3, 2, 4)
    task = make_task("cartpole")
    played = evaluate(random_policies(task.action_space, [0]), task, "heldout", protocol=protocol)
    assert known.levels(task.id, "heldout", protocol) == played.level_seeds[0].tolist()
    # Both have the same levels, so their order is the same.
    assert known.levels("mujoco/hopper-v0", "heldout", protocol) == played.level_seeds[0].tolist()


def test_the_list_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed() -> str:
        done = CliRunner().invoke(main, ["list", "tasks"])
        assert done.exit_code == 0
        return done.stdout

    monkeypatch.setattr("rlcondense.cli.show.find_spec", lambda name: None)
    assert "! mujoco is not installed (pip install 'rlcondense[mujoco]')" in listed()
    assert "mujoco/hopper-v0" in listed()
    monkeypatch.setattr("rlcondense.cli.show.find_spec", lambda name: object())
    assert "not installed" not in listed()


def test_bad_requests_say_what_is_wrong() -> None:
    with pytest.raises(UnknownName, match="did you mean 'Hopper-v5'"):
        MujocoTask("x", "Hopper-v4")
    with pytest.raises(BadConfig, match="mass of 'torso' in 'x' must be above 0"):
        MujocoTask("x", "Hopper-v5", {"torso": 0.0})
    for mass in ("2", np.nan, np.inf):
        with pytest.raises(BadConfig, match="masses of 'x': torso must be a number, not"):
            MujocoTask("x", "Hopper-v5", {"torso": mass})  # type: ignore[dict-item]
    with pytest.raises(BadConfig, match=r"overlap in range\(100, 200\)"):
        MujocoTask("x", "Hopper-v5", heldout=(100, 200))


@pytest.mark.usefixtures("_installed")
def test_a_body_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"Hopper-v5 has no body 'arm' \(bodies: world, torso"):
        MujocoTask("x", "Hopper-v5", {"arm": 2.0}).make_vec("seen", 1, seed=0)
