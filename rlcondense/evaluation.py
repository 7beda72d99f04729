"""Evaluation: every policy plays the same levels in the same order.

Each policy has E environments of its own with one seed, and each environment plays exactly its
quota of episodes. Since Procgen's levels depend on that seed and the environment's index alone,
any two policies are compared level by level.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.errors import CorruptArtifact
from rlcondense.limits import check_most
from rlcondense.policies import (
    NetworkPolicies,
    PolicyBatch,
    check_fits,
    load_policies,
    noise_stream,
)
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.rollout import Rollout
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import ReturnEstimate, Task, split_named
from rlcondense.tasks.named import make_task
from rlcondense.validation import check_action_space, check_played_levels, checked_actions, owner_of

__all__ = ["Evaluation", "Protocol", "evaluate", "protocol_of"]


@dataclass(frozen=True)
class Evaluation:
    """Returns of S policies on one split.

    Attributes:
        split: `seen` or `heldout`.
        returns: `(S, episodes)`, environment by environment.
        lengths: numbers of steps, in the same form.
        level_seeds: levels, in the same form; equal rows, since all policies play the same levels.
        seconds: wall time.
    """

    split: str
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    level_seeds: npt.NDArray[np.int64]
    seconds: float

    def estimate(self) -> ReturnEstimate:
        """Mean over all episodes, with the standard error over episodes."""
        flat = self.returns.ravel()
        error = float(flat.std(ddof=1) / np.sqrt(flat.size)) if flat.size > 1 else float("nan")
        return ReturnEstimate(float(flat.mean()), error, int(flat.size))


def evaluate(
    policies: PolicyBatch | str | Path,
    task: str | Task,
    split: str = "heldout",
    *,
    protocol: Protocol | None = None,
    num_threads: int = 1,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate every policy of a batch on one split.

    Args:
        policies: S policies, or the folder that they were saved to.
        task: task to play, by name or as an object.
        split: `seen` or `heldout`, which may be written `held-out`.
        protocol: number of episodes and seed; by default 50 environments x 2 episodes.
        num_threads: threads that step each policy's environments.
        progress: receives the number of played episodes.

    Raises:
        BadConfig: the policies' networks do not fit the task.
        CorruptArtifact: a policy or the task returns an invalid value.
        RLCondenseError: a return is not finite, or an episode does not end.

    Example:
        >>> scores = evaluate(policies, task, split="seen", protocol=protocol_of(100))
        >>> scores.returns.mean(1)  # one mean return for each policy
    """
    protocol = protocol or Protocol()
    task, split = make_task(task), split_named(split)
    if isinstance(policies, (str, Path)):
        policies = load_policies(policies)
    if isinstance(policies, NetworkPolicies):
        check_fits(policies.spec, task, "the batch")
    check_action_space(task.action_space, f"task {task.id!r}")
    environments = policies.num_policies * protocol.environments
    check_most("policies x environments", environments, "num_envs")
    started = time.perf_counter()
    total = protocol.episodes * policies.num_policies
    reported = time.perf_counter()
    with contextlib.ExitStack() as opened:
        seats = []
        for index in range(policies.num_policies):
            seats.append(_Seat(policies, index, task, split, protocol, num_threads))
            opened.callback(seats[-1].rollout.close)
        rollouts = [seat.rollout for seat in seats]
        # While one group's environments step on their threads, the next group's policies compute.
        groups = (
            [seats[0::2], seats[1::2]] if policies.acts_together else [[seat] for seat in seats]
        )
        while not all(rollout.done for rollout in rollouts):
            for group in groups:
                _advance(policies, group)
            if time.perf_counter() - reported > 0.5:
                reported = time.perf_counter()
                progress(f"evaluate {split}", sum(r.episodes_done for r in rollouts), total)
    progress(f"evaluate {split}", total, total)
    for rollout in rollouts:
        check_played_levels(rollout.level_seeds, task, split)
        if (rollout.level_seeds != rollouts[0].level_seeds).any():
            raise CorruptArtifact(
                f"task {task.id!r} showed policies different {split} levels: each of its "
                "environments must have a generator of its own"
            )
    return Evaluation(
        split=split,
        returns=np.stack([r.returns.ravel() for r in rollouts]),
        lengths=np.stack([r.lengths.ravel() for r in rollouts]),
        level_seeds=np.stack([r.level_seeds.ravel() for r in rollouts]),
        seconds=time.perf_counter() - started,
    )


class _Seat:
    """One policy of a batch in environments of its own."""

    def __init__(
        self,
        policies: PolicyBatch,
        index: int,
        task: Task,
        split: str,
        protocol: Protocol,
        num_threads: int,
    ) -> None:
        environments, shape = protocol.environments, task.action_space.shape or ()
        self.index, self.space = index, task.action_space
        self._noise = noise_stream(protocol.seed, policies.seeds[index], environments, shape)
        self._player = policies.player(index, environments)
        env = task.make_vec(
            split, environments, seed=protocol.seed, num_threads=num_threads, copy=False
        )
        owners = owner_of(policies), f"task {task.id!r}"
        self.rollout = Rollout(
            env, self._act, protocol.quota, protocol.seed, self._player.observe, owners
        )

    def noise(self) -> npt.NDArray[np.float64]:
        """Return this step's noise for the environments that still play."""
        return next(self._noise)[self.rollout.waiting[1]]

    def _act(self, observations: npt.NDArray[Any], playing: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._player.act(observations, playing, next(self._noise)[playing])


def _advance(policies: PolicyBatch, group: Sequence[_Seat]) -> None:
    """Finish the step of a group's environments, and start the next one."""
    for seat in group:
        if not seat.rollout.done:
            seat.rollout.finish_step()
    playing = [seat for seat in group if not seat.rollout.done]
    if not policies.acts_together:
        for seat in playing:
            seat.rollout.start_step()
    elif playing:
        observations = [seat.rollout.waiting[0] for seat in playing]
        sizes = [len(some) for some in observations]
        which = np.repeat([seat.index for seat in playing], sizes)
        noise = np.concatenate([seat.noise() for seat in playing])
        actions = checked_actions(
            policies.act(np.concatenate(observations), which, noise),
            len(which),
            playing[0].space,
            owner_of(policies),
        )
        for seat, some in zip(playing, np.split(actions, np.cumsum(sizes)[:-1]), strict=True):
            seat.rollout.start_step(some)
