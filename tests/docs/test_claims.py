"""The page on the field's claims: the comparisons behind its verdicts are of published records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script

EXPERT, FLOOR = 10.0, 2.0


@pytest.fixture(scope="module")
def claims() -> Any:
    return script("baselines/findings/claims.py")


@pytest.fixture(scope="module")
def found(claims: Any) -> Any:
    return claims.read_outcomes(ROOT / "leaderboard" / "results")


def test_the_page_is_that_of_the_records(claims: Any, found: Any) -> None:
    folder = ROOT / "docs" / "results"
    assert claims.page(found) in (folder / "claims.md").read_text()
    assert claims.picture(found) == (folder / "claims.svg").read_text()


def test_each_comparison_has_records(claims: Any, found: Any) -> None:
    met = [one.test for one in found]
    assert all(test in met for test in claims.TESTS)
    assert {test.paper for test in met} >= {"Light et al.", "HaDES", "OBD", "SDR", "RL-to-SL"}


def test_one_student_on_one_task_meets_one_control(found: Any) -> None:
    places = [(id(one.test), id(one.group)) for one in found]
    assert len(places) == len(set(places))


def rows(method: str, value: float, sets: int = 3, **settings: Any) -> Iterator[Any]:
    for seed in range(sets):
        one = record(method, value, seed=seed, **settings)
        # `pbc` may stand there twice, with students of other lengths inside.
        one["cell_id"] += f" {settings.get('size')} {value}"
        yield one


def outcome_of(claims: Any, test: Any, *records: Any) -> list[Any]:
    """What the test comes to beside an expert and a random policy."""
    policies = [record("expert", EXPERT), record("random-policy", FLOOR)]
    every = [*policies, *(one for some in records for one in some)]
    return list(claims.outcomes(test, groups_of(every), by_id(every)))


def test_rows_meet_others_of_their_labels_and_size(claims: Any) -> None:
    test = claims.Test("a paper", "chosen rows beside random ones", "s", "k-means", "random", 15)
    (one,) = outcome_of(
        claims,
        test,
        rows("k-means", 8.0, labels="soft"),
        rows("random", 6.0, labels="soft"),
        rows("random", 1.0, labels="hard"),
        rows("random", 9.0, labels="soft", budget={"size": 150}, size=150),
    )
    assert one.comparison.difference.estimate == pytest.approx(2.0, abs=0.05)
    assert one.span == pytest.approx(EXPERT - FLOOR, abs=0.05)
    assert "above" in claims.page([one])
    assert "k-means" not in claims.page([one])  # the words of the test name it


def test_all_the_data_have_no_size(claims: Any) -> None:
    test = claims.Test("a paper", "rows beside all the data", "s", "k-means", "full", 15)
    whole = {"percent": 100.0, "unit": "transitions"}
    (one,) = outcome_of(
        claims, test, rows("k-means", 4.0), rows("full", 8.0, sets=1, budget=whole, size=900)
    )
    assert one.comparison.difference.below_zero


def test_one_set_of_a_method_that_draws_is_not_judged(claims: Any) -> None:
    test = claims.Test(
        "a paper", "random rows beside balanced", "s", "random", "random-balanced", 15
    )
    (one,) = outcome_of(claims, test, rows("random", 8.0, sets=1), rows("random-balanced", 3.0))
    assert "one set: not judged" in claims.page([one])


def test_students_and_settings_are_told_apart(claims: Any) -> None:
    asked = {"network": "cnn4"}
    test = claims.Test("a paper", "by one student", "s", "k-means", "random", 15, learner=asked)
    students = [{"id": "bc", "config": {"network": name}} for name in ("cnn4", "nature")]
    records = [
        {**one, "cell_id": f"{one['cell_id']} {student}"}
        for student, value in zip(students, (5.0, 9.0), strict=True)
        for some in (rows("k-means", value, learner=student), rows("random", 2.0, learner=student))
        for one in some
    ]
    (one,) = outcome_of(claims, test, records)
    assert one.comparison.difference.estimate == pytest.approx(3.0, abs=0.05)
