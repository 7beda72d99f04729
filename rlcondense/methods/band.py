"""A band of difficulty by compute: episodes that are learned half-way through a student's training.

What is learned at once teaches little, and what is not learned by the end of the training teaches
nothing: which difficulty is right depends on the compute, and so it is measured by it. A network is
trained on all the data for as many updates as a student has. Now and then it is looked how much its
loss on an episode has come down from its first value towards the lowest,

    d = 1 - mean over looks of (first - loss) / (first - lowest),

0 for what is learned at once, 0.9 for what only the last of ten looks finds learned, and 1 for what
is never learned; the score is -|d - centre|. The
idea of an intermediate band that moves with the compute is CAD-Prune's; the measure is not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rlcondense.cloning import cloning_updates, losses_of_head
from rlcondense.config import check_positive, check_share
from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.features import (
    BATCH,
    CHUNK,
    FeatureConfig,
    cloned_network,
    targets_of,
)
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.networks import PolicyNetwork
from rlcondense.types import Array

LOOKS = 10


@dataclass(frozen=True)
class BandConfig(FeatureConfig):
    """Settings.

    Attributes:
        updates: number of updates of the network, as many as a student's: the compute for which
            difficulty is meant.
        centre: centre of the band, from 0 (learned at once) to 0.9 (at the end) and 1 (never).
    """

    updates: int = 800
    centre: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "updates")
        check_share(self, "centre")


class Band(EpisodeScorer[BandConfig]):
    """Keeps episodes that a student learns neither at once nor too late."""

    Config = BandConfig
    stochastic = True
    id = "band"

    def _score(self, problem: Problem) -> Scores:
        c = self.config
        losses = [Scores(x, "rows").of_episodes(problem.dataset) for x in self._losses(problem)]
        values = -np.abs(lateness(np.array(losses)) - c.centre)
        return Scores(values, gradient_evaluations=c.updates * BATCH)

    def _losses(self, problem: Problem) -> list[Array]:
        """Return the loss `(N,)` of every row before the training, and at each look."""
        c, seed = self.config, int(problem.rng().integers(2**31))
        network = cloned_network(problem, c.network, 0, c.labels, seed)
        observations, targets = problem.dataset.observations, targets_of(problem, c.labels)
        training = cloning_updates(network, observations, targets, np.random.default_rng(seed))
        looks = sorted({round(c.updates * (i + 1) / LOOKS) for i in range(LOOKS)} - {0})
        losses = [row_losses_of(network, observations, targets)]
        for update, loss in enumerate(itertools.islice(training, c.updates), 1):
            if update in looks:
                losses.append(row_losses_of(network, observations, targets))
                problem.progress("measure difficulty", update, c.updates, f"loss {loss:.3f}")
        return losses


def lateness(losses: Array) -> npt.NDArray[np.float64]:
    """Return the share of a training after which each episode is learned, 0 to 1.

    One that is learned at the last of ten looks has 0.9, and one whose loss never falls below its
    first is never learned: 1.

    Args:
        losses: `(1 + looks, E)`, the first before the training.
    """
    first, lowest = losses[0], losses.min(0)
    fallen = (first - losses[1:]) / np.maximum(first - lowest, 1e-12)
    return np.where(first > lowest, 1 - fallen.clip(0, 1).mean(0), 1.0)


@torch.no_grad()
def row_losses_of(network: PolicyNetwork, observations: Array, targets: torch.Tensor) -> Array:
    """Return the loss `(N,)` of a policy on each row."""
    losses_of, device = losses_of_head(network.spec.head), targets.device
    losses = []
    for start in range(0, len(observations), CHUNK):
        rows = slice(start, start + CHUNK)
        outputs = network(torch.from_numpy(np.array(observations[rows])).to(device))
        losses.append(losses_of(outputs, targets[rows]).cpu().numpy())
    return np.concatenate(losses)
