"""Policies for batches of environments, and the noise that they sample actions with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space
from gymnasium.spaces import Discrete

from rlcondense.errors import BadConfig
from rlcondense.types import Array
from rlcondense.validation import check_action_space, checked_distributions, owner_of

ACTION_SELECTIONS = ("sample", "greedy")

MOST_SAID = 200  # characters of the reason why a file holds no policies


class PolicyBatch:
    """Batch of S policies of one shape.

    A subclass implements `action_probs` for discrete actions, or `act` for continuous ones.

    Attributes:
        num_policies: S.
        seeds: the learner seed of each.
        action_selection: `sample` or `greedy`.
        acts_together: whether one `act` for several policies is faster than one for each. Such
            policies depend on the current observation alone.
    """

    num_policies: int
    seeds: tuple[int, ...]
    action_selection: str = "sample"
    acts_together: bool = False

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        """Return the distribution over actions `(B, A)` of each observation under its policy."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution over actions")

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        """Choose actions.

        Args:
            observations: `(B, *observation)`.
            policy_index: `(B,)`, the policy that acts on each observation.
            noise: `(B,)`, or `(B, A)` for continuous actions, uniform in [0, 1): the only source
                of randomness.

        Returns:
            `(B,)` int64 actions, or `(B, A)` float32.
        """
        probs = checked_distributions(self.action_probs(observations, policy_index), owner_of(self))
        if self.action_selection == "greedy":
            return np.asarray(probs.argmax(1))
        return sample_actions(probs, noise)

    def player(self, policy: int, num_envs: int) -> Player:
        """Return the player of policy number `policy` for `num_envs` environments."""
        return Player(self, policy)


class Player:
    """Player of one policy that depends on the current observation alone.

    A policy with memory overrides `PolicyBatch.player` to return a player with a memory for each
    environment.

    Args:
        policies: the batch.
        policy: number of the policy in the batch.
    """

    def __init__(self, policies: PolicyBatch, policy: int) -> None:
        self._policies, self._policy = policies, policy

    def act(self, observations: Array, environments: Array, noise: Array) -> Array:
        """Choose actions for the environments `(B,)` that are still running."""
        which = np.full(len(observations), self._policy)
        return self._policies.act(observations, which, noise)

    def observe(self, environments: Array, rewards: Array, ended: Array) -> None:
        """Receive the rewards `(B,)` of the last actions and their episodes' ends `(B,)`."""


def sample_actions(probs: Array, noise: Array) -> npt.NDArray[np.int64]:
    """Draw `(B,)` actions from `(B, A)` probabilities by inverting their cumulative sums."""
    cumulative = probs.astype(np.float64).cumsum(1)
    below = noise[:, None] * cumulative[:, -1:] >= cumulative
    return np.asarray(below.sum(1).clip(max=probs.shape[1] - 1))


def normal(noise: Array) -> npt.NDArray[np.float64]:
    """Map uniform noise in [0, 1) to standard normal noise by the inverse distribution function."""
    from scipy.special import ndtri

    return np.asarray(ndtri(noise.clip(1e-12, 1 - 1e-12)))


def noise_stream(
    evaluation_seed: int, learner_seed: int, num_envs: int, action_shape: tuple[int, ...] = ()
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield uniform noise `(E, *action)` for each step, from a counter-based generator.

    It is a function of the two seeds, the number of environments, the environment and the step, so
    that an action never depends on which other policies are evaluated at the same time.
    """
    key = np.array([evaluation_seed, learner_seed], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random((num_envs, *action_shape))


def num_actions_of(space: Space[Any]) -> int:
    """Return the number of discrete actions of a space.

    Raises:
        BadConfig: it is neither discrete, from 0 on, nor, elsewhere, a box.
    """
    check_action_space(space, "the task")
    if not isinstance(space, Discrete):
        raise BadConfig(f"action space {space} is no discrete one")
    return int(space.n)
