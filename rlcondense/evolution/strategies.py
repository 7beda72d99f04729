"""Evolution strategies that sample points and maximise the fitness that is reported for them.

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

from rlcondense.errors import BadConfig
from rlcondense.limits import check_most
from rlcondense.types import Array

SECOND, EPSILON = 0.999, 1e-8  # Adam's decay of squares, and its epsilon


class EvolutionStrategy(ABC):
    """Gaussian over points whose samples come in pairs that are symmetric about the mean.

    Args:
        mean: `(n,)` initial mean.
        mirrored: whether samples come in pairs; otherwise each is drawn independently.

    Attributes:
        mean: `(n,)` float64.
        noise: `(P, n)` noise of the last sampled points, in deviations from the mean.
    """

    def __init__(self, mean: Array, mirrored: bool = True) -> None:
        self.mean, self.mirrored = np.array(mean, np.float64), mirrored
        self.noise = np.empty((0, self.mean.size))

    @property
    @abstractmethod
    def deviation(self) -> Array | float:
        """Standard deviation of the Gaussian, for each coordinate or for all."""

    def ask(self, population: int, rng: np.random.Generator) -> Array:
        """Sample `(P, n)` points; if mirrored, the second half mirrors the first.

        Raises:
            BadConfig: there is one point only, or an odd number of mirrored ones.
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
        """Update the Gaussian, given the fitness `(P,)` of the last sampled points.

        Only the order of fitness counts, unless a strategy is set to use raw fitness.
        """

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Return all state that decides later samples, except the caller's generator."""

    @abstractmethod
    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore a state that `state` returned."""


class OpenES(EvolutionStrategy):
    """Gaussian of one fixed deviation whose mean moves by Adam on centred ranks.

    Args:
        mean: `(n,)` initial mean.
        sigma: the standard deviation.
        learning_rate: learning rate of Adam.
        mirrored: whether samples come in pairs.
        raw: use the fitness itself instead of its centred ranks.
        momentum: decay of the mean gradient in Adam, its beta 1 (evosax: 0.99).
    """

    def __init__(
        self,
        mean: Array,
        sigma: float = 0.03,
        learning_rate: float = 0.05,
        *,
        mirrored: bool = True,
        raw: bool = False,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(mean, mirrored)
        self.sigma, self.learning_rate, self.raw = sigma, learning_rate, raw
        self.momentum = momentum
        self._first, self._second = np.zeros_like(self.mean), np.zeros_like(self.mean)
        self._steps = 0

    @property
    def deviation(self) -> float:
        return self.sigma

    def tell(self, fitness: Array) -> None:
        worth = fitness if self.raw else centred_ranks(fitness)
        gradient = mean_gradient(self.noise, worth, self.sigma)
        self._steps += 1
        b1, b2 = self.momentum, SECOND
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
    """Gaussian with a deviation for each coordinate; natural gradients move mean and deviations.

    Args:
        mean: `(n,)` initial mean.
        sigma: initial standard deviation of every coordinate.
        learning_rate: learning rate of the mean; the papers use 1.
        mirrored: whether samples come in pairs.
        temperature: temperature of evosax's rank weights (Lange et al., 2023, arXiv 2211.11260),
            which HaDES uses; None stands for the utilities of Wierstra et al.
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
    """Make a strategy of `STRATEGIES` with initial mean `(n,)`; None stands for its own setting."""
    options = {k: v for k, v in settings.items() if v is not None}
    return STRATEGIES[name](mean, **options)


def check_population(population: int, mirrored: bool = True) -> None:
    """Raise `BadConfig` unless there are two points or more, in pairs if mirrored."""
    if population < 2 or (mirrored and population % 2):
        wanted = "an even number from 2" if mirrored else "at least 2"
        raise BadConfig(f"population must be {wanted}, not {population}")
    check_most("population", population)


def mean_gradient(noise: Array, worth: Array, sigma: float) -> Array:
    """Estimate the gradient `(n,)` of the fitness by the mean (Salimans et al., section 2).

    It is unbiased if `worth` is the raw fitness.

    Args:
        noise: `(P, n)` standard normal noise.
        worth: `(P,)` fitness of the points, raw or shaped.
        sigma: standard deviation of the points.
    """
    return np.asarray(worth @ noise / (len(worth) * sigma))


def natural_gradients(noise: Array, weights: Array) -> tuple[Array, Array]:
    """Estimate natural gradients by mean and log-deviation (Wierstra et al., equation 11).

    They are in units of the deviations.

    Args:
        noise: `(P, n)` standard normal noise.
        weights: `(P,)` weight of each point; divided by P if it is raw fitness.
    """
    return weights @ noise, weights @ (noise**2 - 1)


def centred_ranks(fitness: Array) -> Array:
    """Compute ranks from -0.5 for the worst to 0.5 for the best; ties share their mean."""
    from scipy.stats import rankdata  # takes half a second to import

    return np.asarray((rankdata(fitness) - 1) / (len(fitness) - 1) - 0.5)


def utilities(fitness: Array) -> Array:
    """Compute the utilities of SNES, which favour the better half (Wierstra et al., section 3.1).

    They sum to zero; ties share their mean.
    """
    size = len(fitness)
    by_rank = np.maximum(0, math.log(size / 2 + 1) - np.log(np.arange(size, 0, -1)))  # worst first
    return _shared(fitness, by_rank / by_rank.sum() - 1 / size)


def tempered_weights(fitness: Array, temperature: float) -> Array:
    """Compute the rank weights of evosax's SNES at a temperature; ties share their mean.

    They sum to one: softmax of -20 sigmoid(temperature x rank), ranks from -0.5 for the best to 0.5
    for the worst.
    """
    rank = np.linspace(0.5, -0.5, len(fitness))  # worst first
    by_rank = np.exp(-20 / (1 + np.exp(-temperature * rank)))
    return _shared(fitness, by_rank / by_rank.sum())


def _shared(fitness: Array, by_rank: Array) -> Array:
    """Assign the values of ranks, worst first, to points `(P,)`; ties share their mean."""
    from scipy.stats import rankdata

    _, group = np.unique(fitness, return_inverse=True)  # ties stand together, worst first
    shared = np.bincount(group, by_rank[rankdata(fitness, method="ordinal") - 1])
    return np.asarray((shared / np.bincount(group))[group])
