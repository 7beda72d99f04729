"""Datasets of what a policy of one's own plays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete

from rlcondense.datasets.arrays import from_arrays
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.traces import replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.experts.shipped import find_expert, load_newest
from rlcondense.limits import MOST_EVALUATION_SEED, check_most, check_whole
from rlcondense.policies import NetworkPolicies, PolicyBatch, check_fits, random_policies
from rlcondense.rollout import MOST_STEPS
from rlcondense.rollout import collect as record
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import check_named, make_task, task_of_environment
from rlcondense.training.collect import SEED, environments_for
from rlcondense.types import Array
from rlcondense.validation import as_array, checked_actions

Policy = str | Path | PolicyBatch | Callable[[Array], Any]


def collect(
    env: str | Task | gymnasium.Env[Any, Any],
    policy: Policy = "random",
    episodes: int = 20,
    *,
    task: str | Task | None = None,
    seed: int = SEED,
    progress: Progress = silent,
) -> TransitionDataset:
    """Play episodes and return them as a dataset.

    Args:
        env: a task, whose seen levels are played, or a Gymnasium environment.
        policy: a function from an observation to an action, or, of a task, a `PolicyBatch` of one
            policy, `random`, `expert` (the task's newest), or an expert's id or path. Of the
            latter the dataset has action_probs.
        episodes: number of episodes.
        task: task of a Gymnasium environment; by default the one that plays it unchanged.
        seed: seed of levels and actions.
        progress: receives the episodes played.

    Raises:
        BadConfig: nothing says which task an environment is, or the policy is none for it.
        CorruptArtifact: what was seen or done does not fit the task.

    Example:
        >>> data = collect("cartpole", lambda observation: int(observation[2] > 0), episodes=2)
        >>> len(data.episodes)
        2
    """
    check_most("episodes", episodes)
    check_whole(episodes, "episodes", least=1)
    check_whole(seed, "seed", most=MOST_EVALUATION_SEED)
    seed = int(seed)  # Gymnasium takes no others
    if isinstance(env, (str, Task)):
        if task is not None:
            raise BadConfig("task is that of a Gymnasium environment: a task is played itself")
        the_task = make_task(env)
        check_named(the_task)
        if not callable(policy) or isinstance(policy, PolicyBatch):
            return _dataset(_recorded(the_task, policy, episodes, seed, progress), the_task)
        with contextlib.closing(the_task.make_one()) as made:
            return _dataset(_played(made, policy, episodes, seed, progress), the_task)
    if not callable(policy) or isinstance(policy, PolicyBatch):
        raise BadConfig(
            "a Gymnasium environment is played by a function from observation to action"
        )
    if isinstance(env, gymnasium.vector.VectorEnv) or not isinstance(
        env.action_space, Discrete | Box
    ):
        raise BadConfig(
            f"the environment's actions are {env.action_space}: one environment with discrete "
            "actions or vectors is played"
        )
    the_task = _task_of(env, task)
    if the_task.levels_are_reset_seeds and seed in the_task.splits["heldout"]:
        raise BadConfig(f"seed {seed} is a held-out level of {the_task.id!r}: choose another")
    return _dataset(_played(env, policy, episodes, seed, progress), the_task)


def _task_of(env: gymnasium.Env[Any, Any], task: str | Task | None) -> Task:
    """Return the task of an environment: the named one, or the one that it is."""
    if task is not None:
        return make_task(task)
    spec = env.spec
    name = "" if spec is None else task_of_environment(spec.id)
    if spec is None or not name:
        raise BadConfig(f"no task is the environment {spec.id if spec else ''!r}: name one, task=")
    # Of the tasks' own environments the levels tell what is played.
    if name != spec.id and _settings(spec) != _settings(gymnasium.spec(spec.id)):
        raise BadConfig(f"the environment {spec.id!r} has settings of its own: name a task, task=")
    return make_task(name)


def _settings(spec: EnvSpec) -> tuple[Any, ...]:
    """Return what decides the episodes of an environment of an id."""
    settings = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    wrappers = [one for one in spec.additional_wrappers if not one.name.startswith("Record")]
    return settings, spec.max_episode_steps, wrappers


def _recorded(
    task: Task, policy: str | Path | PolicyBatch, episodes: int, seed: int, progress: Progress
) -> Iterator[Episode]:
    """Yield episodes of a policy that has distributions of actions."""
    if isinstance(policy, PolicyBatch):
        players = policy
        if players.num_policies != 1:
            raise BadConfig(f"collect plays one policy, not {players.num_policies}")
        remembers = type(players).player is not PolicyBatch.player
        greedy = isinstance(task.action_space, Discrete) and players.action_selection == "greedy"
        if remembers or greedy:
            what = "remember what they saw" if remembers else "take the likeliest action"
            raise BadConfig(f"collect plays no policies that {what}: give a function")
    elif policy == "random":
        players = random_policies(task.action_space, [0])
    else:
        expert = load_newest(task.id) if policy == "expert" else find_expert(policy)
        check_fits(expert.network.spec, task, f"expert {expert.id!r}")
        players = NetworkPolicies([expert.network], [0], space=task.action_space)
    num_envs = environments_for(episodes)
    trace = record(
        players, task, episodes=episodes, seed=seed, num_envs=num_envs, progress=progress
    )
    return replay(trace, task)


def _played(
    env: gymnasium.Env[Any, Any],
    policy: Callable[[Array], Any],
    episodes: int,
    seed: int,
    progress: Progress,
) -> Iterator[Episode]:
    """Yield episodes of a function on one environment, which is seeded once.

    Actions are recorded as their numbers from 0 on.
    """
    space = env.action_space
    start = int(space.start) if isinstance(space, Discrete) else 0
    counted = Discrete(space.n) if isinstance(space, Discrete) else space
    for number in range(episodes):
        observation, info = env.reset(seed=seed if number == 0 else None)
        level = info.get("level_seed")
        observations: list[Array] = []
        actions: list[Array] = []
        rewards: list[float] = []
        ended = truncated = False
        while not (ended or truncated):
            if len(rewards) >= MOST_STEPS:
                raise RLCondenseError(
                    f"an episode has not ended after {MOST_STEPS:,} steps: give the environment a "
                    "time limit, such as Gymnasium's max_episode_steps"
                )
            observations.append(np.array(observation))
            chosen = policy(observation)
            if start:
                chosen = as_array(chosen) - start
            [action] = checked_actions(chosen, 1, counted, "the policy")
            # Copies, since policies and environments may use one array again.
            actions.append(np.array(action) if isinstance(space, Box) else action.astype(np.int64))
            taken = actions[-1] + start if start else actions[-1]
            observation, reward, ended, truncated, _ = env.step(taken.copy())
            rewards.append(float(reward))
        yield Episode(
            observations=np.stack(observations),
            actions=np.stack(actions),
            rewards=np.array(rewards, np.float32),
            level_seed=None if level is None else int(level),
            truncated=not ended,
        )
        progress("collect", number + 1, episodes)


def _dataset(played: Iterator[Episode], task: Task) -> TransitionDataset:
    """Return episodes as a dataset."""
    episodes = list(played)
    lengths = [len(episode.rewards) for episode in episodes]
    last = np.zeros(sum(lengths), bool)
    last[np.cumsum(lengths) - 1] = True
    truncated = np.repeat([episode.truncated for episode in episodes], lengths)
    probs = [e.action_probs for e in episodes if e.action_probs is not None]
    levels = [e.level_seed for e in episodes if e.level_seed is not None]
    return from_arrays(
        observations=np.concatenate([e.observations for e in episodes]),
        actions=np.concatenate([e.actions for e in episodes]),
        rewards=np.concatenate([e.rewards for e in episodes]),
        terminations=last & ~truncated,
        truncations=last & truncated,
        action_probs=np.concatenate(probs) if len(probs) == len(episodes) else None,
        level_seeds=np.repeat(levels, lengths) if len(levels) == len(episodes) else None,
        task=task,
    )
