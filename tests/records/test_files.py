"""The files of records: what is written is what is read, in fewer bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from rlcondense.records.store import (
    content_sha256,
    read_record_file,
    sealed,
    write_record_file,
)

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "results"


def test_whole_returns_are_written_without_their_point_and_sealed_as_floats(
    tmp_path: Path,
) -> None:
    record = read_record_file(min(SHIPPED.glob("*.json.gz")))
    returns = record["returns"]
    returns["seen"][0][:4] = [10.0, -0.0, 2.5, -3.0]
    returns["heldout"][0][:2] = [0.1 + 0.2, 7.0]
    record = sealed({**record, "returns": returns})
    path = tmp_path / "record.json"
    write_record_file(path, record)
    [line] = [line for line in path.read_text().splitlines() if line.startswith('"returns"')]
    assert '"seen":[[10,-0.0,2.5,-3,' in line
    back = read_record_file(path)
    assert back == record
    assert content_sha256(back) == record["content_sha256"]
    # A file of before has the points; its seal is the same.
    path.write_text(json.dumps(record))
    assert read_record_file(path) == record
    returns["seen"][0][1] = 0.0
    assert content_sha256({**record, "returns": returns}) != record["content_sha256"]


def test_a_packed_record_is_the_same_bytes_whenever_it_is_written(tmp_path: Path) -> None:
    record = read_record_file(min(SHIPPED.glob("*.json.gz")))
    for name in ("a.json", "b.json.gz", "c.json.gz"):
        write_record_file(tmp_path / name, record)
        assert read_record_file(tmp_path / name) == record
    packed = (tmp_path / "b.json.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # no date
    assert packed == (tmp_path / "c.json.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.json").read_bytes()
