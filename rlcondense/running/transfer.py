"""One condensed dataset, many learners: does a method's gain carry over?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcondense.comparison.tables import agreement, transfer_table
from rlcondense.comparison.views import ResultViews
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.exported import is_condensed
from rlcondense.datasets.labels import regime_of
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.learners.base import Learner
from rlcondense.limits import check_seeds
from rlcondense.make import make_learner, make_method
from rlcondense.methods.base import Method
from rlcondense.records.cell import budget_text
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.running.bench import Bench, budgets_of, make_bench, task_named
from rlcondense.running.compute import artifact_row, method_row, policy_row
from rlcondense.running.evaluating import of_other_data
from rlcondense.running.pairs import id_and_settings
from rlcondense.running.reference_rows import (
    label_regimes,
    matched_budget,
    reference_names,
    regime_of_record,
    shipped_note,
)
from rlcondense.running.rows import Row, Rows
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task

Labels = tuple[tuple[str, Any], ...]  # settings of a label regime


@dataclass(frozen=True, repr=False)
class TransferResult(ResultViews):
    """The records of every method with every learner.

    Attributes:
        rows: names of methods and folders, each with the records of its condensation seeds by
            learner.
        policies: records of the reference policies, which no learner trains.
        learners: the learners as the caller named them.
        reused: how many records were read back.
        warnings: what differs between records read back and this environment, and the sets that
            were made from other data than the rows beside them.
        notes: further lines below the table.
    """

    rows: dict[str, dict[str, list[Record]]]
    policies: list[Record]
    learners: list[str]
    reused: int
    warnings: list[str]
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The table that `transfer` prints."""
        table = transfer_table(self.rows, self.policies, self.learners)
        return "\n".join([table, *self.notes])

    def __str__(self) -> str:
        return "\n".join([self.table, *map("Warning: {}".format, self.warnings)])

    def every_record(self) -> list[Record]:
        return self.records

    @property
    def records(self) -> list[Record]:
        """Return all records."""
        cells = [row[learner] for row in self.rows.values() for learner in self.learners]
        return [*itertools.chain(*cells), *self.policies]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `transfer --json` prints."""
        return {
            "learners": self.learners,
            "rows": self.rows,
            "policies": self.policies,
            "rank_correlation": agreement(self.rows, self.learners),
        }


def transfer(
    methods: str | Sequence[str],
    learners: str | Sequence[str],
    task: str | Task | None = None,
    *,
    folders: str | Path | Sequence[str | Path] = (),
    dataset: str | Path | TransitionDataset | None = None,
    expert: str | Path | None = None,
    download: bool = False,
    heldout_data: bool = False,
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
    seed: int = 0,
    condensations: int = 1,
    seeds: int = 3,
    episodes: int = 100,
    device: str = "auto",
    results: str | Path = "results",
    refresh: bool = False,
    own_references: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> TransferResult:
    """Train every learner on the set of every method, which is condensed once.

    Random subsets of the same sizes, or bytes, all the data and the reference policies stand beside
    them.
    The learner settings of a method's paper are not used: the learners are the named ones, the
    same for every row.

    Args:
        methods: one or several, each an id, or `id:key=value,key=value`. With `student=learner` a
            method condenses for each learner separately.
        learners: likewise.
        task: id or alias of the task; by default the dataset's, or the first folder's; without
            either starpilot.
        folders: condensed datasets made before.
        dataset: id or path of the dataset; by default the task's expert dataset.
        expert: id or path of the expert; by default the dataset's, or else the task's newest.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which every table then states.
        size: budget in transitions of one method, or of those of several whose own budget is one;
            by default each method's own.
        percent: budget as a percentage, likewise.
        unit: what `percent` counts.
        seed: condensation seed, the first of them.
        condensations: how many condensation seeds, also of the random rows beside folders.
        seeds: how many learner seeds.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        results: folder of the records.
        refresh: compute again even if the record exists.
        own_references: compute the reference rows that the package has records of too.
        workers: processes that compute rows side by side; by default one for each core, or GPU.
        progress: called with the progress.

    Raises:
        BadConfig: there is nothing to compare, or a learner does not have that form or cannot
            learn the task.

    Example:
        >>> print(transfer(["bc-10"], ["bc", "bc:network=impala", "discrete-cql"]))
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    learners = [learners] if isinstance(learners, str) else list(learners)
    folders = [folders] if isinstance(folders, (str, Path)) else list(folders)
    if not (methods or folders):
        raise BadConfig("name a method or a folder to compare")
    check_seeds(seed, condensations, seeds)
    task = task_named(task, dataset, download=download, folders=folders)
    named = [*methods, *map(str, folders)]
    if not learners or any(len(set(names)) < len(names) for names in (learners, named)):
        raise BadConfig("name methods, folders and learners, each once")
    for folder in folders:
        if not is_condensed(folder):
            raise BadConfig(f"{folder} is no folder with a condensed dataset")
    made_learners = [_learner(text, task) for text in learners]
    for each in made_learners:
        each.check_task(make_task(task))
    made_methods = {text: [_method(text, task, each) for each in made_learners] for text in methods}
    benches = [
        make_bench(
            task,
            dataset,
            expert=expert,
            download=download,
            heldout_data=heldout_data,
            learner=learner,
            seeds=seeds,
            episodes=episodes,
            device=device,
            results=results,
            refresh=refresh,
            progress=progress,
            needs_dataset=any(method.takes_data for method, *_ in made_methods.values()),
            takes_shipped=not own_references,
        )
        for learner in made_learners
    ]
    benches = [replace(bench, refreshed=benches[0].refreshed) for bench in benches]
    rows = Rows(benches[0], workers)
    table: dict[str, dict[str, list[Record]]] = {}

    def add(name: str, row_of: Sequence[Sequence[Row]]) -> list[Record]:
        """Compute the rows of a name, for each learner some, and return their records."""
        for text, of_learner in zip(learners, row_of, strict=True):
            records = [outcome.record for outcome in rows.compute(of_learner)]
            table.setdefault(name, {})[text] = records
        return [record for text in learners for record in table[name][text]]

    def method_rows(
        methods: Sequence[Method[Any]], budget: Budget, *, is_reference: bool = False
    ) -> list[list[Row]]:
        """Return the rows of a method, one instance for each learner."""
        chosen = range(seed, seed + (condensations if methods[0].stochastic else 1))
        return [
            [method_row(bench, each, budget, s, is_reference=is_reference) for s in chosen]
            for each, bench in zip(methods, benches, strict=True)
        ]

    ids = [instances[0].id for instances in made_methods.values()]
    budgets = budgets_of(ids, size, percent, unit)
    named_rows = {
        text if ":" in text else instances[0].id: method_rows(instances, budget)
        for (text, instances), budget in zip(made_methods.items(), budgets, strict=True)
    }
    named_rows |= {
        str(folder): [[artifact_row(bench, Path(folder))] for bench in benches]
        for folder in folders
    }
    names = dict.fromkeys(name for each in benches for name in reference_names(each))
    policies = [policy_row(benches[0], name) for name in names]
    rows.ahead([*_flat(itertools.chain(*named_rows.values())), *policies])
    subsets: set[tuple[Budget, Labels]] = set()
    for name, of_name in named_rows.items():
        subsets |= _kept(add(name, of_name), benches[0])
    computed = [record for of in table.values() for each in of.values() for record in each]
    # Of all the data there is no random subset.
    alone = [r for r in computed if r["cell"]["method"]["id"] in (RANDOM_SUBSET, *WHOLE)]
    existing = _kept(alone, benches[0])
    beside = {}
    for budget, labels in sorted(subsets - existing, key=_small_ones_first):
        random = make_method(RANDOM_SUBSET, **dict(labels))
        beside[f"random {budget_text(budget.to_json())}{_said(labels)}"] = method_rows(
            [random] * len(benches), budget, is_reference=True
        )
    for whole in (name for name in WHOLE if name not in table):
        for labels in sorted({labels for _, labels in subsets}, key=repr):
            full = make_method(whole, **dict(labels))
            beside[f"{whole}{_said(labels)}"] = [
                [method_row(bench, full, Budget(percent=100.0), 0, is_reference=True)]
                for bench in benches
            ]
    rows.ahead(_flat(itertools.chain(*beside.values())))
    for name, of_name in beside.items():
        add(name, of_name)
    sets = [(name, r) for name in map(str, folders) for of in table[name].values() for r in of]
    warnings = {line for outcome in rows.outcomes for line in outcome.differences}
    return TransferResult(
        rows=table,
        policies=[outcome.record for outcome in rows.compute(policies)],
        learners=list(learners),
        reused=sum(outcome.is_reused for outcome in rows.outcomes),
        warnings=[*sorted(warnings), *of_other_data(sets, benches[0].dataset)],
        notes=tuple(shipped_note(rows.outcomes)),
    )


def _flat(rows: Iterable[Iterable[Row]]) -> list[Row]:
    return list(itertools.chain(*rows))


def _method(text: str, task: str, learner: Learner[Any]) -> Method[Any]:
    name, settings = id_and_settings("method", text)
    return make_method(name, task, learner, **settings)


def _learner(text: str, task: str) -> Learner[Any]:
    name, settings = id_and_settings("learner", text)
    return make_learner(name, task, **settings)


def _kept(records: Iterable[Record], bench: Bench) -> set[tuple[Budget, Labels]]:
    """Return the budgets and labels of the training sets, for random rows to match."""
    if bench.dataset is None:
        return set()
    return {
        (matched_budget(r), tuple(sorted(labels.items())))
        for r in records
        if "report" in r
        for labels in label_regimes(bench.dataset, regime_of_record(r))
    }


def _small_ones_first(of: tuple[Budget, Labels]) -> tuple[int, int, str]:
    budget, labels = of
    return budget.size or 0, budget.bytes or 0, repr((budget, labels))


def _said(labels: Labels) -> str:
    regime = regime_of(dict(labels), "soft")
    return "" if dict(labels)["labels"] == "hard" else f" {regime}"
