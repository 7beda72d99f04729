"""Any environment of Gymnasium as a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from rlcondense.errors import BadConfig
from rlcondense.tasks.gymnasium import GymnasiumTask, make_one

DRIFT = "tests/Drift-v0"


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


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register(DRIFT, Drift, max_episode_steps=15)
    yield
    del gymnasium.registry[DRIFT]


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


def test_what_is_no_array_and_what_cannot_be_changed_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"FrozenLake-v1 shows Discrete.16.; only arrays"):
        make_one("FrozenLake-v1")
    with pytest.raises(BadConfig, match="has no 'current' to change"):
        GymnasiumTask("tests/drift-v0", DRIFT, {"current": 1.0}).make_env()
