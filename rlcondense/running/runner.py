"""Methods beside their reference rows: `rlcondense run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcondense.comparison.rows import NOBODY
from rlcondense.comparison.tables import run_table
from rlcondense.comparison.views import ResultViews
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.learners.bc import BehaviouralCloning
from rlcondense.limits import check_seeds
from rlcondense.make import (
    make_task,
)
from rlcondense.moved import left
from rlcondense.records.record import Record
from rlcondense.records.store import Store
from rlcondense.running.bench import (
    Bench,
    budgets_of,
    make_bench,
    task_named,
)
from rlcondense.running.outcomes import Outcome
from rlcondense.running.pairs import (
    id_and_settings,
    make_pair,
)
from rlcondense.running.parts import Part
from rlcondense.running.reference_rows import (
    shipped_note,
    slow_notes,
)
from rlcondense.running.rows import Rows
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task


@dataclass(frozen=True, repr=False)
class RunResult(ResultViews):
    """The records of a run and of its reference rows.

    Attributes:
        records: one for each method and condensation seed.
        references: the records of the reference rows.
        reused: how many records were read back instead of computed.
        warnings: what differs between a record read back and this environment, and of a set handed
            in whether it was made from other data than the rows beside it.
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

    @property
    def table(self) -> str:
        """The table that `run` prints."""
        return "\n".join([run_table(self.records, self.references), *self.notes])

    def __str__(self) -> str:
        return "\n".join([self.table, *map("Warning: {}".format, self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `run --json` prints."""
        out: dict[str, Any] = {"record": self.record, "references": self.references}
        return out if len(self.records) == 1 else {**out, "records": self.records}


def run(
    method: str | Sequence[str] = "gradmatch",
    task: str | Task | None = None,
    *,
    dataset: str | Path | TransitionDataset | None = None,
    expert: str | Path | None = None,
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
        task: id or alias of the task; by default the dataset's; without one starpilot.
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
        own_references: compute the reference rows that the package has records of too, and
            training to convergence that takes longer than `SPARE_SECONDS`.
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
    if own_references and not references:
        raise BadConfig("--own-references computes reference rows, --no-references none: give one")
    task = task_named(task, dataset, download=download)
    asked: Any = method  # the type says what it should be
    several = isinstance(asked, Iterable) and not isinstance(asked, str)
    names: list[str] = list(asked) if several else [asked]
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise BadConfig(f"a method goes by its id, not as {wrong[0]!r:.80}")
    if not names:
        raise BadConfig("name a method")
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadConfig(f"method {twice[0]!r} is named twice: name each once")
    ids, made = [], []
    for text in names:
        name, own = id_and_settings("method", text)
        ids.append(name)
        both = {**dict(settings or {}), **own}
        made.append(make_pair(name, learner, make_task(task), both, learner_settings))
    budgets = budgets_of(ids, size, percent, unit, max_bytes, bits, resolution)
    pairs = [(*pair, budget) for pair, budget in zip(made, budgets, strict=True)]
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
        Part(replace(bench, learner=trained), condenser, budget, seed, references)
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
    slow = [row for part_result in results_of for row in part_result.slow]
    left = slow_notes(slow, own_ids)
    if keep_policies:
        left += _without_policies(bench, outcomes)
    return result_of(bench, outcomes, list(beside.values()), [*notes, *left])


def _without_policies(bench: Bench, outcomes: Iterable[Outcome]) -> list[str]:
    """Return notes on the records that are done and of which no policies are kept."""
    assert isinstance(bench.store, Store)
    read_back, learners = [], set()
    for outcome in outcomes:
        record = outcome.record
        if record["status"] != "done" or bench.store.policies_path(record["cell_id"]).is_dir():
            continue
        learner = (record["cell"]["learner"] or NOBODY)["id"]
        if learner != BehaviouralCloning.id:
            learners.add(learner)
        elif outcome.is_reused:
            read_back.append(record["cell_id"])
    notes = [f"Policies of {learner} are not kept: those of bc are." for learner in learners]
    if read_back:
        text = ", ".join(read_back)
        notes.append(f"No policies are kept of what was read back: {text} (--refresh).")
    return notes


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


def __getattr__(name: str) -> Any:
    return left(__name__, name)
