"""Shipped records of reference rows: what never changes need not be computed by everybody.

They are published records. `baselines/references.json` names them by dataset and by the cell
without its learner seeds, since the rows of five students hold those of three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcondense.catalogue import data_root
from rlcondense.files import canonical_json, read_json
from rlcondense.records.cell import Cell
from rlcondense.records.reading import PUBLISHED, record_path
from rlcondense.records.record import Record
from rlcondense.records.store import read_record_file, sealed
from rlcondense.statistics.intervals import summarise

INDEX = Path("baselines", "references.json")  # {dataset: {cell: record}}


def shipped_path(cell: Cell) -> Path | None:
    """Return the path of the shipped record of a cell, with these or other learner seeds."""
    return _paths(cell.dataset).get(replace(cell, learner_seeds=()).id)


def is_shipped(cell: Cell) -> bool:
    """Return whether a record of a cell is shipped that has all of its learner seeds."""
    path = shipped_path(cell)
    if path is None:
        return False
    return set(cell.learner_seeds) <= set(read_record_file(path)["cell"]["learner_seeds"])


def shipped_summaries(dataset: str) -> dict[str, Any]:
    """Return the summaries of the shipped reference rows of a dataset, by method and split.

    Of several kinds of labels, students of soft ones are taken.
    """
    records = [read_record_file(path) for path in _paths(dataset).values()]
    records.sort(key=lambda record: record.get("labels") == "soft")
    return {record["cell"]["method"]["id"]: record["summary"] for record in records}


def _paths(dataset: str) -> dict[str, Path]:
    """Return the paths of the shipped records of a dataset by cell, without learner seeds."""
    root = data_root()
    index = read_json(root / INDEX).get(dataset, {})
    return {cell: record_path(root / PUBLISHED, record) for cell, record in index.items()}


def shipped_record(cell: Cell, made_from: Mapping[str, Any]) -> Record | None:
    """Return the shipped record of a cell, cut to the learner seeds of the cell.

    A student depends on its own seed alone, not on how many others there are.

    Args:
        cell: of a reference row.
        made_from: key of the cell here, whose data and expert must be those of the record.

    Returns:
        None if no record is shipped that has all of the cell's learner seeds and was made from the
        same data.
    """
    path = shipped_path(cell)
    if path is None:
        return None
    record = read_record_file(path)
    seeds = record["cell"]["learner_seeds"]
    same_data = all(
        record["key"].get(name) == made_from.get(name)
        for name in ("dataset_sha256", "expert_sha256")
    )
    if not same_data or not set(cell.learner_seeds) <= set(seeds):
        return None
    return cut(record, cell)


def shipped_beside(records: Iterable[Record]) -> list[Record]:
    """Return the shipped reference rows of the places and learners of records.

    Those are taken that were made from the records' data, cut to the records' learner seeds.

    Args:
        records: done ones.
    """
    kinds: dict[str, tuple[Cell, Any]] = {}
    for record in records:
        cell, data = record["cell"], record["key"].get("dataset_sha256")
        places = (cell["task"], cell["dataset"], cell["evaluation"], cell["learner_seeds"])
        kinds.setdefault(
            canonical_json([*places, cell["learner"], data]), (Cell.from_json(cell), data)
        )
    out: dict[str, Record] = {}
    for own, data in kinds.values():
        for path in _paths(own.dataset).values():
            shipped = read_record_file(path)
            theirs = Cell.from_json(shipped["cell"])
            wanted = replace(theirs, learner_seeds=own.learner_seeds)
            if (
                (theirs.task, theirs.evaluation) == (own.task, own.evaluation)
                and theirs.learner in (None, own.learner)
                and set(own.learner_seeds) <= set(theirs.learner_seeds)
                and shipped["key"].get("dataset_sha256") == data
            ):
                out[wanted.id] = cut(shipped, wanted)
    return list(out.values())


def cut(record: Record, cell: Cell) -> Record:
    """Return the record of some of a record's learner seeds.

    Costs are left out: those of fewer students were not measured.

    Args:
        record: a done one.
        cell: that of the record, with fewer learner seeds.
    """
    places = [record["cell"]["learner_seeds"].index(seed) for seed in cell.learner_seeds]
    returns = {split: [of[place] for place in places] for split, of in record["returns"].items()}
    lengths = {split: [of[place] for place in places] for split, of in record["lengths"].items()}
    out: Record = {
        **record,
        "returns": returns,
        "lengths": lengths,
        "cell": cell.to_json(),
        "cell_id": cell.id,
        "timings": {},
        "memory": {},
        "summary": {split: summarise(rows) for split, rows in returns.items()},
    }
    if training := record.get("training"):
        out["training"] = {
            **training,
            "held_back_loss": [training["held_back_loss"][place] for place in places],
            "best_update": [training["best_update"][place] for place in places],
        }
    return sealed(out)
