from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.cli import main
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import load_condensed
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.minari import is_local, write_minari
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError, UnknownName
from rlcondense.experts.shipped import load_expert, save_expert
from rlcondense.files import read_json, write_json
from rlcondense.make import include, load_dataset, make_learner, make_method, make_task
from rlcondense.methods.gradmatch import GradMatchConfig
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import NetworkPolicies
from rlcondense.records.cell import Cell
from rlcondense.records.schema import what_is_wrong
from rlcondense.records.store import MEASURED, Store, content_sha256
from rlcondense.running.bench import make_bench
from rlcondense.running.compute import artifact_row
from rlcondense.running.condensing import condense
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.running.outcomes import write_undone
from rlcondense.running.parts import num_sets
from rlcondense.running.runner import RunResult, run
from rlcondense.running.transfer import transfer
from rlcondense.runtime.progress import silent
from rlcondense.tasks.base import Task
from tests.conftest import TINY, random_network
from tests.running.processes import children

QUICK: dict[str, Any] = {
    "dataset": TINY,
    "seeds": 2,
    "episodes": 4,
    "learner_settings": {"network": "mlp", "width": 8, "updates": 2, "batch_size": 64},
}
PLAYED = {name: value for name, value in QUICK.items() if name != "learner_settings"}
GRADMATCH = {"network": "compact", "iterations": 2, "real_batch": 4}


def quick(results: Path, method: str = "random", **options: Any) -> RunResult:
    usual = {"size": 10, "condensations": 1, **QUICK}
    return run(method, "starpilot", results=results, **{**usual, **options})


@pytest.fixture(autouse=True)
def _dataset(tiny: TransitionDataset) -> None:
    """The small dataset is there."""


def test_a_run_gives_the_method_and_its_reference_rows(tmp_path: Path) -> None:
    result = quick(tmp_path, "gradmatch", settings=GRADMATCH)
    names = [r["cell"]["method"]["id"] for r in result.references]
    assert names == ["random-policy", "marginal-policy", "random", "full-converged", "full"]
    record = result.record
    assert record["cell"]["method"] == {
        "id": "gradmatch",
        "config": {**config_json(GradMatchConfig()), **GRADMATCH},
    }
    for split in ("seen", "heldout"):
        assert len(record["returns"][split]) == 2
        assert len(record["returns"][split][0]) == 4
        assert len(record["level_seeds"][split]) == 4
        for other in result.references:
            assert other["level_seeds"][split] == record["level_seeds"][split]
    assert record["report"]["displacement"]["mean"] > 0
    assert record["environment"]["threads"] == 1
    assert record["content_sha256"] == content_sha256(record)


@pytest.mark.slow
def test_the_random_row_has_the_methods_size_and_labels(tmp_path: Path) -> None:
    soft = quick(tmp_path, "gradmatch", settings={**GRADMATCH, "labels": "soft"}, size=7)
    random = next(r for r in soft.references if r["cell"]["method"]["id"] == "random")
    assert random["report"]["size"] == 7
    assert random["report"]["label_kind"] == "soft"
    tenth = quick(tmp_path, "bc-10", size=None)
    random = next(r for r in tenth.references if r["cell"]["method"]["id"] == "random")
    assert random["report"]["size"] == tenth.record["report"]["size"]


def test_a_second_run_reads_everything_back_and_references_are_shared(tmp_path: Path) -> None:
    first = quick(tmp_path)
    again = quick(tmp_path)
    assert (first.reused, again.reused) == (0, 5)
    assert again.to_json() == first.to_json()
    other = quick(tmp_path, "random-balanced")
    assert other.reused == 5


def test_a_record_is_not_reused_for_another_cell(tmp_path: Path) -> None:
    a = quick(tmp_path, references=False)
    for changed in ({"seed": 1}, {"size": 9}, {"episodes": 6}, {"seeds": 1}):
        b = quick(tmp_path, references=False, **changed)
        assert b.reused == 0
        assert b.record["cell_id"] != a.record["cell_id"]


def test_what_differs_in_the_making_is_told_and_refresh_recomputes(tmp_path: Path) -> None:
    first = quick(tmp_path, references=False)
    store = Store(tmp_path)
    record = {k: v for k, v in first.record.items() if k != "content_sha256"}
    store.write_record({**record, "key": {**record["key"], "torch version": "0.1"}})
    again = quick(tmp_path, references=False)
    assert "random was made with torch version 0.1" in again.warnings[0]
    assert str(again).endswith(f"Warning: {again.warnings[-1]}")
    fresh = quick(tmp_path, references=False, refresh=True)
    assert (fresh.reused, fresh.warnings) == (0, [])


def test_sets_whose_time_nobody_knows_are_not_made_unasked(tmp_path: Path) -> None:
    first = quick(tmp_path, references=False)
    learner = make_learner("bc")
    bench = make_bench(
        "starpilot", TINY, download=False, learner=learner, seeds=2, episodes=4, device="cpu",
        results=tmp_path, refresh=False, progress=silent,
    )  # fmt: skip
    asked = make_method("random"), Budget(size=10)
    assert num_sets(bench, *asked, first.record) == (3, [])
    count, [note] = num_sets(replace(bench, device="cuda"), *asked, first.record)
    assert count == 1
    assert "may take long, since no such cell was timed on cuda: --condensations 3" in note


def test_the_labels_of_students_that_imitate_the_actions_taken_are_hard(tmp_path: Path) -> None:
    learner_settings = {**QUICK["learner_settings"], "loss": "nll"}
    result = quick(
        tmp_path, settings={"labels": "soft"}, learner_settings=learner_settings, references=False
    )
    assert result.record["labels"] == "hard"
    assert result.record["report"]["label_kind"] == "soft"
    assert "bc by loss=nll takes no soft labels" in str(result)


def test_a_tampered_record_is_computed_anew(tmp_path: Path) -> None:
    first = quick(tmp_path, references=False)
    path = first.store.record_path(first.record["cell_id"])
    record = json.loads(path.read_text())
    record["returns"]["heldout"][0][0] += 100
    path.write_text(json.dumps(record))
    again = quick(tmp_path, references=False)
    assert again.reused == 0
    assert again.record["returns"] == first.record["returns"]


@pytest.mark.slow
def test_several_condensation_seeds_give_a_record_each(tmp_path: Path) -> None:
    result = quick(tmp_path, "gradmatch", settings=GRADMATCH, condensations=2, seed=3)
    assert [r["cell"]["condensation_seed"] for r in result.records] == [3, 4]
    randoms = [r for r in result.references if r["cell"]["method"]["id"] == "random"]
    assert [r["cell"]["condensation_seed"] for r in randoms] == [3, 4]
    assert result.to_json()["records"] == result.records


def of(result: RunResult, method: str) -> list[int]:
    """The condensation seeds of a method's rows, beside or under judgement."""
    cells = [record["cell"] for record in (*result.records, *result.references)]
    return [cell["condensation_seed"] for cell in cells if cell["method"]["id"] == method]


def balance(results: Path, method: str | list[str] = "random", **options: Any) -> RunResult:
    """A run on cart-pole, from a few rows of data that nobody gave probabilities for."""
    if not is_local(UNLABELLED):
        write_unlabelled()
    usual: dict[str, Any] = {
        "dataset": UNLABELLED, "size": 4, "seeds": 2, "episodes": 2, "device": "cpu",
        "learner_settings": {"updates": 2, "width": 8},
    }  # fmt: skip
    return run(method, "cartpole", results=results, **{**usual, **options})


def test_a_record_names_the_versions_that_its_task_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.tasks.classic_control.ClassicControlTask.packages", ("pytest",))
    record = balance(tmp_path, references=False).record
    assert record["environment"]["packages"]["pytest"] == pytest.__version__
    assert record["key"]["pytest version"] == pytest.__version__


UNLABELLED = "tests/unlabelled-v0"


def write_unlabelled() -> None:
    task, rng = make_task("cartpole"), np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(size=(8, 4)).astype(np.float32),
            actions=rng.integers(0, 2, 8),
            rewards=np.ones(8, np.float32),
            level_seed=0,
        )
        for _ in range(10)
    ]
    with contextlib.closing(gymnasium.make(task.id)) as env:
        write_minari(UNLABELLED, iter(episodes), {"author": "tests"}, env)


def test_a_run_makes_three_sets_and_reads_them_back(tmp_path: Path) -> None:
    result = balance(tmp_path, "random-balanced")
    assert of(result, "random-balanced") == of(result, "random") == [0, 1, 2]
    assert "one set: not judged" not in str(result).replace("one set:\nnot", "")
    again = balance(tmp_path, "random-balanced")
    assert again.reused == len(result.records) + len(result.references)
    best = balance(tmp_path, "bc-10", size=None)
    assert (of(best, "bc-10"), of(best, "random")) == ([0], [0, 1, 2])  # it draws nothing


def test_one_set_is_made_where_three_take_too_long_or_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = balance(tmp_path, seeds=1)
    assert (of(alone, "random"), alone.notes) == ([0], ())
    monkeypatch.setattr("rlcondense.running.parts.SPARE_SECONDS", 0.0)
    result = balance(tmp_path)
    assert of(result, "random") == [0]
    assert "? random: one set: not judged against the random policy" in str(result)
    assert re.search(r"2 more sets, .* --condensations 3 computes them.$", str(result))
    assert of(balance(tmp_path, condensations=2), "random") == [0, 1]  # as asked for


def test_sets_that_have_failed_are_none_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = balance(tmp_path, condensations=3)
    for record in first.records[1:]:
        cell = Cell.from_json(record["cell"])
        write_undone(cell, {"status": "failed", "reason": "no luck"}, first.store, "cpu")
    monkeypatch.setattr("rlcondense.running.parts.SPARE_SECONDS", 0.0)
    assert of(balance(tmp_path), "random") == [0]


def test_a_whole_percentage_is_the_cell_of_the_same_number(tmp_path: Path) -> None:
    whole, same = (balance(tmp_path, "bc-10", size=None, percent=p) for p in (50, 50.0))
    assert whole.record["cell_id"] == same.record["cell_id"]
    assert same.reused == len(same.records) + len(same.references)


def test_training_to_convergence_that_takes_long_is_left_out_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.running.reference_rows.SPARE_SECONDS", 0.0)
    short = balance(tmp_path / "short", condensations=1)
    assert not of(short, "full-converged")
    assert of(short, "full") == [0]
    [note] = short.notes
    assert note.startswith("full-converged is left out: it would take about")
    assert note.endswith("--own-references computes it.")  # the package has none of such students
    both = balance(tmp_path / "both", ["random", "full-converged"], condensations=1)
    assert (of(both, "full-converged"), both.notes) == ([0], ())  # a row of one is the other's own
    asked = balance(tmp_path / "short", condensations=1, own_references=True)
    assert (of(asked, "full-converged"), asked.notes) == ([0], ())
    again = balance(tmp_path / "short", condensations=1)  # it is there now
    assert of(again, "full-converged") == [0]


FAULTY = """
from rlcondense.learners.bc import BehaviouralCloning


class Small(BehaviouralCloning):
    def fit(self, data, **rest):
        if len(data) > 10:
            raise RuntimeError("no room")
        return super().fit(data, **rest)
"""


def test_a_reference_row_that_cannot_be_is_a_line_below_what_is_finished(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(FAULTY)
    include(file)
    options = {"learner": "small", "condensations": 1}
    result = balance(tmp_path / "r", **options)
    [full] = [r for r in result.references if r["cell"]["method"]["id"] == "full"]
    assert (full["status"], full["reason"]) == ("failed", "RuntimeError: no room")
    assert what_is_wrong(full) is None
    assert result.record["status"] == "done"
    lines = str(result).splitlines()
    assert any(re.match(r"random \? .*\d\.\d\d", line) for line in lines)
    assert "full with small: failed (RuntimeError: no room)" in lines
    foreign = result.store.record_path(result.references[0]["cell_id"])
    foreign.write_text(json.dumps({**json.loads(foreign.read_text()), "schema_version": 1}))
    again = balance(tmp_path / "r", **options)
    assert again.record == result.record
    assert "another version of rlcondense" in again.references[0]["reason"]


def test_soft_labels_that_data_do_not_have_are_replaced_by_hard_ones_and_named(
    tmp_path: Path,
) -> None:
    settings = {"network": "mlp", "iterations": 1, "inner_steps": 2, "window": "none"}
    result = balance(tmp_path, "dbc", settings=settings, condensations=1)
    rows = [(r["cell"]["method"]["id"], r["cell"]["method"]["config"].get("labels"), r["status"])
            for r in result.references][2:]  # fmt: skip
    assert rows == [
        (name, labels, status)
        for labels, status in (("soft", "skipped"), ("hard", "done"))
        for name in ("random", "full-converged", "full")
    ]
    text = str(result)
    assert re.search(r"^dbc \? .* \d", text, re.MULTILINE)
    assert "random with bc: skipped (needs action_probs)" in text
    assert text.endswith("rows of hard ones stand in their place.")
    assert all(what_is_wrong(record) is None for record in result.references)
    cell, learner = Cell.from_json(result.record["cell"]), "bc:updates=2,width=8"
    matrix = transfer(
        [], [learner], "cartpole", folders=[result.store.condensed_path(cell.condensation_id)],
        dataset=UNLABELLED, seeds=2, episodes=2, results=tmp_path, device="cpu",
    )  # fmt: skip
    status = {name: row[learner][0]["status"] for name, row in matrix.rows.items()}
    assert next(iter(status.values())) == status["random 4"] == status["full"] == "done"
    assert status["random 4 soft"] == status["full soft"] == "skipped"


def test_transfer_has_all_the_data_once_and_no_random_subset_of_them(tmp_path: Path) -> None:
    if not is_local(UNLABELLED):
        write_unlabelled()
    learner = "bc:updates=2,width=8"
    matrix = transfer(
        ["random", "full"], [learner], "cartpole", dataset=UNLABELLED, size=4, seed=3,
        condensations=1, seeds=2, episodes=2, results=tmp_path, device="cpu",
    )  # fmt: skip
    assert not [name for name in matrix.rows if name.startswith("random ")]
    seeds = {
        name: row[learner][0]["cell"]["condensation_seed"] for name, row in matrix.rows.items()
    }
    assert (seeds["random"], seeds["full-converged"]) == (3, 0)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    plain = balance(tmp_path, references=False)
    numpy = balance(
        tmp_path, size=np.int64(4), seed=np.int64(0), seeds=np.int8(2), episodes=np.int32(2),
        references=False, learner_settings={"updates": np.int64(2), "width": np.int16(8)},
    )  # fmt: skip
    assert numpy.reused == 1
    assert numpy.record == plain.record
    fresh = balance(tmp_path, size=np.int64(6), seed=np.int64(1), references=False)
    assert fresh.store.read_record(fresh.record["cell_id"]) == fresh.record
    assert type(fresh.record["cell"]["condensation_seed"]) is int


COMMAND = [
    sys.executable, "-m", "tests.without_experts", "run", "--method", "gradmatch",
    "--dataset", TINY, "--size", "10", "--seeds", "2", "--episodes", "4", "--json",
    "--set", "network=compact", "--set", "real_batch=4", "--set", "learner.network=compact",
    "--set", "learner.updates=2", "--condensations", "1",
]  # fmt: skip


@pytest.mark.slow
def test_new_processes_give_the_same_bytes(tmp_path: Path) -> None:
    outputs, data = [], []
    for name in ("a", "b"):
        command = [*COMMAND, "--set", "iterations=2", "--results", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Error" not in done.stderr  # but progress, where it takes its time
        printed = json.loads(done.stdout)
        for record in [printed["record"], *printed["references"]]:
            for measured in MEASURED:
                record.pop(measured)
        outputs.append(json.dumps(printed))
        data.append(
            sorted(p.read_bytes() for p in (tmp_path / name).rglob("condensed.safetensors"))
        )
    assert outputs[0] == outputs[1]
    assert data[0] == data[1]
    assert len(data[0]) == 2


@pytest.mark.parametrize(
    "wait_for",
    [
        pytest.param("locks", marks=pytest.mark.slow),
        pytest.param("condensed/*/made_from.json", marks=pytest.mark.slow),
        pytest.param("records/*.json", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_leaves_nothing_to_trip_over(wait_for: str, tmp_path: Path) -> None:
    """Killed early, after condensing and after the first record, and then run again."""
    slow = [*COMMAND, "--set", "iterations=40", "--results", str(tmp_path)]
    process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(wait_for)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert list(tmp_path.glob(wait_for))
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_text())
    done = subprocess.run(slow, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["record"]["status"] == "done"


@pytest.mark.parametrize(
    "ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_says_so_and_leaves_a_state_to_go_on_from(
    tmp_path: Path, ending: signal.Signals
) -> None:
    slow = [*COMMAND, "--set", "iterations=100000", "--results", str(tmp_path), "--workers", "2"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("locks/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    workers = children(process.pid)
    process.send_signal(ending)
    _, stderr = process.communicate(timeout=60)
    assert workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    quick(tmp_path, references=False)


def test_a_torn_condensed_dataset_is_made_again(tmp_path: Path) -> None:
    first = quick(tmp_path, references=False)
    file = next(tmp_path.rglob("condensed.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    first.store.record_path(first.record["cell_id"]).unlink()
    again = quick(tmp_path, references=False)
    assert file.read_bytes() == whole
    assert content_sha256(again.record) == content_sha256(first.record)


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path: Path) -> None:
    condense(TINY, "random", "starpilot", out=tmp_path / "c", size=10)
    before = {path: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    with pytest.raises(BadConfig, match="is there already"):
        condense(TINY, "random", "starpilot", out=tmp_path / "c", size=5)
    assert {path: path.read_bytes() for path in (tmp_path / "c").iterdir()} == before


def test_two_condensations_at_once_into_one_folder_do_not_overwrite_each_other(
    tmp_path: Path,
) -> None:
    slow = {"network": "compact", "iterations": 40, "real_batch": 4}
    folder = tmp_path / "c"
    said: list[str] = []

    def second() -> None:
        try:
            condense(TINY, "random", "starpilot", out=folder, size=5)
        except BadConfig as error:
            said.append(str(error))

    other = threading.Thread(target=second)

    def meanwhile(*_: object) -> None:
        if not other.ident:
            other.start()

    made = condense(
        TINY, "gradmatch", "starpilot", out=folder, size=10, settings=slow, progress=meanwhile
    )
    other.join()
    assert ["is there already" in line for line in said] == [True]
    assert len(load_condensed(folder)) == len(made) == 10


@pytest.mark.parametrize(
    ("methods", "budget", "said"),
    [
        (["random", "k-center"], {"percent": 1.0, "size": None}, "only by one named alone"),
        (["random", "k-center"], {"unit": "episodes", "size": None}, "only by one named alone"),
        (["bc-10", "percentile"], {"size": 10}, "keep percentages"),
        (["bc-10", "percentile"], {"max_bytes": 999, "size": None}, "keep percentages"),
    ],
)
def test_a_budget_that_no_named_method_takes_is_refused(
    methods: list[str], budget: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=said):
        balance(tmp_path, methods, **budget)


def test_of_two_methods_each_takes_its_kind_of_budget(tmp_path: Path) -> None:
    both = balance(tmp_path, ["random", "percentile"], percent=50.0, condensations=1)
    budgets = [record["cell"]["budget"] for record in both.records]
    assert budgets == [{"size": 4}, {"percent": 50.0, "unit": "episodes"}]


@pytest.mark.parametrize(
    ("method", "settings", "findings"),
    [
        ("random", {}, []),
        ("dbc", {"iterations": 1, "inner_steps": 2, "window": "none"}, ["duplicate-rows"]),
    ],
)
def test_coded_rows_are_the_same_to_run_evaluate_and_transfer(
    method: str, settings: dict[str, Any], findings: list[str], tmp_path: Path
) -> None:
    coding = {"size": None, "max_bytes": 60, "bits": 1 if findings else 4}
    ran = balance(tmp_path, method, settings=settings, condensations=1, **coding)
    cell = Cell.from_json(ran.record["cell"])
    folder = ran.store.condensed_path(cell.condensation_id)
    options = {"dataset": UNLABELLED, "seeds": 2, "episodes": 2, "device": "cpu"}
    alone = evaluate_artifact(
        folder, "cartpole", learner_settings={"updates": 2, "width": 8}, results=tmp_path, **options
    )
    assert found(ran.record["report"]) == found(alone.record["report"])
    assert set(findings) <= set(found(ran.record["report"]))
    learner = "bc:updates=2,width=8"
    matrix = transfer([], [learner], "cartpole", folders=[folder], results=tmp_path, **options)
    of_random = [row[learner][0] for name, row in matrix.rows.items() if name.startswith("random ")]
    assert of_random
    for record in of_random:
        assert record["cell"]["budget"] == {"bytes": 60, "bits": coding["bits"]}
    if method == "random":
        assert of_random[0]["cell_id"] == ran.record["cell_id"]


def test_a_task_that_is_not_what_its_id_names_is_refused(tmp_path: Path) -> None:
    plain = replace(make_task("coinrun"), view="plain")  # type: ignore[type-var]
    with pytest.raises(BadConfig, match="is not what 'procgen/coinrun-easy-v0' names"):
        run("random", plain, results=tmp_path, **QUICK)


def test_the_halves_equal_the_whole(tmp_path: Path) -> None:
    whole = quick(tmp_path / "r", "random", seed=5, references=False)
    condense(TINY, "random", "starpilot", out=tmp_path / "c", size=10, seed=5)
    parts = evaluate_artifact(
        str(tmp_path / "c"),
        "starpilot",
        results=tmp_path / "r",
        **QUICK,
    )
    assert parts.record["returns"] == whole.record["returns"]
    assert parts.record["cell"]["method"]["id"] == "condensed:random"
    assert [r["cell"]["method"]["id"] for r in parts.references][-3:] == [
        "random", "full-converged", "full"
    ]  # fmt: skip


def test_policies_in_a_folder_and_reference_policies_are_evaluated(tmp_path: Path) -> None:
    NetworkPolicies([random_network(0), random_network(1)], [0, 1]).save(tmp_path / "mine")
    mine = evaluate_artifact(str(tmp_path / "mine"), "starpilot", results=tmp_path / "r", **PLAYED)
    assert mine.record["cell"]["method"]["id"] == "policies:mine"
    assert len(mine.record["returns"]["seen"]) == 2
    with pytest.raises(BadConfig, match="holds policies of 2 seeds, not of 3"):
        evaluate_artifact(str(tmp_path / "mine"), "starpilot", seeds=3, results=tmp_path / "r")
    alone = evaluate_artifact("random-policy", "coinrun", results=tmp_path / "r", episodes=4)
    assert alone.references == []
    assert alone.record["cell"]["dataset"] == ""
    with pytest.raises(UnknownName, match=r"policy or folder 'expertt' .did you mean 'expert'"):
        evaluate_artifact("expertt", "starpilot", results=tmp_path / "r")


def test_greedy_policies_from_a_folder_stand_beside_the_constant_policy(tmp_path: Path) -> None:
    spec = NetworkSpec("mlp", (4,), 2, width=8, depth=1)
    balance(tmp_path / "r", references=False)  # writes its data
    for selection in ("greedy", "sample"):
        policies = NetworkPolicies([PolicyNetwork(spec)], [0], action_selection=selection)
        policies.save(tmp_path / selection)
        found = evaluate_artifact(
            tmp_path / selection, "cartpole", dataset=UNLABELLED, episodes=2, device="cpu",
            results=tmp_path / "r",
        )  # fmt: skip
        beside = {record["cell"]["method"]["id"] for record in found.references}
        assert ("constant-policy" in beside) == (selection == "greedy")


def test_an_expert_of_another_shape_condenses_nothing(tmp_path: Path) -> None:
    arguments = ["condense", "--method", "gradmatch-light2024", "--task", "starpilot", "--size"]
    arguments += ["15", "--expert", "cartpole", "--dataset", TINY, "--out", str(tmp_path / "x")]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "expert 'classic/cartpole-v0'" in done.stderr


def test_a_condensed_set_of_another_shape_is_refused(
    tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    data = make_method("random").condense(tiny, task=task, budget=3)
    replace(data, observations=data.observations[:, :, :32]).save(tmp_path / "small")
    with pytest.raises(CorruptArtifact, match="observations of shape"):
        evaluate_artifact(str(tmp_path / "small"), "starpilot", results=tmp_path / "r", **QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.array([0, 1, 15])}, "actions outside 0..14"),
        ({"actions": np.array([0, -1, 3])}, "actions outside 0..14"),
        ({"actions": np.array([0.5, 1, 2])}, "not whole numbers"),
        ({"action_probs": np.ones((3, 4), np.float32)}, "action_probs of"),
        ({"observations": np.zeros((3, 3, 64, 64))}, "observations of type float64"),
        ({"observations": np.full((3, 3, 64, 64), np.inf, np.float32)}, "non-finite observations"),
    ],
    ids=str,
)
def test_a_condensed_set_from_elsewhere_is_checked(
    change: dict[str, Any], message: str, tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    data = make_method("random").condense(tiny, task=task, budget=3)
    replace(data, **change).save(tmp_path / "made")
    with pytest.raises(CorruptArtifact, match=message):
        evaluate_artifact(str(tmp_path / "made"), "starpilot", results=tmp_path / "r", **QUICK)


def test_another_kind_of_label_or_other_weights_are_another_cell(
    tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    data = make_method("random", labels="soft").condense(tiny, task=task, budget=3)
    variants = [data, replace(data, label_kind="hard"), replace(data, weights=data.weights * 2)]
    assert len({variant.sha256 for variant in variants}) == 3


def test_policies_of_another_shape_are_refused(tmp_path: Path) -> None:
    network = PolicyNetwork(NetworkSpec("nature", (3, 64, 64), 20))
    NetworkPolicies([network], [0]).save(tmp_path / "mine")
    with pytest.raises(BadConfig, match=r"to 20 actions, task .* needs .* to 15"):
        evaluate_artifact(str(tmp_path / "mine"), "starpilot", results=tmp_path / "r")


def test_a_diverged_learner_is_a_failed_cell_and_not_a_number(tmp_path: Path) -> None:
    settings = {"network": "cnn4", "updates": 2, "batch_size": 8, "learning_rate": 1e10}
    result = quick(tmp_path, references=False, learner_settings=settings)
    assert result.record["status"] == "failed"
    assert "diverged" in result.record["reason"]
    assert "returns" not in result.record


@pytest.mark.slow
def test_the_learner_of_the_methods_paper_is_used_in_both_halves(tmp_path: Path) -> None:
    expected = make_learner(
        "bc", **catalogue.find("methods", "gradmatch-light2024").facts["learner"]
    )
    data = make_method("random").condense(load_dataset(TINY), task=make_task("starpilot"), budget=3)
    assert data.report is not None
    report = replace(data.report, method="gradmatch-light2024", config={})
    replace(data, report=report).save(tmp_path / "c")
    done = evaluate_artifact(
        str(tmp_path / "c"), "starpilot", results=tmp_path / "r",
        **{**QUICK, "learner_settings": {"updates": 2}},
    )  # fmt: skip
    config = done.record["cell"]["learner"]["config"]
    assert config == {**config_json(expected.config), "updates": 2}


def test_requests_that_cannot_be_met_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    for options in ({"size": 0}, {"seeds": 0}, {"condensations": 0},
                    {"size": 5, "percent": 3.0}, {"episodes": 0}, {"device": "tpu"}):  # fmt: skip
        with pytest.raises(BadConfig):
            quick(tmp_path / "r", **options)
        assert not list(tmp_path.rglob("*.json"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RLCondenseError, match="cannot write to the results folder"):
        quick(blocked)


def test_measured_values_are_all_that_two_equal_runs_may_differ_in(tmp_path: Path) -> None:
    a, b = (quick(tmp_path / n, references=False).record for n in "ab")
    assert MEASURED == ("timings", "memory", "content_sha256")
    assert a["content_sha256"] == b["content_sha256"]
    for record in (a, b):
        del record["timings"], record["memory"]
    assert a == b


def unmoved(**options: Any) -> RunResult:
    """A plugin's method that gives real frames as its own work, and reports nothing."""
    catalogue.register("methods", "tests/unmoved", "tests.methods.test_detectors:Unmoved")
    return quick(method="tests/unmoved", references=False, **options)


def found(part: dict[str, Any]) -> list[str]:
    return [finding["name"] for finding in part["findings"]]


def test_records_say_what_detectors_found_in_sets_and_students(tmp_path: Path) -> None:
    untaught = {**QUICK["learner_settings"], "learning_rate": 1e-9}
    record = unmoved(results=tmp_path, learner_settings=untaught).record
    assert found(record["report"]) == ["moved-nothing"]
    assert found(record) == ["constant-student"]
    assert record["findings"][0]["measured"] < record["findings"][0]["bound"]
    assert what_is_wrong(record) is None
    assert Store(tmp_path).read_record(record["cell_id"]) == record
    taught = {**QUICK["learner_settings"], "updates": 30, "learning_rate": 0.01}
    good = quick(tmp_path, references=False, learner_settings=taught).record
    assert (found(good["report"]), found(good)) == ([], [])


def test_condense_ends_with_what_was_found(tmp_path: Path) -> None:
    catalogue.register("methods", "tests/unmoved", "tests.methods.test_detectors:Unmoved")
    command = ["condense", "--dataset", TINY, "--size", "5", "--out"]
    said = CliRunner().invoke(main, [*command, str(tmp_path / "c"), "--method", "tests/unmoved"])
    assert said.output.splitlines()[-1].startswith("! moved nothing: 0 grey levels on average from")
    said = CliRunner().invoke(main, [*command, str(tmp_path / "d"), "--method", "random"])
    assert said.output.splitlines()[-1].startswith("5 transitions")


def test_a_set_from_elsewhere_is_looked_at_whatever_it_says(tmp_path: Path) -> None:
    unmoved(results=tmp_path)
    (made,) = (tmp_path / "condensed").iterdir()
    report = read_json(made / "report.json")
    learner = make_learner("bc", **QUICK["learner_settings"])
    bench = make_bench(
        "starpilot", TINY, download=False, learner=learner, seeds=1, episodes=2, device="cpu",
        results=tmp_path, refresh=True, progress=silent,
    )  # fmt: skip

    def looked_at(said: dict[str, Any]) -> list[str]:
        write_json(made / "report.json", said)
        row = artifact_row(bench, made)
        record = row.compute(bench).record
        assert what_is_wrong(record) is None
        return found(record["report"])

    assert found(report) == ["moved-nothing"]
    assert looked_at({**report, "findings": []}) == ["moved-nothing"]
    assert looked_at({"label_kind": "hard"}) == ["moved-nothing"]
    # Of what it was condensed from nothing is known here.
    assert looked_at({**report, "dataset_sha256": "0" * 64}) == []


WITH_EXPERT = """
from rlcondense.methods.hades import HadesR


class Taught(HadesR):
    id = "taught-by"
    needs = frozenset({"expert"})
"""


def test_an_expert_that_a_cell_cannot_name_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "taught_by.py"
    plugin.write_text(WITH_EXPERT)
    catalogue.register("methods", "taught-by", f"{plugin}:Taught")
    small = {"population": 2, "generations": 1, "width": 4, "inner_updates": 1, "horizon": 5}
    options: dict[str, Any] = {
        "size": 2, "seeds": 1, "episodes": 2, "condensations": 1, "settings": small,
        "learner_settings": {"updates": 2, "width": 8}, "references": False, "device": "cpu",
        "results": tmp_path / "r",
    }  # fmt: skip
    made_by = "rlcondense.tasks.gymnasium:GymnasiumTask"
    catalogue.register("tasks", "tests/without-data-v0", made_by, env="CartPole-v1")
    other, network = tmp_path / "other", load_expert("classic/cartpole-v0").network
    save_expert("classic/cartpole-v0", network, {}, other)
    with pytest.raises(BadConfig, match="tests/without-data-v0 has no expert of its own"):
        run("taught-by", "tests/without-data-v0", expert=other, **options)


WITH_TUPLES = """
from rlcondense.methods.random import Random


class Needing(Random):
    id = "needing"
    needs = ("rewards",)


class Giving(Random):
    id = "giving"
    gives = ("observations", "actions")
"""


@pytest.mark.parametrize("name", ["Needing", "Giving"])
def test_needs_and_columns_may_be_tuples(name: str, tmp_path: Path) -> None:
    plugin = tmp_path / "tuples.py"
    plugin.write_text(WITH_TUPLES)
    catalogue.register("methods", name.lower(), f"{plugin}:{name}")
    result = balance(tmp_path / "r", name.lower(), condensations=1, references=False)
    assert result.record["status"] == "done"
