"""The page of a task: curves over size and cost, transfer between learners, data and experts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcondense.catalogue import Entry, entries
from rlcondense.comparison.rows import Group, Row
from rlcondense.records.record import Record
from rlcondense.references import BY_ID, WHOLE
from rlcondense.reporting.board import score_range
from rlcondense.reporting.pages.lines import learner_names, policy_returns
from rlcondense.reporting.pages.shared import Pages, Site

if TYPE_CHECKING:
    from markupsafe import Markup

    from rlcondense.reporting.charts import Point


def _styles(groups: Sequence[Group]) -> dict[str, int]:
    """Return the number of the marker for each row's name on a task."""
    names = dict.fromkeys(r.name for g in groups for r in g.rows if not r.is_policy)
    return {name: number for number, name in enumerate(sorted(names))}


def _figures(group: Group, styles: Mapping[str, int]) -> tuple[Markup | None, Markup | None]:
    """Plot the held-out return over size, and over seconds."""
    from rlcondense.reporting.charts import Series, plot

    done = [row for row in group.rows if row.returns is not None and not row.is_policy]
    returns = policy_returns(group, "heldout")
    references = {BY_ID[name].short: value for name, value in returns.items()}
    for name in WHOLE:
        full = group.find(name)
        if full is not None and full.returns is not None:
            references[name] = full.returns["heldout"]["mean"].estimate
    sizes: dict[str, list[Point]] = {}
    seconds: dict[str, list[Point]] = {}
    for row in done:
        if row.size and row.id not in WHOLE:
            sizes.setdefault(row.name, []).append(_point(row, row.size))
        spent = [(row.cost or {}).get(f"{phase}_seconds") or 0.0 for phase in ("condense", "train")]
        if sum(spent) > 0:
            seconds.setdefault(row.name, []).append(_point(row, sum(spent)))
    place = f"{group.task}, {group.learner['id']}"
    curve = cost = None
    if sizes:
        lines = [Series(name, styles[name], tuple(points)) for name, points in sizes.items()]
        curve = plot(
            lines, references, "transitions kept", "held-out return",
            f"held-out return over the size of the dataset: {place}",
        )  # fmt: skip
    if seconds:
        dots = [
            Series(name, styles[name], tuple(points), joined=False)
            for name, points in seconds.items()
        ]
        cost = plot(
            dots, references, "seconds to condense and to train", "held-out return",
            f"held-out return over what it cost: {place}",
        )  # fmt: skip
    return curve, cost


def _point(row: Row, x: float) -> Point:
    from rlcondense.reporting.charts import Point

    assert row.returns is not None
    y = row.returns["heldout"]["mean"]
    return Point(x, y, f"{row.name}, {row.size} transitions: {y.estimate:.2f}")


@dataclass(frozen=True)
class Matrix:
    """A matrix of methods and learners: how well each condensed set serves each learner.

    Attributes:
        dataset: id.
        learners: names, one a column.
        rows: for each method and budget its row in each column, if it is done.
        shades: the level of each of those within the matrix, 0 to 4.
    """

    dataset: str
    learners: tuple[str, ...]
    rows: tuple[tuple[Row | None, ...], ...]
    shades: tuple[tuple[int, ...], ...]


def _matrices(groups: Sequence[Group]) -> list[Matrix]:
    """Return a matrix for each dataset and protocol with several learners."""
    places: dict[str, list[Group]] = {}
    for group in groups:
        key = [group.dataset, group.evaluation, group.learner_seeds]
        places.setdefault(json.dumps(key, sort_keys=True), []).append(group)
    matrices = [_matrix(beside) for beside in places.values() if len(beside) > 1]
    return [matrix for matrix in matrices if matrix is not None]


def _matrix(groups: Sequence[Group]) -> Matrix | None:
    by_row: dict[str, dict[int, Row]] = {}
    for column, group in enumerate(groups):
        for row in group.rows:
            if row.returns is not None and not row.is_policy:
                key = json.dumps([row.method, row.budget], sort_keys=True)
                by_row.setdefault(key, {})[column] = row
    shared = [cells for cells in by_row.values() if len(cells) > 1]
    columns = [i for i in range(len(groups)) if any(i in cells for cells in shared)]
    if not shared:
        return None
    rows = tuple(tuple(cells.get(i) for i in columns) for cells in shared)
    values = [_heldout(row) for line in rows for row in line if row]
    low, high = min(values), max(values)
    names = learner_names(groups)
    return Matrix(
        dataset=groups[0].dataset,
        learners=tuple(names[i] for i in columns),
        rows=rows,
        shades=tuple(
            tuple(
                min(4, int(5 * (_heldout(row) - low) / (high - low or 1.0))) if row else 0
                for row in line
            )
            for line in rows
        ),
    )


def _heldout(row: Row) -> float:
    assert row.returns is not None
    return row.returns["heldout"]["mean"].estimate


def _datasets(task: str, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Return the catalogue's datasets of a task, and the other datasets of its records."""
    known = [_dataset(e) for e in entries("datasets").values() if e.facts.get("task") == task]
    listed = {dataset["id"] for dataset in known}
    used = {
        record["cell"]["dataset"]: record.get("report", {}).get("dataset_sha256", "")
        for record in records.values()
        if record["cell"]["task"] == task and record["cell"]["dataset"] not in listed
    }
    return known + [{"id": id_, "sha256": used[id_], "summary": ""} for id_ in sorted(used)]


def _dataset(entry: Entry) -> dict[str, Any]:
    return {**entry.facts, "id": entry.id, "summary": entry.summary}


def _experts(task: str) -> list[dict[str, Any]]:
    """Return the cards of the task's own expert and of those that recorded its datasets."""
    from rlcondense.experts.shipped import shipped_cards

    wanted = {task}
    for entry in entries("datasets").values():
        if entry.facts.get("task") == task and "expert" in entry.facts:
            wanted.add(entry.facts["expert"])
    return [card for card in shipped_cards() if card["id"] in wanted]


def task_pages(site: Site, task: str) -> Pages:
    """Return the page of a task."""
    groups = [group for group in site.board.groups if group.task == task]
    styles = _styles(groups)
    span = score_range(task)
    yield site.page(
        "task.html",
        f"tasks/{site.tasks[task]}.html",
        task=task,
        entry=entries("tasks").get(task),
        span=span,
        datasets=_datasets(task, site.board.records),
        experts=_experts(task),
        lines=site.lines_of(groups),
        figures=[
            (group, title, *_figures(group, styles))
            for group, title in zip(groups, learner_names(groups), strict=True)
        ],
        styles=styles,
        matrices=_matrices(groups),
    )
