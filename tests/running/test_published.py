"""How far a suite is can be seen of a leaderboard, where nothing was computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.records.store import read_record_file, write_record_file
from tests.reporting.boards import shipped_leaderboard

SUITE = """summary = "of a shipped record"
tasks = ["procgen/starpilot-easy-v0"]
datasets = ["expert-v0"]
methods = ["random"]
sizes = [149, 150]
learners = [{ id = "bc", config = { network = "nature" } }]
learner_seeds = 3
references = false
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shipped_leaderboard(tmp_path / "leaderboard")
    (tmp_path / "leaderboard" / "index.json").write_text("{}")
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return path


def status(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["status", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize("packed", [False, True])
def test_published_records_count_where_no_sweep_was_begun(
    suite: Path, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = tmp_path / "leaderboard"
    if packed:
        for path in (board / "results").glob("*.json"):
            write_record_file(path.with_name(f"{path.name}.gz"), read_record_file(path))
            path.unlink()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, text = status(suite)
    assert code == 0
    assert "no sweep of 'mine' has been begun in results; this is what leaderboard has" in text
    assert "mine: 1 done, 1 missing\n" in text
    code, text = status(suite, "--results", board, "--json")
    assert code == 0
    assert json.loads(text)["counts"] == {"done": 1, "missing": 1}
    assert json.loads(text)["records"] == str(board)
    code, text = status(suite, "--results", tmp_path / "reslts")
    assert (code, text.count("\n")) == (2, 1)  # a name that is mistyped
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_leaderboard_a_line_says_what_shows_the_cells(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, text = status(suite)
    assert (code, text.count("\n")) == (2, 1)
    assert "--dry-run' shows its cells" in text
