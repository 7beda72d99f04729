"""What a stranger sends: no forged number passes, and no file of his is obeyed."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rlcondense.catalogue import entries
from rlcondense.cli import main
from rlcondense.comparison.tables import suite_table
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import load_condensed
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import read_json, read_unpacked, write_packed
from rlcondense.learners.base import Learner
from rlcondense.make import configured
from rlcondense.methods.base import Method
from rlcondense.records.cell import Cell
from rlcondense.records.schema import misshapen
from rlcondense.records.store import INDEX_FORMAT, Store, facts_of_record, sealed
from rlcondense.reporting.board import comparable, read_results
from rlcondense.reporting.distributions import every_return, histogram
from rlcondense.reporting.ledger import ledger
from rlcondense.reporting.publish import build
from rlcondense.running.runner import run
from rlcondense.statistics.intervals import summarise
from rlcondense.submissions.add import add, diff
from rlcondense.submissions.content import known_here
from rlcondense.submissions.rerun import compare
from rlcondense.submissions.verification import Verification, verify
from tests.reporting.boards import FULL, POLICY, RANDOM, read_shipped, shipped_leaderboard

Record = dict[str, Any]
Change = Callable[[Record], Any]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def said(found: Verification) -> str:
    return "\n".join(map(str, found.findings))


def shipped(cell_id: str = RANDOM) -> Record:
    record: Record = read_shipped(cell_id)
    return record


def changed(record: Record, change: Change) -> Record:
    """A copy that says something else, with the id and checksum that it then has."""
    record = copy.deepcopy(record)
    change(record)
    record["cell_id"] = Cell.from_json(record["cell"]).id
    return sealed(record)


def put(folder: Path, *records: Record) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        (folder / f"{record['cell_id']}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of six records with its tables."""
    folder = tmp_path_factory.mktemp("published")
    records = shipped_leaderboard(folder / "records")
    board = folder / "board"
    assert add(records / "results", board).verification.ok
    build(board)
    return board


@pytest.fixture
def sent(published: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(published, tmp_path / "sent"))


def edit_record(**values: Any) -> Callable[[Path], object]:
    def edit(board: Path) -> None:
        path = board / "results" / f"{RANDOM}.json"
        text = json.dumps({**read_json(path), **values}, indent=2, sort_keys=True) + "\n"
        write_packed(path, text.encode())

    return edit


def append(name: str, text: str = "x") -> Callable[[Path], object]:
    def edit(board: Path) -> None:
        with (board / name).open("a") as file:
            file.write(text)

    return edit


def replaced_by_link(name: str) -> Callable[[Path], object]:
    def edit(board: Path) -> None:
        shutil.move(board / name, board.parent / "elsewhere")
        (board / name).symlink_to(board.parent / "elsewhere")

    return edit


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (edit_record(timings={}), "timings lacks"),
        (
            edit_record(memory={"peak_bytes": 1, "peak_gpu_bytes": 0}),
            "its timings or memory have changed since they were pinned",
        ),
        (
            edit_record(memory={"peak_bytes": 1, "peak_gpu_bytes": 0}),
            "its timings or memory differ from what is published",
        ),
        (
            lambda board: write_packed(
                board / "results" / f"{RANDOM}.json",
                read_unpacked(board / "results" / f"{RANDOM}.json") + b"\n",
            ),
            f"{RANDOM}.json: published: is written in another way",
        ),
        (append("tables/other.md"), "tables/other.md: file: is not what 'rlcondense leaderboard"),
        (append("tables/other.csv", "<script>"), "tables/other.csv: file: is not what"),
        (append("schema.json"), "schema.json: file: is not what 'rlcondense leaderboard add'"),
        (append("leaderboard.json"), "leaderboard.json: file: is not what"),
        (
            lambda board: (board / "leaderboard.json").write_text("{}"),
            "leaderboard.json: file: is not what",
        ),
        (replaced_by_link("schema.json"), "schema.json: file: is a symbolic link"),
        (replaced_by_link("tables"), "tables: file: is a symbolic link"),
    ],
)
def test_any_change_of_a_published_file_is_found(
    edit: Callable[[Path], object], text: str, published: Path, sent: Path
) -> None:
    edit(sent)
    found = verify(sent, against=published)
    assert text in said(found)


@pytest.mark.slow
def test_what_nobody_looks_at_is_named(published: Path, sent: Path) -> None:
    assert "file" not in [note.check for note in verify(published).notes]
    (sent / "evil.py").write_text("x")
    (sent / "tables" / "::error::x.md").write_text("x")
    (sent / "more").mkdir()
    found = verify(sent, against=published)
    [note] = [note for note in found.notes if note.text == "not looked at"]
    assert note.file == "evil.py, more, tables/::error::x.md"
    assert found.ok, said(found)
    results = put(sent.parent / "r" / "records", shipped()).parent
    (results / "policies").mkdir()
    (results / "policies" / "x").write_text("x")
    (results / "locks").mkdir()
    notes = [note for note in verify(results).notes if note.text == "not looked at"]
    assert [note.file for note in notes] == ["policies"]


@pytest.mark.slow
def test_tables_as_they_are_published_may_be_older_than_the_records(
    published: Path, sent: Path
) -> None:
    new = changed(shipped(), lambda r: _other_returns(r, seed=7))
    assert add(put(sent.parent / "new", new), sent).verification.ok
    found = verify(sent, against=published)
    assert found.ok, said(found)
    assert "is not what 'rlcondense leaderboard build' writes" in said(verify(sent))
    build(sent)
    assert verify(sent).ok, said(verify(sent))


def _other_returns(record: Record, seed: int = 1) -> None:
    record["cell"]["condensation_seed"] = record["report"]["seed"] = seed
    for split, rows in record["returns"].items():
        rows[:] = [[*row[seed:], *row[:seed]] for row in rows]
        record["summary"][split] = summarise(rows)


def test_diff_tells_of_costs_and_pictures(published: Path, sent: Path) -> None:
    edit_record(memory={"peak_bytes": 1, "peak_gpu_bytes": 0})(sent)
    (sent / "pictures").mkdir(exist_ok=True)
    (published / "pictures").mkdir(exist_ok=True)
    (published / "pictures" / "a.png").write_text("1")
    try:
        lines = diff(published, sent).changed
    finally:
        (published / "pictures" / "a.png").unlink()
    assert lines[0].endswith(": other memory")
    assert lines[1] == "pictures/a.png is missing"


def as_method(method: str, **more: Any) -> Change:
    def change(record: Record) -> None:
        record["cell"].update(method={"id": method, "config": {}}, budget={"size": 4})
        record["report"].update(
            method=method.removeprefix("condensed:"),
            config={},
            budget={"size": 4},
            size=4,
            bytes=49_408,
            seed=0,
        )
        record["plugins"] = [{"target": "my:M", "distribution": "my-method", "version": "1.0"}]
        record["cell"].update(more)

    return change


@pytest.mark.parametrize("method", ["my-method", "condensed:mine"])
def test_the_episodes_of_another_method_are_a_finding(method: str, tmp_path: Path) -> None:
    honest = shipped(FULL)
    found = verify(put(tmp_path, honest, changed(honest, as_method(method))))
    duplicates = [f for f in found.findings if f.check == "duplicate"]
    assert len(duplicates) == 1, said(found)
    assert "its episodes are exactly those of" in duplicates[0].text


def test_another_size_of_the_same_method_with_the_same_episodes_is_noted(tmp_path: Path) -> None:
    def resized(record: Record) -> None:
        record["cell"]["budget"] = record["report"]["budget"] = {"size": 151}

    found = verify(put(tmp_path, shipped(), changed(shipped(), resized)))
    assert found.ok, said(found)
    assert any(note.check == "duplicate" for note in found.notes)


def computed_elsewhere(returns: Any, cpu: str = "another one") -> tuple[Record, Record]:
    """A record as told and as computed here on another processor: returns of both."""
    told, here = (
        {
            "returns": {split: np.asarray(rows).tolist() for split in ("seen", "heldout")},
            "lengths": {"seen": [], "heldout": []},
            "key": {"torch version": "2"},
            "environment": {"cpu": name, "gpu": None, "os": "l", "python": "3"},
        }
        for rows, name in zip(returns, (cpu, "here"), strict=True)
    )
    return told, here


def draws(seed: int, seeds: int = 3, levels: int = 100, spread: float = 1.0) -> Any:
    """Returns of levels of unlike difficulty, of students that are unlike too."""
    level = 10 + 5 * np.random.default_rng(0).normal(size=levels)
    rng = np.random.default_rng(seed)
    students = spread * rng.normal(size=(seeds, 1))
    return level + students + spread * rng.normal(size=(seeds, levels))


def test_honest_records_from_another_machine_agree() -> None:
    agree = [
        compare(*computed_elsewhere((draws(2 * s + 1), draws(2 * s + 2))))[0] for s in range(60)
    ]
    assert np.mean(agree) > 0.9


@pytest.mark.parametrize(
    ("forge", "text"),
    [
        (lambda rows: 2 * rows, "means lie more than 4 standard errors apart"),
        (lambda rows: rows + 8, "means lie more than 4 standard errors apart"),
        # What the forger writes of the variance is no excuse.
        (lambda rows: np.where(rows > 12, 500, rows), "means lie more than 4 standard errors"),
        (
            lambda rows: rows.mean() + 8 * (rows - rows.mean()),
            "returns vary between levels by another standard deviation",
        ),
        (
            lambda rows: np.full_like(rows, rows.mean()) + 0.01 * rows,
            "returns vary between levels by another standard deviation",
        ),
    ],
)
def test_a_forgery_is_held_against_what_was_computed(forge: Any, text: str) -> None:
    agrees, line = compare(*computed_elsewhere((forge(draws(1)), draws(2))))
    assert not agrees
    assert text in line
    assert "made with another cpu (another one, here here)" in line


def test_students_that_never_fail_may_fail_once_elsewhere() -> None:
    perfect = np.full((3, 100), 500.0)
    once = perfect.copy()
    once[0, 7] = 480.0
    often = perfect.copy()
    often[:, :30] = 480.0
    floors = {"seen": 22.0, "heldout": 22.0}
    assert compare(*computed_elsewhere((once, perfect)), floors)[0]
    assert compare(*computed_elsewhere((perfect, once)), floors)[0]
    assert not compare(*computed_elsewhere((often, perfect)), floors)[0]


@pytest.mark.parametrize("forged", [500.0, 1e6, -1e6])
def test_few_episodes_may_not_be_better_than_any_here_or_far_worse(forged: float) -> None:
    here = np.full((3, 100), 100.0)
    told = here.copy()
    told[0, :3] = forged
    floors = {"seen": 22.0, "heldout": 22.0}
    assert not compare(*computed_elsewhere((told, here)), floors)[0]


def with_report(record: Record, steps: int, **more: Any) -> Record:
    cost = {"environment_steps": steps, "gradient_evaluations": 0}
    return {**record, "report": {"size": 4, "cost": cost, **more}}


@pytest.mark.parametrize(
    ("cpu", "steps", "report", "text"),
    [
        ("another", 1000, {}, ""),
        ("another", 1400, {"displacement": 2.0}, ""),
        ("another", 0, {}, "counts 0 environment steps, and 1000 here"),
        ("another", 1000, {"label_kind": "soft"}, "another label_kind"),
        ("here", 1000, {}, ""),
        ("here", 1001, {}, "another cost than here"),
        ("here", 1000, {"displacement": 2.0}, "another displacement than here"),
    ],
)
def test_what_a_report_tells_is_computed_again_too(
    cpu: str, steps: int, report: dict[str, Any], text: str
) -> None:
    told, here = computed_elsewhere((draws(1), draws(1)), cpu)
    agrees, line = compare(with_report(told, steps, **report), with_report(here, 1000))
    assert agrees == (not text), line
    assert text in line


@pytest.mark.slow
def test_fewer_computed_again_than_asked_for_is_told_by_the_exit_code(tmp_path: Path) -> None:
    honest = shipped(FULL)
    put(tmp_path, changed(honest, as_method("my-method")))
    result = call("leaderboard", "verify", str(tmp_path), "--rerun", "1")
    assert result.exit_code == 1
    assert "nothing wrong; 0 of 1 could be: none re-run" in result.stdout


@pytest.mark.parametrize("group", ["methods", "learners"])
def test_choices_of_settings_are_checked(group: str) -> None:
    known, base = known_here(), {"methods": Method, "learners": Learner}[group]
    looked_at = 0
    for name, entry in entries(group).items():
        try:
            config = configured(entry, base, {}).config
        except RLCondenseError:  # an extra that is not installed
            continue
        for field in fields(config):
            if isinstance(getattr(config, field.name), str):
                told = {**config_json(config), field.name: "nonsense"}
                with pytest.raises(BadConfig):
                    known.resolved(group, {"id": name, "config": told})
                looked_at += 1
    assert looked_at > 5


def deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def record_with(change: Change) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        record = changed(shipped(), change)
        path.with_name(f"{record['cell_id']}.json").write_text(json.dumps(record))

    return write


def nested(*path: str, value: Any) -> Change:
    def change(record: Record) -> None:
        inner = record
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return change


SEEDS = itertools.count(9)


def at_seed(*changes: Change) -> Change:
    """Changes of a record that is of a condensation seed of its own, and so of another file."""
    seed = next(SEEDS)

    def change(record: Record) -> None:
        _other_returns(record, seed)
        for one in changes:
            one(record)

    return change


BAD: dict[str, Callable[[Path], object]] = {
    "deep": deep,
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "cut": lambda path: path.write_text('{"cell_id": "0123'),
    "nan": lambda path: path.write_text('{"returns": NaN}'),
    "twice": lambda path: path.write_text('{"a": 1, "a": 2}'),
    "bytes": lambda path: path.write_bytes(b"\xff"),
    "list": lambda path: path.write_text("[1]"),
    "surrogate": record_with(at_seed(nested("report", "note", value="\ud800"))),
    "huge": record_with(at_seed(nested("report", "cost", "environment_steps", value=10**400))),
    "cost": record_with(at_seed(nested("report", "cost", "environment_steps", value=2**60))),
    "report": record_with(at_seed(nested("report", value=5))),
    "rows": record_with(at_seed(nested("returns", "seen", value=[[1.0]]))),
    "name": record_with(at_seed(nested("cell", "method", "id", value="<script>"))),
    "seeds": record_with(at_seed(nested("cell", "learner_seeds", value=[0, 1, 1]))),
    "levels": record_with(at_seed(nested("level_seeds", "seen", 0, value=3))),
    "data": record_with(at_seed(nested("key", "dataset_sha256", value="1" * 64))),
}


@pytest.fixture
def wrong(tmp_path: Path) -> tuple[Path, set[str]]:
    """A leaderboard with one bad record of each kind, and the names of those."""
    board = shipped_leaderboard(tmp_path / "board")
    before = {path.name for path in (board / "results").iterdir()}
    for number, (name, write) in enumerate(BAD.items()):
        try:
            write(board / "results" / f"{number:016x}.json")
        except (TypeError, ValueError, RLCondenseError):
            raise AssertionError(f"{name} cannot be written") from None
    return board, {path.name for path in (board / "results").iterdir()} - before


def test_a_board_is_built_without_the_bad_records_and_names_each(
    wrong: tuple[Path, set[str]], tmp_path: Path
) -> None:
    board, names = wrong
    result = call("leaderboard", "build", str(board), "--site", str(tmp_path / "site"))
    assert result.exit_code == 0, result.output
    told = {line.partition("results/")[2].partition(" ")[0] for line in result.stderr.splitlines()}
    assert told == names
    assert len(names) == len(BAD)
    assert result.stdout.splitlines()[-1].startswith("6 records in ")
    strict = call("leaderboard", "build", str(board), "--strict")
    assert (strict.exit_code, len(strict.stderr.splitlines())) == (2, 1)
    with pytest.raises(CorruptArtifact):
        read_results(board / "results")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of somebody's with files of the names that we write."""
    folder = tmp_path / "precious"
    for name in ("a", "index.html", "smoke.md", "condensed.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("precious")
    return folder


def untouched(folder: Path) -> bool:
    return [path.read_text() for path in folder.iterdir()] == ["precious"] * 4


def test_a_site_and_its_tables_stay_inside_their_folders(precious: Path, tmp_path: Path) -> None:
    board, site = shipped_leaderboard(tmp_path / "board"), tmp_path / "site"
    build(board, site=site)
    (site / "index.html").unlink()
    (site / "index.html").symlink_to(precious / "index.html")
    shutil.rmtree(site / "records")
    (site / "records").symlink_to(precious)
    with pytest.raises(RLCondenseError, match="records is a symbolic link"):
        build(board, site=site)
    (site / "records").unlink()
    (site / "gone").symlink_to(precious)
    with (site / ".rlcondense-site").open("a") as marker:
        marker.write("gone/a\n")
    with pytest.raises(RLCondenseError, match="gone is a symbolic link"):
        build(board, site=site)
    shutil.rmtree(board / "tables")
    (board / "tables").symlink_to(precious)
    with pytest.raises(RLCondenseError, match="tables is a symbolic link"):
        build(board)
    assert untouched(precious)


@pytest.mark.parametrize("part", ["records", "condensed", "locks"])
def test_a_results_folder_stays_inside(part: str, precious: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / part).symlink_to(precious)
    with pytest.raises(RLCondenseError, match=f"{part} is a symbolic link"):
        Store(tmp_path / "r")
    assert untouched(precious)


def test_links_in_a_results_folder_lead_nowhere(precious: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "locks" / "x.lock").symlink_to(precious / "a")
    with pytest.raises(RLCondenseError, match="cannot lock"), store.lock("x"):
        pass
    for part in ("condensed", "policies"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "x").symlink_to(precious)
    for path in (store.condensed_path, store.policies_path):
        with pytest.raises(RLCondenseError, match="x is a symbolic link"):
            path("x")
    for part in ("logs", "sweeps", "unfinished"):
        (tmp_path / part).symlink_to(precious)
    for path in (store.log_path, store.sweep_path, store.unfinished_path):
        with pytest.raises(RLCondenseError, match="is a symbolic link"):
            path("x")
    (tmp_path / f"index-{INDEX_FORMAT}.jsonl").symlink_to(precious / "a")
    record = shipped()
    (tmp_path / "records" / f"{record['cell_id']}.json").symlink_to(precious / "a")
    assert store.read_record(record["cell_id"]) is None
    store.write_record(record)
    assert store.read_record(record["cell_id"]) == record
    assert untouched(precious)


@pytest.mark.parametrize(
    "change",
    [
        nested("report", value=5), nested("key", value=5), nested("timings", value={"train": 5}),
        nested("cell", value={}), nested("returns", value={"seen": 5}),
        nested("lengths", "seen", value=[["x"]]), nested("summary", value=None),
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_not_read_back(change: Change, tmp_path: Path) -> None:
    record = shipped()
    change(record)
    path = tmp_path / "records" / f"{record['cell_id']}.json"
    put(path.parent, sealed(record))
    store = Store(tmp_path)
    assert store.read_record(record["cell_id"]) is None
    found = store.look([record["cell_id"]])[record["cell_id"]]
    assert found.status == "corrupt"
    assert "\n" not in found.reason
    result = call("compare", str(path), str(path))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_names_that_cannot_be_published_are_read_back(tmp_path: Path) -> None:
    """A folder of the user's may be called anything."""
    record = changed(shipped(), nested("cell", "method", "id", value="condensed:my set (1)"))
    put(tmp_path / "records", record)
    assert Store(tmp_path).read_record(record["cell_id"]) == record


FULL_REPORT: Record = {
    "method": "random", "config": {}, "seed": 0, "budget": {"size": 8}, "dataset": None,
    "dataset_sha256": None, "expert_sha256": None, "size": 8, "bytes": 1, "label_kind": "hard",
    "cost": {}, "displacement": None, "matching_loss": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "report",
    [
        [], 5, None, "x", {}, {"label_kind": 5}, {"label_kind": ["hard"]},
        *({**FULL_REPORT, name: value} for name, value in {
            "method": "a\nb", "seed": "x", "size": True, "bytes": 1.5, "cost": 5, "config": [],
            "displacement": {"mean": "x", "largest": None}, "matching_loss": {"before": None},
            "findings": 5, "curve": 5, "dataset": 5, "unknown": 1, "budget": 5,
        }.items()),
        {**FULL_REPORT, "method": "\x1b[31m"}, {**FULL_REPORT, "seed": 2**60},
        {**FULL_REPORT, "cost": {"device": 5}}, {**FULL_REPORT, "cost": {"wall_seconds": -1}},
        {**FULL_REPORT, "findings": [5]}, {**FULL_REPORT, "displacement": 5},
        {**FULL_REPORT, "initialisation": 5},
    ],
)  # fmt: skip
def test_a_report_of_another_form_is_one_line(report: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    columns = {"observations": np.zeros((8, 4), np.float32), "actions": np.arange(8) % 2}
    save_file(columns, tmp_path / "condensed.safetensors")
    (tmp_path / "report.json").write_text(json.dumps(FULL_REPORT))
    assert len(load_condensed(tmp_path)) == 8
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises((CorruptArtifact, BadConfig)) as caught:
        load_condensed(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--seed", "-1"], "seed must be a whole number from 0"),
        (["run", "--seed", str(2**53 + 1)], "seed must be a whole number from 0"),
        (["run", "--seeds", "1000000000"], "seeds must be a whole number from 1 to 10,000"),
        (["run", "--condensations", "1000000000"], "condensations must be a whole number from 1"),
        (["run", "--size", str(2**53 + 1)], "size must be a whole number from 1"),
        (["condense", "--out", "x", "--seed", str(2**70)], "seed must be a whole number"),
        (["condense", "--out", "."], "--out must name a folder to write, not '.'"),
        (["condense", "--out", "/"], "--out must name a folder to write, not '/'"),
        (["condense", "--out", ""], "--out must name a folder to write"),
        (["run", "--results", ""], "--results must name a folder of records, not ''"),
        (["run", "--results", "/"], "--results must name a folder of records, not '/'"),
    ],
)
def test_bounds_that_records_have_are_those_of_requests(arguments: list[str], text: str) -> None:
    result = call(*arguments, "--method", "random", "--task", "cartpole")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
    assert text in result.stderr


def test_bounds_hold_for_cells_and_budgets() -> None:
    cell = shipped()["cell"]
    for name, value in (("condensation_seed", 2**53 + 1), ("learner_seeds", [2**53 + 1])):
        with pytest.raises(BadConfig, match="must be a whole number"):
            Cell.from_json({**cell, name: value}).checked()
    with pytest.raises(BadConfig, match="one of 16,610 bits"):
        Budget(size=10**5000)
    with pytest.raises(BadConfig, match="seeds must be a whole number"):
        run("random", "cartpole", seeds=10**9)


@pytest.mark.slow
def test_a_bad_record_of_each_kind_costs_no_time(wrong: tuple[Path, set[str]]) -> None:
    """A thousand records, with the bad ones and without, in turns."""
    board, names = wrong
    honest = shipped()
    for seed in range(1000):
        record = changed(honest, nested("cell", "condensation_seed", value=seed + 100))
        put(board / "results", record)
    without = board.parent / "without"
    shutil.copytree(
        board, without, ignore=lambda folder, inside: names & set(inside), symlinks=True
    )
    seconds: dict[Path, list[float]] = {board: [], without: []}
    for _ in range(3):
        for folder, taken in seconds.items():
            started = time.process_time()
            build(folder)
            taken.append(time.process_time() - started)
    assert min(seconds[board]) < 1.2 * min(seconds[without])


@pytest.mark.parametrize("place", [("rlcondense",), ("python",), ("packages", "torch")])
def test_a_version_of_many_letters_is_refused_at_once(place: tuple[str, ...]) -> None:
    record = changed(shipped(), nested("environment", *place, value="0" + "a" * 150 + "!"))
    started = time.process_time()
    assert "environment" in str(misshapen(record))
    assert time.process_time() - started < 5
    for version in ("2.13.0+cpu", "0.2.0.dev1+g1234", "3.12.3", "1a2_b", "0"):
        assert misshapen(changed(shipped(), nested("environment", *place, value=version))) is None


def of_a_plugin(*changes: Change) -> Change:
    def change(record: Record) -> None:
        nested("cell", "method", "id", value="mine")(record)
        nested("report", "method", value="mine")(record)
        for one in changes:
            one(record)

    return change


ODD: dict[str, Change] = {
    "no cost": of_a_plugin(nested("report", "cost", value={})),
    "text": of_a_plugin(nested("report", "cost", "environment_steps", value="many")),
    "null": of_a_plugin(nested("report", "cost", "gradient_evaluations", value=None)),
    "no bytes": of_a_plugin(lambda record: record["report"].pop("bytes")),
    "a phase": of_a_plugin(
        nested("timings", "warm-up", value={"wall": 1.0, "cpu": 1.0, "gpu": 0.0})
    ),
    "auroc alone": of_a_plugin(nested("report", "fault_auroc", value=0.5)),
    "condensed": nested("cell", "method", "id", value="condensed:mine"),
    "policies": nested("cell", "method", "id", value="policies:mine"),
    "no time": of_a_plugin(
        *(
            nested("timings", phase, value={"wall": 1e-310, "cpu": 0.0, "gpu": 0.0})
            for phase in ("condense", "train")
        )
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_a_report_need_not_say_costs_no_page(name: str, tmp_path: Path) -> None:
    board = shipped_leaderboard(tmp_path / "board")
    record = changed(shipped(), ODD[name])
    put(board / "results", record)
    left_out: list[str] = []
    built, _ = build(board, site=tmp_path / "site", left_out=left_out.append)
    assert left_out == []
    assert record["cell_id"] in built.records
    costs = ledger([facts_of_record(record)])
    assert costs[0].cells == 1
    assert suite_table([record])


def test_a_policy_that_does_not_say_its_data_decides_about_no_data(tmp_path: Path) -> None:
    board = shipped_leaderboard(tmp_path / "board")
    records = read_results(board / "results")
    for seed in range(20):
        silent = changed(
            shipped(POLICY),
            lambda record, seed=seed: (
                nested("key", "dataset_sha256", value=None)(record),
                nested("cell", "learner_seeds", value=[seed, seed + 50, seed + 90])(record),
            ),
        )
        put(board / "results", silent)
    assert records.keys() <= comparable(read_results(board / "results"))[0].keys()
    assert "key.dataset_sha256 does not say" in said(verify(board))


def test_returns_as_large_as_they_may_be_are_drawn() -> None:
    for value in (2.0**53, -(2.0**53), 0.0, 10.25):
        bars = re.findall(
            r'class="h s0" d="M[-0-9.]+ [-0-9.]+v-([0-9.]+)h([0-9.]+)V',
            histogram({"seen": np.full((2, 3), value)}),
        )
        assert [float(tall) > 0 and float(wide) > 0 for tall, wide in bars] == [True]


@pytest.mark.parametrize(
    "span", [(0.0, 1.0), (3512.34, 12345.678), (-1234.5, 10.0), (0.0, 2.0**53)]
)
def test_returns_at_the_ends_of_an_axis_are_written_out(span: tuple[float, float]) -> None:
    drawn = str(every_return({"seen": np.array([span])}))
    labels = re.findall(r'<text class="e" x="([0-9.]+)" y="[^"]*">([^<]*)<', drawn)
    assert len(labels) == 2
    for place, text in labels:
        assert float(place) - 6.5 * len(text) >= 0, text
        assert "e" not in text or abs(max(span)) > 1e9, text
    left = float(re.findall(r'class="a" d="M([0-9.]+)', drawn)[0])
    assert left < 100
