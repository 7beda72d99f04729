"""Matching training trajectories, MTT (Cazenavette et al., 2022, arXiv 2203.11932).

    D_syn = argmin  | theta_N - theta*_{t+M} |^2 / | theta*_t - theta*_{t+M} |^2

theta* are the parameters of teachers along their training on the data; theta_N is the result of N
updates on the synthetic data that start from theta*_t (algorithm 1). The step size of these updates
is learned too. The gradient flows back through them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcondense.cloning import descend, shuffled_batches
from rlcondense.config import check_choice, check_least, check_positive
from rlcondense.datasets.report import MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.limits import check_most
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.students import (
    OPTIMISERS,
    loss_like,
    make_optimiser,
    network_like,
    updates_like,
)
from rlcondense.methods.parts.synthetic import (
    RealBatches,
    Synthetic,
    learn,
    optimiser_state,
    restore_optimiser,
)
from rlcondense.methods.parts.unrolled import (
    StudentConfig,
    Training,
    add_gradients,
    differentiate,
    held,
    losses_of,
    student_spec,
)
from rlcondense.networks import fresh_from, num_weights
from rlcondense.types import Array

PROBES = 4  # stretches of teachers on which the loss before and after is measured
RATE_STEP = 0.02  # Adam's, for the logarithm of the learned step size


@dataclass(frozen=True)
class TrajMatchConfig(StudentConfig):
    """Settings. The paper has 100 teachers of 50 epochs each, and 5000 iterations.

    Adam gets the gradients on observations and on labels, each scaled to length 1.

    Attributes:
        iterations: number of steps on the synthetic data.
        teachers: number of teachers, which are trained on the data first.
        teacher_updates: number of updates of a teacher.
        teacher_batch: number of rows in a teacher's update (the paper: 256), None for all.
        keep_every: number of updates between two snapshots of a teacher; all are held in memory,
            for `nature` 2.4 MB each.
        span: M, in snapshots.
        latest: latest start t, in updates; later parts of a training are less informative.
        inner_steps: N (the paper: 20 to 80).
        inner_batch: maximal number of synthetic rows in an update, None for all.
        segment: number of updates whose graph is in memory at a time.
        optimiser: optimiser of teachers and of updates on synthetic data, `sgd` (the paper's) or
            `adam`.
        rate: step size of the teachers. The learned step size starts so that N synthetic updates
            move as far as a teacher's updates.
    """

    labels: str = "learned"
    start: str = "random"
    iterations: int = 150
    teachers: int = 4
    teacher_updates: int = 400
    teacher_batch: int | None = 64
    keep_every: int = 20
    span: int = 2
    latest: int = 200
    inner_steps: int = 20
    inner_batch: int | None = 64
    segment: int = 20
    optimiser: str = "sgd"
    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "teachers", "teacher_updates", "teacher_batch")
        check_positive(self, "keep_every", "span", "inner_steps", "inner_batch", "segment", "rate")
        check_choice(self, "optimiser", OPTIMISERS)
        check_least(self, "latest")
        if self.span * self.keep_every > self.teacher_updates:
            raise BadConfig(
                f"span {self.span} of {self.keep_every} updates is above teacher_updates "
                f"{self.teacher_updates}"
            )


class TrajMatch(Method[TrajMatchConfig]):
    """Learns a dataset whose updates move a student's parameters as the data's updates do.

    The step size that is learned with it is not part of the set: students have a learner's own.

    Paper: labels=hard, start=balanced, iterations=5000, teachers=100, teacher_updates=9800,
        teacher_batch=256, keep_every=196, span=2, latest=3920, inner_steps=30,
        inner_batch=none, optimiser=sgd, rate=0.01, outer_optimiser=sgd, outer_momentum=0.5
    """

    Config = TrajMatchConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "trajmatch"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings: teachers train as the learner; starts and snapshots in proportion."""
        settings = updates_like(
            learner,
            updates="teacher_updates",
            batch_size="teacher_batch",
            optimiser="optimiser",
            learning_rate="rate",
        )
        if (updates := settings.get("teacher_updates")) is not None:
            settings |= {"keep_every": max(1, updates // 20), "latest": updates // 2}
            settings |= {"inner_steps": min(updates, cls.Config.inner_steps)}
        if "teacher_batch" in settings:
            settings["inner_batch"] = settings["teacher_batch"]
        return network_like(learner) | settings | loss_like(learner, ("logit-mse",))

    def _condense(self, problem: Problem) -> Condensation:
        rng = problem.rng()
        synthetic = Synthetic(problem, self.config, rng)
        matching = _Matching(problem, self.config, synthetic)
        before = matching.probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            learn(
                problem,
                synthetic,
                self.config.iterations,
                lambda _: matching.backward(rng),
                rng,
                beside=matching.rate,
            )
        return synthetic.condensation(MatchingLoss(before, matching.probe()))


class _Matching:
    """Distance between the ends of updates on synthetic data and of a teacher's updates."""

    def __init__(self, problem: Problem, config: TrajMatchConfig, synthetic: Synthetic) -> None:
        self.config, self.synthetic, self.seed = config, synthetic, problem.seed
        self.losses = losses_of(problem, config.loss)
        of_teachers = "cross-entropy" if config.real_valued else config.loss  # of distributions
        self.teacher_losses = losses_of(problem, of_teachers)
        self.spec, self.device = student_spec(problem, config), problem.device
        snapshots = config.teachers * (config.teacher_updates // config.keep_every + 1)
        in_all = snapshots * num_weights(self.spec)
        check_most("weights of all snapshots", in_all, "weights of a population")
        self.network = fresh_from(self.spec, problem.device, problem.seed, config.init)
        reach = config.rate * config.span * config.keep_every
        self.rate = _Rate(reach / config.inner_steps, problem.device)
        self.trajectories = [list(self._teacher(problem, k)) for k in range(config.teachers)]

    def _teacher(self, problem: Problem, k: int) -> Iterator[list[Tensor]]:
        """Return snapshots of a network's parameters along its training on the data."""
        c, rng = self.config, np.random.default_rng([problem.seed, 3, k])
        network = fresh_from(self.spec, problem.device, problem.torch_seed(3, k), c.init)
        real = RealBatches(problem, c)
        optimiser = make_optimiser(c.optimiser, network, c.rate)
        batch = c.teacher_batch or len(problem.dataset)
        total = c.teachers * c.teacher_updates
        for update in range(c.teacher_updates + 1):
            if update % c.keep_every == 0:
                yield [p.detach().clone() for p in network.parameters()]
                problem.progress("train teachers", k * c.teacher_updates + update, total)
            if update == c.teacher_updates:
                return
            frames, targets = real.draw(batch, rng)
            descend(optimiser, self.teacher_losses(network(frames), targets).mean())
            self.synthetic.gradient_evaluations += len(frames)

    def backward(self, rng: np.random.Generator) -> float:
        """Add the distance's gradient to the leaves, and return the distance."""
        inputs = [self.synthetic.observations(), self.synthetic.targets(), self.rate.value()]
        apart = held(inputs)
        value, gradients = self._distance(rng, apart)
        longest = math.inf if self.config.outer_optimiser == "sgd" else None
        add_gradients(inputs[:2], gradients[:2], self.synthetic.leaves, longest)
        self.rate.step(gradients[2] * inputs[2].detach())
        return value

    def _distance(
        self, rng: np.random.Generator, inputs: list[Tensor]
    ) -> tuple[float, list[Tensor]]:
        c, size = self.config, len(self.synthetic.rows)
        trajectory = self.trajectories[int(rng.integers(c.teachers))]
        last = min(len(trajectory) - 1 - c.span, c.latest // c.keep_every)
        t = int(rng.integers(last + 1))
        start, goal = trajectory[t], trajectory[t + c.span]
        batches = None
        batch = min(size, c.inner_batch or size)
        if size > batch:
            drawn = shuffled_batches(size, batch, rng)
            batches = list(itertools.islice(drawn, c.inner_steps))
        training = Training(self.network, self.losses, c.optimiser, None, batches)
        self.synthetic.gradient_evaluations += c.inner_steps * batch
        return differentiate(
            training,
            lambda state: squared_distance(state, goal) / squared_distance(start, goal),
            training.begin(start),
            range(c.inner_steps),
            inputs,
            c.segment,
        )

    def probe(self) -> float:
        """Compute the mean distance on stretches that are the same at every call.

        The step size is learned too, so that its gain is part of the distance after condensation.
        """
        rng = np.random.default_rng([self.seed, 1])
        inputs = [self.synthetic.observations(), self.synthetic.targets(), self.rate.value()]
        return float(np.mean([self._distance(rng, held(inputs))[0] for _ in range(PROBES)]))


def squared_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Compute the squared distance of two states' parameters, without Adam's moments."""
    return torch.stack([((x - y) ** 2).sum() for x, y in zip(a, b, strict=False)]).sum()


class _Rate:
    """Learned step size, stored as a logarithm to stay positive."""

    def __init__(self, start: float, device: str) -> None:
        self._log = torch.tensor([math.log(start)], device=device)
        self._optimiser = torch.optim.Adam([self._log], lr=RATE_STEP)

    def value(self) -> Tensor:
        """Return the step size, differentiable."""
        return self._log.exp().requires_grad_()

    def step(self, gradient: Tensor) -> None:
        """Make a step of Adam with the gradient of the logarithm."""
        self._log.grad = gradient.detach().reshape(1)
        self._optimiser.step()

    def state(self) -> dict[str, Array]:
        return {"log": self._log.cpu().numpy().copy(), **optimiser_state("adam", self._optimiser)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._log.copy_(torch.from_numpy(np.array(state["log"])))
        restore_optimiser("adam", self._optimiser, state)
