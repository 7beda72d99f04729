"""Gradient matching (Light, Liu and Hu, 2024, arXiv 2407.20299, equation 2), and variants.

    D_syn = argmin  E_{theta ~ P(theta)}  d( grad_theta L(D_syn), grad_theta L(D) )

In equation 2, the preset equation-2, theta is drawn from the initial distribution in every
iteration and d is the norm of the difference. By default theta follows a student's training on the
synthetic data (Zhao et al., 2021, arXiv 2006.05929, algorithm 1), and labels are distributions that
are learned too. From Zhao et al. also come cosine distances as d (one for each weight tensor here,
one for each output unit there), cross-entropy as L, and the sum over classes of each class's own
distance, match=per-class, which Light et al.'s code has and their equation has not. Adam's step is
measured in grey levels and pixels are clamped to [0, 255], so that synthetic frames move visibly
and stay valid images.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.cloning import descend, losses_of_head, shuffled_batches
from rlcondense.config import LATER, check_choice, check_positive
from rlcondense.datasets.labels import TAUGHT
from rlcondense.datasets.report import MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.full import HELD_BACK, held_back_rows
from rlcondense.methods.parts.chunks import Parts, backward_by_chunks
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
    drawn_augmentation,
    learn,
)
from rlcondense.networks import ENCODERS, PolicyNetwork, fresh
from rlcondense.policies import head_of
from rlcondense.types import Array

PROBES = 4  # held-out networks on which the matching loss before and after is measured
VALIDATION_UPDATES = 300  # of a network whose loss on rows that are held back is measured
VALIDATION_ROWS = 2048  # most such rows
CHUNK = 256  # of them at a time


@dataclass(frozen=True)
class GradMatchConfig(NetworkConfig):
    """Settings.

    Attributes:
        network: name of the network whose gradients are matched.
        iterations: steps of Adam on the synthetic data.
        real_batch: number of real frames of each action in an iteration, or of all actions together
            if classes are matched jointly.
        theta: `initial` draws a network anew in every iteration; `trajectory` follows a student's
            training on the synthetic data (Zhao et al., algorithm 1); `expert` is the dataset's
            policy, fixed (Light et al., as coded), and no setting of a network or student counts
            but in validations.
        trajectory: number of iterations along one student before the next is drawn.
        student_updates: number of updates of the student between two iterations.
        student_batch: number of rows in such an update, None for all.
        student_optimiser: optimiser of the student, `adam` or `sgd`.
        student_rate: step size of the student.
        distance: `cosine`; `l2`, the squared norm of the difference, or `normalised-l2`, over the
            real gradient's, each summed over the network's weight tensors; or `norm` of the
            difference of all weights.
        match: `per-class`, or `joint` for one gradient of all actions.
        loss: `cross-entropy`, `softmax-mse` or `softmax-mae`. Continuous actions have no classes,
            and their loss is the negative log-likelihood under a Gaussian.
        augmentation: `none`, or `shift`: synthetic and real frames are shifted by the same pixels.
        validate_every: number of iterations between two validations; None for none. Each trains a
            student, always with the same initial weights, on the synthetic data as they are, the
            start included. Returned are the data whose student has the lowest loss on at most 2,048
            rows of a tenth of the episodes, from which no other row or gradient comes. A student
            has 300 updates, or `student_updates` if they are more. Not for `labels=taught`, which
            the rows get at the end.
    """

    labels: str = "learned"
    start: str = "random"
    network: str = "nature"
    iterations: int = 40
    real_batch: int = 128
    theta: str = "trajectory"
    trajectory: int = 20
    student_updates: int = 5
    distance: str = "cosine"
    match: str = "joint"
    loss: str = "cross-entropy"
    augmentation: str = "none"
    student_batch: int | None = field(default=64, metadata=LATER)
    student_optimiser: str = field(default="adam", metadata=LATER)
    student_rate: float = field(default=5e-4, metadata=LATER)
    validate_every: int | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "real_batch", "trajectory", "student_updates")
        check_positive(self, "student_batch", "student_rate", "validate_every")
        if self.validate_every is not None and self.labels == TAUGHT:
            raise BadConfig("validate_every is not for labels=taught: rows get these at the end")
        check_choice(self, "student_optimiser", OPTIMISERS)
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "theta", ("initial", "trajectory", "expert"))
        check_choice(self, "distance", tuple(DISTANCES))
        check_choice(self, "match", ("per-class", "joint"))
        check_choice(self, "loss", LOSSES)
        check_choice(self, "augmentation", AUGMENTATIONS)


class GradMatch(Method[GradMatchConfig]):
    """Learns observations, and optionally labels, whose gradients match the data's.

    Paper: labels=hard, start=balanced, match=per-class, theta=trajectory, trajectory=10,
        student_updates=50, student_optimiser=sgd, student_rate=0.01, student_batch=256,
        real_batch=256, iterations=10000, outer_optimiser=sgd, outer_momentum=0.5, learning_rate=0.1
    """

    Config = GradMatchConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "gradmatch"

    def __init__(self, config: GradMatchConfig | None = None, *, id: str = "") -> None:
        super().__init__(config, id=id)
        if self.config.theta == "expert":
            self.needs |= {"expert"}
        if self.config.validate_every is not None:
            self.needs |= {"episodes"}

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        updates = updates_like(
            learner,
            batch_size="student_batch",
            optimiser="student_optimiser",
            learning_rate="student_rate",
        )
        return network_like(learner) | updates | loss_like(learner)

    def _condense(self, problem: Problem) -> Condensation:
        rng, every = problem.rng(), self.config.validate_every
        held_back = source = None
        if every is not None:
            is_held_back = held_back_rows(problem.dataset, HELD_BACK)
            held_back, source = np.flatnonzero(is_held_back), np.flatnonzero(~is_held_back)
        synthetic = Synthetic(problem, self.config, rng, source=source)
        matching = _Matching(problem, self.config, synthetic, source)
        validation = None if held_back is None else _Validation(matching, held_back)
        before = matching.probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            thetas = matching.thetas(rng, self.config.theta)

            def loss(iteration: int) -> float:
                if validation is not None and every is not None and iteration % every == 0:
                    validation.look()
                return matching.backward(next(thetas), rng)

            # Only at the beginning of a student's training there is no state to carry over.
            restarts = self.config.trajectory if self.config.theta == "trajectory" else 1
            iterations = self.config.iterations
            learn(problem, synthetic, iterations, loss, rng, beside=validation, restarts=restarts)
        if validation is not None:
            validation.look()
            validation.keep_best()
        return synthetic.condensation(MatchingLoss(before, matching.probe()))


class _Matching:
    """Distance of a synthetic dataset from the data under a network theta."""

    def __init__(
        self,
        problem: Problem,
        config: GradMatchConfig,
        synthetic: Synthetic,
        source: Array | None,
    ) -> None:
        self.config, self.synthetic, self.seed = config, synthetic, problem.seed
        self.probe_seed, self.validation_seed = problem.torch_seed(1), problem.torch_seed(2)
        self.device, self.expert = problem.device, problem.expert
        self.real = RealBatches(problem, config, source=source)
        self.spec = network_spec(problem.task, config, *head_of(problem.task.action_space))
        self.losses = losses_of_head(self.spec.head, config.loss)
        self.classes: dict[int | None, slice] = {None: slice(0, len(synthetic.rows))}
        if config.match == "per-class" and not problem.continuous:
            self.classes = dict(synthetic.classes.items())

    def thetas(self, rng: np.random.Generator, kind: str) -> Iterator[PolicyNetwork]:
        """Yield a network for each iteration, with initial weights from torch's global state."""
        if kind == "expert":
            assert self.expert is not None
            yield from itertools.repeat(copy.deepcopy(self.expert.network).to(self.device))
        while True:
            theta = fresh(self.spec, self.device, self.config.init)
            yield theta
            if kind == "trajectory":
                student = self.student(theta, rng)
                yield from itertools.islice(student, self.config.trajectory - 1)

    def student(self, theta: PolicyNetwork, rng: np.random.Generator) -> Iterator[PolicyNetwork]:
        """Yield a network along its training on the current synthetic data."""
        c, size = self.config, len(self.synthetic.rows)
        optimiser = make_optimiser(c.student_optimiser, theta, c.student_rate)
        batches = shuffled_batches(size, min(size, c.student_batch or size), rng)
        while True:
            for rows in itertools.islice(batches, c.student_updates):
                batch = torch.from_numpy(rows).to(self.device)
                with torch.no_grad():
                    frames, targets = (
                        self.synthetic.observations(batch),
                        self.synthetic.targets(batch),
                    )
                descend(optimiser, self.losses(theta(frames), targets).mean())
                self.synthetic.gradient_evaluations += len(rows)
            yield theta

    def backward(self, theta: PolicyNetwork, rng: np.random.Generator) -> float:
        """Add the distance's gradient to the leaves, class by class, and return the distance."""
        total = 0.0
        for action, rows in self.classes.items():
            total += self._backward(theta, rng, action, rows)
        return total

    def _backward(
        self, theta: PolicyNetwork, rng: np.random.Generator, action: int | None, rows: slice
    ) -> float:
        """The same for the rows of one action, or for all."""
        frames, targets = self.real.draw(self.config.real_batch, rng, action)
        augmented = drawn_augmentation(self.config.augmentation, self.synthetic.is_pixels, rng)
        distance = DISTANCES[self.config.distance]

        size = rows.stop - rows.start

        def gradient(own: Tensor, chunk: slice, differentiable: bool) -> list[Tensor]:
            labels = self.synthetic.targets(chunk)
            gradients = weight_gradients(theta, augmented(own), labels, self.losses, differentiable)
            share = len(own) / size
            return gradients if share == 1 else [share * g for g in gradients]

        g_real = weight_gradients(theta, augmented(frames), targets, self.losses)

        def loss(parts: Parts) -> Tensor:
            return distance([sum(g[1:], g[0]) for g in zip(*parts, strict=True)], g_real)

        self.synthetic.gradient_evaluations += len(frames) + size
        return backward_by_chunks(self.synthetic, gradient, loss, rows)

    def probe(self) -> float:
        """Compute the mean distance on networks and real batches that never change."""
        rng = np.random.default_rng([self.seed, 1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.probe_seed)  # networks that condensation does not draw
            drawn = "expert" if self.config.theta == "expert" else "initial"
            thetas = itertools.islice(self.thetas(rng, drawn), PROBES)
            distances = [self.backward(theta, rng) for theta in thetas]
        for leaf in self.synthetic.leaves:
            leaf.grad = None
        return float(np.mean(distances))


class _Validation:
    """Loss of students on rows that are held back, and the synthetic data at its minimum.

    Args:
        matching: the synthetic data and their students.
        held_back: rows of the source.
    """

    def __init__(self, matching: _Matching, held_back: Array) -> None:
        self._matching, self._leaves = matching, matching.synthetic.leaves
        size = min(VALIDATION_ROWS, len(held_back))
        self._rows = np.sort(np.random.default_rng(0).choice(held_back, size, replace=False))
        self._lowest, self._best = np.inf, self._current()

    def _current(self) -> list[Tensor]:
        return [leaf.detach().clone() for leaf in self._leaves]

    def look(self) -> None:
        """Train a student on the data as they are, and keep them if its loss is the lowest."""
        loss = self._loss()
        if loss < self._lowest:
            self._lowest, self._best = loss, self._current()

    def _loss(self) -> float:
        m = self._matching
        rng = np.random.default_rng([m.seed, 2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(m.validation_seed)  # the same weights at every look
            student = m.student(fresh(m.spec, m.device, m.config.init), rng)
            steps = -(-VALIDATION_UPDATES // m.config.student_updates)
            *_, network = itertools.islice(student, steps)
        total = 0.0
        with torch.no_grad():
            for rows in np.split(self._rows, range(CHUNK, len(self._rows), CHUNK)):
                frames, targets = m.real.take(rows)
                total += float(m.losses(network(frames), targets).sum())
        return total / len(self._rows)

    @torch.no_grad()
    def keep_best(self) -> None:
        """Make the data those of the lowest loss."""
        for leaf, best in zip(self._leaves, self._best, strict=True):
            leaf.copy_(best)

    def state(self) -> dict[str, Array]:
        """Return the lowest loss and the data that it belongs to."""
        best = {f"best.{k}": leaf.cpu().numpy().copy() for k, leaf in enumerate(self._best)}
        return {"lowest": np.array([self._lowest]), **best}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore them."""
        self._lowest = state["lowest"].item()
        for k, leaf in enumerate(self._best):
            leaf.copy_(torch.from_numpy(state[f"best.{k}"]))


def weight_gradients(
    theta: nn.Module,
    observations: Tensor,
    targets: Tensor,
    losses: Callable[[Tensor, Tensor], Tensor],
    differentiable: bool = False,
) -> list[Tensor]:
    """Compute the gradient of the mean loss of rows, for each of a network's parameters.

    Args:
        theta: a network.
        observations: `(M, *observation)`.
        targets: `(M, A)`.
        losses: function of outputs and targets that returns losses `(M,)`.
        differentiable: whether the gradient can be differentiated for the rows.
    """
    loss = losses(theta(observations), targets).mean()
    return list(torch.autograd.grad(loss, list(theta.parameters()), create_graph=differentiable))


def layerwise_cosine(g_syn: list[Tensor], g_real: list[Tensor]) -> Tensor:
    """Compute one minus the cosine of two gradients, summed over the network's weight tensors."""
    return torch.stack(
        [
            1 - F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
            for a, b in zip(g_syn, g_real, strict=True)
        ]
    ).sum()


def squared_distance(g_syn: list[Tensor], g_real: list[Tensor]) -> Tensor:
    """Compute the sum of squared differences of two gradients."""
    return torch.stack([((a - b) ** 2).sum() for a, b in zip(g_syn, g_real, strict=True)]).sum()


def norm_of_difference(g_syn: list[Tensor], g_real: list[Tensor]) -> Tensor:
    """Compute the norm of the difference of two gradients."""
    return squared_distance(g_syn, g_real).clamp_min(1e-24).sqrt()


def normalised_squared_distance(g_syn: list[Tensor], g_real: list[Tensor]) -> Tensor:
    """Compute squared differences over the real gradient's squared norm, summed over tensors."""
    return torch.stack(
        [
            ((a - b) ** 2).sum() / (b**2).sum().clamp_min(1e-12)
            for a, b in zip(g_syn, g_real, strict=True)
        ]
    ).sum()


DISTANCES: dict[str, Callable[[list[Tensor], list[Tensor]], Tensor]] = {
    "cosine": layerwise_cosine,
    "l2": squared_distance,
    "normalised-l2": normalised_squared_distance,
    "norm": norm_of_difference,
}
