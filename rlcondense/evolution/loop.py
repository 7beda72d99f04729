"""Evolution loop: ask for points, evaluate their policies in environments, tell their fitness."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv

from rlcondense.config import LATER, check_choice, check_positive
from rlcondense.datasets.report import shown_curve
from rlcondense.errors import BadConfig
from rlcondense.evolution.strategies import (
    STRATEGIES,
    EvolutionStrategy,
    check_population,
    make_strategy,
)
from rlcondense.limits import check_most
from rlcondense.networks import ACTIVATIONS, NetworkSpec, num_weights
from rlcondense.policies import ACTION_SELECTIONS, head_of
from rlcondense.policies.stacked_mlps import Population, play
from rlcondense.runtime.checkpoint import Checkpoint, Stateful
from rlcondense.runtime.progress import RESUMED, Progress
from rlcondense.tasks.base import Task
from rlcondense.types import Array

Fitness = Callable[[Array, int, np.random.Generator], Array]


@dataclass(frozen=True)
class EvolutionConfig:
    """Settings of an evolution.

    Attributes:
        strategy: `openes` or `snes`.
        population: points of a generation, each of which makes policies.
        generations: number of generations.
        most_steps: limit of environment steps; the generation that reaches it is the last. None
            sets no limit.
        sigma: standard deviation of the points around their mean, for `snes` the initial one. None
            stands for the strategy's own, .03 and .5.
        learning_rate: learning rate of the mean; that of Adam for `openes`, a factor for `snes`.
            None stands for the strategy's own, .05 and 1.
        width: units of each hidden layer of a policy.
        depth: hidden layers.
        activation: `tanh` or `relu`.
        episodes: episodes of a policy, each in a separate environment.
        horizon: steps after which the return so far counts.
        action_selection: action selection of policies, `sample` or `greedy`.
        mirrored: whether points come in pairs that are symmetric about the mean.
        fitness: `ranks`, or `raw` for `openes` to use the returns themselves.
        temperature: temperature of the rank weights of `snes`, as in evosax; None stands for the
            utilities of its paper.
        momentum: decay of the mean gradient in the Adam of `openes`, its beta 1, below 1. None
            stands for .9; evosax has .99.
    """

    strategy: str = "openes"
    population: int = 64
    generations: int = 60
    most_steps: int | None = None
    sigma: float | None = None
    learning_rate: float | None = None
    width: int = 64
    depth: int = 2
    activation: str = "tanh"
    episodes: int = 2
    horizon: int = 1024
    action_selection: str = "sample"
    mirrored: bool = field(default=True, metadata=LATER)
    fitness: str = field(default="ranks", metadata=LATER)
    temperature: float | None = field(default=None, metadata=LATER)
    momentum: float | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        check_population(self.population, self.mirrored)
        check_positive(self, "temperature")
        check_choice(self, "fitness", ("ranks", "raw"))
        if self.fitness == "raw" and self.strategy != "openes":
            raise BadConfig("fitness=raw is for strategy=openes")
        if self.temperature is not None and self.strategy != "snes":
            raise BadConfig("temperature is for strategy=snes")
        if self.momentum is not None:
            if self.strategy != "openes":
                raise BadConfig("momentum is for strategy=openes")
            if not 0 <= self.momentum < 1:
                raise BadConfig(f"momentum must be at least 0 and below 1, not {self.momentum}")
        check_positive(self, "generations", "most_steps", "sigma", "learning_rate")
        check_positive(self, "width", "depth", "episodes", "horizon")
        check_most("population x episodes", self.population * self.episodes, "num_envs")
        check_choice(self, "strategy", tuple(STRATEGIES))
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "action_selection", ACTION_SELECTIONS)

    def network(self, task: Task) -> NetworkSpec:
        """Return the network spec of policies of a task."""
        shape = task.observation_space.shape
        assert shape is not None
        outputs, head = head_of(task.action_space)
        spec = NetworkSpec(
            "mlp", shape, outputs,
            width=self.width, depth=self.depth, activation=self.activation, head=head,
        )  # fmt: skip
        check_most("weights of a population", self.population * num_weights(spec))
        return spec

    def start(self, mean: Array) -> EvolutionStrategy:
        """Make the strategy, with initial mean `(n,)`."""
        return make_strategy(
            self.strategy,
            mean,
            sigma=self.sigma,
            learning_rate=self.learning_rate,
            mirrored=self.mirrored,
            raw=self.fitness == "raw" or None,
            temperature=self.temperature,
            momentum=self.momentum,
        )


class Arena:
    """Environments that evaluate policies, made on first use; a context manager.

    Args:
        task: the task; its seen levels are played.
        episodes: episodes of each policy, each in a separate environment.
        horizon: steps after which the return so far counts.
        greedy: whether policies take the likeliest action.

    Attributes:
        steps: steps of all environments so far.
    """

    def __init__(self, task: Task, episodes: int, horizon: int, greedy: bool) -> None:
        self._task, self._episodes = task, episodes
        self._horizon, self._greedy = horizon, greedy
        self._env: VectorEnv[Any, Any, Any] | None = None
        self.steps = 0

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        if self._env is not None:
            self._env.close()

    def returns(
        self,
        policies: Population,
        rng: np.random.Generator,
        observe: Callable[[Array], None] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return returns `(P, episodes)` of P policies, the same P at every call; see `play`.

        Those of policies that have diverged are NaN: they act, as if all numbers were the same.
        """
        seed = int(rng.integers(2**31 - 1))
        if self._env is None:
            self._env = self._task.make_vec(
                "seen",
                policies.size * self._episodes,
                seed=seed,
                num_threads=torch.get_num_threads(),
                copy=False,
            )
        played = play(
            policies,
            self._env,
            seed=seed,
            rng=rng,
            horizon=self._horizon,
            greedy=self._greedy,
            observe=observe,
        )
        self.steps += played.steps
        return np.where(policies.are_finite()[:, None], played.returns, np.nan)


def evolve(
    strategy: EvolutionStrategy,
    fitness: Fitness,
    arena: Arena,
    *,
    population: int,
    generations: int,
    seed: int,
    progress: Progress,
    most_steps: int | None = None,
    phase: str = "condense",
    checkpoint: Checkpoint | None = None,
    beside: Stateful | None = None,
) -> tuple[int, dict[str, list[float]]]:
    """Run generations of ask, evaluate and tell, with progress and an optional checkpoint.

    All randomness of a generation comes from the seed and the generation's number, so that a run
    that resumes from a checkpoint gives the same bytes as an uninterrupted one.

    Args:
        strategy: changed in place.
        fitness: function of points `(P, n)` and a generation's generator that returns `(P,)`.
        arena: environments of the evaluation.
        population: P.
        generations: number of generations.
        seed: seed of all randomness.
        progress: receives the generations done, with the best fitness, the mean and the steps.
        most_steps: limit of environment steps; the generation that reaches it is the last.
        phase: name of the phase for progress.
        checkpoint: checkpoint of the run.
        beside: further state that `fitness` changes.

    Returns:
        The number of generations, and their curve: `steps` so far, `best` and `mean` fitness;
        see `shown_curve`.
    """
    curve: list[list[float]] = []
    first = done = 0
    limit = math.inf if most_steps is None else most_steps
    saved = checkpoint.read() if checkpoint else None
    if saved is not None:
        arrays, facts = saved
        strategy.restore(arrays)
        if beside is not None:
            beside.restore(arrays)
        first, arena.steps = int(facts["generation"]), int(facts["steps"])
        curve = [[int(steps), best, mean] for steps, best, mean in arrays["curve"].tolist()]
        done = first
        progress(phase, first, generations, RESUMED)
    while done < generations and (arena.steps < limit or not done):
        generation = done
        if checkpoint and checkpoint.due:
            arrays = {**strategy.state(), **(beside.state() if beside else {})}
            checkpoint.write(
                {**arrays, "curve": np.array(curve).reshape(-1, 3)},
                {"generation": generation, "steps": arena.steps},
            )
        rng = np.random.default_rng([seed, generation])
        worth = ranked(fitness(strategy.ask(population, rng), generation, rng))
        strategy.tell(worth)
        curve.append([arena.steps, worth.max(), worth.mean()])
        done += 1
        note = f"best {worth.max():.4g}, mean {worth.mean():.4g}, {arena.steps:,} steps"
        expected = math.ceil(min(generations, done * limit / arena.steps))
        progress(phase, done, max(done, expected), note)
    return done, shown_curve(curve)


def ranked(worth: Array) -> Array:
    """Replace NaN and infinity in fitness `(P,)` by the worst finite value.

    Raises:
        BadConfig: no value is a number.
    """
    finite = np.isfinite(worth)
    if not finite.any():
        raise BadConfig(
            "no policy of a generation has a return that is a number: smaller steps may help "
            "(sigma, learning_rate, inner_rate)"
        )
    return np.where(finite, worth, worth[finite].min())
