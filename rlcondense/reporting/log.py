"""The log of a leaderboard: what came, changed and was withdrawn, by day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date as Date
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact
from rlcondense.files import FileRefusal, read_strictly, write_json
from rlcondense.records.reading import RESULTS, record_files, record_name

LOG = "log.json"
MOST_BYTES = 2**24


@dataclass(frozen=True)
class Change:
    """A published cell whose record was replaced.

    Attributes:
        cell: its id.
        before: held-out mean of the earlier record; None if it had none.
        after: that of the later one.
        versions: version and commit of this package that made the earlier and the later one; None
            if unknown.
    """

    cell: str
    before: float | None
    after: float | None
    versions: tuple[str | None, str | None] = (None, None)

    @property
    def made_by(self) -> str:
        """The two versions as text; empty if one is unknown, or they are the same."""
        earlier, later = self.versions
        return f"{earlier} → {later}" if earlier and later and earlier != later else ""


@dataclass(frozen=True)
class Entry:
    """What was added, changed and withdrawn on a day.

    Attributes:
        date: as `2026-11-27`.
        added: ids of new cells.
        changed: replaced records.
        withdrawn: ids of cells whose record was found to be gone.
    """

    date: str
    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    withdrawn: tuple[str, ...] = ()


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
    changes = tuple(_change(change) for change in value["changed"])
    withdrawn = _cells(value.get("withdrawn", []))  # logs of earlier versions have none
    return Entry(day, _cells(value["added"]), changes, withdrawn)


def _change(value: Mapping[str, Any]) -> Change:
    earlier, later = value.get("versions", (None, None))  # as above
    for version in (earlier, later):
        if not isinstance(version, str | None):
            raise TypeError("no version")
    before, after = _mean(value["before"]), _mean(value["after"])
    return Change(str(value["cell"]), before, after, (earlier, later))


def _cells(value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(re.fullmatch("[0-9a-f]{16}", cell) for cell in value)):
        raise TypeError("no list of cell ids")
    return tuple(value)


def _mean(value: Any) -> float | None:
    return None if value is None else float(value)


def append_entry(
    leaderboard: Path, day: Date, added: Sequence[str], changed: Sequence[Change]
) -> None:
    """Add to the log what was added and changed on a day, and what is gone since or back again.

    Nothing is written if there is nothing.

    Raises:
        CorruptArtifact: the log is malformed; it is left as it is.
    """
    entries = read_log_strictly(leaderboard)
    states, here = _states(entries), _cells_here(leaderboard)
    withdrawn = [cell for cell, published in states.items() if published and cell not in here]
    added = [*added, *(cell for cell in states if not states[cell] and cell in here)]
    if not added and not changed and not withdrawn:
        return
    if entries and entries[-1].date == day.isoformat():
        last = entries.pop()
        kept = [cell for cell in last.withdrawn if cell not in added]
        new = [cell for cell in added if cell not in last.withdrawn]
        added, changed = [*last.added, *new], [*last.changed, *changed]
        withdrawn = [*kept, *withdrawn]
    if added or changed or withdrawn:
        today = tuple(dict.fromkeys(added)), tuple(changed), tuple(withdrawn)
        entries.append(Entry(day.isoformat(), *today))
    lines = [
        {name: part for name, part in asdict(entry).items() if part or name != "withdrawn"}
        for entry in entries
    ]
    write_json(leaderboard / LOG, lines)


def unlogged(leaderboard: Path, cells: Iterable[str]) -> list[str]:
    """Return the cells of which the log does not say that they are published."""
    states = _states(read_log(leaderboard))
    return [cell for cell in cells if not states.get(cell)]


def _states(entries: Sequence[Entry]) -> dict[str, bool]:
    """Return whether each cell has a record, as the log says."""
    states: dict[str, bool] = {}
    for entry in entries:
        states |= dict.fromkeys((*entry.added, *(change.cell for change in entry.changed)), True)
        states |= dict.fromkeys(entry.withdrawn, False)
    return states


def _cells_here(leaderboard: Path) -> set[str]:
    return {record_name(path) for path in record_files(leaderboard / RESULTS)}


@dataclass(frozen=True)
class Event:
    """What happened to the record of a cell.

    Attributes:
        date: of the entry.
        name: `added`, `replaced` or `withdrawn`.
        change: of a replaced record.
    """

    date: str
    name: str
    change: Change | None = None


def histories_of(entries: Sequence[Entry]) -> dict[str, list[Event]]:
    """Return by cell what happened to its record, oldest first."""
    histories: dict[str, list[Event]] = {}
    for entry in entries:
        for cell in entry.added:
            histories.setdefault(cell, []).append(Event(entry.date, "added"))
        for change in entry.changed:
            histories.setdefault(change.cell, []).append(Event(entry.date, "replaced", change))
        for cell in entry.withdrawn:
            histories.setdefault(cell, []).append(Event(entry.date, "withdrawn"))
    return histories
