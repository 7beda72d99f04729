"""Modules are found under the names that they had before."""

from __future__ import annotations

import importlib
import sys

import pytest

from rlcondense.moved import LEFT, MOVED


@pytest.mark.parametrize("name", MOVED)
def test_what_moved_is_found_and_told(name: str) -> None:
    sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"{name} is {MOVED[name][0]}"):
        old = importlib.import_module(name)
    new = importlib.import_module(MOVED[name][0])
    public = next(attribute for attribute in vars(new) if not attribute.startswith("_"))
    assert getattr(old, public) is getattr(new, public)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = old.nothing
    del sys.modules[name]


@pytest.mark.parametrize(("module", "names"), LEFT.items())
def test_functions_that_left_a_module_are_found_and_told(
    module: str, names: dict[str, str]
) -> None:
    old = importlib.import_module(module)
    for name, home in names.items():
        with pytest.warns(DeprecationWarning, match=f"{module}.{name} is {home}.{name} now"):
            assert getattr(old, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = old.nothing


def test_what_was_split_is_found_in_all_its_parts() -> None:
    with pytest.warns(DeprecationWarning, match="is rlcondense.datasets"):
        from rlcondense.methods.condensed import (  # type: ignore[import-not-found]
            Budget,
            CondensedDataset,
            Finding,
        )
    assert {x.__name__ for x in (Budget, CondensedDataset, Finding)} == {
        "Budget", "CondensedDataset", "Finding",
    }  # fmt: skip
    del sys.modules["rlcondense.methods.condensed"]
