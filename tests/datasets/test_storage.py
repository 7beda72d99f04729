from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer
from minari.storage import get_dataset_path

from rlcondense.datasets.storage import cache_root, read_minari, write_minari
from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError, UnknownName
from rlcondense.making import load_dataset
from rlcondense.tasks.base import Task
from tests.conftest import TINY


def test_minari_gives_back_every_bit(tiny: TransitionDataset, trace: Trace, task: Task) -> None:
    episodes = list(replay(trace, task))
    for name in ("observations", "actions", "rewards", "action_probs"):
        expected = np.concatenate([getattr(e, name) for e in episodes])
        assert np.array_equal(getattr(tiny, name), expected), name
    levels = np.concatenate([np.full(len(e.rewards), e.level_seed) for e in episodes])
    assert np.array_equal(tiny.level_seeds, levels)


def test_minari_itself_sees_channel_first_frames_and_infos(tiny: TransitionDataset) -> None:
    dataset = minari.load_dataset(TINY)
    episode = next(iter(dataset.iterate_episodes()))
    assert episode.observations.shape == (len(episode) + 1, 3, 64, 64)
    assert episode.infos["action_probs"].shape == (len(episode), 15)
    assert dataset.spec.env_spec.id == "procgen/starpilot-easy-v0"
    assert dataset.storage.metadata["author"] == {"tests"}


def test_observations_are_memory_mapped(tiny: TransitionDataset) -> None:
    assert isinstance(tiny.observations, np.memmap)


def test_conversion_happens_once_and_again_when_the_data_changes(tiny: TransitionDataset) -> None:
    file = next(cache_root().glob("columns/*starpilot*/observations.npy"))
    before = file.stat().st_mtime_ns
    assert read_minari(TINY).sha256 == tiny.sha256
    assert file.stat().st_mtime_ns == before
    (get_dataset_path(TINY) / "data" / "main_data.hdf5").touch()
    assert read_minari(TINY).sha256 == tiny.sha256
    assert file.stat().st_mtime_ns != before


def test_episodes_returns_and_next_observations(tiny: TransitionDataset) -> None:
    rewards = np.asarray(tiny.rewards)
    assert len(tiny.episodes) == 10
    assert tiny.episode_returns().sum() == pytest.approx(rewards.sum())
    first = tiny.episodes[0]
    assert tiny.returns_to_go()[0] == pytest.approx(tiny.episode_returns()[0])
    togo = tiny.returns_to_go(0.5)
    last = first.stop - 1
    assert togo[last - 1] == pytest.approx(rewards[last - 1] + 0.5 * rewards[last])
    following = tiny.next_observations(np.array([0, last]))
    assert np.array_equal(following[0], tiny.observations[1])
    assert np.array_equal(following[1], tiny.observations[last])
    assert tiny.terminations is not None
    assert tiny.terminations[last]
    assert tiny.last_observation_repeated


def _vector_dataset(id_: str, observation_space: gymnasium.Space, observations: object) -> None:
    buffer = EpisodeBuffer(
        observations=observations,
        actions=np.array([[0.5], [0.25]], np.float32),
        rewards=np.array([1.0, 2.0]),
        terminations=np.array([False, False]),
        truncations=np.array([False, True]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            id_,
            [buffer],
            observation_space=observation_space,
            action_space=gymnasium.spaces.Box(-1, 1, (1,)),
        )


def test_any_local_minari_dataset_is_read() -> None:
    rows = np.arange(6, dtype=np.float64).reshape(3, 2)
    _vector_dataset("tests/vector-v0", gymnasium.spaces.Box(-9, 9, (2,), np.float64), rows)
    data = load_dataset("tests/vector-v0")
    assert data.observations.dtype == np.float32
    assert np.array_equal(data.observations, rows[:2])
    assert data.actions.shape == (2, 1)
    assert data.level_seeds is None
    assert data.action_probs is None
    assert not data.last_observation_repeated


def test_observations_that_are_no_arrays_are_refused() -> None:
    space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Box(-9, 9, (2,))})
    _vector_dataset("tests/dict-v0", space, {"a": np.zeros((3, 2), np.float32)})
    with pytest.raises(BadConfig, match="only arrays are supported"):
        load_dataset("tests/dict-v0")


def test_an_unknown_dataset_is_one_clear_error(tiny: TransitionDataset) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{TINY}'"):
        load_dataset("tests/starpilo-v0")


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/../b"])
def test_names_do_not_leave_minaris_folder(name: str) -> None:
    with pytest.raises(RLCondenseError, match="cannot be made into a file name"):
        load_dataset(name)


def test_a_broken_minari_file_is_one_clear_error_and_leaves_nothing(
    tiny: TransitionDataset,
) -> None:
    source, target = get_dataset_path(TINY), get_dataset_path("tests/broken-v0")
    shutil.copytree(source, target)
    file = target / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CorruptArtifact, match="'tests/broken-v0' cannot be read"):
        load_dataset("tests/broken-v0")
    assert not list((cache_root() / "columns").glob("*broken*"))
    assert not list((cache_root() / "columns").glob(".*broken*"))
    shutil.rmtree(target)


def test_what_a_killed_build_left_behind_is_no_obstacle(trace: Trace, task: Task) -> None:
    name = "tests/killed-v0"
    leftover: Path = get_dataset_path(name).parents[1] / ".building-tests-killed-v0" / "junk"
    leftover.mkdir(parents=True)
    write_minari(name, replay(trace, task), {"author": "tests"}, gymnasium.make(task.id))
    assert len(read_minari(name).episodes) == 10
    assert not leftover.exists()
    shutil.rmtree(get_dataset_path(name))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(CorruptArtifact, match="'actions' has 2 rows, observations 3"):
        TransitionDataset(np.zeros((3, 1)), np.zeros(2))
