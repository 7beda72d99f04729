"""An executor that computes cells in parallel processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import IO, Any

from rlcondense.errors import BadConfig
from rlcondense.files import open_to_append, plain, who
from rlcondense.records.cell import Cell
from rlcondense.running.executors.base import Event, Setting, known_parts
from rlcondense.runtime.provenance import resolve_device
from rlcondense.runtime.tune import num_cores

GRACE = 10.0  # seconds that workers have to close their files

# A worker gets its driver's path, so that it imports the same modules.
WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from rlcondense.running.executors.worker import main; main()"
)


@dataclass
class _Worker:
    """A worker process and its current cell."""

    number: int
    process: subprocess.Popen[bytes]
    orders: IO[str]
    answers: int
    log: Path
    cell_id: str = ""
    heard: bytes = b""
    ready: bool = False
    log_start: int = 0  # offset of this cell's output in the log


class LocalExecutor:
    """Worker processes on this machine, each with one thread and GPU memory of its own.

    They are fresh interpreters that import nothing of the caller, so that scripts need no guard,
    and one that crashes takes only its cell with it.

    Args:
        setting: of all workers.
    """

    shares_stored = True

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.device = resolve_device(setting.device)
        self._workers: list[_Worker] = []

    def size(self) -> int:
        if self.setting.workers is not None:
            return self.setting.workers
        if self.device != "cpu":
            return len(_gpus())
        return num_cores()

    def room(self) -> bool:
        return sum(bool(worker.cell_id) for worker in self._workers) < self.size()

    def begin(
        self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...], is_reference: bool = False
    ) -> None:
        worker = next((w for w in self._workers if not w.cell_id), None) or self._start()
        worker.cell_id, worker.log_start = cell.id, _size_of(worker.log)
        order = {
            "refresh": self.setting.refresh,
            "refreshed": refreshed,
            "seen": seen,
            "is_reference": is_reference,
        }
        # If it has died, `events` reports that while it waits for the answer.
        with contextlib.suppress(BrokenPipeError):
            _write(worker, {"cell": cell.to_json(), **order})

    def _start(self) -> _Worker:
        taken = {worker.number for worker in self._workers}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        to_worker, from_driver = os.pipe()
        to_driver, from_worker = os.pipe()
        name = f"worker-{os.getpid()}-{number}-{secrets.token_hex(3)}"  # pids of containers agree
        log = self.setting.store.log_path(name)
        pipes = (to_worker, from_worker)
        with _opened(log) as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", WORKER, *map(str, pipes), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pipes,
                env=self._environment(number),
                # The driver handles Ctrl-C; and beside other work Linux shares a core out between
                # sessions first, so that workers of one session had the share of one process.
                start_new_session=True,
            )
        for pipe in pipes:
            os.close(pipe)
        worker = _Worker(number, process, os.fdopen(from_driver, "w"), to_driver, log)
        self._workers.append(worker)
        with contextlib.suppress(BrokenPipeError):
            _write(worker, self._greeting())
        return worker

    def _environment(self, number: int) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        out = {**os.environ, **dict.fromkeys(names, "1")}
        if self.device != "cpu":
            gpus = _gpus()
            out["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        return out

    def _greeting(self) -> dict[str, Any]:
        gpus = len(_gpus()) if self.device != "cpu" else self.size()
        return {
            "results": str(self.setting.store.root.resolve()),
            "device": self.device,
            "gpu_share": 1 / max(1, -(-self.size() // gpus)),
            "keep_policies": self.setting.keep_policies,
            "heldout_data": self.setting.heldout_data,
            **known_parts(),
        }

    def events(self, timeout: float) -> list[Event]:
        out: list[Event] = []
        # A child process of a dead worker may keep its pipe open.
        dead = [worker for worker in self._workers if worker.process.poll() is not None]
        ready = wait_for([worker.answers for worker in self._workers], 0 if dead else timeout)
        for worker in list(self._workers):
            chunk = os.read(worker.answers, 1 << 16) if worker.answers in ready else b""
            *lines, worker.heard = (worker.heard + chunk).split(b"\n")
            out += [self._heard(worker, json.loads(line)) for line in lines]
            ended = worker.answers in ready or worker in dead
            out += [self._lost(worker)] if ended and not chunk else []
        return out

    def _heard(self, worker: _Worker, answer: Mapping[str, Any]) -> Event:
        if "ready" in answer:
            worker.ready = True
            return Event(worker.cell_id, "at", worker.number, "started")
        if "at" in answer:
            return Event(worker.cell_id, "at", worker.number, answer["at"])
        cell_id, worker.cell_id = worker.cell_id, ""
        if "busy" in answer:
            return Event(cell_id, "busy", worker.number, who(answer["busy"]))
        if "unwritten" in answer:
            return Event(cell_id, "unwritten", worker.number, answer["unwritten"])
        return Event(
            cell_id, "done", worker.number, answer["reason"], answer["status"], answer["computed"]
        )

    def _lost(self, worker: _Worker) -> Event:
        self._workers.remove(worker)
        _signal(worker, signal.SIGKILL)  # its child processes, which may hold its locks
        code = worker.process.wait()
        _put_away(worker)
        how = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        text = f"its worker process was ended by {how}{_last_line(worker)}"
        kind = "unable" if code >= 0 and not worker.ready else "lost"
        return Event(worker.cell_id, kind, worker.number, text)

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            _signal(worker, signal.SIGKILL)
            worker.process.wait()
            _put_away(worker)
        self._workers.clear()


def _opened(log: Path) -> IO[bytes]:
    """Open the file for a worker's output; the null device, if the disk is full."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open_to_append(log)
    except OSError:
        return Path(os.devnull).open("ab")


def _write(worker: _Worker, what: dict[str, Any]) -> None:
    try:
        text = json.dumps(plain(what))
    except TypeError as error:
        raise BadConfig(
            f"a registered setting cannot be told to another process: {error}"
        ) from error
    worker.orders.write(text + "\n")
    worker.orders.flush()


def _signal(worker: _Worker, number: signal.Signals) -> None:
    """Send a signal to a worker and to all processes that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _put_away(worker: _Worker) -> None:
    with contextlib.suppress(BrokenPipeError):
        worker.orders.close()
    os.close(worker.answers)
    with contextlib.suppress(OSError):
        if worker.log.stat().st_size == 0:
            worker.log.unlink()


def _size_of(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _last_line(worker: _Worker) -> str:
    """Return the last line that a worker wrote for its cell, which may explain why it ended."""
    try:
        output = worker.log.read_bytes()[worker.log_start :]
    except OSError:
        return ""
    lines = output.decode(errors="replace").strip().splitlines()
    return f" (it wrote last: {lines[-1][:200]}; see {worker.log})" if lines else ""


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
