"""The states of a suite's cells, and an estimate of the time that the remaining ones take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rlcondense import __version__
from rlcondense.comparison.views import ResultViews
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_json, who, write_bytes
from rlcondense.limits import check_count
from rlcondense.records.cell import Cell
from rlcondense.records.record import Facts, Record
from rlcondense.records.store import Store, StoredState
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.planned import WHOLE, Part, Planned
from rlcondense.running.suite import Suite, shipped_suites

STATES = ("done", "running", "failed", "skipped", "not-installed", "missing")
TO_SKIP = "to be skipped"  # missing, and known to have no result
OFFERED = ("failed", "missing", "skipped", "not-installed")  # what --only takes
AGAIN = ("failed", "missing", "not-installed")  # what a sweep computes by default
MOST_MANIFEST_BYTES = 2**28  # of a thousand cells it takes a megabyte


@dataclass(frozen=True)
class State:
    """The state of a planned cell.

    Attributes:
        planned: the cell.
        status: one of `STATES`.
        reason: why it failed, was skipped or cannot be computed, or who computes it.
        since: when it was started, in seconds since 1970, if it is running.
        facts: of its record, if it is done.
        unread: whether it has a record that is damaged, or that another version wrote.
        stamp: of its record; see `StoredState`.
    """

    planned: Planned
    status: str
    reason: str = ""
    since: float | None = None
    facts: Facts | None = None
    unread: bool = False
    stamp: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `status --json` prints."""
        out = {"id": self.planned.id, "cell": self.planned.text, "status": self.status}
        if self.reason:
            out["reason"] = self.reason
        return out if self.since is None else {**out, "since": self.since}


def states_of(plan: Sequence[Planned], store: Store) -> list[State]:
    """Return the state of every cell of a plan."""
    stored = store.look([planned.id for planned in plan if planned.cell is not None])
    running = store.running()
    return [_state(planned, stored, running) for planned in plan]


def _state(
    planned: Planned, stored: Mapping[str, StoredState], running: Mapping[str, Mapping[str, Any]]
) -> State:
    if planned.absent:
        return State(planned, "not-installed", planned.absent)
    if planned.cell is None:
        status, why = ("skipped", planned.skip) if planned.skip else ("missing", "")
        return State(planned, status, why or "its size is not known yet")
    cell_state, owner = stored[planned.id], running.get(planned.id)
    if cell_state.status != "done" and owner is not None:
        return State(planned, "running", who(owner), owner.get("since"), stamp=cell_state.stamp)
    status = {"foreign": "failed", "corrupt": "missing"}.get(cell_state.status, cell_state.status)
    reason = cell_state.reason or (planned.skip if status == "missing" else "")
    unread = cell_state.status in ("foreign", "corrupt")
    return State(
        planned, status, reason, facts=cell_state.facts, unread=unread, stamp=cell_state.stamp
    )


def dry_run(
    suite: Suite,
    store: Store,
    only: Collection[str] | None = None,
    part: Part = WHOLE,
    refresh: bool = False,
) -> list[State]:
    """Return the states of the cells that a sweep would compute. Nothing is written.

    Args:
        suite: from `load_suite`.
        store: the store of their records.
        only: as for `sweep`; by default all cells are returned.
        part: the part of the suite that the sweep would compute.
        refresh: as for `sweep`: done cells count as missing.
    """
    from rlcondense.running.plan import plan_suite  # with torch, which `status` needs not

    statuses = statuses_of(only, refresh=refresh)
    plan = plan_suite(suite, store.look)
    part.check(plan, suite.name)
    states = states_of(plan, store)
    if refresh:
        states = anew(states)
    shown = statuses if only is not None else STATES
    return [s for s in states if part.has(s.planned) and s.status in shown]


def anew(states: Iterable[State]) -> list[State]:
    """Return states as a sweep sees them that computes all again: what is done is missing."""
    return [replace(s, status="missing") if s.status == "done" else s for s in states]


def manifest_path(store: Store, suite: Suite) -> Path:
    """Return the path of a suite's plan in a store."""
    return store.sweep_path(suite.name)


def write_manifest(store: Store, suite: Suite, plan: Sequence[Planned]) -> None:
    """Write the plan of a suite into a store."""
    manifest = {
        "suite": suite.name,
        "suite_sha256": suite.sha256,
        "rlcondense": __version__,
        "cells": [planned.to_json() for planned in plan],
    }
    write_bytes(manifest_path(store, suite), json.dumps(manifest).encode())


def read_manifest(store: Store, suite: Suite) -> tuple[list[Planned], bool]:
    """Read the plan that a sweep has written, and whether the suite has changed since.

    Raises:
        BadConfig: there is none.
        CorruptArtifact: it is damaged.
    """
    path = manifest_path(store, suite)
    name = suite.name if suite.name in shipped_suites() else f"{suite.name}.toml"
    if not path.exists():
        raise BadConfig(
            f"no sweep of {suite.name!r} has been begun in {store.root}; "
            f"'rlcondense sweep {name} --dry-run' shows its cells"
        )
    try:
        manifest = read_json(path, MOST_MANIFEST_BYTES)
        plan = [Planned.from_json(values) for values in manifest["cells"]]
        return plan, manifest["suite_sha256"] != suite.sha256
    except (AttributeError, CorruptArtifact, KeyError, TypeError) as error:
        why = str(error) if isinstance(error, CorruptArtifact) else f"{path} is no plan: {error}"
        again = f"'rlcondense sweep {name}' writes the plan anew"
        raise CorruptArtifact(f"{why}; {again}") from error


def time_left(
    states: Sequence[State], store: Store, device: str, refresh: bool = False
) -> Estimate:
    """Estimate the remaining time of a plan, cell after cell, from the timings of finished ones.

    Args:
        states: of its cells.
        store: the store of their records and sets.
        device: `cpu` or `cuda`.
        refresh: whether sets that are there are condensed again.
    """
    cells = cells_left(states)
    ids = set() if refresh else {cell.condensation_id for cell in cells}
    condensed = [id_ for id_ in ids if store.has_condensed(id_)]
    rates = Rates((s.facts for s in states if s.facts is not None), device)
    return rates.estimate(cells, condensed)


def cells_left(states: Iterable[State]) -> list[Cell]:
    """Return the cells that a sweep has still to compute.

    One of a size that is not known yet counts as the cell that it waits for.
    """
    everything = list(states)
    by_id = {state.planned.id: state.planned for state in everything}
    cells = []
    for state in everything:
        planned = state.planned if state.planned.cell else by_id.get(state.planned.after)
        waits = state.status in (*AGAIN, "running")
        if waits and planned is not None and planned.cell is not None and not planned.skip:
            cells.append(planned.cell)
    return cells


@dataclass(frozen=True, repr=False)
class SweepResult(ResultViews):
    """The states of a sweep's cells at its end.

    Attributes:
        suite: the suite of the sweep.
        states: the state of every cell now.
        computed: how many cells were computed by this sweep.
        failed: how many of those failed, or could not be written.
        store: the store of the records.
        stopped: whether it ended early because of failures.
        part: the part of the suite that was its own.
        notes: what is missing, and what differs between the records that were there and this
            environment.
    """

    suite: Suite
    states: list[State]
    computed: int
    failed: int
    store: Store
    stopped: bool = False
    part: Part = WHOLE
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if no cell of this sweep has failed, now or before."""
        own = [state for state in self.states if self.part.has(state.planned)]
        return not self.failed and not any(state.status == "failed" for state in own)

    def counts(self) -> dict[str, int]:
        """Count the cells by status."""
        return counts_of(self.states)

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {status}" for status, number in self.counts().items())
        return "\n".join([f"sweep of {self.suite.name}: {counts}", *self.notes])

    def every_record(self) -> list[Record]:
        return [stored if (stored := self._stored(row)) is not None else row for row in self.rows()]

    def _stored(self, row: Record) -> Record | None:
        """Return the record of a row of a done cell, with the returns of every episode."""
        if row["status"] != "done":
            return None
        return self.store.read_record(Cell.from_json(row["cell"]).id)

    def rows(self) -> list[Record]:
        """Return the rows for tables: one for each cell that has ended.

        They are records reduced to the fields of tables: the returns are each student's mean.
        """
        return [row for state in self.states if (row := _row_of(state)) is not None]


def _row_of(state: State) -> Record | None:
    if state.planned.cell is None:
        return None
    cell, facts = state.planned.cell.to_json(), state.facts
    row: dict[str, Any] = {"cell": cell, "status": state.status, "reason": state.reason}
    if facts is None:
        ended = state.status in ("failed", "skipped", "not-installed")
        return cast("Record", row) if ended else None
    if facts["size"] is not None:
        row["report"] = {"size": facts["size"]}
        if facts["fault_auroc"] is not None:
            row["report"]["fault_auroc"] = facts["fault_auroc"]
            row["report"]["score_correlation"] = facts["score_correlation"]
    row["findings"] = facts["findings"]
    row["labels"], row["action_selection"] = facts["labels"], facts["action_selection"]
    means = facts["means"].items()
    row["returns"] = {split: [[mean] for mean in of_seeds] for split, of_seeds in means}
    return cast("Record", row)


def counts_of(states: Iterable[State]) -> dict[str, int]:
    """Count the cells by status, without statuses that no cell has."""
    counts = Counter(
        TO_SKIP if state.status == "missing" and state.planned.skip else state.status
        for state in states
    )
    return {status: counts[status] for status in (*STATES, TO_SKIP) if counts[status]}


def statuses_of(
    only: Collection[str] | None,
    workers: int | None = None,
    max_failures: int | None = None,
    *,
    refresh: bool = False,
) -> Collection[str]:
    """Return the statuses that `only` stands for, and check all arguments."""
    if refresh and only is not None:
        raise BadConfig("refresh computes everything anew: leave out only")
    for name in only or ():
        if name not in OFFERED:
            raise BadConfig(f"only takes {', '.join(OFFERED)}, not {name!r}")
    for what, value in (("workers", workers), ("max failures", max_failures)):
        if value is not None:
            check_count(what, value)
    return AGAIN if only is None else only
