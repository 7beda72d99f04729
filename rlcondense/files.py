"""Files that are either whole or absent: atomic writes, strict reads, locks, safe names.

Files of unknown origin are read by `read_json`, `read_arrays` and `read_bounded`: plain files of a
bounded size, never through a link. Writing never follows a link in a folder of unknown origin.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import platform
import re
import secrets
import stat
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.text import shown

if TYPE_CHECKING:  # commands that only list names do without NumPy
    import numpy.typing as npt

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
MOST_BYTES = 16 * 2**20  # of JSON; a record of 100 policies and 10,000 episodes has a third
MOST_ARRAY_BYTES = 16 * 2**30
# Bytes that HDF5 may need to close a file, and the largest multiple of what it is given to write.
CLOSING_BYTES, HDF5_OVERHEAD = 8_000_000, 2
MOST_HEADER_BYTES = 4 * 2**20  # of a safetensors file
LOOKS = 20  # at a lock that somebody holds who has not said so yet
MOST_OWNER_BYTES = 10_000  # of what a lock says
MOST_DEPTH = 32  # of nested JSON; a record has five
MOST_CONTAINERS = 2**22  # lists and objects of JSON, which take far more memory than text
DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64")
PACKED = ".gz"
_GZIP = 16 + zlib.MAX_WBITS  # what tells zlib that gzip is meant
_GZIP_FLAGS = 3  # the byte that tells what its header has beside
_CONTAINERS = frozenset({dict, list})
# Where half of a surrogate pair may stand.
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = re.compile(rb"[\[{]")
_LONG = re.compile(rb"\d{19}")  # digits that an integer within 64 bits may not have


class FileRefusal(RLCondenseError):
    """Refusal to read a file, with the reason; the file's name is not part of the message."""


def slug(identifier: str) -> str:
    """Return the file name of an id, such as `classic-cartpole-v0` for `classic/cartpole-v0`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", identifier) or ".." in identifier:
        raise RLCondenseError(f"{identifier!r} cannot be made into a file name")
    return identifier.replace("/", "-")


_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """Convert NumPy's numbers and arrays in a value to plain ones."""
    if type(value) in _PLAIN:  # most parts are, and the other questions take longer
        return value
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    import numpy as np

    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _plain_part(value: Any) -> Any:
    """Convert what JSON does not know; looking at every part with `plain` takes longer."""
    converted = plain(value)
    if converted is value:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return converted


_CANONICAL = json.JSONEncoder(
    default=_plain_part, sort_keys=True, separators=(",", ":"), allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values give equal bytes."""
    return _CANONICAL.encode(value)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees either the old one or the new.

    A link with the file's name is replaced, and its target left unchanged.
    """
    if path.name in ("", ".."):
        raise RLCondenseError(f"cannot write {str(path)!r}: it names no file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RLCondenseError(f"cannot write {path}: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file without waiting for the disk; the target of a link is left unchanged.

    Raises:
        OSError: it cannot be written.
    """
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)


def open_to_append(path: Path) -> IO[bytes]:
    """Open a plain file to write at its end; it is made if it is missing.

    Raises:
        OSError: it is a link, a pipe or the like, has a second name, or cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0)
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise OSError(0, "is no plain file of one name", str(path))
    return file


def refuse_links(root: Path, path: Path) -> None:
    """Refuse a path that leads out of a folder through a symbolic link.

    Args:
        root: the folder, which may be a link itself, since the user named it.
        path: path below the folder, perhaps of missing parts.

    Raises:
        RLCondenseError: one of its parts is a link.
    """
    part = root
    for name in path.relative_to(root).parts:
        part = part / name
        if part.is_symlink():
            raise RLCondenseError(
                f"{part} is a symbolic link, and nothing is read or written through one"
            )


def output_folder(path: Path) -> Path:
    """Return the path of a folder to write, if it can be made.

    Raises:
        BadConfig: it is empty, or the working directory, its parent or the root.
    """
    if path.name in ("", ".."):
        raise BadConfig(f"--out must name a folder to write, not {str(path)!r}")
    return path


def new_folder(path: Path) -> Path:
    """Return the path of a folder to write that is not there yet, or empty.

    Raises:
        BadConfig: as for `output_folder`, or something is there.
    """
    output_folder(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadConfig(f"{path} is there already: name a new folder with --out")
    return path


def make_folder(path: Path) -> None:
    """Make a folder, or raise an error with the reason in one line."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RLCondenseError(f"cannot write to {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, a list of plain values on one line."""
    write_bytes(path, json_lines(value).encode())


def json_lines(value: Any) -> str:
    """Return the text that `write_json` writes."""
    return _readable(plain(value)) + "\n"


def _readable(value: Any, indent: str = "") -> str:
    """Return readable JSON: values with objects or lists in them are spread over lines."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        parts = [f"{json.dumps(key)}: {_readable(value[key], inner)}" for key in sorted(value)]
        begin, end = "{", "}"
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        parts, (begin, end) = [_readable(item, inner) for item in value], "[]"
    else:
        return json.dumps(value, separators=(",", ": "))
    lines = f",\n{inner}".join(parts)
    return f"{begin}\n{inner}{lines}\n{indent}{end}"


def check_regular(path: Path) -> None:
    """Refuse a pipe or a device, whose reading may never end; a link to a file is accepted.

    Raises:
        CorruptArtifact: it is neither a file nor a folder.
        OSError: it is missing, or permission is denied.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CorruptArtifact(f"{path} is no regular file")


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read strict JSON, or raise `CorruptArtifact`; see `read_strictly`."""
    try:
        return read_strictly(path, most)
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error


def read_strictly(path: Path, most: int = MOST_BYTES) -> Any:
    """Read the JSON of a plain file of strict JSON; see `parse_json` and `read_unpacked`.

    Args:
        path: of the file.
        most: maximal number of bytes.

    Raises:
        FileRefusal: it is not; the message has the reason, and nothing of the file's content.
    """
    return parse_json(read_unpacked(path, most))


def read_unpacked(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a plain file of bounded size, unpacked by gzip if its name ends in `.gz`.

    Args:
        path: of the file.
        most: maximal number of bytes, packed and unpacked.

    Raises:
        FileRefusal: as for `read_bounded`, or it is not gzip.
    """
    content = read_bounded(path, most)
    return unpack(content, most) if path.suffix == PACKED else content


def unpack(content: bytes, most: int = MOST_BYTES) -> bytes:
    """Unpack gzip of one part, whose header hides nothing.

    Args:
        content: of a file.
        most: maximal number of bytes unpacked.

    Raises:
        FileRefusal: it is not, or unpacks to more.
    """
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        unpacked = unpacker.decompress(content, most + 1)
    except zlib.error as error:
        raise FileRefusal(f"is not gzip: {error}") from None
    if len(unpacked) > most:
        raise FileRefusal(f"is too large: it unpacks to more than {most:,} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise FileRefusal("is not gzip: it is cut short, or something follows it")
    if content[_GZIP_FLAGS]:
        raise FileRefusal("has a name or a comment in its gzip header ('gzip -n' leaves it out)")
    return unpacked


def unpacked_size(content: bytes, most: int = MOST_BYTES) -> int:
    """Return how many bytes gzip unpacks to, at most one more than `most`; 0 of what is no gzip."""
    try:
        return len(zlib.decompressobj(wbits=_GZIP).decompress(content, most + 1))
    except zlib.error:
        return 0


def write_packed(path: Path, content: bytes) -> None:
    """Write a file, packed by gzip without a date if its name ends in `.gz`."""
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == PACKED else content)


def read_bounded(path: Path, most: int = MOST_BYTES, *, follow: bool = False) -> bytes:
    """Read a plain file of bounded size.

    Args:
        path: of the file.
        most: maximal number of bytes.
        follow: whether to follow a link, for a file that the user named.

    Raises:
        FileRefusal: the file is too large, or is a link, a pipe or the like.
    """
    with _open_plain(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise FileRefusal(f"is too large: {size:,} bytes, at most {most:,}")
        try:
            return file.read(most)
        except OSError as error:
            raise FileRefusal(f"cannot be read: {error.strerror}") from None


def _open_plain(path: Path, *, follow: bool = False) -> IO[bytes]:
    """Open a plain file, without following a link or waiting for a pipe."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise FileRefusal("is missing") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        why = "it is a symbolic link" if path.is_symlink() else getattr(error, "strerror", error)
        raise FileRefusal(f"cannot be read: {why}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileRefusal("is no plain file")
    return os.fdopen(descriptor, "rb")


def parse_json(content: bytes) -> Any:
    """Parse strict JSON: UTF-8 without surrogates, NaN, infinities or repeated keys.

    Args:
        content: of a file.

    Raises:
        FileRefusal: it is not strict, is nested deeper than `MOST_DEPTH`, has more than
            `MOST_CONTAINERS` lists and objects, or holds an integer outside int64 and uint64, or a
            number outside double.
    """
    if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS:
        raise FileRefusal(f"has more than {MOST_CONTAINERS:,} lists and objects")
    try:
        value = json.loads(
            content.decode(),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_of_64_bits if _LONG.search(content) else None,  # millions of calls
            object_pairs_hook=_no_duplicates,
        )
        if _HALF_PAIR.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise FileRefusal("is nested too deeply") from None
    except UnicodeDecodeError:
        raise FileRefusal("is not in UTF-8") from None
    except UnicodeEncodeError:
        raise FileRefusal("holds half of a surrogate pair, which is no text") from None
    except ValueError as error:
        raise FileRefusal(f"is not JSON: {error}") from None
    if len(_BRACKETS.findall(content)) > MOST_DEPTH and _is_deep(value):
        raise FileRefusal(f"is nested too deeply: more than {MOST_DEPTH} levels")
    return value


def _is_deep(value: Any) -> bool:
    """Return whether lists and objects are nested deeper than `MOST_DEPTH`."""
    layer = [value]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for part in layer:
            values = part.values() if isinstance(part, dict) else part
            if not _CONTAINERS.isdisjoint(map(type, values)):
                inner += [one for one in values if isinstance(one, (dict, list))]
        if not inner:
            return False
        layer = inner
    return True


def _no_constant(name: str) -> float:
    raise FileRefusal(f"holds {name}, which is no JSON")


def _of_64_bits(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise FileRefusal(f"holds a number that is too large: {shown(digits)}")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise FileRefusal(f"holds a number that is too large: {shown(text)}")
    return value


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    by_name = dict(pairs)
    if len(by_name) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise FileRefusal(f"names {shown(twice)} twice")
    return by_name


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as safetensors."""
    import numpy as np
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(contiguous, dict(metadata or {})))


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read safetensors of known types from a plain file, or raise `CorruptArtifact`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        _check_arrays(path)
        return dict(load_file(path))
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error
    # Of a type that numpy does not have, safetensors raises one of several errors.
    except (AttributeError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is not a readable safetensors file: {error}") from error


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: what its arrays are, and `__metadata__`.

    Raises:
        CorruptArtifact: it is no such file.
    """
    try:
        return _check_arrays(path)
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"{path} is not a readable safetensors file: {error}") from error


def _check_arrays(path: Path) -> dict[str, Any]:
    """Return the header of a file; refuse what is no plain file of arrays of types in `DTYPES`."""
    with _open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_ARRAY_BYTES:
            raise FileRefusal(f"is too large: {size:,} bytes, at most {MOST_ARRAY_BYTES:,}")
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            raise FileRefusal("is not a readable safetensors file: its header is no header")
        header = parse_json(file.read(length))
    arrays = header.items() if isinstance(header, dict) else [("", None)]
    texts = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if not (isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())):
        raise FileRefusal("is not a readable safetensors file: its metadata are no texts")
    for name, facts in arrays:
        dtype = facts.get("dtype") if isinstance(facts, dict) else None
        if name != "__metadata__" and dtype not in DTYPES:
            raise FileRefusal(
                f"holds {shown(name)} of type {shown(dtype)}, not of {', '.join(DTYPES)}"
            )
    return dict(arrays)


def allocate(descriptor: int, size: int, what: Path) -> None:
    """Reserve a file's bytes before they are written through a memory map.

    A full disk would otherwise end the process without a message.

    Raises:
        RLCondenseError: the disk is full.
    """
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise RLCondenseError(
            f"cannot write {what}: {error.strerror} (it needs {size / 1e6:,.0f} MB)"
        ) from error


@contextlib.contextmanager
def room_beside(claim: Path) -> Iterator[Callable[[int], None]]:
    """Give a function that makes sure that a disk has room for so many bytes, before they are due.

    HDF5 buffers its writes, and ends the process if the disk is full when it closes a file. So a
    file of this name reserves room for what comes next, and for closing until the end of a `with`.

    Raises:
        RLCondenseError: there is no room.
    """

    def make_room(size: int) -> None:
        with claim.open("ab") as file:
            allocate(file.fileno(), CLOSING_BYTES + HDF5_OVERHEAD * size, claim.parent)
            file.truncate(CLOSING_BYTES)

    try:
        yield make_room
    finally:
        claim.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Compute the sha256 of a file's bytes, in hexadecimal.

    Raises:
        CorruptArtifact: it is missing, a pipe or the like.
    """
    try:
        with _open_plain(path, follow=True) as file:
            return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error


def sha256_arrays(arrays: Mapping[str, npt.NDArray[Any] | None]) -> str:
    """Compute the sha256 of named arrays: names, dtypes, shapes and contents, in name order."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if array is None:
            continue
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Busy(RLCondenseError):
    """Another process holds a lock.

    Attributes:
        owner: owner in the lock's file: `pid`, `host`, `since` (seconds since 1970).
    """

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        super().__init__(f"{path} is held by {who(owner)}")
        self.owner = owner


def who(owner: Mapping[str, Any]) -> str:
    """Format the owner of a lock for people."""
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock `path` against other processes; the system releases it if this process dies.

    The file names the holder, and is removed afterwards. The file of a dead process locks nothing.

    Args:
        path: of the lock.
        wait: whether to wait until it is free.

    Raises:
        Busy: it is held, and `wait` is False.
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
    looks = LOOKS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open_to_append(path)
        except OSError as error:
            why = "it is a symbolic link" if path.is_symlink() else error.strerror or error
            raise RLCondenseError(f"cannot lock {path}: {why}") from error
        try:
            fcntl.flock(file, how)
            if _is_still(path, file):
                file.truncate(0)
                return file
        except BlockingIOError:
            owner, looks = lock_owner(path), looks - 1
            if owner or not looks:
                file.close()
                raise Busy(path, owner or {}) from None
            time.sleep(0.001)  # who asks for the owner locks it, too, for a moment
        except OSError as error:
            file.close()
            raise RLCondenseError(f"cannot lock {path}: {error.strerror or error}") from error
        except BaseException:
            file.close()
            raise
        file.close()


def _is_still(path: Path, file: IO[bytes]) -> bool:
    """Return whether an open file still has its path: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def lock_owner(path: Path) -> dict[str, Any] | None:
    """Return the holder of a lock, `pid`, `host` and `since`, or None."""
    try:
        with _open_plain(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = parse_json(file.read(MOST_OWNER_BYTES) or b"{}")
                return owner if isinstance(owner, dict) else {}
            return None
    except (OSError, FileRefusal):
        return None
