"""What each selection promises, on data small enough to work the answer out another way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlcondense import catalogue
from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.cloning import gaussian_losses, row_losses
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.make import make_learner, make_method
from rlcondense.methods.base import Problem
from rlcondense.methods.gradient_omp import GradientOMPConfig, critic_factors, policy_factors
from rlcondense.methods.grand import gradient_norms
from rlcondense.methods.herding import herd, herd_each
from rlcondense.methods.k_center import farthest_first
from rlcondense.methods.k_means import nearest_to_centres
from rlcondense.methods.parts import q_values
from rlcondense.methods.parts.density import neighbour_distances, sparsity_weights
from rlcondense.methods.parts.features import cloned_network, targets_of
from rlcondense.methods.parts.matching_pursuit import HeadGradients, matching_pursuit, refit
from rlcondense.methods.parts.q_values import GAMMA, Critic, trained_critic
from rlcondense.methods.return_weighted import exponential, indicator
from rlcondense.methods.sdr import draw, stepwise_clip
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.runtime.progress import silent
from rlcondense.tasks.base import Task
from tests.conftest import random_network

BY_SIZE = [
    "critical", "el2n", "gradient-omp", "grand", "herding", "k-center", "k-means", "sdr",
    "top-return",
]  # fmt: skip
BY_NETWORK = [id_ for id_ in BY_SIZE if id_ != "top-return"]


class VectorTask(SampleBoxTask):
    """Vectors and four actions."""

    id = "tests/vectors-v0"
    observation_space = Box(-10, 10, (6,), np.float32)
    action_space = Discrete(4)


TASK = VectorTask()


@pytest.fixture(scope="module")
def few() -> TransitionDataset:
    """Ten episodes of 16 steps; what is done and what it brings depends on what is seen."""
    rng, steps = np.random.default_rng(0), np.tile(np.arange(16), 10)
    observations = rng.normal(size=(160, 6)).astype(np.float32)
    action_probs = rng.dirichlet(np.ones(4), 160).astype(np.float32)
    return TransitionDataset(
        observations=observations,
        actions=observations[:, :4].argmax(1),
        rewards=np.repeat(rng.permutation(10), 16).astype(np.float32) + observations[:, 5],
        terminations=steps == 15,
        truncations=np.zeros(160, bool),
        episode_ids=np.repeat(np.arange(10), 16),
        steps=steps,
        action_probs=action_probs,
    )


def keep(id_: str, data: TransitionDataset, size: int = 12, **settings: object) -> CondensedDataset:
    quick = catalogue.find("methods", id_).facts.get("check_config", {})
    network = {"network": "mlp"} if "network" in quick else {}
    method = make_method(id_, **{**quick, **network, **settings})
    return method.condense(data, task=TASK, budget=size)


def problem_of(data: TransitionDataset) -> Problem:
    return Problem(data, TASK, Budget(size=12), None, 0, "cpu", silent)


@pytest.mark.parametrize("id_", BY_SIZE)
@pytest.mark.parametrize("size", [1, 12])
def test_a_selection_keeps_as_many_distinct_rows_as_asked(
    id_: str, size: int, few: TransitionDataset
) -> None:
    data = keep(id_, few, size)
    rows = data.source_indices
    assert rows is not None
    assert len(np.unique(rows)) == size
    assert np.array_equal(data.observations, few.observations[rows])
    assert np.array_equal(data.actions, few.actions[rows])


@pytest.mark.parametrize("id_", BY_NETWORK)
def test_soft_labels_are_the_datas(id_: str, few: TransitionDataset) -> None:
    data = keep(id_, few, labels="soft")
    assert data.label_kind == "soft"
    assert np.array_equal(data.action_probs, few.action_probs[data.source_indices])


@pytest.mark.parametrize("id_", BY_NETWORK)
def test_selections_take_continuous_actions(id_: str) -> None:
    data, task = sample_box_data(), SampleBoxTask()
    quick = catalogue.find("methods", id_).facts.get("check_config", {})
    kept = make_method(id_, **{**quick, "network": "mlp"}).condense(data, task=task, budget=12)
    assert kept.label_kind == "continuous"
    assert kept.source_indices is not None
    assert len(np.unique(kept.source_indices)) == 12
    assert np.array_equal(kept.actions, data.actions[kept.source_indices])


@pytest.mark.parametrize(
    ("id_", "settings", "message"),
    [
        ("random-balanced", {}, "need discrete actions"),
        ("herding", {"classes": "per-class"}, "classes=per-class is for discrete actions"),
        ("k-center", {"labels": "soft"}, "soft labels are for discrete actions"),
        ("qmatch", {}, "has no discrete actions"),
    ],
)
def test_what_is_for_discrete_actions_says_so(
    id_: str, settings: dict[str, str], message: str
) -> None:
    network = {} if id_ == "random-balanced" else {"network": "mlp"}
    with pytest.raises(BadConfig, match=message):
        make_method(id_, **network, **settings).condense(
            sample_box_data(), task=SampleBoxTask(), budget=12
        )


def test_rows_whose_actions_are_unlike_the_others_are_the_hardest_where_continuous() -> None:
    data, odd = sample_box_data(), np.arange(5, 200, 40)
    actions = np.full_like(data.actions, 0.5)
    actions[odd] = (-1.0, 3.0)
    data = replace(data, actions=actions, known_sha256="")
    method = make_method("el2n", network="mlp", updates=5, networks=1)
    hardest = method.condense(data, task=SampleBoxTask(), budget=len(odd)).source_indices
    assert np.array_equal(hardest, odd)


@pytest.mark.parametrize("id_", ["top-return", "return-weighted"])
def test_what_looks_at_returns_alone_takes_continuous_actions(id_: str) -> None:
    data = sample_box_data()
    kept = make_method(id_).condense(data, task=SampleBoxTask(), budget=len(data))
    assert kept.label_kind == "continuous"


def test_k_center_goes_to_the_farthest_row_each_time() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    rows = farthest_first(x, 12, first=7).tolist()
    assert rows[0] == 7
    for i in range(1, 12):
        distances = np.linalg.norm(x[:, None] - x[rows[:i]], axis=2).min(1)
        assert rows[i] == int(distances.argmax())


def test_k_centers_radius_is_at_most_twice_the_least_there_is() -> None:
    """Gonzalez's bound, the least found by trying every subset."""
    x = np.random.default_rng(1).normal(size=(12, 2))
    distances = np.linalg.norm(x[:, None] - x, axis=2)
    least = min(
        distances[:, c].min(1).max() for c in map(list, itertools.combinations(range(12), 3))
    )
    found = distances[:, farthest_first(x, 3, first=0)].min(1).max()
    assert least <= found <= 2 * least


def test_k_center_takes_no_row_twice_where_all_are_alike() -> None:
    assert sorted(farthest_first(np.zeros((5, 2)), 5, first=3)) == [0, 1, 2, 3, 4]


def test_herdings_mean_is_nearer_to_the_datas_than_random_subsets_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(200, 8))

    def away(rows: np.ndarray) -> float:
        return float(np.linalg.norm(x[rows].mean(0) - x.mean(0)))

    drawn = [away(rng.choice(200, 10, replace=False)) for _ in range(200)]
    assert away(herd(x, 10)) < min(drawn)


def test_herding_takes_the_best_next_row_each_time() -> None:
    x = np.random.default_rng(2).normal(size=(30, 4))
    rows = herd(x, 6).tolist()
    for i in range(6):
        others = [r for r in range(30) if r not in rows[:i]]
        away = [np.linalg.norm(x[[*rows[:i], r]].mean(0) - x.mean(0)) for r in others]
        assert rows[i] == others[int(np.argmin(away))]


def test_herding_per_class_herds_each_action_by_itself(few: TransitionDataset) -> None:
    x = np.random.default_rng(3).normal(size=(len(few), 4))
    rows = herd_each(x, few.actions, 12)
    for action in range(4):
        of_action = np.flatnonzero(few.actions == action)
        expected = of_action[herd(x[of_action], 3)]
        assert np.array_equal(rows[few.actions[rows] == action], expected)
    kept = keep("herding", few, classes="per-class")
    assert np.bincount(kept.actions).tolist() == [3, 3, 3, 3]


def test_k_means_finds_one_row_of_each_cluster() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    x = np.repeat(centres, 25, 0) + rng.normal(scale=0.1, size=(100, 2)).astype(np.float32)
    rows = nearest_to_centres(x, 4, seed=0)
    assert sorted(rows // 25) == [0, 1, 2, 3]


def test_k_means_takes_no_row_twice_where_centres_share_the_nearest() -> None:
    x = np.repeat(np.array([[0.0], [5.0], [9.0]], np.float32), 4, 0)
    x += np.random.default_rng(0).normal(scale=1e-3, size=x.shape).astype(np.float32)
    assert len(set(nearest_to_centres(x, 8, seed=0))) == 8


@pytest.mark.parametrize("id_", ["el2n", "grand"])
def test_hardest_and_easiest_rows_are_disjoint(id_: str, few: TransitionDataset) -> None:
    hardest = keep(id_, few, keep="hardest").source_indices
    easiest = keep(id_, few, keep="easiest").source_indices
    assert not set(hardest) & set(easiest)


@pytest.mark.parametrize("id_", ["el2n", "grand"])
def test_rows_that_a_network_is_sure_of_and_right_about_are_the_easiest(
    id_: str, few: TransitionDataset
) -> None:
    """One action but for six rows: soon that action is what every network says."""
    odd = np.arange(3, 63, 10)
    actions = np.full(len(few), 1)
    actions[odd] = 3
    data = replace(few, actions=actions, known_sha256="")
    hardest = keep(id_, data, size=6, updates=30, networks=2).source_indices
    assert np.array_equal(hardest, odd)


@pytest.mark.parametrize("name", ["cnn4", "nature", "impala-patch2", "mlp"])
def test_gradient_norms_are_those_of_one_row_after_another(
    name: str, tiny: TransitionDataset
) -> None:
    network, problem = random_network(0, name), problem_of(tiny)
    targets = targets_of(problem, "soft")[:5]
    found = gradient_norms(network, tiny.observations[:5], targets, problem)
    for row in range(5):
        frame = torch.from_numpy(np.array(tiny.observations[row : row + 1]))
        loss = row_losses(network(frame), targets[row : row + 1]).sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        expected = torch.cat([g.flatten() for g in gradients]).norm().item()
        assert found[row] == pytest.approx(expected, rel=1e-4)
    assert not any(module._forward_hooks for module in network.modules())


def test_gradient_norms_of_gaussian_policies_count_the_spread() -> None:
    data = sample_box_data()
    problem = Problem(data, SampleBoxTask(), Budget(size=1), None, 0, "cpu", silent)
    network = PolicyNetwork(NetworkSpec("mlp", (5,), 2, width=8, head="gaussian"))
    targets = targets_of(problem, "hard")[:4]
    found = gradient_norms(network, data.observations[:4], targets, problem)
    for row in range(4):
        x = torch.from_numpy(data.observations[row : row + 1])
        loss = gaussian_losses(network(x), targets[row : row + 1]).sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        expected = torch.cat([g.flatten() for g in gradients]).norm().item()
        assert found[row] == pytest.approx(expected, rel=1e-4)


def test_top_return_keeps_the_best_episodes_and_cuts_the_last(few: TransitionDataset) -> None:
    data = keep("top-return", few, size=56)
    best = np.argsort(-few.episode_returns(), kind="stable")
    kept = {i: int((data.column("episode_ids") == i).sum()) for i in best}
    whole = [kept[i] == len(few.episodes[i]) for i in best]
    last = whole.index(False)
    assert last == 3
    assert len(data) == 56
    assert all(kept[i] == 0 for i in best[last + 1 :])
    steps = data.column("steps")[data.column("episode_ids") == best[last]]
    assert steps.tolist() == list(range(kept[best[last]]))


def test_sdr_clips_low_values_at_equal_density_and_high_densities_at_equal_value() -> None:
    steps, rising, same = np.full(100, 400), np.arange(100.0), np.zeros(100)
    by_value = stepwise_clip(steps, rising, same, 0.3, 0.3)
    assert np.array_equal(np.flatnonzero(by_value), np.arange(30, 100))
    by_density = stepwise_clip(steps, same, rising, 0.3, 0.3)
    assert np.array_equal(np.flatnonzero(by_density), np.arange(70))


def test_sdr_clips_nothing_at_the_first_step_and_more_later() -> None:
    rng = np.random.default_rng(0)
    steps = np.repeat([0, 20, 100, 500], 200)
    q, density = rng.normal(size=(2, 800))
    kept = stepwise_clip(steps, q, density, 0.2, 0.2).reshape(4, 200).sum(1)
    assert kept[0] == 200
    assert (np.diff(kept) < 0).all()
    assert kept[3] == pytest.approx(0.8**2 * 200, abs=8)


def test_sdr_ranks_rows_among_those_of_their_own_step() -> None:
    """A late step's values are all below an early one's, and yet its best rows stay."""
    steps = np.repeat([400, 401], 50)
    q = np.concatenate([np.arange(50.0) + 1000, np.arange(50.0)])
    kept = stepwise_clip(steps, q, np.zeros(100), 0.2, 0.0)
    assert kept[:50].sum() == kept[50:].sum() == 40


def test_sdr_draws_from_what_is_left_and_then_from_the_best_that_was_clipped() -> None:
    rng = np.random.default_rng(0)
    kept = np.zeros(20, bool)
    kept[[2, 5, 11]] = True
    q, density = np.arange(20.0), -np.arange(20.0)
    assert set(draw(kept, q, density, 2, rng)) < {2, 5, 11}
    assert set(draw(kept, q, density, 6, rng)) == {2, 5, 11, 19, 18, 17}


def test_sdrs_density_is_higher_where_rows_lie_closer(few: TransitionDataset) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(scale=s, size=(60, 5)) for s in (0.01, 1.0)])
    x[60:] += 20
    distances = neighbour_distances(x.astype(np.float32), problem_of(few))
    assert distances[:60].max() < distances[60:].min()


def test_sdr_clips_by_a_density_that_is_highest_where_rows_are_many(
    few: TransitionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(few), 5)).astype(np.float32)
    x[:60] *= 0.01
    seen: list[np.ndarray] = []

    def noted(steps: np.ndarray, q: np.ndarray, density: np.ndarray, *shares: float) -> np.ndarray:
        seen.append(density)
        return stepwise_clip(steps, q, density, *shares)

    monkeypatch.setattr("rlcondense.methods.sdr.features_of", lambda *_: (x, 0))
    monkeypatch.setattr("rlcondense.methods.sdr.stepwise_clip", noted)
    keep("sdr", few)
    [density] = seen
    assert density[:60].min() > np.median(density[60:])


def test_action_values_learn_which_action_is_rewarded(few: TransitionDataset) -> None:
    """One reward for action 1, none for action 0, and every episode one step long."""
    n = len(few)
    actions, ones = np.arange(n) % 2, np.ones(n, bool)
    data = replace(
        few,
        actions=actions,
        rewards=actions.astype(np.float32),
        terminations=ones,
        steps=np.zeros(n, int),
        episode_ids=np.arange(n),
        known_sha256="",
    )
    values = trained_critic(problem_of(data), "mlp", 100, seed=0).values(problem_of(data))
    assert values.q.shape == (n,)
    assert np.quantile(values.q[actions == 1], 0.1) > np.quantile(values.q[actions == 0], 0.9)
    assert values.gradient_evaluations == 100 * 64


def choices_that_matter(few: TransitionDataset) -> tuple[TransitionDataset, np.ndarray]:
    """Episodes of one step: in half of the states action 1 brings 1, in the others nothing does.

    So max Q - min Q is 1 in the former and 0 in the latter.
    """
    n = len(few)
    matters = np.arange(n) % 4 < 2
    actions = np.arange(n) % 2
    observations = np.zeros_like(few.observations)
    observations[:, 0] = np.where(matters, 2, -2)  # the state is which half it is of
    data = replace(
        few,
        observations=observations,
        actions=actions,
        rewards=(matters & (actions == 1)).astype(np.float32),
        terminations=np.ones(n, bool),
        steps=np.zeros(n, int),
        episode_ids=np.arange(n),
        known_sha256="",
    )
    return data, matters


class TwoActionTask(VectorTask):
    """Vectors and two actions."""

    action_space = Discrete(2)


def test_the_critic_is_trained_once_for_the_methods_that_share_it(
    few: TransitionDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLCONDENSE_HOME", str(tmp_path))
    problem, seeds = problem_of(few), []

    def counted(problem: Problem, network: str, updates: int, seed: int) -> Critic:
        seeds.append(seed)
        return trained_critic(problem, network, updates, seed)

    monkeypatch.setattr(q_values, "trained_critic", counted)
    first = q_values.shared_critic(problem, "mlp", 3)
    for id_, settings in (("critical", {}), ("sdr", {"updates": 1})):
        method = make_method(id_, network="mlp", value_updates=3, **settings)
        method.condense(few, task=problem.task, budget=5)
    assert seeds == [q_values.critic_seed(problem)]
    again = q_values.shared_critic(problem, "mlp", 3)
    anew = trained_critic(problem, "mlp", 3, seeds[0])
    assert again.gradient_evaluations == anew.gradient_evaluations == 3 * 64
    for critic in (first, again):
        np.testing.assert_array_equal(critic.values(problem).q, anew.values(problem).q)
        np.testing.assert_array_equal(critic.spread(problem), anew.spread(problem))
    q_values.shared_critic(replace(problem, seed=1), "mlp", 3)
    q_values.shared_critic(problem, "mlp", 4)
    assert len(seeds) == 3


@pytest.mark.parametrize("keep", ["drawn", "highest"])
def test_critical_prefers_states_in_which_the_action_matters(
    few: TransitionDataset, keep: str
) -> None:
    data, matters = choices_that_matter(few)
    data = replace(data, action_probs=None)
    method = make_method("critical", network="mlp", value_updates=120, keep=keep)
    task = TwoActionTask()
    spread = method.score(data, task=task).values
    assert spread[matters].min() > 0.3  # below 1: a conservative critic draws values together
    assert spread[~matters].max() < 0.1
    rows = method.condense(data, task=task, budget=20).source_indices
    assert rows is not None
    assert matters[rows].mean() >= (1.0 if keep == "highest" else 0.7)
    highest = np.sort(np.argsort(-spread, kind="stable")[:20])
    assert np.array_equal(rows, highest) == (keep == "highest")


def test_sparse_states_weigh_more_by_the_power_asked(few: TransitionDataset) -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=few.observations.shape).astype(np.float32)
    observations[:60] *= 0.05
    data = replace(few, observations=observations, known_sha256="")
    weights, cost = sparsity_weights(problem_of(data), "mlp", 1.0)
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert weights[:60].max() < weights[60:].min()
    assert cost == 0
    squared, _ = sparsity_weights(problem_of(data), "mlp", 2.0)
    assert squared / squared.max() == pytest.approx((weights / weights.max()) ** 2, rel=1e-4)


def toy_gradients(rows: int = 300, seed: int = 0) -> HeadGradients:
    rng = np.random.default_rng(seed)
    return HeadGradients(
        [(rng.normal(0.3, 1, (rows, 4)), rng.normal(0.5, 1, (rows, 9))) for _ in range(2)]
    )


def written_out(gradients: HeadGradients) -> np.ndarray:
    parts = [np.einsum("na,nf->naf", e, h).reshape(len(e), -1) for e, h in gradients.factors]
    return np.concatenate(parts, 1)


def test_inner_products_are_those_of_the_gradients_written_out() -> None:
    gradients = toy_gradients()
    g = written_out(gradients)
    others = np.array([3, 7, 250])
    assert np.allclose(gradients.with_row(7, others), g[others] @ g[7])
    some = np.array([0.5, 2.0, 1.0])
    assert np.allclose(gradients.with_sum(others, some), g @ (some @ g[others]))
    assert np.allclose(gradients.with_mean(), g @ g.mean(0))
    assert gradients.squared_norm_of_mean() == pytest.approx(g.mean(0) @ g.mean(0))


def test_matching_pursuits_residual_falls_and_is_smaller_than_random_subsets() -> None:
    from scipy.optimize import nnls

    gradients = toy_gradients()
    g = written_out(gradients)
    rows, weights, residuals = matching_pursuit(gradients, 20)
    assert len(set(rows)) == 20
    assert (weights > 0).all()
    assert (np.diff(residuals) < 0).all()
    actual = np.linalg.norm(g.mean(0) - weights @ g[rows])
    assert residuals[-1] == pytest.approx(actual, rel=1e-3)
    rng = np.random.default_rng(1)
    for _ in range(50):  # with the best weights that those rows can have
        drawn = rng.choice(len(g), 20, replace=False)
        assert nnls(g[drawn].T, g.mean(0))[1] > actual


def test_refitted_weights_are_the_best_that_are_not_negative() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(3)
    for _ in range(20):
        a = rng.normal(size=(12, 6))
        y = a @ rng.normal(0.5, 1, size=6) + rng.normal(size=12)
        best, norm = nnls(a, y)
        support = np.flatnonzero(best)  # what the pursuit would stand at
        found = refit(a[:, support].T @ a[:, support], a[:, support].T @ y, 0.1 * best[support])
        assert np.linalg.norm(y - a[:, support] @ found) == pytest.approx(norm, rel=1e-4)


def test_a_weight_that_would_turn_negative_becomes_zero() -> None:
    a = np.array([[1.0, 1.0], [0.0, 1.0]])  # y is between the second column and the y-axis
    y = np.array([0.2, 1.0])
    found = refit(a.T @ a, a.T @ y, np.array([0.2, 0.0]))
    assert found[0] == 0
    assert found[1] == pytest.approx(0.6, rel=1e-4)


@pytest.mark.parametrize("factors", [policy_factors, critic_factors])
def test_factors_are_the_gradient_of_the_head(
    factors: object, few: TransitionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same features through a head of their own, and autograd on its weights."""
    config = GradientOMPConfig(network="mlp", updates=3)
    errors, inputs = factors(problem_of(few), config, 5)  # type: ignore[operator]
    features, actions = torch.from_numpy(inputs[:, :-1]), torch.from_numpy(few.actions)
    assert (inputs[:, -1] == 1).all()
    if factors is critic_factors:
        values = trained_critic(problem_of(few), "mlp", 3, seed=5).values(problem_of(few))
        returns = few.returns_to_go(GAMMA)
        error = values.q - returns
        assert np.allclose(errors[np.arange(len(few)), few.actions], error, atol=1e-5)
        assert (np.count_nonzero(errors, 1) <= 1).all()
        return
    head = cloned_network(problem_of(few), "mlp", 3, "hard", 5).head
    for row in (0, 9):
        loss = torch.nn.functional.cross_entropy(head(features[row]), actions[row])
        weight, bias = torch.autograd.grad(loss, [head.weight, head.bias])
        found = np.outer(errors[row], inputs[row])
        assert np.allclose(found[:, :-1], weight, atol=1e-5)
        assert np.allclose(found[:, -1], bias, atol=1e-5)


def test_factors_of_a_gaussian_policy_are_the_gradient_of_its_head() -> None:
    data = sample_box_data()
    problem = Problem(data, SampleBoxTask(), Budget(size=1), None, 0, "cpu", silent)
    errors, inputs = policy_factors(problem, GradientOMPConfig(network="mlp", updates=3), 5)
    network = cloned_network(problem, "mlp", 3, "hard", 5)
    for row in (0, 9):
        x, action = (torch.from_numpy(c[row : row + 1]) for c in (data.observations, data.actions))
        loss = gaussian_losses(network(x), action).sum()
        [weight, bias] = torch.autograd.grad(loss, [network.head.weight, network.head.bias])
        found = np.outer(errors[row], inputs[row])
        assert np.allclose(found[:, :-1], weight, rtol=1e-3, atol=1e-5)
        assert np.allclose(found[:, -1], bias, rtol=1e-3, atol=1e-5)


def test_a_critic_of_continuous_actions_is_linear_in_its_features_and_learns() -> None:
    """Episodes of one step, whose reward is the first action."""
    rng, n, space = np.random.default_rng(0), 300, SampleBoxTask.action_space
    actions = rng.uniform(space.low, space.high, (n, 2)).astype(np.float32)
    data = TransitionDataset(
        observations=rng.uniform(-1, 1, (n, 5)).astype(np.float32),
        actions=actions,
        rewards=actions[:, 0].copy(),
        terminations=np.ones(n, bool),
        truncations=np.zeros(n, bool),
        episode_ids=np.arange(n),
        steps=np.zeros(n, int),
    )
    problem = Problem(data, SampleBoxTask(), Budget(size=1), None, 0, "cpu", silent)
    values = trained_critic(problem, "mlp", 60, seed=0).values(problem)
    assert np.corrcoef(values.q, data.rewards)[0, 1] > 0.5
    inputs = np.concatenate([values.features, np.ones((n, 1))], 1)  # 257 numbers, 300 rows
    rest = values.q - inputs @ np.linalg.lstsq(inputs, values.q, rcond=None)[0]
    assert np.abs(rest).max() < 1e-3 * values.q.std()
    errors, _ = critic_factors(problem, GradientOMPConfig(network="mlp", updates=2), 5)
    assert errors.shape == (n, 1)


@pytest.mark.parametrize("gradient", ["policy", "critic"])
def test_gradient_omps_weights_are_positive_and_students_take_them(
    gradient: str, few: TransitionDataset
) -> None:
    data = keep("gradient-omp", few, gradient=gradient)
    assert (data.weights > 0).all()
    assert np.ptp(data.weights) > 0
    loss = data.report.matching_loss  # type: ignore[union-attr]
    assert loss.after < loss.before  # type: ignore[union-attr]
    make_learner("bc", network="mlp", updates=2, batch_size=4).fit(data, task=TASK, seeds=[0])


def test_gradient_omp_meets_the_size_where_fewer_rows_are_enough(few: TransitionDataset) -> None:
    """All frames alike and two actions: no third gradient can add anything."""
    data = replace(
        few,
        observations=np.repeat(few.observations[:1], len(few), 0),
        actions=np.arange(len(few)) % 2,
        known_sha256="",
    )
    kept = keep("gradient-omp", data, size=10)
    assert len(kept) == 10
    assert (kept.weights > 0).all()
    assert (kept.weights > 0.1 * kept.weights.max()).sum() == 2


def test_gradient_omps_return_filter_leaves_the_best_episodes_alone(few: TransitionDataset) -> None:
    best = np.argsort(-few.episode_returns(), kind="stable")[:3]
    data = keep("gradient-omp", few, keep_return=0.3)
    assert set(data.column("episode_ids")) <= set(best)
    with pytest.raises(BadConfig, match=r"keep_return 0\.1 leaves \d+ transitions, fewer than"):
        keep("gradient-omp", few, size=len(few), keep_return=0.1)
    with pytest.raises(BadConfig, match="keep_return must be at most 1, not 2"):
        make_method("gradient-omp", keep_return=2.0)


def test_the_indicator_is_one_on_what_bc_10_keeps(tiny: TransitionDataset, task: Task) -> None:
    kept = make_method("bc-10").condense(
        tiny, task=task, budget=Budget(percent=10, unit="episodes")
    )
    assert np.array_equal(np.flatnonzero(indicator(tiny, 0.1)), kept.source_indices)
    with pytest.raises(BadConfig, match="of 10 episodes is less than one"):
        indicator(tiny, 0.01)


def test_exponential_weights_order_rows_by_their_episodes_return(tiny: TransitionDataset) -> None:
    weights, returns = exponential(tiny, 1.0), tiny.episode_returns()
    assert np.ptp(returns) > 0
    z = (returns - returns.mean()) / returns.std()
    for rows, score in zip(tiny.episodes, z, strict=True):
        assert weights[rows.start : rows.stop] == pytest.approx(min(np.exp(score), 20.0), rel=1e-5)


def test_extreme_temperatures_leave_weights_that_can_be_used(tiny: TransitionDataset) -> None:
    cold, hot = exponential(tiny, 1e-6), exponential(tiny, 1e6)
    assert cold.min() > 0
    assert cold.max() == pytest.approx(20)
    assert np.allclose(hot, 1, atol=1e-4)
    flat = replace(tiny, rewards=np.ones(len(tiny), np.float32) * 0, known_sha256="")
    assert (exponential(flat, 0.1) == 1).all()


def test_return_weighted_keeps_everything_with_its_weights(
    tiny: TransitionDataset, task: Task
) -> None:
    data = make_method("return-weighted").condense(tiny, task=task, budget=len(tiny))
    assert len(data) == len(tiny)
    assert np.array_equal(data.weights, exponential(tiny, 1.0))
    with pytest.raises(BadConfig, match="best must be at most 1, not 10"):
        make_method("return-weighted", best=10.0)
