"""What people see while they wait: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from rlcondense.errors import no_exit
from rlcondense.runtime.progress import RESUMED
from rlcondense.text import escaped, json_text, one_line

if TYPE_CHECKING:
    from rlcondense.running.estimate import Estimate
    from rlcondense.running.planned import Planned
    from rlcondense.running.states import State


def echo(text: object, *, err: bool = False) -> None:
    """Print text with whatever a terminal or a CI runner would obey escaped; all output does so."""
    click.echo(escaped(str(text)), err=err)


def echo_json(value: Any, *, sort_keys: bool = False) -> None:
    """Print indented JSON in which nothing is obeyed either."""
    click.echo(json_text(value, sort_keys=sort_keys))


PLAIN_SECONDS = 10  # between progress lines where there is no terminal


@contextlib.contextmanager
def plugins_at_work() -> Iterator[None]:
    """Keep stdout for results while code of others runs, and this process alive.

    Whatever is printed meanwhile goes to stderr: by Python, by a library below it, by a process
    that is started. `sys.exit` becomes an error.
    """
    with _descriptor_diverted(), contextlib.redirect_stdout(sys.stderr), no_exit("a plugin"):
        yield


@contextlib.contextmanager
def _descriptor_diverted() -> Iterator[None]:
    """Have stdout's file descriptor lead to stderr, where both are files."""
    descriptors = _descriptors()
    if descriptors is None:
        yield
        return
    out, err = descriptors
    kept = os.dup(out)
    try:
        _flush()
        os.dup2(err, out)
        yield
    finally:
        _flush()
        os.dup2(kept, out)
        os.close(kept)


def _descriptors() -> tuple[int, int] | None:
    """Those of stdout and stderr, or None where one is closed or no file, as in a test."""
    try:
        return sys.stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _flush() -> None:
    """Write what Python and C keep back."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)


class ConsoleProgress:
    """Bars on a terminal, a line now and then elsewhere, always on stderr; a context manager.

    Within, code of others is at work; see `plugins_at_work`.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._phase = ""
        self._first = 0
        self._started = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> ConsoleProgress:
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            stack.enter_context(plugins_at_work())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase != self._phase:
            self.close()
            self._phase, self._first = phase, done
            self._started = self._said = time.monotonic()
        if self._terminal:
            self._draw(phase, done, total, note)
        elif note == RESUMED:
            echo(f"{phase}: {done}/{total}, {note}", err=True)
        elif time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            left = (self._said - self._started) * (total - done) / max(done - self._first, 1)
            echo(f"{phase}: {done}/{total} {note}, {left:.0f} s left", err=True)

    def _draw(self, phase: str, done: int, total: int, note: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, desc=one_line(phase), leave=False, unit_scale=True
            )
        self._bar.n = done
        self._bar.set_postfix_str(one_line(note), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ConsoleSweep:
    """How a sweep goes: a bar and a line for each worker on a terminal, a line a cell elsewhere.

    All of it goes to stderr.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._lines: dict[int, Any] = {}
        self._cells: dict[int, str] = {}  # what each worker was last at
        self._todo = self._done = self._workers = 0
        self._started = time.monotonic()

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Say what there is to do."""
        self._todo, self._workers = todo, workers
        done = sum(state.status == "done" for state in states)
        later = sum(state.planned.cell is None and not state.planned.absent for state in states)
        absent = sum(state.status == "not-installed" for state in states)
        counts = {"done before": done, "to follow": later, "not installed": absent}
        rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
        noun = "worker" if workers == 1 else "workers"
        cells = "1 cell" if todo == 1 else f"{todo} cells"
        self.notice(f"{cells} to compute{rest}; {workers} {noun}")
        if self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(total=todo, position=0, leave=False, bar_format=_BAR)

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """Show what a worker is at."""
        if not self._terminal or worker < 0:
            return
        from tqdm import tqdm

        if worker not in self._lines:
            self._lines[worker] = tqdm(
                total=0, position=len(self._lines) + 1, leave=False, bar_format="{desc}"
            )
        self._cells[worker] = planned.id
        self._lines[worker].set_description_str(
            one_line(f"  {worker}: {planned.text}: {text}")[:_WIDTH]
        )

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """Say what came of a cell, and how long the rest will take."""
        from rlcondense.running.estimate import share

        self._done += 1
        self._todo = max(self._todo, self._done + left.cells)  # more may have come to light
        remaining = "none left"
        if left.cells:
            remaining = f"{left.cells} left, {share(left, self._workers)}"
        for worker, cell_id in self._cells.items():
            if cell_id == planned.id and worker in self._lines:
                self._lines[worker].set_description_str("")
        why = f" ({reason})" if reason else ""
        if self._bar is not None:
            self._bar.total = self._todo
            self._bar.set_postfix_str(remaining, refresh=False)
            self._bar.update(1)
            if status == "done":
                return
        self.notice(f"[{self._done}/{self._todo}] {planned.text}: {status}{why}; {remaining}")

    def notice(self, text: str) -> None:
        """Print a line above the bars."""
        if self._bar is not None:
            self._bar.write(escaped(text), file=sys.stderr)
        else:
            echo(text, err=True)

    def close(self) -> None:
        """Take the bars away."""
        for line in (*self._lines.values(), self._bar):
            if line is not None:
                line.close()
        self._lines.clear()
        self._bar = None


_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
_WIDTH = 110  # of a worker's line
