"""The page on Q-learners: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.references import EXPERT, FLOOR, MARGINAL, POLICIES
from tests.docs.scripts import ROOT, script

PLACES = {FLOOR: 1.0, MARGINAL: 2.0, EXPERT: 11.0}


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/q_learning.py")


def record(method: str, heldout: float, seed: int) -> Any:
    """A record of three students, one apart from the other, who play four levels."""
    policy = method in POLICIES
    values = heldout + 0.01 * seed + np.array([[-0.1], [0.0], [0.1]]) + np.zeros((3, 4))
    return {
        "status": "done",
        "cell_id": f"{method} {seed}",
        "action_selection": "greedy",
        "cell": {
            "task": "classic/cartpole-v0",
            "dataset": "classic/cartpole/mixed-v0",
            "method": {"id": method, "config": {}},
            "budget": None if policy else {"percent": 100.0} if method == "full" else {"size": 9},
            "learner": None if policy else {"id": "dqn", "config": {"updates": 5000}},
            "learner_seeds": [0, 1, 2],
            "condensation_seed": seed,
            "evaluation": {"environments": 2, "quota": 2},
        },
        "returns": {"heldout": values.tolist(), "seen": values.tolist()},
        **({} if policy else {"report": {"size": 9}, "labels": "hard"}),
    }


def of(findings: Any, **returns: float) -> Any:
    """One learner's rows, three sets of those drawn at random."""
    draws = ("random", "stratified")
    records = [record(name, value, 0) for name, value in PLACES.items()]
    for name, value in returns.items():
        method = name.replace("_", "-")
        records += [record(method, value, seed) for seed in range(3 if method in draws else 1)]
    by_id = {one["cell_id"]: one for one in records}
    (group,) = groups_of(records)
    return findings.Learning(group, by_id)


def test_the_page_is_that_of_the_records(findings: Any) -> None:
    found = findings.read_learning(ROOT / "leaderboard" / "results")
    assert len(findings.compared(found)) > 1
    assert findings.page(found) in (ROOT / "docs" / "results" / "q-learning.md").read_text()


def test_the_best_episodes_meet_every_other_choice(findings: Any) -> None:
    one = of(findings, full=6.0, random=3.0, stratified=7.0, top_return=5.0)
    apart = {other: one.beside(other) for other in findings.OTHERS}
    assert apart["full"].estimate == pytest.approx(-1.0)
    assert apart["full"].n == 3
    assert apart["random"].above_zero
    assert apart["stratified"].below_zero
    assert one.span == pytest.approx(10.0)
    page = findings.page([one])
    assert (
        "Beside random rows, the best episodes teach more in 1 of 1 comparisons (cartpole" in page
    )
    assert "Beside random episodes, the best episodes teach more in 0 of 1 comparisons" in page
    shares = dict(findings.bars([one]))
    assert shares["cartpole, dqn, 5,000 updates: random episodes"].estimate == pytest.approx(-0.201)


def test_a_learner_of_all_the_data_alone_is_listed_but_not_compared(findings: Any) -> None:
    alone = of(findings, full=1.5)
    assert findings.compared([alone]) == []
    assert "| cartpole | dqn, 5,000 updates | 1.50 [" in " ".join(findings.page([alone]).split())
