"""Stepwise dual ranking (Lei, Cheng and Tao, KDD 2026, arXiv 2512.18246).

Rows of the same step t of their episodes are ranked by action value and by state density. Rows of
low value and of high density are removed (clipped), more at later steps; the others have

    q >= quantile(lambda_1 tanh(t / 100))  and  density <= quantile(1 - lambda_2 tanh(t / 100)),

and the budget is drawn uniformly from them, as in the authors' code. Two estimates differ here. The
authors take action values from Cal-QL, for the actions of its own policy, on which they also train
students; here they come from conservative Q-learning on the data, for the actions taken. The
authors take the density of state vectors from a masked autoregressive flow; here it is the density
of a network's features, by the distance to the k-th nearest neighbour (Loftsgaarden and
Quesenberry, 1965).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcondense.config import check_positive, check_share
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.density import neighbour_distances
from rlcondense.methods.parts.features import FeatureConfig, features_of
from rlcondense.methods.parts.q_values import shared_critic
from rlcondense.types import Array

TAU = 100  # steps over which clipping sets in


@dataclass(frozen=True)
class SDRConfig(FeatureConfig):
    """Settings; the two lambdas are those of the authors' example.

    Attributes:
        lambda_1: share of a late step's rows that are removed for their low action value.
        lambda_2: share of a late step's rows that are removed for their high state density.
        value_updates: number of updates of Q-learning. However many they are, the target network
            is renewed twenty times in them, so that values look some twenty steps ahead.
    """

    lambda_1: float = 0.2
    lambda_2: float = 0.2
    value_updates: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "value_updates")
        check_share(self, "lambda_1", "lambda_2")


class SDR(Method[SDRConfig]):
    """Draws rows whose value is not low and whose state is not common for their step.

    Paper: lambda_1=0.2, lambda_2=0.2
    """

    Config = SDRConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"rewards", "episodes"})
    id = "sdr"

    def _condense(self, problem: Problem) -> Condensation:
        c, dataset = self.config, problem.dataset
        rng = np.random.default_rng([problem.seed, 1])
        rng.integers(2**31)  # the critic's seed, which is drawn first
        values = shared_critic(problem, c.network, c.value_updates).values(problem)
        features, gradients = features_of(problem, c)
        density = -neighbour_distances(features, problem)
        steps = np.asarray(dataset.steps)
        unclipped = stepwise_clip(steps, values.q, density, c.lambda_1, c.lambda_2)
        rows = draw(unclipped, values.q, density, problem.size, rng)
        selected = select(dataset, np.sort(rows), c.labels)
        return selected.costing(gradients + values.gradient_evaluations)


def stepwise_clip(
    steps: Array, q: Array, density: Array, lambda_1: float, lambda_2: float
) -> npt.NDArray[np.bool_]:
    """Return which rows `(N,)` are kept, by comparison with the rows of the same step."""
    unclipped = np.zeros(len(steps), bool)
    for t in np.unique(steps):
        rows = np.flatnonzero(steps == t)
        rising = np.tanh(t / TAU)
        low = np.quantile(q[rows], lambda_1 * rising)
        high = np.quantile(density[rows], 1 - lambda_2 * rising)
        unclipped[rows] = (q[rows] >= low) & (density[rows] <= high)
    return unclipped


def draw(
    unclipped: Array, q: Array, density: Array, size: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw `size` of the kept rows; if they are too few, removed rows are added.

    Removed rows are added in the order of the sum of their two ranks over all the data.
    """
    pool = np.flatnonzero(unclipped)
    if len(pool) >= size:
        return rng.choice(pool, size, replace=False)
    ranks = np.argsort(np.argsort(q)) + np.argsort(np.argsort(-density))
    clipped = np.flatnonzero(~unclipped)
    order = np.argsort(-ranks[clipped], kind="stable")
    return np.concatenate([pool, clipped[order[: size - len(pool)]]])
