"""The outcome of a cell: its record, computed or read back, done or with the reason why not."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlcondense import __version__, catalogue
from rlcondense.errors import (
    BadConfig,
    MissingExtra,
    PluginExit,
    PluginLoadError,
    RLCondenseError,
    UnknownName,
    no_exit,
)
from rlcondense.experts.shipped import Expert
from rlcondense.files import Busy
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method
from rlcondense.records.cell import Cell
from rlcondense.records.record import (
    SCHEMA_VERSION,
    CellResult,
    PluginJson,
    Record,
    RecordFrame,
    UnsealedRecord,
)
from rlcondense.records.shipped import shipped_record
from rlcondense.records.store import Results
from rlcondense.running.bench import Bench
from rlcondense.runtime.meter import forget_peak_memory, peak_gpu_memory_bytes, peak_memory_bytes
from rlcondense.runtime.progress import Progress
from rlcondense.runtime.provenance import describe, source_sha256, versions
from rlcondense.runtime.tune import THREADS, one_thread
from rlcondense.tasks.named import make_task

TASK = "task_config"  # in a record's key: older records lack it
MOST_FRAMES = 20  # of a failed cell's traceback


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell.

    Attributes:
        record: of the cell.
        is_reused: whether it was read back instead of computed.
        is_shipped: whether it came with the package.
        differences: a sentence for each part of its making that differs here, if it was read back.
    """

    record: Record
    is_reused: bool = False
    is_shipped: bool = False
    differences: tuple[str, ...] = ()


def compute_or_read(
    bench: Bench, cell: Cell, key: dict[str, Any], compute: Callable[[], CellResult]
) -> Outcome:
    """Read the record of a cell back, or else compute it."""
    with bench.store.lock(cell.id, wait=bench.wait):
        record = ended(cell, bench.store, bench.seen, bench.refresh)
        if record is not None:
            differences = (
                f"{cell.method['id']} was made with {name} {_short(record['key'].get(name))}, "
                f"here it is {_short(value)} (--refresh computes it anew)"
                for name, value in key.items()
                if record["key"].get(name) != value and (name in record["key"] or name != TASK)
            )
            return Outcome(record, is_reused=True, differences=tuple(differences))
        if bench.is_reference and bench.takes_shipped:
            shipped = shipped_record(cell, key)
            if shipped is not None:
                return Outcome(shipped, is_shipped=True)
        forget_peak_memory()
        try:
            with no_exit(f"a part of {cell}"), one_thread():
                computed = compute()
        except Busy:
            raise
        except Exception as error:
            if not (bench.record_failures or isinstance(error, PluginExit)):
                raise
            computed = failure_of(error)
            if bench.is_reference and isinstance(error, BadConfig):
                computed = {"status": "skipped", "reason": computed["reason"]}
        memory = {"peak_bytes": peak_memory_bytes(), "peak_gpu_bytes": peak_gpu_memory_bytes()}
        made: UnsealedRecord = {
            **frame_of(cell, bench.device),
            "key": key,
            "timings": {},
            "memory": memory,
            **computed,
        }
        if not bench.keep_policies or made["status"] != "done":
            bench.store.write_policies(cell.id, None)  # those of the record before
        return Outcome(bench.store.write_record(made))


def ended(cell: Cell, store: Results, seen: tuple[int, ...] | None, refresh: bool) -> Record | None:
    """Return the record of a cell that is done, or that ended since it was planned, else None.

    Who computes the cell otherwise holds its lock.

    Args:
        cell: the cell.
        store: the store of its record.
        seen: the stamp of its record when it was planned.
        refresh: whether a record from before counts for nothing.
    """
    since = seen is not None and store.stamp(cell.id) not in (seen, ())
    record = store.read_record(cell.id) if since or not refresh else None
    return record if record is not None and (since or record["status"] == "done") else None


def frame_of(cell: Cell, device: str) -> RecordFrame:
    """Return the fields that every record has, whatever its status."""
    return {
        "plugins": _plugins(cell),
        "schema_version": SCHEMA_VERSION,
        "cell_id": cell.id,
        "cell": cell.to_json(),
        "environment": describe(device, packages=packages_of(cell.task)),
    }


def packages_of(task: str) -> tuple[str, ...]:
    """Return the distributions whose versions decide a task's returns; none if it is not here."""
    try:
        return tuple(make_task(task).packages)
    except RLCondenseError:
        return ()


def write_failure(
    cell: Cell,
    reason: str,
    store: Results,
    device: str,
    *,
    seen: tuple[int, ...] | None = None,
    refresh: bool = False,
) -> Record:
    """Write that a cell has failed, for a driver that saw its process end.

    Args:
        cell: the cell.
        reason: why it failed.
        store: the store of its record.
        device: `cpu` or `cuda`.
        seen: the stamp of its record when it was planned.
        refresh: whether a record from before counts for nothing.

    Returns:
        The stored record: if the cell was done before its process ended, that one.

    Raises:
        Busy: another process computes the cell.
    """
    with store.lock(cell.id, wait=False):
        record = ended(cell, store, seen, refresh)
        if record is not None:
            return record
        return write_undone(cell, {"status": "failed", "reason": reason}, store, device)


def write_undone(cell: Cell, result: CellResult, store: Results, device: str) -> Record:
    return store.write_record(undone(cell, result, device))


def undone(cell: Cell, result: CellResult, device: str) -> UnsealedRecord:
    """Return the record of a cell of which nothing was computed."""
    return {**frame_of(cell, device), "key": {}, "timings": {}, "memory": {}, **result}


def failure_of(error: BaseException) -> CellResult:
    """Return the fields of the record of a cell that an error ended."""
    absent = isinstance(error, (MissingExtra, PluginLoadError, UnknownName))
    message = (
        str(error) if isinstance(error, RLCondenseError) else f"{type(error).__name__}: {error}"
    )
    lines = traceback.format_exception(error, limit=-MOST_FRAMES)
    return {
        "status": "not-installed" if absent else "failed",
        "reason": " ".join(message.split()),
        "traceback": "".join(lines),
    }


def _plugins(cell: Cell) -> list[PluginJson]:
    """Return the installed plugins that a cell used: target, distribution and version."""
    names = {"tasks": cell.task, "methods": cell.method["id"], "datasets": cell.dataset}
    if cell.learner is not None:
        names["learners"] = cell.learner["id"]
    parts = [catalogue.entries(group).get(name) for group, name in names.items()]
    # Data of a file are known by their hash: what reads them is this package.
    parts = [e for e in parts if e is None or e.group != "datasets" or not _is_ours(e)]
    return [
        {
            # Only the name of an included file: its folder is private.
            "target": entry.entry_point.rpartition("/")[2],
            "distribution": entry.distribution[0] if entry.distribution else "",
            "version": entry.distribution[1] if entry.distribution else "",
        }
        for entry in parts
        if entry is not None and not entry.is_built_in
    ]


def _is_ours(entry: catalogue.Entry) -> bool:
    """Return whether the class behind an entry is of this package."""
    return entry.entry_point.startswith(f"{catalogue.BUILT_IN}.")


def making_of(
    bench: Bench, expert: Expert | None, *parts: Method[Any] | Learner[Any]
) -> dict[str, Any]:
    """Return the data, code and versions behind a result: if they differ, so may its numbers."""
    groups = {Method: "methods", Learner: "learners"}
    entries = [catalogue.entries("tasks").get(bench.task.id)]
    for part in parts:
        group = next(group for base, group in groups.items() if isinstance(part, base))
        entries.append(catalogue.entries(group).get(part.id))
    return {
        "dataset_sha256": bench.dataset.sha256 if bench.dataset is not None else None,
        "expert_sha256": expert.sha256 if expert else None,
        "rlcondense": __version__,
        **{f"{name} version": value for name, value in versions(bench.task.packages).items()},
        **_code(entries, [type(bench.task), *bench.task.code, *map(type, parts)]),
        "device": bench.device,
        "threads": THREADS,
    }


def code_of(cell: Cell) -> dict[str, Any]:
    """Return what `making_of` says of the code behind a cell; no plugins if a part is absent."""
    names = [("tasks", cell.task)]
    if cell.learner is not None:
        names += [("methods", cell.method["id"]), ("learners", cell.learner["id"])]
    entries = [catalogue.entries(group).get(name) for group, name in names]
    here = [entry for entry in entries if entry is not None]
    try:
        classes = [*(entry.load() for entry in here), *make_task(cell.task).code]
        return _code(entries, classes) if len(here) == len(names) else {"plugins": ""}
    except RLCondenseError:
        return {"plugins": ""}


def _code(entries: Sequence[catalogue.Entry | None], classes: Sequence[Any]) -> dict[str, Any]:
    """Return the plugins and sources of a task, a method and a learner, by entry and class."""
    theirs = [entry for entry in entries if entry is not None and not entry.is_built_in]
    plugins = {entry.origin for entry in theirs}
    code: dict[str, Any] = {
        "plugins": ", ".join(sorted(plugins)), "source_sha256": source_sha256(*classes)
    }  # fmt: skip
    if entries[0] in theirs:  # of what is built in the version tells
        code[TASK] = entries[0].settings_text
    return code


def named_progress(progress: Progress, name: str) -> Progress:
    def report(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{name}: {phase}", done, total, note)

    return report


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
