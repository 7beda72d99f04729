"""Interface of learners: one policy for each seed, with equal compute for every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Generic, TypeVar

from gymnasium.spaces import Box

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.report import LABEL_KINDS
from rlcondense.errors import CorruptArtifact
from rlcondense.policies import PolicyBatch
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

ConfigT = TypeVar("ConfigT")
# The usual order of a transition, for messages.
ORDER = ("observations", "actions", "rewards", "next_observations", "terminations", "episodes")


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def check_selection(policies: PolicyBatch, learner: Learner[Any]) -> None:
    """Refuse policies that choose actions in another way than their learner says.

    Raises:
        CorruptArtifact: they do.
    """
    if policies.action_selection != learner.action_selection:
        raise CorruptArtifact(
            f"learner {learner.id!r} says that its policies act by {learner.action_selection}, and "
            f"they act by {policies.action_selection}: set action_selection of the PolicyBatch"
        )


class Learner(ABC, Generic[ConfigT]):
    """Base of learners.

    Attributes:
        requires: requirements of the data: columns, `next_observations`, or `episodes` (each
            episode's rows continue to its end).
        action_kinds: kinds of action that it can learn, of `discrete` and `continuous`.
        label_kinds: kinds of label that it learns from. A learner without `soft` learns the actions
            taken from data with soft labels; records and tables say so.
        stops_by_held_back: whether training ends when the loss on held-back rows stops falling, if
            the data has such rows.
        facts: facts of its catalogue entry; see `rlcondense.make.facts_of`.
    """

    api_version: ClassVar[int] = 1
    Config: ClassVar[type[Any]]
    requires: ClassVar[frozenset[str]] = frozenset({"observations", "actions"})
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    label_kinds: tuple[str, ...] = LABEL_KINDS
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
            provided: names that `CondensedDataset.provides` returned.
            task: the task of the actions.
        """
        lacking = frozenset(self.requires) - frozenset(provided)
        if "held_back" in provided and not self.stops_by_held_back:
            lacking |= {"a learner that trains until a loss stops falling"}
        kind = "continuous" if isinstance(task.action_space, Box) else "discrete"
        actions = [] if kind in self.action_kinds else [f"{' or '.join(self.action_kinds)} actions"]
        return actions + sorted(lacking, key=_place)

    def check_task(self, task: Task) -> None:
        """Refuse settings that cannot learn a task, before anything is condensed for it.

        Args:
            task: the task of the policies.

        Raises:
            BadConfig: they cannot; by default nothing is refused.
        """

    @abstractmethod
    def fit(
        self,
        data: CondensedDataset,
        *,
        task: str | Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> PolicyBatch:
        """Train one policy for each seed.

        Args:
            data: the training data; not changed.
            task: the task of the policies; the package's own learners take its name, too.
            seeds: learner seeds; a policy depends on its own seed alone.
            device: device of the computation.
            progress: receives the number of updates.
        """
