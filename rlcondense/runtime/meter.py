"""Costs of a phase of work: wall, processor and GPU seconds, and peak memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlcondense.records.record import SecondsJson

_RESET_PEAK = "5"  # what Linux's /proc/self/clear_refs takes to forget the peak so far


@dataclass
class Seconds:
    """Seconds that a phase took.

    Attributes:
        wall: wall seconds.
        cpu: processor seconds of this process, on all processors.
        gpu: wall seconds during which a GPU was held; 0 for work on a CPU.
    """

    wall: float = 0.0
    cpu: float = 0.0
    gpu: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add seconds that were spent elsewhere."""
        self.wall, self.cpu, self.gpu = (
            self.wall + other.wall,
            self.cpu + other.cpu,
            self.gpu + other.gpu,
        )

    def to_json(self) -> SecondsJson:
        """The seconds as a record holds them."""
        return {"wall": round(self.wall, 3), "cpu": round(self.cpu, 3), "gpu": round(self.gpu, 3)}


@contextlib.contextmanager
def measured(device: str = "cpu") -> Iterator[Seconds]:
    """Measure the seconds within the context; the yielded value is filled at its end.

    Args:
        device: device of the work.
    """
    seconds = Seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield seconds
    finally:
        seconds.wall = time.perf_counter() - wall
        seconds.cpu = time.process_time() - cpu
        seconds.gpu = 0.0 if device == "cpu" else seconds.wall


def forget_peak_memory() -> None:
    """Reset the peak memory of the process, if the system supports it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes() -> int:
    """Return the peak memory of this process since `forget_peak_memory`, or since its start."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu_memory_bytes() -> int:
    """Return the peak GPU memory of torch, in the same way; 0 without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.max_memory_allocated())
