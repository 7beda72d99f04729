"""Gymnasium's environments as tasks: a level is the seed of an environment's reset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import (
    find_highest_version,
    get_env_id,
    load_env_creator,
    parse_env_id,
)
from gymnasium.vector import VectorEnv

from rlcondense.config import check_finite
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.runtime.sources import distributions_of, file_of
from rlcondense.tasks.base import ReturnEstimate, TaskVectorEnv, split_named
from rlcondense.tasks.levels import LevelOrder, LevelTask, Step
from rlcondense.types import Array
from rlcondense.validation import channels_last, check_action_space

_CANNOT_BE_MADE = (gymnasium.error.Error, AssertionError, ImportError, TypeError, ValueError)


@dataclass(frozen=True)
class GymnasiumTask(LevelTask):
    """An environment of Gymnasium whose observations are arrays; see `TaskObservations`.

    Args:
        id: catalogue id.
        env: Gymnasium's id, such as `CartPole-v1`.
        physics: attributes of the environment to change, such as `{"length": 1.0}`.
        settings: further arguments of `gymnasium.make`.
        seen: first reset seed and number of reset seeds that training data comes from.
        heldout: first reset seed and number of reset seeds kept for evaluation.
        score_range: the constants of the normalised score.
        random_return: measured return of the uniform random policy, by split.
    """

    replays = False
    levels_are_reset_seeds = True

    id: str
    env: str
    physics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seen: tuple[int, int] = (0, 200)
    heldout: tuple[int, int] = (10_000, 10_000)
    score_range: tuple[float, float] | None = None
    random_return: Mapping[str, ReturnEstimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.env == self.id:
            raise BadConfig(f"task {self.id!r} needs an id of its own, not its environment's")
        check_finite(self.physics, f"physics of {self.id!r}")
        self.check_levels()

    @cached_property
    def code(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The environment's class, if it is in a file of the user's and no installed package."""
        maker = _maker_of(self.env)
        return () if file_of(maker) is None or distributions_of(maker) else (maker,)

    @cached_property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """The distributions that the environment's class comes from; Gymnasium is always named."""
        maker = _maker_of(self.env)
        names = sorted(distributions_of(maker))
        return tuple(name for name in names if name not in ("gymnasium", "rlcondense"))

    @cached_property
    def observation_space(self) -> gymnasium.Space[Any]:
        return self._spaces[0]

    @cached_property
    def action_space(self) -> gymnasium.Space[Any]:
        return self._spaces[1]

    @cached_property
    def _spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        env = self.make_env()
        env.close()  # type: ignore[no-untyped-call]
        return env.observation_space, env.action_space

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one Gymnasium environment with the task's physics.

        Raises:
            BadConfig: Gymnasium cannot make it, it lacks an attribute that `physics` names,
                its observations are no arrays, or its actions are neither discrete nor vectors
                of floats.
        """
        shown: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        try:
            env = gymnasium.make(self.env, disable_env_checker=True, **shown, **self.settings)
        except _CANNOT_BE_MADE as error:
            raise BadConfig(f"{self.env!r} of {self.id!r} cannot be made: {error}") from error
        for name, value in self.physics.items():
            if not hasattr(env.unwrapped, name):
                raise BadConfig(f"{self.env} has no {name!r} to change in the physics of {self.id}")
            try:
                setattr(env.unwrapped, name, value)
            except AttributeError as error:  # of a property that only shows something
                raise BadConfig(f"{name!r} of {self.env} cannot be changed: {error}") from error
        if not isinstance(env.observation_space, gymnasium.spaces.Box):
            raise BadConfig(f"{self.env} shows {env.observation_space}; only arrays are supported")
        if not env.observation_space.shape or 0 in env.observation_space.shape:
            raise BadConfig(f"{self.env} shows {env.observation_space}, which is no row of values")
        if isinstance(env.action_space, gymnasium.spaces.Discrete) and env.action_space.start != 0:
            env = FromZero(env)
        check_action_space(env.action_space, self.env)
        shown_as = TaskObservations(env)
        space = shown_as.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        if len(space.shape) == 3 and space.dtype == np.float32 and space.high.max() <= 1:
            raise BadConfig(
                f"{self.env} shows frames that go up to 1, but networks divide them by 255: show "
                "grey levels from 0 to 255"
            )
        return shown_as

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> VectorEnv[Any, Any, Any]:
        return GymnasiumVectorEnv(self, self.order(split, num_envs, seed))

    def make_one(
        self, split: str = "seen", render_mode: str | None = None
    ) -> gymnasium.Env[Any, Any]:
        split = split_named(split)
        return OneSplit(self.make_env(render_mode), self.splits[split])


def _maker_of(env: str) -> Any:
    """Return the class or function that makes an environment of Gymnasium; None if it is absent."""
    try:
        module, _, name = env.rpartition(":")  # as `gymnasium.make` takes it
        if module:
            import_module(module)
        space, name, version = parse_env_id(name)
        if version is None:
            version = find_highest_version(space, name)
        maker: Any = gymnasium.spec(get_env_id(space, name, version)).entry_point
        maker = load_env_creator(maker) if isinstance(maker, str) else maker
        maker = getattr(maker, "func", maker)  # of a partial
        return maker if hasattr(maker, "__qualname__") else type(maker)
    except Exception:  # whatever the import of a stranger's module raises; making it says so
        return None


class TaskObservations(gymnasium.ObservationWrapper[Array, Any, Any]):
    """Observations in a task's format: frames of bytes, channel-first, or float32.

    A frame whose last side is the shortest is taken to be channel-last.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self._channels_last = channels_last(space.shape)
        frames = space.dtype == np.uint8 and len(space.shape) == 3
        self._dtype = np.uint8 if frames else np.float32
        low, high = self.observation(space.low), self.observation(space.high)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=low.dtype.type)

    def observation(self, observation: Array) -> Array:
        """Return the observation in the task's type and axis order."""
        shown = np.moveaxis(observation, 2, 0) if self._channels_last else observation
        return np.asarray(shown, self._dtype)


class FromZero(gymnasium.ActionWrapper[Array, Any, Any]):
    """Action wrapper that numbers discrete actions from 0, whatever the environment's own start."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.action_space
        assert isinstance(space, gymnasium.spaces.Discrete)
        self._start = space.start
        self.action_space = gymnasium.spaces.Discrete(space.n)

    def action(self, action: Any) -> Any:
        """Return the action in the environment's own numbering."""
        return action + self._start


class GymnasiumVectorEnv(TaskVectorEnv):
    """Environments stepped one by one that reset in the step in which an episode ends.

    `infos["level_seed"]` `(N,)` names the current levels, and `infos["final_obs"]`
    `(N, *observation)` are the observations before any environment was reset.

    Args:
        task: makes each environment.
        order: the sequence of levels.
    """

    def __init__(self, task: GymnasiumTask, order: LevelOrder) -> None:
        self._envs: list[gymnasium.Env[Any, Any]] = []  # `close` also frees a partly built list
        super().__init__(task, order.num_envs)
        self._order = order
        self._envs += (task.make_env() for _ in range(self.num_envs))

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes on the first levels of `seed`, or on the next levels if it is None."""
        self._order = self._order.reseeded(seed)
        self._levels = np.zeros(self.num_envs, np.int64)
        every = np.arange(self.num_envs)
        return self._start(every), {"level_seed": self._levels.copy()}

    def _start(self, which: npt.NDArray[np.int64]) -> Array:
        self._levels[which] = self._order.next(which)
        shown = [self._envs[i].reset(seed=int(self._levels[i]))[0] for i in which]
        return np.stack(shown)

    def step(self, actions: Array) -> Step:
        """Apply `(N, ...)` actions; the class describes the step in which an episode ends."""
        steps = [env.step(action) for env, action in zip(self._envs, actions, strict=True)]
        last = np.stack([step[0] for step in steps])
        rewards = np.array([_number(step[1]) for step in steps], np.float32)
        terminations = np.array([step[2] for step in steps], np.bool_)
        truncations = np.array([step[3] for step in steps], np.bool_)
        observations = last.copy()
        if len(ended := np.flatnonzero(terminations | truncations)):
            observations[ended] = self._start(ended)
        infos = {"level_seed": self._levels.copy(), "final_obs": last}
        return observations, rewards, terminations, truncations, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()  # type: ignore[no-untyped-call]


def _number(reward: Any) -> float:
    """Return a reward as a number; an array of one element counts as one."""
    try:
        return float(np.asarray(reward).item())
    except (TypeError, ValueError):
        raise CorruptArtifact(f"a reward is {reward!r:.80}, not one number") from None


class OneSplit(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Wrapper whose episodes start from the reset seeds of one split."""

    def __init__(self, env: gymnasium.Env[Any, Any], levels: range) -> None:
        super().__init__(env)
        self._levels = levels
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        level = self._levels[int(self._rng.integers(len(self._levels)))]
        observation, info = self.env.reset(seed=level, options=options)
        return observation, {**info, "level_seed": level}
