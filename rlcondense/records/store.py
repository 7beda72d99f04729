"""Results on disk: one JSON record a cell, and the condensed datasets that go with them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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
)
from rlcondense.records.schema import SCHEMA_VERSION, is_entry, unreadable

if TYPE_CHECKING:
    from rlcondense.datasets.condensed import CondensedDataset
    from rlcondense.policies import NetworkPolicies

COSTS = ("timings", "memory")
MEASURED = (*COSTS, "content_sha256")  # what two runs of one cell may differ in
MOST_INDEX_BYTES = 2**30  # a hundred thousand records have a fifth
INDEX_FORMAT = 1  # to be raised when `facts_of_record` changes
MANY = 32  # cells from which on reading the index pays


class Results(Protocol):
    """Where records and condensed datasets are kept while cells are computed."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Keep others from making the same thing."""

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """What changes when a record does; empty where there is none."""

    def read_record(self, cell_id: str) -> dict[str, Any] | None:
        """The record of a cell, or None."""

    def write_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a record with its checksum, and give it as kept."""

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """A condensed dataset that was made from the same things, or None."""

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Keep a condensed dataset."""

    def unfinished_path(self, condensation_id: str) -> Path | None:
        """Where a condensation notes how far it is, if it can."""

    def write_policies(self, cell_id: str, policies: NetworkPolicies) -> None:
        """Keep a cell's policies."""


@dataclass(frozen=True)
class Found:
    """What there is of a cell in a store.

    Attributes:
        status: `done`, `failed`, `skipped` or `not-installed`, as its record says; `missing`;
            `corrupt`, if its record cannot be read; `foreign`, if another version wrote it.
        reason: of anything but `done` and `missing`.
        facts: of the record what planning, estimates and costs need; see `facts_of_record`.
        stamp: another one says that the record has been written anew.
    """

    status: str
    reason: str = ""
    facts: Mapping[str, Any] | None = None
    stamp: tuple[int, ...] = ()


MISSING = Found("missing")


class Store:
    """A results folder: `records/<cell id>.json`, `condensed/<condensation id>/`, `policies/`.

    `index-*.jsonl` spares reading thousands of records to know what is there; it may be deleted.

    Args:
        root: the folder; made if it is not there.
        writable: False to look only, in a folder that may be read-only.

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
        """Where the record of a cell lies."""
        return self._inside("records", f"{cell_id}.json")

    def condensed_path(self, condensation_id: str) -> Path:
        """Where a condensed dataset lies."""
        return self._folder("condensed", condensation_id)

    def unfinished_path(self, condensation_id: str) -> Path:
        """Where a condensation notes how far it is."""
        return self._inside("unfinished", f"{condensation_id}.safetensors")

    def policies_path(self, cell_id: str) -> Path:
        """Where the policies of a cell lie, if they are kept."""
        return self._folder("policies", cell_id)

    def _inside(self, part: str, name: str) -> Path:
        """A path of this folder, whose own folders are no links to somewhere else."""
        refuse_links(self.root, self.root / part)
        return self.root / part / name

    def _folder(self, part: str, name: str) -> Path:
        """A folder in this one that is no link itself."""
        refuse_links(self.root, self.root / part / name)
        return self.root / part / name

    def log_path(self, name: str) -> Path:
        """Where a worker's output is kept."""
        return self._inside("logs", f"{name}.log")

    def sweep_path(self, suite: str) -> Path:
        """Where the plan of a suite lies."""
        return self._inside("sweeps", f"{slug(suite)}.json")

    def _lock_path(self, name: str) -> Path:
        return self._inside("locks", f"{name}.lock")

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Keep other processes from making the same thing; `Busy` if there is no waiting."""
        return lock(self._lock_path(name), wait=wait)

    def running(self) -> dict[str, dict[str, Any]]:
        """Cells and condensations that somebody is at, and who: `pid`, `host`, `since`."""
        owners = {path.stem: lock_owner(path) for path in (self.root / "locks").glob("*.lock")}
        return {name: owner for name, owner in owners.items() if owner is not None}

    def read_record(self, cell_id: str) -> dict[str, Any] | None:
        """The record of a cell, or None where there is none, or one that is damaged.

        Raises:
            RLCondenseError: another version of this package wrote it.
        """
        with contextlib.suppress(CorruptArtifact):
            return self._read(cell_id)
        return None

    def _read(self, cell_id: str) -> dict[str, Any]:
        path = self.record_path(cell_id)
        record = read_record_file(path)
        if record.get("cell_id") != cell_id:
            raise CorruptArtifact(f"{path} is the record of cell {record.get('cell_id')}")
        return record

    def write_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write a record with its checksum, and give it as written."""
        kept = sealed(record)
        write_json(self.record_path(record["cell_id"]), kept)
        self._note([self._entry(record["cell_id"], kept, self.stamp(record["cell_id"]))])
        return kept

    def look(self, cell_ids: Iterable[str]) -> dict[str, Found]:
        """What there is of each cell. Records read before, and not changed since, are not again."""
        wanted = list(cell_ids)
        index = self._read_index() if len(wanted) > MANY else {}
        found, fresh = {}, []
        for cell_id in wanted:
            stamp = self.stamp(cell_id)
            if not stamp:
                found[cell_id] = MISSING
                continue
            entry = index.get(cell_id)
            if entry is None or tuple(entry["stamp"]) != stamp:
                entry = self._read_entry(cell_id, stamp)
                fresh.append(entry)
            found[cell_id] = Found(entry["status"], entry["reason"], entry["facts"], stamp)
        if len(wanted) > MANY and self._writable:
            self._note(fresh)
        return found

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """What changes when a record does; empty where there is none."""
        try:
            stat = self.record_path(cell_id).lstat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_size)

    def _read_entry(self, cell_id: str, stamp: tuple[int, ...]) -> dict[str, Any]:
        """What is noted of a record; its stamp was taken before, so that it is never too new."""
        try:
            return self._entry(cell_id, self._read(cell_id), stamp)
        except _Foreign as error:
            said = {"status": "foreign", "reason": str(error)}
        except CorruptArtifact as error:
            said = {"status": "corrupt", "reason": str(error)}
        return {"id": cell_id, "stamp": stamp, "facts": None, **said}

    def _entry(
        self, cell_id: str, record: Mapping[str, Any], stamp: tuple[int, ...]
    ) -> dict[str, Any]:
        return {
            "id": cell_id,
            "stamp": stamp,
            "status": record["status"],
            "reason": record.get("reason", ""),
            "facts": facts_of_record(record) if record["status"] == "done" else None,
        }

    def _note(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add to the index. That only saves time, so that it may fail."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        with contextlib.suppress(OSError), open_to_append(self._index) as file:
            file.write(lines.encode())

    @property
    def _index(self) -> Path:
        return self.root / f"index-{INDEX_FORMAT}.jsonl"

    def _read_index(self) -> dict[str, Any]:
        """What is noted of records by their ids, the latest of each."""
        index = {}
        with contextlib.suppress(FileRefusal):
            for line in read_bounded(self._index, MOST_INDEX_BYTES).splitlines():
                with contextlib.suppress(FileRefusal):  # cut short by a crash
                    entry = parse_json(line)
                    if is_entry(entry):
                        index[entry["id"]] = entry
        return index

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """A stored condensed dataset, if it was made from the same things and is whole."""
        folder = self.condensed_path(condensation_id)
        from rlcondense.datasets.condensed import load_condensed

        try:
            if read_json(folder / "made_from.json") != made_from:
                return None
            return load_condensed(folder)
        except RLCondenseError:
            return None

    def kept(self, condensation_id: str) -> tuple[CondensedDataset, str] | None:
        """A stored condensed dataset that is whole, and what it was made from."""
        from rlcondense.datasets.condensed import load_condensed

        folder = self.condensed_path(condensation_id)
        try:
            return load_condensed(folder), str(read_json(folder / "made_from.json"))
        except RLCondenseError:
            return None

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Store a condensed dataset; its key comes last, so that a torn one is never read."""
        folder = self.condensed_path(condensation_id)
        (folder / "made_from.json").unlink(missing_ok=True)
        data.save(folder)
        write_json(folder / "made_from.json", made_from)

    def write_policies(self, cell_id: str, policies: NetworkPolicies) -> None:
        """Store a cell's policies, for `rlcondense evaluate`."""
        policies.save(self.policies_path(cell_id))


class MemoryStore:
    """Results that are only handed on: for a cell that is computed on another machine.

    Args:
        kept: condensed datasets, and what they were made from, by condensation id.

    Attributes:
        written: likewise, those that were condensed here.
        policies: by cell id.
    """

    def __init__(self, kept: Mapping[str, tuple[CondensedDataset, str]]) -> None:
        self._kept = dict(kept)
        self.written: dict[str, tuple[CondensedDataset, str]] = {}
        self.policies: dict[str, NetworkPolicies] = {}

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Nothing: nobody else sees it."""
        return contextlib.nullcontext()

    def stamp(self, cell_id: str) -> tuple[int, ...]:
        """Empty: there are no records."""
        return ()

    def read_record(self, cell_id: str) -> dict[str, Any] | None:
        """None: what is computed here was not yet."""
        return None

    def write_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with its checksum."""
        return sealed(record)

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """What was given, if it was made from the same things."""
        data, source = self._kept.get(condensation_id, (None, ""))
        return data if source == made_from else None

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Keep a condensed dataset."""
        self.written[condensation_id] = (data, made_from)

    def unfinished_path(self, condensation_id: str) -> None:
        """Nowhere: whoever goes on may be another machine."""

    def write_policies(self, cell_id: str, policies: NetworkPolicies) -> None:
        """Keep a cell's policies."""
        self.policies[cell_id] = policies


class _Foreign(RLCondenseError):
    def __init__(self, path: Path, version: Any) -> None:
        super().__init__(
            f"{path} was written by another version of rlcondense (schema {version}, here "
            f"{SCHEMA_VERSION}) and is left as it is: take another --results, or --refresh"
        )


def read_record_file(path: Path) -> dict[str, Any]:
    """The record of a file.

    Raises:
        CorruptArtifact: it is missing, no record, or was altered.
        RLCondenseError: another version of this package wrote it.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise CorruptArtifact(f"{path} is no record")
    if (version := record.get("schema_version")) != SCHEMA_VERSION:
        raise _Foreign(path, version)
    if record.get("content_sha256") != content_sha256(record):
        raise CorruptArtifact(f"{path} was altered: its sha256 is not what it says")
    if wrong := unreadable(record):
        raise CorruptArtifact(f"{path} is no record: {wrong}")
    return record


def facts_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a finished record what planning, estimates and costs need."""
    report = record.get("report", {})
    return {
        "cell": record["cell"],
        "size": report.get("size"),
        "bytes": report.get("bytes"),
        "labels": record.get("labels"),
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


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of plain values with its checksum."""
    kept: dict[str, Any] = plain(record)
    return {**kept, "content_sha256": content_sha256(kept)}


def costs_sha256(record: Mapping[str, Any]) -> str:
    """The sha256 of what was measured by the clock."""
    costs = {name: record.get(name) for name in COSTS}
    return hashlib.sha256(canonical_json(costs).encode()).hexdigest()


def content_sha256(record: Mapping[str, Any]) -> str:
    """The sha256 of a record without what was measured by the clock."""
    content = {name: value for name, value in record.items() if name not in MEASURED}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
