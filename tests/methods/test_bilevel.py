"""Methods that go back through a student's training, and distribution matching."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.scores import rank_correlation
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.experts.shipped import Expert
from rlcondense.make import make_learner, make_method
from rlcondense.methods.base import Problem
from rlcondense.methods.distmatch import mean_distance, moment_distance
from rlcondense.methods.obd import AvPbc, Dbc, Pbc, action_value_weights, fitted_values, offline_rl
from rlcondense.methods.parts.density import sparsity_weights
from rlcondense.methods.parts.q_values import shared_critic
from rlcondense.methods.parts.synthetic import Synthetic
from rlcondense.methods.parts.unrolled import Training, differentiate
from rlcondense.methods.trajmatch import _Matching, squared_distance
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.runtime.progress import silent
from tests.small_tasks import Gridworld, Reach, SmallTask, play

GRID, REACH = Gridworld(), Reach()
GRID_DATA = play(GRID, GRID.shortest, 400, noise=0.1)
REACH_DATA = play(REACH, REACH.shortest, 400, noise=0.1)
STUDENT = {"network": "mlp", "inner_steps": 12, "window": 6, "real_batch": 64}
TEACHERS = {"teachers": 2, "teacher_updates": 40, "keep_every": 5, "inner_steps": 5, "latest": 20}


def problem(data: Any, task: SmallTask) -> Problem:
    return Problem(data, task, Budget(size=8), None, 0, "cpu", silent)


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def small_training(
    optimiser: str, rate: float | None = 0.1
) -> tuple[Training, list[Tensor], list[Tensor], Any]:
    """In double precision, with batches of three of five rows; the last three lack a row."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        x, real_x = torch.randn(5, 3).double(), torch.randn(6, 3).double()
        y, real_y = (torch.randn(n, 2).double().softmax(1) for n in (5, 6))
    batches = [np.random.default_rng(i).permutation(5 if i < 4 else 4)[:3] for i in range(7)]
    training = Training(network, losses, optimiser, rate, batches)
    inputs = [x.requires_grad_(), y.requires_grad_()]
    if rate is None:
        inputs.append(torch.tensor([0.1]).double().requires_grad_())

    def outer(state: list[Tensor]) -> Tensor:
        return losses(training.outputs(state, real_x), real_y).mean()

    return training, training.begin(network.parameters()), inputs, outer


@pytest.mark.parametrize("rate", [0.1, None])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_gradients_through_training_are_those_of_finite_differences(
    optimiser: str, rate: float | None
) -> None:
    training, state, inputs, outer = small_training(optimiser, rate)
    _, gradients = differentiate(training, outer, state, range(7), inputs, 100)

    def value() -> float:
        after = list(state)
        for i in range(7):
            after = training(i, after, inputs, False)
        return float(outer(after))

    step = 1e-6
    for x, gradient in zip(inputs, gradients, strict=True):
        numeric = torch.zeros_like(x)
        flat = x.data.view(-1)
        for k in range(len(flat)):
            kept = flat[k].item()
            flat[k] = kept + step
            above = value()
            flat[k] = kept - step
            numeric.view(-1)[k] = (above - value()) / (2 * step)
            flat[k] = kept
        assert torch.allclose(gradient, numeric, rtol=1e-5, atol=1e-8)
        assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("segment", [1, 3, 7])
def test_checkpoints_change_no_gradient(optimiser: str, segment: int) -> None:
    training, state, inputs, outer = small_training(optimiser)
    value, whole = differentiate(training, outer, state, range(7), inputs, 100)
    again, parts = differentiate(training, outer, state, range(7), inputs, segment)
    assert again == pytest.approx(value, rel=1e-12)
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


def test_a_window_leaves_out_what_came_before() -> None:
    """The gradient through the last steps is that of a training which starts there."""
    training, state, inputs, outer = small_training("adam")
    for i in range(4):
        state = training(i, state, inputs, False)
    _, window = differentiate(training, outer, state, range(4, 7), inputs, 2)
    _, whole = differentiate(training, outer, small_training("adam")[1], range(7), inputs, 2)
    unused = set(range(5)) - {int(r) for i in (4, 5, 6) for r in training.batches[i]}  # type: ignore[index]
    assert unused
    assert not torch.allclose(window[0], whole[0])
    assert all(window[0][row].abs().max() == 0 for row in unused)


def lowered(data: CondensedDataset) -> bool:
    assert data.report is not None
    assert data.report.matching_loss is not None
    return data.report.matching_loss.after < 0.95 * data.report.matching_loss.before


@pytest.mark.parametrize(
    ("id_", "settings"),
    [
        ("dbc", {**STUDENT, "iterations": 15}),
        ("dbc", {**STUDENT, "iterations": 15, "inner_optimiser": "sgd", "inner_rate": 0.1}),
        ("dbc", {**STUDENT, "iterations": 8, "window": None, "segment": 5}),
        ("dbc", {**STUDENT, "iterations": 15, "loss": "logit-mse", "inner_rate": 0.02}),
        ("av-pbc", {**STUDENT, "iterations": 15, "policy": "offline-rl", "policy_updates": 20}),
        ("trajmatch", {**TEACHERS, "network": "mlp", "iterations": 25}),
        ("distmatch", {"network": "mlp", "iterations": 40, "labels": "learned"}),
    ],
)
def test_frames_and_labels_move_and_the_loss_falls(id_: str, settings: dict[str, Any]) -> None:
    fast = {"learning_rate": 5.0, "label_learning_rate": 0.1}
    data = make_method(id_, **fast, **settings).condense(GRID_DATA, task=GRID, budget=8)
    assert len(data) == 8
    assert lowered(data)
    assert data.observations.min() >= 0
    assert data.observations.max() <= 255
    assert np.abs(data.observations - GRID_DATA.observations[data.initial_indices]).mean() > 1
    assert data.action_probs is not None
    assert np.ptp(data.action_probs, axis=0).max() > 0
    assert data.report is not None
    assert data.report.cost.gradient_evaluations > settings["iterations"] * 8


@pytest.mark.parametrize(
    ("id_", "settings"),
    [
        ("dbc", {**STUDENT, "network": None}),
        ("pbc", {**STUDENT, "network": None, "policy_updates": 10}),
        ("av-pbc", {**STUDENT, "network": None, "policy_updates": 20}),
        ("trajmatch", TEACHERS),
        ("gradmatch", {"network": "mlp", "labels": "learned", "learning_rate": 5.0}),
        ("distmatch", {"network": "mlp", "learning_rate": 5.0}),
        ("frepo", {"network": "mlp", "pool": 2, "oldest": 4}),
    ],
)
def test_continuous_actions_are_learned_within_their_bounds(
    id_: str, settings: dict[str, Any]
) -> None:
    made = make_method(id_, iterations=6, label_learning_rate=0.1, **settings)
    data = made.condense(REACH_DATA, task=REACH, budget=6)
    assert data.label_kind == "continuous"
    assert data.actions.dtype == np.float32
    assert np.abs(data.actions).max() <= 0.5 + 1e-6
    started = REACH_DATA.actions[data.initial_indices]
    assert np.abs(data.actions - started).max() > 0.01
    assert data.report is not None
    assert data.report.matching_loss is not None
    assert data.report.matching_loss.after < data.report.matching_loss.before


def test_steps_of_sgd_on_the_data_are_in_proportion_to_the_gradient() -> None:
    """Of vectors in whole deviations; momentum adds what it should."""
    settings = {**STUDENT, "network": None, "outer_optimiser": "sgd", "label_learning_rate": 1e-9}

    def moved(**more: Any) -> np.ndarray:
        method = make_method("dbc", **{**settings, "iterations": 1, "learning_rate": 1e-3, **more})
        data = method.condense(REACH_DATA, task=REACH, budget=6)
        return data.observations - REACH_DATA.observations[data.initial_indices]

    one = moved()
    assert np.abs(one).max() > 0
    assert np.allclose(moved(learning_rate=2e-3), 2 * one, rtol=1e-2, atol=1e-7)
    plain, heavy = (moved(iterations=2, outer_momentum=m) for m in (0.0, 0.9))
    assert np.allclose(heavy - plain, 0.9 * one, rtol=0.1, atol=1e-6)


def test_students_of_standardised_states_are_the_same_whatever_the_units_of_the_states() -> None:
    """In other units everything else is alike, and so are the sets, in those units."""
    settings = {**STUDENT, "network": "mlp", "width": 32, "iterations": 4, "learning_rate": 5.0}
    units = np.array([1e3, 1e-3], np.float32)
    there = replace(REACH_DATA, observations=REACH_DATA.observations * units, known_sha256="")

    class Wide(Reach):
        @property
        def observation_space(self) -> Box:
            return Box(-2000, 2000, (2,), np.float32)

    def made(data: TransitionDataset, **more: Any) -> CondensedDataset:
        return make_method("dbc", **settings, **more).condense(data, task=Wide(), budget=6)

    here, other = made(REACH_DATA, standardise=True), made(there, standardise=True)
    assert here.scaling is not None
    assert np.allclose(here.scaling.deviation, REACH_DATA.observations.std(0), rtol=1e-4)
    assert np.abs(here.observations - REACH_DATA.observations[here.initial_indices]).max() > 0.05
    assert np.allclose(other.observations / units, here.observations, atol=1e-3)
    assert np.allclose(other.actions, here.actions, atol=1e-3)
    plain = made(there)
    assert plain.scaling is None
    assert not np.allclose(plain.observations / units, here.observations, atol=1e-2)
    made_for = make_method("dbc", REACH, standardise=True).students(REACH)
    policies = make_learner("bc", REACH, updates=2, **made_for).fit(here, task=REACH, seeds=[0])
    assert policies.num_policies == 1


def test_labels_of_a_logit_loss_are_real_valued_targets_that_bc_regresses() -> None:
    settings = {**STUDENT, "iterations": 5, "loss": "logit-mse", "label_learning_rate": 0.5}
    data = make_method("dbc", **settings).condense(GRID_DATA, task=GRID, budget=8)
    assert data.label_kind == "soft"
    assert data.targets is not None
    assert data.action_probs is not None
    assert np.allclose(data.action_probs, torch.from_numpy(data.targets).softmax(1), atol=1e-6)
    assert data.targets.min() < 0 < data.targets.max()
    fit = {"network": "mlp", "width": 64, "updates": 400, "batch_size": None}
    [student] = make_learner("bc", loss="logit-mse", **fit).fit(data, task=GRID, seeds=[0]).networks
    with torch.no_grad():
        errors = student(torch.from_numpy(data.observations)) - torch.from_numpy(data.targets)
    assert errors.abs().mean() < 0.3 * np.abs(data.targets).mean()


def test_hard_continuous_actions_stay_and_soft_ones_are_refused() -> None:
    settings = {**STUDENT, "iterations": 2}
    box, task = sample_box_data(), SampleBoxTask()
    data = make_method("dbc", labels="hard", **settings).condense(box, task=task, budget=6)
    assert np.array_equal(data.actions, box.actions[data.initial_indices])
    with pytest.raises(BadConfig, match="soft labels are for discrete actions"):
        make_method("dbc", labels="soft", **settings).condense(box, task=task, budget=6)


def test_what_the_policy_is_taken_from_is_needed() -> None:
    with pytest.raises(BadConfig, match="needs the expert"):
        make_method("pbc", policy="expert").condense(GRID_DATA, task=GRID, budget=4)
    with pytest.raises(BadConfig, match="needs a dataset with action_probs"):
        make_method("pbc", policy="data").condense(GRID_DATA, task=GRID, budget=4)
    taught = {"labels": "taught", "label_teachers": 1, "label_updates": 5, "label_network": "mlp"}
    own = {**STUDENT, "iterations": 1, "inner_steps": 2, "window": 2}
    data = make_method("pbc", policy="data", **taught, **own).condense(
        GRID_DATA, task=GRID, budget=4
    )
    assert len(data) == 4
    with pytest.raises(BadConfig, match="values=critic is of av-pbc"):
        make_method("pbc", values="critic")


@pytest.mark.parametrize("method", ["dbc", "trajmatch"])
def test_students_of_small_frames_are_mlps(method: str) -> None:
    settings = {"dbc": {"inner_steps": 2, "window": 2}, "trajmatch": TEACHERS}[method]
    made = make_method(method, iterations=1, **settings)
    data = made.condense(GRID_DATA, task=GRID, budget=4)
    assert data.observations.shape == (4, 3, 12, 12)
    if method == "trajmatch":  # no update beyond the last snapshot
        teachers = TEACHERS["teachers"] * TEACHERS["teacher_updates"]
        inner = TEACHERS["inner_steps"] * 4
        assert data.report is not None
        spent = data.report.cost.gradient_evaluations
        assert spent == teachers * made.config.teacher_batch + 9 * inner


def test_the_experts_distribution_is_matched_where_asked_for() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PolicyNetwork(NetworkSpec("mlp", (3, 12, 12), 4, width=16))
    expert = Expert(GRID.id, network, "0" * 64, {})
    given = replace(problem(GRID_DATA, GRID), expert=expert)
    method = make_method("av-pbc", policy="expert", network="mlp", policy_updates=2)
    assert isinstance(method, AvPbc)
    aims = method._aims(given)
    logits = network(torch.from_numpy(GRID_DATA.observations))
    assert torch.allclose(aims.targets, logits.softmax(1), atol=1e-5)
    assert aims.weights.mean().item() == pytest.approx(1, rel=1e-4)


def test_the_experts_means_are_matched_where_actions_are_continuous() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PolicyNetwork(NetworkSpec("mlp", (2,), 2, width=16, head="gaussian"))
        network.head.weight.data *= 10
    given = replace(problem(REACH_DATA, REACH), expert=Expert(REACH.id, network, "0" * 64, {}))
    method = make_method("pbc", policy="expert")
    assert isinstance(method, Pbc)
    targets = method._aims(given).targets
    means = network(torch.from_numpy(REACH_DATA.observations))[:, :2]
    assert torch.allclose(targets, means.clamp(-0.5, 0.5), atol=1e-5)
    assert (means.abs() > 0.5).any()


def test_offline_rl_finds_the_way_in_noisy_play() -> None:
    noisy = play(GRID, GRID.shortest, 600, noise=0.5)
    targets, values, cost = offline_rl(problem(noisy, GRID), "mlp", 200)
    assert cost == 200 * 64
    progress = np.isin(targets.argmax(1).numpy(), (0, 1))  # right or down: towards the corner
    assert progress.mean() > np.isin(noisy.actions, (0, 1)).mean() + 0.1
    assert values.shape == (len(noisy),)


def test_values_are_higher_near_the_goal() -> None:
    values = fitted_values(problem(GRID_DATA, GRID), "mlp", 150)
    at = GRID_DATA.observations[:, 0, ::3, ::3].reshape(-1, 16).argmax(1)
    left = 6 - (at // 4 + at % 4)  # steps to the corner
    assert np.corrcoef(values, left)[0, 1] < -0.8


def test_weights_are_in_proportion_to_values_and_never_negative() -> None:
    assert action_value_weights(np.array([1.0, 2.0, 3.0])).tolist() == [0.5, 1.0, 1.5]
    assert action_value_weights(np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 1.0, 2.0]
    assert action_value_weights(np.zeros(3)).tolist() == [1, 1, 1]


def test_a_window_above_the_steps_and_a_span_above_the_training_are_refused() -> None:
    with pytest.raises(BadConfig, match="window 30 is above inner_steps 20"):
        make_method("dbc", inner_steps=20, window=30)
    with pytest.raises(BadConfig, match="span 3 of 20 updates is above teacher_updates 50"):
        make_method("trajmatch", teacher_updates=50, span=3)


def test_moments_of_one_hot_labels_are_class_means() -> None:
    rng = torch.Generator().manual_seed(0)
    f, labels = torch.rand(6, 3, generator=rng), torch.tensor([0, 0, 1, 1, 1, 0])
    g = torch.rand(6, 3, generator=rng)
    one_hot = F.one_hot(labels, 2).float()
    scale = f.norm(dim=1).mean()
    expected = sum(
        (0.5 * (f[labels == a].mean(0) - g[labels == a].mean(0)) / scale).square().sum()
        for a in (0, 1)
    )
    assert moment_distance(f, one_hot, g, one_hot, scale).item() == pytest.approx(
        float(expected), rel=1e-4
    )
    turned = [5, 0, 1, 3, 2, 4]
    assert moment_distance(f, one_hot, f[turned], one_hot[turned], scale) < 1e-12


def test_fixed_labels_are_matched_by_each_actions_own_mean_however_frequent_it_is() -> None:
    rng = torch.Generator().manual_seed(0)
    f, labels = torch.rand(6, 3, generator=rng), torch.tensor([0, 0, 0, 0, 1, 2])
    one_hot = F.one_hot(labels, 4).float()
    means = torch.stack([f[:4].mean(0), f[4]])
    own = F.one_hot(torch.tensor([0, 1]), 4).float()  # balanced, and without the third
    scale = torch.tensor(2.0)
    assert mean_distance(f, one_hot, means, own, scale) < 1e-12
    moved = mean_distance(f, one_hot, means + torch.tensor([[0.0], [0.5]]), own, scale).item()
    assert moved == pytest.approx(3 * (0.5 / 2) ** 2, rel=1e-5)


@pytest.mark.parametrize(("optimiser", "shrinks"), [("adam", True), ("sgd", False)])
def test_features_are_divided_by_their_length_where_steps_do_not_depend_on_it(
    optimiser: str, shrinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = []

    def seen(f_real: Any, p_real: Any, f_syn: Any, p_syn: Any, scale: Any) -> Any:
        scales.append((float(scale), float(f_real.norm(dim=1).mean())))
        return mean_distance(f_real, p_real, f_syn, p_syn, scale)

    monkeypatch.setattr("rlcondense.methods.distmatch.mean_distance", seen)
    settings = {"labels": "hard", "iterations": 1, "outer_optimiser": optimiser}
    make_method("distmatch", GRID, **settings).condense(GRID_DATA, task=GRID, budget=8)
    assert len(scales) > 1
    assert all(
        scale == pytest.approx(length if shrinks else 1.0, rel=1e-5) for scale, length in scales
    )


def test_the_distance_of_trajectories_leaves_moments_out() -> None:
    a, b = [torch.ones(2, 2), torch.zeros(3)], [torch.zeros(2, 2), torch.ones(3)]
    assert squared_distance([*a, torch.full((2, 2), 9.0)], b).item() == 7


def test_teachers_start_apart_from_each_other_and_from_the_students() -> None:
    """torch's generator keeps 32 bits of a seed: those of one condensation must differ in them."""
    here = problem(GRID_DATA, GRID)
    seeds = [here.torch_seed(3, k) for k in range(4)] + [here.torch_seed(1), here.seed]
    firsts = []
    for seed in seeds:
        torch.manual_seed(seed)
        firsts.append(float(torch.rand(1)))
    assert len(set(firsts)) == len(seeds)


class Line(Gridworld):
    """Four actions, and states that are vectors."""

    observation_space = REACH.observation_space


LINE = Line()


def test_density_weights_change_what_states_count_and_zero_names_no_cell_anew() -> None:
    plain, weighed = (
        make_method("dbc", LINE, density_weight=power, **STUDENT) for power in (0.0, 1.0)
    )
    assert "density_weight" not in config_json(plain.config)
    data = replace(REACH_DATA, actions=np.arange(len(REACH_DATA)) % 4, known_sha256="")
    crowd = problem(data, LINE)
    assert isinstance(plain, Dbc)
    assert isinstance(weighed, Dbc)
    flat = plain._weighed_by_density(crowd, plain._aims(crowd)).weights
    assert (flat == 1).all()
    weights = weighed._weighed_by_density(crowd, weighed._aims(crowd)).weights.numpy()
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    # States that occur more often than there are neighbours lie nowhere near zero to some power.
    often = replace(data, observations=np.repeat(data.observations[:1], len(data), 0))
    even, _ = sparsity_weights(problem(often, LINE), "mlp", 40)
    assert (even == 1).all()
    distances = np.linalg.norm(data.observations[:, None] - data.observations, axis=2)
    tenth = np.sort(distances, 1)[:, 10]
    assert rank_correlation(weights, tenth) > 0.95  # type: ignore[operator]
    labels = np.full((len(data), 4), 0.25, np.float32)
    labelled = problem(replace(data, action_probs=labels, known_sha256=""), LINE)
    for id_ in ("pbc", "av-pbc"):
        method = make_method(id_, LINE, density_weight=1.0, policy_updates=3, **STUDENT)
        assert isinstance(method, Pbc)
        aims = method._aims(labelled)
        both = method._weighed_by_density(labelled, aims).weights.numpy()
        product = aims.weights.numpy() * weights
        assert both == pytest.approx(product / product.mean(), rel=1e-4)
    for id_ in ("dbc", "pbc", "av-pbc"):
        assert make_method(id_, preset="sdw").config.density_weight == 1.0
    with pytest.raises(BadConfig, match="density_weight must lie in"):
        make_method("dbc", density_weight=-1.0)


def test_av_pbc_can_weigh_by_the_critic_of_sdr() -> None:
    asked = problem(GRID_DATA, GRID)
    method = make_method("av-pbc", GRID, values="critic", policy_updates=3, **STUDENT)
    assert isinstance(method, AvPbc)
    shared = shared_critic(asked, "mlp", 3).values(asked).q
    with_labels = replace(
        asked,
        source=replace(GRID_DATA, action_probs=np.full((len(GRID_DATA), 4), 0.25, np.float32)),
    )
    weights = method._aims(with_labels).weights.numpy()
    assert weights == pytest.approx(action_value_weights(shared), rel=1e-5)


def test_teachers_of_real_valued_targets_learn_distributions() -> None:
    settings = {**TEACHERS, "teachers": 1, "teacher_updates": 300, "keep_every": 100}
    sharpest = {}
    for loss in ("cross-entropy", "logit-mse"):
        method = make_method("trajmatch", GRID, network="mlp", loss=loss, **settings)
        of_grid = problem(play(GRID, GRID.shortest, 300, noise=0.0), GRID)
        matching = _Matching(
            of_grid, method.config, Synthetic(of_grid, method.config, of_grid.rng())
        )
        network = matching.network
        for parameter, value in zip(
            network.parameters(), matching.trajectories[0][-1], strict=True
        ):
            parameter.data.copy_(value)
        frames = torch.from_numpy(np.asarray(of_grid.dataset.observations[:64]))
        sharpest[loss] = network(frames).softmax(1).max(1).values.mean().item()
    assert sharpest["logit-mse"] == pytest.approx(sharpest["cross-entropy"])
