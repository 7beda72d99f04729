"""The task, dataset and learner that the rows of one table of a plan share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rlcondense import catalogue
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.minari import lacks_action_probs
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.records.cell import Cell, method_cell
from rlcondense.running.suite import Choice, Product
from rlcondense.tasks.base import Task


@dataclass(frozen=True)
class Group:
    """The task, dataset and learner that the rows of one table share."""

    task: Task
    dataset: str
    learner: Learner[Any]
    choice: Choice  # the learner as the suite names it
    product: Product

    @property
    def protocol(self) -> Protocol:
        return protocol_of(self.product.episodes)

    @property
    def seeds(self) -> range:
        return range(self.product.learner_seeds)

    def cells(self, method: Method[Any], budget: Budget, seeds: Iterable[int]) -> list[Cell]:
        """Return the cells of some condensation seeds; they agree in everything else."""
        first = method_cell(
            self.task.id, self.dataset, method, budget, self.learner, 0, self.seeds, self.protocol
        )
        return [replace(first, condensation_seed=seed) for seed in seeds]


def is_unlabelled(dataset: str) -> bool:
    """Return whether a dataset is known to lack action_probs; the shipped ones have them."""
    entry = catalogue.entries("datasets").get(dataset)
    shipped = entry is not None and entry.is_built_in
    return not shipped and lacks_action_probs(catalogue.base_of(dataset))
