"""Do sets teach other students than those that judged them? The records of two suites, as a page.

python baselines/findings/other_students.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradmatch_parts import short_name
from made_or_chosen import MADE, kind_of
from pages import RESULTS, Rows, compare, draw, mean_of, publish, read_suite

from rlcondense.comparison.columns import bracketed, number
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row
from rlcondense.make import make_learner
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.reporting.publish import fill_part
from rlcondense.statistics.intervals import kendall_tau

VECTORS, FRAMES = "transfer", "transfer-frames"
CHOSEN_BY = {VECTORS: "bc", FRAMES: "bc (network=nature)"}  # a suite's sets, by what they taught it


@dataclass(frozen=True)
class Student(Rows):
    """What one student makes of every set.

    Attributes:
        name: of the learner, with the settings in which it differs from the others.
    """

    name: str

    @property
    def sets(self) -> list[Row]:
        """The rows that were made or chosen beside random ones, those made first, by return."""
        rows = [row for row in self.rows.values() if kind_of(row) and row.labels in self._random]
        return sorted(rows, key=lambda r: (kind_of(r) != MADE, -mean_of(r, "heldout").estimate))

    def beside_random(self, row: Row) -> FloorComparison:
        """Compare what a row teaches with what random rows of its labels teach."""
        return compare(row, self._random[row.labels], self.records)

    @property
    def _random(self) -> dict[str | None, Row]:
        """The random rows that are done, by kind of labels."""
        rows = self.group.of_id(RANDOM_SUBSET)
        return {row.labels: row for row in rows if row.status == "done"}


def read_students(folder: Path, suite: str) -> list[Student]:
    """Read the students of a suite; each task's first is that by which the sets were chosen."""
    groups, records = read_suite(folder, suite)
    return students_of(groups, records, CHOSEN_BY[suite])


def students_of(
    groups: Sequence[Group], records: Mapping[str, Record], first: str
) -> list[Student]:
    """Return the students of groups by task, that of a name first."""
    found = []
    for group in filter(lambda group: any(map(kind_of, group.rows)), groups):
        name, own = group.learner["id"], group.learner["config"]
        usual = make_learner(name, group.task).config
        other = [f"{key}={value}" for key, value in own.items() if value != getattr(usual, key)]
        text = f"{name} ({', '.join(other)})" if other else name
        found.append(Student(group, records, text))
    return sorted(
        found, key=lambda one: (one.task, one.name != first, one.group.learner["id"], one.name)
    )


def agreement(student: Student, other: Student) -> tuple[float, int] | None:
    """Compute Kendall's tau-b of the sets that both students learned from, and their number."""
    both = [name for name in student.rows if name in other.rows and kind_of(student.rows[name])]
    return kendall_tau(
        *(
            [mean_of(one.rows[name], "heldout").estimate for name in both]
            for one in (student, other)
        )
    )


def agreement_page(students: Sequence[Student]) -> str:
    """Format how many sets teach each student beside random rows, and how far students agree."""
    if not students:
        return "No student has a record yet."
    first, *_ = students
    lines = []
    for student in students:
        verdicts = [student.beside_random(row).verdict for row in student.sets]
        tau = agreement(first, student)
        lines.append(
            [
                student.name,
                str(len(student.sets)),
                str(verdicts.count("above")),
                str(verdicts.count("below")),
                "" if student is first or tau is None else f"{number(tau[0])} ({tau[1]})",
            ]
        )
    headers = ["student", "sets", "above random", "below random", f"order as by {first.name}"]
    return markdown_table(headers, lines)


def page(students: Sequence[Student]) -> str:
    """Format what each student makes of every set."""
    lines = []
    for student in students:
        for row in student.sets:
            beside = student.beside_random(row)
            lines.append(
                [
                    student.task,
                    student.name,
                    short_name(row),
                    f"{kind_of(row)}, {row.labels}",
                    bracketed(mean_of(row, "heldout")),
                    bracketed(beside.difference, "{:+.2f}"),
                    VERDICTS[beside.verdict],
                ]
            )
    headers = ["task", "student", "method", "kind, labels", "held-out", "beside random rows"]
    return markdown_table([*headers, "verdict"], lines)


def picture(students: Sequence[Student]) -> str:
    """Draw what each student learns of every set beside random rows."""
    bars = [
        (f"{student.name}: {short_name(row)}", student.beside_random(row).difference)
        for student in students
        for row in student.sets
    ]
    return draw(bars, "return beside that of as many random rows with the same labels")


def main() -> None:
    """Fill the page's tables and draw its picture."""
    folder = Path(sys.argv[1])
    students = read_students(folder, VECTORS)
    text = "\n\n".join([agreement_page(students), page(students)])
    publish("other-students", text, picture(students))
    fill_part(RESULTS / "other-students.md", FRAMES, page(read_students(folder, FRAMES)))


if __name__ == "__main__":
    main()
