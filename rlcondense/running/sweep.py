"""Sweeps: every cell of a suite computed once, whatever failures occur."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlcondense import __version__
from rlcondense.errors import RLCondenseError
from rlcondense.files import open_to_append
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store
from rlcondense.references import WHOLE
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.executors.base import Event, Executor, Setting
from rlcondense.running.executors.choice import executor_of
from rlcondense.running.outcomes import write_failure
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Planned, in_shard
from rlcondense.running.states import (
    State,
    SweepResult,
    manifest_path,
    states_of,
    statuses_of,
    write_manifest,
)
from rlcondense.running.suite import Suite
from rlcondense.running.watcher import Silent, Watcher

LOOK_AGAIN = 2.0  # seconds until a cell that another process computes is tried again

MOST_LOSSES = 2  # lost workers of a cell, until the cell counts as failed


@dataclass
class _Sweep:
    """The state of a running sweep."""

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
    estimate_at: float = 0.0  # when to compute it again
    replan: bool = False
    computed: int = 0
    failed: int = 0
    stopped: bool = False

    def plan(self) -> list[State]:
        """Make the plan, write it, and queue its new cells."""
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
        """Return the state of every planned cell now."""
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
            if not self.at:  # other processes compute all remaining cells
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
        """Take the next cell from the queue whose condensation is not running."""
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
        """Return whether a cell's set exists, so that several cells may train on it at once."""
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
        if planned is None:  # an idle worker has died: another one replaces it
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
        """Estimate the remaining time; with very many cells, renew the estimate only rarely."""
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
        """Append a line to the log: which cell, its status, when, and by which driver."""
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
    """Compute every cell of a suite that is not done yet.

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
        refresh: compute done cells again.
        keep_policies: store the policies that are trained.
        max_failures: start no more cells after so many failures.
        watcher: gets the events of the sweep.

    Returns:
        The state of every cell. A failed cell is no error here.

    Raises:
        RLCondenseError: the suite or an argument is wrong, or the store cannot be written to.
        KeyboardInterrupt: the finished cells stay in the store.

    Example:
        >>> sweep(load_suite("smoke"), workers=2).counts()
        {'done': 9}
    """
    statuses = statuses_of(only, shard, workers, threads, max_failures, refresh=refresh)
    store = Store(Path(results))
    watcher = watcher or Silent()
    setting = Setting(store, device, threads, workers, refresh, keep_policies, suite.heldout_data)

    def wanted(state: State) -> bool:
        if not in_shard(state.planned, shard):
            return False
        if state.status == "done":
            return refresh
        return state.status in statuses or state.status == "running"

    with executor_of(executor, setting, address=address, gpus=gpus) as backend:
        going = _Sweep(
            suite=suite,
            store=store,
            watcher=watcher,
            wanted=wanted,
            most_failures=max_failures,
            rates=Rates((), backend.device, threads),
            refresh=refresh,
            device=backend.device,
            threads=threads,
        )
        states = going.plan()
        for note in _notes(states, backend.device, threads):
            watcher.notice(note)
        if going.queue:
            for state in states:
                if state.facts is not None:
                    going.rates.add(state.facts)
            own = [state for state in states if in_shard(state.planned, shard)]
            watcher.began(own, len(going.queue), backend.size())
            _build_datasets(going.queue, watcher)
            going.run(backend)
            states = going.states()
    return SweepResult(suite, states, going.computed, going.failed, store, going.stopped, shard)


def _build_datasets(queue: Iterable[Planned], watcher: Watcher) -> None:
    """Build the datasets that the queue needs, once, before several workers need them."""
    from rlcondense.datasets.minari import is_local
    from rlcondense.make import load_dataset

    for name in dict.fromkeys(p.cell.dataset for p in queue if p.cell and p.cell.dataset):
        if not is_local(name):
            watcher.notice(f"building dataset {name}")
            try:
                load_dataset(name)
            except Exception as error:  # the records of its cells hold the reason
                watcher.notice(f"dataset {name}: {error}")


def _notes(states: Sequence[State], device: str, threads: int) -> list[str]:
    """Return notes on missing parts and on existing cells that were made otherwise."""
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
