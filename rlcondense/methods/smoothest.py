"""The smoothest episodes: a cheap score of how little actions change from step to step."""

from __future__ import annotations

import numpy as np

from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import LabelConfig, Problem
from rlcondense.methods.parts.features import action_spread, targets_of
from rlcondense.methods.parts.scorers import EpisodeScorer


class Smoothest(EpisodeScorer[LabelConfig]):
    """Keeps the episodes whose actions change least: the mean squared change from step to step.

    Continuous actions are in standard deviations of the data's, each dimension by itself. Of
    discrete actions it is how often the action changes. An episode of one step changes nothing.
    """

    Config = LabelConfig
    id = "smoothest"

    def _score(self, problem: Problem) -> Scores:
        problem = problem.as_taken()
        actions = targets_of(problem, "hard").cpu().numpy().astype(np.float64)  # (N, A)
        if problem.continuous:
            actions = actions / action_spread(problem).cpu().numpy()
        changes = (np.diff(actions, axis=0) ** 2).sum(1)  # of row i to row i + 1
        means = [
            changes[rows.start : rows.stop - 1].mean() if len(rows) > 1 else 0.0
            for rows in problem.dataset.episodes
        ]
        return Scores(-np.array(means))
