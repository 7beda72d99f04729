"""One's own results become a table that fits a paper, a page and all numbers."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.files import read_json
from rlcondense.records.shipped import shipped_beside
from rlcondense.records.store import read_record_file, sealed, write_record_file

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"
GRADMATCH, RANDOM = RESULTS / "03b89e4e79b1072c.json.gz", RESULTS / "3bccce07615a3f4b.json.gz"
MOST_CHARACTERS = 60  # of a line of the table, in a column of text


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `run` leaves it, with two done records and a failed one."""
    folder = tmp_path_factory.mktemp("mine") / "results"
    (folder / "records").mkdir(parents=True)
    for path in (GRADMATCH, RANDOM):
        shutil.copy(path, folder / "records")
    return folder


def _run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["report", *map(str, arguments)])
    return done.exit_code, done.output


def test_one_command_writes_a_table_a_page_and_all_numbers(results: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"t.{ending}" for ending in ("tex", "html", "csv")]
    options = [
        part
        for option, path in zip(("--latex", "--html", "--csv"), files, strict=True)
        for part in (option, path)
    ]
    code, output = _run(results, *options, "--name", "gradmatch=Ours & more")
    assert (code, output.split()) == (0, list(map(str, files)))
    tex, html, numbers = (path.read_text() for path in files)
    assert "resizebox" not in tex
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    printed = [re.sub(r"\\textsuperscript|\$\\pm|[\\${}]", "", row) for row in rows]
    assert max(map(len, printed)) < MOST_CHARACTERS
    assert r"Ours \& more" in tex
    assert "expert" in tex  # a reference row of the package
    assert "Returns on starpilot of students that bc trained" in tex
    assert [line["method"] for line in csv.DictReader(io.StringIO(numbers))].count("gradmatch") == 1
    assert html.count("<table>") == 1
    HTMLParser().feed(html)
    assert "Ours &amp; more" in html
    assert "http" not in html


def test_rows_columns_and_caption_are_the_users(results: Path) -> None:
    table = rlc.report(
        results, rows=["random", "gradmatch"], columns=["seen", "gap"], caption="Mine."
    )
    assert {row.id for section in table.sections for row in section.rows} == {"gradmatch", "random"}
    assert [column.header for column in table.columns] == ["method", "seen", "gap"]
    assert str(table).endswith("\n\nMine.")
    rest = rlc.report(results, without=["random"])
    assert "random" not in {row.id for row in rest.sections[0].rows}
    for wrong in ({"rows": ["gradmach"]}, {"columns": ["heldout"]}, {"tasks": ["starpilott"]}):
        with pytest.raises(UnknownName, match="did you mean"):
            rlc.report(results, **wrong)
    with pytest.raises(BadConfig, match="nothing to report"):
        rlc.report(results, tasks=["jumper"])
    code, output = _run(results / "none")
    assert (code, output.count("\n")) == (2, 1)


def test_a_suite_takes_its_own_cells_only(results: Path, tmp_path: Path) -> None:
    cell = read_json(RANDOM)["cell"]
    suite = tmp_path / "mine.toml"
    suite.write_text(
        f'summary = "mine"\ntasks = ["{cell["task"]}"]\ndatasets = ["{cell["dataset"]}"]\n'
        'methods = ["random"]\nsizes = [3]\n'
    )
    with pytest.raises(BadConfig, match="nothing to report"):
        rlc.report(results, suite)


def test_what_is_not_done_is_named(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    shutil.copytree(results / "records", folder)
    record = read_record_file(GRADMATCH)
    kept = {name: record[name] for name in ("cell", "cell_id", "environment", "schema_version")}
    failed = {**kept, "key": {}, "timings": {}, "memory": {}, "plugins": [], "status": "failed",
              "reason": "no luck", "traceback": ""}  # fmt: skip
    write_record_file(folder / GRADMATCH.name, sealed(failed))
    table = rlc.report(folder)
    assert any("gradmatch: failed (no luck)" in note for note in table.notes)
    assert "gradmatch" not in {row.id for section in table.sections for row in section.rows}


def test_shipped_rows_stand_beside_records_of_their_data_only() -> None:
    record = read_record_file(RANDOM)
    beside = shipped_beside([record])
    assert {r["cell"]["task"] for r in beside} == {record["cell"]["task"]}
    assert all(r["cell"]["learner_seeds"] == record["cell"]["learner_seeds"] for r in beside)
    record["key"]["dataset_sha256"] = "0" * 64
    assert shipped_beside([record]) == []


def test_a_row_whose_sets_are_not_all_done_is_named(results: Path, tmp_path: Path) -> None:
    cell = read_json(RANDOM)["cell"]
    suite = tmp_path / "mine.toml"
    assert cell["learner"]["id"] == "bc"
    config = ", ".join(
        f"{k} = {json.dumps(v)}" for k, v in cell["learner"]["config"].items() if v is not None
    )
    suite.write_text(
        f'summary = "mine"\ntasks = ["{cell["task"]}"]\ndatasets = ["{cell["dataset"]}"]\n'
        f'methods = ["random", "gradmatch"]\nsizes = [{cell["budget"]["size"]}]\n'
        f'learners = [{{ id = "bc", config = {{ {config} }} }}]\n'
        f"condensation_seeds = 2\nlearner_seeds = {len(cell['learner_seeds'])}\nepisodes = 100\n"
    )
    table = rlc.report(results, suite)
    assert any("random (labels=hard): 1 of 2 sets are done" in note for note in table.notes)
