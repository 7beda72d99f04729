"""Any environment of Gymnasium as a task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete

import rlcondense as rlc
from rlcondense import catalogue
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.evaluation import evaluate
from rlcondense.make import make_task
from rlcondense.policies import random_policies
from rlcondense.protocol import protocol_of
from rlcondense.records.schema import what_is_wrong
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.tasks.gymnasium import GymnasiumTask, _maker_of
from tests.small_tasks import Reach

DRIFT, CAMERA = "tests/Drift-v0", "tests/Camera-v0"


class Drift(gymnasium.Env[Any, Any]):
    """A point that an action pushes; it shows float64, as MuJoCo's environments do."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,), np.float32)
    wind = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action: Any) -> Any:
        self.state = self.state + np.array([action[0] + self.wind, 0.1])
        return self.state.copy(), float(action[0]), bool(abs(self.state[0]) > 3), False, {}


class Camera(gymnasium.Env[Any, Any]):
    """Frames whose pixels say where they are: row, column and 100, channels last."""

    observation_space = Box(0, 255, (5, 7, 3), np.uint8)
    action_space = Discrete(2)
    frame = np.stack([*np.indices((5, 7)), np.full((5, 7), 100)], 2).astype(np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.frame, {}

    def step(self, action: Any) -> Any:
        return self.frame, 0.0, False, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register(DRIFT, Drift, max_episode_steps=15)
    gymnasium.register(CAMERA, Camera)
    yield
    del gymnasium.registry[DRIFT], gymnasium.registry[CAMERA]


def test_levels_are_reset_seeds_and_episodes_start_over_in_the_same_step() -> None:
    task = GymnasiumTask("tests/drift-v0", DRIFT, {"wind": 0.5})
    assert task.observation_space == Box(-np.inf, np.inf, (2,), np.float32)
    env = task.make_vec("heldout", 3, seed=0)
    shown, infos = env.reset()
    assert shown.dtype == np.float32
    for first, level in zip(shown, infos["level_seed"], strict=True):
        assert first == pytest.approx(Drift().reset(seed=int(level))[0], rel=1e-6)
    ends = 0
    for _ in range(40):
        before, levels = shown, infos["level_seed"]
        shown, rewards, terminations, truncations, infos = env.step(np.ones((3, 1), np.float32))
        assert infos["final_obs"] == pytest.approx(before + np.float32([1.5, 0.1]), rel=1e-5)
        assert (rewards == 1).all()
        ended = terminations | truncations
        assert (infos["level_seed"][~ended] == levels[~ended]).all()
        assert (shown[~ended] == infos["final_obs"][~ended]).all()
        for i in np.flatnonzero(ended):
            assert shown[i] == pytest.approx(
                Drift().reset(seed=int(infos["level_seed"][i]))[0], rel=1e-6
            )
        ends += int(ended.sum())
    assert ends > 5
    env.close()  # type: ignore[no-untyped-call]


def test_the_clock_cuts_an_episode() -> None:
    env = GymnasiumTask("tests/drift-v0", DRIFT).make_vec("seen", 1, seed=0)
    env.reset()
    still = np.zeros((1, 1), np.float32)
    steps = [env.step(still)[2:4] for _ in range(15)]
    assert [bool(truncations[0]) for _, truncations in steps] == [False] * 14 + [True]


def test_what_is_no_array_and_what_cannot_be_changed_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(BadConfig, match=r"FrozenLake-v1 shows Discrete.16.; only arrays"):
        GymnasiumTask("tests/lake-v0", "FrozenLake-v1").make_one()
    for shape in ((), (0,), (3, 0)):
        monkeypatch.setattr(Drift, "observation_space", Box(0, 1, shape))
        with pytest.raises(BadConfig, match="which is no row of values"):
            GymnasiumTask("tests/drift-v0", DRIFT).make_env()
    monkeypatch.undo()
    with pytest.raises(BadConfig, match=r"'np_random_seed' of .* cannot be changed"):
        GymnasiumTask("tests/drift-v0", DRIFT, {"np_random_seed": 1.0}).make_env()
    monkeypatch.setattr(Drift, "action_space", Box(-1, 1, ()))
    with pytest.raises(BadConfig, match="are single numbers: make them vectors of one"):
        GymnasiumTask("tests/drift-v0", DRIFT).make_env()
    monkeypatch.undo()
    with pytest.raises(BadConfig, match="has no 'current' to change"):
        GymnasiumTask("tests/drift-v0", DRIFT, {"current": 1.0}).make_env()


@pytest.mark.parametrize("env", ["CartPole-v1", "CartPole", "tests.small_tasks:CartPole-v1"])
def test_the_code_of_an_environment_is_found_as_gymnasium_finds_it(env: str) -> None:
    assert _maker_of(env).__name__ == "CartPoleEnv"


class Jerk(Drift):
    """Pays for how little an action differs from the one before, of which it keeps no copy."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.last = np.zeros(1, np.float32)
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        shown, _, *rest = super().step(action)
        paid, self.last = -float(abs(action - self.last).sum()), action
        return shown, paid, *rest


class Doubling(Drift):
    """Changes the action that it is given."""

    def step(self, action: Any) -> Any:
        action *= 2
        return super().step(action)


def test_an_action_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, made in (("tests/Jerk-v0", Jerk), ("tests/Doubling-v0", Doubling)):
        spec = EnvSpec(name, made, max_episode_steps=9)
        monkeypatch.setitem(gymnasium.registry, name, spec)
    [played] = play("tests/Jerk-v0").returns.reshape(1, -1)
    assert (played < -2).all()  # nine random pushes in -1..1 differ by 2/3 on average
    used = np.zeros(1, np.float32)

    def policy(observation: Any) -> Any:
        used[0] = np.tanh(observation[1])
        return used

    assert len(np.unique(rlc.collect("classic/pendulum-v0", policy, 1).actions)) > 10
    catalogue.register(
        "tasks", "tests/doubling-v0", "rlcondense.tasks.gymnasium:GymnasiumTask",
        env="tests/Doubling-v0",
    )  # fmt: skip
    half = np.full(1, 0.5, np.float32)
    assert (rlc.collect("tests/doubling-v0", lambda observation: half, 1).actions == 0.5).all()
    assert half == 0.5


def test_frames_are_shown_channel_first() -> None:
    task = GymnasiumTask("tests/camera-v0", CAMERA)
    assert task.observation_space == Box(0, 255, (3, 5, 7), np.uint8)
    one, many = task.make_env(), task.make_vec("seen", 2, seed=0)
    shown = [one.reset()[0], one.step(0)[0], *many.reset()[0], *many.step(np.zeros(2, int))[0]]
    for frame in shown:
        assert task.observation_space.contains(frame)
        assert (frame[0, :, 0] == range(5)).all()
        assert (frame[1, 0] == range(7)).all()
        assert (frame[2] == 100).all()


def test_frames_that_are_channel_first_already_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "observation_space", Box(0, 255, (3, 5, 7), np.uint8))
    monkeypatch.setattr(Camera, "frame", Camera.frame.transpose(2, 0, 1))
    frame, _ = GymnasiumTask("tests/camera-v0", CAMERA).make_env().reset()
    assert (frame == Camera.frame).all()


def test_whole_numbers_are_seen_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "observation_space", Box(0, 255, (5, 7, 3), np.int32))
    monkeypatch.setattr(Camera, "frame", Camera.frame.astype(np.int32))
    task = GymnasiumTask("tests/camera-v0", CAMERA)
    assert task.observation_space.dtype == np.float32
    frame, _ = task.make_env().reset()
    assert frame.dtype == np.float32


def test_bytes_that_are_no_frames_are_seen_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "observation_space", Box(0, 255, (7,), np.uint8))
    monkeypatch.setattr(Camera, "frame", np.arange(7, dtype=np.uint8))
    task = GymnasiumTask("tests/camera-v0", CAMERA)
    assert (task.observation_space.dtype, task.observation_space.shape) == (np.float32, (7,))
    frame, _ = task.make_env().reset()
    assert frame.dtype == np.float32


class Plain(Reach):
    """A task of somebody's own class, whose vector environments have no `final_obs`."""

    def __init__(self, id: str, random_return: Any) -> None:
        self.id = id


@pytest.mark.parametrize(
    ("target", "config"),
    [
        ("rlcondense.tasks.gymnasium:GymnasiumTask", {"env": DRIFT, "seen": (3, 1)}),
        ("rlcondense.tasks.gymnasium:GymnasiumTask", {"env": CAMERA, "seen": (3, 1)}),
        (f"{__name__}:Plain", {}),
    ],
)
def test_a_task_that_is_registered_later_is_an_environment(
    target: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_registered", {})
    rlc.register("tasks", "tests/one-v0", target, **config)
    try:
        made = gymnasium.make("rlcondense.tasks:tests/one-v0")
        shown, info = made.reset(seed=5)
        assert info["level_seed"] in make_task("tests/one-v0").splits["seen"]
        assert made.observation_space.contains(shown)
        assert made.spec is not None
        again = gymnasium.make(EnvSpec.from_json(made.spec.to_json()))
        assert again.observation_space == made.observation_space
        assert (again.reset(seed=5)[0] == shown).all()
        heldout = gymnasium.make("rlcondense.tasks:tests/one-v0", split="heldout")
        assert heldout.reset()[1]["level_seed"] in make_task("tests/one-v0").splits["heldout"]
    finally:
        del gymnasium.registry["tests/one-v0"]


def test_one_environment_plays_the_episodes_of_the_first() -> None:
    task = Plain("tests/plain-v0", {})
    one, many = task.make_one("seen"), task.make_vec("seen", 1, seed=0)
    _, info = one.reset(seed=2)
    drawn = int(np.random.default_rng(2).integers(2**31 - 1))
    assert info == {"level_seed": many.reset(seed=drawn)[1]["level_seed"][0]}
    away = np.float32([0.5, 0.5])
    for _ in range(70):  # episodes of 30 steps
        level = info["level_seed"]
        shown, reward, ended, cut, info = one.step(away)
        expected, rewards, _, _, infos = many.step(away[None])
        assert (shown == expected[0]).all()
        assert (reward, info["level_seed"]) == (rewards[0], level)
        if ended or cut:
            shown, info = one.reset()
            assert (shown == expected[0]).all()
            assert info["level_seed"] == infos["level_seed"][0]


def test_an_id_that_gymnasium_lacks_is_a_task_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", {})
    rlc.register("tasks", "tests/two/slashes-v0", f"{__name__}:Plain")
    assert make_task("tests/two/slashes-v0").make_one().reset(seed=0)[1]["level_seed"] < 100
    with pytest.raises(BadConfig, match="render_mode of 'tests/two/slashes-v0' must be None"):
        make_task("tests/two/slashes-v0").make_one(render_mode="human")


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ("CartPol-v1", {}, "'CartPol-v1' of 'x' cannot be made: .*Did you mean: `CartPole`"),
        ("CartPole-v1", {"foo": 1}, "unexpected keyword argument 'foo'"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps"),
        ("nowhere:CartPole-v1", {}, "No module named 'nowhere'"),
    ],
)
def test_what_gymnasium_cannot_make_is_one_clear_line(
    env: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        GymnasiumTask("x", env, settings=settings).make_vec("seen", 2, seed=0)
    assert "\n" not in str(caught.value)


def test_an_environment_that_is_not_installed_is_one_clear_line() -> None:
    def make(**kwargs: Any) -> Any:
        raise gymnasium.error.DependencyNotInstalled("Drift is not installed")

    gymnasium.registry[DRIFT].entry_point = make
    with pytest.raises(BadConfig, match="cannot be made: Drift is not installed"):
        GymnasiumTask("x", DRIFT).observation_space  # noqa: B018


@pytest.mark.parametrize("levels", [(-5, 3), (200, 0), (200, -1)])
@pytest.mark.parametrize("split", ["seen", "heldout"])
def test_levels_that_cannot_be_are_refused(levels: tuple[int, int], split: str) -> None:
    with pytest.raises(BadConfig, match=f"{split} levels of 'x' must start at 0 or above"):
        GymnasiumTask("x", DRIFT, **{split: levels})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a", np.nan, np.inf, None])
def test_physics_that_are_no_numbers_are_refused(value: Any) -> None:
    with pytest.raises(BadConfig, match=r"physics of 'x': wind must be a number, not"):
        GymnasiumTask("x", DRIFT, {"wind": value})


def pay(monkeypatch: pytest.MonkeyPatch, reward: Any) -> None:
    """Have the point's environment pay the same for every step."""
    step = Drift.step

    def paid(self: Drift, action: Any) -> Any:
        shown, _, *rest = step(self, action)
        return shown, reward, *rest

    monkeypatch.setattr(Drift, "step", paid)


def play(env: str) -> Any:
    task = GymnasiumTask("tests/played-v0", env)
    return evaluate(random_policies(task.action_space, [0]), task, protocol=protocol_of(2))


@pytest.mark.parametrize("reward", [np.nan, np.inf, np.array([np.nan])])
def test_a_reward_that_is_not_finite_ends_the_evaluation_and_is_told(
    reward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(monkeypatch, reward)
    with pytest.raises(RLCondenseError, match=r"environment 0 pays (nan|inf) for step 1 of"):
        play(DRIFT)


def test_a_reward_may_be_a_number_of_numpys_and_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    pay(monkeypatch, np.array([2.0]))
    played = play(DRIFT)
    assert (played.returns == 2 * played.lengths).all()
    pay(monkeypatch, np.zeros(2))
    with pytest.raises(CorruptArtifact, match="not one number"):
        play(DRIFT)


def test_an_episode_without_an_end_is_stopped_and_its_cell_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.rollout.MOST_STEPS", 30)
    catalogue.register(
        "tasks", "tests/camera-v0", "rlcondense.tasks.gymnasium:GymnasiumTask", env=CAMERA
    )
    result = evaluate_artifact(
        "random-policy", "tests/camera-v0", seeds=1, episodes=2, results=tmp_path, device="cpu"
    )
    assert result.record["status"] == "failed"
    assert "seen levels of tests/camera-v0: an episode has not ended after 30" in str(result)
    assert what_is_wrong(result.record) is None


def test_an_environment_refuses_an_action_that_it_has_not() -> None:
    env = gymnasium.make("rlcondense.tasks:procgen/coinrun-easy-v0")
    env.reset(seed=0)
    with pytest.raises(BadConfig, match=r"action 15 is not in Discrete\(15\)"):
        env.step(15)
    env.step(torch.tensor(3))
    env.close()


class Whitened(gymnasium.Env[Any, Any]):
    observation_space = gymnasium.spaces.Box(0, 1, (3, 8, 8), np.float32)
    action_space = gymnasium.spaces.Discrete(2)


def test_frames_that_go_up_to_one_are_refused() -> None:
    gymnasium.register("tests/Whitened-v0", Whitened)
    task = GymnasiumTask("tests/whitened-v0", env="tests/Whitened-v0")
    with pytest.raises(BadConfig, match="frames that go up to 1, but networks divide them by 255"):
        task.make_env()
