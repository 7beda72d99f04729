"""EL2N scores (Paul et al., 2021, arXiv 2107.07075, definition 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlcondense.config import check_choice, check_positive
from rlcondense.methods.base import Condensation, Method, Problem, select
from rlcondense.methods.features import FeatureConfig, cloned_network, encode, targets_of


@dataclass(frozen=True)
class EL2NConfig(FeatureConfig):
    """Settings.

    Attributes:
        updates: of behavioural cloning before the scores are taken.
        networks: over which they are averaged.
        keep: `hardest` (highest scores, as in the paper) or `easiest`.
    """

    updates: int = 100
    networks: int = 3
    keep: str = "hardest"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "networks")
        check_choice(self, "keep", ("hardest", "easiest"))


class EL2N(Method[EL2NConfig]):
    """Keeps the rows on which networks err most early in training: the L2 norm of the error."""

    Config = EL2NConfig
    label_kinds = ("hard", "soft")
    id = "el2n"

    def _condense(self, problem: Problem) -> Condensation:
        c = self.config
        targets = targets_of(problem, c.labels).cpu().numpy()
        scores = np.zeros(len(problem.dataset))
        for seed in problem.rng().integers(2**31, size=c.networks):
            network = cloned_network(problem, c.network, c.updates, c.labels, int(seed))
            _, probabilities = encode(network, problem.dataset)
            scores += np.linalg.norm(probabilities - targets, axis=1) / c.networks
        order = np.argsort(scores if c.keep == "easiest" else -scores, kind="stable")
        selected = select(problem.dataset, np.sort(order[: problem.size]), c.labels)
        return selected.costing(c.networks * c.updates * 64)
