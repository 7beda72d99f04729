"""The page on students: its table is that of the measurements, each made once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def study() -> Any:
    return script("baselines/students/study.py")


def test_the_table_is_that_of_the_measurements(study: Any) -> None:
    lines = study.read_lines()
    assert study.table(lines) in (ROOT / "docs" / "results" / "students.md").read_text()


def test_no_student_is_measured_twice(study: Any) -> None:
    keys = [line.key for line in study.read_lines()]
    assert len(keys) == len(set(keys)) > 100


def test_a_student_is_measured_as_its_name_says(study: Any) -> None:
    for line in study.read_lines():
        known = study.STUDENTS if line.study == "networks" else study.PLAYERS
        assert line.name in known
