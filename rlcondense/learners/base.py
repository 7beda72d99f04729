"""Interface of learners: one policy for each seed, with equal compute for every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Generic, TypeVar

from gymnasium.spaces import Box

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.report import LABEL_KINDS
from rlcondense.policies import PolicyBatch
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

ConfigT = TypeVar("ConfigT")
# As a transition is written, for messages.
ORDER = ("observations", "actions", "rewards", "next_observations", "terminations", "episodes")


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


class Learner(ABC, Generic[ConfigT]):
    """Base of every learner.

    Attributes:
        requires: what the data must have: columns, `next_observations`, `episodes` (each episode's
            rows go on to its end).
        action_kinds: of `discrete`, `continuous`.
        label_kinds: the kinds of label it learns from; where there are soft ones and it takes none,
            it learns the actions taken, and records and tables say so.
        stops_by_held_back: whether it trains until the loss on rows that are held back stops
            falling, where the data has such rows.
        facts: what a catalogue entry would say of it; see `rlcondense.make.facts_of`.
    """

    api_version: ClassVar[int] = 1
    Config: ClassVar[type[Any]]
    requires: ClassVar[frozenset[str]] = frozenset({"observations", "actions"})
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    label_kinds: ClassVar[tuple[str, ...]] = LABEL_KINDS
    stops_by_held_back: ClassVar[bool] = False
    facts: ClassVar[Mapping[str, Any]] = {}
    id: str = ""

    def __init__(self, config: ConfigT | None = None, *, id: str = "") -> None:
        self.config: ConfigT = self.Config() if config is None else config
        self.id = id or self.id or type(self).__name__

    @property
    def action_selection(self) -> str:
        """Action selection of its policies, `sample` or `greedy`."""
        return str(getattr(self.config, "action_selection", "sample"))

    def missing(self, provided: AbstractSet[str], task: Task) -> list[str]:
        """Return the unmet requirements, such as `rewards` or `discrete actions`.

        Args:
            provided: what the data have, as returned by `CondensedDataset.provides`.
            task: the task of the actions.
        """
        lacking = self.requires - provided
        if "held_back" in provided and not self.stops_by_held_back:
            lacking |= {"a learner that trains until a loss stops falling"}
        kind = "continuous" if isinstance(task.action_space, Box) else "discrete"
        actions = [] if kind in self.action_kinds else [f"{self.action_kinds[0]} actions"]
        return actions + sorted(lacking, key=_place)

    @abstractmethod
    def fit(
        self,
        data: CondensedDataset,
        *,
        task: Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> PolicyBatch:
        """Train one policy for each seed.

        Args:
            data: the training data; not changed.
            task: the task of the policies.
            seeds: learner seeds; a policy depends on its own seed alone.
            device: device of the computation.
            progress: receives the updates done.
        """
