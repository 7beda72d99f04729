"""Curves: runs compared at equal steps."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.reporting.curves import _tick, compare_curves, read_curve

SMALL = [
    part
    for pair in ("population=2", "generations=3", "width=4", "episodes=1", "horizon=5")
    for part in ("--set", pair)
]


def written(folder: Path, file: str = "report.json", **facts: Any) -> Path:
    folder.mkdir()
    (folder / file).write_text(json.dumps({"task": "t/one-v0", **facts}))
    return folder


def run(folder: Path, name: str, steps: list[int], mean: list[float]) -> Path:
    curve = {"steps": steps, "best": mean, "mean": mean}
    return written(folder, method=name, size=4, seed=folder.name, curve=curve)


def test_runs_are_compared_at_the_steps_that_all_have_taken(tmp_path: Path) -> None:
    """One method rises by 2 in 100 steps, another by 1, and one run goes on for longer."""
    folders = [
        run(tmp_path / "a0", "a", [50, 100], [1.0, 2.0]),
        run(tmp_path / "a1", "a", [50, 100, 150], [1.2, 2.2, 9.0]),
        run(tmp_path / "b0", "b", [20, 100], [0.2, 1.0]),
    ]
    found = compare_curves(folders)
    assert (found.begin, found.end) == (50, 100)
    assert found.steps(3).tolist() == [50, 75, 100]
    assert list(found.groups) == ["a, 4 pairs", "b, 4 pairs"]
    at = np.array([60.0, 100.0])
    assert [i.estimate for i in found.intervals(at)["a, 4 pairs"]] == pytest.approx([1.3, 2.1])
    assert not found.intervals(at)["b, 4 pairs"][0].known
    assert found.differences(at)["b, 4 pairs"][1].estimate == pytest.approx(1.1)
    low, high = (getattr(found.intervals(at)["a, 4 pairs"][1], k) for k in ("low", "high"))
    assert low < 2.0
    assert high > 2.2


def test_round_values_on_an_axis_keep_their_digits() -> None:
    values = (0.25, 499.92, 499.94, 1000.2, 1000.4, 25_000.0, 1_000_000.0)
    texts = ["0.25", "499.92", "499.94", "1,000.2", "1,000.4", "25,000", "1,000,000"]
    assert [_tick(value) for value in values] == texts


@pytest.mark.parametrize("mean", [[3e38, -3e38], [3e38, 3e38], [5e-324, 0.0], [1.0, 1.0 + 1e-15]])
def test_curves_of_any_size_are_drawn(tmp_path: Path, mean: list[float]) -> None:
    drawn = compare_curves([run(tmp_path / "a0", "a", [50, 100], mean)]).svg()
    assert drawn.count('stroke="#ddd"') > 1  # its ticks


def test_runs_without_a_step_in_common_are_refused(tmp_path: Path) -> None:
    early = run(tmp_path / "a0", "a", [50, 100], [1.0, 2.0])
    late = run(tmp_path / "b0", "b", [101, 200], [1.0, 2.0])
    with pytest.raises(BadConfig, match="no steps in common"):
        compare_curves([early, late])


@pytest.mark.slow
def test_what_was_condensed_and_what_evolved_are_drawn_together(tmp_path: Path) -> None:
    runner, made = CliRunner(), []
    for seed in range(2):
        made += [str(tmp_path / f"hades-{seed}"), str(tmp_path / f"es-{seed}")]
        commands = (
            ["condense", "--method", "hades-f", "--task", "cartpole", "--size", "2"],
            ["expert", "evolve", "cartpole", "--episodes", "1"],
        )
        for command, folder in zip(commands, made[-2:], strict=True):
            extra = ["--set", "inner_updates=2"] if command[0] == "condense" else []
            done = runner.invoke(
                main, [*command, "--seed", str(seed), "--out", folder, *SMALL, *extra]
            )
            assert done.exit_code == 0, done.output
    picture = tmp_path / "curves.svg"
    done = runner.invoke(main, ["curves", *made, "--svg", str(picture), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["steps"][-1] == 30
    assert [len(rows) for rows in found["groups"].values()] == [5, 5]
    assert {rows[0]["n"] for rows in found["groups"].values()} == {2}
    lines = [e for e in ET.fromstring(picture.read_text()).iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2 * (2 + 1)
    texts = [
        e.text or "" for e in ET.fromstring(picture.read_text()).iter() if e.tag.endswith("text")
    ]
    ticks = [float(text) for text in texts[: texts.index("0")]]
    assert len(ticks) == len(set(ticks)) > 2
    assert "(2 runs)" in runner.invoke(main, ["curves", *made]).stdout


@pytest.mark.parametrize(
    "facts",
    [
        {"method": "random"},
        {"method": "x", "curve": {"steps": [1, 2], "mean": [1]}},
        {"method": "x", "curve": {"steps": [2, 1], "mean": [1, 1]}},
        {"method": "x", "task": "t", "curve": {"steps": [1, "inf"], "mean": [1, 1]}},
        {"method": "x", "curve": {"steps": [1], "mean": [float("nan")]}},
        {"method": "x", "curve": {"steps": [1, 2], "mean": [1e308, -1e308]}},
        {"curve": []},
    ],
)
def test_a_folder_without_a_curve_says_so(tmp_path: Path, facts: dict[str, Any]) -> None:
    # NaN is no JSON, so that the report itself is refused.
    with pytest.raises((BadConfig, CorruptArtifact), match=r"has no curve|holds NaN"):
        read_curve(written(tmp_path / "x", **facts))
    done = CliRunner().invoke(main, ["curves", str(tmp_path / "nothing")])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


def test_curves_of_different_tasks_do_not_compare(tmp_path: Path) -> None:
    one = run(tmp_path / "a", "a", [1], [1.0])
    other = written(
        tmp_path / "b", method="b", curve={"steps": [1], "mean": [1.0]}, task="t/two-v0"
    )
    with pytest.raises(BadConfig, match="different tasks"):
        compare_curves([one, other])


def test_only_replicates_are_averaged(tmp_path: Path) -> None:
    curve = {"steps": [1], "mean": [1.0]}
    made = {"method": "a", "curve": curve}
    one = written(tmp_path / "a", **made, seed=0, config={"population": 8})
    again = written(tmp_path / "b", **made, seed=0, config={"population": 8})
    other = written(tmp_path / "c", **made, seed=1, config={"population": 64})
    with pytest.raises(BadConfig, match="same seed"):
        compare_curves([one, again])
    with pytest.raises(BadConfig, match="different settings"):
        compare_curves([one, other])


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = run(tmp_path / "a", "<script>", [1, 2], [1.0, 2.0])
    assert "<script>" not in compare_curves([evil]).svg()
