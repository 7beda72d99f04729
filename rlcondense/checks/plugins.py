"""The check that installed plugins load, each in a process of its own, so that none can harm."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rlcondense.catalogue import Entry, is_taken

TIMEOUT = 60.0
WORKERS = 4
_LOAD = """
import sys
from rlcondense.catalogue import EXPERTS, Entry
from rlcondense.errors import RLCondenseError
from rlcondense.experts.shipped import offered_path
from rlcondense.make import PARTS, load_part
entry = Entry(sys.argv[1], sys.argv[2], sys.argv[3], distribution=(sys.argv[4], sys.argv[5]))
try:
    of_group = {**dict.fromkeys(PARTS, load_part), EXPERTS: offered_path}
    of_group.get(entry.group, Entry.load)(entry)
except RLCondenseError as error:
    sys.exit(str(error))
print("\\nloaded")
"""


@dataclass(frozen=True)
class PluginState:
    """The state of an installed plugin.

    Attributes:
        kind: method, learner, task, dataset or expert.
        id: the plugin's id.
        origin: distribution and version.
        entry_point: `module:attribute`.
        status: `ok`, `broken`, `hidden` by a built-in of the same name, or `disputed` with another
            distribution.
        reason: why it cannot be used.
        seconds: how long it took to load.
    """

    kind: str
    id: str
    origin: str
    entry_point: str
    status: str
    reason: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return asdict(self)


def plugin_states(plugins: Sequence[Entry]) -> list[PluginState]:
    """Load every plugin and return its state.

    Args:
        plugins: entries, as `catalogue.plugins` returns them.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_state, plugins))


def _state(entry: Entry) -> PluginState:
    status, reason, seconds = "ok", "", 0.0
    if is_taken(entry.group, entry.id):
        status, reason = "hidden", "the name is a built-in one's"
    elif entry.rivals:
        status, reason = "disputed", f"also offered by {' and '.join(entry.rivals)}"
    else:
        started = time.perf_counter()
        reason = _load(entry)
        seconds = round(time.perf_counter() - started, 3)
        status = "broken" if reason else "ok"
    return PluginState(
        entry.kind, entry.id, entry.origin, entry.entry_point, status, reason, seconds
    )


def _load(entry: Entry) -> str:
    """Return why the entry cannot be loaded, or an empty text."""
    owner = entry.distribution or ("unknown", "")
    command = [sys.executable, "-P", "-c", _LOAD, entry.group, entry.id, entry.entry_point, *owner]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"it was not imported after {TIMEOUT:.0f} s"
    if not done.returncode and "loaded" in done.stdout.splitlines():
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"its process ended with code {done.returncode}"
