"""An episode as arrays, as it is recorded, stored and read."""

from __future__ import annotations

from dataclasses import dataclass

from rlcondense.types import Array


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        observations: `(T, *observation)`.
        actions: `(T,)` or `(T, A)`.
        rewards: `(T,)`.
        level_seed: the level it was played on.
        action_probs: `(T, A)` or None.
        truncated: whether it was cut after its last step, and did not end there.
    """

    observations: Array
    actions: Array
    rewards: Array
    level_seed: int
    action_probs: Array | None = None
    truncated: bool = False
