"""Datasets of one's own in files: traces, recordings, npz and HDF5 files, folders of Minari.

A file is known by its content: moved, it is the same data, and a change makes other data of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.flat import read_flat
from rlcondense.datasets.recordings import load_recording
from rlcondense.datasets.traces import load_trace, replay
from rlcondense.errors import BadConfig
from rlcondense.files import read_header, sha256_file
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.text import shown

FLAT = (".npz", ".hdf5", ".h5")
TASK = "task"  # of a file's metadata


class FileDataset:
    """Dataset of a file.

    Args:
        id: catalogue id.
        path: of the file.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str, *, path: str) -> None:
        self.path = Path(path)

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return the dataset's episodes on the task that it was collected on."""
        if self.path.suffix in FLAT:
            return read_flat(self.path, task, progress)
        if self.is_trace:
            return replay(load_trace(self.path), task, progress=progress)
        return iter(load_recording(self.path, task))

    @property
    def is_trace(self) -> bool:
        """Return whether the file is a trace, which is replayed."""
        return self.path.suffix == ".safetensors" and "quota" in read_header(self.path)


def is_source(name: str) -> bool:
    """Return whether a name is a path of a file or folder that may hold a dataset."""
    path = Path(name)
    return path.is_file() or (path / "data" / "metadata.json").is_file()


def task_of(path: Path) -> str:
    """Return the id of the task that a file says it was collected on, empty if it does not say."""
    if path.suffix in FLAT:
        return ""
    return str(read_header(path).get("__metadata__", {}).get(TASK, ""))


def content_of(path: Path) -> str:
    """Return the sha256 of a file or of all files in a folder.

    Raises:
        BadConfig: it is a file of no known kind.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        parts = {str(file.relative_to(path)): sha256_file(file) for file in files}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    if path.suffix not in (*FLAT, ".safetensors"):
        raise BadConfig(
            f"{shown(str(path))} is no dataset: one is a trace or recording (.safetensors), "
            f"a file of named columns ({', '.join(FLAT)}) or a folder of Minari"
        )
    return sha256_file(path)
