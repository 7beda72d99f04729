"""The page on bytes: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.rows import groups_of
from tests.docs.records import by_id, record
from tests.docs.scripts import ROOT, script

OWN, COARSE = {"bits": 8}, {"bits": 4, "resolution": 32}


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/bytes_budget.py")


def of(
    findings: Any, *rows: tuple[dict[str, int], int, float], methods: tuple[str, ...] = ("random",)
) -> list[Any]:
    """Codings with so many rows that return so much, three sets each, made rows one more."""
    records = [
        record(method, of_it, seed=seed, budget={"bytes": 1000} | coding, size=size + seed)
        for coding, size, heldout in rows
        for method, of_it in zip(methods, (heldout, heldout + 1), strict=False)
        for seed in range(3)
    ]
    (group,) = groups_of(records)
    return findings.codings(group, by_id(records))


def test_the_page_is_that_of_the_records(findings: Any) -> None:
    found = findings.read_codings(ROOT / "leaderboard" / "results")
    assert len(found) > 2
    assert findings.page(found) in (ROOT / "docs" / "results" / "bytes.md").read_text()


def test_codings_meet_frames_as_they_are(findings: Any) -> None:
    few, many = of(findings, (COARSE, 80, 5.0), (OWN, 10, 3.0))
    assert (few.name, few.gain) == ("8 bits", None)
    assert (many.name, many.gain.estimate) == ("4 bits, 32 x 32", pytest.approx(2.0))
    page = findings.page([few, many])
    # Equal differences do not show their spread.
    assert "Of 1 codings of `random`, 0 teach more" in page


def test_without_frames_as_they_are_nothing_is_compared(findings: Any) -> None:
    assert of(findings, (COARSE, 80, 5.0)) == []


def test_codings_meet_frames_of_as_many_bytes(findings: Any) -> None:
    more = {"bytes": 9000}
    rows = ((OWN, 10, 1.0), (OWN | more, 90, 5.0), (COARSE | more, 700, 5.5))
    gains = [coding.gain for coding in of(findings, *rows)]
    assert gains[:2] == [None, None]
    assert gains[2].estimate == pytest.approx(0.5)


def test_made_rows_meet_random_ones_of_their_coding_and_themselves_as_they_are(
    findings: Any,
) -> None:
    rows = ((COARSE, 80, 5.0), (OWN, 10, 3.0))
    found = of(findings, *rows, methods=("random", "pbc"))
    made = {coding.name: coding for coding in found if coding.row.id == "pbc"}
    chosen = [coding for coding in found if coding.row.id == "random"]
    assert [coding.control for coding in chosen] == [None, None]
    for coding in made.values():
        assert coding.control.difference.estimate == pytest.approx(1.0, abs=0.05)
    assert "Of 1 codings of `pbc`" in findings.page(found)
    assert made["4 bits, 32 x 32"].gain.estimate == pytest.approx(2.0, abs=0.05)
