"""What acts: policies for batches of environments, and the noise that they draw from."""

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

MOST_SAID = 200  # characters of why a file holds no policies


class PolicyBatch:
    """S policies of one shape.

    Over discrete actions, a subclass writes `action_probs`; over continuous ones, `act`.

    Attributes:
        num_policies: S.
        seeds: the learner seed of each.
        action_selection: `sample` or `greedy`.
        acts_together: whether one `act` for several policies is faster than one for each. Such
            policies look at the observation alone.
    """

    num_policies: int
    seeds: tuple[int, ...]
    action_selection: str = "sample"
    acts_together: bool = False

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        """The distribution over actions `(B, A)` of each observation under its policy."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution over actions")

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        """Choose actions.

        Args:
            observations: `(B, *observation)`.
            policy_index: `(B,)`, which policy acts on which observation.
            noise: `(B,)`, or `(B, A)` for continuous actions, uniform in [0, 1), which alone
                decides among likely actions.

        Returns:
            `(B,)` int64 actions, or `(B, A)` float32.
        """
        probs = checked_distributions(self.action_probs(observations, policy_index), owner_of(self))
        if self.action_selection == "greedy":
            return np.asarray(probs.argmax(1))
        return sample_actions(probs, noise)

    def player(self, policy: int, num_envs: int) -> Player:
        """The policy numbered `policy`, ready to play in `num_envs` environments."""
        return Player(self, policy)


class Player:
    """One policy of a batch at play, for policies that look at the observation alone.

    A policy that remembers overrides `PolicyBatch.player` with one that keeps a memory for each
    environment.

    Args:
        policies: the batch.
        policy: which of it plays.
    """

    def __init__(self, policies: PolicyBatch, policy: int) -> None:
        self._policies, self._policy = policies, policy

    def act(self, observations: Array, environments: Array, noise: Array) -> Array:
        """Choose actions for the environments `(B,)` that still play."""
        which = np.full(len(observations), self._policy)
        return self._policies.act(observations, which, noise)

    def observe(self, environments: Array, rewards: Array, ended: Array) -> None:
        """Be told, `(B,)` each, what the last actions gave, and whether their episodes ended."""


def sample_actions(probs: Array, noise: Array) -> npt.NDArray[np.int64]:
    """Draw `(B,)` actions from `(B, A)` probabilities by inverting their cumulative sums."""
    cumulative = probs.astype(np.float64).cumsum(1)
    below = noise[:, None] * cumulative[:, -1:] >= cumulative
    return np.asarray(below.sum(1).clip(max=probs.shape[1] - 1))


def normal(noise: Array) -> npt.NDArray[np.float64]:
    """Standard normal draws of uniform noise in [0, 1), by the inverse of their distribution."""
    from scipy.special import ndtri

    return np.asarray(ndtri(noise.clip(1e-12, 1 - 1e-12)))


def noise_stream(
    evaluation_seed: int, learner_seed: int, num_envs: int, action_shape: tuple[int, ...] = ()
) -> Iterator[npt.NDArray[np.float64]]:
    """Uniform noise `(E, *action)` for each step in turn, from a counter-based generator.

    It is a function of the two seeds, the environment and the step, so that an action never
    depends on what else was evaluated beside it.
    """
    key = np.array([evaluation_seed, learner_seed], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random((num_envs, *action_shape))


def num_actions_of(space: Space[Any]) -> int:
    """How many discrete actions a space has.

    Raises:
        BadConfig: it is neither discrete, from 0 on, nor, elsewhere, a box.
    """
    check_action_space(space, "the task")
    if not isinstance(space, Discrete):
        raise BadConfig(f"action space {space} is no discrete one")
    return int(space.n)
