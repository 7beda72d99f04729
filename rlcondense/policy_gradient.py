"""Policy gradients: distributions of actions, advantages and the clipped losses of PPO.

Schulman et al. (2017, arXiv 1707.06347); Schulman et al. (2016, arXiv 1506.02438).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from rlcondense.cloning import gaussian_losses
from rlcondense.errors import BadConfig
from rlcondense.limits import check_most


class Categorical:
    """Distributions over discrete actions from logits `(B, A)`."""

    def __init__(self, outputs: Tensor) -> None:
        self._log_probs = outputs.log_softmax(1)

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self._log_probs.exp(), 1, generator=generator).squeeze(1)

    def log_probs(self, actions: Tensor) -> Tensor:
        return self._log_probs.gather(1, actions[:, None]).squeeze(1)

    def entropy(self) -> Tensor:
        return -(self._log_probs.exp() * self._log_probs).sum(1)


class Gaussian:
    """Distributions over vectors from means and log standard deviations `(B, 2A)`."""

    def __init__(self, outputs: Tensor) -> None:
        self._outputs = outputs
        self._mean, self._log_std = outputs.chunk(2, 1)

    def draw(self, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(self._mean).normal_(generator=generator)
        return self._mean + self._log_std.exp() * noise

    def log_probs(self, actions: Tensor) -> Tensor:
        return -gaussian_losses(self._outputs, actions)

    def entropy(self) -> Tensor:
        return (self._log_std + math.log(2 * math.pi * math.e) / 2).sum(1)


DISTRIBUTIONS: dict[str, type[Categorical] | type[Gaussian]] = {
    "categorical": Categorical,
    "gaussian": Gaussian,
}


def possible(actions: npt.NDArray[Any], space: Space[Any]) -> npt.NDArray[Any]:
    """Clip drawn actions `(B, ...)` to their space."""
    if not isinstance(space, Box):
        return actions
    return actions.reshape(len(actions), *space.shape).clip(space.low, space.high)


class RewardScale:
    """Rewards divided by the running standard deviation of the discounted return.

    Args:
        num_envs: N, the number of parallel environments.
        discount: gamma.
    """

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount = discount
        self.returns = np.zeros(num_envs)
        self.moments = np.array([0.0, 1.0, 1e-4])  # mean, variance, count

    def __call__(
        self, rewards: npt.NDArray[np.float32], first: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Scale the `(N,)` rewards of one step, in which the episodes of `first` have ended."""
        self.returns = self.returns * self.discount + rewards
        mean, variance, count = self.moments
        n, delta = len(rewards), self.returns.mean() - mean
        total = count + n
        spread = variance * count + self.returns.var() * n + delta**2 * count * n / total
        self.moments = np.array([mean + delta * n / total, spread / total, total])
        self.returns[first] = 0
        scaled = np.clip(rewards / np.sqrt(self.moments[1] + 1e-8), -10, 10)
        return np.asarray(scaled, np.float32)


def check_rollout(num_envs: int, rollout_length: int) -> None:
    """Refuse a rollout of too many transitions, or of one, whose advantage has no deviation.

    Raises:
        BadConfig: it is one.
    """
    played = num_envs * rollout_length
    check_most("num_envs x rollout_length", played, "transitions of a rollout")
    if played < 2:
        raise BadConfig("a rollout has two transitions at least, whose advantages differ")


def check_cuts(cut: npt.NDArray[np.bool_], infos: Mapping[str, Any], task: str) -> None:
    """Refuse truncated episodes whose last observation, whose value goes on, nobody is told.

    Args:
        cut: `(N,)` which episodes were truncated.
        infos: of that step.
        task: id of the task, for the message.
    """
    if cut.any() and "final_obs" not in infos:
        raise BadConfig(
            f"{task!r} cannot be trained on: its episodes are cut, and its environments' infos "
            "lack the 'final_obs' that they are cut at"
        )


def advantages_of(
    rewards: npt.NDArray[np.float32],
    values: npt.NDArray[np.float32],
    first: npt.NDArray[np.bool_],
    cut_values: npt.NDArray[np.float32],
    discount: float,
    gae_lambda: float,
) -> npt.NDArray[np.float32]:
    """Compute generalised advantage estimates `(T, N)` (Schulman et al., 2016, equation 16).

    Args:
        rewards: `(T, N)`.
        values: `(T + 1, N)` of the observations, the last of which no action follows.
        first: `(T, N)` whether an episode ended with a step.
        cut_values: `(T, N)` values of the observations at which episodes were cut off, else 0.
        discount: gamma.
        gae_lambda: lambda.
    """
    advantages = np.empty_like(rewards)
    running = np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        alive = (~first[t]).astype(np.float32)
        after = alive * values[t + 1] + cut_values[t]
        delta = rewards[t] + discount * after - values[t]
        running = delta + discount * gae_lambda * alive * running
        advantages[t] = running
    return advantages


def standardised_advantages(advantages: Tensor) -> Tensor:
    """Shift and scale advantages to mean 0 and deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def policy_loss(
    distribution: Categorical | Gaussian, batch: Mapping[str, Tensor], clip: float
) -> Tensor:
    """Compute the clipped loss of a policy (Schulman et al., 2017, equation 7).

    Args:
        distribution: the current distributions.
        batch: `actions`, and, `(B,)` each, their `log_probs` at collection and `advantages`.
        clip: range of the probability ratio.
    """
    ratio = (distribution.log_probs(batch["actions"]) - batch["log_probs"]).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.min(ratio * batch["advantages"], clipped * batch["advantages"]).mean()


def value_loss(values: Tensor, batch: Mapping[str, Tensor], clip: float) -> Tensor:
    """Compute half the squared error of values `(B,)`, whose change is clipped.

    Args:
        values: the current values.
        batch: `(B,)` `values` at collection and `returns`.
        clip: range of the change.
    """
    moved = (values - batch["values"]).clamp(-clip, clip) + batch["values"]
    errors = torch.max((values - batch["returns"]) ** 2, (moved - batch["returns"]) ** 2)
    return errors.mean() / 2
