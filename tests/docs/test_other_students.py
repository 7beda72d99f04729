"""The page on other students: its figures are those of the published records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.make import make_learner
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/other_students.py")


def test_the_page_is_that_of_the_records(findings: Any) -> None:
    records, folder = ROOT / "leaderboard" / "results", ROOT / "docs" / "results"
    page = (folder / "other-students.md").read_text()
    on_vectors, on_frames = (
        findings.read_students(records, suite) for suite in (findings.VECTORS, findings.FRAMES)
    )
    assert len(on_vectors) == 7
    assert findings.agreement_page(on_vectors) in page
    assert findings.page(on_vectors) in page
    assert findings.picture(on_vectors) == (folder / "other-students.svg").read_text()
    assert {student.task for student in on_frames} == {"climber-plain", "jumper-plain"}
    assert findings.page(on_frames) in page


TASK = "classic/cartpole-v0"


def learner(name: str, **settings: Any) -> dict[str, Any]:
    return {"id": name, "config": {**asdict(make_learner(name, TASK).config), **settings}}


def of_student(who: dict[str, Any], labels: str, **returns: float) -> dict[str, Any]:
    records = [
        record(name.replace("_", "-"), of_it, seed=seed, labels=labels, learner=who, task=TASK)
        for name, of_it in returns.items()
        for seed in range(3)
    ]
    return by_id({**r, "cell_id": f"{r['cell_id']} {who}"} for r in records)


def test_each_set_meets_random_rows_of_its_labels_and_the_default_student_comes_first(
    findings: Any,
) -> None:
    usual, narrow, queries = learner("bc"), learner("bc", width=32), learner("discrete-cql")
    records = {
        **of_student(queries, "hard", random=5.0, herding=4.0),
        **of_student(narrow, "hard", random=5.0, herding=6.0, k_means=4.0),
        **of_student(narrow, "soft", random=9.0, pbc=7.0),
        **of_student(usual, "hard", random=5.0, herding=4.0, k_means=6.0),
        **of_student(usual, "soft", random=9.0, pbc=10.0),
    }
    students = findings.students_of(groups_of(records.values()), records, "bc")
    assert [student.name for student in students] == ["bc", "bc (width=32)", "discrete-cql"]
    verdicts = [
        {row.id: student.beside_random(row).verdict for row in student.sets} for student in students
    ]
    assert verdicts == [
        {"pbc": "above", "k-means": "above", "herding": "below"},
        {"pbc": "below", "herding": "above", "k-means": "below"},
        {"herding": "below"},
    ]
    tau, sets = findings.agreement(*students[:2])
    assert (round(tau, 2), sets) == (0.33, 3)  # pbc leads by both, the others change places
    assert findings.agreement(students[0], students[2]) is None
