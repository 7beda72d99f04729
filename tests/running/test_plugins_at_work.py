"""What methods and learners print, and what comes of one that calls sys.exit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlcondense.cli import main
from rlcondense.console import plugins_at_work
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import PluginExit, no_exit
from tests.conftest import TINY

PARTS = """
import sys
from dataclasses import dataclass

import numpy as np
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method, select
from rlcondense.policies import FixedPolicies

print("imported")

class Talkative(Method):
    def _condense(self, problem):
        print("condensing")
        return select(problem.dataset, np.arange(problem.size))

class Leaver(Method):
    def _condense(self, problem):
        sys.exit(0)

@dataclass(frozen=True)
class Config:
    leaves: str = ""

    def __post_init__(self):
        if self.leaves == "settings":
            sys.exit(3)

class Leaving(FixedPolicies):
    def action_probs(self, observations, policy_index):
        sys.exit()

class Dropout(Learner):
    Config = Config

    def fit(self, data, *, task, seeds, device="cpu", progress=lambda *_: None):
        print("training")
        if self.config.leaves == "training":
            sys.exit("enough")
        kind = Leaving if self.config.leaves == "playing" else FixedPolicies
        return kind(np.ones(task.action_space.n), seeds)
"""
SCRIPT = """
import ctypes, os, subprocess, sys
from rlcondense.console import plugins_at_work
print("before")
with plugins_at_work():
    print("by print")
    os.write(1, b"by write\\n")
    ctypes.CDLL(None).puts(b"by C")
    subprocess.run(["echo", "by a child"])
print("after")
"""


@pytest.fixture
def parts(tmp_path: Path, tiny: TransitionDataset) -> Path:
    file = tmp_path / "parts.py"
    file.write_text(PARTS)
    return file


def call(parts: Path, *arguments: str) -> Result:
    quick = ["--dataset", TINY, "--size", "3", "--seeds", "1", "--episodes", "1"]
    results = ["--results", str(parts.parent / "results")]
    return CliRunner().invoke(
        main, ["run", "--include", str(parts), *arguments, *quick, "--json", *results]
    )


def test_what_parts_print_goes_to_stderr(parts: Path) -> None:
    done = call(parts, "--method", "talkative", "--learner", "dropout")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["record"]["status"] == "done"
    for said in ("imported", "condensing", "training"):
        assert said in done.stderr


def test_stdout_is_kept_from_c_and_from_children_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "before\nafter\n"
    assert sorted(done.stderr.splitlines()) == ["by C", "by a child", "by print", "by write"]


@pytest.mark.parametrize(
    ("arguments", "who"),
    [
        pytest.param(
            ["--method", "leaver"],
            "method 'leaver' called sys.exit(0)",
            marks=pytest.mark.slow,
        ),
        (
            ["--method", "random", "--learner", "dropout", "--set", "learner.leaves=training"],
            "learner 'dropout' called sys.exit('enough')",
        ),
        (
            ["--method", "random", "--learner", "dropout", "--set", "learner.leaves=playing"],
            "random 3 dropout seed 0 called sys.exit(None)",
        ),
    ],
)
def test_one_that_exits_is_a_failed_cell_with_its_name(
    parts: Path, arguments: list[str], who: str
) -> None:
    done = call(parts, *arguments)
    assert done.exit_code == 1, done.output
    record = json.loads(done.stdout)["record"]
    assert record["status"] == "failed"
    assert who in record["reason"]
    kept = parts.parent / "results" / "records" / f"{record['cell_id']}.json"
    assert json.loads(kept.read_text())["reason"] == record["reason"]


def test_settings_that_exit_are_one_line(parts: Path) -> None:
    done = call(parts, "--learner", "dropout", "--set", "learner.leaves=settings")
    assert done.exit_code == 2
    assert "Error: learner 'dropout' called sys.exit(3)" in done.stderr


def test_no_exit_lets_everything_else_pass() -> None:
    with pytest.raises(PluginExit, match="method 'x' called"), no_exit("method 'x'"):
        sys.exit(1)
    with pytest.raises(KeyboardInterrupt), no_exit("method 'x'"):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="mine"), plugins_at_work():
        raise ValueError("mine")
