from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.errors import BadConfig
from rlcondense.files import read_json, read_unpacked
from rlcondense.reporting.compare import compare
from rlcondense.statistics.intervals import difference_of

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"
GRADMATCH, RANDOM = RESULTS / "03b89e4e79b1072c.json.gz", RESULTS / "3bccce07615a3f4b.json.gz"


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = read_json(path)
    return record


def _run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    return result.exit_code, result.output


def test_two_records_are_paired_by_seed_and_by_level() -> None:
    code, text = _run(GRADMATCH, RANDOM)
    assert code == 0
    assert "method.id: gradmatch / random" in text
    found = compare(_record(GRADMATCH), _record(RANDOM)).splits["heldout"]
    assert found.difference.n == 3
    assert found.by_level.n == 100
    assert found.difference.estimate == pytest.approx(found.by_level.estimate)
    assert found.difference.estimate == pytest.approx(found.a.estimate - found.b.estimate)
    assert sum(found.levels) == 100


def test_turned_round_it_says_the_opposite() -> None:
    there = compare(_record(GRADMATCH), _record(RANDOM)).splits["seen"]
    back = compare(_record(RANDOM), _record(GRADMATCH)).splits["seen"]
    assert back.difference.low == pytest.approx(-there.difference.high)
    assert back.probability.low == pytest.approx(1 - there.probability.high)
    assert back.levels == there.levels[::-1]


def test_levels_that_are_equal_but_for_rounding_are_equal() -> None:
    a, b = _record(RANDOM), _record(RANDOM)
    for one, students in ((a, 3), (b, 5)):
        one["returns"] = {split: [[0.1] * 100] * students for split in one["returns"]}
        one["lengths"] = {split: [[5] * 100] * students for split in one["lengths"]}
        one["cell"]["learner_seeds"] = list(range(students))
    found = compare(a, b).splits["heldout"]
    assert (found.levels, found.by_level.estimate) == ((0, 100, 0), 0)


def test_what_returns_more_on_every_level_is_above_and_the_other_below() -> None:
    a, b = _record(RANDOM), _record(RANDOM)
    b["returns"] = {
        split: [[value - 100 - place for value in row] for place, row in enumerate(rows)]
        for split, rows in b["returns"].items()
    }
    there, back = (compare(*pair).splits["heldout"] for pair in ((a, b), (b, a)))
    assert (there.levels, back.levels) == ((100, 0, 0), (0, 0, 100))
    assert (there.probability.estimate, back.probability.estimate) == (1, 0)
    assert there.difference.estimate == pytest.approx(101)
    twice = [SimpleNamespace(records=[_apart(row, by) for by in (0, 0.1)]) for row in (a, b)]
    assert "A is above B" in str(rlc.compare(*twice))
    assert "A is below B" in str(rlc.compare(*twice[::-1]))


def _apart(record: dict[str, Any], by: float) -> dict[str, Any]:
    """The record of another set, whose students return a little more."""
    returns = {s: [[x + by for x in row] for row in rows] for s, rows in record["returns"].items()}
    return {**record, "returns": returns}


def test_rows_of_several_sets_are_paired_by_set() -> None:
    a, b = _record(GRADMATCH), _record(RANDOM)
    better = _record(GRADMATCH)
    better["returns"] = {
        split: [[value + 1 for value in row] for row in rows]
        for split, rows in better["returns"].items()
    }
    comparison = rlc.compare(SimpleNamespace(records=[a, better]), SimpleNamespace(records=[b, b]))
    there = comparison.splits["heldout"]
    assert there.difference.n == 2
    assert there.by_level.estimate == pytest.approx(there.difference.estimate)
    assert comparison.splits["heldout"].difference.estimate == pytest.approx(
        compare(a, b).splits["heldout"].difference.estimate + 0.5
    )
    assert "over sets and students" in repr(comparison)
    assert "one set: not judged" not in repr(comparison)
    with pytest.raises(BadConfig, match="one method, not of gradmatch, random"):
        rlc.compare(SimpleNamespace(records=[a, b]), str(RANDOM))


def test_json_has_both_splits() -> None:
    code, text = _run(GRADMATCH, RANDOM, "--json")
    assert code == 0
    assert set(json.loads(text)) == {"seen", "heldout"}


def test_what_was_played_elsewhere_is_not_compared() -> None:
    a, b = _record(GRADMATCH), _record(RANDOM)
    b["level_seeds"]["seen"][0] += 1
    with pytest.raises(BadConfig, match="different levels"):
        compare(a, b)
    b["cell"]["task"] = "procgen/jumper-easy-v0"
    with pytest.raises(BadConfig, match="different tasks"):
        compare(a, b)
    b["status"] = "failed"
    with pytest.raises(BadConfig, match="'failed'"):
        compare(a, b)


def test_other_versions_are_named() -> None:
    record = _record(RANDOM)
    record["key"]["gymnasium version"] = "0.1"
    assert "gymnasium version: " in str(compare(_record(RANDOM), record))


def test_a_folder_may_be_called_anything_where_its_record_is_compared() -> None:
    record = _record(RANDOM)
    record["cell"]["method"]["id"] = "condensed:my set (1)"
    assert "condensed:my set (1)" in str(compare(record, _record(RANDOM)))


def test_an_altered_or_absent_record_is_one_line(tmp_path: Path) -> None:
    altered = tmp_path / "altered.json"
    altered.write_text(read_unpacked(RANDOM).decode().replace('"seed":0', '"seed":1', 1))
    for path, said in ((altered, "was altered"), (tmp_path / "none.json", "is missing")):
        code, text = _run(GRADMATCH, path)
        assert code == 2
        assert said in text
        assert "Traceback" not in text


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_site_computes_the_same_differences() -> None:
    rng, shapes = np.random.default_rng(0), [(1, 3), (3, 3), (2, 3), (5, 3), (2, 5), (1, 1), (3, 1)]
    shapes += [(1, 2), (2, 2), (5, 2)]
    pairs = [
        (rng.normal(0, 1, a) + rng.normal(0, 1, (1, a[1])), rng.normal(0, 1, b))
        for a in shapes
        for b in shapes
    ]
    pairs += [(np.repeat(x[:1], 3, 0), y) for x, y in pairs[:10]]  # sets that are all the same
    pairs.append((np.array([[1000, 1001, 1003]]) / 3, np.array([[999, 1000, 1002]]) / 3))
    script = files("rlcondense").joinpath("reporting/site/compare.js").read_text()
    asked = json.dumps([[x.tolist(), y.tolist()] for x, y in pairs])
    code = f"console.log(JSON.stringify({asked}.map(([x, y]) => differenceOf(x, y))))"
    head = script.split("const fixed =")[0]
    run = subprocess.run(["node", "-e", head + code], capture_output=True, text=True, check=True)
    for (x, y), there in zip(pairs, json.loads(run.stdout), strict=True):
        here = difference_of(x, y)
        assert there["estimate"] == pytest.approx(here.estimate, rel=1e-9, abs=1e-9)
        assert there["spread"] == here.spread
        assert (there["low"] is None) != here.known
        if here.known:
            assert there["low"] == pytest.approx(here.low, rel=1e-6, abs=1e-6)
            assert there["high"] == pytest.approx(here.high, rel=1e-6, abs=1e-6)
