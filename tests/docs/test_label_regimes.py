"""The page on labels: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def regimes() -> Any:
    return script("baselines/findings/label_regimes.py")


def of(regimes: Any, hard: dict[str, float], soft: dict[str, float]) -> Any:
    """Methods with hard and soft labels, three sets of each that returns so much."""
    kinds = {"hard": hard, "soft": soft}
    records = [
        record(name, value, seed=seed, labels=labels)
        for labels, returns in kinds.items()
        for name, value in returns.items()
        for seed in range(3)
    ]
    (group,) = groups_of(records)
    return regimes.regimes(group, 15, "soft", by_id(records))


def test_the_page_is_that_of_the_records(regimes: Any) -> None:
    found = regimes.read_regimes(ROOT / "leaderboard" / "results")
    assert found
    docs = ROOT / "docs" / "results"
    assert regimes.page(found) in (docs / "label-regimes.md").read_text()
    assert regimes.picture(found) == (docs / "label-regimes.svg").read_text()


def test_methods_are_paired_with_themselves(regimes: Any) -> None:
    hard = {"random": 5.0, "k-means": 9.0, "el2n": 1.0, "herding": 7.0, "grand": 3.0}
    one = of(regimes, hard, {**{name: 5 + (v - 5) / 10 for name, v in hard.items()}, "sdr": 0.0})
    assert one.pairs.keys() == hard.keys()
    assert one.ratio.estimate == pytest.approx(0.1, abs=0.01)
    assert regimes.verdict_of(one.ratio) == "closer"
    assert one.gain("el2n").estimate == pytest.approx(3.6)
    assert (one.best, one.choice.estimate) == ("k-means", pytest.approx(4.0, abs=0.05))
    page = regimes.page([one])
    assert "closer together with distributions in 1, further apart in 0." in page
    assert page.index("| k-means") < page.index("| herding") < page.index("| el2n")


def test_regimes_and_students_are_apart(regimes: Any) -> None:
    kinds = {"hard": 5.0, "soft": 7.0, "taught": 8.0}
    records = [
        record(name, value, seed=seed, labels=labels)
        for labels, value in kinds.items()
        for name in ("random", "k-means", "herding")
        for seed in range(3)
    ]
    for one in records:  # students learn from distributions, whoever gave them
        one["labels"] = "hard" if one["labels"] == "hard" else "soft"
    (group,) = groups_of(records)
    for labels, value in list(kinds.items())[1:]:
        one = regimes.regimes(group, 15, labels, by_id(records))
        assert one.name.endswith(f"15 rows, {labels}")
        assert one.gain("random").estimate == pytest.approx(value - 5, abs=0.01)
    greedy = regimes.Regimes("cartpole", 15, "soft", "greedy", {}, {})
    assert greedy.name == "cartpole, 15 rows, soft, greedy students"


def test_methods_that_swap_places_are_not_told_apart(regimes: Any) -> None:
    hard = {"random": 5.0, "k-means": 9.0, "el2n": 1.0, "herding": 7.0}
    one = of(regimes, hard, {"random": 9.0, "k-means": 4.0, "el2n": 6.0, "herding": 1.5})
    assert regimes.verdict_of(one.ratio) == "not told apart"


def test_the_errors_of_the_means_are_no_spread(regimes: Any) -> None:
    alike = dict.fromkeys(("random", "k-means", "el2n", "herding"), 5.0)
    one = of(regimes, alike, alike)
    assert one.means(0).std() > 0
    assert one.beyond_noise(0) < one.means(0).std(ddof=1) / 2


def test_the_two_outlying_methods_are_left_out_of_the_second_ratio(regimes: Any) -> None:
    hard = {"random": 5.0, "k-means": 6.0, "herding": 7.0, "el2n": 0.0, "grand": 0.0}
    one = of(regimes, hard, {**hard, "el2n": 5.0, "grand": 6.0})
    assert one.ratio.estimate < 0.5
    assert one.ratio_of_others.estimate == pytest.approx(1.0)
    assert "k-means (other rows)" in regimes.methods(one)
    assert "random (other rows)" not in regimes.methods(one)
