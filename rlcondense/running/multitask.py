"""One policy trained on the sets of several tasks together, and on each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.comparison.columns import bracketed
from rlcondense.comparison.rows import reason_unjudged
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.report import ReportJson
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.learners.base import Learner
from rlcondense.make import follows_learner, make_learner, make_method, make_task
from rlcondense.policies import PolicyBatch, head_of
from rlcondense.records.cell import OF_SEVERAL_TASKS, Cell, evaluation_json, learner_json
from rlcondense.records.record import CellResult, Record
from rlcondense.references import FLOOR
from rlcondense.running.bench import Bench, budget_of, make_bench, own_budget
from rlcondense.running.compute import condensed, evaluated, policy_row
from rlcondense.running.outcomes import Outcome, compute_or_read, making_of
from rlcondense.running.padded import PaddedTask
from rlcondense.running.pairs import settings_of_paper
from rlcondense.running.rows import Row, Rows
from rlcondense.runtime.meter import Seconds, measured
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.tune import one_thread
from rlcondense.statistics.intervals import Interval, student_interval, summarise
from rlcondense.tasks.base import Task

ALL = "all"
# What a set may have beside its rows that students of several tasks cannot share.
OF_ONE_TASK = (
    "learning_rate", "view_labels", "held_back", "targets", "scaling", "initialisation"
)  # fmt: skip


def merged(parts: Sequence[CondensedDataset]) -> CondensedDataset:
    """Merge padded sets into one."""
    return CondensedDataset(
        observations=np.concatenate([part.observations for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        label_kind=parts[0].label_kind,
    )


@dataclass(frozen=True)
class MultitaskResult:
    """The returns of students trained on all tasks together and on each alone.

    Attributes:
        tasks: their ids.
        sizes: number of rows of each training set, by its name: a task's id, or `ALL`.
        returns: `(S, episodes)` on held-out levels, by training set and then by task;
            `random-policy` learned from nothing.
        normalised: mean score `(S,)` over tasks, 0 being the uniform random policy and 1 the top of
            the task's score range, by training set.
        unjudged: the reason why the differences are no verdicts; empty if they are.
        records: of every training set on every task, as they are kept.
        warnings: what differs between records read back and this environment.
    """

    tasks: tuple[str, ...]
    sizes: Mapping[str, int]
    returns: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    normalised: Mapping[str, npt.NDArray[np.float64]]
    unjudged: str = ""
    records: tuple[Record, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def gains(self) -> dict[str, Interval]:
        """The score of students trained on all tasks less that of students trained on one task.

        Intervals are Student's t over students, paired.
        """
        together = self.normalised[ALL]
        return {task: student_interval(together - self.normalised[task]) for task in self.tasks}

    def __str__(self) -> str:
        """The table that `multitask` prints."""
        from tabulate import tabulate

        names = [ALL, *self.tasks, FLOOR]
        rows = [
            [name, self.sizes.get(name, "")]
            + [_mean(self.returns[name][task]) for task in self.tasks]
            + [_mean(self.normalised[name][:, None])]
            for name in names
        ]
        headers = ["learned from", "size", *self.tasks, "mean score"]
        students = len(self.normalised[ALL])
        gains = [
            f"{ALL} - {task}: {bracketed(gain, '{:+.2f}')}" for task, gain in self.gains.items()
        ]
        notes = [
            f"Mean return on held-out levels ± standard error over {students} students. Score: 0",
            "is the random policy, 1 the top of the task's score range; averaged over tasks.",
            "Differences of mean scores, with 95% intervals over students (Student's t), for these",
            "condensed sets:",
        ]
        if self.unjudged:
            gains.append(f"? {self.unjudged}.")
        table = str(tabulate(rows, headers, disable_numparse=True))
        return "\n".join([table, "", *notes, *gains])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `multitask --json` prints."""
        return {
            "tasks": list(self.tasks),
            "sizes": dict(self.sizes),
            "returns": {
                name: {task: rows.tolist() for task, rows in by_task.items()}
                for name, by_task in self.returns.items()
            },
            "normalised": {name: scores.tolist() for name, scores in self.normalised.items()},
            "gains": {task: gain.to_json() for task, gain in self.gains.items()},
            "unjudged": self.unjudged,
            "records": list(self.records),
        }


def _mean(rows: npt.NDArray[np.float64]) -> str:
    summary = summarise(rows.tolist())
    error = summary["standard_error"]
    return f"{summary['mean']:.2f}" + (f" ± {error:.2f}" if error is not None else "")


@one_thread()
def multitask(
    tasks: Sequence[str],
    method: str = "hades-r",
    *,
    size: int | None = None,
    seed: int = 0,
    seeds: int = 3,
    episodes: int = 100,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    learner_settings: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    refresh: bool = False,
    progress: Progress = silent,
) -> MultitaskResult:
    """Condense each task, train one policy on all the sets together, and play every task with it.

    Beside it stand policies of the same learner that were trained on one task's set alone. The
    sets are those that `run` makes and keeps, and what is finished is read back.

    Args:
        tasks: ids or aliases, two or more.
        method: id of the method.
        size: budget for each task, in transitions; by default the method's own.
        seed: condensation seed.
        seeds: how many learner seeds.
        episodes: of each policy on each task.
        device: `auto`, `cpu` or `cuda`.
        settings: of the method.
        learner_settings: of `bc`, over those that the method has its students trained with.
        results: folder of the records and condensed sets.
        refresh: compute again even if the record exists.
        progress: called with the progress.

    Raises:
        BadConfig: the tasks share no policy, or the method's students start as one network.

    Example:
        >>> print(multitask(["cartpole", "acrobot"], size=6, settings={"preset": "quick"}))
    """
    all_tasks = [make_task(name) for name in tasks]
    if len({task.id for task in all_tasks}) < max(2, len(all_tasks)):
        raise BadConfig("name two tasks or more, each once")
    own, follows = dict(learner_settings or {}), follows_learner(settings)
    makers = [
        make_method(
            method, t, make_learner("bc", t, **own) if follows else None, **dict(settings or {})
        )
        for t in all_tasks
    ]
    of_paper = settings_of_paper(makers[0], all_tasks[0], "bc")
    if of_paper.get("init") == "dataset":
        raise BadConfig(f"method {method!r} makes sets for one network each, which share none")
    if lacking := [task.id for task in all_tasks if task.score_range is None]:
        raise BadConfig(f"task {lacking[0]!r} has no score range to average over")
    padded = {task.id: PaddedTask(task, all_tasks) for task in all_tasks}
    learner = make_learner(
        "bc", padded[all_tasks[0].id], **{**({} if follows else of_paper), **own}
    )
    learner.check_task(padded[all_tasks[0].id])
    if learner.config.init == "dataset":
        raise BadConfig("tasks share no initial network (init=random)")
    if learner.config.standardise:
        raise BadConfig("tasks share no scaling of observations (standardise=false)")
    parts, benches = {}, {}
    for task, maker in zip(all_tasks, makers, strict=True):
        bench = benches[task.id] = make_bench(
            task.id,
            None,
            download=False,
            learner=learner,
            seeds=seeds,
            episodes=episodes,
            device=device,
            results=results,
            refresh=refresh,
            progress=progress,
            needs_dataset=maker.takes_data,
        )
        budget = budget_of(own_budget(method), size, None, None)
        data = condensed(bench, maker, budget, seed)
        if data.label_kind == "soft":
            raise BadConfig(f"soft labels are not padded: set labels of {method!r} to hard ones")
        if own_parts := [part for part in OF_ONE_TASK if getattr(data, part) is not None]:
            raise BadConfig(
                f"method {method!r} makes sets with {own_parts[0]} of their own task: tasks share "
                "rows and hard labels alone"
            )
        parts[task.id] = padded[task.id].padded(data)
    sets = {ALL: merged(list(parts.values())), **parts}
    rows = Rows(benches[all_tasks[0].id])
    returns: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    records: list[Record] = []

    def play(name: str, row_of: Mapping[str, Row]) -> None:
        outcomes = rows.compute(row_of.values())
        records.extend(outcome.record for outcome in outcomes)
        for task, record in zip(row_of, records[-len(outcomes) :], strict=True):
            if record["status"] != "done":
                raise RLCondenseError(f"{name} on {task}: {record.get('reason', '')}")
            returns.setdefault(name, {})[task] = np.array(record["returns"]["heldout"])

    play(FLOOR, {id_: policy_row(bench, FLOOR) for id_, bench in benches.items()})
    for name, data in sets.items():
        students = _Students(learner, data, padded[all_tasks[0].id])
        play(name, {id_: students.row(bench, padded[id_]) for id_, bench in benches.items()})
    normalised = {
        name: np.mean([_score(by_task[t.id], returns, t) for t in all_tasks], axis=0)
        for name, by_task in returns.items()
    }
    ids = tuple(task.id for task in all_tasks)
    sizes = {name: len(data) for name, data in sets.items()}
    unjudged = reason_unjudged(makers[0].stochastic, 1, seeds)
    warnings = {line for outcome in rows.outcomes for line in outcome.differences}
    return MultitaskResult(
        ids, sizes, returns, normalised, unjudged, tuple(records), tuple(sorted(warnings))
    )


class _Students:
    """The students of one training set, which are trained when the first task needs them.

    Args:
        learner: trains them.
        data: padded rows.
        task: any of the padded tasks; for a learner they are all the same.
    """

    def __init__(self, learner: Learner[Any], data: CondensedDataset, task: PaddedTask) -> None:
        self._learner, self._data, self._task = learner, data, task
        # Rows of discrete actions do not say how many actions the students can take.
        outputs = head_of(task.action_space)[0]
        self._config = {"sha256": data.sha256, "outputs": outputs}
        self._policies: PolicyBatch | None = None
        self._failed = ""
        self._seconds = Seconds()

    def row(self, bench: Bench, task: PaddedTask) -> Row:
        """Return the row of these students on one task, whose bench has the same learner."""
        data = self._data
        cell = Cell(
            task=bench.task.id,
            dataset=bench.dataset_id,
            method={"id": OF_SEVERAL_TASKS, "config": self._config},
            budget={"size": len(data)},
            learner=learner_json(self._learner),
            condensation_seed=0,  # the hash says which sets they are
            learner_seeds=bench.seeds,
            evaluation=evaluation_json(bench.protocol),
        ).checked()

        def result(bench: Bench) -> CellResult:
            if self._failed:
                return {"status": "failed", "reason": self._failed}
            if self._policies is None:
                try:
                    with measured(bench.device) as self._seconds:
                        self._policies = self._learner.fit(
                            data,
                            task=self._task,
                            seeds=bench.seeds,
                            device=bench.device,
                            progress=bench.progress,
                        )
                except RLCondenseError as error:
                    self._failed = str(error)
                    return {"status": "failed", "reason": self._failed}
            timings = {"train": self._seconds.to_json()}
            bench = replace(bench, task=task)
            played = evaluated(bench, self._policies, cell.method["id"], timings)
            report: ReportJson = {"size": len(data), "label_kind": data.label_kind}
            return {**played, "report": report, "labels": data.label_kind}

        def compute(bench: Bench) -> Outcome:
            key = making_of(bench, None, self._learner)
            return compute_or_read(bench, cell, key, lambda: result(bench))

        return Row(bench, cell, compute, by_workers=False)


def _score(
    rows: npt.NDArray[np.float64],
    returns: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
    task: Task,
) -> npt.NDArray[np.float64]:
    """Compute the mean score `(S,)` of returns `(S, episodes)`."""
    assert task.score_range is not None
    low, high = float(returns[FLOOR][task.id].mean()), task.score_range[1]
    if low == high:
        raise RLCondenseError(f"{task.id}: the random policy has the highest score, {high}")
    return np.asarray((rows.mean(1) - low) / (high - low))
