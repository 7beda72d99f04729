"""What is known of data's levels, frames and faults goes where the data go."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.datasets.detectors import inherited_findings
from rlcondense.datasets.minari import remove_minari
from rlcondense.datasets.transitions import Origin, TransitionDataset
from rlcondense.datasets.writers import write_npz
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.exchange import export
from rlcondense.make import load_dataset, make_method, make_task
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.training.corrupt import corrupt_dataset
from rlcondense.validation import check_dataset, heldout_rows
from tests.datasets.minari_data import create, episode

DATA = "tests/kept-v0"
TASK = make_task("cartpole")
FORMATS = ("npz", "hdf5", "minari", *(["parquet"] if find_spec("pyarrow") is not None else []))


def by_reset_seed(*seeds: int) -> TransitionDataset:
    """Episodes of cartpole as Minari stores them, whose reset seeds alone are their levels."""
    episodes = [episode(5 + i, seed=seed) for i, seed in enumerate(seeds)]
    create(DATA, episodes, env=gymnasium.make("CartPole-v1"))
    return load_dataset(DATA, heldout_data=True)


def by_split() -> TransitionDataset:
    """Episodes of held-out levels of which nobody knows which."""
    env = gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="heldout")
    create(DATA, [episode(), episode(5)], env=env)
    return load_dataset(DATA, heldout_data=True)


@pytest.mark.parametrize("to", FORMATS)
def test_exported_data_of_heldout_levels_are_refused_when_they_come_back(
    to: str, tmp_path: Path
) -> None:
    data = by_reset_seed(3, 10_500)
    assert export(DATA, to, tmp_path / to, task="cartpole") == []
    back = load_dataset(tmp_path / to)
    rows = heldout_rows(back, TASK)
    assert rows.tolist() == heldout_rows(data, TASK).tolist() == [5, 6, 7, 8, 9, 10]
    with pytest.raises(BadConfig, match="held-out levels"):
        check_dataset(back, TASK)


def test_what_an_export_cannot_say_is_a_loss(tmp_path: Path) -> None:
    by_split()
    [line] = export(DATA, "npz", tmp_path / "split", task="cartpole")
    assert line == "the files do not say that the data are of held-out levels"
    origin = Origin(environment="CartPole-v1", lossy=True, faulty=(True, False))
    data = replace(by_reset_seed(1, 2), origin=origin)
    assert export(data, "npz", tmp_path / "marks", task="cartpole") == [
        "the format does not say that frames were stored as JPEG",
        "the format does not say which episodes have an injected fault",
    ]
    assert export(data, "minari", tmp_path / "minari", task="cartpole") == []
    back = load_dataset(tmp_path / "minari").origin
    assert (back.lossy, back.faulty) == (True, (True, False))


def test_a_changed_copy_in_memory_is_what_it_was(tmp_path: Path) -> None:
    data = by_reset_seed(3, 10_500)
    changed = replace(data, rewards=data.column("rewards") * 2)
    assert changed.sha256 != data.sha256
    with pytest.raises(BadConfig, match="held-out levels"):
        check_dataset(load_dataset(changed, task="cartpole"), TASK)
    marked = replace(by_reset_seed(1, 2), origin=Origin(lossy=True, faulty=(True, False)))
    marked = replace(marked, rewards=marked.column("rewards") * 2)
    back = load_dataset(marked, task="cartpole").origin
    assert (back.lossy, back.faulty) == (True, (True, False))
    data = by_split()
    with pytest.raises(BadConfig, match="must have level_seeds"):
        load_dataset(replace(data, rewards=data.column("rewards") * 2), task="cartpole")


def test_some_episodes_of_data_keep_their_own_levels() -> None:
    data = by_reset_seed(3, 10_500, 4)
    for episodes, heldout in (((0, 2), 0), ((2, 1), 6), ((1,), 6)):
        rows = np.concatenate(
            [np.arange(data.episodes[i].start, data.episodes[i].stop) for i in episodes]
        )
        assert len(heldout_rows(replace(data, **data.rows(rows)), TASK)) == heldout


def test_another_column_has_another_sha256_and_a_new_name_has_not() -> None:
    data = by_reset_seed(1, 2)
    assert replace(data, id="other", task="t").known_sha256 == data.known_sha256 != ""
    other = replace(data, rewards=data.column("rewards") * 2)
    assert (other.known_sha256, replace(other, rewards=data.rewards).known_sha256) == ("", "")
    assert replace(other, rewards=data.rewards).sha256 == data.sha256
    plain = data.in_memory()
    assert plain.known_sha256 == data.known_sha256
    assert not isinstance(plain.observations, np.memmap)
    report = make_method("random").condense(other, task=TASK, budget=3).report
    assert report is not None
    assert report.dataset_sha256 == other.sha256


def test_a_faulty_copy_keeps_the_levels() -> None:
    by_reset_seed(3, 10_500, 5, 6, 7)
    new = "tests/kept-faulty-v0"
    remove_minari(new)
    data = corrupt_dataset(DATA, "stale-frames", task="cartpole", share=0.4, id=new)
    assert data.level_seeds is not None
    assert sorted({*data.level_seeds.tolist()}) == [3, 5, 6, 7, 10_500]
    with pytest.raises(BadConfig, match="held-out levels"):
        check_dataset(data, TASK)
    by_split()
    remove_minari(new)
    with pytest.raises(BadConfig, match="does not say which"):
        corrupt_dataset(DATA, "stale-frames", task="cartpole", share=0.5, id=new)


@pytest.mark.parametrize("method", ["distmatch", "random"])
def test_a_set_says_that_its_data_were_of_heldout_levels(method: str, tmp_path: Path) -> None:
    by_reset_seed(10_500, 10_501)
    settings = ["--set", "iterations=1"] if method == "distmatch" else []
    command = [
        "condense", "--method", method, "--task", "cartpole", "--dataset", DATA, "--size", "4",
        "--heldout-data", "--out", str(tmp_path / "set"), *settings,
    ]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    small = {"updates": 2, "batch_size": 512, "width": 8}
    options = {
        "seeds": 2, "episodes": 2, "learner_settings": small, "results": tmp_path / "r",
    }  # fmt: skip
    for name in ("cartpole", "cartpole-long"):
        with pytest.raises(BadConfig, match=r"(made of data of|was collected on) held-out levels"):
            evaluate_artifact(str(tmp_path / "set"), name, **options)
    result = evaluate_artifact(str(tmp_path / "set"), "cartpole", heldout_data=True, **options)
    assert "heldout data" in str(result)
    assert [f.name for f in inherited_findings(rlc.load_condensed(tmp_path / "set"))] == [
        "heldout-data"
    ]


def test_levels_that_change_within_an_episode_are_refused(tmp_path: Path) -> None:
    columns = {
        "observation": np.zeros((6, 4), np.float32),
        "action": np.zeros(6, np.int64),
        "reward": np.ones(6, np.float32),
        "terminated": np.array([0, 0, 1, 0, 0, 1], bool),
    }
    for levels, said in (([0, 0, 0, 1, 1, 1], ""), ([0, 10_000, 10_000, 1, 1, 1], "change")):
        path = tmp_path / f"{said}s.npz"
        write_npz(path, {**columns, "level_seed": np.array(levels)})
        if said:
            with pytest.raises(CorruptArtifact, match="level_seeds that change within an episode"):
                load_dataset(path, task="cartpole")
        else:
            assert load_dataset(path, task="cartpole").level_seeds is not None
