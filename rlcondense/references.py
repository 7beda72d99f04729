"""The rows that every result stands beside: ceilings, floors and the random subset of its size.

`REFERENCES` is the one place where a reference row is written down. Every list, legend, mark and
order of rows derives from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import TransitionDataset
    from rlcondense.experts.shipped import Expert
    from rlcondense.learners.base import Learner
    from rlcondense.policies import PolicyBatch
    from rlcondense.tasks.base import Task

EXPERT, FLOOR, MARGINAL = "expert", "random-policy", "marginal-policy"
RANDOM_SUBSET = "random"


@dataclass(frozen=True)
class PolicyParts:
    """Parts that the policies of a reference row are made from.

    Attributes:
        task: whose actions they take.
        dataset: whose actions the state-blind policies repeat, if there is one.
        expert: the policy that is the ceiling, if there is one.
        seeds: of the policies' noise, one policy each.
        device: where the expert computes.
    """

    task: Task
    dataset: TransitionDataset | None
    expert: Expert | None
    seeds: Sequence[int]
    device: str = "cpu"

    @property
    def actions(self) -> Any:
        """The actions of the dataset."""
        assert self.dataset is not None
        return np.asarray(self.dataset.actions)


@dataclass(frozen=True)
class Reference:
    """A row that results stand beside.

    Attributes:
        id: of a policy, or of the method that keeps the rows it is learned from.
        role: `ceiling` (the expert), `whole` (all the data, learned), `matched` (the random subset
            of a result's own size and labels) or `floor`.
        short: its name where there is little space.
        summary: what it does, for legends.
        place: where tables have it: below 0 before the methods, 0 among them, above 0 after them.
        letter: of the mark that says whether a result clears it; empty for rows without one.
        phrase: its name in a sentence, after `the`; of rows with a letter.
        needs: what must be available beside a task, among `dataset` and `expert`.
        greedy_only: whether it stands beside students that act greedily alone.
        policies: makes its policies; None for a row that a learner learns.
    """

    id: str
    role: str
    short: str
    summary: str
    place: int
    letter: str = ""
    phrase: str = ""
    needs: frozenset[str] = frozenset()
    greedy_only: bool = False
    policies: Callable[[PolicyParts], PolicyBatch] | None = None

    @property
    def is_policy(self) -> bool:
        """Return whether the row is a policy that is not trained here."""
        return self.policies is not None

    @property
    def is_blind(self) -> bool:
        """Return whether the policy imitates the data's actions but ignores the observation."""
        return self.role == "floor" and "dataset" in self.needs


def _uniform(parts: PolicyParts) -> PolicyBatch:
    from rlcondense.policies import random_policies

    return random_policies(parts.task.action_space, parts.seeds)


def _marginal(parts: PolicyParts) -> PolicyBatch:
    from rlcondense.policies import marginal_policies

    return marginal_policies(parts.actions, parts.task.action_space, parts.seeds)


def _constant(parts: PolicyParts) -> PolicyBatch:
    from rlcondense.policies import constant_policies

    return constant_policies(parts.actions, parts.task.action_space, parts.seeds)


def _expert(parts: PolicyParts) -> PolicyBatch:
    from rlcondense.policies import NetworkPolicies

    assert parts.expert is not None
    networks = [parts.expert.network] * len(parts.seeds)
    space = parts.task.action_space
    return NetworkPolicies(networks, parts.seeds, device=parts.device, space=space)


# In the order of the floors' letters: U, M, S.
REFERENCES = (
    Reference(
        EXPERT, "ceiling", "expert", "the expert of the dataset: the ceiling",
        place=-3, needs=frozenset({"expert"}), policies=_expert,
    ),
    Reference(
        "full-converged", "whole", "full-converged",
        "all the data, learned until the loss on held-back episodes stops falling", place=-2,
    ),
    Reference(
        "full", "whole", "full", "all the data, learned in a learner's own number of updates",
        place=-1,
    ),
    Reference(
        FLOOR, "floor", "uniform", "acts uniformly at random: the floor",
        place=3, letter="U", phrase="random policy", policies=_uniform,
    ),
    Reference(
        MARGINAL, "floor", "marginal",
        "samples the dataset's actions without looking at the observation",
        place=1, letter="M", phrase="marginal policy", needs=frozenset({"dataset"}),
        policies=_marginal,
    ),
    Reference(
        "constant-policy", "floor", "constant",
        "always takes the dataset's most frequent action, or mean action",
        place=2, needs=frozenset({"dataset"}), greedy_only=True, policies=_constant,
    ),
    Reference(
        RANDOM_SUBSET, "matched", "random", "the random subset of its size",
        place=0, letter="S", phrase="random subset",
    ),
)  # fmt: skip
BY_ID: Mapping[str, Reference] = {reference.id: reference for reference in REFERENCES}


def ids(chosen: Callable[[Reference], Any]) -> tuple[str, ...]:
    """The ids of the reference rows that a function chooses, in the order of tables."""
    of_place = sorted(REFERENCES, key=lambda reference: reference.place)
    return tuple(reference.id for reference in of_place if chosen(reference))


POLICIES = ids(lambda reference: reference.is_policy)
BLIND = ids(lambda reference: reference.is_blind)
# All the data: learned until there is no more to learn, and with a learner's own updates.
WHOLE = ids(lambda reference: reference.role == "whole")
# What a result should clear, in the order of their marks.
FLOORS = tuple(reference.id for reference in REFERENCES if reference.letter)


def policies_beside(learner: Learner[Any], given: Iterable[str]) -> list[str]:
    """The reference policies beside the students of a learner.

    Students that act greedily and look at nothing always take the same action, which may be worth
    more than drawing one: they are to be compared with that, too.

    Args:
        learner: of the students.
        given: what is available beside a task, among `dataset` and `expert`.
    """
    available, greedy = frozenset(given), learner.action_selection == "greedy"
    last_first = sorted(REFERENCES, key=lambda r: (r.role != "floor", r.needs != frozenset()))
    return [
        r.id
        for r in last_first
        if r.is_policy and r.needs <= available and (greedy or not r.greedy_only)
    ]


def methods_beside(method: str, learner: Learner[Any]) -> list[str]:
    """The methods whose rows stand beside those of a method: matched ones, and all the data.

    All the data are no subset that a random one of their size could be compared with. A learner
    that can learns them until there is no more to learn; with its own number of updates, as every
    other row has, it leaves large data half learned.
    """
    matched = [RANDOM_SUBSET] if method not in (RANDOM_SUBSET, *WHOLE) else []
    whole = [name for name in WHOLE if name == "full" or learner.stops_by_held_back]
    return [*matched, *(name for name in whole if name != method)]


def reference_policies(name: str, parts: PolicyParts) -> PolicyBatch:
    """The policies of a reference row, one for each seed.

    Args:
        name: one of `POLICIES`.
        parts: what they are made from.
    """
    make = BY_ID[name].policies
    assert make is not None
    return make(parts)
