"""One method beside its reference rows: `rlcondense run`, `condense` and `evaluate`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcondense import catalogue
from rlcondense.comparison.rows import LEAST_STUDENTS
from rlcondense.comparison.tables import run_table
from rlcondense.comparison.views import ResultViews
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.report import ARRAYS
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.experts.shipped import find_expert
from rlcondense.files import canonical_json, lock, output_folder, sha256_file
from rlcondense.limits import check_seeds
from rlcondense.make import (
    default_dataset,
    facts_of,
    load_dataset,
    make_learner,
    make_method,
    make_task,
    named_dataset,
)
from rlcondense.methods.base import Method
from rlcondense.policies import NetworkPolicies, check_fits, load_policies
from rlcondense.records.record import Record
from rlcondense.records.store import Store, facts_of_record
from rlcondense.references import BLIND, POLICIES, WHOLE
from rlcondense.running.bench import (
    Bench,
    budget_of,
    budget_taken,
    expert_of,
    make_bench,
    task_named,
)
from rlcondense.running.compute import (
    artifact_row,
    cell_of_method,
    cell_of_policy,
    evaluated,
    method_row,
    policy_row,
    why_skipped,
)
from rlcondense.running.estimate import SETS, SPARE_SECONDS, Rates, in_words
from rlcondense.running.outcomes import Outcome, compute_or_read, making_of, named_progress
from rlcondense.running.pairs import (
    expected_regime,
    id_and_settings,
    make_pair,
    preferred_learner,
)
from rlcondense.running.reference_rows import (
    HARD_INSTEAD,
    label_regimes,
    matched_budget,
    regime_of_record,
    rows_beside,
    shipped_note,
)
from rlcondense.running.rows import Row, Rows
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import resolve_device, source_sha256, versions
from rlcondense.runtime.tune import THREADS, one_thread
from rlcondense.tasks.base import Task
from rlcondense.text import one_line


@dataclass(frozen=True, repr=False)
class RunResult(ResultViews):
    """The records of a run and of its reference rows.

    Attributes:
        records: one for each method and condensation seed.
        references: the records of the reference rows.
        reused: how many records were read back instead of computed.
        warnings: what differs between a record read back and this environment.
        store: where the records lie.
        notes: further lines below the table.
    """

    records: list[Record]
    references: list[Record]
    reused: int
    warnings: list[str]
    store: Store
    notes: tuple[str, ...] = ()

    def every_record(self) -> list[Record]:
        return [*self.records, *self.references]

    @property
    def record(self) -> Record:
        """The first record."""
        return self.records[0]

    def __str__(self) -> str:
        """Return the table that `run` prints."""
        return "\n".join([run_table(self.records, self.references), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `run --json` prints."""
        out: dict[str, Any] = {"record": self.record, "references": self.references}
        return out if len(self.records) == 1 else {**out, "records": self.records}


def run(
    method: str | Sequence[str] = "gradmatch",
    task: str | Task | None = None,
    *,
    dataset: str | TransitionDataset | None = None,
    expert: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    learner: str = "bc",
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
    max_bytes: int | None = None,
    bits: int | None = None,
    resolution: int | None = None,
    seed: int = 0,
    condensations: int | None = None,
    seeds: int = 3,
    episodes: int = 100,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    learner_settings: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    refresh: bool = False,
    references: bool = True,
    own_references: bool = False,
    keep_policies: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> RunResult:
    """Condense, train and evaluate, with the reference rows, or read the records back.

    A method that takes no data needs no dataset; if its task has none, the reference rows that
    need one are missing.

    Args:
        method: id of the method, or `id:key=value,key=value`; several are one table.
        task: id or alias of the task; by default the dataset's, or else starpilot.
        dataset: id or path of the dataset, or the data, see `rlcondense.make.named_dataset`; by
            default the task's expert dataset.
        expert: id or path of the expert of the expert row and of methods that use one; by default
            the dataset's, or else the task's newest.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which every table then states.
        learner: id of the learner.
        size: budget in transitions; by default the method's own, as for those of several methods
            that take a percentage.
        percent: budget as a percentage instead.
        unit: what `percent` counts, `transitions` or `episodes`.
        max_bytes: budget in bytes instead; see `rlcondense.datasets.coding`.
        bits: bits of a stored pixel or feature, with `max_bytes`; by default 8.
        resolution: side of the stored frames, with `max_bytes`; by default their own.
        seed: condensation seed, the first of them.
        condensations: how many condensation seeds, of random subsets too; a deterministic method
            is condensed once. By default `SETS`, which a verdict on a stochastic method needs, if
            the others take at most `SPARE_SECONDS` by the timings of the first; else, and if there
            is nothing to judge, one.
        seeds: how many learner seeds, from 0.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        settings: of each method; see `rlcondense.make.make_method`.
        learner_settings: of the learner; over those that the method's paper trains with, unless
            the method follows the learner (`student=learner`).
        results: folder of the records.
        refresh: compute again even if the record exists.
        references: run the reference rows too.
        own_references: compute the reference rows that the package has records of too.
        keep_policies: write the policies that are trained to `<results>/policies/<cell id>`.
        workers: processes that compute rows side by side where that saves time; by default one for
            each core, or GPU.
        progress: called with the progress.

    Example:
        >>> result = run("random", "starpilot", size=15)
        >>> result.record["summary"]["heldout"]["mean"]
        >>> print(run(["random", "k-center", "pbc:iterations=100"], "cartpole", size=16))
    """
    check_seeds(seed, 1 if condensations is None else condensations, seeds)
    task = task_named(task, dataset)
    names = [method] if isinstance(method, str) else list(method)
    if not names or len(set(names)) < len(names):
        raise BadConfig("name methods, each once")
    pairs = []
    for text in names:
        name, own = id_and_settings("method", text)
        both = {**dict(settings or {}), **own}
        pair = make_pair(name, learner, make_task(task), both, learner_settings)
        asked = budget_taken if len(names) > 1 else budget_of
        default = facts_of(catalogue.find("methods", name)).get("budget", {})
        pairs.append((*pair, asked(default, size, percent, unit, max_bytes, bits, resolution)))
    bench = make_bench(
        task,
        dataset,
        expert=expert,
        download=download,
        heldout_data=heldout_data,
        learner=pairs[0][1],
        seeds=seeds,
        episodes=episodes,
        device=device,
        results=results,
        refresh=refresh,
        progress=progress,
        needs_dataset=any(condenser.takes_data for condenser, *_ in pairs),
        takes_shipped=not own_references,
    )
    # The first row is shown even if others fail.
    bench = replace(bench, keep_policies=keep_policies, record_failures=len(pairs) > 1)
    parts = [
        _Part(replace(bench, learner=trained), condenser, budget, seed, references)
        for condenser, trained, budget in pairs
    ]
    rows = Rows(bench, workers)
    rows.ahead([row for part in parts for row in part.foreseen(condensations or 1)])
    results_of = [part.compute(rows, condensations) for part in parts]
    outcomes = [outcome for part_result in results_of for outcome in part_result.own]
    own_ids = {outcome.record["cell_id"] for outcome in outcomes}
    beside = {
        outcome.record["cell_id"]: outcome
        for part_result in results_of
        for outcome in part_result.references
        if outcome.record["cell_id"] not in own_ids
    }
    notes = dict.fromkeys(note for part_result in results_of for note in part_result.notes)
    return result_of(bench, outcomes, list(beside.values()), list(notes))


@dataclass(frozen=True)
class _PartResult:
    """The outcomes of a method's rows and of its reference rows, and notes on them."""

    own: list[Outcome]
    references: list[Outcome]
    notes: list[str]


@dataclass(frozen=True)
class _Part:
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

    def compute(self, rows: Rows, condensations: int | None) -> _PartResult:
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
                _sets(bench, self.method, self.budget, first.record) if self.references else (1, [])
            )
        seeds = range(self.seed, self.seed + condensations)
        if first.record["status"] == "skipped":
            return _PartResult([first], [], notes)
        regimes, budgets = _kept(bench, [first.record], seeds)
        rows.ahead([*self._own(seeds[1:]), *self._beside(regimes, budgets)])
        own = [first, *rows.compute(self._own(seeds[1:]))]
        regimes, budgets = _kept(bench, [outcome.record for outcome in own], seeds)
        if self.references and len(regimes) > 1:
            notes.append(HARD_INSTEAD)
        return _PartResult(own, rows.compute(self._beside(regimes, budgets)), notes)

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
        if not self.references:
            return []
        return rows_beside(self.bench, self.method.id, regimes, budgets)


def _kept(
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


def _sets(
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
    if method.id != "random" and bench.dataset is not None:
        regimes = label_regimes(bench.dataset, regime_of_record(first))
        random = make_method("random", **regimes[-1])
        rivals.append((random, matched_budget(first)))
    cells = [cell_of_method(bench, rival, size, s) for s in seeds for rival, size in rivals]
    missing = [c for c in cells if bench.refresh or bench.store.read_record(c.id) is None]
    left = Rates([facts_of_record(first)], bench.device).estimate(missing)
    if left.seconds <= SPARE_SECONDS:
        return SETS, []
    return 1, [
        f"{SETS - 1} more sets, with random ones beside them, would take about "
        f"{in_words(left.seconds)}, more than {in_words(SPARE_SECONDS)}: --condensations {SETS} "
        "computes them."
    ]


def condense(
    dataset: str | TransitionDataset | None = None,
    method: str = "gradmatch",
    task: str | Task | None = None,
    *,
    out: str | Path | None = None,
    expert: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
    max_bytes: int | None = None,
    bits: int | None = None,
    resolution: int | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> CondensedDataset:
    """Condense a dataset, and write the result and its report to a folder if one is named.

    Args:
        dataset: id or path of the dataset, or the data; by default the task's expert dataset.
        method: id of the method.
        task: task, or its id or alias; by default the dataset's, or else starpilot.
        out: the folder; a killed condensation resumes from it.
        expert: as for `run`, and so are the other arguments.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too.
        size: budget in transitions; by default the method's own.
        percent: budget as a percentage instead.
        unit: what `percent` counts, `transitions` or `episodes`.
        max_bytes: budget in bytes instead; see `rlcondense.datasets.coding`.
        bits: bits of a stored pixel or feature, with `max_bytes`; by default 8.
        resolution: side of the stored frames, with `max_bytes`; by default their own.
        seed: condensation seed.
        device: `auto`, `cpu` or `cuda`.
        settings: of the method.
        progress: called with the progress.

    Example:
        >>> data = condense("classic/cartpole-v0/expert-v0", "random", size=20)
        >>> len(data)
        20
    """
    check_seeds(seed, 1, 1)
    task = task_named(task, dataset)
    folder = output_folder(Path(out)) if out is not None else None
    facts = facts_of(catalogue.find("methods", method))
    condenser = make_method(method, task, **dict(settings or {}))
    budget = budget_of(facts.get("budget", {}), size, percent, unit, max_bytes, bits, resolution)
    the_task = make_task(task)
    name, source = "", None
    if condenser.takes_data:
        name = named_dataset(dataset or default_dataset(the_task), task, expert)
        source = load_dataset(name, download=download, heldout_data=heldout_data, progress=progress)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(lock(folder.with_name(f".{folder.name}.lock")))
        stack.enter_context(one_thread())
        data = condenser.condense(
            source,
            task=the_task,
            budget=budget,
            expert=find_expert(expert) if expert else expert_of(name, the_task),
            seed=seed,
            device=resolve_device(device),
            progress=named_progress(progress, condenser.id),
            checkpoint=folder / "unfinished.safetensors" if folder is not None else None,
            made_from=canonical_json(
                {
                    "task": the_task.id,
                    "source_sha256": source_sha256(type(the_task), type(condenser)),
                    "threads": THREADS,
                    **versions(),
                }
            ),
        )
        if folder is not None:
            data.save(folder)
    return data


def evaluate_artifact(
    what: str | Path,
    task: str | Task | None = None,
    *,
    dataset: str | TransitionDataset | None = None,
    expert: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    learner: str = "bc",
    seeds: int = 3,
    episodes: int = 100,
    device: str = "auto",
    learner_settings: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    refresh: bool = False,
    own_references: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> RunResult:
    """Evaluate a condensed dataset, policies, or one of the reference policies.

    Args:
        what: a folder, or one of `references.POLICIES`.
        task: id or alias of the task; by default the dataset's, or else starpilot.
        dataset: source of the reference rows, by id or path; by default the task's expert dataset.
        expert: id or path of the expert; by default the dataset's, or else the task's newest.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which every table then states.
        learner: id of the learner, for a condensed dataset.
        seeds: how many learner seeds.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        learner_settings: of the learner.
        results: folder of the records.
        refresh: compute again even if the record exists.
        own_references: compute the reference rows that the package has records of too.
        workers: processes that compute the reference rows; by default one for each core, or GPU.
        progress: called with the progress.

    Raises:
        UnknownName: `what` is neither a folder nor a reference policy.
        BadConfig: the folder holds neither condensed data nor policies.
    """
    what, folder, task = str(what), Path(what), task_named(task, dataset)
    if what not in POLICIES and not folder.is_dir():
        raise UnknownName("policy or folder", what, POLICIES)
    preferred = preferred_learner(folder, make_task(task), learner)
    bench = make_bench(
        task,
        dataset,
        expert=expert,
        download=download,
        heldout_data=heldout_data,
        learner=make_learner(learner, task, **{**preferred, **dict(learner_settings or {})}),
        seeds=seeds,
        episodes=episodes,
        device=device,
        results=results,
        refresh=refresh,
        progress=progress,
        needs_dataset=what in BLIND,
        takes_dataset=what in BLIND or folder.is_dir(),
        takes_shipped=not own_references,
    )
    if what in POLICIES:
        row = policy_row(bench, what, is_reference=False)
    elif (folder / ARRAYS).is_file():
        row = artifact_row(bench, folder)
    elif (folder / "policies.json").is_file():
        policies = load_policies(folder, bench.device)
        check_fits(policies.spec, bench.task, str(folder))
        bench = replace(bench, seeds=policies.seeds)
        row = _policies_row(bench, folder, policies)
    else:
        raise BadConfig(f"{folder} holds neither {ARRAYS} nor policies.safetensors")
    rows = Rows(bench, workers)
    [outcome] = rows.compute([row])
    record = outcome.record
    references: list[Outcome] = []
    notes: list[str] = []
    if bench.dataset is not None and record["status"] != "skipped":
        regimes, budgets = _kept(bench, [record], [record["cell"]["condensation_seed"]])
        name = record["cell"]["method"]["id"]
        references = rows.compute(rows_beside(bench, name, regimes, budgets))
        notes = [HARD_INSTEAD] if len(regimes) > 1 else []
    result = result_of(bench, [outcome], references, notes)
    source = record.get("report", {}).get("dataset")
    if bench.dataset is not None and source not in (None, bench.dataset_id):
        note = f"{what} was condensed from {source!r}, its reference rows from {bench.dataset_id!r}"
        return replace(result, warnings=[*result.warnings, note])
    return result


def _policies_row(bench: Bench, folder: Path, policies: NetworkPolicies) -> Row:
    """Return the row of policies from a folder."""
    files = ("policies.safetensors", "policies.json")
    config = {"sha256": [sha256_file(folder / file) for file in files]}
    name = one_line(folder.resolve().name)
    cell = cell_of_policy(bench, {"id": f"policies:{name}", "config": config})

    def compute(bench: Bench) -> Outcome:
        return compute_or_read(
            bench, cell, making_of(bench, None), lambda: evaluated(bench, policies, name, {})
        )

    return Row(bench, cell, compute, by_workers=False)


def result_of(
    bench: Bench, outcomes: list[Outcome], rows: list[Outcome], notes: Sequence[str] = ()
) -> RunResult:
    assert isinstance(bench.store, Store)
    return RunResult(
        notes=(*notes, *shipped_note(rows)),
        records=[outcome.record for outcome in outcomes],
        references=[outcome.record for outcome in rows],
        reused=sum(outcome.is_reused for outcome in (*outcomes, *rows)),
        warnings=sorted({line for outcome in (*outcomes, *rows) for line in outcome.differences}),
        store=bench.store,
    )
