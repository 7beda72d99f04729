"""The log of a leaderboard: what came and changed, by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date as Date
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact
from rlcondense.files import FileRefusal, read_strictly, write_json

LOG = "log.json"
MOST_BYTES = 2**24


@dataclass(frozen=True)
class Change:
    """A published cell whose record was replaced.

    Attributes:
        cell: its id.
        before: held-out mean of the earlier record; None if it had none.
        after: that of the later one.
    """

    cell: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Entry:
    """What was added and changed on a day.

    Attributes:
        date: as `2026-11-27`.
        added: ids of new cells.
        changed: replaced records.
    """

    date: str
    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()


def read_log(leaderboard: Path) -> list[Entry]:
    """Return the entries, oldest first; none if the file is missing or malformed."""
    try:
        return read_log_strictly(leaderboard)
    except CorruptArtifact:
        return []


def read_log_strictly(leaderboard: Path) -> list[Entry]:
    """Return the entries, oldest first; none if there is no file.

    Raises:
        CorruptArtifact: the file is malformed.
    """
    path = leaderboard / LOG
    if not path.exists() and not path.is_symlink():
        return []
    try:
        return [_entry(value) for value in read_strictly(path, MOST_BYTES)]
    except FileRefusal as error:
        raise CorruptArtifact(f"{path} {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is no log of a leaderboard") from error


def _entry(value: Mapping[str, Any]) -> Entry:
    day = Date.fromisoformat(value["date"]).isoformat()
    changes = [
        Change(str(c["cell"]), *map(_mean, (c["before"], c["after"]))) for c in value["changed"]
    ]
    return Entry(day, tuple(map(str, value["added"])), tuple(changes))


def _mean(value: Any) -> float | None:
    return None if value is None else float(value)


def append_entry(
    leaderboard: Path, day: Date, added: Sequence[str], changed: Sequence[Change]
) -> None:
    """Add to the log what was added and changed on a day; nothing if there is nothing.

    Raises:
        CorruptArtifact: the log is malformed; it is left as it is.
    """
    if not added and not changed:
        return
    entries = read_log_strictly(leaderboard)
    if entries and entries[-1].date == day.isoformat():
        last = entries.pop()
        added, changed = [*last.added, *added], [*last.changed, *changed]
    entries.append(Entry(day.isoformat(), tuple(dict.fromkeys(added)), tuple(changed)))
    write_json(leaderboard / LOG, [asdict(entry) for entry in entries])
