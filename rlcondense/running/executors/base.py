"""The interface of executors: the settings that they take and the events that they report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from rlcondense import catalogue
from rlcondense.limits import check_count
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store


def known_parts() -> dict[str, Any]:
    """Return the catalogue entries that only this process knows, for a worker's `know_parts`."""
    return {
        "included": list(map(str, catalogue.included())),
        "registered": [entry.exported() for entry in catalogue.registered()],
    }


@dataclass(frozen=True)
class Setting:
    """The settings that all workers share.

    Attributes:
        store: the store of the results.
        device: `auto`, `cpu` or `cuda`.
        workers: how many, None for as many as there is room for.
        refresh: compute again even if the record exists.
        keep_policies: store the policies that are trained.
        heldout_data: load datasets with their episodes on held-out levels.
    """

    store: Store
    device: str = "auto"
    workers: int | None = None
    refresh: bool = False
    keep_policies: bool = False
    heldout_data: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count("workers", self.workers)


@dataclass(frozen=True)
class Event:
    """A message of a worker, or something that has happened to it.

    Attributes:
        cell_id: of the cell it is at.
        kind: `at`, `done`, `busy`, `lost`, `moved` (lost with the machine it was on), `unwritten`,
            `unable`, if a worker cannot even start, or `notice`, which belongs to no cell.
        worker: which one.
        text: the phase of the worker, why it was lost, or who holds the lock of the cell.
        status: of the record, if `done`.
        computed: whether the record was computed, or read back.
    """

    cell_id: str
    kind: str
    worker: int = 0
    text: str = ""
    status: str = ""
    computed: bool = True


class Executor(Protocol):
    """The interface that computes cells in parallel.

    Attributes:
        device: the device of the computation, `cpu` or `cuda`.
        shares_stored: whether cells may be begun together on a set that an earlier run stored,
            because workers share the set if it turns out to be made anew.
    """

    device: str
    shares_stored: bool

    def room(self) -> bool:
        """Return whether another cell can be started."""

    def begin(
        self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...], is_reference: bool = False
    ) -> None:
        """Start a cell.

        Args:
            cell: which one.
            refreshed: its condensed set has been condensed again already.
            seen: the stamp of its record when it was planned.
            is_reference: it is a reference row, which is skipped if it cannot exist.
        """

    def events(self, timeout: float) -> list[Event]:
        """Wait for events, at most `timeout` seconds, and return them."""

    def size(self) -> int:
        """Return how many cells can be computed in parallel."""

    def close(self) -> None:
        """Stop all workers, even in the middle of a cell."""
