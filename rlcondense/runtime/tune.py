"""Memory and thread settings of a process."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

# Torch's threads of a cell on a CPU. Results depend on their number, and cells side by side make
# better use of the cores.
THREADS = 1


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment_threads(device: str) -> int:
    """Return the number of threads that step environments; it changes no transition.

    Beside a GPU, one cell has all cores.
    """
    return THREADS if device == "cpu" else num_cores()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and numpy compute with one thread within, so that results depend on no number."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with threadpool_limits(THREADS):
            yield
    finally:
        torch.set_num_threads(before)


def tune() -> None:
    """Keep freed memory, which training would else get anew in every update.

    What it saves is in docs/results/speed.md.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
