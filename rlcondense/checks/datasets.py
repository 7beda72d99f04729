"""Conformance checks of datasets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlcondense.checks.base import Check, CheckFailed, CheckSkipped, bind
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.files import sha256_arrays
from rlcondense.make import load_dataset, make_task
from rlcondense.tasks.base import Task
from rlcondense.validation import check_actions, check_agreement, check_labels


@dataclass(frozen=True)
class Subject:
    """A dataset.

    Attributes:
        id: catalogue id or Minari id.
    """

    id: str

    @cached_property
    def data(self) -> TransitionDataset:
        """The dataset, built if it does not exist."""
        return load_dataset(self.id)

    @property
    def task(self) -> Task:
        """The task it was collected on."""
        if not self.data.task:
            raise CheckSkipped("it names no task")
        return make_task(self.data.task)


def dataset_checks(id_: str) -> list[Check]:
    """Return the checks of one dataset."""
    return bind(CHECKS, Subject(id_))


def it_loads(s: Subject) -> None:
    """It loads, with at least one transition and columns of one length."""
    if not len(s.data):
        raise CheckFailed("it has no transitions")


def it_is_the_data_it_claims_to_be(s: Subject) -> None:
    """Its columns have the sha256 it names."""
    actual = sha256_arrays(s.data.columns())
    if actual != s.data.sha256:
        raise CheckFailed(f"its columns have sha256 {actual}, not {s.data.sha256}")


def numbers_are_finite(s: Subject) -> None:
    """No column holds infinities or NaN."""
    for name, column in s.data.columns().items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise CheckFailed(f"column {name!r} holds infinities or NaN")


def episodes_are_whole(s: Subject) -> None:
    """Episodes lie one after another, their steps counted from 0, ended only at their ends."""
    data = s.data
    ends = data.column("terminations") | data.column("truncations")
    for number, rows in enumerate(data.episodes):
        inside = slice(rows.start, rows.stop)
        if not np.array_equal(data.column("steps")[inside], np.arange(len(rows))):
            raise CheckFailed(f"the steps of episode {number} do not count from 0")
        if len(np.unique(data.column("episode_ids")[inside])) != 1:
            raise CheckFailed(f"episode {number} has rows of several episode_ids")
        if ends[rows.start : rows.stop - 1].any():
            raise CheckFailed(f"episode {number} goes on after its end")


def actions_and_labels_fit(s: Subject) -> None:
    """Actions are the task's, and each row of action_probs is a distribution that allows them."""
    actions, probs, space = s.data.actions, s.data.action_probs, s.task.action_space
    try:
        check_actions(actions, space, "it")
        if probs is not None:
            check_labels(probs, space, "it")
            check_agreement(actions, probs, "it")
    except CorruptArtifact as error:
        raise CheckFailed(str(error)) from error


def observations_fit_the_task(s: Subject) -> None:
    """Observations have the task's shape and type."""
    space, data = s.task.observation_space, s.data
    if data.observations.shape[1:] != space.shape or data.observations.dtype != space.dtype:
        raise CheckFailed(
            f"observations are {data.observations.dtype} {data.observations.shape[1:]}, the "
            f"task's {space.dtype} {space.shape}"
        )


def levels_are_seen_ones(s: Subject) -> None:
    """No transition comes from a held-out level."""
    if s.data.level_seeds is None:
        raise CheckSkipped("it has no level_seeds")
    own = s.task.splits["seen"]
    strange = [level for level in np.unique(s.data.level_seeds).tolist() if level not in own]
    if strange:
        raise CheckFailed(
            f"it holds level {min(strange)}, which is not a seen one: students would be judged on "
            "what they were trained on"
        )


def frames_are_exact(s: Subject) -> None:
    """Frames were not stored as JPEG."""
    if s.data.origin.lossy:
        raise CheckFailed(
            "its frames were stored as JPEG, which changes them: store them channel first, which "
            "Minari keeps as they are"
        )


CHECKS = (
    it_loads,
    it_is_the_data_it_claims_to_be,
    numbers_are_finite,
    episodes_are_whole,
    actions_and_labels_fit,
    observations_fit_the_task,
    levels_are_seen_ones,
    frames_are_exact,
)
