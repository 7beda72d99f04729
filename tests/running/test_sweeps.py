"""Sweeps: nothing finished is lost or computed twice, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlcondense.catalogue import register
from rlcondense.cli import main
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError, UnknownName
from rlcondense.policies import load_policies
from rlcondense.records.cell import Cell
from rlcondense.records.store import Store
from rlcondense.running.compute import run_cell
from rlcondense.running.dispatch import MOST_LOSSES, Dispatch
from rlcondense.running.estimate import Estimate, Rates
from rlcondense.running.executors import local
from rlcondense.running.executors.base import Event
from rlcondense.running.outcomes import code_of, write_failure
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Planned
from rlcondense.running.states import State, dry_run, time_left
from rlcondense.running.suite import load_suite
from rlcondense.running.sweep import sweep
from rlcondense.running.watcher import Silent
from tests.conftest import TINY
from tests.running.processes import children

SETTINGS = 'network = "mlp", width = 8, updates = 2, batch_size = 64'
LEARNER = f'learners = [{{ id = "bc", config = {{ {SETTINGS} }} }}]'
HEAD = f"""
tasks = ["starpilot"]
datasets = ["{TINY}"]
{LEARNER}
learner_seeds = 2
episodes = 4
"""
GRADMATCH = (
    '{ id = "gradmatch", config = { preset = "per-class", network = "compact", iterations = 2, '
    "real_batch = 4 } }"
)
FAULTY = """
import os, signal, time
from dataclasses import dataclass
from rlcondense.methods.base import Condensation, Method, Problem, select


@dataclass(frozen=True)
class OddConfig:
    iterations: int | None = None
    updates: str = "many"


class Boom(Method):
    def _condense(self, problem: Problem) -> Condensation:
        raise RuntimeError("boom")


class Killed(Method):
    def _condense(self, problem: Problem) -> Condensation:
        os.kill(os.getpid(), signal.SIGKILL)


class Forks(Method):
    def _condense(self, problem: Problem) -> Condensation:
        if os.fork() == 0:  # and keeps all that is open open
            time.sleep(120)
        os.kill(os.getpid(), signal.SIGKILL)


class Odd(Method):
    Config = OddConfig

    def _condense(self, problem: Problem) -> Condensation:
        return Fine._condense(self, problem)


class Fine(Method):
    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.rng().permutation(len(problem.dataset))
        return select(problem.dataset, rows[: problem.size])
"""


@pytest.fixture(autouse=True)
def _dataset(tiny: TransitionDataset) -> None:
    """The small dataset is there."""


def suite_file(folder: Path, body: str) -> Path:
    file = folder / "small.toml"
    file.write_text(HEAD + body)
    return file


SMALL = f'methods = ["random", {GRADMATCH}, "bc-25"]\nsizes = [10, 12]\n'
CELLS = 10  # of SMALL: two policies, random and gradmatch twice, bc-25 and its random, full twice


def command(suite: Path, results: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "tests.without_experts", "sweep", str(suite),
        "--results", str(results), *options,
    ]  # fmt: skip


def run(suite: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(suite, results, *options), capture_output=True, text=True, timeout=300, check=False
    )


def look(name: str, suite: Path, results: Path, *options: str) -> Result:
    """Run a command that computes nothing, in this process: another one takes seconds to start."""
    return CliRunner().invoke(main, [name, str(suite), "--results", str(results), *options])


def contents(results: Path) -> dict[str, str]:
    """What records say apart from what was measured by the clock."""
    records = [json.loads(path.read_text()) for path in results.glob("records/*.json")]
    return {record["cell_id"]: record["content_sha256"] for record in records}


def stamps(results: Path) -> dict[Path, tuple[int, int]]:
    """When each finished thing was written: never again, if nothing is done twice."""
    finished = [*results.glob("records/*.json"), *results.glob("condensed/*/made_from.json")]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in finished}


def journal(results: Path) -> list[str]:
    lines = (results / "sweeps" / "small.log").read_text().splitlines()
    return [json.loads(line)["cell"] for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny: TransitionDataset) -> Path:
    """A sweep that nothing happened to: its results folder, beside its suite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(suite_file(folder, SMALL), folder / "results", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert f"{CELLS} done; {CELLS} computed" in done.stdout
    assert "Traceback" not in done.stderr
    return folder / "results"


def test_a_sweep_computes_every_cell_once_and_reads_it_back(undisturbed: Path) -> None:
    suite = undisturbed.parent / "small.toml"
    assert len(contents(undisturbed)) == CELLS
    assert sorted(journal(undisturbed)) == sorted(contents(undisturbed))
    before = stamps(undisturbed)
    again = run(suite, undisturbed)
    assert again.returncode == 0
    assert f"{CELLS} done; 0 computed" in again.stdout
    assert stamps(undisturbed) == before
    assert not list(undisturbed.glob("locks/*"))
    # Two of a size, and each beside the random subset of its size.
    lines = again.stdout.splitlines()
    names = [line.split()[0] for line in lines if line[:1].isalpha() and "." in line]
    assert names.count("gradmatch") == 2
    assert names.count("random") == 3


def test_status_says_where_everything_stands_and_what_it_cost(undisturbed: Path) -> None:
    suite = undisturbed.parent / "small.toml"
    out = json.loads(look("status", suite, undisturbed, "--json").stdout)
    assert out["counts"] == {"done": CELLS}
    costs = {row["method"]: row for row in out["costs"]}
    assert costs["gradmatch"]["cells"] == costs["gradmatch"]["condensations"] == 2
    assert costs["gradmatch"]["condense_gradients"] > 0
    assert costs["random"]["train_gradients"] == 3 * 2 * 2 * 64
    for row in costs.values():
        assert row["evaluate_seconds"] > 0
        assert row["evaluate_steps"] > 0
        assert row["cpu_seconds"] > 0
        assert row["peak_bytes"] > 1e8
        assert row["gpu_seconds"] == 0


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    suite = suite_file(tmp_path, SMALL)
    done = look("sweep", suite, tmp_path / "results", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.count("missing") == CELLS + 1  # and the line that counts them
    assert not (tmp_path / "results").exists()
    refused = look("sweep", suite, tmp_path / "results", "--dry-run", "--workers", "0")
    assert refused.exit_code == 2
    assert "workers must be at least 1" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("count", [10])
def test_whatever_is_killed_a_sweep_goes_on_and_ends_the_same(
    tmp_path: Path, undisturbed: Path, count: int
) -> None:
    suite, results, rng = suite_file(tmp_path, SMALL), tmp_path / "0", random.Random(count)
    written: dict[Path, tuple[int, int]] = {}
    kills, folders = 0, 0
    while kills < count:
        whom = ("all", "driver", "worker")[kills % 3]
        with subprocess.Popen(
            command(suite, results, "--workers", "2"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as driver:  # fmt: skip
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(rng.uniform(4.0, 10.0))
            workers = children(driver.pid)
            if driver.poll() is None and workers:
                kills += 1
                if whom != "worker":
                    driver.kill()
                for pid in workers if whom == "all" else workers[:1] if whom == "worker" else []:
                    os.kill(pid, signal.SIGKILL)
            driver.wait(120)
        wait_for_the_end_of(workers)  # those whose driver is gone finish their cell
        assert_kept(results, written)
        written = stamps(results)
        assert {status_of(path) for path in results.glob("records/*.json")} <= {"done"}
        if len(contents(results)) == CELLS:  # nothing left to disturb: once more from the start
            assert contents(results) == contents(undisturbed)
            folders += 1
            results, written = tmp_path / str(folders), {}
    done = run(suite, results, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert_kept(results, written)
    assert contents(results) == contents(undisturbed)
    counted = journal(results)
    assert len(counted) == len(set(counted))
    assert condensed(results) == condensed(undisturbed)


def assert_kept(results: Path, written: dict[Path, tuple[int, int]]) -> None:
    now = stamps(results)
    for path, stamp in written.items():
        assert now[path] == stamp, f"{path} was written twice"


def status_of(record: Path) -> str:
    return str(json.loads(record.read_text())["status"])


def condensed(results: Path) -> dict[str, bytes]:
    files = results.glob("condensed/*/condensed.safetensors")
    return {path.parent.name: path.read_bytes() for path in files}


def wait_for_the_end_of(pids: Sequence[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its driver and its cell"
        time.sleep(0.1)


@pytest.mark.slow
def test_two_drivers_on_one_store_share_the_work(tmp_path: Path, undisturbed: Path) -> None:
    suite, results = suite_file(tmp_path, SMALL), tmp_path / "results"
    drivers = [
        subprocess.Popen(
            command(suite, results, "--workers", "1"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [driver.communicate(timeout=300)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    computed = [int(out.split(" computed in")[0].split()[-1]) for out in outputs]
    assert sum(computed) == CELLS
    assert min(computed) > 0
    assert sorted(journal(results)) == sorted(contents(results))
    assert contents(results) == contents(undisturbed)


@pytest.mark.slow
def test_shards_together_are_the_whole(tmp_path: Path, undisturbed: Path) -> None:
    suite, results = suite_file(tmp_path, SMALL), tmp_path / "results"
    for shard in ("1/2", "2/2"):
        assert run(suite, results, "--shard", shard, "--workers", "1").returncode == 0
    assert contents(results) == contents(undisturbed)
    assert sorted(journal(results)) == sorted(contents(results))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_core_gives_the_bytes_of_all_cores(
    tmp_path: Path, undisturbed: Path, workers: str
) -> None:
    suite, results = suite_file(tmp_path, SMALL), tmp_path / "results"
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        command(suite, results, "--workers", workers), capture_output=True, text=True, timeout=300,
        check=False, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert contents(results) == contents(undisturbed)


@pytest.mark.slow
def test_run_gives_the_bytes_of_a_sweep(tmp_path: Path, undisturbed: Path) -> None:
    ours = [
        sys.executable, "-m", "rlcondense.cli", "run", "--method", "random", "--task", "starpilot",
        "--dataset", TINY, "--size", "10", "--seeds", "2", "--episodes", "4", "--condensations",
        "1", "--set", "learner.network=mlp", "--set", "learner.width=8", "--set",
        "learner.updates=2", "--set", "learner.batch_size=64", "--results",
        str(tmp_path / "results"),
    ]  # fmt: skip
    done = subprocess.run(ours, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    again = contents(tmp_path / "results")
    shared = again.keys() & contents(undisturbed).keys()
    assert len(shared) >= 3  # the random subset and two policies
    assert {cell: again[cell] for cell in shared} == {
        cell: contents(undisturbed)[cell] for cell in shared
    }


def test_one_failed_cell_never_stops_the_rest(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    body = 'methods = ["boom", "killed", "fine", "nobodys"]\nsizes = [10]\nreferences = false\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    include = ("--include", str(tmp_path / "faulty.py"))
    done = run(suite, results, "--workers", "1", *include)
    assert done.returncode == 1
    assert "boom 10 bc seed 0: failed (RuntimeError: boom)" in done.stderr
    assert "ended by signal SIGKILL; it is begun again" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "1 done, 2 failed, 1 not-installed" in done.stdout
    failed = [
        record
        for path in results.glob("records/*.json")
        if (record := json.loads(path.read_text()))["status"] == "failed"
    ]
    assert {r["cell"]["method"]["id"] for r in failed} == {"boom", "killed"}
    boom = next(r for r in failed if r["cell"]["method"]["id"] == "boom")
    assert "_condense" in boom["traceback"]


@pytest.mark.slow
def test_what_failed_is_computed_again_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    body = 'methods = ["boom", "killed", "fine", "nobodys"]\nsizes = [10]\nreferences = false\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    include = ("--include", str(tmp_path / "faulty.py"))
    assert run(suite, results, "--workers", "1", *include).returncode == 1
    before = stamps(results)
    mended = FAULTY.replace('raise RuntimeError("boom")', "return Fine._condense(self, problem)")
    (tmp_path / "faulty.py").write_text(mended)
    only = run(suite, results, "--only", "missing", "--workers", "1", *include)
    assert only.returncode == 1  # what failed has failed, still
    assert stamps(results) == before
    options = ("--only", "failed", "--max-failures", "5", "--workers", "1")
    again = run(suite, results, *options, *include)
    assert "2 done, 1 failed, 1 not-installed; 2 computed" in again.stdout


@pytest.mark.slow
def test_two_drivers_compute_a_failing_cell_once(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    body = 'methods = ["boom"]\nsizes = [10, 11, 12, 13]\nreferences = false\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    options = ("--include", str(tmp_path / "faulty.py"), "--workers", "1")
    drivers = [
        subprocess.Popen(
            command(suite, results, *options), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for driver in drivers:
        driver.communicate(timeout=200)
    assert [driver.returncode for driver in drivers] == [1, 1]
    kept = [json.loads(path.read_text()) for path in (results / "records").glob("*.json")]
    assert [record["status"] for record in kept] == ["failed"] * 4
    # What failed before a driver plans is tried again: one may start some cells after the other.
    assert 4 <= len(journal(results)) < 8


@pytest.mark.slow
def test_what_a_dead_worker_leaves_behind_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    body = 'methods = ["forks", "odd"]\nsizes = [10]\nreferences = false\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    started = time.monotonic()
    done = run(suite, results, "--include", str(tmp_path / "faulty.py"), "--workers", "1")
    assert time.monotonic() - started < 100
    assert "1 done, 1 failed" in done.stdout, done.stderr
    assert not Store(results).running()


@pytest.mark.slow
def test_a_worker_that_dies_idle_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        FAULTY.replace("class Boom", "class Slow").replace(
            'raise RuntimeError("boom")',
            "time.sleep(8); return Fine._condense(self, problem)",
        )
    )
    body = 'methods = ["slow", "fine"]\nsizes = [10]\nreferences = false\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    options = ("--include", str(tmp_path / "slow.py"), "--workers", "2")
    ours = command(suite, results, *options)
    with subprocess.Popen(
        ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stderr is not None
        assert driver.stdout is not None
        for line in driver.stderr:
            if "fine" in line:
                break
        first, second = sorted(children(driver.pid))
        os.kill(second, signal.SIGKILL)  # it was given the second cell, and has nothing more to do
        driver.stderr.read()
        assert "2 done; 2 computed" in driver.stdout.read()
    assert driver.returncode == 0
    assert first


def test_workers_that_cannot_start_fail_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "WORKER", "raise SystemExit('no such thing')")
    suite = load_suite(str(suite_file(tmp_path, SMALL)))
    with pytest.raises(RLCondenseError, match=r"workers cannot start: .*no such thing"):
        sweep(suite, results=tmp_path / "r", workers=1)
    assert not contents(tmp_path / "r")


@pytest.mark.slow
def test_a_worker_has_a_session_and_yields_in_it_as_its_driver_does(tmp_path: Path) -> None:
    """Linux shares a core out between sessions first, where it has autogroups."""
    monitor = (
        "import os, sys; from pathlib import Path; "
        "from rlcondense.running.executors.base import Setting; "
        "from rlcondense.running.executors.local import LocalExecutor; "
        "from rlcondense.records.store import Store; "
        "executor = LocalExecutor(Setting(Store(Path(sys.argv[1])), 'cpu', 1)); "
        "worker = executor._start(); executor.events(60.0); pid = worker.process.pid; "
        "group = Path(f'/proc/{pid}/autogroup'); "
        "yields = group.read_text().split()[-1] if group.exists() else os.nice(0); "
        "print(os.getsid(pid) == pid, yields); "
        "executor.close()"
    )
    done = subprocess.run(
        ["nice", "-n", "3", sys.executable, "-c", monitor, str(tmp_path / "r")],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stdout.split() == ["True", str(min(19, os.nice(0) + 3))], done.stderr


@pytest.mark.slow
def test_what_lies_in_the_working_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    file = suite_file(tmp_path, 'methods = ["random"]\nsizes = [10]\nreferences = false\n')
    script = Path(sys.executable).with_name("rlcondense")
    done = subprocess.run(
        [script, "sweep", file.name, "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_cell_whose_workers_die_waits_for_whoever_computes_it(tmp_path: Path) -> None:
    suite = load_suite(str(suite_file(tmp_path, 'methods = ["random"]\nsizes = [10]\n')))
    store = Store(tmp_path / "r")
    planned = plan_suite(suite, store.look)
    going = Dispatch(
        make_plan=lambda: planned, store=store, watcher=Silent(), wanted=lambda state: True,
        rates=Rates((), "cpu"), device="cpu",
    )  # fmt: skip
    going.plan()
    first = going.queue.popleft()
    for _ in range(MOST_LOSSES):
        going.at[first.id] = first
        with store.lock(first.id) if going.losses[first.id] else contextlib.nullcontext():
            going._heard(Event(first.id, "lost", text="it was ended"))
    assert going.queue[-1] == first
    assert first.id in going.held
    assert (going.failed, store.read_record(first.id)) == (0, None)


def test_what_is_done_is_not_undone_by_who_cannot_do_it(undisturbed: Path, tmp_path: Path) -> None:
    results = tmp_path / "r"
    shutil.copytree(undisturbed, results)
    store, before = Store(results), stamps(results)
    for path in results.glob("records/*.json"):
        cell = Cell.from_json(json.loads(path.read_text())["cell"])

        def gone(name: str) -> TransitionDataset:
            raise UnknownName("dataset", name, [])

        record = run_cell(cell, dataset=gone, store=store, device="cpu").record
        assert record["status"] == "done"
        assert write_failure(cell, "it died", store, "cpu")["status"] == "done"
    assert stamps(results) == before


def test_refresh_is_of_everything(undisturbed: Path) -> None:
    suite = undisturbed.parent / "small.toml"
    done = look("sweep", suite, undisturbed, "--dry-run", "--refresh")
    assert f"{CELLS} missing" in done.stdout
    both = look("sweep", suite, undisturbed, "--refresh", "--only", "failed")
    assert both.exit_code == 2
    assert "leave out only" in both.stderr


@pytest.mark.slow
def test_a_sweep_stops_at_the_failures_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    body = 'methods = ["boom"]\nsizes = [10, 11, 12, 13]\n'
    suite, results = suite_file(tmp_path, body), tmp_path / "results"
    options = ("--include", str(tmp_path / "faulty.py"), "--workers", "1", "--stop-on-error")
    done = run(suite, results, *options)
    assert done.returncode == 1
    assert "ended early because of failures" in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.slow
def test_what_a_learner_cannot_learn_is_skipped_and_recorded(tmp_path: Path) -> None:
    body = f"methods = [{GRADMATCH}]\nsizes = [10]\n"
    file = suite_file(tmp_path, body)
    file.write_text(file.read_text().replace(LEARNER, 'learners = ["dqn"]'))
    done = run(file, tmp_path / "results", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "skipped (needs rewards, next_observations, terminations)" in done.stdout
    assert "3 done, 1 skipped" in done.stdout
    again = run(file, tmp_path / "results", "--workers", "1")
    assert "3 done, 1 skipped; 0 computed" in again.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_all_that_is_finished(tmp_path: Path, undisturbed: Path) -> None:
    suite, results = suite_file(tmp_path, SMALL), tmp_path / "results"
    ours = command(suite, results, "--workers", "2")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
    with subprocess.Popen(ours, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        for line in driver.stderr:
            if line.startswith("[2/"):
                break
        workers = children(driver.pid)
        driver.send_signal(signal.SIGINT)
        rest = driver.stderr.read()
        assert driver.wait(60) == 130
    assert "Traceback" not in rest
    assert "what is finished is kept" in rest
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert not list(results.rglob("*.tmp"))
    before = stamps(results)
    assert 2 <= len(contents(results)) < CELLS
    assert run(suite, results).returncode == 0
    assert all(stamps(results)[path] == stamp for path, stamp in before.items())
    assert contents(results) == contents(undisturbed)


@pytest.mark.slow
def test_records_that_cannot_be_read_are_told_and_the_rest_goes_on(
    tmp_path: Path, undisturbed: Path
) -> None:
    suite, results = suite_file(tmp_path, SMALL), tmp_path / "results"
    shutil.copytree(undisturbed, results)
    corrupt, foreign, gone, *_ = sorted(results.glob("records/*.json"))
    corrupt.write_text(corrupt.read_text()[:100])
    foreign.write_text(json.dumps({**json.loads(foreign.read_text()), "schema_version": 99}))
    kept = foreign.read_text()
    gone.unlink()
    done = run(suite, results)
    assert done.returncode == 1
    assert f"{corrupt} is not readable JSON" in done.stderr
    assert "it is computed again" in done.stderr
    assert f"{foreign} was written by another version of rlcondense (schema 99" in done.stderr
    assert f"{CELLS - 1} done, 1 failed" in done.stdout
    assert foreign.read_text() == kept
    assert {**contents(undisturbed), foreign.stem: ""} == {**contents(results), foreign.stem: ""}
    anew = run(suite, results, "--refresh")
    assert anew.returncode == 0, anew.stderr
    assert f"{CELLS} done; {CELLS} computed" in anew.stdout
    assert contents(results) == contents(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few hundred kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_rest_goes_on(
    tmp_path: Path, small_disk: Path, undisturbed: Path
) -> None:
    suite, results = suite_file(tmp_path, SMALL), small_disk / "results"
    done = run(suite, results, "--workers", "2")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    there = contents(results)
    assert 2 <= len(there) < CELLS or "failed" in done.stdout
    assert "done" in done.stdout
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    done = run(suite, results, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert contents(results) == contents(undisturbed)


@pytest.mark.slow
def test_a_read_only_store_can_be_looked_at(
    tmp_path: Path, small_disk: Path, undisturbed: Path
) -> None:
    suite, results = undisturbed.parent / "small.toml", small_disk / "results"
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    shutil.copytree(undisturbed, results)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run(suite, results)
    assert done.returncode == 2
    assert "cannot write to the results folder" in done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{CELLS} done" in look("status", suite, results).stdout
    assert look("sweep", suite, results, "--dry-run").exit_code == 0


class Watching:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.begun = 0

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        self.begun = todo

    def at(self, worker: int, planned: Planned, text: str) -> None:
        self.said.append(f"at {text}")

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        self.said.append(f"ended {status}, {left.cells} left")

    def notice(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.slow
def test_from_python_without_a_guard_and_with_policies_kept(tmp_path: Path) -> None:
    suite = load_suite(str(suite_file(tmp_path, 'methods = ["random"]\nsizes = [10]\n')))
    watching = Watching()
    result = sweep(suite, results=tmp_path / "r", workers=1, keep_policies=True, watcher=watching)
    assert result.counts() == {"done": 5}
    assert watching.begun == 5
    assert "ended done, 0 left" in watching.said
    kept = list((tmp_path / "r" / "policies").iterdir())
    assert len(kept) == 3  # of random and of full twice: those beside them are not trained here
    assert load_policies(kept[0]).num_policies == 2
    for folder in kept:
        shutil.rmtree(folder)
    sweep(suite, results=tmp_path / "r", workers=1, keep_policies=True, watcher=watching)
    assert "no policies are kept of 3 done before (--refresh)" in watching.said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["done"]}, "only takes failed, missing"),
        ({"shard": (0, 2)}, "a shard is one of 1/n to n/n"),
        ({"shard": (3, 2)}, "a shard is one of 1/n to n/n"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"max_failures": 0}, "max failures must be at least 1"),
        ({"executor": "slurm"}, "executor must be local or ray"),
        ({"address": "auto"}, "an address is for --executor ray"),
        ({"gpus": 0.5}, "--gpus is for --executor ray"),
        ({"executor": "ray", "gpus": float("nan")}, "gpus must be above 0"),
        ({"executor": "ray", "gpus": 0.5, "device": "cpu"}, "--device cpu uses none"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    suite = load_suite(str(suite_file(tmp_path, 'methods = ["random"]\n')))
    with pytest.raises(BadConfig, match=message):
        sweep(suite, results=tmp_path / "r", **options)


@pytest.mark.slow
def test_cells_of_a_method_that_has_changed_since_are_named(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    suite = suite_file(tmp_path, 'methods = ["fine"]\nsizes = [10]\nreferences = false\n')
    options = ("--include", str(tmp_path / "faulty.py"), "--workers", "1")
    assert run(suite, tmp_path / "results", *options).returncode == 0
    assert "other code" not in look("sweep", suite, tmp_path / "results", *options).stderr
    (tmp_path / "faulty.py").write_text(f"{FAULTY}\n# Something else.\n")
    again = look("sweep", suite, tmp_path / "results", *options)
    assert "0 computed" in again.stdout
    assert "1 cell was made by other code of task, method or learner (--refresh" in again.stderr


def test_only_failed_cells_wait_for_nobody(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path, 'methods = ["random"]\nreferences = false\n'))
    store = Store(tmp_path / "r")
    [cell] = [p.cell for p in plan_suite(suite, store.look) if p.cell is not None]
    with store.lock(cell.id):
        result = sweep(suite, results=tmp_path / "r", only=("failed",), workers=1)
    assert (result.computed, result.counts()) == (0, {"running": 1})


def test_the_code_of_a_registered_task_is_known_by_its_settings() -> None:
    cells = []
    for mass in (0.8, 1.5):
        register(
            "tasks", "tests/heavy-v0", "rlcondense.tasks.gymnasium:GymnasiumTask",
            env="CartPole-v1", physics={"masscart": mass},
        )  # fmt: skip
        parts = {"learner": {"id": "bc"}, "method": {"id": "random"}}
        cell: Any = SimpleNamespace(task="tests/heavy-v0", **parts)
        cells.append(code_of(cell))
    assert cells[0]["source_sha256"] == cells[1]["source_sha256"]
    assert cells[0]["task_config"] != cells[1]["task_config"]


def test_a_dry_run_refuses_what_the_sweep_would(tmp_path: Path) -> None:
    suite = suite_file(tmp_path, 'methods = ["random"]\n')
    for wrong in (["--max-failures", "0"], ["--executor", "slurm"], ["--gpus", "2"]):
        done = look("sweep", suite, tmp_path / "r", "--dry-run", *wrong)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), wrong


def test_a_refreshed_cell_whose_workers_die_does_not_keep_its_old_record(
    undisturbed: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r"
    shutil.copytree(undisturbed, results)
    suite, store = load_suite(str(undisturbed.parent / "small.toml")), Store(results)
    planned = plan_suite(suite, store.look)
    going = Dispatch(
        make_plan=lambda: planned, store=store, watcher=Silent(), wanted=lambda state: True,
        rates=Rates((), "cpu"), device="cpu", refresh=True,
    )  # fmt: skip
    going.plan()
    first = going.queue.popleft()
    assert first.cell is not None
    assert going.stamps[first.id]
    for _ in range(MOST_LOSSES):
        going.at[first.id] = first
        going._heard(Event(first.id, "lost", text="it was ended"))
    record = store.read_record(first.id)
    assert record is not None
    assert (going.failed, record["status"], record["reason"]) == (1, "failed", "it was ended")
    assert first.cell.condensation_id not in going.condensed


def test_what_a_refresh_takes_is_estimated_with_the_sets_that_are_there(undisturbed: Path) -> None:
    store = Store(undisturbed)
    states = dry_run(load_suite(str(undisturbed.parent / "small.toml")), store, refresh=True)
    left = {r: time_left(states, store, "cpu", r).seconds for r in (False, True)}
    assert left[True] > left[False] > 0


@pytest.mark.slow
def test_a_damaged_plan_is_not_called_missing(undisturbed: Path, tmp_path: Path) -> None:
    results, suite = tmp_path / "r", undisturbed.parent / "small.toml"
    shutil.copytree(undisturbed, results)
    (results / "sweeps" / "small.json").write_text("{")
    status = command(suite, results)
    status[3] = "status"
    done = subprocess.run(status, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "small.json" in done.stderr
    assert "writes the plan anew" in done.stderr


def test_numbers_of_a_sweep_are_of_every_episode(undisturbed: Path) -> None:
    suite = load_suite(str(undisturbed.parent / "small.toml"))
    done = sweep(suite, results=undisturbed)
    by_cell = {record["cell_id"]: record for record in done.every_record()}
    assert len(by_cell) == CELLS
    stored = Store(undisturbed)
    assert all(stored.read_record(cell_id) == record for cell_id, record in by_cell.items())


@pytest.mark.slow
def test_a_sweep_that_was_at_its_end_did_not_end_early(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    suite = suite_file(tmp_path, 'methods = ["boom"]\nsizes = [10]\nreferences = false\n')
    options = ("--include", str(tmp_path / "faulty.py"), "--workers", "1", "--stop-on-error")
    done = run(suite, tmp_path / "results", *options)
    assert done.returncode == 1
    assert "1 failed; 1 computed" in done.stdout
    assert "ended early" not in done.stdout


def test_a_suite_whose_excludes_leave_nothing_says_so(tmp_path: Path) -> None:
    body = (
        'methods = ["random"]\nsizes = [10]\nreferences = false\n[[exclude]]\nmethod = "random"\n'
    )
    done = look("sweep", suite_file(tmp_path, body), tmp_path / "r", "--dry-run")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "its excludes leave no cell" in done.stderr
