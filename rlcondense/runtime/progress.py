"""Progress reports of long computations: a callable, silent by default."""

from __future__ import annotations

from typing import Protocol

LEFT = "left"  # the last word of a note that itself says how long the work will take
RESUMED = "going on from a checkpoint"  # the note of the first report of work that was begun before


class Progress(Protocol):
    """Called with a phase, the work done and to do in it, and a short note."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None: ...


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""
