"""Episodes as arrays, as they are recorded, stored and read."""

from __future__ import annotations

from dataclasses import dataclass

from rlcondense.types import Array


@dataclass(frozen=True)
class Episode:
    """Episode of T steps.

    Attributes:
        observations: `(T, *observation)`.
        actions: `(T,)` or `(T, A)`.
        rewards: `(T,)`.
        level_seed: level of the episode, or None if it is not known.
        action_probs: `(T, A)` or None.
        truncated: whether the episode was truncated after its last step instead of terminating.
    """

    observations: Array
    actions: Array
    rewards: Array
    level_seed: int | None
    action_probs: Array | None = None
    truncated: bool = False
