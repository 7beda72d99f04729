from __future__ import annotations

import numpy as np
import pytest

from rlcondense.errors import BadConfig
from rlcondense.evolution.strategies import (
    SNES,
    EvolutionStrategy,
    OpenES,
    centred_ranks,
    mean_gradient,
    natural_gradients,
    tempered_weights,
    utilities,
)

Array = np.ndarray
A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
TOP = np.array([1.0, -2.0, 0.5])
AT = np.array([0.5, 0.3, -1.0])


def quadratic(x: Array) -> Array:
    """Largest, 0, at `TOP`."""
    d = x - TOP
    return -0.5 * np.einsum("pi,ij,pj->p", d, A, d)


def rosenbrock(x: Array) -> Array:
    """Largest, 0, where every coordinate is 1."""
    return -(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def climb(strategy: EvolutionStrategy, f: object, population: int, generations: int) -> Array:
    rng = np.random.default_rng(0)
    for _ in range(generations):
        strategy.tell(f(strategy.ask(population, rng)))  # type: ignore[operator]
    return strategy.mean


@pytest.mark.parametrize(
    "strategy",
    [
        OpenES(AT, sigma=0.1, learning_rate=0.02, mirrored=False),
        OpenES(AT, sigma=0.1, learning_rate=0.02, raw=True),
        SNES(AT, mirrored=False),
        SNES(AT, temperature=12.0),
    ],
    ids=["openes-unmirrored", "openes-raw", "snes-unmirrored", "snes-temperature"],
)
def test_other_ways_to_sample_and_to_weigh_climb_too(strategy: EvolutionStrategy) -> None:
    found = np.abs(climb(strategy, quadratic, 64, 300) - TOP).max()
    assert found < 0.1 < np.abs(AT - TOP).max()


def test_points_that_are_not_mirrored_are_drawn_one_by_one() -> None:
    strategy = SNES(AT, mirrored=False)
    strategy.ask(5, np.random.default_rng(0))
    assert np.array_equal(strategy.noise, np.random.default_rng(0).standard_normal((5, 3)))
    with pytest.raises(BadConfig, match="population must be at least 2, not 1"):
        strategy.ask(1, np.random.default_rng(0))


def test_raw_fitness_moves_the_mean_by_its_own_size() -> None:
    """Adam's first step has the sign of the gradient alone, so the moments are looked at."""
    for scale in (1.0, 100.0):
        strategy = OpenES(AT, raw=True)
        worth = quadratic(strategy.ask(8, np.random.default_rng(0)))
        strategy.tell(scale * worth)
        expected = scale * mean_gradient(strategy.noise, worth, strategy.sigma)
        assert np.allclose(strategy._first, 0.1 * expected)


def test_momentum_is_how_much_of_the_mean_gradient_is_kept() -> None:
    strategy = OpenES(AT, raw=True, momentum=0.99)
    worth = quadratic(strategy.ask(8, np.random.default_rng(0)))
    strategy.tell(worth)
    expected = mean_gradient(strategy.noise, worth, strategy.sigma)
    assert np.allclose(strategy._first, 0.01 * expected)
    strategy.tell(np.zeros(8))
    assert np.allclose(strategy._first, 0.99 * 0.01 * expected)


def test_tempered_weights_are_evosaxs() -> None:
    """Worked out by its formula for four points: ranks -1/2, -1/6, 1/6 and 1/2, best first."""
    ranks = np.array([-0.5, -1 / 6, 1 / 6, 0.5])
    expected = np.exp(-20 / (1 + np.exp(-20 * ranks)))
    expected /= expected.sum()
    assert np.allclose(tempered_weights(np.array([4.0, 3.0, 2.0, 1.0]), 20), expected)
    tied = tempered_weights(np.array([4.0, 4.0, 1.0, 2.0]), 20)
    assert tied[0] == tied[1] == pytest.approx(expected[:2].mean())
    assert tied.sum() == pytest.approx(1)


def test_openes_climbs_a_quadratic() -> None:
    strategy = OpenES(AT, sigma=0.1, learning_rate=0.05)
    climb(strategy, quadratic, 64, 400)
    strategy.learning_rate = 0.002
    assert np.abs(climb(strategy, quadratic, 64, 300) - TOP).max() < 0.01


def test_snes_climbs_a_quadratic() -> None:
    assert np.abs(climb(SNES(AT), quadratic, 20, 200) - TOP).max() < 1e-6


def test_openes_follows_the_valley_of_rosenbrock() -> None:
    """With a small sigma: a large one blurs the valley, and the best mean lies elsewhere."""
    strategy = OpenES(np.array([-1.2, 1.0]), sigma=0.005, learning_rate=0.02)
    climb(strategy, rosenbrock, 64, 1500)
    strategy.learning_rate = 0.002
    assert np.abs(climb(strategy, rosenbrock, 64, 1000) - 1).max() < 0.05


def test_snes_follows_the_valley_of_rosenbrock() -> None:
    start = np.array([-1.2, 1.0])
    assert np.abs(climb(SNES(start), rosenbrock, 40, 3000) - 1).max() < 0.02


def test_the_gradient_is_that_of_the_expected_fitness() -> None:
    """Of a quadratic's expectation it is -A (mean - top), whatever sigma."""
    sigma = 0.7
    strategy = OpenES(AT, sigma=sigma)
    estimates = []
    for seed in range(400):
        points = strategy.ask(64, np.random.default_rng(seed))
        estimates.append(mean_gradient(strategy.noise, quadratic(points), sigma))
    error = np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    expected = -A @ (AT - TOP)
    assert (error < 0.05 * np.abs(expected).max()).all()
    assert (np.abs(np.mean(estimates, axis=0) - expected) < 4 * error).all()


def test_the_natural_gradients_are_those_of_the_expected_fitness() -> None:
    """By the mean sigma * gradient; by the log-deviation sigma^2 times the curvature."""
    strategy = SNES(AT, sigma=0.7)
    found = []
    for seed in range(400):
        points = strategy.ask(64, np.random.default_rng(seed))
        found.append(np.concatenate(natural_gradients(strategy.noise, quadratic(points) / 64)))
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    expected = np.concatenate([-0.7 * A @ (AT - TOP), -(0.7**2) * np.diag(A)])
    assert (error < 0.05 * np.abs(expected).max()).all()
    assert (np.abs(np.mean(found, axis=0) - expected) < 4 * error).all()


def test_points_are_mirrored_at_the_mean() -> None:
    points = OpenES(AT).ask(6, np.random.default_rng(0))
    assert np.allclose(points[:3] + points[3:], 2 * AT)
    assert len(np.unique(points[:, 0])) == 6


@pytest.mark.parametrize("population", [0, 1, 7])
def test_a_population_without_pairs_is_refused(population: int) -> None:
    with pytest.raises(BadConfig, match="even"):
        OpenES(AT).ask(population, np.random.default_rng(0))


def test_equal_points_are_worth_the_same() -> None:
    fitness = np.array([5.0, 1.0, 5.0, 2.0, 1.0, 5.0])
    assert centred_ranks(np.arange(5.0)).tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    for shaped in (centred_ranks(fitness), utilities(fitness)):
        assert shaped.sum() == pytest.approx(0)
        assert shaped[0] == shaped[2] == shaped[5] > shaped[3] >= shaped[1] == shaped[4]
    assert not centred_ranks(np.ones(4)).any()
    assert np.allclose(utilities(np.ones(4)), 0)


def test_utilities_are_the_papers() -> None:
    """Of four points: log(3) - log(rank) where positive, as shares, less a quarter."""
    raw = np.array([np.log(3), np.log(3 / 2), 0, 0])
    assert np.allclose(utilities(np.array([9.0, 7.0, 2.0, 1.0])), raw / raw.sum() - 0.25)


def test_only_the_order_of_fitness_counts() -> None:
    f = np.random.default_rng(1).normal(size=8)
    for kind in (OpenES, SNES):
        a, b = kind(AT), kind(AT)
        for strategy, told in ((a, f), (b, np.exp(3 * f))):
            strategy.ask(8, np.random.default_rng(0))
            strategy.tell(told)
        assert np.array_equal(a.mean, b.mean)


@pytest.mark.parametrize("kind", [OpenES, SNES])
def test_a_restored_strategy_goes_on_alike(kind: type[OpenES] | type[SNES]) -> None:
    whole, other = kind(AT), kind(np.zeros(3))
    climb(whole, quadratic, 8, 5)
    other.restore({name: array.copy() for name, array in whole.state().items()})
    assert np.array_equal(climb(other, quadratic, 8, 5), climb(whole, quadratic, 8, 5))
