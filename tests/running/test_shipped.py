"""Shipped records of reference rows stand for what would be computed, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlcondense.datasets.budget import Budget
from rlcondense.make import make_learner, make_method
from rlcondense.records import shipped
from rlcondense.records.schema import what_is_wrong
from rlcondense.running.bench import Bench, make_bench
from rlcondense.running.compute import method_row, policy_row
from rlcondense.running.outcomes import Outcome
from rlcondense.running.reference_rows import shipped_note
from rlcondense.running.rows import Rows
from rlcondense.runtime.progress import silent


def bench_of(results: Path, seeds: int, **switches: Any) -> Bench:
    learner = make_learner("bc", "cartpole", updates=2, batch_size=512)
    return make_bench(
        "cartpole", None, download=False, learner=learner, seeds=seeds, episodes=4, device="cpu",
        results=results, progress=silent, **{"refresh": False, "takes_shipped": True, **switches},
    )  # fmt: skip


def references(bench: Bench) -> list[Outcome]:
    full = method_row(
        bench, make_method("full-converged"), Budget(percent=100.0), 0, is_reference=True
    )
    return Rows(bench, 1).compute([policy_row(bench, "marginal-policy"), full])


@pytest.mark.slow
def test_shipped_rows_are_those_of_fewer_students(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "data_root", lambda: tmp_path)
    for outcome in references(bench_of(tmp_path / "three", 3)):
        path = shipped.shipped_path(shipped.Cell.from_json(outcome.record["cell"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(outcome.record))
    taken = references(bench_of(tmp_path / "taken", 2))
    computed = references(bench_of(tmp_path / "computed", 2, takes_shipped=False))
    assert [outcome.is_shipped for outcome in taken + computed] == [True, True, False, False]
    for ours, theirs in zip(taken, computed, strict=True):
        assert what_is_wrong(ours.record) is None
        for name in ("cell", "cell_id", "returns", "lengths", "summary", "training", "labels"):
            assert ours.record.get(name) == theirs.record.get(name)
    assert "marginal-policy, full-converged (--own-references" in shipped_note(taken)[0]
    assert not shipped_note(computed)
    assert not any(o.is_shipped for o in references(bench_of(tmp_path / "four", 4))[:1])
    again = references(bench_of(tmp_path / "taken", 2, refresh=True))
    assert not any(outcome.is_shipped for outcome in again)


def test_a_shipped_row_of_other_data_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "data_root", lambda: tmp_path)
    bench = bench_of(tmp_path / "one", 1)
    [outcome] = Rows(bench, 1).compute([policy_row(bench, "marginal-policy")])
    cell = shipped.Cell.from_json(outcome.record["cell"])
    path = shipped.shipped_path(cell)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(outcome.record))
    key = outcome.record["key"]
    assert shipped.shipped_record(cell, key) is not None
    assert shipped.shipped_record(cell, {**key, "dataset_sha256": "0" * 64}) is None
