"""Action values of all rows, by a Q-function of d3rlpy that is trained on the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig
from rlcondense.files import read_arrays, write_arrays
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.artifacts import artifact
from rlcondense.runtime.quiet_import import quiet_import
from rlcondense.types import Array

CHUNK = 512  # rows of one forward pass
BATCH = 64
LEARNING_RATE = 5e-4  # d3rlpy's default, 6e-5, is for hundreds of thousands of updates
SYNCS = 20  # copies to the target network in a training: the horizon of rewards in steps
GAMMA = 0.99
WEIGHTS = "critic.safetensors"
PROBES = 32  # continuous actions whose values are compared


@dataclass(frozen=True)
class ActionValues:
    """Action values and features of every row under a Q-function.

    Attributes:
        q: `(N,)` float32 values of the actions taken, in units of reward.
        features: `(N, F)` float32, inputs of the linear last layer.
        gradient_evaluations: number of gradients of one row's loss in its training.
    """

    q: Array
    features: Array
    gradient_evaluations: int


@dataclass(frozen=True)
class Critic:
    """A Q-function of d3rlpy that was trained on a problem's data.

    Attributes:
        algorithm: d3rlpy's, with one Q-function.
        gradient_evaluations: number of gradients of one row's loss in its training.
    """

    algorithm: Any
    gradient_evaluations: int

    @property
    def q_function(self) -> torch.nn.Module:
        """The network that gives values."""
        [q_function] = self.algorithm.impl.modules.q_funcs
        assert isinstance(q_function, torch.nn.Module)
        return q_function

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of the Q-function."""
        return dict(self.q_function.state_dict())

    def values(self, problem: Problem) -> ActionValues:
        """Return values and features of all rows."""
        dataset = problem.dataset
        q, features = _read(self.algorithm, dataset.observations, np.asarray(dataset.actions))
        return ActionValues(q, features, self.gradient_evaluations)

    def spread(self, problem: Problem) -> Array:
        """Return how far the values `(N,)` of a state's actions lie apart, highest less lowest.

        Of continuous actions they are those of a few drawn uniformly, the same for all states.
        """
        dataset = problem.dataset
        chunks = [dataset.observations[i : i + CHUNK] for i in range(0, len(dataset), CHUNK)]
        return np.concatenate([np.ptp(self._all_values(problem, x), axis=0) for x in chunks])

    @torch.no_grad()
    def _all_values(self, problem: Problem, observations: Array) -> Array:
        """Return the values `(A, B)` of each action, or of those drawn, in each state."""
        x = np.array(observations, np.float32)
        space = problem.task.action_space
        if not isinstance(space, Box):
            seen = torch.from_numpy(x).to(self.algorithm.impl.device)
            return np.asarray(self.q_function(seen).q_value.T.cpu().numpy())
        size = (PROBES, *space.shape)
        drawn = np.random.default_rng([problem.seed, 5]).uniform(space.low, space.high, size)
        actions = drawn.astype(np.float32).reshape(PROBES, -1)
        return np.array(
            [self.algorithm.predict_value(x, np.repeat(a[None], len(x), 0)) for a in actions]
        )


def critic_seed(problem: Problem) -> int:
    """Return the seed of the critic that all methods share which look at action values."""
    return int(np.random.default_rng([problem.seed, 1]).integers(2**31))


def shared_critic(problem: Problem, network: str, updates: int) -> Critic:
    """Return the critic that `sdr`, `critical` and `av-pbc` share: trained once, then read.

    It is a file of the cache, whose identity has the condensation seed in it.

    Args:
        problem: problem with the data.
        network: name of the Q-function's network.
        updates: number of updates, of 64 rows each.
    """
    problem.check_actions_taken()
    create, seed = _creator(problem, network, updates), critic_seed(problem)
    facts = {"network": network, "updates": updates, "seed": seed, "d3rlpy": version("d3rlpy")}

    def make(folder: Path) -> int:
        critic = trained_critic(problem, network, updates, seed)
        write_arrays(folder / WEIGHTS, {k: v.cpu().numpy() for k, v in critic.weights().items()})
        return critic.gradient_evaluations

    folder, cost = artifact("critics", problem, facts, make)
    problem.progress("train action values", updates, updates)
    from rlcondense.integrations.d3rlpy.parts import quiet, seeded

    with seeded(seed, problem.device), quiet():
        critic = Critic(create(), cost)
    arrays = read_arrays(folder / WEIGHTS)
    critic.q_function.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
    return critic


def trained_critic(problem: Problem, network: str, updates: int, seed: int) -> Critic:
    """Train conservative Q-learning (Kumar et al., 2020, arXiv 2006.04779) on all the data.

    It is d3rlpy's CQL with one critic for continuous actions, and DiscreteCQL for discrete ones.

    Args:
        problem: problem with the data.
        network: name of the Q-function's network.
        updates: number of updates, of 64 rows each.
        seed: seed of its weights and batches.

    Raises:
        BadConfig: the task's actions are continuous and unbounded.
        RLCondenseError: training diverged.
    """
    problem.check_actions_taken()
    create = _creator(problem, network, updates)
    from rlcondense.integrations.d3rlpy.parts import TRANSITIONS, TransitionBuffer, trained

    def report(_algorithm: Any, _epoch: int, step: int) -> None:
        if step % 20 == 0 or step == updates:
            problem.progress("train action values", step, updates)

    buffer = TransitionBuffer(
        _data(problem), problem.task, TRANSITIONS, np.random.default_rng(seed)
    )
    algorithm = trained(
        create,
        buffer,
        updates,
        seed=seed,
        device=problem.device,
        report=report,
        owner="the Q-function",
    )
    return Critic(algorithm, updates * BATCH)


def _data(problem: Problem) -> CondensedDataset:
    dataset = problem.dataset
    columns: dict[str, Any] = dataset.columns()
    ones = np.ones(len(dataset), np.float32)
    return CondensedDataset(**columns, weights=ones, next_rows=dataset.next_rows)


def _creator(problem: Problem, network: str, updates: int) -> Callable[[], Any]:
    """Return a function that makes the algorithm and its networks."""
    space = problem.task.action_space
    if isinstance(space, Box) and not space.is_bounded():
        raise BadConfig(f"action values need bounded actions: those of {problem.task.id!r} are not")
    from rlcondense.integrations.d3rlpy.parts import NetworkFactory, dataset_info

    with quiet_import("d3rlpy"):  # it was imported just now
        from d3rlpy.algos import CQLConfig, DiscreteCQLConfig
        from d3rlpy.preprocessing import MinMaxActionScaler

    shape, info = problem.dataset.observations.shape[1:], dataset_info(_data(problem), problem.task)
    config: Any
    if isinstance(space, Box):
        config = CQLConfig(
            actor_learning_rate=LEARNING_RATE,
            critic_learning_rate=LEARNING_RATE,
            batch_size=BATCH,
            gamma=GAMMA,
            tau=min(1.0, SYNCS / updates),
            n_critics=1,
            actor_encoder_factory=NetworkFactory(network),
            critic_encoder_factory=NetworkFactory(network),
            action_scaler=MinMaxActionScaler(
                minimum=space.low.reshape(-1), maximum=space.high.reshape(-1)
            ),
        )
    else:
        config = DiscreteCQLConfig(
            learning_rate=LEARNING_RATE,
            batch_size=BATCH,
            gamma=GAMMA,
            target_update_interval=max(updates // SYNCS, 1),
            encoder_factory=NetworkFactory(network),
        )

    def create() -> Any:
        algorithm = config.create(device="cpu:0" if problem.device == "cpu" else "cuda:0")
        algorithm.create_impl(tuple(shape), info.action_size)
        return algorithm

    return create


@torch.no_grad()
def _read(algorithm: Any, observations: Array, actions: Array) -> tuple[Array, Array]:
    [q_function] = algorithm.impl.modules.q_funcs
    values, features = [], []
    for start in range(0, len(observations), CHUNK):
        rows = slice(start, start + CHUNK)
        x = np.array(observations[rows], np.float32)
        each = actions[rows] if actions.ndim == 1 else actions[rows].reshape(len(x), -1)
        values.append(algorithm.predict_value(x, each))
        seen = [torch.from_numpy(x).to(algorithm.impl.device)]
        scaler = algorithm.config.action_scaler
        if scaler is not None:  # a critic of continuous actions takes them as an input
            taken = np.array(actions[rows], np.float32).reshape(len(x), -1)
            seen.append(scaler.transform(torch.from_numpy(taken).to(algorithm.impl.device)))
        features.append(q_function.encoder(*seen).cpu().numpy())
    return np.concatenate(values), np.concatenate(features)
