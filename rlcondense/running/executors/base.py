"""Where the cells of a sweep are computed: in worker processes of this machine, or by Ray."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from rlcondense import catalogue
from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError
from rlcondense.files import Busy, open_to_append, who
from rlcondense.make import load_dataset
from rlcondense.records.cell import Cell
from rlcondense.records.store import MemoryStore, Store
from rlcondense.references import WHOLE
from rlcondense.running.compute import run_cell
from rlcondense.running.executors.worker import know_parts
from rlcondense.running.outcomes import ended
from rlcondense.runtime.provenance import resolve_device

GRACE = 10.0  # seconds for workers to put their files away
MOST_KEPT = 32  # condensed datasets that Ray's object store holds for later cells
# A worker has its driver's path, so that it finds what the driver found.
WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from rlcondense.running.executors.worker import main; main()"
)


def known_parts() -> dict[str, Any]:
    """What this process alone knows of the catalogue, for a worker's `know_parts`."""
    return {
        "included": list(map(str, catalogue.included())),
        "registered": [entry.exported() for entry in catalogue.registered()],
    }


@dataclass(frozen=True)
class Setting:
    """What all workers of a sweep have in common.

    Attributes:
        store: where the results go.
        device: `auto`, `cpu` or `cuda`.
        threads: of each worker; on a CPU they change results, so that they are part of a record.
        workers: how many, None for as many as there is room for.
        refresh: compute again what is there.
        keep_policies: store the policies that are trained.
    """

    store: Store
    device: str = "auto"
    threads: int = 1
    workers: int | None = None
    refresh: bool = False
    keep_policies: bool = False


@dataclass(frozen=True)
class Event:
    """Something that a worker has said, or that has happened to it.

    Attributes:
        cell_id: of the cell it is at.
        kind: `at`, `done`, `busy`, `lost`, `moved` (lost with the machine it was on), `unwritten`,
            `unable`, if a worker cannot even start, or `notice`, which is of no cell.
        worker: which one.
        text: what it is at, why it was lost, or who else is at the cell.
        status: of the record, if `done`.
        computed: whether the record was computed, or read back.
    """

    cell_id: str
    kind: str
    worker: int = 0
    text: str = ""
    status: str = ""
    computed: bool = True


class Executor(Protocol):
    """Computes cells side by side.

    Attributes:
        device: where they are computed, `cpu` or `cuda`.
    """

    device: str

    def room(self) -> bool:
        """Whether another cell can be begun."""

    def begin(self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...]) -> None:
        """Begin a cell.

        Args:
            cell: which one.
            refreshed: what it learns from was condensed anew already.
            seen: the stamp of its record when it was planned.
        """

    def events(self, timeout: float) -> list[Event]:
        """What has happened, after waiting for something to."""

    def size(self) -> int:
        """How many cells can be computed side by side."""

    def close(self) -> None:
        """End all workers, whatever they are at."""


@dataclass
class _Worker:
    """A process, and the cell it is at."""

    number: int
    process: subprocess.Popen[bytes]
    orders: IO[str]
    answers: int
    log: Path
    cell_id: str = ""
    heard: bytes = b""
    ready: bool = False
    log_start: int = 0  # where what it says of this cell begins


class LocalExecutor:
    """Worker processes on this machine, each with threads and GPU memory of its own.

    They are fresh interpreters that import nothing of the caller's, so that scripts need no guard,
    and one that crashes takes only its cell with it.

    Args:
        setting: of all workers.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.device = resolve_device(setting.device)
        self._workers: list[_Worker] = []

    def size(self) -> int:
        if self.setting.workers is not None:
            return self.setting.workers
        if self.device != "cpu":
            return len(_gpus())
        return max(1, _cores() // self.setting.threads)

    def room(self) -> bool:
        return sum(bool(worker.cell_id) for worker in self._workers) < self.size()

    def begin(self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...]) -> None:
        worker = next((w for w in self._workers if not w.cell_id), None) or self._start()
        worker.cell_id, worker.log_start = cell.id, _size_of(worker.log)
        order = {"refresh": self.setting.refresh, "refreshed": refreshed, "seen": seen}
        # If it has died, that is told when its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            _write(worker, {"cell": cell.to_json(), **order})

    def _start(self) -> _Worker:
        taken = {worker.number for worker in self._workers}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        to_worker, from_driver = os.pipe()
        to_driver, from_worker = os.pipe()
        log = self.setting.store.log_path(f"worker-{os.getpid()}-{number}")
        pipes = (to_worker, from_worker)
        with _opened(log) as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", WORKER, *map(str, pipes), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pipes,
                env=self._environment(number),
                process_group=0,  # Ctrl-C is the driver's to deal with
            )
        for pipe in pipes:
            os.close(pipe)
        worker = _Worker(number, process, os.fdopen(from_driver, "w"), to_driver, log)
        self._workers.append(worker)
        with contextlib.suppress(BrokenPipeError):
            _write(worker, self._greeting())
        return worker

    def _environment(self, number: int) -> dict[str, str]:
        threads = str(self.setting.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        out = {**os.environ, **dict.fromkeys(names, threads)}
        if self.device != "cpu":
            gpus = _gpus()
            out["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        return out

    def _greeting(self) -> dict[str, Any]:
        gpus = len(_gpus()) if self.device != "cpu" else self.size()
        return {
            "results": str(self.setting.store.root.resolve()),
            "device": self.device,
            "threads": self.setting.threads,
            "gpu_share": 1 / max(1, -(-self.size() // gpus)),
            "keep_policies": self.setting.keep_policies,
            **known_parts(),
        }

    def events(self, timeout: float) -> list[Event]:
        out: list[Event] = []
        # A process that a dead worker has left behind may keep its pipe open.
        dead = [worker for worker in self._workers if worker.process.poll() is not None]
        ready = wait_for([worker.answers for worker in self._workers], 0 if dead else timeout)
        for worker in list(self._workers):
            chunk = os.read(worker.answers, 1 << 16) if worker.answers in ready else b""
            *lines, worker.heard = (worker.heard + chunk).split(b"\n")
            out += [self._heard(worker, json.loads(line)) for line in lines]
            ended = worker.answers in ready or worker in dead
            out += [self._lost(worker)] if ended and not chunk else []
        return out

    def _heard(self, worker: _Worker, said: Mapping[str, Any]) -> Event:
        if "ready" in said:
            worker.ready = True
            return Event(worker.cell_id, "at", worker.number, "started")
        if "at" in said:
            return Event(worker.cell_id, "at", worker.number, said["at"])
        cell_id, worker.cell_id = worker.cell_id, ""
        if "busy" in said:
            return Event(cell_id, "busy", worker.number, who(said["busy"]))
        if "unwritten" in said:
            return Event(cell_id, "unwritten", worker.number, said["unwritten"])
        return Event(
            cell_id, "done", worker.number, said["reason"], said["status"], said["computed"]
        )

    def _lost(self, worker: _Worker) -> Event:
        self._workers.remove(worker)
        _signal(worker, signal.SIGKILL)  # what it has left behind, which may hold its locks
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
    """Where a worker's output goes: nowhere, if the disk is full."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open_to_append(log)
    except OSError:
        return Path(os.devnull).open("ab")


def _write(worker: _Worker, what: dict[str, Any]) -> None:
    worker.orders.write(json.dumps(what) + "\n")
    worker.orders.flush()


def _signal(worker: _Worker, number: signal.Signals) -> None:
    """Send a signal to a worker and to whatever it has started."""
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
    """What a worker wrote last of its cell, which may tell why it ended."""
    try:
        said = worker.log.read_bytes()[worker.log_start :]
    except OSError:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    return f" (it wrote last: {lines[-1][:200]}; see {worker.log})" if lines else ""


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


class RayExecutor:
    """Cells as tasks of Ray, on the machines of a cluster or on this one.

    The driver alone reads and writes the store: datasets and condensed datasets reach the tasks
    through Ray's object store, and their records come back through it, so that the nodes share no
    folder. What is begun is locked here meanwhile.

    Args:
        setting: of all workers.
        address: of a running cluster (`auto` for the one this machine belongs to), None to start
            one on this machine alone.
        gpus: of a GPU for each task.

    Raises:
        MissingExtra: Ray is not installed.
        BadConfig: there is no cluster at the address, or none of its nodes can take a task.
    """

    def __init__(self, setting: Setting, address: str | None = None, gpus: float = 1.0) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        if not gpus > 0:
            raise BadConfig(f"gpus must be above 0, not {gpus}")
        self.setting, self._ray = setting, ray
        self._own = not ray.is_initialized()
        if self._own:
            _check_address(address)
            workers = setting.workers or max(1, _cores() // setting.threads)
            try:
                ray.init(
                    address=address,
                    num_cpus=None if address else workers * setting.threads,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadConfig(f"no Ray cluster at {address!r}: {error}") from error
        self._at: dict[Any, _Task] = {}
        self._told: list[Event] = []
        self._stuck = False
        self._datasets: dict[str, Any] = {}
        self._condensed: OrderedDict[str, Any] = OrderedDict()
        try:
            self.device = self._device()
            self._gpus = gpus if self.device != "cpu" else 0.0
            if not self._fitting():
                share = f" and {self._gpus:g} of a GPU" if self._gpus else ""
                raise BadConfig(f"no node of the Ray cluster has {setting.threads} CPUs{share}")
        except BadConfig:
            self.close()
            raise
        # A lost task is begun again by whoever drives this, who also counts how often.
        self._task = ray.remote(_on_a_node).options(
            num_cpus=setting.threads, num_gpus=self._gpus, max_retries=0
        )

    def _device(self) -> str:
        """As `resolve_device`, for the cluster instead of this machine."""
        wanted = self.setting.device
        if wanted not in ("auto", "cpu", "cuda"):
            return resolve_device(wanted)
        has_gpu = any(node["Resources"].get("GPU", 0) > 0 for node in self._nodes())
        if wanted == "cuda" and not has_gpu:
            raise BadConfig("device cuda was asked for, but no node of the Ray cluster has a GPU")
        return "cuda" if has_gpu and wanted != "cpu" else "cpu"

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _fitting(self) -> int:
        """How many tasks the nodes can take side by side."""
        total = 0.0
        for node in self._nodes():
            fit = node["Resources"].get("CPU", 0) // self.setting.threads
            if self._gpus:
                fit = min(fit, node["Resources"].get("GPU", 0) // self._gpus)
            total += fit
        return int(total)

    def size(self) -> int:
        size = max(1, self._fitting())
        wanted = self.setting.workers
        return size if wanted is None else min(wanted, size)

    def room(self) -> bool:
        # One more than run at once waits in Ray's queue, so that no node idles meanwhile.
        return len(self._at) <= self.size()

    def begin(self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...]) -> None:
        taken = {task.number for task in self._at.values()}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        held = contextlib.ExitStack()
        try:
            held.enter_context(self.setting.store.lock(cell.id, wait=False))
            record = ended(cell, self.setting.store, seen, self.setting.refresh)
            if record is not None:
                reason = record.get("reason", "")
                event = Event(cell.id, "done", number, reason, record["status"], computed=False)
            else:
                event = self._submit(cell, refreshed, held, number)
        except Busy as busy:
            event = Event(cell.id, "busy", text=who(busy.owner))
        except (RLCondenseError, self._ray.exceptions.RayError) as error:
            event = Event(cell.id, "unwritten", text=" ".join(str(error).split()))
        if event.kind != "at":
            held.close()
        self._told.append(event)

    def _submit(
        self, cell: Cell, refreshed: bool, held: contextlib.ExitStack, number: int
    ) -> Event:
        setting = self.setting
        kept = None
        if not setting.refresh or refreshed:
            kept = self._kept(cell.condensation_id)
        if kept is None and not cell.is_policy and cell.method["id"] not in WHOLE:
            held.enter_context(setting.store.lock(cell.condensation_id, wait=False))
        job = {
            "cell": cell.to_json(),
            "device": self.device,
            "threads": setting.threads,
            "keep_policies": setting.keep_policies,
            **known_parts(),
        }
        task = self._task.remote(job, self._dataset(cell.dataset), kept)
        self._at[task] = _Task(cell, held, number, self._node_ids())
        return Event(cell.id, "at", number, "begun")

    def _node_ids(self) -> frozenset[str]:
        return frozenset(node["NodeID"] for node in self._nodes())

    def _dataset(self, name: str) -> Any:
        """A dataset in the object store, or the error that there is instead of one."""
        if name not in self._datasets:
            found: Any
            try:
                data = load_dataset(name)
                # Plain arrays are shared by all tasks of a node, memory maps would be copied.
                plain: dict[str, Any] = {
                    column: np.asarray(rows) for column, rows in data.columns().items()
                }
                found = replace(data, **plain)
            except RLCondenseError as error:
                found = error
            except Exception as error:  # a plugin's, which may not be one to send
                found = RLCondenseError(f"dataset {name!r}: {type(error).__name__}: {error}")
            self._datasets[name] = self._ray.put(found)
        return self._datasets[name]

    def _kept(self, condensation_id: str) -> Any:
        """What a cell learns from, with what it was made from, if it was condensed before."""
        if condensation_id not in self._condensed:
            found = self.setting.store.kept(condensation_id)
            if found is None:
                return None
            self._condensed[condensation_id] = self._ray.put(found)
            if len(self._condensed) > MOST_KEPT:
                self._condensed.popitem(last=False)
        return self._condensed[condensation_id]

    def events(self, timeout: float) -> list[Event]:
        told, self._told = self._told, []
        ready: list[Any] = []
        if self._at:
            ready, _ = self._ray.wait(
                list(self._at), num_returns=len(self._at), timeout=0 if told else 0.02
            )
            if not ready and not told:
                ready, _ = self._ray.wait(list(self._at), timeout=timeout)
        stuck = bool(self._at) and not ready and not self._fitting()
        if stuck and not self._stuck:
            text = "no node of the Ray cluster can take a cell; waiting for one"
            told.append(Event("", "notice", text=text))
        self._stuck = stuck
        return told + [self._ended(task) for task in ready]

    def _ended(self, reference: Any) -> Event:
        task = self._at.pop(reference)
        store, cell = self.setting.store, task.cell
        with task.held:
            try:
                out = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                moved = bool(task.nodes - self._node_ids())
                text = "its node was lost" if moved else _why(error)
                return Event(cell.id, "moved" if moved else "lost", task.number, text)
            try:
                for name, (data, made_from) in out["condensed"].items():
                    store.write_condensed(name, data, made_from)
                for name, policies in out["policies"].items():
                    store.write_policies(name, policies)
                record = store.write_record(out["record"])
            except RLCondenseError as error:
                return Event(cell.id, "unwritten", task.number, str(error))
        reason = record.get("reason", "")
        return Event(cell.id, "done", task.number, reason, record["status"])

    def close(self) -> None:
        for reference, task in self._at.items():
            self._ray.cancel(reference, force=True)
            task.held.close()
        self._at.clear()
        if self._own:
            self._ray.shutdown()


@dataclass(frozen=True)
class _Task:
    """A cell that Ray is at, the locks on it, and the nodes there were when it was begun."""

    cell: Cell
    held: contextlib.ExitStack
    number: int
    nodes: frozenset[str]


def _check_address(address: str | None) -> None:
    """Ray tries for a long time, and says so at length, where nobody answers."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise BadConfig(f"no Ray cluster at {address!r}: {error.strerror or error}") from error


def _why(error: Exception) -> str:
    """One line on why a task was lost."""
    if type(error).__name__ == "WorkerCrashedError":
        return "its worker process was ended (the logs of Ray on its node may tell why)"
    cause = getattr(error, "cause", None)
    text = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
    return re.sub(r"\x1b\[[0-9;]*m", "", " ".join(text.split()))[:300]


def _on_a_node(job: dict[str, Any], dataset: Any, kept: Any) -> dict[str, Any]:
    """Compute a cell on a node: its record, and what was condensed for it."""
    import torch

    torch.set_num_threads(job["threads"])
    know_parts(job)
    cell = Cell.from_json(job["cell"])

    def given(name: str) -> Any:
        if isinstance(dataset, Exception):
            raise dataset
        return dataset

    store = MemoryStore({} if kept is None else {cell.condensation_id: kept})
    outcome = run_cell(
        cell,
        dataset=given,
        store=store,
        device=resolve_device(job["device"]),
        threads=job["threads"],
        keep_policies=job["keep_policies"],
    )
    return {"record": outcome.record, "condensed": store.written, "policies": store.policies}


@contextlib.contextmanager
def executor_of(
    name: str, setting: Setting, *, address: str | None = None, gpus: float = 1.0
) -> Iterator[Executor]:
    """The executor of a name, `local` or `ray`, until it is no longer needed.

    Args:
        name: of the executor.
        setting: of all workers.
        address: of a Ray cluster.
        gpus: of a GPU for each of Ray's tasks.
    """
    if name not in ("local", "ray"):
        raise BadConfig(f"executor must be local or ray, not {name!r}")
    if name == "local" and address is not None:
        raise BadConfig("an address is for --executor ray")
    made: Executor
    made = LocalExecutor(setting) if name == "local" else RayExecutor(setting, address, gpus)
    try:
        yield made
    finally:
        made.close()
