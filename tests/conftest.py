"""Real Procgen and real Minari files, kept small, in folders of the test run's own."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Batches of a few frames gain nothing from threads, and lose much where a neighbour has the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from rlcondense import catalogue
from rlcondense.datasets.minari import read_minari, write_minari
from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_task
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import NetworkPolicies
from rlcondense.rollout import collect
from rlcondense.runtime.tune import tune
from rlcondense.tasks.base import Task

tune()  # as every command does

TINY = "tests/starpilot-v0"


def processor_seconds(call: Callable[[], object]) -> float:
    """Return the least seconds of a processor that three calls' child processes took.

    Unlike time on the wall it does not grow when others have the cores.
    """

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(3):
        before = used()
        call()
        seconds.append(used() - before)
    return min(seconds)


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLCONDENSE_HOME", str(root / "cache"))
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        patch.delenv("RLCONDENSE_PLUGINS", raising=False)
        yield root


@pytest.fixture(autouse=True)
def _own_registrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it, whatever test comes next in this process."""
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    monkeypatch.setattr(catalogue, "_included", dict(catalogue._included))


@pytest.fixture(autouse=True)
def _no_expert_of_starpilot(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an expert row beside the small dataset: its episodes take seconds."""
    if "tiny" in request.fixturenames:
        monkeypatch.setattr("rlcondense.running.bench.shipped_experts", dict)


@pytest.fixture(scope="session")
def task() -> Task:
    return make_task("starpilot")


def random_network(seed: int = 0, name: str = "nature") -> PolicyNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyNetwork(NetworkSpec(name, (3, 64, 64), 15))


@pytest.fixture(scope="session")
def trace(task: Task) -> Trace:
    """Ten episodes of a policy that nobody trained."""
    policy = NetworkPolicies([random_network()], [0])
    return collect(policy, task, episodes=10, seed=3, num_envs=5)


@pytest.fixture(scope="session")
def tiny(task: Task, trace: Trace) -> TransitionDataset:
    """The trace as a Minari dataset on disk, read back."""
    import gymnasium

    env = gymnasium.make(task.id)
    write_minari(TINY, replay(trace, task), {"author": "tests"}, env)
    return read_minari(TINY, task.id)
