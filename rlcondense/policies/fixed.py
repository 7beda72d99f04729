"""Policies that ignore the observation: uniform, marginal and constant ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from rlcondense.errors import BadConfig
from rlcondense.policies.base import PolicyBatch, normal, num_actions_of
from rlcondense.types import Array
from rlcondense.validation import check_action_space


class FixedPolicies(PolicyBatch):
    """Policies that ignore the observation and draw from one distribution over discrete actions.

    Args:
        probs: `(A,)` distribution: uniform for the random policy, the dataset's action
            frequencies for the marginal policy.
        seeds: learner seeds of the students that they are compared with.
    """

    def __init__(self, probs: Array, seeds: Sequence[int]) -> None:
        self.probs = np.asarray(probs, np.float64) / np.sum(probs)
        self.seeds = tuple(seeds)
        self.num_policies = len(self.seeds)

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        return np.broadcast_to(self.probs, (len(observations), len(self.probs)))


class UniformPolicies(PolicyBatch):
    """Policies that draw uniformly from a box of actions.

    Args:
        space: the box.
        seeds: learner seeds of the students that they are compared with.

    Raises:
        BadConfig: the box is unbounded.
    """

    def __init__(self, space: Box, seeds: Sequence[int]) -> None:
        if not space.is_bounded():
            raise BadConfig("a random policy over continuous actions needs a bounded space")
        self.space, self.seeds, self.num_policies = space, tuple(seeds), len(seeds)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        low, high = self.space.low, self.space.high
        return np.asarray(low + noise * (high - low), np.float32)


class GaussianPolicies(PolicyBatch):
    """Policies that ignore the observation and draw from one normal distribution of actions.

    Args:
        actions: `(N, A)`, whose mean and covariance the distribution has.
        space: the box that actions are clipped to.
        seeds: learner seeds of the students that they are compared with.
    """

    def __init__(self, actions: Array, space: Box, seeds: Sequence[int]) -> None:
        flat = actions.reshape(len(actions), -1).astype(np.float64)
        self.mean = flat.mean(0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(flat.T, bias=True)))
        self.root = vectors * np.sqrt(values.clip(min=0))
        self.space, self.seeds, self.num_policies = space, tuple(seeds), len(seeds)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        drawn = normal(noise.reshape(len(noise), -1))
        actions = (self.mean + drawn @ self.root.T).reshape(len(noise), *self.space.shape)
        return np.asarray(actions.clip(self.space.low, self.space.high), np.float32)


def random_policies(space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """Make the uniform random policy."""
    check_action_space(space, "the task")
    if isinstance(space, Box):
        return UniformPolicies(space, seeds)
    return FixedPolicies(np.ones(num_actions_of(space)), seeds)


def marginal_policies(actions: Array, space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """Make the policy that draws actions by their frequency in `actions` `(N,)`.

    For continuous actions `(N, A)` it draws from the normal distribution of their mean and
    covariance.
    """
    if isinstance(space, Box):
        return GaussianPolicies(actions, space, seeds)
    return FixedPolicies(np.bincount(actions, minlength=num_actions_of(space)), seeds)


def constant_policies(actions: Array, space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """Make the policy that always takes the most frequent action of `actions` `(N,)`.

    For continuous actions `(N, A)` it takes the mean. A greedy policy that ignores the observation
    is a constant policy.
    """
    policies = marginal_policies(actions, space, seeds)
    if isinstance(space, Box):
        policies = GaussianPolicies(np.stack([actions.mean(0)] * 2), space, seeds)
    policies.action_selection = "greedy"
    return policies
