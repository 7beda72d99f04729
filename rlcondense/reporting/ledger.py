"""The ledger of costs: time, memory and work, summed by method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlcondense.records.cell import Cell
from rlcondense.records.record import Facts
from rlcondense.running.estimate import number

PHASES = ("condense", "train", "evaluate")


@dataclass
class Costs:
    """The costs of one method, summed over its cells.

    A condensation that several cells share counts once.

    Attributes:
        method: its id.
        cells: how many.
        condensations: how many different ones.
        condense_seconds: on the clock.
        train_seconds: on the clock.
        evaluate_seconds: on the clock.
        cpu_seconds: of all processors, in all phases.
        gpu_seconds: on the clock with a GPU held, in all phases.
        condense_steps: environment steps that condensing took.
        evaluate_steps: environment steps of the evaluations.
        condense_gradients: gradients of one observation's loss, as the method counts them.
        train_gradients: likewise of the learner, as its settings say.
        peak_bytes: the most memory that the process of a cell held.
        peak_gpu_bytes: the most GPU memory.
        bytes: of the condensed datasets.
    """

    method: str
    cells: int = 0
    condensations: int = 0
    condense_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    condense_steps: int = 0
    evaluate_steps: int = 0
    condense_gradients: int = 0
    train_gradients: int = 0
    peak_bytes: int = 0
    peak_gpu_bytes: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the sums as plain values."""
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}


def ledger(finished: Iterable[Facts]) -> list[Costs]:
    """Sum the costs of finished cells, by method.

    Args:
        finished: facts of finished cells.

    Returns:
        One sum for each method, in the order of their ids.
    """
    sums: dict[str, Costs] = {}
    condensed: set[str] = set()
    for facts in finished:
        cell = Cell.from_json(facts["cell"])
        costs = sums.setdefault(cell.method["id"], Costs(cell.method["id"]))
        costs.cells += 1
        again = cell.condensation_id in condensed
        condensed.add(cell.condensation_id)
        if cell.learner is not None and not again:
            costs.condensations += 1
            costs.bytes += facts["bytes"] or 0
            costs.condense_steps += _count(facts, "environment_steps")
            costs.condense_gradients += _count(facts, "gradient_evaluations")
        for name, seconds in facts["timings"].items():
            phase = name.partition("_")[0]
            if phase == "condense" and again:
                continue
            field = f"{phase}_seconds"
            if phase in PHASES:  # a part that is not built in may time more
                setattr(costs, field, getattr(costs, field) + seconds["wall"])
            costs.cpu_seconds += seconds["cpu"]
            costs.gpu_seconds += seconds["gpu"]
        costs.evaluate_steps += facts["steps"]
        costs.train_gradients += _train_gradients(cell, facts["size"])
        costs.peak_bytes = max(costs.peak_bytes, facts["memory"].get("peak_bytes", 0))
        costs.peak_gpu_bytes = max(costs.peak_gpu_bytes, facts["memory"].get("peak_gpu_bytes", 0))
    return [sums[method] for method in sorted(sums)]


def _count(facts: Facts, name: str) -> int:
    """Return a count of a report's costs; that of a part that is not built in may say anything."""
    value = facts["cost"].get(name)
    return value if type(value) is int else 0


def _train_gradients(cell: Cell, size: int | None) -> int:
    if cell.learner is None:
        return 0
    config = cell.learner["config"]
    rows = number(config, "batch_size", size or 0)  # a `full` batch holds all rows
    return int(len(cell.learner_seeds) * number(config, "updates", 0) * rows)


def ledger_table(costs: Sequence[Costs]) -> str:
    """Format the ledger as a table."""
    from tabulate import tabulate

    rows = [
        [
            c.method,
            c.cells,
            f"{c.condense_seconds:.1f}",
            f"{c.train_seconds:.1f}",
            f"{c.evaluate_seconds:.1f}",
            f"{c.cpu_seconds:.1f}",
            f"{c.gpu_seconds:.1f}",
            f"{c.condense_steps + c.evaluate_steps:,}",
            f"{c.condense_gradients:,}",
            f"{c.train_gradients:,}",
            f"{max(c.peak_bytes, c.peak_gpu_bytes) / 1e6:,.0f}",
            f"{c.bytes / 1e6:,.2f}",
        ]
        for c in costs
    ]
    headers = [
        "", "cells", "condense, s", "train, s", "evaluate, s", "CPU, s", "GPU, s", "env. steps",
        "gradients: condensing", "gradients: training", "peak, MB", "kept, MB",
    ]  # fmt: skip
    return str(tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 11)))
