"""Rollouts of policies: each environment plays exactly its quota of episodes.

"The first N episodes to finish" favours short ones; a quota for each environment does not.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

from rlcondense.datasets.traces import MOST_ACTIONS, MOST_ENVIRONMENTS, Trace, quantise
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.policies import PolicyBatch, noise_stream, sample_actions
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.types import Array
from rlcondense.validation import EnvironmentValidator, checked_actions, owner_of

Act = Callable[[Array, Array], Array]
Observe = Callable[[Array, Array, Array], None]
# Of an episode, evaluated or recorded: four times Atari's longest, 108,000 frames in steps of four.
MOST_STEPS = 100_000


class Rollout:
    """One policy in environments of its own, from reset until every quota is played.

    Finished environments leave the policy's batch; they are still stepped, and their results are
    ignored.

    Args:
        env: same-step autoreset vector environment of E environments.
        act: maps the observations `(B, *observation)` of the environments still playing, and
            their indices `(B,)`, to actions.
        quota: number of episodes of each environment.
        seed: seed of the environments.
        observe: receives, after each step, the environments that took it, their rewards and whether
            their episodes ended.
        owners: owners of the actions and of the environments, for messages.

    Attributes:
        returns: `(E, quota)` undiscounted returns, all finite.
        lengths: `(E, quota)` steps.
        level_seeds: `(E, quota)` levels played.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        act: Act,
        quota: int,
        seed: int,
        observe: Observe | None = None,
        owners: tuple[str, str] = ("the policy", "the environment"),
    ) -> None:
        self._env, self._act, self._quota, self._observe = env, act, quota, observe
        self._policy, self._validator = owners[0], EnvironmentValidator(env, owners[1])
        e = env.num_envs
        self.returns = np.zeros((e, quota))
        self.lengths = np.zeros((e, quota), np.int64)
        self.level_seeds = np.zeros((e, quota), np.int64)
        self._finished = np.zeros(e, np.int64)
        self._active = np.arange(e)
        try:
            observations, infos = env.reset(seed=seed)
            self._observations = self._validator.observations(observations, self._active)
            self._levels = self._validator.levels(infos)
        except BaseException:
            env.close()
            raise
        self._actions = np.zeros(env.action_space.shape or (e,), env.action_space.dtype)
        self._stepping = False

    @property
    def done(self) -> bool:
        """Return whether every environment has played its quota."""
        return len(self._active) == 0

    @property
    def episodes_done(self) -> int:
        """Number of played episodes so far."""
        return int(self._finished.sum())

    def close(self) -> None:
        """Free the environments."""
        self._env.close()

    @property
    def waiting(self) -> tuple[Array, Array]:
        """Return observations `(B, *observation)` and indices `(B,)` of playing environments."""
        return self._observations[self._active], self._active

    def start_step(self, actions: Array | None = None) -> None:
        """Start a step of the environments, with given actions or the policy's."""
        if actions is None:
            actions = self._act(*self.waiting)
        self._actions = self._actions.copy()  # an environment may keep the one before
        self._actions[self._active] = checked_actions(
            actions, len(self._active), self._env.single_action_space, self._policy
        )
        if hasattr(self._env, "step_async"):
            self._env.step_async(self._actions)
        self._stepping = True

    def finish_step(self) -> None:
        """Finish the step of the environments, if one was started.

        Raises:
            RLCondenseError: an environment pays no finite number for a step, or its episode does
                not end within `MOST_STEPS`.
        """
        if not self._stepping:
            return
        self._stepping = False
        wait = getattr(self._env, "step_wait", None)
        results = wait() if wait else self._env.step(self._actions)
        active = self._active
        rewards, ends = self._validator.outcome(*results[1:4])
        self._observations = self._validator.observations(results[0], active)
        levels = self._validator.levels(results[4])
        slots = self._finished[active]
        self.returns[active, slots] += rewards[active]
        self.lengths[active, slots] += 1
        self.level_seeds[active, slots] = self._levels[active]
        ended = ends[active]
        self._check(rewards, active, slots, ended)
        self._finished[active] += ended
        if self._observe is not None:
            self._observe(active, rewards[active], ended)
        self._levels = levels
        self._active = active[self._finished[active] < self._quota]

    def _check(self, rewards: Array, active: Array, slots: Array, ended: Array) -> None:
        steps = self.lengths[active, slots]
        if not (finite := np.isfinite(self.returns[active, slots])).all():
            i = int(finite.argmin())
            raise RLCondenseError(
                f"returns are not finite: environment {active[i]} pays {rewards[active[i]]} for "
                f"step {steps[i]} of an episode"
            )
        if (endless := ~ended & (steps >= MOST_STEPS)).any():
            raise RLCondenseError(
                f"an episode has not ended after {MOST_STEPS:,} steps (environment "
                f"{active[endless.argmax()]}): give the environment a time limit, such as "
                "Gymnasium's max_episode_steps"
            )


def collect(
    policies: PolicyBatch,
    task: Task,
    *,
    episodes: int,
    seed: int,
    num_envs: int = 20,
    num_threads: int = 1,
    progress: Progress = silent,
) -> Trace:
    """Play sampled actions on seen levels, and record the trace that replays them.

    Environment i is played by policy i modulo S, so that S policies play equally many episodes.

    Args:
        policies: S policies, S dividing `num_envs`.
        task: task to play.
        episodes: number of episodes, a multiple of `num_envs`.
        seed: seed of the levels and the actions.
        num_envs: number of parallel environments.
        num_threads: threads that step them.
        progress: receives the number of played episodes.

    Raises:
        BadConfig: the episodes cannot be shared equally, or the task has too many actions.
    """
    if num_envs > MOST_ENVIRONMENTS:
        raise BadConfig(f"at most {MOST_ENVIRONMENTS:,} environments are recorded at once")
    if episodes < 1 or episodes % num_envs:
        raise BadConfig(f"episodes must be a multiple of {num_envs}, not {episodes}")
    if num_envs % policies.num_policies:
        raise BadConfig(f"{num_envs} environments cannot be shared by {policies.num_policies}")
    players = np.arange(num_envs) % policies.num_policies
    continuous = isinstance(task.action_space, Box)
    noise = noise_stream(seed, 0, num_envs, task.action_space.shape or ())
    chosen: list[list[Array]] = [[] for _ in range(num_envs)]
    probabilities: list[list[Array]] = [[] for _ in range(num_envs)]

    def act(observations: Array, environments: Array) -> Array:
        drawn = next(noise)[environments]
        if continuous:
            actions = policies.act(observations, players[environments], drawn)
        else:
            probs = policies.action_probs(observations, players[environments])
            actions = sample_actions(probs, drawn)
            for environment, row in zip(environments, quantise(probs), strict=True):
                probabilities[environment].append(row)
        for environment, action in zip(environments, actions, strict=True):
            chosen[environment].append(np.array(action))  # policies may use one array again
        return actions

    if not continuous and task.action_space.n > MOST_ACTIONS:  # type: ignore[attr-defined]
        raise BadConfig(
            f"task {task.id!r} has {task.action_space.n} actions, "  # type: ignore[attr-defined]
            f"a trace holds {MOST_ACTIONS} at most: play it by a function (rlcondense.collect)"
        )
    env = task.make_vec("seen", num_envs, seed=seed, num_threads=num_threads, copy=False)
    owners = owner_of(policies), f"task {task.id!r}"
    rollout = Rollout(env, act, episodes // num_envs, seed, None, owners)
    started = time.perf_counter()
    with contextlib.closing(rollout):
        for step in itertools.count():
            if rollout.done:
                break
            rollout.start_step()
            rollout.finish_step()
            if step % 50 and not rollout.done:
                continue
            rate = rollout.lengths.sum() / max(time.perf_counter() - started, 1e-9)
            progress("collect", rollout.episodes_done, episodes, f"{rate:.0f} transitions/s")
    return Trace(
        seed=seed,
        quota=episodes // num_envs,
        lengths=rollout.lengths.sum(1),
        actions=np.concatenate(chosen).astype(np.float32 if continuous else np.uint8),
        action_probs=None if continuous else np.concatenate(probabilities),
    )
