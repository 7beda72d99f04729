"""Standardisation of observations: their moments, and the scaling of policies' inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.types import Array

SMALLEST = 1e-6  # deviation of an observation's feature; one that never changes has none
BLOCK = 65_536  # rows that are read at a time


def units_of(deviation: Array) -> Array:
    """Return deviations as divisors: 1 for a feature that never changes, whose own is rounding."""
    return np.where(deviation > SMALLEST, deviation, 1.0)


class Moments:
    """Running mean and deviation of observations (Chan, Golub and LeVeque, 1979)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean, self._squares = np.zeros(shape), np.zeros(shape)

    def add(self, observations: Array) -> None:
        """Add observations `(B, *observation)`."""
        n, mean = len(observations), observations.mean(0, dtype=np.float64)
        off = mean - self.mean
        total = self.count + n
        self._squares = self._squares + ((observations - mean) ** 2).sum(0)
        self._squares += off**2 * (self.count * n / total)
        self.mean = self.mean + off * (n / total)
        self.count = total

    @property
    def deviation(self) -> Array:
        """Standard deviation of each feature; 1 for a feature that never changed."""
        return units_of(np.sqrt(self._squares / max(1, self.count)))

    def state(self) -> dict[str, Array]:
        """Return the state as arrays, for checkpoints."""
        count = np.array([self.count])
        return {"met.count": count, "met.mean": self.mean, "met.squares": self._squares}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore a state that `state` returned."""
        self.count = int(state["met.count"][0])
        self.mean, self._squares = state["met.mean"], state["met.squares"]


@dataclass(frozen=True)
class Scaling:
    """Standardisation of vector observations x to (x - mean) / deviation.

    `rlcondense.networks.fold_scaling` converts a network of standardised observations to one of raw
    observations, so that policies need no scaling.

    Attributes:
        mean: float32 of the shape of an observation.
        deviation: float32 of the same shape, above 0.
    """

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, observations: Array) -> Scaling:
        """Return the scaling by the moments of observations `(N, *observation)`."""
        moments = Moments(observations.shape[1:])
        for start in range(0, len(observations), BLOCK):
            moments.add(np.asarray(observations[start : start + BLOCK]))
        return cls.by(moments)

    @classmethod
    def by(cls, moments: Moments) -> Scaling:
        """Return the scaling by given moments."""
        return cls(moments.mean.astype(np.float32), moments.deviation.astype(np.float32))

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a scaling that does not fit observations of a shape.

        Raises:
            CorruptArtifact: a shape, a type or a value is off.
        """
        if len(shape) == 3:
            raise CorruptArtifact("a scaling is of vectors, and the observations are frames")
        for name, array in (("mean", self.mean), ("deviation", self.deviation)):
            if array.dtype != np.float32 or array.shape != shape:
                raise CorruptArtifact(
                    f"the {name} of the scaling is {array.dtype} of shape {array.shape}, not "
                    f"float32 of {shape}"
                )
            if not np.isfinite(array).all():
                raise CorruptArtifact(f"the {name} of the scaling must be finite")
        if not (self.deviation > 0).all():
            raise CorruptArtifact(
                f"the deviations of the scaling must be above 0, not {self.deviation.min():g}"
            )


def check_vectors(shape: tuple[int, ...]) -> None:
    """Raise `BadConfig` if observations of a shape are frames, which are not standardised."""
    if len(shape) == 3:
        raise BadConfig(
            f"standardise is for vectors, not for frames of {shape} (standardise=false)"
        )
