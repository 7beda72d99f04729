"""The log, and its feed."""

from __future__ import annotations

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
        gone: how many more came then, and are gone since.
        withdrawn: ids of the cells whose record was found to be gone.
    """

    date: str
    added: tuple[tuple[str, str, int], ...]
    changed: tuple[tuple[str, str, Change], ...]
    gone: int
    withdrawn: tuple[str, ...]

    @property
    def title(self) -> str:
        """The numbers of the day."""
        count = sum(number for _, _, number in self.added) + self.gone
        parts = [
            (count, "added"),
            (len(self.changed), "changed"),
            (len(self.withdrawn), "withdrawn"),
        ]
        return ", ".join(f"{number} {name}" for number, name in parts if number)


def log_pages(site: Site) -> Pages:
    """Return the page of the log, and a feed of its latest entries, if there is a log."""
    days = [_day(site, entry) for entry in reversed(site.log)]
    days = [day for day in days if day.title]
    yield site.page("log.html", "log.html", days=days)
    if days:
        yield site.page("feed.xml", "feed.xml", days=days[:MOST_FEED])


def _day(site: Site, entry: Entry) -> Day:
    records = site.board.records
    counts: dict[tuple[str, str], int] = {}
    here = [cell for cell in entry.added if cell in records]
    for cell in here:
        counts[_place(site, cell)] = counts.get(_place(site, cell), 0) + 1
    changed = [(*_place(site, c.cell), c) for c in entry.changed if c.cell in records]
    added = tuple((*place, number) for place, number in sorted(counts.items()))
    gone = sum(site.histories[cell][-1].name == "withdrawn" for cell in entry.added)
    return Day(entry.date, added, tuple(changed), gone, entry.withdrawn)


def _place(site: Site, cell: str) -> tuple[str, str]:
    own = site.board.records[cell]["cell"]
    return own["task"], own["method"]["id"]
