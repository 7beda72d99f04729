"""Sequences of levels, for tasks whose simulator does not choose its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.errors import BadConfig
from rlcondense.limits import check_count
from rlcondense.tasks.base import Task, TaskVectorEnv, shared_levels, split_named
from rlcondense.types import Array

Bools = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.int64]
Which = npt.NDArray[np.int64]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]


def as_splits(seen: tuple[int, int], heldout: tuple[int, int]) -> Mapping[str, range]:
    """Return the level seeds of each split from its first level and its number of levels.

    Raises:
        BadConfig: one of the arguments is no pair of integers, such as a `range`.
    """
    return MappingProxyType({"seen": _span("seen", seen), "heldout": _span("heldout", heldout)})


def _span(split: str, pair: tuple[int, int]) -> range:
    if isinstance(pair, range) or len(pair) != 2:
        raise BadConfig(f"{split} must be the first level and the number of levels, not {pair!r}")
    first, number = pair
    return range(first, first + number)


class LevelOrder:
    """Sequence of levels of each environment, drawn with replacement.

    An environment's k-th level is a function of the seed, its index and k alone: it depends neither
    on actions nor on the number of environments.

    Args:
        levels: the levels to draw from.
        num_envs: number of environments.
        seed: seed of the draws.

    Raises:
        BadConfig: there are no environments, or the seed is negative.
    """

    def __init__(self, levels: range, num_envs: int, seed: int) -> None:
        check_count("num_envs", num_envs)
        if seed < 0:
            raise BadConfig(f"a seed of levels must not be negative, but is {seed}")
        self.levels, self.num_envs, self.seed = levels, num_envs, seed
        self.begun = np.zeros(num_envs, np.int64)
        self._order = np.empty((0, num_envs), np.int64)

    def reseeded(self, seed: int | list[int] | None) -> LevelOrder:
        """Return the order of another seed from its start, or this order if the seed is None.

        Raises:
            BadConfig: the seed is a list.
        """
        if isinstance(seed, (list, tuple)):
            raise BadConfig("all environments take one seed, not one for each")
        return self if seed is None else LevelOrder(self.levels, self.num_envs, seed)

    def next(self, environments: npt.NDArray[np.int64]) -> Levels:
        """Return the next levels `(B,)` of the environments `(B,)`, whose indices are distinct."""
        episodes = self.begun[environments]
        self.begun[environments] += 1
        while len(self._order) <= episodes.max(initial=-1):
            self._draw()
        return np.asarray(self._order[episodes, environments])

    def first(self, episodes: int) -> Levels:
        """Return the next levels `(N, episodes)` of every environment."""
        every = np.arange(self.num_envs)
        return np.stack([self.next(every) for _ in range(episodes)], axis=1)

    def _draw(self) -> None:
        # Draw one more level for every environment. Earlier draws do not depend on later ones.
        rng = np.random.default_rng([self.seed, len(self._order)])
        drawn = (rng.random(self.num_envs) * len(self.levels)).astype(np.int64)
        self._order = np.vstack([self._order, self.levels.start + drawn])


def check_splits(splits: Mapping[str, range], owner: str) -> None:
    """Refuse splits that are empty or have a negative level.

    Raises:
        BadConfig: one is.
    """
    for split, levels in splits.items():
        if levels.start < 0 or not levels:
            raise BadConfig(
                f"{split} levels of {owner!r} must start at 0 or above and be at least one, "
                f"not {len(levels)} from {levels.start} on"
            )


class LevelTask(Task):
    """Base of tasks whose levels come in a `LevelOrder`.

    Attributes:
        seen: first level and number of levels that training data comes from.
        heldout: first level and number of levels kept for evaluation.
    """

    seen: tuple[int, int]
    heldout: tuple[int, int]

    @property
    def splits(self) -> Mapping[str, range]:
        return as_splits(self.seen, self.heldout)

    def check_levels(self) -> None:
        """Raise `BadConfig` if a split is empty, has a negative level or overlaps the other."""
        check_splits(self.splits, self.id)
        if shared := shared_levels(self.splits):
            raise BadConfig(f"seen and held-out levels of {self.id!r} overlap in {shared}")

    def order(self, split: str, num_envs: int, seed: int) -> LevelOrder:
        """Return the order of a split's levels.

        Raises:
            BadConfig: the split is unknown, there is no environment, or the seed is negative.
        """
        split = split_named(split)
        return LevelOrder(self.splits[split], num_envs, seed)

    def level_seeds(self, split: str, num_envs: int, episodes: int, *, seed: int) -> Levels:
        return self.order(split, num_envs, seed).first(episodes)


class LevelVectorEnv(TaskVectorEnv):
    """Environments that step together and reset in the step in which an episode ends.

    `infos["level_seed"]` `(N,)` names the current levels, and `infos["final_obs"]`
    `(N, *observation)` are the observations before any environment was reset.

    Args:
        task: the task that they run.
        order: the sequence of levels.
        steps: the step limit after which an episode is truncated.
    """

    def __init__(self, task: Task, order: LevelOrder, steps: int) -> None:
        super().__init__(task, order.num_envs)
        self._order, self._steps = order, steps
        self._every = np.arange(self.num_envs)
        self._levels = np.zeros(self.num_envs, np.int64)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._moving = np.ones(self.num_envs, np.bool_)

    @abstractmethod
    def _begin(self, which: Which, levels: Levels) -> None:
        """Start environments `(B,)` on levels `(B,)`."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Array, Bools]:
        """Apply actions `(N, ...)` and return rewards `(N,)` and terminations `(N,)`."""

    @abstractmethod
    def _observe(self, which: Which) -> Array:
        """Return the observations `(B, *observation)` of environments `(B,)` as a new array."""

    @abstractmethod
    def _saved(self) -> Sequence[Array]:
        """Return the rest of the state as arrays `(N, ...)`."""

    @abstractmethod
    def _restore(self, arrays: Sequence[Array]) -> None:
        """Restore what `_saved` returned."""

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes on the first levels of `seed`, or on the next levels if it is None."""
        self._order = self._order.reseeded(seed)
        self._moving[:] = True
        self._start(self._every)
        return self._observe(self._every), {"level_seed": self._levels.copy()}

    def _start(self, which: Which) -> None:
        self._levels[which] = levels = self._order.next(which)
        self._elapsed[which] = 0
        self._begin(which, levels)

    def step(self, actions: Array) -> Step:
        """Apply `(N, ...)` actions; the class describes the step in which an episode ends."""
        rewards, terminations = self._advance(np.asarray(actions))
        self._elapsed += 1
        truncations = self._elapsed >= self._steps
        last = observations = self._observe(self._every)
        if len(ended := np.flatnonzero(terminations | truncations)):
            self._start(ended)
            observations = last.copy()
            observations[ended] = self._observe(ended)
        infos = {"level_seed": self._levels.copy(), "final_obs": last}
        return observations, rewards.astype(np.float32), terminations, truncations, infos

    def rest(self, resting: Bools) -> None:
        """Mark environments `(N,)` whose outputs are unused until the next reset or `set_state`.

        Their steps may be skipped, and their observations and rewards are then undefined.
        """
        self._moving = ~resting

    def get_state(self) -> list[bytes]:
        """Return the full state of every environment, for checkpoints."""
        parts = [self._levels, self._elapsed, self._order.begun, *self._saved()]
        return [b"".join(part[i].tobytes() for part in parts) for i in self._every]

    def set_state(self, states: list[bytes]) -> Array:
        """Restore every environment to a state of `get_state` and return its observation.

        No environment rests afterwards.
        """
        arrays, at = [], 0
        for part in (self._levels, self._elapsed, self._order.begun, *self._saved()):
            length = part[0].nbytes
            read = b"".join(state[at : at + length] for state in states)
            arrays.append(np.frombuffer(read, part.dtype).reshape(part.shape).copy())
            at += length
        self._levels, self._elapsed, self._order.begun = arrays[:3]
        self._restore(arrays[3:])
        self._moving[:] = True
        return self._observe(self._every)
