"""Distil experts that see one view of Procgen into networks that see another, on one GPU.

    python baselines/experts/students.py --minutes 9.3 --out students

does what made the shipped experts of the ordinary tasks: their first version on one H100 with 16
cores, at 56,000 frames/s together and four samples a frame; heist's went on from there on a CPU.
It is DAgger (Ross, Gordon and Bagnell, 2011, arXiv 1011.0686) with the teacher's distributions as
labels: each game's process steps two environments in lockstep, one drawn for the student and one
drawn for the teacher. The teacher's actions are taken at first, the student's own later, the
teacher labels every frame, and the student learns from a memory of the last of them. Acting goes
on a stream of high priority, learning on four others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from games import (
    FRAME,
    ORDINARY,
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
from torch import nn

from rlcondense.config import make_config
from rlcondense.errors import BadConfig
from rlcondense.experts.shipped import Expert, load_expert, load_newest
from rlcondense.networks import NetworkSpec, PolicyNetwork, given_options
from rlcondense.tasks.procgen import NUM_ACTIONS, OBSERVATION_SHAPE, ProcgenTask
from rlcondense.training.distil import ON_GPU, DistilConfig, Lockstep

# The rest are the defaults of `DistilConfig`. Its shares are of the run, whatever ends it.
RECIPE: dict[str, Any] = {**ON_GPU, "mixing": 0.25, "cooldown": 0.625}
NOT_HERE = ("steps", "rollout_length")  # settings that would do nothing
UPDATES = 2  # each time a game learns
LEAST_RATE = 0.01  # of the learning rate, at the end


class SharedFrames:
    """What the processes of G games share with the one that trains.

    Attributes:
        frames: `(G, 2, N, H, W, C)` on show, the student's and then the teacher's.
        actions: `(G, N)` to take next, in both.
    """

    def __init__(self, games: int, num_envs: int) -> None:
        self.frames = shared(games, 2, num_envs, *FRAME, dtype=torch.uint8)
        self.actions = shared(games, num_envs, dtype=torch.int32)


def step_in_lockstep(
    pairs: Sequence[tuple[ProcgenTask, ProcgenTask]],
    config: DistilConfig,
    memory: SharedFrames,
    processes: Processes,
    game: int,
) -> None:
    """Step the environments of a game's two views whenever that is asked for.

    Should the two part, the process ends with an error, and with it the run.
    """
    seed = 1000 * config.seed + game + 1
    envs = Lockstep(*pairs[game], config.num_envs, seed=seed, num_threads=0)
    frames, actions = memory.frames[game].numpy(), memory.actions[game].numpy()
    returns = np.zeros(config.num_envs)

    def show() -> None:
        frames[0] = as_drawn(envs.observations)
        frames[1] = as_drawn(envs.teacher_observations)

    show()
    for _ in processes.steps(game):
        rewards, ended = envs.step(actions)
        show()
        processes.count(game, returns, rewards, ended)


class Student(Learner):
    """The student of one game, its teacher, its memory, and the graphs that act and learn.

    Everything that a graph touches is made once, here, and from then on changed in place.

    Args:
        game: its number.
        task: what the student plays.
        expert: its teacher.
        config: settings.
        memory: shared with the game's process.
        processes: of all games.
        device: the GPU, or the CPU.
    """

    def __init__(
        self,
        game: int,
        task: ProcgenTask,
        expert: Expert,
        config: DistilConfig,
        memory: SharedFrames,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.game, self.task, self.config, self.device = game, task, config, device
        self.expert, self.memory, self.processes = expert, memory, processes
        torch.manual_seed(1000 * config.seed + 200 + game)
        self.teacher = expert.network.to(device)
        spec = NetworkSpec(config.network, OBSERVATION_SHAPE, NUM_ACTIONS, **given_options(config))
        self.network = PolicyNetwork(spec).to(device)
        self._allocate()
        # TRAP: see teachers.py; a learning rate that is a number would stay what it was.
        self.learning_rate = torch.tensor(config.learning_rate, device=device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.learning_rate,
            eps=1e-5,
            weight_decay=config.weight_decay,
            capturable=device.type == "cuda",
        )
        self.parameters = list(self.network.parameters())
        self._capture()
        self.state, self.steps, self.updates = "stepping", 0, 0
        self.acted: torch.cuda.Event | None = None
        self.learned: torch.cuda.Event | None = None

    def _allocate(self) -> None:
        c, zeros = self.config, partial(torch.zeros, device=self.device)
        self.capacity = c.memory // c.num_envs * c.num_envs  # so that N rows never run over its end
        self.frames = zeros(2, c.num_envs, *FRAME, dtype=torch.uint8)
        self.chosen = zeros(c.num_envs, dtype=torch.int32)
        self.remembered = zeros(self.capacity, *FRAME, dtype=torch.uint8)
        self.labels = zeros(self.capacity, NUM_ACTIONS, dtype=torch.float16)
        # A graph takes no arguments: where in the memory to write, how much of it is filled and how
        # often the teacher acts lie on the device.
        self.places = torch.arange(c.num_envs, device=self.device)
        self.filled, self.teacher_share = zeros(1), torch.ones(1, device=self.device)
        self.divergence = zeros(1)

    def _capture(self) -> None:
        put_back = undo_training(self.network, self.optimiser)

        def undo_acting() -> None:
            self.places.copy_(torch.arange(self.config.num_envs, device=self.device))
            self.filled.zero_()

        def undo_learning() -> None:
            put_back()
            self.divergence.zero_()

        self.act = Graphed(self._act, self.device, undo_acting)
        self.filled.fill_(self.config.num_envs)  # so that there is a frame to learn from
        self.learn = Graphed(self._learn, self.device, undo_learning)
        self.filled.zero_()

    # What is captured.

    @torch.no_grad()
    def _act(self) -> None:
        with autocast(self.device, self.config.precision):
            taught = self.teacher(self.frames[1].permute(0, 3, 1, 2)).softmax(1)
        with autocast(self.device, self.config.precision):
            own = self.network(self.frames[0].permute(0, 3, 1, 2)).softmax(1)
        by_teacher = torch.rand(len(own), 1, device=self.device) < self.teacher_share
        probs = torch.where(by_teacher, taught, own)
        self.chosen.copy_(draw_actions(probs.clamp_min(1e-9).log()))
        self.remembered.index_copy_(0, self.places, self.frames[0])
        self.labels.index_copy_(0, self.places, taught.half())
        self.places.add_(len(own)).remainder_(self.capacity)
        self.filled.add_(len(own)).clamp_(max=self.capacity)

    def _learn(self) -> None:
        c = self.config
        with torch.no_grad():
            rows = (torch.rand(c.batch_size, device=self.device) * self.filled).long()
            frames = self.remembered.index_select(0, rows)
            labels = self.labels.index_select(0, rows).float()
        with autocast(self.device, c.precision):
            logits = self.network(frames.permute(0, 3, 1, 2))
        # The Kullback-Leibler divergence; the labels' own entropy has no gradient.
        loss = -(labels * logits.log_softmax(1)).sum(1).mean()
        loss = loss + (labels * labels.clamp_min(1e-7).log()).sum(1).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, c.max_gradient_norm)
        self.optimiser.step()
        with torch.no_grad():
            self.divergence.mul_(0.99).add_(0.01 * loss.detach())

    # What happens when.

    def tend(self, acting: Stream, learning: Stream, schedule: Schedule) -> bool:
        """Go from `stepping` to `acting` and back; learn while the environments step."""
        moved = True
        if self.state == "stepping" and self.processes.is_ready(self.game):
            self._start_acting(acting, schedule.share(self.steps))
        elif self.state == "acting" and is_done(self.acted):
            self.steps += self.config.num_envs
            if schedule.share(self.steps) < 1:
                self.processes.ask(self.game)
                self.state = "stepping"
            else:
                self.state = "ended"
        else:
            moved = False
        if self.state == "stepping" and self._is_behind() and is_done(self.learned):
            self._start_learning(learning, schedule.share(self.steps))
            moved = True
        return moved

    def _is_behind(self) -> bool:
        c = self.config
        samples = self.updates * c.batch_size
        return self.steps > c.learning_starts and samples < self.steps * c.samples_per_step

    def _start_acting(self, stream: Stream, share: float) -> None:
        teacher_share = self.config.teacher_share(round(share * self.config.steps))

        def act() -> None:
            self.teacher_share.fill_(teacher_share)
            self.frames.copy_(self.memory.frames[self.game], non_blocking=True)
            self.act()
            self.memory.actions[self.game].copy_(self.chosen, non_blocking=True)

        # After the updates under way: acting reads the weights and writes to the memory.
        self.acted = stream.put(act, after=self.learned)
        self.state = "acting"

    def _start_learning(self, stream: Stream, share: float) -> None:
        c = self.config
        rate = max(LEAST_RATE * c.learning_rate, c.rate_after(round(share * c.steps)))

        def learn() -> None:
            self.learning_rate.fill_(rate)
            for _ in range(UPDATES):
                self.learn()

        self.learned = stream.put(learn, after=self.acted)
        self.updates += UPDATES

    # What is left behind.

    def note(self) -> str:
        """The divergence from the teacher, averaged over the last hundred updates or so."""
        return f"divergence {float(self.divergence):.3f}"

    def card(self) -> dict[str, Any]:
        """Steps, updates, settings and the teacher."""
        return {
            "algorithm": "DAgger with soft labels (Ross et al. 2011)",
            "steps": self.steps,
            "updates": self.updates,
            "seed": self.config.seed,
            "config": asdict(replace(self.config, steps=self.steps)),
            "teacher": self.expert.id,
            "teacher_sha256": self.expert.sha256,
        }


def teacher_of(task: ProcgenTask, folder: Path | None) -> tuple[ProcgenTask, Expert]:
    """The task and the expert that teach a student of `task`: the plain one of the same game.

    Args:
        task: the student's.
        folder: what teachers.py has left; the shipped experts by default.

    Raises:
        BadConfig: the two tasks are not the same game but for their views.
    """
    (plain,) = procgen_tasks([f"procgen/{task.game}-plain-v0"])
    if (plain.mode, plain.seen) != (task.mode, task.seen):
        raise BadConfig(f"{plain.id!r} and {task.id!r} differ in more than their views")
    if folder is None:
        return plain, load_newest(plain.id)
    return plain, load_expert(plain.id, game_folder(folder, plain))


def configure(settings: dict[str, str], cpu: bool) -> DistilConfig:
    """Make the settings of a run from those that differ from the recipe."""
    if useless := sorted(set(settings) & set(NOT_HERE)):
        raise BadConfig(f"{', '.join(useless)} cannot be set here")
    precision = {"precision": "float32"} if cpu else {}
    return make_config(DistilConfig, {**RECIPE, **precision, **settings}, "distillation")


@click.option(
    "--teachers",
    type=click.Path(path_type=Path, exists=True),
    help="What teachers.py has left. Default: the shipped experts.",
)
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
    teachers: Path | None,
) -> None:
    """Distil plain experts into students of Procgen TASKS, by default of all ordinary ones."""
    config = configure(settings_of(pairs), cpu)
    schedule, games = Schedule(minutes, steps), procgen_tasks(tasks or ORDINARY)
    taught_by = [teacher_of(task, teachers) for task in games]
    begin_folder(out)
    memory = SharedFrames(len(games), config.num_envs)
    processes = Processes(list(map(label, games)))
    views = [(task, plain) for task, (plain, _) in zip(games, taught_by, strict=True)]
    processes.start(partial(step_in_lockstep, views, config, memory, processes))
    device = choose_device(cpu)
    if device.type == "cuda":
        pin(memory.frames)
        pin(memory.actions)
    students = [
        Student(number, task, expert, config, memory, processes, device)
        for number, (task, (_, expert)) in enumerate(zip(games, taught_by, strict=True))
    ]
    if start:
        start_from(start, students)
    seconds = serve(students, processes, schedule, out, device)
    processes.stop()
    finish(out, students, device, seconds, episodes)


if __name__ == "__main__":
    run(main)
