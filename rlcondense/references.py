"""Reference rows beside every result: ceilings, floors and the random subset of its size.

`REFERENCES` is the only definition of the reference rows. Every list, legend, mark and order of
rows derives from it.
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
RANDOM_SUBSET, CONVERGED = "random", "full-converged"


@dataclass(frozen=True)
class PolicyParts:
    """Inputs of the policies of a reference row.

    Attributes:
        task: task whose actions they take.
        dataset: dataset whose actions the blind policies imitate, if there is one.
        expert: the policy that is the ceiling, if there is one.
        seeds: seeds of the policies' noise, one for each policy.
        device: device of the expert.
    """

    task: Task
    dataset: TransitionDataset | None
    expert: Expert | None
    seeds: Sequence[int]
    device: str = "cpu"

    @property
    def actions(self) -> Any:
        """Actions of the dataset."""
        assert self.dataset is not None
        return np.asarray(self.dataset.actions)


@dataclass(frozen=True)
class Reference:
    """Reference row, which stands beside results.

    Attributes:
        id: id of a policy, or of the method that selects the training rows.
        role: `ceiling` (the expert), `whole` (students of all the data), `matched` (students of the
            random subset of a result's size and labels) or `floor`.
        short: short name.
        summary: description for legends.
        place: position in tables: below 0 before the methods, 0 among them, above 0 after them.
        letter: letter of the mark that says whether a result clears it; empty for rows without a
            mark.
        phrase: name in a sentence, after `the`; for rows that results are compared with.
        needs: requirements beside a task, of `dataset` and `expert`.
        greedy_only: whether it stands only beside students that act greedily.
        policies: function that makes its policies; None for a row of trained students.
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
        CONVERGED, "whole", CONVERGED,
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
        place=2, phrase="constant policy", needs=frozenset({"dataset"}), greedy_only=True,
        policies=_constant,
    ),
    Reference(
        RANDOM_SUBSET, "matched", "random", "the random subset of its size",
        place=0, letter="S", phrase="random subset",
    ),
)  # fmt: skip
BY_ID: Mapping[str, Reference] = {reference.id: reference for reference in REFERENCES}


def ids(chosen: Callable[[Reference], Any]) -> tuple[str, ...]:
    """Return the ids of the reference rows that a function chooses, in the order of tables."""
    of_place = sorted(REFERENCES, key=lambda reference: reference.place)
    return tuple(reference.id for reference in of_place if chosen(reference))


POLICIES = ids(lambda reference: reference.is_policy)
BLIND = ids(lambda reference: reference.is_blind)
# All the data: until the loss on held-back rows stops falling, and with a learner's usual updates.
WHOLE = ids(lambda reference: reference.role == "whole")
# The rows that a result should clear, in the order of their marks.
FLOORS = tuple(reference.id for reference in REFERENCES if reference.letter)


def policies_beside(action_selection: str, given: Iterable[str]) -> list[str]:
    """Return the reference policies beside students, or other policies.

    Greedy students that ignore the observation always take the same action, which may return more
    than sampling; so the constant policy is a reference of greedy students too.

    Args:
        action_selection: of the students, `sample` or `greedy`.
        given: available parts beside a task, of `dataset` and `expert`.
    """
    available, greedy = frozenset(given), action_selection == "greedy"
    last_first = sorted(REFERENCES, key=lambda r: (r.role != "floor", r.needs != frozenset()))
    return [
        r.id
        for r in last_first
        if r.is_policy and r.needs <= available and (greedy or not r.greedy_only)
    ]


def methods_beside(method: str, learner: Learner[Any]) -> list[str]:
    """Return the methods whose rows stand beside a method's: matched ones, and all the data.

    All the data have no random subset of the same size. A learner that supports early stopping
    trains on them until the loss on held-back rows stops falling; with its usual number of updates
    it would learn large data in part only.
    """
    matched = [RANDOM_SUBSET] if method not in (RANDOM_SUBSET, *WHOLE) else []
    whole = [name for name in WHOLE if name == "full" or learner.stops_by_held_back]
    return [*matched, *(name for name in whole if name != method)]


def reference_policies(name: str, parts: PolicyParts) -> PolicyBatch:
    """Make the policies of a reference row, one for each seed.

    Args:
        name: one of `POLICIES`.
        parts: inputs of the policies.
    """
    make = BY_ID[name].policies
    assert make is not None
    return make(parts)
