"""Minari datasets: writing episodes, and reading transitions as memory-mapped columns.

What can be built again, from a trace or a file, is kept as columns alone, outside Minari's folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.transitions import Origin, TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra, RLCondenseError, UnknownName
from rlcondense.files import (
    allocate,
    canonical_json,
    check_regular,
    lock,
    read_json,
    room_beside,
    sha256_arrays,
    slug,
    write_json,
)
from rlcondense.places import cache_root
from rlcondense.runtime.progress import Progress, silent
from rlcondense.text import shown
from rlcondense.types import Array
from rlcondense.validation import channels_last, check_action_space, check_values

MOST_ID = 128  # characters; names of locks and folders have some more
_META = "meta.json"
_STORAGE = "hdf5"  # the one format of Minari's that is checked before it is read
_METADATA = "metadata.json"  # Minari's name for it; columns that lie alone have a copy
_FORMAT = 3  # version of the columns; those of another version are converted again
_ALONE = 2  # version of columns without Minari's files, which cannot be converted again
_LAST_REPEATED = "last_observation_repeated"
EXPERT_SHA256 = "expert_sha256"
FAULTY = "faulty_episodes"  # a text of 0 and 1: whether each episode has an injected fault
LOSSY = "lossy_frames"  # whether frames were stored as JPEG where they come from
# Minari would play the environment to measure reference scores; ours are already measured.
_ADDED_LATER = ("ref_min_score", "ref_max_score", EXPERT_SHA256, FAULTY, LOSSY)
# Standard errors by which a fit one row earlier must be better for probabilities to be refused.
_SHIFTED = 4.0
_DEEPEST = 6  # folders searched for datasets in Minari's root
_SHOWN = (
    "author",
    "algorithm_name",
    "description",
    "code_permalink",
    "requirements",
    "ref_min_score",
    "ref_max_score",
    EXPERT_SHA256,
)


def write_minari(
    dataset_id: str, episodes: Iterable[Episode], metadata: Mapping[str, Any], env: Any
) -> None:
    """Write whole episodes, each terminated or truncated at its last step, as a Minari dataset.

    The observation after that step is unknown; the last observation is repeated in its place.

    Frames must be channel-first: Minari stores height-width-channel frames as lossy JPEG. Episodes
    are written one at a time. The dataset is written completely or not at all.

    Args:
        dataset_id: Minari id.
        episodes: episodes in their final order.
        metadata: Minari's own fields (author, algorithm_name, ref_min_score, ...).
        env: the Gymnasium environment of the episodes.

    Raises:
        BadConfig: Minari would store its frames as lossy JPEG.
        RLCondenseError: the dataset cannot be written, for example because the disk is full.
    """
    import minari
    from minari.data_collector import EpisodeBuffer

    fields = {k: v for k, v in metadata.items() if k not in _ADDED_LATER}
    extra = {k: v for k, v in metadata.items() if k in _ADDED_LATER}
    target = minari_path(dataset_id)
    building = target.parents[dataset_id.count("/")] / f".building-{slug(dataset_id)}"
    # An array, not a list: Minari would take a list of three-dimensional frames for images.
    buffers = (
        EpisodeBuffer(
            observations=np.concatenate([e.observations, e.observations[-1:]]),
            actions=e.actions,
            rewards=e.rewards,
            terminations=_last_of(e) & (not e.truncated),
            truncations=_last_of(e) & e.truncated,
            infos=_infos_of(e),
        )
        for e in _with_room(episodes, building / ".claim", dataset_id)
    )
    with _locked(dataset_id):
        if target.exists():
            return
        shutil.rmtree(building, ignore_errors=True)
        try:
            with _minari_root(building), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = minari.create_dataset_from_buffers(
                    dataset_id, buffers, env=env, data_format=_STORAGE, **fields
                )
                dataset.storage.update_metadata({_LAST_REPEATED: True, **extra})
        except RLCondenseError:
            shutil.rmtree(building, ignore_errors=True)
            raise
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be written to {target}: {_reason(error)}"
            ) from error
        _make_namespace(dataset_id)
        (building / dataset_id).replace(target)
        shutil.rmtree(building)


def write_minari_folder(
    folder: Path,
    dataset_id: str,
    episodes: Iterable[Episode],
    metadata: Mapping[str, Any],
    env: Any,
) -> None:
    """Write a Minari dataset to a folder of one's own, as `data` in it; see `write_minari`."""
    building = folder.resolve() / ".minari"  # Minari joins a relative path to itself
    named = _id_in_folder(dataset_id)
    try:
        with _minari_root(building):
            write_minari(named, episodes, metadata, env)
        (building / named / "data").replace(folder / "data")
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _id_in_folder(dataset_id: str) -> str:
    """Return an id as Minari can have it: ours may have dots, or a namespace of one letter."""
    try:
        check_minari_id(dataset_id)
    except RLCondenseError:
        name, version = re.fullmatch(r"(.*?)(?:-v(\d+))?", dataset_id, re.DOTALL).groups()  # type: ignore[union-attr]
        name = re.sub(r"[^A-Za-z0-9_-]", "-", name).strip("-_")[: MOST_ID // 2] or "dataset"
        return f"{name}-v{version or 0}"
    return dataset_id


def build_columns(
    dataset_id: str,
    episodes: Iterable[Episode],
    metadata: Mapping[str, Any],
    env: Any,
    progress: Progress = silent,
) -> None:
    """Store whole episodes as columns alone, for `read_minari`, which finds them by their id.

    They become a Minari dataset on the way, which is checked and read like any other, and removed.

    Args:
        dataset_id: as for `write_minari`, and so are the other arguments.
        episodes: episodes in their final order.
        metadata: Minari's own fields.
        env: the Gymnasium environment of the episodes.
        progress: receives the steps converted.
    """
    folder = columns_folder(dataset_id)
    work = folder.with_name(f".{folder.name}.episodes")
    with _columns_lock(dataset_id):
        if _has_columns(dataset_id):
            return
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            write_minari_folder(work, dataset_id, episodes, metadata, env)
            _convert(work / "data", dataset_id, folder, _alone(dataset_id), progress, alone=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _has_columns(dataset_id: str) -> bool:
    """Return whether the columns of a dataset lie on this machine alone, without Minari's files."""
    return _is_current(columns_folder(dataset_id), _alone(dataset_id))


def _alone(dataset_id: str) -> str:
    """Return what stands for the fingerprint of Minari's files where there are none."""
    return canonical_json([_ALONE, dataset_id])


def _infos_of(episode: Episode) -> dict[str, Array]:
    """Return the columns that Minari stores among an episode's infos."""
    infos = {}
    if episode.level_seed is not None:
        infos["level_seed"] = np.full(len(episode.rewards), episode.level_seed)
    if episode.action_probs is not None:
        infos["action_probs"] = episode.action_probs
    return infos


def _with_room(episodes: Iterable[Episode], claim: Path, dataset_id: str) -> Iterator[Episode]:
    """Yield episodes unchanged, each after the disk has room for it."""
    with room_beside(claim) as make_room:
        for episode in episodes:
            if _stored_as_jpeg(episode.observations):
                raise BadConfig(
                    f"dataset {dataset_id!r} shows {episode.observations.dtype} observations of "
                    f"shape {episode.observations.shape[1:]}, which Minari stores as lossy JPEG: "
                    "show frames channel first, and all else as float32"
                )
            parts = (episode.observations, episode.actions, episode.rewards, episode.action_probs)
            size = sum(part.nbytes for part in parts if part is not None)
            make_room(size)
            yield episode


def _stored_as_jpeg(observations: Array) -> bool:
    """Return whether Minari takes an episode's observations `(T, ...)` for images."""
    if observations.dtype != np.uint8:
        return False
    return observations.ndim in (2, 3) or (
        observations.ndim == 4 and observations.shape[-1] in (1, 3)
    )


def _last_of(episode: Episode) -> Array:
    """Return whether each row is the episode's last, `(T,)`."""
    return np.asarray(np.arange(len(episode.rewards)) == len(episode.rewards) - 1)


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


def minari_path(dataset_id: str = "") -> Path:
    """Return the folder of a Minari dataset on this machine, or of all of them.

    Raises:
        RLCondenseError: the folder is missing and cannot be made.
    """
    from minari.storage import get_dataset_path

    if dataset_id:
        slug(dataset_id)
    try:
        path: Path = get_dataset_path(dataset_id)
        path.exists()  # raises without permission to look
    except OSError as error:
        root = os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")
        raise RLCondenseError(
            f"Minari's folder {root} cannot be used: {error.strerror or error} "
            "(MINARI_DATASETS_PATH names another)"
        ) from error
    return path


def is_local(dataset_id: str) -> bool:
    """Return whether a dataset is on this machine, in Minari's folder or as columns alone."""
    return _has_files(dataset_id) or _has_columns(dataset_id)


def _has_files(dataset_id: str) -> bool:
    """Return whether Minari's folder has a dataset of this id, not only others below it."""
    return (minari_path(dataset_id) / "data").is_dir()


def paths_of(dataset_id: str) -> list[Path]:
    """Return the folders of a dataset on this machine: Minari's, and that of its columns."""
    files = [minari_path(dataset_id)] if _has_files(dataset_id) else []
    columns = columns_folder(dataset_id)
    return [*files, columns] if columns.exists() else files


def lacks_action_probs(dataset_id: str) -> bool:
    """Return whether a dataset on this machine lacks action_probs.

    Only its first episode is read. The result is False if the dataset is unreadable or missing.
    """
    from rlcondense.datasets import hdf5

    if not is_local(dataset_id):
        return False
    if not _has_files(dataset_id):
        return not (columns_folder(dataset_id) / "action_probs.npy").exists()
    try:
        return not hdf5.has_action_probs(minari_path(dataset_id) / "data" / hdf5.FILE)
    except Exception:  # a damaged file is reported when it is read
        return False


def remove_minari(dataset_id: str) -> None:
    """Remove a dataset from this machine: from Minari's folder, and its columns.

    Datasets in folders below its own stay, and so do columns that are another dataset's only copy.
    """
    with _columns_lock(dataset_id), _locked(dataset_id):
        shared = _other_owner(columns_folder(dataset_id), dataset_id)
        for path, aside in _parts(dataset_id):
            shutil.rmtree(aside, ignore_errors=True)
            if not (shared and path == columns_folder(dataset_id)):
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # another dataset lies below, or nothing is there
            minari_path(dataset_id).rmdir()


@contextlib.contextmanager
def set_aside(dataset_id: str) -> Iterator[None]:
    """Set a dataset of this machine aside within the context, where it is built again.

    What was there comes back if that fails, and is removed if it succeeds; what a killed process
    had set aside comes back first. Columns that are another dataset's only copy stay.
    """
    with _locked(dataset_id, ".anew"):
        parts = _parts(dataset_id)
        try:
            with _columns_lock(dataset_id), _locked(dataset_id):
                _bring_back(parts)
                if _other_owner(columns_folder(dataset_id), dataset_id):
                    parts = parts[:1]
                for path, aside in parts:
                    if path.is_dir():
                        path.rename(aside)
            yield
        except BaseException:
            with _columns_lock(dataset_id), _locked(dataset_id):
                for path, aside in parts:
                    if aside.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                _bring_back(parts)
            raise
        for _, aside in parts:
            shutil.rmtree(aside, ignore_errors=True)


def _locked(dataset_id: str, what: str = "") -> contextlib.AbstractContextManager[None]:
    return lock(cache_root() / "locks" / f"{slug(dataset_id)}{what}.lock")


def _parts(dataset_id: str) -> list[tuple[Path, Path]]:
    """Return Minari's files of a dataset and its columns, and where each is set aside."""
    folders = [minari_path(dataset_id) / "data", columns_folder(dataset_id)]
    return [(folder, folder.with_name(f".{folder.name}.aside")) for folder in folders]


def _bring_back(parts: Iterable[tuple[Path, Path]]) -> None:
    """Bring back what was set aside, unless it was built again."""
    for path, aside in parts:
        if aside.is_dir() and not path.exists():
            aside.rename(path)
        shutil.rmtree(aside, ignore_errors=True)


def local_datasets() -> list[str]:
    """Return the ids of the datasets on this machine; other folders are skipped."""
    return sorted({*_datasets_in(minari_path(), ()), *_columns_alone()})


def _columns_alone() -> Iterator[str]:
    """Yield the ids of the datasets whose columns lie on this machine alone."""
    for path in (cache_root() / "columns").glob(f"*/{_METADATA}"):
        with contextlib.suppress(RLCondenseError):
            name = str(minari_metadata(path.parent).get("dataset_id", ""))
            if name and columns_folder(name) == path.parent and _has_columns(name):
                yield name


def _datasets_in(root: Path, parts: tuple[str, ...]) -> Iterator[str]:
    folder, name = root.joinpath(*parts), "/".join(parts)
    try:
        if (folder / "data").exists():
            if minari_metadata(folder / "data").get("dataset_id") == name:
                yield name
            return
        inside = [path.name for path in folder.iterdir() if path.is_dir()]
    except (CorruptArtifact, OSError):
        return
    for part in inside if len(parts) < _DEEPEST else ():
        if not part.startswith("."):
            yield from _datasets_in(root, (*parts, part))


def minari_metadata(data: Path) -> dict[str, Any]:
    """Read the metadata of a Minari dataset.

    Args:
        data: the dataset's folder `data`.

    Raises:
        CorruptArtifact: the metadata cannot be read.
    """
    metadata = read_json(data / _METADATA)
    if not isinstance(metadata, dict):
        raise CorruptArtifact(f"{data / _METADATA} is no table of values")
    return metadata


def minari_facts(dataset_id: str, path: Path | None = None) -> dict[str, Any]:
    """Return the facts about a local dataset's origin from Minari's metadata.

    Args:
        dataset_id: id of the dataset.
        path: folder of Minari's files, by default the one that Minari has for the id.
    """
    data = (path or minari_path(dataset_id)) / "data"
    raw = minari_metadata(data if data.exists() else columns_folder(dataset_id))
    facts = {key: _finite(raw[key]) for key in _SHOWN if raw.get(key)}
    if environment := _environment(raw)[0]:
        facts["environment"] = environment
    return facts


def _finite(value: Any) -> Any:
    """Return a value of JSON, or its text if it holds numbers that JSON does not allow."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return str(value)
    return value


def environment_of(data: Path) -> str:
    """Return Gymnasium's id of the environment of a Minari dataset's folder `data`, or ""."""
    return _environment(minari_metadata(data))[0]


def _environment(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return Gymnasium's id of the environment in the metadata, and the environment's split."""
    try:
        spec = json.loads(metadata["env_spec"])
        return str(spec["id"]), str((spec.get("kwargs") or {}).get("split", ""))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return "", ""


def download_minari(dataset_id: str) -> None:
    """Download a dataset from Minari's remote into Minari's folder, completely or not at all.

    `MINARI_REMOTE` names another remote than Farama's, as for Minari itself.

    Raises:
        MissingExtra: the client library of the remote is not installed.
        RLCondenseError: the remote is unreachable, or does not have the dataset.
    """
    import minari

    check_minari_id(dataset_id)
    target = minari_path(dataset_id)
    with _locked(dataset_id):
        if target.exists():
            return
        building = minari_path() / f".downloading-{slug(dataset_id)}"
        shutil.rmtree(building, ignore_errors=True)
        try:
            # The library's log of its retries would bury our message about the outcome.
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
            with (
                _minari_root(building),
                warnings.catch_warnings(),
                contextlib.redirect_stdout(sys.stderr),  # Minari prints its progress
            ):
                warnings.simplefilter("ignore")
                minari.download_dataset(dataset_id)
            target.parent.mkdir(parents=True, exist_ok=True)
            (building / dataset_id).replace(target)
        except ImportError as error:
            raise MissingExtra("what Minari downloads with", "remote") from error
        except ValueError as error:  # Minari's error if the remote does not have the dataset
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be downloaded: {_reason(error)}"
            ) from error
        except Exception as error:  # each remote's library raises its own errors
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be downloaded from Minari's remote "
                f"({_reason(error)}); is this machine online?"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _make_namespace(dataset_id)


def _make_namespace(dataset_id: str) -> None:
    """Make an id's namespace in Minari's folder, if it is not there."""
    from minari.namespace import create_namespace, list_local_namespaces

    namespace = dataset_id.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_minari(dataset_id: str, task: str = "", progress: Progress = silent) -> TransitionDataset:
    """Read a dataset on this machine as memory-mapped columns, converted on first use.

    The memory of conversion and result does not grow with the dataset.

    Args:
        dataset_id: Minari id.
        task: id of the dataset's task, if known.
        progress: receives the steps converted.

    Raises:
        UnknownName: the dataset is not on this machine.
        CorruptArtifact: its files are unreadable, or hold invalid values.
        BadConfig: its observations or actions are not arrays.
    """
    data = minari_path(dataset_id) / "data"
    if data.is_dir():
        return replace(_read(data, dataset_id, progress), task=task)
    with _columns_lock(dataset_id):
        if not _has_columns(dataset_id):
            raise UnknownName("dataset", dataset_id, local_datasets())
        return replace(_columns_of(dataset_id), task=task)


def read_minari_folder(
    path: Path, dataset_id: str, progress: Progress = silent
) -> TransitionDataset:
    """Read a Minari dataset from any folder, as `read_minari` does.

    Args:
        path: folder of the dataset, in which `data` lies.
        dataset_id: the id that its columns get on this machine.
        progress: receives the steps converted.
    """
    try:
        return _read(path.resolve() / "data", dataset_id, progress)
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{path}: {error}") from error


def _read(data: Path, dataset_id: str, progress: Progress) -> TransitionDataset:
    """Read the dataset of a folder; the id names its columns and is for messages."""
    folder = columns_folder(dataset_id)
    with _columns_lock(dataset_id):
        fingerprint = _fingerprint(data)
        if not _is_current(folder, fingerprint):
            _convert(data, dataset_id, folder, fingerprint, progress)
        return _columns_of(dataset_id)


def _columns_of(dataset_id: str) -> TransitionDataset:
    """Return the dataset of a folder of columns."""
    folder = columns_folder(dataset_id)
    meta = read_json(folder / _META)
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["columns"]}
    return TransitionDataset(
        **columns,
        id=dataset_id,
        last_observation_repeated=meta[_LAST_REPEATED],
        known_sha256=meta["sha256"],
        origin=_origin(meta["origin"]),
    )


def _origin(facts: Mapping[str, Any]) -> Origin:
    lists = {name: tuple(facts.get(name, ())) for name in ("reset_seeds", "faulty")}
    return Origin(**{**facts, **lists})


def check_minari_id(dataset_id: str) -> None:
    """Refuse an id that no dataset of Minari can have, or that is too long for names of files.

    Raises:
        BadConfig: it is one.
    """
    from minari.dataset.minari_dataset import parse_dataset_id

    slug(dataset_id)
    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # a TypeError without a version
        raise BadConfig(f"{dataset_id!r} is no Minari id such as 'D4RL/pen/human-v2'") from error
    check_length(dataset_id)


def check_length(dataset_id: str) -> None:
    """Refuse an id that is too long for the names of a dataset's files.

    Raises:
        BadConfig: it is.
    """
    if len(dataset_id) > MOST_ID:
        raise BadConfig(f"{shown(dataset_id)} is too long: at most {MOST_ID} characters")


def columns_folder(dataset_id: str) -> Path:
    """Return the folder of a dataset's columns."""
    return cache_root() / "columns" / slug(dataset_id)


def verify_minari(dataset_id: str, path: Path | None = None) -> str:
    """Read a dataset again, compare it with its stored columns, and return its sha256.

    Columns that lie alone are compared with the sha256 that they had.

    Args:
        dataset_id: id of the dataset.
        path: folder of Minari's files, by default the one that Minari has for the id.

    Raises:
        CorruptArtifact: the columns are damaged, and are made again on the next use; or Minari's
            files have changed since the columns were made.
    """
    if path is None:
        dataset, files = read_minari(dataset_id), minari_path(dataset_id) / "data"
    else:
        dataset, files = read_minari_folder(path, dataset_id), path.resolve() / "data"
    recorded, actual = dataset.sha256, sha256_arrays(dataset.columns())
    folder = columns_folder(dataset_id)
    with _columns_lock(dataset_id):
        if actual != recorded:
            shutil.rmtree(folder)
            raise CorruptArtifact(
                f"the columns kept of dataset {dataset_id!r} are damaged (sha256 {actual[:12]}, "
                f"not {recorded[:12]}); they are removed, and read again on the next use"
            )
        if not files.is_dir():
            return recorded
        again = folder.with_name(f".{folder.name}.verifying")
        try:
            _convert(files, dataset_id, again, "")
            fresh = str(read_json(again / _META)["sha256"])
        finally:
            shutil.rmtree(again, ignore_errors=True)
    if fresh != recorded:
        raise CorruptArtifact(
            f"Minari's files of dataset {dataset_id!r} have changed (sha256 "
            f"{fresh[:12]}, not {recorded[:12]}): build or download it again"
        )
    return fresh


def _columns_lock(dataset_id: str) -> contextlib.AbstractContextManager[None]:
    return _locked(dataset_id, ".columns")


def _fingerprint(data: Path) -> str:
    """Return a digest that changes with a dataset's files; refuse pipes and devices."""
    try:
        files = sorted(data.rglob("*"))
        for file in files:
            check_regular(file)
        stamps = [_stamp(file) for file in files if file.is_file()]
    except OSError as error:
        raise CorruptArtifact(f"{data} cannot be read: {_reason(error)}") from error
    return canonical_json([_FORMAT, str(data), *stamps])


def _stamp(file: Path) -> list[Any]:
    stat = file.stat()
    return [file.name, stat.st_size, stat.st_mtime_ns]


def _is_current(folder: Path, fingerprint: str) -> bool:
    try:
        meta = read_json(folder / _META)
        stamps = [_stamp(folder / f"{name}.npy") for name in meta["columns"]]
        return bool(meta["fingerprint"] == fingerprint and meta["stamps"] == stamps)
    except (CorruptArtifact, KeyError, OSError):
        return False


_NUMBERS = re.compile("bool|(u?int|float)(8|16|32|64)")
_KINDS = {"b": "bool", "i": "whole numbers", "f": "floats"}
_DTYPES: Mapping[str, Any] = {
    "rewards": np.float32, "action_probs": np.float32, "episode_ids": np.int64, "steps": np.int64,
    "level_seeds": np.int64,
}  # fmt: skip


def _convert(
    data: Path,
    dataset_id: str,
    folder: Path,
    fingerprint: str,
    progress: Progress = silent,
    *,
    alone: bool = False,
) -> None:
    """Write the columns of a dataset, and a copy of Minari's metadata if they are to lie alone."""
    _check_owner(folder, dataset_id)
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        columns, facts = _columns(data, dataset_id, building, progress)
    except RLCondenseError:
        shutil.rmtree(building)
        raise
    except Exception as error:  # h5py and Minari raise many types of error on a broken file
        shutil.rmtree(building)
        raise CorruptArtifact(
            f"Minari dataset {dataset_id!r} cannot be read: {_reason(error)}"
        ) from error
    meta = {
        "columns": sorted(columns),
        "fingerprint": fingerprint,
        "stamps": [_stamp(building / f"{name}.npy") for name in sorted(columns)],
        "sha256": sha256_arrays(columns),
        **facts,
    }
    write_json(building / _META, meta)
    if alone:
        shutil.copyfile(data / _METADATA, building / _METADATA)
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)


def _check_owner(folder: Path, dataset_id: str) -> None:
    """Refuse a folder with the only copy of another dataset's columns: ids may share a folder."""
    if owner := _other_owner(folder, dataset_id):
        raise BadConfig(
            f"dataset {dataset_id!r} would take the place of {shown(owner)}: choose another id"
        )


def _other_owner(folder: Path, dataset_id: str) -> str:
    """Return the other dataset of whose columns a folder has the only copy, or an empty text."""
    try:
        fingerprint = json.loads(read_json(folder / _META)["fingerprint"])
    except (CorruptArtifact, KeyError, TypeError, ValueError):
        return ""
    if not (isinstance(fingerprint, list) and len(fingerprint) == 2):  # Minari's files have them
        return ""
    owner = str(fingerprint[-1])
    return owner if owner != dataset_id and _has_columns(owner) else ""


def _check_types(space: str, owner: str) -> None:
    """Refuse a space of other types than numbers: NumPy makes a long text of a short one."""

    def check(part: dict[str, Any]) -> dict[str, Any]:
        if not _NUMBERS.fullmatch(str(part.get("dtype", "bool"))):
            raise CorruptArtifact(f"{owner} is of {shown(part['dtype'])}, no numbers")
        return part

    json.loads(space, object_hook=check)


def _columns(
    data: Path, dataset_id: str, building: Path, progress: Progress
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Write the columns of a dataset to a folder; return them and the facts stored beside them."""
    from minari import MinariDataset
    from minari.dataset.minari_storage import is_image_space

    from rlcondense.datasets import hdf5

    owner = f"dataset {dataset_id!r}"
    metadata = minari_metadata(data)
    for name in ("observation_space", "action_space"):
        if not isinstance(metadata.get(name), str):  # Minari would import what env_spec names
            raise BadConfig(f"{owner} does not name its {name} in {data / 'metadata.json'}")
        _check_types(metadata[name], f"{owner}: {name}")
    if (storage := metadata.get("data_format", _STORAGE)) != _STORAGE:
        raise BadConfig(
            f"{owner} is stored as {shown(storage)}; of Minari's formats only {_STORAGE} is read: "
            f"write its episodes with data_format={_STORAGE!r}"
        )
    hdf5.check_hdf5(data / hdf5.FILE, metadata, owner)
    dataset = MinariDataset(data)
    reader = _EpisodeReader(owner, dataset.observation_space, dataset.action_space)
    if is_image_space(reader.space):
        hdf5.check_pictures(data / hdf5.FILE, reader.space.shape, owner)
    total = int(dataset.total_steps)
    columns: dict[str, Array] = {}
    start = 0
    for number, episode in enumerate(dataset.iterate_episodes()):
        episode_columns = reader.columns(episode, number)
        for name, values in episode_columns.items() if number == 0 else ():
            columns[name] = _on_disk(
                building / f"{name}.npy", values.dtype, (total, *values.shape[1:])
            )
        if episode_columns.keys() != columns.keys():
            odd = ", ".join(sorted(episode_columns.keys() ^ columns.keys()))
            raise CorruptArtifact(f"episode {number} of {dataset_id!r} differs in having {odd}")
        stop = start + len(episode_columns["rewards"])
        for name, values in episode_columns.items():
            columns[name][start:stop] = values
        start = stop
        progress("convert", min(stop, total), total)
    if start != total or not total:
        raise CorruptArtifact(f"dataset {dataset_id!r} has {start} steps, {total} are announced")
    for column in columns.values():
        column.flush()  # type: ignore[attr-defined]
    reader.check_shift()
    check_values(columns, reader.actions, owner)
    environment, split = _environment(metadata)
    seeds = hdf5.episode_seeds(data / hdf5.FILE, dataset.episode_indices, owner)
    origin = {
        "environment": environment,
        "split": split,
        "reset_seeds": seeds,
        "lossy": metadata.get(LOSSY) is True or _is_lossy(data / hdf5.FILE, reader.space),
        "faulty": _faulty(str(metadata.get(FAULTY, "")), len(seeds), owner),
    }
    repeated = bool(metadata.get(_LAST_REPEATED, False))
    return columns, {_LAST_REPEATED: repeated, "origin": origin}


def marks_of(data: TransitionDataset) -> dict[str, Any]:
    """Return what Minari's metadata say of a dataset's frames and injected faults, if anything."""
    marks: dict[str, Any] = {LOSSY: True} if data.origin.lossy else {}
    if any(data.faulty):
        marks[FAULTY] = "".join("1" if one else "0" for one in data.faulty)
    return marks


def _faulty(text: str, count: int, owner: str) -> list[bool]:
    """Return which of so many episodes have an injected fault; empty where none is known.

    Raises:
        CorruptArtifact: the metadata do not say it of each episode.
    """
    if text and (len(text) != count or not set(text) <= {"0", "1"}):
        raise CorruptArtifact(f"{owner}: {FAULTY} is not 0 or 1 for each of {count} episodes")
    return [one == "1" for one in text]


def _is_lossy(path: Path, space: Any) -> bool:
    """Return whether the observations in an HDF5 file are JPEG images."""
    import h5py

    with h5py.File(path, "r") as file:
        stored = file[next(iter(file))]["observations"]
        if stored.ndim == len(space.shape) + 1:  # as they are
            return False
        return bytes(np.asarray(stored[0], np.uint8).ravel()[:2]) == b"\xff\xd8"


def _on_disk(path: Path, dtype: Any, shape: tuple[int, ...]) -> Array:
    """Make a memory-mapped array in a new `.npy` file whose disk space is reserved."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:
        allocate(file.fileno(), path.stat().st_size, path)
    return array  # type: ignore[no-any-return]


class _EpisodeReader:
    """Reader that makes columns of Minari's episodes.

    Args:
        owner: the dataset, for messages.
        space: its observation space.
        actions: its action space.

    Raises:
        BadConfig: a space is neither of arrays nor of integers.

    Attributes:
        space: observation space, as stored.
        actions: action space, from 0 if discrete.
    """

    def __init__(self, owner: str, space: Any, actions: Any) -> None:
        if not isinstance(space, Box):
            raise BadConfig(f"{owner} has {space} observations; only arrays are supported")
        if not isinstance(actions, (Box, Discrete)):
            raise BadConfig(
                f"{owner} has {actions} actions; only arrays and single discrete actions are "
                "supported"
            )
        self._owner, self.space = owner, space
        self._start = int(actions.start) if isinstance(actions, Discrete) else 0
        self.actions = Discrete(actions.n) if isinstance(actions, Discrete) else actions
        check_action_space(self.actions, owner)
        self._in_bytes = space.dtype == np.uint8
        self._gain = self._gain_squares = 0.0  # fit of action_probs, shifted to one row earlier

    def columns(self, episode: Any, number: int) -> dict[str, Array]:
        """Return the columns of one episode."""
        where, length = f"{self._owner}, episode {number}", len(episode.rewards)
        if not length:
            raise CorruptArtifact(f"{where} has no steps")
        discrete = isinstance(self.actions, Discrete)
        actions = _numbers(
            episode.actions, (length, *(self.actions.shape or ())), "iu" if discrete else "iuf",
            f"{where}: actions",
        )  # fmt: skip
        seen = np.asarray(episode.observations)
        observations = _numbers(
            seen, (max(length, len(seen)), *self.space.shape), "biuf", f"{where}: observations"
        )
        columns = {
            "observations": self._observations(observations[:length]),
            "actions": actions - self._start if discrete else actions,
            "rewards": _numbers(episode.rewards, (length,), "biuf", f"{where}: rewards"),
            "terminations": _numbers(
                episode.terminations, (length,), "b", f"{where}: terminations"
            ),
            "truncations": _numbers(episode.truncations, (length,), "b", f"{where}: truncations"),
            "episode_ids": np.full(length, number),
            "steps": np.arange(length),
            **self._infos(episode.infos or {}, actions - self._start, where),
        }
        dtypes = {**_DTYPES, "actions": np.int64 if discrete else np.float32}
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is detected afterwards
            return {
                name: column.astype(dtypes.get(name, column.dtype), copy=False)
                for name, column in columns.items()
            }

    def _observations(self, observations: Array) -> Array:
        """Return observations as uint8 or float32; frames are channel-first."""
        if channels_last(self.space.shape):
            observations = np.moveaxis(observations, -1, 1)
        in_bytes = self._in_bytes and observations.dtype == np.uint8
        return observations if in_bytes else observations.astype(np.float32)

    def _infos(self, infos: Mapping[str, Any], actions: Array, where: str) -> dict[str, Array]:
        """Return the columns in an episode's infos: T entries, or T+1 with the reset's first."""
        columns, length = {}, len(actions)
        if "level_seed" in infos:
            levels = np.asarray(infos["level_seed"])
            longer = levels.ndim == 1 and len(levels) == length + 1
            wanted = (length + longer,)
            columns["level_seeds"] = _numbers(levels, wanted, "iu", f"{where}: level_seed")[:length]
        if "action_probs" in infos:
            probs = np.asarray(infos["action_probs"])
            more = probs.ndim == 2 and len(probs) == length + 1
            shape = (length + more, getattr(self.actions, "n", 0))
            probs = _numbers(probs, shape, "f", f"{where}: action_probs")
            # Infos after a step describe that step: entry t + 1 belongs to action t.
            columns["action_probs"] = probs[1:] if more else probs
            if more and ((actions >= 0) & (actions < shape[1])).all():
                rows = np.arange(length)
                gain = probs[rows, actions] - probs[rows + 1, actions]
                self._gain += float(gain.sum())
                self._gain_squares += float((gain**2).sum())
        return columns

    def check_shift(self) -> None:
        """Refuse action_probs of T+1 entries that fit the actions better one entry earlier."""
        if self._gain > _SHIFTED * max(self._gain_squares, 1e-12) ** 0.5:
            raise CorruptArtifact(
                f"{self._owner} has action_probs of T+1 entries, of which the t-th fits action t, "
                "but in Minari's infos entry t+1 belongs to action t: leave out the last one"
            )


def _numbers(values: Any, shape: tuple[int, ...], kinds: str, what: str) -> Array:
    """Return values as an array of a shape.

    Raises:
        CorruptArtifact: they have another shape, or are of none of numpy's `kinds`.
    """
    array = np.asarray(values)
    if kinds == "b" and array.dtype.kind in "iu" and np.isin(array, (0, 1)).all():
        array = array.astype(bool)
    if array.shape != shape or array.dtype.kind not in kinds:
        allowed = " or ".join(name for kind, name in _KINDS.items() if kind in kinds)
        raise CorruptArtifact(
            f"{what} are {array.dtype} of shape {array.shape}, not {allowed} of {shape}"
        )
    return array
