"""The page of a task: curves over size and cost, transfer between learners, data and experts."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcondense.catalogue import FILE, Entry, entries
from rlcondense.citations import cite_entries
from rlcondense.comparison.columns import coding_of, name_and_size, with_coding
from rlcondense.comparison.rows import Group, Row
from rlcondense.records.record import Record
from rlcondense.references import BY_ID, EXPERT, FLOOR, POLICIES, RANDOM_SUBSET, REFERENCES, WHOLE
from rlcondense.reporting.board import score_range
from rlcondense.reporting.pages.legend import LegendEntry, legend_entries
from rlcondense.reporting.pages.lines import Line, learner_names, policy_returns
from rlcondense.reporting.pages.looks import strips_of
from rlcondense.reporting.pages.shared import LEAST_SECONDS, MOST_ROWS, Pages, Site, file_names
from rlcondense.tasks.base import ReturnEstimate
from rlcondense.types import SPLITS, Split

if TYPE_CHECKING:
    from markupsafe import Markup

    from rlcondense.reporting.charts import Point


NUMBERS = ("episodes", "transitions", "information")  # facts of datasets


def _legend(groups: Sequence[Group]) -> dict[str, LegendEntry]:
    """Return the names and styles of a task's rows in charts, by method."""
    rows = [r for g in groups for r in g.rows if r.returns is not None and not r.is_policy]
    methods = {_method_key(row): row.method for row in rows}
    keys = sorted(methods)
    return dict(zip(keys, legend_entries([methods[key] for key in keys]), strict=True))


def _method_key(row: Row) -> str:
    return json.dumps([row.id, row.method["config"]], sort_keys=True)


def _figures(
    group: Group, legend: Mapping[str, LegendEntry]
) -> tuple[Markup | None, Markup | None]:
    """Plot the held-out return over size, and over seconds."""
    from rlcondense.reporting.charts import Series, plot

    done = [row for row in group.rows if row.returns is not None and not row.is_policy]
    returns = policy_returns(group, "heldout")
    references = {BY_ID[name].short: value for name, value in returns.items()}
    for name in WHOLE:
        whole = [row for row in done if row.id == name]
        for row in whole:
            assert row.returns is not None
            title = name if len(whole) == 1 else f"{name}, {row.labels}"
            references[title] = row.returns["heldout"]["mean"].estimate
    sizes: dict[str, list[Point]] = {}
    seconds: dict[str, list[Point]] = {}
    for row in done:
        if row.size and row.id not in WHOLE and not coding_of(row.budget):
            sizes.setdefault(_method_key(row), []).append(_point(row, row.size))
        spent = [(row.cost or {}).get(f"{phase}_seconds") or 0.0 for phase in ("condense", "train")]
        if sum(spent) > 0:
            point = _point(row, max(sum(spent), LEAST_SECONDS))
            seconds.setdefault(_method_key(row), []).append(point)
    place = f"{group.task}, {group.learner['id']}"
    curve = cost = None
    if len({point.x for points in sizes.values() for point in points}) > 1:
        lines = [
            Series(legend[key].name, legend[key].style, tuple(of)) for key, of in sizes.items()
        ]
        curve = plot(
            lines, references, "transitions kept", "held-out return",
            f"held-out return over the size of the dataset: {place}",
        )  # fmt: skip
    if seconds:
        dots = [
            Series(legend[key].name, legend[key].style, tuple(of), joined=False)
            for key, of in seconds.items()
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
    kept = with_coding(f"{row.size} transitions", row)
    return Point(x, y, f"{row.name}, {kept}: {y.estimate:.2f}")


@dataclass(frozen=True)
class Matrix:
    """A matrix of methods and learners: how well each condensed set serves each learner.

    Attributes:
        dataset: id.
        side: what its rows are, `learner` or `method`: whatever there is more of.
        columns: names of the others.
        lines: of each row its name, and its cells: the row of the table and the level of its
            return within the matrix, 0 to 4; or None.
    """

    dataset: str
    side: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[tuple[Row, int] | None, ...]], ...]


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
    table = [[cells.get(i) for i in columns] for cells in shared]
    values = [_heldout(row) for line in table for row in line if row]
    low, high = min(values), max(values)
    names = learner_names(groups)
    learners = [names[i] for i in columns]
    methods = [name_and_size(next(row for row in line if row)) for line in table]
    side, others = ("learner", methods) if len(learners) > len(methods) else ("method", learners)
    if side == "learner":
        table = [list(line) for line in zip(*table, strict=True)]
    cells_of = [
        tuple(
            None if row is None
            else (row, min(4, int(5 * (_heldout(row) - low) / (high - low or 1.0))))
            for row in line
        )
        for line in table
    ]  # fmt: skip
    titles = learners if side == "learner" else methods
    lines = tuple(zip(titles, cells_of, strict=True))
    return Matrix(groups[0].dataset, side, tuple(others), lines)


def _heldout(row: Row) -> float:
    assert row.returns is not None
    return row.returns["heldout"]["mean"].estimate


def _datasets(task: str, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Return the catalogue's datasets of a task, and the other datasets of its records."""
    used: dict[str, str] = {}
    for record in records.values():
        dataset = record["cell"]["dataset"]
        if record["cell"]["task"] == task and dataset:
            used[dataset] = record["key"].get("dataset_sha256") or used.get(dataset, "")
    known = {
        entry.id: _dataset(entry)
        for entry in entries("datasets").values()
        if entry.facts.get("task") == task and _is_everybodys(entry, used)
    }
    others = sorted(used.keys() - known.keys())
    return [*known.values(), *({"id": id_, "sha256": used[id_], "summary": ""} for id_ in others)]


def _is_everybodys(entry: Entry, used: Collection[str]) -> bool:
    """Return whether others know a dataset, too: not one that was added on this machine."""
    return entry.is_built_in or (entry.entry_point != FILE and entry.id in used)


def _dataset(entry: Entry) -> dict[str, Any]:
    """Return what the catalogue says of a dataset, without a plugin's facts of another form."""
    facts = {
        name: value
        for name, value in entry.facts.items()
        if name not in NUMBERS or isinstance(value, int | float)
    }
    returns = facts.get("returns")
    if not (isinstance(returns, Mapping) and {"mean", "quartiles"} <= returns.keys()):
        facts.pop("returns", None)
    return {**facts, "id": entry.id, "summary": entry.summary}


def _histogram(dataset: Mapping[str, Any]) -> Markup | None:
    """Draw the returns of a dataset's episodes as the catalogue counts them; None if unknown."""
    from rlcondense.reporting.distributions import bars_of

    returns = dataset.get("returns", {})
    try:
        return bars_of(returns["counts"], returns["range"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):  # likewise
        return None


def _experts(task: str) -> list[dict[str, Any]]:
    """Return the cards of the task's own expert and of those that recorded its datasets."""
    from rlcondense.experts.shipped import shipped_cards

    wanted = {task}
    for entry in entries("datasets").values():
        known = entry.facts.get("task") == task and "expert" in entry.facts
        if known and entry.entry_point != FILE:  # what was added on this machine is not shown
            wanted.add(entry.facts["expert"])
    return [card for card in shipped_cards() if card["id"] in wanted]


@dataclass(frozen=True)
class Stated:
    """Returns of a reference policy as the catalogue states them, not of a record.

    Attributes:
        id: of the policy.
        source: where they are stated.
        returns: by split.
    """

    id: str
    source: str
    returns: Mapping[Split, ReturnEstimate]


def _stated(task: str) -> list[Stated]:
    """Return what the catalogue states of a task's own experts, and of the uniform policy."""
    entry = entries("tasks").get(task)
    cards = [
        (EXPERT, card["id"], card["returns"]) for card in _experts(task) if card["task"] == task
    ]
    facts = [] if entry is None else [(FLOOR, "", entry.facts.get("random_return", {}))]
    stated = []
    for name, source, returns in (*reversed(cards), *facts):
        if all(split in returns for split in SPLITS):
            estimates = {split: ReturnEstimate(**returns[split]) for split in SPLITS}
            stated.append(Stated(name, source, estimates))
    return stated


def task_pages(site: Site, task: str, paths: Mapping[str, str]) -> Pages:
    """Return the page of a task, and pictures of it.

    Args:
        site: the site.
        task: id.
        paths: the page of each view that has one, by its title.
    """
    groups = [group for group in site.board.groups if group.task == task]
    lines = site.lines_of(groups)
    datasets = _datasets(task, site.board.records)
    strips = [
        (name, f"frames/{site.tasks[task]}-{number}.png", strip)
        for number, (name, strip) in enumerate(strips_of(task))
    ]
    references = _references(lines)
    measured = {line.row.id for line, _ in references}
    parts = _parts(site, task, groups) if len(lines) > MOST_ROWS else []
    yield site.page(
        "task.html",
        f"tasks/{site.tasks[task]}.html",
        task=task,
        entry=entries("tasks").get(task),
        citation=cite_entries([("tasks", task)]),
        span=score_range(task),
        strips=[(name, path) for name, path, _ in strips],
        references=references,
        stated=[one for one in _stated(task) if one.id not in measured],
        views=[
            (view, paths[view.title])
            for view in site.views
            if view.title in paths and task in [column.task for column in view.columns]
        ],
        datasets=[(dataset, _histogram(dataset)) for dataset in datasets],
        experts=_experts(task),
        parts=[(name, path, len(_by_size(site.lines_of(own)))) for name, path, own in parts],
        **({} if parts else _rows_and_charts(site, groups)),
    )
    for name, path, own in parts:
        shown = _rows_and_charts(site, own)
        yield site.page("task_data.html", path, task=task, dataset=name, **shown)
    for _, path, strip in strips:
        yield path, strip


NO_DATA = "no-data"  # the name of the page of rows that stand beside no dataset


def _parts(site: Site, task: str, groups: Sequence[Group]) -> list[tuple[str, str, list[Group]]]:
    """Return the name of each dataset of a task, the path of its own page, and its groups."""
    names = sorted({group.dataset for group in groups})
    files = file_names(name or NO_DATA for name in names)
    return [
        (
            name,
            f"tasks/{site.tasks[task]}/{files[name or NO_DATA]}.html",
            [group for group in groups if group.dataset == name],
        )
        for name in names
    ]


def _rows_and_charts(site: Site, groups: Sequence[Group]) -> dict[str, Any]:
    """Return the rows of groups, their charts, and how learners do on the same sets."""
    legend = _legend(groups)
    return {
        "lines": _by_size(site.lines_of(groups)),
        "figures": [
            (group, title, *_figures(group, legend))
            for group, title in zip(groups, learner_names(groups), strict=True)
        ],
        "entries": list(legend.values()),
        "matrices": _matrices(groups),
    }


def _references(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """Return the reference policies and the students of all the data, with their dataset's name.

    Of each kind the row with the most episodes, of students the best; the uniform policy, which is
    the same for all datasets, once. The dataset with the highest row comes first.
    """
    best: dict[tuple[str, str], Line] = {}
    for line in lines:
        row = line.row
        if row.returns is None or not (row.id in POLICIES or row.id in WHOLE):
            continue
        place = ("" if row.id == FLOOR else line.group.dataset, row.id)
        if place not in best or _weight(row) > _weight(best[place].row):
            best[place] = line
    highest: dict[str, float] = {}
    for (dataset, _), line in best.items():
        highest[dataset] = max(highest.get(dataset, -math.inf), _heldout(line.row))
    highest[""] = -math.inf
    places = {reference.id: reference.place for reference in REFERENCES}
    order = sorted(best, key=lambda at: (-highest[at[0]], at[0], places[at[1]]))
    return [(best[place], place[0].rpartition("/")[2]) for place in order]


def _weight(row: Row) -> tuple[float, int]:
    """Return what makes a reference row the one to show: students of all the data, the best."""
    return (0.0 if row.is_policy else _heldout(row)), row.learner_seeds * row.episodes


def _by_size(lines: Sequence[Line]) -> list[Line]:
    """Return the trained rows by learner and labels, each by size, the random subset last."""

    def place(line: Line) -> tuple[str, str, int, bool, str]:
        row = line.row
        return line.learner, row.labels or "", row.size or 0, row.id == RANDOM_SUBSET, row.name

    return sorted((line for line in lines if not line.row.is_policy), key=place)
