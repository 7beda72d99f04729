"""HaDES, hallucinating datasets with evolution strategies (Lupu et al., 2024, arXiv 2406.15042).

    D_syn = argmax  E[ return of pi_theta ],   theta = what full-batch cloning of D_syn leads to

It needs neither data nor expert: an evolution strategy proposes a population of datasets, policies
are cloned from each, and their return in the environment is the dataset's fitness. In HaDES-R
policies start from new initial weights in every generation, in HaDES-F always from the same
weights, which are then a part of the condensed dataset.

States are learned, and actions if they are continuous, both from zeros. Discrete labels are fixed:
every action has the same number of states, or one more if D is no multiple of the number of
actions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlcondense.cloning import gaussian_losses, row_losses
from rlcondense.config import LATER, check_choice, check_positive, config_json
from rlcondense.datasets.condensed import Initialisation
from rlcondense.evolution.loop import Arena, EvolutionConfig, evolve
from rlcondense.limits import check_most
from rlcondense.methods.base import Condensation, Method, Problem, scaling_bytes
from rlcondense.methods.parts.students import check_learner
from rlcondense.networks import (
    INITS,
    LOG_STDS,
    OPTIONS,
    Mlp,
    NetworkSpec,
    PolicyNetwork,
    fresh_from,
    num_weights,
    standardised,
)
from rlcondense.policies.stacked_mlps import Population, cloned
from rlcondense.scaling import Moments, Scaling, check_vectors
from rlcondense.tasks.base import Task
from rlcondense.types import Array

MEASURED = 64  # episodes of a random policy in which observations are measured


@dataclass(frozen=True)
class HadesFConfig(EvolutionConfig):
    """Settings; sizes and rates are the paper's for Brax, all settings those of `preset=paper`.

    The preset `minatar` has the paper's for MinAtar.

    The points of the strategy are datasets, and students act as policies do during evolution.

    Attributes:
        inner_updates: number of updates of a policy, each on the whole dataset (the paper: 400;
            hopper and double pendulum 200).
        inner_rate: step size of Adam in these updates.
        inner_clip: maximal gradient norm in these updates, None for no bound.
        normalise: whether states evolve in standard deviations of the observations met so far,
            around their mean. The result is in the environment's units either way.
        init: initialisation of a policy's weights; see `rlcondense.networks.PolicyNetwork`.
        log_std: parametrisation of a Gaussian policy's log-std; see
            `rlcondense.networks.NetworkSpec`.
        standardise: whether policies see standardised vectors. Mean and deviation are measured
            once, in 64 episodes of a random policy, and are part of the condensed dataset. States
            then evolve in these units, whatever `normalise` is.
    """

    population: int = 2048
    generations: int = 2000
    width: int = 512
    episodes: int = 4
    inner_updates: int = 400
    inner_rate: float = 5e-3
    inner_clip: float | None = 0.5
    normalise: bool = False
    init: str = field(default="random", metadata=LATER)
    log_std: str = field(default="fast", metadata=LATER)
    standardise: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "init", INITS)
        check_choice(self, "log_std", LOG_STDS)
        check_positive(self, "inner_updates", "inner_rate", "inner_clip")

    def network(self, task: Task) -> NetworkSpec:
        return replace(super().network(task), log_std=self.log_std)


@dataclass(frozen=True)
class HadesRConfig(HadesFConfig):
    """Settings of HaDES-R: those of HaDES-F and one more.

    Attributes:
        initialisations: number of initial weights drawn in each generation; all its datasets are
            evaluated on each.
    """

    initialisations: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "initialisations")

    def network(self, task: Task) -> NetworkSpec:
        spec = super().network(task)
        rounds = self.initialisations * self.population
        check_most("weights of a population", rounds * num_weights(spec))
        check_most("population x initialisations x episodes", rounds * self.episodes, "num_envs")
        return spec


C = TypeVar("C", bound=HadesFConfig)


class _Hades(Method[C]):
    """Base of both variants."""

    access = "online"
    takes_data = False
    label_kinds: ClassVar[tuple[str, ...]] = ("hard", "continuous")
    gives: ClassVar[frozenset[str] | None] = frozenset({"observations", "actions"})

    def students(self, task: Task) -> dict[str, Any]:
        c = self.config
        return {
            "network": "mlp", "width": c.width, "depth": c.depth, "activation": c.activation,
            "loss": "cross-entropy", "updates": c.inner_updates, "batch_size": None,
            "optimiser": "adam", "learning_rate": c.inner_rate, "gradient_clip": c.inner_clip,
            "action_selection": c.action_selection, "init": c.init, "log_std": c.log_std,
            "standardise": c.standardise,
        }  # fmt: skip

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        needs = {"network": "mlp", "batch_size": None, "optimiser": "adam", "loss": "cross-entropy"}
        check_learner(learner, needs, "HaDES")
        own = inspect.signature(Mlp).parameters
        network = {name: learner[name] or own[name].default for name in OPTIONS["mlp"]}
        init = learner["init"] if learner["init"] in INITS else cls.Config.init
        names = {
            "updates": "inner_updates",
            "learning_rate": "inner_rate",
            "gradient_clip": "inner_clip",
            "action_selection": "action_selection",
            "standardise": "standardise",
        }
        updates = {own: learner[name] for name, own in names.items()}
        return network | updates | {"init": init, "log_std": learner["log_std"]}

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        return (scaling_bytes(task) if self.config.standardise else 0, 0)

    def drawn(self, problem: Problem, spec: NetworkSpec, generation: int) -> list[PolicyNetwork]:
        """Return the initial networks of a generation's policies."""
        raise NotImplementedError

    def _condense(self, problem: Problem) -> Condensation:
        c, spec = self.config, self.config.network(problem.task)
        rows, scaling, measured = _Rows(problem, c.normalise or c.standardise), None, 0
        if c.standardise:
            measured = measure(rows.met, problem, spec, c.horizon)
            scaling = Scaling.by(rows.met)
        observe = rows.met.add if c.normalise and not c.standardise else None
        strategy = c.start(np.zeros(rows.length))

        def fitness(evolved: Array, generation: int, rng: np.random.Generator) -> Array:
            start = self.drawn(problem, spec, generation)
            states, targets = rows.of(evolved, len(start))
            policies = cloned(
                Population.of(start, c.population),
                standardised(states, scaling),
                targets,
                rows.losses,
                updates=c.inner_updates,
                learning_rate=c.inner_rate,
                clip=c.inner_clip,
            )
            returns = arena.returns(policies.folded(scaling), rng, observe)
            return np.asarray(returns.reshape(c.population, -1).mean(1))

        with Arena(problem.task, c.episodes, c.horizon, c.action_selection == "greedy") as arena:
            arena.steps = measured
            generations, curve = evolve(
                strategy,
                fitness,
                arena,
                population=c.population,
                generations=c.generations,
                most_steps=c.most_steps,
                seed=problem.seed,
                progress=problem.progress,
                checkpoint=problem.checkpoint,
                beside=rows.met,
            )
        each = c.population * c.inner_updates * problem.size * len(self.drawn(problem, spec, 0))
        return Condensation(
            rows.columns(strategy.mean),
            label_kind="continuous" if problem.continuous else "hard",
            initialisation=self.kept(problem, spec),
            scaling=scaling,
            gradient_evaluations=generations * each,
            environment_steps=arena.steps,
            curve=curve,
        )

    def kept(self, problem: Problem, spec: NetworkSpec) -> Initialisation | None:
        """Return the initialisation of the students, if the variant fixes one."""
        return None


class HadesR(_Hades[HadesRConfig]):
    """Evolves datasets for policies with new initial weights in every generation.

    Paper: strategy=openes, fitness=raw, sigma=0.03, learning_rate=0.05, momentum=0.99,
        population=2048, generations=2000, width=512, depth=2, activation=tanh, init=orthogonal,
        log_std=plain, standardise=true, inner_updates=400, inner_rate=0.005, inner_clip=0.5,
        episodes=4, horizon=1024, initialisations=2
    """

    Config = HadesRConfig
    id = "hades-r"

    def drawn(self, problem: Problem, spec: NetworkSpec, generation: int) -> list[PolicyNetwork]:
        seeds = np.random.SeedSequence([problem.seed, generation, 1])
        return [
            fresh_from(spec, problem.device, int(seed), self.config.init)
            for seed in seeds.generate_state(self.config.initialisations, np.uint64) >> 1
        ]


class HadesF(_Hades[HadesFConfig]):
    """Evolves a dataset for policies with fixed initial weights, which are part of the result.

    Paper: strategy=openes, fitness=raw, sigma=0.03, learning_rate=0.05, momentum=0.99,
        population=2048, generations=2000, width=512, depth=2, activation=tanh, init=orthogonal,
        log_std=plain, standardise=true, inner_updates=400, inner_rate=0.005, inner_clip=0.5,
        episodes=4, horizon=1024
    """

    Config = HadesFConfig
    id = "hades-f"

    def students(self, task: Task) -> dict[str, Any]:
        return {**super().students(task), "init": "dataset"}

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        in_all, each = super().bytes_beside(task)
        return (in_all + 4 * num_weights(self.config.network(task)), each)

    def drawn(self, problem: Problem, spec: NetworkSpec, generation: int) -> list[PolicyNetwork]:
        [seed] = np.random.SeedSequence([problem.seed, 2]).generate_state(1, np.uint64) >> 1
        return [fresh_from(spec, problem.device, int(seed), self.config.init)]

    def kept(self, problem: Problem, spec: NetworkSpec) -> Initialisation | None:
        [network] = self.drawn(problem, spec, 0)
        weights = {name: w.cpu().numpy() for name, w in network.state_dict().items()}
        return Initialisation(config_json(spec), weights)


def measure(met: Moments, problem: Problem, spec: NetworkSpec, horizon: int) -> int:
    """Add observations of a random policy to the moments, and return the number of steps.

    A network whose weights are all zero takes every discrete action with the same probability, and
    samples continuous actions from a standard normal distribution.

    Args:
        met: moments of the observations, updated.
        problem: problem whose seen levels are played.
        spec: specification of a policy.
        horizon: steps after which an episode ends.
    """
    check_vectors(spec.observation_shape)
    blank = fresh_from(spec, problem.device, 0)
    for weights in blank.parameters():
        torch.nn.init.zeros_(weights)
    with Arena(problem.task, MEASURED, horizon, greedy=False) as arena:
        arena.returns(Population.of([blank]), np.random.default_rng([problem.seed, 3]), met.add)
        return arena.steps


class _Rows:
    """Conversion of evolved points to rows of states, actions and labels.

    Args:
        problem: problem with the task and the size.
        normalise: whether states evolve in standard deviations of the observations met so far.

    Attributes:
        length: length of a point.
        met: the observations met so far.
    """

    def __init__(self, problem: Problem, normalise: bool) -> None:
        space = problem.task.observation_space
        assert isinstance(space, Box)
        self._space, self._size, self._device = space, problem.size, problem.device
        self._pixels = space.dtype == np.uint8
        self.normalise, self.met = normalise, Moments(space.shape)
        self._observations = problem.size * math.prod(space.shape)
        self._actions = problem.task.action_space
        if isinstance(self._actions, Box):
            self.length = self._observations + problem.size * math.prod(self._actions.shape)
        else:
            self.length = self._observations
            self._labels = np.sort(np.arange(problem.size) % problem.num_actions)
            self._one_hot = np.eye(problem.num_actions, dtype=np.float32)[self._labels]

    @property
    def losses(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Compute the losses of outputs and targets, as in `bc`."""
        return gaussian_losses if isinstance(self._actions, Box) else row_losses

    def states(self, evolved: Array) -> npt.NDArray[np.float32]:
        """Return states `(P, D, *observation)` of points `(P, n)`, in the environment's units."""
        states = evolved[:, : self._observations].reshape(-1, self._size, *self._space.shape)
        if self.normalise and self.met.count:
            states = self.met.mean + self.met.deviation * states
        elif self._pixels:
            states = 255 * states
        if self._pixels:  # values outside the pixel range could not be stored as a frame
            states = states.clip(0, 255)
        return states.astype(np.float32)

    def actions(self, evolved: Array) -> npt.NDArray[np.float32]:
        """Return continuous actions `(P, D, *action)`; points are in units of half the range."""
        assert isinstance(self._actions, Box)
        actions = evolved[:, self._observations :].reshape(-1, self._size, *self._actions.shape)
        if self._actions.is_bounded():
            low, high = self._actions.low, self._actions.high
            actions = ((low + high) / 2 + (high - low) / 2 * actions).clip(low, high)
        return actions.astype(np.float32)

    def of(self, evolved: Array, times: int) -> tuple[Tensor, Tensor]:
        """Return states and targets `(P x times, D, ...)`, each dataset repeated `times` times."""
        states = torch.from_numpy(self.states(evolved)).to(self._device)
        targets = torch.from_numpy(self._targets(evolved)).to(self._device)
        return states.repeat_interleave(times, 0), targets.repeat_interleave(times, 0)

    def _targets(self, evolved: Array) -> npt.NDArray[np.float32]:
        if isinstance(self._actions, Box):
            return self.actions(evolved).reshape(len(evolved), self._size, -1)
        return self._one_hot[None].repeat(len(evolved), 0)

    def columns(self, evolved: Array) -> dict[str, Array]:
        """Return the columns of a point `(n,)`."""
        states, continuous = self.states(evolved[None])[0], isinstance(self._actions, Box)
        actions = self.actions(evolved[None])[0] if continuous else self._labels
        return {"observations": states, "actions": actions}
