"""Results on disk: locks that the dead do not hold, an index that never lies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import RLCondenseError
from rlcondense.files import Busy, lock, lock_owner
from rlcondense.records.record import SCHEMA_VERSION
from rlcondense.records.store import MANY, Store, sealed, write_record_file
from rlcondense.statistics.intervals import summarise

ENVIRONMENT = {
    "rlcondense": "1.0", "python": "3.11", "packages": {}, "os": "an os", "cpu": "a cpu",
    "gpu": None, "device": "cpu", "threads": 1, "git": None,
}  # fmt: skip
HOLD = """
import sys, time
from pathlib import Path
from rlcondense.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def record(number: int) -> dict[str, Any]:
    cell_id = f"{number:016x}"
    return {
        "schema_version": SCHEMA_VERSION,
        "cell_id": cell_id,
        "cell": {
            "task": "a/game-v0",
            "dataset": "",
            "method": {"id": "random", "config": {}},
            "budget": {"size": 1 + number},
            "learner": {"id": "bc", "config": {}},
            "condensation_seed": 0,
            "learner_seeds": [0],
            "evaluation": {"protocol": 1, "environments": 2, "quota": 1, "seed": 0},
        },
        "status": "done",
        "environment": ENVIRONMENT,
        "plugins": [],
        "key": {},
        "timings": {},
        "memory": {},
        "action_selection": "sample",
        "labels": "hard",
        "report": {"size": 1 + number, "label_kind": "hard"},
        "level_seeds": {"seen": [0, 1], "heldout": [2, 3]},
        "summary": {"seen": summarise([[1.0, 2.0]]), "heldout": summarise([[3.0, 5.0]])},
        "returns": {"seen": [[1.0, 2.0]], "heldout": [[3.0, 5.0]]},
        "lengths": {"seen": [[1, 2]], "heldout": [[3, 4]]},
    }


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_tells_who_holds_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with holder(path) as process:
        owner = lock_owner(path)
        assert owner is not None
        assert owner["pid"] == process.pid
        assert abs(owner["since"] - time.time()) < 60
        with pytest.raises(Busy, match=f"process {process.pid}"), lock(path, wait=False):
            pass
        process.kill()
    with lock(path, wait=False):
        assert lock_owner(path) is not None
    assert lock_owner(path) is None
    assert not path.exists()


def test_the_lock_of_a_process_that_died_binds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with holder(path) as process:
        process.kill()
    assert path.exists()  # it could not tidy up
    assert lock_owner(path) is None
    with lock(path, wait=False):
        pass
    assert not path.exists()


def test_those_who_wait_get_the_lock_one_after_the_other(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import sys, time; from pathlib import Path; from rlcondense.files import lock\n"
        "for _ in range(30):\n"
        "    with lock(Path(sys.argv[1])):\n"
        "        c = Path(sys.argv[2]); n = int(c.read_text()); c.write_text(str(n + 1))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.lock"), str(counter)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [p.wait() for p in processes] == [0] * 3
    assert counter.read_text() == "90"


def test_a_record_file_has_a_line_for_each_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.write_record(record(1))
    lines = store.record_path(kept["cell_id"]).read_text().splitlines()
    assert len(lines) == len(kept) + 2
    parts = [line.split('"')[1] for line in lines[1:-1]]
    assert parts == sorted(kept)
    assert json.loads("".join(lines)) == kept


def test_records_that_were_copied_packed_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cell_id = record(3)["cell_id"]
    assert store.record_path(cell_id).name == f"{cell_id}.json"
    packed = tmp_path / "records" / f"{cell_id}.json.gz"
    write_record_file(packed, sealed(record(3)))
    assert store.look([cell_id])[cell_id].status == "done"
    assert store.read_record(cell_id) == sealed(record(3))
    store.write_record(record(3))
    assert list((tmp_path / "records").iterdir()) == [packed]


def test_looking_at_many_records_reads_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    ids = [store.write_record(record(n))["cell_id"] for n in range(MANY + 8)]

    def forbidden(cell_id: str) -> Any:
        raise AssertionError(f"{cell_id} was read again")

    monkeypatch.setattr(store, "_read", forbidden)
    found = store.look([*ids, "f" * 16])
    assert [found[i].status for i in ids] == ["done"] * len(ids)
    assert found["f" * 16].status == "missing"
    facts = found[ids[3]].facts
    assert facts is not None
    assert (facts["size"], facts["steps"], facts["means"]["heldout"]) == (4, 10, [4.0])


@pytest.mark.parametrize("index", ["kept", "deleted", "torn"])
def test_the_index_never_hides_what_has_changed(tmp_path: Path, index: str) -> None:
    store = Store(tmp_path)
    ids = [store.write_record(record(n))["cell_id"] for n in range(MANY + 8)]
    store.look(ids)
    altered, foreign, gone, anew = (store.record_path(i) for i in ids[:4])
    altered.write_text(altered.read_text().replace("[[3,5]]", "[[3,6]]"))
    foreign.write_text(json.dumps({**record(1), "schema_version": 1}))
    gone.unlink()
    store.write_record({**record(3), "status": "failed", "reason": "it did"})
    [file] = tmp_path.glob("index-*.jsonl")
    if index == "deleted":
        file.unlink()
    elif index == "torn":
        file.write_text(file.read_text()[:-700])
    found = store.look(ids)
    said = [found[i].status for i in ids[:5]]
    assert said == ["corrupt", "foreign", "missing", "failed", "done"]
    assert "was altered" in found[ids[0]].reason
    assert "another version of rlcondense (schema 1, here 2)" in found[ids[1]].reason
    assert found[ids[3]].reason == "it did"
    assert anew.exists()


def test_a_record_of_another_version_is_never_overwritten_unasked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.record_path("a" * 16)
    path.write_text(json.dumps({"schema_version": 99, "cell_id": "a" * 16}))
    with pytest.raises(RLCondenseError, match="left as it is"):
        store.read_record("a" * 16)


def resealed(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], str]:
    """A change of a record that a checksum does not show."""

    def damage(kept: dict[str, Any]) -> str:
        change(kept)
        return json.dumps(sealed(kept))

    return damage


DAMAGE: dict[str, Callable[[dict[str, Any]], str]] = {
    "cut": lambda kept: json.dumps(kept)[:-9],
    "empty": lambda kept: "",
    "not a record": lambda kept: "[1]",
    "nan": lambda kept: json.dumps({**kept, "lengths": float("nan")}),
    "infinity in it": lambda kept: json.dumps(kept).replace("5.0", "1e999"),
    "deep": lambda kept: "[" * 100_000,
    "altered": lambda kept: json.dumps({**kept, "labels": "soft"}),
    "another cell's": resealed(lambda kept: kept.update(cell_id="f" * 16)),
    "no returns": resealed(lambda kept: kept.pop("returns")),
    "no status": resealed(lambda kept: kept.pop("status")),
    "returns of no episodes": resealed(lambda kept: kept.update(returns={"seen": [[]]})),
    "returns that are a text": resealed(lambda kept: kept.update(returns="many")),
    "failed without a reason": resealed(lambda kept: kept.update(status="failed")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_of_any_kind_is_none_and_is_told(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    kept = store.write_record(record(1))
    path = store.record_path(kept["cell_id"])
    path.write_text(DAMAGE[damage](dict(kept)))
    assert store.read_record(kept["cell_id"]) is None
    found = store.look([kept["cell_id"]])[kept["cell_id"]]
    assert (found.status, found.facts) == ("corrupt", None)
    assert str(path) in found.reason
    assert store.write_record(record(1)) == store.read_record(kept["cell_id"]) == kept


def test_a_damaged_index_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ids = [store.write_record(record(n))["cell_id"] for n in range(MANY + 1)]
    [index] = tmp_path.glob("index-*.jsonl")
    index.write_text('{"id": "' + ids[0] + '"}\n[]\n' + "[" * 100_000 + "\n\xff\n")
    assert {found.status for found in store.look(ids).values()} == {"done"}


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plain = record(1)
    report = {"size": np.int64(3), "label_kind": np.str_("hard"), "bytes": np.uint16(1)}
    returns = {split: np.array(rows) for split, rows in plain["returns"].items()}
    kept = store.write_record({**plain, "report": report, "returns": returns})
    assert kept == store.read_record(kept["cell_id"])
    assert (kept["report"]["size"], kept["returns"]["seen"]) == (3, [[1.0, 2.0]])


@pytest.mark.parametrize("name", ["condensed.safetensors", "report.json", "made_from.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b"\xff\xfe", b'{"label_kind": "x"}'])
def test_a_damaged_condensed_set_is_none(tmp_path: Path, name: str, content: bytes) -> None:
    store = Store(tmp_path)
    rows = np.zeros((2, 3), np.float32)
    data = CondensedDataset(
        observations=rows, actions=np.zeros(2, np.int64), weights=np.ones(2, np.float32)
    )
    store.write_condensed("a", data, "me")
    assert store.read_condensed("a", "me") is not None
    (store.condensed_path("a") / name).write_bytes(content)
    assert store.read_condensed("a", "me") is None
