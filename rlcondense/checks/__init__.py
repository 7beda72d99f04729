"""Conformance checks for methods, learners, tasks and datasets, built-in ones and plugins.

Each check is a small function whose failure names the fault and how to mend it:

    >>> from rlcondense.checks import check_method
    >>> [result.name for result in check_method("random") if result.status == "failed"]
    []
"""

from rlcondense.checks.base import (
    CheckFailed,
    CheckResult,
    check,
    check_dataset,
    check_learner,
    check_method,
    check_task,
    parametrize_with_checks,
)

__all__ = [
    "CheckFailed",
    "CheckResult",
    "check",
    "check_dataset",
    "check_learner",
    "check_method",
    "check_task",
    "parametrize_with_checks",
]
