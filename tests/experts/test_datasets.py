from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.datasets.minari import columns_folder, remove_minari
from rlcondense.datasets.traces import forget_collected, replay
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.experts import shipped
from rlcondense.experts.shipped import load_expert
from rlcondense.make import load_dataset
from rlcondense.places import cache_root
from rlcondense.tasks.base import Task
from rlcondense.training import collect
from rlcondense.training.collect import ExpertDataset, collect_dataset, mixed_policies
from rlcondense.training.experts import train_expert
from tests.conftest import random_network

SMALL = {"network": "nature", "num_envs": "4", "rollout_length": "16", "epochs": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of thirty-two updates leaves."""
    out = tmp_path_factory.mktemp("trained")
    train_expert("starpilot", {**SMALL, "steps": "2048"}, out=out, episodes=2, device="cpu")
    return out


@pytest.mark.slow
def test_training_leaves_snapshots_untrained_and_at_every_doubling(
    folder: Path, task: Task
) -> None:
    found = shipped.snapshots(task.id, folder)
    assert list(found) == [0, 64, 128, 256, 512, 1024, 2048]
    last = shipped.load_expert(task.id, folder).network
    assert found[2048].head.weight.equal(last.head.weight)
    assert not found[0].head.weight.equal(last.head.weight)


@pytest.mark.slow
def test_a_mixed_dataset_is_equal_parts_of_five_policies_along_training(
    folder: Path, task: Task
) -> None:
    policies = mixed_policies(shipped.snapshots(task.id, folder), task)
    assert policies.seeds == (0, 64, 256, 512, 2048)
    trace = collect_dataset(task, "mixed", folder=folder, episodes=5, num_envs=5)
    assert (trace.quota, len(trace.lengths)) == (1, 5)
    for policy, episode in enumerate(replay(trace, task)):
        said = policies.action_probs(episode.observations, np.full(len(episode.actions), policy))
        np.testing.assert_allclose(episode.action_probs, said, atol=0.01)


def test_too_short_a_training_cannot_be_mixed(task: Task) -> None:
    with pytest.raises(BadConfig, match="too few snapshots for 3"):
        mixed_policies({0: random_network(), 64: random_network()}, task)


def test_a_short_training_is_mixed_of_fewer_policies(task: Task) -> None:
    networks = {steps: random_network() for steps in (0, 2048, 4096, 8192, 16384, 20480)}
    assert mixed_policies(networks, task).seeds == (0, 2048, 8192, 20480)


def test_a_random_dataset_takes_every_action_alike(task: Task) -> None:
    trace = collect_dataset(task, "random", episodes=10, num_envs=5)
    counts = np.bincount(trace.actions, minlength=15) / len(trace.actions)
    assert counts.min() > 0.04
    assert len(np.unique(trace.action_probs)) == 1


def test_a_mixed_dataset_without_training_and_unknown_kinds_are_refused(task: Task) -> None:
    with pytest.raises(BadConfig, match="needs --folder"):
        collect_dataset(task, "mixed")
    with pytest.raises(BadConfig, match="kind must be one of expert, mixed, random"):
        collect_dataset(task, "medium")


@pytest.mark.slow
def test_what_an_expert_played_is_kept_for_a_build_that_was_cut_short(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ExpertDataset("tests/played-v0", task=task.id, episodes=50)
    next(source.episodes(task))  # interrupted after its first episode
    play = collect.collect
    monkeypatch.setattr(collect, "collect", lambda *_, **__: pytest.fail("collected again"))
    assert sum(1 for _ in source.episodes(task)) == 50
    # A trace that was cut is collected once more, and is the same.
    kept = next((cache_root() / "traces").glob("tests-played-v0-*.safetensors"))
    content = kept.read_bytes()
    kept.write_bytes(content[:-100])
    monkeypatch.setattr(collect, "collect", play)
    next(source.episodes(task))
    assert kept.read_bytes() == content
    # Another number of episodes is another trace.
    more = ExpertDataset("tests/played-v0", task=task.id, episodes=100)
    assert sum(1 for _ in more.episodes(task)) == 100
    # What is removed or built anew is played again; a dataset with a longer name keeps its own.
    other = kept.with_name(kept.name.replace("played-v0", "played-v0-b"))
    other.write_bytes(content)
    forget_collected("tests/played-v0")
    assert [*kept.parent.glob("tests-played-v0-*.safetensors")] == [other]


@pytest.mark.slow
def test_data_of_an_earlier_expert_are_not_passed_off_as_the_experts(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "tests/played-v0"
    config = {"task": task.id, "episodes": 50}
    facts = {"task": task.id, "expert": task.id}
    point = "rlcondense.training.collect:ExpertDataset"
    entry = Entry("datasets", name, point, config=config, facts=facts)
    monkeypatch.setitem(catalogue._registered, ("datasets", name), entry)
    assert len(load_dataset(name).episodes) == 50
    metadata = columns_folder(name) / "metadata.json"
    metadata.write_text(metadata.read_text().replace(load_expert(task.id).sha256, "0" * 64))
    with pytest.raises(CorruptArtifact, match=r"played by an earlier expert; .*--rebuild"):
        load_dataset(name)
    remove_minari(name)


def test_a_folder_without_a_finished_expert_says_so(task: Task, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="holds no finished expert"):
        collect_dataset(task, "mixed", folder=tmp_path)


@pytest.mark.slow
def test_snapshots_of_another_network_are_not_mixed_in(folder: Path, task: Task) -> None:
    shipped.save_weights(folder / shipped.SNAPSHOTS / "96.safetensors", random_network(0, "cnn4"))
    with pytest.raises(CorruptArtifact, match="snapshots of another network"):
        shipped.snapshots(task.id, folder)
    (folder / shipped.SNAPSHOTS / "96.safetensors").unlink()
