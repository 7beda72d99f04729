"""Folders of LeRobot and of the Hub come in, and what is exported goes to the Hub and back."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.datasets import flat, parquet
from rlcondense.datasets.flat import read_flat
from rlcondense.datasets.hub import hub_name
from rlcondense.datasets.sources import content_of
from rlcondense.datasets.writers import write_hdf5, write_npz
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra, RLCondenseError
from rlcondense.make import load_dataset, make_task
from tests.datasets.hub import hub
from tests.datasets.lerobot import vector_column, write_lerobot

WRITERS: dict[str, Any] = {".npz": write_npz, ".hdf5": write_hdf5}

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
LENGTHS = (3, 4, 5, 4)  # of episodes


def picture(pixels: np.ndarray, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


@pytest.fixture(scope="module")
def poles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cartpole as LeRobot would have recorded it, with a video that nobody needs."""
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    features = {"observation.images.top": {"dtype": "video", "shape": [3, 96, 96]}}
    columns = {
        "observation.state": vector_column(rng.normal(size=(rows, 4)).astype(np.float32)),
        "action": rng.integers(0, 2, rows),
    }
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "poles", columns, LENGTHS, features)


def test_a_folder_of_lerobots_is_run_scored_and_exported(poles: Path, tmp_path: Path) -> None:
    data = load_dataset(str(poles), task="cartpole")
    assert tuple(map(len, data.episodes)) == LENGTHS
    ends = np.cumsum(LENGTHS) - 1
    assert np.flatnonzero(data.column("terminations")).tolist() == ends[:-1].tolist()
    assert np.flatnonzero(data.column("truncations")).tolist() == ends[-1:].tolist()
    about = ["--dataset", str(poles), "--task", "cartpole"]
    for command in (
        ["run", "--method", "random", *about, "--size", "4", "--seeds", "1", "--episodes", "2",
         "--condensations", "1", "--set", "learner.updates=1", "--workers", "1",
         "--results", str(tmp_path / "r")],
        ["score", str(poles), "--task", "cartpole", "--method", "longest",
         "--out", str(tmp_path / "scores.csv")],
        ["export", str(poles), "--task", "cartpole", "--to", "npz", "--out", str(tmp_path / "out")],
    ):  # fmt: skip
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "scores.csv").read_text().count("\n") == len(LENGTHS) + 1
    assert load_dataset(str(tmp_path / "out")).sha256 == data.sha256


def test_frames_are_those_of_one_camera_and_no_video(poles: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = sum(LENGTHS)
    frames = rng.integers(0, 256, (rows, 64, 64, 3), dtype=np.uint8)
    cells = [{"bytes": picture(frame), "path": "frame.png"} for frame in frames]
    feature = {"dtype": "image", "shape": [64, 64, 3]}
    columns = {
        "observation.state": vector_column(np.zeros((rows, 2), np.float32)),
        "observation.images.top": cells,
        "action": vector_column(np.arange(rows)[:, None] % 15),
    }
    features = {"observation.images.top": feature}
    one = write_lerobot(tmp_path / "one", columns, LENGTHS, features)
    data = load_dataset(str(one), task="starpilot")
    np.testing.assert_array_equal(data.observations, np.moveaxis(frames, -1, 1))
    assert data.actions.tolist() == [row % 15 for row in range(rows)]
    columns["observation.images.wrist"] = cells
    two = write_lerobot(tmp_path / "two", columns, LENGTHS)
    for folder, message in ((two, "several cameras"), (poles, "videos .*are not read")):
        with pytest.raises(BadConfig, match=message) as refusal:
            load_dataset(str(folder), task="starpilot")
        assert "\n" not in str(refusal.value)


def test_the_hubs_pictures_lie_in_cells_or_in_files_of_the_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    folder = tmp_path / "mine"
    (folder / "data" / "images").mkdir(parents=True)
    for number, frame in enumerate(frames[:2]):
        (folder / "data" / "images" / f"{number}.png").write_bytes(picture(frame))
    cells = [{"bytes": None, "path": f"data/images/{number}.png"} for number in range(2)]
    cells += [{"bytes": picture(frame), "path": None} for frame in frames[2:]]
    table = {"observation": cells, "action": [0, 1, 2, 3], "reward": [1.0] * 4,
             "done": [False, True, False, True]}  # fmt: skip
    pq.write_table(pa.table(table), folder / "data" / "train-00000-of-00001-0a1b.parquet")
    pq.write_table(pa.table(table), folder / "data" / "test-00000-of-00001.parquet")
    data = load_dataset(str(folder), task="starpilot")
    np.testing.assert_array_equal(data.observations, np.moveaxis(frames, -1, 1))
    alone = folder / "data" / "train-00000-of-00001-0a1b.parquet"
    with pytest.raises(CorruptArtifact, match="name the folder of the data"):
        load_dataset(str(alone), task="starpilot")
    known = content_of(folder)
    (folder / "data" / "images" / "0.png").write_bytes(picture(255 - frames[0]))
    assert content_of(folder) != known
    table["observation"] = [{"bytes": None, "path": "../../secret.png"}] * 4
    (tmp_path / "secret.png").write_bytes(picture(frames[0]))
    pq.write_table(pa.table(table), folder / "data" / "train-00000-of-00001-0a1b.parquet")
    with pytest.raises(CorruptArtifact, match="holds no pictures"):
        load_dataset(str(folder), task="starpilot")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_pictures_that_are_stored_as_jpeg_are_said_to_be_lossy(tmp_path: Path, form: str) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    cells = [{"bytes": picture(frame), "path": None} for frame in frames[:3]]
    cells.append({"bytes": picture(frames[3], form), "path": None})
    table = {"observation": cells, "action": [0, 1, 2, 3], "reward": [1.0] * 4,
             "done": [False, True, False, True]}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    data = load_dataset(str(tmp_path / "mine.parquet"), task="starpilot")
    exact = np.array_equal(data.observations, np.moveaxis(frames, -1, 1))
    assert (data.origin.lossy, exact) == ((True, False) if form == "JPEG" else (False, True))


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.float32([0, 0.25, 1]), "grey levels are 0 to 255: multiply by 255"),
        (np.float32([0, 100, 300]), "outside 0..255, from 0 to 300"),
        (np.float32([-1, 100, 200]), "outside 0..255"),
        (np.float32([0, 100.5, 200]), "between grey levels"),
        (np.int64([0, 100, 256]), "outside 0..255"),
    ],
)
def test_frames_that_bytes_cannot_hold_are_refused(
    tmp_path: Path, frames: np.ndarray, message: str, suffix: str
) -> None:
    values = np.resize(frames, (4, 3, 64, 64)).astype(frames.dtype)
    columns = {"observations": values, "actions": np.zeros(4, np.int64), "rewards": np.zeros(4),
               "terminals": np.arange(4) == 3}  # fmt: skip
    path = tmp_path / f"mine{suffix}"
    WRITERS[suffix](path, columns)
    with pytest.raises(CorruptArtifact, match=message) as refusal:
        list(read_flat(path, make_task("starpilot")))
    assert "\n" not in str(refusal.value)
    if suffix == ".npz":
        rest = {"actions": columns["actions"], "rewards": columns["rewards"]}
        with pytest.raises(CorruptArtifact, match=message):
            rlc.from_arrays(observations=values, terminations=columns["terminals"], **rest,
                            task="starpilot")  # fmt: skip


def test_whole_grey_levels_of_any_type_become_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64))
    columns = {"actions": np.zeros(4, np.int64), "rewards": np.zeros(4),
               "terminals": np.arange(4) == 3}  # fmt: skip
    for kind in (np.float32, np.int32):
        np.savez(tmp_path / "mine.npz", observations=frames.astype(kind), **columns)
        [episode] = read_flat(tmp_path / "mine.npz", make_task("starpilot"))
        assert episode.observations.dtype == np.uint8
        assert np.array_equal(episode.observations, frames)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[1.0], [1.0, 2.0, 3.0]], "unequal length"),
        ([[[1.0], [2.0]], [[1.0, 2.0], []]], "unequal length"),
        ([[1.0, None], [1.0, 2.0]], "empty cells"),
        ([[[1.0], None], [[1.0], [1.0]]], "empty cells"),
        ([[1.0] * 4] * 2, "rows of more than 3 values"),
    ],
)
def test_lists_are_of_one_length_and_bounded(
    cells: list[Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_MOST_VALUES", 3)
    pq.write_table(pa.table({"observation.state": cells}), tmp_path / "a.parquet")
    with pytest.raises(CorruptArtifact, match=message):
        parquet.ParquetColumn([tmp_path / "a.parquet"], "observation.state", tmp_path)


def test_long_rows_and_pictures_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def values(self: parquet.ParquetColumn, cells: Any) -> Any:
        sizes.append(len(cells))
        return np.zeros((len(cells), 4))

    monkeypatch.setattr(parquet, "_AT_ONCE", 40)
    monkeypatch.setattr(parquet.ParquetColumn, "_values", values)
    cells = [{"bytes": b"", "path": None}] * 100
    table = {"state": [[1.0] * 4] * 100, "number": [1] * 100, "frame": cells}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    for name in table:
        parquet.ParquetColumn([tmp_path / "a.parquet"], name, tmp_path)
    assert sizes == [10, 40, 8]


def test_rows_without_a_value_are_not_written(tmp_path: Path) -> None:
    columns = {"observations": np.zeros((3, 4)), "actions": np.zeros((3, 0))}
    with pytest.raises(BadConfig, match="actions has rows without a value"):
        parquet.write_parquet(tmp_path / "a.parquet", columns)


def test_only_frames_are_looked_at_for_jpeg(tmp_path: Path) -> None:
    """Another column of parts may hold what Python has no type for."""
    frames = np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    times = pa.array([{"t": 2**62}] * 4, pa.struct([("t", pa.timestamp("us"))]))
    cells = [{"bytes": picture(frame, "JPEG")} for frame in frames]
    table = {"meta": times, "observation": cells, "action": [0, 1, 2, 3], "reward": [1.0] * 4,
             "done": [False, True, False, True]}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    assert load_dataset(str(tmp_path / "mine.parquet"), task="starpilot").origin.lossy


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "action_probs"])
def test_rows_of_another_size_are_refused_before_one_is_read(
    name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {
        "observations": np.zeros((16, 4), np.float32),
        "actions": np.zeros((16, 1), int),
        "rewards": np.zeros((16, 1), np.float32),
        "action_probs": np.full((16, 2), 0.5),
        "terminals": np.arange(16) == 15,
    }
    columns[name] = np.zeros((16, 3))
    WRITERS[suffix](tmp_path / f"a{suffix}", columns)
    taken = []
    for kind in (flat._NpyColumn, flat._Hdf5Column):
        monkeypatch.setattr(kind, "take", lambda self, rows: taken.append(rows) or np.zeros(rows))
    with pytest.raises(CorruptArtifact, match=rf"{name} are float64 of shape \(3,\), task"):
        list(read_flat(tmp_path / f"a{suffix}", make_task("cartpole")))
    assert not taken


def test_bad_parquet_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    shapes = pa.schema([("action", pa.int64())], {"rlcondense.shapes": "[]"})
    pq.write_table(pa.table({"action": [0, 1]}, shapes), first)
    pq.write_table(pa.table({"reward": [0, 1]}), second)
    column = parquet.ParquetColumn([first, second], "action", tmp_path)
    with pytest.raises(CorruptArtifact, match="has no column action"):
        column.take(3)
    content = picture(np.zeros((8, 8, 3), np.uint8))
    pq.write_table(pa.table({"action": [{"bytes": content, "path": None}]}), first)
    for module, limit, value, message in (
        (parquet, "_MOST_PIXELS", 63, "of .8, 8. pixels"),
        (Image, "MAX_IMAGE_PIXELS", 1, "bad picture"),
        (parquet, "_MOST_PICTURE_BYTES", 9, "more than 9 bytes"),
    ):
        monkeypatch.setattr(module, limit, value)
        with pytest.raises(CorruptArtifact, match=message):
            parquet.ParquetColumn([first], "action", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("crc", "observations cannot be read"),
        ("deflate", "observations cannot be read"),
        ("group", "rewards is no array of rows"),
        ("large", "take more than 40 bytes"),
        ("text", "episodes are no numbers"),
    ],
)
def test_bad_columns_are_refused_in_one_line(
    damage: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: dict[str, Any] = {
        "observations": np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32),
        "actions": np.arange(2000) % 2,
        "rewards": np.ones(2000, np.float32),
        "episode_index": np.arange(2000) // 8,
    }
    path = tmp_path / ("a.hdf5" if damage == "group" else "a.npz")
    if damage == "group":
        write_hdf5(path, columns)
        with h5py.File(path, "a") as file:
            del file["rewards"]
            file.create_group("rewards")
    elif damage == "text":
        np.savez(path, **{**columns, "episode_index": columns["episode_index"].astype("U9")})
    else:
        (np.savez_compressed if damage == "deflate" else np.savez)(path, **columns)
    if damage in ("crc", "deflate"):
        content = bytearray(path.read_bytes())
        content[20000:20064] = bytes([255] * 64)  # of observations
        path.write_bytes(content)
    if damage == "large":
        monkeypatch.setattr(flat, "MOST_COLUMN_BYTES", 40)
    with pytest.raises(CorruptArtifact, match=message) as refusal:
        list(read_flat(path, make_task("cartpole")))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(
    "levels",
    [
        np.full(16, np.nan),
        np.full(16, 10000.9),
        np.full(16, 2**63, np.uint64),
        np.full((16, 3), 10000),
        np.full((16, 0), 10000),
    ],
    ids=["nan", "fraction", "beyond 64 bits", "three a row", "none a row"],
)
def test_levels_that_are_no_whole_numbers_are_refused(
    levels: Any, suffix: str, tmp_path: Path
) -> None:
    columns = {
        "observations": np.zeros((16, 4), np.float32),
        "actions": np.arange(16) % 2,
        "rewards": np.ones(16, np.float32),
        "episode_index": np.arange(16) // 8,
        "level_seeds": levels,
    }
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path, columns)
    with pytest.raises(CorruptArtifact, match="level_seeds that are not one whole number a row"):
        list(read_flat(path, make_task("cartpole")))


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_episode_without_a_number_is_refused(suffix: str, tmp_path: Path) -> None:
    """A number that is missing equals no other, not even the one of the row before."""
    columns = {
        "observations": np.zeros((8, 4), np.float32),
        "actions": np.arange(8) % 2,
        "rewards": np.ones(8, np.float32),
        "episode_index": np.array([0, 0, 0, 0, 1, np.nan, 1, 1]),
    }
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path, columns)
    with pytest.raises(CorruptArtifact, match="episodes has rows without a number"):
        list(read_flat(path, make_task("cartpole")))


def test_rows_without_values_are_refused_before_memory_is_taken_for_them(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("observations", "actions", "rewards", "terminals"):
            head = io.BytesIO()
            facts = {"descr": "<f4", "fortran_order": False, "shape": (2**60, 0)}
            np.lib.format.write_array_header_1_0(head, facts)
            archive.writestr(f"{name}.npy", head.getvalue())
    with pytest.raises(CorruptArtifact, match="observations has rows without a value"):
        list(read_flat(path, make_task("cartpole")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.asfortranarray(np.ones((8, 4)))}, "np.ascontiguousarray"),
        ({"action_probs": np.full((8, 2), "x")}, "action_probs are <U1, no probabilities"),
        ({"action_probs": np.full((8, 2), 0.5 + 1j)}, "action_probs are complex128"),
    ],
    ids=["by column", "text", "complex"],
)
def test_columns_of_other_forms_are_refused_by_what_is_wrong(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    columns: dict[str, Any] = {
        "observations": np.zeros((8, 4), np.float32),
        "actions": np.arange(8) % 2,
        "rewards": np.ones(8, np.float32),
        "terminals": np.arange(8) % 4 == 3,
        **changes,
    }
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(CorruptArtifact, match=re.escape(message)):
        list(read_flat(tmp_path / "a.npz", make_task("cartpole")))


def test_whole_levels_may_be_stored_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(
        path,
        observations=np.zeros((4, 4), np.float32),
        actions=np.arange(4) % 2,
        rewards=np.ones(4, np.float32),
        episode_index=np.arange(4) // 2,
        level_seeds=np.array([7.0, 7.0, 9.0, 9.0]),
    )
    assert [e.level_seed for e in read_flat(path, make_task("cartpole"))] == [7, 9]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "{'descr': '|V0', 'fortran_order': False, 'shape': (16,), }",
            "is no array of rows of numbers",
        ),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 4294967296, 4294967296), }",
            "does not hold the rows that it announces",
        ),
        (
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'-' * 9000}1,), }}",
            "cannot be read",
        ),
    ],
    ids=["nothing a row", "a product that overflows", "minus signs"],
)
def test_headers_of_npy_that_cannot_be_are_refused(
    header: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        length = len(header).to_bytes(2, "little")
        for name in ("observations", "actions", "rewards", "terminations"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + length + header.encode())
    with pytest.raises(CorruptArtifact, match=message):
        list(read_flat(path, make_task("cartpole")))


@pytest.mark.parametrize("source", ["hf:a/b//etc/hosts", "hf:a/b/c//d", "hf:a/b/../c"])
def test_a_path_on_the_hub_stays_in_its_folder(source: str) -> None:
    with pytest.raises(BadConfig, match="is not of the form"):
        hub_name(source)


@pytest.mark.parametrize(
    ("source", "revision", "path"),
    [
        ("hf:a/b@refs/convert/parquet", "refs/convert/parquet", ""),
        ("hf:a/b@refs/pr/3/data/x.npz", "refs/pr/3", "data/x.npz"),
        ("hf:a/b@main/data", "main", "data"),
        ("hf:a/b@newest", "newest", ""),
    ],
)
def test_a_revision_on_the_hub_has_a_name_and_a_folder(
    source: str, revision: str, path: str
) -> None:
    name = hub_name(source)
    assert (name.repository, name.revision, name.path) == ("a/b", revision, path)
    assert name.folder != replace(name, revision="").folder


def test_an_ogbench_file_needs_rewards_and_then_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = 12
    columns = {
        "observations": rng.normal(size=(rows, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, rows),
        "terminals": np.arange(rows) % 4 == 3,
        "qpos": rng.normal(size=(rows, 2)),
    }
    np.savez_compressed(tmp_path / "play.npz", **columns)
    with pytest.raises(BadConfig, match="those of a task with a single goal"):
        load_dataset(str(tmp_path / "play.npz"), task="cartpole")
    np.savez_compressed(tmp_path / "single.npz", **columns, rewards=-np.ones(rows))
    data = load_dataset(str(tmp_path / "single.npz"), task="cartpole")
    assert data.episode_returns().tolist() == [-4.0] * 3


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a dataset on a hub that takes our pushes; none at first."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_TOKEN", "secret")
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def test_an_export_goes_to_the_hub_and_comes_back(
    poles: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["export", str(poles), "--task", "cartpole", "--to", "parquet",
               "--out", str(tmp_path / "out"), "--push"]  # fmt: skip
    with hub("me/poles", there) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        done = CliRunner().invoke(main, [*command, "hf:me/poles"])
        assert done.exit_code == 0, done.output
    for name in ("README.md", "report.json", "data/train-00000-of-00001.parquet"):
        assert (there / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    with hub("me/poles", there) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        data = load_dataset("hf:me/poles")
        with pytest.raises(RLCondenseError, match="hf:me/balls cannot be fetched"):
            load_dataset("hf:me/balls")
    expected = load_dataset(str(poles), task="cartpole")
    assert (data.sha256, data.task) == (expected.sha256, "classic/cartpole-v0")
    assert load_dataset("hf:me/poles").sha256 == data.sha256  # the hub is gone
    assert CliRunner().invoke(main, ["dataset", "remove", "hf:me/poles"]).exit_code == 0
    with pytest.raises(RLCondenseError, match="is this machine online") as refusal:
        load_dataset("hf:me/poles")
    assert "\n" not in str(refusal.value)
    shutil.rmtree(tmp_path / "out")
    for target in ("me/poles", "hf:me", "hf:me/../poles", "hf:me/poles/data", "hf:me/poles//etc"):
        done = CliRunner().invoke(main, [*command, target])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"rlcondense\[remote\]"):
        load_dataset("hf:me/poles")
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[remote\]'"):
        rlc.export(expected, "npz", tmp_path / "unpushed", push="hf:me/poles")
    assert not (tmp_path / "unpushed").exists()


def test_a_push_takes_the_place_of_the_one_before_and_of_nothing_else(
    poles: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_dataset(str(poles), task="cartpole")
    with hub("me/rods", there) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        rlc.export(expected, "parquet", tmp_path / "older", push="hf:me/rods")
        assert load_dataset("hf:me/rods").sha256 == expected.sha256
        columns = {name: expected.column(name) for name in ("observations", "actions")}
        newer = rlc.from_arrays(
            **columns, rewards=np.full(len(expected), 2.0), task="cartpole",
            terminations=expected.column("terminations"),
        )  # fmt: skip
        rlc.export(newer, "npz", tmp_path / "newer", push="hf:me/rods")
        # Neither what lies there in another format nor what was fetched before stands for it.
        assert [path.name for path in there.rglob("*") if path.is_file()].count("data.npz") == 1
        assert not list(there.rglob("*.parquet"))
        assert load_dataset("hf:me/rods").sha256 == newer.sha256
        (there / "data").mkdir(exist_ok=True)
        (there / "data" / "train-00000-of-00007.parquet").write_bytes(b"somebody's")
        (there / "notes.txt").write_text("somebody's")
        with pytest.raises(RLCondenseError, match=r"not pushed: hf:me/rods has 'data/train-00000-"):
            rlc.export(newer, "npz", tmp_path / "beside", push="hf:me/rods")
        (there / "data" / "train-00000-of-00007.parquet").unlink()
        rlc.export(newer, "hdf5", tmp_path / "again", push="hf:me/rods")
        assert {"notes.txt", "data.hdf5"} < {path.name for path in there.iterdir()}
        assert not (there / "data.npz").exists()


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that NumPy, Python and Arrow hold at once during some work."""
    before = pa.default_memory_pool().max_memory()
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return int(peak + pa.default_memory_pool().max_memory() - before)


@pytest.mark.parametrize("suffix", ["npz", "hdf5", "parquet"])
def test_a_reader_holds_an_episode_at_a_time(tmp_path: Path, suffix: str) -> None:
    rows = 2**17
    values = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    columns = {
        "observations": values,
        "actions": np.arange(rows) % 2,
        "rewards": np.ones(rows, np.float32),
        "terminals": np.arange(rows) % 2**9 == 2**9 - 1,
    }
    path = tmp_path / f"large.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({**columns, "observations": vector_column(values)}), path)
    else:
        (write_npz if suffix == "npz" else write_hdf5)(path, columns)
    task = make_task("cartpole")
    peak = peak_of(lambda: sum(len(e.rewards) for e in read_flat(path, task)))
    assert peak < sum(column.nbytes for column in columns.values()) / 3


@pytest.mark.slow
def test_twenty_gigabytes_scaled_down_take_a_bounded_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (2**11, 2**12, 2**13):  # 25, 50 and 100 MB of frames
        frames = np.zeros((rows, 3, 64, 64), np.uint8)
        frames[:, 0, 0, 0] = np.arange(rows) % 251
        write_npz(
            tmp_path / f"{rows}.npz",
            {
                "observations": frames,
                "actions": np.arange(rows) % 15,
                "rewards": np.ones(rows, np.float32),
                "terminals": np.arange(rows) % 2**5 == 2**5 - 1,
            },
        )
        del frames
        source = str(tmp_path / f"{rows}.npz")
        peaks.append(peak_of(lambda source=source: load_dataset(source, task="starpilot")))
    assert peaks[2] < 1.2 * peaks[1] < 1.44 * peaks[0]
    assert peaks[2] < 100e6 / 4


def _part(path: Path, numbers: list[int], last: int = -1) -> None:
    """Write rows of cartpole, whose rewards are their numbers, as parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "observations": [[float(n)] * 4 for n in numbers],
        "actions": [0] * len(numbers),
        "rewards": [float(n) for n in numbers],
        "terminals": [n == last for n in numbers],
    }
    pq.write_table(pa.table(table), path)


def test_files_of_parquet_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(12):
        _part(tmp_path / "mine" / f"part-{number}.parquet", [2 * number, 2 * number + 1], last=5)
    data = load_dataset(str(tmp_path / "mine"), task="cartpole")
    assert data.column("rewards").tolist() == list(range(24))
    assert [len(rows) for rows in data.episodes] == [6, 18]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a/train/0000.parquet", "b/train/0000.parquet"), "'a/train', 'b/train'"),
        (("test.parquet", "validation.parquet"), "test"),
        (("data/test-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"), "test"),
    ],
)
def test_configurations_and_splits_are_not_mixed(
    names: tuple[str, str], told: str, tmp_path: Path
) -> None:
    for name in names:
        _part(tmp_path / "mine" / name, [0, 1])
    with pytest.raises(BadConfig, match=f"several configurations or splits.*{told}"):
        load_dataset(str(tmp_path / "mine"), task="cartpole")
    (tmp_path / "mine" / names[1]).unlink()
    assert len(load_dataset(str(tmp_path / "mine"), task="cartpole")) == 2


def test_what_an_earlier_fetch_left_is_not_mixed_in(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _part(there / "data" / "train-00000-of-00001.parquet", [0, 1, 2])
    with hub("me/parts", there) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        folder = hub_name("hf:me/parts").folder
        left = folder.with_name(f".{folder.name}.fetching")
        _part(left / "data" / "train-00000-of-00002.parquet", [7, 8])
        data = load_dataset("hf:me/parts", task="cartpole")
        assert data.column("rewards").tolist() == [0, 1, 2]
        monkeypatch.delenv("HF_ENDPOINT")
        assert hub_name("hf:me/parts").folder != folder  # another hub's may be other data


def test_a_damaged_header_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(
        path, observations=np.zeros((4, 4), np.float32), actions=np.zeros(4, int),
        rewards=np.ones(4), terminals=np.arange(4) == 3,
    )  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"}", b" "))
    with pytest.raises(CorruptArtifact, match=r"mine\.npz cannot be read"):
        list(read_flat(path, make_task("cartpole")))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_planes_of_ones_are_not_taken_for_all_but_black(kind: Any, tmp_path: Path) -> None:
    task = make_task("minatar/breakout")
    shape = (6, *(task.observation_space.shape or ()))
    planes = np.random.default_rng(0).integers(0, 2, shape)
    columns = {"actions": np.zeros(6, int), "rewards": np.ones(6), "terminals": np.arange(6) == 5}
    for factor in (255, 1):
        path = tmp_path / f"{factor}.npz"
        np.savez(path, observations=(factor * planes).astype(kind), **columns)
        if factor == 255:
            assert (load_dataset(str(path), task=task.id).observations == 255 * planes).all()
        else:
            with pytest.raises(CorruptArtifact, match="grey levels are 0 to 255: multiply by 255"):
                rlc.condense(str(path), "random", task=task.id, size=2)


def test_one_dark_episode_is_no_fault(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 2, (6, 3, 64, 64), dtype=np.uint8)
    frames[3:] *= 255
    np.savez(
        tmp_path / "mine.npz", observations=frames, actions=np.zeros(6, int), rewards=np.ones(6),
        terminals=np.arange(6) % 3 == 2,
    )  # fmt: skip
    assert len(rlc.condense(str(tmp_path / "mine.npz"), "random", task="starpilot", size=2)) == 2


def test_a_message_on_a_type_names_what_is_wanted(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "mine.npz", observations=np.zeros((4, 4)), actions=np.zeros(4),
        rewards=np.ones(4), terminals=np.arange(4) == 3,
    )  # fmt: skip
    with pytest.raises(CorruptArtifact, match="actions are float64, not whole numbers"):
        load_dataset(str(tmp_path / "mine.npz"), task="cartpole")
