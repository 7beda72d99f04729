"""Reading records that anybody may have written: strict, bounded, and never through a link."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.reporting.schema import shown

MOST_BYTES = 16 * 2**20  # a record of a hundred policies and ten thousand episodes has a third
INDEX = "index.json"
INDEX_FORMAT = 1


class Refused(RLCondenseError):
    """A file that is not read, and why."""


@dataclass(frozen=True)
class Source:
    """Where records lie.

    Attributes:
        root: what was given.
        records: their folder, or the one file.
        condensed: the folder of the condensed datasets that go with them, if there is one.
        index: of a leaderboard, the file that pins its records.
    """

    root: Path
    records: Path
    condensed: Path | None = None
    index: Path | None = None

    def files(self) -> Iterator[tuple[Path, str]]:
        """What lies there, and why it is no record's file, which is empty for one that may be.

        What a results folder keeps beside its records for itself is passed over.
        """
        if self.records.is_file() and not self.records.is_symlink():
            yield self.records, ""
            return
        if self.records.is_symlink():
            yield self.records, "is a symbolic link"
            return
        for path in sorted(self.records.iterdir()):
            if path.name.startswith(".") and self.index is None:
                continue
            if path.is_symlink():
                yield path, "is a symbolic link"
            elif path.is_dir():
                yield path, "is a folder, where only records may lie"
            elif path.suffix != ".json":
                yield path, "is no record: its name does not end in .json"
            else:
                yield path, ""


def source_of(path: Path) -> Source:
    """What a path holds: a leaderboard, a results folder, a folder of records, or one record.

    Raises:
        BadConfig: nothing of the kind.
    """
    if path.is_file():
        return Source(path, path)
    if not path.is_dir():
        raise BadConfig(f"there is no leaderboard, results folder or record {str(path)!r}")
    if (path / "results").is_dir() or (path / INDEX).is_file():
        if not (path / "results").is_dir():
            raise BadConfig(f"leaderboard {str(path)!r} has no folder 'results'")
        return Source(path, path / "results", index=path / INDEX)
    if (path / "records").is_dir():
        return Source(path, path / "records", condensed=path / "condensed")
    if not any(path.glob("*.json")):
        raise BadConfig(f"{str(path)!r} holds no records")
    return Source(path, path)


def read_strictly(path: Path, most: int = MOST_BYTES) -> Any:
    """The JSON of a file, if it is plain JSON of a bearable size.

    Args:
        path: of the file.
        most: bytes that are bearable.

    Raises:
        Refused: it is not; says why, without what the file says.
    """
    text = read_bounded(path, most)
    try:
        return json.loads(
            text.decode(),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_no_duplicates,
        )
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except UnicodeDecodeError:
        raise Refused("is not in UTF-8") from None
    except ValueError as error:
        raise Refused(f"is not JSON: {error}") from None


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file, as it stands there: nothing of it has been checked.

    Raises:
        Refused: it is no JSON object that can be read.
    """
    record = read_strictly(path)
    if not isinstance(record, dict):
        raise Refused("is no record: its JSON is no object")
    return record


def read_index(path: Path) -> dict[str, str]:
    """The content hashes that a leaderboard pins, by cell id.

    Raises:
        Refused: it is no index.
    """
    index = read_strictly(path)
    if not isinstance(index, dict) or index.keys() != {"format", "records"}:
        raise Refused("is no index: it must hold 'format' and 'records'")
    if index["format"] != INDEX_FORMAT:
        raise Refused(f"has format {shown(index['format'])}, not {INDEX_FORMAT}")
    pins = index["records"]
    if not isinstance(pins, dict) or not all(
        re.fullmatch("[0-9a-f]{16}", cell)
        and isinstance(pin, str)
        and re.fullmatch("[0-9a-f]{64}", pin)
        for cell, pin in pins.items()
    ):
        raise Refused("is no index: its records must be cell ids and sha256")
    return pins


def read_bounded(path: Path, most: int = MOST_BYTES) -> bytes:
    """What a plain file holds, if it is not too large.

    Raises:
        Refused: it is, or it is a link, a pipe or the like.
    """
    try:
        # Neither through a link nor waiting for somebody to write into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Refused("is no plain file")
        if status.st_size > most:
            raise Refused(f"is too large: {status.st_size:,} bytes, at most {most:,}")
        return file.read(most)


def _no_constant(name: str) -> float:
    raise Refused(f"holds {name}, which is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise Refused(f"holds a number that is too large: {shown(text)}")
    return value


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise Refused(f"names {shown(twice)} twice")
    return found
