"""Results on disk: one JSON record per cell, and the condensed datasets of the cells."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import (
    FileRefusal,
    canonical_json,
    lock,
    lock_owner,
    open_to_append,
    parse_json,
    plain,
    read_bounded,
    read_json,
    refuse_links,
    slug,
    write_json,
    write_packed,
)
from rlcondense.limits import LARGEST
from rlcondense.records.reading import RESULTS, record_path
from rlcondense.records.record import (
    SCHEMA_VERSION,
    Facts,
    IndexEntry,
    Record,
    UnsealedRecord,
)
from rlcondense.records.schema import is_entry, unreadable

if TYPE_CHECKING:
    from rlcondense.datasets.condensed import CondensedDataset
    from rlcondense.policies import NetworkPolicies

COSTS = ("timings", "memory")
MEASURED = (*COSTS, "content_sha256")  # fields in which two runs of one cell may differ
MOST_INDEX_BYTES = 2**28  # a hundred thousand records take four fifths
MADE_FROM = "made_from.json"  # written last: a set without it is torn
INDEX_FORMAT = 3  # raise it when `facts_of_record` changes
_NESTED = frozenset({dict, list, tuple})
MANY = 32  # number of cells from which reading the index saves time


class Results(Protocol):
    """The interface that stores records and condensed datasets while cells are computed."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Lock a cell or condensation against other processes."""

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """Return a stamp that changes when the record does; empty without a record."""

    def read_record(self, cell_id: str) -> Record | None:
        """Read the record of a cell, or None."""

    def write_record(self, record: UnsealedRecord) -> Record:
        """Store a record with its checksum, and return it as stored."""

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """Read a condensed dataset if it was made from the same inputs, else return None."""

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Store a condensed dataset."""

    def unfinished_path(self, condensation_id: str) -> Path | None:
        """Return the path of a condensation's checkpoint, or None if it cannot have one."""

    def write_policies(self, cell_id: str, policies: NetworkPolicies | None) -> None:
        """Store a cell's policies; None removes those of an earlier record."""


@dataclass(frozen=True)
class StoredState:
    """The state of a cell in a store.

    Attributes:
        status: `done`, `failed`, `skipped` or `not-installed`, as its record says; `missing`;
            `corrupt`, if its record cannot be read; `foreign`, if another version wrote it.
        reason: of anything but `done` and `missing`.
        facts: the facts of a finished record.
        stamp: changes when the record is written again.
    """

    status: str
    reason: str = ""
    facts: Facts | None = None
    stamp: tuple[int, ...] = ()


MISSING = StoredState("missing")


class Store:
    """A results folder: `records/<cell id>.json`, `condensed/<condensation id>/`, `policies/`.

    `index-*.jsonl` avoids reading thousands of records to learn their states; it may be deleted.

    Args:
        root: the folder; made if it does not exist.
        writable: False to read only, from a folder that may be read-only.

    Raises:
        RLCondenseError: it cannot be written to.
    """

    def __init__(self, root: Path, *, writable: bool = True) -> None:
        self.root, self._writable = root, writable
        if not writable:
            return
        try:
            for part in ("records", "condensed", "locks"):
                refuse_links(root, root / part)
                (root / part).mkdir(parents=True, exist_ok=True)
            probe = root / "locks" / f".probe.{os.getpid()}.{secrets.token_hex(6)}"
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise RLCondenseError(
                f"cannot write to the results folder {root}: {error.strerror or error}"
            ) from error

    def record_path(self, cell_id: str) -> Path:
        """Return the path of a cell's record."""
        refuse_links(self.root, self.root / "records")
        return record_path(self.root / "records", cell_id)

    def condensed_path(self, condensation_id: str) -> Path:
        """Return the folder of a condensed dataset."""
        return self._folder("condensed", condensation_id)

    def unfinished_path(self, condensation_id: str) -> Path:
        """Return the path of a condensation's checkpoint."""
        return self._inside("unfinished", f"{condensation_id}.safetensors")

    def policies_path(self, cell_id: str) -> Path:
        """Return the folder of a cell's policies, if they are stored."""
        return self._folder("policies", cell_id)

    def _inside(self, part: str, name: str) -> Path:
        """Return a path in this folder, after a check that no folder on the way is a link."""
        refuse_links(self.root, self.root / part)
        return self.root / part / name

    def _folder(self, part: str, name: str) -> Path:
        """Return a folder in this one, after a check that it is not a link."""
        refuse_links(self.root, self.root / part / name)
        return self.root / part / name

    def log_path(self, name: str) -> Path:
        """Return the path of a worker's log."""
        return self._inside("logs", f"{name}.log")

    def sweep_path(self, suite: str) -> Path:
        """Return the path of a suite's plan."""
        return self._inside("sweeps", f"{slug(suite)}.json")

    def _lock_path(self, name: str) -> Path:
        return self._inside("locks", f"{name}.lock")

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Lock a cell or condensation against other processes; without `wait` raise `Busy`."""
        return lock(self._lock_path(name), wait=wait)

    def running(self) -> dict[str, dict[str, Any]]:
        """Return the running cells and condensations, and their owners: `pid`, `host`, `since`."""
        owners = {path.stem: lock_owner(path) for path in (self.root / "locks").glob("*.lock")}
        return {name: owner for name, owner in owners.items() if owner is not None}

    def read_record(self, cell_id: str) -> Record | None:
        """Read the record of a cell; None if it is missing or damaged.

        Raises:
            RLCondenseError: another version of this package wrote it.
        """
        with contextlib.suppress(CorruptArtifact):
            return self._read(cell_id)
        return None

    def _read(self, cell_id: str) -> Record:
        path = self.record_path(cell_id)
        record = read_record_file(path)
        if record.get("cell_id") != cell_id:
            raise CorruptArtifact(f"{path} is the record of cell {record.get('cell_id')}")
        return record

    def write_record(self, record: UnsealedRecord) -> Record:
        """Write a record with its checksum, and return it as written."""
        stored = sealed(record)
        write_record_file(self.record_path(record["cell_id"]), stored)
        self._note([self._entry(record["cell_id"], stored, self.stamp(record["cell_id"]))])
        return stored

    def look(self, cell_ids: Iterable[str]) -> dict[str, StoredState]:
        """Return the state of each cell. Records unchanged since the last reading are not read."""
        wanted = list(cell_ids)
        index = self._read_index() if len(wanted) > MANY else {}
        states, fresh = {}, []
        for cell_id in wanted:
            stamp = self.stamp(cell_id)
            if not stamp:
                states[cell_id] = MISSING
                continue
            entry = index.get(cell_id)
            if entry is None or tuple(entry["stamp"]) != stamp:
                entry = self._read_entry(cell_id, stamp)
                fresh.append(entry)
            states[cell_id] = StoredState(entry["status"], entry["reason"], entry["facts"], stamp)
        if len(wanted) > MANY and self._writable:
            self._note(fresh)
        return states

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """Return a stamp that changes when the record does; empty without a record."""
        try:
            stat = self.record_path(cell_id).lstat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_size)

    def _read_entry(self, cell_id: str, stamp: tuple[int, ...]) -> IndexEntry:
        """Read a record's index entry; its stamp was taken before, so that it is never too new."""
        try:
            return self._entry(cell_id, self._read(cell_id), stamp)
        except _ForeignRecord as error:
            return _no_record(cell_id, stamp, "foreign", error)
        except CorruptArtifact as error:
            return _no_record(cell_id, stamp, "corrupt", error)

    def _entry(self, cell_id: str, record: Record, stamp: tuple[int, ...]) -> IndexEntry:
        return {
            "id": cell_id,
            "stamp": list(stamp),
            "status": record["status"],
            "reason": record.get("reason", ""),
            "facts": facts_of_record(record) if record["status"] == "done" else None,
        }

    def _note(self, entries: Sequence[IndexEntry]) -> None:
        """Append entries to the index. The index only saves time, so this may fail."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        with contextlib.suppress(OSError), open_to_append(self._index) as file:
            file.write(lines.encode())

    @property
    def _index(self) -> Path:
        return self.root / f"index-{INDEX_FORMAT}.jsonl"

    def _read_index(self) -> dict[str, IndexEntry]:
        """Read the index: the latest entry of each record, by id."""
        index = {}
        with contextlib.suppress(FileRefusal):
            for line in read_bounded(self._index, MOST_INDEX_BYTES).splitlines():
                with contextlib.suppress(FileRefusal):  # a line cut short by a crash
                    entry = parse_json(line)
                    if is_entry(entry):
                        index[entry["id"]] = entry
        return index

    def has_condensed(self, condensation_id: str) -> bool:
        """Return whether a condensed dataset is there, whatever it was made from."""
        return (self.condensed_path(condensation_id) / MADE_FROM).exists()

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """Read a condensed dataset if it was made from the same inputs and is whole, else None."""
        folder = self.condensed_path(condensation_id)
        from rlcondense.datasets.condensed import load_condensed

        try:
            if read_json(folder / MADE_FROM) != made_from:
                return None
            return load_condensed(folder)
        except RLCondenseError:
            return None

    def kept(self, condensation_id: str) -> tuple[CondensedDataset, str] | None:
        """Read a condensed dataset and its `made_from`, or None if it is missing or damaged."""
        from rlcondense.datasets.condensed import load_condensed

        folder = self.condensed_path(condensation_id)
        try:
            return load_condensed(folder), str(read_json(folder / MADE_FROM))
        except RLCondenseError:
            return None

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Store a condensed dataset; its key is written last, so that a torn one is never read."""
        folder = self.condensed_path(condensation_id)
        (folder / MADE_FROM).unlink(missing_ok=True)
        data.save(folder)
        write_json(folder / MADE_FROM, made_from)

    def write_policies(self, cell_id: str, policies: NetworkPolicies | None) -> None:
        """Store a cell's policies for `evaluate`; None removes those of an earlier record."""
        folder = self.policies_path(cell_id)
        if policies is not None:
            policies.save(folder)
        elif folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)


class PublishedStore(Store):
    """The records of a leaderboard, to look at.

    Args:
        root: the leaderboard's folder.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, writable=False)

    def record_path(self, cell_id: str) -> Path:
        """Return the path of a cell's published record."""
        refuse_links(self.root, self.root / RESULTS)
        return record_path(self.root / RESULTS, cell_id)


class MemoryStore:
    """Results in memory, for a cell that is computed on another machine.

    Args:
        kept: condensed datasets and their `made_from`, by condensation id.

    Attributes:
        written: likewise, the sets condensed here.
        policies: by cell id.
    """

    def __init__(self, kept: Mapping[str, tuple[CondensedDataset, str]]) -> None:
        self._kept = dict(kept)
        self.written: dict[str, tuple[CondensedDataset, str]] = {}
        self.policies: dict[str, NetworkPolicies | None] = {}

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Do nothing: no other process sees this store."""
        return contextlib.nullcontext()

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """Return an empty stamp: there are no records."""
        return ()

    def read_record(self, cell_id: str) -> Record | None:
        """Return None: there are no records."""
        return None

    def write_record(self, record: UnsealedRecord) -> Record:
        """Return the record with its checksum."""
        return sealed(record)

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """Return a condensed dataset if it was made from the same inputs, else None."""
        data, source = self._kept.get(condensation_id, (None, ""))
        return data if source == made_from else None

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Store a condensed dataset."""
        self.written[condensation_id] = (data, made_from)

    def unfinished_path(self, condensation_id: str) -> None:
        """Return None: another machine may continue the condensation."""

    def write_policies(self, cell_id: str, policies: NetworkPolicies | None) -> None:
        """Store a cell's policies; None removes those of an earlier record."""
        self.policies[cell_id] = policies


class _ForeignRecord(RLCondenseError):
    def __init__(self, path: Path, version: Any) -> None:
        super().__init__(
            f"{path} was written by another version of rlcondense (schema {version}, here "
            f"{SCHEMA_VERSION}) and is left as it is: take another --results, or --refresh"
        )


def _no_record(cell_id: str, stamp: tuple[int, ...], status: str, error: Exception) -> IndexEntry:
    return {
        "id": cell_id,
        "stamp": list(stamp),
        "status": status,
        "reason": str(error),
        "facts": None,
    }


def read_record_file(path: Path) -> Record:
    """Read the record of a file.

    Raises:
        CorruptArtifact: it is missing, not a record, or was altered.
        RLCondenseError: another version of this package wrote it.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise CorruptArtifact(f"{path} is no record")
    if (version := record.get("schema_version")) != SCHEMA_VERSION:
        raise _ForeignRecord(path, version)
    if record.get("content_sha256") != content_sha256(record):
        raise CorruptArtifact(f"{path} was altered: its sha256 is not what it says")
    if wrong := unreadable(record):
        raise CorruptArtifact(f"{path} is no record: {wrong}")
    return cast("Record", record)


def write_record_file(path: Path, record: Record) -> None:
    """Write a record as JSON, one line for each of its parts, packed if the path ends in `.gz`.

    Whole returns lose their ".0", a sixth; `content_sha256` takes both for the same.
    """
    parts = {**record, "returns": _each(_shortest, record.get("returns"))}
    lines = ",\n".join(f'"{part}": {canonical_json(parts[part])}' for part in sorted(record))
    write_packed(path, f"{{\n{lines}\n}}\n".encode())


def facts_of_record(record: Record) -> Facts:
    """Return the facts of a finished record that planning, estimates and costs need."""
    report = record.get("report", {})
    return {
        "cell": record["cell"],
        "size": report.get("size"),
        "bytes": report.get("bytes"),
        "labels": record.get("labels"),
        "findings": [*(report.get("findings") or ()), *record.get("findings", ())],
        "score_correlation": report.get("score_correlation"),
        "fault_auroc": report.get("fault_auroc"),
        "cost": report.get("cost", {}),
        "key": record["key"],
        "timings": record["timings"],
        "memory": record["memory"],
        "means": {
            split: [sum(row) / len(row) for row in rows]
            for split, rows in record["returns"].items()
        },
        "action_selection": record["action_selection"],
        "steps": sum(sum(map(sum, rows)) for rows in record["lengths"].values()),
    }


def sealed(record: UnsealedRecord) -> Record:
    """Return a record as plain values with its checksum."""
    plain_record: UnsealedRecord = plain(record)
    return {**plain_record, "content_sha256": content_sha256(plain_record)}


def costs_sha256(record: Mapping[str, Any]) -> str:
    """Compute the sha256 of a record's measured costs."""
    costs = {name: record.get(name) for name in COSTS}
    return hashlib.sha256(canonical_json(costs).encode()).hexdigest()


def content_sha256(record: Mapping[str, Any]) -> str:
    """Compute the sha256 of a record without its measured costs.

    Returns are taken as floats, so that 10 and 10.0 are the same.
    """
    content = {name: value for name, value in record.items() if name not in MEASURED}
    if "returns" in content:
        content["returns"] = _each(_as_floats, content["returns"])
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _each(change: Callable[[Sequence[Any]], list[Any]], value: Any) -> Any:
    """Return nested objects and lists with the values in them changed, a list of them at once."""
    if isinstance(value, Mapping):
        return {name: _each(change, inner) for name, inner in value.items()}
    if not isinstance(value, list | tuple):
        return change([value])[0]
    if _NESTED.isdisjoint(map(type, value)):  # thousands of calls instead of millions
        return change(value)
    return [_each(change, inner) for inner in value]


def _shortest(values: Sequence[Any]) -> list[Any]:
    """Return whole numbers as ints, and all else, -0.0 too, as it is."""
    return [
        int(value)
        if type(value) is float
        and value.is_integer()
        and abs(value) < LARGEST
        and repr(value) != "-0.0"
        else value
        for value in values
    ]


def _as_floats(values: Sequence[Any]) -> list[Any]:
    """Return ints as floats, and all else, or an int that a float may not hold, as it is."""
    return [
        float(value) if type(value) is int and abs(value) < LARGEST else value for value in values
    ]
