from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from torch import nn

from rlcondense.datasets.condensed import load_condensed
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.make import make_learner, make_method
from rlcondense.methods.qmatch import (
    QMatchConfig,
    Transitions,
    distance,
    outcomes,
    proportional_shares,
    q_loss,
    start_rows,
)
from tests.small_tasks import Array, Gridworld, play

QUICK: dict[str, Any] = {
    "network": "mlp", "width": 32, "iterations": 20, "real_batch": 16, "learners": 1,
    "updates": 20, "every": 10, "gamma": 0.9,
}  # fmt: skip


class Coordinates(Gridworld):
    """The gridworld, its cell told as two numbers."""

    @property
    def observation_space(self) -> Space[Any]:
        return Box(0, 3, (2,), np.float32)

    def look(self, state: Array) -> Array:
        return state.astype(np.float32)


FRAMES, VECTORS = Gridworld(), Coordinates()


@pytest.fixture(scope="module")
def walks() -> TransitionDataset:
    return play(FRAMES, FRAMES.shortest, 400, noise=0.75)


@pytest.fixture(scope="module")
def paths() -> TransitionDataset:
    return play(VECTORS, VECTORS.shortest, 1500, noise=0.75)


def _condense(data: TransitionDataset, size: int = 12, seed: int = 0, **more: Any) -> Any:
    task = FRAMES if data.observations.ndim == 4 else VECTORS
    method = make_method("qmatch", **{**QUICK, **more})
    return method.condense(data, task=task, budget=size, seed=seed)


@pytest.mark.parametrize("learner", ["dqn", "discrete-cql"])
def test_q_learning_trains_on_what_it_gives(
    learner: str, walks: TransitionDataset, tmp_path: Path
) -> None:
    _condense(walks).save(tmp_path)
    data = load_condensed(tmp_path)
    fitting = make_learner(learner, network="mlp", width=32, updates=50)
    assert not fitting.missing(data.provides(), FRAMES)
    policies = fitting.fit(data, task=FRAMES, seeds=[0])
    frames = walks.observations[:9]
    actions = policies.act(frames, np.zeros(9, int), np.full(9, 0.5))
    assert all(FRAMES.action_space.contains(action) for action in actions)


def test_rows_are_whole_transitions_of_the_budgets_number(walks: TransitionDataset) -> None:
    data = _condense(walks, 17)
    assert len(data) == 17
    assert data.provides() == {
        "observations", "actions", "rewards", "terminations", "next_observations"
    }  # fmt: skip
    for frames in (data.observations, data.following):
        assert frames.dtype == np.float32
        assert frames.min() >= 0
        assert frames.max() <= 255
    assert data.terminations.any()
    ended = np.flatnonzero(data.terminations)
    assert np.array_equal(data.next_rows[ended], ended)
    assert np.array_equal(data.next_rows[~data.terminations], 17 + np.arange(17 - len(ended)))
    source = data.initial_indices
    assert np.array_equal(data.actions, walks.actions[source])
    assert np.array_equal(data.terminations, walks.column("terminations")[source])


def test_both_frames_and_rewards_move_and_the_loss_falls(walks: TransitionDataset) -> None:
    data = _condense(walks, distance="l2")
    report, source = data.report, data.initial_indices
    on = np.flatnonzero(~data.terminations)
    moved = np.abs(data.observations - walks.observations[source])
    next_moved = np.abs(data.next_observations(on) - walks.next_observations(source[on]))
    both = np.concatenate([moved, next_moved])
    assert moved.mean() > 0.1
    assert next_moved.mean() > 0.1
    assert report.displacement.mean == pytest.approx(both.mean(), rel=1e-4)
    assert report.displacement.largest == pytest.approx(both.max())
    assert np.abs(data.rewards - walks.column("rewards")[source]).max() > 0
    assert data.rewards.min() >= walks.column("rewards").min()
    assert data.rewards.max() <= walks.column("rewards").max()
    assert report.matching_loss.after < report.matching_loss.before
    assert report.cost.gradient_evaluations > 20 * (12 + 16)


def test_rewards_are_kept_if_asked_for(walks: TransitionDataset) -> None:
    data = _condense(walks, rewards="kept")
    assert np.array_equal(data.rewards, walks.column("rewards")[data.initial_indices])


@pytest.mark.parametrize(
    "settings",
    [{"match": "loss"}, {"classes": "joint", "theta": "student"}, {"theta": "initial"}],
)
def test_the_same_seed_gives_the_same_vectors_and_leaves_global_randomness_alone(
    settings: dict[str, Any], paths: TransitionDataset
) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = _condense(paths, **settings)
    assert torch.rand(1) == expected
    assert first.sha256 == _condense(paths, **settings).sha256
    assert first.sha256 != _condense(paths, seed=1, **settings).sha256


def test_smaller_frames_can_be_learned_of_both(walks: TransitionDataset) -> None:
    data = _condense(walks, resolution=4)
    assert data.observations.shape[1:] == data.following.shape[1:] == (3, 12, 12)


def test_the_loss_is_the_td_error_and_the_conservative_term() -> None:
    """Theta sees ten times what it is shown as the value of action 1, and 1 for action 0."""
    theta, target = nn.Linear(1, 2), nn.Linear(1, 2)
    with torch.no_grad():
        for network, factor in ((theta, 10.0), (target, 1.0)):
            network.weight.copy_(torch.tensor([[0.0], [factor]]))
            network.bias.copy_(torch.tensor([1.0, 0.0]))
    batch = Transitions(
        observations=torch.tensor([[0.01], [0.05]]),
        actions=torch.tensor([1, 0]),
        rewards=torch.tensor([0.5, 0.25]),
        next_observations=torch.tensor([[0.3], [0.3]]),
        terminations=torch.tensor([False, True]),
        weights=torch.tensor([3.0, 1.0]),
    )
    # Theta takes action 1 next, which the target values at 0.3; row 1 ends.
    td = np.array([0.1 - (0.5 + 0.9 * 0.3), 1 - 0.25]) ** 2 / 2
    assert q_loss(theta, target, batch, 0.9, 0).item() == pytest.approx((3 * td[0] + td[1]) / 4)
    cql = np.log(np.exp([1, 1]) + np.exp([0.1, 0.5])) - [0.1, 1]
    losses = td + 2 * cql
    whole = q_loss(theta, target, batch, 0.9, 2).item()
    assert whole == pytest.approx((3 * losses[0] + losses[1]) / 4)


@pytest.mark.parametrize("match", ["gradient", "loss"])
def test_gradients_of_the_distance_are_those_of_finite_differences(match: str) -> None:
    # Small values: past an error of one, Huber's loss has no curvature, nor r and s' a gradient.
    torch_rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch_rng, dtype=torch.float64) / 4

    networks = []
    for _ in range(2):
        network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(drawn(*parameter.shape))
        networks.append(network)
    theta, target = networks
    target.requires_grad_(False)
    actions, ends = torch.tensor([0, 3, 1, 1]), torch.tensor([False, True, False, False])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)

    def batch(s: torch.Tensor, r: torch.Tensor, after: torch.Tensor) -> Transitions:
        return Transitions(s, actions, r, after, ends, weights)

    real = batch(drawn(4, 3), drawn(4), drawn(4, 3))
    config = QMatchConfig(match=match, gamma=0.8, conservative=0.5)

    def of(s: torch.Tensor, r: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return distance(theta, target, batch(s, r, after), real, config)

    own = [x.requires_grad_() for x in (drawn(4, 3), drawn(4), drawn(4, 3))]
    assert torch.autograd.gradcheck(of, own, eps=1e-6, atol=1e-7, rtol=1e-5)
    g_reward, g_after = torch.autograd.grad(of(*own), own[1:])
    assert (g_reward != 0).all()
    assert (g_after[ends] == 0).all()  # nothing comes after the end
    assert (g_after[~ends] != 0).all()


def test_a_stratified_start_has_every_outcome_and_weights_that_undo_it(
    paths: TransitionDataset,
) -> None:
    rows, weights = start_rows(paths, 12, "stratified", np.random.default_rng(0))
    assert len({*rows}) == 12
    kinds = 3 * paths.actions + outcomes(paths)
    assert {*kinds[rows]} == {*kinds}
    assert weights.mean() == pytest.approx(1)
    for kind in np.unique(kinds):
        known = paths.next_rows >= 0
        share = weights[kinds[rows] == kind].sum() / weights.sum()
        assert share == pytest.approx((kinds[known] == kind).mean(), abs=1e-6)
    assert (np.diff(paths.actions[rows]) >= 0).all()


def test_outcomes_tell_rare_rewards_and_ends(walks: TransitionDataset) -> None:
    rewards = np.zeros(len(walks), np.float32)
    rewards[[3, 5]] = 1.0, -2.0
    ends = np.zeros(len(walks), bool)
    ends[5] = True
    found = outcomes(replace(walks, rewards=rewards, terminations=ends))
    assert (found[3], found[5], found.sum()) == (1, 2, 3)


def test_shares_are_in_proportion_with_one_each_where_they_reach() -> None:
    assert proportional_shares(np.array([98, 1, 1]), 10).tolist() == [8, 1, 1]
    assert proportional_shares(np.array([98, 1, 1]), 2).tolist() == [2, 0, 0]
    assert proportional_shares(np.array([2, 1, 1]), 4).tolist() == [2, 1, 1]


@pytest.mark.parametrize("start", ["stratified", "balanced", "random"])
def test_rows_whose_successor_was_not_kept_are_not_used(
    start: str, walks: TransitionDataset
) -> None:
    ends = np.zeros(len(walks), bool)
    cut = replace(walks, terminations=ends, known_sha256="")
    lost = cut.next_rows < 0
    data = _condense(cut, int((~lost).sum()), start=start, iterations=1)
    assert not lost[data.initial_indices].any()
    with pytest.raises(BadConfig, match="have a known next observation"):
        _condense(cut, len(cut), start=start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"conservative": -1.0}, "must not be negative"),
        ({"theta": "expert"}, "theta must be one of"),
        ({"start": "sorted"}, "start must be one of"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        make_method("qmatch", **settings)


def test_an_end_alone_has_nothing_after_it(walks: TransitionDataset) -> None:
    ends = np.ones(len(walks), bool)
    data = _condense(replace(walks, terminations=ends, known_sha256=""), 5, iterations=1)
    assert data.following is None
    assert np.array_equal(data.next_rows, np.arange(5))


def test_what_follows_stays_within_the_space_too(paths: TransitionDataset) -> None:
    made = _condense(paths, learning_rate=1000.0)
    assert made.following is not None
    for rows in (made.observations, made.following):
        assert rows.min() >= 0
        assert rows.max() <= 3
    assert made.report.displacement.largest > 1


def test_a_learner_reaches_at_least_the_first_of_its_networks() -> None:
    with pytest.raises(BadConfig, match=r"every \(20\) must be at most updates \(15\)"):
        make_method("qmatch", updates=15)
    make_method("qmatch", updates=15, theta="initial")
