"""PPO on Procgen as one would first write it, for `make bench` to compare the trainer with.

Same network, same settings, same threads as the trainer's; float32, channel-first frames kept as
floats, one loss after another, rewards and advantages in torch, nothing tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributions import Categorical

from rlcondense.networks import ENCODERS
from rlcondense.runtime.quiet_import import quiet_import

NUM_ENVS, EPOCHS, MINIBATCHES = 64, 2, 8


class Agent(nn.Module):
    def __init__(self, network: str) -> None:
        super().__init__()
        self.encoder = ENCODERS[network]((3, 64, 64))
        features = self.encoder.num_features
        assert isinstance(features, int)
        self.policy, self.value = nn.Linear(features, 15), nn.Linear(features, 1)

    def forward(self, observations: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        features = self.encoder(observations / 255.0)
        return Categorical(logits=self.policy(features)), self.value(features).squeeze(1)


def iterations(game: str, network: str, length: int, num_threads: int) -> Iterator[None]:
    """Roll out and update, once for each value that is asked for."""
    with quiet_import("procgen"):
        from procgen import ProcgenEnv

    envs = ProcgenEnv(
        num_envs=NUM_ENVS, env_name=game, num_levels=200, start_level=0,
        distribution_mode="easy", num_threads=num_threads,
    )  # fmt: skip

    try:
        yield from _iterations(envs, network, length)
    finally:
        envs.close()


def _iterations(envs: Any, network: str, length: int) -> Iterator[None]:
    def look(frames: object) -> torch.Tensor:
        return torch.tensor(frames["rgb"]).permute(0, 3, 1, 2).float()  # type: ignore[index]

    agent = Agent(network)
    optimiser = torch.optim.Adam(agent.parameters(), lr=5e-4, eps=1e-5)
    observations = torch.zeros(length, NUM_ENVS, 3, 64, 64)
    actions = torch.zeros(length, NUM_ENVS)
    log_probs, rewards, dones, values = (torch.zeros(length, NUM_ENVS) for _ in range(4))
    current, done = look(envs.reset()), torch.zeros(NUM_ENVS)
    while True:
        for t in range(length):
            observations[t], dones[t] = current, done
            with torch.no_grad():
                distribution, value = agent(current)
                action = distribution.sample()
            values[t], actions[t], log_probs[t] = value, action, distribution.log_prob(action)
            frames, reward, done, _ = envs.step(action.numpy())
            rewards[t], current, done = torch.tensor(reward), look(frames), torch.tensor(done * 1.0)
        with torch.no_grad():
            following = agent(current)[1]
        advantages, running = torch.zeros_like(rewards), torch.zeros(NUM_ENVS)
        for t in reversed(range(length)):
            alive = 1 - (done if t == length - 1 else dones[t + 1])
            after = following if t == length - 1 else values[t + 1]
            running = (
                rewards[t] + 0.999 * after * alive - values[t] + 0.999 * 0.95 * alive * running
            )
            advantages[t] = running
        flat = [x.reshape(length * NUM_ENVS, *x.shape[2:]) for x in (
            observations, actions, log_probs, advantages, advantages + values, values)]  # fmt: skip
        for _ in range(EPOCHS):
            for rows in torch.randperm(length * NUM_ENVS).chunk(MINIBATCHES):
                obs, act, old, advantage, target, before = (x[rows] for x in flat)
                distribution, value = agent(obs)
                ratio = (distribution.log_prob(act) - old).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy_loss = torch.max(
                    -advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)
                ).mean()
                moved = before + (value - before).clamp(-0.2, 0.2)
                value_loss = torch.max((value - target) ** 2, (moved - target) ** 2).mean() / 2
                loss = policy_loss - 0.01 * distribution.entropy().mean() + 0.5 * value_loss
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()
        yield
