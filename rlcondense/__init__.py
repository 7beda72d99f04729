"""rlcondense: which small dataset trains the best policy?

The names below are imported on first use, so that `import rlcondense` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlcondense.moved import install as _install

__version__ = "0.2.0"

if TYPE_CHECKING:
    from rlcondense.catalogue import list_datasets as list_datasets
    from rlcondense.catalogue import list_learners as list_learners
    from rlcondense.catalogue import list_methods as list_methods
    from rlcondense.catalogue import list_tasks as list_tasks
    from rlcondense.catalogue import register as register
    from rlcondense.datasets.arrays import from_arrays as from_arrays
    from rlcondense.datasets.condensed import load_condensed as load_condensed
    from rlcondense.evaluation import evaluate as evaluate
    from rlcondense.exchange import export as export
    from rlcondense.make import load_dataset as load_dataset
    from rlcondense.make import load_expert as load_expert
    from rlcondense.make import make_learner as make_learner
    from rlcondense.make import make_method as make_method
    from rlcondense.reporting.compare import compare as compare
    from rlcondense.reporting.formats import leaderboard as leaderboard
    from rlcondense.reporting.report import report as report
    from rlcondense.running.condensing import condense as condense
    from rlcondense.running.runner import run as run
    from rlcondense.running.suite import list_suites as list_suites
    from rlcondense.running.suite import load_suite as load_suite
    from rlcondense.running.sweep import sweep as sweep
    from rlcondense.tasks.named import make_task as make_task
    from rlcondense.training.play import collect as collect

_HOME = {
    "collect": "rlcondense.training.play",
    "compare": "rlcondense.reporting.compare",
    "condense": "rlcondense.running.condensing",
    "evaluate": "rlcondense.evaluation",
    "export": "rlcondense.exchange",
    "from_arrays": "rlcondense.datasets.arrays",
    "leaderboard": "rlcondense.reporting.formats",
    "list_datasets": "rlcondense.catalogue",
    "list_learners": "rlcondense.catalogue",
    "list_methods": "rlcondense.catalogue",
    "list_suites": "rlcondense.running.suite",
    "list_tasks": "rlcondense.catalogue",
    "load_condensed": "rlcondense.datasets.condensed",
    "load_dataset": "rlcondense.make",
    "load_expert": "rlcondense.make",
    "load_suite": "rlcondense.running.suite",
    "make_learner": "rlcondense.make",
    "make_method": "rlcondense.make",
    "make_task": "rlcondense.tasks.named",
    "register": "rlcondense.catalogue",
    "report": "rlcondense.reporting.report",
    "run": "rlcondense.running.runner",
    "sweep": "rlcondense.running.sweep",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlcondense' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


_install()
