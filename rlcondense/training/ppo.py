"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347).

Hyper-parameters and reward normalisation follow Cobbe et al. (2020, arXiv 1912.01588), appendix D,
who train on Procgen. Settings that suit a task of vectors better are in its catalogue entry.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from rlcondense.cloning import OPTIMISERS
from rlcondense.config import check_least, check_positive, check_share
from rlcondense.errors import BadConfig, CorruptArtifact, UnknownName
from rlcondense.experts.shipped import SNAPSHOTS, remove_expert, remove_snapshots, save_weights
from rlcondense.files import write_arrays
from rlcondense.limits import MOST_EVALUATION_SEED, check_whole
from rlcondense.networks import Impala, NetworkSpec, PolicyNetwork, check_network, given_options
from rlcondense.policies import head_of
from rlcondense.policy_gradient import (
    DISTRIBUTIONS,
    Categorical,
    Gaussian,
    RewardScale,
    advantages_of,
    check_cuts,
    check_rollout,
    policy_loss,
    possible,
    standardised_advantages,
    value_loss,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.training import runs
from rlcondense.training.runs import CHECKPOINT, LOGGER, TrainingResult


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the trainer; the defaults are those of Cobbe et al. (2020).

    Attributes:
        network: one of `networks.ENCODERS`; `mlp` for vectors.
        width: factor of the channels of `impala`, or units of a layer of `mlp`.
        depth: hidden layers of `mlp`.
        activation: activation of `mlp`, `relu` or `tanh`.
        steps: environment steps in total.
        num_envs: parallel environments.
        env_groups: number of groups of environments that take turns: one steps on its threads
            while the policy computes for another. 2 suits a GPU, 1 a CPU. The levels of group g are
            those of seed + g, so that trainings of neighbouring seeds share some of their order.
        rollout_length: steps of each environment between updates.
        epochs: passes over each rollout.
        minibatches: minibatches of each pass.
        learning_rate: learning rate of Adam.
        anneal: lower the learning rate linearly to zero (Cobbe et al. do not).
        discount: gamma.
        gae_lambda: lambda of generalised advantage estimation.
        clip: range of the probability ratio, and of the value's change.
        entropy_bonus: weight of the policy's entropy.
        value_weight: weight of the value loss.
        max_gradient_norm: norm to which gradients are clipped.
        precision: `float32`, or `bfloat16` for the encoder under autocast.
        potential: one of `POTENTIALS` for reward shaping: its increase is added to sparse rewards,
            which leaves the optimal policy unchanged (Ng, Harada and Russell, 1999). Returns are
            always reported without it.
        compiled: have torch compile the network (a minute at the start, and a C++ compiler).
        seed: seed of the network, the levels and the actions.
    """

    network: str = "impala"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    steps: int = 25_000_000
    num_envs: int = 64
    env_groups: int = 1
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
    potential: str | None = None
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise BadConfig(f"precision must be float32 or bfloat16, not {self.precision!r}")
        check_network(self.network, given_options(self))
        if self.potential is not None and self.potential not in POTENTIALS:
            raise UnknownName("potential", self.potential, POTENTIALS)
        check_positive(
            self, "steps", "num_envs", "env_groups", "rollout_length", "epochs", "minibatches"
        )
        check_positive(self, "learning_rate", "clip", "max_gradient_norm")
        check_share(self, "discount", "gae_lambda")
        check_least(self, "entropy_bonus", "value_weight")
        check_rollout(self.num_envs, self.rollout_length)
        check_whole(self.seed, "seed", most=MOST_EVALUATION_SEED)
        if self.num_envs % self.env_groups:
            raise BadConfig(
                f"num_envs must be a multiple of env_groups ({self.env_groups}), "
                f"not {self.num_envs}"
            )

    @property
    def batch_size(self) -> int:
        """Transitions of one rollout."""
        return self.num_envs * self.rollout_length


class ActorCritic(PolicyNetwork):
    """Policy network with a second head for the state's value."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.value_head = nn.Linear(self.num_features, 1)
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if not isinstance(self.encoder, Impala):  # residual sums would grow with every block
            for module in self.encoder.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.orthogonal_(module.weight, 2**0.5)
                    nn.init.zeros_(_bias(module))
        for head, gain in ((self.head, 0.01), (self.value_head, 1.0)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(_bias(head))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def outputs_and_value(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the head's outputs `(B, ...)` and values `(B,)` for `(B, *observation)`."""
        features = self.features(observations)
        with torch.autocast(features.device.type, enabled=False):
            return self.outputs(features), self.value_head(features).squeeze(1)


def ppo_loss(
    distribution: Categorical | Gaussian, values: Tensor, batch: Mapping[str, Tensor], c: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Compute the clipped loss (equation 9) of a minibatch of B transitions, and its parts.

    Args:
        distribution: the policy's current distributions.
        values: `(B,)` current values of the network.
        batch: `actions`, and, `(B,)` each, their `log_probs` and `values` at collection, the
            `advantages` and the `returns`.
        c: the settings.

    Returns:
        The loss, and `(3,)` policy loss, value loss and entropy, without gradients.
    """
    of_policy = policy_loss(distribution, batch, c.clip)
    entropy = distribution.entropy().mean()
    of_values = value_loss(values, batch, c.clip)
    loss = of_policy - c.entropy_bonus * entropy + c.value_weight * of_values
    return loss, torch.stack([of_policy, of_values, entropy]).detach()


def _mountain_car_energy(observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the potential of a mountain car: minus the energy that it lacks to pass the top.

    It is scaled by some 30,000."""
    position, speed = observations.astype(np.float64).T
    energy = speed**2 / 2 + 0.0025 / 3 * np.sin(3 * position)
    return np.asarray(30_000 * np.minimum(energy - 0.0025 / 3, 0.0))


POTENTIALS = {"mountain-car-energy": _mountain_car_energy}


def _potential_of(task: Task) -> str:
    """Return the potential of a task's observations, or "" if it has none."""
    return "mountain-car-energy" if getattr(task, "env", "") == "MountainCar-v0" else ""


class _EnvGroup:
    """Group of environments that step together, and their observations."""

    def __init__(self, env: VectorEnv[Any, Any, Any], start: int) -> None:
        self.env: Any = env
        self.columns = slice(start, start + env.num_envs)
        self.observations, _ = env.reset()
        self._actions: npt.NDArray[Any] | None = None

    def start(self, actions: npt.NDArray[Any]) -> None:
        """Start a step of the environments, on their own threads if they have any."""
        if hasattr(self.env, "step_async"):
            self.env.step_async(actions)
        self._actions = actions

    def finish(self) -> Any:
        """Return the results of their step."""
        wait = getattr(self.env, "step_wait", None)
        return wait() if wait else self.env.step(self._actions)


class Trainer:
    """One run of PPO, which can be stopped after any update and resumed.

    Beside checkpoint and log it writes snapshots of the policy in float16, one before training and
    one each time the number of updates has doubled. Datasets of mixed quality are collected with
    them.

    Args:
        task: the task; its seen levels are played.
        config: settings.
        out: folder of the checkpoint and of the log, a JSON object a line.
        device: `cpu` or `cuda`.
        resume: continue from the folder's checkpoint, if there is one.
        restart: start anew even if there is one; without either, an earlier run is an error.
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
        restart: bool = False,
        num_threads: int = 2,
    ) -> None:
        self.task, self.config, self.out = task, config, out
        if config.potential is not None and _potential_of(task) != config.potential:
            raise BadConfig(f"potential {config.potential!r} is of another task than {task.id!r}")
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        shape = task.observation_space.shape
        assert shape is not None
        self.is_pixels = len(shape) == 3
        size, head = head_of(task.action_space)
        spec = NetworkSpec(config.network, shape, size, **given_options(config), head=head)
        self.distribution = DISTRIBUTIONS[head]
        self.network = ActorCritic(spec).to(self.device)
        forward = self.network.outputs_and_value
        self.forward = torch.compile(forward, dynamic=False) if config.compiled else forward
        self.optimiser = OPTIMISERS["adam"](
            self.network.parameters(), lr=config.learning_rate, eps=1e-5
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.groups = self._make_groups(num_threads)
        self.reward_scale = RewardScale(config.num_envs, config.discount)
        self.episode_returns = np.zeros(config.num_envs)
        self.recent: deque[float] = deque(maxlen=100)
        self.steps, self.seconds = 0, 0.0
        self.buffer = self._allocate()
        checkpoint = runs.begin(out, resume=resume, restart=restart)
        if checkpoint is not None:
            self._restore(checkpoint)
        else:
            remove_snapshots(out)
            if restart:
                remove_expert(task.id, out)
        runs.cut_log(out, self.steps)

    def _make_groups(self, num_threads: int) -> list[_EnvGroup]:
        groups, size = [], self.config.num_envs // self.config.env_groups
        for number in range(self.config.env_groups):
            # Levels depend on the seed and an environment's index in its group.
            seed = self.config.seed + number
            env = self.task.make_vec("seen", size, seed=seed, num_threads=num_threads, copy=False)
            groups.append(_EnvGroup(env, number * size))
        return groups

    def _allocate(self) -> dict[str, Tensor]:
        t, n, shown = self.config.rollout_length, self.config.num_envs, self.groups[0].observations
        shape, spec = self._laid_out(shown).shape[1:], self.network.spec
        continuous = spec.head == "gaussian"
        return {
            # One more than actions: the last is needed for its value only.
            "observations": torch.empty(
                (t + 1, n, *shape), dtype=torch.from_numpy(shown).dtype, device=self.device
            ),
            "actions": torch.empty(
                (t, n, spec.num_outputs) if continuous else (t, n),
                dtype=torch.float32 if continuous else torch.int64,
                device=self.device,
            ),
            "log_probs": torch.empty((t, n), device=self.device),
            "values": torch.empty((t + 1, n), device=self.device),
        }

    def _laid_out(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return observations in memory order, frames as `(B, H, W, C)`."""
        return observations.transpose(0, 2, 3, 1) if self.is_pixels else observations

    def _shown(self, laid_out: Tensor) -> Tensor:
        """View observations in the network's order, frames as `(B, C, H, W)`."""
        return laid_out.permute(0, 3, 1, 2) if self.is_pixels else laid_out

    def train(self, progress: Progress = silent) -> TrainingResult:
        """Train until `config.steps`; for checkpoints and Ctrl-C see `runs.advance_until`."""
        if not self.steps:
            self._snapshot()
        if not self._keeps_state:
            LOGGER.warning(
                "Environments of %s keep no state: a training that is interrupted begins anew.",
                self.task.id,
            )
        runs.advance_until(
            lambda: self.steps >= self.config.steps, lambda: self._advance(progress), self._save
        )
        return TrainingResult(self.network, self.steps, self.seconds)

    def _advance(self, progress: Progress) -> None:
        started = time.monotonic()
        self._rollout()
        losses = self._update()
        elapsed = time.monotonic() - started
        self.steps += self.config.batch_size
        self.seconds += elapsed
        self._report(progress, losses, self.config.batch_size / elapsed)
        updates = self.steps // self.config.batch_size
        if updates & (updates - 1) == 0:
            self._snapshot()

    def _snapshot(self) -> None:
        save_weights(self.out / SNAPSHOTS / f"{self.steps}.safetensors", self.network)

    def _report(self, progress: Progress, losses: dict[str, float], rate: float) -> None:
        recent = runs.mean_or_nan(self.recent)
        entry = {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(rate),
            "return": None if np.isnan(recent) else round(recent, 3),
            **{name: round(value, 5) for name, value in losses.items()},
        }
        runs.append_log(self.out, entry)
        progress("train", self.steps, self.config.steps, f"return {recent:.2f}, {rate:.0f} steps/s")

    @torch.no_grad()
    def _rollout(self) -> None:
        length, num_envs = self.config.rollout_length, self.config.num_envs
        self.rewards = np.empty((length, num_envs), np.float32)
        self.first = np.empty((length, num_envs), np.bool_)
        self.shaping = np.zeros((length, num_envs), np.float32)
        self.cut_values = np.zeros((length, num_envs), np.float32)
        for t in range(length):
            for group in self.groups:
                if t:
                    self._finish_step(group, t - 1)
                self._start_step(group, t)
        for group in self.groups:
            self._finish_step(group, length - 1)
            self._look(group, length)
        with runs.autocast(self.device, self.config.precision):
            _, values = self.forward(self._shown(self.buffer["observations"][-1]))
        self.buffer["values"][-1] = values
        self._count_returns()

    def _look(self, group: _EnvGroup, t: int) -> Tensor:
        """Copy a group's observations into the buffer, and view them in the network's order."""
        observations = self.buffer["observations"][t, group.columns]
        observations.copy_(torch.from_numpy(self._laid_out(group.observations)))
        return self._shown(observations)

    def _start_step(self, group: _EnvGroup, t: int) -> None:
        with runs.autocast(self.device, self.config.precision):
            outputs, values = self.forward(self._look(group, t))
        distribution = self.distribution(outputs)
        actions = distribution.draw(self.generator)
        group.start(possible(actions.cpu().numpy(), self.task.action_space))
        where = t, group.columns
        self.buffer["actions"][where] = actions
        self.buffer["log_probs"][where] = distribution.log_probs(actions)
        self.buffer["values"][where] = values

    def _finish_step(self, group: _EnvGroup, t: int) -> None:
        before, where = group.observations, (t, group.columns)
        group.observations, rewards, terminations, truncations, infos = group.finish()
        self.rewards[where] = rewards
        self.first[where] = terminations | truncations
        cut = truncations & ~terminations
        check_cuts(cut, infos, self.task.id)
        last = infos.get("final_obs", group.observations)
        if self.config.potential is not None:
            potential = POTENTIALS[self.config.potential]
            after = np.where(terminations, 0.0, potential(last))
            self.shaping[where] = self.config.discount * after - potential(before)
        if cut.any():
            shown = torch.from_numpy(last[cut]).to(self.device)
            # Not compiled, since every batch size would compile again.
            with runs.autocast(self.device, self.config.precision):
                _, values = self.network.outputs_and_value(shown)
            self.cut_values[where][cut] = values.cpu().numpy()

    def _count_returns(self) -> None:
        for rewards, first in zip(self.rewards, self.first, strict=True):
            self.episode_returns += rewards
            self.recent.extend(self.episode_returns[first])
            self.episode_returns[first] = 0

    def _advantages(self) -> Tensor:
        """Compute generalised advantage estimates `(T, N)` of scaled rewards."""
        c, values = self.config, self.buffer["values"].cpu().numpy()
        scaled = [
            self.reward_scale(rewards, first)
            for rewards, first in zip(self.rewards + self.shaping, self.first, strict=True)
        ]
        advantages = advantages_of(
            np.array(scaled), values, self.first, self.cut_values, c.discount, c.gae_lambda
        )
        return torch.from_numpy(advantages).to(self.device)

    def _update(self) -> dict[str, float]:
        c = self.config
        advantages = self._advantages()
        old_values = self.buffer["values"][:-1]
        flat = {
            name: self.buffer[name][: c.rollout_length].flatten(0, 1)
            for name in ("observations", "actions", "log_probs")
        }
        flat |= {
            "advantages": standardised_advantages(advantages).flatten(),
            "values": old_values.flatten(),
            "returns": (advantages + old_values).flatten(),
        }
        if c.anneal:
            for group in self.optimiser.param_groups:
                group["lr"] = c.learning_rate * max(0.0, 1 - self.steps / c.steps)
        losses = [
            self._step({name: values[indices] for name, values in flat.items()})
            for indices in self._minibatches()
        ]
        means = torch.stack(losses).mean(0).tolist()
        return dict(zip(("policy_loss", "value_loss", "entropy"), means, strict=True))

    def _minibatches(self) -> Iterator[Tensor]:
        c = self.config
        for _ in range(c.epochs):
            order = torch.randperm(c.batch_size, generator=self.generator, device=self.device)
            yield from order.chunk(c.minibatches)

    def _step(self, batch: dict[str, Tensor]) -> Tensor:
        c = self.config
        with runs.autocast(self.device, self.config.precision):
            outputs, values = self.forward(self._shown(batch["observations"]))
        loss, parts = ppo_loss(self.distribution(outputs), values, batch, c)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), c.max_gradient_norm)
        self.optimiser.step()
        return parts

    @property
    def _keeps_state(self) -> bool:
        """Return whether the environments can be put back into a state, for a checkpoint."""
        return all(hasattr(group.env, "get_state") for group in self.groups)

    def _save(self) -> None:
        if not self._keeps_state:
            return
        states = [state for group in self.groups for state in group.env.get_state()]
        arrays = {
            **runs.learning_arrays(self.network, self.optimiser, self.generator),
            **runs.state_arrays("environment", states),
            "reward_scale.returns": self.reward_scale.returns,
            "reward_scale.moments": self.reward_scale.moments,
            "episode_returns": self.episode_returns,
            "recent": np.array(self.recent, np.float64),
            "clock": np.array([self.steps, self.seconds]),
            "task": np.frombuffer(self.task.id.encode(), np.uint8),
            "config": runs.json_array(_fixed(self.config)),
        }
        write_arrays(self.out / CHECKPOINT, arrays)

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        path = self.out / CHECKPOINT
        try:
            if arrays["task"].tobytes().decode() != self.task.id:
                raise BadConfig(f"{path} was trained on {arrays['task'].tobytes().decode()!r}")
            trained = json.loads(arrays["config"].tobytes())
            # Settings that were added later had their defaults.
            runs.check_settings(path, {**_fixed(PPOConfig()), **trained}, _fixed(self.config))
            runs.restore_learning(arrays, self.network, self.optimiser, self.generator)
            self.reward_scale.returns = arrays["reward_scale.returns"]
            self.reward_scale.moments = arrays["reward_scale.moments"]
            self.episode_returns = arrays["episode_returns"]
            self.recent.extend(arrays["recent"])
            self.steps, self.seconds = int(arrays["clock"][0]), float(arrays["clock"][1])
            if self.steps >= self.config.steps + self.config.batch_size:
                raise BadConfig(f"{path} has {self.steps:,} steps, more than {self.config.steps:,}")
            for group in self.groups:
                which = range(self.config.num_envs)[group.columns]
                states = runs.states_of(arrays, "environment", which)
                group.observations = group.env.set_state(states)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CorruptArtifact(f"{path} is not a checkpoint of this trainer: {error}") from error


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _fixed(config: PPOConfig) -> dict[str, Any]:
    """Collect the settings that must not change on resuming: all but the number of steps."""
    return asdict(replace(config, steps=1))
