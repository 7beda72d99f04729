"""Whole episodes of different levels: at most one a level, as long as there are others.

In Procgen more levels help students more than more transitions of the same levels do (Mediratta et
al., 2024, arXiv 2312.05742). Of budgets below an episode a level, random rows are of more levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, select
from rlcondense.methods.parts.scorers import first_rows
from rlcondense.types import Array


class Stratified(Method[LabelConfig]):
    """Draws episodes at random, at most one of a level.

    A level gives a second episode only where the budget asks for more than one episode of every
    level. A budget in transitions is met exactly: the last episode is cut off.
    """

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    needs = frozenset({"episodes", "level_seeds"})
    id = "stratified"

    def _condense(self, problem: Problem) -> Condensation:
        dataset = problem.dataset
        starts = [rows.start for rows in dataset.episodes]
        order = level_by_level(dataset.column("level_seeds")[starts], problem.rng())
        return select(dataset, first_rows(problem, order), self.config.labels)


def level_by_level(levels: Array, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw an order of episodes in which no level comes again before every other one came.

    Args:
        levels: `(E,)` level of each episode.
        rng: decides the order.
    """
    order = rng.permutation(len(levels))
    turns = np.empty(len(levels), np.int64)  # how many episodes of its level came before
    for level in np.unique(levels):
        of_level = np.flatnonzero(levels[order] == level)
        turns[of_level] = np.arange(len(of_level))
    return order[np.argsort(turns, kind="stable")]
