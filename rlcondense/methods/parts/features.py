"""Features and errors of rows under a network, for selections."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcondense.cloning import cloning_updates
from rlcondense.config import check_choice, check_positive
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import LabelConfig, Problem
from rlcondense.networks import ENCODERS, NetworkSpec, PolicyNetwork, fresh_from
from rlcondense.policies import head_of
from rlcondense.types import Array

CHUNK = 512  # rows encoded at a time
BATCH = 64  # rows in an update


@dataclass(frozen=True)
class FeatureConfig(LabelConfig):
    """Settings of the features by which rows are compared.

    Attributes:
        network: network whose last hidden layer gives the features. For distances between
            rows they are scaled to unit length.
        updates: updates of behavioural cloning on the data beforehand, in batches of 64; 0 leaves
            the network as initialised.
    """

    network: str = "nature"
    updates: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "network", tuple(ENCODERS))
        if self.updates:
            check_positive(self, "updates")


def targets_of(problem: Problem, labels: str) -> Tensor:
    """Return the labels of all rows `(N, A)`: distributions, or continuous actions.

    Raises:
        BadConfig: soft labels are requested for continuous actions.
    """
    if problem.continuous and labels == "soft":
        raise BadConfig("soft labels are for discrete actions")
    if problem.continuous:
        targets = np.array(problem.dataset.actions, np.float32).reshape(len(problem.dataset), -1)
    elif labels == "soft":
        targets = problem.dataset.column("action_probs").astype(np.float32)
    else:
        targets = np.eye(problem.num_actions, dtype=np.float32)[np.asarray(problem.dataset.actions)]
    return torch.from_numpy(targets).to(problem.device)


def cloned_network(
    problem: Problem, network: str, updates: int, labels: str, seed: int
) -> PolicyNetwork:
    """Train a network by some updates of behavioural cloning on all the data.

    Args:
        problem: problem with the data.
        network: name of the network.
        updates: number of updates; 0 leaves the network as initialised.
        labels: `hard` or `soft`.
        seed: seed of the weights and of the batches.
    """
    dataset = problem.dataset
    size, head = head_of(problem.task.action_space)
    spec = NetworkSpec(network, dataset.observations.shape[1:], size, head=head)
    policy = fresh_from(spec, problem.device, seed)
    clone(policy, problem, targets_of(problem, labels), updates, np.random.default_rng(seed))
    return policy


def clone(
    policy: PolicyNetwork,
    problem: Problem,
    targets: Tensor,
    updates: int,
    rng: np.random.Generator,
) -> None:
    """Train a network in place by behavioural cloning of all the data.

    Args:
        policy: changed.
        problem: problem with the data.
        targets: `(N, A)` labels of the data.
        updates: number of updates, in batches of `BATCH` rows.
        rng: generator of the batches.
    """
    observations = problem.dataset.observations
    training = cloning_updates(policy, observations, targets, rng, batch_size=BATCH)
    for update, loss in enumerate(itertools.islice(training, updates), 1):
        if update % 20 == 0 or update == updates:
            problem.progress("train features", update, updates, f"loss {loss:.3f}")


@torch.no_grad()
def encode(network: PolicyNetwork, dataset: TransitionDataset) -> tuple[Array, Array]:
    """Compute features `(N, F)` and action probabilities `(N, A)` of all rows, float32.

    For a Gaussian head they are its means `(N, A)` instead of probabilities.
    """
    device = next(network.parameters()).device
    categorical = network.spec.head == "categorical"
    features, acts = [], []
    for start in range(0, len(dataset), CHUNK):
        batch = torch.from_numpy(np.array(dataset.observations[start : start + CHUNK]))
        encoded = network.features(batch.to(device))
        features.append(encoded.cpu().numpy())
        outputs = network.head(encoded)
        acts.append((outputs.softmax(1) if categorical else outputs).cpu().numpy())
    return np.concatenate(features), np.concatenate(acts)


def action_spread(problem: Problem) -> Tensor:
    """Return the standard deviations `(A,)` of the data's continuous actions."""
    actions = targets_of(problem, "hard")
    return actions.std(0, correction=0).clamp_min(1e-6)


def features_of(problem: Problem, config: FeatureConfig) -> tuple[Array, int]:
    """Return features of all rows scaled to unit length, and the number of gradients spent."""
    seed = int(problem.rng().integers(2**31))
    network = cloned_network(problem, config.network, config.updates, config.labels, seed)
    features, _ = encode(network, problem.dataset)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12), config.updates * BATCH
