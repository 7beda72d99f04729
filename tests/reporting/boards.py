"""Leaderboards for tests: the shipped records, and copies of them that say other things."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlcondense.records.cell import Cell
from rlcondense.records.reading import record_path
from rlcondense.records.store import read_record_file, write_record_file

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "results"
GRADMATCH, FULL, RANDOM = "03b89e4e79b1072c", "0b74361663d9bd2f", "3bccce07615a3f4b"
POLICY = "8f8dfee8183560ff"  # that never looks
DEMO = (GRADMATCH, FULL, RANDOM, POLICY, "bd653a873b8436e2", "bed9560062eafc02")
COINRUN = ("procgen/coinrun-easy-v0", "procgen/coinrun-easy/expert-v0")

Record = dict[str, Any]


def shipped_leaderboard(folder: Path) -> Path:
    """A leaderboard of the six records of the first demonstration."""
    (folder / "results").mkdir(parents=True)
    for cell_id in DEMO:
        write_record_file(folder / "results" / f"{cell_id}.json", read_shipped(cell_id))
    return folder


def read_shipped(cell_id: str) -> Record:
    """A shipped record."""
    return dict(read_record_file(record_path(SHIPPED, cell_id)))


def forge(folder: Path, change: Callable[[Record], Any], cell_id: str = GRADMATCH) -> Record:
    """Add a changed copy of a shipped record under the id that its cell then has."""
    record = copy.deepcopy(read_shipped(cell_id))
    change(record)
    record["cell_id"] = Cell.from_json(record["cell"]).id
    path = folder / "results" / f"{record['cell_id']}.json"
    path.write_text(json.dumps(record, indent=2, sort_keys=True))
    return record


def rich_leaderboard(folder: Path) -> Path:
    """Two tasks, two learners, three sizes, several condensation seeds, a failure, pictures."""
    shipped_leaderboard(folder)
    for cell_id in (GRADMATCH, RANDOM):
        for size in (15, 1500):
            forge(folder, lambda r, size=size: _resize(r, size), cell_id)
        forge(folder, lambda r: r["cell"].update(condensation_seed=1), cell_id)
    for cell_id in (GRADMATCH, RANDOM, FULL):
        forge(folder, _other_learner, cell_id)
    for cell_id in DEMO:
        forge(folder, _coinrun, cell_id)
    failed = forge(folder, _failed)
    shown = read_shipped(GRADMATCH)
    add_picture(folder, shown)
    add_picture(folder, failed)
    return folder


def _resize(record: Record, size: int) -> None:
    record["cell"]["budget"] = {"size": size}
    record["report"].update(size=size, budget={"size": size})
    for rows in record["returns"].values():
        rows[:] = [[value * size**0.5 / 12 for value in row] for row in rows]


def _other_learner(record: Record) -> None:
    record["cell"]["learner"]["id"] = "discrete-cql"
    rows = record["returns"]["heldout"]
    rows[:] = [[value + 1 for value in row] for row in rows]


def _coinrun(record: Record) -> None:
    record["cell"]["task"], record["cell"]["dataset"] = COINRUN


def _failed(record: Record) -> None:
    record["cell"]["condensation_seed"] = 0
    record["cell"]["method"]["config"]["iterations"] = 7
    for part in ("returns", "lengths", "level_seeds", "summary"):
        del record[part]
    record.update(status="failed", reason="RuntimeError: out of memory")


def add_picture(folder: Path, record: Record) -> Path:
    """Add a picture of what a record's method condensed, and what is said of it."""
    name = Cell.from_json(record["cell"]).condensation_id
    path = folder / "pictures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png(20, 30))
    said = {
        "kind": "synthetic",
        "rows": [0, 75],
        "amplified": 2,
        "size": 150,
        "label_kind": "hard",
        "actions": [0.5, 0.25, 0.25],
        "dataset_actions": [0.2, 0.3, 0.5],
    }
    path.with_suffix(".json").write_text(json.dumps(said))
    return path


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress((b"\0" + b"\x80" * width) * height)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
