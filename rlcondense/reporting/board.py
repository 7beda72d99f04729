"""The leaderboard: records on disk, sorted by suite, with aggregates over tasks."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import data_root
from rlcondense.comparison.rows import Group, Row, groups_of, plain
from rlcondense.datasets.report import BudgetJson
from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import FileRefusal
from rlcondense.make import make_task
from rlcondense.records.cell import Cell
from rlcondense.records.reading import read_record, record_files, record_name, record_path
from rlcondense.records.record import LearnerJson, MethodJson, Record
from rlcondense.records.schema import misshapen, unreadable
from rlcondense.records.store import StoredState
from rlcondense.references import EXPERT, FLOOR, FLOORS, RANDOM_SUBSET
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Planned
from rlcondense.running.suite import Suite, load_suite, shipped_suites
from rlcondense.statistics.intervals import (
    STATISTICS,
    Interval,
    aggregate,
    difference_of,
    difference_over_tasks,
    gap_over_tasks,
    student_returns,
)
from rlcondense.text import one_line
from rlcondense.types import Split

Array = npt.NDArray[np.float64]
MISSING = "missing"
OTHERS = "other"
OF_NO_SUITE = "rows of no suite, with the rows that stand beside them"


@dataclass(frozen=True)
class Aggregate:
    """A row aggregated over several tasks, on held-out levels.

    Attributes:
        learner: its id and config; None for policies.
        name: the row's name.
        method: its id and config.
        budget: as asked for.
        tasks: ids of the tasks with a record.
        of: how many tasks the suite plans this row on.
        above: on how many tasks the row is above each floor, and on how many that is known.
        normalised: by statistic, of (R - r_min) / (r_max - r_min); None, like all fields below, if
            a task has no record, or no such scale.
        recovery: by statistic, of (R - random policy) / (expert - random policy), with the measured
            returns of those two.
        gain: over the random subset, normalised.
        gap: seen minus held-out, normalised.
        probability: that a set (or student, if either has one set) returns more than one of the
            random subset; a mean over tasks.
    """

    learner: LearnerJson | None
    name: str
    method: MethodJson
    budget: BudgetJson | None
    tasks: tuple[str, ...]
    of: int
    above: Mapping[str, tuple[int, int]]
    normalised: Mapping[str, Interval] | None = None
    recovery: Mapping[str, Interval] | None = None
    gain: Interval | None = None
    gap: Interval | None = None
    probability: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the aggregate as plain values."""
        return {name: plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class PublishedRow:
    """The figures of a paper for a row.

    Attributes:
        task: id.
        method: id.
        learner: settings that identify the row's learner.
        seen: mean return.
        heldout: mean return.
    """

    task: str
    method: str
    seen: float
    heldout: float
    learner: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, group: Group, row: Row) -> bool:
        """Return whether a row is the one to compare with the paper's."""
        config = group.learner["config"]
        alike = all(config.get(key) == value for key, value in self.learner.items())
        return (self.task, self.method) == (group.task, row.id) and (alike or row.is_policy)


@dataclass(frozen=True)
class SuitePart:
    """The part of the leaderboard that belongs to one suite.

    Attributes:
        name: of the suite.
        summary: one sentence.
        planned: how many cells it has.
        done: how many of them have a record that is done.
        undone: how many have another record, by its status.
        groups: its tables; rows without a record are `missing`.
        aggregates: over tasks.
        published: the figures of the paper whose tables these are.
    """

    name: str
    summary: str
    planned: int
    done: int
    groups: tuple[Group, ...]
    undone: Mapping[str, int] = field(default_factory=dict)
    aggregates: tuple[Aggregate, ...] = ()
    published: tuple[PublishedRow, ...] = ()

    def published_of(self, group: Group, row: Row) -> PublishedRow | None:
        """Return the paper's figures for a row."""
        return next((p for p in self.published if p.fits(group, row)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the part as plain values."""
        return {
            **vars(self),
            "groups": [group.to_json() for group in self.groups],
            "aggregates": [row.to_json() for row in self.aggregates],
            "published": [dict(vars(row)) for row in self.published],
        }


class ReadRecord(Record, total=False):
    """A record whose returns are arrays, without lengths and level seeds, to save memory.

    `levels_sha256` is the digest of the level seeds; a missing record has status and cell alone.
    """

    levels_sha256: str


@dataclass(frozen=True)
class Board:
    """All published results.

    Attributes:
        records: by cell id.
        groups: all groups, of any suite.
        suites: the parts by suite; only suites with records.
    """

    records: Mapping[str, ReadRecord]
    groups: tuple[Group, ...]
    suites: tuple[SuitePart, ...]


def read_results(folder: Path) -> dict[str, ReadRecord]:
    """Read the records of a folder by cell id, in its order, reduced to what reports need.

    Their names, texts and settings may be anything: see `publishable_results`.

    Raises:
        RLCondenseError: there is no such folder.
        CorruptArtifact: a file is not a record of this version.
    """
    records, refused = _results(folder, unreadable)
    for name, why in refused.items():
        raise CorruptArtifact(refusal(folder, name, why))
    return records


def publishable_results(folder: Path) -> tuple[dict[str, ReadRecord], dict[str, str]]:
    """Read the records of a folder that have the published form, and list the other files.

    Returns:
        The records as `read_results` returns them, and the reason for each other file by name.

    Raises:
        RLCondenseError: there is no such folder.
        CorruptArtifact: there are files, and none of them is such a record.
    """
    records, refused = _results(folder, misshapen)
    if refused and not records:
        name, why = next(iter(refused.items()))
        raise CorruptArtifact(refusal(folder, name, why))
    return records, refused


def _results(
    folder: Path, wrong_form: Callable[[Mapping[str, Any]], str | None]
) -> tuple[dict[str, ReadRecord], dict[str, str]]:
    if not folder.is_dir() or folder.is_symlink():
        raise RLCondenseError(f"{folder} is no folder with records")
    records, refused = {}, {}
    for path in record_files(folder):
        name = record_name(path)
        try:
            if path != (first := record_path(folder, name)):
                raise FileRefusal(f"lies beside {first.name}, a record of the same name")
            record = read_record(path)
            if wrong := wrong_form(record) or _misnamed(record, name):
                raise FileRefusal(f"is no record: {wrong}")
            records[name] = _slim(record)
        except FileRefusal as error:
            refused[path.name] = str(error)
    return records, refused


def refusal(folder: Path, name: str, why: str) -> str:
    """Return a line on a file that holds no record."""
    return f"{folder / one_line(name)} {why} ('rlcondense leaderboard verify' says more)"


def _misnamed(record: Record, name: str) -> str | None:
    """Return why a record of the right form cannot be shown, or None; `verify` checks the rest."""
    if not Cell.from_json(record["cell"]).id == record["cell_id"] == name:
        return "its name or its cell_id is not its cell's"
    return None


def _slim(record: Record) -> ReadRecord:
    """Return a record whose thousands of numbers take little memory."""
    slim: dict[str, Any] = {
        k: value for k, value in record.items() if k not in ("lengths", "level_seeds")
    }
    if record["status"] == "done":
        slim["returns"] = {
            split: np.array(rows, np.float64) for split, rows in record["returns"].items()
        }
        levels = json.dumps(record["level_seeds"], sort_keys=True)
        slim["levels_sha256"] = hashlib.sha256(levels.encode()).hexdigest()
    return cast("ReadRecord", slim)


def comparable(records: Mapping[str, ReadRecord]) -> tuple[dict[str, ReadRecord], dict[str, str]]:
    """Return the records that are comparable, and the reason for each other one by its id.

    Rows of one task and protocol played the same levels, and a dataset's id stands for one dataset:
    the majority of the records decides, and at a tie the first record.
    """
    refused: dict[str, str] = {}
    for key_of in (_played, _learned):
        places: dict[str, dict[str, list[str]]] = {}
        for cell_id, record in records.items():
            if record["status"] == "done" and (key := key_of(record)) is not None:
                places.setdefault(key[0], {}).setdefault(key[1], []).append(cell_id)
        for place in places.values():
            usual = max(place.values(), key=len)
            others = [cell_id for ids in place.values() if ids is not usual for cell_id in ids]
            refused |= {cell_id: _UNLIKE[key_of.__name__].format(usual[0]) for cell_id in others}
    return {k: record for k, record in records.items() if k not in refused}, refused


_UNLIKE = {
    "_played": "was evaluated on different levels than {}",
    "_learned": "learned from different data than {}, and both are called the same",
}


def _played(record: ReadRecord) -> tuple[str, str] | None:
    """Return a task and protocol, and a digest of their levels, or None."""
    cell = record["cell"]
    place = json.dumps([cell["task"], cell["evaluation"]], sort_keys=True)
    return place, record["levels_sha256"]


def _learned(record: ReadRecord) -> tuple[str, str] | None:
    """Return a dataset's id, and the hash of its content, or None."""
    dataset = record["cell"]["dataset"]
    digest = record.get("key", {}).get("dataset_sha256")
    return (dataset, str(digest)) if dataset and digest is not None else None


def shown_results(folder: Path) -> tuple[dict[str, ReadRecord], dict[str, str]]:
    """Return the comparable records of a folder, and why each other file is left out, by name.

    Args:
        folder: the records of a leaderboard.
    """
    records, refused = publishable_results(folder)
    records, unlike = comparable(records)
    return records, refused | {record_path(folder, k).name: why for k, why in unlike.items()}


def build_board(records: Mapping[str, ReadRecord], suites: Sequence[str] | None = None) -> Board:
    """Sort records by suite and compare them.

    Args:
        records: of `read_results`.
        suites: which suites to show; by default all that are shipped and have a record.

    Raises:
        CorruptArtifact: rows of one group played different levels, or learned from different
            data of one name; see `comparable`.
    """
    for cell_id, why in comparable(records)[1].items():
        raise CorruptArtifact(f"record {cell_id} of {records[cell_id]['cell']['task']} {why}")
    names = shipped_suites() if suites is None else suites
    parts = [suite_part(load_suite(name), records) for name in names]
    groups = tuple(groups_of(records.values(), score_range))
    shown = [part for part in parts if part.done or suites is not None]
    if suites is None:
        shown += _others(groups, shown, records)
    return Board(records, groups, tuple(shown))


def _others(
    groups: Sequence[Group], suites: Sequence[SuitePart], records: Mapping[str, ReadRecord]
) -> list[SuitePart]:
    """Return the groups with records that no suite has, as a separate part; counts are of these."""
    shown = {cell for suite in suites for g in suite.groups for row in g.rows for cell in row.cells}
    rest = tuple(g for g in groups if any(not shown.issuperset(row.cells) for row in g.rows))
    cells = {cell for group in rest for row in group.rows for cell in row.cells} - shown
    if not cells:
        return []
    counts = Counter(records[cell]["status"] for cell in cells)
    done, undone = counts.pop("done", 0), dict(sorted(counts.items()))
    return [SuitePart(OTHERS, OF_NO_SUITE, len(cells), done, rest, undone)]


@cache
def score_range(task: str) -> tuple[float, float] | None:
    """Return r_min and r_max of a task, or None if the task is not available here."""
    try:
        return make_task(task).score_range
    except RLCondenseError:
        return None


def suite_part(suite: Suite, records: Mapping[str, ReadRecord]) -> SuitePart:
    """Return the part of a suite: its rows with records, and the missing ones."""

    def look(ids: Iterable[str]) -> dict[str, StoredState]:
        return {cell_id: _stored_state(records.get(cell_id)) for cell_id in ids}

    plan = plan_suite(suite, look)
    cell_records = [_record_of(planned, records) for planned in plan]
    cells = [record for record in cell_records if record is not None]
    counts = Counter(record["status"] for record in cells)
    done, _ = counts.pop("done", 0), counts.pop(MISSING, 0)
    groups = tuple(groups_of(cells, score_range)) if done else ()
    return SuitePart(
        name=suite.name,
        summary=suite.summary,
        planned=len(plan),
        done=done,
        groups=groups,
        undone=dict(sorted(counts.items())),
        aggregates=tuple(_aggregates(groups, records)),
        published=_published(suite.name),
    )


def _stored_state(record: ReadRecord | None) -> StoredState:
    if record is None:
        return StoredState(MISSING)
    size = record.get("report", {}).get("size")
    facts: Any = {"size": size, "labels": record.get("labels")}  # those that a plan reads
    return StoredState(record["status"], facts=facts if record["status"] == "done" else None)


def _record_of(planned: Planned, records: Mapping[str, ReadRecord]) -> ReadRecord | None:
    """Return the record of a planned cell, or a placeholder for a missing one."""
    if planned.cell is None:
        return None
    missing = {"cell": planned.cell.to_json(), "status": MISSING, "reason": planned.skip}
    return records.get(planned.id, cast("ReadRecord", missing))


def _published(suite: str) -> tuple[PublishedRow, ...]:
    """Return the figures of a suite's paper; none if it has no paper."""
    for path in sorted((data_root() / "baselines").glob("*/published.toml")):
        figures = tomllib.loads(path.read_text(encoding="utf-8"))
        if suite in figures["suites"]:
            return tuple(PublishedRow(**row) for row in figures["rows"])
    return ()


def _aggregates(groups: Sequence[Group], records: Mapping[str, ReadRecord]) -> list[Aggregate]:
    """Aggregate every row that a suite has on several tasks."""
    return [
        aggregate
        for places in _places(groups)
        if len(places) > 1 and (aggregate := _aggregate(places, records)) is not None
    ]


def _places(groups: Sequence[Group]) -> list[list[tuple[Group, Row]]]:
    """Collect the rows of one kind and one label regime over tasks that have one dataset each.

    Settings may differ between tasks, as in a paper, if each task has only one such row.
    """
    alike: dict[str, list[tuple[Group, Row]]] = {}
    for group in groups:
        for row in group.rows:
            learner = None if row.is_policy else group.learner
            parts = [learner, row.id, row.budget, group.learner_seeds, group.evaluation]
            place = alike.setdefault(json.dumps(parts, sort_keys=True), [])
            data = [(other.task, other.dataset) for other, _ in place]
            if not row.is_policy or (group.task, group.dataset) not in data:
                place.append((group, row))
    rows: dict[str, list[tuple[Group, Row]]] = {}
    for key, places in alike.items():
        apart = _tasks_repeat(places)
        for group, row in places:
            settings = json.dumps(row.method, sort_keys=True) if apart else ""
            rows.setdefault(key + settings, []).append((group, row))
    of_labels = [alike for places in rows.values() for alike in _of_each_regime(places)]
    return [places for places in of_labels if not _tasks_repeat(places)]


def _of_each_regime(places: Sequence[tuple[Group, Row]]) -> list[list[tuple[Group, Row]]]:
    """Sort the rows of one kind by the labels of those that have a record."""
    regimes = sorted({row.labels for _, row in places if row.labels is not None})
    if len(regimes) < 2:
        return [list(places)]
    return [[place for place in places if place[1].labels in (None, of)] for of in regimes]


def _tasks_repeat(places: Sequence[tuple[Group, Row]]) -> bool:
    return len({group.task for group, _ in places}) < len(places)


def _aggregate(
    places: Sequence[tuple[Group, Row]], records: Mapping[str, ReadRecord]
) -> Aggregate | None:
    done = [(group, row) for group, row in places if row.status == "done"]
    if not done:
        return None
    group, first = done[0]
    same = all(row.method == first.method for _, row in done)
    aggregate = Aggregate(
        learner=None if first.is_policy else group.learner,
        name=first.name if same else first.id,
        method=first.method if same else {"id": first.id, "config": {}},
        budget=first.budget,
        tasks=tuple(group.task for group, _ in done),
        of=len(places),
        above=_above([row for _, row in done]),
    )
    if len(done) < len(places):  # a mean over other tasks is not comparable
        return aggregate
    returns = [returns_of(row, records) for _, row in done]
    ranges = [score_range(group.task) for group, _ in done]
    seen = [returns_of(row, records, "seen") for _, row in done]
    subsets = [_subset(row) for _, row in done]
    widths = [None if span is None else (0.0, span[1] - span[0]) for span in ranges]
    return replace(
        aggregate,
        normalised=_scaled(returns, ranges),
        recovery=_scaled(
            returns, [span_of(g.find(FLOOR), g.find(EXPERT), records) for g, _ in done]
        ),
        gain=_difference(returns, _subset_returns(subsets, records), widths),
        gap=_difference(seen, returns, widths, gap_over_tasks),
        probability=_probability([row for _, row in done]),
    )


def returns_of(row: Row, records: Mapping[str, ReadRecord], split: Split = "heldout") -> Array:
    """Return the returns of a row's students on a split, `(sets, students, episodes)`."""
    return student_returns([records[cell] for cell in row.cells], split)


def _above(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    verdicts = [row.verdicts for row in rows]
    return {
        floor: (
            sum(by_floor.get(floor) == "above" for by_floor in verdicts),
            sum(by_floor.get(floor, "unknown") != "unknown" for by_floor in verdicts),
        )
        for floor in FLOORS
        if any(floor in by_floor for by_floor in verdicts)
    }


def _subset(row: Row) -> tuple[str, ...]:
    """Return the cells of the random subset that a row is compared with; none without one."""
    return next((a.cells for a in row.against if a.floor == RANDOM_SUBSET), ())


def _subset_returns(
    subsets: Sequence[tuple[str, ...]], records: Mapping[str, ReadRecord]
) -> list[Array]:
    """Return each task's random subset's returns; none if a task lacks it."""
    if not all(subsets):
        return []
    return [student_returns([records[cell] for cell in cells], "heldout") for cells in subsets]


def _probability(rows: Sequence[Row]) -> float | None:
    estimates = [
        a.probability.estimate for row in rows for a in row.against if a.floor == RANDOM_SUBSET
    ]
    return float(np.mean(estimates)) if len(estimates) == len(rows) else None


def _difference(
    a: Sequence[Array],
    b: Sequence[Array],
    spans: Sequence[tuple[float, float] | None],
    over_tasks: Callable[[Sequence[Array], Sequence[Array]], Interval] = difference_over_tasks,
) -> Interval | None:
    """Compute the mean difference over tasks, on the scale of normalised returns."""
    scaled = [_on_scale(returns, spans) for returns in (a, b)]
    return None if scaled[0] is None or scaled[1] is None else over_tasks(scaled[0], scaled[1])


def _scaled(
    returns: Sequence[Array], spans: Sequence[tuple[float, float] | None]
) -> dict[str, Interval] | None:
    scores = _on_scale(returns, spans)
    return None if scores is None else {name: aggregate(scores, name) for name in STATISTICS}


def _on_scale(
    returns: Sequence[Array], spans: Sequence[tuple[float, float] | None]
) -> list[Array] | None:
    known = [span for span in spans if span is not None]
    if not returns or len(known) < len(spans):
        return None
    return [(x - low) / (high - low) for x, (low, high) in zip(returns, known, strict=True)]


def span_of(
    floor: Row | None,
    expert: Row | None,
    records: Mapping[str, ReadRecord],
    split: Split = "heldout",
) -> tuple[float, float] | None:
    """Return the mean returns of the random policy and the expert, if the expert's is higher."""
    if floor is None or expert is None:
        return None
    low, high = (returns_of(row, records, split).mean(-1) for row in (floor, expert))
    if not difference_of(high, low).above_zero:
        return None
    return float(low.mean()), float(high.mean())
