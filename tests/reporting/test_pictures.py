from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_method, make_task
from rlcondense.reporting.pictures import COLOURS, FEWER, draw, write_picture
from rlcondense.tasks.base import Task


@pytest.fixture(scope="module")
def synthetic(tiny: TransitionDataset, task: Task) -> CondensedDataset:
    method = make_method("gradmatch", preset="per-class", network="compact", iterations=2)
    return method.condense(tiny, task=task, budget=30)


def test_synthetic_frames_stand_below_what_they_started_as(
    synthetic: CondensedDataset, tiny: TransitionDataset
) -> None:
    drawn = draw(synthetic, tiny)
    assert drawn is not None
    sheet, picture = drawn
    assert sheet.shape == (3 * 64, FEWER * 64, 3)
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


def test_a_selection_tells_where_in_the_data_its_rows_lie(tiny: TransitionDataset) -> None:
    best = int(np.argmax(tiny.episode_returns()))
    rows = np.array(tiny.episodes[best])[:3]  # the first steps of the best episode
    kept = CondensedDataset(
        observations=np.asarray(tiny.observations[rows]), actions=np.asarray(tiny.actions[rows]),
        label_kind="hard", source_indices=rows, weights=np.ones(3, np.float32),
    )  # fmt: skip
    drawn = draw(kept, tiny)
    assert drawn is not None
    picture = drawn[1]
    assert picture.steps is not None
    assert picture.returns is not None
    assert picture.steps[0] > 0
    assert sum(picture.returns[5:]) == 1
    assert picture.levels is not None
    assert picture.levels[0] == 1


def test_what_is_written_is_a_png_and_what_it_shows(
    synthetic: CondensedDataset, tmp_path: Path
) -> None:
    synthetic.save(tmp_path / "condensed")
    path = write_picture(tmp_path / "condensed", tmp_path / "out")
    assert path == tmp_path / "out.png"
    assert imageio.imread(path).shape == (3 * 64, FEWER * 64, 3)
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
    assert imageio.imread(path).shape == (64, FEWER * 64, 3)


def test_rows_that_the_source_does_not_have_are_not_shown(
    synthetic: CondensedDataset, tiny: TransitionDataset
) -> None:
    drawn = draw(replace(synthetic, initial_indices=np.full(len(synthetic), 10**9)), tiny)
    assert drawn is not None
    sheet, picture = drawn
    assert sheet.shape == (64, FEWER * 64, 3)
    assert picture.dataset_actions is None


@pytest.mark.parametrize("actions", [[10**12, 0], [-1, 0]])
def test_actions_without_end_have_no_shares(actions: list[int]) -> None:
    frames = np.zeros((2, 3, 8, 8), np.uint8)
    drawn = draw(CondensedDataset(frames, np.array(actions), weights=np.ones(2, np.float32)))
    assert drawn is not None
    assert drawn[1].actions is None


def _games(num_frames: int) -> CondensedDataset:
    frames, _ = make_task("breakout").make_vec("seen", num_frames, seed=0).reset()
    actions = np.arange(num_frames) % 3
    return CondensedDataset(frames, actions, weights=np.ones(num_frames, np.float32))


def test_planes_that_are_no_colours_are_painted_and_small_frames_enlarged() -> None:
    data = _games(4)
    drawn = draw(data)
    assert drawn is not None
    sheet, _ = drawn
    cell, edge = 6, 2
    side = 10 * cell + 2 * edge
    assert sheet.shape == (side, 4 * side, 3)
    for number, frame in enumerate(data.observations):
        shown = sheet[edge:-edge:cell, number * side + edge : (number + 1) * side - edge : cell]
        for plane, colour in enumerate(("white", "red", "cyan", "yellow")):
            # A ball that has not moved yet lies on its own trail, whose plane comes later.
            on_top = frame[plane].astype(bool) & ~frame[plane + 1 :].any(0)
            assert (shown[on_top] == COLOURS[colour]).all()
        assert (shown[~frame.any(0)] == 0).all()
    assert (sheet[:edge] == sheet[0, 0]).all()


def test_dim_planes_are_dimly_painted() -> None:
    frames = np.zeros((1, 4, 10, 10), np.float32)
    frames[0, 1, 3, 4], frames[0, 2, 3, 4] = 127.5, 100.0
    drawn = draw(CondensedDataset(frames, np.zeros(1, int), weights=np.ones(1, np.float32)))
    assert drawn is not None
    assert drawn[0][2 + 3 * 6, 2 + 4 * 6].tolist() == [115, 25, 25]  # half of red


@pytest.mark.parametrize("shape", [(1, 1, 131_072), (3, 0, 5), (0, 8, 8), (3, 2048, 2048)])
def test_what_takes_much_room_on_a_sheet_or_none_is_not_drawn(shape: tuple[int, ...]) -> None:
    frames = np.zeros((2, *shape), np.uint8)
    data = CondensedDataset(frames, np.zeros(2, int), weights=np.ones(2, np.float32))
    assert draw(data) is None


def test_probabilities_that_are_no_table_give_no_number_of_actions() -> None:
    frames, weights = np.zeros((2, 3, 8, 8), np.uint8), np.ones(2, np.float32)
    data = CondensedDataset(frames, np.array([0, 2]), np.ones(2, np.float32), weights=weights)
    drawn = draw(data)
    assert drawn is not None
    assert drawn[1].actions == (0.5, 0.0, 0.5)
