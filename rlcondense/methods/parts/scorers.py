"""The selection of episodes or rows by a score, for methods that give scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select
from rlcondense.types import Array

ConfigT = TypeVar("ConfigT", bound=LabelConfig)


class EpisodeScorer(Method[ConfigT]):
    """Keeps episodes, highest score first; of equal scores, the earlier episode.

    A budget in transitions is met exactly: the last episode is cut off. A percentage of episodes
    keeps whole ones.
    """

    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"episodes"})
    stochastic = False

    @abstractmethod
    def _score(self, problem: Problem) -> Scores:
        """Score all episodes."""

    def _condense(self, problem: Problem) -> Condensation:
        scores = self._score(problem)
        rows = first_rows(problem, by_score(scores.values))
        selected = select(problem.dataset, rows, self.config.labels)
        return replace(
            selected,
            scores=scores,
            gradient_evaluations=scores.gradient_evaluations,
            environment_steps=scores.environment_steps,
        )


class RowScorer(Method[ConfigT]):
    """Keeps rows, highest score first; of equal scores, the earlier row."""

    label_kinds = ("hard", "soft", "continuous")

    @abstractmethod
    def _score(self, problem: Problem) -> Scores:
        """Score all rows."""

    def _condense(self, problem: Problem) -> Condensation:
        scores = self._score(problem)
        rows = np.sort(by_score(scores.values)[: problem.size])
        selected = select(problem.dataset, rows, self.config.labels)
        return replace(selected, scores=scores, gradient_evaluations=scores.gradient_evaluations)


def by_score(scores: Array) -> npt.NDArray[np.int64]:
    """Return the order of episodes or rows, highest score first; of equal ones, the earlier."""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def first_rows(problem: Problem, order: Array) -> npt.NDArray[np.int64]:
    """Return the rows that the budget allows of episodes in an order, in the data's order.

    A percentage of episodes gives whole ones; of a number of transitions the last is cut off.
    """
    dataset, budget = problem.dataset, problem.budget
    if budget.percent is not None and budget.unit == "episodes":
        order, size = order[: budget.episodes(dataset)], len(dataset)
    else:
        size = problem.size
    rows = np.concatenate([np.asarray(dataset.episodes[i]) for i in order])
    return np.sort(rows[:size])
