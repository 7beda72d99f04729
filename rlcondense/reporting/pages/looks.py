"""Pictures of tasks: frames of some seen levels."""

from __future__ import annotations

from functools import cache

import numpy as np

from rlcondense.catalogue import entries
from rlcondense.errors import RLCondenseError
from rlcondense.make import make_task
from rlcondense.policies import num_actions_of
from rlcondense.reporting.pictures import draw_frames

LEVELS, STEPS = 8, 24  # frames of a strip, and random actions before them
VIEWS = {"-easy-": "ordinary picture", "-plain-": "plain picture"}


def strips_of(task: str) -> list[tuple[str, bytes]]:
    """Return pictures of a task, and of the same states in its other view, with their names.

    There are none of tasks without frames, and of tasks that are not installed here.
    """
    names = {task: "picture"}
    for part in VIEWS:
        if part in task:
            family = {task.replace(part, other): name for other, name in VIEWS.items()}
            names = {name: text for name, text in family.items() if name in entries("tasks")}
    drawn = [(text, _strip(name)) for name, text in names.items()]
    return [(text, strip) for text, strip in drawn if strip is not None]


@cache
def _strip(task: str) -> bytes | None:
    """Draw a frame of each of some seen levels, after the same random actions."""
    try:
        made = make_task(task)
        shape = made.observation_space.shape
        if shape is None or len(shape) != 3:
            return None
        actions = np.random.default_rng(0)
        number = num_actions_of(made.action_space)
        env = made.make_vec("seen", LEVELS, seed=0)
        try:
            frames, _ = env.reset()
            for _ in range(STEPS):
                frames, *_ = env.step(actions.integers(number, size=LEVELS))
        finally:
            env.close()
        return draw_frames(np.array(frames))
    except (RLCondenseError, ImportError, AttributeError, TypeError, ValueError):
        return None
