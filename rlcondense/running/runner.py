"""Running a method: condense, train, evaluate, beside the reference rows, and keep the records."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlcondense import __version__, catalogue
from rlcondense.comparison.rows import LEAST_STUDENTS
from rlcondense.comparison.tables import run_table
from rlcondense.config import config_json
from rlcondense.datasets.condensed import (
    ARRAYS,
    Budget,
    CondensedDataset,
    load_condensed,
)
from rlcondense.datasets.detectors import constant_student, detect, provenance
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import (
    BadConfig,
    MissingExtra,
    PluginExit,
    PluginLoadError,
    RLCondenseError,
    UnknownName,
    no_exit,
)
from rlcondense.evaluation import Evaluation, Protocol, evaluate, protocol_of
from rlcondense.experts.shipped import Expert, load_expert, load_newest, shipped_experts
from rlcondense.files import Busy, canonical_json, lock, output_folder, sha256_file
from rlcondense.learners.base import Learner
from rlcondense.limits import check_seeds
from rlcondense.make import (
    default_dataset,
    facts_of,
    follows_learner,
    load_dataset,
    make_learner,
    make_method,
    make_task,
)
from rlcondense.methods.base import Method
from rlcondense.methods.full import FullConverged
from rlcondense.policies import (
    NetworkPolicies,
    PolicyBatch,
    check_fits,
    load_policies,
)
from rlcondense.records.cell import (
    Cell,
    evaluation_json,
    method_cell,
    policy_cell,
)
from rlcondense.records.schema import SCHEMA_VERSION
from rlcondense.records.store import Results, Store, facts_of_record
from rlcondense.references import (
    BLIND,
    BY_ID,
    EXPERT,
    POLICIES,
    WHOLE,
    PolicyParts,
    methods_beside,
    policies_beside,
    reference_policies,
)
from rlcondense.running.estimate import SETS, SPARE_SECONDS, Rates, in_words
from rlcondense.runtime.meter import (
    Seconds,
    forget_peak_memory,
    measured,
    peak_gpu_memory_bytes,
    peak_memory_bytes,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import describe, resolve_device, source_sha256, versions
from rlcondense.statistics.intervals import summarise
from rlcondense.tasks.base import SPLITS, Task
from rlcondense.text import one_line
from rlcondense.validation import (
    check_agreement,
    check_dataset,
    check_policies,
    check_rows,
    heldout_levels,
    refuse_heldout,
)

Record = dict[str, Any]
MOST_FRAMES = 20  # of a failed cell's traceback
HARD_INSTEAD = "Soft labels need data with action_probs: rows of hard ones stand in their place."


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Attributes:
        records: one for each condensation seed.
        references: the rows they stand beside.
        reused: how many records were read back instead of computed.
        warnings: what differs between a record read back and this environment.
        store: where the records lie.
        notes: what else is to be said below the table.
    """

    records: list[Record]
    references: list[Record]
    reused: int
    warnings: list[str]
    store: Store
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> Record:
        """The first record."""
        return self.records[0]

    def __str__(self) -> str:
        """The table of the rows, as `run` prints it."""
        return "\n".join([run_table(self.records, self.references), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """As `run --json` prints it."""
        out: dict[str, Any] = {"record": self.record, "references": self.references}
        return out if len(self.records) == 1 else {**out, "records": self.records}


@dataclass(frozen=True)
class Bench:
    """What all cells of one run share."""

    task: Task
    dataset: TransitionDataset | None
    expert: Expert | None
    learner: Learner[Any]
    seeds: tuple[int, ...]
    protocol: Protocol
    device: str
    threads: int
    store: Results
    refresh: bool = False
    progress: Progress = silent
    keep_policies: bool = False
    wait: bool = True  # for what somebody else is at
    record_failures: bool = False  # instead of raising them
    is_reference: bool = False  # of rows that others stand beside: what cannot be is skipped
    seen: tuple[int, ...] | None = None  # the stamp of a planned cell's record, if it had one
    refreshed: set[str] = field(default_factory=set)  # what was condensed anew
    heldout_data: bool = False  # whether data of held-out levels are taken

    @property
    def dataset_id(self) -> str:
        """The dataset's id, or nothing."""
        return self.dataset.id if self.dataset is not None else ""


Outcome = tuple[Record, list[str] | None]


def run(
    method: str = "gradmatch",
    task: str = "starpilot",
    *,
    dataset: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    learner: str = "bc",
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
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
    keep_policies: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Condense, train and evaluate, with the reference rows, or read all that back.

    A method that takes no data needs no dataset; where there is none for its task, the reference
    rows that need one are missing.

    Args:
        method: id of the method.
        task: id or alias of the task.
        dataset: id of the dataset; by default the task's expert dataset.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which is said in every table.
        learner: id of the learner.
        size: budget in transitions; by default the method's own.
        percent: budget as a percentage instead.
        unit: what `percent` counts, `transitions` or `episodes`.
        seed: condensation seed, the first of them.
        condensations: how many condensation seeds, of random subsets too; a method that draws
            nothing is condensed once. By default `SETS`, which a verdict on a method that draws
            needs, if by what the first one took the others take `SPARE_SECONDS` at most; else, and
            where there is nothing to judge, one.
        seeds: how many learner seeds, from 0.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        settings: of the method; see `rlcondense.make.make_method`.
        learner_settings: of the learner; over those that the method's paper trains with, unless
            the method follows the learner (`student=learner`).
        results: folder of the records.
        refresh: compute again what is there already.
        references: run the reference rows too.
        keep_policies: write the policies that are trained to `<results>/policies/<cell id>`.
        progress: told how far it is.

    Example:
        >>> result = run("random", "starpilot", size=15)
        >>> result.record["summary"]["heldout"]["mean"]
    """
    check_seeds(seed, 1 if condensations is None else condensations, seeds)
    facts = facts_of(catalogue.find("methods", method))
    made, trained = make_pair(method, learner, make_task(task), settings, learner_settings)
    budget = budget_of(facts.get("budget", {}), size, percent, unit)
    bench = make_bench(
        task,
        dataset,
        download=download,
        heldout_data=heldout_data,
        learner=trained,
        seeds=seeds,
        episodes=episodes,
        device=device,
        results=results,
        refresh=refresh,
        progress=progress,
        needs_dataset=made.takes_data,
    )
    bench = replace(bench, keep_policies=keep_policies)
    first = run_method(bench, made, budget, seed)
    notes: list[str] = []
    if condensations is None:
        condensations, notes = _sets(bench, made, budget, first[0]) if references else (1, [])
    chosen = range(seed, seed + condensations)
    others = replace(bench, record_failures=True)  # the first is shown, whatever comes of them
    outcomes = [first]
    outcomes += [run_method(others, made, budget, s) for s in chosen[1:] if made.stochastic]
    rows: list[Outcome] = []
    if references:
        rows, said = _references(bench, made.id, [r for r, _ in outcomes], chosen)
        notes += said
    return replace(_result(bench, outcomes, rows), notes=tuple(notes))


def _sets(
    bench: Bench, method: Method[Any], budget: Budget, first: Record
) -> tuple[int, list[str]]:
    """How many condensation seeds there is time for, and what is to be said if that is one.

    Args:
        bench: of the run.
        method: what is run.
        budget: its own.
        first: the record of the first seed, by whose timings the others are estimated.
    """
    judged = len(bench.seeds) >= LEAST_STUDENTS and method.id not in WHOLE
    if first["status"] != "done" or not judged:
        return 1, []
    seeds = range(first["cell"]["condensation_seed"] + 1, first["cell"]["condensation_seed"] + SETS)
    rivals = [(method, budget)] if method.stochastic else []
    if method.id != "random" and bench.dataset is not None:
        random = make_method("random", labels=label_kinds(bench.dataset, first)[-1])
        rivals.append((random, Budget(size=first["report"]["size"])))
    cells = [_method_cell(bench, rival, size, s) for s in seeds for rival, size in rivals]
    missing = [c for c in cells if bench.refresh or bench.store.read_record(c.id) is None]
    left = Rates([facts_of_record(first)], bench.device, bench.threads).estimate(missing)
    if left.seconds <= SPARE_SECONDS:
        return SETS, []
    return 1, [
        f"{SETS - 1} more sets, with random ones beside them, would take about "
        f"{in_words(left.seconds)}, more than {in_words(SPARE_SECONDS)}: --condensations {SETS} "
        "computes them."
    ]


def condense_to(
    out: Path,
    method: str,
    task: str,
    *,
    dataset: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> CondensedDataset:
    """Condense and write the dataset and its report to a folder; arguments as for `run`."""
    check_seeds(seed, 1, 1)
    output_folder(out)
    facts = facts_of(catalogue.find("methods", method))
    made = make_method(method, task, **dict(settings or {}))
    budget = budget_of(facts.get("budget", {}), size, percent, unit)
    the_task = make_task(task)
    name = (dataset or default_dataset(the_task)) if made.takes_data else ""
    source = None
    if name:
        source = load_dataset(name, download=download, heldout_data=heldout_data, progress=progress)
    with lock(out.with_name(f".{out.name}.lock")):
        data = made.condense(
            source,
            task=the_task,
            budget=budget,
            expert=_expert_of(name) if name else _shipped_expert(the_task.id),
            seed=seed,
            device=resolve_device(device),
            progress=_named(progress, made.id),
            checkpoint=out / "unfinished.safetensors",
            made_from=canonical_json(
                {
                    "task": the_task.id,
                    "source_sha256": source_sha256(type(the_task), type(made)),
                    "threads": torch.get_num_threads(),
                    **versions(),
                }
            ),
        )
        data.save(out)
    return data


def evaluate_artifact(
    what: str,
    task: str,
    *,
    dataset: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    learner: str = "bc",
    seeds: int = 3,
    episodes: int = 100,
    device: str = "auto",
    learner_settings: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    refresh: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Evaluate somebody's condensed dataset, policies, or one of the reference policies.

    Args:
        what: a folder, or one of `references.POLICIES`.
        task: id or alias of the task.
        dataset: what the reference rows are made from; by default the task's expert dataset.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which is said in every table.
        learner: id of the learner, for a condensed dataset.
        seeds: how many learner seeds.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        learner_settings: of the learner.
        results: folder of the records.
        refresh: compute again what is there already.
        progress: told how far it is.

    Raises:
        UnknownName: `what` is neither a folder nor a reference policy.
        BadConfig: the folder holds neither condensed data nor policies.
    """
    folder = Path(what)
    if what not in POLICIES and not folder.is_dir():
        raise UnknownName("policy or folder", what, POLICIES)
    preferred = _preferred_learner(folder, make_task(task), learner)
    bench = make_bench(
        task,
        dataset,
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
    )
    if what in POLICIES:
        outcomes = [run_policy(bench, what)]
    elif (folder / ARRAYS).is_file():
        outcomes = [run_artifact(bench, folder)]
    elif (folder / "policies.json").is_file():
        policies = load_policies(folder, bench.device)
        check_fits(policies.spec, bench.task, str(folder))
        bench = replace(bench, seeds=policies.seeds)
        files = ("policies.safetensors", "policies.json")
        config = {"sha256": [sha256_file(folder / file) for file in files]}
        method = {"id": f"policies:{one_line(folder.resolve().name)}", "config": config}
        cell = _policy_cell(bench, method)
        outcomes = [
            _cached(bench, cell, _key(bench, None), lambda: _evaluated(bench, policies, what, {}))
        ]
    else:
        raise BadConfig(f"{folder} holds neither {ARRAYS} nor policies.safetensors")
    name = outcomes[0][0]["cell"]["method"]["id"]
    record = outcomes[0][0]
    seed = record["cell"]["condensation_seed"]
    rows: list[Outcome] = []
    notes: list[str] = []
    if bench.dataset is not None:
        rows, notes = _references(bench, name, [record], [seed])
    result = replace(_result(bench, outcomes, rows), notes=tuple(notes))
    source = outcomes[0][0].get("report", {}).get("dataset")
    if bench.dataset is not None and source not in (None, bench.dataset_id):
        note = f"{what} was condensed from {source!r}, its reference rows from {bench.dataset_id!r}"
        return replace(result, warnings=[*result.warnings, note])
    return result


def make_pair(
    method: str,
    learner: str,
    task: Task,
    settings: Mapping[str, Any] | None,
    learner_settings: Mapping[str, Any] | None,
) -> tuple[Method[Any], Learner[Any]]:
    """A method, and the learner that is trained on what it makes.

    The learner has the settings of the method's paper, unless the method follows the learner.

    Args:
        method: id.
        learner: id.
        task: what both are for.
        settings: of the method.
        learner_settings: of the learner, over those of the paper.
    """
    settings, own = dict(settings or {}), dict(learner_settings or {})
    if follows_learner(settings):
        trained = make_learner(learner, task, **own)
        return make_method(method, task, trained, **settings), trained
    made, facts = make_method(method, task, **settings), facts_of(catalogue.find("methods", method))
    return made, make_learner(learner, task, **{**_of_paper(made, facts, task, learner), **own})


def _of_paper(
    method: Method[Any], facts: Mapping[str, Any], task: Task, learner: str
) -> dict[str, Any]:
    """The settings of `bc` that a method's paper has its students trained with."""
    is_bc = catalogue.find("learners", learner).id == "bc"
    return {**facts.get("learner", {}), **method.students(task)} if is_bc else {}


def _preferred_learner(folder: Path, task: Task, learner: str) -> dict[str, Any]:
    """What the method that made a condensed dataset has its students trained with."""
    report = load_condensed(folder).report if (folder / ARRAYS).is_file() else None
    if report is None:
        return {}
    try:
        facts = facts_of(catalogue.find("methods", report.method))
        return _of_paper(make_method(report.method, **report.config), facts, task, learner)
    except (BadConfig, UnknownName):  # somebody else's, or of another version
        return {}


def make_bench(
    task: str,
    dataset: str | None,
    *,
    download: bool,
    learner: Learner[Any],
    seeds: int,
    episodes: int,
    device: str,
    results: str | Path,
    refresh: bool,
    progress: Progress,
    needs_dataset: bool = True,
    takes_dataset: bool = True,
    heldout_data: bool = False,
) -> Bench:
    """What the cells of a run share.

    Without `needs_dataset` there is none where the task has none of its own, and without
    `takes_dataset` none but what is named.
    """
    check_seeds(0, 1, seeds)
    protocol, device = protocol_of(episodes), resolve_device(device)
    made = make_task(task)
    name = dataset
    if not name and takes_dataset:
        try:
            name = default_dataset(made)
        except BadConfig:
            if needs_dataset:
                raise
    data = None
    if name:
        data = load_dataset(name, download=download, heldout_data=heldout_data, progress=progress)
        check_dataset(data, made)
    return Bench(
        task=made,
        dataset=data,
        expert=_expert_of(name) if name else _shipped_expert(made.id),
        learner=learner,
        seeds=tuple(range(seeds)),
        protocol=protocol,
        device=device,
        threads=torch.get_num_threads(),
        store=Store(Path(results)),
        refresh=refresh,
        progress=progress,
        heldout_data=heldout_data,
    )


def _result(bench: Bench, outcomes: list[Outcome], rows: list[Outcome]) -> RunResult:
    assert isinstance(bench.store, Store)
    everything = [warnings for _, warnings in (*outcomes, *rows)]
    return RunResult(
        records=[record for record, _ in outcomes],
        references=[record for record, _ in rows],
        reused=sum(warnings is not None for warnings in everything),
        warnings=sorted({w for warnings in everything for w in warnings or ()}),
        store=bench.store,
    )


def budget_of(
    default: Mapping[str, Any], size: int | None, percent: float | None, unit: str | None
) -> Budget:
    if size is not None and percent is not None:
        raise BadConfig("give a size or a percentage, not both")
    if unit is not None and (size is not None or (percent is None and "percent" not in default)):
        raise BadConfig("a unit goes with a percentage: give --percent too")
    if size is not None:
        return Budget(size=size)
    if percent is not None:
        return Budget(percent=percent, unit=unit or default.get("unit", "transitions"))
    if not default:
        return Budget(size=150)
    budget = Budget(**default)
    return replace(budget, unit=unit) if unit else budget


def _expert_of(dataset: str) -> Expert | None:
    try:
        name = catalogue.find("datasets", dataset).facts.get("expert")
    except UnknownName:
        return None
    return load_expert(str(name)) if name else None


def _shipped_expert(task: str) -> Expert | None:
    try:
        return load_newest(task)
    except UnknownName:
        return None


def _references(
    bench: Bench, name: str, records: Sequence[Record], seeds: Sequence[int]
) -> tuple[list[Outcome], list[str]]:
    """The rows of every table: policies that look at nothing, random, full, expert.

    One that cannot be computed is a record that says why: what is finished is shown all the same.

    Args:
        bench: of the run.
        name: of the row that they stand beside.
        records: of that row, one for each set.
        seeds: of random subsets.

    Returns:
        The rows, and what is to be said of them.
    """
    if records[0]["status"] == "skipped":
        return [], []
    names = [other for other in reference_names(bench) if other != name]
    rows = [reference_policy(bench, other) for other in names]
    learned = [r for r in records if r["status"] == "done" and "report" in r]
    if not learned or bench.dataset is None:
        return rows, []
    kinds = label_kinds(bench.dataset, learned[0])
    sizes = {r["cell"]["condensation_seed"]: r["report"]["size"] for r in learned}
    for kind in kinds:
        for other in methods_beside(name, bench.learner):
            method = make_method(other, labels=kind)
            if other in WHOLE:
                rows.append(reference_method(bench, method, Budget(percent=100.0), 0))
                continue
            for seed in seeds:
                size = sizes.get(seed, learned[0]["report"]["size"])
                rows.append(reference_method(bench, method, Budget(size=size), seed))
    return rows, [HARD_INSTEAD] if len(kinds) > 1 else []


def label_kinds(dataset: TransitionDataset, record: Record) -> list[str]:
    """The labels of the reference rows of a record: its own, and hard ones if those cannot be."""
    if record.get("labels") != "soft":
        return ["hard"]
    return ["soft", "hard"] if dataset.action_probs is None else ["soft"]


def reference_method(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Outcome:
    """The outcome of a method that others stand beside, whatever comes of it."""
    run = partial(run_method, method=method, budget=budget, seed=seed)
    return _reference(bench, _method_cell(bench, method, budget, seed), run)


def reference_policy(bench: Bench, name: str) -> Outcome:
    """The outcome of a reference policy, whatever comes of it."""
    return _reference(
        bench, _policy_cell(bench, {"id": name, "config": {}}), partial(run_policy, name=name)
    )


def _reference(bench: Bench, cell: Cell, run: Callable[[Bench], Outcome]) -> Outcome:
    try:
        return run(replace(bench, record_failures=True, is_reference=True))
    except RLCondenseError as error:  # its record can be neither read nor written
        frame = _frame(cell, bench.device, bench.threads)
        return {**frame, "key": {}, "timings": {}, "memory": {}, **_gone_wrong(error)}, None


def reference_names(bench: Bench) -> list[str]:
    """The reference policies that there are for a bench."""
    given = {"dataset": bench.dataset, "expert": bench.expert}
    return policies_beside(bench.learner, [name for name, it in given.items() if it is not None])


def run_method(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Outcome:
    cell = _method_cell(bench, method, budget, seed)
    expert = bench.expert if "expert" in method.needs else None
    key = _key(bench, expert, method, bench.learner)

    def compute() -> Record:
        given = bench.learner.requires if method.gives is None else method.gives
        if reason := _misfit(bench, given) or _lacking(bench, method):
            return reason
        return _learned(bench, cell, condensed(bench, method, budget, seed))

    return _cached(bench, cell, key, compute)


def _misfit(bench: Bench, provided: AbstractSet[str]) -> Record | None:
    """The record of a cell that cannot be, if the learner cannot learn from what there is."""
    missing = bench.learner.missing(provided, bench.task)
    return {"status": "skipped", "reason": f"needs {', '.join(missing)}"} if missing else None


def _lacking(bench: Bench, method: Method[Any]) -> Record | None:
    """The record of a selection that the data has not what it takes for."""
    if bench.dataset is None or method.gives is not None:
        return None
    soft = getattr(method.config, "labels", "") == "soft"
    if soft and bench.dataset.action_probs is None:
        return {"status": "skipped", "reason": "needs action_probs"}
    if isinstance(method, FullConverged) and len(bench.dataset.episodes) < 2:
        return {"status": "skipped", "reason": "needs a second episode, to hold one back"}
    return None


def _method_cell(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Cell:
    return method_cell(
        bench.task.id,
        bench.dataset_id,
        method,
        budget,
        bench.learner,
        seed,
        bench.seeds,
        bench.protocol,
    )


def run_artifact(bench: Bench, folder: Path) -> Outcome:
    """The cell of a condensed dataset that lies in a folder, made here or elsewhere."""
    data = load_condensed(folder)
    check_rows(data.arrays(), bench.task, str(folder))
    chosen = data.source_indices is not None or data.initial_indices is not None
    if data.label_kind == "soft" and not chosen:  # a choice may be of unlikely actions
        check_agreement(data.actions, data.column("action_probs"), str(folder))
    if data.level_seeds is not None and not bench.heldout_data:
        refuse_heldout(heldout_levels(data.level_seeds, bench.task), bench.task, str(folder))
    name = f"condensed:{data.report.method if data.report else one_line(folder.resolve().name)}"
    cell = Cell(
        task=bench.task.id,
        dataset=bench.dataset_id,
        method={"id": name, "config": {"sha256": data.sha256}},
        budget={"size": len(data)},
        learner={"id": bench.learner.id, "config": config_json(bench.learner.config)},
        condensation_seed=data.report.seed if data.report else 0,
        learner_seeds=bench.seeds,
        evaluation=evaluation_json(bench.protocol),
    ).checked()
    key = _key(bench, None, bench.learner)
    return _cached(bench, cell, key, lambda: _learned(bench, cell, data))


def _learned(bench: Bench, cell: Cell, data: CondensedDataset) -> Record:
    """Train on condensed data, evaluate, and tell of both."""
    if reason := _misfit(bench, data.provides()):
        return reason
    name = cell.method["id"]
    try:
        with measured(bench.device) as seconds, no_exit(f"learner {bench.learner.id!r}"):
            policies = bench.learner.fit(
                data,
                task=bench.task,
                seeds=bench.seeds,
                device=bench.device,
                progress=_named(bench.progress, name),
            )
        check_policies(policies, bench.seeds, f"learner {bench.learner.id!r}")
    except MissingExtra:
        raise
    except RLCondenseError as error:
        return {"status": "failed", "reason": str(error)}
    timings = {"train": seconds.to_json()}
    report: dict[str, Any] = {"size": len(data), "label_kind": data.label_kind}
    if data.report is not None:
        report = data.report.to_json()
        cost = report["cost"]
        timings["condense"] = {kind: cost.pop(f"{kind}_seconds") for kind in Seconds().to_json()}
        del cost["peak_memory_bytes"]
    if cell.method["id"].startswith("condensed:") or report.get("findings") is None:
        report["findings"] = [asdict(f) for f in detect(data, _source_of(bench, data))]
    training = getattr(policies, "training", None)
    taken = data.label_kind if data.label_kind in bench.learner.label_kinds else "hard"
    if bench.keep_policies and isinstance(policies, NetworkPolicies):
        bench.store.write_policies(cell.id, policies)
    evaluated = _evaluated(bench, policies, name, timings)
    constant = constant_student(policies, bench.dataset) if bench.dataset is not None else None
    of_data = data.report is not None and data.report.dataset == bench.dataset_id
    sources = (data, bench.dataset if of_data else None)
    said = {f.name: f for source in sources for f in provenance(source, bench.task)}
    return {
        **evaluated,
        "report": report,
        **({"training": training} if training else {}),
        "labels": taken,
        "findings": [asdict(finding) for finding in (constant, *said.values()) if finding],
    }


def _source_of(bench: Bench, data: CondensedDataset) -> TransitionDataset | None:
    """What a set was condensed from, unless its report says that it is other data than are here."""
    if bench.dataset is None or data.report is None:
        return bench.dataset
    return bench.dataset if data.report.dataset_sha256 == bench.dataset.sha256 else None


def run_policy(bench: Bench, name: str) -> Outcome:
    expert = bench.expert if name == EXPERT else None
    if name == EXPERT and expert is None:
        raise UnknownName("expert", bench.task.id, shipped_experts())

    def compute() -> Record:
        parts = PolicyParts(bench.task, bench.dataset, expert, bench.seeds, bench.device)
        policies = reference_policies(name, parts)
        source = bench.dataset if BY_ID[name].is_blind else None
        own = bench.dataset is not None and bench.dataset.task == bench.task.id
        player = str(expert.card.get("task", expert.id)) if expert and not own else ""
        said = provenance(source, bench.task, player)
        findings = {"findings": [asdict(finding) for finding in said]} if said else {}
        return {**_evaluated(bench, policies, name, {}), **findings}

    cell = _policy_cell(bench, {"id": name, "config": {}})
    return _cached(bench, cell, _key(bench, expert), compute)


def _policy_cell(bench: Bench, method: Mapping[str, Any]) -> Cell:
    return policy_cell(bench.task.id, bench.dataset_id, method, bench.seeds, bench.protocol)


def condensed(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> CondensedDataset:
    """Condense, or take what an earlier run or another learner's cell left."""

    expert = bench.expert if "expert" in method.needs else None
    made_from = canonical_json(_key(bench, expert, method))
    name = _method_cell(bench, method, budget, seed).condensation_id

    def condense() -> CondensedDataset:
        return method.condense(
            bench.dataset,
            task=bench.task,
            budget=budget,
            expert=bench.expert,
            seed=seed,
            device=bench.device,
            progress=_named(bench.progress, method.id),
            checkpoint=bench.store.unfinished_path(name),
            made_from=made_from,
        )

    if method.keeps_everything:  # a copy of the whole dataset is worth no disk
        return condense()
    with bench.store.lock(name, wait=bench.wait):
        anew = bench.refresh and name not in bench.refreshed
        stored = None if anew else bench.store.read_condensed(name, made_from)
        if stored is None:
            stored = condense()
            bench.refreshed.add(name)
            bench.store.write_condensed(name, stored, made_from)
    return stored


def _evaluated(
    bench: Bench, policies: PolicyBatch, name: str, timings: dict[str, dict[str, float]]
) -> Record:
    progress = _named(bench.progress, name)
    done: dict[str, Evaluation] = {}
    for split in SPLITS:
        try:
            with measured(bench.device) as seconds:
                done[split] = evaluate(
                    policies,
                    bench.task,
                    split,
                    protocol=bench.protocol,
                    num_threads=bench.threads,
                    progress=progress,
                )
        except MissingExtra:
            raise
        except RLCondenseError as error:
            reason = f"{split} levels of {bench.task.id}: {error}"
            return {"status": "failed", "reason": reason, "timings": timings}
        timings[f"evaluate_{split}"] = seconds.to_json()
    returns = {split: scores.returns.tolist() for split, scores in done.items()}
    return {
        "status": "done",
        "returns": returns,
        "lengths": {split: scores.lengths.tolist() for split, scores in done.items()},
        # Every policy played the same levels (a test), so one row says it for all.
        "level_seeds": {split: scores.level_seeds[0].tolist() for split, scores in done.items()},
        "summary": {split: summarise(rows) for split, rows in returns.items()},
        "action_selection": policies.action_selection,
        "timings": timings,
    }


def _cached(
    bench: Bench, cell: Cell, key: dict[str, Any], compute: Callable[[], Record]
) -> Outcome:
    """A record and None if computed, or what its making differs in if read back."""
    with bench.store.lock(cell.id, wait=bench.wait):
        record = ended(cell, bench.store, bench.seen, bench.refresh)
        if record is not None:
            return record, [
                f"{cell.method['id']} was made with {name} {_short(record['key'].get(name))}, "
                f"here it is {_short(value)} (--refresh computes it anew)"
                for name, value in key.items()
                if record["key"].get(name) != value
            ]
        forget_peak_memory()
        try:
            with no_exit(f"a part of {cell}"):
                computed = compute()
        except Busy:
            raise
        except Exception as error:
            if not (bench.record_failures or isinstance(error, PluginExit)):
                raise
            computed = _gone_wrong(error)
            if bench.is_reference and isinstance(error, BadConfig):
                computed = {"status": "skipped", "reason": computed["reason"]}
        memory = {"peak_bytes": peak_memory_bytes(), "peak_gpu_bytes": peak_gpu_memory_bytes()}
        record = {
            **_frame(cell, bench.device, bench.threads),
            "key": key,
            "timings": {},
            "memory": memory,
            **computed,
        }
        return bench.store.write_record(record), None


def ended(cell: Cell, store: Results, seen: tuple[int, ...] | None, refresh: bool) -> Record | None:
    """The record that makes a cell needless: it is done, or came to an end since it was planned.

    Whoever asks holds the cell's lock.
    """
    since = seen is not None and store.stamp(cell.id) not in (seen, ())
    record = store.read_record(cell.id) if since or not refresh else None
    return record if record is not None and (since or record["status"] == "done") else None


def _frame(cell: Cell, device: str, threads: int) -> Record:
    """What every record says, whatever came of its cell."""
    return {
        "plugins": _plugins(cell),
        "schema_version": SCHEMA_VERSION,
        "cell_id": cell.id,
        "cell": cell.to_json(),
        "environment": describe(device, threads),
    }


def run_cell(
    cell: Cell,
    *,
    dataset: Callable[[str], TransitionDataset],
    store: Results,
    device: str,
    threads: int,
    refresh: bool = False,
    refreshed: bool = False,
    seen: tuple[int, ...] | None = None,
    keep_policies: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Compute a planned cell, or read it back, whatever comes of it.

    A cell that fails has a record too, with the reason and the traceback, and so has one whose
    parts are not installed.

    Args:
        cell: from a plan.
        dataset: gives a dataset by its id.
        store: where its record is written.
        device: `cpu` or `cuda`.
        threads: for the environments; torch's are set by the process.
        refresh: compute again what is there already.
        refreshed: what it learns from has been condensed again for another cell.
        seen: the stamp of its record when it was planned; if that has changed since, somebody else
            has computed it.
        keep_policies: store the policies that are trained.
        progress: told how far it is.

    Raises:
        Busy: somebody else is at it, or at condensing what it learns from.
        RLCondenseError: the store cannot be written to.
    """
    try:
        bench = replace(
            _bench_of(cell, dataset, store, device, threads),
            refresh=refresh,
            keep_policies=keep_policies,
            progress=progress,
            wait=False,
            record_failures=True,
            refreshed={cell.condensation_id} if refreshed else set(),
            seen=seen,
        )
        compute = _prepared(bench, cell)
    except (Exception, SystemExit) as error:  # what a plugin raises concerns its own cells alone
        with store.lock(cell.id, wait=False):
            record = ended(cell, store, seen, refresh)
            if record is not None:  # it could be made elsewhere
                return record, []
            return _write_undone(cell, _gone_wrong(error), store, device, threads), None
    return compute()


def write_failure(cell: Cell, reason: str, store: Results, device: str, threads: int) -> Record:
    """Write that a cell has failed, for whoever saw its process end.

    Returns:
        The record that there is then: if it had been done before its process ended, that one.
    """
    with store.lock(cell.id):
        record = store.read_record(cell.id)
        if record is not None and record["status"] == "done":
            return record
        return _write_undone(cell, {"status": "failed", "reason": reason}, store, device, threads)


def _write_undone(cell: Cell, said: Record, store: Results, device: str, threads: int) -> Record:
    frame = {**_frame(cell, device, threads), "key": {}, "timings": {}, "memory": {}}
    return store.write_record({**frame, **said})


def _prepared(bench: Bench, cell: Cell) -> Callable[[], Outcome]:
    if cell.budget is None:
        name = str(cell.method["id"])
        return lambda: run_policy(bench, name)
    method = make_method(cell.method["id"], **cell.method["config"])
    budget = Budget(**cell.budget)
    if _method_cell(bench, method, budget, cell.condensation_seed) != cell:
        raise RLCondenseError(
            f"{cell} was planned with other settings than {method.id!r} has here: is another "
            "version of it at work?"
        )
    return lambda: run_method(bench, method, budget, cell.condensation_seed)


def _bench_of(
    cell: Cell,
    dataset: Callable[[str], TransitionDataset],
    store: Results,
    device: str,
    threads: int,
) -> Bench:
    learner = cell.learner or {"id": "bc", "config": {}}  # which a policy's cell never uses
    task, data = make_task(cell.task), dataset(cell.dataset) if cell.dataset else None
    if data is not None:
        check_dataset(data, task)
    protocol = {name: value for name, value in cell.evaluation.items() if name != "protocol"}
    return Bench(
        task=task,
        dataset=data,
        expert=_expert_of(cell.dataset) if cell.dataset else _shipped_expert(cell.task),
        learner=make_learner(learner["id"], **learner["config"]),
        seeds=cell.learner_seeds,
        protocol=Protocol(**protocol),
        device=device,
        threads=threads,
        store=store,
    )


def _gone_wrong(error: BaseException) -> Record:
    """What the record of a cell says that an error ended."""
    absent = isinstance(error, (MissingExtra, PluginLoadError, UnknownName))
    said = str(error) if isinstance(error, RLCondenseError) else f"{type(error).__name__}: {error}"
    lines = traceback.format_exception(error, limit=-MOST_FRAMES)
    return {
        "status": "not-installed" if absent else "failed",
        "reason": " ".join(said.split()),
        "traceback": "".join(lines),
    }


def _plugins(cell: Cell) -> list[dict[str, str]]:
    """The installed plugins that a cell used: target, distribution and version."""
    names = {"tasks": cell.task, "methods": cell.method["id"], "datasets": cell.dataset}
    if cell.learner is not None:
        names["learners"] = cell.learner["id"]
    found = [catalogue.entries(group).get(name) for group, name in names.items()]
    return [
        {
            # Of an included file the name: where it lay is nobody's business.
            "target": entry.entry_point.rpartition("/")[2],
            "distribution": entry.distribution[0] if entry.distribution else "",
            "version": entry.distribution[1] if entry.distribution else "",
        }
        for entry in found
        if entry is not None and (entry.distribution or ("", ""))[0] != catalogue.BUILT_IN
    ]


def _key(bench: Bench, expert: Expert | None, *parts: Method[Any] | Learner[Any]) -> dict[str, Any]:
    """What made a result, beside its cell: if this differs, so may the numbers."""
    groups = {Method: "methods", Learner: "learners"}
    found = [catalogue.entries("tasks").get(bench.task.id)]
    for part in parts:
        group = next(group for base, group in groups.items() if isinstance(part, base))
        found.append(catalogue.entries(group).get(part.id))
    ours = f"{catalogue.BUILT_IN} {__version__}"
    plugins = {entry.origin for entry in found if entry is not None} - {ours}
    return {
        "dataset_sha256": bench.dataset.sha256 if bench.dataset is not None else None,
        "expert_sha256": expert.sha256 if expert else None,
        "rlcondense": __version__,
        **{f"{name} version": value for name, value in versions().items()},
        "plugins": ", ".join(sorted(plugins)),
        "source_sha256": source_sha256(type(bench.task), *map(type, parts)),
        "device": bench.device,
        "threads": bench.threads,
    }


def _named(progress: Progress, name: str) -> Progress:
    def report(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{name}: {phase}", done, total, note)

    return report


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
