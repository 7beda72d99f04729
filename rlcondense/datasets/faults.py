"""Faults injected into some episodes of a dataset, so that it is known which ones are faulty.

Scores of episodes are judged by data with known faults: does the score see them, or only length?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Space

from rlcondense.datasets.episodes import Episode, episode_of
from rlcondense.datasets.traces import Trace, dequantise, on_disk
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.types import Array

NOISE = 0.3  # share of the steps at which a noisy episode takes a random action
LAG = 4  # frames that stale observations are behind
CUT = (0.2, 0.6)  # of an episode's length, where a truncated one ends
COPIES = 5  # copies of one episode among duplicated ones


@dataclass(frozen=True)
class Plan:
    """Actions to play in one episode.

    Attributes:
        actions: `(T,)` or `(T, A)`; if the episode outlasts them, it is truncated there.
        action_probs: `(T, A)` distributions that the actions were drawn from, or None.
        is_whole: whether the episode must end with the last action, as a recorded one does.
    """

    actions: Array
    action_probs: Array | None
    is_whole: bool = False


Edit = Callable[[Episode, np.random.Generator], Episode]
Replay = Callable[[Plan, int, Space[Any], np.random.Generator], Plan]


def wrong_action(episode: Episode, rng: np.random.Generator) -> Episode:
    """Give each step the action and the distribution of another step of the episode."""
    round_ = rng.permutation(len(episode.rewards))
    order = np.empty_like(round_)
    order[round_] = np.roll(round_, 1)  # one step after the other, so that none keeps its own
    probs = episode.action_probs
    return replace(
        episode,
        actions=episode.actions[order],
        action_probs=None if probs is None else probs[order],
    )


def stale_frames(episode: Episode, rng: np.random.Generator) -> Episode:
    """Show each step the observation of a few steps earlier."""
    rows = np.maximum(np.arange(len(episode.rewards)) - LAG, 0)
    return replace(episode, observations=np.asarray(episode.observations[rows]))


def truncated(episode: Episode, rng: np.random.Generator) -> Episode:
    """Cut the episode off at a random step of its first part."""
    stop = max(1, int(len(episode.rewards) * rng.uniform(*CUT)))
    probs = episode.action_probs
    return Episode(
        episode.observations[:stop],
        episode.actions[:stop],
        episode.rewards[:stop],
        episode.level_seed,
        None if probs is None else probs[:stop],
        truncated=True,
    )


def action_noise(plan: Plan, longest: int, space: Space[Any], rng: np.random.Generator) -> Plan:
    """Take a random action now and then; the distributions are mixed with the uniform one."""
    actions, probs = plan.actions.copy(), plan.action_probs
    hit = rng.random(len(actions)) < NOISE
    drawn = random_actions(space, len(actions), rng)
    if not hit.any():
        hit[rng.integers(len(hit))] = True
    actions[hit] = drawn[hit]
    if probs is not None:
        probs = ((1 - NOISE) * probs + NOISE / probs.shape[1]).astype(np.float32)
    return Plan(actions, probs)


def other_policy(plan: Plan, longest: int, space: Space[Any], rng: np.random.Generator) -> Plan:
    """Play at random, at most as long as the dataset's longest episode."""
    probs = plan.action_probs
    if probs is not None:
        probs = np.full((longest, probs.shape[1]), 1 / probs.shape[1], np.float32)
    return Plan(random_actions(space, longest, rng).astype(plan.actions.dtype), probs)


def random_actions(space: Space[Any], count: int, rng: np.random.Generator) -> Array:
    """Draw actions of a space uniformly."""
    if isinstance(space, Box):
        return rng.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)
    return rng.integers(0, space.n, count)  # type: ignore[attr-defined]


# Faults of what was written down, of what was played, and of which episodes there are.
EDITS: Mapping[str, Edit] = {
    "wrong-action": wrong_action,
    "stale-frames": stale_frames,
    "truncated": truncated,
}
REPLAYS: Mapping[str, Replay] = {"action-noise": action_noise, "other-policy": other_policy}
DUPLICATED = "duplicated"
FAULTS = tuple(sorted([*EDITS, *REPLAYS, DUPLICATED]))


def faulty_episodes(
    lengths: Sequence[int], fault: str, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw which of the episodes of some lengths are faulty: at least one, and not all.

    An episode of one step is none of them where the fault would change nothing in it.

    Raises:
        BadConfig: the share leaves no faulty or no clean episode, or too few are long enough.
    """
    count = len(lengths)
    number = round(share * count)
    if not 0 < number < count:
        raise BadConfig(
            f"share {share} of {count} episodes is {number}: some must be faulty, and some clean"
        )
    able = np.flatnonzero(np.array(lengths) > (1 if fault in EDITS else 0))
    if len(able) < number:
        raise BadConfig(
            f"fault {fault!r} changes nothing in an episode of one step: {len(able)} of {count} "
            f"are longer, and {number} are to be faulty"
        )
    faulty = np.zeros(count, np.bool_)
    chosen = np.random.default_rng([seed, 0]).choice(len(able), number, replace=False)
    faulty[able[chosen]] = True
    return faulty


def corrupted(
    data: TransitionDataset,
    fault: str,
    faulty: npt.NDArray[np.bool_],
    seed: int,
    *,
    task: Task,
    trace: Trace | None = None,
    progress: Progress = silent,
) -> Iterator[Episode]:
    """Yield a dataset's episodes, with a fault in some.

    Args:
        data: the dataset.
        fault: one of `FAULTS`.
        faulty: `(E,)` which episodes are.
        seed: of all that the fault draws.
        task: the dataset's.
        trace: the dataset's trace, for faults of what was played.
        progress: receives the progress.

    Raises:
        BadConfig: the fault is one of what was played, and there is no trace.
        CorruptArtifact: the trace is not the dataset's.
    """
    if fault in REPLAYS:
        if trace is None:
            raise BadConfig(
                f"fault {fault!r} plays episodes again, and dataset {data.id!r} has no trace"
            )
        yield from _replayed(data, REPLAYS[fault], faulty, seed, task, trace, progress)
        return
    originals = _originals(faulty, seed)
    for number, is_faulty in enumerate(faulty):
        episode = episode_of(data, number)
        if is_faulty and fault == DUPLICATED:
            episode = episode_of(data, originals[number])
        elif is_faulty:
            episode = EDITS[fault](episode, np.random.default_rng([seed, 1, number]))
        yield episode
        progress("write", number + 1, len(faulty))


def _originals(faulty: npt.NDArray[np.bool_], seed: int) -> dict[int, int]:
    """Draw which clean episode each duplicate is a copy of: few, several times each."""
    copies, clean = np.flatnonzero(faulty), np.flatnonzero(~faulty)
    count = min(len(clean), -(-len(copies) // COPIES))
    chosen = np.random.default_rng([seed, 2]).choice(clean, count, replace=False)
    return {int(copy): int(chosen[i % count]) for i, copy in enumerate(copies)}


def _replayed(
    data: TransitionDataset,
    fault: Replay,
    faulty: npt.NDArray[np.bool_],
    seed: int,
    task: Task,
    trace: Trace,
    progress: Progress,
) -> Iterator[Episode]:
    if len(trace.actions) != len(data) or trace.quota * len(trace.lengths) != len(faulty):
        raise CorruptArtifact(f"the trace is not that of dataset {data.id!r}")
    probs = None if trace.action_probs is None else dequantise(trace.action_probs)
    longest = max(len(rows) for rows in data.episodes)
    plans = []
    for number, rows in enumerate(data.episodes):
        part = slice(rows.start, rows.stop)
        plan = Plan(trace.actions[part], None if probs is None else probs[part], is_whole=True)
        if faulty[number]:
            rng = np.random.default_rng([seed, 1, number])
            plan = fault(plan, longest, task.action_space, rng)
        plans.append(plan)
    yield from play_plans(plans, task, trace.seed, trace.quota, progress)


def play_plans(
    plans: Sequence[Plan], task: Task, seed: int, quota: int, progress: Progress = silent
) -> Iterator[Episode]:
    """Play plans on seen levels and yield their episodes, environment by environment.

    An episode that outlasts its plan is recorded as far as the plan goes, and played on at random
    until it ends, so that the next plan begins on its own level.

    Args:
        plans: those of the first environment, then those of the next one, and so on.
        task: the task.
        seed: of the environments.
        quota: number of episodes of each environment.
        progress: receives the steps played.

    Raises:
        CorruptArtifact: an episode ends elsewhere than with its whole plan.
    """
    num_envs = len(plans) // quota
    env = task.make_vec("seen", num_envs, seed=seed, copy=False)
    space = env.single_observation_space
    assert space.shape is not None
    lengths = np.array([len(plan.actions) for plan in plans])
    starts = np.cumsum(lengths) - lengths
    planned = np.concatenate([plan.actions for plan in plans])
    observations = on_disk((len(planned), *space.shape), space.dtype)
    rewards = np.empty(len(planned), np.float32)
    levels = np.empty(len(plans), np.int64)
    recorded, cut = np.zeros(len(plans), np.int64), np.zeros(len(plans), np.bool_)
    episode = np.arange(num_envs) * quota  # the plan that each environment is at
    last, step = episode + quota, np.zeros(num_envs, np.int64)
    rng = np.random.default_rng([seed, 3])
    current, infos = env.reset(seed=seed)
    while len(playing := np.flatnonzero(episode < last)):
        within = playing[step[playing] < lengths[episode[playing]]]
        rows = starts[episode[within]] + step[within]
        observations[rows] = current[within]
        levels[episode[within]] = np.asarray(infos["level_seed"])[within]
        actions = random_actions(task.action_space, num_envs, rng).astype(env.action_space.dtype)
        actions[within] = planned[rows]
        current, reward, terminations, truncations, infos = env.step(actions)
        rewards[rows] = np.asarray(reward)[within]
        recorded[episode[within]] += 1
        ended = playing[(terminations | truncations)[playing]]
        outlasted = step[ended] >= lengths[episode[ended]]
        cut[episode[ended]] = outlasted | (truncations & ~terminations)[ended]
        if any(plans[i].is_whole for i in episode[ended][outlasted]):
            break
        step[playing] += 1
        episode[ended] += 1
        step[ended] = 0
        if recorded.sum() % 50 < len(within):
            progress("play", int(recorded.sum()), len(planned))
    env.close()
    whole = [i for i, plan in enumerate(plans) if plan.is_whole]
    if (recorded[whole] != lengths[whole]).any() or (episode < last).any():
        raise CorruptArtifact(f"the trace does not replay on {task.id!r}: episodes end elsewhere")
    for i, plan in enumerate(plans):
        part = slice(starts[i], starts[i] + recorded[i])
        is_continuous = plan.actions.dtype.kind == "f"
        yield Episode(
            observations=observations[part],
            actions=plan.actions[: recorded[i]].astype(np.float32 if is_continuous else np.int64),
            rewards=rewards[part],
            level_seed=int(levels[i]),
            action_probs=None if plan.action_probs is None else plan.action_probs[: recorded[i]],
            truncated=bool(cut[i]),
        )
        progress("write", i + 1, len(plans))
