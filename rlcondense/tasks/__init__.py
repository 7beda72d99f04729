"""Tasks: what a policy is asked to do, on seen and on held-out levels.

Importing this package registers each Procgen task of the catalogue with Gymnasium, so that
`gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="heldout")` works.
"""

from gymnasium.envs.registration import register, registry

from rlcondense.catalogue import entries

_OF_THE_ENV = ("game", "mode", "seen", "heldout", "overlap")


def _register_with_gymnasium() -> None:
    for entry in entries("tasks").values():
        if entry.entry_point == "rlcondense.tasks.procgen:ProcgenTask" and entry.id not in registry:
            config = {key: value for key, value in entry.config.items() if key in _OF_THE_ENV}
            register(entry.id, entry_point="rlcondense.tasks.procgen:ProcgenEnv", kwargs=config)


_register_with_gymnasium()
