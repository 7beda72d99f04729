"""Methods and learners that each do one thing wrong, by the check that has to notice."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from rlcondense import load_expert, make_task
from rlcondense.datasets.budget import Budget
from rlcondense.learners.bc import BCConfig, BehaviouralCloning
from rlcondense.methods.base import Condensation, LabelConfig, Method, NoConfig, Problem, select
from rlcondense.methods.percentile import Percentile
from rlcondense.methods.random import Random
from rlcondense.tasks.procgen import ProcgenTask

STATE: dict[str, int] = {}


def _draw(problem: Problem) -> np.ndarray:
    rows = problem.rng().choice(len(problem.dataset), problem.size, replace=False)
    return np.sort(rows)


class Unheard(Random):
    """says_what_it_is: known are"""

    needs = frozenset({"oracle"})


class Misset(Random):
    """presets_can_be_made: preset 'quick' cannot be made: method"""

    facts = {"presets": {"quick": {"iteratoins": 3}}}  # noqa: RUF012


class Changeable(Method[Any]):
    """config_is_frozen: can be changed"""

    @dataclass
    class Config:
        keep: int = 1

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem))


class OwnSeed(Changeable):
    """config_leaves_budget_and_seed_out: Config has seed"""

    @dataclass(frozen=True)
    class Config:
        seed: int = 0


class NoJson(Changeable):
    """config_survives_json: cannot be written as JSON"""

    @dataclass(frozen=True)
    class Config:
        names: Any = dataclasses.field(default_factory=lambda: {"a"})


class AtLeastTwo(Random):
    """budget_of_one_is_kept_or_refused: kept 2 transitions"""

    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.rng().choice(len(problem.dataset), max(2, problem.size), replace=False)
        return select(problem.dataset, rows)


class Half(Random):
    """budget_is_used_and_not_exceeded: a budget of 20 gave 10"""

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem)[: max(1, problem.size // 2)])


class Greedy(Random):
    """budget_above_the_data_is_refused: above the data was taken"""

    def condense(self, dataset: Any, *, budget: Any, **options: Any) -> Any:
        budget = Budget(size=min(budget.size, len(dataset)))
        return super().condense(dataset, budget=budget, **options)


class Generous(Random):
    """gives_what_it_says: too: name them in Generous.gives"""

    gives = frozenset({"observations", "actions"})


class TooBright(Random):
    """output_fits_the_task: observations lie in"""

    def _condense(self, problem: Problem) -> Condensation:
        kept = select(problem.dataset, _draw(problem))
        bright = kept.columns["observations"].astype(np.float32) * 2
        return dataclasses.replace(kept, columns={**kept.columns, "observations": bright})


class NotANumber(Random):
    """output_fits_the_task: non-finite observations"""

    def _condense(self, problem: Problem) -> Condensation:
        kept = select(problem.dataset, _draw(problem))
        observations = kept.columns["observations"].astype(np.float32)
        observations[0, 0, 0, 0] = np.nan
        return dataclasses.replace(kept, columns={**kept.columns, "observations": observations})


class SoftUnsaid(Method[NoConfig]):
    """labels_are_as_declared: it gave soft labels"""

    label_kinds = ("hard",)

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, _draw(problem), "soft")


class OwnExpert(Random):
    """the_expert_is_used_only_if_declared: loads an expert by itself"""

    def _condense(self, problem: Problem) -> Condensation:
        load_expert("starpilot")
        return super()._condense(problem)


class Rewarded(Random):
    """rewards_are_read_only_if_declared: other rewards give other rows"""

    stochastic = False

    def _condense(self, problem: Problem) -> Condensation:
        best = np.argsort(-problem.dataset.column("rewards"), kind="stable")[: problem.size]
        return select(problem.dataset, np.sort(best))


class Moody(Random):
    """the_same_seed_gives_the_same_bytes: two condensations from seed 0 differ"""

    def _condense(self, problem: Problem) -> Condensation:
        rows = np.random.default_rng().choice(len(problem.dataset), problem.size, replace=False)
        return select(problem.dataset, rows)


class Stubborn(Random):
    """another_seed_gives_other_data: give the same data"""

    def _condense(self, problem: Problem) -> Condensation:
        return select(problem.dataset, np.arange(problem.size))


class Fickle(Random):
    """another_seed_gives_other_data: stochastic is False"""

    stochastic = False


class GlobalDice(Random):
    """global_randomness_is_left_alone: numpy.random and random and torch changed"""

    def _condense(self, problem: Problem) -> Condensation:
        np.random.seed(problem.seed)
        random.seed(problem.seed)
        torch.manual_seed(problem.seed)
        rows = np.random.choice(len(problem.dataset), problem.size, replace=False)
        return select(problem.dataset, rows)


class Scribbler(Random):
    """the_source_is_left_alone: it changed the dataset"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.dataset.observations[0] = 0
        return super()._condense(problem)


class Locksmith(Random):
    """the_source_is_left_alone: it changed the dataset"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.dataset.column("rewards")[0] += 1
        return super()._condense(problem)


class Grabber(Random):
    """the_source_is_left_alone: it changed the dataset"""

    def _condense(self, problem: Problem) -> Condensation:
        torch.from_numpy(problem.dataset.column("rewards")).add_(5).clamp_(max=5)
        return super()._condense(problem)


class Untidy(Random):
    """no_files_are_left: tmp/half"""

    def _condense(self, problem: Problem) -> Condensation:
        half = Path(tempfile.gettempdir()) / "half"
        half.touch()
        problem.progress("condense", 1, 1)
        half.unlink()
        return super()._condense(problem)


class DoublePrecision(Random):
    """global_randomness_is_left_alone: torch's default dtype"""

    def _condense(self, problem: Problem) -> Condensation:
        torch.set_default_dtype(torch.float64)
        return super()._condense(problem)


class GpuGreedy(Random):
    """a_fresh_process_gives_the_same_bytes: it touches the GPU"""

    def _condense(self, problem: Problem) -> Condensation:
        try:
            torch.zeros(1, device="cuda")
        except (AssertionError, RuntimeError) as error:  # torch has no CUDA, the machine no driver
            if "CUDA was touched" in str(error):
                raise
        return super()._condense(problem)


class Quitter(Random):
    """there_are_no_warnings: PluginExit"""

    def _condense(self, problem: Problem) -> Condensation:
        raise SystemExit(0)


class Litterer(Random):
    """no_files_are_left: work/notes.txt behind"""

    def _condense(self, problem: Problem) -> Condensation:
        Path("notes.txt").write_text("here I was")
        return super()._condense(problem)


class Peeper(Random):
    """heldout_levels_are_never_made: asked for held-out levels"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.task.make_vec("heldout", 1, seed=0).close()
        return super()._condense(problem)


class Burglar(Random):
    """heldout_levels_are_never_made: asked for held-out levels"""

    def _condense(self, problem: Problem) -> Condensation:
        make_task("starpilot").make_vec("heldout", 1, seed=0).close()
        return super()._condense(problem)


class Counterfeiter(Random):
    """heldout_levels_are_never_made: asked for held-out levels"""

    def _condense(self, problem: Problem) -> Condensation:
        theirs = ProcgenTask("x/x-v0", "starpilot", seen=(15_000, 5), heldout=(0, 5))
        theirs.make_vec("seen", 1, seed=0).close()
        return super()._condense(problem)


class Picklock(Random):
    """heldout_levels_are_never_made: asked for held-out levels"""

    def _condense(self, problem: Problem) -> Condensation:
        from procgen import ProcgenGym3Env

        # Of all levels, drawn otherwise than the task draws them.
        ProcgenGym3Env(1, "starpilot", distribution_mode="easy", use_backgrounds=False).close()
        return super()._condense(problem)


class Tourist(Random):
    """heldout_levels_are_never_made: access is 'offline'"""

    def _condense(self, problem: Problem) -> Condensation:
        with contextlib.closing(gymnasium.make("procgen/coinrun-easy-v0", split="heldout")) as env:
            env.reset(seed=0)
        return super()._condense(problem)


class EarlyBird(Random):
    """a_fresh_process_gives_the_same_bytes: asked for held-out levels"""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        make_task("starpilot").make_vec("heldout", 1, seed=0).close()


class SecretlyOnline(Random):
    """heldout_levels_are_never_made: access is 'offline'"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.task.make_vec("seen", 1, seed=0).close()
        return super()._condense(problem)


class Silent(Random):
    """progress_is_reported: in silence"""

    def _condense(self, problem: Problem) -> Condensation:
        if problem.size == 20:
            time.sleep(3.1)
        return super()._condense(problem)


class Overshooting(Random):
    """progress_is_reported: progress said 11 of 10"""

    def _condense(self, problem: Problem) -> Condensation:
        problem.progress("condense", 11, 10)
        return super()._condense(problem)


class Unstoppable(Random):
    """ctrl_c_is_let_through: came out as RuntimeError"""

    def _condense(self, problem: Problem) -> Condensation:
        try:
            problem.progress("condense", 0, 1)
        except KeyboardInterrupt:
            raise RuntimeError("not now") from None
        return super()._condense(problem)


class Alarmist(Random):
    """there_are_no_warnings: the end is near"""

    def _condense(self, problem: Problem) -> Condensation:
        warnings.warn("the end is near", stacklevel=1)
        return super()._condense(problem)


class HereOnly(Random):
    """a_fresh_process_gives_the_same_bytes: a fresh process gives other data"""

    def _condense(self, problem: Problem) -> Condensation:
        shift = hash(f"{id(STATE)}") % len(problem.dataset)
        rows = (_draw(problem) + shift) % len(problem.dataset)
        return select(problem.dataset, rows)


class Afterthought(Random):
    """what_is_saved_comes_back: is not the data"""

    def condense(self, *arguments: Any, **options: Any) -> Any:
        made = super().condense(*arguments, **options)
        made.sha256  # noqa: B018  computed before the last change
        made.weights[0] = 0.5
        return made


class Untrainable(Random):
    """a_learner_trains_on_it: diverged"""

    def condense(self, *arguments: Any, **options: Any) -> Any:
        made = super().condense(*arguments, **options)
        return dataclasses.replace(made, weights=np.full_like(made.weights, np.inf))


class SameForAll(BehaviouralCloning):
    """another_seed_gives_another_policy: give the same policy"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        made = super().fit(data, task=task, seeds=[0] * len(seeds), **options)
        made.seeds = tuple(seeds)
        return made


class Neighbourly(BehaviouralCloning):
    """a_policy_depends_on_its_own_seed_alone: alone gives another policy"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        shifted = [seed + len(seeds) for seed in seeds]
        made = super().fit(data, task=task, seeds=shifted, **options)
        made.seeds = tuple(seeds)
        return made


class OnePolicy(BehaviouralCloning):
    """there_is_a_policy_for_each_seed: gave 2 policies of seeds (1, 0)"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        made = super().fit(data, task=task, seeds=seeds, **options)
        made.seeds = tuple(reversed(made.seeds))
        return made


class Practising(BehaviouralCloning):
    """no_environments_are_made: it made an environment"""

    def fit(self, data: Any, *, task: Any, **options: Any) -> Any:
        task.make_vec("seen", 1, seed=0).close()
        return super().fit(data, task=task, **options)


class Muted(BehaviouralCloning):
    """global_randomness_is_left_alone: global state of torch changed"""

    def fit(self, data: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        return super().fit(data, **options)


class Misspelt(BehaviouralCloning):
    """says_what_it_is: requires has ['actoins']"""

    requires = frozenset({"observations", "actoins"})


class Unkind(BehaviouralCloning):
    """says_what_it_is: action_kinds is ('discrete', 'contnuous')"""

    action_kinds = ("discrete", "contnuous")


class Misprinted(BehaviouralCloning):
    """presets_can_be_made: preset 'quick' cannot be made: learner"""

    facts = {"presets": {"quick": {"updaets": 3}}}  # noqa: RUF012


class Thawed(BehaviouralCloning):
    """config_is_frozen: can be changed"""

    @dataclass
    class Config:
        updates: int = 2


class Sets(BehaviouralCloning):
    """config_survives_json: cannot be written as JSON"""

    @dataclass(frozen=True)
    class Config(BCConfig):
        names: Any = dataclasses.field(default_factory=lambda: {"a"})


class Doubtful(BehaviouralCloning):
    """actions_fit_the_task: must be a distribution"""

    def fit(self, data: Any, **options: Any) -> Any:
        made = super().fit(data, **options)
        probs = made.action_probs
        made.action_probs = lambda *arguments: probs(*arguments) / 2
        return made


class Whimsical(BehaviouralCloning):
    """the_same_seed_gives_the_same_policy: two trainings from one seed differ"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        STATE["moods"] = STATE.get("moods", 0) + 10
        shifted = [seed + STATE["moods"] for seed in seeds]
        made = super().fit(data, task=task, seeds=shifted, **options)
        made.seeds = tuple(seeds)
        return made


class Sociable(BehaviouralCloning):
    """an_action_depends_on_its_own_observation_alone: another action than in a batch"""

    def fit(self, data: Any, **options: Any) -> Any:
        made = super().fit(data, **options)
        act = made.act
        made.act = lambda frames, *rest: (act(frames, *rest) + len(frames)) % 15
        return made


class Defacer(BehaviouralCloning):
    """the_data_is_left_alone: it changed the data"""

    def fit(self, data: Any, **options: Any) -> Any:
        made = super().fit(data, **options)
        data.actions[:] = (data.actions + 1) % 15
        return made


class Dropper(BehaviouralCloning):
    """no_files_are_left: work/notes.txt behind"""

    def fit(self, data: Any, **options: Any) -> Any:
        Path("notes.txt").write_text("here I was")
        return super().fit(data, **options)


class Forgetful(BehaviouralCloning):
    """what_is_saved_comes_back: the policies act differently"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        made = super().fit(data, task=task, seeds=seeds, **options)
        other = super().fit(data, task=task, seeds=[seed + 5 for seed in seeds], **options)
        made.save = other.save
        return made


class HomeGrown(BehaviouralCloning):
    """a_fresh_process_gives_the_same_policy: a fresh process trains another policy"""

    def fit(self, data: Any, *, task: Any, seeds: Any, **options: Any) -> Any:
        shifted = [seed + id(STATE) % 10_007 for seed in seeds]
        made = super().fit(data, task=task, seeds=shifted, **options)
        made.seeds = tuple(seeds)
        return made


class Boastful(BehaviouralCloning):
    """progress_is_reported: progress said 11 of 10"""

    def fit(self, data: Any, *, progress: Any, **options: Any) -> Any:
        progress("train", 11, 10)
        return super().fit(data, progress=progress, **options)


class Insistent(BehaviouralCloning):
    """ctrl_c_is_let_through: came out as RuntimeError"""

    def fit(self, data: Any, *, progress: Any, **options: Any) -> Any:
        try:
            progress("train", 0, 1)
        except KeyboardInterrupt:
            raise RuntimeError("not now") from None
        return super().fit(data, progress=progress, **options)


class Worrier(BehaviouralCloning):
    """there_are_no_warnings: the end is near"""

    def fit(self, data: Any, **options: Any) -> Any:
        warnings.warn("the end is near", stacklevel=1)
        return super().fit(data, **options)


class Thirds(Percentile):
    """passes: a percentage without a unit is one of transitions, as it is for run"""

    facts = {"budget": {"percent": 30.0}}  # noqa: RUF012


class Halves(Percentile):
    """passes: it takes a percentage, and says so itself"""

    facts = {"budget": {"percent": 50.0, "unit": "episodes"}}  # noqa: RUF012


METHODS = [
    cls
    for cls in list(globals().values())
    if isinstance(cls, type)
    and issubclass(cls, Method)
    and cls.__module__ == __name__
    and cls.__name__ not in ("Halves", "Thirds")
]
LEARNERS = [
    SameForAll, Neighbourly, OnePolicy, Practising, Muted, Misspelt, Unkind, Misprinted, Thawed,
    Sets, Doubtful, Whimsical, Sociable, Defacer, Dropper, Forgetful, HomeGrown, Boastful,
    Insistent, Worrier,
]  # fmt: skip
QUICK_BC = {"network": "compact", "updates": 2, "batch_size": 8}
__all__ = ["LEARNERS", "METHODS", "QUICK_BC", "BCConfig", "LabelConfig"]
