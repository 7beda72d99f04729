"""The reading of untrusted records: strict, bounded, and never through a link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rlcondense.errors import BadConfig
from rlcondense.files import PACKED, FileRefusal, read_strictly
from rlcondense.records.record import Record
from rlcondense.text import shown

RESULTS, PICTURES = "results", "pictures"
PLAIN = ".json"  # ending of records as they are made
ENDINGS = (f"{PLAIN}{PACKED}", PLAIN)
LEADERBOARD = Path("leaderboard")  # where a checkout has it
PUBLISHED = LEADERBOARD / RESULTS
INDEX, SCHEMA = "index.json", "schema.json"
INDEX_FORMAT = 2  # format 1 had no costs
MOST_INDEX_BYTES = 2**26  # of three thousand records it takes half a megabyte


@dataclass(frozen=True)
class Source:
    """The location of records.

    Attributes:
        root: the path that was given.
        records: their folder, or the one file.
        condensed: the folder of their condensed datasets, if there is one.
        index: of a leaderboard, the file that pins its records.
    """

    root: Path
    records: Path
    condensed: Path | None = None
    index: Path | None = None

    def files(self) -> Iterator[tuple[Path, str]]:
        """Yield every path there, and the reason why it cannot be a record, empty if it can.

        Hidden files, which a results folder keeps for itself, are skipped.
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
            elif not path.name.endswith(ENDINGS):
                yield path, f"is no record: its name ends in neither {' nor '.join(ENDINGS)}"
            elif path != (first := record_path(self.records, record_name(path))):
                yield path, f"lies beside {first.name}, a record of the same name"
            else:
                yield path, ""


def source_of(path: Path) -> Source:
    """Find the records of a leaderboard, a results folder, a folder of records or one file.

    Raises:
        BadConfig: the path is none of these.
    """
    if path.is_file():
        return Source(path, path)
    if not path.is_dir():
        raise BadConfig(f"there is no leaderboard, results folder or record {str(path)!r}")
    if (path / RESULTS).is_dir() or (path / INDEX).is_file():
        if not (path / RESULTS).is_dir():
            raise BadConfig(f"leaderboard {str(path)!r} has no folder 'results'")
        return Source(path, path / RESULTS, index=path / INDEX)
    if (path / "records").is_dir():
        return Source(path, path / "records", condensed=path / "condensed")
    if not record_files(path):
        raise BadConfig(f"{str(path)!r} holds no records")
    return Source(path, path)


def record_name(path: Path) -> str:
    """Return the name of a record's file without its ending: the id of its cell."""
    return next((path.name.removesuffix(e) for e in ENDINGS if path.name.endswith(e)), path.name)


def ending_of(folder: Path) -> str:
    """Return the ending of a folder's next record: packed where packed ones lie, else plain."""
    packed, plain = ENDINGS
    return packed if any(folder.glob(f"*{packed}")) else plain


def record_path(folder: Path, cell_id: str, *, new: str = PLAIN) -> Path:
    """Return the path of a cell's record in a folder: the plain one, if it is there twice.

    Args:
        folder: with records.
        cell_id: the cell's id.
        new: ending of a path that is not there yet.
    """
    packed, plain = (folder / f"{cell_id}{ending}" for ending in ENDINGS)
    found = (path for path in (plain, packed) if path.exists() or path.is_symlink())
    return next(found, folder / f"{cell_id}{new}")


def record_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are called as records, in the order of their names."""
    return sorted(path for ending in ENDINGS for path in folder.glob(f"*{ending}"))


def read_record(path: Path) -> Record:
    """Read the JSON object in a file, packed or not, as a record: `misshapen` says if it is one.

    Raises:
        FileRefusal: it is not a readable JSON object.
    """
    record = read_strictly(path)
    if not isinstance(record, dict):
        raise FileRefusal("is no record: its JSON is no object")
    return cast("Record", record)


@dataclass(frozen=True)
class Index:
    """The hashes that a leaderboard pins of its records, by cell id.

    Attributes:
        records: the sha256 of each one's content.
        costs: the sha256 of each one's measured costs; none in an index of format 1.
    """

    records: dict[str, str]
    costs: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the index file holds."""
        return {"format": INDEX_FORMAT, "records": self.records, "costs": self.costs}


def read_index(path: Path) -> Index:
    """Read the index of a leaderboard.

    Raises:
        FileRefusal: it is not an index.
    """
    index = read_strictly(path, MOST_INDEX_BYTES)
    if not isinstance(index, dict) or not {"format", "records"} <= index.keys():
        raise FileRefusal("is no index: it must hold 'format' and 'records'")
    if index["format"] not in (1, INDEX_FORMAT) or isinstance(index["format"], bool):
        raise FileRefusal(f"has format {shown(index['format'])}, not {INDEX_FORMAT}")
    parts = ("records",) if index["format"] == 1 else ("records", "costs")
    if index.keys() != {"format", *parts} or not all(_are_pins(index[part]) for part in parts):
        raise FileRefusal(f"is no index: its {' and '.join(parts)} must be cell ids and sha256")
    return Index(index["records"], index.get("costs", {}))


def _are_pins(pins: Any) -> bool:
    return isinstance(pins, dict) and all(
        re.fullmatch("[0-9a-f]{16}", cell)
        and isinstance(pin, str)
        and re.fullmatch("[0-9a-f]{64}", pin)
        for cell, pin in pins.items()
    )
