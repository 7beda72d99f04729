"""The dispatch of planned cells to an executor: what `sweep`, `run` and `transfer` share."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlcondense.errors import RLCondenseError
from rlcondense.files import Busy, open_to_append, who
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store
from rlcondense.references import WHOLE
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.executors.base import Event, Executor
from rlcondense.running.outcomes import write_failure
from rlcondense.running.planned import Planned
from rlcondense.running.states import State, states_of
from rlcondense.running.watcher import Watcher

LOOK_AGAIN = 2.0  # seconds until a cell that another process computes is tried again
MOST_LOSSES = 2  # lost workers of a cell, until the cell counts as failed


@dataclass
class Dispatch:
    """The dispatch of planned cells to an executor, each once and after what it waits for.

    Attributes:
        make_plan: returns the plan; it is called again when a cell is done that others wait for.
        store: the store of the records.
        watcher: gets the events.
        wanted: whether a cell in a state is to be computed.
        rates: of finished cells, for estimates of the time left.
        device: `cpu` or `cuda`.
        most_failures: start no more cells after so many failures.
        refresh: compute done cells again.
        log: file that gets a line for each cell, if any.
    """

    make_plan: Callable[[], list[Planned]]
    store: Store
    watcher: Watcher
    wanted: Callable[[State], bool]
    rates: Rates
    device: str
    most_failures: int | None = None
    refresh: bool = False
    log: Path | None = None
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
        """Make the plan and queue its new cells."""
        self.planned = self.make_plan()
        states = self.states()
        self.parents = {planned.after for planned in self.planned if planned.after}
        if self.refresh:  # a percentage may come to another size than it did
            self.parents |= {
                p.id for p in self.planned if p.cell and "percent" in (p.cell.budget or {})
            }
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
                planned = self._next(executor)
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

    def _next(self, executor: Executor) -> Planned | None:
        """Take the next cell from the queue whose condensation is not running."""
        condensing = {p.cell.condensation_id for p in self.at.values() if p.cell is not None}
        now = time.monotonic()
        for planned in self.queue:
            assert planned.cell is not None
            if self.held.get(planned.id, 0.0) > now:
                continue
            if planned.cell.condensation_id not in condensing or self._is_shared(
                planned.cell, executor
            ):
                self.queue.remove(planned)
                return planned
        return None

    def _is_shared(self, cell: Cell, executor: Executor) -> bool:
        """Return whether several cells may train on a cell's set at once."""
        if executor.shares_stored:
            return self._is_condensed(cell)
        return cell.condensation_id in self.condensed or cell.method["id"] in WHOLE

    def _is_condensed(self, cell: Cell) -> bool:
        """Return whether a cell's set exists."""
        if cell.condensation_id in self.condensed or cell.method["id"] in WHOLE:
            return True
        return not self.refresh and self.store.has_condensed(cell.condensation_id)

    def _begin(self, planned: Planned, executor: Executor) -> None:
        cell = planned.cell
        assert cell is not None
        self.at[planned.id] = planned
        refreshed = cell.condensation_id in self.condensed
        executor.begin(
            cell,
            refreshed=refreshed,
            seen=self.stamps[planned.id],
            is_reference=planned.is_reference,
        )
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

    def _wait_for(self, planned: Planned, owner: str) -> None:
        if planned.id not in self.held:
            self.watcher.notice(f"{planned.text}: {owner} is at it")
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
            record = write_failure(
                planned.cell,
                why,
                self.store,
                self.device,
                seen=self.stamps[planned.id],
                refresh=self.refresh,
            )
            status = record["status"]
        except Busy as busy:
            self._wait_for(planned, who(busy.owner))
            return
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
        if self.log is None:
            return
        line = {
            "cell": planned.id,
            "status": status,
            "time": round(time.time(), 3),
            "driver": f"{os.getpid()} on {platform.node()}",
        }
        try:
            with open_to_append(self.log) as file:
                file.write((json.dumps(line) + "\n").encode())
        except OSError as error:
            self.watcher.notice(f"cannot write {self.log}: {error.strerror}")
