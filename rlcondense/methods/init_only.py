"""The real rows from which synthesisers start, unoptimised: an ablation of every distiller."""

from __future__ import annotations

from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.synthetic import Synthetic, SyntheticConfig


class InitOnly(Method[SyntheticConfig]):
    """Returns the rows from which `gradmatch` and others with the same settings and seed start."""

    Config = SyntheticConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "init-only"

    def _condense(self, problem: Problem) -> Condensation:
        return Synthetic(problem, self.config, problem.rng()).condensation()
