"""Parts of plugins that declare something wrongly: one clear line each, and exit code 2."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.cli import main
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import PluginLoadError
from rlcondense.learners.bc import BehaviouralCloning
from rlcondense.make import (
    default_dataset,
    load_dataset,
    make_learner,
    make_method,
    make_task,
)
from rlcondense.methods.base import Condensation, Method, NoConfig, Problem
from rlcondense.methods.random import Random
from rlcondense.running.bench import expert_name, task_named
from rlcondense.tasks.gymnasium import GymnasiumTask
from tests.conftest import TINY


class Picky(Random):
    @dataclass(frozen=True)
    class Config:
        share: float = 1.0
        labels: str = "hard"

        def __post_init__(self) -> None:
            if self.share > 1:
                raise ValueError("share is above 1")


class NoFacts(Random):
    facts = None  # type: ignore[assignment]


class OddBudget(Random):
    facts = {"budget": {"siez": 10}}  # noqa: RUF012


class OddReasons(Random):
    facts = {"expected_failures": ["says_what_it_is"]}  # noqa: RUF012


class Synthetic(Method[NoConfig]):
    """A method that makes rows, which belong to no episode."""

    Config = NoConfig

    def _condense(self, problem: Problem) -> Condensation:
        columns = problem.dataset.columns()
        return Condensation({k: np.array(columns[k][:4]) for k in ("observations", "actions")})


class Listing(BehaviouralCloning):
    requires = ["observations", "actions"]  # type: ignore[assignment]  # noqa: RUF012


class Raising(GymnasiumTask):
    def __init__(self, *_: Any, **__: Any) -> None:
        raise ValueError("no licence")


class Narrow(GymnasiumTask):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "score_range": (1.0, 1.0)})


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enter a class of this module into the catalogue."""

    def enter(cls: type, group: str, name: str, **settings: Any) -> str:
        entry = Entry(group, name, f"{__name__}:{cls.__name__}", settings)
        monkeypatch.setitem(catalogue._registered, (group, name), entry)
        monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
        return name

    return enter


def refused(*arguments: str) -> str:
    """Call a command that has to refuse in one line, and return that line."""
    done = CliRunner().invoke(main, [*arguments])
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stderr.count("\n") == 1
    return str(done.stderr)


@pytest.mark.parametrize(
    ("cls", "settings", "text"),
    [
        (Picky, ["--set", "share=2"], "share is above 1"),
        (NoFacts, [], "its facts are NoneType, not a mapping"),
        (OddBudget, [], "its fact 'budget' is none"),
        (OddReasons, [], "its fact 'expected_failures' is no mapping"),
    ],
)
def test_a_wrong_method_is_one_line(
    cls: type, settings: list[str], text: str, add: Any, tiny: TransitionDataset
) -> None:
    name = add(cls, "methods", "tests/wrong")
    assert text in refused("run", "--method", name, "--dataset", TINY, *settings)


def test_made_rows_are_no_share_of_the_episodes(
    add: Any, tiny: TransitionDataset, tmp_path: Path
) -> None:
    name = add(Synthetic, "methods", "tests/synthetic")
    share = ["--percent", "50", "--unit", "episodes"]
    out = ["--out", str(tmp_path / "set")]
    text = refused("condense", "--method", name, "--dataset", TINY, *share, *out)
    assert "is for methods that select episodes" in text


def test_a_learner_may_list_what_it_requires(add: Any, tiny: TransitionDataset) -> None:
    task = make_task("starpilot")
    learner = make_learner(add(Listing, "learners", "tests/listing"), task)
    small = make_method("random").condense(tiny, task=task, budget=4)
    assert learner.missing(small.provides(), task) == []


@pytest.mark.parametrize(
    ("cls", "text"), [(Raising, "no licence"), (Narrow, "r_min must be below r_max")]
)
def test_a_wrong_task_is_one_line(cls: type, text: str, add: Any) -> None:
    name = add(cls, "tasks", "tests/wrong-v0", env="CartPole-v1")
    assert text in refused("run", "--method", "random", "--task", name)


class Poles:
    """A dataset that knows its task as a plugin's does, by its class."""

    api_version = 1
    task = "classic/cartpole-v0"

    def __init__(self, id: str) -> None:
        self.id = id


class OwnData(Poles):
    task = "tests/own-v0"


def test_data_whose_class_names_the_task_are_that_tasks(add: Any) -> None:
    name = add(Poles, "datasets", "tests/poles-v0")
    cartpole = make_task("cartpole")
    assert expert_name(name, cartpole) == expert_name("classic/cartpole/expert-v0", cartpole)
    add(GymnasiumTask, "tasks", "tests/own-v0", env="CartPole-v1", score_range=(0.0, 1.0))
    with pytest.raises(Exception, match="no dataset is shipped for task") as raised:
        default_dataset(make_task("tests/own-v0"))
    assert "None" not in str(raised.value)
    add(OwnData, "datasets", "tests/own-data-v0")
    assert default_dataset(make_task("tests/own-v0")) == "tests/own-data-v0"


class Broken(Poles):
    def __init__(self, id: str) -> None:
        raise ValueError("no licence key")


def test_broken_data_of_another_plugin_harm_nothing(add: Any) -> None:
    name = add(Broken, "datasets", "tests/broken-v0")
    cartpole = make_task("cartpole")
    assert default_dataset(cartpole) == "classic/cartpole/expert-v0"
    assert expert_name(name, cartpole) == ""
    add(GymnasiumTask, "tasks", "tests/own-v0", env="CartPole-v1", score_range=(0.0, 1.0))
    with pytest.raises(Exception, match="no dataset is shipped for task"):
        default_dataset(make_task("tests/own-v0"))


def test_a_part_of_another_kind_is_one_error(add: Any) -> None:
    add(BehaviouralCloning, "methods", "tests/bc")
    assert "is no Method" in refused("check", "tests/bc")
    with pytest.raises(PluginLoadError, match="is no Method"):
        make_method("tests/bc")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--no-references", "--own-references"], "give one"),
        (["dataset", "collect", "cartpole", "--kind", "random", "--expert", "x", "--out", "o"],
         "--kind random plays at random"),
        (["expert", "train", "cartpole", "--seed", "3", "--set", "seed=5", "--out", "o"],
         "say the same thing"),
        (["expert", "train", "cartpole", "--resume", "--restart", "--out", "o"], "give one"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in refused(*arguments)


def test_a_condensed_set_is_judged_on_the_task_that_it_was_made_for(tmp_path: Path) -> None:
    data = load_dataset("classic/cartpole/expert-v0")
    make_method("random").condense(data, task="cartpole", budget=4).save(tmp_path / "set")
    assert task_named(None, None, folders=[tmp_path / "set"]) == "classic/cartpole-v0"
    assert task_named("starpilot", None, folders=[tmp_path / "set"]) == "starpilot"
    assert task_named(None, None, folders=[tmp_path]) == task_named(None, None)
