"""The reference rows of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlcondense.datasets.budget import Budget
from rlcondense.datasets.labels import label_settings
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_method
from rlcondense.records.record import Record
from rlcondense.records.shipped import is_shipped
from rlcondense.references import CONVERGED, WHOLE, methods_beside, policies_beside
from rlcondense.running.bench import Bench
from rlcondense.running.compute import method_row, policy_row
from rlcondense.running.estimate import SPARE_SECONDS, Rates, in_words
from rlcondense.running.outcomes import Outcome, ended
from rlcondense.running.rows import Row

HARD_INSTEAD = "Soft labels need data with action_probs: rows of hard ones stand in their place."


def rows_beside(
    bench: Bench,
    name: str,
    regimes: Iterable[Mapping[str, Any]],
    budgets: Mapping[int, Budget],
    action_selection: str = "",
) -> list[Row]:
    """Return the reference rows of a row: blind policies, random, full, expert.

    Args:
        bench: of the run.
        name: of the row that they stand beside.
        regimes: settings of the labels of random subsets and of all the data; none if nothing was
            learned.
        budgets: budgets of random subsets, by condensation seed.
        action_selection: of policies that no learner of the run trained.
    """
    names = reference_names(bench, action_selection)
    rows = [policy_row(bench, other) for other in names if other != name]
    if bench.dataset is None:
        return rows
    for labels in regimes:
        for other in methods_beside(name, bench.learner):
            method = make_method(other, **labels)
            if other in WHOLE:
                rows.append(method_row(bench, method, Budget(percent=100.0), 0, is_reference=True))
                continue
            rows += [
                method_row(bench, method, budget, seed, is_reference=True)
                for seed, budget in budgets.items()
            ]
    return rows


def without_slow(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Leave out training to convergence that takes longer than `SPARE_SECONDS`.

    Nobody asked for it in particular, unless the rows that the package has are to be computed too.
    What no shipped rate is known of is not left out.

    Returns:
        The other rows, and those that are left out.
    """
    kept: list[Row] = []
    slow: list[Row] = []
    for row in rows:
        (slow if _seconds_to_converge(row) > SPARE_SECONDS else kept).append(row)
    return kept, slow


def slow_notes(slow: Iterable[Row], own: Collection[str]) -> list[str]:
    """Return a line on each row that was left out.

    Args:
        slow: the rows.
        own: ids of the cells that were computed all the same, as a command's own.
    """
    left = {row.cell.id: row for row in slow if row.cell.id not in own}
    notes = []
    for row in left.values():
        seconds = _seconds_to_converge(row)
        soft = replace(row.cell, method={"id": CONVERGED, "config": {"labels": "soft"}})
        notes.append(
            f"{CONVERGED} is left out: it would take about {in_words(seconds)}, more than "
            f"{in_words(SPARE_SECONDS)}. --own-references computes it"
            f"{'; with labels=soft the package has it' if is_shipped(soft) else ''}."
        )
    return notes


def _seconds_to_converge(row: Row) -> float:
    """Estimate the time of a row that trains to convergence and is not there; 0 for others."""
    bench, cell = row.bench, row.cell
    if cell.method["id"] != CONVERGED or not bench.takes_shipped or is_shipped(cell):
        return 0.0
    if ended(cell, bench.store, None, refresh=False) is not None:
        return 0.0
    is_soft = cell.method["config"].get("labels") == "soft"
    if is_soft and (bench.dataset is None or bench.dataset.action_probs is None):
        return 0.0  # it is skipped
    return Rates((), bench.device).estimate([cell]).seconds


def matched_budget(record: Record) -> Budget:
    """Return the budget of the random subset beside a record's set: as many rows, or bytes."""
    budget = record["cell"]["budget"]
    if budget is not None and "bytes" in budget:
        return Budget(**budget)
    return Budget(size=int(record["report"]["size"]))


def regimes_and_budgets(
    bench: Bench, records: Sequence[Record], seeds: Iterable[int]
) -> tuple[list[Mapping[str, Any]], dict[int, Budget]]:
    """Return the label regimes and budgets of the random subsets beside sets, by condensation seed.

    A seed that has no set of its own has the budget of the first one. Without any set that students
    learned from, there are none.
    """
    learned = [r for r in records if r["status"] == "done" and "report" in r]
    if not learned:
        return [], {}
    budgets = {r["cell"]["condensation_seed"]: matched_budget(r) for r in learned}
    first = learned[0]
    return label_regimes(bench.dataset, regime_of_record(first)), {
        seed: budgets.get(seed, matched_budget(first)) for seed in seeds
    }


def shipped_note(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a line on the rows that came with the package, if any."""
    shipped = [outcome.record for outcome in outcomes if outcome.is_shipped]
    if not shipped:
        return []
    names = ", ".join(dict.fromkeys(str(r["cell"]["method"]["id"]) for r in shipped))
    machine = shipped[0]["environment"]["cpu"]
    return [
        f"Records of the package, made on {machine}: {names} (--own-references computes them here)."
    ]


def label_regimes(
    dataset: TransitionDataset | None, regime: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return the label regimes of reference rows: a row's own; hard too without action_probs.

    Args:
        dataset: source of the rows.
        regime: settings of the row's labels; see `rlcondense.datasets.labels.label_settings`.
    """
    if regime["labels"] == "soft" and (dataset is None or dataset.action_probs is None):
        return [regime, {"labels": "hard"}]
    return [regime]


def regime_of_record(record: Record) -> dict[str, Any]:
    """Return the settings of the labels that a record's students learned from."""
    return label_settings(record["cell"]["method"]["config"], record.get("labels", "hard"))


def reference_names(bench: Bench, action_selection: str = "") -> list[str]:
    """Return the names of the reference policies that a bench has.

    Args:
        bench: the bench.
        action_selection: of the policies that they stand beside; by default the learner's.
    """
    parts = {"dataset": bench.dataset, "expert": bench.expert}
    given = [name for name, it in parts.items() if it is not None]
    return policies_beside(action_selection or bench.learner.action_selection, given)
