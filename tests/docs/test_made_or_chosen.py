"""The page on made and chosen rows: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlcondense.comparison.rows import groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/made_or_chosen.py")


def of_methods(**returns: float) -> dict[str, Any]:
    """Three soft sets of each method that returns so much, by cell id."""
    return by_id(
        record(name.replace("_", "-"), heldout, seed=seed, labels="soft")
        for name, heldout in returns.items()
        for seed in range(3)
    )


def test_the_page_is_that_of_the_records(findings: Any) -> None:
    groups, records = findings.read_groups(ROOT / "leaderboard" / "results")
    pairs = findings.beside_random(groups, records)
    assert pairs
    text = findings.page(pairs, list(findings.best_of_both(groups, records)))
    folder = ROOT / "docs" / "results"
    assert text in (folder / "made-or-chosen.md").read_text()
    assert findings.own_seeds(pairs, records) in (folder / "made-or-chosen.md").read_text()
    assert findings.picture(pairs) == (folder / "made-or-chosen.svg").read_text()
    of_150 = [p for p in pairs if "procgen" in p.place and p.row.budget == {"size": 150}]
    above = sum(p.comparison.verdict == "above" for p in of_150)
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    said = f"Of all published rows of 150 frames of Procgen {words[above]} are shown to teach"
    assert said in (ROOT / "README.md").read_text()


def test_made_rows_and_chosen_ones_meet_random_ones_and_each_other(findings: Any) -> None:
    records = of_methods(random=5.0, pbc=6.0, distmatch=4.0, k_means=5.5, herding=3.0, full=9.0)
    groups = groups_of(records.values())
    pairs = findings.beside_random(groups, records)
    assert {(p.row.id, findings.kind_of(p.row), p.comparison.verdict) for p in pairs} == {
        ("pbc", "made", "above"),
        ("distmatch", "made", "below"),
        ("k-means", "chosen", "above"),
        ("herding", "chosen", "below"),
    }
    [best] = findings.best_of_both(groups, records)
    assert (best.row.id, best.other.id, best.comparison.verdict) == ("pbc", "k-means", "above")
    text = findings.page(pairs, [best])
    assert "2 rows made: 1 above as many random ones, 1 below; 2 rows chosen: 1 above" in text


def test_sets_that_two_students_learned_from_count_once(findings: Any) -> None:
    few = of_methods(random=5.0, pbc=6.0)
    other = {"id": "bc", "config": {"network": "nature"}}
    more = [
        record(name, 5.0 + place, seed=seed, labels="soft", learner=other)
        for place, name in enumerate(("random", "pbc", "dbc", "frepo"))
        for seed in range(3)
    ]
    single = of_methods(distmatch=6.0)  # of the students of which there are fewer rows
    records = {**few, **single, **by_id({**r, "cell_id": f"other {r['cell_id']}"} for r in more)}
    pairs = findings.beside_random(groups_of(records.values()), records)
    assert {(p.row.id, p.group.learner["config"].get("network")) for p in pairs} == {
        ("pbc", "nature"),
        ("dbc", "nature"),
        ("frepo", "nature"),
        ("distmatch", None),
    }


def test_the_best_are_of_the_same_students_whatever_counted_elsewhere(findings: Any) -> None:
    """The chosen rows count for the students of most rows, none of which learned from made ones."""
    other = {"id": "bc", "config": {"network": "nature"}}
    names = {"random": 5.0, "k-means": 5.5, "herding": 3.0}
    more = [
        record(name, heldout, seed=seed, labels="soft", learner=other)
        for name, heldout in {**names, "k-center": 7.0}.items()
        for seed in range(3)
    ]
    few = of_methods(random=5.0, k_means=5.5, pbc=6.0)
    records = {**few, **by_id({**r, "cell_id": f"other {r['cell_id']}"} for r in more)}
    groups = groups_of(records.values())
    counted = {p.row.id: p.group for p in findings.beside_random(groups, records)}
    assert counted["k-means"] is not counted["pbc"]
    [best] = findings.best_of_both(groups, records)
    assert (best.row.id, best.other.id) == ("pbc", "k-means")


def test_of_as_many_rows_those_of_students_who_sample_count(findings: Any) -> None:
    greedy = {"id": "bc", "config": {"action_selection": "greedy"}}
    others = [
        {
            **record(name, 5.0, seed=seed, labels="soft", learner=greedy),
            "action_selection": "greedy",
        }
        for name in ("random", "pbc")
        for seed in range(3)
    ]
    records = {
        **by_id({**r, "cell_id": f"greedy {r['cell_id']}"} for r in others),
        **of_methods(random=5.0, pbc=6.0),
    }
    [pair] = findings.beside_random(groups_of(records.values()), records)
    assert pair.group.action_selection == "sample"


def test_methods_that_keep_the_same_rows_count_once_and_those_that_play_not_at_all(
    findings: Any,
) -> None:
    records = of_methods(random=5.0, k_means=6.0, k_center=6.0, hades_r=9.0)
    for seed in range(3):
        one, other = (
            r for name, r in records.items() if name.startswith("k-") and name.endswith(f" {seed}")
        )
        other["returns"] = one["returns"]
    [pair] = findings.beside_random(groups_of(records.values()), records)
    assert findings.kind_of(pair.row) == "chosen"


def test_made_rows_whose_students_return_the_same_are_not_the_same(findings: Any) -> None:
    records = of_methods(random=5.0, pbc=0.0, distmatch=0.0)
    for r in records.values():
        if not r["cell_id"].startswith("random"):
            r["returns"] = {split: np.zeros_like(of).tolist() for split, of in r["returns"].items()}
    pairs = findings.beside_random(groups_of(records.values()), records)
    assert {pair.row.id for pair in pairs} == {"pbc", "distmatch"}


def test_rows_of_other_labels_and_single_sets_are_not_judged(findings: Any) -> None:
    records = by_id(
        [record("random", 5.0, seed=seed, labels="hard") for seed in range(3)]
        + [record("pbc", 6.0, seed=seed, labels="soft") for seed in range(3)]
    )
    assert findings.beside_random(groups_of(records.values()), records) == []
    records = by_id([record(name, 5.0, labels="soft") for name in ("random", "pbc")])
    assert findings.beside_random(groups_of(records.values()), records) == []


def test_students_of_their_sets_own_seed_are_put_at_what_the_others_say(findings: Any) -> None:
    effects = np.arange(3.0)[:, None] + 10.0 * np.arange(4)
    records = by_id(record("pbc", 0.0, seed=seed, labels="soft", students=4) for seed in range(3))
    for seed, one in enumerate(records.values()):
        played = effects[seed] + 100.0 * (np.arange(4) == seed)
        one["returns"]["heldout"] = [[value] * 4 for value in played]
    [group] = groups_of(records.values())
    [row] = [row for row in group.rows if row.id == "pbc"]
    np.testing.assert_allclose(findings.without_own_seeds(row, records), effects, atol=1e-9)
    [group] = groups_of([next(iter(records.values()))])
    [alone] = [row for row in group.rows if row.id == "pbc"]
    assert findings.without_own_seeds(alone, records).tolist() == [[20.0, 10.0, 20.0, 30.0]]
