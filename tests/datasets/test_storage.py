from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from click.testing import CliRunner
from minari.data_collector import EpisodeBuffer
from minari.storage import get_dataset_path

from rlcondense.cli import main
from rlcondense.datasets.minari import columns_folder, read_minari, verify_minari, write_minari
from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra, RLCondenseError, UnknownName
from rlcondense.files import sha256_arrays
from rlcondense.make import load_dataset
from rlcondense.places import cache_root
from rlcondense.tasks.base import Task
from tests.conftest import TINY
from tests.datasets.hub import hub


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
    file = next(cache_root().glob("columns/tests-starpilot*/observations.npy"))
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../there", "holds no dataset"),
        ("../nowhere", "no such file"),
        ("/etc/passwd", "is no dataset"),
        ("a/../b", "is neither the id"),
    ],
)
def test_names_do_not_leave_minaris_folder(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RLCondenseError, match=message):
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


def test_columns_that_were_tampered_with_are_read_again(tiny: TransitionDataset) -> None:
    file = next(cache_root().glob("columns/*starpilot-v0/rewards.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert sha256_arrays(read_minari(TINY).columns()) == tiny.sha256


def test_verify_notices_columns_that_changed_behind_everybodys_back(
    tiny: TransitionDataset,
) -> None:
    file = next(cache_root().glob("columns/*starpilot-v0/rewards.npy"))
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(CorruptArtifact, match=r"the columns kept of .* are damaged"):
        verify_minari(TINY)
    assert verify_minari(TINY) == tiny.sha256
    assert not list((cache_root() / "columns").glob(".*"))


def test_verify_notices_minari_files_that_changed_and_keeps_the_good_columns(
    tiny: TransitionDataset,
) -> None:
    file = get_dataset_path(TINY) / "data" / "main_data.hdf5"

    def flip() -> None:
        stat = file.stat()
        with h5py.File(file, "r+") as content:
            content["episode_0/observations"][3, 0, 0, 0] ^= 1
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    flip()
    for _ in range(2):
        with pytest.raises(CorruptArtifact, match=r"Minari's files .* have changed"):
            verify_minari(TINY)
    assert sha256_arrays(read_minari(TINY).columns()) == tiny.sha256
    flip()
    assert verify_minari(TINY) == tiny.sha256


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_full_disk_is_one_clear_error(
    tiny: TransitionDataset, trace: Trace, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RLCondenseError, match=r"No space left on device \(it needs"):
        next(replay(trace, task))
    shutil.rmtree(columns_folder(TINY))
    with pytest.raises(RLCondenseError, match="No space left on device"):
        read_minari(TINY)
    assert not columns_folder(TINY).exists()
    monkeypatch.undo()
    assert read_minari(TINY).sha256 == tiny.sha256


def test_actions_that_are_no_arrays_are_refused() -> None:
    buffer = EpisodeBuffer(
        observations=np.zeros((2, 2), np.float32),
        actions=np.array([[0, 1]]),
        rewards=np.array([1.0]),
        terminations=np.array([True]),
        truncations=np.array([False]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "tests/multi-v0",
            [buffer],
            observation_space=gymnasium.spaces.Box(-9, 9, (2,)),
            action_space=gymnasium.spaces.MultiDiscrete([2, 2]),
        )
    with pytest.raises(BadConfig, match="only arrays and single discrete actions"):
        load_dataset("tests/multi-v0")


BOUNDED = """
import resource, sys
import numpy as np
from rlcondense.datasets.minari import read_minari
import minari, h5py
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
limit = used + 48 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
data = read_minari("tests/large-v0")
assert data.observations.nbytes == 120_000_000, data.observations.nbytes
assert len(data.episode_returns()) == 30
assert data.rows(np.arange(0, len(data), 10))["observations"].shape == (3000, 1000)
try:
    np.array(data.observations)
except MemoryError:
    print("bounded")
"""


def test_a_dataset_larger_than_memory_is_read() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((1001, 1000), np.float32)
    episodes = (
        EpisodeBuffer(
            observations=frames,
            actions=np.zeros(1000, np.int64),
            rewards=np.ones(1000),
            terminations=np.arange(1000) == 999,
            truncations=np.zeros(1000, bool),
        )
        for _ in range(30)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "tests/large-v0",
            episodes,
            observation_space=gymnasium.spaces.Box(-9, 9, (1000,)),
            action_space=gymnasium.spaces.Discrete(2),
        )
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED], capture_output=True, text=True, check=False
    )
    assert done.stdout == "bounded\n", done.stderr
    shutil.rmtree(get_dataset_path("tests/large-v0"))
    shutil.rmtree(columns_folder("tests/large-v0"))


def _download(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlcondense.cli", "dataset", "show", name, "--download"]
    environment = {**os.environ, "MINARI_REMOTE": "hf://testers", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_dataset_of_minaris_remote_is_downloaded(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float64).reshape(3, 2)
    _vector_dataset("lab/points-v0", gymnasium.spaces.Box(-9, 9, (2,), np.float64), rows)
    lab = tmp_path / "lab"
    shutil.move(get_dataset_path("lab"), lab)
    (lab / "namespace_metadata.json").write_text('{"datasets": ["lab/points-v0"]}')
    with hub("testers/lab", lab) as address:
        variables = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
        assert (
            "unknown dataset"
            in CliRunner().invoke(main, ["dataset", "show", "lab/points-v0"]).stderr
        )
        done = _download("lab/points-v0", **variables)
        assert done.returncode == 0, done.stderr
        assert "1 episodes, 2 transitions" in done.stdout
        missing = _download("lab/circles-v0", **variables)
    assert missing.returncode == 2
    assert "'lab/circles-v0' cannot be downloaded: Couldn't find any version" in missing.stderr
    assert np.array_equal(load_dataset("lab/points-v0").observations, rows[:2])
    assert not list(get_dataset_path("").glob(".downloading*"))


def test_offline_a_download_is_one_clear_error(tmp_path: Path) -> None:
    done = _download("lab/squares-v0", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "Error: dataset 'lab/squares-v0' cannot be downloaded" in done.stderr
    assert "is this machine online?" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_are_no_minari_ids_are_refused_before_anything_is_asked() -> None:
    with pytest.raises(BadConfig, match="is no Minari id such as"):
        load_dataset("lab/without-a-version", download=True)


def test_without_the_library_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "minari.storage.remotes.huggingface", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[remote\]'"):
        load_dataset("lab/lines-v0", download=True)
