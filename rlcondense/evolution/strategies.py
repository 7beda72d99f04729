"""Evolution strategies that ask for points and are told what those are worth, which is maximised.

OpenES (Salimans et al., 2017, arXiv 1703.03864) follows the gradient of the expected fitness of a
Gaussian's samples by its mean, with Adam. SNES (Wierstra et al., 2014, arXiv 1106.4487; Schaul,
Glasmachers and Schmidhuber, 2011) follows the natural gradient by mean and deviations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from rlcondense.errors import BadConfig
from rlcondense.limits import check_most
from rlcondense.types import Array

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's


class EvolutionStrategy(ABC):
    """A Gaussian over points, whose samples come in pairs that mirror each other at the mean.

    Args:
        mean: `(n,)` where to begin.
        mirrored: whether samples come in pairs; else each is drawn by itself.

    Attributes:
        mean: `(n,)` float64.
        noise: `(P, n)` of the points last asked for, in deviations from the mean.
    """

    def __init__(self, mean: Array, mirrored: bool = True) -> None:
        self.mean, self.mirrored = np.array(mean, np.float64), mirrored
        self.noise = np.empty((0, self.mean.size))

    @property
    @abstractmethod
    def deviation(self) -> Array | float:
        """The Gaussian's, of each coordinate or of all."""

    def ask(self, population: int, rng: np.random.Generator) -> Array:
        """Sample `(P, n)` points; where they are mirrored, the second half mirrors the first.

        Raises:
            BadConfig: the population is not even where it has to be.
        """
        check_population(population, self.mirrored)
        if self.mirrored:
            half = rng.standard_normal((population // 2, self.mean.size))
            self.noise = np.concatenate([half, -half])
        else:
            self.noise = rng.standard_normal((population, self.mean.size))
        return np.asarray(self.mean + self.deviation * self.noise)

    @abstractmethod
    def tell(self, fitness: Array) -> None:
        """Move, given the worth `(P,)` of the points last asked for.

        Only their order counts, unless a strategy is told to take the worth as it is.
        """

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Everything that decides what comes next but the caller's generator."""

    @abstractmethod
    def restore(self, state: Mapping[str, Array]) -> None:
        """Be what a state says."""


class OpenES(EvolutionStrategy):
    """A Gaussian of one fixed deviation, its mean moved by Adam on centred ranks.

    Args:
        mean: `(n,)` where to begin.
        sigma: the deviation.
        learning_rate: Adam's.
        mirrored: whether samples come in pairs.
        raw: take the fitness itself instead of its centred ranks.
    """

    def __init__(
        self,
        mean: Array,
        sigma: float = 0.03,
        learning_rate: float = 0.05,
        *,
        mirrored: bool = True,
        raw: bool = False,
    ) -> None:
        super().__init__(mean, mirrored)
        self.sigma, self.learning_rate, self.raw = sigma, learning_rate, raw
        self._first, self._second = np.zeros_like(self.mean), np.zeros_like(self.mean)
        self._steps = 0

    @property
    def deviation(self) -> float:
        return self.sigma

    def tell(self, fitness: Array) -> None:
        worth = fitness if self.raw else centred_ranks(fitness)
        gradient = mean_gradient(self.noise, worth, self.sigma)
        self._steps += 1
        b1, b2 = BETAS
        self._first = b1 * self._first + (1 - b1) * gradient
        self._second = b2 * self._second + (1 - b2) * gradient**2
        first = self._first / (1 - b1**self._steps)
        second = self._second / (1 - b2**self._steps)
        self.mean = self.mean + self.learning_rate * first / (np.sqrt(second) + EPSILON)

    def state(self) -> dict[str, Array]:
        steps = np.array([self._steps])
        return {"mean": self.mean, "first": self._first, "second": self._second, "steps": steps}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self._first, self._second = (state[k] for k in ("mean", "first", "second"))
        self._steps = int(state["steps"][0])


class SNES(EvolutionStrategy):
    """A Gaussian with a deviation for each coordinate, both moved by natural gradients.

    Args:
        mean: `(n,)` where to begin.
        sigma: the deviation of every coordinate at first.
        learning_rate: of the mean; 1 is the papers'.
        mirrored: whether samples come in pairs.
        temperature: of the weights that evosax gives ranks (Lange et al., 2023, arXiv 2211.11260),
            which HaDES has; None takes the utilities of Wierstra et al.
    """

    def __init__(
        self,
        mean: Array,
        sigma: float = 0.5,
        learning_rate: float = 1.0,
        *,
        mirrored: bool = True,
        temperature: float | None = None,
    ) -> None:
        super().__init__(mean, mirrored)
        self.sigma = np.full_like(self.mean, sigma)
        self.learning_rate, self.temperature = learning_rate, temperature
        n = max(1, self.mean.size)
        self.sigma_rate = (3 + math.log(n)) / (5 * math.sqrt(n))

    @property
    def deviation(self) -> Array:
        return self.sigma

    def tell(self, fitness: Array) -> None:
        weights = utilities(fitness)
        if self.temperature is not None:
            weights = tempered_weights(fitness, self.temperature)
        by_mean, by_sigma = natural_gradients(self.noise, weights)
        self.mean = self.mean + self.learning_rate * self.sigma * by_mean
        self.sigma = self.sigma * np.exp(self.sigma_rate / 2 * by_sigma)

    def state(self) -> dict[str, Array]:
        return {"mean": self.mean, "sigma": self.sigma}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self.sigma = state["mean"], state["sigma"]


STRATEGIES: dict[str, type[OpenES] | type[SNES]] = {"openes": OpenES, "snes": SNES}


def make_strategy(name: str, mean: Array, **settings: Any) -> EvolutionStrategy:
    """A strategy of `STRATEGIES` that begins at `mean` `(n,)`; None is its own setting."""
    options = {k: v for k, v in settings.items() if v is not None}
    return STRATEGIES[name](mean, **options)


def check_population(population: int, mirrored: bool = True) -> None:
    """Raise `BadConfig` unless there are two points, and pairs where they are mirrored."""
    if population < 2 or (mirrored and population % 2):
        wanted = "an even number from 2" if mirrored else "at least 2"
        raise BadConfig(f"population must be {wanted}, not {population}")
    check_most("population", population)


def mean_gradient(noise: Array, worth: Array, sigma: float) -> Array:
    """The gradient `(n,)` of the expected worth by the mean (Salimans et al., section 2).

    Unbiased where `worth` is the fitness itself.

    Args:
        noise: `(P, n)` standard normal.
        worth: `(P,)` of the points, shaped or not.
        sigma: deviation of the points.
    """
    return np.asarray(worth @ noise / (len(worth) * sigma))


def natural_gradients(noise: Array, weights: Array) -> tuple[Array, Array]:
    """The natural gradients by mean and by log-deviation, in deviations (Wierstra et al., eq. 11).

    Args:
        noise: `(P, n)` standard normal.
        weights: `(P,)` what each point counts; divided by P if these are unshaped.
    """
    return weights @ noise, weights @ (noise**2 - 1)


def centred_ranks(fitness: Array) -> Array:
    """Ranks from -0.5 for the worst to 0.5 for the best; equals share theirs."""
    return np.asarray((rankdata(fitness) - 1) / (len(fitness) - 1) - 0.5)


def utilities(fitness: Array) -> Array:
    """What SNES gives each rank (Wierstra et al., section 3.1): the better half counts.

    They sum to zero; equals share theirs.
    """
    size = len(fitness)
    by_rank = np.maximum(0, math.log(size / 2 + 1) - np.log(np.arange(size, 0, -1)))  # worst first
    return _shared(fitness, by_rank / by_rank.sum() - 1 / size)


def tempered_weights(fitness: Array, temperature: float) -> Array:
    """What evosax's SNES gives each rank at a temperature; equals share theirs.

    They sum to one: softmax of -20 sigmoid(temperature x rank), ranks from -0.5 for the best to 0.5
    for the worst.
    """
    rank = np.linspace(0.5, -0.5, len(fitness))  # worst first
    by_rank = np.exp(-20 / (1 + np.exp(-temperature * rank)))
    return _shared(fitness, by_rank / by_rank.sum())


def _shared(fitness: Array, by_rank: Array) -> Array:
    """What each point `(P,)` gets of what ranks have, the worst first; equals share theirs."""
    _, group = np.unique(fitness, return_inverse=True)  # equals stand together, worst first
    shared = np.bincount(group, by_rank[rankdata(fitness, method="ordinal") - 1])
    return np.asarray((shared / np.bincount(group))[group])
