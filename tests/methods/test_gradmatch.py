from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.cloning import row_losses
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.experts import shipped
from rlcondense.experts.shipped import Expert
from rlcondense.make import default_dataset, load_dataset, make_method, make_task
from rlcondense.methods.full import HELD_BACK, held_back_rows
from rlcondense.methods.gradmatch import DISTANCES, PROBES, layerwise_cosine, weight_gradients
from rlcondense.methods.gradmatch_light2024 import gradient
from rlcondense.methods.parts.synthetic import RealBatches
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.tasks.base import Task
from rlcondense.types import Array
from tests.methods.test_methods import EXPERT
from tests.small_tasks import Gridworld, play

GRID = Gridworld()
GRID_DATA = play(GRID, GRID.shortest, 300, noise=0.3)


def test_the_distance_is_zero_for_equal_and_two_a_layer_for_opposite_gradients() -> None:
    a = [torch.randn(4, 3), torch.randn(4)]
    assert layerwise_cosine(a, [3 * g for g in a]).item() == pytest.approx(0, abs=1e-6)
    assert layerwise_cosine(a, [-g for g in a]).item() == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("distance", sorted(DISTANCES))
@pytest.mark.parametrize("loss", ["cross-entropy", "softmax-mse"])
def test_gradients_of_frames_and_labels_are_those_of_finite_differences(
    distance: str, loss: str
) -> None:
    torch.manual_seed(0)
    theta = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
    ).double()  # fmt: skip
    real = torch.rand(6, 1, 4, 4).double(), torch.rand(6, 3).double().softmax(1)
    frames = torch.rand(3, 1, 4, 4).double().requires_grad_()
    logits = torch.rand(3, 3).double().requires_grad_()
    losses = partial(row_losses, name=loss)

    def found(frames: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        own = weight_gradients(theta, frames, logits.softmax(1), losses, True)
        return DISTANCES[distance](own, weight_gradients(theta, *real, losses))

    assert torch.autograd.gradcheck(found, (frames, logits))


AXES = [
    {"theta": "trajectory", "trajectory": 3, "student_updates": 2},
    {"theta": "expert"},
    {"distance": "l2", "learning_rate": 0.5},
    {"distance": "normalised-l2"},
    {"match": "joint"},
    {"labels": "soft"},
    {"start": "random"},
    {"real_batch": 64},
    {"loss": "softmax-mse"},
    {"labels": "learned"},
    {"resolution": 16},
    {"augmentation": "shift"},
]


def quickly(data: TransitionDataset, task: Task, **settings: Any) -> CondensedDataset:
    quick = {
        "preset": "per-class",
        "network": "compact",
        "iterations": 3,
        "real_batch": 4,
    } | settings
    return make_method("gradmatch", **quick).condense(data, task=task, budget=15, expert=EXPERT)


@pytest.fixture(scope="module")
def plain(tiny: TransitionDataset, task: Task) -> CondensedDataset:
    return quickly(tiny, task)


@pytest.mark.slow
@pytest.mark.parametrize(
    "axis",
    AXES,
    ids=lambda axis: "-".join(map(str, axis.values())),
)
def test_every_axis_changes_what_is_made(
    axis: dict[str, Any], plain: CondensedDataset, tiny: TransitionDataset, task: Task
) -> None:
    data = quickly(tiny, task, **axis)
    assert data.sha256 != plain.sha256
    assert data.report is not None
    assert data.report.displacement is not None
    assert data.report.displacement.mean > 0.1
    assert data.label_kind == ("soft" if "labels" in axis else "hard")
    if axis.get("labels") == "learned":
        assert data.action_probs is not None
        assert np.allclose(data.action_probs.sum(1), 1, atol=1e-5)
        initial = tiny.column("action_probs")[data.initial_indices]
        assert np.abs(data.action_probs - initial).max() > 1e-3


def test_a_lower_resolution_is_that_of_what_is_learned(tiny: TransitionDataset, task: Task) -> None:
    method = make_method("gradmatch", network="compact", iterations=2, real_batch=8, resolution=8)
    frames = torch.from_numpy(method.condense(tiny, task=task, budget=15).observations)
    small = F.interpolate(frames, (8, 8), mode="bilinear", antialias=False)
    again = F.interpolate(small, (64, 64), mode="bilinear")
    assert (frames - again).abs().mean() < 6  # grey levels; of the real frames it is above 20


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("resolution", 65, "resolution 65 is not for"),
        ("theta", "final", "theta must be one of initial, trajectory, expert"),
        ("labels", "none", "labels must be one of hard, soft, learned"),
        ("distance", "l1", "distance must be one of"),
        ("validate_every", 0, "validate_every must be"),
    ],
)
def test_settings_that_cannot_be(
    setting: str, value: Any, message: str, tiny: TransitionDataset, task: Task
) -> None:
    with pytest.raises(BadConfig, match=message):
        make_method("gradmatch", **{setting: value}).condense(tiny, task=task, budget=15)


def test_the_expert_is_needed_where_theta_is_the_expert(
    tiny: TransitionDataset, task: Task
) -> None:
    with pytest.raises(BadConfig, match="needs the expert"):
        make_method("gradmatch", theta="expert").condense(tiny, task=task, budget=15)


@pytest.mark.parametrize("labels", ["hard", pytest.param("soft", marks=pytest.mark.slow)])
def test_matching_moves_the_pixels_and_lowers_the_loss(
    labels: str, tiny: TransitionDataset, task: Task
) -> None:
    method = make_method(
        "gradmatch",
        preset="per-class",
        network="compact",
        iterations=12,
        real_batch=8,
        labels=labels,
    )
    data = method.condense(tiny, task=task, budget=15)
    report = data.report
    assert report is not None
    assert report.displacement is not None
    assert report.matching_loss is not None
    assert report.displacement.mean > 1
    assert report.displacement.largest <= 12 + 1e-3  # one grey level a step at most
    assert report.matching_loss.after < report.matching_loss.before
    assert report.cost.gradient_evaluations > 12 * 15


def test_by_default_frames_and_labels_move_along_a_students_training(
    tiny: TransitionDataset, task: Task
) -> None:
    method = make_method("gradmatch", network="cnn4", iterations=4, real_batch=8, trajectory=2)
    data = method.condense(tiny, task=task, budget=15)
    report = data.report
    assert report is not None
    assert report.displacement is not None
    assert report.displacement.mean > 0.5
    assert data.label_kind == "soft"
    stored = tiny.column("action_probs")[data.initial_indices]
    assert 1e-3 < np.abs(data.column("action_probs") - stored).max() < 0.1
    # A real batch, the rows, and five updates of the student on them, in four iterations; two
    # students, whose first gradients need no updates; and the probes before and after.
    own = 4 * (8 + 15) + 2 * 5 * 15
    assert report.cost.gradient_evaluations == own + 2 * 4 * (8 + 15)


def displaced(data: CondensedDataset) -> float:
    assert data.report is not None
    assert data.report.displacement is not None
    return data.report.displacement.mean


def validated(seed: int = 0, **settings: Any) -> CondensedDataset:
    settings = {"network": "mlp", "real_batch": 16, "validate_every": 5} | settings
    method = make_method("gradmatch", **settings)
    return method.condense(GRID_DATA, task=GRID, budget=20, seed=seed)


def test_validation_returns_the_rows_before_matching_spoilt_them() -> None:
    spoilt: dict[str, Any] = {"iterations": 10, "learning_rate": 100.0}
    assert displaced(validated(**spoilt)) == 0
    assert displaced(validated(**spoilt | {"validate_every": None})) > 0.1
    assert displaced(validated(iterations=10)) > 0  # where matching helps it is kept


def test_rows_that_are_held_back_for_validation_are_used_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held_back = held_back_rows(GRID_DATA, HELD_BACK)
    for seed in range(2):
        rows = validated(seed, iterations=1).initial_indices
        assert rows is not None
        assert not held_back[rows].any()
    drawn: list[Array] = []
    take = RealBatches.take

    def noted(batches: RealBatches, rows: Array) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.append(held_back[rows])
        return take(batches, rows)

    monkeypatch.setattr(RealBatches, "take", noted)
    validated(iterations=5)
    batches = [rows for rows in drawn if not rows.all()]
    assert len(batches) == 5 + 2 * PROBES  # the others are validations
    assert not np.concatenate(batches).any()


def test_labels_that_come_at_the_end_are_not_validated() -> None:
    with pytest.raises(BadConfig, match="validate_every is not for labels=taught"):
        make_method("gradmatch", validate_every=5, labels="taught")


def test_a_budget_beyond_what_validation_leaves_is_refused() -> None:
    rows = int((~held_back_rows(GRID_DATA, HELD_BACK)).sum())
    method = make_method("gradmatch", network="mlp", iterations=1, validate_every=1)
    with pytest.raises(BadConfig, match=f"{rows + 1} rows of {rows}, beside those"):
        method.condense(GRID_DATA, task=GRID, budget=rows + 1)


def test_rare_and_absent_actions_leave_no_undefined_rows(
    tiny: TransitionDataset, task: Task
) -> None:
    """Action 5 occurs once and the others of 0..6 often; actions above 6 never."""
    actions = np.arange(len(tiny)) % 5
    actions[17] = 5
    data = replace(tiny, actions=actions, known_sha256="")
    for id_, settings in (
        ("gradmatch", {"preset": "per-class", "network": "compact", "iterations": 2}),
        ("gradmatch-light2024", {"iterations": 2, "real_batch": 16}),
    ):
        small = make_method(id_, **settings).condense(data, task=task, budget=60, expert=EXPERT)
        assert sorted(np.bincount(small.actions)) == [1, 11, 12, 12, 12, 12]
        assert np.isfinite(small.observations).all()
        moved = np.abs(small.observations - data.observations[small.initial_indices])
        assert small.report is not None
        assert small.report.displacement is not None
        assert moved.max() == pytest.approx(small.report.displacement.largest)


def test_light2024_moves_pixels_as_little_as_the_authors_code_does(
    tiny: TransitionDataset, task: Task
) -> None:
    """One bucket of ten frames; a cross-entropy's gradient, which theirs is not, moves them more.

    Theirs moves starpilot's 150 frames by 1.7e-6 grey levels in 1000 iterations, 0.0019 at most.
    """
    data = replace(tiny, actions=np.full(len(tiny), 4), known_sha256="")
    method = make_method("gradmatch-light2024", iterations=10, real_batch=32)
    report = method.condense(
        data, task=task, budget=10, expert=shipped.load_expert("procgen/starpilot-easy-v0")
    ).report
    assert report is not None
    assert report.displacement is not None
    assert 1e-10 < report.displacement.mean < 1e-6
    assert 1e-7 < report.displacement.largest < 1e-3


@pytest.mark.slow
def test_light2024_moves_starpilots_frames_by_the_authors_figures_in_proportion() -> None:
    """A hundredth of what theirs does in 1000 iterations: 1.7e-8 on average, 1.9e-5 at most."""
    task = make_task("starpilot-light2024")
    method = make_method("gradmatch-light2024", iterations=10, real_batch=32)
    data = load_dataset(default_dataset(task))
    expert = shipped.load_expert("procgen/starpilot-easy-v0")
    report = method.condense(data, task=task, budget=150, expert=expert).report
    assert report is not None
    assert report.displacement is not None
    assert report.displacement.mean == pytest.approx(1.7e-8, rel=0.5)
    assert report.displacement.largest == pytest.approx(1.9e-5, rel=0.5)


def test_light2024_gradient_is_that_of_the_squared_error_written_out() -> None:
    """By hand: dL/dz_j = 2 / (B A) p_j ((p_j - y_j) - sum_k p_k (p_k - y_k)), then the layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theta = PolicyNetwork(NetworkSpec("mlp", (3, 2, 2), 4, width=5, depth=1))
        frames = torch.randint(0, 256, (6, 3, 2, 2)).float()
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in theta.parameters())
    x = frames.double().flatten(1).numpy() / 255
    hidden = np.maximum(x @ w1.T + b1, 0)
    e = np.exp(hidden @ w2.T + b2)
    p = e / e.sum(1, keepdims=True)
    error = p - np.eye(4)[2]
    dz = 2 / p.size * p * (error - (p * error).sum(1, keepdims=True))
    dh = dz @ w2 * (hidden > 0)
    expected = np.concatenate([(dh.T @ x).ravel(), dh.sum(0), (dz.T @ hidden).ravel(), dz.sum(0)])
    found = gradient(theta, list(theta.parameters()), frames, 2).numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-9)
    assert np.abs(expected).max() > 1e-3


def test_light2024_refuses_what_shows_no_frames() -> None:
    task, data = SampleBoxTask(), sample_box_data()
    network = PolicyNetwork(NetworkSpec("mlp", data.observations.shape[1:], 2, head="gaussian"))
    expert = Expert(task.id, network, "0" * 64, {})
    with pytest.raises(BadConfig, match=r"task 'checks/box-v0' shows \(.*\), no frames"):
        make_method("gradmatch-light2024").condense(data, task=task, budget=5, expert=expert)


def test_light2024_gradients_of_few_frames_are_computed_once(
    tiny: TransitionDataset, task: Task
) -> None:
    """Where a batch takes all of an action's frames, sampling it anew changes nothing."""
    few = make_method("gradmatch-light2024", iterations=3, real_batch=65_536)
    report = few.condense(tiny, task=task, budget=15, expert=EXPERT).report
    assert report is not None
    assert report.cost.gradient_evaluations == len(tiny) + 4 * 15


def test_the_norm_is_that_of_all_weights_together() -> None:
    own, real = [torch.ones(2, 2), torch.zeros(3)], [torch.zeros(2, 2), torch.full((3,), 2.0)]
    assert DISTANCES["norm"](own, real).item() == pytest.approx(4.0)
    same = torch.ones(2, requires_grad=True)
    DISTANCES["norm"]([same], [torch.ones(2)]).backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_equation_2_matches_all_actions_together_by_the_norm() -> None:
    c = make_method("gradmatch", preset="equation-2").config
    assert (c.match, c.theta, c.distance, c.loss) == ("joint", "initial", "norm", "softmax-mse")
    assert (c.network, c.input) == ("cnn4", "raw")
    assert (c.outer_optimiser, c.learning_rate, c.iterations) == ("sgd", 0.1, 1000)
