"""Condensed data and policies from folders beside reference rows: `rlcondense evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcondense.datasets.exported import is_condensed
from rlcondense.datasets.report import ARRAYS
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.files import sha256_file
from rlcondense.make import (
    make_learner,
    make_task,
)
from rlcondense.policies import NetworkPolicies, check_fits, load_policies
from rlcondense.policies.networks import SPEC, WEIGHTS
from rlcondense.records.cell import POLICIES_FROM
from rlcondense.records.record import Record
from rlcondense.references import BLIND, EXPERT, POLICIES
from rlcondense.running.bench import (
    Bench,
    make_bench,
    task_named,
)
from rlcondense.running.compute import (
    artifact_row,
    cell_of_policy,
    evaluated,
    policy_row,
)
from rlcondense.running.outcomes import Outcome, compute_or_read, making_of
from rlcondense.running.pairs import (
    preferred_learner,
)
from rlcondense.running.reference_rows import (
    HARD_INSTEAD,
    regimes_and_budgets,
    rows_beside,
    slow_notes,
    without_slow,
)
from rlcondense.running.rows import Row, Rows
from rlcondense.running.runner import RunResult, result_of
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import resolve_device
from rlcondense.tasks.base import Task
from rlcondense.text import one_line


def evaluate_artifact(
    what: str | Path,
    task: str | Task | None = None,
    *,
    dataset: str | Path | TransitionDataset | None = None,
    expert: str | Path | None = None,
    download: bool = False,
    heldout_data: bool = False,
    learner: str = "bc",
    seeds: int | None = None,
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
        task: id or alias of the task; by default the dataset's, or the one that a condensed set was
            made for; without either starpilot.
        dataset: source of the reference rows, by id or path; by default the task's expert dataset.
        expert: id or path of the expert; by default the dataset's, or else the task's newest.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too, which every table then states.
        learner: id of the learner, for a condensed dataset.
        seeds: how many learner seeds, by default three; policies from a folder have their own.
        episodes: of each policy on each split.
        device: `auto`, `cpu` or `cuda`.
        learner_settings: of the learner.
        results: folder of the records.
        refresh: compute again even if the record exists.
        own_references: compute the reference rows that the package has records of too, and
            training to convergence that takes longer than `SPARE_SECONDS`.
        workers: processes that compute the reference rows; by default one for each core, or GPU.
        progress: called with the progress.

    Raises:
        UnknownName: `what` is neither a folder nor a reference policy.
        BadConfig: the folder holds neither condensed data nor policies, or another number of
            policies than of `seeds`; or an argument is for rows that are not computed.
    """
    what, folder = str(what), Path(what)
    learns = what not in POLICIES and not (folder / SPEC).is_file()
    if not learns and (learner_settings or learner != "bc"):
        raise BadConfig(f"{what} has learned already: a learner is for a condensed set")
    folders = [] if what in POLICIES else [folder]  # whatever folder has the name of a policy
    if what in POLICIES and what not in BLIND and dataset is None:
        for option, value in (
            ("--own-references", own_references),
            ("--heldout-data", heldout_data),
            ("--download", download),
            ("--expert", expert is not None and what != EXPERT),
        ):
            if value:
                raise BadConfig(f"{what} is measured alone: {option} is for rows beside a dataset")
    task = task_named(task, dataset, download=download, folders=folders)
    if folders and not folder.is_dir():
        raise UnknownName("policy or folder", what, POLICIES)
    preferred = preferred_learner(folder, make_task(task), learner) if folders else {}
    players = None
    if folders and not is_condensed(folder):
        if not (folder / SPEC).is_file():
            raise BadConfig(f"{folder} holds neither {ARRAYS} nor {WEIGHTS}")
        players = load_policies(folder, resolve_device(device))
        if seeds not in (None, len(players.seeds)):
            raise BadConfig(f"{what} holds policies of {len(players.seeds)} seeds, not of {seeds}")
        seeds = len(players.seeds)
    bench = make_bench(
        task,
        dataset,
        expert=expert,
        download=download,
        heldout_data=heldout_data,
        learner=make_learner(learner, task, **{**preferred, **dict(learner_settings or {})}),
        seeds=3 if seeds is None else seeds,
        episodes=episodes,
        device=device,
        results=results,
        refresh=refresh,
        progress=progress,
        needs_dataset=what in BLIND,
        takes_dataset=what in BLIND or bool(folders),
        takes_shipped=not own_references,
    )
    if what in POLICIES:
        row = policy_row(bench, what, is_reference=False)
    elif players is None:
        row = artifact_row(bench, folder)
    else:
        check_fits(players.spec, bench.task, str(folder))
        bench = replace(bench, seeds=players.seeds)
        row = _policies_row(bench, folder, players)
    rows = Rows(bench, workers)
    [outcome] = rows.compute([row])
    record = outcome.record
    references: list[Outcome] = []
    notes: list[str] = []
    if bench.dataset is not None and record["status"] != "skipped":
        regimes, budgets = regimes_and_budgets(
            bench, [record], [record["cell"]["condensation_seed"]]
        )
        name = record["cell"]["method"]["id"]
        chosen = record.get("action_selection", "")
        beside, slow = without_slow(rows_beside(bench, name, regimes, budgets, chosen))
        references = rows.compute(beside)
        notes = [HARD_INSTEAD] if len(regimes) > 1 else []
        notes += slow_notes(slow, [record["cell_id"]])
    result = result_of(bench, [outcome], references, notes)
    warnings = [*result.warnings, *of_other_data([(what, record)], bench.dataset)]
    return replace(result, warnings=warnings)


def of_other_data(
    sets: Iterable[tuple[str, Record]], dataset: TransitionDataset | None
) -> list[str]:
    """Return a sentence for each set that was made from other data than the rows beside it.

    Args:
        sets: the name of each set, and a record of it.
        dataset: of the reference rows, if there are some.
    """
    reports = [(name, record.get("report", {})) for name, record in sets]
    sources = [(name, r.get("dataset"), r.get("dataset_sha256")) for name, r in reports]
    return [
        f"{name} was condensed from {source!r}, its reference rows from other data, {dataset.id!r}"
        for name, source, sha256 in dict.fromkeys(sources)
        if dataset is not None and source is not None and sha256 != dataset.sha256
    ]


def _policies_row(bench: Bench, folder: Path, policies: NetworkPolicies) -> Row:
    """Return the row of policies from a folder."""
    files = (WEIGHTS, SPEC)
    config = {"sha256": [sha256_file(folder / file) for file in files]}
    name = one_line(folder.resolve().name)
    cell = cell_of_policy(bench, {"id": f"{POLICIES_FROM}{name}", "config": config})

    def compute(bench: Bench) -> Outcome:
        return compute_or_read(
            bench, cell, making_of(bench, None), lambda: evaluated(bench, policies, name, {})
        )

    return Row(bench, cell, compute, by_workers=False)
