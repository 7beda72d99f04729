"""Distribution matching (Zhao and Bilen, 2021, arXiv 2110.04181), for labels of any kind.

    D_syn = argmin  E_theta  sum_a | mean_t p_t(a) f_theta(x_t) - mean_s p_s(a) f_theta(x_s) |^2

f are the features of a network that is initialised anew in every iteration, p a row's label as a
distribution; means are over a batch of the data (t) and over the synthetic rows (s), both moved
alike. If labels are fixed, each action's means are divided by the action's share of the labels;
with one-hot labels this is the paper's form, the mean feature of each class. If labels are learned,
the default, the joint moment of features and labels is matched, so that labels move too. Features
are divided by their mean length, on which Adam's steps hardly depend; by SGD, whose steps do, they
are not where fixed labels of discrete actions are matched, as in the paper. A constant feature is
added, so that the mean label is matched as well. Continuous actions have no classes: the mean
features and the moments of features and actions are matched, actions in standard deviations of the
data's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.report import MatchingLoss
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.chunks import (
    Loss,
    Part,
    Parts,
    backward_by_chunks,
    features_of,
    joined,
    loss_by_chunks,
)
from rlcondense.methods.parts.features import action_spread
from rlcondense.methods.parts.students import NetworkConfig, network_like, network_spec
from rlcondense.methods.parts.synthetic import (
    AUGMENTATIONS,
    RealBatches,
    Synthetic,
    drawn_augmentation,
    learn,
)
from rlcondense.networks import ENCODERS, fresh

LEAST = 1e-3  # rows of an action that a mean of it needs
PROBES = 4  # networks on which the loss before and after is measured


@dataclass(frozen=True)
class DistMatchConfig(NetworkConfig):
    """Settings. The paper uses SGD of rate 1 for 20,000 iterations and fixed labels.

    Attributes:
        network: name of the network whose features are matched.
        iterations: steps of Adam on the synthetic data.
        real_batch: number of real frames in an iteration (the paper: 256 of each class).
        augmentation: `none`, or `shift`: synthetic and real frames are shifted by the same pixels;
            vectors stay.
    """

    labels: str = "learned"
    start: str = "random"
    learning_rate: float = 2.0
    network: str = "nature"
    iterations: int = 200
    real_batch: int = 512
    augmentation: str = "shift"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "real_batch")
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "augmentation", AUGMENTATIONS)


class DistMatch(Method[DistMatchConfig]):
    """Learns frames, and optionally labels, whose mean features by action match the data's.

    Paper: labels=hard, start=balanced, iterations=20000, outer_optimiser=sgd,
        outer_momentum=0.5, learning_rate=1.0
    """

    Config = DistMatchConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "distmatch"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        return network_like(learner)

    def _condense(self, problem: Problem) -> Condensation:
        c, rng = self.config, problem.rng()
        spec = network_spec(problem.task, c, problem.num_outputs)
        spread = action_spread(problem) if problem.continuous else None
        synthetic, real = Synthetic(problem, c, rng), RealBatches(problem, c)

        joint = c.labels == "learned" or spread is not None
        distance = moment_distance if joint else mean_distance
        scaled = joint or c.outer_optimiser == "adam"

        def drawn(rng: np.random.Generator) -> tuple[Part, Loss]:
            theta = fresh(spec, problem.device, c.init)
            frames, targets = real.draw(c.real_batch, rng)
            augmented = drawn_augmentation(c.augmentation, synthetic.is_pixels, rng)
            with torch.no_grad():
                f_real = theta.features(augmented(frames))
            synthetic.gradient_evaluations += len(synthetic.rows)

            def loss(parts: Parts) -> Tensor:
                p_real, p_syn = targets, synthetic.targets()
                if spread is not None:
                    p_real, p_syn = (F.pad(a / spread, (1, 0), value=1.0) for a in (p_real, p_syn))
                scale = _length(f_real) if scaled else torch.ones(())
                return distance(f_real, p_real, joined(parts), p_syn, scale)

            return features_of(lambda own: theta.features(augmented(own))), loss

        def backward(_: int) -> float:
            return backward_by_chunks(synthetic, *drawn(rng))

        def probe() -> float:
            rng = np.random.default_rng([problem.seed, 1])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(problem.torch_seed(1))
                return float(
                    np.mean([loss_by_chunks(synthetic, *drawn(rng)) for _ in range(PROBES)])
                )

        before = probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            learn(problem, synthetic, c.iterations, backward, rng)
        return synthetic.condensation(MatchingLoss(before, probe()))


def moment_distance(
    f_real: Tensor, p_real: Tensor, f_syn: Tensor, p_syn: Tensor, scale: Tensor
) -> Tensor:
    """Compute the squared distance of the moments of features and labels, summed over actions.

    Args:
        f_real: `(B, F)` features.
        p_real: `(B, A)` labels as distributions.
        f_syn: `(M, F)`.
        p_syn: `(M, A)`.
        scale: divisor of the features.
    """
    real, syn = (F.pad(f / scale, (0, 1), value=1.0) for f in (f_real, f_syn))
    gap = p_real.T @ real / len(real) - p_syn.T @ syn / len(syn)  # (A, F + 1)
    return (gap**2).sum()


def mean_distance(
    f_real: Tensor, p_real: Tensor, f_syn: Tensor, p_syn: Tensor, scale: Tensor
) -> Tensor:
    """Compute the squared distance of each action's mean features, summed over shared actions.

    Args:
        f_real: `(B, F)` features.
        p_real: `(B, A)` labels as distributions: a row's weight in an action's mean is the action's
            probability.
        f_syn: `(M, F)`.
        p_syn: `(M, A)`.
        scale: divisor of the features.
    """
    shares = torch.minimum(p_real.sum(0), p_syn.sum(0))
    both = shares > LEAST
    real, syn = (
        p[:, both].T @ f / p[:, both].sum(0)[:, None] for p, f in ((p_real, f_real), (p_syn, f_syn))
    )
    total: Tensor = (((real - syn) / scale) ** 2).sum()
    return total


def _length(features: Tensor) -> Tensor:
    length: Tensor = features.norm(dim=1).mean().clamp_min(1e-6)
    return length
