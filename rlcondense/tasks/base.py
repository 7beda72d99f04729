"""Interface of tasks: spaces, disjoint seen and held-out levels, and vector environments."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.types import SPLITS, Array


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


_PLAIN = (bool, int, float, str, np.bool_, np.integer, np.floating, np.str_)  # what an info may be


def split_named(name: str) -> str:
    """Return the split that a user means by a name; `held-out`, as tables print it, is `heldout`.

    Raises:
        BadConfig: there is no such split.
    """
    split = "heldout" if name == "held-out" else name
    if split not in SPLITS:
        raise BadConfig(f"split must be one of {', '.join(SPLITS)}, not {name!r}")
    return split


def shared_levels(splits: Mapping[str, range]) -> Sequence[int]:
    """Return the levels that are both seen and held-out."""
    seen, heldout = splits["seen"], splits["heldout"]
    if (seen.step, heldout.step) != (1, 1):
        fewer, more = sorted((seen, heldout), key=len)
        return [level for level in fewer if level in more]
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
        packages: distributions whose versions decide the returns, which every record must name.
        code: classes and functions behind the task's own, whose files a record's key counts too.
    """

    api_version: ClassVar[int] = 1
    replays: ClassVar[bool] = True
    levels_are_reset_seeds: ClassVar[bool] = False
    packages: tuple[str, ...] = ()
    code: tuple[Any, ...] = ()
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
            seed: decides, together with an environment's index, the sequence of levels. A `reset`
                with another seed begins that seed's.
            num_threads: threads that step them; no effect on the transitions.
            copy: False may return arrays that are valid until the next step only, which is faster.
        """

    def make_one(
        self, split: str = "seen", render_mode: str | None = None
    ) -> gymnasium.Env[Any, Any]:
        """Make one environment, which does not reset itself, for `gymnasium.make`.

        Args:
            split: `seen` or `heldout`.
            render_mode: a render mode of the environment; by default it has none.
        """
        return OneEnv(self, split, render_mode)

    def level_seeds(
        self, split: str, num_envs: int, episodes: int, *, seed: int
    ) -> npt.NDArray[np.int64] | None:
        """Return the first levels `(N, episodes)` of `make_vec`, or None if only playing tells.

        Args:
            split: `seen` or `heldout`.
            num_envs: number of environments.
            episodes: number of episodes of each environment.
            seed: of `make_vec`.
        """
        return None

    @contextlib.contextmanager
    def environments_watched(self) -> Iterator[list[range]]:
        """Record the levels of all environments that are made within the context.

        A task that cannot watch its simulator records none.
        """
        yield []

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


class TaskVectorEnv(VectorEnv[Array, Array, Any]):
    """Environments of a task's spaces that reset in the step in which an episode ends.

    Args:
        task: the task with the spaces.
        num_envs: number of environments.
    """

    metadata: dict[str, Any] = {"autoreset_mode": "SameStep"}  # noqa: RUF012

    def __init__(self, task: Task, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)


class OneEnv(gymnasium.Env[Any, Any]):
    """One environment of a task's vector environments, without their reset at an episode's end.

    `info["level_seed"]` is the level that the step was taken on. Where the vector environments
    have no `final_obs`, the observation after an episode's last step is the next episode's first.

    Args:
        task: the task that it runs.
        split: `seen` or `heldout` levels.
        render_mode: one of its `metadata`, or None.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, task: Task, split: str = "seen", render_mode: str | None = None) -> None:
        split = split_named(split)
        modes = self.metadata["render_modes"]
        if render_mode not in (None, *modes):
            known = ", ".join(map(repr, (*modes, None)))
            raise BadConfig(f"render_mode of {task.id!r} must be {known}, not {render_mode!r}")
        self._task, self.split, self.render_mode = task, split, render_mode
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self._vec: VectorEnv[Any, Any, Any] | None = None
        self._next: tuple[Array, dict[str, Any]] | None = None  # the episode that has begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._next is None or seed is not None:
            drawn = int(self.np_random.integers(2**31 - 1))
            if self._vec is None:
                self._vec = self._task.make_vec(self.split, 1, seed=drawn)
            observations, infos = self._vec.reset(seed=drawn)
            self._next = observations[0], _info(infos)
        observation, self._info = self._next
        self._next = None
        return observation, self._info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self._vec is not None, "call reset before step"
        if isinstance(self.action_space, Discrete):
            action = np.asarray(action)[()]  # a number of NumPy's, of a tensor too
            if not self.action_space.contains(action):
                raise BadConfig(f"action {action!r:.80} is not in {self.action_space}")
        observations, rewards, ended, cut, infos = self._vec.step(np.asarray([action]))
        shown = infos.get("final_obs", observations)[0]
        info = {**_info(infos), "level_seed": self._info["level_seed"]}
        if ended[0] or cut[0]:
            self._next = observations[0], _info(infos)
        return shown, float(rewards[0]), bool(ended[0]), bool(cut[0]), info

    def close(self) -> None:
        if self._vec is not None:
            self._vec.close()
            self._vec = self._next = None


def _info(infos: Mapping[str, Any]) -> dict[str, Any]:
    """Return the info of the only environment."""
    single = {
        key: value[0] for key, value in infos.items() if key != "final_obs" and _is_one(value)
    }
    return {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in single.items()
        if isinstance(value, _PLAIN)
    }


def _is_one(values: object) -> bool:
    """Return whether values of environments are those of a single one."""
    if isinstance(values, np.ndarray):
        return values.shape[:1] == (1,)
    return isinstance(values, (list, tuple)) and len(values) == 1
