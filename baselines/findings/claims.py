"""What are the field's claims worth? The comparisons of records that speak to them, as a page.

python baselines/findings/claims.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pages import (
    compare,
    draw,
    mean_of,
    of_suite,
    publish,
    read_records,
    size_asked,
    task_name,
    way_to_expert,
)

from rlcondense.comparison.columns import bracketed, seeds_text
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import Interval

Settings = Mapping[str, Any]

BALANCED = "random-balanced"
MAE, MSE = (
    {"batch_size": 15, "updates": 100, "loss": loss} for loss in ("softmax-mae", "softmax-mse")
)  # 100 updates of 15, as in Light et al.; the absolute error is their code's
# `student = "learner"` is stored as the settings that it stands for, a student's updates and more.
OWN, INSIDE, INSIDE_FRAMES = ({"inner_steps": updates} for updates in (100, 30, 800))
LEARNED, TAUGHT = ({"labels": kind, "density_weight": None} for kind in ("learned", "taught"))
STARPILOT = ("starpilot-light2024",)
SAMPLE, GREEDY = ({"action_selection": how} for how in ("sample", "greedy"))


@dataclass(frozen=True)
class Comparison:
    """A comparison of two rows that speaks for or against a claim.

    Attributes:
        paper: the claim's.
        text: what is compared, in words.
        suite: whose records have it, on each of its tasks that has both rows.
        method: id of the row that the claim praises.
        control: id of the row beside it, with the same labels.
        size: the budget of both in rows; all the data have none.
        settings: of the method, in which its row differs from others of the id.
        control_settings: of the control.
        learner: settings of the students.
        tasks: aliases; all of the suite if empty.
    """

    paper: str
    text: str
    suite: str
    method: str
    control: str
    size: int
    settings: Settings = field(default_factory=dict)
    control_settings: Settings = field(default_factory=dict)
    learner: Settings = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def _light(text: str, suite: str, method: str, control: str, **more: Any) -> Comparison:
    return Comparison("Light et al.", text, suite, method, control, 150, **more)


def _light_beside_others(suite: str, how: str = "") -> Iterator[Comparison]:
    for others, control in (("all the data", "full"), ("random ones", RANDOM_SUBSET)):
        text = f"150 made frames beside {others}{how}"
        yield _light(text, suite, "gradmatch-light2024", control, learner=MSE)


def _balance(suite: str, students: Settings, how: str, **more: Any) -> Comparison:
    text = f"balanced frames beside random ones, {how}"
    return _light(text, suite, BALANCED, RANDOM_SUBSET, learner=students, **more)


def _to_other(students: str, **learner: Any) -> Comparison:
    text = f"the pairs teach others: {students}"
    suite, method = "hades-transfer", "hades-r"
    return Comparison("HaDES", text, suite, method, RANDOM_SUBSET, 4, learner=learner)


def _made(suite: str, size: int, settings: Settings, how: str = "", **more: Any) -> Comparison:
    text = f"{size} rows by PBC beside random ones{how}"
    return Comparison("OBD", text, suite, "pbc", RANDOM_SUBSET, size, settings, **more)


def _in_order(suite: str, size: int, both: Settings, how: str = "") -> Iterator[Comparison]:
    for better, worse in (("PBC", "DBC"), ("Av-PBC", "PBC")):
        text = f"{size} rows by {better} beside {worse}{how}"
        methods = better.lower(), worse.lower()
        yield Comparison("OBD", text, suite, *methods, size, both, both)


def _sdr(suite: str, size: int) -> Comparison:
    text = f"{size} rows beside random ones"
    return Comparison("SDR", text, suite, "sdr", RANDOM_SUBSET, size)


COMPARISONS = (
    _balance("light2024", MSE, "squared error"),
    *_light_beside_others("light2024"),
    *_light_beside_others("light2024-weak", ", weak experts"),
    _balance("light2024-questions", MSE, "squared error, weak experts", tasks=STARPILOT),
    _balance("light2024-weak", MAE, "absolute error, weak experts", tasks=STARPILOT),
    Comparison("HaDES", "four evolved pairs beside random ones", "hades-sizes",
               "hades-r", RANDOM_SUBSET, 4),
    _to_other("256 units", width=256),
    _to_other("four layers", depth=4),
    _to_other("relu", activation="relu"),
    _to_other("a tenth of the rate", learning_rate=0.002),
    _made("four-pairs", 4, OWN),
    _made("four-pairs", 4, INSIDE, ", the student inside"),
    *(_made("cartpole-sizes", size, LEARNED) for size in (15, 150, 1500)),
    *(_made("cartpole-sizes", size, TAUGHT, ", a teacher's labels") for size in (15, 150, 1500)),
    _made("what-teaches", 15, OWN, learner=SAMPLE),
    _made("what-teaches", 15, OWN, ", greedy students", learner=GREEDY),
    _made("what-teaches", 15, INSIDE_FRAMES, ", the student inside", learner=SAMPLE),
    _made("few-frames", 15, OWN),
    _made("few-frames", 50, OWN),
    _made("what-teaches", 150, OWN),
    _made("what-teaches", 150, INSIDE_FRAMES, ", the student inside"),
    _made("procgen-plain", 150, OWN),
    *_in_order("four-pairs", 4, OWN),
    *_in_order("four-pairs", 4, INSIDE, ", the student inside"),
    *(one for size in (15, 150, 1500) for one in _in_order("cartpole-sizes", size, LEARNED)),
    _sdr("four-pairs", 4),
    *(_sdr("cartpole-sizes", size) for size in (15, 150, 1500)),
    _sdr("procgen-plain", 150),
    Comparison("ReDOR", "4 rows by the policy's gradients beside random ones", "four-pairs",
               "gradient-omp", RANDOM_SUBSET, 4),
    Comparison("RL-to-SL", "two pairs by PBC beside random ones, a step of 4", "two-pairs",
               "pbc", RANDOM_SUBSET, 2, learner={"learning_rate": 4.0}),
    Comparison("RL-to-SL", "two pairs and their step beside random ones and a usual step",
               "two-pairs", "ppmo", RANDOM_SUBSET, 2),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A comparison on one task and with one student.

    Attributes:
        asked: what is compared.
        group: the rows of the task and the student.
        row: that the claim praises.
        control: the row beside it.
        result: of both, on held-out levels.
    """

    asked: Comparison
    group: Group
    row: Row
    control: Row
    result: FloorComparison

    @property
    def task(self) -> str:
        """The task's alias."""
        return task_name(self.group.task)

    @property
    def share(self) -> Interval | None:
        """The difference as a share of the way from the random policy to the expert."""
        way = way_to_expert(self.group)
        return self.result.difference.scaled(1 / way) if way else None


def read_outcomes(folder: Path) -> list[Outcome]:
    """Read what the records say to each comparison, in their order and by task."""
    records = read_records(folder)
    suites = {name: of_suite(records, name) for name in {asked.suite for asked in COMPARISONS}}
    return [one for asked in COMPARISONS for one in outcomes(asked, *suites[asked.suite])]


def outcomes(
    asked: Comparison, groups: Iterable[Group], records: Mapping[str, Record]
) -> Iterator[Outcome]:
    """Yield what a comparison comes to on each task and with each student that have both rows."""
    for group in sorted(groups, key=lambda group: group.task):
        if asked.tasks and task_name(group.task) not in asked.tasks:
            continue
        if not _has(group.learner["config"], asked.learner):
            continue
        for row in _rows(group, asked.method, asked.size, asked.settings):
            for control in _rows(group, asked.control, asked.size, asked.control_settings):
                if control.id in WHOLE or control.labels == row.labels:
                    yield Outcome(asked, group, row, control, compare(row, control, records))


def _rows(group: Group, name: str, size: int, settings: Mapping[str, Any]) -> list[Row]:
    return [
        row
        for row in group.of_id(name)
        if row.status == "done"
        and (name in WHOLE or size_asked(row) == size)
        and _has(row.method["config"], settings)
    ]


def _has(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(config.get(key) == value for key, value in settings.items())


def page(found: Sequence[Outcome]) -> str:
    """Format the comparisons behind the verdicts."""
    lines = [
        [
            one.asked.paper,
            one.asked.text,
            one.task,
            seeds_text(one.row),
            bracketed(mean_of(one.row, "heldout")),
            bracketed(mean_of(one.control, "heldout")),
            bracketed(one.result.difference, "{:+.2f}"),
            one.row.unjudged or VERDICTS[one.result.verdict],
        ]
        for one in found
    ]
    headers = ["paper", "comparison", "task", "sets x students", "its rows", "the others"]
    return markdown_table([*headers, "difference", "verdict"], lines)


def picture(found: Sequence[Outcome]) -> str:
    """Draw the differences, as shares of the way from the random policy to the expert."""
    label = "difference, as a share of the way from the random policy to the expert"
    bars = [(_named(one), one.share) for one in found if one.share]
    return draw(bars, label)


def _named(one: Outcome) -> str:
    parts = [one.asked.paper, one.asked.text, one.task, one.row.unjudged.split(":")[0]]
    return ", ".join(part for part in parts if part)


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_outcomes(Path(sys.argv[1]))
    publish("claims", page(found), picture(found))


if __name__ == "__main__":
    main()
