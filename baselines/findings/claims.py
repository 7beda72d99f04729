"""What are the field's claims worth? The comparisons of records that speak to them, as a page.

python baselines/findings/claims.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pages import compare, draw, mean_of, of_suite, publish, read_records, size_asked, task_name

from rlcondense.comparison.columns import bracketed, seeds_text
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row
from rlcondense.records.record import Record
from rlcondense.references import EXPERT, FLOOR, RANDOM_SUBSET, WHOLE
from rlcondense.reporting.formats import markdown_table

BALANCED = "random-balanced"
OWN, INSIDE, INSIDE_FRAMES = (
    {"inner_steps": steps} for steps in (100, 30, 800)
)  # of PBC's students
SAMPLE, GREEDY = ({"action_selection": how} for how in ("sample", "greedy"))
LIGHT_STUDENTS = {"batch_size": 15, "updates": 100, "loss": "softmax-mse"}


@dataclass(frozen=True)
class Test:
    """One comparison that speaks for or against a claim.

    Attributes:
        paper: the claim's.
        claim: what is compared, in words.
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
    claim: str
    suite: str
    method: str
    control: str
    size: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    control_settings: Mapping[str, Any] = field(default_factory=dict)
    learner: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def _of_four(
    paper: str, claim: str, method: str, control: str, both: Mapping[str, Any] | None = None
) -> Test:
    return Test(paper, claim, "four-pairs", method, control, 4, both or {}, both or {})


def _to_other(students: str, **learner: Any) -> Test:
    claim = f"the pairs teach others: {students}"
    return Test("HaDES", claim, "hades-transfer", "hades-r", RANDOM_SUBSET, 4, learner=learner)


TESTS = (
    Test("Light et al.", "150 made frames beside all the data", "light2024",
         "gradmatch-light2024", "full", 150, learner=LIGHT_STUDENTS),
    Test("Light et al.", "150 made frames beside random ones", "light2024",
         "gradmatch-light2024", RANDOM_SUBSET, 150, learner=LIGHT_STUDENTS),
    Test("Light et al.", "balanced frames beside random ones", "light2024-questions",
         BALANCED, RANDOM_SUBSET, 150, learner=LIGHT_STUDENTS, tasks=("starpilot-light2024",)),
    Test("HaDES", "four evolved pairs beside random ones", "hades-sizes",
         "hades-r", RANDOM_SUBSET, 4),
    _to_other("256 units", width=256),
    _to_other("four layers", depth=4),
    _to_other("relu", activation="relu"),
    _to_other("a tenth of the rate", learning_rate=0.002),
    Test("OBD", "15 frames by PBC beside random ones", "what-teaches",
         "pbc", RANDOM_SUBSET, 15, settings=OWN, learner=SAMPLE),
    Test("OBD", "15 frames by PBC beside random ones, greedy students", "what-teaches",
         "pbc", RANDOM_SUBSET, 15, settings=OWN, learner=GREEDY),
    Test("OBD", "15 frames by PBC beside random ones, the student inside", "what-teaches",
         "pbc", RANDOM_SUBSET, 15, settings=INSIDE_FRAMES, learner=SAMPLE),
    Test("OBD", "15 frames by PBC beside random ones", "few-frames", "pbc", RANDOM_SUBSET, 15),
    Test("OBD", "150 frames by PBC beside random ones", "what-teaches",
         "pbc", RANDOM_SUBSET, 150, settings=OWN),
    Test("OBD", "150 frames by PBC beside random ones, the student inside", "what-teaches",
         "pbc", RANDOM_SUBSET, 150, settings=INSIDE_FRAMES),
    Test("OBD", "150 frames by PBC beside random ones", "procgen-plain",
         "pbc", RANDOM_SUBSET, 150),
    _of_four("OBD", "PBC beside DBC", "pbc", "dbc", OWN),
    _of_four("OBD", "Av-PBC beside PBC", "av-pbc", "pbc", OWN),
    _of_four("OBD", "PBC beside DBC, the student inside", "pbc", "dbc", INSIDE),
    _of_four("OBD", "Av-PBC beside PBC, the student inside", "av-pbc", "pbc", INSIDE),
    _of_four("SDR", "four pairs beside random ones", "sdr", RANDOM_SUBSET),
    _of_four("ReDOR", "four pairs by the policy's gradients beside random ones",
             "gradient-omp", RANDOM_SUBSET),
    Test("RL-to-SL", "two pairs beside random ones", "two-pairs", "ppmo", RANDOM_SUBSET, 2),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A comparison on one task and with one student.

    Attributes:
        test: what is compared.
        group: the rows of the task and the student.
        row: that the claim praises.
        control: the row beside it.
        comparison: of both, on held-out levels.
    """

    test: Test
    group: Group
    row: Row
    control: Row
    comparison: FloorComparison

    @property
    def task(self) -> str:
        """The task's alias."""
        return task_name(self.group.task)

    @property
    def span(self) -> float:
        """The way from the random policy's return to the expert's."""
        ends = [self.group.find(name) for name in (EXPERT, FLOOR)]
        returns = [mean_of(row, "heldout").estimate for row in ends if row is not None]
        return returns[0] - returns[1]


def read_outcomes(folder: Path) -> list[Outcome]:
    """Read what the records say to each test, in the order of the tests and by task."""
    records = read_records(folder)
    suites = {suite: of_suite(records, suite) for suite in {test.suite for test in TESTS}}
    return [one for test in TESTS for one in outcomes(test, *suites[test.suite])]


def outcomes(
    test: Test, groups: Iterable[Group], records: Mapping[str, Record]
) -> Iterator[Outcome]:
    """Yield what a test comes to on each task and with each student that have both rows."""
    for group in sorted(groups, key=lambda group: group.task):
        if test.tasks and task_name(group.task) not in test.tasks:
            continue
        if not _has(group.learner["config"], test.learner):
            continue
        for row in _rows(group, test.method, test.size, test.settings):
            for control in _rows(group, test.control, test.size, test.control_settings):
                if control.id in WHOLE or control.labels == row.labels:
                    yield Outcome(test, group, row, control, compare(row, control, records))


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
            one.test.paper,
            one.test.claim,
            one.task,
            seeds_text(one.row),
            bracketed(mean_of(one.row, "heldout")),
            bracketed(mean_of(one.control, "heldout")),
            bracketed(one.comparison.difference, "{:+.2f}"),
            one.row.unjudged or VERDICTS[one.comparison.verdict],
        ]
        for one in found
    ]
    headers = ["paper", "comparison", "task", "sets x students", "its rows", "the others"]
    return markdown_table([*headers, "difference", "verdict"], lines)


def picture(found: Sequence[Outcome]) -> str:
    """Draw the differences, as shares of the way from the random policy to the expert."""
    label = "difference, as a share of the way from the random policy to the expert"
    return draw(
        [(_named(one), one.comparison.difference.scaled(1 / one.span)) for one in found], label
    )


def _named(one: Outcome) -> str:
    parts = [one.test.paper, one.test.claim, one.task, one.row.unjudged.split(":")[0]]
    return ", ".join(part for part in parts if part)


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_outcomes(Path(sys.argv[1]))
    publish("claims", page(found), picture(found))


if __name__ == "__main__":
    main()
