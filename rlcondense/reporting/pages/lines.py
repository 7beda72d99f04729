"""The rows of the site's tables, with what their cells need beside the numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rlcondense.catalogue import entries
from rlcondense.comparison.rows import UNMARKED, Group, Row, names_of
from rlcondense.errors import RLCondenseError
from rlcondense.files import canonical_json
from rlcondense.make import recorded_method
from rlcondense.references import BY_ID, POLICIES
from rlcondense.reporting.board import PublishedRow
from rlcondense.reporting.pages.render import key_of, settings_of
from rlcondense.statistics.intervals import Interval
from rlcondense.types import SPLITS, Split

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Line:
    """A row of the site's tables.

    Attributes:
        group: the row's group.
        row: the row.
        learner: its name, with the settings in which learners of one id differ; none of policies.
        tracks: what its method was allowed, keys of `TRACKS`.
        bars: drawings of its interval, by split.
        cells: its condensation seeds and the ids of their records, if they have one.
        paper: the figures of a paper.
    """

    group: Group
    row: Row
    learner: str
    tracks: tuple[str, ...]
    bars: Mapping[Split, Markup]
    cells: tuple[tuple[int, str], ...]
    paper: PublishedRow | None = None

    @property
    def key(self) -> str:
        """The name of the row on the page that compares rows."""
        return key_of([cell for _, cell in self.cells])

    @property
    def clears(self) -> bool:
        """True if it is above all floors that it should beat."""
        row = self.row
        return row.status == "done" and not row.mark and row.id not in POLICIES

    @property
    def is_entry(self) -> bool:
        """True if it is of a method under test, not a reference."""
        return is_entry(self.row)

    @property
    def detail(self) -> str:
        """The settings that distinguish it from methods of the same id."""
        return settings_of(self.row.name)

    @property
    def learner_detail(self) -> str:
        """The settings that distinguish its learner from those of the same id."""
        return settings_of(self.learner)

    @property
    def verdicts(self) -> list[tuple[str, str, str]]:
        """Each floor that it should beat, the verdict, and what replaces the floor's own row."""
        instead = {a.floor: BY_ID[a.id].phrase for a in self.row.against if a.id}
        verdicts = self.row.verdicts.items()
        return [(floor, verdict, instead.get(floor, "")) for floor, verdict in verdicts]

    @property
    def above(self) -> int:
        """The number of floors that it is above."""
        return sum(a.verdict == "above" for a in self.row.against)


def learner_names(groups: Sequence[Group]) -> list[str]:
    """Return each group's learner, with the settings in which those of one id on a task differ."""
    names: dict[int, str] = {}
    for task in dict.fromkeys(group.task for group in groups):
        places = [i for i, group in enumerate(groups) if group.task == task]
        labels = names_of([groups[i].learner for i in places])
        names |= dict(zip(places, labels, strict=True))
    return [names[i] for i in range(len(groups))]


TRACKS = {
    "plays": "plays the seen levels",
    "expert": "uses the expert's network",
    "rewards": "sees rewards",
    "offline": "uses the dataset alone",
}


def tracks_of(row: Row) -> tuple[str, ...]:
    """Return what a row's method was allowed by its settings, keys of `TRACKS`."""
    return tracks(row.id, canonical_json(row.method["config"]))


@cache
def tracks(method: str, settings: str = "{}") -> tuple[str, ...]:
    """Return what a method was allowed, keys of `TRACKS`; nothing if it is not installed here.

    Args:
        method: id.
        settings: its recorded config as JSON. With those that are unknown here it has its usual.
    """
    entry = None if method in POLICIES else entries("methods").get(method)
    if entry is None:
        return ()
    try:
        loaded = entry.load()
        with contextlib.suppress(RLCondenseError):
            loaded = recorded_method(method, json.loads(settings))
        online, needs = loaded.access == "online", frozenset(loaded.needs)
    except (AttributeError, TypeError, RLCondenseError):
        return ()
    used = [name for name in ("expert", "rewards") if name in needs]
    return ("plays", *used) if online else ("offline", *used)


def policy_returns(group: Group, split: str) -> dict[str, float]:
    """Return the mean returns of a group's reference policies."""
    rows = {name: group.find(name) for name in POLICIES}
    return {
        name: row.returns[split]["mean"].estimate
        for name, row in rows.items()
        if row is not None and row.returns is not None
    }


def spans(groups: Sequence[Group]) -> dict[str, tuple[float, float]]:
    """Return the range of each task's bars, the same for all its rows."""
    from rlcondense.reporting.charts import shown_range

    intervals: dict[str, list[Interval]] = {}
    for group in groups:
        intervals.setdefault(group.task, [])
        for row in group.rows:
            if row.returns is not None:
                intervals[group.task] += [row.returns[split]["mean"] for split in SPLITS]
    return {
        task: shown_range(values, room=0.12) if values else (0, 1)
        for task, values in intervals.items()
    }


def is_entry(row: Row) -> bool:
    """Return whether a row belongs to a method under test, not to a reference."""
    return row.status == "done" and not row.is_policy and row.id not in UNMARKED
