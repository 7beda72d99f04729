"""The evaluation protocol: every policy plays the same levels in the same order.

Each policy has E environments of its own with one seed, and each environment plays exactly its
quota of episodes. Since Procgen's levels depend on that seed and the environment's index alone,
any two policies are compared level by level.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.collect import Rollout
from rlcondense.errors import BadConfig
from rlcondense.policies import PolicyBatch, noise_stream
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import ReturnEstimate, Task

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Protocol:
    """How policies are evaluated.

    Attributes:
        environments: E, parallel environments of each policy.
        quota: episodes each environment plays.
        seed: of the levels and of the policies' noise.
    """

    environments: int = 50
    quota: int = 2
    seed: int = 0

    @property
    def episodes(self) -> int:
        """Episodes of each policy on each split."""
        return self.environments * self.quota


def protocol_of(episodes: int, seed: int = 0) -> Protocol:
    """The protocol of so many episodes: as many environments, up to 50, as divide them evenly.

    Raises:
        BadConfig: fewer than one episode.
    """
    if episodes < 1:
        raise BadConfig(f"episodes must be at least 1, not {episodes}")
    environments = max(e for e in range(1, min(50, episodes) + 1) if episodes % e == 0)
    return Protocol(environments, episodes // environments, seed)


@dataclass(frozen=True)
class Evaluation:
    """What S policies did on one split.

    Attributes:
        split: `seen` or `heldout`.
        returns: `(S, episodes)`, environment by environment.
        lengths: the same, in steps.
        level_seeds: the same; equal rows, since all policies play the same levels.
        seconds: wall time.
    """

    split: str
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    level_seeds: npt.NDArray[np.int64]
    seconds: float

    def estimate(self) -> ReturnEstimate:
        """Mean over everything, and the standard error over episodes."""
        flat = self.returns.ravel()
        error = float(flat.std(ddof=1) / np.sqrt(flat.size)) if flat.size > 1 else float("nan")
        return ReturnEstimate(float(flat.mean()), error, int(flat.size))


def evaluate(
    policies: PolicyBatch,
    task: Task,
    split: str = "heldout",
    *,
    protocol: Protocol | None = None,
    num_threads: int = 1,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate every policy of a batch on one split.

    Args:
        policies: S policies.
        task: where to play.
        split: `seen` or `heldout`.
        protocol: how many episodes, from which seed; by default 50 environments x 2 episodes.
        num_threads: threads that step each policy's environments.
        progress: told the episodes played.

    Example:
        >>> scores = evaluate(policies, task, split="seen", protocol=protocol_of(100))
        >>> scores.returns.mean(1)  # one mean return for each policy
    """
    protocol = protocol or Protocol()
    task.check_split(split)
    started = time.perf_counter()
    rollouts = [
        _rollout(policies, index, task, split, protocol, num_threads)
        for index in range(policies.num_policies)
    ]
    total = protocol.episodes * policies.num_policies
    reported = time.perf_counter()
    while playing := [rollout for rollout in rollouts if not rollout.done]:
        # While one policy's environments step on their threads, the next policy computes.
        for rollout in playing:
            rollout.finish_step()
            if not rollout.done:
                rollout.start_step()
        if time.perf_counter() - reported > 0.5:
            reported = time.perf_counter()
            progress(f"evaluate {split}", sum(r.episodes_done for r in rollouts), total)
    progress(f"evaluate {split}", total, total)
    for rollout in rollouts:
        rollout.close()
    return Evaluation(
        split=split,
        returns=np.stack([r.returns.ravel() for r in rollouts]),
        lengths=np.stack([r.lengths.ravel() for r in rollouts]),
        level_seeds=np.stack([r.level_seeds.ravel() for r in rollouts]),
        seconds=time.perf_counter() - started,
    )


def _rollout(
    policies: PolicyBatch,
    index: int,
    task: Task,
    split: str,
    protocol: Protocol,
    num_threads: int,
) -> Rollout:
    environments = protocol.environments
    shape = task.action_space.shape or ()
    noise = noise_stream(protocol.seed, policies.seeds[index], environments, shape)
    player = policies.player(index, environments)

    def act(observations: npt.NDArray[Any], playing: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return player.act(observations, playing, next(noise)[playing])

    env = task.make_vec(
        split, environments, seed=protocol.seed, num_threads=num_threads, copy=False
    )
    return Rollout(env, act, protocol.quota, protocol.seed, player.observe)
