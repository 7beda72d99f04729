"""The types of records beside the dataclasses whose plain values they are."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from rlcondense.datasets.report import (
    CondensationReport,
    Displacement,
    DisplacementJson,
    FindingJson,
    MatchingLoss,
    MatchingLossJson,
    ReportJson,
)
from rlcondense.findings import Finding
from rlcondense.protocol import Protocol
from rlcondense.records.cell import Cell
from rlcondense.records.record import CellJson, EvaluationJson, SecondsJson
from rlcondense.runtime.meter import Seconds


@pytest.mark.parametrize(
    ("of_json", "cls", "more"),
    [
        (CellJson, Cell, set()),
        (EvaluationJson, Protocol, {"protocol"}),
        (SecondsJson, Seconds, set()),
        (FindingJson, Finding, set()),
        (DisplacementJson, Displacement, set()),
        (MatchingLossJson, MatchingLoss, set()),
    ],
)
def test_plain_values_have_the_fields_of_their_class(
    of_json: type, cls: type[Any], more: set[str]
) -> None:
    assert of_json.__annotations__.keys() - more == {field.name for field in fields(cls)}


def test_described_fields_of_reports_are_fields() -> None:
    names = {field.name for field in fields(CondensationReport)}
    assert ReportJson.__annotations__.keys() <= names
