"""Errors of rlcondense: each names the thing, the value and the way out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

MOST_LISTED = 12  # names in one message


class RLCondenseError(Exception):
    """Base of errors that a user can cause or mend; the command line prints them in one line."""


class UnknownName(RLCondenseError):
    """No task, dataset, method, learner or other part has this name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.6)
        few = ", ".join(known) or "none"
        listed = f"known: {few}" if len(known) <= MOST_LISTED else "see 'rlcondense list'"
        hint = f"did you mean {near[0]!r}?" if near else "; ".join(filter(None, [listed, advice]))
        super().__init__(f"unknown {kind} {name!r} ({hint})")


class UnknownVersion(UnknownName):
    """The name exists, the version asked for does not."""


class PluginLoadError(RLCondenseError):
    """An entry point could not be imported, or is not what its group promises."""


class MissingExtra(RLCondenseError):
    """An optional dependency is needed and absent."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed (pip install 'rlcondense[{extra}]')")


class MissingLibrary(MissingExtra):
    """A shared library of the operating system is needed and absent."""

    def __init__(self, what: str, library: str, packages: str) -> None:
        RLCondenseError.__init__(
            self,
            f"{what} needs the system library {library}, which is not installed "
            f"(Debian and Ubuntu: apt-get install {packages})",
        )


class BudgetExceeded(RLCondenseError):
    """A method returned more data than it was allowed."""


class CorruptArtifact(RLCondenseError):
    """A file on disk is truncated, altered or not of the promised form."""


class BadConfig(RLCondenseError):
    """A setting is unknown, of the wrong type or out of range."""


class PluginExit(RLCondenseError):
    """A method, a learner or a task tried to end the process that called it."""


@contextlib.contextmanager
def no_exit(owner: str) -> Iterator[None]:
    """Turn `sys.exit` within into an error that names who called it.

    Args:
        owner: what is called within, such as `method 'gradmatch'`.

    Raises:
        PluginExit: it tried to end the process.
    """
    try:
        yield
    except SystemExit as error:
        raise PluginExit(
            f"{owner} called sys.exit({error.code!r}), which would have ended everything: let it "
            "return, or raise an error"
        ) from error
