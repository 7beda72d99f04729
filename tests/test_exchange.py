"""Exported data: what others read is what was there, and the examples need nothing of ours."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from rlcondense import catalogue, exchange
from rlcondense.cli import main
from rlcondense.datasets.condensed import CondensedDataset, Initialisation, load_condensed
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.recordings import save_recording
from rlcondense.datasets.report import CondensationReport, Cost
from rlcondense.datasets.transitions import Origin, TransitionDataset
from rlcondense.datasets.writers import write_hdf5, write_npz
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra
from rlcondense.evaluation import evaluate
from rlcondense.exchange import export
from rlcondense.files import read_arrays, sha256_arrays
from rlcondense.make import load_dataset, make_learner, make_method, make_task
from rlcondense.running.bench import make_bench
from rlcondense.running.compute import artifact_row
from rlcondense.running.condensing import condense
from rlcondense.running.pairs import preferred_learner
from rlcondense.runtime.progress import silent
from rlcondense.scaling import Scaling
from rlcondense.statistics.intervals import welch_interval
from tests.datasets.lerobot import vector_column, write_lerobot

HAS_PYARROW = find_spec("pyarrow") is not None
FORMATS = ("npz", "hdf5", "minari", *(["parquet"] if HAS_PYARROW else []))
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed")
GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "your-own-data.md"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of cartpole, the last one truncated."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("poles") / "poles.recording.safetensors"
    episodes = []
    for level, length in enumerate((5, 1, 7)):
        probs = np.tile(np.float32([51 / 255, 204 / 255]), (length, 1))
        episodes.append(
            Episode(
                observations=rng.normal(size=(length, 4)).astype(np.float32),
                actions=rng.integers(0, 2, length),
                rewards=rng.normal(size=length).astype(np.float32),
                level_seed=level,
                action_probs=probs,
                truncated=length == 7,
            )
        )
    save_recording(path, episodes, {"task": "classic/cartpole-v0"})
    return path


@pytest.fixture(scope="module")
def frames() -> TransitionDataset:
    """Two episodes of frames of starpilot."""
    rng = np.random.default_rng(1)
    ends = np.array([False, False, True, False, False, True])
    return TransitionDataset(
        observations=rng.integers(0, 256, (6, 3, 64, 64), dtype=np.uint8),
        actions=np.arange(6),
        rewards=np.ones(6, np.float32),
        terminations=ends,
        truncations=np.zeros(6, bool),
        episode_ids=np.array([0, 0, 0, 1, 1, 1]),
        steps=np.array([0, 1, 2, 0, 1, 2]),
        id="tests/frames-v0",
        task="procgen/starpilot-easy-v0",
    )


def condensed(task: str, observations: Any, actions: int) -> CondensedDataset:
    """A condensed set of four rows that has all that one may have."""
    frames = observations.ndim == 4
    probs = np.full((4, actions), 1 / actions, np.float32)
    report = CondensationReport(
        method="frepo",
        config={"iterations": 3},
        seed=1,
        budget={"size": 4},
        dataset="classic/cartpole-v0/expert-v0",
        dataset_sha256="0" * 64,
        expert_sha256=None,
        size=4,
        bytes=100,
        label_kind="soft",
        cost=Cost(),
        task=task,
    )
    return CondensedDataset(
        observations=observations,
        actions=np.zeros(4, np.int64),
        rewards=np.ones(4, np.float32),
        terminations=np.zeros(4, bool),
        action_probs=probs,
        weights=np.float32([1, 2, 3, 0.1]),
        label_kind="soft",
        targets=np.log(probs),
        next_rows=np.array([4, 5, 6, -1]),
        following=observations[:3],
        initialisation=Initialisation({"name": "mlp"}, {"layers.0.weight": np.ones((3, 2))}),
        scaling=None if frames else Scaling(np.zeros(4, np.float32), np.ones(4, np.float32)),
        report=report,
    )


@pytest.fixture(scope="module")
def vectors() -> CondensedDataset:
    values = np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32)
    return condensed("classic/cartpole-v0", values, 2)


@pytest.fixture(scope="module")
def pictures() -> CondensedDataset:
    values = np.random.default_rng(3).uniform(0, 255, (4, 3, 64, 64)).astype(np.float32)
    return condensed("procgen/starpilot-easy-v0", values, 15)


@pytest.mark.parametrize(
    "source",
    [
        "recording",
        *(pytest.param(form, marks=pytest.mark.slow) for form in FORMATS),
        *([pytest.param("lerobot", marks=pytest.mark.slow)] if HAS_PYARROW else []),
    ],
)
def test_every_round_trip_has_the_verdict_of_the_guide(
    recording: Path, tmp_path: Path, source: str
) -> None:
    lines = GUIDE.read_text().splitlines()
    header = next(line for line in lines if line.startswith("| from "))
    row = next(line for line in lines if line.startswith(f"| {source} |"))
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in (header, row)]
    verdicts = dict(zip(*cells, strict=True))
    original = load_dataset(str(recording))
    path = recording if source == "recording" else tmp_path / "source"
    if source == "lerobot":
        write_lerobot(path, lerobot_columns(original), [len(rows) for rows in original.episodes])
    elif source != "recording":
        export(recording, source, path)
    for form in FORMATS:
        losses = export(path, form, tmp_path / form, task="cartpole")
        again = load_dataset(str(tmp_path / form))
        verdict = "exact" if again.sha256 == original.sha256 and not losses else "lossy"
        assert verdicts[form] == verdict, form
        assert again.task == original.task


def lerobot_columns(data: TransitionDataset) -> dict[str, Any]:
    """A dataset's columns by LeRobot's names; ours for those that LeRobot has no name for."""
    return {
        "observation.state": vector_column(np.asarray(data.observations)),
        "action": np.asarray(data.actions),
        "next.reward": np.asarray(data.column("rewards")),
        "next.done": np.asarray(data.column("terminations")),
        "action_probs": vector_column(np.asarray(data.column("action_probs"))),
        "level_seeds": np.asarray(data.column("level_seeds")),
    }


@pytest.mark.parametrize("form", FORMATS)
def test_frames_come_back_as_they_were(
    frames: TransitionDataset, tmp_path: Path, form: str
) -> None:
    assert export(frames, form, tmp_path / "out") == []
    again = load_dataset(str(tmp_path / "out"))
    assert again.sha256 == frames.sha256
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["sha256"], report["returns"]["mean"]) == (frames.sha256, 3)


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_a_condensed_set_is_whole_in_one_file(
    vectors: CondensedDataset, tmp_path: Path, form: str
) -> None:
    vectors.save(tmp_path / "mine")
    assert export(tmp_path / "mine", form, tmp_path / "out") == []
    if form == "npz":
        with np.load(tmp_path / "out" / "data.npz", allow_pickle=False) as file:
            arrays = dict(file)
    else:
        with h5py.File(tmp_path / "out" / "data.hdf5") as file:
            arrays = {name: column[...] for name, column in file.items()}
    arrays["terminations"] = arrays.pop("terminals")  # as formats name it
    assert sha256_arrays(arrays) == sha256_arrays(vectors.arrays())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == vectors.report_json()
    assert report["initialisation"] == {"name": "mlp"}


def test_a_card_says_what_the_source_of_a_set_returns(recording: Path, tmp_path: Path) -> None:
    mean = load_dataset(recording).episode_returns().mean()
    entry = catalogue.find("datasets", "classic/cartpole/expert-v0")
    report = condense(recording, "random", size=3).report
    assert report is not None
    shipped = replace(report, dataset=entry.id, dataset_sha256=entry.facts["sha256"])
    unknown = replace(report, dataset_sha256="0" * 64)
    for number, (made, wanted) in enumerate(
        ((report, f"{mean:.2f}"), (shipped, f"{entry.facts['returns']['mean']:.2f}"), (unknown, ""))
    ):
        small = replace(condense(recording, "random", size=3), report=made)
        export(small, "npz", tmp_path / str(number))
        card = (tmp_path / str(number) / "README.md").read_text()
        line = f"| mean return of an episode condensed from | {wanted} |"
        assert (line in card) == bool(wanted)
        assert ("mean return" in card) == bool(wanted)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "minari"])
def test_an_exported_condensed_set_is_read_back(
    vectors: CondensedDataset, pictures: CondensedDataset, tmp_path: Path, form: str
) -> None:
    frames = np.rint(pictures.observations).astype(np.uint8)
    more = replace(vectors, learning_rate=0.5, held_back=np.array([True, False, False, False]))
    sets = (vectors, more, pictures, replace(pictures, observations=frames, following=None,
                                             next_rows=None))  # fmt: skip
    row = next(li for li in GUIDE.read_text().splitlines() if li.startswith("| condensed set |"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["exact", "exact", "none", "exact"]
    for number, original in enumerate(sets):
        out = tmp_path / str(number)
        export(original, form, out)
        again = load_condensed(out)
        assert again.sha256 == original.sha256
        assert again.observations.dtype == original.observations.dtype
        assert again.report == original.report
        export(out, "npz", tmp_path / f"again-{number}")
        assert load_condensed(tmp_path / f"again-{number}").sha256 == original.sha256
    with pytest.raises(BadConfig, match="is a condensed set, which 'rlcondense evaluate' judges"):
        condense(tmp_path / "0", "random", size=1)
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "0"), "--json"])
    assert json.loads(shown.stdout)["method"] == "frepo"
    [file] = [path for path in (tmp_path / "0").rglob("*") if path.suffix == f".{form}"]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CorruptArtifact):
        load_condensed(tmp_path / "0")


def test_an_exported_set_is_judged_as_the_one_that_was_saved(
    recording: Path, tmp_path: Path
) -> None:
    small = condense(recording, "random", size=3, out=tmp_path / "saved")
    export(small, "npz", tmp_path / "out")
    bench = make_bench(
        "cartpole", recording, learner=make_learner("bc", "cartpole"), seeds=1, episodes=2,
        download=False, device="cpu", results=tmp_path / "r", refresh=False, progress=silent,
    )  # fmt: skip
    saved, out = (artifact_row(bench, tmp_path / name).cell for name in ("saved", "out"))
    assert saved.id == out.id
    settings = [preferred_learner(tmp_path / n, bench.task, "bc") for n in ("saved", "out")]
    assert settings[0] == settings[1]


def test_codes_are_lost_on_export_and_the_loss_is_named(recording: Path, tmp_path: Path) -> None:
    coded = condense(recording, "random", max_bytes=60)
    assert coded.coded is not None
    assert export(coded, "npz", tmp_path / "out") == [exchange.CODES_LOST]
    again = load_condensed(tmp_path / "out")
    assert again.coded is None
    assert again.sha256 == coded.sha256


@needs_pyarrow
def test_parquet_shows_pictures_and_keeps_the_numbers(
    pictures: CondensedDataset, tmp_path: Path
) -> None:
    import pyarrow.parquet

    assert export(pictures, "parquet", tmp_path / "out", licence="cc-by-4.0") == []
    table = pyarrow.parquet.read_table(tmp_path / "out" / "data")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["preview"] == {"_type": "Image"}
    assert set(features) == set(table.column_names)
    others = read_arrays(tmp_path / "out" / "arrays.safetensors")
    arrays = pictures.arrays()
    for name in table.column_names:
        cells = table[name].to_pylist()
        if name == "preview":
            shown = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells]
            expected = np.moveaxis(np.rint(pictures.observations), 1, -1)
            np.testing.assert_array_equal(np.stack(shown), expected)
            continue
        wanted = arrays.pop("terminations" if name == "terminals" else name)
        np.testing.assert_array_equal(np.array(cells, wanted.dtype).reshape(wanted.shape), wanted)
    assert sha256_arrays(others) == sha256_arrays(arrays)
    card = (tmp_path / "out" / "README.md").read_text()
    for text in ('license: "cc-by-4.0"', "| method | frepo |", "| budget | size 4 |", "Zhou"):
        assert text in card, card


@needs_pyarrow
def test_parquet_of_frames_is_pictures(frames: TransitionDataset, tmp_path: Path) -> None:
    import pyarrow.parquet

    export(frames, "parquet", tmp_path / "out")
    cells = pyarrow.parquet.read_table(tmp_path / "out" / "data")["observations"].to_pylist()
    shown = np.asarray(Image.open(io.BytesIO(cells[2]["bytes"]), formats=["PNG"]))
    np.testing.assert_array_equal(shown, np.moveaxis(frames.observations[2], 0, -1))


EXAMPLES = [
    pytest.param(["vectors-npz"]),
    pytest.param(
        [
            f"{name}-{form}"
            for name in ("recording", "frames", "vectors", "pictures")
            for form in FORMATS
            if form != "minari" or name in ("recording", "frames")
        ],
        marks=pytest.mark.slow,
    ),
]


@needs_pyarrow
def test_parquet_from_elsewhere_is_read_and_what_is_broken_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    flags = [False, False, True, True]
    good: dict[str, Any] = {
        "observations": [[0.5, 1.0, 2.0, 3.0]] * 4,  # lists of any length, in two files
        "actions": [0, 1, 0, 1],
        "rewards": [1.0, 1.0, 1.0, 1.0],
        "terminals": flags,
    }
    (tmp_path / "mine" / "data").mkdir(parents=True)
    for name in "ab":
        pa.parquet.write_table(pa.table(good), tmp_path / "mine" / "data" / f"{name}.parquet")
    data = load_dataset(str(tmp_path / "mine"), task="cartpole")
    assert [len(rows) for rows in data.episodes] == [3, 1, 3, 1]
    assert data.observations[7].tolist() == [0.5, 1.0, 2.0, 3.0]
    large = pa.array(good["observations"], pa.large_list(pa.float32()))
    pa.parquet.write_table(pa.table({**good, "observations": large}), tmp_path / "large.parquet")
    loaded = load_dataset(str(tmp_path / "large.parquet"), task="cartpole")
    assert loaded.observations[3].tolist() == [0.5, 1.0, 2.0, 3.0]
    picture = {"bytes": b"no picture", "path": None}
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "uneven": ({"observations": [[0.0]] * 3 + [[0.0] * 2]}, "cartpole", "unequal length"),
        "text": ({"actions": ["a", "b", "c", "d"]}, "cartpole", "no numbers"),
        "empty": ({"rewards": [1.0, None, 1.0, 1.0]}, "cartpole", "empty cells"),
        "pictures": ({"observations": [picture] * 4}, "starpilot", "cannot be read"),
        "shape": ({"observations": [[0.0] * 3] * 4}, "cartpole", "has (4,)"),
    }
    for name, (change, task, message) in cases.items():
        path = tmp_path / f"{name}.parquet"
        pa.parquet.write_table(pa.table({**good, **change}), path)
        with pytest.raises(CorruptArtifact) as refusal:
            load_dataset(str(path), task=task)
        assert message in str(refusal.value), name
        assert "\n" not in str(refusal.value)
    content = (tmp_path / "text.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-9])
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        load_dataset(str(tmp_path / "cut.parquet"), task="cartpole")


@pytest.mark.slow
@pytest.mark.parametrize("names", EXAMPLES)
def test_examples_train_without_this_package(
    names: list[str],
    recording: Path,
    frames: TransitionDataset,
    vectors: CondensedDataset,
    pictures: CondensedDataset,
    tmp_path: Path,
) -> None:
    sources: dict[str, Any] = {
        "recording": recording, "frames": frames, "vectors": vectors, "pictures": pictures
    }  # fmt: skip
    folders = [str(tmp_path / name) for name in names]
    for name, folder in zip(names, folders, strict=True):
        source, form = name.split("-")
        export(sources[source], form, folder)
    code = (
        "import os, runpy, sys\n"
        "sys.modules['rlcondense'] = None\n"  # importing it fails
        "for folder in sys.argv[1:]:\n"
        "    os.chdir(folder)\n"
        "    runpy.run_path('example.py')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *folders],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    losses = [line.split() for line in done.stdout.splitlines()]
    assert len(losses) == len(folders)
    assert all(word == "loss" and np.isfinite(float(value)) for word, value in losses)


@pytest.mark.parametrize(
    "name",
    [
        "t/p-v0",
        "my.data/p-v0",
        "mine/p.x-v0",
        "poles",
        "hf:me/poles",
        "my data",
        "a..b",
        "_p",
        ".",
        "x" * 300,
    ],
)
def test_any_id_of_a_dataset_can_be_exported_for_minari(
    name: str, recording: Path, tmp_path: Path
) -> None:
    data = replace(load_dataset(str(recording)), id=name)
    assert export(data, "minari", tmp_path / "out") == []
    assert load_dataset(str(tmp_path / "out")).sha256 == data.sha256


def test_an_export_goes_through_no_link(recording: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".out.exporting").symlink_to(elsewhere)
    with pytest.raises(BadConfig, match="is a link"):
        export(load_dataset(str(recording)), "npz", tmp_path / "out")
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_an_example_trains_on_actions_of_any_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlcondense.datasets.examples import example_of

    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for shape in ((), (2, 2)):
        columns = {
            "observations": rng.normal(size=(70, 3)).astype(np.float32),
            "actions": rng.normal(size=(70, *shape)).astype(np.float32),
        }
        np.savez(tmp_path / "data.npz", **columns)
        script = example_of("npz", columns, None)
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_columns_larger_than_a_block_are_written_within_a_bound(tmp_path: Path) -> None:
    column = np.lib.format.open_memmap(tmp_path / "c.npy", "w+", np.uint8, (2**13, 2**12))
    column[::97] = 1
    for write, file in ((write_npz, "c.npz"), (write_hdf5, "c.hdf5")):
        tracemalloc.start()
        write(tmp_path / file, {"observations": column})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < column.nbytes / 2, file


def test_what_a_format_does_not_hold_is_named(frames: TransitionDataset, tmp_path: Path) -> None:
    both = replace(
        frames,
        truncations=frames.terminations,
        terminations=np.array([False, False, True, False, False, False]),
        level_seeds=np.arange(6),
    )
    losses = export(both, "npz", tmp_path / "out")
    assert [loss.split(":")[0] for loss in losses] == [
        "1 rows have other ends of episodes than the data",
        "4 rows have another level seed than the data",
    ]
    again = load_dataset(str(tmp_path / "out"))
    assert again.column("truncations").tolist() == [False] * 5 + [True]
    assert losses[0] in (tmp_path / "out" / "README.md").read_text()


def test_a_card_shows_the_settings_of_others_literally(
    vectors: CondensedDataset, tmp_path: Path
) -> None:
    assert vectors.report is not None
    odd = "<img src=x> [link](javascript:x) `code`\n# title"
    replace(vectors, report=replace(vectors.report, config={"note": odd})).save(tmp_path / "set")
    card = _card_of(tmp_path / "set", "mit", tmp_path / "out")
    assert r"\<img src=x\>" in card
    assert "<img" not in card.replace(r"\<", "")
    assert "](javascript" not in card.replace(r"\](", "")
    assert "\n# title" not in card


@pytest.mark.parametrize("name", ["a`\n# title", "../../x", "a b", ""])
def test_weights_of_other_than_plain_names_are_refused(
    vectors: CondensedDataset, name: str, tmp_path: Path
) -> None:
    """Names of arrays become members of archives, and lines of cards."""
    start = Initialisation({"name": "mlp"}, {name: np.ones((3, 2), np.float32)})
    replace(vectors, initialisation=start).save(tmp_path / "set")
    with pytest.raises(CorruptArtifact, match="is no name of a weight"):
        load_condensed(tmp_path / "set")


def _card_of(source: Path, licence: str, out: Path) -> str:
    export(source, "npz", out, licence=licence)
    return (out / "README.md").read_text()


def test_what_cannot_be_exported_is_refused_in_one_line(
    recording: Path, vectors: CondensedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors.save(str(tmp_path / "mine"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    assert r"| licence | mit \|\\nx |" in _card_of(recording, "mit |\nx", tmp_path / "licensed")
    for source, form, out, text in (
        (recording, "npz", "full", "is there already"),
        (tmp_path / "mine", "minari", "new", "no whole episodes"),
        (tmp_path / "none", "npz", "new", "no such file or folder"),
        ("none", "npz", "new", "unknown dataset"),
    ):
        command = ["export", str(source), "--to", form, "--out", str(tmp_path / out)]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2, done.output
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
    [option] = [p for p in main.commands["export"].params if p.name == "to"]
    assert tuple(option.type.choices) == exchange.FORMATS
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[parquet\]'"):
        export(recording, "parquet", tmp_path / "new")
    data = replace(load_dataset(str(recording)), task="", origin=Origin())
    with pytest.raises(BadConfig, match="--task"):
        export(data, "npz", tmp_path / "new")
    with pytest.raises(CorruptArtifact, match="task 'classic/acrobot-v0' has"):
        export(data, "npz", tmp_path / "new", task="acrobot")
    with pytest.raises(BadConfig, match="is of task 'classic/cartpole-v0'"):
        export(vectors, "npz", tmp_path / "new", task="acrobot")
    assert export(data, "npz", tmp_path / "new", task=make_task("cartpole")) == []


STUDENTS = """
import io, json
import imageio.v3, numpy as np, pyarrow.parquet, torch
from safetensors.numpy import save_file
from torch.nn import functional as F

table = pyarrow.parquet.read_table("data")
pictures = [imageio.v3.imread(io.BytesIO(p["bytes"])) for p in table["observations"].to_pylist()]
frames = torch.as_tensor(np.moveaxis(np.stack(pictures), -1, 1)).float() / 255
labels = torch.as_tensor(np.array(table["action_probs"].to_pylist(), np.float32))
weights = {}
for seed in range(SEEDS):
    torch.manual_seed(seed)
    student = torch.nn.ModuleDict({
        "encoder": torch.nn.ModuleDict({
            "conv1": torch.nn.Conv2d(3, 16, 4, stride=2),
            "conv2": torch.nn.Conv2d(16, 32, 4, stride=2),
            "conv3": torch.nn.Conv2d(32, 32, 3),
            "dense": torch.nn.Linear(32 * 4 * 4, 256),
        }),
        "head": torch.nn.Linear(256, 15),
    })
    optimiser = torch.optim.Adam(student.parameters(), 5e-4)
    for _ in range(UPDATES):
        rows = torch.randint(len(frames), (64,))
        x = F.max_pool2d(frames[rows], 2)
        for name in ("conv1", "conv2", "conv3"):
            x = F.relu(student["encoder"][name](x))
        x = F.relu(student["encoder"]["dense"](x.flatten(1)))
        loss = F.cross_entropy(student["head"](x), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    weights |= {f"{seed}.{name}": w.numpy() for name, w in student.state_dict().items()}
save_file(weights, "policies.safetensors")
network = {"name": "compact", "observation_shape": [3, 64, 64], "num_outputs": 15}
facts = {"network": network, "seeds": list(range(SEEDS)), "action_selection": "sample"}
json.dump(facts, open("policies.json", "w"))
"""


@pytest.mark.slow
@needs_pyarrow
def test_students_of_a_bare_environment_return_what_ours_do(tmp_path: Path) -> None:
    seeds, updates = 4, 400
    task, data = "starpilot-plain", "procgen/starpilot-plain/expert-v0"
    small = condense(data, "random", size=500, settings={"labels": "soft"})
    assert export(small, "parquet", tmp_path / "out") == []
    code = STUDENTS.replace("SEEDS", str(seeds)).replace("UPDATES", str(updates))
    blocked = "import sys\nsys.modules['rlcondense'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocked + code],
        check=False,
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    command = ["evaluate", str(tmp_path / "out"), "--task", task, "--dataset", data, "--json",
               "--results", str(tmp_path / "results")]  # fmt: skip
    judged = CliRunner().invoke(main, command)
    assert judged.exit_code == 0, judged.output
    theirs = json.loads(judged.stdout)["record"]
    learner = make_learner("bc", task, network="compact", updates=updates)
    ours = evaluate(learner.fit(small, task=task, seeds=range(seeds)), task)
    means = np.mean(theirs["returns"]["heldout"], axis=1), ours.returns.mean(1)
    floor = json.loads(judged.stdout)["references"]
    blind = [r for r in floor if r["cell"]["method"]["id"] == "random-policy"]
    assert means[1].mean() > 1.3 * blind[0]["summary"]["heldout"]["mean"]  # they have learned
    difference = welch_interval(*means)
    assert difference.low <= 0 <= difference.high, means


def test_an_export_keeps_to_the_task_of_the_data(
    recording: Path, vectors: CondensedDataset, tmp_path: Path
) -> None:
    for source in (load_dataset(str(recording)), vectors):
        with pytest.raises(BadConfig, match="is of task 'classic/cartpole-v0', not of 'classic/"):
            export(source, "npz", tmp_path / "out", task="acrobot")
    assert not (tmp_path / "out").exists()


def test_an_example_learns_the_labels_that_the_set_is_of(recording: Path, tmp_path: Path) -> None:
    data = load_dataset(str(recording))
    for labels, column in (("hard", "actions"), ("soft", "action_probs")):
        method = make_method("random", labels=labels)
        export(method.condense(data, task="cartpole", budget=6), "npz", tmp_path / labels)
        assert (
            f'labels = torch.as_tensor(data["{column}"])'
            in (tmp_path / labels / "example.py").read_text()
        )


def test_a_set_with_a_file_that_is_no_array_is_refused(
    vectors: CondensedDataset, tmp_path: Path
) -> None:
    export(vectors, "npz", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "data.npz", "a") as archive:
        archive.writestr("notes.txt", "mine")
    with pytest.raises(CorruptArtifact, match=r"notes\.txt is no array"):
        load_condensed(tmp_path / "out")


def test_frames_of_another_type_than_the_tasks_are_named(
    frames: TransitionDataset, tmp_path: Path
) -> None:
    floats = replace(frames, observations=frames.observations.astype(np.float32) / 2)
    [loss] = export(floats, "npz", tmp_path / "out")
    assert loss.startswith("observations are float32: readers take what fits the task's uint8")


def test_where_data_were_collected_is_named_if_the_files_do_not_say(
    recording: Path, tmp_path: Path
) -> None:
    data = load_dataset(str(recording), task="cartpole")
    elsewhere = replace(data, task="", origin=replace(data.origin, environment="CartPole-v0"))
    [loss] = export(elsewhere, "npz", tmp_path / "out", task="cartpole")
    assert loss == "the files do not say that the data were collected on CartPole-v0"
    own = replace(data, task="", origin=replace(data.origin, environment="CartPole-v1"))
    assert export(own, "npz", tmp_path / "own", task="cartpole") == []


def test_an_exported_set_that_announces_too_much_is_refused(
    vectors: CondensedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(vectors, "parquet", tmp_path / "out")
    monkeypatch.setattr("rlcondense.datasets.exported.MOST_ARRAY_BYTES", 100)
    with pytest.raises(CorruptArtifact, match="announces more than 100 bytes"):
        load_condensed(tmp_path / "out")


def test_an_exported_array_of_a_length_beyond_64_bits_is_refused(
    vectors: CondensedDataset, tmp_path: Path
) -> None:
    export(vectors, "npz", tmp_path / "out")
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**21},), }}".encode()
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "out" / "data.npz", "a") as archive:
        archive.writestr("more.npy", npy)
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        load_condensed(tmp_path / "out")
