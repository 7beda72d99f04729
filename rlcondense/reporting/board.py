"""The leaderboard: records on disk, sorted by suite, with aggregates over tasks."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import data_root
from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import read_json
from rlcondense.making import make_task
from rlcondense.reporting.rows import Group, Row, groups_of
from rlcondense.reporting.statistics import STATISTICS, Interval, aggregate, units
from rlcondense.running.plan import Planned, plan_suite
from rlcondense.running.store import SCHEMA_VERSION, Found
from rlcondense.running.suite import Suite, load_suite, shipped_suites

Record = dict[str, Any]
Array = npt.NDArray[np.float64]
MISSING = "missing"


@dataclass(frozen=True)
class Aggregate:
    """A row of several tasks taken together, on held-out levels.

    Attributes:
        learner: `{"id", "config"}`; None for policies.
        name: the row's name.
        method: `{"id", "config"}`.
        budget: as asked for.
        tasks: ids of the tasks with a record.
        of: how many tasks the suite plans this row on.
        normalised: by statistic, of (R - r_min) / (r_max - r_min).
        recovery: by statistic, of (R - random policy) / (expert - random policy), given what those
            two were measured to return; None where a task has no such scale.
        above: on how many tasks the row is above each floor.
    """

    learner: Mapping[str, Any] | None
    name: str
    method: Mapping[str, Any]
    budget: Mapping[str, Any] | None
    tasks: tuple[str, ...]
    of: int
    normalised: Mapping[str, Interval] | None
    recovery: Mapping[str, Interval] | None
    above: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The aggregate as plain values."""
        plain = dict(vars(self))
        for scale in ("normalised", "recovery"):
            if plain[scale] is not None:
                plain[scale] = {name: i.to_json() for name, i in plain[scale].items()}
        return {**plain, "tasks": list(self.tasks)}


@dataclass(frozen=True)
class Published:
    """What a paper reports for a row.

    Attributes:
        task: id.
        method: id.
        learner: settings by which to know the row's learner.
        seen: mean return.
        heldout: mean return.
    """

    task: str
    method: str
    seen: float
    heldout: float
    learner: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, group: Group, row: Row) -> bool:
        """Whether a row is the one that the paper's is to be compared with."""
        config = group.learner["config"]
        alike = all(config.get(key) == value for key, value in self.learner.items())
        return (self.task, self.method) == (group.task, row.id) and (alike or row.is_policy)


@dataclass(frozen=True)
class SuitePart:
    """What the leaderboard has of one suite.

    Attributes:
        name: of the suite.
        summary: one sentence.
        planned: how many cells it has.
        done: for how many of them there is a record that is done.
        groups: its tables; what has no record in them is `missing`.
        aggregates: over tasks.
        published: the figures of the paper whose tables these are.
    """

    name: str
    summary: str
    planned: int
    done: int
    groups: tuple[Group, ...]
    aggregates: tuple[Aggregate, ...] = ()
    published: tuple[Published, ...] = ()

    def published_of(self, group: Group, row: Row) -> Published | None:
        """The paper's figures for a row."""
        return next((p for p in self.published if p.fits(group, row)), None)

    def to_json(self) -> dict[str, Any]:
        """The part as plain values."""
        return {
            **vars(self),
            "groups": [group.to_json() for group in self.groups],
            "aggregates": [row.to_json() for row in self.aggregates],
            "published": [dict(vars(row)) for row in self.published],
        }


@dataclass(frozen=True)
class Board:
    """Everything that is published.

    Attributes:
        records: what was read, by cell id; of the returns arrays, of the level seeds a digest.
        groups: all of it, whatever suite it is of.
        suites: by suite; those of which there is something.
    """

    records: Mapping[str, Record]
    groups: tuple[Group, ...]
    suites: tuple[SuitePart, ...]

    def to_json(self) -> dict[str, Any]:
        """The board as plain values, without the records."""
        return {
            "records": len(self.records),
            "groups": [group.to_json() for group in self.groups],
            "suites": [suite.to_json() for suite in self.suites],
        }


def read_results(folder: Path) -> dict[str, Record]:
    """The records of a folder by cell id, in its order, as far as reports need them.

    Raises:
        RLCondenseError: there is no such folder.
        CorruptArtifact: a file is no record of this version.
    """
    if not folder.is_dir():
        raise RLCondenseError(f"{folder} is no folder with records")
    records = {}
    for path in sorted(folder.glob("*.json")):
        record = read_json(path)
        try:
            if record["schema_version"] != SCHEMA_VERSION or record["cell_id"] != path.stem:
                raise KeyError("schema_version or cell_id")
            records[path.stem] = _slim(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptArtifact(
                f"{path} is no record ('rlcondense leaderboard verify' says more): {error}"
            ) from error
    return records


def _slim(record: Record) -> Record:
    """A record whose thousands of numbers take little memory."""
    record.pop("lengths", None)
    if record["status"] == "done":
        record["returns"] = {
            split: np.array(rows, np.float64) for split, rows in record["returns"].items()
        }
        levels = json.dumps(record.pop("level_seeds"), sort_keys=True)
        record["levels_sha256"] = hashlib.sha256(levels.encode()).hexdigest()
    return record


def build_board(records: Mapping[str, Record], suites: Sequence[str] | None = None) -> Board:
    """Sort records by suite and compare them.

    Args:
        records: of `read_results`.
        suites: which suites to show; by default all that are shipped and have a record.

    Raises:
        CorruptArtifact: two rows that stand beside each other played other levels.
    """
    _check_levels(records.values())
    names = shipped_suites() if suites is None else suites
    parts = [suite_part(load_suite(name), records) for name in names]
    return Board(
        records=records,
        groups=tuple(groups_of(records.values(), score_range)),
        suites=tuple(part for part in parts if part.done or suites is not None),
    )


def _check_levels(records: Iterable[Record]) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        if record["status"] != "done":
            continue
        cell = record["cell"]
        key = json.dumps([cell["task"], cell["evaluation"]], sort_keys=True)
        first = seen.setdefault(key, record)
        if first["levels_sha256"] != record["levels_sha256"]:
            raise CorruptArtifact(
                f"records {first['cell_id']} and {record['cell_id']} of {cell['task']} were "
                "evaluated on different levels"
            )


@cache
def score_range(task: str) -> tuple[float, float] | None:
    """r_min and r_max of a task, or None where it is not to be had here."""
    try:
        return make_task(task).score_range
    except RLCondenseError:
        return None


def suite_part(suite: Suite, records: Mapping[str, Record]) -> SuitePart:
    """What there is of a suite, and what is missing."""

    def look(ids: Iterable[str]) -> dict[str, Found]:
        return {cell_id: _found(records.get(cell_id)) for cell_id in ids}

    plan = plan_suite(suite, look)
    found = [_record_of(planned, records) for planned in plan]
    cells = [record for record in found if record is not None]
    done = sum(record["status"] == "done" for record in cells)
    groups = tuple(groups_of(cells, score_range)) if done else ()
    return SuitePart(
        name=suite.name,
        summary=suite.summary,
        planned=len(plan),
        done=done,
        groups=groups,
        aggregates=tuple(_aggregates(groups, records)),
        published=_published(suite.name),
    )


def _found(record: Record | None) -> Found:
    if record is None:
        return Found("missing")
    size = record.get("report", {}).get("size")
    facts = {"size": size, "labels": record.get("labels")} if record["status"] == "done" else None
    return Found(record["status"], facts=facts)


def _record_of(planned: Planned, records: Mapping[str, Record]) -> Record | None:
    """The record of a planned cell, or what stands for one that is missing."""
    if planned.cell is None:
        return None
    missing = {"cell": planned.cell.to_json(), "status": MISSING, "reason": planned.skip}
    return records.get(planned.id, missing)


def _published(suite: str) -> tuple[Published, ...]:
    """The figures of a suite's paper, if it is one's."""
    path = data_root() / "baselines" / suite / "published.toml"
    if not path.is_file():
        return ()
    return tuple(Published(**row) for row in tomllib.loads(path.read_text())["rows"])


def _aggregates(groups: Sequence[Group], records: Mapping[str, Record]) -> list[Aggregate]:
    """Every row that a suite has on several tasks."""
    found: dict[str, list[tuple[Group, Row]]] = {}
    for group in groups:
        for row in group.rows:
            learner = None if row.is_policy else group.learner
            key = [learner, row.method, row.budget, group.learner_seeds, group.evaluation]
            place = found.setdefault(json.dumps(key, sort_keys=True), [])
            if group.task not in [other.task for other, _ in place]:
                place.append((group, row))
    return [
        made
        for places in found.values()
        if len(places) > 1 and (made := _aggregate(places, records)) is not None
    ]


def _aggregate(
    places: Sequence[tuple[Group, Row]], records: Mapping[str, Record]
) -> Aggregate | None:
    done = [(group, row) for group, row in places if row.status == "done"]
    if not done:
        return None
    group, first = done[0]
    returns = [units([records[cell] for cell in row.cells], "heldout") for _, row in done]
    return Aggregate(
        learner=None if first.is_policy else group.learner,
        name=first.name,
        method=first.method,
        budget=first.budget,
        tasks=tuple(group.task for group, _ in done),
        of=len(places),
        normalised=_scaled(returns, [score_range(group.task) for group, _ in done]),
        recovery=_scaled(returns, [_span(group) for group, _ in done]),
        above={a.floor: sum(_is_above(row, a.floor) for _, row in done) for a in first.against},
    )


def _scaled(
    returns: Sequence[Array], spans: Sequence[tuple[float, float] | None]
) -> dict[str, Interval] | None:
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return None
    scores = [(x - low) / (high - low) for x, (low, high) in zip(returns, known, strict=True)]
    return {name: aggregate(scores, name) for name in STATISTICS}


def _span(group: Group) -> tuple[float, float] | None:
    """What the random policy and the expert return, where the two can be told apart."""
    floor, ceiling = group.find("random-policy"), group.find("expert")
    if floor is None or ceiling is None or floor.returns is None or ceiling.returns is None:
        return None
    low, high = (row.returns["heldout"]["mean"] for row in (floor, ceiling) if row.returns)
    return (low.estimate, high.estimate) if low.high < high.low else None


def _is_above(row: Row, floor: str) -> bool:
    return any(a.floor == floor and a.verdict == "above" for a in row.against)
