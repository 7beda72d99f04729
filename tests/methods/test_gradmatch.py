from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.making import make_method
from rlcondense.methods.gradmatch import layerwise_cosine
from rlcondense.tasks.base import Task
from tests.methods.test_methods import EXPERT


def test_the_distance_is_zero_for_equal_and_two_a_layer_for_opposite_gradients() -> None:
    a = [torch.randn(4, 3), torch.randn(4)]
    assert layerwise_cosine(a, [3 * g for g in a]).item() == pytest.approx(0, abs=1e-6)
    assert layerwise_cosine(a, [-g for g in a]).item() == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_matching_moves_the_pixels_and_lowers_the_loss(
    labels: str, tiny: TransitionDataset, task: Task
) -> None:
    method = make_method("gradmatch", network="cnn4", iterations=25, labels=labels)
    data = method.condense(tiny, task=task, budget=15)
    report = data.report
    assert report is not None
    assert report.displacement is not None
    assert report.matching_loss is not None
    assert report.displacement.mean > 1
    assert report.displacement.largest <= 25 + 1e-3  # one grey level a step at most
    assert report.matching_loss.after < report.matching_loss.before
    assert report.cost.gradient_evaluations > 25 * 15


def test_rare_and_absent_actions_leave_no_undefined_rows(
    tiny: TransitionDataset, task: Task
) -> None:
    """Action 5 occurs once and the others of 0..6 often; actions above 6 never."""
    actions = np.arange(len(tiny)) % 5
    actions[17] = 5
    data = replace(tiny, actions=actions, known_sha256="")
    for id_, settings in (
        ("gradmatch", {"network": "cnn4", "iterations": 2}),
        ("gradmatch-light2024", {"iterations": 2, "real_batch": 16}),
    ):
        small = make_method(id_, **settings).condense(data, task=task, budget=60, expert=EXPERT)
        assert sorted(np.bincount(small.actions)) == [1, 11, 12, 12, 12, 12]
        assert np.isfinite(small.observations).all()
        moved = np.abs(small.observations - data.observations[small.initial_indices])
        assert small.report is not None
        assert small.report.displacement is not None
        assert moved.max() == pytest.approx(small.report.displacement.largest)


def test_light2024_hardly_moves_a_pixel_as_published(tiny: TransitionDataset, task: Task) -> None:
    """The published step on raw pixels: what the benchmark exists to make visible."""
    method = make_method("gradmatch-light2024", iterations=20, real_batch=64)
    report = method.condense(tiny, task=task, budget=15, expert=EXPERT).report
    assert report is not None
    assert report.displacement is not None
    assert 0 < report.displacement.largest < 1


def test_light2024_gradients_of_few_frames_are_computed_once(
    tiny: TransitionDataset, task: Task
) -> None:
    """Where a batch takes all of an action's frames, sampling it anew changes nothing."""
    few = make_method("gradmatch-light2024", iterations=3, real_batch=10**6)
    report = few.condense(tiny, task=task, budget=15, expert=EXPERT).report
    assert report is not None
    assert report.cost.gradient_evaluations == len(tiny) + 4 * 15
