"""Recordings: datasets stored as transitions, for tasks that do not replay bit for bit.

A balancing pole magnifies the last bit of a sine a billion times within an episode, and that bit
differs between machines.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlcondense.catalogue import data_root
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.traces import MOST_ACTIONS, dequantise, inflate, quantise
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, slug, write_arrays
from rlcondense.policies import num_actions_of
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.types import Array


class RecordedDataset:
    """Catalogue dataset that is shipped as a recording in `baselines/datasets`.

    Args:
        id: catalogue id.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str) -> None:
        self.path = data_root() / "baselines" / "datasets" / f"{slug(id)}.recording.safetensors"

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return the dataset's episodes."""
        recorded = load_recording(self.path.resolve(), task)
        for number, episode in enumerate(recorded):
            yield episode
            progress("write", number + 1, len(recorded))


def save_recording(
    path: Path, episodes: Sequence[Episode], metadata: Mapping[str, str] | None = None
) -> None:
    """Write episodes as safetensors, with probabilities in 255ths and other numbers unchanged."""
    columns = {
        "observations": np.concatenate([e.observations for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
    }
    if columns["actions"].dtype.kind == "i":
        if (most := columns["actions"].max()) >= MOST_ACTIONS:
            raise BadConfig(f"a recording holds actions below {MOST_ACTIONS}, not {most}")
        probs = [e.action_probs for e in episodes if e.action_probs is not None]
        columns["actions"] = columns["actions"].astype(np.uint8)
        columns["action_probs"] = quantise(np.concatenate(probs))
    arrays = {
        "lengths": np.array([len(e.rewards) for e in episodes]),
        "level_seeds": np.array([e.level_seed for e in episodes]),
        "truncated": np.array([e.truncated for e in episodes]),
    }
    deflated = {name: _deflated(column) for name, column in columns.items()}
    write_arrays(path, arrays | deflated, metadata)


def load_recording(path: Path, task: Task) -> list[Episode]:
    """Read a task's recording that `save_recording` wrote.

    Raises:
        CorruptArtifact: the file is truncated or is no recording of the task.
    """
    arrays, actions = read_arrays(path), task.action_space
    try:
        lengths = arrays["lengths"]
        _check(lengths.dtype == np.int64 and lengths.ndim == 1 and (lengths > 0).all(), "lengths")
        total = sum(lengths.tolist())  # which no number of them can overflow

        def column(name: str, dtype: Any, shape: tuple[int, ...] | None) -> Array:
            values = _inflated(arrays[name], (total, *(shape or ())), np.dtype(dtype), path)
            _check(np.isfinite(values).all(), name)
            return values

        space, probs = task.observation_space, None
        observations = column("observations", space.dtype, space.shape)
        rewards = column("rewards", np.float32, ())
        if isinstance(actions, Box):
            taken = column("actions", np.float32, actions.shape)
        else:
            taken = column("actions", np.uint8, ()).astype(np.int64)
            quanta = column("action_probs", np.uint8, (num_actions_of(actions),))
            _check(quanta.any(1).all(), "action_probs")
            _check((taken < quanta.shape[1]).all(), "actions")
            probs = dequantise(quanta)
        stops = np.cumsum(lengths)
        return [
            Episode(
                observations=observations[start:stop],
                actions=taken[start:stop],
                rewards=rewards[start:stop],
                level_seed=int(level),
                action_probs=None if probs is None else probs[start:stop],
                truncated=bool(truncated),
            )
            for start, stop, level, truncated in zip(
                stops - lengths,
                stops,
                arrays["level_seeds"],
                arrays["truncated"],
                strict=True,
            )
        ]
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is no recording of {task.id!r}: {error}") from error


def _check(sound: Any, name: str) -> None:
    if not sound:
        raise ValueError(f"its {name} are invalid")


def _deflated(column: Array) -> npt.NDArray[np.uint8]:
    """Deflate a column `(N, ...)` one byte of a row at a time: similar bytes lie together."""
    rows = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
    return np.frombuffer(zlib.compress(np.ascontiguousarray(rows.T).tobytes(), 9), np.uint8)


def _inflated(deflated: Array, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Array:
    bytes_a_row = math.prod(shape[1:]) * dtype.itemsize
    rows = inflate(deflated, (bytes_a_row, shape[0]), path).T
    return np.ascontiguousarray(rows).view(dtype).reshape(shape)
