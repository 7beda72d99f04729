"""Files that are either whole or absent: atomic writes, checked reads, locks, safe names."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rlcondense.errors import CorruptArtifact, RLCondenseError

Arrays = Mapping[str, npt.NDArray[Any]]


def slug(identifier: str) -> str:
    """The file name of an id: `procgen/starpilot-easy-v0` is `procgen-starpilot-easy-v0`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", identifier) or ".." in identifier:
        raise RLCondenseError(f"{identifier!r} cannot be made into a file name")
    return identifier.replace("/", "-")


def plain(value: Any) -> Any:
    """A value without NumPy's numbers and arrays, as JSON holds it."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees either the old one or the new."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
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
    write_bytes(path, (json.dumps(plain(value), indent=2, sort_keys=True) + "\n").encode())


def check_regular(path: Path) -> None:
    """Refuse a pipe or a device, whose reading may never end; a link to a file is one.

    Raises:
        CorruptArtifact: it is neither a file nor a folder.
        OSError: there is nothing, or it may not be looked at.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CorruptArtifact(f"{path} is no regular file")


def read_json(path: Path) -> Any:
    """Read JSON, or raise `CorruptArtifact`."""
    if not path.exists():
        raise CorruptArtifact(f"{path} is missing")
    try:
        check_regular(path)
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
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
        check_regular(path)
        return dict(load_file(path))
    # Of a type that numpy does not have, safetensors raises one of several errors.
    except (AttributeError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
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


class Busy(RLCondenseError):
    """Somebody else holds a lock.

    Attributes:
        owner: who, as the lock's file says: `pid`, `host`, `since` (seconds since 1970).
    """

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        super().__init__(f"{path} is held by {who(owner)}")
        self.owner = owner


def who(owner: Mapping[str, Any]) -> str:
    """The owner of a lock, for people."""
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold `path` against other processes; the system releases it if this one dies.

    The file says who holds it, and is gone afterwards. One that is left by a process that died
    binds nobody.

    Args:
        path: of the lock.
        wait: until it is free.

    Raises:
        Busy: it is held, and there was to be no waiting.
    """
    file = _locked(path, wait)
    with file:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": round(time.time(), 3)}
        with contextlib.suppress(OSError):  # a full disk: it is held all the same
            file.write(json.dumps(owner).encode())
            file.flush()
        try:
            yield
        finally:
            # While it is still held: whoever waits for this very file then opens the path anew.
            with contextlib.suppress(OSError):
                path.unlink()


def _locked(path: Path, wait: bool) -> IO[bytes]:
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab", buffering=0)
        except OSError as error:
            raise RLCondenseError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(file, how)
            if _is_still(path, file):
                file.truncate(0)
                return file
        except BlockingIOError:
            file.close()
            raise Busy(path, lock_owner(path) or {}) from None
        except OSError as error:
            file.close()
            raise RLCondenseError(f"cannot lock {path}: {error.strerror or error}") from error
        except BaseException:
            file.close()
            raise
        file.close()


def _is_still(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is what its path names: its last holder may have taken it away."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def lock_owner(path: Path) -> dict[str, Any] | None:
    """Who holds a lock: `pid`, `host`, `since`; None if nobody does."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = json.loads(file.read() or b"{}")
                return owner if isinstance(owner, dict) else {}
            return None
    except (OSError, ValueError):
        return None
