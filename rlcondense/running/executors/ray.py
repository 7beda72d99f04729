"""An executor that computes cells on a Ray cluster (pip install 'rlcondense[ray]')."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError
from rlcondense.files import Busy, who
from rlcondense.make import load_dataset
from rlcondense.records.cell import Cell
from rlcondense.records.store import MemoryStore
from rlcondense.references import WHOLE
from rlcondense.running.compute import run_cell
from rlcondense.running.executors.base import Event, Setting, known_parts
from rlcondense.running.executors.worker import know_parts
from rlcondense.running.outcomes import ended
from rlcondense.runtime.provenance import resolve_device
from rlcondense.runtime.tune import num_cores

MOST_KEPT = 32  # condensed datasets that Ray's object store holds for later cells


class RayExecutor:
    """An executor that runs cells as Ray tasks, on the machines of a cluster or on this one.

    The driver alone reads and writes the store: datasets and condensed datasets reach the tasks
    through Ray's object store, and their records come back through it, so that the nodes share no
    folder. The driver holds the locks of the cells that are running.

    Args:
        setting: of all workers.
        address: of a running cluster (`auto` for the one this machine belongs to), None to start
            one on this machine alone.
        gpus: of a GPU for each task.

    Raises:
        MissingExtra: Ray is not installed.
        BadConfig: there is no cluster at the address, or none of its nodes can take a task.
    """

    shares_stored = False  # each node would make one of another version anew

    def __init__(self, setting: Setting, address: str | None = None, gpus: float = 1.0) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        self.setting, self._ray = setting, ray
        self._own = not ray.is_initialized()
        if address is not None and not self._own:
            raise BadConfig(f"Ray is at work in this process already: {address!r} is not joined")
        if self._own:
            _check_address(address)
            workers = setting.workers or num_cores()
            try:
                ray.init(
                    address=address or "local",  # not a cluster that happens to run here
                    num_cpus=None if address else workers,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadConfig(f"no Ray cluster at {address or 'local'!r}: {error}") from error
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
                raise BadConfig(f"no node of the Ray cluster has a CPU{share}")
        except BadConfig:
            self.close()
            raise
        # The driver starts a lost task again, and counts how often.
        self._task = ray.remote(_on_a_node).options(num_cpus=1, num_gpus=self._gpus, max_retries=0)

    def _device(self) -> str:
        """Resolve the device like `resolve_device`, for the cluster instead of this machine."""
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
        """Return how many tasks the nodes can run in parallel."""
        total = 0.0
        for node in self._nodes():
            fit = node["Resources"].get("CPU", 0)
            if self._gpus:
                # Of floats, 1 // 0.1 is 9.
                fit = min(fit, int(node["Resources"].get("GPU", 0) / self._gpus + 1e-9))
            total += fit
        return int(total)

    def size(self) -> int:
        size = max(1, self._fitting())
        wanted = self.setting.workers
        return size if wanted is None else min(wanted, size)

    def room(self) -> bool:
        # One more task than the nodes can run waits in Ray's queue, so that none idles.
        size = self.size()
        return len(self._at) < size + (size == self._fitting())

    def begin(
        self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...], is_reference: bool = False
    ) -> None:
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
                event = self._submit(cell, refreshed, is_reference, held, number)
        except Busy as busy:
            event = Event(cell.id, "busy", text=who(busy.owner))
        except (RLCondenseError, self._ray.exceptions.RayError) as error:
            event = Event(cell.id, "unwritten", text=" ".join(str(error).split()))
        if event.kind != "at":
            held.close()
        self._told.append(event)

    def _submit(
        self,
        cell: Cell,
        refreshed: bool,
        is_reference: bool,
        held: contextlib.ExitStack,
        number: int,
    ) -> Event:
        setting = self.setting
        # Only the node finds out whether a stored set is made anew, as one of other versions is.
        if not refreshed and not cell.is_policy and cell.method["id"] not in WHOLE:
            held.enter_context(setting.store.lock(cell.condensation_id, wait=False))
        stored = None  # read under the lock: another sweep may make it anew
        if not setting.refresh or refreshed:
            stored = self._kept(cell.condensation_id)
        job = {
            "cell": cell.to_json(),
            "device": self.device,
            "is_reference": is_reference,
            "keep_policies": setting.keep_policies,
            **known_parts(),
        }
        task = self._task.remote(job, self._dataset(cell.dataset), stored)
        self._at[task] = _Task(cell, held, number, self._node_ids())
        return Event(cell.id, "at", number, "begun")

    def _node_ids(self) -> frozenset[str]:
        return frozenset(node["NodeID"] for node in self._nodes())

    def _dataset(self, name: str) -> Any:
        """Return the object reference of a dataset, or of the error that loading it raised."""
        if name not in self._datasets:
            loaded: Any
            try:
                data = load_dataset(name, heldout_data=self.setting.heldout_data)
                # All tasks of a node share plain arrays; memory maps would be copied.
                loaded = data.in_memory()
            except RLCondenseError as error:
                loaded = error
            except Exception as error:  # an error of a plugin, which may not pickle
                loaded = RLCondenseError(f"dataset {name!r}: {type(error).__name__}: {error}")
            self._datasets[name] = self._ray.put(loaded)
        return self._datasets[name]

    def _kept(self, condensation_id: str) -> Any:
        """Return the reference of a stored condensed set with its `made_from`, or None."""
        if condensation_id not in self._condensed:
            stored = self.setting.store.kept(condensation_id)
            if stored is None:
                return None
            self._condensed[condensation_id] = self._ray.put(stored)
            if len(self._condensed) > MOST_KEPT:
                self._condensed.popitem(last=False)
        return self._condensed[condensation_id]

    def events(self, timeout: float) -> list[Event]:
        events, self._told = self._told, []
        ready: list[Any] = []
        if self._at:
            ready, _ = self._ray.wait(
                list(self._at), num_returns=len(self._at), timeout=0 if events else 0.02
            )
            if not ready and not events:
                ready, _ = self._ray.wait(list(self._at), timeout=timeout)
        stuck = bool(self._at) and not ready and not self._fitting()
        if stuck and not self._stuck:
            text = "no node of the Ray cluster can take a cell; waiting for one"
            events.append(Event("", "notice", text=text))
        self._stuck = stuck
        return events + [self._ended(task) for task in ready]

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
                    self._condensed.pop(name, None)
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
    """A running cell, its locks, and the nodes of the cluster when it was started."""

    cell: Cell
    held: contextlib.ExitStack
    number: int
    nodes: frozenset[str]


def _check_address(address: str | None) -> None:
    """Check that an address answers: Ray itself would retry for a long time and log at length."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise BadConfig(f"no Ray cluster at {address!r}: {error.strerror or error}") from error


def _why(error: Exception) -> str:
    """Return one line on why a task was lost."""
    if type(error).__name__ == "WorkerCrashedError":
        return "its worker process was ended (the logs of Ray on its node may tell why)"
    cause = getattr(error, "cause", None)
    text = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
    return re.sub(r"\x1b\[[0-9;]*m", "", " ".join(text.split()))[:300]


def _on_a_node(job: dict[str, Any], dataset: Any, stored: Any) -> dict[str, Any]:
    """Compute a cell on a node, and return its record and the sets condensed for it."""
    know_parts(job)
    cell = Cell.from_json(job["cell"])

    def the_dataset(name: str) -> Any:
        if isinstance(dataset, Exception):
            raise dataset
        return dataset

    store = MemoryStore({} if stored is None else {cell.condensation_id: stored})
    outcome = run_cell(
        cell,
        dataset=the_dataset,
        store=store,
        device=resolve_device(job["device"]),
        is_reference=job["is_reference"],
        keep_policies=job["keep_policies"],
    )
    policies = {
        name: some and some.on("cpu")  # the driver may have no GPU
        for name, some in store.policies.items()
    }
    return {"record": outcome.record, "condensed": store.written, "policies": policies}
