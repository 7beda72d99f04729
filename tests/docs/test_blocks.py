"""Code blocks of the pages are executed: what they define passes its checks, the rest runs."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.checks import check
from rlcondense.cli import main
from rlcondense.experts.shipped import find_expert
from rlcondense.make import include, load_dataset, make_task
from rlcondense.records.store import MISSING, StoredState
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import suite_from
from rlcondense.tasks.minatar import MinAtarTask
from rlcondense.tasks.mujoco import MujocoTask
from tests.docs.pages import ROOT, Block, block, blocks

README = ROOT / "README.md"
# Files to include, by their page; what they define is checked.
EXTENSIONS = {
    "docs/extend/method.md": ("methods", "endings"),
    "docs/extend/learner.md": ("learners", "neighbour"),
    "docs/extend/task.md": ("tasks", "corridor"),
    "docs/extend/dataset.md": ("datasets", "mine/leaning-v0"),
}
SLOW = (  # seconds to minutes
    "docs/get-started.md:0",
    "docs/guide/sweeps.md:0",
    "docs/results/what-teaches.md:0",
)


def _scripts() -> list[Any]:
    return [
        pytest.param(b, id=str(b), marks=pytest.mark.slow if str(b) in SLOW else ())
        for b in blocks("python")
        if b.number or b.page not in EXTENSIONS
    ]


@pytest.fixture(autouse=True)
def _own_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))


@pytest.mark.parametrize("script", _scripts())
def test_a_script_runs(script: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(script.code, str(script), "exec"), {"__name__": "script"})


@pytest.mark.parametrize(
    "page",
    [p if "learner" not in p else pytest.param(p, marks=pytest.mark.slow) for p in EXTENSIONS],
)
def test_what_is_shown_passes_its_checks(page: str, tmp_path: Path) -> None:
    group, name = EXTENSIONS[page]
    file = tmp_path / f"{name.split('/')[-1].removesuffix('-v0')}.py"
    file.write_text(block(page))
    assert [(e.group, e.id) for e in include(file)] == [(group, name)]
    assert {r.name: r.message for r in check(name) if r.status == "failed"} == {}
    if group == "datasets":
        data = load_dataset(name)
        assert len(data.episode_returns()) == 20
        assert set(data.level_seeds) <= set(make_task(data.task).splits["seen"])


def test_levels_of_a_procgen_game_need_no_class() -> None:
    exec(block("docs/extend/task.md", 1), {})
    task = make_task("few/starpilot-v0")
    assert task.splits["seen"] == range(20)
    assert {r.name: r.message for r in check(task.id) if r.status == "failed"} == {}


def test_an_environment_of_gymnasiums_needs_no_class() -> None:
    exec(block("docs/extend/task.md", 2), {})
    task = make_task("mine/pendulum-moon-v0")
    assert task.make_env().unwrapped.g == 1.62  # type: ignore[attr-defined]
    assert task.make_env().unwrapped.m == 0.8  # type: ignore[attr-defined]
    assert {r.name: r.message for r in check(task.id) if r.status == "failed"} == {}


def test_a_file_that_registers_is_as_good_as_one_that_defines(tmp_path: Path) -> None:
    file = tmp_path / "moon.py"
    file.write_text(block("docs/extend/task.md", 2))
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
    exec(block("docs/extend/task.md", 3), {})
    hopper, breakout = make_task("light/hopper-v0"), make_task("long/breakout-v0")
    assert isinstance(hopper, MujocoTask)
    assert hopper.masses == {"torso": 0.5}
    assert isinstance(breakout, MinAtarTask)
    assert breakout.steps == 5000


def _nothing(ids: Iterable[str]) -> Mapping[str, StoredState]:
    return dict.fromkeys(ids, MISSING)


def test_the_suite_that_is_shown_can_be_planned() -> None:
    [shown] = blocks("toml")
    planned = plan_suite(suite_from("mine", tomllib.loads(shown.code)), _nothing)
    assert planned
    assert not [p.absent for p in planned if p.absent]


@pytest.mark.slow
def test_the_first_result_is_what_the_readme_shows(tmp_path: Path) -> None:
    """To the digit on the machine that made it; four pairs hold the pole up anywhere."""
    [line] = re.findall(r"^    rlcondense (run --method hades-f .*)$", README.read_text(), re.M)
    done = CliRunner().invoke(main, [*line.split(), "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert re.search(r"^hades-f \? +4 +500.00 ± 0.00 +500.00 ± 0.00 ", done.stdout, re.M)


@pytest.mark.slow
def test_the_path_from_an_expert_to_a_table_is_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "guide" / "your-own-data.md").read_text()
    lines = text.split("From an expert to a table in three commands:\n\n")[1].splitlines()[:3]
    train, collect, run = (shlex.split(line)[1:] for line in lines)
    run += ["--seeds", "1", "--episodes", "4", "--condensations", "1", "--workers", "1",
            "--set", "learner.updates=5", "--json"]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for command in (train, collect, run):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    out = json.loads(done.stdout)
    assert [r["cell"]["method"]["id"] for r in out["records"]] == ["random", "k-center"]
    [expert] = [r for r in out["references"] if r["cell"]["method"]["id"] == "expert"]
    assert expert["key"]["expert_sha256"] == find_expert("mine").sha256
