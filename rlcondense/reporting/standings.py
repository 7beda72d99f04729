"""Methods beside each other on comparable tasks: scores, their mean over tasks, ranks with ties."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import unversioned
from rlcondense.comparison.rows import Group, Row, names_of
from rlcondense.records.cell import budget_text
from rlcondense.records.record import LearnerJson, MethodJson
from rlcondense.references import EXPERT, FLOOR, MARGINAL, WHOLE
from rlcondense.reporting.board import ReadRecord, returns_of, span_of
from rlcondense.statistics.intervals import (
    Interval,
    aggregate,
    difference_of,
    difference_over_tasks,
    recovery_of,
)
from rlcondense.types import SPLITS, Split

Array = npt.NDArray[np.float64]
Records = Mapping[str, ReadRecord]
FEWEST_EPISODES = 20  # of a student on a split; with fewer a row tries the machinery, not a method
MOST_ALONE = 8  # views of a single method
PROCGEN = {"easy": "Procgen", "plain": "Procgen, plain"}
FAMILIES = {
    "classic": "Classic control", "minatar": "MinAtar", "mujoco": "MuJoCo", "images": "Images",
}  # fmt: skip
BESIDE = (EXPERT, *WHOLE, MARGINAL, FLOOR)


@dataclass(frozen=True)
class Column:
    """A task with one dataset and protocol: a column of a view.

    Attributes:
        task: id.
        dataset: id.
        name: short name.
        groups: its groups, which played the same levels.
    """

    task: str
    dataset: str
    name: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Standing:
    """A method in a view.

    Attributes:
        id: of the method.
        name: the id, with the settings in which those of one id differ.
        rows: its row in each column, if it is done there.
        scores: the score of each.
        mean: over all columns; None if a column lacks the method.
        rank: one more than the number of methods that are shown to be better; None if its mean is
            not judged.
        places: best and worst place that the differences leave open.
        beats: names of the methods that it is shown to be better than.
    """

    id: str
    name: str
    rows: tuple[Row | None, ...]
    scores: tuple[Interval | None, ...]
    mean: Interval | None = None
    rank: int | None = None
    places: tuple[int, int] | None = None
    beats: frozenset[str] = frozenset()

    @property
    def detail(self) -> str:
        """The settings that distinguish it from methods of the same id."""
        return self.name.partition(" (")[2].removesuffix(")")

    @property
    def done(self) -> list[Row]:
        """Its rows that are done."""
        return [row for row in self.rows if row is not None]

    @property
    def cells(self) -> list[str]:
        """The records behind it, one for each column that has it."""
        return [row.cells[0] for row in self.done]

    def above(self, floor: str) -> tuple[int, int]:
        """Return on how many tasks it is above a floor, and on how many that is judged."""
        verdicts = [row.verdicts.get(floor, "unknown") for row in self.done]
        return verdicts.count("above"), len(verdicts) - verdicts.count("unknown")

    def spent(self, what: str) -> float | None:
        """Return a cost summed over columns; None if one of its rows lacks it."""
        costs = [(row.cost or {}).get(what) for row in self.done]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None


@dataclass(frozen=True)
class View:
    """Comparable rows of one kind of tasks, learner, size and label regime.

    Attributes:
        kind: of the tasks, such as `Procgen, plain`.
        learner: short name of the learner.
        budget: what was kept, such as `150`.
        labels: `hard`, `soft`, `continuous` or `taught`.
        columns: its tasks.
        standings: methods by split, best first, those that lack a task last.
        references: by split the expert, all the data and the policies that learn nothing.
        scale: of the scores: `recovery`, or `return` where a task has no known expert.
    """

    kind: str
    learner: str
    budget: str
    labels: str
    columns: tuple[Column, ...]
    standings: Mapping[Split, tuple[Standing, ...]]
    references: Mapping[Split, tuple[Standing, ...]]
    scale: str

    @property
    def title(self) -> str:
        """A line that names it."""
        return f"{self.kind}, {self.size}, {self.labels} labels, {self.learner}"

    @property
    def size(self) -> str:
        """What was kept, in words."""
        if not self.budget.isdigit():
            return self.budget
        return f"{int(self.budget):,} transition{'s' if self.budget != '1' else ''}"

    @property
    def worth(self) -> tuple[bool, int, int]:
        """How much it tells: whether it compares methods, judged rows, then rows."""
        rows = [row for standing in self.standings["heldout"] for row in standing.done]
        several = len(self.standings["heldout"]) > 1
        return several, sum(not row.unjudged for row in rows), len(rows)

    @property
    def form(self) -> str:
        """The format of its scores."""
        return "{:.0%}" if self.scale == "recovery" else "{:.2f}"


def kind_of(task: str) -> tuple[str, str]:
    """Return the kind of a task and its short name within the kind."""
    family, _, name = task.rpartition("/")
    name = unversioned(name)
    if family == "procgen" and "-" in name:
        game, _, variant = name.partition("-")
        return PROCGEN.get(variant, f"Procgen, {variant}"), game
    return FAMILIES.get(family, family or "other"), name


def views_of(groups: Sequence[Group], records: Records) -> list[View]:
    """Return the views of groups, those that tell the most first.

    Of those of a single method, which compare nothing, the ones with the most rows.

    Args:
        groups: all groups of a board.
        records: by cell id.
    """
    names = _learner_labels(groups)
    places: dict[tuple[str, ...], list[tuple[Group, Row]]] = {}
    for group in groups:
        if group.episodes < FEWEST_EPISODES:
            continue
        learner, kind = names[_learner_key(group)], kind_of(group.task)[0]
        for row in group.rows:
            if row.returns is not None and row.budget is not None and row.id not in WHOLE:
                key = (kind, learner, budget_text(row.budget), row.labels or "")
                places.setdefault(key, []).append((group, row))
    several = [key for key, rows in places.items() if len({row.id for _, row in rows}) > 1]
    alone = sorted(places.keys() - set(several), key=lambda key: (-len(places[key]), key))
    views = [_view(key, places[key], records) for key in (*several, *alone[:MOST_ALONE])]
    return sorted(views, key=lambda view: (*(-n for n in view.worth), view.title))


def _learner_key(group: Group) -> str:
    return json.dumps(group.learner, sort_keys=True)


def _learner_labels(groups: Sequence[Group]) -> dict[str, str]:
    """Return a short name of each learner, by its whole settings.

    Of those with one name, the one with the most rows keeps it; the others add the settings in
    which they differ from it.
    """
    rows: dict[str, int] = {}
    learners = {_learner_key(group): group.learner for group in groups}
    for group in groups:
        key = _learner_key(group)
        rows[key] = rows.get(key, 0) + sum(row.returns is not None for row in group.rows)
    usual: dict[str, LearnerJson] = {}
    labels = {}
    for key in sorted(learners, key=lambda key: (-rows[key], key)):
        name, config = _learner_label(learners[key]), learners[key]["config"]
        first = usual.setdefault(name, learners[key])["config"]
        others = [k for k in sorted({*config, *first}) if config.get(k) != first.get(k)]
        settings = [f"{k}={json.dumps(config.get(k))}".replace('"', "") for k in others]
        labels[key] = ", ".join([name, *settings])
    return labels


def _learner_label(learner: LearnerJson) -> str:
    config = learner["config"]
    words = [str(config[name]) for name in ("network",) if config.get(name)]
    words += [f"{config['updates']} updates"] if config.get("updates") else []
    return " ".join([learner["id"], *words])


def _view(key: tuple[str, ...], rows: Sequence[tuple[Group, Row]], records: Records) -> View:
    columns = _columns(rows)
    shown = {id(group) for column in columns for group in column.groups}
    methods = _methods([(group, row) for group, row in rows if id(group) in shown], columns)
    ends = [(_reference(c, FLOOR, ""), _reference(c, EXPERT, "")) for c in columns]
    spans = {split: [span_of(*pair, records, split) for pair in ends] for split in SPLITS}
    known = all(span is not None for split in SPLITS for span in spans[split])
    kind, learner, budget, labels = key
    standings, references = {}, {}
    for split in SPLITS:
        table = _Table(columns, records, split, spans[split] if known else None)
        standings[split] = tuple(table.ranked(methods))
        references[split] = tuple(table.scored(_references(columns, labels)))
    scale = "recovery" if known else "return"
    return View(kind, learner, budget, labels, tuple(columns), standings, references, scale)


def _columns(rows: Sequence[tuple[Group, Row]]) -> list[Column]:
    """Return a column for each task and dataset, of the protocol that most of its rows have."""
    places: dict[tuple[str, str], dict[str, list[Group]]] = {}
    for group, _ in rows:
        evaluation = json.dumps(group.evaluation, sort_keys=True)
        by_protocol = places.setdefault((group.task, group.dataset), {})
        by_protocol.setdefault(evaluation, []).append(group)
    datasets: dict[str, int] = {}
    for task, _ in places:
        datasets[task] = datasets.get(task, 0) + 1
    columns = []
    for (task, dataset), by_protocol in sorted(places.items()):
        most = max(by_protocol.values(), key=lambda groups: (len(groups), groups[0].episodes))
        name = kind_of(task)[1]
        if datasets[task] > 1:
            name += f" ({dataset.rpartition('/')[2]})"
        groups = {id(group): group for group in most}
        columns.append(Column(task, dataset, name, tuple(groups.values())))
    return columns


def _methods(
    rows: Sequence[tuple[Group, Row]], columns: Sequence[Column]
) -> list[tuple[str, str, tuple[Row | None, ...]]]:
    """Return the id and name of each method, and its row in each column.

    Settings may differ between tasks, as in a paper, if each task has only one row of the method.
    """
    settings: dict[str, dict[tuple[str, str], set[str]]] = {}
    for group, row in rows:
        place = settings.setdefault(row.id, {}).setdefault((group.task, group.dataset), set())
        place.add(json.dumps(row.method, sort_keys=True))
    apart = {name for name, of in settings.items() if any(len(s) > 1 for s in of.values())}
    by_key: dict[str, list[tuple[Group, Row]]] = {}
    for group, row in rows:
        key = json.dumps(row.method, sort_keys=True) if row.id in apart else row.id
        by_key.setdefault(key, []).append((group, row))
    firsts = [of[0][1].method for of in by_key.values()]
    plain: list[MethodJson] = [
        m if m["id"] in apart else {"id": m["id"], "config": {}} for m in firsts
    ]
    names = names_of(plain)
    return [
        (of[0][1].id, name, tuple(_best(of, column) for column in columns))
        for name, of in zip(names, by_key.values(), strict=True)
    ]


def _best(rows: Iterable[tuple[Group, Row]], column: Column) -> Row | None:
    """Return the row of a column with the most seeds, judged rows first."""
    own = {id(group) for group in column.groups}
    here = [row for group, row in rows if id(group) in own]

    def seeds(row: Row) -> tuple[bool, int]:
        return not row.unjudged, row.condensation_seeds * row.learner_seeds

    return max(here, key=seeds, default=None)


def _references(
    columns: Sequence[Column], labels: str
) -> list[tuple[str, str, tuple[Row | None, ...]]]:
    out = []
    for name in BESIDE:
        rows = tuple(_reference(column, name, labels) for column in columns)
        if any(rows):
            out.append((name, name, rows))
    return out


def _reference(column: Column, name: str, labels: str) -> Row | None:
    rows = [row for group in column.groups for row in group.of_id(name)]
    done = [row for row in rows if row.returns is not None and row.labels in (None, labels)]
    return max(done, key=lambda row: row.learner_seeds, default=None)


class _Table:
    """The scores of one split of a view."""

    def __init__(
        self,
        columns: Sequence[Column],
        records: Records,
        split: Split,
        spans: Sequence[tuple[float, float] | None] | None,
    ) -> None:
        self.columns, self.records, self.split = columns, records, split
        self.spans = [span or (0.0, 1.0) for span in spans or [None] * len(columns)]
        self.recovers, self.is_of_one_task = spans is not None, len(columns) == 1

    def scored(self, methods: Iterable[tuple[str, str, tuple[Row | None, ...]]]) -> list[Standing]:
        """Return methods with their scores and the mean of those on all tasks."""
        return [self._scored(*method) for method in methods]

    def _scored(self, id_: str, name: str, rows: tuple[Row | None, ...]) -> Standing:
        scores = tuple(
            None if row is None else self._score(row, column)
            for row, column in zip(rows, self.columns, strict=True)
        )
        standing = Standing(id_, name, rows, scores)
        if self.is_of_one_task and scores[0] is not None:
            return replace(standing, mean=scores[0])
        if self.recovers and None not in rows:
            standing = replace(standing, mean=aggregate(self._scaled(standing), "mean"))
        return standing

    def _score(self, row: Row, column: Column) -> Interval | None:
        assert row.returns is not None
        if not self.recovers:
            return row.returns[self.split]["mean"]
        ends = [_reference(column, name, "") for name in (FLOOR, EXPERT)]
        if row.id in (FLOOR, EXPERT) or None in ends:
            return None
        low, high = (returns_of(end, self.records, self.split).mean(-1) for end in ends if end)
        return recovery_of(returns_of(row, self.records, self.split).mean(-1), low, high)

    def _scaled(self, standing: Standing) -> list[Array]:
        """Return `(sets, students, levels)` scores of each task."""
        return [
            (returns_of(row, self.records, self.split) - low) / (high - low)
            for row, (low, high) in zip(standing.rows, self.spans, strict=True)
            if row is not None
        ]

    def _difference(self, x: Sequence[Array], y: Sequence[Array]) -> Interval:
        """Compute how far one method's scaled scores are above another's; see `_scaled`.

        On one task it is the difference of their rows, which holds for the levels that both played;
        over tasks levels count as drawn.
        """
        if self.is_of_one_task:
            return difference_of(x[0].mean(-1), y[0].mean(-1))
        return difference_over_tasks(x, y)

    def ranked(self, methods: Iterable[tuple[str, str, tuple[Row | None, ...]]]) -> list[Standing]:
        """Return methods with ranks, best first; those that lack a task are last."""
        standings = self.scored(methods)
        standings.sort(key=lambda s: (s.mean is None, -s.mean.estimate if s.mean else 0, s.name))
        judged = [s for s in standings if s.mean and not any(row.unjudged for row in s.done)]
        scaled = [self._scaled(standing) for standing in judged]
        better = np.zeros((len(judged), len(judged)), bool)
        for i in range(len(judged)):
            for k in range(i + 1, len(judged)):
                difference = self._difference(scaled[i], scaled[k])
                better[i, k], better[k, i] = difference.above_zero, difference.below_zero
        whole = sum(s.mean is not None for s in standings)
        ranked = {}
        for i, standing in enumerate(judged):
            beats = frozenset(other.name for k, other in enumerate(judged) if better[i, k])
            places = (1 + int(better[:, i].sum()), whole - len(beats))
            ranked[id(standing)] = replace(standing, rank=places[0], places=places, beats=beats)
        return [ranked.get(id(standing), standing) for standing in standings]
