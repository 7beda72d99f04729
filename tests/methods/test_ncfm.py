"""Characteristic functions: their discrepancy, and what matching it does to a few points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.make import make_method
from rlcondense.methods.ncfm import (
    characteristic,
    discrepancy,
    sampling_network,
    sum_of_class_means,
)
from tests.small_tasks import Gridworld, play

GRID = Gridworld()
GRID_DATA = play(GRID, GRID.shortest, 200, noise=0.1)
QUICK: dict[str, Any] = {
    "network": "mlp", "width": 32, "frequencies": 64, "networks": 2, "network_updates": 20,
    "augmentation": "none", "learning_rate": 5.0, "label_learning_rate": 0.2,
}  # fmt: skip


def points(seed: int, size: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((size, 2), generator=generator, dtype=torch.float64)
    return x, torch.randn((size, classes), generator=generator, dtype=torch.float64).softmax(1)


def frequencies(size: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return scale * torch.randn((size, 2), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("by_class", [True, False])
def test_equal_samples_have_no_discrepancy_and_others_have_one(by_class: bool) -> None:
    rows, t = points(0, 20), frequencies(50)
    order = torch.randperm(20)
    again = (rows[0][order], rows[1][order])
    assert discrepancy(rows, again, t, by_class=by_class) < 1e-5
    assert discrepancy(rows, points(1, 20), t, by_class=by_class) > 0.1


def test_half_amplitude_and_half_phase_are_half_the_squared_distance() -> None:
    rows, others, t = points(0, 8, 1), points(1, 5, 1), frequencies(7)
    gap = characteristic(rows[0], rows[1] / 8, t) - characteristic(others[0], others[1] / 5, t)
    expected = (gap.abs() ** 2 / 2).sqrt().mean()
    assert discrepancy(rows, others, t).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_gradient_is_that_of_finite_differences(alpha: float, by_class: bool) -> None:
    rows, (x, p), t = points(0, 6), points(1, 3), frequencies(4)
    leaves = (x.requires_grad_(), p.requires_grad_(), t.requires_grad_())

    def loss(x: Tensor, p: Tensor, t: Tensor) -> Tensor:
        return discrepancy(rows, (x, p), t, alpha, by_class)

    assert torch.autograd.gradcheck(loss, leaves)


def test_three_points_find_the_three_places_of_a_distribution_where_a_mean_would_not() -> None:
    places = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    real = (places.repeat(10, 1), torch.ones(30, 1, dtype=torch.float64))
    x = places.mean(0) + 0.1 * torch.eye(3, 2, dtype=torch.float64)  # the mean is right already
    x.requires_grad_()
    optimiser, ones = torch.optim.Adam([x], lr=0.1), torch.ones(3, 1, dtype=torch.float64)
    t = frequencies(64)
    losses = []
    for _ in range(80):
        loss = discrepancy(real, (x, ones), t)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]
    assert torch.cdist(places, x.detach()).min(1).values.max() < 0.2


def test_sampled_frequencies_learn_to_see_the_difference() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows, others = points(0, 200, 1), points(1, 200, 1)
        rows[0][:, 0] *= 2
        network = sampling_network(2).double()
        optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
        noise = torch.randn((64, 2), dtype=torch.float64)
        seen = []
        for _ in range(40):
            value = discrepancy(rows, others, network(noise))
            seen.append(value.item())
            optimiser.zero_grad()
            (-value).backward()
            optimiser.step()
    assert seen[-1] > 1.3 * seen[0]


@pytest.mark.parametrize(("labels", "sampling"), [("learned", "network"), ("hard", "normal")])
def test_rows_move_and_their_discrepancy_falls(labels: str, sampling: str) -> None:
    settings = {**QUICK, "labels": labels, "sampling": sampling, "iterations": 15}
    method = make_method("ncfm", calibration=0.0, **settings)
    data = method.condense(GRID_DATA, task=GRID, budget=8)
    assert data.report is not None
    loss = data.report.matching_loss
    assert loss is not None
    assert loss.after < 0.8 * loss.before


def test_what_stands_beside_a_sum_over_classes_is_one_too() -> None:
    """Rows of two classes: their means, 1.5 and 4.5, are added; the third class has no rows."""
    labels = torch.eye(3)[[0, 0, 1, 1]]
    assert sum_of_class_means(torch.tensor([1.0, 2.0, 3.0, 6.0]), labels).item() == 6


def test_calibration_moves_no_labels() -> None:
    def label_of(calibration: float) -> np.ndarray[Any, Any]:
        """The labels after one step, whose size does not depend on the gradient's."""
        method = make_method("ncfm", **QUICK, iterations=1, calibration=calibration)
        return method.condense(GRID_DATA, task=GRID, budget=8).column("action_probs")

    assert np.allclose(label_of(0.0), label_of(300.0), atol=1e-5)


def test_continuous_actions_are_matched_jointly_with_features() -> None:
    method = make_method("ncfm", **QUICK, iterations=3, labels="learned")
    data = method.condense(sample_box_data(), task=SampleBoxTask(), budget=6)
    assert np.abs(data.actions - sample_box_data().actions[data.initial_indices]).max() > 0
