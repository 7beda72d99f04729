"""Imports that would print notices on the user's terminal."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_gym_import() -> Iterator[None]:
    """Keep the notice that importing `gym` prints, as procgen and d3rlpy do, off the terminal."""
    if "gym" in sys.modules:
        yield
        return
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
