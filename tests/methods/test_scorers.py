"""Scores of episodes that take some computing: what each is to see, on data where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.make import make_method
from rlcondense.methods.band import lateness
from rlcondense.methods.deminf import information
from rlcondense.methods.diverse_episodes import gaussian_kernel, greedy_determinant, signature
from tests.small_tasks import Gridworld, Reach, play

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
    order, gains = greedy_determinant(kernel)
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
