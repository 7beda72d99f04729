"""Train experts of many games side by side on one GPU by PPO (Schulman et al., 2017).

    python baselines/experts/teachers.py --minutes 18.2 --out teachers

does what made the shipped experts of the plain tasks (their first version on one H100 with 16
cores, at 135,000 steps/s together; heist's went on from there on a CPU); docs/results/experts.md
says what came of it. Each game has

- a process that steps its environments, asked for a step and answering through shared memory;
- a `Teacher` here, with one CUDA graph that acts, one that estimates advantages and one that
  learns from a minibatch. Acting goes on a stream of high priority, learning on four others: while
  some games learn, the others act and step.

What happens to a game, and when, is `Teacher.tend`: no game ever waits for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from games import (
    FRAME,
    PLAIN,
    Graphed,
    Learner,
    Processes,
    Schedule,
    Stream,
    as_drawn,
    autocast,
    begin_folder,
    choose_device,
    draw_actions,
    finish,
    game_folder,
    is_done,
    label,
    options,
    pin,
    procgen_tasks,
    run,
    serve,
    settings_of,
    shared,
    start_from,
    undo_training,
)
from torch import Tensor, nn

from rlcondense.config import make_config
from rlcondense.errors import BadConfig
from rlcondense.experts.shipped import SNAPSHOTS, save_weights
from rlcondense.networks import NetworkSpec, given_options
from rlcondense.policy_gradient import Categorical, RewardScale
from rlcondense.tasks.procgen import NUM_ACTIONS, OBSERVATION_SHAPE, ProcgenTask
from rlcondense.training.ppo import ActorCritic, PPOConfig, ppo_loss

# The rest are the defaults of `PPOConfig`, which are those of Cobbe et al. (2020).
RECIPE: dict[str, Any] = {
    "network": "impala-patch2",
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 2,
    "anneal": True,
}
NOT_HERE = ("steps", "env_groups", "potential", "compiled")  # settings that would do nothing
LEAST_RATE = 0.01  # of the learning rate, at the end
# When a policy is kept for data of mixed quality, as shares of the run: those that
# `rlcondense dataset collect --kind mixed` looks for, beside the first and the last.
KEPT_AT = (1 / 27, 1 / 9, 1 / 3)


class SharedRollouts:
    """What the processes of G games share with the one that trains.

    Attributes:
        frames: `(G, N, H, W, C)` on show.
        actions: `(G, N)` to take next.
        rewards: `(G, T, N)` of the rollout, scaled.
        first: `(G, T, N)` 1 where a step ended an episode.
    """

    def __init__(self, games: int, config: PPOConfig) -> None:
        T, N = config.rollout_length, config.num_envs
        self.frames = shared(games, N, *FRAME, dtype=torch.uint8)
        self.actions = shared(games, N, dtype=torch.int32)
        self.rewards = shared(games, T, N)
        self.first = shared(games, T, N)


def step_environments(
    tasks: Sequence[ProcgenTask],
    config: PPOConfig,
    memory: SharedRollouts,
    processes: Processes,
    game: int,
) -> None:
    """Step a game's environments whenever that is asked for: all that its process does."""
    T, N = config.rollout_length, config.num_envs
    # No threads of Procgen's own: a process for each game fills the cores already.
    seed = 1000 * config.seed + game + 1
    env = tasks[game].make_vec("seen", N, seed=seed, num_threads=0, copy=False)
    frames, actions = memory.frames[game].numpy(), memory.actions[game].numpy()
    rewards, first = memory.rewards[game].numpy(), memory.first[game].numpy()
    scale, returns = RewardScale(N, config.discount), np.zeros(N)
    frames[...] = as_drawn(env.reset()[0])
    for step in processes.steps(game):
        observations, reward, ended, _, _ = env.step(actions)
        frames[...] = as_drawn(observations)
        rewards[step % T] = scale(reward, ended)
        first[step % T] = ended
        processes.count(game, returns, reward, ended)


class Teacher(Learner):
    """The policy of one game, what it has collected, and the graphs that act and learn.

    A rollout is T steps of N environments, and a minibatch B of its transitions. Everything that a
    graph touches is made once, here, and from then on changed in place.

    Args:
        game: its number.
        task: what is played.
        config: settings.
        memory: shared with the game's process.
        processes: of all games.
        out: folder of the policies that are kept.
        device: the GPU, or the CPU.
    """

    def __init__(
        self,
        game: int,
        task: ProcgenTask,
        config: PPOConfig,
        memory: SharedRollouts,
        processes: Processes,
        out: Path,
        device: torch.device,
    ) -> None:
        self.game, self.task, self.config, self.device = game, task, config, device
        self.memory, self.processes = memory, processes
        self.folder = game_folder(out, task)
        torch.manual_seed(1000 * config.seed + 100 + game)
        spec = NetworkSpec(config.network, OBSERVATION_SHAPE, NUM_ACTIONS, **given_options(config))
        self.network: ActorCritic = ActorCritic(spec).to(device)
        self._allocate()
        # TRAP: Adam counts its updates and reads its learning rate on the device only if it is
        # capturable and the rate is a tensor; a number would stay what it was at the capture.
        self.learning_rate = torch.tensor(config.learning_rate, device=device)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(),
            lr=self.learning_rate,
            eps=1e-5,
            capturable=device.type == "cuda",
        )
        self.parameters = list(self.network.parameters())
        self._capture()
        self.state, self.steps, self.steps_of_rollout, self.kept = "stepping", 0, 0, 0
        self.event: torch.cuda.Event | None = None

    def _allocate(self) -> None:
        c, zeros = self.config, partial(torch.zeros, device=self.device)
        T, N = c.rollout_length, c.num_envs
        self.frames = zeros(N, *FRAME, dtype=torch.uint8)
        self.chosen = zeros(N, dtype=torch.int32)
        # One row more than steps: the last is there for its value only.
        self.observations = zeros(T + 1, N, *FRAME, dtype=torch.uint8)
        self.actions = zeros(T + 1, N, dtype=torch.int64)
        self.log_probs, self.values = zeros(T + 1, N), zeros(T + 1, N)
        self.rewards, self.first = zeros(T, N), zeros(T, N)
        self.advantages, self.returns = zeros(T, N), zeros(T, N)
        # A graph takes no arguments: which row to write and which minibatch to learn from, it
        # counts itself, on the device.
        self.row, self.minibatch = zeros(1, dtype=torch.int64), zeros(1, dtype=torch.int64)
        self.order = zeros(c.epochs * c.minibatches, T * N // c.minibatches, dtype=torch.int64)
        self.losses = zeros(3)

    def _capture(self) -> None:
        put_back = undo_training(self.network, self.optimiser)

        def undo_acting() -> None:
            self.row.zero_()
            self.minibatch.zero_()

        def undo_learning() -> None:
            put_back()
            undo_acting()
            self.losses.zero_()

        self._shuffle()
        self.act = Graphed(self._act, self.device, undo_acting)
        self.estimate_advantages = Graphed(self._estimate_advantages, self.device)
        self.learn = Graphed(self._learn, self.device, undo_learning)

    # What is captured.

    @torch.no_grad()
    def _act(self) -> None:
        self.observations.index_copy_(0, self.row, self.frames[None])
        with autocast(self.device, self.config.precision):
            logits, values = self.network.outputs_and_value(self.frames.permute(0, 3, 1, 2))
        actions = draw_actions(logits)
        log_probs = Categorical(logits).log_probs(actions)
        self.actions.index_copy_(0, self.row, actions[None])
        self.log_probs.index_copy_(0, self.row, log_probs[None])
        self.values.index_copy_(0, self.row, values[None])
        self.chosen.copy_(actions)
        self.row.add_(1)

    @torch.no_grad()
    def _estimate_advantages(self) -> None:
        """Generalised advantage estimates (Schulman et al., 2016, equation 16), normalised."""
        c = self.config
        running = torch.zeros_like(self.values[0])
        for t in reversed(range(c.rollout_length)):
            alive = 1 - self.first[t]
            delta = self.rewards[t] + c.discount * alive * self.values[t + 1] - self.values[t]
            running = delta + c.discount * c.gae_lambda * alive * running
            self.advantages[t] = running
        self.returns.copy_(self.advantages + self.values[:-1])
        centred = self.advantages - self.advantages.mean()
        self.advantages.copy_(centred / (self.advantages.std() + 1e-8))

    def _learn(self) -> None:
        indices = self.order.index_select(0, self.minibatch)[0]  # (B,)
        with torch.no_grad():
            self.minibatch.add_(1).remainder_(len(self.order))

        def picked(rows: Tensor) -> Tensor:
            return rows[: self.config.rollout_length].flatten(0, 1).index_select(0, indices)

        observations = picked(self.observations)
        batch = {
            name: picked(getattr(self, name))
            for name in ("actions", "log_probs", "advantages", "returns", "values")
        }
        with autocast(self.device, self.config.precision):
            logits, values = self.network.outputs_and_value(observations.permute(0, 3, 1, 2))
        loss, parts = ppo_loss(Categorical(logits), values, batch, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
        self.optimiser.step()
        with torch.no_grad():
            self.losses.copy_(parts)

    # What happens when.

    def tend(self, acting: Stream, learning: Stream, schedule: Schedule) -> bool:
        """Go from `stepping` to `acting` and back T times, then by `learning` to `acting`."""
        if self.state == "stepping" and self.processes.is_ready(self.game):
            self._start_acting(acting)
        elif self.state == "acting" and is_done(self.event):
            if self.steps_of_rollout == self.config.rollout_length:
                self._start_learning(learning, schedule.share(self.steps))
            else:
                self.steps_of_rollout += 1
                self.steps += self.config.num_envs
                self.processes.ask(self.game)
                self.state = "stepping"
        elif self.state == "learning" and is_done(self.event):
            self.steps_of_rollout = 0
            share = schedule.share(self.steps)
            self._keep_if_due(share)
            if share < 1:
                self._start_acting(acting)
            else:
                self.state = "ended"
        else:
            return False
        return True

    def _start_acting(self, stream: Stream) -> None:
        def act() -> None:
            self.frames.copy_(self.memory.frames[self.game], non_blocking=True)
            self.act()
            if self.steps_of_rollout < self.config.rollout_length:
                self.memory.actions[self.game].copy_(self.chosen, non_blocking=True)

        self.event = stream.put(act)
        self.state = "acting"

    def _start_learning(self, stream: Stream, share: float) -> None:
        c = self.config
        factor = max(LEAST_RATE, 1 - share) if c.anneal else 1.0

        def learn() -> None:
            self.rewards.copy_(self.memory.rewards[self.game], non_blocking=True)
            self.first.copy_(self.memory.first[self.game], non_blocking=True)
            self.estimate_advantages()
            self._shuffle()
            self.learning_rate.fill_(c.learning_rate * factor)
            for _ in range(len(self.order)):
                self.learn()
            self.row.zero_()

        self.event = stream.put(learn, after=self.event)
        self.state = "learning"

    def _shuffle(self) -> None:
        """Divide the rollout's transitions into minibatches, anew for each epoch."""
        number, size = self.config.minibatches, self.order.shape[1]
        for epoch in range(self.config.epochs):
            order = torch.rand(number * size, device=self.device).argsort()
            self.order[epoch * number : (epoch + 1) * number] = order.view(number, size)

    # What is left behind.

    def keep(self) -> None:
        """Write the policy of now. Only between updates, which change it."""
        save_weights(self.folder / SNAPSHOTS / f"{self.steps}.safetensors", self.network)

    def _keep_if_due(self, share: float) -> None:
        due = sum(share >= at for at in KEPT_AT)
        if due > self.kept:
            self.keep()
        self.kept = due

    def note(self) -> str:
        """The policy's entropy in the last minibatch."""
        return f"entropy {float(self.losses[2]):.2f}"

    def card(self) -> dict[str, Any]:
        """Steps, seed and settings."""
        return {
            "algorithm": "PPO (Schulman et al. 2017)",
            "steps": self.steps,
            "seed": self.config.seed,
            "config": asdict(replace(self.config, steps=self.steps)),
        }


def configure(settings: dict[str, str], cpu: bool) -> PPOConfig:
    """Make the settings of a run from those that differ from the recipe."""
    if useless := sorted(set(settings) & set(NOT_HERE)):
        raise BadConfig(f"{', '.join(useless)} cannot be set here")
    precision = {"precision": "float32" if cpu else "bfloat16"}
    c = make_config(PPOConfig, {**RECIPE, **precision, **settings}, "the trainer")
    if c.batch_size % c.minibatches:
        raise BadConfig(
            f"num_envs x rollout_length must be a multiple of minibatches ({c.minibatches}), "
            f"not {c.batch_size}"
        )
    return c


@options
def main(
    tasks: Sequence[str],
    minutes: float | None,
    steps: int | None,
    out: Path,
    start: Path | None,
    cpu: bool,
    episodes: int,
    pairs: Sequence[str],
) -> None:
    """Train PPO experts of Procgen TASKS side by side; by default of all sixteen plain ones."""
    config, schedule = configure(settings_of(pairs), cpu), Schedule(minutes, steps)
    games = procgen_tasks(tasks or PLAIN)
    begin_folder(out)
    memory, processes = SharedRollouts(len(games), config), Processes(list(map(label, games)))
    processes.start(partial(step_environments, games, config, memory, processes))
    device = choose_device(cpu)
    if device.type == "cuda":
        for tensor in (memory.frames, memory.actions, memory.rewards, memory.first):
            pin(tensor)
    teachers = [
        Teacher(number, task, config, memory, processes, out, device)
        for number, task in enumerate(games)
    ]
    if start:
        start_from(start, teachers)
    for teacher in teachers:
        teacher.keep()
    seconds = serve(teachers, processes, schedule, out, device)
    processes.stop()
    finish(out, teachers, device, seconds, episodes)


if __name__ == "__main__":
    run(main)
