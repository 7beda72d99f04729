"""Tasks with seen levels for the data and held-out levels for evaluation.

Importing this package makes every task of the catalogue an environment of Gymnasium, those of
plugins and those added later included:
`gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="heldout")`.
"""

from contextlib import suppress

from gymnasium.envs.registration import register, registry
from gymnasium.error import Error

from rlcondense.catalogue import Entry, follow


def _register(entry: Entry) -> None:
    if entry.id in registry:
        return
    with suppress(Error):  # Gymnasium allows fewer ids, such as none with two slashes
        register(
            entry.id, entry_point="rlcondense.make:make_environment", kwargs={"task": entry.id}
        )


follow("tasks", _register)
