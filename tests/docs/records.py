"""Small records for the tests of pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rlcondense.references import POLICIES

LEVELS = 4


def record(
    method: str,
    heldout: float,
    *,
    lost: float = 0.0,
    seed: int = 0,
    labels: str = "hard",
    budget: dict[str, Any] | None = None,
    size: int = 15,
    students: int = 2,
    apart: float = 0.0,
    learner: dict[str, Any] | None = None,
    **cell: Any,
) -> Any:
    """Make a record of students who play four levels.

    Args:
        method: its id.
        heldout: return on held-out levels, but for a little that depends on method and seed.
        lost: how much more they return on seen levels.
        seed: of the condensation.
        labels: the kind that the learner used.
        budget: as asked for, `size` rows by default.
        size: rows kept.
        students: how many.
        apart: how far the first and the last of them lie from the middle.
        learner: its id and config.
        cell: what the cell has beside, such as `task`.
    """
    policy = method in POLICIES
    of_set = 0.02 * np.cos(len(method) * (seed + 1))
    spread = apart * np.linspace(-1, 1, students)[:, None]
    returns = heldout + of_set + spread + np.zeros((students, LEVELS))
    asked = budget or {"size": size}
    return {
        "status": "done",
        "cell_id": f"{method} {labels} {asked} {seed}",
        "action_selection": "sample",
        "cell": {
            "task": "t-v0",
            "dataset": "d-v0",
            "method": {"id": method, "config": {} if policy else {"labels": labels}},
            "budget": None if policy else asked,
            "learner": None if policy else learner or {"id": "bc", "config": {}},
            "learner_seeds": list(range(students)),
            "condensation_seed": seed,
            "evaluation": {"environments": 2, "quota": 2},
            **cell,
        },
        "returns": {"heldout": returns.tolist(), "seen": (returns + lost + of_set).tolist()},
        **({} if policy else {"report": {"size": size}, "labels": labels}),
    }


def by_id(records: Iterable[Any]) -> dict[str, Any]:
    """Return records by cell id."""
    return {one["cell_id"]: one for one in records}
