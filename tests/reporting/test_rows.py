"""Rows beside their floors: sets of different sizes, and what is said of each verdict."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.columns import SIZE_ALONE, recovery_text
from rlcondense.comparison.rows import Row, groups_of
from rlcondense.comparison.tables import judgement
from rlcondense.references import EXPERT, FLOOR, RANDOM_SUBSET
from tests.docs.records import record

GREEDY = {"id": "bc", "config": {"action_selection": "greedy"}}


def row_of(records: list[Any], method: str) -> Row:
    [group] = groups_of(records)
    return next(row for row in group.rows if row.id == method)


def of_sizes(*sizes: int, random: tuple[float, ...]) -> list[Any]:
    """Three sets of episodes, and random rows as many as each, which return so much."""
    share = {"percent": 10.0, "unit": "episodes"}
    sets = [
        record("stratified", 5.0 + size / 100, seed=seed, size=size, budget=share)
        for seed, size in enumerate(sizes)
    ]
    beside = [
        record("random", returned, seed=seed, size=size, budget={"size": size})
        for seed, (size, returned) in enumerate(zip(sizes, random, strict=True))
    ]
    return sets + beside


def test_sets_of_different_sizes_stand_beside_as_many_random_rows_each() -> None:
    row = row_of(of_sizes(100, 200, 300, random=(4.0, 5.0, 6.0)), "stratified")
    assert (row.size, row.sizes) == (200, (100, 200, 300))
    [subset] = [a for a in row.against if a.floor == RANDOM_SUBSET]
    assert len(subset.cells) == 3
    assert subset.difference.estimate == pytest.approx(2.0, abs=0.1)
    assert subset.verdict == "above"


def test_coded_random_rows_are_not_taken_for_whole_ones() -> None:
    coded = [
        record("random", 50.0, seed=s, size=100 * (s + 1), budget={"bytes": 1000, "bits": 4})
        for s in range(3)
    ]
    for records in (
        of_sizes(100, 200, 300, random=(4.0, 5.0, 6.0)) + coded,
        coded + of_sizes(100, 200, 300, random=(4.0, 5.0, 6.0)),
    ):
        gain = row_of(records, "stratified").gain
        assert gain is not None
        assert gain.estimate == pytest.approx(2.0, abs=0.1)


def test_rows_of_several_forms_are_told_apart_and_stand_in_one_order() -> None:
    forms = [{"bytes": 1000, "bits": 2}, {"bytes": 1000, "bits": 4, "resolution": 32}]
    records = [
        record("random", 5.0, seed=seed, size=111, budget=budget)
        for budget in forms
        for seed in range(3)
    ]
    texts = []
    for order in (records, records[::-1]):
        [group] = groups_of(order)
        texts.append([SIZE_ALONE.text(row) for row in group.rows])
    assert (
        texts[0]
        == texts[1]
        == [
            "111 in 1000 bytes (2 bits)",
            "111 in 1000 bytes (4 bits, 32 x 32)",
        ]
    )


def test_without_random_rows_of_each_size_there_is_no_gain() -> None:
    records = of_sizes(100, 200, 300, random=(4.0, 5.0, 6.0))[:-1]
    row = row_of(records, "stratified")
    assert row.gain is None
    assert RANDOM_SUBSET not in {a.floor for a in row.against}


def test_a_row_of_different_sizes_says_so() -> None:
    row = row_of(of_sizes(100, 200, 300, random=(4.0, 5.0, 6.0)), "stratified")
    assert SIZE_ALONE.text(row) == "100 to 300"


def test_a_floor_that_is_not_cleared_is_named() -> None:
    records = [
        *[record("gradmatch", 5.0, seed=s, learner=GREEDY) for s in range(3)],
        *[record("random", 4.0, seed=s, learner=GREEDY) for s in range(3)],
        record("random-policy", 1.0),
        record("marginal-policy", 2.0),
        record("constant-policy", 8.0),
    ]
    row = row_of(records, "gradmatch")
    assert row.verdicts["marginal-policy"] == "below"
    assert judgement(row) == ["! gradmatch does not clear the constant policy on held-out levels."]


def test_a_range_without_width_scales_nothing() -> None:
    [group] = groups_of([record("gradmatch", 5.0)], lambda task: (1.0, 1.0))
    assert group.rows[0].normalised is None


def test_recovery_has_ends_only_where_the_expert_is_known_to_be_above() -> None:
    for expert, ends in ((9.0, ("100%", "0%")), (2.0, ("-", "-"))):
        policies = [record(EXPERT, expert, apart=0.1), record(FLOOR, 2.0, apart=0.2)]
        records = [*policies, record("random", 4.0, apart=0.1)]
        rows = [row_of(records, name) for name in (EXPERT, FLOOR)]
        assert tuple(recovery_text(row) for row in rows) == ends
