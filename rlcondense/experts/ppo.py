"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) on Procgen.

Hyper-parameters and reward normalisation follow Cobbe et al. (2020, arXiv 1912.01588), appendix D.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import (
    canonical_json,
    make_folder,
    read_arrays,
    write_arrays,
    write_bytes,
)
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.procgen import ProcgenVectorEnv

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60
LOG = "log.jsonl"


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the trainer; the defaults are those of Cobbe et al. (2020).

    Attributes:
        network: `impala` or `nature`.
        steps: environment steps in all.
        num_envs: parallel environments.
        rollout_length: steps of each environment between updates.
        epochs: passes over each rollout.
        minibatches: minibatches of each pass.
        learning_rate: of Adam.
        anneal: lower the learning rate linearly to zero (Cobbe et al. do not).
        discount: gamma.
        gae_lambda: of generalised advantage estimation.
        clip: range of the probability ratio, and of the value's change.
        entropy_bonus: weight of the policy's entropy.
        value_weight: weight of the value loss.
        max_gradient_norm: gradients are clipped to it.
        precision: `float32`, or `bfloat16` for the encoder under autocast.
        seed: of the network, the levels and the actions.
    """

    network: str = "impala"
    steps: int = 25_000_000
    num_envs: int = 64
    rollout_length: int = 256
    epochs: int = 3
    minibatches: int = 8
    learning_rate: float = 5e-4
    anneal: bool = False
    discount: float = 0.999
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_bonus: float = 0.01
    value_weight: float = 0.5
    max_gradient_norm: float = 0.5
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise BadConfig(f"precision must be float32 or bfloat16, not {self.precision!r}")
        for name in ("steps", "num_envs", "rollout_length", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise BadConfig(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def batch_size(self) -> int:
        """Transitions of one rollout."""
        return self.num_envs * self.rollout_length


class ActorCritic(PolicyNetwork):
    """A policy network with a second head for the state's value."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.value_head = nn.Linear(self.num_features, 1)
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module in self.encoder.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.orthogonal_(module.weight, 2**0.5)
                nn.init.zeros_(_bias(module))
        for head, gain in ((self.head, 0.01), (self.value_head, 1.0)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(_bias(head))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def logits_and_value(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, A)` and values `(B,)` of `(B, C, H, W)` observations."""
        features = self.features(observations)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features), self.value_head(features).squeeze(1)


@dataclass(frozen=True)
class Trained:
    """What training leaves: the networks and what it took.

    Attributes:
        network: policy and value network.
        steps: environment steps taken.
        seconds: wall time, earlier runs before a resume included.
        recent_return: mean return of the last 100 training episodes.
    """

    network: ActorCritic
    steps: int
    seconds: float
    recent_return: float


class _RewardScale:
    """Divides rewards by the running standard deviation of the discounted return."""

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount = discount
        self.returns = np.zeros(num_envs)
        self.moments = np.array([0.0, 1.0, 1e-4])  # mean, variance, count

    def __call__(
        self, rewards: npt.NDArray[np.float32], first: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        self.returns = self.returns * self.discount + rewards
        mean, variance, count = self.moments
        n, delta = len(rewards), self.returns.mean() - mean
        total = count + n
        spread = variance * count + self.returns.var() * n + delta**2 * count * n / total
        self.moments = np.array([mean + delta * n / total, spread / total, total])
        self.returns[first] = 0
        scaled = np.clip(rewards / np.sqrt(self.moments[1] + 1e-8), -10, 10)
        return np.asarray(scaled, np.float32)


class Trainer:
    """One run of PPO, which can be stopped after any rollout and taken up again.

    Args:
        task: trained on its seen levels.
        config: settings.
        out: folder of the checkpoint and of the log, a JSON object a line.
        device: `cpu` or `cuda`.
        resume: go on from the folder's checkpoint, if there is one.
        num_threads: threads that step the environments.
    """

    def __init__(
        self,
        task: Task,
        config: PPOConfig,
        out: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        num_threads: int = 2,
    ) -> None:
        self.task, self.config, self.out = task, config, out
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        shape = task.observation_space.shape
        assert shape is not None
        num_actions = int(task.action_space.n)  # type: ignore[attr-defined]
        self.network = ActorCritic(NetworkSpec(config.network, shape, num_actions)).to(self.device)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, eps=1e-5
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        env = task.make_vec(
            "seen", config.num_envs, seed=config.seed, num_threads=num_threads, copy=False
        )
        assert isinstance(env, ProcgenVectorEnv), "checkpoints need environments with a state"
        self.env = env
        self.observations, _ = env.reset()
        self.reward_scale = _RewardScale(config.num_envs, config.discount)
        self.episode_returns = np.zeros(config.num_envs)
        self.recent: deque[float] = deque(maxlen=100)
        self.steps, self.seconds = 0, 0.0
        self.buffer = self._allocate()
        make_folder(out)
        if resume and (out / CHECKPOINT).exists():
            self._restore(read_arrays(out / CHECKPOINT))
        self._cut_log()

    def _allocate(self) -> dict[str, Tensor]:
        t, n = self.config.rollout_length, self.config.num_envs
        frame = self.observations.transpose(0, 2, 3, 1).shape[1:]
        return {
            "frames": torch.empty((t, n, *frame), dtype=torch.uint8, device=self.device),
            "actions": torch.empty((t, n), dtype=torch.int64, device=self.device),
            "log_probs": torch.empty((t, n), device=self.device),
            "values": torch.empty((t + 1, n), device=self.device),
            "rewards": torch.empty((t, n), device=self.device),
            "first": torch.empty((t, n), device=self.device),
        }

    def _cut_log(self) -> None:
        """Drop what was logged after the checkpoint: those steps are taken again."""
        log = self.out / LOG
        lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
        kept = [line for line in lines if _logged_steps(line) <= self.steps]
        write_bytes(log, b"".join(kept))

    def train(self, progress: Progress = silent) -> Trained:
        """Train to `config.steps`, writing a checkpoint every minute and at the end."""
        saved = time.monotonic()
        while self.steps < self.config.steps:
            started = time.monotonic()
            self._rollout()
            losses = self._update()
            elapsed = time.monotonic() - started
            self.steps += self.config.batch_size
            self.seconds += elapsed
            self._report(progress, losses, self.config.batch_size / elapsed)
            if self.steps >= self.config.steps or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
        return Trained(self.network, self.steps, self.seconds, self._recent_return())

    def _recent_return(self) -> float:
        return float(np.mean(self.recent)) if self.recent else float("nan")

    def _report(self, progress: Progress, losses: dict[str, float], rate: float) -> None:
        recent = self._recent_return()
        entry = {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(rate),
            "return": None if np.isnan(recent) else round(recent, 3),
            **{name: round(value, 5) for name, value in losses.items()},
        }
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")
        progress("train", self.steps, self.config.steps, f"return {recent:.2f}, {rate:.0f} steps/s")

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bfloat16"
        )

    def _frames(self) -> Tensor:
        return torch.from_numpy(self.observations.transpose(0, 2, 3, 1)).to(self.device)

    @torch.no_grad()
    def _rollout(self) -> None:
        buffer = self.buffer
        for t in range(self.config.rollout_length):
            buffer["frames"][t].copy_(self._frames())
            with self._autocast():
                logits, values = self.network.logits_and_value(_channel_first(buffer["frames"][t]))
            log_probs = logits.log_softmax(1)
            actions = torch.multinomial(log_probs.exp(), 1, generator=self.generator)
            buffer["actions"][t] = actions.squeeze(1)
            buffer["log_probs"][t] = log_probs.gather(1, actions).squeeze(1)
            buffer["values"][t] = values
            self.observations, rewards, first, _, _ = self.env.step(
                actions.squeeze(1).cpu().numpy()
            )
            self._count_returns(rewards, first)
            buffer["rewards"][t] = torch.from_numpy(self.reward_scale(rewards, first))
            buffer["first"][t] = torch.from_numpy(first)
        with self._autocast():
            _, values = self.network.logits_and_value(_channel_first(self._frames()))
        buffer["values"][-1] = values

    def _count_returns(
        self, rewards: npt.NDArray[np.float32], first: npt.NDArray[np.bool_]
    ) -> None:
        self.episode_returns += rewards
        self.recent.extend(self.episode_returns[first])
        self.episode_returns[first] = 0

    def _advantages(self) -> Tensor:
        """Generalised advantage estimates `(T, N)` (Schulman et al., 2016, equation 16)."""
        c, buffer = self.config, self.buffer
        advantages = torch.empty_like(buffer["rewards"])
        running = torch.zeros_like(buffer["rewards"][0])
        for t in reversed(range(c.rollout_length)):
            alive = 1 - buffer["first"][t]
            delta = (
                buffer["rewards"][t]
                + c.discount * alive * buffer["values"][t + 1]
                - buffer["values"][t]
            )
            running = delta + c.discount * c.gae_lambda * alive * running
            advantages[t] = running
        return advantages

    def _update(self) -> dict[str, float]:
        c = self.config
        advantages = self._advantages()
        old_values = self.buffer["values"][:-1]
        flat = {
            name: self.buffer[name].flatten(0, 1) for name in ("frames", "actions", "log_probs")
        }
        flat |= {
            "advantages": ((advantages - advantages.mean()) / (advantages.std() + 1e-8)).flatten(),
            "values": old_values.flatten(),
            "returns": (advantages + old_values).flatten(),
        }
        if c.anneal:
            for group in self.optimiser.param_groups:
                group["lr"] = c.learning_rate * max(0.0, 1 - self.steps / c.steps)
        totals: dict[str, float] = {}
        for indices in self._minibatches():
            batch = {name: values[indices] for name, values in flat.items()}
            for name, value in self._step(batch).items():
                totals[name] = totals.get(name, 0.0) + value / (c.epochs * c.minibatches)
        return totals

    def _minibatches(self) -> Iterator[Tensor]:
        c = self.config
        for _ in range(c.epochs):
            order = torch.randperm(c.batch_size, generator=self.generator, device=self.device)
            yield from order.chunk(c.minibatches)

    def _step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        c = self.config
        with self._autocast():
            logits, values = self.network.logits_and_value(_channel_first(batch["frames"]))
        log_probs = logits.log_softmax(1)
        taken = log_probs.gather(1, batch["actions"][:, None]).squeeze(1)
        ratio = (taken - batch["log_probs"]).exp()
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy_loss = -torch.min(ratio * batch["advantages"], clipped * batch["advantages"]).mean()
        entropy = -(log_probs.exp() * log_probs).sum(1).mean()
        moved = (values - batch["values"]).clamp(-c.clip, c.clip) + batch["values"]
        errors = torch.max((values - batch["returns"]) ** 2, (moved - batch["returns"]) ** 2)
        value_loss = errors.mean() / 2
        loss = policy_loss - c.entropy_bonus * entropy + c.value_weight * value_loss
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), c.max_gradient_norm)
        self.optimiser.step()
        return {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
        }

    def _save(self) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {
            f"network.{k}": v.cpu().numpy() for k, v in self.network.state_dict().items()
        }
        for i, moments in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser.{i}.{k}": v.cpu().numpy() for k, v in moments.items()}
        for i, state in enumerate(self.env.get_state()):
            arrays[f"environment.{i}"] = np.frombuffer(state, np.uint8)
        arrays |= {
            "generator": self.generator.get_state().numpy(),
            "reward_scale.returns": self.reward_scale.returns,
            "reward_scale.moments": self.reward_scale.moments,
            "episode_returns": self.episode_returns,
            "recent": np.array(self.recent, np.float64),
            "clock": np.array([self.steps, self.seconds]),
            "task": np.frombuffer(self.task.id.encode(), np.uint8),
            "config": np.frombuffer(_fixed(self.config), np.uint8),
        }
        write_arrays(self.out / CHECKPOINT, arrays)

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        path = self.out / CHECKPOINT
        try:
            if arrays["task"].tobytes().decode() != self.task.id:
                raise BadConfig(f"{path} was trained on {arrays['task'].tobytes().decode()!r}")
            if arrays["config"].tobytes() != _fixed(self.config):
                raise BadConfig(f"{path} was trained with {arrays['config'].tobytes().decode()}")
            tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
            self.network.load_state_dict(_under(tensors, "network."))
            state = self.optimiser.state_dict()
            state["state"] = {
                i: _under(tensors, f"optimiser.{i}.")
                for i in range(len(list(self.network.parameters())))
            }
            self.optimiser.load_state_dict(state)
            self.generator.set_state(tensors["generator"])
            self.reward_scale.returns = arrays["reward_scale.returns"]
            self.reward_scale.moments = arrays["reward_scale.moments"]
            self.episode_returns = arrays["episode_returns"]
            self.recent.extend(arrays["recent"])
            self.steps, self.seconds = int(arrays["clock"][0]), float(arrays["clock"][1])
            self.observations = self.env.set_state(
                [arrays[f"environment.{i}"].tobytes() for i in range(self.config.num_envs)]
            )
        except (KeyError, RuntimeError) as error:
            raise CorruptArtifact(f"{path} is not a checkpoint of this trainer: {error}") from error


def _channel_first(frames: Tensor) -> Tensor:
    """View `(B, H, W, C)` frames as `(B, C, H, W)` in channels-last memory."""
    return frames.permute(0, 3, 1, 2)


def _logged_steps(line: bytes) -> float:
    try:
        return float(json.loads(line)["steps"])
    except (ValueError, KeyError, TypeError):  # a line that was cut short
        return float("inf")


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _fixed(config: PPOConfig) -> bytes:
    """What must not change when a run is taken up again: all but the number of steps."""
    return canonical_json(asdict(replace(config, steps=1))).encode()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
