"""Reruns of published cells that `leaderboard verify --rerun` wrote down beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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
    return {cell: [r for r in map(_rerun, of) if r] for cell, of in values.items() if _is_list(of)}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _rerun(value: Any) -> WrittenRerun | None:
    if not isinstance(value, dict) or value.keys() != {f.name for f in fields(WrittenRerun)}:
        return None
    kinds = {"agrees": bool, "same_machine": bool}
    well = all(isinstance(v, kinds.get(name, str)) for name, v in value.items())
    return WrittenRerun(**value) if well else None


def write_reruns(leaderboard: Path, new: Mapping[str, WrittenRerun]) -> None:
    """Add reruns to those of a leaderboard."""
    kept = read_reruns(leaderboard)
    for cell, rerun in new.items():
        if rerun not in kept.setdefault(cell, []):
            kept[cell].append(rerun)
    plain = {cell: [asdict(rerun) for rerun in of] for cell, of in sorted(kept.items())}
    write_json(leaderboard / RERUNS, plain)
