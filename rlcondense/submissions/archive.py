"""The release of a leaderboard: an archive of its files with the checksum of each."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import MOST_BYTES as MOST_OF_A_FILE
from rlcondense.files import (
    PACKED,
    FileRefusal,
    read_bounded,
    refuse_links,
    unpacked_size,
    write_bytes,
)
from rlcondense.records.reading import INDEX, PICTURES, RESULTS
from rlcondense.text import one_line

SUMS = "SHA256SUMS"
FOLDERS = (PICTURES, RESULTS, "tables")
ENDING = ".zip"
MOST_FILES = 200_000
MOST_BYTES = 2**30  # of all files
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_FILE_BYTES = 2**28
_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,150}"
NAME = re.compile(rf"(?:{'|'.join(FOLDERS)})/{_PART}|{_PART}\.(?:json|md)|{SUMS}")
LINE = re.compile(r"([0-9a-f]{64})  (.+)")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same bytes


def pack(leaderboard: Path, out: Path) -> int:
    """Write the files of a leaderboard into one archive, with `SHA256SUMS`.

    Args:
        leaderboard: its folder.
        out: the archive to write.

    Returns:
        The number of files, the checksums among them.

    Raises:
        RLCondenseError: it is no leaderboard, or a file of it is no plain file.
    """
    if out.suffix != ENDING:
        raise RLCondenseError(f"an archive's name ends in {ENDING}, and {out.name!r} does not")
    if not (leaderboard / INDEX).is_file():
        raise RLCondenseError(f"there is no leaderboard {str(leaderboard)!r}: it has no {INDEX}")
    contents = {}
    for folder in (".", *FOLDERS):
        refuse_links(leaderboard, leaderboard / folder)
        for path in sorted((leaderboard / folder).glob("*")):
            name = path.relative_to(leaderboard).as_posix()
            if path.is_dir() or name == SUMS or not NAME.fullmatch(name):
                continue
            try:
                contents[name] = read_bounded(path, MOST_FILE_BYTES)
            except FileRefusal as error:
                raise RLCondenseError(f"{path} {error}") from error
    contents[SUMS] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(contents.items())
    ).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED)
    write_bytes(out, content.getvalue())
    return len(contents)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give the folder of an archive's files until the end of a `with`; another path as it is.

    Raises:
        CorruptArtifact: it is no archive of a leaderboard, or a file differs from its checksum;
            nothing of it is left on the disk.
    """
    if path.suffix != ENDING or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rlcondense-") as folder:
        contents = _checked(path)
        if not any(name.startswith(f"{RESULTS}/") for name in contents):
            raise CorruptArtifact(f"{path} is no archive of a leaderboard: it has no {RESULTS}/")
        try:
            for name, content in contents.items():
                file = Path(folder, name)
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content)
        except OSError as error:
            raise CorruptArtifact(f"{path} cannot be unpacked: {error.strerror}") from error
        yield Path(folder)


def _checked(path: Path) -> Mapping[str, bytes]:
    """Return the files of an archive by name, each as its checksum says."""
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {entry.filename: _content(archive, entry) for entry in _entries(archive)}
        _check_unpacked(contents)
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is no archive of a leaderboard: {error}") from error
    try:
        sums = _sums(contents.pop(SUMS, b""))
        found = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        for name in sorted(sums.keys() | found.keys()):
            if sums.get(name) != found.get(name):
                raise FileRefusal(f"holds {one_line(name)}, which differs from {SUMS}")
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error
    return contents


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of an entry, of which no more are unpacked than it announces."""
    with archive.open(entry) as file:
        content = file.read(entry.file_size)
    if len(content) < entry.file_size:
        raise FileRefusal(f"holds {entry.filename}, which ends early")
    return content


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive, all of them plain files of bounded size and fit names."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise FileRefusal(f"holds too many files: {len(entries):,}, at most {MOST_FILES:,}")
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise FileRefusal("holds two files of one name")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not NAME.fullmatch(entry.filename) or kind not in (0, stat.S_IFREG):
            raise FileRefusal(
                f"holds {one_line(entry.filename)!r}, which is no file of a leaderboard"
            )
        if entry.flag_bits & 1 or entry.compress_type not in PACKINGS:
            raise FileRefusal(
                f"holds {entry.filename}, which is encrypted or packed in another way"
            )
        if entry.file_size > MOST_FILE_BYTES:
            raise FileRefusal(f"holds {entry.filename}, which is too large")
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise FileRefusal(f"is too large: more than {MOST_BYTES:,} bytes unpacked")
    return entries


def _check_unpacked(contents: Mapping[str, bytes]) -> None:
    """Refuse packed records that unpack to more than an archive may hold."""
    left = MOST_BYTES
    for name, content in contents.items():
        if name.endswith(PACKED):
            left -= unpacked_size(content, MOST_OF_A_FILE)
        if left < 0:
            raise FileRefusal(f"is too large: its records unpack to more than {MOST_BYTES:,} bytes")


def _sums(content: bytes) -> dict[str, str]:
    """Return the checksums by name."""
    lines = content.decode(errors="replace").splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        raise FileRefusal(f"is no archive of a leaderboard: {SUMS} is missing or malformed")
    return {match[2]: match[1] for match in found if match}
