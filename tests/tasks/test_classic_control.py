"""Batched classic control beside Gymnasium's own environments, one by one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.make import make_task
from rlcondense.tasks.base import SPLITS
from rlcondense.tasks.classic_control import SYSTEMS, ClassicControlTask, ClassicControlVectorEnv
from rlcondense.tasks.gymnasium import GymnasiumTask, GymnasiumVectorEnv

TASKS = sorted(id_ for id_ in catalogue.entries("tasks") if id_.startswith("classic/"))
Array = np.ndarray[Any, Any]


def _both(
    id_: str, split: str, num_envs: int
) -> tuple[ClassicControlVectorEnv, GymnasiumVectorEnv]:
    """A task's arrays, and the environments of Gymnasium that they stand for."""
    ours = make_task(id_)
    assert isinstance(ours, ClassicControlTask)
    theirs = GymnasiumTask(id_, ours.env, ours.physics)
    beside = theirs.make_vec(split, num_envs, seed=3)
    assert isinstance(beside, GymnasiumVectorEnv)
    return ours.make_vec(split, num_envs, seed=3), beside


def _state_of(env: GymnasiumVectorEnv) -> Array:
    return np.array([np.asarray(one.unwrapped.state, np.float64) for one in env._envs]).T


def test_every_system_is_a_task_with_a_variant_of_other_physics() -> None:
    made = [make_task(id_) for id_ in TASKS]
    assert all(isinstance(task, ClassicControlTask) for task in made)
    for env in SYSTEMS:
        assert {bool(task.physics) for task in made if task.env == env} == {False, True}  # type: ignore[attr-defined]


@pytest.mark.parametrize("id_", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_arrays_do_what_gymnasiums_environments_do(id_: str, split: str) -> None:
    ours, theirs = _both(id_, split, 5)
    (shown, infos), (expected, others) = ours.reset(), theirs.reset()
    assert (shown == expected).all()
    assert (infos["level_seed"] == others["level_seed"]).all()
    assert (ours._state == _state_of(theirs)).all()
    ends = 0
    ours.action_space.seed(0)
    for _ in range(520):
        # A pole magnifies differences of the last bit: each step is compared from the same state.
        ours._state = _state_of(theirs)
        actions = ours.action_space.sample()
        shown, rewards, terminations, truncations, infos = ours.step(actions)
        expected, paid, ended, cut, others = theirs.step(actions)
        assert ours._state == pytest.approx(_state_of(theirs), rel=1e-12, abs=1e-12)
        assert shown == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert infos["final_obs"] == pytest.approx(others["final_obs"], rel=1e-6, abs=1e-6)
        assert rewards == pytest.approx(paid, rel=1e-6)
        assert (terminations == ended).all()
        assert (truncations == cut).all()
        assert (infos["level_seed"] == others["level_seed"]).all()
        ends += int((ended | cut).sum())
    assert ends >= 5


@pytest.mark.parametrize("id_", ["cartpole", "mountain-car", "pendulum"])
def test_whole_episodes_agree_to_the_last_bit_where_the_sums_are_the_same(id_: str) -> None:
    ours, theirs = _both(id_, "seen", 3)
    ours.reset()
    theirs.reset()
    ours.action_space.seed(0)
    for _ in range(210):
        actions = ours.action_space.sample()
        assert (ours.step(actions)[0] == theirs.step(actions)[0]).all()


@pytest.mark.parametrize("env_id", SYSTEMS)
def test_a_level_is_the_seed_of_gymnasiums_reset(env_id: str) -> None:
    task = ClassicControlTask("tests/one-v0", env_id)
    env = gymnasium.make(env_id)
    for split in SPLITS:
        observations, infos = task.make_vec(split, 20, seed=1).reset()
        for observation, level in zip(observations, infos["level_seed"], strict=True):
            assert (env.reset(seed=int(level))[0] == observation).all()


def test_levels_depend_on_the_seed_and_the_environments_index_alone() -> None:
    def levels(num_envs: int, action: int) -> Array:
        env = make_task("cartpole").make_vec("heldout", num_envs, seed=5)
        played: list[list[int]] = [[], []]
        _, infos = env.reset()
        while min(map(len, played)) < 4:
            before = infos["level_seed"]
            _, _, ended, _, infos = env.step(np.full(num_envs, action))
            for i in np.flatnonzero(ended[:2]):
                played[i].append(int(before[i]))
        return np.array([p[:4] for p in played])

    assert (levels(2, 0) == levels(50, 1)).all()


def test_levels_are_drawn_evenly() -> None:
    task = ClassicControlTask("tests/few-v0", "CartPole-v1", seen=(7, 4), heldout=(20, 4))
    _, infos = task.make_vec("seen", 4000, seed=0).reset()
    values, counts = np.unique(infos["level_seed"], return_counts=True)
    assert values.tolist() == [7, 8, 9, 10]
    assert counts.min() > 900


def test_reset_goes_on_to_new_levels_and_a_seed_starts_over() -> None:
    env = make_task("pendulum").make_vec("heldout", 8, seed=1)
    first, infos = env.reset()
    env.step(env.action_space.sample())
    _, later = env.reset()
    assert (later["level_seed"] != infos["level_seed"]).any()
    again, infos_again = env.reset(seed=1)
    assert (again == first).all()
    assert (infos_again["level_seed"] == infos["level_seed"]).all()


def test_what_a_step_gave_outlives_the_next_one() -> None:
    env = make_task("cartpole").make_vec("seen", 4, seed=0, copy=False)
    env.reset()
    given = env.step(np.zeros(4, np.int64))
    kept = [given[0].copy(), given[4]["level_seed"].copy(), given[4]["final_obs"].copy()]
    for _ in range(20):
        env.step(np.zeros(4, np.int64))
    assert (given[0] == kept[0]).all()
    assert (given[4]["level_seed"] == kept[1]).all()
    assert (given[4]["final_obs"] == kept[2]).all()


def test_the_last_observation_of_an_episode_is_told() -> None:
    env = make_task("pendulum").make_vec("seen", 2, seed=0)
    env.reset()
    for _ in range(200):
        observations, _, terminations, truncations, infos = env.step(np.zeros((2, 1), np.float32))
    assert truncations.all()
    assert not terminations.any()
    assert (infos["final_obs"] != observations).any(1).all()
    observations, _, _, truncations, infos = env.step(np.zeros((2, 1), np.float32))
    assert not truncations.any()
    assert (infos["final_obs"] == observations).all()


def test_other_physics_play_otherwise_from_the_same_levels() -> None:
    usual, long = (
        make_task(name).make_vec("seen", 4, seed=0) for name in ("cartpole", "cartpole-long")
    )
    assert (usual.reset()[0] == long.reset()[0]).all()
    push = np.ones(4, np.int64)
    assert not (usual.step(push)[0] == long.step(push)[0]).all()


@pytest.mark.parametrize("id_", TASKS)
def test_gymnasium_makes_one_environment_of_either_split(id_: str) -> None:
    task = make_task(id_)
    for split in SPLITS:
        env = gymnasium.make(f"rlcondense.tasks:{id_}", split=split)
        assert env.observation_space == task.observation_space
        observation, info = env.reset(seed=0)
        assert info["level_seed"] in task.splits[split]
        again, same = env.reset(seed=0)
        assert (observation == again).all()
        assert same["level_seed"] == info["level_seed"]
        assert env.reset()[1]["level_seed"] in task.splits[split]
        env.close()  # type: ignore[no-untyped-call]


def test_one_environment_has_the_tasks_physics() -> None:
    env = gymnasium.make("rlcondense.tasks:classic/pendulum-heavy-v0")
    assert env.unwrapped.m == 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "settings", [{"g": 1.62}, {"max_episode_steps": 10}, {"sutton_barto_reward": True}]
)
def test_settings_that_nobody_would_look_at_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(
        BadConfig, match=r"'x' has no settings \(\w+\): its constants are 'physics'"
    ):
        ClassicControlTask("x", "Pendulum-v1", settings=settings)


@pytest.mark.parametrize(
    ("env", "name"),
    [("CartPole-v1", "length"), ("Acrobot-v1", "LINK_MASS_2"), ("Pendulum-v1", "m")],
)
@pytest.mark.parametrize("value", [0, -1.0, "a", np.nan])
def test_physics_that_cannot_be_are_refused(env: str, name: str, value: Any) -> None:
    with pytest.raises(BadConfig, match=f"physics of 'x': {name} must be (a number|above 0), not"):
        ClassicControlTask("x", env, {name: value})


def test_bad_requests_say_what_is_wrong() -> None:
    with pytest.raises(UnknownName, match="did you mean 'CartPole-v1'"):
        ClassicControlTask("x", "CartPole-v2")
    with pytest.raises(BadConfig, match="unexpected keyword argument 'lenght'"):
        ClassicControlTask("x", "CartPole-v1", {"lenght": 1.0})
    with pytest.raises(BadConfig, match="CartPole-v1 has no 'lenght'"):
        GymnasiumTask("x", "CartPole-v1", {"lenght": 1.0}).make_env()
    with pytest.raises(BadConfig, match=r"overlap in range\(100, 200\)"):
        ClassicControlTask("x", "CartPole-v1", heldout=(100, 200))
    with pytest.raises(BadConfig, match=r"first level and the number of levels, not range\(0, 9\)"):
        ClassicControlTask("x", "CartPole-v1", seen=range(9))  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="num_envs must be at least 1"):
        make_task("cartpole").make_vec("seen", 0, seed=0)
    with pytest.raises(BadConfig, match="must not be negative"):
        make_task("cartpole").make_vec("seen", 1, seed=-1)
    with pytest.raises(BadConfig, match="all environments take one seed"):
        make_task("cartpole").make_vec("seen", 2, seed=0).reset(seed=[0, 1])
    with pytest.raises(BadConfig, match="split must be one of"):
        make_task("cartpole").make_vec("test", 1, seed=0)


def test_more_levels_than_are_made_at_once_are_refused() -> None:
    with pytest.raises(BadConfig, match="levels of split heldout must be at most 100,000"):
        ClassicControlTask("x", "CartPole-v1", heldout=(10_000, 2_000_000_000))


@pytest.mark.parametrize("physics", [{"max_torque": 4.0}, {"max_speed": 20.0}])
def test_a_pendulum_stays_in_its_spaces(physics: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match=r"max_\w+ must be at most \d, as its space has it"):
        ClassicControlTask("x", "Pendulum-v1", physics=physics)
