"""Results on disk: one JSON record a cell, and the condensed datasets that go with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import canonical_json, lock, read_json, write_json
from rlcondense.methods.condensed import CondensedDataset, load_condensed

SCHEMA_VERSION = 1
MEASURED = ("timings", "content_sha256")  # what two runs of one cell may differ in


class Store:
    """A results folder: `records/<cell id>.json` and `condensed/<condensation id>/`.

    Args:
        root: the folder; made if it is not there.

    Raises:
        RLCondenseError: it cannot be written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for part in ("records", "condensed", "locks"):
                (root / part).mkdir(parents=True, exist_ok=True)
            probe = root / "locks" / ".probe"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise RLCondenseError(
                f"cannot write to the results folder {root}: {error.strerror or error}"
            ) from error

    def record_path(self, cell_id: str) -> Path:
        """Where the record of a cell lies."""
        return self.root / "records" / f"{cell_id}.json"

    def condensed_path(self, condensation_id: str) -> Path:
        """Where a condensed dataset lies."""
        return self.root / "condensed" / condensation_id

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Keep other processes from making the same thing."""
        return lock(self.root / "locks" / f"{name}.lock")

    def read_record(self, cell_id: str) -> dict[str, Any] | None:
        """The record of a cell, or None where there is none, or one that was tampered with."""
        try:
            record = read_json(self.record_path(cell_id))
        except CorruptArtifact:
            return None
        if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
            return None
        return record if record.get("content_sha256") == content_sha256(record) else None

    def write_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write a record with its checksum, and give it as written."""
        sealed = {**record, "content_sha256": content_sha256(record)}
        write_json(self.record_path(record["cell_id"]), sealed)
        return sealed

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        """A stored condensed dataset, if it was made from the same things and is whole."""
        folder = self.condensed_path(condensation_id)
        try:
            if read_json(folder / "made_from.json") != made_from:
                return None
            return load_condensed(folder)
        except CorruptArtifact:
            return None

    def write_condensed(self, condensation_id: str, data: CondensedDataset, made_from: str) -> None:
        """Store a condensed dataset; its key comes last, so that a torn one is never read."""
        folder = self.condensed_path(condensation_id)
        (folder / "made_from.json").unlink(missing_ok=True)
        data.save(folder)
        write_json(folder / "made_from.json", made_from)


def content_sha256(record: Mapping[str, Any]) -> str:
    """The sha256 of a record without what was measured by the clock."""
    content = {name: value for name, value in record.items() if name not in MEASURED}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
