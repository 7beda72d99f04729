"""Distillation in lockstep: a student learns from a teacher that sees another view of the state.

DAgger (Ross, Gordon and Bagnell, 2011, arXiv 1011.0686) with soft labels. Environments of two tasks
that differ only in their view take the same actions, so that both are always in the same state. The
teacher labels its view of the state with a distribution over actions, and the student learns to
predict that distribution from its own view. A label thus depends on the teacher's view alone, and
not on other parts of the simulator's state.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.cloning import OPTIMISERS
from rlcondense.config import check_choice, check_least, check_positive, check_share
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.experts.shipped import Expert, remove_expert
from rlcondense.files import write_arrays
from rlcondense.limits import check_most
from rlcondense.networks import NetworkSpec, check_network, fresh_from, given_options
from rlcondense.policies import head_of
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.training import runs
from rlcondense.training.runs import CHECKPOINT, TrainingResult
from rlcondense.types import Array

# Settings that suit a GPU better: those of the shipped students of Procgen's ordinary frames, which
# were distilled in 1.5 to 2.3 million steps.
ON_GPU: Mapping[str, Any] = MappingProxyType(
    {
        "network": "impala-patch2",
        "steps": 2_000_000,
        "memory": 160_000,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "precision": "bfloat16",
    }
)


@dataclass(frozen=True)
class DistilConfig:
    """Settings of distillation; the defaults are for a CPU, `ON_GPU` has others.

    Attributes:
        network: the student's network, one of `networks.ENCODERS`; `mlp` for vectors.
        width: factor of the channels of `impala`, or units of a layer of `mlp`.
        depth: hidden layers of `mlp`.
        activation: activation of `mlp`, `relu` or `tanh`.
        steps: environment steps in total; each gives one frame and its label.
        num_envs: parallel environments.
        rollout_length: steps of each environment between updates.
        mixing: fraction of the steps over which the teacher's share of the actions (DAgger's beta)
            falls from 1 to 0. Afterwards the student acts alone.
        memory: capacity of the memory in frames (12 kB each on Procgen).
        learning_starts: steps before the first update.
        samples_per_step: rows of updates for each environment step.
        batch_size: rows of an update.
        learning_rate: learning rate of AdamW.
        cooldown: last fraction of the steps, over which the learning rate falls to 0.
        weight_decay: weight decay of AdamW.
        max_gradient_norm: norm to which gradients are clipped.
        precision: `float32`, or `bfloat16` for the student's encoder under autocast.
        seed: seed of the network, the levels, the actions and the batches.
    """

    network: str = "nature"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    steps: int = 500_000
    num_envs: int = 64
    rollout_length: int = 16
    mixing: float = 0.3
    memory: int = 100_000
    learning_starts: int = 4096
    samples_per_step: float = 4.0
    batch_size: int = 128
    learning_rate: float = 5e-4
    cooldown: float = 0.6
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_network(self.network, given_options(self))
        check_choice(self, "precision", ("float32", "bfloat16"))
        check_positive(
            self, "steps", "num_envs", "rollout_length", "batch_size", "samples_per_step", "memory"
        )
        check_positive(self, "learning_rate", "max_gradient_norm")
        check_least(self, "weight_decay", "learning_starts")
        check_share(self, "mixing", "cooldown")
        check_most(
            "num_envs x rollout_length",
            self.num_envs * self.rollout_length,
            "transitions of a rollout",
        )
        if self.memory < self.num_envs:
            raise BadConfig(
                f"memory must hold a frame of each environment ({self.num_envs}), "
                f"not {self.memory} frames"
            )

    @property
    def rollout_size(self) -> int:
        """Environment steps between updates."""
        return self.num_envs * self.rollout_length

    def teacher_share(self, steps: int) -> float:
        """Compute the teacher's share of the actions (beta) after a number of steps."""
        return max(0.0, 1 - steps / (self.mixing * self.steps)) if self.mixing else 0.0

    def rate_after(self, steps: int) -> float:
        """Compute the learning rate after a number of steps."""
        left = max(0.0, 1 - steps / self.steps)
        return self.learning_rate * min(1.0, left / self.cooldown if self.cooldown else 1.0)

    def updates_after(self, steps: int) -> int:
        """Count the updates that are due after a number of steps."""
        learned = max(0, steps - self.learning_starts)
        return int(learned * self.samples_per_step / self.batch_size)

    @property
    def num_updates(self) -> int:
        """Number of updates in all."""
        return self.updates_after(math.ceil(self.steps / self.rollout_size) * self.rollout_size)


class Lockstep:
    """Environments of a student's and a teacher's task that take the same actions.

    Args:
        student: the student's task; only its seen levels are made.
        teacher: the teacher's task.
        num_envs: number of environments of each.
        seed: seed of the levels.
        num_threads: threads that step them.

    Attributes:
        env: the student's environments.
        teacher_env: the teacher's environments.
        observations: the student's observations `(N, *observation)`, valid until the next step.
        teacher_observations: the teacher's observations.

    Raises:
        BadConfig: the tasks differ in their actions or their seen levels.
    """

    def __init__(
        self, student: Task, teacher: Task, num_envs: int, *, seed: int, num_threads: int
    ) -> None:
        self._pair = f"{teacher.id!r} cannot teach {student.id!r}"
        if student.action_space != teacher.action_space:
            raise BadConfig(f"{self._pair}: they have different actions")
        if student.splits["seen"] != teacher.splits["seen"]:
            raise BadConfig(f"{self._pair}: they have different seen levels")
        self.env, self.teacher_env = (
            self._make(task.seen_only(), num_envs, seed, num_threads) for task in (student, teacher)
        )
        self.observations, _ = self.env.reset()
        self.teacher_observations, _ = self.teacher_env.reset()

    @staticmethod
    def _make(task: Task, num_envs: int, seed: int, num_threads: int) -> Any:
        env = task.make_vec("seen", num_envs, seed=seed, num_threads=num_threads, copy=False)
        runs.check_resumable(env, task)
        return env

    def step(self, actions: Array) -> tuple[Array, Array]:
        """Step both with actions `(N,)`.

        Returns:
            Rewards `(N,)` and ends of episodes `(N,)`.

        Raises:
            BadConfig: the two tasks differ in one of these.
        """
        self.observations, *ours, _ = self.env.step(actions)
        self.teacher_observations, *theirs, _ = self.teacher_env.step(actions)
        for what, a, b in zip(
            ("rewards", "episode ends", "episode ends"), ours, theirs, strict=True
        ):
            if not np.array_equal(a, b):
                raise BadConfig(f"{self._pair}: they do not keep step, their {what} differ")
        rewards, terminations, truncations = ours
        return rewards, terminations | truncations


@dataclass
class _Lap:
    """One pass through the memory from its first slot.

    Attributes:
        states: states of the environments before the pass.
        actions: actions `(N,)` of each step since.
    """

    states: list[bytes]
    actions: list[Array] = field(default_factory=list)


class Memory:
    """Ring buffer of the last frames and their labels.

    A checkpoint holds no frames. The frames are reproduced from the states of the environments at
    the oldest frames and the actions since.

    Args:
        env: the student's environments.
        observations: their observations `(N, *observation)`.
        slots: capacity in steps of the environments.
        num_actions: A.
        device: device of frames and labels.

    Attributes:
        frames: `(slots, N, *observation)`, with channels last.
        labels: `(slots, N, A)`.
        filled: number of filled slots.
    """

    def __init__(
        self, env: Any, observations: Array, slots: int, num_actions: int, device: torch.device
    ) -> None:
        frames = torch.from_numpy(np.moveaxis(observations, 1, -1))
        self.frames = torch.empty((slots, *frames.shape), dtype=frames.dtype, device=device)
        self.labels = torch.empty((slots, len(frames), num_actions), device=device)
        self.filled = 0
        self._env, self._slot, self._laps = env, 0, list[_Lap]()

    def add(self, frames: Tensor, labels: Tensor, actions: Array) -> None:
        """Store frames `(N, *observation)`, labels `(N, A)` and the actions `(N,)` taken there."""
        if self._slot == 0:
            self._laps = [*self._laps[-1:], _Lap(self._env.get_state())]
        self.frames[self._slot] = frames.movedim(1, -1)
        self.labels[self._slot] = labels
        self._laps[-1].actions.append(actions)
        self.filled = max(self.filled, self._slot + 1)
        self._slot = (self._slot + 1) % len(self.frames)

    def sample(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw frames `(rows, *observation)` and their labels `(rows, A)`, with replacement."""
        size = self.filled * self.frames.shape[1]
        which = torch.randint(size, (rows,), generator=generator, device=self.frames.device)
        frames, labels = self.frames.flatten(0, 1), self.labels.flatten(0, 1)
        return frames.index_select(0, which).movedim(-1, 1), labels.index_select(0, which)

    def arrays(self) -> dict[str, Array]:
        """Collect the arrays that `replay` needs, for a checkpoint."""
        return {
            **runs.state_arrays("memory.state", self._laps[0].states),
            "memory.actions": np.stack([a for lap in self._laps for a in lap.actions]),
            "memory.labels": self.labels[: self.filled].cpu().numpy(),
        }

    def replay(self, arrays: runs.Arrays) -> Array:
        """Fill the memory from the arrays that `arrays` collected.

        Returns:
            The observations after the last action.
        """
        labels = torch.from_numpy(arrays["memory.labels"])
        self.labels[: len(labels)] = labels.to(self.labels.device)
        states = runs.states_of(arrays, "memory.state", range(self.labels.shape[1]))
        observations = self._env.set_state(states)
        for actions in arrays["memory.actions"]:
            self.add(torch.from_numpy(observations), self.labels[self._slot], actions)
            observations = self._env.step(actions)[0]
        return np.asarray(observations)


class Distiller:
    """One run of distillation, which can be stopped after any rollout and resumed.

    Args:
        task: the student's task; its seen levels are played.
        teacher: the expert that labels.
        teacher_task: the teacher's task, with the same dynamics as `task`.
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
        teacher: Expert,
        teacher_task: Task,
        config: DistilConfig,
        out: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        restart: bool = False,
        num_threads: int = 2,
    ) -> None:
        size, head = head_of(task.action_space)
        if head != "categorical":
            raise BadConfig(f"{task.id!r} cannot be distilled: its actions are not discrete")
        self.task, self.config, self.out = task, config, out
        self.device = torch.device(device)
        self.teacher, self.teacher_sha256 = teacher.network.to(self.device).eval(), teacher.sha256
        self.envs = Lockstep(
            task, teacher_task, config.num_envs, seed=config.seed, num_threads=num_threads
        )
        shape = task.observation_space.shape
        assert shape is not None
        spec = NetworkSpec(config.network, shape, size, **given_options(config))
        self.network = fresh_from(spec, self.device, config.seed)
        self.optimiser = OPTIMISERS["adamw"](
            self.network.parameters(),
            lr=config.learning_rate,
            eps=1e-5,
            weight_decay=config.weight_decay,
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        slots = config.memory // config.num_envs
        self.memory = Memory(self.envs.env, self.envs.observations, slots, size, self.device)
        self.episode_returns = np.zeros(config.num_envs)
        self.recent: deque[float] = deque(maxlen=100)
        self.steps, self.seconds = 0, 0.0
        checkpoint = runs.begin(out, resume=resume, restart=restart)
        if checkpoint is not None:
            self._restore(checkpoint)
        elif restart:
            remove_expert(task.id, out)
        runs.cut_log(out, self.steps)

    def train(self, progress: Progress = silent) -> TrainingResult:
        """Train for `config.steps`; for checkpoints and Ctrl-C see `runs.advance_until`."""
        runs.advance_until(
            lambda: self.steps >= self.config.steps, lambda: self._advance(progress), self._save
        )
        return TrainingResult(self.network, self.steps, self.seconds)

    def _advance(self, progress: Progress) -> None:
        started = time.monotonic()
        self._rollout()
        divergence = self._update()
        elapsed = time.monotonic() - started
        self.steps += self.config.rollout_size
        self.seconds += elapsed
        self._report(progress, divergence, self.config.rollout_size / elapsed)

    @torch.no_grad()
    def _rollout(self) -> None:
        c = self.config
        for t in range(c.rollout_length):
            frames = torch.from_numpy(self.envs.observations).to(self.device)
            labels = self.label(self.envs.teacher_observations)
            with runs.autocast(self.device, self.config.precision):
                own = self.network(frames).softmax(1)
            # DAgger's mixture: beta_i pi* + (1 - beta_i) pi_i
            drawn = torch.rand(c.num_envs, 1, generator=self.generator, device=self.device)
            teaches = drawn < c.teacher_share(self.steps + t * c.num_envs)
            probs = torch.where(teaches, labels, own)
            actions = torch.multinomial(probs, 1, generator=self.generator).squeeze(1).cpu().numpy()
            self.memory.add(frames, labels, actions)
            rewards, ended = self.envs.step(actions)
            self.episode_returns += rewards
            self.recent.extend(self.episode_returns[ended])
            self.episode_returns[ended] = 0

    @torch.no_grad()
    def label(self, observations: Array) -> Tensor:
        """Compute the teacher's distributions `(B, A)` for its observations `(B, *observation)`."""
        return self.teacher(torch.from_numpy(observations).to(self.device)).softmax(1)  # type: ignore[no-any-return]

    def _update(self) -> float:
        """Make the updates that are due, and return their mean divergence (nan without any)."""
        c = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = c.rate_after(self.steps)
        due = c.updates_after(self.steps + c.rollout_size) - c.updates_after(self.steps)
        divergences = [self._step() for _ in range(due)]
        return float(torch.stack(divergences).mean()) if divergences else float("nan")

    def _step(self) -> Tensor:
        frames, labels = self.memory.sample(self.config.batch_size, self.generator)
        with runs.autocast(self.device, self.config.precision):
            logits = self.network(frames)
        # KL(label || student): the cross-entropy minus the label's entropy.
        divergence = F.kl_div(logits.log_softmax(1), labels, reduction="batchmean")
        self.optimiser.zero_grad(set_to_none=True)
        divergence.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimiser.step()
        return divergence.detach()

    def _report(self, progress: Progress, divergence: float, rate: float) -> None:
        recent, share = runs.mean_or_nan(self.recent), self.config.teacher_share(self.steps)
        entry = {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(rate),
            "return": None if np.isnan(recent) else round(recent, 3),
            "teacher_share": round(share, 4),
            "divergence": None if np.isnan(divergence) else round(divergence, 5),
        }
        runs.append_log(self.out, entry)
        note = f"return {recent:.2f}, teacher acts {share:.0%}, KL {divergence:.3f}"
        progress("distil", self.steps, self.config.steps, f"{note}, {rate:.0f} steps/s")

    def _save(self) -> None:
        arrays = {
            **runs.learning_arrays(self.network, self.optimiser, self.generator),
            **self.memory.arrays(),
            **runs.state_arrays("environment", self.envs.env.get_state()),
            **runs.state_arrays("teacher_environment", self.envs.teacher_env.get_state()),
            "episode_returns": self.episode_returns,
            "recent": np.array(self.recent, np.float64),
            "clock": np.array([self.steps, self.seconds]),
            "settings": runs.json_array(self._settings()),
        }
        write_arrays(self.out / CHECKPOINT, arrays)

    def _settings(self) -> dict[str, Any]:
        """Collect the settings that must not change when a run is resumed."""
        return {
            "task": self.task.id,
            "teacher's sha256": self.teacher_sha256,
            **asdict(self.config),
        }

    def _restore(self, arrays: dict[str, Array]) -> None:
        path, every = self.out / CHECKPOINT, range(self.config.num_envs)
        try:
            runs.check_settings(path, json.loads(arrays["settings"].tobytes()), self._settings())
            runs.restore_learning(arrays, self.network, self.optimiser, self.generator)
            self.episode_returns = arrays["episode_returns"]
            self.recent.extend(arrays["recent"])
            self.steps, self.seconds = int(arrays["clock"][0]), float(arrays["clock"][1])
            self.envs.observations = self.memory.replay(arrays)
            self.envs.teacher_observations = self.envs.teacher_env.set_state(
                runs.states_of(arrays, "teacher_environment", every)
            )
            arrived = self.envs.env.get_state() == runs.states_of(arrays, "environment", every)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CorruptArtifact(f"{path} is not a checkpoint of distillation: {error}") from error
        if not arrived:
            raise CorruptArtifact(f"{path} cannot be gone on from: its frames do not come again")
