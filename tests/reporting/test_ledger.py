"""What a condensation costs is counted once, and what each cell costs for each."""

from __future__ import annotations

import copy

import pytest

from rlcondense.records.cell import Cell
from rlcondense.records.store import facts_of_record
from rlcondense.reporting.ledger import ledger
from tests.reporting.boards import GRADMATCH, read_shipped


def test_a_condensation_that_two_cells_share_counts_once() -> None:
    one = facts_of_record(read_shipped(GRADMATCH))
    other = copy.deepcopy(one)
    other["cell"]["learner"]["id"] = "discrete-cql"  # type: ignore[index]
    ids = {Cell.from_json(facts["cell"]).condensation_id for facts in (one, other)}
    assert len(ids) == 1
    other["timings"]["train"]["gpu"] = 3.0
    other["timings"]["condense"]["gpu"] = 5.0  # the first cell's, read again
    [costs] = ledger([one, other])
    phases = {name: seconds["wall"] for name, seconds in one["timings"].items()}
    assert (costs.cells, costs.condensations, costs.bytes) == (2, 1, one["bytes"])
    assert costs.condense_seconds == pytest.approx(phases["condense"])
    assert costs.train_seconds == pytest.approx(2 * phases["train"])
    assert costs.condense_gradients == one["cost"]["gradient_evaluations"]
    assert costs.evaluate_steps == 2 * one["steps"]
    assert costs.gpu_seconds == pytest.approx(3.0)
