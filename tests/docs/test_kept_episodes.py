"""The part on kept episodes: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/kept_episodes.py")


DATA = {
    "task": "procgen/coinrun-plain-v0",
    "dataset": "procgen/coinrun-plain/expert-action-noise-v0",
}


def test_the_part_is_that_of_the_records(findings: Any) -> None:
    found = findings.read_kept(ROOT / "leaderboard" / "results")
    docs = ROOT / "docs" / "results"
    assert findings.page(found) in (docs / "faults.md").read_text()
    assert findings.picture(found) == (docs / "faults.svg").read_text()


def test_scores_meet_random_rows_of_the_same_data(findings: Any) -> None:
    returns = {"random": 5.0, "full": 5.5, "band": 4.0, "cupid": 6.0}
    records = [
        record(name, value, seed=s, **DATA) for name, value in returns.items() for s in range(3)
    ]
    (group,) = groups_of(records)
    kept = findings.Kept(group, by_id(records))
    assert kept.name == "coinrun, action-noise"
    page = findings.page([kept])
    assert "Of 2 comparisons with random rows, 1 are above zero, 1 below." in page
    assert "all the data return" in page
    drawn = findings.picture([kept])
    assert drawn.index("coinrun, action-noise: cupid") < drawn.index("coinrun, action-noise: band")
    assert "full" not in drawn
    (alone,) = groups_of(records[::3])  # one set each
    page = findings.page([findings.Kept(alone, by_id(records))])
    assert "Of 0 comparisons with random rows" in page


def test_random_rows_of_clean_data_of_the_same_size_stand_beside(findings: Any) -> None:
    clean = {**DATA, "dataset": "procgen/coinrun-plain/expert-v0"}
    records = [record("random", 5.0, seed=s, size=90, **DATA) for s in range(3)]
    records += [record("random", 7.0, seed=s, size=90, **clean) for s in range(3)]
    records += [record("random", 9.0, seed=s, size=95, **clean) for s in range(3)]
    for one in records:
        one["cell_id"] += one["cell"]["dataset"]
    groups = groups_of(records)
    of = next(group for group in groups if group.dataset == DATA["dataset"])
    row = findings.clean_row(of, groups)
    kept = findings.Kept(of, by_id(records), row)
    assert kept.clean_gain.estimate == pytest.approx(2.0)
    assert "| random rows of clean data | +2.00" in findings.page([kept])
    assert findings.clean_row(of, [of]) is None
