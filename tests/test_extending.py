"""EXTENDING.md is executed: its methods, learners and tasks pass their checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.checks import check
from rlcondense.cli import main
from rlcondense.make import include, make_task
from rlcondense.tasks.minatar import MinAtarTask
from rlcondense.tasks.mujoco import MujocoTask

TEXT = (Path(__file__).parents[1] / "EXTENDING.md").read_text()


def _block(heading: str, number: int = 0) -> str:
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[number]


@pytest.fixture(autouse=True)
def _own_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))


@pytest.mark.parametrize(
    ("heading", "group", "name"),
    [
        ("Add a method", "methods", "endings"),
        ("Add a learner", "learners", "neighbour"),
        ("Add a task", "tasks", "corridor"),
    ],
)
def test_what_is_shown_passes_its_checks(
    heading: str, group: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(_block(heading))
    assert [(e.group, e.id) for e in include(file)] == [(group, name)]
    assert {r.name: r.message for r in check(name) if r.status == "failed"} == {}


def test_levels_of_a_procgen_game_need_no_class() -> None:
    exec(_block("Add a task", 1), {})
    task = make_task("few/starpilot-v0")
    assert task.splits["seen"] == range(20)
    assert {r.name: r.message for r in check(task.id) if r.status == "failed"} == {}


def test_an_environment_of_gymnasiums_needs_no_class() -> None:
    exec(_block("Add a task", 2), {})
    task = make_task("mine/pendulum-moon-v0")
    assert task.make_env().unwrapped.g == 1.62  # type: ignore[attr-defined]
    assert task.make_env().unwrapped.m == 0.8  # type: ignore[attr-defined]
    assert {r.name: r.message for r in check(task.id) if r.status == "failed"} == {}


def test_a_file_that_registers_is_as_good_as_one_that_defines(tmp_path: Path) -> None:
    file = tmp_path / "moon.py"
    file.write_text(_block("Add a task", 2))
    command = [
        "run", "--include", str(file), "--method", "hades-r", "--task", "mine/pendulum-moon-v0",
        "--size", "2", "--seeds", "1", "--episodes", "2", "--results", str(tmp_path / "results"),
        "--set", "population=2", "--set", "generations=1", "--set", "inner_updates=1",
        "--set", "width=4", "--set", "horizon=5",
    ]  # fmt: skip
    for _ in range(2):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        [path] = done.stdout.partition("Condensed data:")[2].split()
        assert (Path(path) / "report.json").is_file()
    assert '"distribution": "moon.py"' in CliRunner().invoke(main, [*command, "--json"]).stdout


def test_robots_and_games_need_no_class() -> None:
    exec(_block("Add a task", 3), {})
    hopper, breakout = make_task("light/hopper-v0"), make_task("long/breakout-v0")
    assert isinstance(hopper, MujocoTask)
    assert hopper.masses == {"torso": 0.5}
    assert isinstance(breakout, MinAtarTask)
    assert breakout.steps == 5000
