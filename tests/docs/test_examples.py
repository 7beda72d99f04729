"""The examples of docstrings run, and give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import rlcondense

PACKAGE = Path(rlcondense.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)
# Examples that train students for minutes, or need what a user has: they are compiled only.
LONG = {
    "rlcondense.checks.base.parametrize_with_checks",
    "rlcondense.evaluation.evaluate",
    "rlcondense.exchange.export",
    "rlcondense.reporting.compare.compare",
    "rlcondense.reporting.report.report",
    "rlcondense.running.multitask.multitask",
    "rlcondense.running.runner.run",
    "rlcondense.running.sweep.sweep",
    "rlcondense.running.transfer.transfer",
}
SLOW = {"rlcondense.checks"}  # it runs every check of a method


def examples_of(module: str) -> list[doctest.DocTest]:
    public = {name: getattr(rlcondense, name) for name in rlcondense.__all__}
    made = import_module(module)
    names: dict[str, Any] = {**public, **vars(made)}
    return [test for test in doctest.DocTestFinder().find(made, globs=names) if test.examples]


@pytest.mark.parametrize(
    "module",
    [pytest.param(m, marks=[pytest.mark.slow] if m in SLOW else []) for m in MODULES],
)
def test_examples_of_docstrings_give_what_they_say(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = examples_of(module)
    assert examples
    assert {name for name in LONG if name.rpartition(".")[0] == module} <= {
        t.name for t in examples
    }
    for test in examples:
        for example in test.examples:
            compile(example.source, test.name, "single")
        if test.name not in LONG:
            runner, failures = doctest.DocTestRunner(verbose=False), []
            runner.run(test, out=failures.append)
            assert not failures, "".join(failures)


def test_every_long_example_is_there() -> None:
    assert len(MODULES) > 15
    assert {name.rpartition(".")[0] for name in LONG} <= set(MODULES)
