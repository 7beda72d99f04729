"""The leaderboard's rows and tables, on the records that are published."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.comparison.rows import Group, Row, groups_of
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.reporting.board import (
    Aggregate,
    Board,
    _aggregates,
    build_board,
    read_results,
    suite_part,
)
from rlcondense.reporting.formats import board_json, csv_text, latex, markdown
from rlcondense.reporting.publish import fill_in
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import Suite, suite_from
from rlcondense.statistics.intervals import crossed_interval
from tests.reporting.boards import shipped_leaderboard

TASKS = ("starpilot", "jumper")
SUITE = suite_from(
    "two-games",
    {
        "summary": "for tests",
        "tasks": list(TASKS),
        "methods": ["random-balanced", "bc-10"],
        "sizes": [15],
        "condensation_seeds": 3,
        "learner_seeds": 3,
        "episodes": 4,
    },
)
# What a student returns on held-out levels in a task: method, size -> mean.
MEANS = {"expert": 9.0, "full-converged": 8.5, "full": 8.0, "random-balanced": 6.0,
         "bc-10": 1.5, "random": 2.0, "marginal-policy": 3.0, "constant-policy": 7.0,
         "random-policy": 1.0}  # fmt: skip


def _records(leave_out: str = "", suite: Suite = SUITE) -> dict[str, dict[str, Any]]:
    """A record of every planned cell, returns drawn around `MEANS`."""
    rng = np.random.default_rng(0)
    records: dict[str, dict[str, Any]] = {}
    for planned in plan_suite(suite):
        if planned.cell is None or planned.cell.method["id"] == leave_out:
            continue
        cell = planned.cell
        mean = MEANS[cell.method["id"]]
        size = (cell.budget or {}).get("size", 40)
        records[cell.id] = {
            "schema_version": 2,
            "cell_id": cell.id,
            "cell": cell.to_json(),
            "status": "done",
            "returns": {
                "seen": rng.normal(mean + 1, 0.3, (3, 4)),
                "heldout": rng.normal(mean, 0.3, (3, 4)),
            },
            "levels_sha256": "the same",
            "action_selection": "sample",
            "labels": "hard",
            "timings": {"train": {"wall": 2.0}},
            "plugins": [],
            **({"report": {"size": size}} if cell.learner else {}),
        }
    return records


def _row(group: Group, name: str) -> Row:
    return next(row for row in group.rows if row.id == name)


@pytest.fixture(scope="module")
def group() -> Group:
    [first, _] = groups_of(_records().values(), lambda task: (0.0, 10.0))
    return first


def test_condensation_seeds_make_one_row(group: Group) -> None:
    row = _row(group, "random-balanced")
    assert row.condensation_seeds == 3
    assert len(row.cells) == 3
    assert row.returns is not None
    assert row.returns["heldout"]["mean"].n == 3
    assert not row.conditional
    assert _row(group, "bc-10").conditional


def test_rows_stand_between_ceilings_and_floors(group: Group) -> None:
    names = [row.id for row in group.rows]
    assert names[:3] == ["expert", "full-converged", "full"]
    assert names[-2:] == ["marginal-policy", "random-policy"]
    assert names.index("random-balanced") < names.index("random")


def test_a_row_is_held_against_every_floor(group: Group) -> None:
    good, bad = _row(group, "random-balanced"), _row(group, "bc-10")
    verdicts = {a.floor: a.verdict for a in good.against}
    assert verdicts == dict.fromkeys(("random-policy", "marginal-policy", "random"), "above")
    assert good.mark == ""
    assert {a.floor: a.verdict for a in bad.against}["marginal-policy"] == "below"
    assert bad.mark == "!"


def test_greedy_students_are_held_against_the_policy_that_always_takes_one_action() -> None:
    product = {
        "summary": "for tests",
        "tasks": ["starpilot"],
        "methods": ["random-balanced"],
        "sizes": [15],
        "learner_seeds": 3,
        "episodes": 4,
    }
    greedy = {"id": "bc", "config": {"action_selection": "greedy"}}
    for learner, floor in ((greedy, 7.0), ("bc", 3.0)):
        suite = suite_from("one", {**product, "learners": [learner]})
        [group] = groups_of(_records(suite=suite).values())
        row = _row(group, "random-balanced")
        against = {a.floor: a.difference.estimate for a in row.against}
        assert row.returns is not None
        own = row.returns["heldout"]["mean"].estimate
        assert against["marginal-policy"] == pytest.approx(own - floor, abs=0.5)
        assert ("constant-policy" in [r.id for r in group.rows]) == (floor > 3)


def test_a_missing_floor_leaves_a_row_unjudged() -> None:
    [group, _] = groups_of(_records(leave_out="marginal-policy").values())
    assert _row(group, "random-balanced").mark == "?"


def test_places_that_differences_leave_open(group: Group) -> None:
    assert _row(group, "full-converged").rank == (1, 1)
    assert _row(group, "full").rank == (2, 2)
    assert _row(group, "random-balanced").rank == (3, 3)
    assert _row(group, "bc-10").rank[1] == 5  # type: ignore[index]


def test_numbers_of_a_row_agree_with_its_returns(group: Group) -> None:
    row = _row(group, "random-balanced")
    records = _records()
    returns = np.stack([records[cell]["returns"]["heldout"] for cell in row.cells])
    floors = [r["returns"]["heldout"].mean() for r in records.values()
              if r["cell"]["task"] == group.task and r["cell"]["method"]["id"] == "random"
              and r["report"]["size"] == 15]  # fmt: skip
    assert row.returns is not None
    assert row.normalised is not None
    assert row.gain is not None
    assert row.gap is not None
    assert row.returns["heldout"]["mean"].estimate == pytest.approx(returns.mean())
    assert row.normalised.estimate == pytest.approx(returns.mean() / 10)
    assert row.gain.estimate == pytest.approx(returns.mean() - np.mean(floors))
    seen = np.stack([records[cell]["returns"]["seen"] for cell in row.cells])
    apart = (seen - returns).mean(2)
    assert row.gap.estimate == pytest.approx(apart.mean())
    assert row.gap.standard_error == pytest.approx(crossed_interval(apart).standard_error)


@pytest.fixture(scope="module")
def board() -> Board:
    records = _records(leave_out="full")
    groups = tuple(groups_of(records.values()))
    return Board(records, groups, (suite_part(SUITE, records),))


def test_a_suite_shows_what_is_missing(board: Board) -> None:
    [suite] = board.suites
    assert _row(suite.groups[0], "full").status == "missing"
    assert suite.done == len(board.records)
    assert suite.planned > suite.done
    assert "| full " in markdown(suite)
    assert "missing" in markdown(suite)


def test_a_table_of_nothing_is_a_line() -> None:
    records = {
        cell_id: record
        for cell_id, record in _records().items()
        if "starpilot" in record["cell"]["task"] or record["cell"]["learner"] is None
    }
    part = suite_part(SUITE, records)
    assert [group.begun for group in part.groups] == [True, False]
    for form in (markdown, latex):
        text = form(part)
        assert "Missing" in text
        assert "jumper" in text.split("Missing")[1]
    assert csv_text(part).count("missing") > 4  # every cell has its line there


def test_aggregates_are_over_tasks(board: Board) -> None:
    [suite] = board.suites
    found = {row.method["id"]: row for row in suite.aggregates}
    balanced = found["random-balanced"]
    assert len(balanced.tasks) == balanced.of == 2
    assert balanced.above == dict.fromkeys(("random-policy", "marginal-policy", "random"), (2, 2))
    assert balanced.recovery is not None
    assert balanced.recovery["mean"].estimate == pytest.approx((6 - 1) / (9 - 1), abs=0.05)
    assert "full" not in found


def _changed(record: dict[str, Any], lead: float, **cell: Any) -> dict[str, Any]:
    """A copy of a record with another cell, whose students return more by `lead`."""
    returns = {split: rows + lead for split, rows in record["returns"].items()}
    cell = {**record["cell"], **cell}
    name = f"{cell['method']['id']} {cell['task']} {cell['condensation_seed']} {cell}"
    return {**record, "cell": cell, "cell_id": name, "returns": returns}


def _aggregated(records: Iterable[dict[str, Any]]) -> list[Aggregate]:
    by_id = {record["cell_id"]: record for record in records}
    return _aggregates(groups_of(by_id.values(), lambda task: (0.0, 10.0)), by_id)  # type: ignore[arg-type]


def test_the_gain_over_tasks_is_over_random_rows_of_as_many_bytes() -> None:
    coded: dict[str, Any] = {"budget": {"bytes": 1000, "bits": 4}}
    records = list(_records().values())
    of_bytes = [
        _changed(record, lead, **coded)
        for record in records
        for method, lead in (("random-balanced", 0.0), ("random", 3.0))
        if record["cell"]["method"]["id"] == method
    ]
    found = {
        (row.method["id"], json.dumps(row.budget)): row for row in _aggregated(records + of_bytes)
    }
    gains = [
        found["random-balanced", json.dumps(budget)].gain
        for budget in ({"size": 15}, coded["budget"])
    ]
    assert gains[0] is not None
    assert gains[1] is not None
    assert gains[1].estimate / gains[0].estimate == pytest.approx((6 - 5) / (6 - 2), abs=0.1)


def test_no_aggregate_counts_a_task_twice() -> None:
    records = list(_records().values())
    assert len(_aggregated(records)) > 3
    again = [_changed(record, 1.0, dataset="lab/other-v0") for record in records]
    assert not _aggregated(records + again)


def test_the_same_records_in_another_order_give_the_same_bytes(board: Board) -> None:
    [suite] = board.suites
    turned = dict(reversed(board.records.items()))
    again = suite_part(SUITE, turned)
    for form in (markdown, latex, csv_text):
        assert form(suite) == form(again)


def test_csv_has_a_line_for_each_row_and_its_numbers(board: Board) -> None:
    [suite] = board.suites
    lines = list(csv.DictReader(io.StringIO(csv_text(suite))))
    assert len(lines) == sum(len(group.rows) for group in suite.groups)
    line = next(line for line in lines if line["method"] == "random-balanced")
    assert float(line["heldout_mean_low"]) < float(line["heldout_mean"])
    assert line["against_marginal-policy"] == "above"
    assert json.loads(line["learner_config"])["network"] == "impala-patch2"


def test_latex_is_escaped_and_booktabs(board: Board) -> None:
    [suite] = board.suites
    text = latex(suite)
    assert text.count(r"\toprule") == len(suite.groups) + 1
    assert r"batch\_size" in text
    assert "±" not in text.split(r"\begin{table}", 1)[1]


def test_the_papers_figures_stand_beside_ours() -> None:
    board = build_board({}, ["light2024"])
    [suite] = board.suites
    assert not suite.groups  # nothing is there yet
    found = {(p.task, p.method): p for p in suite.published}
    assert found["procgen/jumper-light2024-v0", "gradmatch-light2024"].heldout == 2.86


HOSTILE = '<script>alert(1)</script>|"&%$#_{}~^\\ ![x](https://evil.example)'


def test_strange_names_are_shown_as_they_are() -> None:
    records = _records()
    for record in records.values():
        if record["cell"]["method"]["id"] == "bc-10":
            record["status"], record["reason"] = "failed", "no"
            record["cell"]["method"] = {"id": HOSTILE, "config": {}}
    part = suite_part(SUITE, records)
    assert "<script>" not in markdown(part)
    assert "![x](" not in markdown(part)
    assert r"\textless{}script\textgreater{}" in latex(part)


def test_records_of_one_protocol_played_the_same_levels() -> None:
    records = _records()
    next(iter(records.values()))["levels_sha256"] = "others"
    with pytest.raises(CorruptArtifact, match="different levels"):
        build_board(records, [])


LEADERBOARD = Path(__file__).parents[2] / "leaderboard"


@pytest.mark.slow
def test_build_writes_the_same_bytes_again(tmp_path: Path) -> None:
    shutil.copytree(LEADERBOARD / "results", tmp_path / "results")
    for path in list((tmp_path / "results").iterdir())[:-40]:
        path.unlink()
    arguments = ["leaderboard", "build", str(tmp_path), "--tex"]
    written = []
    for _ in range(2):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        written.append({path: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert len(list((tmp_path / "tables").glob("*.tex"))) >= 1
    assert json.loads((tmp_path / "leaderboard.json").read_text())["records"] == 40


def test_tables_of_suites_without_records_are_removed_and_no_others(tmp_path: Path) -> None:
    folder = shipped_leaderboard(tmp_path / "board")
    (folder / "tables").mkdir(exist_ok=True)
    for name in ("smoke.csv", "mine.md", "mine.csv", "notes.txt"):
        (folder / "tables" / name).write_text("x")
    for path in list((folder / "results").iterdir())[1:]:
        path.unlink()
    assert CliRunner().invoke(main, ["leaderboard", "build", str(folder)]).exit_code == 0
    left = {path.name for path in (folder / "tables").iterdir()}
    assert {"mine.md", "mine.csv", "notes.txt"} <= left
    assert "smoke.csv" not in left


def test_tables_of_one_suite_leave_the_board_as_it_is(tmp_path: Path) -> None:
    folder = shipped_leaderboard(tmp_path / "board")
    command = ["leaderboard", "build", str(folder)]
    assert CliRunner().invoke(main, command).exit_code == 0
    before = (folder / "leaderboard.json").read_bytes()
    result = CliRunner().invoke(main, [*command, "--suite", "smoke"])
    assert result.exit_code == 0, result.output
    assert "leaderboard.json" not in result.output
    assert (folder / "tables" / "smoke.csv").is_file()
    assert (folder / "leaderboard.json").read_bytes() == before


def test_a_file_that_is_no_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "0123456789abcdef.json").write_text("[1]")
    result = CliRunner().invoke(main, ["leaderboard", "build", str(tmp_path)])
    assert result.exit_code == 2
    assert "is no record" in result.output
    with pytest.raises(RLCondenseError, match="no folder"):
        read_results(tmp_path / "nothing")


def test_everything_is_in_the_json(board: Board) -> None:
    plain = json.loads(board_json(board))
    assert len(plain["groups"]) == len({json.dumps(group) for group in plain["groups"]})
    rows = plain["groups"][plain["suites"][0]["groups"][0]]["rows"]
    row = next(row for row in rows if row["method"]["id"] == "random-balanced")
    assert row["returns"]["heldout"]["interquartile_mean"]["n"] == 3
    assert row["against"]["marginal-policy"]["verdict"] == "above"


def test_a_document_gets_the_tables_that_it_asks_for(board: Board, tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(
        "before\n<!-- leaderboard two-games -->\nold\n<!-- /leaderboard -->\nafter\n"
    )
    assert fill_in(document, board) == 1
    text = document.read_text()
    assert text.startswith("before\n<!-- leaderboard two-games -->\n| task, learner")
    assert text.endswith("cells are done; the rest is missing.\n"
                         "<!-- /leaderboard -->\nafter\n")  # fmt: skip
    assert "old" not in text
    assert "| full  " not in text  # has no record
    fill_in(document, board)
    assert document.read_text() == text
    windows = text.replace("\n", "\r\n").replace("before", "davor: schön")
    old = windows.replace("| task, learner", "| old")
    assert old != windows
    document.write_bytes(old.encode())
    assert fill_in(document, board) == 1
    assert document.read_bytes() == windows.encode()
    document.write_text("<!-- leaderboard smoke -->\n<!-- /leaderboard -->")
    with pytest.raises(BadConfig, match="'smoke': built were two-games"):
        fill_in(document, board)
