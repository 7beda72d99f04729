"""A worker process, which computes cells one after the other and reports its progress.

It exchanges lines of JSON with its driver over two pipes. If the driver dies, the worker finishes
its current cell, writes that record as usual, and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from rlcondense.runtime.tune import tune

SAY_EVERY = 0.5  # seconds between progress messages


def main() -> None:
    """Serve the driver whose pipes are named on the command line."""
    tune()
    _yield_as_nice()
    orders, answers = map(int, sys.argv[1:3])
    for pipe in (orders, answers):
        os.set_inheritable(pipe, False)  # a process that a plugin starts would keep them open
    # The same as Ctrl-C: files that are being written are cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C
    with os.fdopen(orders, "r") as lines, contextlib.suppress(KeyboardInterrupt):
        _serve(lines, answers)


def _yield_as_nice() -> None:
    """Give a nice worker's session the priority of its process.

    A priority counts within a session only, on Linux with autogroups (sched(7)).
    """
    if priority := os.nice(0):
        with contextlib.suppress(OSError):  # there are no autogroups, or it may not
            Path("/proc/self/autogroup").write_text(str(priority))


def _serve(orders: IO[str], answers: int) -> None:
    start = json.loads(orders.readline() or "null")
    if start is None:
        return
    cells = Cells(start)
    _say(answers, {"ready": os.getpid()})
    for line in orders:
        order = json.loads(line)
        _say(answers, cells.compute(order, lambda text: _say(answers, {"at": text})))


def _say(answers: int, what: dict[str, Any]) -> None:
    """Send a message to the driver. If the driver is gone, the cell goes on."""
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, (json.dumps(what) + "\n").encode())


def know_parts(driver: Mapping[str, Any]) -> None:
    """Register the driver's `included` files and `registered` entries in the catalogue."""
    from rlcondense import catalogue
    from rlcondense.errors import RLCondenseError

    for path in driver["included"]:
        with contextlib.suppress(
            RLCondenseError
        ):  # a missing file shows in the records of its cells
            catalogue.include_file(Path(path))
    for entry in driver["registered"]:
        catalogue.add(catalogue.Entry.imported(entry))


class Cells:
    """The worker's computation of cells, with the settings that its driver sent at the start.

    Args:
        start: `results` (a folder), `device`, `gpu_share`, `keep_policies`, `heldout_data`, and
            the keys that `know_parts` takes.
    """

    def __init__(self, start: dict[str, Any]) -> None:
        import torch

        from rlcondense.make import load_dataset
        from rlcondense.records.store import Store
        from rlcondense.runtime.provenance import resolve_device

        self.device = resolve_device(start["device"])
        if self.device != "cpu" and start["gpu_share"] < 1:
            torch.cuda.set_per_process_memory_fraction(start["gpu_share"])
        know_parts(start)
        self.keep_policies = start["keep_policies"]
        self.store = Store(Path(start["results"]))
        load = partial(load_dataset, heldout_data=start["heldout_data"])
        self.dataset = lru_cache(maxsize=4)(load)

    def compute(self, order: dict[str, Any], at: Any) -> dict[str, Any]:
        """Carry out an order of the driver, and return the answer for it."""
        from rlcondense.errors import RLCondenseError
        from rlcondense.files import Busy
        from rlcondense.records.cell import Cell
        from rlcondense.running.compute import run_cell

        last_report = 0.0

        def progress(phase: str, done: int, total: int, note: str = "") -> None:
            nonlocal last_report
            if time.monotonic() - last_report > SAY_EVERY:
                last_report = time.monotonic()
                at(f"{phase.partition(': ')[2] or phase} {done}/{total} {note}".strip())

        try:
            outcome = run_cell(
                Cell.from_json(order["cell"]),
                dataset=self.dataset,
                store=self.store,
                device=self.device,
                refresh=order["refresh"],
                refreshed=order["refreshed"],
                seen=tuple(order["seen"]),
                is_reference=order["is_reference"],
                keep_policies=self.keep_policies,
                progress=progress,
            )
        except Busy as busy:
            return {"busy": dict(busy.owner)}
        except RLCondenseError as error:  # its record could not be read or written
            return {"unwritten": str(error)}
        record = outcome.record
        reason = record.get("reason", "")
        return {"status": record["status"], "reason": reason, "computed": not outcome.is_reused}
