"""The real rows that synthesisers start from, unoptimised: every distiller's ablation."""

from __future__ import annotations

from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.synthetic import Synthetic, SyntheticConfig


class InitOnly(Method[SyntheticConfig]):
    """Gives what `gradmatch` and the others of the same settings and seed start from."""

    Config = SyntheticConfig
    label_kinds = ("hard", "soft")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "init-only"

    def _condense(self, problem: Problem) -> Condensation:
        return Synthetic(problem, self.config, problem.rng()).condensation()
