"""The computation of one cell: condense, train, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.detectors import (
    constant_student,
    detect,
    inherited_findings,
    provenance,
)
from rlcondense.datasets.report import BudgetJson, ReportJson
from rlcondense.datasets.transitions import COLUMNS, TransitionDataset
from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError, UnknownName, no_exit
from rlcondense.evaluation import Evaluation, evaluate
from rlcondense.experts.shipped import shipped_experts
from rlcondense.files import canonical_json
from rlcondense.learners.base import check_selection
from rlcondense.make import recorded_method
from rlcondense.methods.base import Method
from rlcondense.methods.full import FullConverged
from rlcondense.policies import NetworkPolicies, PolicyBatch
from rlcondense.records.cell import (
    CONDENSED,
    Cell,
    evaluation_json,
    learner_json,
    method_cell,
    policy_cell,
)
from rlcondense.records.record import CellResult, MethodJson, SecondsJson
from rlcondense.records.store import Results
from rlcondense.references import BY_ID, EXPERT, PolicyParts, reference_policies
from rlcondense.running.bench import Bench, bench_of, expert_of
from rlcondense.running.outcomes import (
    Outcome,
    compute_or_read,
    ended,
    failure_of,
    making_of,
    named_progress,
    write_undone,
)
from rlcondense.running.rows import Row
from rlcondense.runtime.meter import measured
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.tune import environment_threads
from rlcondense.statistics.intervals import summarise
from rlcondense.text import one_line
from rlcondense.types import SPLITS, Split
from rlcondense.validation import (
    check_agreement,
    check_policies,
    check_rows,
    heldout_levels,
    refuse_heldout,
)


def run_method(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Outcome:
    cell = cell_of_method(bench, method, budget, seed)
    expert = bench.expert if "expert" in method.needs else None
    key = making_of(bench, expert, method, bench.learner)

    def compute() -> CellResult:
        if reason := why_skipped(bench, method):
            return reason
        bench.learner.check_task(bench.task)
        return learned(bench, cell, condensed(bench, method, budget, seed))

    return compute_or_read(bench, cell, key, compute)


def why_skipped(bench: Bench, method: Method[Any]) -> CellResult | None:
    """Return the `skipped` record of a method that cannot have a result, else None."""
    provided = bench.learner.requires if method.gives is None else method.gives
    return _misfit(bench, provided) or _lacking(bench, method)


def _misfit(bench: Bench, provided: AbstractSet[str]) -> CellResult | None:
    """Return a `skipped` record if the data lack something that the learner needs, else None."""
    missing = bench.learner.missing(provided, bench.task)
    return {"status": "skipped", "reason": f"needs {', '.join(missing)}"} if missing else None


def _lacking(bench: Bench, method: Method[Any]) -> CellResult | None:
    """Return a `skipped` record if the dataset lacks something a selection needs, else None."""
    if bench.dataset is None or method.gives is not None:
        return None
    soft = getattr(method.config, "labels", "") == "soft"
    needs = {*method.needs, *(("action_probs",) if soft else ())}
    if missing := [n for n in COLUMNS if n in needs and getattr(bench.dataset, n) is None]:
        return {"status": "skipped", "reason": f"needs {', '.join(missing)}"}
    if isinstance(method, FullConverged) and len(bench.dataset.episodes) < 2:
        return {"status": "skipped", "reason": "needs a second episode, to hold one back"}
    return None


def method_row(
    bench: Bench, method: Method[Any], budget: Budget, seed: int, *, is_reference: bool = False
) -> Row:
    """Return the row of a method.

    Raises:
        BadConfig: the method takes an expert that its cell could not tell from the task's own.
    """
    named = bench.expert if bench.dataset is None and "expert" in method.needs else None
    if named is not None and _weights_of(bench):
        own = expert_of("", bench.task)
        raise BadConfig(
            f"without a dataset, whose id names the expert too, method {method.id!r} cannot take "
            f"{named.id!r}: {bench.task.id} has "
            + (f"{own.id!r}" if own is not None else "no expert of its own")
        )
    compute = partial(run_method, method=method, budget=budget, seed=seed)
    return Row(bench, cell_of_method(bench, method, budget, seed), compute, is_reference)


def policy_row(bench: Bench, name: str, *, is_reference: bool = True) -> Row:
    """Return the row of a reference policy."""
    method = _reference_json(bench, name)
    cell = cell_of_policy(bench, method)
    compute = partial(run_policy, name=name)
    return Row(bench, cell, compute, is_reference, by_workers=not cell.is_handed_in)


def _reference_json(bench: Bench, name: str) -> MethodJson:
    """Return what a cell says of a reference policy.

    An expert that was named in place of the task's own has a hash of its weights; with a dataset,
    the dataset's id tells of it.
    """
    named = name == EXPERT and bench.dataset is None
    return {"id": name, "config": _weights_of(bench) if named else {}}


def _weights_of(bench: Bench) -> dict[str, str]:
    """Return the hash of an expert that was named in place of the task's own."""
    expert, usual = bench.expert, expert_of("", bench.task)
    if expert is None or (usual is not None and usual.sha256 == expert.sha256):
        return {}
    return {"weights": expert.sha256[:16]}


def cell_of_method(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> Cell:
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


def artifact_row(bench: Bench, folder: Path) -> Row:
    """Return the row of a condensed dataset from a folder, made here or elsewhere."""
    data = load_condensed(folder)
    check_rows(data.arrays(), bench.task, str(folder))
    chosen = data.source_indices is not None or data.initial_indices is not None
    if data.label_kind == "soft" and not chosen:  # selected rows may hold unlikely actions
        check_agreement(data.actions, data.column("action_probs"), str(folder))
    if data.level_seeds is not None and not bench.heldout_data:
        refuse_heldout(heldout_levels(data.level_seeds, bench.task), bench.task, str(folder))
    inherited = {finding.name for finding in inherited_findings(data)}
    # Of rows without levels the finding alone tells; another view of the task has the same levels.
    if data.level_seeds is None and not bench.heldout_data and "heldout-data" in inherited:
        raise BadConfig(
            f"{folder} was made of data of held-out levels: students would be judged on what they "
            "were taught (--heldout-data takes it)"
        )
    name = CONDENSED + (data.report.method if data.report else one_line(folder.resolve().name))
    cell = Cell(
        task=bench.task.id,
        dataset=bench.dataset_id,
        method={"id": name, "config": {"sha256": data.sha256}},
        budget={"size": len(data)} if data.coded is None else _budget_of(data),
        learner=learner_json(bench.learner),
        condensation_seed=data.report.seed if data.report else 0,
        learner_seeds=bench.seeds,
        evaluation=evaluation_json(bench.protocol),
    ).checked()

    def compute(bench: Bench) -> Outcome:
        key = making_of(bench, None, bench.learner)
        return compute_or_read(bench, cell, key, lambda: learned(bench, cell, data))

    return Row(bench, cell, compute, by_workers=False)


def _budget_of(data: CondensedDataset) -> BudgetJson:
    """Return the budget in bytes of coded rows: that of their report, or what they take."""
    coding = data.coded.coding if data.coded is not None else None
    assert coding is not None
    asked = data.report.budget.get("bytes") if data.report is not None else None
    size = asked if asked is not None else sum(array.nbytes for array in data.stored().values())
    return Budget(bytes=size, bits=coding.bits, resolution=coding.resolution).to_json()


def learned(bench: Bench, cell: Cell, data: CondensedDataset) -> CellResult:
    """Train on condensed data, evaluate, and return the results of both."""
    if reason := _misfit(bench, data.provides()):
        return reason
    bench.learner.check_task(bench.task)
    name = cell.method["id"]
    try:
        with measured(bench.device) as seconds, no_exit(f"learner {bench.learner.id!r}"):
            policies = bench.learner.fit(
                data,
                task=bench.task,
                seeds=bench.seeds,
                device=bench.device,
                progress=named_progress(bench.progress, name),
            )
        check_policies(policies, bench.seeds, f"learner {bench.learner.id!r}")
        check_selection(policies, bench.learner)
    except MissingExtra:
        raise
    except RLCondenseError as error:
        return {"status": "failed", "reason": str(error)}
    timings = {"train": seconds.to_json()}
    report: ReportJson = {"size": len(data), "label_kind": data.label_kind}
    if data.report is not None:
        report, timings["condense"] = data.report.without_clock()
    if cell.method["id"].startswith(CONDENSED) or report.get("findings") is None:
        found = (*detect(data, _source_of(bench, data)), *inherited_findings(data))
        report["findings"] = [finding.to_json() for finding in found]
    training = getattr(policies, "training", None)
    taken = data.label_kind if data.label_kind in bench.learner.label_kinds else "hard"
    if bench.keep_policies and isinstance(policies, NetworkPolicies):
        bench.store.write_policies(cell.id, policies)
    out = evaluated(bench, policies, name, timings)
    constant = constant_student(policies, bench.dataset) if bench.dataset is not None else None
    of_data = data.report is not None and data.report.dataset == bench.dataset_id
    sources = (data, bench.dataset if of_data else None)
    origins = {f.name: f for source in sources for f in provenance(source, bench.task)}
    if training:
        out["training"] = training
    findings = [finding.to_json() for finding in (constant, *origins.values()) if finding]
    return {**out, "report": report, "labels": taken, "findings": findings}


def _source_of(bench: Bench, data: CondensedDataset) -> TransitionDataset | None:
    """Return the bench's dataset, or None if the set's report names other data as its source."""
    if bench.dataset is None or data.report is None:
        return bench.dataset
    return bench.dataset if data.report.dataset_sha256 == bench.dataset.sha256 else None


def run_policy(bench: Bench, name: str) -> Outcome:
    expert = bench.expert if name == EXPERT else None

    def compute() -> CellResult:
        if name == EXPERT and expert is None:
            raise UnknownName("expert", bench.task.id, shipped_experts())
        parts = PolicyParts(bench.task, bench.dataset, expert, bench.seeds, bench.device)
        policies = reference_policies(name, parts)
        source = bench.dataset if BY_ID[name].is_blind else None
        own = bench.dataset is not None and bench.dataset.task == bench.task.id
        player = str(expert.card.get("task", expert.id)) if expert and not own else ""
        origins = provenance(source, bench.task, player)
        result = evaluated(bench, policies, name, {})
        if origins:
            result["findings"] = [finding.to_json() for finding in origins]
        return result

    cell = cell_of_policy(bench, _reference_json(bench, name))
    return compute_or_read(bench, cell, making_of(bench, expert), compute)


def cell_of_policy(bench: Bench, method: MethodJson) -> Cell:
    return policy_cell(bench.task.id, bench.dataset_id, method, bench.seeds, bench.protocol)


def condensed(bench: Bench, method: Method[Any], budget: Budget, seed: int) -> CondensedDataset:
    """Condense, or read the set that an earlier run or another learner's cell stored."""

    expert = bench.expert if "expert" in method.needs else None
    made_from = canonical_json(making_of(bench, expert, method))
    name = cell_of_method(bench, method, budget, seed).condensation_id
    unfinished = bench.store.unfinished_path(name)

    def condense() -> CondensedDataset:
        return method.condense(
            bench.dataset,
            task=bench.task,
            budget=budget,
            expert=bench.expert,
            seed=seed,
            device=bench.device,
            progress=named_progress(bench.progress, method.id),
            checkpoint=unfinished,
            made_from=made_from,
        )

    if method.keeps_everything:  # a copy of the whole dataset would waste disk space
        return condense()
    with bench.store.lock(name, wait=bench.wait):
        anew = bench.refresh and name not in bench.refreshed
        stored = None if anew else bench.store.read_condensed(name, made_from)
        if stored is None:
            stored = condense()
            bench.refreshed.add(name)
            bench.store.write_condensed(name, stored, made_from)
            if unfinished is not None:
                unfinished.unlink(missing_ok=True)
    return stored


def evaluated(
    bench: Bench, policies: PolicyBatch, name: str, timings: dict[str, SecondsJson]
) -> CellResult:
    progress = named_progress(bench.progress, name)
    done: dict[Split, Evaluation] = {}
    for split in SPLITS:
        try:
            with measured(bench.device) as seconds:
                done[split] = evaluate(
                    policies,
                    bench.task,
                    split,
                    protocol=bench.protocol,
                    num_threads=environment_threads(bench.device),
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
        # Every policy played the same levels (a test checks it), so one row serves for all.
        "level_seeds": {split: scores.level_seeds[0].tolist() for split, scores in done.items()},
        "summary": {split: summarise(rows) for split, rows in returns.items()},
        "action_selection": policies.action_selection,
        "timings": timings,
    }


def run_cell(
    cell: Cell,
    *,
    dataset: Callable[[str], TransitionDataset],
    store: Results,
    device: str,
    refresh: bool = False,
    refreshed: bool = False,
    seen: tuple[int, ...] | None = None,
    is_reference: bool = False,
    keep_policies: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Compute a planned cell, or read it back; failures are recorded too.

    A cell that fails has a record too, with the reason, and so has one whose
    parts are not installed.

    Args:
        cell: from a plan.
        dataset: gives a dataset by its id.
        store: where its record is written.
        device: `cpu` or `cuda`.
        refresh: compute again even if the record exists.
        refreshed: its condensed set has been condensed again for another cell.
        seen: the stamp of its record when it was planned; if that has changed since, another
            process has computed it.
        is_reference: it is a reference row, which is skipped if it cannot exist.
        keep_policies: store the policies that are trained.
        progress: called with the progress.

    Raises:
        Busy: another process holds the lock of the cell or of its condensation.
        RLCondenseError: the store cannot be written to.
    """
    try:
        bench = replace(
            bench_of(cell, dataset, store, device),
            refresh=refresh,
            keep_policies=keep_policies,
            progress=progress,
            wait=False,
            record_failures=True,
            refreshed={cell.condensation_id} if refreshed else set(),
            seen=seen,
            is_reference=is_reference,
        )
        compute = prepared(bench, cell)
    except (Exception, SystemExit) as error:  # an error of a plugin fails only its own cells
        with store.lock(cell.id, wait=False):
            record = ended(cell, store, seen, refresh)
            if record is not None:  # it was computed elsewhere
                return Outcome(record, is_reused=True)
            return Outcome(write_undone(cell, failure_of(error), store, device))
    return compute()


def prepared(bench: Bench, cell: Cell) -> Callable[[], Outcome]:
    if cell.budget is None:
        name = cell.method["id"]
        return lambda: run_policy(bench, name)
    method = recorded_method(cell.method["id"], cell.method["config"])
    budget = Budget(**cell.budget)
    if cell_of_method(bench, method, budget, cell.condensation_seed) != cell:
        raise RLCondenseError(
            f"{cell} was planned with other settings than {method.id!r} has here: is another "
            "version of it at work?"
        )
    return lambda: run_method(bench, method, budget, cell.condensation_seed)
