"""The context that the cells of one run share: task, data, learner, protocol and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlcondense import catalogue
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import load_condensed
from rlcondense.datasets.exported import is_condensed
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.experts.shipped import Expert, find_expert, shipped_experts
from rlcondense.learners.base import Learner
from rlcondense.limits import check_evaluation, check_seeds
from rlcondense.make import (
    default_dataset,
    facts_of,
    known_task,
    load_dataset,
    make_task,
    named_dataset,
    recorded_learner,
    stated_task,
    task_of_dataset,
)
from rlcondense.policies import check_fits
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.records.cell import Cell, protocol_from
from rlcondense.records.store import Results, Store
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import resolve_device
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import check_named
from rlcondense.validation import check_dataset


@dataclass(frozen=True)
class Bench:
    """The context that all cells of one run share."""

    task: Task
    dataset: TransitionDataset | None
    expert: Expert | None
    learner: Learner[Any]
    seeds: tuple[int, ...]
    protocol: Protocol
    device: str
    store: Results
    refresh: bool = False
    progress: Progress = silent
    keep_policies: bool = False
    wait: bool = True  # for a cell that another process holds the lock of
    record_failures: bool = False  # instead of raising them
    takes_shipped: bool = False  # reference rows that the package has records of
    is_reference: bool = False  # for reference rows: a cell that cannot exist is skipped
    seen: tuple[int, ...] | None = None  # the stamp of a planned cell's record, if it had one
    refreshed: set[str] = field(default_factory=set)  # condensation ids condensed again by this run
    heldout_data: bool = False  # whether data of held-out levels are taken

    @property
    def dataset_id(self) -> str:
        """The dataset's id, empty without a dataset."""
        return self.dataset.id if self.dataset is not None else ""


DEFAULT_TASK = "starpilot"


def task_named(
    task: str | Task | None,
    dataset: str | Path | TransitionDataset | None,
    *,
    download: bool = False,
    folders: Sequence[str | Path] = (),
) -> str:
    """Return the task that a command is about: the named one, the data's, or the default.

    Args:
        task: task, or its id or alias, if one is named.
        dataset: id or path of the dataset, or the data, if they are named.
        download: as for `task_of_dataset`.
        folders: of condensed sets, which know their task where no dataset is named.

    Raises:
        BadConfig: a dataset is named that does not say on which task it was collected, or a task
            is not what its id makes.
    """
    if isinstance(task, Task):
        if task.id not in catalogue.entries("tasks"):
            raise BadConfig(
                f"records know a task by its id, and none is called {task.id!r}: "
                'rlc.register("tasks", ...) registers it'
            )
        check_named(task)
        return task.id
    if task:
        return task
    if dataset is None or dataset == "":
        of_sets = (_task_of_set(Path(folder)) for folder in folders)
        return next(filter(None, of_sets), DEFAULT_TASK)
    return stated_task(dataset, download=download)


def make_bench(
    task: str,
    dataset: str | Path | TransitionDataset | None,
    *,
    download: bool,
    expert: str | Path | None = None,
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
    takes_shipped: bool = False,
) -> Bench:
    """Make the context that the cells of a run share.

    Without `needs_dataset`, a task that has no dataset of its own gets none. Without
    `takes_dataset`, the dataset is the named one or none.
    """
    check_seeds(0, 1, seeds)
    protocol, device = protocol_of(episodes), resolve_device(device)
    check_evaluation(seeds, protocol.environments, episodes)
    bench_task = make_task(task)
    name = dataset
    if not name and takes_dataset:
        try:
            name = default_dataset(bench_task)
        except BadConfig:
            if needs_dataset:
                raise
    data = None
    if name:
        name = named_dataset(name, task, expert)
        data = load_dataset(name, download=download, heldout_data=heldout_data, progress=progress)
        check_dataset(data, bench_task)
    player = find_expert(expert) if expert else expert_of(str(name or ""), bench_task)
    if player is not None:
        check_fits(player.network.spec, bench_task, f"expert {player.id!r}")
    return Bench(
        task=bench_task,
        dataset=data,
        expert=player,
        learner=learner,
        seeds=tuple(range(seeds)),
        protocol=protocol,
        device=device,
        store=Store(Path(results)),
        refresh=refresh,
        progress=progress,
        heldout_data=heldout_data,
        takes_shipped=takes_shipped and not refresh,
    )


def budget_of(
    default: Mapping[str, Any],
    size: int | None,
    percent: float | None,
    unit: str | None,
    max_bytes: int | None = None,
    bits: int | None = None,
    resolution: int | None = None,
) -> Budget:
    """Return the budget that a request names, or the default one."""
    if sum(kind is not None for kind in (size, percent, max_bytes)) > 1:
        raise BadConfig("give one of a size, a percentage and a number of bytes")
    if unit is not None and (
        size is not None or max_bytes is not None or (percent is None and "percent" not in default)
    ):
        raise BadConfig("a unit goes with a percentage: give --percent too")
    if max_bytes is None and (bits is not None or resolution is not None):
        raise BadConfig("bits and resolution go with a budget in bytes: give --bytes too")
    if max_bytes is not None:
        return Budget(bytes=max_bytes, bits=8 if bits is None else bits, resolution=resolution)
    if size is not None:
        return Budget(size=size)
    if percent is not None:
        return Budget(percent=percent, unit=unit or default.get("unit", "transitions"))
    if not default:
        return Budget(size=150)
    budget = Budget(**default)
    return replace(budget, unit=unit) if unit else budget


def own_budget(method: str) -> Mapping[str, Any]:
    """Return the budget of a method where none is given; empty if it has none of its own."""
    budget: Mapping[str, Any] = facts_of(catalogue.find("methods", method)).get("budget", {})
    return budget


def budgets_of(
    methods: Sequence[str],
    size: int | None,
    percent: float | None,
    unit: str | None,
    max_bytes: int | None = None,
    bits: int | None = None,
    resolution: int | None = None,
) -> list[Budget]:
    """Return the budgets of methods: of several, a percentage where their own one is one, or not.

    Args:
        methods: their ids.
        size: of the methods that take a number of transitions; by default each one's own.
        percent: of those that take a percentage, likewise; one method alone takes what is given.
        unit: what `percent` counts.
        max_bytes: in place of a size.
        bits: of a budget in bytes.
        resolution: of a budget in bytes.

    Raises:
        BadConfig: what is given contradicts itself, or is of none of the methods.
    """
    coding, defaults = (max_bytes, bits, resolution), [own_budget(name) for name in methods]
    if not methods and any(part is not None for part in (size, percent, unit, *coding)):
        raise BadConfig("a budget is of methods, and none is named")
    if len(defaults) == 1:
        return [budget_of(defaults[0], size, percent, unit, *coding)]
    in_percent = ["percent" in default for default in defaults]
    if not any(in_percent) and (percent, unit) != (None, None):
        raise BadConfig("a percentage is taken by none of these methods, only by one named alone")
    if all(in_percent) and (size, *coding) != (None, None, None, None):
        raise BadConfig("these methods keep percentages: give --percent, or name one alone")
    return [
        budget_of(default, None, percent, unit)
        if taken
        else budget_of(default, size, None, None, *coding)
        for default, taken in zip(defaults, in_percent, strict=True)
    ]


def expert_of(dataset: str, task: Task) -> Expert | None:
    """Return the expert of a dataset, or else the newest of the task that it is known to be of.

    Args:
        dataset: id, empty without a dataset.
        task: task of the students.
    """
    name = expert_name(dataset, task)
    try:
        return find_expert(name) if name else None
    except UnknownName:
        return None


def _task_of_set(folder: Path) -> str | None:
    report = load_condensed(folder).report if is_condensed(folder) else None
    return None if report is None else report.task


def expert_name(dataset: str, task: Task) -> str:
    """Return the id or path of the expert of a dataset, empty if it has none."""
    of_task = task.id
    if dataset:
        try:
            entry = catalogue.find("datasets", dataset)
        except UnknownName:  # a dataset of Minari, whose environment may be none of the catalogue
            of_task = task_of_dataset(dataset) or task.id
        else:
            if "expert" in entry.facts:
                return str(entry.facts["expert"])
            of_task = known_task(entry)
    return shipped_experts().get(task.id, "") if of_task == task.id else ""


def bench_of(
    cell: Cell,
    dataset: Callable[[str], TransitionDataset],
    store: Results,
    device: str,
) -> Bench:
    learner = cell.learner or {"id": "bc", "config": {}}  # a policy's cell never uses it
    task, data = make_task(cell.task), dataset(cell.dataset) if cell.dataset else None
    if data is not None:
        check_dataset(data, task)
    return Bench(
        task=task,
        dataset=data,
        expert=expert_of(cell.dataset, task),
        learner=recorded_learner(learner["id"], learner["config"]),
        seeds=cell.learner_seeds,
        protocol=protocol_from(cell.evaluation),
        device=device,
        store=store,
    )
