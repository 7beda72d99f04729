"""Where cells are computed: what an executor is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from rlcondense import catalogue
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store


def known_parts() -> dict[str, Any]:
    """What this process alone knows of the catalogue, for a worker's `know_parts`."""
    return {
        "included": list(map(str, catalogue.included())),
        "registered": [entry.exported() for entry in catalogue.registered()],
    }


@dataclass(frozen=True)
class Setting:
    """What all workers of a sweep have in common.

    Attributes:
        store: where the results go.
        device: `auto`, `cpu` or `cuda`.
        threads: of each worker; on a CPU they change results, so that they are part of a record.
        workers: how many, None for as many as there is room for.
        refresh: compute again what is there.
        keep_policies: store the policies that are trained.
    """

    store: Store
    device: str = "auto"
    threads: int = 1
    workers: int | None = None
    refresh: bool = False
    keep_policies: bool = False


@dataclass(frozen=True)
class Event:
    """Something that a worker has said, or that has happened to it.

    Attributes:
        cell_id: of the cell it is at.
        kind: `at`, `done`, `busy`, `lost`, `moved` (lost with the machine it was on), `unwritten`,
            `unable`, if a worker cannot even start, or `notice`, which is of no cell.
        worker: which one.
        text: what it is at, why it was lost, or who else is at the cell.
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
    """Computes cells side by side.

    Attributes:
        device: where they are computed, `cpu` or `cuda`.
    """

    device: str

    def room(self) -> bool:
        """Whether another cell can be begun."""

    def begin(self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...]) -> None:
        """Begin a cell.

        Args:
            cell: which one.
            refreshed: what it learns from was condensed anew already.
            seen: the stamp of its record when it was planned.
        """

    def events(self, timeout: float) -> list[Event]:
        """What has happened, after waiting for something to."""

    def size(self) -> int:
        """How many cells can be computed side by side."""

    def close(self) -> None:
        """End all workers, whatever they are at."""
