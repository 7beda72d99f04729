"""A cell: one point of the comparison, with everything that decides its numbers resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlcondense.files import canonical_json

REFERENCE_POLICIES = ("random-policy", "marginal-policy", "expert")


@dataclass(frozen=True)
class Cell:
    """One method at one budget, learned by one learner and evaluated on one task.

    Attributes:
        task: its id.
        dataset: its id.
        method: `{"id", "config"}`; the reference policies are methods without a budget.
        budget: `Budget.to_json()`, or None for reference policies.
        learner: `{"id", "config"}`, or None for reference policies.
        condensation_seed: of the method.
        learner_seeds: of the policies.
        evaluation: the protocol, its version and how policies select actions.
    """

    task: str
    dataset: str
    method: Mapping[str, Any]
    budget: Mapping[str, Any] | None
    learner: Mapping[str, Any] | None
    condensation_seed: int
    learner_seeds: tuple[int, ...]
    evaluation: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The cell as plain values."""
        return {**asdict(self), "learner_seeds": list(self.learner_seeds)}

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that stand for everything in the cell."""
        return hashlib.sha256(canonical_json(self.to_json()).encode()).hexdigest()[:16]

    @property
    def condensation_id(self) -> str:
        """The same for what condensation alone depends on: not the learner, not the evaluation."""
        parts = {
            name: value
            for name, value in self.to_json().items()
            if name in ("task", "dataset", "method", "budget", "condensation_seed")
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]
