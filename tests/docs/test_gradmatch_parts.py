"""The page on gradient matching: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.config import config_json
from rlcondense.make import make_method
from rlcondense.running.suite import load_suite
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/gradmatch_parts.py")


def test_the_part_is_that_of_the_records(findings: Any) -> None:
    found = findings.read_variants(ROOT / "leaderboard" / "results")
    assert findings.page(found) in (ROOT / "docs" / "results" / "gradmatch.md").read_text()


def test_each_form_of_the_suite_has_a_name_of_its_own(findings: Any) -> None:
    product, *_ = load_suite("gradmatch-parts").products
    configs = [
        config_json(make_method("gradmatch", **choice.config).config)
        for choice in product.methods
        if choice.id == "gradmatch"
    ]
    assert [findings.form_of(config) for config in configs] == [
        (place, name) for place, (_, name) in enumerate(findings.FORMS)
    ]


def test_a_form_meets_the_frames_that_it_starts_from(findings: Any) -> None:
    config = config_json(make_method("gradmatch", preset="per-class").config)
    made = [record("gradmatch", 5.0, seed=s, apart=0.02) for s in range(3)]
    for one in made:
        one["cell"]["method"]["config"] = config
    controls = {("init-only", "hard"): 4.0, ("init-only", "soft"): 9.0, ("random", "hard"): 5.5}
    records = made + [
        record(name, value, seed=s, labels=labels)
        for (name, labels), value in controls.items()
        for s in range(3)
    ]
    (group,) = groups_of(records)
    (row,) = group.of_id("gradmatch")
    one = findings.variant_of(group, row, by_id(records))
    assert one.start.difference.estimate == pytest.approx(1.0, abs=0.1)
    assert one.random.difference.estimate == pytest.approx(-0.5, abs=0.1)
    assert findings.page([one]).startswith(
        "Rows on 1 tasks: of 1 beside their start, 1 are above and 0 below; "
        "of 1 beside random rows of their labels, 0 are above and 1 below."
    )


def test_a_form_that_starts_from_random_rows_meets_those_of_its_seeds(findings: Any) -> None:
    config = config_json(make_method("gradmatch", preset="per-class", start="random").config)
    made = [record("gradmatch", 5.0 + 3.0 * s, seed=s, apart=0.02) for s in range(3)]
    for one in made:
        one["cell"]["method"]["config"] = config
    # Of five random sets three are those that it starts from, each a return of one below its own.
    starts = [record("random", 4.0 + 3.0 * s, seed=s, apart=0.02) for s in range(5)]
    records = [*made, *starts]
    (group,) = groups_of(records)
    (row,) = group.of_id("gradmatch")
    one = findings.variant_of(group, row, by_id(records))
    assert one.start.difference.estimate == pytest.approx(1.0, abs=0.1)
    assert one.start.difference.standard_error < 0.1
    assert one.random.difference.estimate == pytest.approx(-2.0, abs=0.1)
    assert one.random.difference.standard_error > 1.0


def test_a_form_that_holds_rows_back_starts_from_rows_of_its_own(findings: Any) -> None:
    settings = {"start": "random", "labels": "soft", "validate_every": 25}
    config = config_json(make_method("gradmatch", preset="per-class", **settings).config)
    made = [record("gradmatch", 5.0, seed=s, apart=0.02) for s in range(3)]
    for one in made:
        one["cell"]["method"]["config"] = config
    records = [*made, *(record("random", 4.0, seed=s) for s in range(3))]
    (group,) = groups_of(records)
    (row,) = group.of_id("gradmatch")
    one = findings.variant_of(group, row, by_id(records))
    assert one.start is None
    assert one.random.difference.estimate == pytest.approx(1.0, abs=0.1)


def test_names_stand_alone_wherever_a_row_is_sorted_to(findings: Any) -> None:
    names = [name for _, name in findings.FORMS]
    assert not [name for name in names if "the same" in name]
    assert len(set(names)) == len(names)
    config = {**config_json(make_method("gradmatch").config), "student_rate": 0.02}
    row = next(iter(groups_of([_with_config(config)])[0].of_id("gradmatch")))
    assert findings.short_name(row).endswith("training, another student)")


def _with_config(config: dict[str, Any]) -> Any:
    one = record("gradmatch", 5.0)
    one["cell"]["method"]["config"] = config
    return one
