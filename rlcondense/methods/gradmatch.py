"""Gradient matching (Light, Liu and Hu, 2024, arXiv 2407.20299, equation 2), made to work.

    D_syn = argmin  E_{theta ~ P(theta)}  sum_a  d( grad_theta L(D_syn^a), grad_theta L(D^a) )

Theta is drawn anew in every iteration from the initial distribution of the method's own network,
as the equation says; classes are the actions that occur. From Zhao et al. (2021, arXiv
2006.05929) come the layer-wise cosine distance d and cross-entropy as L. Adam's step is counted in
grey levels and pixels stay within [0, 255], so that they do move and remain pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rlcondense.config import check_choice, check_positive
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.condensed import Displacement, MatchingLoss
from rlcondense.methods.random_balanced import balanced_rows
from rlcondense.networks import ENCODERS, NetworkSpec, PolicyNetwork

PROBES = 4  # networks, never trained on, that the matching loss before and after is measured on


@dataclass(frozen=True)
class GradMatchConfig:
    """Settings.

    Attributes:
        network: whose gradients are matched.
        iterations: networks drawn.
        learning_rate: Adam's, in grey levels a step.
        real_batch: real frames of each action in each iteration.
        labels: `hard` (the action taken) or `soft` (the distribution it was drawn from).
    """

    network: str = "nature"
    iterations: int = 150
    learning_rate: float = 1.0
    real_batch: int = 32
    labels: str = "hard"

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "learning_rate", "real_batch")
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "labels", ("hard", "soft"))


class GradMatch(Method[GradMatchConfig]):
    """Learns pixels; each synthetic frame keeps the label of the real frame it starts from."""

    Config = GradMatchConfig
    label_kinds = ("hard", "soft")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "gradmatch"

    def _condense(self, problem: Problem) -> Condensation:
        c, rng = self.config, problem.rng()
        match = _Matching(problem, c, rng)
        before = match.probe()
        optimiser = torch.optim.Adam([match.d_syn], lr=c.learning_rate)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            for iteration in range(c.iterations):
                theta = match.draw_theta()
                optimiser.zero_grad()
                loss = match.backward(theta, rng)
                optimiser.step()
                with torch.no_grad():
                    match.d_syn.clamp_(0, 255)
                problem.progress(
                    "condense", iteration + 1, c.iterations, f"matching loss {loss:.3f}"
                )
        after = match.probe()
        return Condensation(
            {**match.labels, "observations": match.d_syn.detach().cpu().numpy()},
            label_kind=c.labels,
            initial_indices=match.rows,
            gradient_evaluations=match.gradient_evaluations,
            displacement=Displacement.between(match.d_syn.detach(), match.start),
            matching_loss=MatchingLoss(before, after),
        )


class _Matching:
    """D_syn, and its distance from the data under a network theta."""

    def __init__(self, problem: Problem, config: GradMatchConfig, rng: np.random.Generator) -> None:
        dataset = problem.dataset
        self.config, self.dataset, self.seed = config, dataset, problem.seed
        self.device = problem.device
        self.gradient_evaluations = 0
        actions = np.asarray(dataset.actions)
        self.rows = rows = balanced_rows(actions, problem.size, rng)
        initial = select(dataset, rows, config.labels).columns
        if config.labels == "soft":
            self.targets = dataset.column("action_probs")
            self.labels = {name: initial[name] for name in ("actions", "action_probs")}
        else:
            self.targets = np.eye(problem.num_actions, dtype=np.float32)[actions]
            self.labels = {"actions": initial["actions"]}
        self.spec = NetworkSpec(config.network, dataset.observations.shape[1:], problem.num_actions)
        frames = torch.from_numpy(initial["observations"].astype(np.float32))
        self.start = frames.to(self.device)
        self.d_syn = self.start.clone().requires_grad_()
        self.syn_targets = torch.from_numpy(self.targets[rows]).to(self.device)
        self.buckets = _buckets(initial["actions"])
        self.rows_of = {a: np.flatnonzero(actions == a) for a in self.buckets}

    def draw_theta(self) -> PolicyNetwork:
        """theta ~ P(theta), from torch's global state."""
        return PolicyNetwork(self.spec).to(self.device)

    def real_batch(self, action: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Frames of an action, and their targets."""
        rows = self.rows_of[action]
        if len(rows) > self.config.real_batch:
            rows = np.sort(rng.choice(rows, self.config.real_batch, replace=False))
        frames = torch.from_numpy(np.asarray(self.dataset.observations[rows]))
        return frames.to(self.device), torch.from_numpy(self.targets[rows]).to(self.device)

    def backward(self, theta: PolicyNetwork, rng: np.random.Generator) -> float:
        """Add the distance's gradient to the pixels', action by action, and give the distance."""
        total = 0.0
        for action, bucket in self.buckets.items():
            frames, targets = self.real_batch(action, rng)
            g_real = _gradient(theta, frames, targets)
            g_syn = _gradient(
                theta, self.d_syn[bucket], self.syn_targets[bucket], create_graph=True
            )
            loss = layerwise_cosine(g_syn, g_real)
            loss.backward(inputs=[self.d_syn])  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self.gradient_evaluations += len(frames) + bucket.stop - bucket.start
        return total

    def probe(self) -> float:
        """The mean distance on networks and real batches that are the same at every call."""
        rng = np.random.default_rng([self.seed, 1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 2**32)  # other networks than condensation draws
            distances = [self.backward(self.draw_theta(), rng) for _ in range(PROBES)]
        self.d_syn.grad = None
        return float(np.mean(distances))


def layerwise_cosine(g_syn: list[Tensor], g_real: list[Tensor]) -> Tensor:
    """One minus the cosine of two gradients, summed over the network's weight tensors."""
    return torch.stack(
        [
            1 - F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
            for a, b in zip(g_syn, g_real, strict=True)
        ]
    ).sum()


def _gradient(
    theta: PolicyNetwork, observations: Tensor, targets: Tensor, create_graph: bool = False
) -> list[Tensor]:
    loss = F.cross_entropy(theta(observations), targets)
    return list(torch.autograd.grad(loss, list(theta.parameters()), create_graph=create_graph))


def _buckets(actions: npt.NDArray[Any]) -> dict[int, slice]:
    """The rows of each action in an array sorted by action."""
    present, starts = np.unique(actions, return_index=True)
    stops = [*starts[1:], len(actions)]
    return {int(a): slice(int(s), int(e)) for a, s, e in zip(present, starts, stops, strict=True)}
