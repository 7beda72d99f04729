"""One condensed dataset, many learners: does a method's gain carry over?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcondense import catalogue
from rlcondense.comparison.tables import agreement, transfer_table
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.report import ARRAYS
from rlcondense.errors import BadConfig
from rlcondense.learners.base import Learner
from rlcondense.limits import check_seeds
from rlcondense.make import facts_of, make_learner, make_method
from rlcondense.methods.base import Method
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.running.bench import Bench, budget_of, make_bench
from rlcondense.running.compute import run_artifact, run_method
from rlcondense.running.outcomes import Outcome
from rlcondense.running.reference_rows import (
    label_regimes,
    reference_method,
    reference_names,
    reference_policy,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.types import Record

Labels = tuple[tuple[str, Any], ...]  # settings of a label regime


@dataclass(frozen=True)
class TransferResult:
    """The records of every method with every learner.

    Attributes:
        rows: names of methods and folders, each with the records of its condensation seeds by
            learner.
        policies: records of the reference policies, which no learner trains.
        learners: the learners as the caller named them.
        reused: how many records were read back.
        warnings: what differs between records read back and this environment.
    """

    rows: dict[str, dict[str, list[Record]]]
    policies: list[Record]
    learners: list[str]
    reused: int
    warnings: list[str]

    def __str__(self) -> str:
        """Return the table that `transfer` prints."""
        return transfer_table(self.rows, self.policies, self.learners)

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
    methods: Sequence[str],
    learners: Sequence[str],
    task: str = "starpilot",
    *,
    folders: Sequence[str | Path] = (),
    dataset: str | None = None,
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
    progress: Progress = silent,
) -> TransferResult:
    """Train every learner on the set of every method, which is condensed once.

    Random subsets of the same sizes, all the data and the reference policies stand beside them.
    The learner settings of a method's paper are not used: the learners are the named ones, the
    same for every row.

    Args:
        methods: each an id, or `id:key=value,key=value`. With `student=learner` a method condenses
            for each learner separately.
        learners: likewise.
        task: id or alias of the task.
        folders: condensed datasets made before.
        dataset: id of the dataset; by default the task's expert dataset.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which every table then states.
        size: budget in transitions of the methods that take one; by default each method's own.
        percent: budget as a percentage, likewise of those that take one.
        unit: what `percent` counts.
        seed: condensation seed, the first of them.
        condensations: how many condensation seeds.
        seeds: how many learner seeds.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        results: folder of the records.
        refresh: compute again even if the record exists.
        progress: called with the progress.

    Raises:
        BadConfig: there is nothing to compare, or a learner does not have that form.

    Example:
        >>> print(transfer(["bc-10"], ["bc", "bc:network=impala", "discrete-cql"]))
    """
    if not (methods or folders):
        raise BadConfig("name a method or a folder to compare")
    check_seeds(seed, condensations, seeds)
    named = [*methods, *map(str, folders)]
    if not learners or any(len(set(names)) < len(names) for names in (learners, named)):
        raise BadConfig("name methods, folders and learners, each once")
    for folder in folders:
        if not (Path(folder) / ARRAYS).is_file():
            raise BadConfig(f"{folder} is no folder with a condensed dataset")
    made_learners = [_learner(text, task) for text in learners]
    made_methods = {text: [_method(text, task, each) for each in made_learners] for text in methods}
    benches = [
        make_bench(
            task,
            dataset,
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
        )
        for learner in made_learners
    ]
    benches = [replace(bench, refreshed=benches[0].refreshed) for bench in benches]
    chosen = range(seed, seed + condensations)
    rows: dict[str, dict[str, list[Record]]] = {}
    outcomes: list[Outcome] = []

    def add(name: str, cells_of: Callable[[Bench], list[Outcome]]) -> list[Record]:
        cells = [cells_of(bench) for bench in benches]
        for learner, learner_outcomes in zip(learners, cells, strict=True):
            rows.setdefault(name, {})[learner] = [outcome.record for outcome in learner_outcomes]
            outcomes.extend(learner_outcomes)
        return [outcome.record for learner_outcomes in cells for outcome in learner_outcomes]

    def condensed(
        methods: Sequence[Method[Any]], budget: Budget
    ) -> Callable[[Bench], list[Outcome]]:
        """Return a function that computes the cells of a method for a bench."""

        def cells(bench: Bench) -> list[Outcome]:
            of_bench = next(m for m, b in zip(methods, benches, strict=True) if b is bench)
            seeds_used = chosen if of_bench.stochastic else chosen[:1]
            return [run_method(bench, of_bench, budget, s) for s in seeds_used]

        return cells

    def made_before(folder: Path) -> Callable[[Bench], list[Outcome]]:
        return lambda bench: [run_artifact(bench, folder)]

    def beside(method: Method[Any], budget: Budget) -> Callable[[Bench], list[Outcome]]:
        seeds_used = chosen if method.stochastic else chosen[:1]
        return lambda bench: [reference_method(bench, method, budget, s) for s in seeds_used]

    bench = benches[0]
    subsets: dict[tuple[int, Labels], None] = {}
    for text, instances in made_methods.items():
        budget = _budget(instances[0].id, size, percent, unit)
        name = text if ":" in text else instances[0].id
        subsets |= _kept(add(name, condensed(instances, budget)), bench)
    for folder in folders:
        subsets |= _kept(add(str(folder), made_before(Path(folder))), bench)
    existing = _kept(
        [r for records in rows.get(RANDOM_SUBSET, {}).values() for r in records], bench
    )
    for size_kept, labels in sorted(subsets.keys() - existing.keys()):
        random = make_method(RANDOM_SUBSET, **dict(labels))
        add(f"random {size_kept}{_said(labels)}", beside(random, Budget(size=size_kept)))
    for whole in (name for name in WHOLE if name not in rows):
        for labels in dict.fromkeys(labels for _, labels in subsets):
            full = make_method(whole, **dict(labels))
            add(f"{whole}{_said(labels)}", beside(full, Budget(percent=100.0)))
    names = dict.fromkeys(name for each in benches for name in reference_names(each))
    policies = [reference_policy(bench, name) for name in names]
    outcomes += policies
    return TransferResult(
        rows=rows,
        policies=[outcome.record for outcome in policies],
        learners=list(learners),
        reused=sum(outcome.is_reused for outcome in outcomes),
        warnings=sorted({line for outcome in outcomes for line in outcome.differences}),
    )


def _budget(name: str, size: int | None, percent: float | None, unit: str | None) -> Budget:
    default = facts_of(catalogue.find("methods", name)).get("budget", {})
    if "percent" in default:
        return budget_of(default, None, percent, unit)
    return budget_of(default, size, None, None)


def _method(text: str, task: str, learner: Learner[Any]) -> Method[Any]:
    name, settings = _named("method", text)
    return make_method(name, task, learner, **settings)


def _learner(text: str, task: str) -> Learner[Any]:
    name, settings = _named("learner", text)
    return make_learner(name, task, **settings)


def _named(kind: str, text: str) -> tuple[str, dict[str, str]]:
    """Split `id:key=value,key=value` into the id and the settings."""
    name, colon, settings = text.partition(":")
    pairs = [[part.strip() for part in pair.partition("=")] for pair in settings.split(",")]
    values = {key: value for key, _, value in pairs} if colon else {}
    if not name or (colon and (not all(all(p) for p in pairs) or len(values) < len(pairs))):
        raise BadConfig(f"a {kind} is given as id or id:key=value,key=value, not {text!r}")
    return name, values


def _kept(records: Sequence[Record], bench: Bench) -> dict[tuple[int, Labels], None]:
    """Return the sizes and labels of the training sets, for random rows to match."""
    if bench.dataset is None:
        return {}
    return dict.fromkeys(
        sorted(
            (r["report"]["size"], tuple(sorted(labels.items())))
            for r in records
            if "report" in r
            for labels in label_regimes(bench.dataset, r)
        )
    )


def _said(labels: Labels) -> str:
    regime = dict(labels)["labels"]
    return "" if regime == "hard" else f" {regime}"
