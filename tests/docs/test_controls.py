"""The page on methods and their controls: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import Row, groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def controls() -> Any:
    return script("baselines/findings/controls.py")


def of_methods(controls: Any, soft: tuple[str, ...] = (), **returns: float) -> dict[str, Any]:
    """Rows beside their controls by method, three sets of each that returns so much."""
    records = by_id(
        record(method, heldout, seed=seed, labels="soft" if method in soft else "hard")
        for name, heldout in returns.items()
        for method in (name.replace("_", "-"),)
        for seed in range(3)
    )
    groups = groups_of(records.values())
    return {pair.row.id: pair for group in groups for pair in controls.beside(group, records)}


def test_the_page_is_that_of_the_records(controls: Any) -> None:
    pairs = controls.read_pairs(ROOT / "leaderboard" / "results")
    assert pairs
    folder = ROOT / "docs" / "results"
    assert controls.page(pairs) in (folder / "controls.md").read_text()
    assert controls.picture(pairs) == (folder / "controls.svg").read_text()


def test_each_kind_of_method_has_its_control(controls: Any) -> None:
    assert controls.controls_of("deminf") == ("longest", "shortest")
    assert controls.controls_of("top-return") == ("longest", "shortest")
    assert controls.controls_of("pbc") == ("random",)
    assert controls.controls_of("critical") == ("random",)
    assert controls.controls_of("k-means") == ("random",)


def test_a_score_of_episodes_has_to_beat_the_better_length(controls: Any) -> None:
    pairs = of_methods(controls, longest=5.0, shortest=7.0, deminf=6.0, band=8.0, random=9.0)
    assert {name: pair.control.id for name, pair in pairs.items()} == {
        "deminf": "shortest",
        "band": "shortest",
    }
    assert pairs["deminf"].comparison.verdict == "below"
    assert pairs["band"].comparison.verdict == "above"
    page = controls.page(list(pairs.values()))
    assert "Of 2 rows, 1 above their control, 1 below." in page


def test_a_score_of_episodes_waits_for_both_lengths(controls: Any) -> None:
    assert set(of_methods(controls, longest=5.0, deminf=6.0, random=9.0, pbc=1.0)) == {"pbc"}


def test_rows_and_syntheses_meet_random_rows_of_their_labels(controls: Any) -> None:
    pairs = of_methods(controls, random=5.0, longest=9.0, critical=5.0, pbc=5.5)
    assert {pair.control.id for pair in pairs.values()} == {"random"}
    assert pairs["critical"].comparison.verdict == "level"
    assert pairs["pbc"].comparison.verdict == "above"
    assert of_methods(controls, random=5.0, pbc=5.5, soft=("pbc",)) == {}


def test_students_of_one_set_are_not_paired_with_sets(controls: Any) -> None:
    def of(seed: int, students: list[list[float]]) -> Any:
        return {"cell": {"condensation_seed": seed}, "returns": {"heldout": students}}

    sets = {f"s {seed}": of(seed, [[seed], [seed]]) for seed in range(4)}
    students = {"one": of(0, [[0.0], [1.0], [2.0]])}

    def row(cells: tuple[str, ...]) -> Row:
        return Row("m", {"id": "m", "config": {}}, None, "done", "", cells)

    of_sets, of_students = row(("s 0", "s 1", "s 2")), row(tuple(students))
    apart = controls.compare(of_sets, of_students, {**sets, **students}).difference
    assert apart.estimate == 0.0
    assert apart.high > 1.0  # paired, the interval would have no width
    assert not controls.compare(of_sets, of_sets, sets).difference.spread
    others = controls.compare(of_sets, row(("s 0", "s 1", "s 3")), sets).difference
    assert others.low < -1.0  # paired, two differences of three would be none
