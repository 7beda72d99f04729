"""Imports that would print notices on the user's terminal."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_import(module: str) -> Iterator[None]:
    """Keep what the first import of `module` prints off the terminal: procgen's and d3rlpy's `gym`
    says that it is not maintained, and procgen leaves a file open."""
    if module in sys.modules:
        yield
        return
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
