"""Cells: single points of the comparison, with every setting that decides their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rlcondense.config import config_json
from rlcondense.datasets.report import BudgetJson
from rlcondense.errors import BadConfig
from rlcondense.files import canonical_json, plain
from rlcondense.limits import MOST_EVALUATION_SEED, MOST_LEARNER_SEEDS, check_whole
from rlcondense.protocol import PROTOCOL_VERSION, Protocol
from rlcondense.records.record import (
    CellJson,
    EvaluationJson,
    LearnerJson,
    MethodJson,
)

if TYPE_CHECKING:
    from rlcondense.datasets.budget import Budget
    from rlcondense.learners.base import Learner
    from rlcondense.methods.base import Method

CONDENSED = "condensed:"  # begins the method id of a set that somebody handed in
POLICIES_FROM = "policies:"  # and that of policies
MADE_ELSEWHERE = (CONDENSED, POLICIES_FROM)
OF_SEVERAL_TASKS = f"{CONDENSED}multitask"  # a set that students learn from beside those of others
_CONDENSATION = ("task", "dataset", "method", "budget", "condensation_seed")


@dataclass(frozen=True)
class Cell:
    """One method at one budget, with one learner, evaluated on one task.

    Attributes:
        task: its id.
        dataset: its id.
        method: its id and config; the reference policies are methods without a budget.
        budget: None for reference policies.
        learner: its id and config; None for reference policies.
        condensation_seed: of the method.
        learner_seeds: of the policies.
        evaluation: the protocol and its version.
    """

    task: str
    dataset: str
    method: MethodJson
    budget: BudgetJson | None
    learner: LearnerJson | None
    condensation_seed: int
    learner_seeds: tuple[int, ...]
    evaluation: EvaluationJson

    def checked(self) -> Cell:
        """Return the cell after a check that its seeds and counts are in a record's range.

        Raises:
            BadConfig: one is out of range.
        """
        check_whole(self.condensation_seed, "condensation seed")
        check_whole(len(self.learner_seeds), "learner seeds", least=1, most=MOST_LEARNER_SEEDS)
        for seed in self.learner_seeds:
            check_whole(seed, "learner seed")
        if len(set(self.learner_seeds)) < len(self.learner_seeds):
            raise BadConfig(f"learner seeds repeat: {', '.join(map(str, self.learner_seeds))}")
        protocol = self.evaluation
        check_whole(protocol["environments"], "evaluation's environments", least=1)
        check_whole(protocol["quota"], "evaluation's quota", least=1)
        check_whole(protocol["seed"], "evaluation's seed", most=MOST_EVALUATION_SEED)
        return self

    def to_json(self) -> CellJson:
        """Return the cell as plain values."""
        values: CellJson = plain({f.name: getattr(self, f.name) for f in fields(self)})
        return values

    @classmethod
    def from_json(cls, values: CellJson) -> Cell:
        """Make a cell from the plain values of `to_json`."""
        parts: Mapping[str, Any] = values
        known = {field.name: parts[field.name] for field in fields(cls)}
        return cls(**{**known, "learner_seeds": tuple(values["learner_seeds"])})

    @cached_property
    def id(self) -> str:
        """The cell's id: sixteen hexadecimal digits, a hash of everything in the cell."""
        return self._hash(field.name for field in fields(self))

    @cached_property
    def condensation_id(self) -> str:
        """The id of the cell's condensation: a hash of the cell without learner and evaluation."""
        return self._hash(_CONDENSATION)

    def _hash(self, names: Iterable[str]) -> str:
        content = canonical_json({name: getattr(self, name) for name in names})
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def is_policy(self) -> bool:
        """True for the cell of a policy: nothing is condensed and no learner trains for it here."""
        return self.learner is None

    @property
    def is_handed_in(self) -> bool:
        """True for what a cell does not tell how to make: a set, policies, another expert."""
        name = self.method["id"]
        return name.startswith(MADE_ELSEWHERE) or (self.is_policy and bool(self.method["config"]))

    def __str__(self) -> str:
        """Return the cell in one line, for people."""
        names = [self.task, self.method["id"]]
        if self.budget is not None:
            names.append(budget_text(self.budget))
        if self.learner is not None:
            names += [self.learner["id"], f"seed {self.condensation_seed}"]
        return " ".join(names)


def method_cell(
    task: str,
    dataset: str,
    method: Method[Any],
    budget: Budget,
    learner: Learner[Any],
    condensation_seed: int,
    learner_seeds: Sequence[int],
    protocol: Protocol,
) -> Cell:
    """Make the cell of a method; `task` and `dataset` are ids."""
    return Cell(
        task=task,
        dataset=dataset,
        method=method_json(method),
        budget=budget.to_json(),
        learner=learner_json(learner),
        condensation_seed=condensation_seed,
        learner_seeds=tuple(learner_seeds),
        evaluation=evaluation_json(protocol),
    ).checked()


def policy_cell(
    task: str,
    dataset: str,
    method: MethodJson,
    learner_seeds: Sequence[int],
    protocol: Protocol,
) -> Cell:
    """Make the cell of policies that no learner trains here."""
    return Cell(
        task=task,
        dataset=dataset,
        method=method,
        budget=None,
        learner=None,
        condensation_seed=0,
        learner_seeds=tuple(learner_seeds),
        evaluation=evaluation_json(protocol),
    ).checked()


def method_json(method: Method[Any]) -> MethodJson:
    """Return a method as plain values."""
    return {"id": method.id, "config": config_json(method.config)}


def learner_json(learner: Learner[Any]) -> LearnerJson:
    """Return a learner as plain values."""
    return {"id": learner.id, "config": config_json(learner.config)}


def evaluation_json(protocol: Protocol) -> EvaluationJson:
    """Return a protocol as plain values."""
    return {
        "protocol": PROTOCOL_VERSION,
        "environments": protocol.environments,
        "quota": protocol.quota,
        "seed": protocol.seed,
    }


def protocol_from(evaluation: EvaluationJson) -> Protocol:
    """Make a protocol from the plain values of `evaluation_json`."""
    parts: Mapping[str, Any] = evaluation
    return Protocol(**{name: value for name, value in parts.items() if name != "protocol"})


def episodes_of(evaluation: EvaluationJson) -> int:
    """Return how many episodes each policy plays on each split."""
    return int(evaluation["environments"] * evaluation["quota"])


def budget_size(budget: BudgetJson | None) -> int | None:
    """Return the number of transitions of a budget that is one, else None."""
    return budget["size"] if budget is not None and "size" in budget else None


def budget_text(budget: BudgetJson) -> str:
    """Format a budget: `150`, `10% of episodes`, `50000 bytes (4 bits, 32 x 32)`."""
    if "size" in budget:
        return str(budget["size"])
    if "bytes" in budget:
        side = (
            f", {budget['resolution']} x {budget['resolution']}" if "resolution" in budget else ""
        )
        return f"{budget['bytes']} bytes ({budget['bits']} bits{side})"
    return f"{budget['percent']:g}% of {budget['unit']}"
