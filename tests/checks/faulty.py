"""Methods and learners that each do one thing wrong, by the check that has to notice."""

from __future__ import annotations

import dataclasses
import random
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlcondense import load_expert, make_task
from rlcondense.learners.bc import BCConfig, BehaviouralCloning
from rlcondense.methods.base import Condensation, LabelConfig, Method, NoConfig, Problem, select
from rlcondense.methods.condensed import Budget
from rlcondense.methods.random import Random

STATE: dict[str, int] = {}


def _draw(problem: Problem) -> np.ndarray:
    rows = problem.rng().choice(len(problem.dataset), problem.size, replace=False)
    return np.sort(rows)


class Unheard(Random):
    """says_what_it_is"""

    needs = frozenset({"oracle"})


class Changeable(Method[Any]):
    """config_is_frozen"""

    @dataclass
    class Config:
        keep: int = 1

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem))


class OwnSeed(Changeable):
    """config_leaves_budget_and_seed_out"""

    @dataclass(frozen=True)
    class Config:
        seed: int = 0


class NoJson(Changeable):
    """config_survives_json"""

    @dataclass(frozen=True)
    class Config:
        names: Any = dataclasses.field(default_factory=lambda: {"a"})


class AtLeastTwo(Random):
    """budget_of_one_is_kept_or_refused"""

    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.rng().choice(len(problem.dataset), max(2, problem.size), replace=False)
        return select(problem.dataset, rows)


class Half(Random):
    """budget_is_used_and_not_exceeded"""

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem)[: max(1, problem.size // 2)])


class Greedy(Random):
    """budget_above_the_data_is_refused"""

    def condense(self, dataset: Any, *, budget: Any, **options: Any) -> Any:
        budget = Budget(size=min(budget.size, len(dataset)))
        return super().condense(dataset, budget=budget, **options)


class TooBright(Random):
    """output_fits_the_task"""

    def _condense(self, problem: Problem) -> Condensation:
        kept = select(problem.dataset, _draw(problem))
        bright = kept.columns["observations"].astype(np.float32) * 2
        return dataclasses.replace(kept, columns={**kept.columns, "observations": bright})


class NotANumber(Random):
    """output_fits_the_task"""

    def _condense(self, problem: Problem) -> Condensation:
        kept = select(problem.dataset, _draw(problem))
        observations = kept.columns["observations"].astype(np.float32)
        observations[0, 0, 0, 0] = np.nan
        return dataclasses.replace(kept, columns={**kept.columns, "observations": observations})


class SoftUnsaid(Method[NoConfig]):
    """labels_are_as_declared"""

    label_kinds = ("hard",)

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem), "soft")


class OwnExpert(Random):
    """the_expert_is_used_only_if_declared"""

    def _condense(self, problem: Problem) -> Condensation:
        load_expert("starpilot")
        return super()._condense(problem)


class Moody(Random):
    """the_same_seed_gives_the_same_bytes"""

    def _condense(self, problem: Problem) -> Condensation:
        rows = np.random.default_rng().choice(len(problem.dataset), problem.size, replace=False)
        return select(problem.dataset, rows)


class Stubborn(Random):
    """another_seed_gives_other_data"""

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, np.arange(problem.size))


class Fickle(Random):
    """another_seed_gives_other_data"""

    stochastic = False


class GlobalDice(Random):
    """global_randomness_is_left_alone"""

    def _condense(self, problem: Problem) -> Condensation:
        np.random.seed(problem.seed)
        random.seed(problem.seed)
        torch.manual_seed(problem.seed)
        rows = np.random.choice(len(problem.dataset), problem.size, replace=False)
        return select(problem.dataset, rows)


class Scribbler(Random):
    """the_source_is_left_alone"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.dataset.observations[0] = 0
        return super()._condense(problem)


class Locksmith(Random):
    """the_source_is_left_alone"""

    def _condense(self, problem: Problem) -> Condensation:
        rewards = problem.dataset.column("rewards")
        rewards.flags.writeable = True
        rewards[0] += 1
        rewards.flags.writeable = False
        return super()._condense(problem)


class Litterer(Random):
    """no_files_are_left"""

    def _condense(self, problem: Problem) -> Condensation:
        Path("notes.txt").write_text("here I was")
        return super()._condense(problem)


class Peeper(Random):
    """heldout_levels_are_never_made"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.task.make_vec("heldout", 1, seed=0).close()
        return super()._condense(problem)


class Burglar(Random):
    """heldout_levels_are_never_made"""

    def _condense(self, problem: Problem) -> Condensation:
        make_task("starpilot").make_vec("heldout", 1, seed=0).close()
        return super()._condense(problem)


class SecretlyOnline(Random):
    """heldout_levels_are_never_made"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.task.make_vec("seen", 1, seed=0).close()
        return super()._condense(problem)


class Silent(Random):
    """progress_is_reported"""

    def _condense(self, problem: Problem) -> Condensation:
        if problem.size == 20:
            time.sleep(1.1)
        return super()._condense(problem)


class Overshooting(Random):
    """progress_is_reported"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.progress("condense", 11, 10)
        return super()._condense(problem)


class Unstoppable(Random):
    """ctrl_c_is_let_through"""

    def _condense(self, problem: Problem) -> Condensation:
        try:
            problem.progress("condense", 0, 1)
        except KeyboardInterrupt:
            raise RuntimeError("not now") from None
        return super()._condense(problem)


class Alarmist(Random):
    """there_are_no_warnings"""

    def _condense(self, problem: Problem) -> Condensation:
        warnings.warn("the end is near", stacklevel=1)
        return super()._condense(problem)


class HereOnly(Random):
    """a_fresh_process_gives_the_same_bytes"""

    def _condense(self, problem: Problem) -> Condensation:
        shift = hash(f"{id(STATE)}") % len(problem.dataset)
        rows = (_draw(problem) + shift) % len(problem.dataset)
        return select(problem.dataset, rows)


class Afterthought(Random):
    """what_is_saved_comes_back"""

    def condense(self, *arguments: Any, **options: Any) -> Any:
        made = super().condense(*arguments, **options)
        made.sha256  # noqa: B018  computed before the last change
        made.weights[0] = 0.5
        return made


class Untrainable(Random):
    """a_learner_trains_on_it"""

    def condense(self, *arguments: Any, **options: Any) -> Any:
        made = super().condense(*arguments, **options)
        return dataclasses.replace(made, weights=np.full_like(made.weights, np.inf))


class SameForAll(BehaviouralCloning):
    """another_seed_gives_another_policy"""

    def _fit_one(self, data: Any, targets: Any, spec: Any, seed: int, *rest: Any) -> Any:
        return super()._fit_one(data, targets, spec, 0, *rest)


class Neighbourly(BehaviouralCloning):
    """a_policy_depends_on_its_own_seed_alone"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        shifted = [seed + len(seeds) for seed in seeds]
        made = super().fit(data, task=task, seeds=shifted, **options)
        made.seeds = tuple(seeds)
        return made


class OnePolicy(BehaviouralCloning):
    """there_is_a_policy_for_each_seed"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        made = super().fit(data, task=task, seeds=seeds, **options)
        made.seeds = tuple(reversed(made.seeds))
        return made


class Practising(BehaviouralCloning):
    """no_environments_are_made"""

    def fit(self, data: Any, *, task: Any, **options: Any) -> Any:
        task.make_vec("seen", 1, seed=0).close()
        return super().fit(data, task=task, **options)


class Muted(BehaviouralCloning):
    """global_randomness_is_left_alone"""

    def fit(self, data: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        return super().fit(data, **options)


METHODS = [
    cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Method) and cls.__module__ == __name__
]
LEARNERS = [SameForAll, Neighbourly, OnePolicy, Practising, Muted]
QUICK_BC = {"network": "cnn4", "updates": 2, "batch_size": 8}
__all__ = ["LEARNERS", "METHODS", "QUICK_BC", "BCConfig", "LabelConfig"]
