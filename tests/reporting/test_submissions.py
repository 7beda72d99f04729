from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rlcondense import catalogue
from rlcondense.catalogue import Entry, entries
from rlcondense.cli import main
from rlcondense.cli.leaderboard import print_findings
from rlcondense.config import config_json
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.evaluation import evaluate
from rlcondense.experts.shipped import shipped_cards
from rlcondense.files import read_json, write_arrays, write_json, write_packed
from rlcondense.findings import finding_of
from rlcondense.make import make_method, make_task
from rlcondense.policies import random_policies
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.records.cell import Cell, evaluation_json
from rlcondense.records.schema import record_schema
from rlcondense.records.store import costs_sha256, sealed, write_record_file
from rlcondense.reporting import pictures
from rlcondense.reporting.log import read_log
from rlcondense.reporting.reruns import read_reruns
from rlcondense.running.runner import run
from rlcondense.statistics.intervals import summarise
from rlcondense.submissions import add as adding
from rlcondense.submissions import content as checks
from rlcondense.submissions import verification
from rlcondense.submissions.add import add, diff
from rlcondense.submissions.content import known_here, level_seeds, problems
from rlcondense.submissions.rerun import compare as compared
from rlcondense.submissions.rerun import rerun, write_down
from rlcondense.submissions.verification import (
    Finding,
    Outline,
    Verification,
    _is_copy,
    verify,
)

Record = dict[str, Any]
Forge = Callable[[Record], object]
DATASET = "procgen/starpilot-easy/random-v0"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a real run: a method, two reference policies and the expert."""
    folder = tmp_path_factory.mktemp("results")
    run(
        "random",
        "starpilot",
        dataset=DATASET,
        size=15,
        seeds=2,
        episodes=4,
        learner_settings={"network": "cnn4", "updates": 2, "batch_size": 8},
        results=folder,
        references=False,
    )
    return folder


@pytest.fixture(scope="module")
def honest(results: Path) -> Record:
    [path] = (results / "records").glob("*.json")
    record: Record = json.loads(path.read_text())
    return record


def forged(honest: Record, forge: Forge, folder: Path, *, name: str = "") -> Path:
    """A results folder with a forged record, whose id and checksum agree with its content."""
    record = copy.deepcopy(honest)
    forge(record)
    try:
        record["cell_id"] = Cell.from_json(record["cell"]).id
        record = sealed(record)
    except (KeyError, TypeError):
        pass  # what is left is wrong enough
    return written(record, folder, name)


def written(record: Record, folder: Path, name: str = "") -> Path:
    path = folder / "records" / (name or f"{record['cell_id']}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return folder


def copy_of(results: Path, honest: Record, folder: Path) -> tuple[Path, Path, CondensedDataset]:
    """A copy of a results folder, the folder of a record's condensed set in it, and the set."""
    copied = folder / "copied"
    shutil.copytree(results, copied)
    condensed = copied / "condensed" / Cell.from_json(honest["cell"]).condensation_id
    return copied, condensed, load_condensed(condensed)


def said(found: Verification) -> str:
    return "\n".join(map(str, found.findings))


def put(*path: Any, value: Any) -> Forge:
    """A forgery that sets one value."""

    def forge(record: Record) -> None:
        inner: Any = record
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value

    return forge


def summed_up(record: Record) -> None:
    record["summary"] = {split: summarise(rows) for split, rows in record["returns"].items()}


def other_returns(record: Record, more: int) -> None:
    rows = record["returns"]["seen"]
    record["returns"]["seen"] = [[r + more for r in row] for row in rows]
    summed_up(record)


def of_seed(seed: int, *, copied: bool = False) -> Forge:
    """A forgery of another condensation seed, with other returns unless they are copied."""

    def forge(record: Record) -> None:
        record["cell"]["condensation_seed"] = record["report"]["seed"] = seed
        other_returns(record, 0 if copied else seed)

    return forge


def test_an_honest_record_passes(results: Path) -> None:
    found = verify(results)
    assert found.findings == ()
    assert found.files == 1
    assert "not re-run" in found.summary()


def changed_return(record: Record) -> None:
    record["returns"]["heldout"][0][0] += 5


def dropped_episodes(record: Record) -> None:
    for split in ("seen", "heldout"):
        for name in ("returns", "lengths"):
            record[name][split] = [row[1:] for row in record[name][split]]
        record["level_seeds"][split] = record["level_seeds"][split][1:]
    summed_up(record)


def dropped_seed(record: Record) -> None:
    record["returns"]["heldout"] = record["returns"]["heldout"][:1]


def other_levels(record: Record) -> None:
    record["level_seeds"]["heldout"][0] += 1


def swapped_levels(record: Record) -> None:
    record["level_seeds"]["seen"] = record["level_seeds"]["heldout"]


def impossible_return(record: Record) -> None:
    record["returns"]["heldout"][0][0] = 1000.0
    summed_up(record)


def fraction_of_a_ship(record: Record) -> None:
    record["returns"]["heldout"][0][0] = 1.5
    summed_up(record)


def other_data(record: Record) -> None:
    record["key"]["dataset_sha256"] = record["report"]["dataset_sha256"] = "0" * 64


def over_budget(record: Record) -> None:
    record["report"].update(size=30, bytes=2 * record["report"]["bytes"])


def over_bytes(record: Record) -> None:
    record["cell"]["budget"] = record["report"]["budget"] = {"bytes": 1000, "bits": 8}


def somebodys_method(record: Record) -> None:
    record["cell"]["method"]["id"] = record["report"]["method"] = "mine"


def of_no_setting(record: Record) -> None:
    record["cell"]["method"]["config"] = record["report"]["config"] = {"labels": "hard", "luck": 7}


def of_no_cost(record: Record) -> None:
    for name in ("bytes", "cost"):
        del record["report"][name]


def of_a_short_key(record: Record) -> None:
    record["key"] = {"dataset_sha256": record["key"]["dataset_sha256"], "expert_sha256": None}


UPDATES = ("cell", "learner", "config", "updates")


def of_a_file(record: Record) -> None:
    somebodys_method(record)
    record["plugins"] = [{"target": "mine.py:Mine", "distribution": "", "version": ""}]


MOVED = {"mean": 3.0, "largest": 2.0}
FAR = {"mean": 3.0, "largest": 400.0}


@pytest.mark.parametrize(
    ("forge", "check", "reason"),
    [
        (changed_return, "summary", "summary.heldout.mean is"),
        (dropped_episodes, "quota", "has 3 episodes, the protocol asks for 4"),
        (dropped_seed, "quota", "has 1 rows for 2 learner seeds"),
        (put("returns", "seen", 0, 0, value="3"), "quota", "holds something that is no number"),
        (put("returns", "seen", 0, 0, value=True), "quota", "holds something that is no number"),
        (other_levels, "levels", "are not those that seed 0 gives"),
        (swapped_levels, "levels", "outside the seen levels 0..199"),
        (impossible_return, "returns", "holds 1000, and an episode"),
        (fraction_of_a_ship, "returns", "holds 1.5, and returns of"),
        (put("lengths", "seen", 0, 0, value=5000), "returns", "lasts 1 to 1000 steps"),
        (other_data, "dataset", "other data, or other levels"),
        (put("report", "dataset_sha256", value="0" * 64), "report", "report.dataset_sha256 is"),
        (put("key", "expert_sha256", value="0" * 64), "expert", "has sha256"),
        (put("action_selection", value="greedy"), "selection", "its learner asks for sample"),
        (put("cell", "dataset", value=""), "cell", "names no dataset"),
        (over_budget, "budget", "kept 30 transitions, and its budget of 15 is 15"),
        (over_bytes, "budget", "bytes, and its budget is 1000 bytes (8 bits)"),
        (put("report", "bytes", value=15), "bytes", "bytes, not 15"),
        (put("report", "displacement", value=MOVED), "displacement", "is above the largest"),
        (put("report", "displacement", value=FAR), "displacement", "cannot move by 400"),
        (put("report", "seed", value=7), "report", "report.seed is 7, but the record's 0"),
        (put("labels", value="soft"), "report", "labels are soft, but the report's hard"),
        (put("environment", "packages", value={}), "versions", "no version of torch"),
        (put("key", "torch version", value="9.9"), "versions", "key has 'torch' '9.9'"),
        (put("environment", "rlcondense", value="best"), "schema", "environment.rlcondense has"),
        (put("schema_version", value=99), "schema", "schema_version must be"),
        (put("cell", "evaluation", "protocol", value=9), "schema", "protocol must be 1"),
        (somebodys_method, "plugins", "method 'mine' is not of rlcondense"),
        (of_a_file, "plugins", "made by a file, not an installable package"),
        (put("cell", "method", "id", value="<img src=x>"), "schema", "cell.method.id has char"),
        (put("environment", "cpu", value="<b>fast</b>"), "schema", "environment.cpu has char"),
        (put("cell", "task", value="../../etc/passwd"), "schema", "cell.task has characters"),
        (put("cell", "learner", value=None), "cell", "needs a learner and a budget"),
        (put("verdict", value="best"), "schema", "unknown fields: 'verdict'"),
        (lambda record: record.pop("returns"), "schema", "lacks returns"),
        (lambda record: record.pop("report"), "schema", "lacks report"),
        (put("cell", "condensation_seed", value=0.0), "schema", "seed must be a whole number"),
        (put("cell", "learner_seeds", value=[0.0, 1.0]), "schema", "seeds must be a whole number"),
        (put("cell", "budget", value={"size": 15.0}), "schema", "size must be a whole number"),
        (put("cell", "evaluation", "seed", value=0.0), "schema", "seed must be a whole number"),
        (put("cell", "evaluation", "seed", value=2**31), "schema", "breaks the rule maximum"),
        (put("cell", "evaluation", "protocol", value=1.0), "schema", "must be a whole number"),
        (put("report", "size", value=15.0), "schema", "report.size must be a whole number"),
        (put("report", "budget", value={"size": 15.0}), "schema", "report.budget.size must be"),
        (put("report", "cost", "environment_steps", value=0.5), "report", "must be a whole number"),
        (put("environment", "cpu", value="\x9b31m"), "schema", "environment.cpu has char"),
        (put("environment", "cpu", value="a\u202eb"), "schema", "environment.cpu has char"),
        (put("environment", "cpu", value="a\n"), "schema", "environment.cpu has char"),
        (put("key", "\u2066", value=1), "schema", "key has char"),
        (put("report", "\x85", value=1), "schema", "report has char"),
        (put("report", "more", value={"\u200f": 1}), "schema", "report.more has char"),
        (of_no_setting, "settings", "method 'random' has no setting 'luck'"),
        (put("cell", "learner", "config", value={}), "settings", "'bc' has settings, and none"),
        (put(*UPDATES, value="2"), "settings", "setting 'updates' of 'bc' is '2', which runs"),
        (put(*UPDATES, value=2.0), "settings", "'updates' of learner 'bc' must be int"),
        (of_no_cost, "report", "report lacks bytes, cost"),
        (of_a_short_key, "key", "key lacks source_sha256, rlcondense"),
        (put("timings", value={}), "measured", "lacks evaluate_seen, evaluate_heldout, train, con"),
        (put("memory", value={}), "measured", "memory lacks peak_bytes"),
    ],
)
def test_a_forgery_is_caught_with_its_reason(
    forge: Forge, check: str, reason: str, honest: Record, tmp_path: Path
) -> None:
    found = verify(forged(honest, forge, tmp_path))
    assert any(f.check == check and reason in f.text for f in found.findings), said(found)
    assert "something is wrong with 1 file" in found.summary()


def test_a_record_edited_by_hand_is_not_what_its_checksum_says(
    honest: Record, tmp_path: Path
) -> None:
    record = copy.deepcopy(honest)
    changed_return(record)
    summed_up(record)
    found = verify(written(record, tmp_path))
    assert [f.check for f in found.findings] == ["content"]
    assert "changed after it was written" in said(found)


def test_the_files_name_is_the_cells_id(honest: Record, tmp_path: Path) -> None:
    found = verify(written(honest, tmp_path, "0123456789abcdef.json"))
    assert said(found).endswith(f"is called '0123456789abcdef', but holds cell {honest['cell_id']}")
    other = put("cell", "condensation_seed", value=5)
    record = copy.deepcopy(honest)
    other(record)
    told = verify(written(sealed(record), tmp_path / "other"))
    assert any(f.check == "name" and "cell_id is" in f.text for f in told.findings)


WEIRD = (None, -1, 10**400, 1.5, True, "<b>", "\ud800", [], [[]], {}, {"<": 1}, 1e308)


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in a record, into the first of each list."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
    for name, part in inner:
        yield (*path, name)
        if isinstance(part, (dict, list)):
            yield from places(part, *path, name)


def test_nothing_that_stands_anywhere_breaks_the_checks(honest: Record) -> None:
    known, passed = known_here(), set()
    for path in places(honest):
        for value in WEIRD:
            record = copy.deepcopy(honest)
            put(*path, value=value)(record)
            if json.dumps(record) == json.dumps(honest):
                continue
            found = list(problems(record, honest["cell_id"], known))
            if not any(check in ("schema", "content") for check, _ in found):
                passed.add(path[0])
    assert passed <= {"timings", "memory", "content_sha256"}


def test_files_that_are_no_records_are_findings_and_stop_no_other(
    honest: Record, results: Path, tmp_path: Path
) -> None:
    folder = written(honest, tmp_path) / "records"
    broken = {
        "cut": '{"cell_id": "0123',
        "nan": '{"returns": NaN}',
        "infinite": '{"returns": 1e999}',
        "twice": '{"cell_id": 1, "cell_id": 2}',
        "deep": "[" * 100_000,
        "digits": f'{{"seed": {"9" * 5000}}}',
        "list": "[]",
        "bytes": "\udcff",
    }
    for name, text in broken.items():
        (folder / f"{name}.json").write_text(text, errors="surrogateescape")
    with (folder / "huge.json").open("wb") as file:
        file.truncate(20_000_000)
    packed = gzip.compress(b"{}")
    for name, content in {
        "bomb": gzip.compress(b" " * 100_000_000),
        "short": packed[:-4],
        "more": packed + b"x",
        "two": packed + packed,
        "plain": b"{}",
        "named": packed[:3] + b"\x08" + packed[4:10] + b"secret\0" + packed[10:],
    }.items():
        (folder / f"{name}.json.gz").write_bytes(content)
    (folder / f"{honest['cell_id']}.json.gz").write_bytes(packed)
    (folder / "notes.txt").write_text("hello")
    (folder / "sub").mkdir()
    (folder / "link.json").symlink_to(next((results / "records").iterdir()))
    os.mkfifo(folder / "pipe.json")
    found = verify(tmp_path)
    reasons = {f.file: f.text for f in found.findings}
    expected = {
        "cut.json": "is not JSON",
        "nan.json": "holds NaN",
        "infinite.json": "too large: '1e999'",
        "twice.json": "names 'cell_id' twice",
        "deep.json": "nested too deeply",
        "digits.json": "holds a number that is too large",
        "list.json": "is no object",
        "bytes.json": "not in UTF-8",
        "huge.json": "is too large: 20,000,000 bytes",
        "bomb.json.gz": "is too large: it unpacks to more than",
        "short.json.gz": "is not gzip: it is cut short",
        "more.json.gz": "is not gzip: it is cut short, or something follows it",
        "two.json.gz": "is not gzip: it is cut short, or something follows it",
        "plain.json.gz": "is not gzip",
        "named.json.gz": "has a name or a comment in its gzip header",
        f"{honest['cell_id']}.json.gz": "lies beside",
        "notes.txt": "ends in neither .json.gz nor .json",
        "sub": "is a folder",
        "link.json": "is a symbolic link",
        "pipe.json": "is no plain file",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name]
    assert list(found.outlines) == [honest["cell_id"]]


def test_what_others_wrote_reaches_no_terminal_as_it_is(honest: Record, tmp_path: Path) -> None:
    evil = put("cell", "task", value="\x1b[2J\u202e" + "x" * 1000)
    found = verify(forged(honest, evil, tmp_path, name="\x1b[31m.json"))
    for finding in found.findings:
        assert str(finding).isascii()
        assert str(finding).isprintable()
        assert len(str(finding)) < 300


def test_condensed_data_with_held_out_levels_are_caught(
    results: Path, honest: Record, tmp_path: Path
) -> None:
    copied, folder, data = copy_of(results, honest, tmp_path)
    assert verify(copied).ok
    replace(data, level_seeds=np.full(len(data), 10_123)).save(folder)
    assert "holds frames of level 10123, which is no seen level" in said(verify(copied))
    told = {**honest, "findings": [finding_of("heldout-data", 1, 0, "all").to_json()]}
    written(sealed(told), copied)
    assert verify(copied).ok, said(verify(copied))
    written(honest, copied)
    replace(data, **first_rows(data, 7)).save(folder)
    assert "has 7 rows and hard labels, the report 15 and hard" in said(verify(copied))
    (folder / "condensed.safetensors").write_bytes(b"nothing")
    assert "not a readable safetensors file" in said(verify(copied))


def test_a_condensed_set_that_cannot_be_is_a_finding_and_stops_no_other(
    results: Path, honest: Record, tmp_path: Path
) -> None:
    copied, folder, data = copy_of(results, honest, tmp_path)
    report = read_json(folder / "report.json")
    for name, value in (("label_kind", "foo"), ("seed", 2**60), ("dataset", "hf:a/b")):
        write_json(folder / "report.json", {**report, name: value})
        found = verify(copied)
        assert not found.ok, name
        assert {f.cell for f in found.findings} == {honest["cell_id"]}
    write_json(folder / "report.json", report)
    for level in (np.nan, np.inf):
        replace(data, level_seeds=np.full(len(data), level)).save(folder)
        assert "level_seeds" in said(verify(copied))


def test_condensed_data_are_let_go_once_they_are_checked(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A results folder holds more data than the memory."""
    read: list[weakref.ref[CondensedDataset]] = []
    alive: list[int] = []

    def read_saved(folder: Path) -> CondensedDataset:
        data = load_condensed(folder)
        read.append(weakref.ref(data))
        return data

    monkeypatch.setattr(verification, "read_saved", read_saved)
    verify(results, progress=lambda *_: alive.append(sum(ref() is not None for ref in read)))
    assert read
    assert set(alive) == {0}


def first_rows(data: CondensedDataset, number: int) -> dict[str, Any]:
    kept = {k: v[:number] for k, v in data.arrays().items() if k != "following"}
    return {**kept, "next_rows": None, "following": None}


def test_levels_of_giving_up_are_those_that_a_policy_plays() -> None:
    for name in ("starpilot", "maze", "digits"):
        task, protocol = make_task(name), Protocol(3, 3, seed=5)
        played = evaluate(random_policies(task.action_space, [1]), task, protocol=protocol)
        assert level_seeds(task, "heldout", protocol) == played.level_seeds[0].tolist()


def test_rows_of_an_unknown_task_must_play_the_same_levels(honest: Record, tmp_path: Path) -> None:
    def elsewhere(seed: int, level: int) -> Forge:
        def forge(record: Record) -> None:
            put("cell", "task", value="mine/game-v0")(record)
            put("cell", "condensation_seed", value=seed)(record)
            put("report", "seed", value=seed)(record)
            put("level_seeds", "seen", 0, value=level)(record)
            other_returns(record, seed)
            put("plugins", value=[{"target": "m:G", "distribution": "mine", "version": "1"}])(
                record
            )

        return forge

    for seed, level in ((0, 3), (1, 3), (2, 4)):
        forged(honest, elsewhere(seed, level), tmp_path)
    found = verify(tmp_path)
    assert [f.check for f in found.findings] == ["levels"], said(found)
    assert "its levels are not those of" in said(found)
    assert any("cannot be made here: levels not checked" in note.text for note in found.notes)


def test_the_same_episodes_in_another_cell_are_noted(honest: Record, tmp_path: Path) -> None:
    written(honest, tmp_path)

    def other_size(record: Record) -> None:
        record["cell"]["budget"] = record["report"]["budget"] = {"size": 16}

    forged(honest, other_size, tmp_path)
    notes = [note for note in verify(tmp_path).notes if note.check == "duplicate"]
    assert len(notes) == 1
    assert "its episodes are exactly those of" in notes[0].text


@pytest.mark.parametrize("moved", [True, False])
def test_a_set_that_did_not_move_may_play_as_the_rows_it_started_as(
    moved: bool, honest: Record
) -> None:
    def outline(method: str, unmoved: bool) -> Outline:
        cell = replace(
            Cell.from_json(honest["cell"]),
            method={"id": method, "config": {}},
            budget={"size": 150},
        )
        return Outline(Path(f"{method}.json"), cell, "done", "", "", {}, unmoved=unmoved)

    synthetic, real = outline("gradmatch-light2024", not moved), outline("random-balanced", False)
    assert _is_copy(synthetic, real, known_here()) == moved
    assert _is_copy(real, synthetic, known_here()) == moved
    assert _is_copy(synthetic, outline("k-means", False), known_here())


def test_methods_that_keep_whole_episodes_may_keep_the_same(honest: Record, tmp_path: Path) -> None:
    def outline(method: str) -> Outline:
        cell = replace(Cell.from_json(honest["cell"]), method={"id": method, "config": {}})
        return Outline(Path(f"{method}.json"), cell, "done", "", "", {})

    known = known_here()
    assert not _is_copy(outline("longest"), outline("deminf"), known)
    assert not _is_copy(outline("stratified"), outline("diverse-episodes"), known)
    assert _is_copy(outline("longest"), outline("critical"), known)
    assert _is_copy(outline("k-means"), outline("deminf"), known)
    larger = replace(outline("deminf").cell, budget={"size": 1500})
    assert _is_copy(outline("longest"), replace(outline("deminf"), cell=larger), known)

    def deminf(record: Record) -> None:
        config = config_json(make_method("deminf").config)
        record["cell"]["method"] = {"id": "deminf", "config": config}
        record["report"] |= {"method": "deminf", "config": config}

    for seed in (0, 1):
        more = of_seed(seed, copied=True)
        forged(honest, lambda r, more=more: (deminf(r), more(r)), tmp_path)  # type: ignore[misc]
    found = verify(tmp_path)
    assert found.ok, said(found)
    assert "duplicate" in {note.check for note in found.notes}


def test_another_seed_with_the_same_episodes_is_a_copy(honest: Record, tmp_path: Path) -> None:
    forged(honest, of_seed(1, copied=True), written(honest, tmp_path / "copied"))
    found = verify(tmp_path / "copied")
    assert [f.check for f in found.findings] == ["duplicate"], said(found)
    assert "its episodes are exactly those of" in said(found)

    def in_whole_numbers(record: Record) -> None:
        of_seed(1, copied=True)(record)
        rows = record["returns"]["seen"]
        record["returns"]["seen"] = [[int(r) for r in row] for row in rows]

    forged(honest, in_whole_numbers, written(honest, tmp_path / "whole"))
    assert [f.check for f in verify(tmp_path / "whole").findings] == ["duplicate"]
    forged(honest, of_seed(1), written(honest, tmp_path / "other"))
    assert verify(tmp_path / "other").ok


def test_a_seed_of_what_has_no_chance_in_it_is_no_copy(honest: Record, tmp_path: Path) -> None:
    def everything(record: Record) -> None:
        record["cell"]["method"]["id"] = record["report"]["method"] = "full"

    for seed in (0, 1):
        more = of_seed(seed, copied=True)
        forged(honest, lambda r, more=more: (everything(r), more(r)), tmp_path)  # type: ignore[misc]
    assert verify(tmp_path).ok, said(verify(tmp_path))


def test_greedy_policies_that_all_do_the_same_are_noted(honest: Record, tmp_path: Path) -> None:
    def collapsed(record: Record) -> None:
        record["action_selection"] = "greedy"
        record["cell"]["learner"]["config"]["action_selection"] = "greedy"
        copied_seed(record)

    for seed in (0, 1):
        more = of_seed(seed, copied=True)
        forged(honest, lambda r, more=more: (collapsed(r), more(r)), tmp_path)  # type: ignore[misc]
    found = verify(tmp_path)
    assert found.ok, said(found)
    assert {"duplicate", "copies"} <= {note.check for note in found.notes}


def copied_returns(record: Record) -> None:
    for split in ("seen", "heldout"):
        record["returns"][split] = [[3.0, 4.0, 3.0, 2.0]] * 2
        record["lengths"][split] = [[90, 80, 90, 70], [90, 80, 90, 60]]
    summed_up(record)


def copied_seed(record: Record) -> None:
    for name in ("returns", "lengths"):
        for split, rows in record[name].items():
            record[name][split] = [rows[0]] * len(rows)
    summed_up(record)


def of_episodes(number: int) -> Forge:
    """A forgery of more episodes, a multiple of the four that were played."""

    def forge(record: Record) -> None:
        protocol, times = protocol_of(number, 0), number // 4
        record["cell"]["evaluation"] = evaluation_json(protocol)
        for split in ("seen", "heldout"):
            record["level_seeds"][split] = level_seeds(make_task("starpilot"), split, protocol)
            record["returns"][split] = [row * times for row in record["returns"][split]]
            lengths = record["lengths"][split]
            record["lengths"][split] = [
                [n + k for k in range(times) for n in row] for row in lengths
            ]
        summed_up(record)

    return forge


of_twenty_episodes = of_episodes(20)


@pytest.mark.parametrize(("number", "is_few"), [(48, True), (52, False)])
def test_few_episodes_are_a_note(honest: Record, tmp_path: Path, number: int, is_few: bool) -> None:
    found = verify(forged(honest, of_episodes(number), tmp_path))
    assert found.ok, said(found)
    notes = [note.text for note in found.notes if note.check == "episodes"]
    assert notes == ["has 96 held-out episodes in all, too few to tell most rows apart"] * is_few


def test_a_learner_seed_that_is_a_copy_is_caught_where_chance_cannot_be_it(
    honest: Record, tmp_path: Path
) -> None:
    few = verify(forged(honest, copied_seed, tmp_path / "few"))
    assert few.ok, said(few)
    assert any("learner seeds 0 and 1 have the very same" in note.text for note in few.notes)
    alike = verify(forged(honest, copied_returns, tmp_path / "alike"))
    assert alike.ok
    assert any("0 and 1 have the very same returns" in note.text for note in alike.notes)
    assert verify(forged(honest, of_twenty_episodes, tmp_path / "honest")).ok
    both = lambda record: (of_twenty_episodes(record), copied_seed(record))  # noqa: E731
    many = verify(forged(honest, both, tmp_path / "many"))
    assert [f.check for f in many.findings] == ["copies"], said(many)

    def fallen(record: Record) -> None:
        """Poles that are always pushed to one side fall after 8, 9 or 10 steps."""
        both(record)
        for split, rows in record["lengths"].items():
            record["lengths"][split] = [[8 + n % 3 for n in row] for row in rows]

    assert verify(forged(honest, fallen, tmp_path / "fallen")).ok


def test_a_setting_that_came_later_is_noted(honest: Record, tmp_path: Path) -> None:
    def earlier(record: Record) -> None:
        del record["cell"]["learner"]["config"]["depth"]

    found = verify(forged(honest, earlier, tmp_path))
    assert found.ok, said(found)
    assert "made before learner 'bc' had the setting depth" in [note.text for note in found.notes]


@pytest.mark.slow
def test_what_would_end_procgens_process_ends_no_verification(
    honest: Record, tmp_path: Path
) -> None:
    forged(honest, put("cell", "evaluation", "seed", value=0.0), written(honest, tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "rlcondense.cli", "leaderboard", "verify", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "fatal" in done.stderr) == (1, False)
    assert "cell.evaluation.seed must be a whole number, and is 0.0" in done.stdout
    assert "2 records: something is wrong with 1 file" in done.stdout


@pytest.fixture
def board(results: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    assert add(results, folder).verification.ok
    return folder


def test_add_copies_pins_and_describes(results: Path, honest: Record, board: Path) -> None:
    index = json.loads((board / "index.json").read_text())
    assert index == {
        "format": 2,
        "records": {honest["cell_id"]: honest["content_sha256"]},
        "costs": {honest["cell_id"]: costs_sha256(honest)},
    }
    assert json.loads((board / "schema.json").read_text()) == record_schema()
    assert read_json(board / "results" / f"{honest['cell_id']}.json") == honest
    assert verify(board).ok
    name = Cell.from_json(honest["cell"]).condensation_id
    assert (board / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    again = add(results, board)
    assert (again.added, again.same, again.pictures) == ((), (honest["cell_id"],), 0)
    assert [entry.added for entry in read_log(board)] == [(honest["cell_id"],)]


@pytest.mark.parametrize("ended_before", ["append_entry", "write_json"])
def test_what_an_addition_that_was_cut_short_left_is_logged_once(
    results: Path, honest: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ended_before: str,
) -> None:  # fmt: skip
    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    board = tmp_path / "board"
    with monkeypatch.context() as patched:
        patched.setattr(adding, ended_before, end)
        with pytest.raises(KeyboardInterrupt):
            add(results, board)
    assert (board / "results" / f"{honest['cell_id']}.json").exists()
    write_json(board / "index.json", {"format": 2, "records": {}, "costs": {}})  # of before
    for _ in range(2):
        assert add(results, board).verification.ok
        assert [entry.added for entry in read_log(board)] == [(honest["cell_id"],)]
    assert verify(board).ok


def test_a_replacement_that_was_cut_short_is_logged_once(
    honest: Record, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    other = forged(honest, consistent, tmp_path / "other")
    with monkeypatch.context() as patched:
        patched.setattr(adding, "write_json", end)
        with pytest.raises(KeyboardInterrupt):
            add(other, board, replace=True)
    for _ in range(2):
        assert add(other, board, replace=True).verification.ok
    changes = [change for entry in read_log(board) for change in entry.changed]
    assert [change.after for change in changes] == [pytest.approx((changes[0].before or 0) + 9)]
    assert verify(board).ok


def test_two_who_add_at_once_both_pin_their_records(
    honest: Record, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: Path, record: Record) -> None:
        time.sleep(0.3)  # meanwhile the other would read the pins
        write_record_file(path, record)

    monkeypatch.setattr(adding, "write_record_file", slowly)
    board, other = tmp_path / "board", tmp_path / "other"
    forged(honest, of_seed(5), other)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda folder: add(folder, board), (results, other)))
    assert [len(one.added) for one in done] == [1, 1]
    assert len(json.loads((board / "index.json").read_text())["records"]) == 2
    assert verify(board).ok
    assert not (board / ".lock").exists()


@pytest.mark.parametrize("name", ["hf:a/b", "/tmp/data.npz", "tests/of-a-plugin-v0"])
def test_no_network_and_no_plugin_is_asked_for_what_a_submission_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("datasets", "tests/of-a-plugin-v0", "nobodys:Code", distribution=("mine", "1"))
    monkeypatch.setitem(catalogue._registered, ("datasets", entry.id), entry)
    assert not pictures._is_at_hand(name)
    assert pictures._is_at_hand("procgen/starpilot-easy/expert-v0")


def test_add_leaves_failed_cells_out_and_copies_nothing_if_something_is_wrong(
    honest: Record, board: Path, tmp_path: Path
) -> None:
    def failed(record: Record) -> None:
        for name in ("returns", "lengths", "level_seeds", "summary", "report", "labels"):
            del record[name]
        record.update(status="failed", reason="out of memory", key={})
        record["cell"]["condensation_seed"] = 3

    folder = forged(honest, failed, tmp_path / "more")
    done = add(folder, board)
    assert (done.added, list((done.left_out or {}).values())) == ((), ["failed"])
    before = sorted(path.name for path in (board / "results").iterdir())
    new = put("cell", "condensation_seed", value=4)
    forged(honest, new, folder)
    refused = add(folder, board)
    assert "report.seed is 0, but the record's 4" in said(refused.verification)
    assert sorted(path.name for path in (board / "results").iterdir()) == before


def consistent(record: Record) -> None:
    record["returns"]["heldout"] = [[r + 9 for r in row] for row in record["returns"]["heldout"]]
    summed_up(record)


def test_what_is_published_is_overwritten_only_if_asked_to(
    honest: Record, board: Path, tmp_path: Path
) -> None:
    better = forged(honest, consistent, tmp_path / "better")
    refused = add(better, board)
    mean = honest["summary"]["heldout"]["mean"]
    assert f"held-out mean {mean:.3f}, here {mean + 9:.3f} (--replace" in said(refused.verification)
    assert verify(board).ok
    assert add(better, board, replace=True).replaced == (honest["cell_id"],)
    assert verify(board).ok
    (change,) = read_log(board)[-1].changed
    assert (change.cell, change.before) == (honest["cell_id"], pytest.approx(mean))
    assert change.after == pytest.approx(mean + 9)
    assert change.versions[0] == change.versions[1]
    assert str(change.versions[0]).startswith(honest["environment"]["rlcondense"])


@pytest.mark.parametrize("returns", [None, [1], {"heldout": "x"}])
def test_a_malformed_published_record_can_be_replaced(
    honest: Record, board: Path, tmp_path: Path, returns: Any
) -> None:
    published = board / "results" / f"{honest['cell_id']}.json"
    write_packed(published, json.dumps({**honest, "returns": returns}).encode())
    better = forged(honest, consistent, tmp_path / "better")
    assert "is published with other content (--replace" in said(add(better, board).verification)
    assert add(better, board, replace=True).replaced == (honest["cell_id"],)
    (change,) = read_log(board)[-1].changed
    assert change.before is None


def test_drift_from_the_index_and_from_what_is_published_is_found(
    honest: Record, board: Path, tmp_path: Path
) -> None:
    published = tmp_path / "published"
    shutil.copytree(board, published)
    assert verify(board, against=published).ok
    path = board / "results" / f"{honest['cell_id']}.json"
    record = read_json(path)
    consistent(record)
    write_packed(path, json.dumps(sealed(record)).encode())
    assert "has changed since it was pinned in index.json" in said(verify(board))
    add(forged(honest, consistent, tmp_path / "better"), board, replace=True)
    assert verify(board).ok
    assert "differs from what is published" in said(verify(board, against=published))
    path.unlink()
    missing = said(verify(board, against=published))
    assert "is pinned, and missing" in missing
    assert "is published in" in missing
    write_packed(path, json.dumps(honest).encode())
    (board / "index.json").write_text('{"format": 1, "records": {}}')
    assert "is not pinned in index.json" in said(verify(board))
    (board / "index.json").write_text('{"format": 1, "records": {"../x": ""}}')
    assert "index.json: index: is no index" in said(verify(board))


def of_a_foreign_task(level: int) -> Forge:
    def forge(record: Record) -> None:
        of_seed(level)(record)
        put("level_seeds", "seen", 0, value=level)(record)
        record["plugins"] = [{"target": "m:G", "distribution": "mine", "version": "1"}]
        record["cell"]["task"] = "mine/game-v0"

    return forge


def of_foreign_data(seed: int, sha256: str) -> Forge:
    def forge(record: Record) -> None:
        of_seed(seed)(record)
        record["cell"]["dataset"] = record["report"]["dataset"] = "other/d-v0"
        record["key"]["dataset_sha256"] = record["report"]["dataset_sha256"] = sha256

    return forge


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (of_a_foreign_task(3), of_a_foreign_task(4), "its levels are not those of"),
        (of_foreign_data(0, "1" * 64), of_foreign_data(1, "2" * 64), "its data are not those of"),
        (of_seed(0, copied=True), of_seed(1, copied=True), "its episodes are exactly those of"),
    ],
)
def test_what_does_not_fit_what_is_published_is_not_added(
    first: Forge, second: Forge, text: str, honest: Record, tmp_path: Path
) -> None:
    leaderboard, new = tmp_path / "board", forged(honest, second, tmp_path / "new")
    assert verify(new).ok
    assert add(forged(honest, first, tmp_path / "old"), leaderboard).verification.ok
    before = (leaderboard / "index.json").read_text()
    refused = add(new, leaderboard)
    assert [f.file for f in refused.verification.findings] == [
        path.name for path in (new / "records").iterdir()
    ]
    assert text in said(refused.verification)
    assert (leaderboard / "index.json").read_text() == before
    shutil.copytree(tmp_path / "old" / "records", new / "records", dirs_exist_ok=True)
    assert text in said(verify(new))


def test_the_same_episodes_from_another_version_are_there_already(
    honest: Record, board: Path, tmp_path: Path
) -> None:
    """The reference rows of everybody's run, which others have published."""
    other = forged(honest, put("environment", "git", value=None), tmp_path / "other")
    done = add(other, board)
    assert done.verification.ok
    assert (done.added, done.replaced, done.same) == ((), (), (honest["cell_id"],))
    kept = read_json(board / "results" / f"{honest['cell_id']}.json")
    assert kept == honest
    assert add(other, board, replace=True).replaced == (honest["cell_id"],)


def test_a_board_of_packed_records_packs_the_next_ones(
    honest: Record, results: Path, board: Path
) -> None:
    plain = board / "results" / f"{honest['cell_id']}.json"
    packed = plain.with_name(f"{plain.name}.gz")
    write_packed(packed, plain.read_bytes())
    plain.unlink()
    assert verify(board).ok
    assert add(results, board).same == (honest["cell_id"],)
    assert [path.name for path in plain.parent.iterdir()] == [packed.name]
    packed.rename(packed.with_name(f"{'0' * 16}.json.gz"))
    add(results, board)
    assert (packed.exists(), plain.exists()) == (True, False)
    assert read_json(packed) == honest


def test_add_mends_what_is_missing_or_edited(honest: Record, results: Path, board: Path) -> None:
    path = board / "results" / f"{honest['cell_id']}.json"
    path.unlink()
    assert add(results, board).added == (honest["cell_id"],)
    assert read_json(path) == honest
    for text in ("{", json.dumps({**honest, "labels": "soft"})):
        write_packed(path, text.encode())
        assert add(results, board).replaced == (honest["cell_id"],)
        assert read_json(path) == honest
    assert add(results, board, replace=True).same == (honest["cell_id"],)
    assert verify(board).ok


def test_a_picture_that_cannot_be_drawn_fails_nothing(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(condensed: Path, out: Path) -> Path:
        raise CorruptArtifact("no frames")

    monkeypatch.setattr("rlcondense.submissions.add.write_picture", fails)
    done = add(results, tmp_path / "board")
    assert (len(done.added), done.pictures) == (1, 0)
    assert "cannot be drawn (CorruptArtifact: 'no frames')" in done.verification.notes[-1].text


def test_condensed_data_that_started_nowhere_are_caught_before_anything_is_added(
    results: Path, honest: Record, tmp_path: Path
) -> None:
    copied, folder, data = copy_of(results, honest, tmp_path)
    arrays = {**data.arrays(), "initial_indices": np.full(len(data), -1)}
    write_arrays(folder / "condensed.safetensors", arrays)
    refused = add(copied, tmp_path / "board")
    assert "initial_indices must not be negative" in said(refused.verification)
    assert not (tmp_path / "board").exists()


def test_the_first_of_a_rows_sets_is_drawn(
    honest: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(adding, "write_picture", lambda folder, out: drawn.append(folder) or out)
    cell = Cell.from_json(honest["cell"])
    cells = [replace(cell, condensation_seed=seed) for seed in (4, 3, 5)]
    cells.append(replace(cells[0], budget={"size": 99}))
    for one in cells:
        (tmp_path / "results" / "condensed" / one.condensation_id).mkdir(parents=True)
    (tmp_path / "results" / "records").mkdir()
    outlines = [Outline(Path("a.json"), one, "done", "", "", {}) for one in cells]
    number, _ = adding._draw(tmp_path / "results", tmp_path / "board", outlines, anew=())
    assert number == 2
    assert {folder.name for folder in drawn} == {c.condensation_id for c in (cells[1], cells[3])}


def test_only_pictures_lie_among_the_pictures(board: Path, tmp_path: Path) -> None:
    [png] = (board / "pictures").glob("*.png")
    drawn = png.read_bytes()
    wrong: list[tuple[str, Callable[[Path], object], str]] = [
        (f"{'0' * 16}.png", lambda p: p.write_bytes(drawn), "that no record is of"),
        ("notes.html", lambda p: p.write_text("<b>"), "is no picture"),
        ("more", lambda p: p.mkdir(), "is no picture"),
        (png.name, lambda p: p.write_text("<svg>"), "is no PNG"),
        (png.name, lambda p: p.write_bytes(drawn + bytes(2**21)), "is too large"),
        (png.name, lambda p: (p.unlink(), p.symlink_to("/dev/null")), "cannot be read"),
        (f"{png.stem}.json", lambda p: p.write_text("[1]"), "does not tell of a picture"),
        (f"{png.stem}.json", lambda p: p.write_text("{"), "is not JSON"),
    ]
    assert verify(board).ok
    for number, (name, spoil, reason) in enumerate(wrong):
        folder = tmp_path / str(number)
        shutil.copytree(board, folder)
        spoil(folder / "pictures" / name)
        assert f"{name}: picture: " in said(verify(folder)), name
        assert reason in said(verify(folder))


def test_diff_says_what_is_new_missing_and_changed(
    honest: Record, results: Path, board: Path, tmp_path: Path
) -> None:
    same = diff(board, results)
    assert (same.new, same.missing, same.changed, same.unreadable) == ((), (), (), ())
    other = forged(honest, consistent, tmp_path / "other")
    found = diff(board, other)
    mean = honest["summary"]["heldout"]["mean"]
    assert f"heldout {mean:.3f} -> {mean + 9:.3f}" in found.changed[0]
    remade = forged(honest, put("key", "torch version", value="9"), tmp_path / "remade")
    assert diff(board, remade).changed[0].endswith("made with other key (torch version)")
    moved = forged(honest, put("cell", "condensation_seed", value=8), tmp_path / "moved")
    assert (len(diff(board, moved).new), len(diff(board, moved).missing)) == (1, 0)
    (tmp_path / "elsewhere" / "results").mkdir(parents=True)
    (tmp_path / "elsewhere" / "index.json").write_text("{}")
    assert len(diff(board, tmp_path / "elsewhere").missing) == 1  # of a leaderboard, which has all
    (moved / "records" / "x.json").write_text("{")
    assert "is not JSON" in diff(board, moved).unreadable[0]


def test_an_honest_record_computed_again_is_the_same(
    results: Path, honest: Record, board: Path
) -> None:
    again = rerun(results, verify(results), 1)
    assert again.ok
    assert again.reruns is not None
    assert [r.text for r in again.reruns] == [
        "computed again from its condensed dataset: each return is the same"
    ]
    assert "1 computed again, 1 of them agree" in again.summary()
    assert not write_down(results, again, date(2026, 1, 2))  # no leaderboard
    assert write_down(board, again, date(2026, 1, 2))
    (written_down,) = read_reruns(board)[honest["cell_id"]]
    assert (written_down.date, written_down.agrees) == ("2026-01-02", True)
    assert written_down.same_machine


def test_a_consistent_forgery_is_caught_by_computing_it_again(
    honest: Record, tmp_path: Path
) -> None:
    folder = forged(honest, consistent, tmp_path / "same")
    found = verify(folder)
    assert found.ok
    again = rerun(folder, found, 1)
    assert "made with the same, and the returns differ" in said(again)

    def elsewhere(record: Record) -> None:
        consistent(record)
        record["environment"]["cpu"] = "another one"

    for name, other in (("action_selection", "greedy"), ("labels", "soft")):
        agrees, text = compared({**honest, name: other}, honest)
        assert not agrees
        assert f"it says {name.replace('_', ' ')} '{other}', and " in text

    folder = forged(honest, elsewhere, tmp_path / "elsewhere")
    again = rerun(folder, verify(folder), 1)
    assert "heldout means lie more than 4 standard errors apart" in said(again)


def test_computing_again_tells_what_fails_from_what_is_not_installed(
    honest: Record, tmp_path: Path
) -> None:
    def of_a_share(record: Record) -> None:
        record["cell"]["method"]["id"] = record["report"]["method"] = "percentile"

    folder = forged(honest, of_a_share, tmp_path / "failing")
    again = rerun(folder, verify(folder), 1)
    assert "it is failed: method 'percentile' takes a percentage, not a size" in said(again)
    assert [r.is_compared for r in again.reruns or ()] == [False]
    (folder / "results").mkdir()
    (folder / "index.json").write_text('{"format": 2, "records": {}, "costs": {}}')
    assert not write_down(folder, again, date(2026, 1, 2))  # which it does not contradict

    def of_a_plugin(record: Record) -> None:
        somebodys_method(record)
        record["plugins"] = [{"target": "m:Mine", "distribution": "mine", "version": "1.0"}]

    folder = forged(honest, of_a_plugin, tmp_path / "plugin")
    again = rerun(folder, verify(folder), 1)
    assert again.ok
    assert again.reruns is not None
    assert again.reruns[0].text.startswith("cannot be computed here: unknown method 'mine'")
    assert again.summary().endswith("none re-run")


def test_what_is_new_is_computed_again_first(honest: Record, tmp_path: Path) -> None:
    folder = written(honest, tmp_path)
    forged(honest, of_seed(1), folder)
    found = verify(folder)
    assert found.ok
    published = {honest["cell_id"]: honest["content_sha256"]}
    again = rerun(folder, found, 1, among=published)
    assert again.reruns is not None
    assert again.reruns[0].cell != honest["cell_id"]
    assert not again.ok  # another seed draws other transitions


def test_returns_of_every_task_are_told_by_the_catalogue() -> None:
    for entry in entries("tasks").values():
        low, high = entry.facts["return_range"]
        assert low <= entry.config["score_range"][1] <= high
        if "file" not in entry.config:
            assert low <= entry.facts["random_return"]["seen"]["mean"] <= high
        assert entry.facts.get("return_step", 1) > 0  # Pendulum's are any number
        assert entry.facts["longest_episode"] >= 100


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_commands_say_what_they_find_by_their_exit_codes(
    results: Path, honest: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    added = call("leaderboard", "add", str(results))
    assert added.exit_code == 0
    assert (
        "leaderboard: 1 added, 0 replaced, 0 were there already; 1 pictures drawn\n" in added.stdout
    )
    verified = call("leaderboard", "verify")
    assert verified.exit_code == 0
    assert "1 record: nothing wrong; not re-run (--rerun N computes some" in verified.stdout
    told = json.loads(call("leaderboard", "verify", "--json").stdout)
    assert (told["ok"], told["records"], told["reruns"]) == (True, 1, None)
    differs = call("leaderboard", "diff", str(results))
    assert (differs.exit_code, differs.stdout) == (
        0,
        "0 new, 0 missing, 0 changed, 0 unreadable\n",
    )
    bad = call("leaderboard", "verify", str(forged(honest, changed_return, tmp_path / "bad")))
    assert bad.exit_code == 1
    assert "summary: summary.heldout.mean is" in bad.stdout
    refused = call("leaderboard", "add", str(tmp_path / "bad"))
    assert (refused.exit_code, "nothing was added" in refused.stdout) == (1, True)
    for wrong in (["verify", "nowhere"], ["diff", "a", "b", "c"], ["verify", "--seed", "1"]):
        asked = call("leaderboard", *wrong)
        assert asked.exit_code == 2
        assert asked.stderr.startswith("Error: ")


def test_a_folder_without_records_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="holds no records"):
        verify(tmp_path)


LEADERBOARD = Path(__file__).parents[2] / "leaderboard"


@pytest.mark.slow
@pytest.mark.skipif(not LEADERBOARD.is_dir(), reason="it is shipped with the repository alone")
def test_the_leaderboard_as_shipped_passes() -> None:
    found = verify(LEADERBOARD)
    assert found.ok, said(found)


@pytest.mark.skipif(not LEADERBOARD.is_dir(), reason="it is shipped with the repository alone")
def test_every_tenth_record_as_shipped_passes(tmp_path: Path) -> None:
    for path in sorted((LEADERBOARD / "results").iterdir())[::10]:
        shutil.copy(path, tmp_path)
    found = verify(tmp_path)
    assert found.files > 200
    assert found.ok, said(found)
    assert json.loads((LEADERBOARD / "schema.json").read_text()) == record_schema()


def test_a_method_is_deterministic_by_its_settings() -> None:
    known = known_here()
    assert known.is_deterministic({"id": "percentile", "config": {}})
    assert not known.is_deterministic({"id": "percentile", "config": {"fraction": 0.2}})
    assert known.is_deterministic({"id": "percentile", "config": {"of an older version": 1}})
    assert known.is_deterministic({"id": "condensed:longest", "config": {"folder": "x"}})
    assert not known.is_deterministic({"id": "nobody", "config": {}})


def test_a_few_notes_of_a_check_are_printed_and_the_others_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = [*"abcde", "e", "b", "b"]
    notes = tuple(Finding(f"{n}.json", "", "copies", text) for n, text in enumerate(texts))
    print_findings(Verification((), (*notes, Finding("9.json", "", "git", "f")), 9, {}))
    assert capsys.readouterr().out.splitlines() == [
        "note: 3 records: b",
        "note: 2 records: e",
        "note: 0.json: a",
        "note: copies: 2 more like these (leaderboard verify --json lists all)",
        "note: 9.json: f",
    ]


def test_a_record_that_lies_there_without_a_pin_is_overwritten_only_if_asked_to(
    honest: Record, results: Path, board: Path, tmp_path: Path
) -> None:
    """After a merge, say, in which the index is one side's."""
    published = board / "results" / f"{honest['cell_id']}.json"
    before = published.read_bytes()
    write_json(board / "index.json", {"format": 2, "records": {}, "costs": {}})
    better = forged(honest, consistent, tmp_path / "better")
    assert "is published with other content: " in said(add(better, board).verification)
    assert published.read_bytes() == before
    assert add(better, board, replace=True).replaced == (honest["cell_id"],)
    assert verify(board).ok


def test_an_expert_is_one_that_the_task_has_had() -> None:
    known = checks.known_here()
    cards = {
        card["id"]: card for card in shipped_cards() if card["task"].endswith("jumper-easy-v0")
    }
    assert len(cards) > 1

    def faults(dataset: str, sha256: str, **config: str) -> list[str]:
        cell = {
            "dataset": dataset,
            "task": "procgen/jumper-easy-v0",
            "method": {"id": "expert", "config": config},
        }
        record: Any = {"cell": cell, "key": {"expert_sha256": sha256}}
        return list(checks._expert(record, known))

    for card in cards.values():
        assert not faults("", card["sha256"])
    assert not faults("", "0" * 64, weights="0" * 16)
    assert "is not that of the weights" in faults("", "0" * 64, weights="1" * 16)[0]
    assert "has sha256" in faults("", "0" * 64)[0]
    older = next(iter(cards.values()))
    assert "has sha256" in faults("procgen/jumper-easy/expert-v1", older["sha256"])[0]


def test_rows_that_follow_and_views_take_bytes_too() -> None:
    known, size, values = checks.known_here(), 150, 3 * 64 * 64

    def faults(bytes_: int, config: Any) -> list[str]:
        cell = {
            "task": "procgen/starpilot-easy-v0",
            "budget": {"size": size},
            "method": {"id": "qmatch", "config": config},
        }
        record: Any = {"cell": cell, "report": {"bytes": bytes_, "size": size}}
        return list(checks._bytes(record, known))

    most = size * 2 * values * 4
    assert not faults(most, {})
    views = size * 64 * (2 + 4 * 15)
    assert faults(most + views, {})
    assert not faults(most + views, {"label_views": 64})
