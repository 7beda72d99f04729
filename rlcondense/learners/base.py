"""What a learner is: it fits one policy for each seed, with the same compute for every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rlcondense.methods.condensed import CondensedDataset
from rlcondense.policies import PolicyBatch
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import Task

ConfigT = TypeVar("ConfigT")


class Learner(ABC, Generic[ConfigT]):
    """Base of every learner.

    Attributes:
        requires: columns that the data must have.
        action_kinds: of `discrete`, `continuous`.
        facts: what a catalogue entry would say of it; see `rlcondense.making.facts_of`.
    """

    api_version: ClassVar[int] = 1
    Config: ClassVar[type[Any]]
    requires: ClassVar[frozenset[str]] = frozenset({"observations", "actions"})
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    facts: ClassVar[Mapping[str, Any]] = {}
    id: str = ""

    def __init__(self, config: ConfigT | None = None, *, id: str = "") -> None:
        self.config: ConfigT = self.Config() if config is None else config
        self.id = id or self.id or type(self).__name__

    def missing(self, data: CondensedDataset) -> list[str]:
        """The required columns that `data` lacks."""
        return sorted(self.requires - data.columns().keys())

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
            data: what to train on; not changed.
            task: whose action space the policies have.
            seeds: learner seeds; a policy depends on its own alone.
            device: where to compute.
            progress: told the updates done.
        """
