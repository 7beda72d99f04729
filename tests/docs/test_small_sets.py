"""The pages on small sets: their figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.references import EXPERT, FLOOR, MARGINAL
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script

PLACES = {MARGINAL: 3.0, FLOOR: 1.0, EXPERT: 11.0}


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/small_sets.py")


def row(method: str, heldout: float, lost: float = 0.0, *, seed: int = 0, size: int = 15) -> Any:
    """A record of plain starpilot with soft labels, of three students, one apart from the other."""
    return record(
        method, heldout, lost=lost, seed=seed, size=size, labels="soft", students=3,
        apart=0.1 + 0.01 * len(method), learner={"id": "bc", "config": {"network": "nature"}},
        task="procgen/starpilot-plain-v0", dataset="procgen/starpilot-plain/expert-v0",
    )  # fmt: skip


def of_methods(findings: Any, **methods: tuple[float, float]) -> dict[str, Any]:
    """Small sets by method, each with its held-out return and what it loses, three sets each."""
    records = [row(name, heldout) for name, heldout in PLACES.items()]
    for name, (heldout, lost) in methods.items():
        records += [row(name.replace("_", "-"), heldout, lost, seed=s) for s in range(3)]
    return {one.row.id: one for one in findings.judged(groups_of(records), by_id(records))}


def test_the_pages_are_those_of_the_records(findings: Any) -> None:
    groups, records = findings.read_groups(ROOT / "leaderboard" / "results")
    sets = findings.judged(groups, records)
    assert sets
    docs = ROOT / "docs" / "results"
    assert findings.floors_page(sets) in (docs / "small-sets.md").read_text()
    page = findings.generalisation_page(sets, findings.wholes(groups, records))
    assert page in (docs / "generalisation.md").read_text()


def test_a_set_is_above_both_only_if_it_is_above_each(findings: Any) -> None:
    sets = of_methods(
        findings, random=(5.0, 0.0), pbc=(6.0, 0.0), dbc=(4.0, 0.0), distmatch=(2.0, 0.0)
    )
    assert {name: one.verdict for name, one in sets.items()} == {
        "pbc": "above both",
        "dbc": "above the blind policy",
        "distmatch": "above neither",
    }
    page = findings.floors_page(list(sets.values()))
    assert "On 1 of these tasks a row lies above both floors: starpilot-plain." in page


def test_sets_without_a_random_subset_or_of_more_rows_are_not_judged(findings: Any) -> None:
    assert of_methods(findings, pbc=(6.0, 0.0)) == {}
    assert set(of_methods(findings, random=(5.0, 0.0), pbc=(6.0, 0.0))) == {"pbc"}
    many = [row("pbc", 6.0, seed=seed, size=501) for seed in range(3)]
    many += [row("random", 5.0, seed=seed, size=501) for seed in range(3)]
    many += [row(name, heldout) for name, heldout in PLACES.items()]
    assert findings.judged(groups_of(many), by_id(many)) == []


def test_random_rows_of_other_labels_are_no_control(findings: Any) -> None:
    hard = [row("random", 5.0, seed=seed) for seed in range(3)]
    for one in hard:
        one["labels"] = "hard"
    records = [row(name, heldout) for name, heldout in PLACES.items()] + hard
    records += [row("pbc", 6.0, seed=seed) for seed in range(3)]
    assert findings.judged(groups_of(records), by_id(records)) == []


def test_greedy_students_meet_the_constant_policy_if_it_returns_more(findings: Any) -> None:
    records = [row(name, heldout) for name, heldout in PLACES.items()]
    records.append(row("constant-policy", 5.5))
    for method, heldout in (("random", 5.0), ("pbc", 6.0)):
        records += [row(method, heldout, seed=seed) for seed in range(3)]
    for one in records:
        one["action_selection"] = "greedy"
    (found,) = findings.judged(groups_of(records), by_id(records))
    assert found.against(MARGINAL).difference.estimate == pytest.approx(0.5, abs=0.05)
    page = findings.floors_page([found])
    assert "(constant-policy)" in page
    assert "nature, greedy" in page


def test_students_of_all_the_data_stand_beside_their_policies(findings: Any) -> None:
    records = [row(name, heldout, 1.0) for name, heldout in PLACES.items()]
    whole = row("full-converged", 8.0, 2.0)
    table = findings.whole_table(
        findings.wholes(groups_of([*records, whole]), by_id([*records, whole]))
    )
    line = table.splitlines()[-1]
    assert "starpilot-plain" in line
    found = [float(cell.split()[0]) for cell in line.split("|")[5:9]]
    assert found == pytest.approx([1.0, 2.0, 1.0, 1.0], abs=0.05)


def test_what_is_lost_is_compared_with_what_random_rows_lose(findings: Any) -> None:
    sets = of_methods(findings, random=(5.0, 1.0), pbc=(6.0, 3.0), dbc=(4.0, 0.2))
    worse = sets["pbc"].worse_gap
    assert worse.estimate == pytest.approx(2.0, abs=0.05)
    assert worse.above_zero
    assert sets["dbc"].worse_gap.below_zero
    assert sets["pbc"].span == pytest.approx(10.0, abs=0.05)


def test_the_picture_draws_each_interval_as_a_share_of_the_way(findings: Any) -> None:
    sets = of_methods(findings, random=(5.0, 0.0), pbc=(6.0, 0.0)).values()
    svg = findings.picture(list(sets), "gain", "beside <random> rows")
    assert "+0.10" in svg
    assert "beside &lt;random&gt; rows" in svg
    assert svg.count("<circle") == 1


def test_what_all_the_data_lose_is_told_beside_their_expert(findings: Any) -> None:
    whole, expert = row("full-converged", 5.0, 0.5), row("expert", 7.0, 2.0)
    alike = findings.wholes(groups_of([whole, expert]), by_id([whole, expert]))
    assert alike[0].beside_expert.estimate == pytest.approx(-1.5, abs=0.05)
    assert "0 less (none)" in findings.counted(alike)  # equal students do not show their spread
    seen = whole["returns"]["seen"]
    whole["returns"]["seen"] = [[x + 0.1 * k for x in one] for k, one in enumerate(seen)]
    (apart,) = findings.wholes(groups_of([whole, expert]), by_id([whole, expert]))
    assert "1 less (starpilot-plain)" in findings.counted([apart])
    assert not findings.wholes(groups_of([row("full", 5.0)]), {})
