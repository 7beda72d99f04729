"""Where the cells of a sweep are computed: in worker processes of this machine, or by Ray."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import IO, Any, Protocol

from rlcondense import catalogue
from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError
from rlcondense.files import Busy
from rlcondense.making import load_dataset
from rlcondense.running.cell import Cell
from rlcondense.running.store import MemoryStore, Store

GRACE = 10.0  # seconds for workers to put their files away
RETRIES = 3  # of a cell whose node or worker Ray has lost


@dataclass(frozen=True)
class Setting:
    """What all workers of a sweep have in common.

    Attributes:
        store: where the results go.
        device: `cpu` or `cuda`.
        threads: of each worker; on a CPU they change results, so that they are part of a record.
        workers: how many, None for as many as there is room for.
        refresh: compute again what is there.
        keep_policies: store the policies that are trained.
    """

    store: Store
    device: str
    threads: int = 1
    workers: int | None = None
    refresh: bool = False
    keep_policies: bool = False


@dataclass(frozen=True)
class Event:
    """Something that a worker has said, or that has happened to it.

    Attributes:
        cell_id: of the cell it is at.
        kind: `at`, `done`, `busy`, `lost` or `unwritten`.
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
    """Computes cells side by side."""

    def room(self) -> bool:
        """Whether another cell can be begun."""

    def begin(self, cell: Cell, *, refreshed: bool) -> None:
        """Begin a cell; `refreshed` says that what it learns from was condensed anew already."""

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


@dataclass
class LocalExecutor:
    """Worker processes on this machine, each with threads and GPU memory of its own.

    They are fresh interpreters that import nothing of the caller's, so that scripts need no guard,
    and one that crashes takes only its cell with it.
    """

    setting: Setting
    workers: list[_Worker] = field(default_factory=list)
    started: int = 0

    def size(self) -> int:
        if self.setting.workers is not None:
            return self.setting.workers
        if self.setting.device != "cpu":
            return len(_gpus())
        return max(1, len(os.sched_getaffinity(0)) // self.setting.threads)

    def room(self) -> bool:
        return sum(bool(worker.cell_id) for worker in self.workers) < self.size()

    def begin(self, cell: Cell, *, refreshed: bool) -> None:
        worker = next((w for w in self.workers if not w.cell_id), None) or self._start()
        worker.cell_id = cell.id
        refresh = self.setting.refresh
        # If it has died, that is told when its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            _write(worker, {"cell": cell.to_json(), "refresh": refresh, "refreshed": refreshed})

    def _start(self) -> _Worker:
        number = self._number()
        to_worker, from_driver = os.pipe()
        to_driver, from_worker = os.pipe()
        log = self.setting.store.root / "logs" / f"worker-{os.getpid()}-{number}.log"
        with _opened(log) as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rlcondense.running.worker",
                    *map(str, (to_worker, from_worker)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(to_worker, from_worker),
                env=self._environment(number),
                process_group=0,  # Ctrl-C is the driver's to deal with
            )
        os.close(to_worker)
        os.close(from_worker)
        worker = _Worker(number, process, os.fdopen(from_driver, "w"), to_driver, log)
        self.workers.append(worker)
        with contextlib.suppress(BrokenPipeError):
            _write(worker, self._greeting())
        return worker

    def _number(self) -> int:
        """The first number that no worker has."""
        taken = {worker.number for worker in self.workers}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def _environment(self, number: int) -> dict[str, str]:
        threads = str(self.setting.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        out = {**os.environ, **dict.fromkeys(names, threads)}
        if self.setting.device != "cpu":
            gpus = _gpus()
            out["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        return out

    def _greeting(self) -> dict[str, Any]:
        share = 1.0
        if self.setting.device != "cpu":
            share = 1 / max(1, -(-self.size() // len(_gpus())))
        return {
            "results": str(self.setting.store.root.resolve()),
            "device": self.setting.device,
            "threads": self.setting.threads,
            "gpu_share": share,
            "keep_policies": self.setting.keep_policies,
            "registered": [entry.exported() for entry in catalogue.registered()],
            "path": sys.path,
        }

    def events(self, timeout: float) -> list[Event]:
        out = []
        ready = wait_for([worker.answers for worker in self.workers], timeout)
        for worker in [w for w in self.workers if w.answers in ready]:
            chunk = os.read(worker.answers, 1 << 16)
            *lines, worker.heard = (worker.heard + chunk).split(b"\n")
            out += [self._heard(worker, json.loads(line)) for line in lines]
            out += [] if chunk else [self._lost(worker)]
        return out

    def _heard(self, worker: _Worker, said: Mapping[str, Any]) -> Event:
        if "ready" in said:
            return Event(worker.cell_id, "at", worker.number, "started")
        if "at" in said:
            return Event(worker.cell_id, "at", worker.number, said["at"])
        cell_id, worker.cell_id = worker.cell_id, ""
        if "busy" in said:
            return Event(cell_id, "busy", worker.number, _who(said["busy"]))
        if "unwritten" in said:
            return Event(cell_id, "unwritten", worker.number, said["unwritten"])
        return Event(
            cell_id, "done", worker.number, said["reason"], said["status"], said["computed"]
        )

    def _lost(self, worker: _Worker) -> Event:
        self.workers.remove(worker)
        code = worker.process.wait()
        _put_away(worker)
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        text = f"its worker process was ended by {why}{_last_line(worker.log)}"
        return Event(worker.cell_id, "lost", worker.number, text)

    def close(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            _put_away(worker)
        self.workers.clear()


def _opened(log: Path) -> IO[bytes]:
    """Where a worker's output goes: nowhere, if the disk is full."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def _write(worker: _Worker, what: dict[str, Any]) -> None:
    worker.orders.write(json.dumps(what) + "\n")
    worker.orders.flush()


def _put_away(worker: _Worker) -> None:
    with contextlib.suppress(BrokenPipeError):
        worker.orders.close()
    os.close(worker.answers)
    with contextlib.suppress(OSError):
        if worker.log.stat().st_size == 0:
            worker.log.unlink()


def _last_line(log: Path) -> str:
    """What a worker wrote last, which may tell why it ended."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1][:200]}; see {log})" if lines else ""


def _who(owner: Mapping[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


class RayExecutor:
    """Cells as tasks of Ray, on the machines of a cluster or on this one.

    The driver alone reads and writes the store: datasets and condensed datasets reach the tasks
    through Ray's object store, and their records come back through it, so that the nodes share no
    folder. The cells that are begun are locked here meanwhile. What a lost node was at, Ray begins
    again on another.

    Args:
        setting: of all workers.
        address: of a running cluster (`auto` for the one this machine belongs to), None to start
            one on this machine alone.
        gpus: of a GPU for each task.

    Raises:
        MissingExtra: Ray is not installed.
        BadConfig: there is no cluster at the address.
    """

    def __init__(self, setting: Setting, address: str | None = None, gpus: float = 1.0) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        self.setting, self._ray = setting, ray
        self._gpus = gpus if setting.device != "cpu" else 0.0
        here = LocalExecutor(setting).size() * setting.threads
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(
                    address=address,
                    num_cpus=None if address else here,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadConfig(f"no Ray cluster at {address!r}: {error}") from error
        self._task = ray.remote(_on_a_node).options(
            num_cpus=setting.threads, num_gpus=self._gpus, max_retries=RETRIES
        )
        self._at: dict[Any, tuple[Cell, contextlib.ExitStack]] = {}
        self._told: list[Event] = []
        self._datasets: dict[str, Any] = {}
        self._condensed: dict[str, Any] = {}
        self._size, self._sized = 1, 0.0

    def size(self) -> int:
        if time.monotonic() - self._sized > 1:
            total = self._ray.cluster_resources()
            size = total.get("CPU", 0) // self.setting.threads
            if self._gpus:
                size = min(size, total.get("GPU", 0) // self._gpus)
            self._size, self._sized = max(1, int(size)), time.monotonic()
        wanted = self.setting.workers
        return self._size if wanted is None else min(wanted, self._size)

    def room(self) -> bool:
        # One more than run at once waits in Ray's queue, so that no node idles meanwhile.
        return len(self._at) <= self.size()

    def begin(self, cell: Cell, *, refreshed: bool) -> None:
        held = contextlib.ExitStack()
        try:
            held.enter_context(self.setting.store.lock(cell.id, wait=False))
            self._submit(cell, refreshed, held)
        except Busy as busy:
            self._told.append(Event(cell.id, "busy", text=_who(busy.owner)))
        except RLCondenseError as error:
            held.close()
            self._told.append(Event(cell.id, "unwritten", text=str(error)))

    def _submit(self, cell: Cell, refreshed: bool, held: contextlib.ExitStack) -> None:
        setting = self.setting
        record = None if setting.refresh else setting.store.read_record(cell.id)
        if record is not None and record["status"] == "done":
            held.close()
            self._told.append(Event(cell.id, "done", status="done", computed=False))
            return
        kept = None
        if not setting.refresh or refreshed:
            kept = self._kept(cell.condensation_id)
        job = {
            "cell": cell.to_json(),
            "device": setting.device,
            "threads": setting.threads,
            "keep_policies": setting.keep_policies,
            "registered": [entry.exported() for entry in catalogue.registered()],
        }
        self._at[self._task.remote(job, self._dataset(cell.dataset), kept)] = (cell, held)

    def _dataset(self, name: str) -> Any:
        """A dataset in the object store, or the error that there is instead of one."""
        if name not in self._datasets:
            found: Any
            try:
                found = load_dataset(name)
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
        return told + [self._ended(task) for task in ready]

    def _ended(self, task: Any) -> Event:
        cell, held = self._at.pop(task)
        with held:
            try:
                out = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                return Event(cell.id, "lost", text=" ".join(str(error).split())[:300])
            try:
                for name, (data, made_from) in out["condensed"].items():
                    self.setting.store.write_condensed(name, data, made_from)
                for name, policies in out["policies"].items():
                    self.setting.store.write_policies(name, policies)
                record = self.setting.store.write_record(out["record"])
            except RLCondenseError as error:
                return Event(cell.id, "unwritten", text=str(error))
        return Event(cell.id, "done", text=record.get("reason", ""), status=record["status"])

    def close(self) -> None:
        for task, (_, held) in self._at.items():
            self._ray.cancel(task, force=True)
            held.close()
        self._at.clear()
        if self._own:
            self._ray.shutdown()


def _on_a_node(job: dict[str, Any], dataset: Any, kept: Any) -> dict[str, Any]:
    """Compute a cell on a node: its record, and what was condensed for it."""
    import torch

    from rlcondense.running.environment import resolve_device
    from rlcondense.running.runner import run_cell

    torch.set_num_threads(job["threads"])
    for entry in job["registered"]:
        catalogue.add(catalogue.Entry.imported(entry))
    cell = Cell.from_json(job["cell"])

    def given(name: str) -> Any:
        if isinstance(dataset, Exception):
            raise dataset
        return dataset

    store = MemoryStore({} if kept is None else {cell.condensation_id: kept})
    record, _ = run_cell(
        cell,
        dataset=given,
        store=store,
        device=resolve_device(job["device"]),
        threads=job["threads"],
        keep_policies=job["keep_policies"],
    )
    return {"record": record, "condensed": store.written, "policies": store.policies}


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
    made = LocalExecutor(setting) if name == "local" else RayExecutor(setting, address, gpus)
    try:
        yield made
    finally:
        made.close()
