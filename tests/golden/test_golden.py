"""What two small suites give is what it was, byte for byte, where the kept hashes hold."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

from rlcondense import catalogue

SPEC = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
assert SPEC is not None
assert SPEC.loader is not None
golden = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(golden)


@pytest.mark.slow
def test_results_tables_and_site_are_what_they_were(tmp_path: Path) -> None:
    kept = golden.read()
    computed = golden.compute(tmp_path)
    # Which cells there are depends on no machine.
    assert computed["records"].keys() == kept["hashes"]["records"].keys()
    if golden.circumstances() != kept["made_on"]:
        pytest.skip(f"hashes hold for {kept['made_on']}")
    assert golden.differences(kept["hashes"], computed) == []


def test_the_suites_have_every_method() -> None:
    suites = [tomllib.loads(path.read_text()) for path in golden.SUITES]
    named = {
        method if isinstance(method, str) else method["id"]
        for suite in suites
        for product in (suite, *suite.get("cells", []))
        for method in product["methods"]
    }
    # The students of one need the expert of Light et al.'s frames, those of the other are trained
    # until the loss on held-back episodes stops falling: both take minutes.
    assert set(catalogue.entries("methods")) - named == {"full-converged", "gradmatch-light2024"}


def test_differences_are_named() -> None:
    lines = golden.differences(
        {"records": {"a": "1", "b": "2"}}, {"records": {"b": "3"}, "site": {"c": "4"}}
    )
    assert lines == ["records: a is gone", "records: b differs", "site: c is new"]
