"""The base of all checks: a check, its result, the run, and the pytest decorator."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlcondense import catalogue
from rlcondense.errors import MissingExtra, UnknownName
from rlcondense.make import facts_of, load_part
from rlcondense.runtime.progress import Progress, silent


class CheckFailed(AssertionError):
    """A check found a fault; its message names the fault and how to mend it."""


class CheckSkipped(Exception):
    """A check does not apply to its subject."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: of the check.
        status: `passed`, `failed`, `expected` (a failure that was announced) or `skipped`.
        message: why it failed or does not apply.
        seconds: wall time.
    """

    name: str
    status: str
    message: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """A check bound to its subject; calling it raises `CheckFailed` or returns.

    Attributes:
        name: of the check.
        summary: the statement that it checks.
        run: the check itself.
    """

    name: str
    summary: str
    run: Callable[[], None]

    def __call__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the check on warnings sets its own filter
            self.run()


def bind(functions: tuple[Callable[[Any], None], ...], subject: Any) -> list[Check]:
    """Bind check functions to a subject; names and summaries come from the functions."""

    def bound(function: Callable[[Any], None]) -> Check:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        return Check(function.__name__, summary, lambda: function(subject))

    return [bound(function) for function in functions]


def checks_of(name: str, group: str | None = None) -> list[Check]:
    """Return the checks of a method, learner, task or dataset.

    Args:
        name: id of a method, learner, task or dataset.
        group: of the catalogue; by default all groups are searched.

    Raises:
        UnknownName: nothing has that name.
    """
    entry = _find(name, group)
    if entry.group != "datasets":
        load_part(entry)  # one that cannot be is one error, not one for every check
    if entry.group == "methods":
        from rlcondense.checks.methods import method_checks

        return method_checks(entry)
    if entry.group == "learners":
        from rlcondense.checks.learners import learner_checks

        return learner_checks(entry)
    if entry.group == "tasks":
        from rlcondense.checks.tasks import task_checks

        return task_checks(entry)
    from rlcondense.checks.datasets import dataset_checks

    return dataset_checks(entry.id)


def _find(name: str, group: str | None) -> catalogue.Entry:
    order = ("methods", "learners", "tasks", "datasets")
    for where in order if group is None else (group,):
        try:
            return catalogue.find(where, name)
        except UnknownName:
            continue
    if group not in (None, "datasets"):
        raise UnknownName(str(group).removesuffix("s"), name, catalogue.entries(str(group)))
    from rlcondense.datasets.minari import is_local

    if is_local(name):
        return catalogue.Entry("datasets", name, "")
    raise UnknownName("name", name, [id_ for g in order for id_ in catalogue.entries(g)])


def check(
    name: str,
    *,
    group: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> list[CheckResult]:
    """Run every check of a method, learner, task or dataset.

    Args:
        name: its id.
        group: `methods`, `learners`, `tasks` or `datasets`; searched by default.
        expected_failures: checks that are known to fail, and why.
        progress: called with the number of finished checks.

    Raises:
        BadConfig: an expected failure names no check.
        MissingExtra: something that the checks need is not installed.
    """
    checks = checks_of(name, group)
    expected = _expected(name, group, checks, expected_failures)
    results = []
    for number, one in enumerate(checks):
        progress("check", number, len(checks), one.name)
        results.append(_result(one, expected))
    progress("check", len(checks), len(checks))
    return results


def _expected(
    name: str, group: str | None, checks: list[Check], given: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the failures that the catalogue and the caller expect, by check."""
    entry = _find(name, group)
    facts = {} if entry.group == "datasets" else facts_of(entry)
    said = {**facts.get("expected_failures", {}), **(given or {})}
    expected = {check_name.replace(" ", "_"): why for check_name, why in said.items()}
    names = [one.name for one in checks]
    if unknown := [check_name for check_name in expected if check_name not in names]:
        raise UnknownName("check", unknown[0], names)
    return expected


def _result(one: Check, expected: Mapping[str, str]) -> CheckResult:
    started = time.perf_counter()
    status, message = "passed", ""
    try:
        one()
    except CheckSkipped as reason:
        status, message = "skipped", str(reason)
    except CheckFailed as failure:
        status, message = "failed", str(failure)
    except MissingExtra:  # says nothing about the subject
        raise
    except (Exception, SystemExit) as error:  # any other exception is a failure
        status, message = "failed", f"raised {type(error).__name__}: {error} ({_place(error)})"
    if status == "failed" and one.name in expected:
        status, message = "expected", f"{expected[one.name]} ({message})"
    return CheckResult(one.name, status, message, round(time.perf_counter() - started, 3))


def _place(error: BaseException) -> str:
    """Return the file and line in which an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "?"


def check_method(name: str, **options: Any) -> list[CheckResult]:
    """Check a condensation method; options as for `check`."""
    return check(name, group="methods", **options)


def check_learner(name: str, **options: Any) -> list[CheckResult]:
    """Check a learner; options as for `check`."""
    return check(name, group="learners", **options)


def check_task(name: str, **options: Any) -> list[CheckResult]:
    """Check a task; options as for `check`."""
    return check(name, group="tasks", **options)


def check_dataset(name: str, **options: Any) -> list[CheckResult]:
    """Check a dataset of the catalogue or of Minari; options as for `check`."""
    return check(name, group="datasets", **options)


def parametrize_with_checks(
    name: str, *, group: str | None = None, expected_failures: Mapping[str, str] | None = None
) -> Any:
    """Decorate a pytest function that takes `check`, so that it runs once for every check.

    Example:
        >>> @parametrize_with_checks("my-method")
        ... def test_my_method(check):
        ...     check()
    """
    import pytest

    checks = checks_of(name, group)
    expected = _expected(name, group, checks, expected_failures)

    def runnable(one: Check) -> Callable[[], None]:
        def run() -> None:
            try:
                one()
            except CheckSkipped as reason:
                pytest.skip(str(reason))

        return run

    return pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                runnable(one),
                id=one.name,
                marks=[pytest.mark.xfail(reason=expected[one.name])]
                if one.name in expected
                else [],
            )
            for one in checks
        ],
    )
