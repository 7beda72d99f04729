from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlcondense.datasets.traces import replay
from rlcondense.errors import BadConfig
from rlcondense.experts import datasets, zoo
from rlcondense.experts.datasets import ExpertDataset, collect_dataset, mixed_policies
from rlcondense.experts.training import train_expert
from rlcondense.tasks.base import Task
from tests.conftest import random_network

SMALL = {"network": "nature", "num_envs": "4", "rollout_length": "16", "epochs": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of thirty-two updates leaves."""
    out = tmp_path_factory.mktemp("trained")
    train_expert("starpilot", {**SMALL, "steps": "2048"}, out=out, episodes=2, device="cpu")
    return out


def test_training_leaves_snapshots_untrained_and_at_every_doubling(
    folder: Path, task: Task
) -> None:
    found = zoo.snapshots(task.id, folder)
    assert list(found) == [0, 64, 128, 256, 512, 1024, 2048]
    last = zoo.load_expert(task.id, folder).network
    assert found[2048].head.weight.equal(last.head.weight)
    assert not found[0].head.weight.equal(last.head.weight)


def test_a_mixed_dataset_is_equal_parts_of_five_policies_along_training(
    folder: Path, task: Task
) -> None:
    policies = mixed_policies(zoo.snapshots(task.id, folder))
    assert policies.seeds == (0, 64, 256, 512, 2048)
    trace = collect_dataset(task, "mixed", folder=folder, episodes=5, num_envs=5)
    assert (trace.quota, len(trace.lengths)) == (1, 5)
    for policy, episode in enumerate(replay(trace, task)):
        said = policies.action_probs(episode.observations, np.full(len(episode.actions), policy))
        np.testing.assert_allclose(episode.action_probs, said, atol=0.01)


def test_too_short_a_training_cannot_be_mixed() -> None:
    with pytest.raises(BadConfig, match="too few snapshots for 5"):
        mixed_policies({0: random_network(), 64: random_network()})


def test_a_random_dataset_takes_every_action_alike(task: Task) -> None:
    trace = collect_dataset(task, "random", episodes=10, num_envs=5)
    counts = np.bincount(trace.actions, minlength=15) / len(trace.actions)
    assert counts.min() > 0.04
    assert len(np.unique(trace.action_probs)) == 1


def test_a_mixed_dataset_without_training_and_unknown_kinds_are_refused(task: Task) -> None:
    with pytest.raises(BadConfig, match="needs the folder"):
        collect_dataset(task, "mixed")
    with pytest.raises(BadConfig, match="kind must be one of expert, mixed, random"):
        collect_dataset(task, "medium")


def test_what_an_expert_played_is_kept_for_a_build_that_was_cut_short(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ExpertDataset("tests/played-v0", task=task.id, episodes=50)
    next(source.episodes(task))  # interrupted after its first episode
    monkeypatch.setattr(datasets, "collect", lambda *_: pytest.fail("collected again"))
    assert sum(1 for _ in source.episodes(task)) == 50
