"""Traces: datasets stored as the seeds and actions that replay them, some seven bytes a step.

Procgen replays the same actions from the same seed bit for bit, so that a trace of some hundred
kilobytes reproduces hundred megabytes of frames on every machine.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlcondense.catalogue import data_root
from rlcondense.datasets.episodes import Episode
from rlcondense.errors import CorruptArtifact
from rlcondense.files import (
    MOST_ARRAY_BYTES,
    allocate,
    make_folder,
    read_arrays,
    slug,
    write_arrays,
)
from rlcondense.places import cache_root
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

MOST_ACTIONS = 256  # an action is a byte
MOST_ENVIRONMENTS = 1024  # of a trace, which takes as many to replay; those shipped have 20
_QUANTA = 255


@dataclass(frozen=True)
class Trace:
    """Actions of E environments, one environment after another.

    Attributes:
        seed: seed of the environments.
        quota: number of episodes of each environment.
        lengths: `(E,)` number of steps of each environment.
        actions: `(sum of lengths,)` uint8, environment by environment; float32 vectors if
            continuous.
        action_probs: `(sum of lengths, A)` probabilities of discrete actions, in 255ths.
    """

    seed: int
    quota: int
    lengths: npt.NDArray[np.int64]
    actions: npt.NDArray[Any]
    action_probs: npt.NDArray[np.uint8] | None

    def __post_init__(self) -> None:
        well_formed = (
            self.lengths.dtype == np.int64 and self.lengths.ndim == 1 and self.lengths.size
        )
        if not well_formed or (self.lengths < 1).any():
            raise CorruptArtifact("the trace's lengths are no positive whole numbers")
        if len(self.lengths) > MOST_ENVIRONMENTS:
            raise CorruptArtifact(
                f"the trace is of {len(self.lengths):,} environments at once, more than "
                f"{MOST_ENVIRONMENTS:,}"
            )
        if (self.lengths > len(self.actions)).any():  # their sum could overflow
            raise CorruptArtifact("the trace's lengths are above its number of actions")
        total, probs = int(self.lengths.sum()), self.action_probs
        if len(self.actions) != total or (probs is not None and len(probs) != total):
            raise CorruptArtifact(f"the trace has {len(self.actions)} actions for {total} steps")
        if self.quota < 1 or (probs is not None and (self.actions >= probs.shape[1]).any()):
            raise CorruptArtifact("the trace holds invalid actions or an invalid quota")
        if probs is not None and not probs.any(1).all():
            raise CorruptArtifact("the trace holds action_probs that are all zero")

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the trace as safetensors, with the probabilities deflated action by action."""
        arrays = {
            "seed": np.array([self.seed]),
            "quota": np.array([self.quota]),
            "lengths": self.lengths,
            "actions": self.actions,
        }
        if self.action_probs is not None:
            deflated = zlib.compress(np.ascontiguousarray(self.action_probs.T).tobytes(), 9)
            arrays["num_actions"] = np.array([self.action_probs.shape[1]])
            arrays["action_probs"] = np.frombuffer(deflated, np.uint8)
        write_arrays(path, arrays, metadata)


class TraceDataset:
    """Catalogue dataset that is shipped as a trace in `baselines/datasets`.

    Tasks that differ only in their view replay the same trace: states recorded in one view are
    rendered in the other, step by step.

    Args:
        id: catalogue id.
        trace: id of the dataset whose trace is replayed; by default this dataset.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str, *, trace: str | None = None) -> None:
        name = f"{slug(trace or id)}.trace.safetensors"
        self.path = data_root() / "baselines" / "datasets" / name

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Replay the dataset's episodes on `task`."""
        return replay(load_trace(self.path.resolve()), task, progress=progress)


def collected_trace(dataset_id: str, played: str) -> Path:
    """Return the path of a trace that a dataset's expert plays on first use.

    Args:
        dataset_id: the dataset.
        played: 12 hex digits of the expert's sha256, and 8 of the task's settings where it has any.
    """
    return cache_root() / "traces" / f"{slug(dataset_id)}-{played}.trace.safetensors"


def forget_collected(dataset_id: str) -> None:
    """Remove the traces that a dataset's expert played on this machine."""
    sample = collected_trace(dataset_id, "*")
    name = re.compile(r"(.*)-[0-9a-f]{12}(-[0-9a-f]{8})?\.trace\.safetensors")
    for path in sample.parent.glob(sample.name):
        if (match := name.fullmatch(path.name)) and match[1] == slug(dataset_id):
            path.unlink(missing_ok=True)


def load_trace(path: Path) -> Trace:
    """Read a trace that `Trace.save` wrote.

    Raises:
        CorruptArtifact: the file is truncated or is no trace.
    """
    arrays = read_arrays(path)
    try:
        return Trace(
            seed=int(arrays["seed"][0]),
            quota=int(arrays["quota"][0]),
            lengths=arrays["lengths"],
            actions=arrays["actions"],
            action_probs=None if arrays["actions"].ndim > 1 else _probs(arrays, path),
        )
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise CorruptArtifact(f"{path} is not a trace: {error}") from error


def _probs(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> npt.NDArray[np.uint8]:
    num_actions = int(arrays["num_actions"][0])
    if not 1 <= num_actions <= MOST_ACTIONS:
        raise CorruptArtifact(f"{path} is not a trace: it has {num_actions} actions")
    return inflate(arrays["action_probs"], (num_actions, len(arrays["actions"])), path).T


def inflate(
    deflated: npt.NDArray[np.uint8], shape: tuple[int, int], path: Path
) -> npt.NDArray[np.uint8]:
    """Inflate an array of a file to bytes of a shape.

    Raises:
        CorruptArtifact: the array holds no deflated bytes.
        ValueError: there are too few or too many bytes.
    """
    inflater = zlib.decompressobj()
    if (expected := math.prod(shape)) > MOST_ARRAY_BYTES:
        raise CorruptArtifact(
            f"{path} announces {expected:,} bytes of one array, more than {MOST_ARRAY_BYTES:,}"
        )
    try:
        # Read no more than expected, whatever the file declares.
        content = inflater.decompress(deflated.tobytes(), expected + 1)
    except zlib.error as error:
        raise CorruptArtifact(f"{path} is damaged: {error}") from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def quantise(probs: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert probabilities to 255ths."""
    return np.asarray(np.rint(probs * _QUANTA), np.uint8)


def dequantise(quanta: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Convert 255ths to probabilities that sum to one."""
    weights = quanta.astype(np.float32)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def replay(
    trace: Trace, task: Task, *, num_threads: int = 1, progress: Progress = silent
) -> Iterator[Episode]:
    """Replay a trace and yield its episodes, environment by environment.

    Observations are buffered in a temporary file, so that memory does not limit their number.

    Args:
        trace: the trace.
        task: the task that it was recorded on.
        num_threads: threads that step the environments.
        progress: receives the steps played.

    Raises:
        CorruptArtifact: the episodes end elsewhere than in the trace, or its actions are not the
            task's.
    """
    _check_actions(trace, task)
    num_envs, longest = len(trace.lengths), int(trace.lengths.max())
    starts = np.cumsum(trace.lengths) - trace.lengths
    env = task.make_vec("seen", num_envs, seed=trace.seed, num_threads=num_threads, copy=False)
    space = env.single_observation_space
    assert space.shape is not None
    observations = on_disk((len(trace.actions), *space.shape), space.dtype)
    rewards = np.empty(len(trace.actions), np.float32)
    ends, cuts = np.zeros((2, len(trace.actions)), bool)
    levels = np.empty(len(trace.actions), np.int64)
    current, infos = env.reset(seed=trace.seed)
    played, started, stepping = 0, time.perf_counter(), 1e-9
    for step in range(longest):
        playing = np.flatnonzero(step < trace.lengths)
        rows = starts[playing] + step
        observations[rows] = current[playing]
        levels[rows] = np.asarray(infos["level_seed"])[playing]
        actions = np.zeros(env.action_space.shape or num_envs, env.action_space.dtype)
        actions[playing] = trace.actions[rows]
        before = time.perf_counter()
        current, reward, terminations, truncations, infos = env.step(actions)
        stepping += time.perf_counter() - before
        rewards[rows] = np.asarray(reward)[playing]
        ends[rows] = (terminations | truncations)[playing]
        cuts[rows] = (truncations & ~terminations)[playing]
        played += len(playing)
        if step % 50 == 0 or step == longest - 1:
            rate = played / max(time.perf_counter() - started, 1e-9)
            note = f"{rate:.0f} transitions/s, the environment alone {played / stepping:.0f}"
            progress("replay", played, len(trace.actions), note)
    env.close()
    last = np.flatnonzero(ends)
    if len(last) != num_envs * trace.quota or not ends[starts + trace.lengths - 1].all():
        raise CorruptArtifact(f"the trace does not replay on {task.id!r}: episodes end elsewhere")
    probs = None if trace.action_probs is None else dequantise(trace.action_probs)
    played_actions = trace.actions.astype(np.float32 if probs is None else np.int64)
    for start, stop in zip([0, *(last[:-1] + 1)], last + 1, strict=True):
        yield Episode(
            observations=observations[start:stop],
            actions=played_actions[start:stop],
            rewards=rewards[start:stop],
            level_seed=int(levels[start]),
            action_probs=None if probs is None else probs[start:stop],
            truncated=bool(cuts[stop - 1]),
        )
        progress("write", int(stop), len(trace.actions))


def _check_actions(trace: Trace, task: Task) -> None:
    """Refuse actions that a simulator could not play, or would interpret as others."""
    actions, probs, space = trace.actions, trace.action_probs, task.action_space
    if isinstance(space, Box):
        fit = actions.dtype.kind == "f" and actions.shape[1:] == space.shape
        fit = fit and bool(np.isfinite(actions).all())
    else:
        n = getattr(space, "n", 0)
        fit = actions.dtype.kind in "iu" and actions.ndim == 1
        fit = fit and bool(((actions >= 0) & (actions < n)).all())
        fit = fit and (probs is None or probs.shape[1] == n)
    if not fit:
        raise CorruptArtifact(
            f"the trace does not replay on {task.id!r}: its actions are not in {space}"
        )


def on_disk(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Make an array of zeros in a file that is deleted with the array."""
    make_folder(cache_root())
    with tempfile.TemporaryFile(dir=cache_root()) as file:
        allocate(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize, cache_root())
        return np.memmap(file, dtype, "w+", shape=shape)
