from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rlcondense import catalogue
from rlcondense.cli import main
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.files import write_arrays
from rlcondense.make import make_method, make_task
from rlcondense.reporting.states import state_table

SMALL = {"population": 2, "generations": 1, "width": 4, "inner_updates": 1, "horizon": 5}


def condensed_to(folder: Path, task: str, size: int) -> CondensedDataset:
    method = make_method("hades-r", **SMALL, sigma=1.0)
    data = method.condense(None, task=make_task(task), budget=size)
    data.save(folder)
    return data


def show(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)])


def test_condensed_states_are_shown_by_name(tmp_path: Path) -> None:
    data = condensed_to(tmp_path, "cartpole", 2)
    done = show(tmp_path)
    assert done.exit_code == 0, done.output
    *_, head, _, left, right = done.stdout.rstrip().splitlines()
    for name in ("action", "cart position", "cart velocity", "pole angle", "pole velocity"):
        assert name in head
    assert "weight" not in head
    assert left.startswith("push left")
    assert right.startswith("push right")
    assert left.split()[2:] == [f"{v:.3g}" for v in data.observations[0]]
    assert "curve" not in done.stdout


def test_continuous_actions_are_shown_as_numbers(tmp_path: Path) -> None:
    data = condensed_to(tmp_path, "pendulum", 3)
    lines = show(tmp_path).stdout.rstrip().splitlines()
    assert lines[-5].split()[0] == "torque"
    assert float(lines[-1].split()[0]) == pytest.approx(float(data.actions[2, 0]), rel=0.01)


def test_a_set_that_somebody_changed_gets_one_line(tmp_path: Path) -> None:
    data = condensed_to(tmp_path, "cartpole", 2)
    report = json.loads((tmp_path / "report.json").read_text())
    replace(data, actions=np.array([-1, 9])).save(tmp_path)
    assert "action -1" in show(tmp_path).stdout
    assert "action 9" in show(tmp_path).stdout
    for name, wrong in (("task", ["x"]), ("config", [1]), ("method", ["x"])):
        changed = {k: v for k, v in report.items() if k != "sha256"} | {name: wrong}
        (tmp_path / "report.json").write_text(json.dumps(changed))
        for command in (["show", str(tmp_path)], ["evaluate", str(tmp_path), "--task", "cartpole"]):
            done = CliRunner().invoke(main, command)
            assert done.exit_code == 2, done.output
            assert done.stderr.count("\n") == 1


def made(observations: Any, **more: Any) -> CondensedDataset:
    rows = len(observations)
    given = {"actions": np.zeros(rows, np.int64), "weights": np.ones(rows, np.float32), **more}
    return CondensedDataset(observations=np.asarray(observations, np.float32), **given)


def test_nameless_numbers_are_counted_and_long_sets_cut() -> None:
    table = state_table(made(np.ones((70, 2)), weights=np.arange(70, dtype=np.float32)), {})
    assert table is not None
    lines = table.splitlines()
    assert lines[0].split("  ")[0] == "action"
    assert "feature 1" in lines[0]
    assert "weight" in lines[0]
    assert len(lines) == 2 + 64 + 1
    assert lines[-1] == "(6 more)"
    assert state_table(made(np.ones((2, 17))), {}) is None
    assert state_table(made(np.ones((2, 1, 4, 4))), {}) is None


def test_every_task_of_classic_control_names_what_it_shows() -> None:
    for id_, entry in catalogue.entries("tasks").items():
        if id_.startswith("classic/"):
            task = make_task(id_)
            assert len(entry.facts["observation_names"]) == task.observation_space.shape[0]  # type: ignore[index]
            wanted = getattr(task.action_space, "n", 1)
            assert len(entry.facts["action_names"]) == wanted


def test_frames_are_drawn_and_vectors_are_not(tmp_path: Path) -> None:
    condensed_to(tmp_path / "a", "digits", 10)
    done = show(tmp_path / "a", "--png", tmp_path / "a.png")
    assert done.exit_code == 0, done.output
    assert imageio.imread(tmp_path / "a.png").shape == (70, 700, 3)
    condensed_to(tmp_path / "b", "cartpole", 2)
    refused = show(tmp_path / "b", "--png", tmp_path / "b.png")
    assert refused.exit_code == 2
    assert "are no frames" in refused.output
    refused = show("hades-r", "--png", tmp_path / "c.png")
    assert refused.exit_code == 2
    assert "--png draws the folder of a condensed set: 'hades-r' is none" in refused.output


def test_colours_and_labels_of_frames_are_named(tmp_path: Path) -> None:
    data = condensed_to(tmp_path, "breakout", 4)
    done = show(tmp_path, "--png", tmp_path / "a.png")
    assert done.exit_code == 0, done.output
    assert imageio.imread(tmp_path / "a.png").shape == (64, 4 * 64, 3)
    assert "white paddle, red ball, cyan where the ball was, yellow bricks" in done.stdout
    names = ("stay", "left", "right")
    assert f"labels           {', '.join(names[a] for a in data.actions)}" in done.stdout


@pytest.mark.parametrize(
    "id_", sorted(id_ for id_ in catalogue.entries("tasks") if id_.startswith("minatar/"))
)
def test_every_plane_and_action_of_minatar_has_a_name(id_: str) -> None:
    facts, task = catalogue.entries("tasks")[id_].facts, make_task(id_)
    assert len(facts["observation_names"]) == task.observation_space.shape[0]  # type: ignore[index]
    assert len(facts["action_names"]) == task.action_space.n  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.array([0.0, np.nan], np.float32)}, "neither whole numbers nor vectors"),
        ({"label_kind": "hard", "findings": [1]}, "a finding is no table of values"),
        ({"label_kind": "hard", "findings": 1}, "not iterable"),
    ],
)
def test_a_set_that_was_tampered_with_is_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = condensed_to(tmp_path, "cartpole", 2)
    if "actions" in change:
        write_arrays(tmp_path / "condensed.safetensors", {**data.columns(), **change})
        report = json.loads((tmp_path / "report.json").read_text())
        (tmp_path / "report.json").write_text(json.dumps({**report, "sha256": None}))
    else:
        (tmp_path / "report.json").write_text(json.dumps(change))
    done = show(tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert message in done.stderr


def test_settings_of_policies_of_any_form_are_shown(tmp_path: Path) -> None:
    (tmp_path / "policies.json").write_text(json.dumps({"settings": [1], "seeds": [0]}))
    done = show(tmp_path)
    assert done.exit_code == 0, done.output
    assert "[1]" in done.stdout
