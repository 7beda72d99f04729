from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from rlcondense.reporting.statistics import (
    difference,
    rank_correlation,
    recovery,
    student_interval,
    summarise,
)
from rlcondense.reporting.tables import run_table


def _record(
    method: str, heldout: Any, seen: Any = None, seed: int = 0, size: int = 5
) -> dict[str, Any]:
    return {
        "status": "done",
        "action_selection": "sample",
        "cell": {
            "task": "t-v0",
            "dataset": "d-v0",
            "method": {"id": method, "config": {}},
            "learner": {"id": "bc", "config": {"network": "nature"}},
            "learner_seeds": list(range(len(heldout))),
            "condensation_seed": seed,
            "evaluation": {"environments": 2, "quota": 1},
        },
        "returns": {"heldout": heldout, "seen": heldout if seen is None else seen},
        "report": {"size": size, "label_kind": "hard"},
    }


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_what_they_claim(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = rng.normal(7, 2, (4000, n))
    intervals = [student_interval(row) for row in samples]
    covered = np.mean([i.low <= 7 <= i.high for i in intervals])
    assert 0.93 < covered < 0.97


def test_the_unit_is_the_seed_not_the_episode() -> None:
    summary = summarise([[0.0, 10.0] * 500, [0.0, 10.0] * 500, [0.0, 10.0] * 500])
    assert summary["mean"] == 5
    assert summary["standard_error"] == 0
    assert summary["episode_standard_error"] > 0.1
    assert summary["episodes"] == 3000


def test_one_seed_has_no_interval() -> None:
    summary = summarise([[1.0, 2.0, 3.0]])
    assert summary["interval"] is None
    assert summary["standard_error"] is None
    assert summary["episode_standard_error"] == pytest.approx(1 / np.sqrt(3))


def test_differences_are_paired_by_seed() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 5, (3, 50))
    a, b = _record("a", levels + 1.0), _record("b", levels)
    paired = difference([a], [b], "heldout")
    assert paired.estimate == pytest.approx(1)
    assert paired.low == pytest.approx(1)
    assert paired.above_zero


def test_several_condensation_seeds_are_the_units() -> None:
    a = [_record("a", np.full((2, 3), value), seed=i) for i, value in enumerate((1.0, 2.0, 3.0))]
    b = [_record("b", np.zeros((2, 3)))]
    result = difference(a, b, "heldout")
    assert result.estimate == pytest.approx(2)
    assert result.low < 0.5
    assert result.high > 3.5


def test_recovery_is_nothing_where_expert_and_random_policy_cannot_be_told_apart() -> None:
    row, floor = [_record("m", [[2.0], [2.2], [2.1]])], [_record("r", [[1.0], [1.1], [0.9]])]
    ceiling = [_record("e", [[3.0], [3.1], [2.9]])]
    share = recovery(row, floor, ceiling, "heldout")
    assert share is not None
    assert share.estimate == pytest.approx(0.55)
    assert recovery(row, floor, [_record("e", [[1.0], [0.9], [1.1]])], "heldout") is None


def test_a_row_that_does_not_clear_its_floors_is_marked() -> None:
    references = [
        _record("random-policy", [[1.0], [1.1], [0.9]]),
        _record("marginal-policy", [[2.0], [2.1], [1.9]]),
        _record("random", [[1.5], [1.6], [1.4]]),
        _record("full", [[3.0], [3.1], [2.9]]),
        _record("expert", [[5.0], [5.1], [4.9]]),
    ]
    weak = run_table([_record("gradmatch", [[1.9], [2.0], [1.8]])], references)
    assert "! gradmatch does not clear the marginal policy on held-out levels" in weak
    strong = run_table([_record("gradmatch", [[2.9], [3.0], [2.8]])], references)
    assert "clears the random policy, the marginal policy and the random subset" in strong
    assert "47% [41%, 54%]" in strong


def test_rank_correlation_is_kendalls() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == (1.0, 3)
    assert rank_correlation([1, 2, 3, 4], [2, 1, 3, 4]) == (pytest.approx(2 / 3), 4)
    assert rank_correlation([1, 2], [2, 1]) is None
    assert rank_correlation([1, 2, 3], [5, 5, 5]) is None


def _undone(method: str, status: str, seed: int = 0) -> dict[str, Any]:
    record = {**_record(method, [[1.0]], seed=seed), "status": status, "reason": "needs luck"}
    return {k: v for k, v in record.items() if k not in ("returns", "report")}


def test_a_row_whose_second_record_is_undone_is_undone() -> None:
    done = _record("m", [[1.0, 2.0], [2.0, 3.0]])
    assert run_table([done, _undone("m", "failed", 1)], []) == "m with bc: failed (needs luck)"
    floor = _record("random-policy", [[0.0, 0.1], [0.1, 0.2]])
    random = [_record("random", [[1.0, 2.0], [2.0, 3.0]]), _undone("random", "skipped", 1)]
    text = run_table([done], [floor, *random])
    assert re.search(r"^random +skipped +skipped", text, re.MULTILINE)
    assert "random with bc: skipped (needs luck)" in text


def test_labels_that_a_learner_does_not_take_are_told() -> None:
    record = _record("m", [[1.0, 2.0], [2.0, 3.0]])
    record["report"]["label_kind"], record["labels"] = "soft", "hard"
    floor = _record("random-policy", [[0.0, 0.1], [0.1, 0.2]])
    assert "bc takes no soft labels: it learned the actions taken." in run_table([record], [floor])
    record["labels"] = "soft"
    assert "no soft labels" not in run_table([record], [floor])
