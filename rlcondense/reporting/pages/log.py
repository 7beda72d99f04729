"""The log, and its feed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlcondense.reporting.log import Change, Entry
from rlcondense.reporting.pages.shared import Pages, Site

MOST_FEED = 30  # entries of the feed


@dataclass(frozen=True)
class Day:
    """An entry of the log with the tasks and methods of its records.

    Attributes:
        date: day.
        added: task, method and number of the new records.
        changed: the records that were replaced, with their task and method.
        withdrawn: how many of the records that came then are gone.
    """

    date: str
    added: tuple[tuple[str, str, int], ...]
    changed: tuple[tuple[str, str, Change], ...]
    withdrawn: int

    @property
    def title(self) -> str:
        """The numbers of the day."""
        count = sum(number for _, _, number in self.added)
        parts = [(count, "added"), (len(self.changed), "changed"), (self.withdrawn, "withdrawn")]
        return ", ".join(f"{number} {name}" for number, name in parts if number)


def log_pages(site: Site) -> Pages:
    """Return the page of the log, and a feed of its latest entries, if there is a log."""
    days = [_day(site, entry) for entry in reversed(site.log)]
    days = [day for day in days if day.title]
    yield site.page("log.html", "log.html", days=days)
    if days:
        yield site.page("feed.xml", "feed.xml", days=days[:MOST_FEED])


def history_of(entries: Iterable[Entry], cells: Sequence[str]) -> list[tuple[str, Change]]:
    """Return when records of cells were replaced, oldest first."""
    wanted = set(cells)
    return [(e.date, change) for e in entries for change in e.changed if change.cell in wanted]


def _day(site: Site, entry: Entry) -> Day:
    records = site.board.records
    counts: dict[tuple[str, str], int] = {}
    here = [cell for cell in entry.added if cell in records]
    for cell in here:
        counts[_place(site, cell)] = counts.get(_place(site, cell), 0) + 1
    changed = [(*_place(site, c.cell), c) for c in entry.changed if c.cell in records]
    added = tuple((*place, number) for place, number in sorted(counts.items()))
    return Day(entry.date, added, tuple(changed), len(entry.added) - len(here))


def _place(site: Site, cell: str) -> tuple[str, str]:
    own = site.board.records[cell]["cell"]
    return own["task"], own["method"]["id"]
