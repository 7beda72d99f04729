"""Training runs in folders: checkpoints, logs, and interruption by Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlcondense.errors import BadConfig
from rlcondense.files import (
    Busy,
    canonical_json,
    lock,
    make_folder,
    open_to_append,
    read_arrays,
    who,
    write_bytes,
)
from rlcondense.networks import PolicyNetwork
from rlcondense.tasks.base import Task

LOGGER = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60
LOG = "log.jsonl"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a finished run.

    Attributes:
        network: the policy, possibly with a value head.
        steps: environment steps taken.
        seconds: wall time, including earlier runs before a resume.
    """

    network: PolicyNetwork
    steps: int
    seconds: float


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context of forward passes in a precision, `float32` or `bfloat16`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def mean_or_nan(values: Sequence[float]) -> float:
    """Return the mean, or NaN if there are no values."""
    return float(np.mean(values)) if values else float("nan")


@contextlib.contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Make a run's folder, and keep other runs out of it within the context.

    Raises:
        BadConfig: another run is at work in it.
    """
    make_folder(out)
    try:
        with lock(out / ".lock", wait=False):
            yield
    except Busy as busy:
        raise BadConfig(f"{out}: {who(busy.owner)} trains there; name another --out") from busy


def begin(out: Path, *, resume: bool, restart: bool) -> dict[str, npt.NDArray[Any]] | None:
    """Make a run's folder, and read the checkpoint that the run resumes from, if any.

    Args:
        out: the folder.
        resume: continue from the folder's checkpoint, if there is one.
        restart: start anew even if there is one.

    Raises:
        BadConfig: a run has been in the folder, and neither is set; or both are.
    """
    if resume and restart:
        raise BadConfig("--resume goes on from a training, --restart discards it: give one")
    make_folder(out)
    path = out / CHECKPOINT
    if path.exists() and resume:
        return read_arrays(path)
    log = out / LOG
    is_used = path.exists() or (log.exists() and log.stat().st_size > 0)
    if is_used and not (restart or resume):
        raise BadConfig(
            f"{out} holds a training already: --resume goes on from it, --restart discards it"
        )
    path.unlink(missing_ok=True)
    if resume:
        LOGGER.warning("%s holds no checkpoint: the training begins anew.", out)
    return None


def advance_until(
    finished: Callable[[], bool], advance: Callable[[], None], save: Callable[[], None]
) -> None:
    """Advance until finished, saving every minute and at the end.

    Ctrl-C waits for the current advance, saves and then interrupts. A second Ctrl-C interrupts
    immediately.
    """
    saved = time.monotonic()
    with _interrupt_deferred() as interrupted:
        while not finished():
            advance()
            due = time.monotonic() - saved > CHECKPOINT_SECONDS
            if finished() or due or interrupted():
                save()
                saved = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
        if interrupted():
            raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[Callable[[], bool]]:
    """Defer a first Ctrl-C within the context; a second one interrupts as usual.

    So does SIGTERM where it interrupts, as in every command.
    """
    heard: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))
        and (number == signal.SIGINT or handler is signal.default_int_handler)
    }
    if threading.current_thread() is not threading.main_thread():
        before = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        restore()
        LOGGER.warning("Finishing the update; Ctrl-C again to stop at once.")

    for number in before:
        signal.signal(number, hear)
    try:
        yield lambda: bool(heard)
    finally:
        restore()


def append_log(out: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to a run's log."""
    with open_to_append(out / LOG) as file:
        file.write((json.dumps(entry) + "\n").encode())


def cut_log(out: Path, steps: int) -> None:
    """Drop log lines after the checkpoint at `steps`, since those steps are repeated."""
    log = out / LOG
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    write_bytes(log, b"".join(line for line in lines if _logged_steps(line) <= steps))


def _logged_steps(line: bytes) -> float:
    try:
        return float(json.loads(line)["steps"])
    except (ValueError, KeyError, TypeError):  # a truncated line
        return float("inf")


def learning_arrays(
    network: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Collect weights, the optimiser's moments and the generator's state, for a checkpoint."""
    arrays = {f"network.{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
    for i, moments in optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{i}.{k}": v.cpu().numpy() for k, v in moments.items()}
    return {**arrays, "generator": generator.get_state().numpy()}


def restore_learning(
    arrays: Arrays,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Restore the state that `learning_arrays` collected."""
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    network.load_state_dict(_under(tensors, "network."))
    moments = {i: _under(tensors, f"optimiser.{i}.") for i, _ in enumerate(network.parameters())}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    generator.set_state(tensors["generator"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def state_arrays(name: str, states: Sequence[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Pack the states of environments into arrays, for a checkpoint."""
    return {f"{name}.{i}": np.frombuffer(state, np.uint8) for i, state in enumerate(states)}


def states_of(arrays: Arrays, name: str, which: Sequence[int]) -> list[bytes]:
    """Read the states of the environments numbered `which` from the arrays of `state_arrays`."""
    return [arrays[f"{name}.{i}"].tobytes() for i in which]


def check_resumable(env: Any, task: Task) -> None:
    """Raise `BadConfig` unless a task's environments can be restored to a state."""
    if not hasattr(env, "get_state"):
        raise BadConfig(f"{task.id!r} cannot be trained on: its state cannot be kept")


def json_array(value: Any) -> npt.NDArray[np.uint8]:
    """Encode a plain value as JSON in bytes, for a checkpoint."""
    return np.frombuffer(canonical_json(value).encode(), np.uint8)


def check_settings(path: Path, trained: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise `BadConfig` unless a checkpoint's settings are those of the run that resumes it.

    Args:
        path: path of the checkpoint.
        trained: its settings.
        ours: the requested settings.
    """
    differ = [
        f"{name} was {trained[name]}, is {ours.get(name)}"
        for name in trained
        if trained[name] != ours.get(name)
    ]
    if differ:
        raise BadConfig(f"{path} was trained with other settings: {'; '.join(differ)}")
