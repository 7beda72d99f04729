"""The queue that works off the suites: what is published counts as done, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlcondense.records.store import read_record_file, sealed, write_record_file
from tests.docs.scripts import script
from tests.reporting.boards import GRADMATCH, RANDOM, shipped_leaderboard


def test_a_record_that_is_not_the_published_one_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, results = script("baselines/results.py"), tmp_path / "results"
    monkeypatch.setattr(queue, "BOARD", shipped_leaderboard(tmp_path / "board"))
    queue.fill(results)
    older, dearer = (results / "records" / f"{name}.json" for name in (GRADMATCH, RANDOM))
    changed = read_record_file(older)
    changed["returns"]["seen"][0][0] += 1.0
    write_record_file(older, sealed({k: v for k, v in changed.items() if k != "content_sha256"}))
    dear = json.loads(dearer.read_text())
    dear["timings"]["train"]["wall"] += 1.0
    dearer.write_text(json.dumps(dear))
    left = older.read_bytes()
    queue.fill(results)
    assert read_record_file(older) == read_record_file(tmp_path / "board" / "results" / older.name)
    assert (results / "set-aside" / f"0-{older.name}").read_bytes() == left
    assert json.loads(dearer.read_text()) == dear  # timings are no content
    assert capsys.readouterr().out.count("is not what is published") == 1
