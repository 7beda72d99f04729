"""The display of progress: bars on a terminal, occasional lines elsewhere."""

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
from rlcondense.runtime.progress import LEFT, RESUMED
from rlcondense.text import escaped, json_text, one_line

if TYPE_CHECKING:
    from rlcondense.running.estimate import Estimate
    from rlcondense.running.planned import Planned
    from rlcondense.running.states import State


def echo(text: object, *, err: bool = False) -> None:
    """Print text with control sequences of terminals and CI runners escaped, as all output must."""
    click.echo(escaped(str(text)), err=err)


def echo_json(value: Any, *, sort_keys: bool = False) -> None:
    """Print indented JSON with control sequences escaped likewise."""
    click.echo(json_text(value, sort_keys=sort_keys))


PLAIN_SECONDS = 10  # between progress lines without a terminal


@contextlib.contextmanager
def plugins_at_work() -> Iterator[None]:
    """Keep stdout for results and this process alive while foreign code runs.

    All other output goes to stderr: of Python, of native libraries, and of child processes.
    `sys.exit` becomes an error.
    """
    with _descriptor_diverted(), contextlib.redirect_stdout(sys.stderr), no_exit("a plugin"):
        yield


@contextlib.contextmanager
def _descriptor_diverted() -> Iterator[None]:
    """Redirect stdout's file descriptor to stderr, if both are files."""
    descriptors = _descriptors()
    if descriptors is None:
        yield
        return
    out, err = descriptors
    saved = os.dup(out)
    try:
        _flush()
        os.dup2(err, out)
        yield
    finally:
        _flush()
        os.dup2(saved, out)
        os.close(saved)


def _descriptors() -> tuple[int, int] | None:
    """Return those of stdout and stderr, or None if one is closed or not a file, as in a test."""
    try:
        return sys.stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _flush() -> None:
    """Flush the output buffers of Python and C."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)


def _is_terminal() -> bool:
    """Return whether somebody may watch; a closed stderr is None."""
    return sys.stderr is not None and sys.stderr.isatty()


class ConsoleProgress:
    """Bars on a terminal, occasional lines elsewhere, always on stderr; a context manager.

    Foreign code may run within it; see `plugins_at_work`.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._phase = ""
        self._first = 0
        self._started = self._said = time.monotonic()
        self._terminal = _is_terminal()

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
            if note.endswith(LEFT):
                echo(f"{phase}: {done}/{total} {note}", err=True)
                return
            line = f"{phase}: {done}/{total} {note}"
            if done > self._first:
                left = (self._said - self._started) * (total - done) / (done - self._first)
                line += f", {max(0, left):.0f} s left"
            echo(line, err=True)

    def _draw(self, phase: str, done: int, total: int, note: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, desc=one_line(phase), leave=False, unit_scale=True,
                bar_format=_BAR_OF_ROWS if note.endswith(LEFT) else None,
            )  # fmt: skip
        self._bar.n, self._bar.total = done, total
        self._bar.set_postfix_str(one_line(note), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ConsoleSweep:
    """The display of a sweep: a bar and a line per worker on a terminal, else a line per cell.

    All of it goes to stderr.
    """

    def __init__(self) -> None:
        self._terminal = _is_terminal()
        self._bar: Any = None
        self._lines: dict[int, Any] = {}
        self._cells: dict[int, str] = {}  # the last phase of each worker
        self._todo = self._done = self._workers = 0

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Print the number of cells to compute."""
        self._todo, self._workers = todo, workers
        done = sum(state.status == "done" for state in states)
        planned = [state.planned for state in states]
        later = sum(p.cell is None and bool(p.after) and not p.skip for p in planned)
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
        """Show the current phase of a worker."""
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
        """Print the result of a cell, and how long the rest will take."""
        from rlcondense.running.estimate import share

        self._done += 1
        self._todo = max(self._todo, self._done + left.cells)  # the plan may have grown
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
        """Remove the bars."""
        for line in (*self._lines.values(), self._bar):
            if line is not None:
                line.close()
        self._lines.clear()
        self._bar = None


_BAR_OF_ROWS = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
_WIDTH = 110  # of a worker's line
