"""Orthogonal matching pursuit of the data's gradient, the idea of ReDOR (Yang et al., 2025, arXiv
2502.18955) and GRAD-MATCH (Killamsetty et al., 2021, arXiv 2103.00123).

    min_{S, w >= 0}  | mean_{i in D} g_i  -  sum_{i in S} w_i g_i |,   |S| = size

g_i is the gradient of row i's loss by a network's last layer, an outer product of an error and a
feature, so that no gradient needs to be stored. By default the loss is that of behavioural cloning,
which is what students minimise here. `gradient = "critic"` uses a critic's loss, as ReDOR does: the
squared error of its value against the observed return. ReDOR repeats the selection along a critic's
training; here the gradients of several networks are matched at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.report import MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.features import (
    BATCH,
    FeatureConfig,
    cloned_network,
    encode,
    targets_of,
)
from rlcondense.methods.parts.matching_pursuit import HeadGradients, matching_pursuit
from rlcondense.methods.parts.q_values import GAMMA, trained_critic
from rlcondense.methods.percentile import rows_of_best
from rlcondense.networks import PolicyNetwork, spread
from rlcondense.tasks.base import Task
from rlcondense.types import Array

LEFT_OVER = 1e-3  # share of the mean weight, for rows that are added to meet the size


@dataclass(frozen=True)
class GradientOMPConfig(FeatureConfig):
    """Settings.

    Attributes:
        gradient: whose gradients are matched, `policy` or `critic`.
        updates: number of updates of each network before gradients are computed.
        networks: number of networks whose gradients are matched.
        keep_return: fraction of the episodes, best first, that rows are selected from and whose
            gradient is matched; 1 for all.
    """

    gradient: str = "policy"
    updates: int = 100
    networks: int = 3
    keep_return: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "gradient", ("policy", "critic"))
        check_positive(self, "networks", "keep_return")
        if self.keep_return > 1:
            raise BadConfig(f"keep_return must be at most 1, not {self.keep_return}")
        if self.gradient == "critic":
            check_positive(self, "updates")


class GradientOMP(Method[GradientOMPConfig]):
    """Keeps weighted rows whose gradients sum up to the gradient of all the data.

    Paper: gradient=critic
    """

    Config = GradientOMPConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"rewards", "episodes"})
    id = "gradient-omp"

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        in_all, each = super().bytes_beside(task)
        return (in_all, each + 4)  # the weights

    def _condense(self, problem: Problem) -> Condensation:
        c, dataset, rng = self.config, problem.dataset, problem.rng()
        whole = Budget(percent=100 * c.keep_return, unit="episodes").episodes(dataset)
        candidates = rows_of_best(dataset, whole)
        if len(candidates) < problem.size:
            raise BadConfig(
                f"keep_return {c.keep_return} leaves {len(candidates)} transitions, "
                f"fewer than {problem.size}"
            )
        factors = policy_factors if c.gradient == "policy" else critic_factors
        seeds = rng.integers(2**31, size=c.networks)
        factor_pairs = [factors(problem, c, int(seed)) for seed in seeds]
        gradients = HeadGradients([(e[candidates], h[candidates]) for e, h in factor_pairs])
        places, weights, residuals = matching_pursuit(gradients, problem.size, problem.progress)
        places, weights = _fill(places, weights, problem.size, len(candidates), rng)
        order = np.argsort(places)
        selected = select(dataset, candidates[places[order]], c.labels)
        return replace(
            selected.costing(c.networks * (BATCH * c.updates + len(dataset))),
            weights=weights[order].astype(np.float32),
            matching_loss=MatchingLoss(residuals[0], residuals[-1]),
        )


def policy_factors(problem: Problem, config: GradientOMPConfig, seed: int) -> tuple[Array, Array]:
    """Return the factors of a cloned policy's gradients; see `head_factors`."""
    network = cloned_network(problem, config.network, config.updates, config.labels, seed)
    return head_factors(problem, network, config.labels)


def head_factors(problem: Problem, network: PolicyNetwork, labels: str) -> tuple[Array, Array]:
    """Return errors `(N, A)` and features with a one for the bias `(N, F + 1)` of a policy.

    The errors of a Gaussian policy are those of the means, divided by the variances.
    """
    features, acts = encode(network, problem.dataset)
    errors = acts - targets_of(problem, labels).cpu().numpy()
    if problem.continuous:
        log_std = spread(network.log_std, network.spec.log_std_gain)
        errors = errors / np.exp(2 * log_std.detach().cpu().numpy())
    return errors, with_one(features)


def critic_factors(problem: Problem, config: GradientOMPConfig, seed: int) -> tuple[Array, Array]:
    """Return errors and features of a critic; only the value of the action taken has an error.

    For continuous actions it has one output, and its features depend on the action too.
    """
    values = trained_critic(problem, config.network, config.updates, seed).values(problem)
    returns = problem.dataset.returns_to_go(GAMMA).astype(np.float32)
    if problem.continuous:
        return (values.q - returns)[:, None], with_one(values.features)
    taken = np.eye(problem.num_actions, dtype=np.float32)[np.asarray(problem.dataset.actions)]
    return taken * (values.q - returns)[:, None], with_one(values.features)


def with_one(features: Array) -> Array:
    """Return features with a one for the bias as last column."""
    return np.concatenate([features, np.ones((len(features), 1), features.dtype)], 1)


def _fill(
    places: Array, weights: Array, size: int, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Add rows of little weight if fewer than `size` give the gradient up to rounding."""
    others = np.setdiff1d(np.arange(count), places)
    more = rng.choice(others, size - len(places), replace=False)
    small = LEFT_OVER * weights.mean() if len(weights) else 1.0
    return np.concatenate([places, more]), np.concatenate([weights, np.full(len(more), small)])
