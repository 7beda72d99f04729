"""Ray as the executor: a real local cluster of two nodes, one of which is lost."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, MissingExtra
from rlcondense.records.store import Store
from rlcondense.running.dispatch import Dispatch
from rlcondense.running.estimate import Rates
from rlcondense.running.executors.base import Setting
from rlcondense.running.executors.ray import RayExecutor
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Planned
from rlcondense.running.suite import load_suite
from rlcondense.running.sweep import sweep
from rlcondense.running.watcher import Silent
from tests.running.test_sweeps import contents, journal, stamps, suite_file

pytest.importorskip("ray")

BODY = 'methods = ["random", "bc-25"]\nsizes = [10, 12, 14, 16]\n'
CELLS = 11  # three policies, random four times, bc-25 and its random, full twice
# A cluster of a head node without a place for tasks, and two nodes with one each. The second is
# killed once something has been finished.
CLUSTER = """
import json, subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

results = Path(sys.argv[-1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **MEMORY})
first, second = cluster.add_node(num_cpus=1, **MEMORY), cluster.add_node(num_cpus=1, **MEMORY)
cluster.wait_for_nodes()
driver = subprocess.Popen([*sys.argv[1:-1], "--address", cluster.address])
lost = 0
while driver.poll() is None:
    if KILL and not lost and len(list(results.glob("records/*.json"))) >= 2:
        cluster.remove_node(second, allow_graceful=False)
        lost += 1
        if KILL == "both":
            cluster.remove_node(first, allow_graceful=False)
            lost += 1
            time.sleep(40)  # Ray takes a while to miss them
            cluster.add_node(num_cpus=1, **MEMORY)
    time.sleep(0.05)
print("nodes lost:", lost)
cluster.shutdown()
sys.exit(driver.returncode)
"""
MEMORY = 'MEMORY = {"object_store_memory": 200_000_000}\n'


@pytest.fixture(autouse=True)
def _dataset(tiny: TransitionDataset) -> None:
    """The small dataset is there."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny: TransitionDataset) -> Path:
    """The same suite by worker processes."""
    folder = tmp_path_factory.mktemp("local")
    result = sweep(load_suite(str(suite_file(folder, BODY))), results=folder / "r", workers=1)
    assert result.counts() == {"done": CELLS}
    return folder / "r"


def on_a_cluster(suite: Path, results: Path, kill: str) -> subprocess.CompletedProcess[str]:
    driver = [sys.executable, "-m", "rlcondense.cli", "sweep", str(suite), "--executor", "ray"]
    script = f"KILL = {kill!r}\n{MEMORY}{CLUSTER}"
    return subprocess.run(
        [sys.executable, "-c", script, *driver, "--results", str(results), str(results)],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["one", "both"])
def test_a_sweep_survives_the_loss_of_nodes(tmp_path: Path, local: Path, kill: str) -> None:
    suite, results = suite_file(tmp_path, BODY), tmp_path / "r"
    done = on_a_cluster(suite, results, kill)
    assert done.returncode == 0, done.stderr
    assert f"nodes lost: {1 if kill == 'one' else 2}" in done.stdout
    assert ("waiting for one" in done.stderr) == (kill == "both")
    assert f"{CELLS} done; {CELLS} computed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert contents(results) == contents(local)
    assert sorted(journal(results)) == sorted(contents(results))
    assert not list(results.glob("locks/*"))
    condensed, theirs = (
        {p.name: (p / "condensed.safetensors").read_bytes() for p in root.glob("condensed/*")}
        for root in (results, local)
    )
    assert condensed == theirs
    assert condensed


@pytest.mark.slow
def test_ray_on_this_machine_takes_up_what_is_there_and_includes_files(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        "import os, signal\n"
        "from rlcondense.methods.base import Method, Problem, select\n"
        "class Boom(Method):\n"
        "    def _condense(self, problem):\n"
        "        raise RuntimeError('boom')\n"
        "class Killed(Method):\n"
        "    def _condense(self, problem):\n"
        f"        with open({str(tmp_path / 'begun')!r}, 'a') as file:\n"
        "            print('once more', file=file)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "class Leaves(Method):\n"
        "    def _condense(self, problem):\n"
        "        raise SystemExit('bye')\n"
        "class Fine(Method):\n"
        "    def _condense(self, problem):\n"
        "        return select(problem.dataset, problem.rng().permutation(30)[: problem.size])\n"
    )
    body = 'methods = ["random", "fine", "boom", "killed", "leaves"]\nsizes = [10]\n'
    suite = suite_file(tmp_path, body)
    command = [sys.executable, "-m", "rlcondense.cli", "sweep", str(suite), "--executor", "ray"]
    command += ["--results", str(tmp_path / "r"), "--include", str(tmp_path / "faulty.py")]
    command += ["--workers", "2", "--keep-policies"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "boom 10 bc seed 0: failed (RuntimeError: boom)" in done.stderr
    assert "leaves 10 bc seed 0: failed (method 'leaves' called sys.exit('bye')" in done.stderr
    assert "killed 10 bc seed 0: failed (its worker process was ended" in done.stderr
    assert (tmp_path / "begun").read_text().count("once more") == 2
    assert "7 done, 3 failed; 10 computed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert len(list((tmp_path / "r" / "policies").iterdir())) == 4
    before = stamps(tmp_path / "r")
    again = subprocess.run(
        [*command, "--only", "missing"], capture_output=True, text=True, timeout=300, check=False
    )
    assert "0 computed" in again.stdout
    assert stamps(tmp_path / "r") == before


def test_an_address_is_not_ignored_where_ray_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    setting: Any = None
    with pytest.raises(BadConfig, match="at work in this process already: 'head:6379' is not"):
        RayExecutor(setting, "head:6379")


def test_without_an_address_no_cluster_of_this_machine_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        asked.append(options)
        raise ConnectionError("none")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    for address in (None, "auto"):
        with pytest.raises(BadConfig, match=f"no Ray cluster at '{address or 'local'}': none"):
            RayExecutor(Setting(Store(tmp_path), "cpu", workers=2), address)
    assert [(of["address"], of["num_cpus"]) for of in asked] == [("local", 2), ("auto", None)]


@pytest.mark.slow
def test_no_cluster_and_no_ray_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_file(tmp_path, 'methods = ["random"]\nsizes = [10]\n')
    command = [sys.executable, "-m", "rlcondense.cli", "sweep", str(suite), "--executor", "ray"]
    command += ["--results", str(tmp_path / "r")]
    for options, message in (
        (["--address", "127.0.0.1:9"], "no Ray cluster at '127.0.0.1:9'"),
        (["--workers", "1", "--device", "cuda"], "no node of the Ray cluster"),
        (["--gpus", "-1"], "gpus must be above 0"),
    ):
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[ray\]'"):
        sweep(load_suite(str(suite)), results=tmp_path / "r", executor="ray")


def test_as_many_cells_run_as_were_asked_for_and_one_waits_where_none_may_idle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 8, "GPU": 1}}]

    def executor(workers: int | None, gpus: float = 0.0) -> RayExecutor:
        made = RayExecutor.__new__(RayExecutor)
        made.setting = Setting(Store(tmp_path), "cpu", workers)
        made._gpus, made._at = gpus, {}
        monkeypatch.setattr(made, "_nodes", lambda: nodes)
        return made

    two = executor(2)
    two._at = dict.fromkeys(range(2))
    assert (two.size(), two.room()) == (2, False)
    every = executor(None)
    every._at = dict.fromkeys(range(8))
    assert (every.size(), every.room()) == (8, True)
    every._at[8] = None
    assert not every.room()
    assert [executor(None, share).size() for share in (0.1, 0.2, 0.5, 1.0)] == [8, 5, 2, 1]


def test_a_stored_set_of_another_version_is_made_anew_by_one_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    suite = load_suite(str(suite_file(tmp_path, 'methods = ["random"]\nsizes = [10]\n')))
    [cell] = [
        p.cell for p in plan_suite(suite, store.look) if p.cell and p.cell.method["id"] == "random"
    ]
    assert cell is not None
    other = replace(cell, learner_seeds=(5, 6))
    assert other.condensation_id == cell.condensation_id
    made = RayExecutor.__new__(RayExecutor)
    made.setting, made.device, made._gpus = Setting(store, "cpu"), "cpu", 0.0
    made._at, made._told = {}, []
    monkeypatch.setattr(made, "_nodes", list)
    monkeypatch.setattr(made, "_kept", lambda name: "of an older version")
    monkeypatch.setattr(made, "_dataset", lambda name: None)
    made._ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=OSError))
    made._task = SimpleNamespace(remote=lambda *_: object())
    (store.condensed_path(cell.condensation_id) / "made_from.json").parent.mkdir()
    (store.condensed_path(cell.condensation_id) / "made_from.json").touch()
    going = Dispatch(
        make_plan=list, store=store, watcher=Silent(), wanted=lambda state: True,
        rates=Rates((), "cpu"), device="cpu",
    )  # fmt: skip
    going.queue.extend([Planned("a", cell), Planned("b", other)])
    first = going._next(made)
    assert first is not None
    going.at[first.id] = first
    assert going._next(made) is None  # and nobody is told that the set is busy
    going.condensed.add(cell.condensation_id)
    assert going._next(made) is not None
    for one in (cell, other):
        made.begin(one, refreshed=False, seen=())
    assert [event.kind for event in made._told] == ["at", "busy"]
    for task in made._at.values():
        task.held.close()
    for one in (cell, other):  # a cell of it has ended: the set is as it should be
        made.begin(one, refreshed=True, seen=())
    assert [event.kind for event in made._told[2:]] == ["at", "at"]
    for task in made._at.values():
        task.held.close()
