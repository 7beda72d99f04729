"""The rows of a comparison, computed once for all tables, pages and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense import catalogue
from rlcondense.datasets.labels import regime_of
from rlcondense.datasets.report import BudgetJson, DisplacementJson, FindingJson, MatchingLossJson
from rlcondense.findings import EXPLANATIONS, finding_name, reported_findings
from rlcondense.make import is_stochastic
from rlcondense.records.cell import budget_size, episodes_of
from rlcondense.records.record import (
    CellJson,
    EvaluationJson,
    LearnerJson,
    MethodJson,
    PluginJson,
    Record,
)
from rlcondense.references import (
    BLIND,
    BY_ID,
    EXPERT,
    FLOOR,
    FLOORS,
    MARGINAL,
    POLICIES,
    RANDOM_SUBSET,
    WHOLE,
)
from rlcondense.statistics.intervals import (
    STATISTICS,
    Interval,
    crossed_interval,
    difference_of,
    places_among,
    probability_of_improvement,
    recovery_of,
    student_returns,
)
from rlcondense.types import SPLITS

ScoreRange = Callable[[str], tuple[float, float] | None]
Returns = dict[str, npt.NDArray[np.float64]]
NOBODY: LearnerJson = {"id": "none", "config": {}}  # the learner of groups of policies
UNMARKED = tuple(BY_ID)
# With one set the interval covers only its students, and another set may give any result: four
# pairs by dbc gained +132 [+96, +168] with one set and -16 [-453, +422] with three.
LEAST_SETS = 2  # condensation seeds of a stochastic method that a verdict needs
LEAST_STUDENTS = 2  # learner seeds, likewise
VERDICTS = {
    "above": "above",
    "level": "level with",
    "below": "below",
    "unknown": "not judged against",
}


@dataclass(frozen=True)
class FloorComparison:
    """The comparison of a row with one of the rows that it should beat, on held-out levels.

    Attributes:
        floor: `random-policy`, `marginal-policy` (or the constant policy, if there is one and it
            returns more) or `random`, the subset of its size and labels.
        difference: of the returns; see `rlcondense.statistics.intervals.difference`.
        probability: that a set (or student, if either has one set) returns more than the floor's.
        judged: whether both rows have the sets and the students that a verdict needs.
        id: of the row that replaces the floor's own, if another one does.
        cells: ids of the floor's records.
    """

    floor: str
    difference: Interval
    probability: Interval
    judged: bool = True
    id: str = ""
    cells: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict: `above` or `below` if the difference's interval excludes zero; else `level`.

        It is `unknown` without judgement, without an interval, or if the interval has no width and
        its value is not zero.
        """
        interval = self.difference
        if not self.judged or not interval.known or (interval.estimate and not interval.spread):
            return "unknown"
        if self.difference.above_zero:
            return "above"
        return "below" if self.difference.below_zero else "level"


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with a budget, over its condensation seeds.

    Attributes:
        name: the method's id, with the settings in which those of one id differ.
        method: its id and config.
        budget: as asked for; None for policies.
        status: `done`, or the status of the first record that is not done, or `missing`.
        reason: of anything but `done`.
        cells: ids of the records, one for each condensation seed.
        size: transitions kept, on average over sets of different sizes.
        sizes: of each set; empty for policies.
        labels: the labels that the learner used, `hard`, `soft`, `continuous` or `taught`.
        condensation_seeds: how many.
        draws: whether another condensation seed gives another set.
        learner_seeds: how many.
        episodes: of each student on each split.
        returns: by split and statistic; statistics are of a student's episodes.
        normalised: held-out mean as (R - r_min) / (r_max - r_min).
        recovery: held-out mean as (R - random policy) / (expert - random policy).
        recovery_end: 1 of the expert and 0 of the random policy that recovery is measured between,
            if the expert is known to be above.
        gain: held-out mean minus the random subset's of the same size and labels.
        gap: seen minus held-out mean.
        against: the comparisons with the floors that have records.
        rank: best and worst possible place among the trained rows, by paired differences between
            judged rows; None for a row that is not judged.
        cost: `condense_seconds`, `train_seconds`, `gradient_evaluations`, `environment_steps`,
            `bytes`, `device`; means over condensation seeds.
        displacement: of synthetic observations, of the first condensation seed.
        matching_loss: likewise.
        findings: of the detectors, each from the first condensation seed that has it.
        plugins: the plugins that took part.
    """

    name: str
    method: MethodJson
    budget: BudgetJson | None
    status: str
    reason: str
    cells: tuple[str, ...]
    size: int | None = None
    sizes: tuple[int, ...] = ()
    labels: str | None = None
    condensation_seeds: int = 1
    draws: bool = False
    learner_seeds: int = 1
    episodes: int = 0
    returns: Mapping[str, Mapping[str, Interval]] | None = None
    normalised: Interval | None = None
    recovery: Interval | None = None
    recovery_end: int | None = None
    gain: Interval | None = None
    gap: Interval | None = None
    against: tuple[FloorComparison, ...] = ()
    rank: tuple[int, int] | None = None
    cost: Mapping[str, Any] | None = None
    displacement: DisplacementJson | None = None
    matching_loss: MatchingLossJson | None = None
    findings: tuple[FindingJson, ...] = ()
    plugins: tuple[PluginJson, ...] = ()

    @property
    def id(self) -> str:
        """The method's id."""
        return self.method["id"]

    @property
    def is_policy(self) -> bool:
        """True for policies that were not trained here: reference policies and foreign ones."""
        return self.budget is None

    @property
    def unjudged(self) -> str:
        """The reason why it has no verdict, such as `one set: not judged`; empty if it has one."""
        return reason_unjudged(self.draws, self.condensation_seeds, self.learner_seeds)

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict against each floor that it should beat; `unknown` without a record of it."""
        if self.status != "done" or self.id in (EXPERT, FLOOR):
            return {}
        by_floor = {a.floor: a.verdict for a in self.against}
        needed = 1 if self.id in BLIND else 3
        if self.is_policy or self.id in UNMARKED:
            needed = min(needed, 2)
        return {floor: by_floor.get(floor, "unknown") for floor in FLOORS[:needed]}

    @property
    def mark(self) -> str:
        """The mark: `!` if it is not above one of its floors, `?` if that is not judged."""
        verdicts = [] if self.id in POLICIES else list(self.verdicts.values())
        if "level" in verdicts or "below" in verdicts:
            return "!"
        return "?" if "unknown" in verdicts else ""

    @property
    def marks(self) -> str:
        """The marks after its name: the mark, and in brackets the findings of detectors."""
        return " ".join(filter(None, [self.mark, found_mark(self.findings)]))

    @property
    def conditional(self) -> bool:
        """True if its intervals are those of a single condensed dataset."""
        return not self.is_policy and self.id not in WHOLE and self.condensation_seeds == 1

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        out = {name: plain(value) for name, value in vars(self).items()}
        out["mark"], out["unjudged"] = self.mark, self.unjudged
        out["against"] = {
            a.floor: {
                "verdict": a.verdict,
                "difference": a.difference.to_json(),
                "probability": a.probability.to_json(),
            }
            for a in self.against
        }
        return out


def reason_unjudged(draws: bool, sets: int, students: int) -> str:
    """Return the reason why students of a method have no verdict, or an empty text.

    Args:
        draws: whether another condensation seed gives another set.
        sets: number of condensation seeds.
        students: number of learner seeds.
    """
    if draws and sets < LEAST_SETS:
        return "one set: not judged"
    return "one learner seed: not judged" if students < LEAST_STUDENTS else ""


def findings_of(records: Iterable[Record]) -> tuple[FindingJson, ...]:
    """Return the findings of detectors on the data behind records, in the detectors' order.

    For a record that is older than the detectors, they are derived from its own figures.
    """
    by_name: dict[str, FindingJson] = {}
    for record in records:
        report = record.get("report", {})
        reported = report.get("findings")
        if reported is None:
            figures = reported_findings(report.get("displacement"), report.get("matching_loss"))
            reported = [finding.to_json() for finding in figures]
        for finding in (*reported, *record.get("findings", ())):
            by_name.setdefault(finding["name"], finding)
    known = [name for name in EXPLANATIONS if name in by_name]
    return tuple(by_name[name] for name in dict.fromkeys([*known, *by_name]))


def found_mark(findings: Sequence[FindingJson]) -> str:
    """Return the mark of a row with findings, such as `[moved nothing]`."""
    names = ", ".join(finding_name(finding["name"]) for finding in findings)
    return f"[{names}]" if names else ""


def explanations(rows: Iterable[Row]) -> list[str]:
    """Return a line for each detector whose mark the rows have."""
    marked = {finding["name"] for row in rows for finding in row.findings}
    known = [name for name in EXPLANATIONS if name in marked]
    other = sorted(marked.difference(EXPLANATIONS))
    return [
        f"[{finding_name(name)}]: {EXPLANATIONS.get(name, 'as its records say')}."
        for name in (*known, *other)
    ]


def plain(value: Any) -> Any:
    """Convert a value of a row to plain JSON values."""
    if isinstance(value, Interval):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Group:
    """Comparable rows: one task, dataset, learner and protocol.

    Attributes:
        task: id.
        dataset: id.
        learner: its id and config; `NOBODY` if there are only policies.
        evaluation: the protocol.
        learner_seeds: how many.
        action_selection: of the students, `sample` or `greedy`; None if no row is done.
        rows: the expert, all the data, the methods by size, the blind policies.
    """

    task: str
    dataset: str
    learner: LearnerJson
    evaluation: EvaluationJson
    learner_seeds: int
    action_selection: str | None
    rows: tuple[Row, ...]

    @property
    def episodes(self) -> int:
        """The number of episodes of each student on each split."""
        return episodes_of(self.evaluation)

    @property
    def begun(self) -> bool:
        """True if a trained row has a record; in a group of policies alone, if any row has one."""
        trained = [row for row in self.rows if not row.is_policy]
        return any(row.status != "missing" for row in trained or self.rows)

    def find(self, name: str) -> Row | None:
        """Return the row of a reference policy, or of all the data, if it is done."""
        return next((row for row in self.of_id(name) if row.status == "done"), None)

    def of_id(self, name: str) -> Sequence[Row]:
        """Return the rows of a method or reference."""
        return self._by_id.get(name, ())

    @cached_property
    def _by_id(self) -> dict[str, list[Row]]:
        by_id: dict[str, list[Row]] = {}
        for row in self.rows:
            by_id.setdefault(row.id, []).append(row)
        return by_id

    def to_json(self) -> dict[str, Any]:
        """Return the group as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "rows": [row.to_json() for row in self.rows]}


def groups_of(
    records: Iterable[Record], score_range: ScoreRange = lambda task: None
) -> list[Group]:
    """Sort records into rows, and rows into comparable groups.

    Args:
        records: of any status, `missing` included, in any order.
        score_range: r_min and r_max of a task by its id, or None.
    """
    policies: dict[str, list[Record]] = {}
    learned: dict[str, list[Record]] = {}
    draws = cache(_draws)  # for this call only: the registry may change before the next
    for record in records:
        cell = record["cell"]
        place = _place_key(cell)
        if cell["learner"] is None:
            policies.setdefault(place, []).append(record)
        else:
            key = place + json.dumps(cell["learner"], sort_keys=True)
            learned.setdefault(key, []).append(record)
    groups = [
        _group(
            member_records,
            _beside(member_records, policies.get(_place_key(member_records[0]["cell"]), [])),
            score_range,
            draws,
        )
        for member_records in learned.values()
    ]
    taken = {_place_key(member_records[0]["cell"]) for member_records in learned.values()}
    lone = [policy_records for place, policy_records in policies.items() if place not in taken]
    return [*groups, *(_group([], policy_records, score_range, draws) for policy_records in lone)]


def draws_at_random(method: MethodJson) -> bool:
    """Return whether another condensation seed gives another set; True for unknown methods.

    Sets from folders count as drawn at random: nobody knows how many were made.
    """
    entry = catalogue.entries("methods").get(method["id"])
    return entry is None or is_stochastic(entry, method["config"])


def _draws(method: str) -> bool:
    return draws_at_random(json.loads(method))


def row_of(groups: Iterable[Group], record: Record) -> Row:
    """Return the row of a record."""
    cell = record["cell"]
    learner = cell["learner"]
    return next(
        row
        for group in groups
        if learner is None or learner == group.learner
        for row in group.rows
        if (row.method, row.budget) == (cell["method"], cell["budget"])
    )


def _beside(learned: Sequence[Record], policies: Sequence[Record]) -> list[Record]:
    """Return the reference policies of students: the constant one is for greedy students."""
    learner = learned[0]["cell"]["learner"] or NOBODY
    selection = learner["config"].get("action_selection")
    greedy = any("greedy" in (selection, record.get("action_selection")) for record in learned)
    return [p for p in policies if greedy or not _is_greedy_only(p)]


def _is_greedy_only(record: Record) -> bool:
    reference = BY_ID.get(record["cell"]["method"]["id"])
    return reference is not None and reference.greedy_only


def _place_key(cell: CellJson) -> str:
    """Return the key that a policy shares with the rows beside it."""
    parts = [cell["task"], cell["dataset"], cell["evaluation"], cell["learner_seeds"]]
    return json.dumps(parts, sort_keys=True)


def _group(
    learned: Sequence[Record],
    policies: Sequence[Record],
    score_range: ScoreRange,
    draws: Callable[[str], bool],
) -> Group:
    by_row: dict[str, dict[int, Record]] = {}
    for record in (*learned, *policies):
        cell = record["cell"]
        key = json.dumps([cell["method"], cell["budget"]], sort_keys=True)
        # The record of a set that is listed twice counts once.
        by_row.setdefault(key, {}).setdefault(int(cell["condensation_seed"]), record)
    ordered = [[row[seed] for seed in sorted(row)] for row in by_row.values()]
    ordered.sort(key=_order)
    names = names_of([row[0]["cell"]["method"] for row in ordered])
    drafts = [_Draft(name, row, draws) for name, row in zip(names, ordered, strict=True)]
    cell = (*learned, *policies)[0]["cell"]
    rivals = [draft for draft in drafts if draft.trained and draft.done]
    judged = [draft for draft in rivals if draft.judged]
    span = score_range(cell["task"])
    rows = [replace(_row(d, drafts, span), rank=_rank(d, judged, len(rivals))) for d in drafts]
    done = [record for record in learned or policies if record["status"] == "done"]
    return Group(
        task=cell["task"],
        dataset=cell["dataset"],
        learner=cell["learner"] or NOBODY,
        evaluation=cell["evaluation"],
        learner_seeds=len(cell["learner_seeds"]),
        action_selection=done[0]["action_selection"] if done else None,
        rows=tuple(rows),
    )


def _order(row: Sequence[Record]) -> tuple[Any, ...]:
    """Return a sort key: ceilings, then methods by size with random last, then floors."""
    cell = row[0]["cell"]
    name = cell["method"]["id"]
    place = BY_ID[name].place if name in BY_ID else 0
    settings = json.dumps(cell["method"]["config"], sort_keys=True)
    # The task's own expert is the ceiling, before one that somebody named.
    budget = json.dumps(cell["budget"], sort_keys=True)
    return (place, _size(row) or 0, name == RANDOM_SUBSET, name, settings != "{}", settings, budget)


def _sizes(row: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record["report"]["size"] for record in row if "report" in record)


def _size(row: Sequence[Record]) -> int | None:
    sizes = _sizes(row)
    return round(sum(sizes) / len(sizes)) if sizes else budget_size(row[0]["cell"]["budget"])


def names_of(parts: Sequence[MethodJson | LearnerJson]) -> list[str]:
    """Return the ids of methods or learners, with the settings in which those of one id differ."""
    values: dict[tuple[str, str], set[str]] = {}
    keys: dict[str, set[str]] = {}
    for part in parts:
        keys.setdefault(part["id"], set()).update(part["config"])
    for part in parts:
        for key in keys[part["id"]]:
            value = json.dumps(part["config"][key]) if key in part["config"] else ""
            values.setdefault((part["id"], key), set()).add(value)
    names = []
    for part in parts:
        settings = [f"{k}={v}" for k, v in part["config"].items() if len(values[part["id"], k]) > 1]
        names.append(part["id"] + (f" ({', '.join(settings)})" if settings else ""))
    return names


class _Draft:
    """A row before it is compared with the others."""

    def __init__(self, name: str, records: Sequence[Record], draws: Callable[[str], bool]) -> None:
        self.name, self.records = name, records
        self.cell = records[0]["cell"]
        self.undone = next((r for r in records if r["status"] != "done"), None)
        self.id = self.cell["method"]["id"]
        self.trained = self.cell["learner"] is not None
        self.size = _size(records)
        self.labels = regime_of(self.cell["method"]["config"], records[0].get("labels"))
        self.draws = self.trained and draws(json.dumps(self.cell["method"], sort_keys=True))
        self.returns: Returns = {}
        if self.undone is None:
            self.returns = {split: student_returns(records, split) for split in SPLITS}

    @property
    def done(self) -> bool:
        return self.undone is None

    @cached_property
    def seen(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.returns["seen"].mean(-1))

    @cached_property
    def heldout(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.returns["heldout"].mean(-1))

    @cached_property
    def frame(self) -> Row:
        """Return the row without any numbers."""
        cell = self.cell
        return Row(
            name=self.name,
            method=cell["method"],
            budget=cell["budget"],
            status="done" if self.undone is None else self.undone["status"],
            reason="" if self.undone is None else self.undone.get("reason", ""),
            cells=tuple(str(record.get("cell_id", "")) for record in self.records),
            size=self.size,
            sizes=_sizes(self.records),
            labels=self.labels,
            condensation_seeds=len(self.records),
            draws=self.draws,
            learner_seeds=len(cell["learner_seeds"]),
            episodes=episodes_of(cell["evaluation"]),
        )

    @property
    def judged(self) -> bool:
        """True if it has the sets and the students that a verdict needs."""
        return not self.frame.unjudged


def _row(draft: _Draft, others: Sequence[_Draft], span: tuple[float, float] | None) -> Row:
    records, frame = draft.records, draft.frame
    if draft.undone is not None:
        return frame
    floors = _floors(draft, others)
    against = tuple(
        FloorComparison(
            name,
            difference_of(draft.heldout, floor.heldout),
            probability_of_improvement(draft.heldout, floor.heldout),
            draft.judged and floor.judged,
            floor.id if floor.id != name else "",
            floor.frame.cells,
        )
        for name, floor in floors.items()
    )
    ceiling = _policy(EXPERT, others)
    bottom = _policy(FLOOR, others)
    heldout = crossed_interval(draft.heldout)
    share = end = None
    if ceiling is not None and bottom is not None:
        if draft not in (ceiling, bottom):
            share = recovery_of(draft.heldout, bottom.heldout, ceiling.heldout)
        elif difference_of(ceiling.heldout, bottom.heldout).above_zero:
            end = int(draft is ceiling)
    return replace(
        frame,
        returns={
            split: {
                name: crossed_interval(statistic(draft.returns[split]))
                for name, statistic in STATISTICS.items()
            }
            for split in SPLITS
        },
        normalised=_normalised(heldout, span),
        recovery=share,
        recovery_end=end,
        gain=next((a.difference for a in against if a.floor == RANDOM_SUBSET), None),
        gap=difference_of(draft.seen, draft.heldout),
        against=against,
        cost=_cost(records),
        displacement=records[0].get("report", {}).get("displacement"),
        matching_loss=records[0].get("report", {}).get("matching_loss"),
        findings=findings_of(records),
        plugins=tuple(records[0].get("plugins", ())),
    )


def _policy(name: str, others: Sequence[_Draft]) -> _Draft | None:
    return next((d for d in others if d.id == name and d.done and not d.trained), None)


def _floors(draft: _Draft, others: Sequence[_Draft]) -> dict[str, _Draft]:
    """Return the existing rows that a row should beat, by floor."""
    if draft.id in (EXPERT, FLOOR):
        return {}
    floors = {FLOOR: _policy(FLOOR, others)}
    # A greedy blind policy always takes one action, which may return more than sampling.
    blind = [policy for name in BLIND if (policy := _policy(name, others)) is not None]
    if blind and draft.id not in BLIND:
        floors[MARGINAL] = max(blind, key=lambda policy: float(policy.heldout.mean()))
    if draft.trained and draft.id not in (*WHOLE, RANDOM_SUBSET):
        floors[RANDOM_SUBSET] = _random_subset(draft, others)
    return {
        name: floor for name, floor in floors.items() if floor is not None and floor is not draft
    }


def _random_subset(draft: _Draft, others: Sequence[_Draft]) -> _Draft | None:
    """Return the random rows beside a row, as many as each of its sets has; None without them."""
    subsets = [d for d in others if d.id == RANDOM_SUBSET and d.done]
    if len({*draft.frame.sizes}) < 2 or _has_bytes(draft):
        return next((d for d in subsets if _alike(d, draft)), None)
    drawn = {
        (record["cell"]["condensation_seed"], record["report"]["size"]): record
        for subset in subsets
        if subset.labels == draft.labels and not _has_bytes(subset)
        for record in subset.records
    }
    own = [(r["cell"]["condensation_seed"], r["report"]["size"]) for r in draft.records]
    if not drawn.keys() >= {*own}:
        return None
    return _Draft(RANDOM_SUBSET, [drawn[one] for one in own], lambda _: True)


def _alike(a: _Draft, b: _Draft) -> bool:
    return (_amount(a), a.labels) == (_amount(b), b.labels)


def _amount(draft: _Draft) -> BudgetJson | int | None:
    """Return what a random subset has as much of: bytes, of a budget in bytes, or rows."""
    return draft.cell["budget"] if _has_bytes(draft) else draft.size


def _has_bytes(draft: _Draft) -> bool:
    return "bytes" in (draft.cell["budget"] or {})


def _rank(draft: _Draft, judged: Sequence[_Draft], rivals: int) -> tuple[int, int] | None:
    """Return the best and worst place of a row among the trained ones, by paired differences.

    Args:
        draft: the row; it has no place if it is not judged.
        judged: all trained rows that are.
        rivals: how many trained rows there are; one that is not judged may have any place.
    """
    if draft not in judged:
        return None
    own = draft.heldout
    others = [d.heldout for d in judged if d is not draft]
    counts = [
        places_among(own, np.stack([x for x in others if len(x) == sets]))
        for sets in sorted(set(map(len, others)))
    ]
    known = [places for places in counts if places is not None]
    if len(known) < len(counts):
        return None
    better, worse = (sum(places[k] for places in known) for k in (0, 1))
    return (1 + better, rivals - worse)


def _normalised(heldout: Interval, span: tuple[float, float] | None) -> Interval | None:
    if span is None:
        return None
    low, high = span
    if low >= high:
        return None
    return heldout.scaled(1 / (high - low), -low / (high - low))


def _cost(records: Sequence[Record]) -> dict[str, Any]:
    """Compute the costs of a row, averaged over its condensation seeds."""

    def seconds(phase: str) -> float | None:
        return mean(r["timings"][phase]["wall"] for r in records if phase in r.get("timings", {}))

    def mean(values: Iterable[object]) -> float | None:
        # The report of a part that is not built in may say anything, or nothing.
        numbers = [value for value in values if isinstance(value, float) or type(value) is int]
        return float(np.mean(numbers)) if numbers else None

    out: dict[str, Any] = {f"{p}_seconds": seconds(p) for p in ("condense", "train")}
    reports = [record["report"] for record in records if "cost" in record.get("report", {})]
    for name in ("gradient_evaluations", "environment_steps"):
        out[name] = mean(r["cost"].get(name) for r in reports)
    out["bytes"] = mean(r.get("bytes") for r in reports)
    out["device"] = records[0].get("environment", {}).get("device")
    return out
