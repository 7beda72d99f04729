"""Replacements for characters that a terminal cannot write, and the signal that ends a command."""

from __future__ import annotations

import codecs
import contextlib
import signal
import sys
import threading

# Bars, signs of tables and marks of estimates; all others become a question mark.
STAND_INS = {
    **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True)),
    "±": "+-", "\u00d7": "x", "·": ".", "\u2013": "-", "\u2212": "-", "…": "...",
}  # fmt: skip
_ERRORS = "rlcondense-stand-in"


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(STAND_INS.get(character, "?") for character in text), error.end


codecs.register_error(_ERRORS, _stand_in)


def write_what_can_be() -> None:
    """Make stdout and stderr replace characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            AttributeError, OSError, ValueError
        ):  # a closed stream, or one of a test
            stream.reconfigure(errors=_ERRORS)  # type: ignore[union-attr]


def interrupt_on_termination() -> None:
    """Make a batch system's SIGTERM end a command as Ctrl-C does, with its worker processes."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
