"""Former names of modules and functions, for scripts and plugins that import them.

A module imports its former content from the new one, with a DeprecationWarning. The old names are
removed in the next version.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: Mapping[str, tuple[str, ...]] = {
    "rlcondense.datasets.storage": (
        "rlcondense.datasets.minari", "rlcondense.datasets.episodes", "rlcondense.files",
    ),
    "rlcondense.experts.zoo": ("rlcondense.experts.shipped",),
    "rlcondense.making": ("rlcondense.make",),
    "rlcondense.methods.condensed": (
        "rlcondense.datasets.condensed", "rlcondense.datasets.budget",
        "rlcondense.datasets.report", "rlcondense.findings",
    ),
    "rlcondense.methods.features": ("rlcondense.methods.parts.features",),
    "rlcondense.methods.students": ("rlcondense.methods.parts.students",),
    "rlcondense.methods.synthetic": ("rlcondense.methods.parts.synthetic",),
    "rlcondense.methods.unrolled": ("rlcondense.methods.parts.unrolled",),
    "rlcondense.progress": ("rlcondense.runtime.progress",),
    "rlcondense.reporting.statistics": ("rlcondense.statistics.intervals",),
    "rlcondense.reporting.tables": ("rlcondense.comparison.tables",),
    "rlcondense.running.cell": ("rlcondense.records.cell",),
    "rlcondense.running.store": ("rlcondense.records.store",),
}  # fmt: skip


# Functions by the module that had them.
LEFT: Mapping[str, Mapping[str, str]] = {
    "rlcondense.running.runner": {
        "condense": "rlcondense.running.condensing",
        "evaluate_artifact": "rlcondense.running.evaluating",
    },
}


def left(module: str, name: str) -> Any:
    """Return a function that has left a module for another one, with a DeprecationWarning.

    Raises:
        AttributeError: the module never had it.
    """
    home = LEFT[module].get(name)
    if home is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{module}.{name} is {home}.{name} now", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(home), name)


class _Mover:
    """Finder of modules by their old names; without the slow import of `importlib.abc`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Have Python make the module."""

    def exec_module(self, module: ModuleType) -> None:
        homes = MOVED[module.__name__]
        message = f"{module.__name__} is {' and '.join(homes)} now"
        warnings.warn(message, DeprecationWarning, stacklevel=6)

        def moved(attribute: str) -> Any:
            for home in map(importlib.import_module, homes):
                if hasattr(home, attribute):
                    return getattr(home, attribute)
            raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}")

        module.__getattr__ = moved  # type: ignore[method-assign]


def install() -> None:
    """Install the finder of old names, after all other finders."""
    if not any(isinstance(finder, _Mover) for finder in sys.meta_path):
        sys.meta_path.append(_Mover())
