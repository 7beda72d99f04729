"""Datasets of one's own in files: traces, recordings, npz, HDF5, parquet, folders of Minari.

A file is known by its content: moved, it is the same data, and a change makes other data of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rlcondense import catalogue
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.exported import DATA
from rlcondense.datasets.flat import HDF5, may_be_frames, read_flat
from rlcondense.datasets.minari import LOSSY, environment_of
from rlcondense.datasets.parquet import holds_jpeg, parquet_files, picture_files
from rlcondense.datasets.recordings import load_recording
from rlcondense.datasets.report import REPORT
from rlcondense.datasets.traces import load_trace, replay
from rlcondense.errors import BadConfig
from rlcondense.files import canonical_json, read_header, read_json, sha256_file
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import task_of_environment
from rlcondense.text import shown

FLAT = (".npz", *HDF5)
TASK = "task"  # of a file's metadata, and of an exported folder's report


class FileDataset:
    """Dataset of a file.

    Args:
        id: catalogue id.
        path: of the file.
        marks: what `marks_of` data in memory returned, which the file does not hold.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str, *, path: str, marks: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.metadata: dict[str, Any] = dict(marks or {})  # known when the file has been opened

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return the dataset's episodes on the task that it was collected on."""
        path = _data_file(self.path)
        if parquet_files(path) and len(task.observation_space.shape or ()) == 3:
            self.metadata = {LOSSY: holds_jpeg(path, may_be_frames)}
        if path.suffix in FLAT or parquet_files(path):
            return read_flat(path, task, progress)
        if self.is_trace:
            return replay(load_trace(path), task, progress=progress)
        return iter(load_recording(path, task))

    @property
    def is_trace(self) -> bool:
        """Return whether the file is a trace, which is replayed."""
        path = _data_file(self.path)
        return path.suffix == ".safetensors" and "quota" in read_header(path)


def local_id(identity: Sequence[str]) -> str:
    """Return the id of data that have no name, from what makes them what they are."""
    digest = hashlib.sha256(canonical_json(list(identity)).encode()).hexdigest()[:12]
    return f"{catalogue.LOCAL}{digest}-v0"  # Minari's ids end in a version


def is_source(name: str) -> bool:
    """Return whether a name is a path of a file or folder that may hold a dataset."""
    path = Path(name)
    if not path.is_dir():
        return path.is_file()
    return is_minari_folder(path) or _data_file(path) != path or bool(parquet_files(path))


def is_path(name: str) -> bool:
    """Return whether a name can only be that of a file or folder, which may be missing."""
    begins = name.startswith(("./", "../", "/", "~"))
    return begins or Path(name).suffix in (*FLAT, ".parquet", ".safetensors")


def is_minari_folder(path: Path) -> bool:
    """Return whether a path is the folder of a Minari dataset."""
    return (path / DATA / "metadata.json").is_file()


def folder_of(dataset_id: str) -> Path | None:
    """Return the folder of Minari that a dataset of the catalogue is read from, if it is one."""
    entry = catalogue.entries("datasets").get(dataset_id)
    path = Path(str(entry.config.get("path", ""))) if entry is not None else Path()
    own = entry is not None and entry.facts.get("source") and is_minari_folder(path)
    return path if own else None


def _data_file(path: Path) -> Path:
    """Return the file of columns in an exported folder; any other path as it is."""
    files = [path / f"{DATA}{suffix}" for suffix in FLAT]
    return next((file for file in files if file.is_file()), path)


def task_of(path: Path) -> str:
    """Return the id of the task that a file says it was collected on, empty if it does not say."""
    if path.is_dir():
        report = read_json(path / REPORT) if (path / REPORT).is_file() else None
        if isinstance(report, dict) and isinstance(report.get(TASK), str):
            return str(report[TASK])
        return task_of_environment(environment_of(path / DATA)) if is_minari_folder(path) else ""
    if path.suffix != ".safetensors":
        return ""
    return str(read_header(path).get("__metadata__", {}).get(TASK, ""))


def content_of(path: Path) -> str:
    """Return the sha256 of a file, or of the files of data in a folder.

    Raises:
        BadConfig: it is a file of no known kind.
    """
    path = _data_file(path)
    if path.is_dir():
        inside = path / DATA if (path / DATA).is_dir() else path
        tables = parquet_files(path)
        files = (
            tables + picture_files(path)
            if tables
            else sorted(f for f in inside.rglob("*") if f.is_file())
        )
        parts: Any = {str(file.relative_to(path)): sha256_file(file) for file in files}
        if tables != sorted(tables):  # by number, which earlier versions did not read them by
            parts = list(parts.items())
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    if path.suffix not in (*FLAT, ".parquet", ".safetensors"):
        raise BadConfig(
            f"{shown(str(path))} is no dataset: one is a trace or recording (.safetensors), "
            f"a file of named columns ({', '.join((*FLAT, '.parquet'))}) or a folder of Minari, "
            "LeRobot or the Hugging Face Hub"
        )
    return sha256_file(path)
