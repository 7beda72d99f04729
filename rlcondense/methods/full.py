"""All the data: no condensation, and the ceiling of every selection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, LabelConfig, Method, Problem, selection_labels

HELD_BACK = 0.1  # of the episodes


class Full(Method[LabelConfig]):
    """Keeps everything, without a copy of the observations."""

    Config = LabelConfig
    label_kinds = ("hard", "soft", "continuous")
    stochastic = False
    keeps_everything = True
    id = "full"

    def _condense(self, problem: Problem) -> Condensation:
        return everything(problem.dataset, self.config.labels)


class FullConverged(Full):
    """Keeps everything; students train until the loss on held-back rows stops falling.

    A tenth of the episodes, drawn at random, is held back; training ends when the loss on them
    stops falling. A learner's usual number of updates learns a large dataset in part only, so that
    small datasets would look better than they are.
    """

    id = "full-converged"
    needs = frozenset({"episodes"})

    def _condense(self, problem: Problem) -> Condensation:
        all_rows = everything(problem.dataset, self.config.labels)
        held_back = held_back_rows(problem.dataset, HELD_BACK)
        return replace(all_rows, columns={**all_rows.columns, "held_back": held_back})


def held_back_rows(dataset: TransitionDataset, share: float) -> npt.NDArray[np.bool_]:
    """Draw whole episodes, always the same ones for a dataset.

    Args:
        dataset: a dataset of at least two episodes.
        share: share of the episodes.

    Returns:
        `(N,)`, whether each row belongs to a drawn episode.

    Raises:
        BadConfig: the dataset has a single episode.
    """
    episodes = dataset.episodes
    if len(episodes) < 2:
        raise BadConfig(f"dataset {dataset.id!r} has a single episode: none can be held back")
    drawn = np.random.default_rng(0).permutation(len(episodes))
    rows = np.zeros(len(dataset), np.bool_)
    for episode in drawn[: max(1, round(share * len(episodes)))]:
        rows[episodes[episode].start : episodes[episode].stop] = True
    return rows


def everything(dataset: TransitionDataset, label_kind: str) -> Condensation:
    """Return all rows of a dataset in their order.

    Raises:
        BadConfig: soft labels are requested of a dataset without action_probs.
    """
    labels = selection_labels(dataset, label_kind)
    columns = {**dataset.columns(), "next_rows": dataset.next_rows}
    return Condensation(columns, labels, np.arange(len(dataset)))
