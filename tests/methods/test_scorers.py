"""Scores of episodes that take some computing: what each is to see, on data where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from scipy.special import ndtri

from rlcondense.datasets.budget import Budget
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.make import make_method
from rlcondense.methods.band import lateness
from rlcondense.methods.cupid import Sketch, factors_of
from rlcondense.methods.deminf import information
from rlcondense.methods.diverse_episodes import gaussian_kernel, greedy_determinant, signature
from rlcondense.methods.gradient_omp import head_factors
from rlcondense.methods.parts.features import cloned_network
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import NetworkPolicies
from rlcondense.runtime.progress import silent
from tests.small_tasks import Gridworld, Reach, SmallTask, play

GRID, REACH = Gridworld(), Reach()


@pytest.fixture(scope="module")
def reaches() -> TransitionDataset:
    return play(REACH, REACH.shortest, 400, noise=0.0)


@pytest.fixture(scope="module")
def walks() -> TransitionDataset:
    return play(GRID, GRID.shortest, 400, noise=0.0)


def with_random_actions(data: TransitionDataset) -> tuple[TransitionDataset, np.ndarray]:
    """Data in which every fourth episode has actions that do not follow from what is seen."""
    rng = np.random.default_rng(0)
    faulty = np.arange(len(data.episodes)) % 4 == 1
    actions = data.actions.copy()
    for number in np.flatnonzero(faulty):
        rows = data.episodes[number]
        shape = actions[rows.start : rows.stop].shape
        drawn = rng.uniform(-0.5, 0.5, shape) if len(shape) > 1 else rng.integers(0, 4, shape)
        actions[rows.start : rows.stop] = drawn
    return replace(data, actions=actions, known_sha256=""), faulty


def test_deminf_ranks_noisy_episodes_low(
    reaches: TransitionDataset, walks: TransitionDataset
) -> None:
    for clean, task, least in ((reaches, REACH, 0.9), (walks, GRID, 0.9)):
        data, faulty = with_random_actions(clean)
        scores = make_method("deminf", task, updates=20).score(data, task=task)
        assert scores.auroc(data, faulty) > least


def test_information_is_higher_where_actions_follow_from_states() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(300, 2))
    follows, drawn = states @ rng.normal(size=(2, 1)), rng.normal(size=(300, 1))
    first, second = (
        information(states, actions, np.random.default_rng(1)).mean()
        for actions in (follows, drawn)
    )
    assert first > second + 0.5
    assert np.isfinite(information(states[:1], drawn[:1], rng)).all()


def test_information_is_the_k_nearest_neighbours_counted_one_by_one() -> None:
    rng = np.random.default_rng(2)
    states, actions = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    values = information(states, actions, rng)
    for i in range(12):
        apart_s, apart_a = (((x - x[i]) ** 2).sum(1) for x in (states, actions))
        expected = 0.0
        for k in (2, 3, 4):
            r = np.sort(apart_s + apart_a)[k]
            n_s, n_a = ((apart <= r).sum() - 1 for apart in (apart_s, apart_a))
            expected += np.log(k) - np.log(n_s) - np.log(n_a)
        assert values[i] == pytest.approx(expected / 3)


def test_the_greedy_determinant_takes_the_best_next_item_each_time() -> None:
    kernel = gaussian_kernel(np.random.default_rng(0).normal(size=(8, 3)))
    order, gains = greedy_determinant(kernel, np.array([5]))
    assert order[0] == 5
    assert sorted(order) == list(range(8))
    assert (np.diff(gains) <= 1e-9).all()
    for i in range(1, 8):
        chosen = order[:i].tolist()

        def determinant(item: int, chosen: list[int] = chosen) -> float:
            rows = [*chosen, item]
            part = kernel[np.ix_(rows, rows)] + 1e-6 * np.eye(len(rows))
            return float(np.linalg.slogdet(part)[1])

        others = [item for item in range(8) if item not in chosen]
        assert order[i] == max(others, key=determinant)


def test_the_seed_draws_the_first_of_diverse_episodes() -> None:
    few = play(REACH, REACH.shortest, 60, noise=0.9)

    def firsts() -> list[int]:
        method = make_method("diverse-episodes", REACH)
        return [int(method.score(few, task=REACH, seed=s).values.argmax()) for s in range(5)]

    assert len(set(firsts())) > 1
    assert firsts() == firsts()


def test_as_many_episodes_are_drawn_as_the_settings_say() -> None:
    few = play(REACH, REACH.shortest, 60, noise=0.9)
    values = make_method("diverse-episodes", REACH, drawn=3).score(few, task=REACH).values
    drawn = np.flatnonzero(values == values.max())
    assert len(drawn) == 3
    assert set(drawn) != {0, 1, 2}
    [first] = np.flatnonzero(
        (one := make_method("diverse-episodes", REACH).score(few, task=REACH).values) == one.max()
    )
    assert first in drawn


def test_a_copy_of_an_episode_adds_nothing() -> None:
    few = play(REACH, REACH.shortest, 60, noise=0.9)
    longest = np.argsort([-len(episode) for episode in few.episodes], kind="stable")[:2]
    rows = np.concatenate([np.arange(len(few)), *(np.asarray(few.episodes[i]) for i in longest)])
    columns = {name: column[rows] for name, column in few.columns().items()}
    data = TransitionDataset(**columns, id="tests/copies-v0", task=REACH.id)
    method, count = make_method("diverse-episodes", REACH), len(few.episodes)
    alone, beside = (method.score(x, task=REACH).values for x in (few, data))
    for original, copy in zip(longest, (count, count + 1), strict=True):
        assert alone[original] > -3
        assert min(beside[original], beside[copy]) < -10


def test_a_signature_is_the_displacement_and_the_areas_of_a_path() -> None:
    path = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])  # right, then up
    level_one, level_two = signature(path)[:3], signature(path)[3:].reshape(3, 3)
    assert level_one == pytest.approx([1, 1, 1])
    assert level_two[0, 1] - level_two[1, 0] == pytest.approx(1)  # twice the signed area
    assert level_two[0, 0] == pytest.approx(0.5)
    assert (signature(path[:1]) == 0).all()


def test_what_is_equal_but_for_rounding_does_not_tell_paths_apart() -> None:
    """The integral of time along itself is 1/2 for every path, and differs in the last digit."""
    rng = np.random.default_rng(0)
    paths = np.array([signature(rng.normal(size=(length, 2))) for length in range(20, 60)])
    assert 0 < paths[:, -1].std() < 1e-12
    without = np.concatenate([paths[:, :-1], np.full((len(paths), 1), 0.5)], 1)
    assert np.allclose(gaussian_kernel(paths), gaussian_kernel(without), rtol=0, atol=1e-9)


def test_lateness_is_when_a_loss_comes_down() -> None:
    at_once, late, never = [4, 0, 0, 0, 0], [4, 4, 4, 4, 0], [4, 5, 5, 5, 5]
    assert lateness(np.array([at_once, late, never], float).T) == pytest.approx([0, 0.75, 1])


def test_band_puts_what_is_never_learned_below_what_is_learned(walks: TransitionDataset) -> None:
    data, faulty = with_random_actions(walks)
    settings = {"updates": 60, "centre": 0.0}
    scores = make_method("band", GRID, **settings).score(data, task=GRID)
    assert scores.auroc(data, faulty) > 0.7
    with pytest.raises(BadConfig, match=r"centre must lie in \[0, 1\], not 2"):
        make_method("band", centre=2.0)


def test_band_prefers_what_is_learned_in_the_middle_of_the_training(
    walks: TransitionDataset,
) -> None:
    data, _ = with_random_actions(walks)
    at_once, middle = (
        make_method("band", GRID, updates=60, centre=centre).score(data, task=GRID).values
        for centre in (0.0, 0.5)
    )
    difficulty = -at_once
    assert difficulty.min() < 0.4
    assert difficulty.max() > 0.6
    assert middle == pytest.approx(-abs(difficulty - 0.5), abs=1e-6)


class Bandit(SmallTask):
    """One step an episode: action 1 brings 1, action 0 nothing, whatever is seen."""

    id = "tests/bandit-v0"
    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)

    def look(self, state: np.ndarray) -> np.ndarray:
        return state.astype(np.float32)

    def start(self, level: int) -> np.ndarray:
        return np.random.default_rng(level).uniform(-1, 1, 2)

    def move(
        self, state: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return state, actions.astype(np.float32), np.ones(len(state), bool)


def test_cupid_ranks_episodes_that_raise_the_return_above_those_that_lower_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bandit, n = Bandit(), 60
    states = np.array([bandit.start(level) for level in range(n)], np.float32)
    actions = np.arange(n) % 2
    data = TransitionDataset(
        observations=states,
        actions=actions,
        rewards=np.zeros(n, np.float32),  # what the data earned is not looked at
        terminations=np.ones(n, bool),
        truncations=np.zeros(n, bool),
        episode_ids=np.arange(n),
        steps=np.zeros(n, np.int64),
        id="tests/bandit-play-v0",
        task=bandit.id,
    )
    method = make_method("cupid", bandit, updates=5, episodes=100, projection=64)
    scores = method.score(data, task=bandit)
    assert scores.auroc(data, actions == 0) > 0.95
    assert scores.environment_steps == 100
    report = method.condense(data, task=bandit, budget=10).report
    assert report is not None
    assert report.cost.environment_steps == 100
    with pytest.raises(BadConfig, match="episodes must be a multiple of 20, not 30"):
        make_method("cupid", episodes=30)
    monkeypatch.setattr(
        Bandit, "move", lambda _, s, a: (s, np.zeros(len(a)), np.ones(len(a), bool))
    )
    with pytest.raises(BadConfig, match="each of 100 returns 0"):
        method.score(data, task=bandit)


def test_sketches_keep_inner_products_of_outer_products_on_average() -> None:
    rng = np.random.default_rng(0)
    errors, features = rng.normal(size=(2, 3)), rng.normal(size=(2, 5))
    exact = (errors[0] @ errors[1]) * (features[0] @ features[1])
    products = [a @ b for a, b in (Sketch(3, 5, 400, rng)(errors, features) for _ in range(100))]
    assert np.mean(products) == pytest.approx(exact, abs=4 * np.std(products) / 10)


def test_factors_of_actions_taken_are_those_of_the_same_actions_in_the_data(
    reaches: TransitionDataset,
) -> None:
    problem = make_method("cupid", REACH)._problem(
        reaches, REACH, Budget(size=1), None, 0, "cpu", silent
    )
    network = cloned_network(problem, "mlp", 3, "hard", 0)
    errors, features = head_factors(problem, network, "hard")
    again = factors_of(network, reaches.observations, reaches.actions, "cpu")
    assert again[0] == pytest.approx(errors, rel=1e-3, abs=1e-4)
    assert again[1] == pytest.approx(features, rel=1e-3, abs=1e-4)


def test_gradients_of_rollouts_are_of_what_was_drawn_not_of_what_the_bounds_leave() -> None:
    network = PolicyNetwork(NetworkSpec("mlp", (2,), 2, width=4, head="gaussian"))
    policies = NetworkPolicies([network], [0], space=REACH.action_space)
    observations, drawn = np.zeros((3, 2), np.float32), np.full((3, 2), 0.999)
    index = np.zeros(3, np.int64)
    free = policies.draw(observations, index, drawn)
    played = policies.act(observations, index, drawn)
    assert (free > 1).all()  # beyond the bounds of half a step
    assert np.array_equal(played, policies.boxed(free))
    errors, _ = factors_of(network, observations, free, "cpu")
    log_std = network.log_std.detach().numpy() * network.spec.log_std_gain
    assert errors * np.exp(log_std) == pytest.approx(-ndtri(0.999) * np.ones((3, 2)), rel=1e-4)
