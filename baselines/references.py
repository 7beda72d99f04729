"""Name the published records of reference rows, which `rlcondense run` reads and does not compute.

These are of policies that no learner trains, and of the default student on all of a shipped
dataset, by the default protocol.

    python baselines/references.py leaderboard/results    # into baselines/references.json
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from rlcondense.catalogue import data_root, entries
from rlcondense.errors import BadConfig
from rlcondense.files import write_json
from rlcondense.make import make_learner
from rlcondense.protocol import protocol_of
from rlcondense.records.cell import Cell, evaluation_json, learner_json
from rlcondense.records.reading import record_files
from rlcondense.records.shipped import INDEX
from rlcondense.records.store import read_record_file
from rlcondense.references import POLICIES, WHOLE

EPISODES = 100  # of `run` by default
LEAST_SEEDS = 3  # of `run` by default


def is_default(cell: Cell) -> bool:
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


def name_references(folder: Path) -> dict[str, dict[str, str]]:
    """Return the ids of the records to ship, by dataset and by the cell without learner seeds.

    Of several with other learner seeds, that with the most is taken.

    Args:
        folder: published records.

    Raises:
        BadConfig: there are none.
    """
    files = record_files(folder)
    if not files:
        raise BadConfig(f"{folder} holds no records")
    most: dict[tuple[str, str], Cell] = {}
    for file in files:
        record = read_record_file(file)
        cell = Cell.from_json(record["cell"])
        if record["status"] != "done" or not is_default(cell):
            continue
        place = (cell.dataset, replace(cell, learner_seeds=()).id)
        if place not in most or len(most[place].learner_seeds) < len(cell.learner_seeds):
            most[place] = cell
    index: dict[str, dict[str, str]] = defaultdict(dict)
    for (dataset, without_seeds), cell in most.items():
        index[dataset][without_seeds] = cell.id
    return dict(index)


if __name__ == "__main__":
    references = name_references(Path(sys.argv[1]))
    write_json(data_root() / INDEX, references)
    print(f"{sum(map(len, references.values()))} records")
