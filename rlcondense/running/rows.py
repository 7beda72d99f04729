"""The rows of one command, each computed once: in worker processes where that takes less time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rlcondense import catalogue
from rlcondense.errors import RLCondenseError
from rlcondense.records.cell import Cell
from rlcondense.records.shipped import is_shipped
from rlcondense.records.store import Store, sealed
from rlcondense.running.bench import Bench
from rlcondense.running.dispatch import Dispatch
from rlcondense.running.estimate import Estimate, Rates, in_words
from rlcondense.running.executors.base import Setting
from rlcondense.running.executors.local import LocalExecutor
from rlcondense.running.outcomes import Outcome, failure_of, undone
from rlcondense.running.planned import Planned
from rlcondense.running.states import State
from rlcondense.runtime.progress import LEFT, Progress

# Workers take some five seconds of a core each to start and to load the data.
WORTH_SECONDS = 20.0


@dataclass(frozen=True)
class Row:
    """A row of a command.

    Attributes:
        bench: what it shares with others.
        cell: what it is.
        compute: computes it, or reads it back, with its bench.
        is_reference: whether it is a reference row. Its failures are outcomes, and it is skipped if
            it cannot exist.
        by_workers: whether a worker can compute it, which knows nothing but the cell.
    """

    bench: Bench
    cell: Cell
    compute: Callable[[Bench], Outcome]
    is_reference: bool = False
    by_workers: bool = True


class Rows:
    """The rows of one command.

    Args:
        bench: whose store, device, progress and switches are those of all rows.
        workers: processes that compute rows side by side; by default one for each core, or GPU.
    """

    def __init__(self, bench: Bench, workers: int | None = None) -> None:
        assert isinstance(bench.store, Store)
        self._store, self._bench = bench.store, bench
        self._executor = LocalExecutor(
            Setting(
                bench.store,
                bench.device,
                workers,
                bench.refresh,
                bench.keep_policies,
                bench.heldout_data,
            )
        )
        self._outcomes: dict[str, Outcome] = {}
        self._stamps: dict[str, tuple[int, ...]] = {}  # before workers computed them

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes so far."""
        return list(self._outcomes.values())

    def compute(self, rows: Iterable[Row]) -> list[Outcome]:
        """Return the outcomes of rows.

        Raises:
            RLCondenseError: a row failed that is no reference row and does not record failures.
        """
        wanted = list(rows)
        self.ahead(wanted)
        return [self._outcome(row) for row in wanted]

    def ahead(self, rows: Sequence[Row]) -> None:
        """Compute rows in workers, if that takes less time than one after the other here.

        Afterwards `compute` reads them back. Rows that are there already are left alone.
        """
        known = self._outcomes.keys() | self._stamps.keys()
        todo = {
            row.cell.id: row
            for row in rows
            if row.by_workers and row.cell.id not in known and not _is_shipped(row)
        }
        plan = [
            Planned(_text(row.cell), row.cell, is_reference=row.is_reference)
            for row in todo.values()
        ]
        refresh = self._bench.refresh
        rates = Rates((), self._bench.device)
        needed = {id_ for id_, row in todo.items() if _ends_command(row)}
        dispatch = Dispatch(
            make_plan=lambda: plan,
            store=self._store,
            watcher=_Watcher(
                self._bench.progress, rates, lambda id_: id_ in needed and self._raised(id_)
            ),
            wanted=lambda state: refresh or state.status != "done",
            rates=rates,
            device=self._bench.device,
            refresh=refresh,
        )
        states = dispatch.plan()
        if not self._is_worth(list(dispatch.queue), dispatch.rates):
            return
        queued = [state for state in states if state.planned.id in dispatch.stamps]
        dispatch.watcher.began(queued, len(queued), self._executor.size())
        try:
            with contextlib.suppress(_Failed):
                dispatch.run(self._executor)
        finally:
            self._executor.close()
        # A row that ends the command is computed here, where its error is raised as it is.
        self._stamps |= {
            id_: stamp
            for id_, stamp in dispatch.stamps.items()
            if self._store.stamp(id_) != stamp and not (id_ in needed and self._raised(id_))
        }
        for row in todo.values():
            row.bench.refreshed.update(dispatch.condensed)

    def _raised(self, cell_id: str) -> bool:
        """Return whether an error ended a failed cell; a student that diverged is a result."""
        record = self._store.read_record(cell_id)
        return record is None or "traceback" in record

    def _is_worth(self, planned: Sequence[Planned], rates: Rates) -> bool:
        if min(len(planned), self._executor.size()) < 2 or _only_here():
            return False
        return rates.estimate(p.cell for p in planned if p.cell).seconds > WORTH_SECONDS

    def _outcome(self, row: Row) -> Outcome:
        name = row.cell.id
        if name not in self._outcomes:
            self._outcomes[name] = self._computed(row)
        return self._outcomes[name]

    def _computed(self, row: Row) -> Outcome:
        stamp = self._stamps.get(row.cell.id)
        bench = replace(row.bench, seen=stamp)
        if row.is_reference:
            bench = replace(bench, record_failures=True, is_reference=True)
        try:
            outcome = row.compute(bench)
        except RLCondenseError as error:
            if not row.is_reference:
                raise
            outcome = Outcome(sealed(undone(row.cell, failure_of(error), row.bench.device)))
        if stamp is None:
            return outcome
        return Outcome(outcome.record)  # computed by this command, though read from its file


class _Failed(Exception):
    """A row failed without which the command has no result."""


def _ends_command(row: Row) -> bool:
    return not (row.is_reference or row.bench.record_failures)


class _Watcher:
    """The progress of workers as that of one phase, whose note says what each is at.

    Args:
        progress: receives it.
        rates: rates by which the time left is estimated: the number of rows that are done tells
            little of it, since one may take longer than all others.
        ends_all: whether the others are in vain without a cell of an id, as it has ended.
    """

    def __init__(self, progress: Progress, rates: Rates, ends_all: Callable[[str], bool]) -> None:
        self._progress, self._rates, self._ends_all = progress, rates, ends_all
        self._todo = self._done = self._workers = 0
        self._left, self._since = Estimate(0.0, 0, 0, 0), time.monotonic()
        self._at: dict[str, str] = {}

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        self._todo, self._workers = todo, workers
        self._expect(self._rates.estimate(s.planned.cell for s in states if s.planned.cell))
        self._report()

    def at(self, worker: int, planned: Planned, text: str) -> None:
        self._at[planned.id] = f"{planned.text}: {text}"
        self._report()

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        if status in ("failed", "not-installed") and self._ends_all(planned.id):
            raise _Failed
        self._at.pop(planned.id, None)
        self._done += 1
        self._expect(left)
        self._report()

    def _expect(self, left: Estimate) -> None:
        self._left, self._since = left, time.monotonic()

    def _time_left(self) -> str:
        seconds = self._left.seconds / max(1, min(self._workers, self._left.cells))
        seconds -= time.monotonic() - self._since
        return (
            f"about {in_words(seconds)} {LEFT}"
            if seconds > 0
            else f"longer than estimated, an unknown time {LEFT}"
        )

    def notice(self, text: str) -> None:
        self._progress("rows", self._done, self._todo, text)

    def _report(self) -> None:
        note = "; ".join([" | ".join(self._at.values()) or "begun", self._time_left()])
        self._progress("rows", self._done, self._todo, note)


def _text(cell: Cell) -> str:
    seed = f" seed {cell.condensation_seed}" if cell.condensation_seed else ""
    return f"{cell.method['id']}{seed}"


def _is_shipped(row: Row) -> bool:
    return row.is_reference and row.bench.takes_shipped and is_shipped(row.cell)


def _only_here() -> bool:
    """Return whether a registered part is of the main script, which workers do not import."""
    entries = catalogue.registered()
    if any(entry.entry_point.startswith("__main__") for entry in entries):
        return True
    envs = [str(entry.config["env"]) for entry in entries if "env" in entry.config]
    return not catalogue.included() and any(map(_is_registered_here, envs))


def _is_registered_here(env: str) -> bool:
    """Return whether Gymnasium knows an environment from elsewhere than itself or its own name."""
    from gymnasium.envs.registration import registry

    spec = None if ":" in env else registry.get(env)
    return spec is not None and not str(spec.entry_point).startswith(("gymnasium.", "rlcondense."))
