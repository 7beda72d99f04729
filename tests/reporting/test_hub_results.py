"""Results leave in the Hub's forms, and the Hub's own library reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.files import read_json
from rlcondense.records.cell import Cell
from rlcondense.reporting import hub_results

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"
GRADMATCH, RANDOM = RESULTS / "03b89e4e79b1072c.json.gz", RESULTS / "3bccce07615a3f4b.json.gz"


@pytest.fixture
def leaderboard(tmp_path: Path) -> Path:
    (tmp_path / "board" / "results").mkdir(parents=True)
    for path in (GRADMATCH, RANDOM):
        shutil.copy(path, tmp_path / "board" / "results")
    return tmp_path / "board"


def _export(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["leaderboard", "export", *map(str, arguments), "--to", "hf"])
    return done.exit_code, done.output


def test_the_hubs_library_reads_what_is_written(leaderboard: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    library = pytest.importorskip("huggingface_hub")
    out = tmp_path / "out"
    code, output = _export(
        leaderboard, "--benchmark", "me/rl", "--source", "https://a.b", "--out", out
    )
    assert (code, output) == (
        0,
        f"{out}: 4 files of 2 methods, each a folder for a model's page\n",
    )
    [file] = (out / "gradmatch" / ".eval_results").glob("*.yaml")
    entries = yaml.safe_load(file.read_text())
    record = read_json(GRADMATCH)
    mean = record["summary"]["heldout"]["mean"]
    if hasattr(library, "parse_eval_result_entries"):
        [entry] = library.parse_eval_result_entries(entries)
        assert (entry.dataset_id, entry.task_id) == ("me/rl", record["cell"]["task"])
        assert entry.value == pytest.approx(mean, rel=1e-5)
        assert entry.source_url == "https://a.b"
        assert f"{record['report']['size']} transitions" in entry.notes
    card = library.ModelCard.load(out / "gradmatch" / "README.md")
    [result] = card.data.eval_results
    assert (result.metric_type, result.dataset_type) == ("mean_reward", record["cell"]["task"])
    assert result.metric_value.startswith(f"{mean:.2f} ± ")


def test_settings_of_one_name_have_a_folder_each(leaderboard: Path, tmp_path: Path) -> None:
    record = read_json(GRADMATCH)
    record["cell"]["task"] = "procgen/coinrun-easy-v0"  # another group, where the name is plain too
    record["cell"]["method"]["config"]["iterations"] = 7
    record["cell_id"] = Cell.from_json(record["cell"]).id
    (leaderboard / "results" / f"{record['cell_id']}.json").write_text(json.dumps(record))
    hub_results.export_results(leaderboard, tmp_path / "out", "me/rl")
    folders = [path.name.partition("-")[0] for path in (tmp_path / "out").iterdir()]
    assert sorted(folders) == ["gradmatch", "gradmatch", "random"]


def test_a_record_that_is_left_out_is_named(leaderboard: Path, tmp_path: Path) -> None:
    (leaderboard / "results" / "0123456789abcdef.json").write_text("{")
    code, output = _export(leaderboard, "--benchmark", "me/rl", "--out", tmp_path / "out")
    assert code == 0
    assert "left out: " in output
    assert "0123456789abcdef.json" in output


def test_what_cannot_be_exported_is_one_line(leaderboard: Path, tmp_path: Path) -> None:
    for options, message in (
        ([leaderboard, "--benchmark", "mine"], "OWNER/NAME"),
        ([leaderboard, "--benchmark", "me/rl", "--suite", "smoke"], "no result of a method"),
        ([tmp_path / "none", "--benchmark", "me/rl"], "no folder with records"),
    ):
        code, output = _export(*options, "--out", tmp_path / "out")
        assert (code, output.count("\n")) == (2, 1), output
        assert message in output
    assert not (tmp_path / "out").exists()
