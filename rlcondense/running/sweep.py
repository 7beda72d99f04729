"""Sweeps: every cell of a suite computed once, whatever failures occur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from rlcondense import __version__
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store
from rlcondense.running.dispatch import Dispatch
from rlcondense.running.estimate import Rates
from rlcondense.running.executors.base import Setting
from rlcondense.running.executors.choice import executor_of
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Planned, part_of
from rlcondense.running.states import (
    State,
    SweepResult,
    anew,
    manifest_path,
    statuses_of,
    write_manifest,
)
from rlcondense.running.suite import Suite, load_suite
from rlcondense.running.watcher import Silent, Watcher


def sweep(
    suite: str | Path | Suite,
    *,
    results: str | Path = "results",
    only: Collection[str] | None = None,
    shard: tuple[int, int] | None = None,
    tasks: Collection[str] = (),
    methods: Collection[str] = (),
    executor: str = "local",
    address: str | None = None,
    gpus: float | None = None,
    workers: int | None = None,
    device: str = "auto",
    refresh: bool = False,
    keep_policies: bool = False,
    max_failures: int | None = None,
    watcher: Watcher | None = None,
) -> SweepResult:
    """Compute every cell of a suite that is not done yet.

    Args:
        suite: name of a shipped suite, path of one's own, or what `load_suite` returned.
        results: folder of the records.
        only: the statuses of cells to compute, of `OFFERED`; by default all but `skipped`.
        shard: `(i, n)`: only the i-th of n parts, counted from 1.
        tasks: names of the tasks to compute; none stands for all.
        methods: names of the methods and reference rows to compute; none stands for all.
        executor: `local` or `ray`.
        address: of a running Ray cluster.
        gpus: of a GPU for each of Ray's tasks, by default one.
        workers: how many cells at once; by default as many as there are cores, or GPUs.
        device: `auto`, `cpu` or `cuda`.
        refresh: compute done cells again.
        keep_policies: store the policies that are trained.
        max_failures: start no more cells after so many failures.
        watcher: gets the events of the sweep.

    Returns:
        The state of every cell. A failed cell is no error here.

    Raises:
        RLCondenseError: the suite or an argument is wrong, or the store cannot be written to.
        KeyboardInterrupt: the finished cells stay in the store.

    Example:
        >>> sweep("smoke", workers=2).counts()
        {'done': 9}
    """
    planned_suite = suite if isinstance(suite, Suite) else load_suite(suite)
    statuses = statuses_of(only, workers, max_failures, refresh=refresh)
    part = part_of(shard, tasks, methods)
    store = Store(Path(results))
    watcher = watcher or Silent()
    setting = Setting(store, device, workers, refresh, keep_policies, planned_suite.heldout_data)

    def wanted(state: State) -> bool:
        if not part.has(state.planned):
            return False
        if state.status == "done":
            return refresh
        # What another process computes is waited for, in case it dies.
        return state.status in statuses or (state.status == "running" and only is None)

    def make_plan() -> list[Planned]:
        plan = plan_suite(planned_suite, store.look)
        part.check(plan, planned_suite.name)
        write_manifest(store, planned_suite, plan)
        return plan

    with executor_of(executor, setting, address=address, gpus=gpus) as backend:
        going = Dispatch(
            make_plan=make_plan,
            store=store,
            watcher=watcher,
            wanted=wanted,
            rates=Rates((), backend.device),
            device=backend.device,
            most_failures=max_failures,
            refresh=refresh,
            log=manifest_path(store, planned_suite).with_suffix(".log"),
        )
        states = going.plan()
        notes = _notes(states, backend.device)
        own = [state for state in states if part.has(state.planned)]
        if keep_policies:
            notes += _without_policies(store, own, refresh)
        for note in notes:
            watcher.notice(note)
        if going.queue:
            for state in states:
                if state.facts is not None:
                    going.rates.add(state.facts)
            watcher.began(anew(own) if refresh else own, len(going.queue), backend.size())
            _build_datasets(going.queue, watcher)
            going.run(backend)
            states = going.states()
    return SweepResult(
        planned_suite,
        states,
        going.computed,
        going.failed,
        store,
        stopped=going.stopped and bool(going.queue),
        part=part,
        notes=tuple(notes),
    )


def _without_policies(store: Store, states: Iterable[State], refresh: bool) -> list[str]:
    """Return notes on the cells of which no policies will be kept."""
    from rlcondense.learners.bc import BehaviouralCloning

    done, others = 0, set()
    for state in states:
        cell = state.planned.cell
        if cell is None or cell.learner is None:
            continue
        if cell.learner["id"] != BehaviouralCloning.id:
            others.add(cell.learner["id"])
        elif state.status == "done" and not refresh:
            done += not store.policies_path(cell.id).is_dir()
    notes = [f"policies of {learner} are not kept: those of bc are" for learner in sorted(others)]
    return [*notes, f"no policies are kept of {done} done before (--refresh)"] if done else notes


def _build_datasets(queue: Iterable[Planned], watcher: Watcher) -> None:
    """Build the datasets that the queue needs, once, before several workers need them."""
    from rlcondense.catalogue import base_of
    from rlcondense.datasets.minari import is_local
    from rlcondense.make import load_dataset

    for name in dict.fromkeys(p.cell.dataset for p in queue if p.cell and p.cell.dataset):
        if not is_local(base_of(name)):
            watcher.notice(f"building dataset {name}")
            try:
                load_dataset(name)
            except Exception as error:  # the records of its cells hold the reason
                watcher.notice(f"dataset {name}: {error}")


def _notes(states: Sequence[State], device: str) -> list[str]:
    """Return notes on missing parts and on existing cells that were made otherwise."""
    from rlcondense.catalogue import entries
    from rlcondense.running.outcomes import code_of, packages_of
    from rlcondense.runtime.provenance import versions

    tasks = dict.fromkeys(s.facts["cell"]["task"] for s in states if s.facts is not None)
    packages = [package for task in tasks for package in packages_of(task)]
    here = {
        "rlcondense": __version__,
        **{f"{name} version": value for name, value in versions(packages).items()},
        "device": device,
    }
    datasets = entries("datasets")
    differing: Counter[str] = Counter()
    codes: dict[tuple[str, ...], dict[str, Any]] = {}
    out = []
    absent = dict.fromkeys(s.planned.absent for s in states if s.planned.absent)
    out += [f"not installed: {reason}" for reason in absent]
    no_cells = [s.planned for s in states if s.planned.skip and s.planned.cell is None]
    out += [f"no cells of {planned.text}: {planned.skip}" for planned in no_cells]
    for state in states:
        if state.facts is None:
            if state.unread:
                again = "" if state.status == "failed" else "; it is computed again"
                out.append(f"{state.reason}{again}")
            continue
        key = state.facts["key"]
        entry = datasets.get(state.facts["cell"]["dataset"])
        wanted = {**here, "dataset_sha256": entry.facts.get("sha256") if entry else None}
        for name, value in wanted.items():
            if value is not None and name in key and key[name] != value:
                differing[f"with {name} {key[name]}, here it is {value}"] += 1
        cell = Cell.from_json(state.facts["cell"])
        parts = (cell.task, cell.method["id"], cell.learner["id"] if cell.learner else "")
        if parts not in codes:
            codes[parts] = code_of(cell)
        code = codes[parts]  # of what is built in the version tells
        if code["plugins"] and any(key.get(name, value) != value for name, value in code.items()):
            differing["by other code of task, method or learner"] += 1
    for text, count in differing.items():
        cells = "cell was" if count == 1 else "cells were"
        out.append(f"{count} {cells} made {text} (--refresh computes all anew)")
    return out
