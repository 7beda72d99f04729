from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Box, Discrete
from minari.storage import get_dataset_path
from PIL import Image

from rlcondense.checks import check_dataset
from rlcondense.cli import main
from rlcondense.datasets import hdf5
from rlcondense.datasets import minari as storage
from rlcondense.datasets.cards import card_of, write_card
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.minari import (
    _EpisodeReader,
    build_columns,
    columns_folder,
    lacks_action_probs,
    local_datasets,
    read_minari,
    write_minari,
)
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError, UnknownName
from rlcondense.make import load_dataset, remove_dataset
from tests.datasets.minari_data import TWO, VECTORS, create, episode

DATA = "tests/input-v0"


def data_file(id_: str = DATA) -> Path:
    return Path(get_dataset_path(id_)) / "data" / "main_data.hdf5"


def jpeg(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, format="JPEG")
    return content.getvalue()


def metadata(change: dict[str, Any]) -> None:
    file = data_file().with_name("metadata.json")
    values = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.array([0, 2, 1])}, "outside 0..1: 2 in row 11"),
        ({"actions": np.array([[0], [1], [1]])}, r"episode 1: actions are int64 of shape \(3, 1\)"),
        ({"actions": np.array([0.0, 1.0, 1.0])}, "actions are float64 .* not whole numbers"),
        ({"rewards": np.array([1.0, np.nan, 1.0])}, "non-finite rewards: nan in row 11"),
        ({"rewards": np.array([1.0, 1e300, 1.0])}, "non-finite rewards: inf in row 11"),
        ({"rewards": np.ones((3, 1))}, r"rewards are float64 of shape \(3, 1\)"),
        ({"observations": np.full((4, 4), np.inf, np.float32)}, "non-finite observations"),
        ({"observations": np.zeros((2, 4), np.float32)}, r"observations are .*not .*\(3, 4\)"),
        ({"observations": np.zeros((4, 5), np.float32)}, r"not .*\(4, 4\)"),
        ({"terminations": np.array([0.0, 0.0, 1.0])}, "terminations are float64"),
        ({"truncations": np.array([0, 0, 7])}, "truncations are int64"),
    ],
)
def test_values_that_no_dataset_may_hold_are_one_line(
    changes: dict[str, Any], message: str
) -> None:
    create(DATA, [episode(), episode(3, **changes)])
    with pytest.raises((BadConfig, CorruptArtifact), match=message) as caught:
        read_minari(DATA)
    assert str(caught.value).startswith(f"dataset '{DATA}'")
    assert "\n" not in str(caught.value)
    shown = CliRunner().invoke(main, ["dataset", "show", DATA])
    assert shown.exit_code == 2
    assert shown.stderr.startswith("Error: dataset")


def test_flags_may_be_zeros_and_ones_and_vectors_whole_numbers() -> None:
    create(DATA, [episode(3, terminations=np.array([0, 0, 1]), rewards=np.array([1, 2, 3]))])
    data = read_minari(DATA)
    assert data.column("terminations").tolist() == [False, False, True]
    assert data.column("rewards").tolist() == [1, 2, 3]
    create(DATA, [episode(3, actions=np.array([[0], [1], [-1]]))], actions=Box(-1, 1, (1,)))
    assert read_minari(DATA).actions.dtype == np.float32


def test_discrete_actions_that_start_elsewhere_are_counted_from_0() -> None:
    create(DATA, [episode(4, actions=np.array([5, 6, 7, 5]))], actions=Discrete(3, start=5))
    assert read_minari(DATA).actions.tolist() == [0, 1, 2, 0]
    create(DATA, [episode(4, actions=np.array([5, 6, 8, 5]))], actions=Discrete(3, start=5))
    with pytest.raises(CorruptArtifact, match=r"outside 0\.\.2: 3 in row 2"):
        read_minari(DATA)


def test_whole_numbers_in_a_box_are_refused() -> None:
    actions = np.array([[0], [4], [2]], np.int32)
    create(DATA, [episode(3, actions=actions)], actions=Box(0, 4, (1,), np.int32))
    with pytest.raises(BadConfig, match="vectors of int32"):
        read_minari(DATA)


def test_frames_have_their_channels_first_whatever_they_hold() -> None:
    grid = np.random.default_rng(0).random((4, 10, 10, 5)).astype(np.float32)
    create(DATA, [episode(3, observations=grid)], Box(0, 1, (10, 10, 5)))
    data = read_minari(DATA)
    assert data.observations.shape == (3, 5, 10, 10)
    assert np.array_equal(data.observations[1, 4], grid[1, :, :, 4])


def policy_of(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Distributions that turn with each step, and the likely action of each."""
    right = np.arange(length) % 3 != 1
    return np.where(right[:, None], [0.1, 0.9], [0.9, 0.1]).astype(np.float32), right.astype(int)


def test_infos_of_one_entry_more_belong_to_the_step_before() -> None:
    probs, actions = policy_of(60)
    reset = np.full((1, 2), 0.5, np.float32)
    infos = {"action_probs": np.vstack([reset, probs]), "level_seed": np.full(61, 4)}
    create(DATA, [episode(60, actions=actions, infos=infos)])
    data = read_minari(DATA)
    assert np.array_equal(data.column("action_probs"), probs)
    assert data.column("level_seeds").tolist() == [4] * 60
    create(DATA, [episode(60, actions=actions, infos={"action_probs": probs})])
    assert np.array_equal(read_minari(DATA).column("action_probs"), probs)


def test_infos_that_fit_the_actions_better_one_entry_earlier_are_refused() -> None:
    probs, actions = policy_of(60)
    infos = {"action_probs": np.vstack([probs, probs[:1]])}
    create(DATA, [episode(60, actions=actions, infos=infos)])
    with pytest.raises(CorruptArtifact, match=r"T\+1 entries, of which the t-th fits action t"):
        read_minari(DATA)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("action_probs", np.full((8, 2), 0.5), r"action_probs are .*\(8, 2\), not floats of \(10"),
        ("action_probs", np.full((10, 3), 1 / 3), r"not floats of \(10, 2\)"),
        ("action_probs", np.full((10, 2), 0.6), "no distribution: .* in row 0"),
        ("level_seed", np.full(10, 0.5), "level_seed are float64"),
        ("level_seed", np.zeros(5, int), r"level_seed are int64 of shape \(5,\)"),
    ],
)
def test_infos_of_other_forms_are_refused(name: str, values: np.ndarray, message: str) -> None:
    create(DATA, [episode(infos={name: values})])
    with pytest.raises(CorruptArtifact, match=message):
        read_minari(DATA)


def test_labels_of_other_rows_are_refused() -> None:
    probs, actions = policy_of(60)
    create(DATA, [episode(60, actions=actions, infos={"action_probs": probs[:, ::-1].copy()})])
    with pytest.raises(CorruptArtifact, match=r"mean probability of 0.100, below chance \(0.500\)"):
        read_minari(DATA)


def test_reset_seeds_environment_and_split_are_read() -> None:
    env = gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="heldout")
    seeds = [3, 2**64 - 1, None]
    create(DATA, [episode(seed=seed) for seed in seeds], env=env)
    origin = read_minari(DATA).origin
    assert origin.reset_seeds == (3, 2**64 - 1, None)
    assert (origin.environment, origin.split) == ("classic/cartpole-v0", "heldout")
    assert not origin.lossy


# Files that lead elsewhere.


def external(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    shape, where = (10,), [(str(secret), 0, 40)]
    file.create_dataset("episode_0/rewards", shape=shape, dtype="f4", external=where)


def virtual(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    layout = h5py.VirtualLayout(shape=(10,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "rewards", shape=(10,))
    file.create_virtual_dataset("episode_0/rewards", layout)


def external_link(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    file["episode_0/rewards"] = h5py.ExternalLink(str(secret), "/rewards")


def external_group(file: h5py.File, secret: Path) -> None:
    del file["episode_0"]
    file["episode_0"] = h5py.ExternalLink(str(secret), "/")


def soft_link(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
    file["episode_0/rewards"] = h5py.SoftLink("/elsewhere/rewards")


def external_info(file: h5py.File, secret: Path) -> None:
    group = file["episode_0"].create_group("infos").create_group("deep")
    group.create_dataset("x", shape=(10,), dtype="f4", external=[(str(secret), 0, 40)])


def circle(file: h5py.File, secret: Path) -> None:
    file["episode_0"].create_group("infos")["again"] = file["episode_0"]


@pytest.mark.parametrize(
    "change",
    [external, virtual, external_link, external_group, soft_link, external_info, circle],
)
def test_a_file_that_leads_elsewhere_is_refused(change: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.hdf5"
    with h5py.File(secret, "w") as file:
        file["rewards"] = np.arange(10, dtype="f4")
    create(DATA, [episode()])
    shutil.rmtree(columns_folder(DATA), ignore_errors=True)
    with h5py.File(data_file(), "r+") as file:
        change(file, secret)
    with pytest.raises(CorruptArtifact, match=r"another file|occurs more than once") as caught:
        read_minari(DATA)
    assert "\n" not in str(caught.value)
    assert not columns_folder(DATA).exists()


def sparse(file: h5py.File) -> None:
    del file["episode_0/rewards"]
    file.create_dataset("episode_0/rewards", (2**36,), "f4", chunks=(2**20,), compression="gzip")


def many_sparse(file: h5py.File) -> None:
    for i in range(20):
        file.create_dataset(f"episode_0/infos/empty{i}", (2**20,), np.uint8)


def one_text_many_times(file: h5py.File) -> None:
    texts = file.create_dataset("episode_0/infos/texts", (2,), h5py.string_dtype())
    texts[:] = ["x" * 100_000, "y" * 20]
    file.flush()
    with Path(file.filename).open("r+b") as raw:
        raw.seek(texts.id.get_offset())
        place = raw.read(16)  # of the first text, which the second is to have too
        raw.write(place)


def lists_of_lists(file: h5py.File) -> None:
    inner = h5py.vlen_dtype(h5py.vlen_dtype(np.float32))
    file.create_dataset("episode_0/infos/lists", (3,), inner)


def dataset_twice(file: h5py.File) -> None:
    file["episode_0/infos/again"] = file["episode_0/rewards"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sparse, "announces 274,877,906,944 bytes, of which 0 are stored"),
        (many_sparse, "2[0-9] arrays announce 20,97[0-9],[0-9]{3} bytes, of which"),
        (one_text_many_times, "holds more than the file has bytes"),
        (lists_of_lists, "holds lists of lists"),
        (dataset_twice, "occurs more than once"),
    ],
)
def test_a_small_file_that_announces_much_is_refused_before_it_is_read(
    change: Any, message: str
) -> None:
    create(DATA, [episode(infos={"level_seed": np.ones(10, int)})])
    with h5py.File(data_file(), "r+") as file:
        change(file)
    with pytest.raises(CorruptArtifact, match=message):
        read_minari(DATA)


def test_a_heap_that_sends_hdf5_round_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_PATIENCE", 1.5)
    create(DATA, [episode(infos={"text": ["up", "down"] * 5})])
    assert len(read_minari(DATA)) == 10
    content = data_file().read_bytes()
    size = content.index(b"GCOL") + 24  # of the first text, after which the next is the first again
    data_file().write_bytes(content[:size] + b"\xf0" + 7 * b"\xff" + content[size + 8 :])
    with pytest.raises(CorruptArtifact, match=r"reading .*/infos/text.* does not end"):
        read_minari(DATA)


def test_nothing_beside_a_dataset_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads texts; it must not take modules from the working directory."""
    create(DATA, [episode(infos={"text": ["up", "down"] * 5})])
    (tmp_path / "h5py.py").write_text("open('imported', 'w').close()\nraise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert len(read_minari(DATA)) == 10
    assert not (tmp_path / "imported").exists()


def test_of_an_episodes_attributes_only_the_seed_is_read() -> None:
    create(DATA, [episode()])
    with h5py.File(data_file(), "r+") as file:
        attributes = file["episode_0"].attrs
        attributes.create("texts", ["x" * 50] * 9, dtype=h5py.string_dtype())
        attributes["seed"] = np.int64(7)
    content = data_file().read_bytes()
    heap = content.index(b"GCOL") + 24  # a heap that reading would follow for ever
    data_file().write_bytes(content[:heap] + b"\xf0" + 7 * b"\xff" + content[heap + 8 :])
    assert read_minari(DATA).origin.reset_seeds == (7,)
    with h5py.File(data_file(), "r+") as file:
        del file["episode_0"].attrs["seed"]
        file["episode_0"].attrs["seed"] = "None"  # as older versions of Minari wrote
    assert read_minari(DATA).origin.reset_seeds == (None,)
    with h5py.File(data_file(), "r+") as file:
        del file["episode_0"].attrs["seed"]
        file["episode_0"].attrs["seed"] = 7.5
    with pytest.raises(CorruptArtifact, match="the seed of episode 0 is no whole number"):
        read_minari(DATA)


@pytest.mark.parametrize("change", [{"total_steps": 10**10}, {"total_episodes": 10**10}])
def test_counts_in_metadata_are_those_of_the_file(change: dict[str, int]) -> None:
    create(DATA, [episode()])
    metadata(change)
    with pytest.raises(CorruptArtifact, match="10000000000 are announced"):
        read_minari(DATA)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "data that are no JPEG picture"),
        (jpeg(4000, 3000), r"are not \(64, 64, 3\)"),
    ],
    ids=["a program of PostScript", "another size"],
)
def test_pictures_are_jpeg_of_the_size_of_the_observations(picture: bytes, message: str) -> None:
    frames = [np.full((64, 64, 3), 7, np.uint8)] * 11
    create(DATA, [episode(observations=frames)], Box(0, 255, (64, 64, 3), np.uint8))
    assert len(read_minari(DATA)) == 10
    with h5py.File(data_file(), "r+") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = np.stack([np.frombuffer(picture, np.uint8)] * 11)
    with pytest.raises(CorruptArtifact, match=message):
        read_minari(DATA)


def test_pictures_that_take_more_memory_than_they_may_are_not_decoded() -> None:
    frames = [np.full((64, 64, 3), 7, np.uint8)] * 11
    create(DATA, [episode(observations=frames)], Box(0, 255, (64, 64, 3), np.uint8))
    large = (50_000, 40_000, 3)
    with pytest.raises(CorruptArtifact, match=r"take 66,000,000,000 bytes, more than 17,179"):
        hdf5.check_pictures(data_file(), large, "mine")


@pytest.mark.parametrize("kind", ["S2147483647", "(30000,30000,30)u1", "object", "complex128"])
def test_spaces_of_other_types_than_numbers_are_refused_before_they_are_made(kind: str) -> None:
    space = {"type": "Box", "shape": [2], "dtype": kind, "low": [0, 0], "high": [1, 1]}
    nested = {"type": "Dict", "subspaces": {"a": space}}
    for whole in (space, nested):
        create(DATA, [episode()])
        metadata({"observation_space": json.dumps(whole)})
        with pytest.raises(CorruptArtifact, match=r"observation_space is of .*, no numbers"):
            read_minari(DATA)


def test_pictures_in_another_of_minaris_formats_are_not_opened(tmp_path: Path) -> None:
    """Pillow hands some kinds of pictures to another program, and only HDF5 is checked for them."""
    pytest.importorskip("pyarrow")
    frames = gymnasium.spaces.Box(0, 255, (40, 40, 3), np.uint8)
    shown = np.zeros((11, 40, 40, 3), np.uint8)
    create("arrow/frames-v0", [episode(observations=shown)], frames, data_format="arrow")
    with pytest.raises(BadConfig, match="is stored as 'arrow'; of Minari's formats only hdf5"):
        read_minari("arrow/frames-v0")


def test_bytes_are_bytes_in_any_number_of_dimensions() -> None:
    bytes_ = gymnasium.spaces.Box(0, 255, (2, 2, 2, 2), np.uint8)
    seen = np.arange(11 * 16, dtype=np.uint8).reshape(11, 2, 2, 2, 2)
    data = read_minari(create("test/bytes-v0", [episode(observations=seen)], bytes_))
    assert data.observations.dtype == np.uint8
    assert np.array_equal(data.observations, seen[:-1])
    few = gymnasium.spaces.Box(0, 255, (4,), np.uint8)  # which Minari holds in other types alone
    data = read_minari(
        create(
            "test/few-v0",
            [episode(observations=seen[:, 0, 0, 0].repeat(2, 1).astype(np.int64))],
            few,
        )
    )
    assert data.observations.dtype == np.float32


def test_whether_there_are_labels_is_seen_without_reading_what_lies_elsewhere() -> None:
    probs = np.full((10, 2), 0.5, np.float32)
    create(DATA, [episode(infos={"action_probs": probs})])
    assert not lacks_action_probs(DATA)
    create(DATA, [episode()])
    assert lacks_action_probs(DATA)
    data_file().unlink()
    os.mkfifo(data_file())
    assert not lacks_action_probs(DATA)


@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json", "another"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_refused_and_not_waited_for(name: str, kind: str) -> None:
    create(DATA, [episode()])
    file = data_file().with_name(name)
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(CorruptArtifact, match=f"{name} is no regular file"):
        read_minari(DATA)
    assert (DATA in local_datasets()) == (name != "metadata.json")
    file.unlink()


def test_a_link_to_a_file_of_ones_own_is_followed(tmp_path: Path) -> None:
    create(DATA, [episode()])
    shutil.move(data_file(), tmp_path / "elsewhere.hdf5")
    data_file().symlink_to(tmp_path / "elsewhere.hdf5")
    assert len(read_minari(DATA)) == 10


def test_nothing_that_metadata_name_is_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    create(DATA, [episode()], env=gymnasium.make("CartPole-v1"))
    spec = json.loads(json.loads(data_file().with_name("metadata.json").read_text())["env_spec"])
    spec["entry_point"] = "planted:Env"
    metadata({"env_spec": json.dumps(spec), "observation_space": None})
    with pytest.raises(BadConfig, match="does not name its observation_space"):
        read_minari(DATA)


@pytest.mark.parametrize(
    "change",
    [
        {"env_spec": "no JSON"},
        {"env_spec": "[" * 10_000},
        {"env_spec": 5},
        {"env_spec": '{"id": {}, "kwargs": 7}'},
        {"author": {"a": [1, 2]}, "ref_min_score": float("nan"), "description": 7},
        {"total_steps": "ten"},
        {"total_steps": -1},
        {"data_format": "no such"},
        {"observation_space": "{}"},
        {"observation_space": '{"type": "Box"}'},
    ],
)
def test_metadata_of_any_kind_are_a_card_or_one_line(change: dict[str, Any]) -> None:
    create(DATA, [episode()])
    metadata(change)
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(main, ["dataset", "show", DATA, *options])
        assert shown.exit_code in (0, 2)
        if shown.exit_code:
            assert len(shown.stderr.splitlines()) == 1
            assert shown.stderr.startswith("Error: ")
        elif options:
            json.loads(shown.stdout, parse_constant=pytest.fail)


def test_a_namespace_is_no_dataset_and_is_not_removed() -> None:
    ids = ["tests/pen/human-v0", "tests/door/human-v0"]
    for id_ in ids:
        create(id_, [episode()])
    for name in ("tests", "tests/pen"):
        assert not remove_dataset(name)
        with pytest.raises(UnknownName):
            load_dataset(name)
    assert remove_dataset(ids[0])
    assert not {*ids} - {*local_datasets()} - {ids[0]}
    assert remove_dataset(ids[1])


def test_the_only_copy_of_anothers_columns_is_not_removed() -> None:
    first, second = "tests/one/two-v0", "tests-one/two-v0"  # whose columns share a folder
    assert columns_folder(first) == columns_folder(second)
    env = gymnasium.make("CartPole-v1")
    build_columns(first, iter(some_episodes(2)), {}, env)
    create(second, [episode()])
    assert remove_dataset(second)
    assert load_dataset(first).id == first
    assert remove_dataset(first)
    assert not columns_folder(first).exists()


def test_folders_that_are_none_of_minaris_hide_no_dataset() -> None:
    create(DATA, [episode()])
    root = Path(get_dataset_path(""))
    for odd in ("No Id At All/data", "tests/without-version/data", "tests/empty-v0/data"):
        (root / odd).mkdir(parents=True)
    (root / "tests/loop").symlink_to(root)
    try:
        assert DATA in local_datasets()
        assert "tests/empty-v0" not in local_datasets()
    finally:
        (root / "tests/loop").unlink()
        shutil.rmtree(root / "No Id At All")
        for name in ("without-version", "empty-v0"):
            shutil.rmtree(root / "tests" / name)


def test_a_card_bears_any_value() -> None:
    huge = 2**53
    create(
        DATA,
        [
            episode(2, actions=np.array([0, 10**12]), rewards=np.array([huge, 0.0])),
            episode(2, actions=np.array([1, 5]), rewards=np.array([huge, 2.0])),
        ],
        actions=Discrete(10**12 + 1),
    )
    card = card_of(read_minari(DATA))
    assert card["actions"] == {"kinds": 4, "lowest": 0, "highest": 10**12}
    assert sum(card["returns"]["counts"]) == 2
    assert "4 of 0 to 1000000000000" in write_card(card)
    wide = np.zeros((2, 3, 5), np.float32)
    create(DATA, [episode(2, actions=wide)], actions=Box(-1, 1, (3, 5)))
    assert "and 3 more" in write_card(card_of(read_minari(DATA)))


def test_returns_closer_than_floats_can_tell_have_a_histogram() -> None:
    create(DATA, [episode(1, rewards=np.array([2.0**24])), episode(1, rewards=np.array([2.0**24]))])
    data = read_minari(DATA)
    object.__setattr__(data, "rewards", np.array([1e16, 1e16 + 2]))
    assert sum(card_of(data)["returns"]["counts"]) == 2


# Frames that are not the frames.


def frames(length: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (length, *shape)).astype(np.uint8)


def test_jpeg_is_said_to_be_lossy_wherever_the_data_are_shown() -> None:
    shown = frames(11, (64, 64, 3))
    create(DATA, [episode(observations=shown)], Box(0, 255, (64, 64, 3), np.uint8))
    data = read_minari(DATA)
    assert data.observations.shape == (10, 3, 64, 64)
    assert not np.array_equal(data.observations, shown[:10].transpose(0, 3, 1, 2))
    assert data.origin.lossy
    card = card_of(data)
    assert card["lossy"]
    assert "stored as JPEG, which is lossy" in write_card(card)
    results = {result.name: result for result in check_dataset(DATA)}
    assert results["frames_are_exact"].status == "failed"
    assert "channel first" in results["frames_are_exact"].message


def test_frames_stored_channel_first_are_exact() -> None:
    shown = frames(11, (3, 64, 64))
    create(DATA, [episode(observations=shown)], Box(0, 255, (3, 64, 64), np.uint8))
    data = read_minari(DATA)
    assert np.array_equal(data.observations, shown[:10])
    assert not data.origin.lossy
    assert {r.name: r.status for r in check_dataset(DATA)}["frames_are_exact"] == "passed"


@pytest.mark.parametrize("shape", [(64, 64, 3), (84, 84), (5,), (12, 7, 1)])
def test_frames_that_minari_would_store_as_jpeg_are_not_collected(shape: tuple[int, ...]) -> None:
    one = Episode(frames(3, shape), np.zeros(3, np.int64), np.ones(3, np.float32), 0)
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(BadConfig, match="lossy JPEG"):
        write_minari("tests/jpeg-v0", [one], {}, env)
    assert not Path(get_dataset_path("tests/jpeg-v0")).exists()
    assert not list(Path(get_dataset_path("")).glob(".building*"))


# Disks that are full, and folders that cannot be made.


def some_episodes(number: int) -> list[Episode]:
    rows = np.zeros((50, 4), np.float32)
    one = Episode(rows, np.zeros(50, np.int64), np.ones(50, np.float32), 0)
    return [one] * number


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_disk_that_is_full_while_minari_writes_is_one_line(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, claims = "tests/full-v0", []
    allocate = os.posix_fallocate

    def until_full(descriptor: int, start: int, size: int) -> None:
        claims.append(size)
        if len(claims) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", until_full)
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(RLCondenseError, match="No space left on device") as caught:
        write_minari(name, some_episodes(30), {}, env)
    assert "\n" not in str(caught.value)
    assert min(claims) > 8_000_000
    assert not Path(get_dataset_path(name)).exists()
    assert not list(Path(get_dataset_path("")).glob(".building*"))
    monkeypatch.undo()
    write_minari(name, some_episodes(30), {}, env)
    assert len(minari.load_dataset(name)) == 30
    assert not list(Path(get_dataset_path(name)).rglob(".claim"))
    shutil.rmtree(get_dataset_path(name))


@pytest.mark.parametrize(
    "command",
    [
        ["dataset", "list"],
        ["dataset", "show", "lab/any-v0"],
        ["dataset", "build", "classic/cartpole/expert-v0"],
        ["dataset", "show", "lab/any-v0", "--download"],
        ["run", "--method", "random", "--task", "cartpole", "--size", "5"],
    ],
)
def test_a_minari_folder_that_cannot_be_made_is_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "minari"))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"Minari's folder {tmp_path}/file/minari cannot be used" in done.stderr
    assert "MINARI_DATASETS_PATH" in done.stderr


def test_columns_of_another_format_are_converted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    create(DATA, [episode()], VECTORS)
    read_minari(DATA)
    file = columns_folder(DATA) / "rewards.npy"
    before = file.stat().st_mtime_ns
    read_minari(DATA)
    assert file.stat().st_mtime_ns == before
    monkeypatch.setattr(storage, "_FORMAT", 10)
    read_minari(DATA)
    assert file.stat().st_mtime_ns != before


def test_an_episode_without_steps_is_refused() -> None:
    reader = _EpisodeReader("dataset 'a'", VECTORS, TWO)
    with pytest.raises(CorruptArtifact, match="dataset 'a', episode 3 has no steps"):
        reader.columns(SimpleNamespace(rewards=np.ones(0)), 3)
