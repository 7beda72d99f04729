from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.making import make_method
from rlcondense.methods.condensed import CondensedDataset
from rlcondense.reporting.pictures import SHOWN, draw, write_picture
from rlcondense.tasks.base import Task


@pytest.fixture(scope="module")
def synthetic(tiny: TransitionDataset, task: Task) -> CondensedDataset:
    method = make_method("gradmatch", network="cnn4", iterations=2)
    return method.condense(tiny, task=task, budget=30)


def test_synthetic_frames_stand_below_what_they_started_as(
    synthetic: CondensedDataset, tiny: TransitionDataset
) -> None:
    drawn = draw(synthetic, tiny)
    assert drawn is not None
    sheet, picture = drawn
    assert sheet.shape == (3 * 64, SHOWN * 64, 3)
    row = picture.rows[1]
    start = tiny.observations[synthetic.initial_indices[row]].transpose(1, 2, 0)
    assert np.array_equal(sheet[:64, 64:128], start)
    after = synthetic.observations[row].transpose(1, 2, 0)
    assert np.abs(sheet[64:128, 64:128] - after).max() <= 0.5
    moved = (sheet[128:, 64:128] - 127.5) / picture.amplified
    assert np.abs(moved - (after - start)).max() <= 1 / picture.amplified
    assert picture.amplified >= 32  # two steps of a grey level would not be seen
    assert picture.kind == "synthetic"


def test_the_shares_of_actions_are_those_of_the_labels(
    synthetic: CondensedDataset, tiny: TransitionDataset
) -> None:
    drawn = draw(synthetic, tiny)
    assert drawn is not None
    picture = drawn[1]
    assert picture.actions is not None
    assert picture.dataset_actions is not None
    assert len(picture.actions) == len(picture.dataset_actions) == 15
    assert picture.actions[2] == pytest.approx((synthetic.actions == 2).mean(), abs=1e-6)
    assert sum(picture.dataset_actions) == pytest.approx(1, abs=1e-4)


def test_a_selection_is_one_line_of_frames(tiny: TransitionDataset, task: Task) -> None:
    drawn = draw(make_method("random").condense(tiny, task=task, budget=4), tiny)
    assert drawn is not None
    sheet, picture = drawn
    assert sheet.shape == (64, 4 * 64, 3)
    assert (picture.kind, picture.rows) == ("selection", (0, 1, 2, 3))


def test_what_is_written_is_a_png_and_what_it_shows(
    synthetic: CondensedDataset, tmp_path: Path
) -> None:
    synthetic.save(tmp_path / "condensed")
    path = write_picture(tmp_path / "condensed", tmp_path / "out")
    assert path == tmp_path / "out.png"
    assert imageio.imread(path).shape == (3 * 64, SHOWN * 64, 3)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert len(facts["dataset_actions"]) == 15
    assert facts["size"] == 30


def test_another_dataset_of_the_sources_name_is_not_shown(
    synthetic: CondensedDataset, tmp_path: Path
) -> None:
    assert synthetic.report is not None
    other = replace(synthetic, report=replace(synthetic.report, dataset_sha256="0" * 64))
    other.save(tmp_path / "condensed")
    path = write_picture(tmp_path / "condensed", tmp_path / "out")
    assert path is not None
    assert imageio.imread(path).shape == (64, SHOWN * 64, 3)


def test_rows_that_the_source_does_not_have_are_not_shown(
    synthetic: CondensedDataset, tiny: TransitionDataset
) -> None:
    drawn = draw(replace(synthetic, initial_indices=np.full(len(synthetic), 10**9)), tiny)
    assert drawn is not None
    sheet, picture = drawn
    assert sheet.shape == (64, SHOWN * 64, 3)
    assert picture.dataset_actions is None


@pytest.mark.parametrize("actions", [[10**12, 0], [-1, 0]])
def test_actions_without_end_have_no_shares(actions: list[int]) -> None:
    frames = np.zeros((2, 3, 8, 8), np.uint8)
    drawn = draw(CondensedDataset(frames, np.array(actions), weights=np.ones(2, np.float32)))
    assert drawn is not None
    assert drawn[1].actions is None
