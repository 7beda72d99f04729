"""Tasks: what a policy is asked to do, on seen and on held-out levels.

Importing this package registers each Procgen game with Gymnasium, so that
`gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="heldout")` works.
"""

from gymnasium.envs.registration import register, registry

from rlcondense.tasks.procgen import GAMES, MODES


def _register_with_gymnasium() -> None:
    for game in GAMES:
        for mode in MODES:
            if (name := f"procgen/{game}-{mode}-v0") not in registry:
                register(
                    name,
                    entry_point="rlcondense.tasks.procgen:ProcgenEnv",
                    kwargs={"game": game, "mode": mode},
                )


_register_with_gymnasium()
