"""A cut file, a flipped byte, a wrong sha256: said, and not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.cli import main
from rlcondense.datasets.minari import columns_folder, is_local, remove_minari, set_aside
from rlcondense.datasets.traces import Trace, load_trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.make import load_dataset
from rlcondense.tasks.base import Task

NAME = "tests/shipped-v0"


class FileDataset:
    """As `TraceDataset`, with a trace of the tests' own."""

    api_version = 1

    def __init__(self, id: str, path: str) -> None:
        self.path = Path(path)

    def episodes(self, task: Task, progress: object) -> Iterator[object]:
        return replay(load_trace(self.path), task)


@pytest.fixture
def path(
    tmp_path: Path, trace: Trace, tiny: TransitionDataset, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    path = tmp_path / "trace.safetensors"
    trace.save(path)
    _offer(monkeypatch, path, tiny.sha256)
    yield path
    remove_minari(NAME)


def _offer(monkeypatch: pytest.MonkeyPatch, path: Path, sha256: str) -> None:
    entry = Entry(
        "datasets",
        NAME,
        f"{__name__}:FileDataset",
        config={"path": str(path)},
        facts={"task": "procgen/starpilot-easy-v0", "sha256": sha256},
    )
    monkeypatch.setitem(catalogue._registered, ("datasets", NAME), entry)


def test_an_unharmed_trace_is_built_and_verified(path: Path, tiny: TransitionDataset) -> None:
    assert load_dataset(NAME).sha256 == tiny.sha256
    done = CliRunner().invoke(main, ["dataset", "verify", NAME])
    assert done.exit_code == 0, done.output
    assert "as the catalogue says" in done.stdout
    again = CliRunner().invoke(main, ["dataset", "build", "--rebuild", NAME])
    assert again.exit_code == 0, again.output
    assert tiny.sha256 in again.stdout


def test_what_cannot_be_built_anew_stays(path: Path, tiny: TransitionDataset) -> None:
    load_dataset(NAME)
    path.unlink()
    done = CliRunner().invoke(main, ["dataset", "build", "--rebuild", NAME])
    assert done.exit_code == 2
    assert "is missing" in done.stderr
    assert load_dataset(NAME).sha256 == tiny.sha256
    assert not list(columns_folder(NAME).parent.glob(".*.aside"))


def test_what_a_killed_rebuild_set_aside_comes_back(path: Path, tiny: TransitionDataset) -> None:
    load_dataset(NAME)
    columns = columns_folder(NAME)
    columns.rename(columns.with_name(f".{columns.name}.aside"))
    path.unlink()
    done = CliRunner().invoke(main, ["dataset", "build", "--rebuild", NAME])
    assert done.exit_code == 2
    assert load_dataset(NAME).sha256 == tiny.sha256


def test_data_below_another_dataset_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for name in ("x/a-v0", "x/a-v0/b-v0"):
        (tmp_path / name / "data").mkdir(parents=True)
    with set_aside("x/a-v0"):
        assert not (tmp_path / "x" / "a-v0" / "data").exists()
        assert (tmp_path / "x" / "a-v0" / "b-v0" / "data").is_dir()
        (tmp_path / "x" / "a-v0" / "data").mkdir()
    remove_minari("x/a-v0")
    assert not (tmp_path / "x" / "a-v0" / "data").exists()
    assert (tmp_path / "x" / "a-v0" / "b-v0" / "data").is_dir()
    remove_minari("x/a-v0/b-v0")
    assert not (tmp_path / "x" / "a-v0" / "b-v0").exists()


def test_a_trace_cut_in_the_middle_leaves_nothing(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptArtifact, match="not a readable safetensors file"):
        load_dataset(NAME)
    assert not is_local(NAME)


@pytest.mark.parametrize("part", ["actions", "probabilities"])
def test_a_flipped_byte_is_noticed_and_nothing_is_left(path: Path, trace: Trace, part: str) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(trace.actions.tobytes()) if part == "actions" else len(content) - 40
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact):
        load_dataset(NAME)
    assert not is_local(NAME)


def test_a_wrong_sha256_is_said_and_the_data_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset(NAME)
    _offer(monkeypatch, path, "0" * 64)
    with pytest.raises(CorruptArtifact, match="is not the shipped one"):
        load_dataset(NAME)
    remove_minari(NAME)
    done = CliRunner().invoke(main, ["dataset", "build", NAME])
    assert done.exit_code == 2
    assert "came out different from what the catalogue says" in done.stderr
    assert "a trace that this platform plays differently" in done.stderr
    assert not is_local(NAME)
