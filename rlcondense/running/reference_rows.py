"""The reference rows of a run, computed beside its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rlcondense.datasets.budget import Budget
from rlcondense.datasets.labels import label_settings
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import RLCondenseError
from rlcondense.make import make_method
from rlcondense.methods.base import Method
from rlcondense.records.cell import Cell
from rlcondense.references import WHOLE, methods_beside, policies_beside
from rlcondense.running.bench import Bench
from rlcondense.running.compute import cell_of_method, cell_of_policy, run_method, run_policy
from rlcondense.running.outcomes import Outcome, failure_of, frame_of
from rlcondense.types import Record

HARD_INSTEAD = "Soft labels need data with action_probs: rows of hard ones stand in their place."


def reference_rows(
    bench: Bench, name: str, records: Sequence[Record], seeds: Sequence[int]
) -> tuple[list[Outcome], list[str]]:
    """Compute the reference rows of every table: blind policies, random, full, expert.

    A row that cannot be computed has a record that says why, so that the finished rows still show.

    Args:
        bench: of the run.
        name: of the row that they stand beside.
        records: of that row, one for each set.
        seeds: of random subsets.

    Returns:
        The rows, and notes on them.
    """
    if records[0]["status"] == "skipped":
        return [], []
    names = [other for other in reference_names(bench) if other != name]
    rows = [reference_policy(bench, other) for other in names]
    learned = [r for r in records if r["status"] == "done" and "report" in r]
    if not learned or bench.dataset is None:
        return rows, []
    regimes = label_regimes(bench.dataset, learned[0])
    sizes = {r["cell"]["condensation_seed"]: r["report"]["size"] for r in learned}
    for labels in regimes:
        for other in methods_beside(name, bench.learner):
            method = make_method(other, **labels)
            if other in WHOLE:
                rows.append(reference_method(bench, method, Budget(percent=100.0), 0))
                continue
            for seed in seeds:
                size = sizes.get(seed, learned[0]["report"]["size"])
                rows.append(reference_method(bench, method, Budget(size=size), seed))
    return rows, [HARD_INSTEAD] if len(regimes) > 1 else []


def label_regimes(dataset: TransitionDataset, record: Record) -> list[dict[str, Any]]:
    """Return the settings of the labels of a record's reference rows: its own regime.

    Without action_probs soft ones are there to say so, and hard ones too.
    """
    labels = label_settings(record["cell"]["method"]["config"], record.get("labels", "hard"))
    stored = labels["labels"] == "soft"
    return [labels, {"labels": "hard"}] if stored and dataset.action_probs is None else [labels]


def reference_method(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Outcome:
    """Compute a reference method, and return its outcome, failures too."""
    run = partial(run_method, method=method, budget=budget, seed=seed)
    return _reference(bench, cell_of_method(bench, method, budget, seed), run)


def reference_policy(bench: Bench, name: str) -> Outcome:
    """Compute a reference policy, and return its outcome, failures too."""
    return _reference(
        bench, cell_of_policy(bench, {"id": name, "config": {}}), partial(run_policy, name=name)
    )


def _reference(bench: Bench, cell: Cell, run: Callable[[Bench], Outcome]) -> Outcome:
    try:
        return run(replace(bench, record_failures=True, is_reference=True))
    except RLCondenseError as error:  # its record cannot be read or written
        frame = frame_of(cell, bench.device, bench.threads)
        empty: Record = {"key": {}, "timings": {}, "memory": {}}
        return Outcome({**frame, **empty, **failure_of(error)})


def reference_names(bench: Bench) -> list[str]:
    """Return the names of the reference policies that a bench has."""
    parts = {"dataset": bench.dataset, "expert": bench.expert}
    return policies_beside(bench.learner, [name for name, it in parts.items() if it is not None])
