"""Shipped records of reference rows stand for what would be computed, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlcondense import catalogue
from rlcondense.datasets.budget import Budget
from rlcondense.files import read_json, write_json
from rlcondense.make import make_learner, make_method
from rlcondense.records import shipped
from rlcondense.records.cell import Cell
from rlcondense.records.reading import PUBLISHED, record_path
from rlcondense.records.schema import what_is_wrong
from rlcondense.records.store import read_record_file
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


def ship(outcomes: Sequence[Outcome], root: Path) -> None:
    """Publish the records of one dataset below a folder, and name them there."""
    index: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        cell = Cell.from_json(outcome.record["cell"])
        index.setdefault(cell.dataset, {})[replace(cell, learner_seeds=()).id] = cell.id
        write_json(root / PUBLISHED / f"{cell.id}.json", outcome.record)
    write_json(root / shipped.INDEX, index)


@pytest.mark.slow
def test_shipped_rows_are_those_of_fewer_students(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "data_root", lambda: tmp_path)
    write_json(tmp_path / shipped.INDEX, {})
    ship(references(bench_of(tmp_path / "three", 3)), tmp_path)
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
    write_json(tmp_path / shipped.INDEX, {})
    bench = bench_of(tmp_path / "one", 1)
    [outcome] = Rows(bench, 1).compute([policy_row(bench, "marginal-policy")])
    ship([outcome], tmp_path)
    cell = Cell.from_json(outcome.record["cell"])
    key = outcome.record["key"]
    assert shipped.shipped_record(cell, key) is not None
    assert shipped.shipped_record(cell, {**key, "dataset_sha256": "0" * 64}) is None
    assert shipped.is_shipped(cell)
    more = replace(cell, learner_seeds=tuple(range(100)))
    assert not shipped.is_shipped(more)
    assert shipped.shipped_record(more, key) is None


def test_every_reference_that_is_named_is_a_published_record_of_its_cell() -> None:
    root = catalogue.data_root()
    index = read_json(root / shipped.INDEX)
    assert len(index) > 25
    for dataset, cells in index.items():
        for without_seeds, id_ in cells.items():
            record = read_record_file(record_path(root / PUBLISHED, id_))
            cell = Cell.from_json(record["cell"])
            assert (cell.dataset, cell.id) == (dataset, id_)
            assert replace(cell, learner_seeds=()).id == without_seeds
            assert shipped.shipped_path(cell) == record_path(root / PUBLISHED, id_)
