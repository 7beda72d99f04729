"""Collect the records of reference rows that `rlcondense run` reads instead of computing them.

They are published records: policies that no learner trains, and the default student on all of a
shipped dataset, by the default protocol.

    python baselines/references/collect.py leaderboard/results
"""

from __future__ import annotations

import sys
from pathlib import Path

from rlcondense.catalogue import entries
from rlcondense.files import write_json
from rlcondense.make import make_learner
from rlcondense.protocol import protocol_of
from rlcondense.records.cell import Cell, evaluation_json, learner_json
from rlcondense.records.record import Record
from rlcondense.records.shipped import shipped_path
from rlcondense.records.store import read_record_file
from rlcondense.references import POLICIES, WHOLE

EPISODES = 100  # of `run` by default
LEAST_SEEDS = 3  # of `run` by default


def is_shipped(cell: Cell) -> bool:
    """Return whether the record of a cell is one that `run` asks for by default."""
    if cell.dataset not in entries("datasets") or len(cell.learner_seeds) < LEAST_SEEDS:
        return False
    if cell.evaluation != evaluation_json(protocol_of(EPISODES)):
        return False
    if cell.learner is None:
        return cell.method["id"] in POLICIES and not cell.method["config"]
    return cell.method["id"] in WHOLE and cell.learner == learner_json(
        make_learner("bc", cell.task)
    )


def collect(folder: Path) -> dict[Path, Record]:
    """Return the records to ship by path; of several with other seeds, that with the most."""
    records: dict[Path, Record] = {}
    for file in sorted(folder.glob("*.json")):
        record = read_record_file(file)
        cell = Cell.from_json(record["cell"])
        if record["status"] != "done" or not is_shipped(cell):
            continue
        path = shipped_path(cell)
        known = records.get(path)
        if known is None or len(known["cell"]["learner_seeds"]) < len(cell.learner_seeds):
            records[path] = record
    return records


if __name__ == "__main__":
    shipped = collect(Path(sys.argv[1]))
    for path, record in shipped.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    print(f"{len(shipped)} records")
