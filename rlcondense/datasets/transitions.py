"""Offline datasets as tables: one row for each transition, one array for each column."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.plots import plot_columns
from rlcondense.datasets.summary import Head, html, summary
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import sha256_arrays
from rlcondense.types import Array


@dataclass(frozen=True, repr=False)
class Columns:
    """Arrays of equal length that describe transitions. A missing column is None.

    Attributes:
        observations: `(N, *observation)`, uint8 channel-first or float32.
        actions: `(N,)` int64, or `(N, A)` float32 for continuous actions.
        rewards: `(N,)` float32.
        terminations: `(N,)` bool: the episode terminated here.
        truncations: `(N,)` bool: the episode was truncated here.
        episode_ids: `(N,)` int64.
        steps: `(N,)` int64, the row's place in its episode.
        level_seeds: `(N,)` int64.
        action_probs: `(N, A)` float32, the distribution the action was drawn from (soft labels).
    """

    observations: Array
    actions: Array
    rewards: Array | None = None
    terminations: Array | None = None
    truncations: Array | None = None
    episode_ids: Array | None = None
    steps: Array | None = None
    level_seeds: Array | None = None
    action_probs: Array | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if len(column) != len(self.observations):
                raise CorruptArtifact(
                    f"column {name!r} has {len(column)} rows, observations {len(self.observations)}"
                )

    def __len__(self) -> int:
        return len(self.observations)

    def __repr__(self) -> str:
        return summary(f"{type(self).__name__}: {len(self):,} transitions", self)

    def _repr_html_(self) -> str:
        return html(repr(self), self)

    def head(self, rows: int = 5) -> Head:
        """Return the first rows of every column, for a look at them."""
        return Head(self.rows(np.arange(min(rows, len(self)))))

    def plot(self, path: str | Path | None = None) -> list[Any]:
        """Draw the returns of episodes, the actions, and a few frames if there are any.

        Args:
            path: file to write, such as `data.pdf`.

        Returns:
            The axes of matplotlib, one a panel.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return plot_columns(self, self._returns(), path)

    def _returns(self) -> Array | None:
        """Return the return of each episode, if the data are of whole episodes."""
        return None

    def columns(self) -> dict[str, Array]:
        """Return the columns that are present, by name."""
        by_name = {name: getattr(self, name) for name in COLUMNS}
        return {name: column for name, column in by_name.items() if column is not None}

    def column(self, name: str) -> Array:
        """Return a column, or raise `CorruptArtifact` if it is missing."""
        column = getattr(self, name)
        if column is None:
            raise CorruptArtifact(f"the data has no column {name!r}")
        return column  # type: ignore[no-any-return]

    def rows(self, indices: Array) -> dict[str, Array]:
        """Return copies of the rows `indices` of every column."""
        return {name: np.asarray(column[indices]) for name, column in self.columns().items()}

    @cached_property
    def sha256(self) -> str:
        """Return the sha256 of all columns."""
        return sha256_arrays(self.columns())


COLUMNS = tuple(f.name for f in fields(Columns))


@dataclass(frozen=True)
class Origin:
    """Origin of a dataset according to its metadata.

    Attributes:
        environment: Gymnasium's id of the environment.
        split: `seen` or `heldout`, if the environment is a task of this package.
        reset_seeds: reset seed of each episode, or None.
        lossy: whether frames were stored as JPEG, which changes them.
        faulty: whether each episode has an injected fault, or empty; methods do not see it.
    """

    environment: str = ""
    split: str = ""
    reset_seeds: tuple[int | None, ...] = ()
    lossy: bool = False
    faulty: tuple[bool, ...] = ()


@dataclass(frozen=True, repr=False)
class TransitionDataset(Columns):
    """Dataset of whole episodes, row after row; observations may be memory-mapped.

    Attributes:
        id: Minari or catalogue id.
        task: id of the task that it was collected on, if known.
        last_observation_repeated: whether the observation after an episode's last step is
            unknown, so that `next_observations` repeats the last one.
        known_sha256: the columns' sha256, if it has been computed and the values have been
            checked; a copy with other columns (`dataclasses.replace`) has none.
        origin: the origin according to its metadata.
        heldout_allowed: whether the user explicitly allowed data of held-out levels.
    """

    id: str = ""
    task: str = ""
    last_observation_repeated: bool = False
    known_sha256: str = ""
    origin: Origin = Origin()
    heldout_allowed: bool = False
    _known: tuple[Array, ...] = field(default=(), compare=False)  # columns that sha256 is of

    def __post_init__(self) -> None:
        super().__post_init__()
        own = tuple(self.columns().values()) if self.known_sha256 else ()
        known = self._known or own
        if len(known) != len(own) or any(a is not b for a, b in zip(known, own, strict=True)):
            object.__setattr__(self, "known_sha256", "")
            own = ()
        object.__setattr__(self, "_known", own)
        for name in ("rewards", "terminations", "truncations", "episode_ids", "steps"):
            self.column(name)

    def __repr__(self) -> str:
        title = f"Dataset {self.id or 'without a name'} of {self.task or 'an unknown task'}"
        sizes = f"{len(self.episodes):,} episodes, {len(self):,} transitions"
        return summary(f"{title}: {sizes}", self, self.episode_returns())

    def _returns(self) -> Array:
        return self.episode_returns()

    @cached_property
    def sha256(self) -> str:
        return self.known_sha256 or sha256_arrays(self.columns())

    def in_memory(self) -> TransitionDataset:
        """Return the same data with plain arrays in place of maps of files, and their sha256."""
        plain: dict[str, Any] = {name: np.asarray(rows) for name, rows in self.columns().items()}
        return replace(self, **plain, _known=tuple(plain.values()))

    @cached_property
    def episodes(self) -> list[range]:
        """Return the rows of each episode."""
        starts = np.flatnonzero(self.column("steps") == 0)
        ends = [*starts, len(self)][1:]
        return [range(int(s), int(e)) for s, e in zip(starts, ends, strict=True)]

    @property
    def faulty(self) -> tuple[bool, ...]:
        """Return whether each episode has an injected fault; empty where that is unknown.

        Raises:
            BadConfig: the origin speaks of another number of episodes, as that of a copy with some
                episodes would.
        """
        known = self.origin.faulty
        if known and len(known) != len(self.episodes):
            raise BadConfig(
                f"dataset {self.id!r} has {len(self.episodes)} episodes, its origin.faulty is of "
                f"{len(known)}: a copy with other episodes needs a list of its own, or none"
            )
        return known

    def episode_returns(self, gamma: float = 1.0) -> npt.NDArray[np.float64]:
        """Return the return of each episode, undiscounted by default."""
        rewards = self.column("rewards") * gamma ** self.column("steps").astype(np.float64)
        return np.array([rewards[rows.start : rows.stop].sum() for rows in self.episodes])

    def returns_to_go(self, gamma: float = 1.0) -> npt.NDArray[np.float64]:
        """Return the discounted sum of rewards from each row to the end of its episode."""
        togo = self.column("rewards").astype(np.float64)
        for rows in self.episodes:
            for i in reversed(rows[:-1]):
                togo[i] += gamma * togo[i + 1]
        return togo

    @cached_property
    def next_rows(self) -> npt.NDArray[np.int64]:
        """Return the row after each row: its own for a terminal row, and -1 if unknown.

        It is unknown where an episode was truncated: the frame after its last step is not stored.
        """
        following = np.arange(1, len(self) + 1)
        last = np.array([rows.stop - 1 for rows in self.episodes])
        following[last] = np.where(self.column("terminations")[last], last, -1)
        following.flags.writeable = False
        return following

    def next_observations(self, indices: Array) -> Array:
        """Return the observation after each row; an episode's last row repeats its own.

        The termination masks a last row's value wherever it would be used.
        """
        following = self.next_rows[np.asarray(indices)]
        return np.asarray(self.observations[np.where(following < 0, indices, following)])

    @property
    def num_actions(self) -> int | None:
        """Width of `action_probs`, or None without them."""
        return None if self.action_probs is None else int(self.action_probs.shape[1])
