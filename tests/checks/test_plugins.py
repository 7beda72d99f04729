"""Installed plugins, broken and hostile ones too: real metadata, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlcondense.datasets.transitions import TransitionDataset
from tests.conftest import TINY, processor_seconds

GOOD = "from rlcondense.methods.random import Random\n\nclass Mine(Random):\n    pass\n"


def _install(folder: Path, distribution: str, name: str, code: str, group: str = "methods") -> None:
    """Put a distribution with one module and one entry point into `folder`."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[rlcondense.{group}]\n{name} = {module}:Mine\n")


def _call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "rlcondense.cli", *arguments],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    _install(folder, "good-plugin", "good", GOOD)
    _install(folder, "raising-plugin", "raising", "raise ValueError('no luck today')\n")
    slow = "import pathlib, time\npathlib.Path(__file__).with_name('imported').touch()\n"
    _install(folder, "slow-plugin", "slow", f"{slow}time.sleep(1)\n{GOOD}")
    _install(folder, "thief-plugin", "gradmatch", GOOD)
    parting = "import atexit\natexit.register(print, 'good', 'bye')\n"
    _install(folder, "talking-plugin", "talking", f"{parting}{GOOD}")
    _install(folder, "wrong-plugin", "wrong", GOOD, "learners")
    _install(folder, "bare-plugin", "bare", GOOD.replace("pass", "Config = None"))
    _install(folder, "first-twin", "twin", GOOD)
    _install(folder, "second-twin", "twin", GOOD)
    _install(folder, "exiting-plugin", "exiting", "import sys\nsys.exit(0)\n")
    half_removed = folder / "half_removed-1.0.dist-info"
    half_removed.mkdir()
    (half_removed / "entry_points.txt").write_text("[rlcondense.methods]\ngone = gone:Gone\n")
    return folder


def test_list_and_help_import_no_plugin_and_show_what_is_wrong(folder: Path) -> None:
    (folder / "imported").unlink(missing_ok=True)  # of another test
    for command in ("list", "--help"):
        done = _call(folder, command)
        assert done.returncode == 0, done.stderr
        assert not (folder / "imported").exists()
    done = _call(folder, "list")
    assert "! gradmatch of thief-plugin 1.2 is hidden by the built-in one" in done.stdout
    assert "! offered by first-twin 1.2 and second-twin 1.2: cannot be used" in done.stdout
    assert "raising" in done.stdout
    subprocess.run([sys.executable, folder / "slow_plugin.py"], check=True)
    assert (folder / "imported").exists()


def test_list_survives_a_malformed_distribution(tmp_path: Path) -> None:
    """Torch does not, so that is all that does."""
    _install(tmp_path, "good-plugin", "good", GOOD)
    info = tmp_path / "malformed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: malformed\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rlcondense.methods]\nnothing but words\n")
    done = _call(tmp_path, "list", "methods")
    assert done.returncode == 0, done.stderr
    assert " good " in done.stdout


def test_a_stolen_name_still_means_the_built_in(folder: Path) -> None:
    shown = json.loads(_call(folder, "show", "gradmatch", "--json").stdout)
    assert shown["entry_point"] == "rlcondense.methods.gradmatch:GradMatch"


@pytest.mark.slow
def test_gradmatch_runs_beside_all_of_them(
    folder: Path, tmp_path: Path, tiny: TransitionDataset
) -> None:
    done = _call(
        folder, "run", "--method", "gradmatch", "--dataset", TINY, "--size", "15", "--seeds", "1",
        "--episodes", "2", "--set", "iterations=1", "--set", "network=compact", "--set",
        "learner.network=compact", "--set", "learner.updates=2", "--results", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\ngradmatch " in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raising", "'raising' of raising-plugin 1.2 cannot be loaded .*no luck today"),
        ("twin", "first-twin 1.2 and second-twin 1.2 both offer the method 'twin'"),
    ],
)
def test_using_a_bad_plugin_is_one_clear_error(folder: Path, name: str, message: str) -> None:
    done = _call(folder, "condense", "--method", name, "--out", "never")
    assert done.returncode == 2
    assert all(part in done.stderr for part in message.split(" .*"))
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_plugins_says_how_each_fares(folder: Path) -> None:
    done = _call(folder, "plugins", "--json")
    assert done.returncode == 0, done.stderr
    states = {(s["origin"], s["id"]): s for s in json.loads(done.stdout)}
    assert {key: state["status"] for key, state in states.items()} == {
        ("good-plugin 1.2", "good"): "ok",
        ("raising-plugin 1.2", "raising"): "broken",
        ("exiting-plugin 1.2", "exiting"): "broken",
        ("slow-plugin 1.2", "slow"): "ok",
        ("thief-plugin 1.2", "gradmatch"): "hidden",
        ("first-twin 1.2", "twin"): "disputed",
        ("second-twin 1.2", "twin"): "disputed",
        ("talking-plugin 1.2", "talking"): "ok",
        ("wrong-plugin 1.2", "wrong"): "broken",
        ("bare-plugin 1.2", "bare"): "broken",
    }
    assert "is no Learner" in states["wrong-plugin 1.2", "wrong"]["reason"]
    assert "its Config is no dataclass" in states["bare-plugin 1.2", "bare"]["reason"]
    assert "ValueError: no luck today" in states["raising-plugin 1.2", "raising"]["reason"]
    assert states["slow-plugin 1.2", "slow"]["seconds"] > 1


@pytest.mark.slow
def test_list_stays_quick_with_two_hundred_plugins(tmp_path: Path) -> None:
    for number in range(200):
        _install(tmp_path, f"plugin-{number}", f"method-{number}", GOOD)
    assert _call(tmp_path, "list").stdout.count("method-") == 200
    assert processor_seconds(lambda: _call(tmp_path, "list")) < 1
