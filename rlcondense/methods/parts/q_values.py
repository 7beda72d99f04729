"""Action values of all rows, by a Q-function of d3rlpy that is trained on the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Problem
from rlcondense.runtime.quiet_import import quiet_import
from rlcondense.types import Array

CHUNK = 512  # rows of one forward pass
BATCH = 64
LEARNING_RATE = 5e-4  # d3rlpy's default, 6e-5, is for hundreds of thousands of updates
SYNCS = 20  # updates between copies to the target network: the horizon of rewards in steps
GAMMA = 0.99
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
        x = np.asarray(observations, np.float32)
        space = problem.task.action_space
        if not isinstance(space, Box):
            [q_function] = self.algorithm.impl.modules.q_funcs
            seen = torch.from_numpy(x).to(self.algorithm.impl.device)
            return np.asarray(q_function(seen).q_value.T.cpu().numpy())
        size = (PROBES, *space.shape)
        actions = np.random.default_rng(0).uniform(space.low, space.high, size).astype(np.float32)
        return np.array(
            [self.algorithm.predict_value(x, np.repeat(a[None], len(x), 0)) for a in actions]
        )


def critic_seed(problem: Problem) -> int:
    """Return the seed of the critic that all methods share which look at action values."""
    return int(np.random.default_rng([problem.seed, 1]).integers(2**31))


def action_values(problem: Problem, network: str, updates: int, seed: int) -> ActionValues:
    """Return the values of all rows under a critic; arguments as for `trained_critic`."""
    return trained_critic(problem, network, updates, seed).values(problem)


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
    space = problem.task.action_space
    if isinstance(space, Box) and not space.is_bounded():
        raise BadConfig(f"action values need bounded actions: those of {problem.task.id!r} are not")
    from rlcondense.integrations.d3rlpy.parts import (
        TRANSITIONS,
        NetworkFactory,
        TransitionBuffer,
        dataset_info,
        trained,
    )

    with quiet_import("d3rlpy"):  # it was imported just now
        from d3rlpy.algos import CQLConfig, DiscreteCQLConfig
        from d3rlpy.preprocessing import MinMaxActionScaler

    dataset = problem.dataset
    columns: dict[str, Any] = dataset.columns()
    ones = np.ones(len(dataset), np.float32)
    data = CondensedDataset(**columns, weights=ones, next_rows=dataset.next_rows)
    info = dataset_info(data, problem.task)
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
            action_scaler=MinMaxActionScaler(minimum=space.low, maximum=space.high),
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
        algorithm.create_impl(tuple(dataset.observations.shape[1:]), info.action_size)
        return algorithm

    def report(_algorithm: Any, _epoch: int, step: int) -> None:
        if step % 20 == 0 or step == updates:
            problem.progress("train action values", step, updates)

    algorithm = trained(
        create,
        TransitionBuffer(data, problem.task, TRANSITIONS, np.random.default_rng(seed)),
        updates,
        seed=seed,
        device=problem.device,
        report=report,
        owner="the Q-function",
    )
    return Critic(algorithm, updates * BATCH)


@torch.no_grad()
def _read(algorithm: Any, observations: Array, actions: Array) -> tuple[Array, Array]:
    [q_function] = algorithm.impl.modules.q_funcs
    values, features = [], []
    for start in range(0, len(observations), CHUNK):
        rows = slice(start, start + CHUNK)
        x = np.asarray(observations[rows], np.float32)
        values.append(algorithm.predict_value(x, actions[rows]))
        seen = [torch.from_numpy(x).to(algorithm.impl.device)]
        scaler = algorithm.config.action_scaler
        if scaler is not None:  # a critic of continuous actions takes them as an input
            taken = np.asarray(actions[rows], np.float32).reshape(len(x), -1)
            seen.append(scaler.transform(torch.from_numpy(taken).to(algorithm.impl.device)))
        features.append(q_function.encoder(*seen).cpu().numpy())
    return np.concatenate(values), np.concatenate(features)
