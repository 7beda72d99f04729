"""Condensed vectors as a readable table: one state per line, with its action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.types import Array

MOST_ROWS, MOST_FEATURES = 64, 16


def state_table(data: CondensedDataset, facts: Mapping[str, Any]) -> str | None:
    """Format the states and actions of a set, by name if the task's catalogue entry names them.

    Args:
        data: the set.
        facts: of the entry: `observation_names` and `action_names`.

    Returns:
        The table, of the first rows if there are many; None for frames and long vectors.
    """
    from tabulate import tabulate

    if data.observations.ndim != 2 or data.observations.shape[1] > MOST_FEATURES:
        return None
    features = _names(facts, "observation_names", data.observations.shape[1], "feature")
    discrete = are_discrete(data.actions)
    actions = [] if discrete else list(_rows(data.actions))
    names = [] if discrete else _names(facts, "action_names", len(actions[0]), "action")
    weighed = len(np.unique(data.weights)) > 1
    rows = [
        [
            *([action_name(facts, int(data.actions[i]))] if discrete else actions[i]),
            *state,
            *([f"{data.weights[i]:.3g}"] if weighed else []),
        ]
        for i, state in enumerate(_rows(data.observations[:MOST_ROWS]))
    ]
    headers = [*(["action"] if discrete else names), *features, *(["weight"] if weighed else [])]
    table = str(tabulate(rows, headers, disable_numparse=True))
    left = len(data) - len(rows)
    return f"{table}\n({left} more)" if left else table


def are_discrete(actions: Array) -> bool:
    """Return whether actions are numbers of actions `(N,)` and no vectors `(N, A)`.

    Raises:
        CorruptArtifact: they are neither.
    """
    if actions.ndim == 1 and actions.dtype.kind not in "iu":
        raise CorruptArtifact(f"actions are {actions.dtype}: neither whole numbers nor vectors")
    return actions.ndim == 1


def action_name(facts: Mapping[str, Any], action: int) -> str:
    """Return a discrete action's name from a task's catalogue entry, or its number."""
    names = facts.get("action_names", ())
    return str(names[action]) if 0 <= action < len(names) else f"action {action}"


def _rows(values: Array) -> list[list[str]]:
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    return [[f"{value:.3g}" for value in row] for row in flat]


def _names(facts: Mapping[str, Any], key: str, count: int, else_: str) -> list[str]:
    """Return one name per number: the catalogue's, if their count fits."""
    named = list(map(str, facts.get(key, ())))
    return named if len(named) >= count else [f"{else_} {i}" for i in range(count)]
