"""Minari in and out: transitions written as Minari datasets, and read as memory-mapped columns."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import (
    BadConfig,
    CorruptArtifact,
    MissingExtra,
    RLCondenseError,
    UnknownName,
)
from rlcondense.files import (
    allocate,
    canonical_json,
    lock,
    read_json,
    sha256_arrays,
    slug,
    write_json,
)
from rlcondense.progress import Progress, silent

Array = npt.NDArray[Any]
_META = "meta.json"
_LAST_REPEATED = "last_observation_repeated"
EXPERT_SHA256 = "expert_sha256"
# Minari would play the environment to find its reference scores; ours are measured already.
_ADDED_LATER = ("ref_min_score", "ref_max_score", EXPERT_SHA256)
_SHOWN = (
    "author",
    "algorithm_name",
    "description",
    "code_permalink",
    "requirements",
    *_ADDED_LATER,
)


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        observations: `(T, *observation)`.
        actions: `(T,)` or `(T, A)`.
        rewards: `(T,)`.
        level_seed: the level it was played on.
        action_probs: `(T, A)` or None.
        truncated: whether it was cut after its last step, and did not end there.
    """

    observations: Array
    actions: Array
    rewards: Array
    level_seed: int
    action_probs: Array | None = None
    truncated: bool = False


def cache_root() -> Path:
    """The folder of everything that may be deleted and made again: `$RLCONDENSE_HOME`."""
    from platformdirs import user_data_path

    home = os.environ.get("RLCONDENSE_HOME")
    return Path(home) if home else user_data_path("rlcondense")


def write_minari(
    dataset_id: str, episodes: Iterable[Episode], metadata: Mapping[str, Any], env: Any
) -> None:
    """Write whole episodes as a Minari dataset: each ended, or was cut, after its last step.

    What was shown after that step is not known; the last observation stands in for it.

    Frames must be channel-first: Minari stores height-width-channel frames as lossy JPEG. Episodes
    are taken and written one at a time. The dataset appears whole or not at all.

    Args:
        dataset_id: its Minari id.
        episodes: in the order they are to have.
        metadata: Minari's own fields (author, algorithm_name, ref_min_score, ...).
        env: the Gymnasium environment it comes from.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    # An array, not a list: Minari would take a list of three-dimensional frames for pictures.
    buffers = (
        EpisodeBuffer(
            observations=np.concatenate([e.observations, e.observations[-1:]]),
            actions=e.actions,
            rewards=e.rewards,
            terminations=_last_of(e) & (not e.truncated),
            truncations=_last_of(e) & e.truncated,
            infos={"level_seed": np.full(len(e.rewards), e.level_seed)}
            | ({} if e.action_probs is None else {"action_probs": e.action_probs}),
        )
        for e in episodes
    )
    fields = {k: v for k, v in metadata.items() if k not in _ADDED_LATER}
    extra = {k: v for k, v in metadata.items() if k in _ADDED_LATER}
    target = get_dataset_path(dataset_id)
    with lock(cache_root() / "locks" / f"{slug(dataset_id)}.lock"):
        if target.exists():
            return
        building = target.parents[dataset_id.count("/")] / f".building-{slug(dataset_id)}"
        shutil.rmtree(building, ignore_errors=True)
        try:
            with _minari_root(building), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = minari.create_dataset_from_buffers(
                    dataset_id, buffers, env=env, data_format="hdf5", **fields
                )
                made.storage.update_metadata({_LAST_REPEATED: True, **extra})
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be written to {target}: {_reason(error)}"
            ) from error
        namespace = dataset_id.rpartition("/")[0]
        if namespace and namespace not in list_local_namespaces():
            create_namespace(namespace)
        (building / dataset_id).replace(target)
        shutil.rmtree(building)


def _last_of(episode: Episode) -> Array:
    """Whether each row is the episode's last."""
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


def is_local(dataset_id: str) -> bool:
    """Whether Minari's folder on this machine has the dataset."""
    from minari.storage import get_dataset_path

    slug(dataset_id)
    return bool(get_dataset_path(dataset_id).exists())


def lacks_action_probs(dataset_id: str) -> bool:
    """Whether a dataset in Minari's folder on this machine has no action_probs.

    Its first episode tells; of what cannot be read, or is not here, it is not said.
    """
    import minari

    if not is_local(dataset_id):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            infos = minari.load_dataset(dataset_id)[0].infos
    except Exception:  # a damaged file: whoever reads it says so
        return False
    return "action_probs" not in (infos or {})


def remove_minari(dataset_id: str) -> None:
    """Remove a dataset from Minari's folder, and what is kept of it."""
    from minari.storage import get_dataset_path

    slug(dataset_id)
    with lock(cache_root() / "locks" / f"{slug(dataset_id)}.lock"):
        shutil.rmtree(get_dataset_path(dataset_id), ignore_errors=True)
        shutil.rmtree(columns_folder(dataset_id), ignore_errors=True)


def local_datasets() -> list[str]:
    """Ids of the Minari datasets on this machine."""
    from minari import list_local_datasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari warns of datasets it cannot list
        return sorted(list_local_datasets())


def minari_facts(dataset_id: str) -> dict[str, Any]:
    """What the metadata of a local Minari dataset say of where it comes from."""
    from minari.dataset.minari_storage import MinariStorage
    from minari.storage import get_dataset_path

    raw = MinariStorage.read_raw_metadata(get_dataset_path(dataset_id) / "data")
    facts = {key: raw[key] for key in _SHOWN if raw.get(key)}
    if raw.get("env_spec"):
        facts["environment"] = json.loads(raw["env_spec"])["id"]
    return facts


def download_minari(dataset_id: str) -> None:
    """Fetch a dataset from Minari's remote into Minari's folder, whole or not at all.

    `MINARI_REMOTE` names another remote than Farama's, as for Minari itself.

    Raises:
        MissingExtra: the library that speaks to the remote is not installed.
        RLCondenseError: the remote cannot be reached, or does not have it.
    """
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    slug(dataset_id)
    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # a TypeError where there is no version
        raise BadConfig(f"{dataset_id!r} is no Minari id such as 'D4RL/pen/human-v2'") from error
    target = get_dataset_path(dataset_id)
    with lock(cache_root() / "locks" / f"{slug(dataset_id)}.lock"):
        if target.exists():
            return
        building = get_dataset_path("") / f".downloading-{slug(dataset_id)}"
        shutil.rmtree(building, ignore_errors=True)
        try:
            # The library's own account of its retries would bury ours of the outcome.
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
            with (
                _minari_root(building),
                warnings.catch_warnings(),
                contextlib.redirect_stdout(sys.stderr),  # Minari prints as it goes
            ):
                warnings.simplefilter("ignore")
                minari.download_dataset(dataset_id)
            target.parent.mkdir(parents=True, exist_ok=True)
            (building / dataset_id).replace(target)
        except ImportError as error:
            raise MissingExtra("what Minari downloads with", "remote") from error
        except ValueError as error:  # how Minari says that the remote does not have it
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be downloaded: {_reason(error)}"
            ) from error
        except Exception as error:  # each remote's library raises what it likes
            raise RLCondenseError(
                f"dataset {dataset_id!r} cannot be downloaded from Minari's remote "
                f"({_reason(error)}); is this machine online?"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        namespace = dataset_id.rpartition("/")[0]
        if namespace and namespace not in list_local_namespaces():
            create_namespace(namespace)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_minari(dataset_id: str, task: str = "", progress: Progress = silent) -> TransitionDataset:
    """Read a local Minari dataset as memory-mapped columns, converted on first use.

    Neither the conversion nor the result needs memory that grows with the dataset.

    Args:
        dataset_id: its Minari id.
        task: id of the task it belongs to, where known.
        progress: told the steps converted.

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
    folder = columns_folder(dataset_id)
    with _columns_lock(dataset_id):
        fingerprint = _fingerprint(data)
        if not _is_current(folder, fingerprint):
            _convert(dataset_id, folder, fingerprint, progress)
        meta = read_json(folder / _META)
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["columns"]}
    return TransitionDataset(
        **columns,
        id=dataset_id,
        task=task,
        last_observation_repeated=meta[_LAST_REPEATED],
        known_sha256=meta["sha256"],
    )


def columns_folder(dataset_id: str) -> Path:
    """Where the columns of a Minari dataset are kept."""
    return cache_root() / "columns" / slug(dataset_id)


def verify_minari(dataset_id: str) -> str:
    """Read a Minari dataset again, beside the columns kept of it, and give its sha256.

    Raises:
        CorruptArtifact: the columns are damaged, and made again on the next use; or Minari's files
            are not what they were when the columns were made.
    """
    kept = read_minari(dataset_id)
    recorded, actual = kept.sha256, sha256_arrays(kept.columns())
    folder = columns_folder(dataset_id)
    with _columns_lock(dataset_id):
        if actual != recorded:
            shutil.rmtree(folder)
            raise CorruptArtifact(
                f"the columns kept of dataset {dataset_id!r} are damaged (sha256 {actual[:12]}, "
                f"not {recorded[:12]}); they are removed, and read again on the next use"
            )
        again = folder.with_name(f".{folder.name}.verifying")
        try:
            _convert(dataset_id, again, "")
            fresh = str(read_json(again / _META)["sha256"])
        finally:
            shutil.rmtree(again, ignore_errors=True)
    if fresh != recorded:
        raise CorruptArtifact(
            f"Minari's files of dataset {dataset_id!r} are not what they were (sha256 "
            f"{fresh[:12]}, not {recorded[:12]}): build or download it again"
        )
    return fresh


def _columns_lock(dataset_id: str) -> contextlib.AbstractContextManager[None]:
    return lock(cache_root() / "locks" / f"{slug(dataset_id)}.columns.lock")


def _fingerprint(data: Path) -> str:
    files = sorted(file for file in data.rglob("*") if file.is_file())
    return canonical_json([str(data), *map(_stamp, files)])


def _stamp(file: Path) -> list[Any]:
    stat = file.stat()
    return [file.name, stat.st_size, stat.st_mtime_ns]


def _is_current(folder: Path, fingerprint: str) -> bool:
    try:
        meta = read_json(folder / _META)
        kept = [_stamp(folder / f"{name}.npy") for name in meta["columns"]]
        return bool(meta["fingerprint"] == fingerprint and meta["stamps"] == kept)
    except (CorruptArtifact, KeyError, OSError):
        return False


def _convert(dataset_id: str, folder: Path, fingerprint: str, progress: Progress = silent) -> None:
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        columns, repeated = _columns(dataset_id, building, progress)
    except RLCondenseError:
        shutil.rmtree(building)
        raise
    except Exception as error:  # h5py and Minari raise whatever a broken file makes them raise
        shutil.rmtree(building)
        raise CorruptArtifact(
            f"Minari dataset {dataset_id!r} cannot be read: {_reason(error)}"
        ) from error
    meta = {
        "columns": sorted(columns),
        "fingerprint": fingerprint,
        "stamps": [_stamp(building / f"{name}.npy") for name in sorted(columns)],
        _LAST_REPEATED: repeated,
        "sha256": sha256_arrays(columns),
    }
    write_json(building / _META, meta)
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)


def _columns(dataset_id: str, building: Path, progress: Progress) -> tuple[dict[str, Array], bool]:
    import minari
    from gymnasium.spaces import Box, Discrete

    dataset = minari.load_dataset(dataset_id)
    space, actions = dataset.observation_space, dataset.action_space
    if not isinstance(space, Box):
        raise BadConfig(
            f"dataset {dataset_id!r} has {space} observations; only arrays are supported"
        )
    if not isinstance(actions, (Box, Discrete)):
        raise BadConfig(
            f"dataset {dataset_id!r} has {actions} actions; only arrays and single discrete "
            "actions are supported"
        )
    total = int(dataset.total_steps)
    columns: dict[str, Array] = {}
    start = 0
    for number, episode in enumerate(dataset.iterate_episodes()):
        found = _episode_columns(episode, space, number)
        for name, values in found.items() if number == 0 else ():
            columns[name] = _on_disk(
                building / f"{name}.npy", values.dtype, (total, *values.shape[1:])
            )
        if found.keys() != columns.keys():
            odd = ", ".join(sorted(found.keys() ^ columns.keys()))
            raise CorruptArtifact(f"episode {number} of {dataset_id!r} differs in having {odd}")
        stop = start + len(found["rewards"])
        for name, values in found.items():
            columns[name][start:stop] = values
        start = stop
        progress("convert", min(stop, total), total)
    if start != total or not total:
        raise CorruptArtifact(f"dataset {dataset_id!r} has {start} steps, {total} are announced")
    for column in columns.values():
        column.flush()  # type: ignore[attr-defined]
    return columns, bool(dataset.storage.metadata.get(_LAST_REPEATED, False))


def _on_disk(path: Path, dtype: Any, shape: tuple[int, ...]) -> Array:
    """A memory-mapped array in a new `.npy` file that has its room on the disk."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:
        allocate(file.fileno(), path.stat().st_size, path)
    return array  # type: ignore[no-any-return]


def _episode_columns(episode: Any, space: Any, number: int) -> dict[str, Array]:
    length = len(episode.rewards)
    actions = np.asarray(episode.actions)
    discrete = np.issubdtype(actions.dtype, np.integer)
    columns = {
        "observations": _observations(np.asarray(episode.observations)[:length], space),
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


def _observations(observations: Array, space: Any) -> Array:
    """Pictures in uint8, channel first; all else in float32."""
    picture = len(space.shape) == 3 and space.dtype == np.uint8
    if not picture:
        return observations.astype(np.float32)
    channels_last = space.shape[-1] in (1, 3) and space.shape[0] not in (1, 3)
    return observations.transpose(0, 3, 1, 2) if channels_last else observations
