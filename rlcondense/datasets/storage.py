"""Minari in and out: transitions written as Minari datasets, and read as memory-mapped columns."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError, UnknownName
from rlcondense.files import canonical_json, lock, read_json, sha256_arrays, slug, write_json

Array = npt.NDArray[Any]
_META = "meta.json"
_LAST_REPEATED = "last_observation_repeated"


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        observations: `(T, *observation)`.
        actions: `(T,)` or `(T, A)`.
        rewards: `(T,)`.
        level_seed: the level it was played on.
        action_probs: `(T, A)` or None.
    """

    observations: Array
    actions: Array
    rewards: Array
    level_seed: int
    action_probs: Array | None = None


def cache_root() -> Path:
    """The folder of everything that may be deleted and made again: `$RLCONDENSE_HOME`."""
    from platformdirs import user_data_path

    home = os.environ.get("RLCONDENSE_HOME")
    return Path(home) if home else user_data_path("rlcondense")


def write_minari(
    dataset_id: str, episodes: Iterable[Episode], metadata: Mapping[str, Any], env: Any
) -> None:
    """Write terminated episodes whose last frame was never shown as a Minari dataset.

    Frames must be channel-first: Minari stores height-width-channel frames as lossy JPEG. The
    dataset appears whole or not at all.

    Args:
        dataset_id: its Minari id.
        episodes: in the order they are to have.
        metadata: Minari's own fields (author, algorithm_name, ...).
        env: the Gymnasium environment it comes from.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    # An array, not a list: Minari would take a list of three-dimensional frames for pictures.
    buffers = [
        EpisodeBuffer(
            observations=np.concatenate([e.observations, e.observations[-1:]]),
            actions=e.actions,
            rewards=e.rewards,
            terminations=np.arange(len(e.rewards)) == len(e.rewards) - 1,
            truncations=np.zeros(len(e.rewards), bool),
            infos={"level_seed": np.full(len(e.rewards), e.level_seed)}
            | ({} if e.action_probs is None else {"action_probs": e.action_probs}),
        )
        for e in episodes
    ]
    target = get_dataset_path(dataset_id)
    with lock(cache_root() / "locks" / f"{slug(dataset_id)}.lock"):
        if target.exists():
            return
        building = target.parents[dataset_id.count("/")] / f".building-{slug(dataset_id)}"
        shutil.rmtree(building, ignore_errors=True)
        with _minari_root(building), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = minari.create_dataset_from_buffers(
                dataset_id, buffers, env=env, data_format="hdf5", **metadata
            )
            made.storage.update_metadata({_LAST_REPEATED: True})
        namespace = dataset_id.rpartition("/")[0]
        if namespace and namespace not in list_local_namespaces():
            create_namespace(namespace)
        (building / dataset_id).replace(target)
        shutil.rmtree(building)


@contextlib.contextmanager
def _minari_root(root: Path) -> Iterator[None]:
    name = "MINARI_DATASETS_PATH"
    before = os.environ.get(name)
    os.environ[name] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def local_datasets() -> list[str]:
    """Ids of the Minari datasets on this machine."""
    from minari import list_local_datasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari warns of datasets it cannot list
        return sorted(list_local_datasets())


def read_minari(dataset_id: str, task: str = "") -> TransitionDataset:
    """Read a local Minari dataset as memory-mapped columns, converted on first use.

    Args:
        dataset_id: its Minari id.
        task: id of the task it belongs to, where known.

    Raises:
        UnknownName: it is not in Minari's folder on this machine.
        CorruptArtifact: its files cannot be read.
        BadConfig: its observations or actions are not arrays.
    """
    from minari.storage import get_dataset_path

    slug(dataset_id)
    data = get_dataset_path(dataset_id) / "data"
    if not data.is_dir():
        raise UnknownName("dataset", dataset_id, local_datasets())
    folder = cache_root() / "columns" / slug(dataset_id)
    fingerprint = canonical_json(
        [str(data), *(_stamp(file) for file in sorted(data.rglob("*")) if file.is_file())]
    )
    with lock(cache_root() / "locks" / f"{slug(dataset_id)}.columns.lock"):
        if not _is_current(folder, fingerprint):
            _convert(dataset_id, folder, fingerprint)
    meta = read_json(folder / _META)
    columns = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "observations" else None)
        for name in meta["columns"]
    }
    return TransitionDataset(
        **columns,
        id=dataset_id,
        task=task,
        last_observation_repeated=meta[_LAST_REPEATED],
        known_sha256=meta["sha256"],
    )


def _stamp(file: Path) -> list[Any]:
    stat = file.stat()
    return [file.name, stat.st_size, stat.st_mtime_ns]


def _is_current(folder: Path, fingerprint: str) -> bool:
    try:
        return bool(read_json(folder / _META)["fingerprint"] == fingerprint)
    except (CorruptArtifact, KeyError):
        return False


def _convert(dataset_id: str, folder: Path, fingerprint: str) -> None:
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        columns, repeated = _columns(dataset_id, building)
    except RLCondenseError:
        shutil.rmtree(building)
        raise
    except Exception as error:  # h5py and Minari raise whatever a broken file makes them raise
        shutil.rmtree(building)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptArtifact(f"Minari dataset {dataset_id!r} cannot be read: {reason}") from error
    meta = {
        "columns": sorted(columns),
        "fingerprint": fingerprint,
        _LAST_REPEATED: repeated,
        "sha256": sha256_arrays(columns),
    }
    write_json(building / _META, meta)
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)


def _columns(dataset_id: str, building: Path) -> tuple[dict[str, Array], bool]:
    import minari
    from gymnasium.spaces import Box

    dataset = minari.load_dataset(dataset_id)
    space = dataset.observation_space
    if not isinstance(space, Box):
        raise BadConfig(
            f"dataset {dataset_id!r} has {space} observations; only arrays are supported"
        )
    picture = len(space.shape) == 3 and space.dtype == np.uint8
    flip = picture and space.shape[-1] in (1, 3) and space.shape[0] not in (1, 3)
    shape = (space.shape[2], *space.shape[:2]) if flip else space.shape
    total = int(dataset.total_steps)
    dtype = np.uint8 if picture else np.float32
    observations = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        building / "observations.npy", mode="w+", dtype=dtype, shape=(total, *shape)
    )
    parts: dict[str, list[Array]] = {}
    start = 0
    for number, episode in enumerate(dataset.iterate_episodes()):
        length = len(episode.rewards)
        frames = np.asarray(episode.observations)[:length]
        observations[start : start + length] = frames.transpose(0, 3, 1, 2) if flip else frames
        start += length
        for name, values in _episode_columns(episode, number, length).items():
            parts.setdefault(name, []).append(values)
    columns: dict[str, Array] = {"observations": observations}
    for name, pieces in parts.items():
        columns[name] = np.concatenate(pieces)
        np.save(building / f"{name}.npy", columns[name])
    observations.flush()
    return columns, bool(dataset.storage.metadata.get(_LAST_REPEATED, False))


def _episode_columns(episode: Any, number: int, length: int) -> dict[str, Array]:
    actions = np.asarray(episode.actions)
    discrete = np.issubdtype(actions.dtype, np.integer)
    columns = {
        "actions": actions.astype(np.int64 if discrete else np.float32),
        "rewards": np.asarray(episode.rewards, np.float32),
        "terminations": np.asarray(episode.terminations, bool),
        "truncations": np.asarray(episode.truncations, bool),
        "episode_ids": np.full(length, number, np.int64),
        "steps": np.arange(length, dtype=np.int64),
    }
    infos = episode.infos or {}
    if "level_seed" in infos:
        columns["level_seeds"] = np.asarray(infos["level_seed"])[:length].astype(np.int64)
    if "action_probs" in infos:
        columns["action_probs"] = np.asarray(infos["action_probs"])[:length].astype(np.float32)
    return columns
