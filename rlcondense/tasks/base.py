"""Interface of tasks: spaces, disjoint seen and held-out levels, and vector environments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import gymnasium
from gymnasium.vector import VectorEnv

from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.types import SPLITS


@dataclass(frozen=True)
class ReturnEstimate:
    """A mean return, its standard error and the number of episodes behind it."""

    mean: float
    standard_error: float
    episodes: int

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as plain values; the error of a single episode is None."""
        known = math.isfinite(self.standard_error)
        return {**asdict(self), "standard_error": self.standard_error if known else None}


def split_named(name: str) -> str:
    """Return the split that a user means by a name; `held-out`, as tables print it, is `heldout`.

    Raises:
        BadConfig: there is no such split.
    """
    split = "heldout" if name == "held-out" else name
    if split not in SPLITS:
        raise BadConfig(f"split must be one of {', '.join(SPLITS)}, not {name!r}")
    return split


def shared_levels(splits: Mapping[str, range]) -> range:
    """Return the levels that are both seen and held-out."""
    seen, heldout = splits["seen"], splits["heldout"]
    return range(max(seen.start, heldout.start), min(seen.stop, heldout.stop))


class Task(ABC):
    """A control problem with two disjoint sets of levels.

    Attributes:
        id: catalogue id, such as `procgen/starpilot-easy-v0`.
        score_range: `(r_min, r_max)` of the normalised score, or None where none is published.
        random_return: measured return of the uniform random policy, by split.
        replays: whether the same actions give the same bits on every machine, so that a dataset
            can be shipped as a trace. Sines and other functions whose rounding depends on the
            library do not.
        levels_are_reset_seeds: whether a level is the seed that Gymnasium's environment is reset
            with, so that Minari's record of these seeds names the levels of a dataset.
    """

    api_version: ClassVar[int] = 1
    replays: ClassVar[bool] = True
    levels_are_reset_seeds: ClassVar[bool] = False
    id: str
    score_range: tuple[float, float] | None
    random_return: Mapping[str, ReturnEstimate]

    @property
    @abstractmethod
    def observation_space(self) -> gymnasium.Space[Any]:
        """The space of one observation, channel first for images."""

    @property
    @abstractmethod
    def action_space(self) -> gymnasium.Space[Any]:
        """The space of one action."""

    @property
    @abstractmethod
    def splits(self) -> Mapping[str, range]:
        """Level seeds of each split. They share none."""

    @abstractmethod
    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> VectorEnv[Any, Any, Any]:
        """Make environments that step together and reset in the step in which an episode ends.

        `infos["level_seed"]` `(N,)` names the current levels. Where an episode may be truncated,
        `infos["final_obs"]` `(N, *observation)` are the observations before any environment was
        reset, from which the value after a truncation is estimated.

        Args:
            split: `seen` or `heldout`.
            num_envs: number of environments.
            seed: decides, together with an environment's index, the sequence of levels.
            num_threads: threads that step them; no effect on the transitions.
            copy: False may return arrays that are valid until the next step only, which is faster.
        """

    def check_split(self, split: str) -> None:
        """Raise `BadConfig` unless `split` is one of the two."""
        if split not in SPLITS:
            raise BadConfig(f"split must be one of {', '.join(SPLITS)}, not {split!r}")

    def seen_only(self) -> Task:
        """Return the view of a condensation method, which cannot make held-out levels."""
        return _SeenOnly(self)


class _SeenOnly(Task):
    """A task whose held-out levels cannot be made."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.id = task.id
        self.score_range = task.score_range
        self.random_return = {k: v for k, v in task.random_return.items() if k == "seen"}

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        return self._task.observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        return self._task.action_space

    @property
    def splits(self) -> Mapping[str, range]:
        return {"seen": self._task.splits["seen"]}

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> VectorEnv[Any, Any, Any]:
        if split != "seen":
            raise RLCondenseError(
                f"a condensation method may only make the seen levels of {self.id!r}, not {split!r}"
            )
        return self._task.make_vec(split, num_envs, seed=seed, num_threads=num_threads, copy=copy)
