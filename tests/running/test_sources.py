from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rlcondense.catalogue import import_file, register, settings_of_task
from rlcondense.errors import BadConfig
from rlcondense.make import include, make_learner, make_method, make_task
from rlcondense.methods.random import Random
from rlcondense.runtime import provenance
from rlcondense.runtime.provenance import source_of, source_sha256
from rlcondense.runtime.sources import source_files
from rlcondense.tasks.gymnasium import GymnasiumTask

METHOD = """
from rlcondense.methods.base import Method, select
{imports}

class Mine(Method):
    def _condense(self, problem):
        {inside}
        return select(problem.dataset, range(problem.size))
"""


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    forget()


def write(folder: Path, **files: str) -> None:
    """Write modules, of which `a__b` is b in the folder a."""
    for name, content in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def forget() -> None:
    """Forget what was read of files, as in another process."""
    source_files.cache_clear()
    provenance._sources.cache_clear()


def sha256_of_included(path: Path) -> str:
    forget()
    return source_sha256(import_file(path).Mine)


@pytest.mark.parametrize(
    ("imports", "inside", "helper"),
    [
        ("import helper", "pass", "helper"),
        ("from helper import x", "pass", "helper"),
        ("import helper", "pass", "deeper"),  # which the helper imports
        ("", "import helper", "helper"),  # not before it condenses
        ("from tools.helper import x", "pass", "tools__helper"),  # in a folder without __init__
        ("from tools import helper", "pass", "tools__helper"),
        ("import package", "pass", "package__inside"),
        ("from package.sub import x", "pass", "package__inside"),
    ],
)
def test_another_helper_is_another_identity(
    imports: str, inside: str, helper: str, tmp_path: Path
) -> None:
    write(
        tmp_path,
        mine=METHOD.format(imports=imports, inside=inside),
        helper="import deeper\nx = 1\n",
        deeper="",
        tools__helper="x = 1\n",
        package____init__="",
        package__inside="x = 1\n",
        package__sub="from . import inside\nx = 1\n",
        stranger="x = 1\n",
    )
    (tmp_path / "package" / "__init__.py").touch()
    file = tmp_path / "mine.py"
    before = sha256_of_included(file)
    assert sha256_of_included(file) == before
    write(tmp_path, stranger="x = 2\n")
    assert sha256_of_included(file) == before
    write(tmp_path, **{helper: "import deeper\nx = 2\n" if helper == "helper" else "x = 2\n"})
    assert sha256_of_included(file) != before


def test_all_modules_of_a_package_count(tmp_path: Path) -> None:
    write(
        tmp_path,
        lab__core="x = 1\n",
        lab__methods__mine=METHOD.format(imports="from ..core import x", inside="pass"),
    )
    for folder in ("lab", "lab/methods"):
        (tmp_path / folder / "__init__.py").touch()
    from importlib import import_module

    cls = import_module("lab.methods.mine").Mine
    names = {str(path.relative_to(tmp_path.resolve())) for path in source_files(cls)}
    assert names == {"lab/__init__.py", "lab/core.py", "lab/methods/__init__.py",
                     "lab/methods/mine.py"}  # fmt: skip


def test_libraries_do_not_count_nor_does_where_files_lie(tmp_path: Path) -> None:
    text = METHOD.format(imports="import numpy\nimport torch\nimport json\nimport nowhere_at_all",
                         inside="pass")  # fmt: skip
    for folder in ("one", "two"):
        write(tmp_path / folder, mine=text.replace("import nowhere_at_all", ""))
    first, second = (import_file(tmp_path / f / "mine.py").Mine for f in ("one", "two"))
    assert {path.name for path in source_files(first)} == {"mine.py"}
    assert source_sha256(first) == source_sha256(second)


def test_an_installed_plugin_counts_with_its_own_distribution_alone(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    write(
        site,
        lab_method=METHOD.format(imports="import lab_helper, other_helper", inside="pass"),
        lab_helper="",
        other_helper="",
    )
    for name, modules in (("lab", ["lab_method", "lab_helper"]), ("other", ["other_helper"])):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "top_level.txt").write_text("\n".join(modules))
    sys.path.insert(0, str(site))
    from rlcondense.runtime import sources

    sources._top_levels.cache_clear()
    try:
        from importlib import import_module

        cls = import_module("lab_method").Mine
        assert {path.name for path in source_files(cls)} == {"lab_method.py", "lab_helper.py"}
    finally:
        sys.path.remove(str(site))
        sources._top_levels.cache_clear()


def test_a_class_that_is_in_no_file_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prompt", ModuleType("prompt"))
    names: dict[str, Any] = {"__name__": "prompt"}
    exec(METHOD.format(imports="", inside="pass"), names)
    with pytest.raises(BadConfig, match="Mine is defined in no file"):
        source_files(names["Mine"])


ENVIRONMENT = """
import gymnasium


class Mine(gymnasium.Env):
    pass
"""


def test_the_file_of_ones_own_environment_is_part_of_the_identity(tmp_path: Path) -> None:
    write(tmp_path, own_maze=ENVIRONMENT)
    gymnasium.register("tests/OwnMaze-v0", entry_point="own_maze:Mine")
    try:
        task = GymnasiumTask("tests/own-maze-v0", env="tests/OwnMaze-v0")
        assert [maker.__name__ for maker in task.code] == ["Mine"]
        assert task.packages == ()
        before = source_sha256(type(task), *task.code)
        assert before != source_sha256(type(task))
        write(tmp_path, own_maze=ENVIRONMENT + "# changed")
        assert source_sha256(type(task), *task.code) == before  # what runs here is what was loaded
        forget()
        assert source_sha256(type(task), *task.code) != before
    finally:
        del gymnasium.registry["tests/OwnMaze-v0"]
    for maker in (functools.partial(CartPoleEnv), lambda **_: CartPoleEnv(), eval("lambda: 0")):
        gymnasium.register("tests/Made-v0", entry_point=maker)
        made = GymnasiumTask("tests/made-v0", env="tests/Made-v0")
        assert source_sha256(type(made), *made.code)
        del gymnasium.registry["tests/Made-v0"]
    pole = GymnasiumTask("tests/pole-v0", env="CartPole-v1")
    assert (pole.code, pole.packages) == ((), ())
    assert GymnasiumTask("tests/digits-v0", env="nothing:Digits-v0").code == ()


def test_what_is_built_in_has_the_identity_of_this_package() -> None:
    ours = source_sha256()
    assert source_sha256(Random) == ours
    assert source_sha256(type(make_method("full")), type(make_learner("bc"))) == ours


def test_an_included_file_is_registered_with_its_helpers(tmp_path: Path) -> None:
    write(tmp_path, mine=METHOD.format(imports="import helper", inside="pass"), helper="")
    (entry,) = include(tmp_path / "mine.py")
    names = {path.name for path in source_files(entry.load())}
    assert names == {"mine.py", "helper.py"}


def test_a_file_says_with_which_settings_its_class_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "with_settings.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "import rlcondense as rlc\n"
        "from rlcondense.methods.base import Method\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Config:\n"
        "    share: float = 0.5\n\n\n"
        "class WithShare(Method[Config]):\n"
        "    Config = Config\n\n"
        "    def _condense(self, problem):\n"
        "        raise NotImplementedError\n\n\n"
        'rlc.register("methods", "with-share", f"{__file__}:WithShare", share=0.25)\n'
    )
    [entry] = include(file)
    assert entry.id == "with-share"
    assert make_method("with-share").config.share == 0.25


def test_work_on_a_task_depends_on_its_registered_settings() -> None:
    sources = []
    for g in (1.62, 9.81):
        register(
            "tasks", "tests/pendulum-v0", "rlcondense.tasks.gymnasium:GymnasiumTask",
            env="Pendulum-v1", settings={"g": g},
        )  # fmt: skip
        sources.append(
            source_of(make_task("tests/pendulum-v0"), settings_of_task("tests/pendulum-v0"))
        )
    assert [json.loads(str(of["task_settings"]))["settings"]["g"] for of in sources] == [1.62, 9.81]
    assert {**sources[0], "task_settings": ""} == {**sources[1], "task_settings": ""}
    assert settings_of_task("classic/cartpole-v0") == ""
