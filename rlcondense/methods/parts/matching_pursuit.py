"""Orthogonal matching pursuit of a mean of gradients by a few gradients with positive weights.

Pati et al. (1993), with the inner products of Rubinstein et al. (2008, "Batch-OMP") and the weights
of Nguyen et al. (2019, "Non-negative orthogonal greedy algorithms").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcondense.runtime.progress import Progress, silent
from rlcondense.types import Array

RIDGE = 1e-6  # share of a gradient's squared norm that separates equal rows
ENOUGH = 1e-5  # share of the largest inner product with the mean below which no row is added


@dataclass(frozen=True)
class HeadGradients:
    """Gradients of N rows by last layers, each an outer product of an error and an input.

    Attributes:
        factors: for each network, errors `(N, A)` and inputs `(N, F)`. A row's gradient is all its
            networks' side by side.
    """

    factors: Sequence[tuple[Array, Array]]

    def with_row(self, row: int, others: npt.NDArray[np.int64]) -> Array:
        """Return inner products `(M,)` of the gradients of other rows with that of one row."""
        each = [(e[others] @ e[row]) * (h[others] @ h[row]) for e, h in self.factors]
        return np.asarray(np.sum(each, axis=0), np.float64)

    def with_sum(self, rows: npt.NDArray[np.int64], weights: Array) -> Array:
        """Return inner products `(N,)` of each row's gradient with a weighted sum of some rows'."""
        products = 0.0
        for e, h in self.factors:
            total = (e[rows] * weights[:, None]).T.astype(h.dtype) @ h[rows]  # (A, F)
            products = products + np.einsum("nf,nf->n", e @ total, h, dtype=np.float64)
        return np.asarray(products)

    def with_mean(self) -> Array:
        """Return inner products `(N,)` of each row's gradient with the mean of all."""
        size = len(self.factors[0][0])
        return self.with_sum(np.arange(size), np.full(size, 1 / size))

    def squared_norm_of_mean(self) -> float:
        """Return the squared norm of the mean gradient."""
        return float(sum(((e.T @ h / len(e)) ** 2).sum() for e, h in self.factors))


def matching_pursuit(
    gradients: HeadGradients, size: int, progress: Progress = silent
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], list[float]]:
    """Approximate the mean gradient by a positive sum of few.

    Args:
        gradients: of all rows.
        size: maximal number of rows.
        progress: receives the progress.

    Returns:
        Rows `(M,)`, their weights `(M,)`, all positive, and the residual's norm before the first
        step and after each, which strictly decreases. M is below `size` only if no further row
        reduces the residual.
    """
    target = gradients.with_mean()
    squared = gradients.squared_norm_of_mean()
    gram = np.empty((size + 1, size + 1))
    support, weights = np.empty(0, np.int64), np.empty(0)
    residuals = [squared**0.5]
    while len(support) < size:
        correlation = target - gradients.with_sum(support, weights)
        correlation[support] = -np.inf
        best = int(correlation.argmax())
        if correlation[best] <= ENOUGH * np.abs(target).max():
            break
        trial = np.append(support, best)
        m, b = len(trial), target[trial]
        gram[m - 1, :m] = gram[:m, m - 1] = gradients.with_row(best, trial)
        fitted = refit(gram[:m, :m], b, np.append(weights, 0.0))
        residual = max(squared - 2 * fitted @ b + fitted @ gram[:m, :m] @ fitted, 0.0) ** 0.5
        if residual >= residuals[-1]:
            break
        left = np.flatnonzero(fitted > 0)  # rows with weight zero are dropped
        gram[: len(left), : len(left)] = gram[np.ix_(left, left)]
        support, weights = trial[left], fitted[left]
        residuals.append(residual)
        progress("match gradients", len(support), size, f"residual {residual:.3g}")
    return support, weights, residuals


def refit(gram: Array, b: Array, weights: Array) -> npt.NDArray[np.float64]:
    """Minimise w' gram w - 2 b' w over w >= 0 (Lawson and Hanson, 1974, the inner loop).

    Args:
        gram: `(M, M)` inner products.
        b: `(M,)` inner products with the target.
        weights: `(M,)` initial weights, not negative.

    Returns:
        Weights `(M,)`; those that would become negative are zero.
    """
    active = np.ones(len(b), bool)
    ridge = RIDGE * np.diag(gram).mean()
    while active.any():
        rows = np.flatnonzero(active)
        wanted = np.zeros(len(b))
        block = gram[np.ix_(rows, rows)] + ridge * np.eye(len(rows))
        wanted[rows] = np.linalg.solve(block, b[rows])
        falling = active & (wanted <= 0)
        if not falling.any():
            return wanted
        # Move until the first weight reaches zero, where it stays.
        way = weights[falling] / (weights[falling] - wanted[falling])
        weights = weights + way.min() * (wanted - weights)
        stopped = np.flatnonzero(falling)[way <= way.min()]
        weights[stopped] = 0.0
        active[stopped] = False
    return np.zeros(len(b))
