"""Tasks padded to one shape, so that one policy can play several of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig
from rlcondense.policies import num_actions_of
from rlcondense.tasks.base import ReturnEstimate, Task, TaskVectorEnv
from rlcondense.types import Array


class PaddedTask(Task):
    """A task whose observations and actions are as long as the longest of some tasks'.

    A discrete action that the task lacks counts as its last one; of continuous actions it takes
    the first components.

    Args:
        task: the task to play.
        among: all tasks that the policy plays.

    Raises:
        BadConfig: their actions are of different kinds, or their observations no vectors.
    """

    def __init__(self, task: Task, among: Sequence[Task]) -> None:
        self._task = task
        self.id, self.score_range = task.id, task.score_range
        self.random_return: Mapping[str, ReturnEstimate] = task.random_return
        self._observation_space = Box(-np.inf, np.inf, (max(map(_features, among)),), np.float32)
        self._action_space = _widest([other.action_space for other in among])

    @property
    def observation_space(self) -> Space[Any]:
        return self._observation_space

    @property
    def action_space(self) -> Space[Any]:
        return self._action_space

    @property
    def splits(self) -> Mapping[str, range]:
        return self._task.splits

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> VectorEnv[Any, Any, Any]:
        env = self._task.make_vec(split, num_envs, seed=seed, num_threads=num_threads, copy=copy)
        return _PaddedEnv(env, self)

    def padded(self, data: CondensedDataset) -> CondensedDataset:
        """Pad a condensed set of the task to the shape that all the tasks share."""
        actions = data.actions
        if isinstance(self._action_space, Box):
            actions = _lengthened(actions.reshape(len(data), -1), self._action_space.shape[0])
        return CondensedDataset(
            observations=self.shown(data.observations),
            actions=actions,
            weights=data.weights / data.weights.sum(),  # every task has the same total weight
            label_kind=data.label_kind,
        )

    def shown(self, observations: Array) -> npt.NDArray[np.float32]:
        """Pad observations `(B, ...)` to `(B, length)`."""
        assert self._observation_space.shape is not None
        return _lengthened(observations, self._observation_space.shape[0])

    def taken(self, actions: Array) -> Array:
        """Convert actions of the padded space to the task's own."""
        own = self._task.action_space
        if isinstance(own, Box):
            cut = actions[:, : math.prod(own.shape)].reshape(len(actions), *own.shape)
            return np.asarray(cut.clip(own.low, own.high))
        return np.minimum(actions, num_actions_of(own) - 1)


class _PaddedEnv(TaskVectorEnv):
    def __init__(self, env: VectorEnv[Any, Any, Any], task: PaddedTask) -> None:
        super().__init__(task, env.num_envs)
        self._env, self._padding = env, task

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observations, infos = self._env.reset(seed=seed, options=options)
        return self._padding.shown(observations), infos

    def step(self, actions: Array) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, *rest = self._env.step(self._padding.taken(actions))
        return self._padding.shown(observations), *rest

    def close_extras(self, **kwargs: Any) -> None:
        self._env.close()


def _features(task: Task) -> int:
    shape = task.observation_space.shape
    if shape is None or len(shape) != 1:
        raise BadConfig(f"only vectors are padded, task {task.id!r} shows {shape}")
    return shape[0]


def _widest(spaces: Sequence[Space[Any]]) -> Space[Any]:
    if all(isinstance(space, Discrete) for space in spaces):
        return Discrete(max(num_actions_of(space) for space in spaces))
    if not all(isinstance(space, Box) for space in spaces):
        raise BadConfig("tasks with discrete and with continuous actions share no policy")
    widest = max(math.prod(space.shape or ()) for space in spaces)
    return Box(-np.inf, np.inf, (widest,), np.float32)


def _lengthened(rows: Array, length: int) -> npt.NDArray[np.float32]:
    """Flatten rows `(B, ...)` and fill them up with zeros to `(B, length)`."""
    flat = rows.reshape(len(rows), -1)
    return np.pad(flat, ((0, 0), (0, length - flat.shape[1]))).astype(np.float32)
