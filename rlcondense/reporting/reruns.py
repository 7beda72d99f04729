"""Reruns of published cells that `leaderboard verify --rerun` wrote down beside the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact
from rlcondense.files import FileRefusal, read_strictly, write_json

RERUNS = "reruns.json"
MOST_BYTES = 2**24


@dataclass(frozen=True)
class WrittenRerun:
    """A rerun of a published cell.

    Attributes:
        date: day, as `2026-11-27`.
        agrees: whether it gave the published numbers.
        machine: processor and system that it ran on.
        same_machine: whether the record names the same.
        content_sha256: of the record that was run again.
    """

    date: str
    agrees: bool
    machine: str
    same_machine: bool
    content_sha256: str


def read_reruns(leaderboard: Path) -> dict[str, list[WrittenRerun]]:
    """Return the reruns by cell id, oldest first; none if the file is missing or malformed."""
    try:
        values = read_strictly(leaderboard / RERUNS, MOST_BYTES)
    except FileRefusal:
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        cell: [r for r in map(_rerun, of) if r]
        for cell, of in values.items()
        if isinstance(of, list)
    }


def _rerun(value: Any) -> WrittenRerun | None:
    if not isinstance(value, dict) or value.keys() != {f.name for f in fields(WrittenRerun)}:
        return None
    kinds = {"agrees": bool, "same_machine": bool}
    well = all(isinstance(v, kinds.get(name, str)) for name, v in value.items())
    return WrittenRerun(**value) if well else None


def write_reruns(leaderboard: Path, new: Mapping[str, WrittenRerun]) -> None:
    """Add reruns to those of a leaderboard.

    Raises:
        CorruptArtifact: the file is malformed; it is left as it is.
    """
    path = leaderboard / RERUNS
    kept = read_reruns(leaderboard)
    if path.exists() or path.is_symlink():
        try:
            values = read_strictly(path, MOST_BYTES)
        except FileRefusal as error:
            raise CorruptArtifact(f"{path} {error}") from error
        if values != _plain(kept):
            raise CorruptArtifact(f"{path} does not hold reruns by cell alone")
    for cell, rerun in new.items():
        if rerun not in kept.setdefault(cell, []):
            kept[cell].append(rerun)
    write_json(path, _plain(kept))


def _plain(reruns: Mapping[str, Sequence[WrittenRerun]]) -> dict[str, list[dict[str, Any]]]:
    return {cell: [asdict(rerun) for rerun in of] for cell, of in sorted(reruns.items())}
