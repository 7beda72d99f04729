"""The page on Q-learners: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.references import EXPERT, FLOOR, MARGINAL
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script

PLACES = {FLOOR: 1.0, MARGINAL: 2.0, EXPERT: 11.0}
DRAWS = ("random", "stratified")


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/q_learning.py")


def of(findings: Any, **returns: float) -> Any:
    """One learner's rows, three sets of those drawn at random."""
    student = {"id": "dqn", "config": {"updates": 5000}}
    asked = {"full": {"percent": 100.0}}
    records = [
        record(
            method, value, seed=seed, students=3, apart=0.1, learner=student,
            budget=asked.get(method), task="classic/cartpole-v0",
        )
        for name, value in {**PLACES, **returns}.items()
        for method in (name.replace("_", "-"),)
        for seed in range(3 if method in DRAWS else 1)
    ]  # fmt: skip
    (group,) = groups_of(records)
    return findings.Learning(group, by_id(records))


def test_the_page_is_that_of_the_records(findings: Any) -> None:
    found = findings.read_learning(ROOT / "leaderboard" / "results")
    assert len(list(findings.bars(found))) > 1
    assert findings.page(found) in (ROOT / "docs" / "results" / "q-learning.md").read_text()


def test_the_best_episodes_meet_every_other_choice(findings: Any) -> None:
    one = of(findings, full=6.0, random=3.0, stratified=7.0, top_return=5.0)
    apart = {other: one.gain(findings.BEST, other) for other in findings.OTHERS}
    assert apart["full"].estimate == pytest.approx(-1.0, abs=0.05)
    assert apart["full"].n == 3
    assert apart["random"].above_zero
    assert apart["stratified"].below_zero
    page = findings.page([one])
    assert (
        "Beside random rows, the best episodes teach more in 1 of 1 comparisons (cartpole" in page
    )
    assert "Beside random episodes, the best episodes teach more in 0 of 1 comparisons" in page
    shares = dict(findings.bars([one]))
    assert shares["cartpole, dqn, 5,000 updates: random episodes"].estimate == pytest.approx(
        -0.2, abs=0.01
    )


def test_a_learner_of_all_the_data_alone_is_listed_but_not_compared(findings: Any) -> None:
    alone = of(findings, full=1.5)
    assert list(findings.bars([alone])) == []
    assert "| cartpole | dqn, 5,000 updates | 1.49 [" in " ".join(findings.page([alone]).split())
