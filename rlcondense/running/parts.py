"""The part of a run that belongs to one of its methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlcondense.comparison.rows import LEAST_STUDENTS
from rlcondense.datasets.budget import Budget
from rlcondense.make import (
    make_method,
)
from rlcondense.methods.base import Method
from rlcondense.records.record import Record
from rlcondense.records.store import facts_of_record
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.running.bench import (
    Bench,
)
from rlcondense.running.compute import (
    cell_of_method,
    method_row,
    why_skipped,
)
from rlcondense.running.estimate import SETS, SPARE_SECONDS, Rates, in_words
from rlcondense.running.outcomes import Outcome, ended
from rlcondense.running.pairs import (
    expected_regime,
)
from rlcondense.running.reference_rows import (
    HARD_INSTEAD,
    label_regimes,
    matched_budget,
    regime_of_record,
    regimes_and_budgets,
    rows_beside,
    without_slow,
)
from rlcondense.running.rows import Row, Rows


@dataclass(frozen=True)
class PartResult:
    """The outcomes of a method's rows and of its reference rows, and notes on them.

    Attributes:
        own: outcomes of the method's rows.
        references: of its reference rows.
        notes: lines.
        slow: reference rows that are left out.
    """

    own: list[Outcome]
    references: list[Outcome]
    notes: list[str]
    slow: list[Row]


@dataclass(frozen=True)
class Part:
    """The part of a run that belongs to one method.

    Attributes:
        bench: with the learner of the method.
        method: the method.
        budget: its budget.
        seed: condensation seed, the first of them.
        references: whether the reference rows are computed too.
    """

    bench: Bench
    method: Method[Any]
    budget: Budget
    seed: int
    references: bool

    def foreseen(self, condensations: int) -> list[Row]:
        """Return the rows that are known before anything is computed.

        Raises:
            BadConfig: the method cannot be run like that.
        """
        bench, method = self.bench, self.method
        if why_skipped(bench, method):
            return []
        method.check(
            bench.dataset, task=bench.task, budget=self.budget, expert=bench.expert, seed=self.seed
        )
        seeds = range(self.seed, self.seed + condensations)
        regimes = label_regimes(bench.dataset, expected_regime(method, bench.learner, bench.task))
        budgets = {} if self.budget.percent is not None else dict.fromkeys(seeds, self.budget)
        return [*self._own(seeds), *self._beside(regimes, budgets)]

    def compute(self, rows: Rows, condensations: int | None) -> PartResult:
        """Compute the rows of the method, and its reference rows.

        Args:
            rows: those of the run.
            condensations: how many condensation seeds; None for as many as there is time for.
        """
        bench = self.bench
        [first] = rows.compute(self._own([self.seed]))
        notes: list[str] = []
        if condensations is None:
            condensations, notes = (
                num_sets(bench, self.method, self.budget, first.record)
                if self.references
                else (1, [])
            )
        seeds = range(self.seed, self.seed + condensations)
        if first.record["status"] == "skipped":
            return PartResult([first], [], notes, [])
        regimes, budgets = regimes_and_budgets(bench, [first.record], seeds)
        rows.ahead([*self._own(seeds[1:]), *self._beside(regimes, budgets)])
        own = [first, *rows.compute(self._own(seeds[1:]))]
        regimes, budgets = regimes_and_budgets(bench, [outcome.record for outcome in own], seeds)
        if self.references and len(regimes) > 1:
            notes.append(HARD_INSTEAD)
        beside, slow = self._beside_and_slow(regimes, budgets)
        return PartResult(own, rows.compute(beside), notes, slow)

    def _own(self, seeds: Iterable[int]) -> list[Row]:
        others = replace(self.bench, record_failures=True)
        return [
            method_row(self.bench if s == self.seed else others, self.method, self.budget, s)
            for s in seeds
            if self.method.stochastic or s == self.seed
        ]

    def _beside(
        self, regimes: Iterable[Mapping[str, Any]], budgets: Mapping[int, Budget]
    ) -> list[Row]:
        return self._beside_and_slow(regimes, budgets)[0]

    def _beside_and_slow(
        self, regimes: Iterable[Mapping[str, Any]], budgets: Mapping[int, Budget]
    ) -> tuple[list[Row], list[Row]]:
        if not self.references:
            return [], []
        return without_slow(rows_beside(self.bench, self.method.id, regimes, budgets))


def num_sets(
    bench: Bench, method: Method[Any], budget: Budget, first: Record
) -> tuple[int, list[str]]:
    """Return how many condensation seeds there is time for, and a note if that is one.

    Args:
        bench: of the run.
        method: the method of the run.
        budget: the method's budget.
        first: the record of the first seed, by whose timings the others are estimated.
    """
    judged = len(bench.seeds) >= LEAST_STUDENTS and method.id not in WHOLE
    if first["status"] != "done" or not judged:
        return 1, []
    seeds = range(first["cell"]["condensation_seed"] + 1, first["cell"]["condensation_seed"] + SETS)
    rivals = [(method, budget)] if method.stochastic else []
    if method.id != RANDOM_SUBSET and bench.dataset is not None:
        regimes = label_regimes(bench.dataset, regime_of_record(first))
        random = make_method(RANDOM_SUBSET, **regimes[-1])
        rivals.append((random, matched_budget(first)))
    cells = [cell_of_method(bench, rival, size, s) for s in seeds for rival, size in rivals]
    missing = [c for c in cells if ended(c, bench.store, None, bench.refresh) is None]
    left = Rates([facts_of_record(first)], bench.device).estimate(missing)
    known = first["key"].get("device") == bench.device or not left.unknown  # its like was timed
    if known and left.seconds <= SPARE_SECONDS:
        return SETS, []
    takes = (
        f"would take about {in_words(left.seconds)}, more than {in_words(SPARE_SECONDS)}"
        if known
        else f"may take long, since no such cell was timed on {bench.device}"
    )
    return 1, [
        f"{SETS - 1} more sets, with random ones beside them, {takes}: --condensations {SETS} "
        "computes them."
    ]
