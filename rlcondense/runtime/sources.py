"""Source files that a plugin's results depend on: its own, and those of its helpers."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rlcondense
from rlcondense.errors import BadConfig

OURS = Path(rlcondense.__file__).resolve().parent
_INSTALLED = {"site-packages", "dist-packages"}


@cache
def source_files(cls: Any) -> frozenset[Path]:
    """Return the Python files that a class or function depends on.

    They are all modules of its package, or else its own file, and recursively the modules that
    these import, except those of Python, of this package and of other distributions.

    Raises:
        BadConfig: the class is defined in no file.
    """
    own = file_of(cls)
    if own is None:  # of a notebook or a prompt
        raise BadConfig(
            f"{cls.__qualname__} is defined in no file, and a record names the code that made it: "
            "write it to one, and register 'file.py:NAME'"
        )
    if own.is_relative_to(OURS):
        return frozenset({own})
    distributions = _distributions_of(cls.__module__, own)
    files: set[Path] = set()
    waiting = _module_files(own)
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        for name in _imports(file):
            for path in _files_of(name):
                if not _is_foreign(path, name, distributions):
                    waiting |= _module_files(path) - files
    return frozenset(files)


def _module_files(path: Path) -> set[Path]:
    """Return the files of the outermost package that a file is in, or the file itself."""
    folder, package = path.parent, None
    while (folder / "__init__.py").is_file():
        folder, package = folder.parent, folder
    return {path} if package is None else {path, *package.rglob("*.py")}


def _imports(file: Path) -> Iterator[str]:
    """Return the modules that a file's absolute import statements may name."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, RecursionError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str) -> list[Path]:
    """Return the file of an importable module, without importing it, or nothing."""
    first, _, rest = name.partition(".")
    if first in sys.stdlib_module_names or first == rlcondense.__name__:
        return []
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded:
        return [Path(loaded).resolve()] if loaded.endswith(".py") else []
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.origin and spec.origin.endswith(".py"):
        return [Path(spec.origin).resolve()]
    places = [Path(place, *rest.split(".")) for place in spec.submodule_search_locations or ()]
    named = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file.resolve() for file in named if rest and file.is_file()]


def distributions_of(code: Any) -> frozenset[str]:
    """Return the installed distributions that a class or function comes from; none of a file."""
    file = file_of(code)
    return frozenset() if file is None else _distributions_of(code.__module__, file)


def file_of(code: Any) -> Path | None:
    """Return the file that a class or function is defined in, if there is one."""
    try:
        file = Path(inspect.getfile(code)).resolve()
    except (OSError, TypeError):
        return None
    return file if file.is_file() else None


def _distributions_of(module: str, file: Path) -> frozenset[str]:
    """Return the installed distributions of a module, if any."""
    if _INSTALLED.isdisjoint(file.parts):
        return frozenset()
    return frozenset(_top_levels().get(module.partition(".")[0], ()))


def _is_foreign(path: Path, name: str, distributions: frozenset[str]) -> bool:
    """Return whether a module is part of this package or of another distribution."""
    if path.is_relative_to(OURS):
        return True
    if _INSTALLED.isdisjoint(path.parts):
        return False
    return not distributions or distributions.isdisjoint(
        _top_levels().get(name.partition(".")[0], ())
    )


@cache
def _top_levels() -> dict[str, list[str]]:
    return dict(packages_distributions())
