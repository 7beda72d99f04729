"""Gradient matching as coded by Light, Liu and Hu (2024, arXiv 2407.20299).

Gradients of the mean squared error of softmax against one-hot are taken on the fixed, trained
expert; each action has a bucket of size/15 frames, which starts as real frames of that action; the
loss is the sum of squared differences of the whole gradient; only pixels are learned, by SGD,
without bounds. Two faults of the code are not copied: rows that stay uninitialised if an action has
few frames, and NaN if it has none.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlcondense.cloning import row_losses
from rlcondense.config import check_positive, check_share
from rlcondense.datasets.report import Displacement, MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.parts.synthetic import optimiser_state, restore_optimiser
from rlcondense.methods.random_balanced import balanced_rows
from rlcondense.networks import PolicyNetwork
from rlcondense.runtime.checkpoint import Checkpoint
from rlcondense.runtime.progress import RESUMED

CHUNK = 256  # frames of one forward pass of a real gradient


@dataclass(frozen=True)
class Light2024Config:
    """Settings; the defaults are the published ones for starpilot.

    Attributes:
        iterations: steps of SGD.
        learning_rate: step size of SGD.
        momentum: momentum of SGD.
        real_batch: number of real frames of each action in an iteration (published: 75 for jumper,
            256 for bigfish, 2048 for starpilot); all frames of an action that has fewer.
    """

    iterations: int = 1000
    learning_rate: float = 0.1
    momentum: float = 0.5
    real_batch: int = 2048

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "learning_rate", "real_batch")
        check_share(self, "momentum", below_one=True)


class GradMatchLight2024(Method[Light2024Config]):
    """Gradient matching as published; its expert is the one that played the dataset.

    Paper: iterations=1000, learning_rate=0.1, momentum=0.5, real_batch=2048
    """

    Config = Light2024Config
    needs = frozenset({"expert"})
    gives = frozenset({"observations", "actions"})
    id = "gradmatch-light2024"

    def _condense(self, problem: Problem) -> Condensation:
        c, dataset, rng = self.config, problem.dataset, problem.rng()
        assert problem.expert is not None
        if len(shape := dataset.observations.shape[1:]) != 3:
            raise BadConfig(
                f"method {self.id!r} learns pixels in grey levels: task {problem.task.id!r} shows "
                f"{shape}, no frames (gradmatch takes vectors)"
            )
        theta = copy.deepcopy(problem.expert.network).to(problem.device)
        parameters = list(theta.parameters())
        actions = np.asarray(dataset.actions)
        initial_rows = balanced_rows(actions, problem.size, rng)
        initial = select(dataset, initial_rows)
        labels = initial.columns["actions"]

        start = torch.from_numpy(initial.columns["observations"].astype(np.float32))
        start = start.to(problem.device)
        d_syn = start.clone().requires_grad_()
        rows_of = {int(a): np.flatnonzero(actions == a) for a in np.unique(labels)}
        evaluations = 0

        def real_gradient(action: int) -> Tensor:
            """Compute the mean gradient of a batch of the action's frames, flat."""
            nonlocal evaluations
            rows = rows_of[action]
            if len(rows) > c.real_batch:
                rows = np.sort(rng.choice(rows, c.real_batch, replace=False))
            evaluations += len(rows)
            total = torch.zeros((), device=problem.device)
            for part in np.array_split(rows, -(-len(rows) // CHUNK)):
                frames = torch.from_numpy(np.asarray(dataset.observations[part]))
                share = len(part) / len(rows)
                total = total + share * gradient(
                    theta, parameters, frames.to(problem.device), action
                )
            return total

        # If a batch holds all frames of an action, its gradient on a fixed theta is fixed too.
        fixed = {a: real_gradient(a) for a, rows in rows_of.items() if len(rows) <= c.real_batch}
        optimiser = torch.optim.SGD([d_syn], lr=c.learning_rate, momentum=c.momentum)
        first, losses = 0, []
        if facts := _resumed(problem.checkpoint, d_syn, optimiser, rng):
            first, evaluations = facts["iteration"], facts["evaluations"]
            losses = facts["losses"]
            problem.progress("condense", first, c.iterations, RESUMED)
        for iteration in range(first, c.iterations + 1):
            if problem.checkpoint and problem.checkpoint.due:
                facts = {"iteration": iteration, "evaluations": evaluations}
                _keep(problem.checkpoint, d_syn, optimiser, rng, losses, facts)
            loss = torch.zeros((), device=problem.device)
            optimiser.zero_grad()
            for action in rows_of:
                target = fixed[action] if action in fixed else real_gradient(action)
                bucket = d_syn[torch.from_numpy(np.flatnonzero(labels == action))]
                g_syn = gradient(theta, parameters, bucket, action, create_graph=True)
                part = ((g_syn - target) ** 2).sum()
                part.backward(inputs=[d_syn])  # type: ignore[no-untyped-call]
                loss += part.detach()
            losses.append(float(loss))
            evaluations += len(d_syn)
            if iteration < c.iterations:
                optimiser.step()
                note = f"matching loss {losses[-1]:.3g}"
                problem.progress("condense", iteration + 1, c.iterations, note)

        return Condensation(
            {"observations": d_syn.detach().cpu().numpy(), "actions": labels},
            initial_indices=initial_rows,
            gradient_evaluations=evaluations,
            displacement=Displacement.between(d_syn.detach(), start),
            matching_loss=MatchingLoss(losses[0], losses[-1]),
        )


def _keep(
    checkpoint: Checkpoint,
    d_syn: Tensor,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    losses: list[float],
    facts: dict[str, Any],
) -> None:
    arrays = {
        "pixels": d_syn.detach().cpu().numpy(),
        "losses": np.array(losses),  # no numbers for JSON if they diverge
        **optimiser_state("sgd", optimiser),
    }
    checkpoint.write(arrays, {**facts, "rng": rng.bit_generator.state})


def _resumed(
    checkpoint: Checkpoint | None,
    d_syn: Tensor,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Restore everything and return the facts that were kept, or None if nothing was."""
    saved = checkpoint.read() if checkpoint else None
    if saved is None:
        return None
    arrays, facts = saved
    with torch.no_grad():
        d_syn.copy_(torch.from_numpy(arrays["pixels"]))
    restore_optimiser("sgd", optimiser, arrays)
    rng.bit_generator.state = facts["rng"]
    return {**facts, "losses": arrays["losses"].tolist()}


def gradient(
    theta: PolicyNetwork,
    parameters: list[torch.nn.Parameter],
    observations: Tensor,
    action: int,
    create_graph: bool = False,
) -> Tensor:
    """Compute the flat gradient of the published loss: the mean over rows and actions of `(softmax
    - one-hot)^2`.

    Args:
        theta: a network.
        parameters: parameters of the network; their gradients are concatenated in this order.
        observations: `(B, *observation)`, all labelled with the same action.
        action: the label.
        create_graph: whether the gradient can be differentiated.
    """
    logits = theta(observations)
    labels = torch.full((len(logits),), action, device=logits.device)
    loss = row_losses(logits, F.one_hot(labels, logits.shape[1]).float(), "softmax-mse").mean()
    grads = torch.autograd.grad(loss, parameters, create_graph=create_graph)
    return torch.cat([g.flatten() for g in grads])
