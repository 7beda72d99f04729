"""The parts that checks of several kinds share: sample data, monitors and fresh processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.checks.base import CheckFailed, CheckSkipped
from rlcondense.config import config_json, make_config
from rlcondense.datasets.traces import replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.experts import shipped
from rlcondense.make import configured, facts_of, make_task
from rlcondense.policies import FixedPolicies
from rlcondense.rollout import collect
from rlcondense.runtime.progress import Progress
from rlcondense.tasks.base import ReturnEstimate, Task

SAMPLE_TASK = "procgen/starpilot-easy-v0"
SAMPLE_EPISODES = 8
# Libraries imported late warn about each other; the subject is not responsible for that.
_OF_LIBRARIES = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning, ImportWarning)
HELDOUT_REFUSED = "it asked for held-out levels: those are for evaluation alone"
SLOW = 3.0  # seconds after which progress must be reported
T = TypeVar("T")


@cache
def _sample() -> dict[str, Any]:
    task = make_task(SAMPLE_TASK)
    policy = FixedPolicies(np.arange(1.0, 16.0), [0])
    trace = collect(policy, task, episodes=SAMPLE_EPISODES, seed=7, num_envs=4)
    episodes = list(replay(trace, task))
    lengths = [len(episode.rewards) for episode in episodes]
    return {
        "observations": np.concatenate([e.observations for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminations": np.concatenate([np.arange(n) == n - 1 for n in lengths]),
        "truncations": np.zeros(sum(lengths), bool),
        "episode_ids": np.repeat(np.arange(len(lengths)), lengths),
        "steps": np.concatenate([np.arange(n) for n in lengths]),
        "level_seeds": np.repeat([e.level_seed for e in episodes], lengths),
        "action_probs": np.concatenate([e.action_probs for e in episodes]),
    }


def sample_data() -> TransitionDataset:
    """Return a copy of some hundred transitions of starpilot, the same in every process."""
    return TransitionDataset(
        **{name: column.copy() for name, column in _sample().items()},
        id="checks/sample",
        task=SAMPLE_TASK,
        last_observation_repeated=True,
    )


class SampleBoxTask(Task):
    """A task of vectors and continuous actions, which cannot be played."""

    id = "checks/box-v0"
    score_range = None
    random_return: Mapping[str, ReturnEstimate] = {}
    observation_space = Box(-1, 1, (5,), np.float32)
    action_space = Box(np.array([-1, 0], np.float32), np.array([1, 3], np.float32))
    splits: Mapping[str, range] = {"seen": range(10), "heldout": range(10, 20)}

    def make_vec(self, split: str, num_envs: int, **_: Any) -> VectorEnv[Any, Any, Any]:
        raise RLCondenseError(f"{self.id} cannot be played")


def sample_box_data() -> TransitionDataset:
    """Return eight episodes of 25 steps, the same in every process."""
    rng, steps = np.random.default_rng(0), np.tile(np.arange(25), 8)
    observations = rng.uniform(-1, 1, (200, 5)).astype(np.float32)
    low, high = SampleBoxTask.action_space.low, SampleBoxTask.action_space.high
    return TransitionDataset(
        observations=observations,
        actions=rng.uniform(low, high, (200, 2)).astype(np.float32),
        rewards=observations[:, 0].copy(),
        terminations=steps == 24,
        truncations=np.zeros(200, bool),
        episode_ids=np.repeat(np.arange(8), 25),
        steps=steps,
        level_seeds=np.repeat(np.arange(8), 25),
        id="checks/box",
        task=SampleBoxTask.id,
    )


def check_id(entry: Entry) -> None:
    """Fail unless the id follows the grammar."""
    if not catalogue.ID.fullmatch(entry.id):
        raise CheckFailed(
            f"{entry.id!r} is no id of the form [namespace/]name[-vN]: use letters, digits, '-', "
            "'_' and '.'"
        )


def check_config_frozen(config: type[Any], owner: str) -> None:
    """Fail unless a Config is a frozen dataclass that can be made without arguments."""
    if not dataclasses.is_dataclass(config):
        raise CheckFailed(f"{owner}.Config is no dataclass; write @dataclass(frozen=True) above it")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise CheckFailed(f"{owner}.Config can be changed; write @dataclass(frozen=True) above it")
    try:
        config()
    except TypeError as error:
        raise CheckFailed(f"{owner}.Config needs a default for every setting: {error}") from error


def check_config_json(config: Any, owner: str) -> None:
    """Fail unless a config survives JSON."""
    try:
        plain = json.loads(json.dumps(config_json(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckFailed(
            f"{owner}.Config cannot be written as JSON ({error}): use numbers, texts and booleans"
        ) from error
    try:
        again = make_config(type(config), plain, owner)
    except BadConfig as error:
        raise CheckFailed(f"{owner}.Config cannot be read back from JSON: {error}") from error
    if again != config:
        raise CheckFailed(f"{owner}.Config comes back from JSON as {again}, not {config}")


def check_presets(entry: Entry, base: type) -> None:
    """Fail if a preset of a method or learner has settings that it does not take."""
    for name, settings in facts_of(entry).get("presets", {}).items():
        try:
            configured(entry, base, dict(settings))
        except (RLCondenseError, TypeError, ValueError) as error:
            raise CheckFailed(f"preset {name!r} cannot be made: {error}") from error


def check_unknown_key(config: type[Any], owner: str) -> None:
    """Fail unless a setting that does not exist is refused."""
    try:
        make_config(config, {"no_such_setting": 1}, owner)
    except BadConfig:
        return
    raise CheckFailed(f"{owner}.Config takes a setting that does not exist")


@dataclass(frozen=True)
class Trial(Generic[T]):
    """The result of a function that ran once, with its side effects.

    Attributes:
        result: the value that it returned.
        seconds: wall time.
        warnings: the warnings that it raised.
        environments: for each Procgen environment that was made, in any way, the levels that it
            could show of the task; none for those of another game.
        experts: how many shipped experts were loaded.
        progress: how often progress was reported.
        bad_progress: an impossible report, if there was one.
    """

    result: T
    seconds: float
    warnings: list[str]
    environments: list[range]
    experts: int
    progress: int
    bad_progress: str


def watch(act: Callable[[Progress], T], task: Task) -> Trial[T]:
    """Run a function once, and record its result and side effects."""
    counter = _Counter()
    with (
        warnings.catch_warnings(record=True) as caught,
        task.environments_watched() as environments,
        _experts_watched() as experts,
    ):
        warnings.simplefilter("always")
        started = time.perf_counter()
        result = act(counter)
        seconds = time.perf_counter() - started
    return Trial(
        result=result,
        seconds=seconds,
        warnings=[
            f"{w.category.__name__}: {w.message} ({w.filename}:{w.lineno})"
            for w in caught
            if not issubclass(w.category, _OF_LIBRARIES)
        ],
        environments=environments,
        experts=len(experts),
        progress=counter.calls,
        bad_progress=counter.bad,
    )


def check_warnings(watched: Trial[Any]) -> None:
    """Fail if it raised a warning."""
    if watched.warnings:
        raise CheckFailed(f"it warned: {watched.warnings[0]}")


def check_progress(watched: Trial[Any]) -> None:
    """Fail if it ran for long without progress, or reported impossible progress."""
    if watched.bad_progress:
        raise CheckFailed(watched.bad_progress)
    if not watched.progress and watched.seconds > SLOW:
        raise CheckFailed(
            f"it worked for {watched.seconds:.1f} s in silence: call progress(phase, done, total)"
        )


def _global_state() -> dict[str, int]:
    return {
        "random": hash(random.getstate()),
        "numpy.random": hash(str(np.random.get_state(legacy=False)["state"])),
        "torch": hash(torch.get_rng_state().numpy().tobytes()),
        "torch's default dtype": hash(torch.get_default_dtype()),
        "torch's number of threads": torch.get_num_threads(),
    }


class _Counter:
    """A progress function that counts its calls."""

    def __init__(self) -> None:
        self.calls, self.bad = 0, ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        self.calls += 1
        if not 0 <= done <= total:
            self.bad = f"progress said {done} of {total} in phase {phase!r}"


@dataclass(frozen=True)
class Traces:
    """The files and state that a function changed.

    Attributes:
        files: new ones in the working folder or among temporary files.
        state: names of global states that changed.
    """

    files: set[str] = field(default_factory=set)
    state: set[str] = field(default_factory=set)

    def check_files(self) -> None:
        """Fail if new files remain."""
        if self.files:
            raise CheckFailed(
                f"it left {', '.join(sorted(self.files))} behind: results are returned, not written"
            )

    def check_state(self) -> None:
        """Fail if a global state changed."""
        if self.state:
            raise CheckFailed(
                f"the global state of {' and '.join(sorted(self.state))} changed: draw from a "
                "generator of your own (problem.rng(), or torch.random.fork_rng around seeded "
                "torch code)"
            )


@contextlib.contextmanager
def contained(traces: Traces) -> Iterator[None]:
    """Record changes of files and global state in `traces`, and undo them at the end."""
    with _state_contained(traces.state), _files_contained(traces.files):
        yield


@contextlib.contextmanager
def _state_contained(moved: set[str]) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    for draw in (random.random, np.random.random, lambda: torch.rand(1)):
        draw()  # a state that no seed produces
    before = _global_state()
    try:
        yield
    finally:
        moved |= {name for name, state in _global_state().items() if state != before[name]}
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _files_contained(left: set[str]) -> Iterator[None]:
    before, environment = Path.cwd(), os.environ.get("TMPDIR")
    ours = re.compile(r"tmp|work|tmp/torchinductor.*")  # torch makes the last one on its first step
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("work", "tmp"):
            (folder / part).mkdir()
        os.chdir(folder / "work")
        os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
        try:
            yield
        finally:
            os.chdir(before)
            tempfile.tempdir = None
            if environment is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = environment
            paths = {str(path.relative_to(folder)) for path in folder.rglob("*")}
            left |= {path for path in paths if not ours.fullmatch(path)}


def shows_heldout(environments: Iterable[range], task: Task) -> bool:
    """Return whether one of some environments could show held-out levels of a task."""
    heldout = task.splits["heldout"]
    return any(
        max(levels.start, heldout.start) < min(levels.stop, heldout.stop) for levels in environments
    )


@contextlib.contextmanager
def _experts_watched() -> Iterator[list[str]]:
    loaded: list[str] = []
    original = (
        shipped.expert_path
    )  # patched here, because load_expert may be imported under any name

    def expert_path(expert_id: str, folder: Path | None = None) -> Path:
        loaded.append(expert_id)
        return original(expert_id, folder)

    shipped.expert_path = expert_path
    try:
        yield loaded
    finally:
        shipped.expert_path = original


def cancel(phase: str, done: int, total: int, note: str = "") -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does; a progress function."""
    raise KeyboardInterrupt


def check_cancellation(act: Callable[[Progress], object]) -> None:
    """Fail if `act`, given a progress function that interrupts it, swallows the interruption."""
    interrupted = False

    def interrupt(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal interrupted
        interrupted = True
        cancel(phase, done, total, note)

    try:
        act(interrupt)
    except KeyboardInterrupt:
        if not interrupted:  # by the user
            raise
        return
    except BaseException as error:
        if not interrupted:  # it fails by itself, which other checks say
            raise CheckSkipped("it fails before it can be interrupted") from error
        raise CheckFailed(
            f"Ctrl-C came out as {type(error).__name__}: let KeyboardInterrupt pass"
        ) from error
    if interrupted:
        raise CheckFailed("Ctrl-C was swallowed: let KeyboardInterrupt pass")
    raise CheckSkipped("it reports no progress, so it cannot be interrupted there")


def in_a_fresh_process(entry: Entry, function: str) -> str:
    """Call `module:function` on the entry in a new interpreter where CUDA may not be touched.

    Returns:
        The text that the function returned.
    """
    facts = {
        "group": entry.group,
        "id": entry.id,
        "entry_point": entry.entry_point,
        "config": dict(entry.config),
        "facts": {k: v for k, v in entry.facts.items() if k in ("budget", "check_config")},
    }
    call = {
        "entry": facts,
        "function": function,
        "threads": torch.get_num_threads(),
        "path": sys.path,
        "peeked": _PEEKED,
        "answer": _ANSWER,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD, json.dumps(call)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        if _PEEKED in done.stderr:
            raise CheckFailed(HELDOUT_REFUSED)
        if "CUDA was touched" in done.stderr:
            raise CheckFailed(
                "it touches the GPU, at import or on device 'cpu': use the device given"
            )
        raise CheckFailed(f"in a fresh process it fails with {last}: import everything by name")
    # What is checked may print, at its exit too.
    answers = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if not answers:
        raise CheckFailed("a fresh process ended before it was done: do not end it")
    return answers[-1].removeprefix(_ANSWER)


_CHILD = """
import json, sys
call = json.loads(sys.argv[1])
sys.path[:] = call["path"]
import torch
def refuse(*_, **__):
    raise RuntimeError("CUDA was touched")
torch.cuda._lazy_init = refuse
from importlib import import_module
from rlcondense.catalogue import Entry
from rlcondense.checks.common import SAMPLE_TASK, shows_heldout
from rlcondense.make import make_task
torch.set_num_threads(call["threads"])
module, _, name = call["function"].partition(":")
task = make_task(SAMPLE_TASK)
with task.environments_watched() as environments:  # from the import of what is checked on
    result = getattr(import_module(module), name)(Entry(**call["entry"]))
if shows_heldout(environments, task):
    sys.exit(call["peeked"])
print("\\n" + call["answer"] + str(result))
"""
_ANSWER = "rlcondense: "
_PEEKED = "held-out levels were made"
