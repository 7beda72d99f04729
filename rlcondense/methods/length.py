"""The shortest and the longest episodes: the controls of every score of episodes.

Audits of curated demonstrations (arXiv 2606.05588, 2606.10229) find that many scores rank episodes
by their length, so a score has to beat these two rows.
"""

from __future__ import annotations

import numpy as np

from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import LabelConfig, Problem
from rlcondense.methods.parts.scorers import EpisodeScorer


class Longest(EpisodeScorer[LabelConfig]):
    """Keeps the longest episodes."""

    Config = LabelConfig
    id = "longest"

    def _score(self, problem: Problem) -> Scores:
        return Scores(np.array([len(rows) for rows in problem.dataset.episodes], np.float64))


class Shortest(EpisodeScorer[LabelConfig]):
    """Keeps the shortest episodes."""

    Config = LabelConfig
    id = "shortest"

    def _score(self, problem: Problem) -> Scores:
        return Scores(-np.array([len(rows) for rows in problem.dataset.episodes], np.float64))
