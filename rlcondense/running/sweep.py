"""Sweeps: every cell of a suite computed once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rlcondense import __version__
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import open_to_append, read_json, who, write_bytes
from rlcondense.limits import check_count
from rlcondense.records.cell import Cell
from rlcondense.records.store import Found, Store
from rlcondense.references import WHOLE
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.executors.base import Event, Executor, Setting, executor_of
from rlcondense.running.outcomes import write_failure
from rlcondense.running.plan import Planned, in_shard, plan_suite
from rlcondense.running.suite import Suite

STATES = ("done", "running", "failed", "skipped", "not-installed", "missing")
TO_SKIP = "to be skipped"  # missing, and known to come to nothing
OFFERED = ("failed", "missing", "skipped", "not-installed")  # what --only takes
AGAIN = ("failed", "missing", "not-installed")  # what a sweep computes by default
LOOK_AGAIN = 2.0  # seconds until a cell that somebody else is at is looked for again
MOST_MANIFEST_BYTES = 2**30
MOST_LOSSES = 2  # of a cell's worker, until the cell counts as failed


@dataclass(frozen=True)
class State:
    """Where a planned cell stands.

    Attributes:
        planned: the cell.
        status: one of `STATES`.
        reason: why it failed, was skipped or cannot be computed, or who is at it.
        since: when it was begun, in seconds since 1970, if it is running.
        facts: of its record, if it is done.
        unread: whether it has a record that is damaged, or that another version wrote.
        stamp: of its record; see `Found`.
    """

    planned: Planned
    status: str
    reason: str = ""
    since: float | None = None
    facts: Mapping[str, Any] | None = None
    unread: bool = False
    stamp: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `status --json` prints it."""
        out = {"id": self.planned.id, "cell": self.planned.text, "status": self.status}
        if self.reason:
            out["reason"] = self.reason
        return out if self.since is None else {**out, "since": self.since}


class Watcher(Protocol):
    """Told how a sweep goes."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """The sweep begins: where everything stands, and how much there is to do."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """A worker has begun a cell, or says how far it is."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """A cell has come to an end, and this is left."""

    def notice(self, text: str) -> None:
        """Something that is worth a line."""


class Silent:
    """Says nothing."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Nothing."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """Nothing."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""


def states_of(plan: Sequence[Planned], store: Store) -> list[State]:
    """Where every cell of a plan stands."""
    found = store.look([planned.id for planned in plan if planned.cell is not None])
    running = store.running()
    return [_state(planned, found, running) for planned in plan]


def _state(
    planned: Planned, found: Mapping[str, Found], running: Mapping[str, Mapping[str, Any]]
) -> State:
    if planned.absent:
        return State(planned, "not-installed", planned.absent)
    if planned.cell is None:
        status, why = ("skipped", planned.skip) if planned.skip else ("missing", "")
        return State(planned, status, why or "its size is not known yet")
    there, owner = found[planned.id], running.get(planned.id)
    if there.status != "done" and owner is not None:
        return State(planned, "running", who(owner), owner.get("since"), stamp=there.stamp)
    status = {"foreign": "failed", "corrupt": "missing"}.get(there.status, there.status)
    reason = there.reason or (planned.skip if status == "missing" else "")
    unread = there.status in ("foreign", "corrupt")
    return State(planned, status, reason, facts=there.facts, unread=unread, stamp=there.stamp)


def dry_run(
    suite: Suite,
    store: Store,
    only: Collection[str] | None = None,
    shard: tuple[int, int] | None = None,
    refresh: bool = False,
) -> list[State]:
    """Where the cells stand that a sweep would concern itself with. Nothing is written.

    Args:
        suite: from `load_suite`.
        store: where their records would lie.
        only: as for `sweep`; by default all cells are told of.
        shard: as for `sweep`.
        refresh: as for `sweep`: what is done counts as missing.
    """
    statuses = _check(only, shard, refresh=refresh)
    states = states_of(plan_suite(suite, store.look), store)
    if refresh:
        states = [replace(s, status="missing") if s.status == "done" else s for s in states]
    shown = statuses if only is not None else STATES
    return [s for s in states if in_shard(s.planned, shard) and s.status in shown]


def manifest_path(store: Store, suite: Suite) -> Path:
    """Where the plan of a suite lies in a store."""
    return store.sweep_path(suite.name)


def write_manifest(store: Store, suite: Suite, plan: Sequence[Planned]) -> None:
    """Write down every planned cell."""
    manifest = {
        "suite": suite.name,
        "suite_sha256": suite.sha256,
        "rlcondense": __version__,
        "cells": [planned.to_json() for planned in plan],
    }
    write_bytes(manifest_path(store, suite), json.dumps(manifest).encode())


def read_manifest(store: Store, suite: Suite) -> tuple[list[Planned], bool]:
    """The plan that a sweep has written down, and whether the suite has changed since.

    Raises:
        BadConfig: there is none.
    """
    try:
        manifest = read_json(manifest_path(store, suite), MOST_MANIFEST_BYTES)
        plan = [Planned.from_json(values) for values in manifest["cells"]]
        return plan, manifest["suite_sha256"] != suite.sha256
    except CorruptArtifact:
        raise BadConfig(
            f"no sweep of {suite.name!r} has been begun in {store.root}; "
            "'rlcondense sweep --dry-run' shows its cells"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifact(f"{manifest_path(store, suite)} is no manifest: {error}") from error


def time_left(states: Sequence[State], store: Store, device: str, threads: int) -> Estimate:
    """What is left of a plan, cells one after the other, by what finished ones took."""
    rates = Rates((s.facts for s in states if s.facts is not None), device, threads)
    return _left(rates, states, store)


def _left(rates: Rates, states: Iterable[State], store: Store) -> Estimate:
    everything = list(states)
    by_id = {state.planned.id: state.planned for state in everything}
    cells = []
    for state in everything:
        # What is not known yet takes about what the cell does that it waits for.
        planned = state.planned if state.planned.cell else by_id.get(state.planned.after)
        waits = state.status in ("missing", "running", "failed")
        if waits and planned is not None and planned.cell is not None and not planned.skip:
            cells.append(planned.cell)
    ids = {cell.condensation_id for cell in cells}
    condensed = [id_ for id_ in ids if (store.condensed_path(id_) / "made_from.json").exists()]
    return rates.estimate(cells, condensed)


@dataclass(frozen=True)
class SweepResult:
    """What has become of a sweep.

    Attributes:
        suite: which one.
        states: where every cell stands now.
        computed: how many cells were computed by this sweep.
        failed: how many of those failed, or could not be written.
        store: where the records lie.
        stopped: whether it ended early because of failures.
        shard: which part of the suite was its own.
    """

    suite: Suite
    states: list[State]
    computed: int
    failed: int
    store: Store
    stopped: bool = False
    shard: tuple[int, int] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing of this sweep has failed, now or before."""
        own = [state for state in self.states if in_shard(state.planned, self.shard)]
        return not self.failed and not any(state.status == "failed" for state in own)

    def counts(self) -> dict[str, int]:
        """How many cells stand where."""
        return counts_of(self.states)

    def rows(self) -> list[dict[str, Any]]:
        """What tables show of each cell that has come to an end.

        These are records without what tables do not show: of the returns, each student's mean.
        """
        return [row for state in self.states if (row := _row_of(state)) is not None]


def _row_of(state: State) -> dict[str, Any] | None:
    if state.planned.cell is None:
        return None
    row = {"cell": state.planned.cell.to_json(), "status": state.status, "reason": state.reason}
    if state.facts is None:
        return row if state.status in ("failed", "skipped", "not-installed") else None
    facts = state.facts
    report = {} if facts["size"] is None else {"report": {"size": facts["size"]}}
    return {
        **row,
        **report,
        "labels": facts["labels"],
        "action_selection": facts["action_selection"],
        "returns": {split: [[mean] for mean in means] for split, means in facts["means"].items()},
    }


def counts_of(states: Iterable[State]) -> dict[str, int]:
    """How many cells stand where, without those statuses that none has."""
    counts = Counter(
        TO_SKIP if state.status == "missing" and state.planned.skip else state.status
        for state in states
    )
    return {status: counts[status] for status in (*STATES, TO_SKIP) if counts[status]}


@dataclass
class _Sweep:
    """A sweep on its way."""

    suite: Suite
    store: Store
    watcher: Watcher
    wanted: Callable[[State], bool]
    most_failures: int | None
    rates: Rates
    refresh: bool
    device: str
    threads: int
    planned: list[Planned] = field(default_factory=list)
    queue: deque[Planned] = field(default_factory=deque)
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of records when queued
    held: dict[str, float] = field(default_factory=dict)  # when to look again
    at: dict[str, Planned] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    condensed: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)
    estimate: Estimate | None = None
    estimate_at: float = 0.0  # when to make it anew
    replan: bool = False
    computed: int = 0
    failed: int = 0
    stopped: bool = False

    def plan(self) -> list[State]:
        """Plan, write it down, and queue what is new of it."""
        self.planned = plan_suite(self.suite, self.store.look)
        write_manifest(self.store, self.suite, self.planned)
        states = self.states()
        self.parents = {planned.after for planned in self.planned if planned.after}
        for state in states:
            planned = state.planned
            if planned.cell is not None and planned.id not in self.seen and self.wanted(state):
                self.seen.add(planned.id)
                self.stamps[planned.id] = state.stamp
                self.queue.append(planned)
        return states

    def states(self) -> list[State]:
        """Where every planned cell stands now."""
        return states_of(self.planned, self.store)

    def run(self, executor: Executor) -> None:
        while self.queue or self.at:
            while not self.stopped and executor.room():
                planned = self._next()
                if planned is None:
                    break
                self._begin(planned, executor)
            if self.stopped and not self.at:
                break
            if not self.at:  # others have all that is left
                time.sleep(min(LOOK_AGAIN, 0.2))
            for event in executor.events(1.0):
                self._heard(event)
            if self.replan:
                self.replan = False
                try:
                    self.plan()
                except RLCondenseError as error:
                    self.watcher.notice(f"cells that follow are left out: {error}")

    def _next(self) -> Planned | None:
        """The next cell that nobody is at, nor at condensing what it learns from."""
        condensing = {p.cell.condensation_id for p in self.at.values() if p.cell is not None}
        now = time.monotonic()
        for planned in self.queue:
            assert planned.cell is not None
            if self.held.get(planned.id, 0.0) > now:
                continue
            if planned.cell.condensation_id not in condensing or self._is_condensed(planned.cell):
                self.queue.remove(planned)
                return planned
        return None

    def _is_condensed(self, cell: Cell) -> bool:
        """Whether what a cell learns from is there, so that several may learn from it at once."""
        if cell.condensation_id in self.condensed or cell.method["id"] in WHOLE:
            return True
        made_from = self.store.condensed_path(cell.condensation_id) / "made_from.json"
        return not self.refresh and made_from.exists()

    def _begin(self, planned: Planned, executor: Executor) -> None:
        cell = planned.cell
        assert cell is not None
        self.at[planned.id] = planned
        refreshed = cell.condensation_id in self.condensed
        executor.begin(cell, refreshed=refreshed, seen=self.stamps[planned.id])
        self.watcher.at(-1, planned, "begun")

    def _heard(self, event: Event) -> None:
        if event.kind == "unable":
            raise RLCondenseError(f"workers cannot start: {event.text}")
        if event.kind == "notice":
            self.watcher.notice(event.text)
        planned = self.at.get(event.cell_id)
        if planned is None:  # a worker that had nothing to do has died: another takes its place
            return
        if event.kind == "at":
            self.watcher.at(event.worker, planned, event.text)
            return
        del self.at[event.cell_id]
        if event.kind == "busy":
            self._wait_for(planned, event.text)
        elif event.kind == "moved":
            self.watcher.notice(f"{planned.text}: {event.text}; it is begun again")
            self.queue.appendleft(planned)
        elif event.kind == "lost":
            self._lost(planned, event.text)
        elif event.kind == "unwritten":
            self.failed += 1
            self._ended(planned, "failed", event.text)
        else:
            self._done(planned, event)

    def _wait_for(self, planned: Planned, who: str) -> None:
        if planned.id not in self.held:
            self.watcher.notice(f"{planned.text}: {who} is at it")
        self.held[planned.id] = time.monotonic() + LOOK_AGAIN
        self.queue.append(planned)

    def _lost(self, planned: Planned, why: str) -> None:
        assert planned.cell is not None
        self.losses[planned.id] += 1
        if self.losses[planned.id] < MOST_LOSSES:
            again = "it is left for the next sweep" if self.stopped else "it is begun again"
            self.watcher.notice(f"{planned.text}: {why}; {again}")
            self.queue.append(planned)
            return
        status = "failed"
        try:
            record = write_failure(planned.cell, why, self.store, self.device, self.threads)
            status = record["status"]
        except RLCondenseError as error:
            why = f"{why}; {error}"
        self._done(planned, Event(planned.id, "done", text=why, status=status))

    def _done(self, planned: Planned, event: Event) -> None:
        assert planned.cell is not None
        if event.status == "done":
            self.condensed.add(planned.cell.condensation_id)
        if event.computed:
            self.computed += 1
            self._journal(planned, event.status)
        self.failed += event.status == "failed" and event.computed
        if event.status == "done" and event.computed:
            facts = self.store.look([planned.id])[planned.id].facts
            if facts is not None:
                self.rates.add(facts)
        self.replan |= planned.id in self.parents and event.status == "done"
        self._ended(planned, event.status, event.text)

    def _ended(self, planned: Planned, status: str, reason: str) -> None:
        self.watcher.ended(planned, status, reason, self._remaining())
        if self.most_failures is not None and self.failed >= self.most_failures:
            if not self.stopped and self.at:
                self.watcher.notice(f"{self.failed} failed: nothing more is begun")
            self.stopped = True

    def _remaining(self) -> Estimate:
        """What is left. Of very many cells, it is estimated anew only now and then."""
        waiting = [*self.queue, *self.at.values()]
        now = time.monotonic()
        if self.estimate is None or now >= self.estimate_at:
            cells = [p.cell for p in waiting if p.cell and not p.skip]
            condensed = {cell.condensation_id for cell in cells if self._is_condensed(cell)}
            self.estimate = self.rates.estimate(cells, condensed)
            self.estimate_at = now + 20 * (time.monotonic() - now)
        ids = {planned.id for planned in waiting}
        following = [
            planned
            for planned in self.planned
            if planned.after
            and (planned.after in ids or self.replan)
            and self.wanted(State(planned, "missing"))
        ]
        return replace(self.estimate, cells=len(waiting) + len(following))

    def _journal(self, planned: Planned, status: str) -> None:
        """A line on who has computed what and when, for people who wonder later."""
        line = {
            "cell": planned.id,
            "status": status,
            "time": round(time.time(), 3),
            "driver": f"{os.getpid()} on {platform.node()}",
        }
        path = manifest_path(self.store, self.suite).with_suffix(".log")
        try:
            with open_to_append(path) as file:
                file.write((json.dumps(line) + "\n").encode())
        except OSError as error:
            self.watcher.notice(f"cannot write {path}: {error.strerror}")


def sweep(
    suite: Suite,
    *,
    results: str | Path = "results",
    only: Collection[str] | None = None,
    shard: tuple[int, int] | None = None,
    executor: str = "local",
    address: str | None = None,
    gpus: float = 1.0,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    refresh: bool = False,
    keep_policies: bool = False,
    max_failures: int | None = None,
    watcher: Watcher | None = None,
) -> SweepResult:
    """Compute every cell of a suite that is not there yet.

    Args:
        suite: from `load_suite`.
        results: folder of the records.
        only: the statuses of cells to compute, of `OFFERED`; by default all but `skipped`.
        shard: `(i, n)`: only the i-th of n parts, counted from 1.
        executor: `local` or `ray`.
        address: of a running Ray cluster.
        gpus: of a GPU for each of Ray's tasks.
        workers: how many cells at once; by default as many as there are cores, or GPUs.
        threads: of each worker.
        device: `auto`, `cpu` or `cuda`.
        refresh: compute again what is there already.
        keep_policies: store the policies that are trained.
        max_failures: begin nothing more after so many failures.
        watcher: told how it goes.

    Returns:
        Where every cell stands. A failed cell is no error here.

    Raises:
        RLCondenseError: the suite or an argument is wrong, or the store cannot be written to.
        KeyboardInterrupt: all that is finished is kept.

    Example:
        >>> sweep(load_suite("smoke"), workers=2).counts()
        {'done': 9}
    """
    statuses = _check(only, shard, workers, threads, max_failures, refresh=refresh)
    store = Store(Path(results))
    watcher = watcher or Silent()
    setting = Setting(store, device, threads, workers, refresh, keep_policies)

    def wanted(state: State) -> bool:
        if not in_shard(state.planned, shard):
            return False
        if state.status == "done":
            return refresh
        return state.status in statuses or state.status == "running"

    with executor_of(executor, setting, address=address, gpus=gpus) as made:
        going = _Sweep(
            suite=suite,
            store=store,
            watcher=watcher,
            wanted=wanted,
            most_failures=max_failures,
            rates=Rates((), made.device, threads),
            refresh=refresh,
            device=made.device,
            threads=threads,
        )
        states = going.plan()
        for note in _notes(states, made.device, threads):
            watcher.notice(note)
        if going.queue:
            for state in states:
                if state.facts is not None:
                    going.rates.add(state.facts)
            own = [state for state in states if in_shard(state.planned, shard)]
            watcher.began(own, len(going.queue), made.size())
            _build_datasets(going.queue, watcher)
            going.run(made)
            states = going.states()
    return SweepResult(suite, states, going.computed, going.failed, store, going.stopped, shard)


def _check(
    only: Collection[str] | None,
    shard: tuple[int, int] | None,
    workers: int | None = None,
    threads: int = 1,
    max_failures: int | None = None,
    *,
    refresh: bool = False,
) -> Collection[str]:
    """The statuses that `only` stands for, if all arguments are right."""
    if refresh and only is not None:
        raise BadConfig("refresh computes everything anew: leave out only")
    for name in only or ():
        if name not in OFFERED:
            raise BadConfig(f"only takes {', '.join(OFFERED)}, not {name!r}")
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise BadConfig(f"a shard is one of 1/n to n/n, not {shard[0]}/{shard[1]}")
    for what, value in (("workers", workers), ("threads", threads), ("max failures", max_failures)):
        if value is not None:
            check_count(what, value)
    return AGAIN if only is None else only


def _build_datasets(queue: Iterable[Planned], watcher: Watcher) -> None:
    """Build the datasets that are needed, once, before several workers want them."""
    from rlcondense.datasets.minari import is_local
    from rlcondense.make import load_dataset

    for name in dict.fromkeys(p.cell.dataset for p in queue if p.cell and p.cell.dataset):
        if not is_local(name):
            watcher.notice(f"building dataset {name}")
            try:
                load_dataset(name)
            except Exception as error:  # its cells will say so, each in its record
                watcher.notice(f"dataset {name}: {error}")


def _notes(states: Sequence[State], device: str, threads: int) -> list[str]:
    """What one should know of the cells that are there already."""
    from rlcondense.catalogue import entries
    from rlcondense.runtime.provenance import versions

    here = {
        "rlcondense": __version__,
        **{f"{name} version": value for name, value in versions().items()},
        "device": device,
        "threads": threads,
    }
    datasets = entries("datasets")
    differing: Counter[str] = Counter()
    out = []
    absent = dict.fromkeys(s.planned.absent for s in states if s.planned.absent)
    out += [f"not installed: {reason}" for reason in absent]
    no_cells = [s.planned for s in states if s.planned.skip and s.planned.cell is None]
    out += [f"no cells of {planned.text}: {planned.skip}" for planned in no_cells]
    for state in states:
        if state.facts is None:
            if state.unread:
                again = "" if state.status == "failed" else "; it is computed again"
                out.append(f"{state.reason}{again}")
            continue
        key = state.facts["key"]
        entry = datasets.get(state.facts["cell"]["dataset"])
        wanted = {**here, "dataset_sha256": entry.facts.get("sha256") if entry else None}
        for name, value in wanted.items():
            if value is not None and name in key and key[name] != value:
                differing[f"with {name} {key[name]}, here it is {value}"] += 1
    for text, count in differing.items():
        cells = "cell was" if count == 1 else "cells were"
        out.append(f"{count} {cells} made {text} (--refresh computes all anew)")
    return out
