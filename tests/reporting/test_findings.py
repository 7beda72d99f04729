"""What detectors found, wherever a result is shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.comparison.rows import Row, explanations, findings_of
from rlcondense.comparison.tables import run_table, suite_table
from rlcondense.files import write_arrays, write_json
from rlcondense.records.schema import what_is_wrong
from rlcondense.records.store import sealed
from rlcondense.reporting.board import Board, build_board, read_results
from rlcondense.reporting.formats import board_json, csv_text, headline, latex, markdown
from rlcondense.reporting.site import build_site
from rlcondense.submissions.content import known_here, problems
from tests.reporting.boards import (
    GRADMATCH,
    RANDOM,
    Record,
    forge,
    read_shipped,
    shipped_leaderboard,
)

LIGHT = "be9c557ef16cbe66"  # gradmatch-light2024 on jumper
HOSTILE = {
    "name": "new-detector", "measured": 1, "bound": 2, "text": "<script>alert(1)</script>"
}  # fmt: skip


def record_of(cell_id: str) -> Record:
    record: Record = read_shipped(cell_id)
    return record


def undetected() -> Record:
    """The record `LIGHT` as one of before there were detectors, with figures of its own."""
    record = record_of(LIGHT)
    for part in (record, record["report"]):
        part.pop("findings", None)
    record["report"]["displacement"] = {"mean": 0.0288, "largest": 2.5}
    record["report"]["matching_loss"] = {"before": 2.0, "after": 1.0}
    return sealed(record)


def finding(name: str, text: str = "1 of 150 rows") -> dict[str, Any]:
    return {"name": name, "measured": 1.0, "bound": 0.0, "text": text}


def names(*records: Record) -> list[str]:
    return [f["name"] for f in findings_of(records)]


def found(**parts: Any) -> Callable[[Record], Any]:
    """A change of a record: `report` and `record` are lists of findings."""

    def change(record: Record) -> None:
        record["report"]["findings"] = parts.get("report")
        if "record" in parts:
            record["findings"] = parts["record"]

    return change


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Gradient matching of which three things were found, and the published one as it was."""
    folder = shipped_leaderboard(tmp_path / "leaderboard")
    set_of = [finding("missing-actions", "action 4"), HOSTILE]
    forge(folder, found(report=set_of, record=[finding("constant-student")]))
    (folder / "results" / f"{LIGHT}.json").write_text(json.dumps(undetected()))
    return build_board(read_results(folder / "results"))


def row_of(board: Board, name: str) -> Row:
    return next(row for group in board.groups for row in group.rows if row.id == name)


def test_old_records_tell_by_their_own_figures() -> None:
    assert names(undetected()) == ["moved-nothing"]
    assert names(record_of(GRADMATCH)) == ["far-from-data"]
    assert names(record_of(RANDOM)) == []
    risen = record_of(GRADMATCH)
    del risen["report"]["findings"]
    assert names(risen) == []
    risen["report"]["matching_loss"] = {"before": 1.0, "after": 2.0}
    assert names(risen) == ["loss-rose"]


def test_what_was_found_goes_before_what_can_be_guessed() -> None:
    record = undetected()
    record["report"]["findings"] = []
    assert names(record) == []
    record["report"]["findings"] = [finding("far-from-data")]
    record["findings"] = [finding("constant-student")]
    assert names(record) == ["far-from-data", "constant-student"]


def test_a_row_has_the_findings_of_all_its_condensation_seeds() -> None:
    first, second = record_of(GRADMATCH), record_of(GRADMATCH)
    first["report"]["findings"] = [finding("far-from-data", "the first")]
    second["report"]["findings"] = [finding("far-from-data"), finding("missing-actions")]
    both = findings_of([first, second])
    assert [(f["name"], f["text"]) for f in both] == [
        ("missing-actions", "1 of 150 rows"),
        ("far-from-data", "the first"),
    ]


def test_rows_are_marked_and_each_mark_is_explained(board: Board) -> None:
    row = row_of(board, "gradmatch")
    assert row.marks == "? [missing actions, constant student, new detector]"
    assert row_of(board, "gradmatch-light2024").marks.endswith("[moved nothing]")
    assert row_of(board, "full").marks == row_of(board, "full").mark
    lines = explanations(row for group in board.groups for row in group.rows)
    assert [line.partition(":")[0] for line in lines] == [
        "[moved nothing]",
        "[missing actions]",
        "[constant student]",
        "[new detector]",
    ]


def test_every_format_shows_them_and_is_silent_where_there_are_none(
    board: Board, tmp_path: Path
) -> None:
    shown = next(suite for suite in board.suites if suite.name == "light2024-weak")
    folder = shipped_leaderboard(tmp_path / "silent") / "results"
    silent = next(s for s in build_board(read_results(folder)).suites if s.name == "other")
    assert "gradmatch-light2024 ? [moved nothing] &" in latex(shown)
    for form in (markdown, headline):
        text = form(shown)
        assert "gradmatch-light2024 ? [moved nothing]" in text
        assert "\n\n[moved nothing\\]: synthetic frames moved by less than 0.5" in text
    assert "[moved nothing]: synthetic frames moved by less than 0.5" in latex(shown)
    for form in (markdown, headline, latex):
        assert "gradmatch" in form(silent)
        assert "moved" not in form(silent)
    lines = list(csv.DictReader(io.StringIO(csv_text(shown))))
    of = {(line["method"], line["findings"]) for line in lines if line["status"] == "done"}
    assert of == {("gradmatch-light2024", "moved-nothing")}
    assert '"name":"moved-nothing"' in board_json(board)


def test_pages_show_them_with_their_figures_and_take_no_tags(board: Board, tmp_path: Path) -> None:
    build_site(board, tmp_path / "leaderboard", tmp_path / "site")
    record = (tmp_path / "site" / "records" / f"{LIGHT}.html").read_text()
    assert "moved nothing</b>: 0.0288 grey levels on average (under 0.5, what rounding" in record
    method = (tmp_path / "site" / "methods" / "gradmatch-light2024.html").read_text()
    assert ">[moved nothing]</small>" in method
    assert "[moved nothing]: synthetic frames" in method
    assert 'data-why="one set: not judged"' in method
    pages = [path.read_text() for path in (tmp_path / "site").rglob("*.html")]
    hostile = [page for page in pages if "[new detector]" in page]
    assert len(hostile) >= 3  # of the method, the task and the front
    assert not [page for page in pages if "<script>alert" in page]
    plain = (tmp_path / "site" / "records" / f"{RANDOM}.html").read_text()
    assert "detectors" not in plain


def test_the_printed_tables_name_row_and_figure() -> None:
    light = undetected()
    text = run_table([light], [])
    assert "gradmatch-light2024 ? [moved nothing]" in text
    assert (
        "! gradmatch-light2024: moved nothing: 0.0288 grey levels on average (under 0.5, what "
        "rounding to whole grey levels removes)."
    ) in text
    random = record_of(RANDOM)
    random["findings"] = [finding("constant-student", "0.001 nats")]
    text = run_table([record_of(GRADMATCH)], [random])
    assert "\nrandom ? [constant student]" in text
    assert "! random: constant student: 0.001 nats." in text
    assert "[" not in run_table([record_of(RANDOM)], []).splitlines()[4]
    text = suite_table([light])
    assert "gradmatch-light2024 ? [moved nothing]" in text
    assert "[moved nothing]: synthetic frames" in text


def test_the_schema_knows_findings_and_nothing_like_them() -> None:
    record = record_of(GRADMATCH)
    record["report"]["findings"], record["findings"] = [finding("far-from-data")], []
    assert what_is_wrong(record) is None
    record["report"]["findings"] = None
    assert what_is_wrong(record) is None
    for wrong in (
        [{"name": "x"}],
        [finding("Bad Name")],
        [finding("x", "<b>")],
        [{**finding("x"), "more": 1}],
        [finding("x")] * 21,
        "far",
    ):
        record["findings"] = wrong
        assert "findings" in str(what_is_wrong(record))


def test_a_record_that_hides_what_its_figures_say_is_refused() -> None:
    """Records of before there were findings hide nothing."""
    known = known_here()

    def wrong(findings: Any, **report: Any) -> list[tuple[str, str]]:
        record = undetected()
        record["report"] |= report
        if findings != "none":
            record["report"]["findings"] = findings
        return list(problems(sealed(record), LIGHT, known))

    assert wrong("none") == []
    assert wrong([finding("moved-nothing")]) == []
    ((check, text),) = wrong([])
    assert check == "findings"
    assert text.startswith("report.findings lacks moved-nothing: 0.0288 grey levels")
    ((check, text),) = wrong(
        [finding("moved-nothing")], matching_loss={"before": 1.0, "after": 2.0}
    )
    assert text == "report.findings lacks loss-rose: matching loss rose from 1 to 2"


def test_show_prints_findings_and_looks_at_sets_that_nobody_looked_at(tmp_path: Path) -> None:
    frames = np.zeros((4, 3, 8, 8), np.float32)
    frames[3] = np.inf
    write_arrays(
        tmp_path / "condensed.safetensors", {"observations": frames, "actions": np.zeros(4, int)}
    )
    write_json(tmp_path / "report.json", {"label_kind": "hard"})
    said = CliRunner().invoke(main, ["show", str(tmp_path)])
    assert said.output.splitlines()[-1] == "! non finite rows: 1 of 4 rows"
    write_json(
        tmp_path / "report.json", {"label_kind": "hard", "findings": [finding("far-from-data")]}
    )
    said = CliRunner().invoke(main, ["show", str(tmp_path)])
    assert said.output.splitlines()[-1] == "! far from data: 1 of 150 rows"
    told = json.loads(CliRunner().invoke(main, ["show", str(tmp_path), "--json"]).output)
    assert told["findings"] == [finding("far-from-data")]
