from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rlcondense import catalogue
from rlcondense.errors import BadConfig, PluginLoadError, UnknownName, UnknownVersion
from rlcondense.make import include, make_learner, make_method, make_task
from rlcondense.methods.random import Random
from rlcondense.running.executors.base import known_parts
from tests.conftest import processor_seconds


@pytest.mark.parametrize("group", catalogue.GROUPS)
def test_every_built_in_entry_point_imports(group: str) -> None:
    for entry in catalogue.entries(group).values():
        assert isinstance(entry.load(), type)


@pytest.mark.parametrize("group", catalogue.GROUPS)
def test_every_built_in_id_follows_the_grammar_and_says_what_it_is(group: str) -> None:
    for entry in catalogue.entries(group).values():
        assert catalogue.ID.fullmatch(entry.id)
        assert entry.summary


def test_everything_listed_can_be_made() -> None:
    for id_ in catalogue.entries("tasks"):
        assert make_task(id_).id == id_
    for id_ in catalogue.entries("methods"):
        assert make_method(id_).id == id_
    for id_ in catalogue.entries("learners"):
        assert make_learner(id_).id == id_


@pytest.mark.parametrize(
    "name", ["starpilot", "procgen/starpilot-easy", "procgen/starpilot-easy-v0"]
)
def test_a_task_is_found_by_alias_by_name_and_by_id(name: str) -> None:
    assert catalogue.find("tasks", name).id == "procgen/starpilot-easy-v0"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown method 'gradmach' .did you mean 'gradmatch'"):
        catalogue.find("methods", "gradmach")


def test_an_unknown_version_of_a_known_name_says_so() -> None:
    with pytest.raises(UnknownVersion, match="starpilot-easy-v0"):
        catalogue.find("tasks", "procgen/starpilot-easy-v7")


def _plug_in(
    monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str, str], group: str = "methods"
) -> None:
    """Pretend that distributions offer entry points: (distribution, name, value)."""

    made = [
        (EntryPoint(name, value, f"rlcondense.{group}"), (owner, "1.2"))
        for owner, name, value in points
    ]
    monkeypatch.setattr(catalogue, "_installed", lambda: made)


def test_a_plugin_is_listed_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "my-method", "no_such_module_anywhere:Method"))
    assert catalogue.find("methods", "my-method").origin == "mine 1.2"


def test_a_broken_plugin_fails_only_its_own_use(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "broken", "no_such_module_anywhere:Method"))
    with pytest.raises(PluginLoadError, match=r"'broken' of mine 1\.2 .*No module named"):
        make_method("broken")
    assert make_method("random").id == "random"


def test_a_plugin_that_works_is_made_like_a_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "shuffle", "rlcondense.methods.random:Random"))
    assert make_method("shuffle", labels="soft").config.labels == "soft"


def test_two_plugins_of_one_name_are_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _plug_in(monkeypatch, ("a", "same", "x:Y"), ("b", "same", "x:Z"))
    with pytest.raises(PluginLoadError, match=r"a 1\.2 and b 1\.2 both offer the method 'same'"):
        make_method("same")
    assert make_method("random").id == "random"


def test_a_built_in_name_wins_and_the_collision_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "random", "x:Y"))
    assert catalogue.find("methods", "random").origin.startswith("rlcondense")
    assert [entry.origin for entry in catalogue.collisions("methods")] == ["mine 1.2"]


@pytest.mark.parametrize(
    "name", ["starpilot", "procgen/starpilot-easy", "procgen/starpilot-easy-v9"]
)
def test_no_name_that_means_a_built_in_can_be_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plug_in(monkeypatch, ("thief", name, "x:Y"), group="tasks")
    for asked in ("starpilot", "procgen/starpilot-easy"):
        assert catalogue.find("tasks", asked).id == "procgen/starpilot-easy-v0"
    assert [entry.origin for entry in catalogue.collisions("tasks")] == ["thief 1.2"]
    with pytest.raises(BadConfig, match="is a built-in task"):
        catalogue.register("tasks", name, "x:Y")


def test_a_plugin_that_exits_on_import_does_not_end_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "exits_at_import.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _plug_in(monkeypatch, ("mine", "exiting", "exits_at_import:Method"))
    with pytest.raises(PluginLoadError, match="SystemExit"):
        make_method("exiting")


def test_a_malformed_name_is_listed_and_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "b@d name", "rlcondense.methods.random:Random"))
    with pytest.raises(PluginLoadError, match="is no id of the form"):
        make_method("b@d name")


def test_a_config_that_is_no_dataclass_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "plain_config.py").write_text(
        "from rlcondense.methods.random import Random\n"
        "class Mine(Random):\n    class Config:\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    _plug_in(monkeypatch, ("mine", "plain", "plain_config:Mine"))
    with pytest.raises(PluginLoadError, match=r"'plain' of mine 1\.2 cannot be made"):
        make_method("plain")


def test_the_environment_limits_which_plugins_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("a", "one", "x:Y"), ("b", "two", "x:Z"))
    monkeypatch.setenv("RLCONDENSE_PLUGINS", "B, c")
    assert "two" in catalogue.entries("methods")
    assert "one" not in catalogue.entries("methods")


def test_another_api_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(monkeypatch, ("mine", "old", "collections:OrderedDict"))
    with pytest.raises(PluginLoadError, match="api_version None"):
        make_method("old")

    class Next(Random):
        api_version = 2

    monkeypatch.setattr("rlcondense.methods.random.Next", Next, raising=False)
    _plug_in(monkeypatch, ("mine", "next", "rlcondense.methods.random:Next"))
    with pytest.raises(PluginLoadError, match="api_version 2, this rlcondense needs 1"):
        make_method("next")


def test_what_is_registered_in_the_process_is_found_there() -> None:
    catalogue.register("methods", "tests/mine", "rlcondense.methods.random:Random", labels="soft")
    assert make_method("tests/mine").config.labels == "soft"


@pytest.mark.parametrize("name", ["../escape", "random", "a b", ""])
def test_ids_that_are_taken_or_malformed_cannot_be_registered(name: str) -> None:
    with pytest.raises(BadConfig):
        catalogue.register("methods", name, "x:Y")


def test_list_imports_no_torch_and_is_quick() -> None:
    program = (
        "import sys; from rlcondense.cli import main\n"
        "try: main(['list'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'gymnasium', 'procgen', 'minari', 'd3rlpy'}\n"
        "assert not heavy & set(sys.modules)"
    )

    def listed() -> None:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "procgen/starpilot-easy-v0" in done.stdout

    assert processor_seconds(listed) < 1


@pytest.mark.parametrize("name", ["gradmatch", "starpilot", "bc"])
def test_show_imports_no_torch(name: str) -> None:
    program = (
        "import sys; from rlcondense.cli import main\n"
        f"try: main(['show', {name!r}])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode
        == 0
    )


OWN = """
import gymnasium
import rlcondense as rlc
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("The-pole-v0", CartPoleEnv)
rlc.register("tasks", "mine/pole-v0", "rlcondense.tasks.gymnasium:GymnasiumTask", env="The-pole-v0")
"""
WORKER = """
import json, sys
from rlcondense.make import make_task
from rlcondense.running.executors.worker import know_parts
know_parts(json.loads(sys.argv[1]))
print(make_task("mine/own-v0").observation_space.shape)
"""


def test_a_worker_knows_what_an_included_file_does_when_it_is_imported(tmp_path: Path) -> None:
    gone, own = tmp_path / "gone.py", tmp_path / "own.py"
    for file in (gone, own):
        file.write_text(OWN.replace("pole", file.stem))
        include(file)
    gone.unlink()
    told = json.dumps(known_parts())
    command = [sys.executable, "-c", WORKER, told]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(4,)\n"
