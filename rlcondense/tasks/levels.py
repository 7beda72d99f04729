"""Which level comes next, for tasks whose simulator does not decide that itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlcondense.errors import BadConfig
from rlcondense.limits import check_count
from rlcondense.tasks.base import Task, shared_levels
from rlcondense.types import Array

Bools = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.int64]
Which = npt.NDArray[np.int64]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]


def as_splits(seen: tuple[int, int], heldout: tuple[int, int]) -> Mapping[str, range]:
    """Level seeds of each split, of the first one and how many there are."""
    return MappingProxyType(
        {"seen": range(seen[0], sum(seen)), "heldout": range(heldout[0], sum(heldout))}
    )


class LevelOrder:
    """The levels that each environment plays one after the other, drawn with replacement.

    An environment's k-th level is a function of the seed, its index and k: neither actions nor
    how many environments follow have a say.

    Args:
        levels: to draw from.
        num_envs: how many environments.
        seed: of the draws.

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
        """The order of another seed from its start, or this one, going on, where that is None.

        Raises:
            BadConfig: it is a list of seeds.
        """
        if isinstance(seed, (list, tuple)):
            raise BadConfig("one seed is taken for all environments, not one for each")
        return self if seed is None else LevelOrder(self.levels, self.num_envs, seed)

    def next(self, environments: npt.NDArray[np.int64]) -> Levels:
        """The levels `(B,)` that the environments `(B,)`, no two the same, begin now."""
        episodes = self.begun[environments]
        self.begun[environments] += 1
        while len(self._order) <= episodes.max(initial=-1):
            self._draw()
        return np.asarray(self._order[episodes, environments])

    def _draw(self) -> None:
        # One more level for everyone. The first draws do not depend on how many follow.
        rng = np.random.default_rng([self.seed, len(self._order)])
        drawn = (rng.random(self.num_envs) * len(self.levels)).astype(np.int64)
        self._order = np.vstack([self._order, self.levels.start + drawn])


class LevelTask(Task):
    """A task whose levels come in a `LevelOrder`.

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
        """Raise `BadConfig` if a split has no levels, a negative one, or one of the other's."""
        for split, levels in self.splits.items():
            if levels.start < 0 or not levels:
                raise BadConfig(
                    f"{split} levels of {self.id!r} must start at 0 or above and be at least one, "
                    f"not {len(levels)} from {levels.start} on"
                )
        if shared := shared_levels(self.splits):
            raise BadConfig(f"seen and held-out levels of {self.id!r} overlap in {shared}")

    def order(self, split: str, num_envs: int, seed: int) -> LevelOrder:
        """The order of a split's levels.

        Raises:
            BadConfig: there is no such split, no environment, or the seed is negative.
        """
        self.check_split(split)
        return LevelOrder(self.splits[split], num_envs, seed)


class LevelVectorEnv(VectorEnv[Array, Array, Any]):
    """Environments that step as one, and start over in the same step as an episode ends.

    `infos["level_seed"]` `(N,)` names the levels on show, and `infos["final_obs"]`
    `(N, *observation)` are the observations before any environment started over.

    Args:
        task: what they do.
        order: the levels they play.
        steps: after which an episode is cut.
    """

    metadata: dict[str, Any] = {"autoreset_mode": "SameStep"}  # noqa: RUF012

    def __init__(self, task: Task, order: LevelOrder, steps: int) -> None:
        self.num_envs, self._order, self._steps = order.num_envs, order, steps
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, self.num_envs)
        self.action_space = batch_space(task.action_space, self.num_envs)
        self._every = np.arange(self.num_envs)
        self._levels = np.zeros(self.num_envs, np.int64)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._moving = np.ones(self.num_envs, np.bool_)

    @abstractmethod
    def _begin(self, which: Which, levels: Levels) -> None:
        """Start environments `(B,)` on levels `(B,)`."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Array, Bools]:
        """Apply actions `(N, ...)`: rewards `(N,)` and terminations `(N,)`."""

    @abstractmethod
    def _observe(self, which: Which) -> Array:
        """What environments `(B,)` show, `(B, *observation)`, in an array of its own."""

    @abstractmethod
    def _saved(self) -> Sequence[Array]:
        """All else that a state is made of, arrays `(N, ...)`."""

    @abstractmethod
    def _restore(self, arrays: Sequence[Array]) -> None:
        """Be what `_saved` gave."""

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes: the first levels of `seed`, or the next levels where it is None."""
        self._order = self._order.reseeded(seed)
        self._moving[:] = True
        self._start(self._every)
        return self._observe(self._every), {"level_seed": self._levels.copy()}

    def _start(self, which: Which) -> None:
        self._levels[which] = levels = self._order.next(which)
        self._elapsed[which] = 0
        self._begin(which, levels)

    def step(self, actions: Array) -> Step:
        """Apply `(N, ...)` actions; see the class for what a finished episode looks like."""
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
        """Say which environments `(N,)` nobody looks at until the next reset or `set_state`.

        They may be spared their steps: what they show and are paid then means nothing.
        """
        self._moving = ~resting

    def get_state(self) -> list[bytes]:
        """The full state of every environment, for checkpoints."""
        parts = [self._levels, self._elapsed, self._order.begun, *self._saved()]
        return [b"".join(part[i].tobytes() for part in parts) for i in self._every]

    def set_state(self, states: list[bytes]) -> Array:
        """Put every environment back to a state of `get_state` and show its observation.

        None rests then.
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


class OneEnv(gymnasium.Env[Array, Any]):
    """One environment of a task, for `gymnasium.make`: its episodes end without another's start.

    Args:
        task: what it does.
        split: `seen` or `heldout` levels.
        render_mode: must be None.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, task: Task, split: str = "seen", render_mode: str | None = None) -> None:
        task.check_split(split)
        self._task, self.split, self.render_mode = task, split, render_mode
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self._vec: VectorEnv[Array, Array, Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        if self._vec is None or seed is not None:
            draw = int(self.np_random.integers(2**31 - 1))
            self._vec = self._task.make_vec(self.split, 1, seed=draw)
        observations, infos = self._vec.reset()
        return observations[0], {"level_seed": int(infos["level_seed"][0])}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        assert self._vec is not None, "call reset before step"
        level = int(self._vec._levels[0])  # type: ignore[attr-defined]
        _, rewards, ended, cut, infos = self._vec.step(np.asarray([action]))
        shown = infos["final_obs"][0]
        return shown, float(rewards[0]), bool(ended[0]), bool(cut[0]), {"level_seed": level}
