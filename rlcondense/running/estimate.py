"""Estimates of the time that planned cells take, from the timings of finished ones."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rlcondense.catalogue import data_root
from rlcondense.records.cell import Cell, budget_text, episodes_of
from rlcondense.records.record import Facts
from rlcondense.references import CONVERGED, WHOLE

SETS = 3  # condensation seeds of a run that names no number, where there is time for them
# For sets that the user did not ask for: a time that people wait for at a terminal.
SPARE_SECONDS = 300.0


@dataclass(frozen=True)
class Work:
    """One phase of a cell: a number of units of a kind of work, from the most specific name on."""

    keys: tuple[str, ...]
    units: float


@dataclass(frozen=True)
class Estimate:
    """The time that the remaining cells take.

    Attributes:
        seconds: of one worker after the other.
        cells: how many.
        unknown: how many of them have a phase of a kind that was never timed; their known phases
            are counted.
        borrowed: how many rest on the shipped rates, which another machine measured.
    """

    seconds: float
    cells: int
    unknown: int
    borrowed: int


def works(cell: Cell) -> dict[str, Work]:
    """Return the phases of a cell, in units that time is proportional to."""
    out = {}
    learner = cell.learner or {"id": cell.method["id"], "config": {}}
    config, students = learner["config"], len(cell.learner_seeds)
    who = f"{learner['id']} {config.get('network', '')}".strip()
    episodes = 2 * students * episodes_of(cell.evaluation)
    out["evaluate"] = Work(
        (f"evaluate {cell.task} {who}", f"evaluate {cell.task}", "evaluate"), episodes
    )
    if cell.learner is not None:
        method = cell.method
        # The work for each row of a batch, as far as the config states it.
        rows = number(config, "updates") * number(config, "batch_size")
        # Training to convergence is a kind of its own: it takes up to ten times as long.
        converged = " to convergence" if method["id"] == CONVERGED else ""
        # So is an update on all rows at once, whose number the config does not state.
        at_once = " on all rows" if config.get("batch_size", 1) is None else ""
        kinds = (f"train {who}{at_once}{converged}", f"train {learner['id']}{at_once}{converged}")
        out["train"] = Work(kinds, students * rows)
        if method["id"] in WHOLE:
            return out
        # The batch is of each class then, whose number the config does not state.
        by_class = " class by class" if method["config"].get("match") == "per-class" else ""
        of_method = f"condense {method['id']}{by_class}"
        budget = budget_text(cell.budget) if cell.budget is not None else ""
        factors = ("iterations", "real_batch", "generations", "population")
        rounds = math.prod(number(method["config"], name) for name in factors)
        # An iteration on frames takes hundreds of times as long as one on four numbers.
        of_task = f"{of_method} {budget} {cell.task}"
        out["condense"] = Work((of_task, f"{of_method} {budget}", of_method), rounds)
    return out


def number(config: Mapping[str, Any], key: str, default: float = 1) -> float:
    """Return a numeric setting, or the default: a plugin's setting may have any type."""
    value = config.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and value else default


class Rates:
    """Seconds for a unit of each kind of work.

    Args:
        finished: facts of finished cells.
        device: `cpu` or `cuda`: timings of the other one are not counted.
    """

    def __init__(self, finished: Iterable[Facts], device: str) -> None:
        self._sums: dict[str, list[float]] = {}
        self._shipped = _shipped(device)
        self._device = device
        self._seen: set[str] = set()
        for facts in finished:
            self.add(facts)

    def add(self, facts: Facts) -> None:
        """Add the timings of another finished cell."""
        if facts["key"].get("device") != self._device:
            return
        cell = Cell.from_json(facts["cell"])
        for phase, work in works(cell).items():
            if phase == "condense" and _again(self._seen, cell):
                continue
            seconds = sum(t["wall"] for p, t in facts["timings"].items() if p.startswith(phase))
            for key in work.keys:
                total = self._sums.setdefault(key, [0.0, 0.0])
                total[0] += seconds
                total[1] += work.units

    def table(self) -> dict[str, float]:
        """Return the seconds per unit of every kind of work that was timed."""
        return {
            key: seconds / units for key, (seconds, units) in sorted(self._sums.items()) if units
        }

    def seconds(self, work: Work) -> tuple[float | None, bool]:
        """Return the seconds of a phase, None if unknown, and whether their rate is shipped."""
        for key in work.keys:
            total = self._sums.get(key)
            if total is not None and total[1]:
                return work.units * total[0] / total[1], False
        for key in work.keys:
            if key in self._shipped:
                return work.units * self._shipped[key], True
        return None, False

    def estimate(self, cells: Iterable[Cell], condensed: Iterable[str] = ()) -> Estimate:
        """Estimate the time of cells computed one after the other.

        Args:
            cells: to be computed.
            condensed: condensation ids of the sets that exist already.
        """
        seconds, count, unknown, borrowed = 0.0, 0, 0, 0
        seen = set(condensed)
        for cell in cells:
            count += 1
            of_cell = [
                self.seconds(work)
                for phase, work in works(cell).items()
                if not (phase == "condense" and _again(seen, cell))
            ]
            seconds += sum(took for took, _ in of_cell if took is not None)
            unknown += any(took is None for took, _ in of_cell)
            borrowed += any(is_shipped for _, is_shipped in of_cell)
        return Estimate(seconds, count, unknown, borrowed)


def _again(seen: set[str], cell: Cell) -> bool:
    """Return whether the condensation of a cell has been counted already; count it from now on."""
    known = cell.condensation_id in seen
    seen.add(cell.condensation_id)
    return known


@cache
def _shipped(device: str) -> Mapping[str, float]:
    """The shipped rates, measured on the authors' machine."""
    rates = tomllib.loads((data_root() / "registry" / "rates.toml").read_text(encoding="utf-8"))
    return {str(key): float(value) for key, value in rates.get(device, {}).items()}


def share(left: Estimate, workers: int) -> str:
    """Describe the remaining time for cells computed in parallel."""
    seconds = left.seconds / max(1, min(workers, left.cells))
    if left.unknown and not seconds:
        return "nobody knows how long"
    return in_words(seconds) + (" or more" if left.unknown else "")


def in_words(seconds: float) -> str:
    """Format a duration: `40 s`, `12 min`, `3.4 h`, `2.1 days`."""
    for limit, unit, size in ((120, "s", 1.0), (7200, "min", 60.0), (172_800, "h", 3600.0)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"
