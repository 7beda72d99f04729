"""The package that `rlcondense new method NAME` writes."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

from rlcondense import __version__, catalogue
from rlcondense.errors import BadConfig
from rlcondense.files import write_bytes

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.25,<2"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "A condensation method for rlcondense"
requires-python = ">=3.11"
dependencies = ["rlcondense>={version}"]

[project.optional-dependencies]
dev = ["pytest"]

# What makes `rlcondense list` show it: the name of the method, and where its class is.
[project.entry-points."rlcondense.methods"]
"{name}" = "{module}:{cls}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

METHOD = '''\
"""{cls}: keeps the transitions whose frames are nearest to the mean frame of their action.

Say here which paper the method is from. Replace the body of `_condense` by your own.
"""

from dataclasses import dataclass

import numpy as np

from rlcondense.methods.base import Condensation, Method, Problem, select


@dataclass(frozen=True)
class Config:
    """Settings, each with a default; `--set per_action=false` reaches them.

    Attributes:
        per_action: measure distances from the mean frame of each action, not of all frames, where
            actions are discrete.
    """

    per_action: bool = True


class {cls}(Method[Config]):
    """Keeps what is typical."""

    api_version = 1  # of rlcondense, that it was written for
    Config = Config
    label_kinds = ("hard", "continuous")
    stochastic = False  # the seed changes nothing

    def _condense(self, problem: Problem) -> Condensation:
        data = problem.dataset
        frames = np.asarray(data.observations, np.float32).reshape(len(data), -1)
        by_action = self.config.per_action and not problem.continuous
        groups = data.actions if by_action else np.zeros(len(data), int)
        distances = np.empty(len(data))
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            distances[rows] = ((frames[rows] - frames[rows].mean(0)) ** 2).sum(1)
            problem.progress("condense", int(rows[-1]), len(data))
        kept = np.argsort(distances, kind="stable")[: problem.size]
        return select(data, np.sort(kept))
'''

TEST = """\
from rlcondense.checks import parametrize_with_checks


@parametrize_with_checks("{name}")
def test_{module}(check):
    check()
"""

README = """\
# {name}

A condensation method for [rlcondense](https://pypi.org/project/rlcondense/).

    pip install -e '.[dev]'
    rlcondense check {name}
    pytest
    rlcondense run --method {name} --task starpilot

The method is `{module}/__init__.py`. `rlcondense run` puts it beside the random policy, a policy
blind to the frame, a random subset of the same size, all the data and the expert.
"""


def write_method_package(name: str, folder: Path) -> Path:
    """Write a package with one method.

    Args:
        name: of the method, and of the distribution; lower case, with hyphens.
        folder: where to; must not exist.

    Raises:
        BadConfig: the name is malformed or taken, or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise BadConfig(f"{name!r} must be lower-case letters and digits, joined by hyphens")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.iskeyword(_class_name(name)) or find_spec(module):
        raise BadConfig(f"{name!r} is a word of Python or a package here; choose another name")
    if name in catalogue.entries("methods") or catalogue.is_taken("methods", name):
        raise BadConfig(f"there is a method {name!r} already; choose another name")
    if folder.exists():
        raise BadConfig(f"{folder} exists already")
    words = {
        "name": name,
        "module": module,
        "cls": _class_name(name),
        "version": __version__,
    }
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"{module}/__init__.py": METHOD,
        f"tests/test_{module}.py": TEST,
    }
    for path, text in files.items():
        write_bytes(folder / path, text.format(**words).encode())
    return folder


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
