"""Files that are either whole or absent: atomic writes, checked reads, locks, safe names."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.errors import CorruptArtifact, RLCondenseError

Arrays = Mapping[str, npt.NDArray[Any]]


def slug(identifier: str) -> str:
    """The file name of an id: `procgen/starpilot-easy-v0` is `procgen-starpilot-easy-v0`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", identifier) or ".." in identifier:
        raise RLCondenseError(f"{identifier!r} cannot be made into a file name")
    return identifier.replace("/", "-")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees either the old one or the new."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RLCondenseError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder, or say in one line why not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RLCondenseError(f"cannot write to {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON, or raise `CorruptArtifact`."""
    if not path.exists():
        raise CorruptArtifact(f"{path} is missing")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"{path} is not readable JSON: {error}") from error


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as safetensors."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(contiguous, dict(metadata or {})))


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read safetensors, or raise `CorruptArtifact`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise CorruptArtifact(f"{path} is not a readable safetensors file: {error}") from error


def allocate(descriptor: int, size: int, what: Path) -> None:
    """Reserve a file's bytes before they are written through a memory map.

    A full disk would otherwise end the process without a word.

    Raises:
        RLCondenseError: there is no room.
    """
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise RLCondenseError(
            f"cannot write {what}: {error.strerror} (it needs {size / 1e6:,.0f} MB)"
        ) from error


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_arrays(arrays: Mapping[str, npt.NDArray[Any] | None]) -> str:
    """The sha256 of named arrays: names, dtypes, shapes and contents, in name order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if array is None:
            continue
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `path` against other processes; the system releases it if this one dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise RLCondenseError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
