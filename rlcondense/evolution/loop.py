"""Evolution of whatever makes policies: asking, trying in environments, telling; and its cost."""

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
from rlcondense.runtime.progress import Progress
from rlcondense.tasks.base import Task
from rlcondense.types import Array

Fitness = Callable[[Array, int, np.random.Generator], Array]
MOST_POINTS = 100  # of a curve that is reported


@dataclass(frozen=True)
class EvolutionConfig:
    """Settings of whatever evolves.

    Attributes:
        strategy: `openes` or `snes`.
        population: points a generation, each of which makes policies.
        generations: how many.
        most_steps: of the environments; the generation that reaches them is the last. None: all
            generations.
        sigma: deviation of the points from their mean, of `snes` at first. None: the strategy's
            own, .03 and .5.
        learning_rate: of the mean; Adam's of `openes`, a factor of `snes`. None: the strategy's
            own, .05 and 1.
        width: units of each hidden layer of a policy.
        depth: hidden layers.
        activation: `tanh` or `relu`.
        episodes: of a policy, each in an environment of its own.
        horizon: steps after which an episode counts as it stands.
        action_selection: how policies act, `sample` or `greedy`.
        mirrored: whether points come in pairs that mirror each other at the mean.
        fitness: `ranks`, or `raw` for `openes` to follow the returns themselves.
        temperature: of the weights that `snes` gives ranks, as evosax has it; None: the utilities
            of its paper.
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

    def __post_init__(self) -> None:
        check_population(self.population, self.mirrored)
        check_positive(self, "temperature")
        check_choice(self, "fitness", ("ranks", "raw"))
        if self.fitness == "raw" and self.strategy != "openes":
            raise BadConfig("fitness=raw is for strategy=openes")
        if self.temperature is not None and self.strategy != "snes":
            raise BadConfig("temperature is for strategy=snes")
        check_positive(self, "generations", "most_steps", "sigma", "learning_rate")
        check_positive(self, "width", "depth", "episodes", "horizon")
        check_most("population x episodes", self.population * self.episodes, "num_envs")
        check_choice(self, "strategy", tuple(STRATEGIES))
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "action_selection", ACTION_SELECTIONS)

    def network(self, task: Task) -> NetworkSpec:
        """What policies of a task are."""
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
        """The strategy that begins at `mean` `(n,)`."""
        return make_strategy(
            self.strategy,
            mean,
            sigma=self.sigma,
            learning_rate=self.learning_rate,
            mirrored=self.mirrored,
            raw=self.fitness == "raw" or None,
            temperature=self.temperature,
        )


class Arena:
    """The environments that policies are tried in, made at the first trial; a context manager.

    Args:
        task: whose seen levels are played.
        episodes: of each policy, each in an environment of its own.
        horizon: steps after which an episode counts as it stands.
        greedy: whether policies take the likeliest action.

    Attributes:
        steps: that all environments have taken.
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
        """`(P, episodes)` of as many policies as at the first trial; arguments as for `play`."""
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
        return played.returns


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
    """Ask, try and tell, with progress, and with checkpoints where there is one.

    Whatever is random in a generation is drawn from the seed and its number, so that a run that
    goes on from a checkpoint gives the same bytes as one that was not stopped.

    Args:
        strategy: changed in place.
        fitness: of points `(P, n)` in a generation, given its generator: `(P,)`.
        arena: where it tries them.
        population: P.
        generations: how many.
        seed: of all that is random.
        progress: told the generations done, with the best fitness, the mean and the steps.
        most_steps: of the environments; the generation that reaches them is the last.
        phase: what progress calls it.
        checkpoint: where to note how far it is.
        beside: what `fitness` changes too.

    Returns:
        How many generations there were, and `steps` so far, `best` and `mean` fitness of at most
        `MOST_POINTS` of them, evenly spaced, the last among them.
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
        curve = arrays["curve"].tolist()
        done = first
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
    shown = np.linspace(0, done - 1, min(done, MOST_POINTS)).round().astype(int)
    names = ("steps", "best", "mean")
    return done, {name: [curve[i][k] for i in shown] for k, name in enumerate(names)}


def ranked(worth: Array) -> Array:
    """Fitness `(P,)` where what is no number is as bad as the worst that is one.

    Raises:
        BadConfig: none is a number.
    """
    finite = np.isfinite(worth)
    if not finite.any():
        raise BadConfig(
            "no policy of a generation has a return that is a number: smaller steps may help "
            "(sigma, learning_rate, inner_rate)"
        )
    return np.where(finite, worth, worth[finite].min())
