"""Training that can be differentiated: what a student becomes, as a function of its data.

Memory is bounded by checkpoints (Chen et al., 2016, arXiv 1604.06174): of a long training only the
state at the beginning of each segment is kept, and a segment's own steps are computed again when
its gradient is wanted.
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
from rlcondense.networks import NetworkSpec

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
    """The value of what some steps lead to, and its gradient for what they depend on.

    Args:
        step: the state after a step, given its number, the state before, the inputs, and whether
            the new state is to be differentiable.
        outer: of the last state.
        state: the first.
        steps: their numbers.
        inputs: whose gradients are wanted; those that need none get zeros.
        segment: steps whose graph is held at a time.

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
    """Inputs to differentiate for without what they were made of, which is gone through once."""
    return [x.detach().requires_grad_(x.requires_grad) for x in inputs]


def add_gradients(
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    leaves: list[Tensor],
    longest: float | None = None,
) -> None:
    """Go on from inputs to what they were made of, and scale the gradients of the leaves.

    Those that come back through many updates differ by orders of magnitude. By default each leaf's
    has length 1, so that Adam takes all iterations alike; with `longest` they are shortened
    together to that length, if they are longer.
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
    """The updates of a network on rows that are inputs to be differentiated for.

    The state is the network's parameters, and for Adam the two moments of each.

    Args:
        network: whose form the students have; its own parameters are not touched.
        losses: of outputs `(B, A)` and targets: `(B,)`.
        optimiser: `sgd`, plain, or `adam`.
        rate: step size; None where it is the third input.
        batches: the rows of each step by its number; None for all rows.
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
        """The state of a training that starts with a network's parameters."""
        theta = [p.detach().clone() for p in parameters]
        moments = [torch.zeros_like(p) for p in theta]
        return [*theta, *moments, *(m.clone() for m in moments)] if self._adam else theta

    def outputs(self, state: Sequence[Tensor], observations: Tensor) -> Tensor:
        """Outputs `(B, A)` of a student."""
        theta = dict(zip(self._names, state, strict=False))
        outputs: Tensor = functional_call(self._network, theta, (observations,))
        return outputs

    def __call__(
        self, i: int, state: list[Tensor], inputs: Sequence[Tensor], differentiable: bool
    ) -> list[Tensor]:
        """The state after update `i`.

        Args:
            i: counted from the beginning of the training.
            state: before it.
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
    """Which students a synthetic dataset is made for.

    Attributes:
        network: of the students; None is `nature` for frames and the paper's MLP for vectors, four
            layers of 256 with the last.
        loss: of discrete actions, `cross-entropy`, `softmax-mse`, `softmax-mae`, or `logit-mse`,
            whose learned labels are real-valued targets of the logits; of continuous actions it is
            the squared error.
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
    if config.network is None and len(problem.dataset.observations.shape) == 4:
        config = replace(config, network="nature")
    elif config.network is None:
        width, depth = config.width or 256, config.depth or 3
        config = replace(config, network="mlp", width=width, depth=depth)
    return network_spec(problem, config, problem.num_outputs)


def losses_of(problem: Problem, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss `(B,)` of outputs `(B, A)` for a task's actions.

    For continuous actions with bounds the outputs pass through tanh, and errors are in halves of
    the range, as d3rlpy's cloning has it; without bounds they are taken as they are.
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
