"""Episodes from flat columns: npz (OGBench's), HDF5 of D4RL's form, parquet (LeRobot's, the Hub's).

Every column has a row for each step. An episode ends where its number changes (`episode_index`), or
else where the step terminated (`terminals`) or was cut off (`timeouts`). Columns are read an
episode at a time, so that memory does not limit them.
"""

from __future__ import annotations

import contextlib
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlcondense.datasets import ogbench
from rlcondense.datasets.episodes import Episode, episode_from
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import MOST_ARRAY_BYTES, check_regular, read_json
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.text import shown
from rlcondense.types import Array
from rlcondense.validation import channels_last, check_grey_levels

DONES = "dones"  # ends of either kind: where others are named as truncations, the rest terminate
EPISODES = "episodes"  # numbers of episodes, from which we derive where they end
# Our columns, each by the names that formats have for it, ours for what we write first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations", "obs", "observation", "observation.state"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward", "next.reward"),
    "terminations": ("terminals", "terminations", "terminated"),
    DONES: ("dones", "done", "next.done"),
    "truncations": ("timeouts", "truncations", "truncated", "next.truncated"),
    "action_probs": ("action_probs",),
    "level_seeds": ("level_seeds", "level_seed"),
    EPISODES: ("episode_index", "episode_ids", "episode_id", "episode"),
}
CAMERAS = "observation.image"  # how LeRobot's names of columns of frames begin
ENDS = ("terminations", "truncations", DONES, EPISODES)
INFO = Path("meta", "info.json")  # of a LeRobot folder
NEEDED = ("observations", "actions", "rewards")
HDF5 = (".hdf5", ".h5")
# What zipfile raises for damaged, encrypted or unknown content, and numpy for a damaged header.
UNREADABLE = (
    OSError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError, SyntaxError,
    TypeError, ValueError, lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
Choose = Callable[[Iterable[str]], list[str]]  # of the names of all columns, those to open
MOST_COLUMN_BYTES = 2**28  # of a column of ends, which is read at once
MOST_STATE_BYTES = 2**30  # of a simulator's states, likewise


class Column(Protocol):
    """A column that is read once, from its first row to its last.

    Attributes:
        shape: shape, rows first.
        dtype: type of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def take(self, rows: int) -> Array:
        """Return the next rows."""


class _NpyColumn:
    """A column of an npz file."""

    def __init__(self, file: IO[bytes], name: str, size: int) -> None:
        self._file, self._name = file, name
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise CorruptArtifact(f"column {name} is of npy version {version}")
        self.shape, is_fortran, self.dtype = readers[version](file)  # type: ignore[no-untyped-call]
        if self.dtype.hasobject or not self.dtype.itemsize or not self.shape:
            raise CorruptArtifact(f"column {name} is no array of rows of numbers")
        if is_fortran and len(self.shape) > 1:
            raise CorruptArtifact(
                f"column {name} is stored value by value and not row by row: save "
                "np.ascontiguousarray of it"
            )
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if file.tell() + self.shape[0] * self._row != size:
            raise CorruptArtifact(f"column {name} does not hold the rows that it announces")

    def take(self, rows: int) -> Array:
        try:
            content = self._file.read(rows * self._row)
        except UNREADABLE as error:
            raise CorruptArtifact(f"column {self._name} cannot be read: {error}") from error
        if len(content) != rows * self._row:
            raise CorruptArtifact(f"column {self._name} ends early")
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])


class _Hdf5Column:
    """A column of an HDF5 file."""

    def __init__(self, item: Any) -> None:
        self._item, self._next = item, 0
        self.shape, self.dtype = tuple(item.shape), item.dtype

    def take(self, rows: int) -> Array:
        self._next += rows
        try:
            return np.asarray(self._item[self._next - rows : self._next])
        except OSError as error:
            raise CorruptArtifact(f"column {self._item.name} cannot be read: {error}") from error


class _HeldColumn:
    """A column in memory."""

    def __init__(self, values: Array) -> None:
        self._values, self._next = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def take(self, rows: int) -> Array:
        self._next += rows
        return self._values[self._next - rows : self._next]


@contextlib.contextmanager
def open_columns(
    path: Path, *, pictures: bool, rewards: Array | None = None
) -> Iterator[dict[str, Column]]:
    """Open the columns of an npz, HDF5 or parquet file, or a folder of the latter, by our names.

    Args:
        path: of the file or folder.
        pictures: whether observations are frames, as cameras of LeRobot see them.
        rewards: those of a file without any.

    Raises:
        CorruptArtifact: the file cannot be read, or a column is no array of numbers.
        BadConfig: a column is missing, or there are frames of several cameras.
    """
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            opened, known = _opened(path, stack, pictures)
        except UNREADABLE as error:
            raise CorruptArtifact(f"{path} cannot be read: {error}") from error
        except CorruptArtifact as error:
            raise CorruptArtifact(f"{path}: {error}") from error
        columns = {
            ours: opened[theirs[0]]
            for ours, names in NAMES.items()
            if (theirs := [name for name in names if name in opened])
        }
        if cameras := [name for name in opened if name.startswith(CAMERAS)]:
            columns["observations"] = opened[cameras[0]]
        if rewards is not None:
            columns["rewards"] = _HeldColumn(rewards)
        if missing := _missing(columns):
            raise BadConfig(f"{path} has no {missing}{_why(path, columns, known, pictures)}")
        rows = {name: column.shape[0] if column.shape else 0 for name, column in columns.items()}
        if len(set(rows.values())) > 1:
            told = ", ".join(f"{number} of {name}" for name, number in rows.items())
            raise CorruptArtifact(f"{path} has columns of different lengths: {told}")
        yield columns


def _missing(columns: Collection[str]) -> str:
    """Return the columns that are missing, in words; empty if none is."""
    missing = [name for name in NEEDED if name not in columns]
    if not any(name in columns for name in ENDS):
        missing.append("terminals, timeouts or episode_index")
    return " and no ".join(missing)


def _why(path: Path, columns: Collection[str], known: Collection[str], pictures: bool) -> str:
    """Return what helps a user whose file lacks columns, for the end of a message."""
    names = ", ".join(map(shown, sorted(known)[:20])) or "none"
    hints = [f" (its columns: {names})"]
    if pictures and "observations" not in columns and (videos := _videos(path)):
        hints.append(
            f"; videos ({', '.join(map(shown, videos))}) are not read: store frames as pictures"
        )
    if "rewards" not in columns:
        hints.append("; rewards of OGBench's own files are those of a task with a single goal")
    return "".join(hints)


def _videos(path: Path) -> list[str]:
    """Return the names of a LeRobot folder's videos."""
    info = read_json(path / INFO) if (path / INFO).is_file() else {}
    features = info.get("features") if isinstance(info, dict) else None
    return [
        name
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and feature.get("dtype") == "video"
    ]


def may_be_frames(name: str) -> bool:
    """Return whether a column of this name may hold frames."""
    return name.startswith(CAMERAS) or name in NAMES["observations"]


def _wanted(names: Iterable[str], path: Path, pictures: bool) -> list[str]:
    """Return the columns to open, which takes memory; refuse frames of several cameras."""
    wanted = [name for name in names if _is_wanted(name, pictures)]
    cameras = [name for name in wanted if name.startswith(CAMERAS)]
    if len(cameras) > 1:
        raise BadConfig(
            f"{path} has frames of several cameras ({', '.join(map(shown, cameras))}): "
            "observations are of one"
        )
    return wanted


def _is_wanted(name: str, pictures: bool) -> bool:
    if name.startswith(CAMERAS):
        return pictures
    if name == "observation.state":
        return not pictures
    return any(name in names for names in NAMES.values())


def _opened(
    path: Path, stack: contextlib.ExitStack, pictures: bool
) -> tuple[Mapping[str, Column], Collection[str]]:
    """Return the columns that are wanted by their names in the file, and the names of all."""

    def choose(names: Iterable[str]) -> list[str]:
        return _wanted(names, path, pictures)

    if path.suffix == ".npz":
        return _npz(path, stack, choose)
    if path.suffix in HDF5:
        return _hdf5(path, stack, choose)
    from rlcondense.datasets.parquet import open_parquet

    return open_parquet(path, choose)


def _npz(
    path: Path, stack: contextlib.ExitStack, choose: Choose
) -> tuple[dict[str, Column], list[str]]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    arrays = [name for name, info in infos.items() if info.filename.endswith(".npy")]
    columns: dict[str, Column] = {
        name: _NpyColumn(stack.enter_context(archive.open(info)), name, info.file_size)
        for name in choose(arrays)
        for info in [infos[name]]
    }
    return columns, list(infos)


def _hdf5(
    path: Path, stack: contextlib.ExitStack, choose: Choose
) -> tuple[dict[str, Column], list[str]]:
    import h5py

    from rlcondense.datasets import hdf5

    hdf5.check_flat(path, in_blocks=True)
    file = stack.enter_context(h5py.File(path, "r"))
    items = {name: file[name] for name in choose(file)}
    for name, item in items.items():
        if not isinstance(item, h5py.Dataset) or not item.shape:
            raise CorruptArtifact(f"column {name} is no array of rows of numbers")
    return {name: _Hdf5Column(item) for name, item in items.items()}, [*file]


def read_flat(path: Path, task: Task, progress: Progress = silent) -> Iterator[Episode]:
    """Yield the episodes of a file of flat columns.

    Args:
        path: of an npz, HDF5 or parquet file, or a folder of parquet files.
        task: the task that it was collected on, whose spaces say what columns must be.
        progress: receives the rows read.

    Raises:
        CorruptArtifact: a column does not fit the task.
        BadConfig: a column is missing.
    """
    pictures = len(task.observation_space.shape or ()) == 3
    of_goal = _rewards_of_goal(path, task)
    # The ends are read on their own first: a column is read once.
    with open_columns(path, pictures=pictures, rewards=of_goal) as columns:
        total = columns["rewards"].shape[0]
        if not total:
            raise CorruptArtifact(f"{path} has no rows")
        _check_rows(columns, task, str(path))
        if total > MOST_COLUMN_BYTES:
            raise CorruptArtifact(
                f"{path}: the ends of {total:,} rows take more than {MOST_COLUMN_BYTES:,} bytes"
            )
        terminations, truncations, dones = (
            _flags(columns[name], f"{path}: {name}") if name in columns else np.zeros(total, bool)
            for name in ("terminations", "truncations", DONES)
        )
        if "terminations" in columns:
            truncations |= dones & ~terminations
        else:
            terminations = dones & ~truncations
        last = terminations | truncations
        if EPISODES in columns:
            numbers = _single(columns[EPISODES], f"{path}: {EPISODES}", "number")
            if not np.isfinite(numbers).all():  # a table's missing number, which equals no other
                raise CorruptArtifact(f"{path}: {EPISODES} has rows without a number")
            last = np.append(numbers[1:] != numbers[:-1], True)
    del columns  # what they have read ahead
    last[-1] = True  # the last episode may be cut off
    longest = int(np.diff(np.flatnonzero(last), prepend=-1).max())
    with open_columns(path, pictures=pictures, rewards=of_goal) as columns:
        for name, column in columns.items():
            size = longest * math.prod(column.shape[1:]) * column.dtype.itemsize
            if size > MOST_ARRAY_BYTES:
                raise CorruptArtifact(
                    f"{path}: {name} of an episode take {size:,} bytes, more than "
                    f"{MOST_ARRAY_BYTES:,}"
                )
        start = 0
        for stop in map(int, np.flatnonzero(last) + 1):
            # The last row of OGBench's trajectories is no step, and cuts them off.
            steps = stop - start - (of_goal is not None)
            taken = {
                name: column.take(stop - start)[:steps]
                for name, column in columns.items()
                if name not in ENDS
            }
            if steps:
                truncated = of_goal is not None or not terminations[stop - 1]
                yield _episode(taken, truncated, task, str(path))
            start = stop
            progress("read", stop, total)


def _check_rows(columns: Mapping[str, Column], task: Task, owner: str) -> None:
    """Refuse rows of other sizes than a task has before any is read.

    Raises:
        CorruptArtifact: rows have no value, so that they can be any number, or too many or too few.
    """
    actions = task.action_space
    sizes = {
        "observations": task.observation_space.shape,
        "actions": actions.shape,
        "rewards": (),
        "action_probs": (int(actions.n),) if isinstance(actions, Discrete) else None,
    }
    for name, column in columns.items():
        row, size = column.shape[1:], sizes.get(name)
        if name in NEEDED and not math.prod(row):
            raise CorruptArtifact(f"{owner}: {name} has rows without a value")
        if size is not None and math.prod(row) != math.prod(size):  # channels may be first or last
            raise _unfit(f"{owner}: {name}", column.dtype, row, task, size)
        if name == "level_seeds" and math.prod(row) != 1:
            raise _no_levels(owner)


def _unfit(
    what: str, dtype: np.dtype[Any], row: tuple[int, ...], task: Task, wanted: tuple[int, ...]
) -> CorruptArtifact:
    """Return the error on rows of another shape than a task has."""
    return CorruptArtifact(f"{what} are {dtype} of shape {row}, task {task.id!r} has {wanted}")


def _rewards_of_goal(path: Path, task: Task) -> Array | None:
    """Return the rewards of OGBench's own file, by the goal of the task; None of other data."""
    if path.suffix != ".npz" or not ogbench.has_one_goal(task):
        return None
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            states, known = _npz(
                path, stack, lambda names: [name for name in names if name in ogbench.STATES]
            )
            if not states or not set(NAMES["rewards"]).isdisjoint(known):
                return None
            for name, column in states.items():
                if np.prod(column.shape) * column.dtype.itemsize > MOST_STATE_BYTES:
                    raise CorruptArtifact(f"{name} take more than {MOST_STATE_BYTES:,} bytes")
            whole = {name: column.take(column.shape[0]) for name, column in states.items()}
        except UNREADABLE as error:
            raise CorruptArtifact(f"{path} cannot be read: {error}") from error
        except CorruptArtifact as error:
            raise CorruptArtifact(f"{path}: {error}") from error
    return ogbench.rewards_of(task, whole)


def _flags(column: Column, what: str) -> Array:
    return flags(_single(column, what, "flag"), what)


def _single(column: Column, what: str, kind: str) -> Array:
    """Return a whole column of one value a row, `(N,)`."""
    rows = column.shape[0]
    if column.shape not in ((rows,), (rows, 1)):
        raise CorruptArtifact(f"{what} have shape {column.shape}, not a {kind} a row")
    if column.dtype.kind not in "biuf":
        raise CorruptArtifact(f"{what} are no {kind}s")
    if rows * column.dtype.itemsize > MOST_COLUMN_BYTES:
        raise CorruptArtifact(f"{what} take more than {MOST_COLUMN_BYTES:,} bytes")
    return column.take(rows).reshape(rows)


def flags(values: Array, what: str) -> Array:
    """Return a column of zeros and ones as truth values, or raise `CorruptArtifact`."""
    rows = len(values)
    if values.shape not in ((rows,), (rows, 1)):
        raise CorruptArtifact(f"{what} have shape {values.shape}, not a flag a row")
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise CorruptArtifact(f"{what} are no flags")
    return values.reshape(rows).astype(bool)


def _episode(taken: Mapping[str, Array], truncated: bool, task: Task, owner: str) -> Episode:
    columns = fitted_columns(taken, task, owner)
    if (levels := taken.get("level_seeds")) is not None:
        columns["level_seeds"] = levels_of(levels, np.array([len(columns["rewards"])]), owner)
    return episode_from(columns, truncated=truncated)


def levels_of(values: Array, lengths: Array, owner: str) -> Array:
    """Return the level of each row, `(N,)` int64, of episodes of some lengths.

    Raises:
        CorruptArtifact: a level is no whole number of 64 bits, or changes within an episode.
    """
    if not _are_levels(values, int(lengths.sum())):
        raise _no_levels(owner)
    levels = values.reshape(-1).astype(np.int64)
    firsts = levels[np.cumsum(lengths) - lengths]
    if (levels != np.repeat(firsts, lengths)).any():
        raise CorruptArtifact(f"{owner} has level_seeds that change within an episode")
    return levels


def _no_levels(owner: str) -> CorruptArtifact:
    return CorruptArtifact(f"{owner} has level_seeds that are not one whole number a row")


def _are_levels(values: Array, rows: int) -> bool:
    """Return whether values are a whole number of 64 bits a row."""
    if values.shape not in ((rows,), (rows, 1)):
        return False
    if values.dtype.kind == "f":  # as tables hold whole numbers that may be missing
        return (
            bool((np.isfinite(values) & (values == np.rint(values))).all())
            and not (np.abs(values) > 2**53).any()
        )
    return values.dtype.kind in "iu" and not (values > np.iinfo(np.int64).max).any()


def fitted_columns(columns: Mapping[str, Array], task: Task, owner: str) -> dict[str, Array]:
    """Return observations, actions, rewards and action_probs in the form that a task has.

    Raises:
        CorruptArtifact: a shape or a type does not fit the task.
    """
    rows, space = len(columns["rewards"]), task.observation_space
    observations, actions = columns["observations"], columns["actions"]
    picture = len(space.shape or ()) == 3
    turned = observations.ndim == 4 and channels_last(observations.shape[1:])
    if picture and turned and observations.shape[1:] != space.shape:
        observations = np.moveaxis(observations, -1, 1)
    if isinstance(task.action_space, Discrete) and actions.shape == (rows, 1):
        actions = actions[:, 0]
    rewards = columns["rewards"]
    if rewards.shape == (rows, 1):
        rewards = rewards[:, 0]
    wanted = {
        "observations": (observations, (rows, *(space.shape or ())), "iuf" if picture else "biuf"),
        "actions": (
            actions,
            (rows, *(task.action_space.shape or ())),
            "iuf" if isinstance(task.action_space, Box) else "iu",
        ),
        "rewards": (rewards, (rows,), "biuf"),
    }
    for name, (values, shape, kinds) in wanted.items():
        if values.shape != shape:
            raise _unfit(f"{owner}: {name}", values.dtype, values.shape[1:], task, shape[1:])
        if values.dtype.kind not in kinds:
            wanted_kind = "whole numbers" if "f" not in kinds else "numbers"
            raise CorruptArtifact(f"{owner}: {name} are {values.dtype}, not {wanted_kind}")
    if space.dtype == np.uint8:
        check_grey_levels(observations, owner)
    continuous = isinstance(task.action_space, Box)
    fitting = {
        "observations": observations.astype(space.dtype, copy=False),
        "actions": actions.astype(np.float32 if continuous else np.int64, copy=False),
        "rewards": rewards.astype(np.float32),
    }
    if (probs := columns.get("action_probs")) is not None:
        if probs.dtype.kind not in "biuf":
            raise CorruptArtifact(f"{owner}: action_probs are {probs.dtype}, no probabilities")
        fitting["action_probs"] = probs.astype(np.float32)
    return fitting
