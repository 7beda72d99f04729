"""Parts of plugins that declare something wrongly: one clear line each, and exit code 2."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.cli import main
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, PluginLoadError, RLCondenseError
from rlcondense.learners.bc import BehaviouralCloning
from rlcondense.make import (
    default_dataset,
    include,
    load_dataset,
    make_learner,
    make_method,
    make_task,
)
from rlcondense.methods.base import Condensation, Method, NoConfig, Problem
from rlcondense.methods.random import Random
from rlcondense.running.bench import expert_name, task_named
from rlcondense.running.plan import plan_suite
from rlcondense.running.rows import _only_here
from rlcondense.running.runner import run
from rlcondense.running.suite import suite_from
from rlcondense.tasks.base import Task
from rlcondense.tasks.gymnasium import GymnasiumTask
from rlcondense.tasks.named import check_named
from tests.conftest import TINY
from tests.small_tasks import Reach


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


class Greedy(BehaviouralCloning):
    action_selection = "greedy"  # type: ignore[assignment]


class Returns(GymnasiumTask):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "random_return": {"seen": 0.5}})


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


class ByAlias(Poles):
    task = "cartpole"


class Lists(Poles):
    """Yields lists in place of arrays."""

    wrong: Any = Episode([[0.0] * 4], [1], [1.0], 0)  # type: ignore[arg-type]

    def episodes(self, task: Task, progress: Any) -> Any:
        yield self.wrong


class Uneven(Lists):
    wrong = Episode(np.zeros((2, 4), np.float32), np.zeros(3, int), np.zeros(2, np.float32), 0)


class NoEpisodes(Lists):
    wrong = None


class Fails(Lists):
    def episodes(self, task: Task, progress: Any) -> Any:
        raise KeyError("file")


class Silent(Lists):
    task = ""


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Lists, "yields an episode whose observations are list, not an array of rows"),
        (Uneven, "yields an episode with 2 observations, 3 actions, 2 rewards"),
        (NoEpisodes, "yields NoneType, not rlcondense.datasets.episodes.Episode"),
        (Fails, "cannot be built: KeyError: 'file'"),
        (Silent, "its class needs an attribute `task`"),
        (Poles, "has no method `episodes(task, progress)`"),
    ],
)
def test_wrong_data_are_one_line(cls: type, text: str, add: Any) -> None:
    name = add(cls, "datasets", f"tests/{cls.__name__.lower()}-data-v0")
    with pytest.raises(PluginLoadError) as raised:
        load_dataset(name)
    assert text in str(raised.value)


def test_data_may_name_their_task_by_its_alias(add: Any) -> None:
    name = add(ByAlias, "datasets", "tests/by-alias-v0")
    cartpole = make_task("cartpole")
    assert expert_name(name, cartpole) == expert_name("classic/cartpole/expert-v0", cartpole)


@pytest.mark.parametrize(
    ("cls", "config", "text"),
    [
        (GymnasiumTask, {"seen": range(20)}, "must be (first level, how many), not range(0, 20)"),
        (GymnasiumTask, {"heldout": 200}, "must be (first level, how many), not 200"),
        (GymnasiumTask, {"score_range": (1.0, 2.0, 3.0)}, "must be (lowest, highest)"),
        (GymnasiumTask, {"env": "tests/poles-v0"}, "needs an id of its own, not its environment's"),
        (Returns, {}, "random_return holds 0.5, not a rlcondense.tasks.base.ReturnEstimate"),
    ],
)
def test_wrong_settings_of_a_task_are_one_line(cls: type, config: Any, text: str, add: Any) -> None:
    name = add(cls, "tasks", "tests/poles-v0", **{"env": "CartPole-v1", **config})
    with pytest.raises(RLCondenseError) as raised:
        make_task(name)
    assert text in str(raised.value)


def test_a_task_without_a_score_range_may_say_so(add: Any) -> None:
    name = add(GymnasiumTask, "tasks", "tests/poles-v0", env="CartPole-v1", score_range=None)
    assert make_task(name).score_range is None


def test_a_task_is_known_by_its_id(add: Any) -> None:
    here = GymnasiumTask("tests/nowhere-v0", env="CartPole-v1")
    with pytest.raises(BadConfig, match=r"none is called 'tests/nowhere-v0': rlc.register"):
        task_named(here, None)
    with pytest.raises(BadConfig, match="a method goes by its id, not as <class"):
        run(Random, "cartpole")  # type: ignore[arg-type]


class Own(Reach):
    """A task that is no dataclass, and holds what has no text of its own."""

    def __init__(self, id: str, random_return: Any = None, pole: float = 1.0) -> None:
        self.id, self.pole, self.random_return = id, pole, random_return or {}
        self.rng, self.cache = np.random.default_rng(0), None


def test_a_task_of_any_class_is_what_its_id_names(add: Any) -> None:
    name = add(Own, "tasks", "tests/own-v0")
    used: Any = make_task(name)
    used.cache = {"a": 1}
    assert task_named(used, None) == name
    check_named(used.seen_only())
    with pytest.raises(BadConfig, match="not what 'tests/own-v0' names"):
        task_named(Own(name, pole=2.0), None)


def test_policies_act_as_their_learner_says(add: Any, tmp_path: Path) -> None:
    name = add(Greedy, "learners", "tests/greedy")
    result = run(
        "random", "cartpole", learner=name, size=4, seeds=1, episodes=2, references=False,
        learner_settings={"updates": 2, "width": 8}, results=tmp_path,
    )  # fmt: skip
    assert result.record["status"] == "failed"
    assert "says that its policies act by greedy, and they act by sample" in result.record["reason"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class Mine(Method):\n    pass",
            "defines no method, no learner and no task: Mine lacks _con",
        ),
        (
            "class Mine:\n    def episodes(self): ...",
            'rlc.register("datasets", ID, __file__ + ":Mine")',
        ),
        ("class _Base(Method):\n    def _condense(self, problem): ...", "defines no method"),
        ("import beside_it", "No module named 'beside_it' (line 2): put "),
    ],
)
def test_a_file_without_parts_says_what_they_lack(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "beside_it.py").write_text("")
    (tmp_path / "mine.py").write_text(f"from rlcondense.methods.base import Method\n{text}\n")
    with pytest.raises(BadConfig) as raised:
        include(tmp_path / "mine.py")
    assert said in str(raised.value)


def test_an_entry_point_without_a_class_is_one_line() -> None:
    catalogue.add(Entry("methods", "tests/no-class", "my_method"))
    assert "has the entry point 'my_method': write 'module:Class'" in refused(
        "check", "tests/no-class"
    )


def test_a_file_of_another_kind_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n")
    said = refused("run", "--method", "random", "--dataset", str(tmp_path / "mine.csv"))
    assert "safetensors file" not in said


def test_environments_that_a_script_registers_are_played_in_its_process(add: Any) -> None:
    add(GymnasiumTask, "tasks", "tests/poles-v0", env="CartPole-v1")
    assert not _only_here()
    gymnasium.register("tests/Poles-v0", entry_point=f"{__name__}:Poles")
    try:
        add(GymnasiumTask, "tasks", "tests/poles-v0", env="tests/Poles-v0")
        assert _only_here()
    finally:
        del gymnasium.registry["tests/Poles-v0"]


def test_a_suite_names_data_by_any_id() -> None:
    facts = {"task": "classic/cartpole-v0"}
    entry_point = f"{__name__}:Poles"
    catalogue.add(Entry("datasets", "leaning-v0", entry_point, facts=facts))
    values = {"tasks": ["cartpole"], "datasets": ["leaning-v0"], "methods": ["random"]}
    planned = plan_suite(suite_from("s", {**values, "references": False}))
    assert [p.cell.dataset for p in planned if p.cell is not None] == ["leaning-v0"]


def test_data_of_a_file_are_no_plugin(tmp_path: Path) -> None:
    n = 12
    np.savez(
        tmp_path / "mine.npz", observations=np.zeros((n, 4), np.float32), actions=np.arange(n) % 2,
        rewards=np.ones(n), terminals=np.arange(n) % 3 == 2,
    )  # fmt: skip
    result = run(
        "random", "cartpole", dataset=tmp_path / "mine.npz", size=4, seeds=1, episodes=2,
        references=False, learner_settings={"updates": 2, "width": 8}, results=tmp_path,
    )  # fmt: skip
    assert (result.record["status"], result.record["plugins"]) == ("done", [])


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
