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
    met = [one.asked for one in found]
    assert all(asked in met for asked in claims.COMPARISONS)


def test_no_two_lines_say_the_same(found: Any) -> None:
    places = [(one.asked.paper, one.asked.text, one.task) for one in found]
    assert len(places) == len(set(places))


def rows(method: str, value: float, sets: int = 3, **settings: Any) -> Iterator[Any]:
    of_method = settings.pop("config", {})
    for seed in range(sets):
        one = record(method, value, seed=seed, **settings)
        one["cell"]["method"]["config"].update(of_method)
        one["cell_id"] += f" {of_method} {settings.get('size')}"
        yield one


def outcome_of(claims: Any, asked: Any, *records: Any) -> list[Any]:
    """What the comparison comes to beside an expert and a random policy."""
    policies = [record("expert", EXPERT), record("random-policy", FLOOR)]
    every = [*policies, *(one for some in records for one in some)]
    return list(claims.outcomes(asked, groups_of(every), by_id(every)))


def test_rows_meet_others_of_their_labels_and_size(claims: Any) -> None:
    asked = claims.Comparison("a paper", "chosen or random", "s", "k-means", "random", 15)
    (one,) = outcome_of(
        claims,
        asked,
        rows("k-means", 8.0, labels="soft"),
        rows("random", 6.0, labels="soft"),
        rows("random", 1.0, labels="hard"),
        rows("random", 9.0, labels="soft", budget={"size": 150}, size=150),
    )
    assert one.result.difference.estimate == pytest.approx(2.0, abs=0.05)
    assert one.share.estimate == pytest.approx(2 / (EXPERT - FLOOR), abs=0.01)
    assert "above" in claims.page([one])


def test_all_the_data_have_no_size(claims: Any) -> None:
    asked = claims.Comparison("a paper", "chosen or all", "s", "k-means", "full", 15)
    whole = {"percent": 100.0, "unit": "transitions"}
    (one,) = outcome_of(
        claims, asked, rows("k-means", 4.0), rows("full", 8.0, sets=1, budget=whole, size=900)
    )
    assert one.result.difference.below_zero


def test_one_set_of_a_method_that_draws_is_not_judged(claims: Any) -> None:
    asked = claims.Comparison("a paper", "random or balanced", "s", "random", "random-balanced", 15)
    (one,) = outcome_of(claims, asked, rows("random", 8.0, sets=1), rows("random-balanced", 3.0))
    assert "one set: not judged" in claims.page([one])
    assert "one set" in claims.picture([one])


def test_rows_of_one_id_are_told_apart_by_their_settings(claims: Any) -> None:
    short, long = {"inner_steps": 30}, {"inner_steps": 100}
    records = [
        one
        for some in (
            rows("pbc", 5.0, config=short),
            rows("pbc", 9.0, config=long),
            rows("dbc", 1.0, config=short),
            rows("dbc", 4.0, config=long),
        )
        for one in some
    ]
    for of_pbc, of_dbc, expected in ((short, short, 4.0), (short, long, 1.0), (long, long, 5.0)):
        asked = claims.Comparison("a paper", "words", "s", "pbc", "dbc", 15, of_pbc, of_dbc)
        (one,) = outcome_of(claims, asked, records)
        assert one.result.difference.estimate == pytest.approx(expected, abs=0.05)


def test_students_are_told_apart(claims: Any) -> None:
    wanted = {"network": "cnn4"}
    asked = claims.Comparison("a paper", "words", "s", "k-means", "random", 15, learner=wanted)
    students = [{"id": "bc", "config": {"network": name}} for name in ("cnn4", "nature")]
    records = [
        {**one, "cell_id": f"{one['cell_id']} {student}"}
        for student, value in zip(students, (5.0, 9.0), strict=True)
        for some in (rows("k-means", value, learner=student), rows("random", 2.0, learner=student))
        for one in some
    ]
    (one,) = outcome_of(claims, asked, records)
    assert one.result.difference.estimate == pytest.approx(3.0, abs=0.05)
