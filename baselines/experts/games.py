"""What teachers.py and students.py share: processes that step games, GPU work, experts as files.

One process for each game steps its environments; the process that trains owns the GPU, serves
whichever game is ready, and waits for none. Run as a script, this file draws curves.svg from
curves.csv and fills the table of docs/results/experts.md from the cards of the shipped experts:

    python baselines/experts/games.py
"""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import shlex
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlcondense.cli.base import split_once
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.experts.shipped import expert_path, expert_table, load_expert, save_expert
from rlcondense.files import make_folder, read_arrays, slug, write_arrays, write_bytes, write_json
from rlcondense.make import make_task
from rlcondense.networks import PolicyNetwork
from rlcondense.reporting.curves import LearningCurve, draw_learning_curves
from rlcondense.reporting.publish import fill_part
from rlcondense.runtime.provenance import describe
from rlcondense.tasks.procgen import GAMES, OBSERVATION_SHAPE, ProcgenTask
from rlcondense.training.experts import measure_policy

PLAIN = tuple(f"procgen/{game}-plain-v0" for game in GAMES)
ORDINARY = tuple(f"procgen/{game}-easy-v0" for game in GAMES)
# Mean return on training levels and on test levels, easy games, after 25M steps of PPO with
# IMPALA's network on ordinary frames, 200 levels: OpenAI's curves of 3 runs.
PUBLISHED = {
    "bigfish": (17.2, 7.0), "bossfight": (8.8, 8.1), "caveflyer": (8.8, 5.9), "chaser": (7.8, 6.7),
    "climber": (9.5, 6.5), "coinrun": (9.8, 8.7), "dodgeball": (7.6, 3.0), "fruitbot": (30.5, 26.9),
    "heist": (8.7, 2.9), "jumper": (8.7, 5.8), "leaper": (6.4, 6.0), "maze": (9.4, 5.7),
    "miner": (12.9, 9.5), "ninja": (8.4, 6.2), "plunder": (4.4, 4.1), "starpilot": (35.7, 27.7),
}  # fmt: skip
PUBLISHED_BY = "Cobbe et al. 2020 (arXiv 1912.01588): PPO, IMPALA, ordinary frames, 25M steps"
FRAME = (*OBSERVATION_SHAPE[1:], OBSERVATION_SHAPE[0])  # (H, W, C), as Procgen draws it
RECENT = 256  # episodes of each game whose mean return is reported
POLLS, NAP = 20, 3e-5  # looks at the shared memory before sleeping between looks, in seconds
REPORT_SECONDS, SAVE_SECONDS = 30, 60
LEARNING = 4  # streams that updates go on
LOG, WEIGHTS, CURVES = "curves.csv", "latest.safetensors", "curves.svg"

torch.set_num_threads(1)  # a process for each game fills the cores already

Frames = npt.NDArray[np.uint8]


def procgen_tasks(names: Sequence[str]) -> list[ProcgenTask]:
    """Make the tasks of some ids or aliases, each of another game or view.

    Raises:
        BadConfig: one is not of Procgen, or two show the same game in the same way.
    """
    tasks = []
    for name in names:
        task = make_task(name)
        if not isinstance(task, ProcgenTask):
            raise BadConfig(f"{task.id!r} is no game of Procgen")
        tasks.append(task)
    labels = [label(task) for task in tasks]
    if twice := sorted({name for name in labels if labels.count(name) > 1}):
        raise BadConfig(f"each game is trained once in a run, not {', '.join(twice)} twice")
    return tasks


def label(task: ProcgenTask) -> str:
    """The short name of a game and a view, such as `starpilot-plain`."""
    return f"{task.game}-{task.view}"


def as_drawn(observations: Frames) -> Frames:
    """View `(N, C, H, W)` observations as Procgen draws them, `(N, H, W, C)`."""
    return observations.transpose(0, 2, 3, 1)


def shared(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make zeros in memory that forked processes share."""
    tensor = torch.zeros(shape, dtype=dtype)
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def pin(tensor: Tensor) -> None:
    """Lock shared memory in place: only from there does the GPU copy while this process goes on."""
    size = tensor.numel() * tensor.element_size()
    cuda = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    if error := int(cuda.cudaHostRegister(tensor.data_ptr(), size, 0)):
        raise RLCondenseError(
            f"{size:,} bytes of shared memory cannot be pinned: CUDA error {error}"
        )


class Processes:
    """A process for each of G games, which steps its environments whenever it is asked to.

    Every array lies in shared memory and has an entry for each game. Both sides look at them again
    and again, for the process that trains must not wait for any one game. (That frames are there
    before the number that announces them is x86's promise; other processors give none.)

    Attributes:
        asked: steps asked for.
        shown: steps whose frames are there, and one more for the first frames.
        stopped: `(1,)` nonzero when all are to end.
        returns: `(G, RECENT)` of the last episodes, the oldest overwritten first.
        episodes: finished so far.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.asked = shared(len(names), dtype=torch.int32).numpy()
        self.shown = shared(len(names), dtype=torch.int32).numpy()
        self.stopped = shared(1, dtype=torch.int32).numpy()
        self.returns = shared(len(names), RECENT).numpy()
        self.episodes = shared(len(names), dtype=torch.int64).numpy()
        self._processes: list[ForkProcess] = []

    def start(self, body: Callable[[int], None]) -> None:
        """Fork a process for each game, which calls `body(game)`.

        TRAP: fork before the first call of CUDA, whose state does not survive it.
        """
        assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        fork = multiprocessing.get_context("fork")
        for game in range(len(self.names)):
            process = fork.Process(target=self._run, args=(body, game), daemon=True)
            process.start()
            self._processes.append(process)

    def _run(self, body: Callable[[int], None], game: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that trains tells when to stop
        body(game)

    # In the process of a game.

    def steps(self, game: int) -> Iterator[int]:
        """Number the steps that are asked for, until all are to end.

        What was shown before the first, and after each step, is marked as there.
        """
        step, parent = 0, os.getppid()
        self.shown[game] = 1
        while self._is_asked(game, step + 1, parent):
            yield step
            step += 1
            self.shown[game] = step + 1

    def _is_asked(self, game: int, step: int, parent: int) -> bool:
        polls = 0
        while self.asked[game] < step:
            polls += 1
            if polls > POLLS:
                time.sleep(NAP)
                if os.getppid() != parent:  # it was killed
                    return False
            if self.stopped[0]:
                return False
        return True

    def count(
        self,
        game: int,
        returns: npt.NDArray[np.float64],
        rewards: npt.NDArray[np.float32],
        first: npt.NDArray[np.bool_],
    ) -> None:
        """Add the `(N,)` rewards of a step to the running `returns`, and keep those that ended."""
        returns += rewards
        for value in returns[first]:
            self.returns[game, self.episodes[game] % RECENT] = value
            self.episodes[game] += 1
        returns[first] = 0

    # In the process that trains.

    def is_ready(self, game: int) -> bool:
        """Say whether the frames after the last step asked for are there."""
        return bool(self.shown[game] == self.asked[game] + 1)

    def ask(self, game: int) -> None:
        """Ask for a step with the actions that lie in shared memory."""
        self.asked[game] += 1

    def mean_return(self, game: int) -> float:
        """The mean return of the last episodes, nan before the first has ended."""
        number = min(int(self.episodes[game]), RECENT)
        return float(self.returns[game, :number].mean()) if number else math.nan

    def check(self) -> None:
        """Raise if a process has ended by itself: its game would never be ready again."""
        for name, process in zip(self.names, self._processes, strict=True):
            if process.exitcode is not None:
                raise RLCondenseError(f"the process of {name} has ended; its error is above")

    def stop(self) -> None:
        """End all processes."""
        self.stopped[0] = 1
        for process in self._processes:
            process.join()


def choose_device(cpu: bool) -> torch.device:
    """The GPU, set up for speed, or the CPU where that is asked for.

    Raises:
        BadConfig: there is no GPU.
    """
    if cpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BadConfig("torch sees no GPU; --cpu runs without one, some hundred times as slowly")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return torch.device("cuda")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Compute in `bfloat16` where that is the precision.

    TRAP: autocast keeps weights that it has cast, and a graph that was captured with a kept one
    would go on with it after the weights have changed. So its cache is off.
    """
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )


def draw_actions(logits: Tensor) -> Tensor:
    """Draw `(B,)` actions of `(B, A)` logits by the Gumbel-max trick, all on the device."""
    uniform = torch.rand_like(logits).clamp_(1e-9, 1 - 1e-7)
    return (logits - torch.log(-torch.log(uniform))).argmax(1)


class Graphed:
    """Work on tensors that stay where they are, as one CUDA graph; on a CPU it is done as it is.

    A network this small is hundreds of kernels of a few microseconds, and starting each of them
    would take the process longer than the GPU needs for all. A graph is started at once.

    Args:
        work: what to do; it changes tensors in place, and nothing of it waits for the GPU.
        device: where.
        undo: puts back what `work` changed while it was tried.
    """

    def __init__(
        self, work: Callable[[], None], device: torch.device, undo: Callable[[], None] | None = None
    ) -> None:
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type != "cuda":
            return
        # Done three times before, so that cuDNN has chosen its algorithms and Adam has its moments.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        # TRAP: all graphs are captured on one stream, whose cuBLAS workspace they would share, and
        # then spoil each other's results when they run side by side: nan within seconds. A graph
        # that finds none gets its own.
        torch._C._cuda_clearCublasWorkspaces()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            work()
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        if undo is not None:
            undo()

    def __call__(self) -> None:
        """Queue the work on the current stream."""
        if self._graph is None:
            self._work()
        else:
            self._graph.replay()


def undo_training(network: nn.Module, optimiser: torch.optim.Optimizer) -> Callable[[], None]:
    """Remember the weights of a network; calling what is returned undoes all updates since."""
    weights = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def undo() -> None:
        load(network, weights)
        for moments in optimiser.state.values():  # the number of updates is among them
            for value in moments.values():
                value.zero_()

    return undo


class Stream:
    """A stream of GPU work; on a CPU, work is done as soon as it is put in.

    Args:
        device: where.
        priority: -1 goes before 0 where both have work.
    """

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(priority=priority)  # type: ignore[no-untyped-call]

    def put(
        self, work: Callable[[], None], after: torch.cuda.Event | None = None
    ) -> torch.cuda.Event | None:
        """Queue `work`, to begin `after` an event, and return the event that it is done."""
        if self._stream is None:
            work()
            return None
        if after is not None:
            self._stream.wait_event(after)
        with torch.cuda.stream(self._stream):
            work()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._stream)
        return event


def is_done(event: torch.cuda.Event | None) -> bool:
    """Say whether work is done, without waiting for it."""
    return event is None or bool(event.query())  # type: ignore[no-untyped-call]


def synchronise(device: torch.device) -> None:
    """Wait for all work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Schedule:
    """How far a run is, which ends after some time or after some steps of each game.

    Args:
        minutes: of training, if they end it.
        steps: of each game, if they end it.

    Raises:
        BadConfig: neither or both are given.
    """

    def __init__(self, minutes: float | None, steps: int | None) -> None:
        if (minutes is None) == (steps is None):
            raise BadConfig("a run ends after --minutes or after --steps: give one of them")
        if (minutes or steps or 0) <= 0:
            raise BadConfig("--minutes and --steps must be above 0")
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._steps = math.inf if steps is None else steps
        self.begin()

    def begin(self) -> None:
        """Count time from now."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return time.monotonic() - self._begun

    @property
    def time_is_up(self) -> bool:
        """Whether the minutes are over."""
        return self.seconds >= self._seconds

    def share(self, steps: int) -> float:
        """Compute the share of a run that lies behind a game of so many steps, in [0, 1]."""
        return min(1.0, max(self.seconds / self._seconds, steps / self._steps))


class Learner(ABC):
    """The network of one game and how it learns.

    Attributes:
        game: its number among those side by side.
        task: what it learns to play.
        network: with its weights of now.
        steps: environment steps so far.
        state: what it waits for; `ended` when it has its steps.
    """

    game: int
    task: ProcgenTask
    network: PolicyNetwork
    steps: int
    state: str

    @abstractmethod
    def tend(self, acting: Stream, learning: Stream, schedule: Schedule) -> bool:
        """Go on with whatever the GPU or the game's process has done, and say whether it had."""

    @abstractmethod
    def note(self) -> str:
        """What a report says of it beside steps and return."""

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What the card says of this expert alone."""


def serve(
    learners: Sequence[Learner],
    processes: Processes,
    schedule: Schedule,
    out: Path,
    device: torch.device,
) -> float:
    """Tend whichever game is ready until the schedule ends, and return how many seconds it took.

    Leaves a log, a row for each game every half minute, and every minute all weights, for
    `--start`.
    """
    # Acting takes a fraction of a millisecond, for which environments stand still: it goes first.
    # One update does not fill the GPU; several side by side do.
    acting, learning = Stream(device, priority=-1), [Stream(device) for _ in range(LEARNING)]
    synchronise(device)
    schedule.begin()
    (out / LOG).write_text("minutes,task,steps,return\n")
    reported = saved = 0.0
    try:
        while not (schedule.time_is_up or all(one.state == "ended" for one in learners)):
            moved = [one.tend(acting, learning[one.game % LEARNING], schedule) for one in learners]
            if schedule.seconds - reported > REPORT_SECONDS:
                reported = schedule.seconds
                _report(out / LOG, learners, processes, reported)
            if schedule.seconds - saved > SAVE_SECONDS:
                saved = schedule.seconds
                _save_all(out / WEIGHTS, learners, device)
            if not any(moved):
                time.sleep(2e-5)
        _report(out / LOG, learners, processes, schedule.seconds)
        return schedule.seconds
    finally:
        _save_all(out / WEIGHTS, learners, device)


def _report(log: Path, learners: Sequence[Learner], processes: Processes, seconds: float) -> None:
    processes.check()
    line = [
        f"{seconds / 60:5.1f} min",
        f"{sum(one.steps for one in learners) / seconds:,.0f} steps/s",
    ]
    with log.open("a") as file:
        for one in learners:
            value = processes.mean_return(one.game)
            file.write(f"{seconds / 60:.3f},{one.task.id},{one.steps},{value:.3f}\n")
            line.append(f"{one.task.game} {one.steps / 1e6:.2f}M {value:.2f} ({one.note()})")
    print("  ".join(line), flush=True)


def _save_all(path: Path, learners: Sequence[Learner], device: torch.device) -> None:
    synchronise(device)
    arrays = {
        f"{label(one.task)}/{key}": value.detach().float().cpu().numpy()
        for one in learners
        for key, value in one.network.state_dict().items()
    }
    write_arrays(path, arrays)


def start_from(path: Path, learners: Sequence[Learner]) -> None:
    """Go on from the weights that an earlier run has left, in place.

    Raises:
        BadConfig: there are none for one of the games, or those of another network.
    """
    arrays = read_arrays(path)
    for one in learners:
        name, weights = label(one.task), one.network.state_dict()
        try:
            load(one.network, {k: torch.from_numpy(arrays[f"{name}/{k}"]) for k in weights})
        except (KeyError, RuntimeError) as error:
            raise BadConfig(f"{path} has no weights to go on from for {name}: {error}") from error


@torch.no_grad()
def load(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a network's own tensors, which graphs have captured."""
    for name, value in network.state_dict().items():
        value.copy_(weights[name])


def begin_folder(out: Path) -> None:
    """Make the folder of a run.

    Raises:
        BadConfig: it holds one already.
    """
    if (out / WEIGHTS).exists():
        raise BadConfig(
            f"{out} holds a run already; name another folder, and --start {out / WEIGHTS} there "
            "goes on from its weights"
        )
    make_folder(out)


def game_folder(out: Path, task: ProcgenTask) -> Path:
    """The folder of one game's expert, laid out as `rlcondense expert train` lays out its own."""
    return out / slug(task.id)


def finish(
    out: Path, learners: Sequence[Learner], device: torch.device, seconds: float, episodes: int
) -> None:
    """Draw the learning curves, write each game's expert and measure it as it is written.

    Args:
        out: where to; each game has its own folder.
        learners: trained.
        device: they were trained on.
        seconds: of training, of all games side by side.
        episodes: of the evaluation on each split; none for 0.
    """
    draw(out / LOG, out / CURVES)
    machine = describe(device.type, os.cpu_count() or 1)
    script = f"baselines/experts/{Path(sys.argv[0]).name}"
    for one in learners:
        card = {
            "command": shlex.join(["python", script, *sys.argv[1:]]),
            "recipe": "docs/results/experts.md",
            "seconds": round(seconds),
            "games_side_by_side": len(learners),
            "environment": {key: value for key, value in machine.items() if key != "git"},
            **one.card(),
        }
        if published := published_returns(one.task):
            card["published"] = published
        save_expert(one.task.id, one.network, card, game_folder(out, one.task))
    if not episodes:
        return
    # Forked although CUDA is in use by now: these processes only ever compute on the CPU.
    with multiprocessing.get_context("fork").Pool(min(len(learners), os.cpu_count() or 1)) as pool:
        jobs = [(one.task, game_folder(out, one.task), episodes) for one in learners]
        for line in pool.imap_unordered(_measure, jobs):
            print(line, flush=True)


def published_returns(task: ProcgenTask) -> dict[str, Any] | None:
    """The published returns of PPO on a game by split, and where they are from."""
    if task.mode != "easy":
        return None
    seen, heldout = PUBLISHED[task.game]
    return {"seen": seen, "heldout": heldout, "source": PUBLISHED_BY}


def _measure(job: tuple[ProcgenTask, Path, int]) -> str:
    """Measure an expert as it was written, and complete its card."""
    task, folder, episodes = job
    expert = load_expert(task.id, folder)
    card = {**expert.card, **measure_policy(expert.network, task, episodes, "cpu")}
    write_json(expert_path(task.id, folder).with_suffix(".json"), card)
    returns = (f"{split} {by['mean']:.2f}" for split, by in card["returns"].items())
    return f"{label(task)}: {', '.join(returns)}"


def draw(log: Path, svg: Path) -> None:
    """Draw the learning curves of a log beside the random policy's and the published return."""
    rows: dict[str, list[tuple[float, float]]] = {}
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["task"], []).append((float(row["steps"]), float(row["return"])))
    curves = []
    for task in procgen_tasks(list(rows)):
        steps, returns = np.array(rows[task.id]).T
        marks = {}
        if random := task.random_return.get("seen"):
            marks["random policy"] = random.mean
        if published := published_returns(task):
            marks["published"] = published["seen"]
        curves.append(LearningCurve(label(task), steps, returns, marks))
    write_bytes(svg, draw_learning_curves(curves).encode())


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """Split the KEY=VALUE of `--set`."""
    return split_once(pairs, "--set", "KEY=VALUE")


_PATH = click.Path(path_type=Path)
_OPTIONS = (
    click.argument("tasks", nargs=-1),
    click.option("--minutes", type=float, help="Train so long, all games side by side."),
    click.option("--steps", type=int, help="Or until each game has taken so many steps."),
    click.option("--out", type=_PATH, required=True, help="Folder of all that is left."),
    click.option("--start", type=_PATH, help="Go on from the weights of a latest.safetensors."),
    click.option("--cpu", is_flag=True, help="Run without a GPU: slow, to try things."),
    click.option("--episodes", default=500, show_default=True, help="On each split; 0 for none."),
    click.option(
        "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Another setting. Repeatable."
    ),
)


def options(function: Callable[..., None]) -> click.Command:
    """Make a command of a function, with the options that both scripts have."""
    for add in reversed(_OPTIONS):
        function = add(function)
    return click.command(context_settings={"help_option_names": ["-h", "--help"]})(function)


def run(command: click.Command) -> None:
    """Run a script; its foreseen errors are one line."""
    try:
        command()
    except RLCondenseError as error:
        sys.exit(f"Error: {error}")


def table() -> str:
    """Format what the cards say, for the page."""
    return expert_table("pipe", {*PLAIN, *ORDINARY})


if __name__ == "__main__":
    here = Path(__file__).parent
    draw(here / LOG, here / CURVES)
    fill_part(here.parents[1] / "docs" / "results" / "experts.md", "experts", table())
