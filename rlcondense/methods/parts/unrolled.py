"""Differentiable training: a student's parameters as a function of its data.

Checkpoints bound the memory (Chen et al., 2016, arXiv 1604.06174): only the state at the beginning
of each segment of a training is stored, and the segment's steps are computed again for its
gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.func import functional_call

from rlcondense.cloning import row_losses
from rlcondense.config import check_choice
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.students import LOSSES, NetworkConfig, network_spec
from rlcondense.networks import NetworkSpec, fitting_network

BETAS = (0.9, 0.999)  # Adam's
EPSILON = 1e-5  # Adam's. A smaller one makes the step's derivative at small gradients explode.

Rows = npt.NDArray[np.int64]
Step = Callable[[int, list[Tensor], Sequence[Tensor], bool], list[Tensor]]


def differentiate(
    step: Step,
    outer: Callable[[list[Tensor]], Tensor],
    state: Sequence[Tensor],
    steps: range,
    inputs: Sequence[Tensor],
    segment: int,
) -> tuple[float, list[Tensor]]:
    """Compute a value of the state after some steps, and its gradients by the steps' inputs.

    Args:
        step: function of a step's number, the state before it, the inputs, and whether the new
            state must be differentiable; it returns the state after the step.
        outer: function of the last state that returns the value.
        state: the first state.
        steps: numbers of the steps.
        inputs: tensors for which gradients are computed; those that require none get zeros.
        segment: number of steps whose graph is in memory at a time.

    Returns:
        The value of `outer` and a gradient for each input.
    """
    segments = list(itertools.pairwise([*steps[::segment], steps.stop]))
    begins = [list(state)]
    for start, stop in segments[:-1]:  # the last is computed once, with its graph
        after = begins[-1]
        for i in range(start, stop):
            after = step(i, after, inputs, False)
        begins.append(after)

    wanted = [k for k, x in enumerate(inputs) if x.requires_grad]
    totals = [torch.zeros_like(x) for x in inputs]
    value, behind = 0.0, None
    for (start, stop), begin in reversed(list(zip(segments, begins, strict=True))):
        first = [part.detach().requires_grad_() for part in begin]
        after = first
        for i in range(start, stop):
            after = step(i, after, inputs, True)
        ends: Sequence[Tensor] = after
        if behind is None:
            loss = outer(after)
            value, ends = float(loss.detach()), [loss]
        sources = [*first, *(inputs[k] for k in wanted)]
        gradients = torch.autograd.grad(
            ends, sources, behind, allow_unused=True, materialize_grads=True
        )
        behind = gradients[: len(first)]
        for k, gradient in zip(wanted, gradients[len(first) :], strict=True):
            totals[k] += gradient
    return value, totals


def held(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Detach inputs from their own graph, through which the gradient flows once at the end."""
    return [x.detach().requires_grad_(x.requires_grad) for x in inputs]


def add_gradients(
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    leaves: list[Tensor],
    longest: float | None = None,
) -> None:
    """Propagate gradients from inputs to the leaves, and scale the leaves' gradients.

    Gradients through many updates differ by orders of magnitude. By default each leaf's gradient is
    scaled to norm 1, so that all iterations count the same for Adam; `longest` is a bound of their
    joint norm instead.
    """
    pairs = [(x, g) for x, g in zip(inputs, gradients, strict=True) if x.requires_grad]
    torch.autograd.backward([x for x, _ in pairs], [g for _, g in pairs], inputs=leaves)
    if longest is not None:
        torch.nn.utils.clip_grad_norm_(leaves, longest)
        return
    for leaf in leaves:
        assert leaf.grad is not None
        leaf.grad /= leaf.grad.norm().clamp_min(1e-12)


class Training:
    """Differentiable updates of a network on input rows.

    The state is the network's parameters, and for Adam the two moments of each.

    Args:
        network: network whose architecture students have; its parameters stay unchanged.
        losses: function of outputs `(B, A)` and targets that returns losses `(B,)`.
        optimiser: `sgd`, plain, or `adam`.
        rate: step size; None if it is the third input.
        batches: function of a step's number that returns its rows; None for all rows.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: Callable[[Tensor, Tensor], Tensor],
        optimiser: str,
        rate: float | None,
        batches: Sequence[Rows] | None = None,
    ) -> None:
        self._network, self._losses = network, losses
        self._names = [name for name, _ in network.named_parameters()]
        self._adam, self._rate, self.batches = optimiser == "adam", rate, batches

    def begin(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the state of a training that starts with a network's parameters."""
        theta = [p.detach().clone() for p in parameters]
        moments = [torch.zeros_like(p) for p in theta]
        return [*theta, *moments, *(m.clone() for m in moments)] if self._adam else theta

    def outputs(self, state: Sequence[Tensor], observations: Tensor) -> Tensor:
        """Compute outputs `(B, A)` of a student."""
        theta = dict(zip(self._names, state, strict=False))
        outputs: Tensor = functional_call(self._network, theta, (observations,))
        return outputs

    def __call__(
        self, i: int, state: list[Tensor], inputs: Sequence[Tensor], differentiable: bool
    ) -> list[Tensor]:
        """Return the state after update `i`.

        Args:
            i: counted from the beginning of the training.
            state: the state before it.
            inputs: observations, targets, and perhaps the step size.
            differentiable: whether gradients flow back to `state` and `inputs`.
        """
        count = len(self._names)
        theta = state[:count]
        x, y, *rate = inputs if differentiable else [part.detach() for part in inputs]
        lr = rate[0] if rate else self._rate
        assert lr is not None
        if not differentiable:
            theta = [p.detach().requires_grad_() for p in theta]
        if self.batches is not None:
            rows = torch.from_numpy(self.batches[i]).to(x.device)
            x, y = x[rows], y[rows]
        loss = self._losses(self.outputs(theta, x), y).mean()
        gradients = torch.autograd.grad(loss, theta, create_graph=differentiable)
        with torch.set_grad_enabled(differentiable):
            if not self._adam:
                return [p - lr * g for p, g in zip(theta, gradients, strict=True)]
            return self._adam_step(i + 1, lr, theta, state[count:], gradients)

    @staticmethod
    def _adam_step(
        t: int,
        lr: Tensor | float,
        theta: Sequence[Tensor],
        moments: Sequence[Tensor],
        gradients: Sequence[Tensor],
    ) -> list[Tensor]:
        b1, b2 = BETAS
        size = lr / (1 - b1**t)
        moved = []
        for p, g, m, v in zip(
            theta, gradients, moments[: len(theta)], moments[len(theta) :], strict=True
        ):
            m_new = torch.lerp(m, g, 1 - b1)
            v_new = torch.addcmul(b2 * v, g, g, value=1 - b2)
            # The root of zero has no derivative: epsilon stands beneath it.
            root = (v_new / (1 - b2**t) + EPSILON**2).sqrt()
            moved.append((p - size * (m_new / root), m_new, v_new))
        new, m_all, v_all = zip(*moved, strict=True)
        return [*new, *m_all, *v_all]


@dataclass(frozen=True)
class StudentConfig(NetworkConfig):
    """Settings of the students for which a synthetic dataset is made.

    Attributes:
        network: name of the students' network; None is `nature` for frames and the paper's MLP for
            vectors and small frames, with three hidden layers of 256.
        loss: loss for discrete actions: `cross-entropy`, `softmax-mse`, `softmax-mae`, or
            `logit-mse`, whose learned labels are real-valued targets of the logits. For continuous
            actions it is the squared error.
    """

    network: str | None = None
    loss: str = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "loss", (*LOSSES, "logit-mse"))

    @property
    def real_valued(self) -> bool:
        return self.loss == "logit-mse"


def student_spec(problem: Problem, config: StudentConfig) -> NetworkSpec:
    """Return the network spec of students of a problem."""
    if config.network is None:
        shape = problem.dataset.observations.shape[1:]
        config = replace(config, network=fitting_network("nature", shape))
        if config.network == "mlp":
            config = replace(config, width=config.width or 256, depth=config.depth or 3)
    return network_spec(problem.task, config, problem.num_outputs)


def losses_of(problem: Problem, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss `(B,)` of outputs `(B, A)` for a task's actions.

    For bounded continuous actions outputs pass through tanh, and errors are in units of half the
    range, as in d3rlpy's cloning; unbounded outputs are actions directly.
    """
    space = problem.task.action_space
    if not isinstance(space, Box):
        return lambda outputs, targets: row_losses(outputs, targets, name)
    if not space.is_bounded():
        return lambda outputs, targets: ((outputs - targets) ** 2).mean(1)
    ends = (space.low.reshape(-1), space.high.reshape(-1))
    low, high = (torch.from_numpy(b).to(problem.device) for b in ends)
    middle, half = (low + high) / 2, (high - low) / 2
    return lambda outputs, targets: ((outputs.tanh() - (targets - middle) / half) ** 2).mean(1)
