"""Neural feature regression with pooling, FRePo (Zhou, Nezhadarya and Ba, 2022, arXiv 2206.00719).

    D_syn = argmin  E_theta  L( softmax( K_ts (K_ss + lambda I)^-1 Z_s ), real labels )

The last layer of a student is solved for instead of trained: K are inner products of theta's
features of real (t) and synthetic (s) frames, Z_s the synthetic labels' logits. Theta comes from a
pool of students, which are trained on the synthetic data between two steps and replaced by new ones
at a certain age. The paper regresses one-hot labels and takes squared errors; here labels are a
policy's distributions, so logits are regressed, less their mean label, which is added again as the
last layer's bias, and the loss is the policy's cross-entropy; the paper's margin term is left out.
Continuous actions are regressed directly, with the paper's squared error, in standard deviations of
the data's.

With a frozen encoder there is no pool: theta is one network, trained on all the data first. The set
carries it, with a new last layer, and students train the last layer alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcondense.cloning import descend, losses_of_head, row_losses, shuffled_batches
from rlcondense.config import LATER, check_choice, check_least, check_positive, config_json
from rlcondense.datasets.condensed import Initialisation
from rlcondense.datasets.report import MatchingLoss
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.chunks import Parts, backward_by_chunks, features_of, joined
from rlcondense.methods.parts.features import BATCH, action_spread, clone
from rlcondense.methods.parts.students import (
    LOSSES,
    OPTIMISERS,
    NetworkConfig,
    loss_like,
    make_optimiser,
    network_like,
    network_spec,
    updates_like,
)
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
from rlcondense.networks import (
    ENCODERS,
    NetworkSpec,
    PolicyNetwork,
    fresh,
    fresh_from,
    given_options,
    is_of_head,
    num_weights,
)
from rlcondense.policies import head_of
from rlcondense.tasks.base import Task
from rlcondense.types import Array

PROBES = 4  # fresh networks on which the loss before and after is measured
LEAST_RIDGE = 1e-7  # less is lost beside a float32
LEAST = 1e-4  # lower bound of a label's probability, before its logarithm


@dataclass(frozen=True)
class FrepoConfig(NetworkConfig):
    """Settings.

    Attributes:
        network: name of the students' network, whose features are regressed on.
        iterations: steps of Adam on the synthetic data.
        real_batch: number of real frames in an iteration.
        pool: number of students at a time (the paper: 10).
        oldest: number of updates after which a student is replaced by a new one (the paper: 100).
        student_updates: number of updates of a student after each use.
        ridge: lambda as a multiple of the mean of K_ss's diagonal (the paper: 1e-6), at least 1e-7.
        augmentation: `none`, or `shift`.
        loss: loss of the students: `cross-entropy`, `softmax-mse` or `softmax-mae`.
        student_batch: number of rows in a student's update, None for all.
        student_optimiser: optimiser of the students, `adam` or `sgd`.
        student_rate: step size of the students.
        encoder: `trained`: features are those of a pool of students, as in the paper; or `frozen`:
            those of a network that was cloned on the data, which is part of the condensed set.
        encoder_updates: number of updates of that network, in batches of 64.
    """

    labels: str = "learned"
    start: str = "random"
    network: str = "nature"
    iterations: int = 1000
    real_batch: int = 256
    pool: int = 10
    oldest: int = 100
    student_updates: int = 1
    ridge: float = 1e-2
    augmentation: str = "none"
    loss: str = field(default="cross-entropy", metadata=LATER)
    student_batch: int | None = field(default=64, metadata=LATER)
    student_optimiser: str = field(default="adam", metadata=LATER)
    student_rate: float = field(default=5e-4, metadata=LATER)
    encoder: str = field(default="trained", metadata=LATER)
    encoder_updates: int = field(default=300, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "real_batch", "pool", "oldest", "student_updates")
        check_positive(self, "ridge", "student_batch", "student_rate")
        check_least(self, "ridge", least=LEAST_RIDGE)
        check_choice(self, "loss", LOSSES)
        check_choice(self, "student_optimiser", OPTIMISERS)
        check_choice(self, "encoder", ("trained", "frozen"))
        check_positive(self, "encoder_updates")
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "augmentation", AUGMENTATIONS)


class Frepo(Method[FrepoConfig]):
    """Learns frames and labels for which the regressed last layer predicts the data's labels.

    Paper: pool=10, oldest=100, student_updates=1, student_rate=0.0003, student_batch=none,
        real_batch=1024, iterations=500000, ridge=1e-06
    """

    Config = FrepoConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "frepo"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        updates = updates_like(
            learner,
            updates="oldest",
            batch_size="student_batch",
            optimiser="student_optimiser",
            learning_rate="student_rate",
        )
        return network_like(learner) | updates | loss_like(learner)

    def students(self, task: Task) -> dict[str, Any]:
        c = self.config
        if c.encoder != "frozen":
            return {}
        network = {"network": c.network, **given_options(c), "input": c.input}
        return {**network, "init": "dataset", "train": "head"}

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        in_all, each = super().bytes_beside(task)
        if self.config.encoder != "frozen":
            return (in_all, each)
        spec = network_spec(task, self.config, *head_of(task.action_space))
        return (in_all + 4 * num_weights(spec), each)

    def _condense(self, problem: Problem) -> Condensation:
        c, rng = self.config, problem.rng()
        synthetic = Synthetic(problem, c, rng)
        real = RealBatches(problem, c)
        spec = network_spec(problem.task, c, *head_of(problem.task.action_space))
        spread = action_spread(problem) if problem.continuous else None
        frozen = self._encoder(problem, spec) if c.encoder == "frozen" else None
        if frozen is not None:
            synthetic.gradient_evaluations += c.encoder_updates * BATCH

        def backward(theta: PolicyNetwork, rng: np.random.Generator) -> float:
            frames, targets = real.draw(c.real_batch, rng)
            augmented = drawn_augmentation(c.augmentation, synthetic.is_pixels, rng)
            with torch.no_grad():
                f_real = theta.features(augmented(frames))

            def loss(parts: Parts) -> Tensor:
                f_syn, labels = joined(parts), synthetic.targets()
                if spread is None:
                    predictions = regressed(f_syn, centred_logits(labels), f_real, c.ridge)
                    return row_losses(predictions, targets).mean()
                predictions = regressed(f_syn, labels / spread, f_real, c.ridge)
                return ((predictions - targets / spread) ** 2).mean()

            synthetic.gradient_evaluations += len(frames) + len(synthetic.rows)
            features = features_of(lambda own: theta.features(augmented(own)))
            return backward_by_chunks(synthetic, features, loss)

        def probe() -> float:
            rng = np.random.default_rng([problem.seed, 1])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(problem.torch_seed(1))
                thetas = [frozen or fresh(spec, problem.device, c.init) for _ in range(PROBES)]
                return float(np.mean([backward(theta, rng) for theta in thetas]))

        before = probe()
        if frozen is not None:
            with torch.random.fork_rng(devices=[]):
                learn(problem, synthetic, c.iterations, lambda _: backward(frozen, rng), rng)
            made = synthetic.condensation(MatchingLoss(before, probe()))
            weights = {name: w.cpu().numpy() for name, w in frozen.state_dict().items()}
            return replace(made, initialisation=Initialisation(config_json(spec), weights))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            pool = _Pool(_Student(spec, c, synthetic, rng) for _ in range(c.pool))
            for place, student in enumerate(pool):  # students of all ages from the start
                student.train(place * c.oldest // c.pool)

            def loss(_: int) -> float:
                place = int(rng.integers(c.pool))
                value = backward(pool[place].network, rng)
                pool[place].train(c.student_updates)
                if pool[place].age >= c.oldest:
                    pool[place] = _Student(spec, c, synthetic, rng)
                return value

            learn(problem, synthetic, c.iterations, loss, rng, beside=pool)
        return synthetic.condensation(MatchingLoss(before, probe()))

    def _encoder(self, problem: Problem, spec: NetworkSpec) -> PolicyNetwork:
        """Return a network whose encoder was trained on the data, with an initial last layer."""
        c = self.config
        network = fresh_from(spec, problem.device, problem.torch_seed(2), c.init)
        initial = {
            name: weights.clone()
            for name, weights in network.state_dict().items()
            if is_of_head(name)
        }
        targets, rng = data_targets(problem, c.labels), np.random.default_rng([problem.seed, 2])
        clone(network, problem, targets, c.encoder_updates, rng)
        network.load_state_dict(initial, strict=False)
        return network.requires_grad_(False)


def centred_logits(targets: Tensor) -> Tensor:
    """Return the logits `(M, A)` of distributions, with mean zero in each row."""
    z = targets.clamp_min(LEAST).log()
    return z - z.mean(1, keepdim=True)


def regressed(f_syn: Tensor, z: Tensor, f_real: Tensor, ridge: float) -> Tensor:
    """Predict labels of real rows by kernel ridge regression on the synthetic rows.

    Args:
        f_syn: `(M, F)` features.
        z: `(M, A)` logits or actions.
        f_real: `(B, F)` features.
        ridge: ridge as a multiple of the mean of the kernel's diagonal.

    Returns:
        Predicted logits or actions `(B, A)`.
    """
    constant = z.mean(0, keepdim=True)  # the head's bias
    k_ss = f_syn @ f_syn.T
    scale = k_ss.diagonal().mean().detach().clamp_min(1e-6)  # no unit may be active
    k_ss = k_ss + ridge * scale * torch.eye(len(f_syn), device=f_syn.device)
    solved = torch.linalg.solve(k_ss, z - constant)
    predictions: Tensor = f_real @ (f_syn.T @ solved) + constant
    return predictions


class _Student:
    """A network in training on the current synthetic data."""

    def __init__(
        self, spec: NetworkSpec, c: FrepoConfig, synthetic: Synthetic, rng: np.random.Generator
    ) -> None:
        self.network = fresh(spec, synthetic.device, c.init)
        self.synthetic, self.age = synthetic, 0
        self._losses, size = losses_of_head(spec.head, c.loss), len(synthetic.rows)
        self._optimiser = make_optimiser(c.student_optimiser, self.network, c.student_rate)
        self._batches = shuffled_batches(size, min(size, c.student_batch or size), rng)

    def train(self, updates: int) -> None:
        """Make some updates of behavioural cloning."""
        for _ in range(updates):
            rows = torch.from_numpy(next(self._batches)).to(self.synthetic.device)
            with torch.no_grad():
                frames, targets = self.synthetic.observations(rows), self.synthetic.targets(rows)
            descend(self._optimiser, self._losses(self.network(frames), targets).mean())
            self.age += 1
            self.synthetic.gradient_evaluations += len(rows)

    def state(self) -> dict[str, Array]:
        """Return everything that decides its further training."""
        network = {f"network.{n}": p.detach().cpu().numpy() for n, p in self._parameters()}
        adam = optimiser_state("adam", self._optimiser)
        return {**network, **adam, "age": np.array([self.age]), "queue": self._batches.queue}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore a state that `state` returned."""
        for name, parameter in self._parameters():
            parameter.copy_(torch.from_numpy(np.array(state[f"network.{name}"])))
        restore_optimiser("adam", self._optimiser, state)
        self.age, self._batches.queue = int(state["age"][0]), np.array(state["queue"])

    def _parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self.network.named_parameters())


class _Pool(list[_Student]):
    """The students, which checkpoints store."""

    def state(self) -> dict[str, Array]:
        return {
            f"{k}.{name}": array
            for k, student in enumerate(self)
            for name, array in student.state().items()
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        for k, student in enumerate(self):
            student.restore(under(f"{k}.", state))
