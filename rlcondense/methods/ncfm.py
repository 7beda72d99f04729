"""Neural characteristic function matching, NCFM (Wang et al., 2025, arXiv 2502.20653).

    D_syn = argmin  max_psi  E_(t ~ psi)  sum_a  sqrt( alpha A_a(t) + (1 - alpha) P_a(t) )

    A = (|Phi| - |Phi_syn|)^2,   P = 2 (|Phi| |Phi_syn| - Re Phi Phi_syn*),   Phi(t) = E exp(i t.f)

The characteristic function Phi of features holds all their moments, where `distmatch` compares
means. Its amplitude tells how much rows differ, its phase where they lie; A + P is |Phi -
Phi_syn|^2. A network psi draws the frequencies t and is trained to make the discrepancy large.
Features, of unit length, are those of a network somewhere on the line from its initial weights to
its trained ones. The trained networks also say what synthetic frames show: the cross-entropy of the
labels with their predictions is added.

If labels are fixed, Phi_a is the mean of exp(i t.f) over an action's rows, as in the paper, each by
its p(a) if labels are distributions. If labels are learned, the default, it is the mean of p(a)
exp(i t.f): the joint distribution of features and labels, so that labels move too. Continuous
actions have no classes: they are joined to the features, in standard deviations of the data's, and
t has as many more dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.cloning import OPTIMISERS, losses_of_head
from rlcondense.config import check_choice, check_least, check_positive, check_share
from rlcondense.datasets.report import MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.chunks import (
    Loss,
    Part,
    Parts,
    backward_by_chunks,
    joined,
    loss_by_chunks,
)
from rlcondense.methods.parts.features import BATCH, action_spread, clone
from rlcondense.methods.parts.students import NetworkConfig, network_like, network_spec
from rlcondense.methods.parts.synthetic import (
    AUGMENTATIONS,
    RealBatches,
    Synthetic,
    data_targets,
    drawn_augmentation,
    learn,
    optimiser_state,
    restore_optimiser,
    under,
)
from rlcondense.networks import ENCODERS, PolicyNetwork, fresh_from
from rlcondense.policies import head_of
from rlcondense.types import Array

SAMPLINGS = ("network", "normal")
SCALE = 300.0  # of the discrepancy beside the cross-entropy, as in the authors' code
LEAST = 1e-3  # rows of an action that its characteristic function needs
SMALLEST = 1e-12  # under the root, which has no derivative at 0
PROBES = 4  # draws on which the loss before and after is measured


@dataclass(frozen=True)
class NcfmConfig(NetworkConfig):
    """Settings.

    Attributes:
        network: name of the network whose features are matched.
        iterations: steps of Adam on the synthetic data (the paper: 20,000 of AdamW).
        real_batch: number of real frames in an iteration (the paper: 1024 of each class).
        augmentation: `none`, or `shift`: synthetic and real frames are shifted by the same pixels;
            vectors stay.
        frequencies: number of frequencies t in an iteration.
        alpha: weight of the amplitude; that of the phase is 1 - alpha.
        sampling: `network`: a network draws the frequencies and learns to make the discrepancy
            large; or `normal`: they are normally distributed.
        sampling_rate: learning rate of Adam for that network.
        networks: number of feature networks that are trained on the data first.
        network_updates: number of updates of each, in batches of 64 (the paper: 60 epochs).
        calibration: weight of the cross-entropy, beside 300 times the discrepancy: of the mean over
            all rows, or, if classes are compared one by one, of the sum of their means. It moves
            observations alone: labels would go to the networks' likeliest actions.
    """

    labels: str = "learned"
    start: str = "random"
    learning_rate: float = 2.0
    network: str = "nature"
    iterations: int = 200
    real_batch: int = 512
    augmentation: str = "shift"
    frequencies: int = 1024
    alpha: float = 0.5
    sampling: str = "network"
    sampling_rate: float = 1e-3
    networks: int = 4
    network_updates: int = 300
    calibration: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "real_batch", "frequencies", "sampling_rate")
        check_positive(self, "networks", "network_updates")
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "augmentation", AUGMENTATIONS)
        check_choice(self, "sampling", SAMPLINGS)
        if self.sampling == "network" and self.frequencies < 2:
            raise BadConfig("a network that is normalised over frequencies needs two at least")
        check_share(self, "alpha")
        check_least(self, "calibration")


class Ncfm(Method[NcfmConfig]):
    """Learns frames, and optionally labels, whose features are distributed as the data's.

    Paper: labels=hard, start=balanced, iterations=20000, learning_rate=0.255, real_batch=1024,
        frequencies=4096, alpha=0.5, sampling=normal, networks=20, network_updates=23460,
        calibration=1.0
    """

    Config = NcfmConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "ncfm"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        return network_like(learner)

    def _condense(self, problem: Problem) -> Condensation:
        c, rng = self.config, problem.rng()
        synthetic, real = Synthetic(problem, c, rng), RealBatches(problem, c)
        networks = [_FeatureNetwork(problem, c, k) for k in range(c.networks)]
        synthetic.gradient_evaluations += c.networks * c.network_updates * BATCH
        spread = action_spread(problem) if problem.continuous else None
        errors = losses_of_head(networks[0].trained.spec.head)
        by_class = spread is None and c.labels != "learned"

        def drawn(rng: np.random.Generator, t: Tensor) -> tuple[Part, Loss]:
            network = networks[int(rng.integers(c.networks))]
            theta = network.between(rng.random())
            frames, targets = real.draw(c.real_batch, rng)
            augmented = drawn_augmentation(c.augmentation, synthetic.is_pixels, rng)
            with torch.no_grad():
                f_real = theta.features(augmented(frames))

            def part(observations: Tensor, _: slice, differentiable: bool) -> list[Tensor]:
                with torch.set_grad_enabled(differentiable):
                    own = augmented(observations)
                    judged = [network.trained(own)] if c.calibration else []
                    return [theta.features(own), *judged]

            def loss(parts: Parts) -> Tensor:
                f_syn, labels = joined(parts), synthetic.targets()
                sides = (variables(f_real, targets, spread), variables(f_syn, labels, spread))
                value = SCALE * discrepancy(*sides, t, c.alpha, by_class)
                if c.calibration:
                    fixed = labels.detach()
                    own = errors(joined(parts, 1), fixed)
                    total = sum_of_class_means(own, fixed) if by_class else own.mean()
                    value = value + c.calibration * total
                return value

            synthetic.gradient_evaluations += len(synthetic.rows) * (2 if c.calibration else 1)
            return part, loss

        dimensions = networks[0].trained.num_features + (0 if spread is None else len(spread))
        sampler = _Sampler(problem, c, dimensions)

        def backward(_: int) -> float:
            part, loss = drawn(rng, sampler.frequencies())
            value = backward_by_chunks(synthetic, part, loss, beside=sampler.parameters)
            sampler.ascend()
            return value

        def probe() -> float:
            """Compute the mean loss of draws that are the same at every call, of normal t."""
            rng = np.random.default_rng([problem.seed, 1])
            losses = []
            for _ in range(PROBES):
                t = rng.standard_normal((c.frequencies, dimensions)).astype(np.float32)
                draw = drawn(rng, torch.from_numpy(t).to(problem.device))
                losses.append(loss_by_chunks(synthetic, *draw))
            return float(np.mean(losses))

        before = probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            learn(problem, synthetic, c.iterations, backward, rng, beside=sampler)
        return synthetic.condensation(MatchingLoss(before, probe()))


def variables(features: Tensor, labels: Tensor, spread: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what is distributed, `(B, D)`, and each row's weight in each class, `(B, A)`.

    Args:
        features: `(B, F)`; they are scaled to unit length.
        labels: `(B, A)` distributions, or continuous actions.
        spread: `(A,)` standard deviations of continuous actions; there is one class then.
    """
    x = F.normalize(features, dim=1)
    if spread is None:
        return x, labels
    return torch.cat([x, labels / spread], 1), torch.ones_like(labels[:, :1])


def characteristic(x: Tensor, shares: Tensor, t: Tensor) -> Tensor:
    """Compute characteristic functions `(A, K)`, complex.

    Args:
        x: `(B, D)`.
        shares: `(B, A)` share of each row in each function.
        t: `(K, D)` frequencies.
    """
    phases = x @ t.T
    return torch.complex(shares.T @ phases.cos(), shares.T @ phases.sin())


def discrepancy(
    real: tuple[Tensor, Tensor],
    syn: tuple[Tensor, Tensor],
    t: Tensor,
    alpha: float = 0.5,
    by_class: bool = True,
) -> Tensor:
    """Compute the mean discrepancy over frequencies, summed over classes (equation 7).

    Args:
        real: rows `(B, D)` and their weights in classes `(B, A)`.
        syn: `(M, D)` and `(M, A)`.
        t: `(K, D)` frequencies.
        alpha: weight of the amplitude.
        by_class: compare the distribution within each class that both have, not the joint one of
            rows and classes.
    """
    if by_class:
        both = torch.minimum(real[1].sum(0), syn[1].sum(0)) > LEAST
        phi, phi_syn = (
            characteristic(x, p[:, both] / p[:, both].sum(0), t) for x, p in (real, syn)
        )
    else:
        phi, phi_syn = (characteristic(x, p / len(p), t) for x, p in (real, syn))
    length, length_syn = phi.abs(), phi_syn.abs()
    amplitude = (length - length_syn) ** 2
    phase = 2 * (length * length_syn - (phi * phi_syn.conj()).real)
    squared = alpha * amplitude + (1 - alpha) * phase.clamp_min(0)
    return squared.clamp_min(SMALLEST).sqrt().mean(1).sum()


def sum_of_class_means(errors: Tensor, labels: Tensor) -> Tensor:
    """Compute the sum over classes of the mean error of their rows.

    Args:
        errors: `(M,)`.
        labels: `(M, A)` weights of the rows in classes.
    """
    sizes = labels.sum(0)
    return ((errors @ labels) / sizes.clamp_min(LEAST))[sizes > LEAST].sum()


class _FeatureNetwork:
    """A network as initialised and as trained on the data, and what lies between the two.

    Attributes:
        trained: the trained network; its weights are constants.
    """

    def __init__(self, problem: Problem, c: NcfmConfig, number: int) -> None:
        spec = network_spec(problem.task, c, *head_of(problem.task.action_space))
        self._initial = fresh_from(spec, problem.device, problem.torch_seed(2, number), c.init)
        self.trained = copy.deepcopy(self._initial)
        rng = np.random.default_rng([problem.seed, 2, number])
        clone(self.trained, problem, data_targets(problem, c.labels), c.network_updates, rng)
        self._between = copy.deepcopy(self._initial)
        for network in (self._initial, self.trained, self._between):
            network.requires_grad_(False)

    def between(self, share: float) -> PolicyNetwork:
        """Return the network a share of the way from its initial to its trained weights."""
        ends = (self._initial.parameters(), self.trained.parameters())
        for weights, initial, trained in zip(self._between.parameters(), *ends, strict=True):
            weights.copy_(torch.lerp(initial, trained, share))
        return self._between


class _Sampler:
    """Distribution of frequencies, and its training to make the discrepancy large.

    Attributes:
        parameters: learned weights, none for `normal`.
    """

    def __init__(self, problem: Problem, c: NcfmConfig, dimensions: int) -> None:
        self._size, self._device = (c.frequencies, dimensions), problem.device
        self._network: nn.Module = nn.Identity()
        if c.sampling == "network":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(problem.torch_seed(4))
                self._network = sampling_network(dimensions).to(problem.device)
        self.parameters = list(self._network.parameters())
        self._optimiser = (
            OPTIMISERS["adam"](self.parameters, lr=c.sampling_rate) if self.parameters else None
        )

    def frequencies(self) -> Tensor:
        """Draw frequencies `(K, D)` with torch's global state, differentiable by the weights."""
        drawn = torch.randn(self._size)  # on the CPU, whose state a checkpoint keeps
        t: Tensor = self._network(drawn.to(self._device))
        return t

    def ascend(self) -> None:
        """Make a step up the gradient that the weights have, and clear it."""
        if self._optimiser is None:
            return
        for weights in self.parameters:
            assert weights.grad is not None
            weights.grad.neg_()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def state(self) -> dict[str, Array]:
        """Return everything that decides the further training."""
        if self._optimiser is None:
            return {}
        weights = {f"weights.{k}": w.detach().cpu().numpy() for k, w in enumerate(self.parameters)}
        return {**weights, **optimiser_state("adam", self._optimiser)}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore a state that `state` returned."""
        if self._optimiser is None:
            return
        kept = under("weights.", state)
        for k, weights in enumerate(self.parameters):
            weights.copy_(torch.from_numpy(np.array(kept[str(k)])))
        restore_optimiser("adam", self._optimiser, state)


def sampling_network(dimensions: int) -> nn.Sequential:
    """Make the network from noise `(K, D)` to frequencies `(K, D)` in [-1, 1], as the authors'."""
    layers: list[nn.Module] = []
    for activation in (nn.LeakyReLU(0.2), nn.LeakyReLU(0.2), nn.Tanh()):
        layers += [nn.Linear(dimensions, dimensions), nn.BatchNorm1d(dimensions), activation]
    return nn.Sequential(*layers)
