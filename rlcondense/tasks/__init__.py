"""Tasks with seen levels for the data and held-out levels for evaluation.

Importing this package registers the tasks of the catalogue with Gymnasium, so that
`gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="heldout")` works.
"""

from gymnasium.envs.registration import register, registry

from rlcondense.catalogue import entries

_MAKERS = {
    "rlcondense.tasks.classic_control:ClassicControlTask": "rlcondense.tasks.gymnasium:make_one",
    "rlcondense.tasks.gymnasium:GymnasiumTask": "rlcondense.tasks.gymnasium:make_one",
    "rlcondense.tasks.images:ImagesTask": "rlcondense.tasks.images:ImagesEnv",
    "rlcondense.tasks.minatar:MinAtarTask": "rlcondense.tasks.minatar:make_one",
    "rlcondense.tasks.mujoco:MujocoTask": "rlcondense.tasks.mujoco:make_one",
    "rlcondense.tasks.procgen:ProcgenTask": "rlcondense.tasks.procgen:ProcgenEnv",
}


def _register_with_gymnasium() -> None:
    for entry in entries("tasks").values():
        if entry.entry_point in _MAKERS and entry.id not in registry:
            config = {key: value for key, value in entry.config.items() if key != "score_range"}
            register(entry.id, entry_point=_MAKERS[entry.entry_point], kwargs=config)


_register_with_gymnasium()
