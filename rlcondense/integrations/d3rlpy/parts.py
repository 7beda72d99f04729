"""Parts for d3rlpy (Seno and Imai, 2022, JMLR 23(315)): buffers of single transitions, this
package's networks, and training that restores global state.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import RLCondenseError
from rlcondense.networks import NetworkSpec, PolicyNetwork, given_options
from rlcondense.policies import num_actions_of
from rlcondense.runtime.quiet_import import quiet_import
from rlcondense.tasks.base import Task
from rlcondense.types import Array


@contextlib.contextmanager
def _left_alone() -> Iterator[None]:
    """Undo the effects of importing d3rlpy on `random`, and on torch if there is a GPU."""
    precision, state = torch.get_float32_matmul_precision(), random.getstate()
    yield
    random.setstate(state)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch._dynamo.config.compiled_autograd = False


with quiet_import("d3rlpy"), _left_alone():
    import d3rlpy
    import structlog
    from d3rlpy.constants import ActionSpace
    from d3rlpy.dataset import DatasetInfo, Signature, Transition, TransitionMiniBatch
    from d3rlpy.logging import NoopAdapterFactory
    from d3rlpy.models.encoders import EncoderFactory, register_encoder_factory

PAIRS = frozenset({"observations", "actions"})
TRANSITIONS = PAIRS | {"rewards", "next_observations", "terminations"}
NO_TRANSITION = "no transition has a known next observation"
_SEEDS = 2**32  # that d3rlpy takes


class TransitionBuffer(d3rlpy.dataset.ReplayBufferBase):  # type: ignore[misc]
    """Single transitions for d3rlpy to draw batches from, in proportion to their weights.

    d3rlpy's own buffer holds episodes, and ignores a lone transition. Rows with an unknown next
    observation are left out if the learner needs it.

    Args:
        data: source of the transitions.
        task: the task of their actions.
        requires: requirements of the learner.
        rng: generator of the draws.
    """

    def __init__(
        self,
        data: CondensedDataset,
        task: Task,
        requires: frozenset[str],
        rng: np.random.Generator,
    ) -> None:
        self._data, self._rng = data, rng
        self._whole = "next_observations" in requires
        known = data.next_rows >= 0 if self._whole else np.ones(len(data), bool)  # type: ignore[operator]
        self._rows = np.flatnonzero(known & (data.weights > 0))
        if not len(self._rows):
            raise RLCondenseError(NO_TRANSITION)
        self._heights = data.weights[self._rows].astype(np.float64).cumsum()
        self._info = dataset_info(data, task)
        self._actions = float_actions(data)

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        drawn = self._rng.random(batch_size) * self._heights[-1]
        rows = self._rows[np.searchsorted(self._heights, drawn, side="right")]
        data, ones = self._data, np.ones((batch_size, 1), np.float32)
        observations = np.asarray(data.observations[rows], np.float32)
        actions = self._actions[rows]
        if not self._whole:  # absent columns are not read either
            rewards, terminals, following = ones, ones, ones
        else:
            rewards = data.column("rewards")[rows, None].astype(np.float32)
            terminals = data.column("terminations")[rows, None].astype(np.float32)
            following = data.next_observations(rows).astype(np.float32)
        return TransitionMiniBatch(
            observations=observations,
            actions=actions,
            rewards=rewards,
            next_observations=following,
            next_actions=np.zeros_like(actions),
            terminals=terminals,
            intervals=ones,
            transitions=[],
        )

    def sample_transition(self) -> Transition:
        row = self._rows[0]
        observation = np.asarray(self._data.observations[row])
        zero = np.zeros(1, np.float32)
        action = self._actions[row]
        return Transition(observation, action, zero, observation, action, 0.0, 1, zero[None])

    @property
    def dataset_info(self) -> DatasetInfo:
        return self._info

    @property
    def transition_count(self) -> int:
        return len(self._rows)

    def size(self) -> int:
        return len(self._rows)

    def _unsupported(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("single transitions have neither episodes nor trajectories")

    append = append_episode = clip_episode = dump = _unsupported
    sample_trajectory = sample_trajectory_batch = _unsupported
    load = from_episode_generator = _unsupported
    episodes = buffer = transition_picker = trajectory_slicer = property(_unsupported)


def float_actions(data: CondensedDataset) -> Array:
    """Return actions `(M, A)` float32, as d3rlpy stores them; A is 1 for discrete actions."""
    return np.asarray(data.actions, np.float32).reshape(len(data), -1)


def dataset_info(data: CondensedDataset, task: Task) -> DatasetInfo:
    """Return the shapes and kinds of observations and actions in d3rlpy's form."""
    space = task.action_space
    continuous = isinstance(space, Box)
    size = int(np.prod(space.shape)) if continuous else num_actions_of(space)  # type: ignore[arg-type]
    shape = data.observations.shape[1:]
    return DatasetInfo(
        observation_signature=Signature([data.observations.dtype], [shape]),
        action_signature=Signature([np.dtype(np.float32)], [(size if continuous else 1,)]),
        reward_signature=Signature([np.dtype(np.float32)], [(1,)]),
        action_space=ActionSpace.CONTINUOUS if continuous else ActionSpace.DISCRETE,
        action_size=size,
    )


@dataclass()
class NetworkFactory(EncoderFactory):  # type: ignore[misc]
    """Factory of d3rlpy's encoders: this package's networks without the last layer.

    Attributes:
        network: name of the network.
        width: see `rlcondense.networks.NetworkSpec`.
        depth: likewise.
        activation: likewise.
    """

    network: str = "nature"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None

    def create(self, observation_shape: Sequence[int]) -> nn.Module:
        return _Encoder(self.trunk(tuple(observation_shape)))

    def create_with_action(
        self, observation_shape: Sequence[int], action_size: int, discrete_action: bool = False
    ) -> nn.Module:
        shape = tuple(observation_shape)
        if self.network == "mlp" and len(shape) == 1:
            return _VectorEncoderWithAction(self.trunk((shape[0] + action_size,)))
        return _EncoderWithAction(self.trunk(shape), action_size)

    def trunk(self, shape: tuple[int, ...]) -> PolicyNetwork:
        """Return a network for observations of a shape, whose output are the features."""
        trunk = PolicyNetwork(NetworkSpec(self.network, shape, 1, **given_options(self)))
        trunk.head = nn.Identity()  # type: ignore[assignment]
        return trunk

    @staticmethod
    def get_type() -> str:
        return "rlcondense"


register_encoder_factory(NetworkFactory)


class _Encoder(nn.Module):
    def __init__(self, trunk: PolicyNetwork) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk.features(x)


class _VectorEncoderWithAction(_Encoder):
    """Encoder of the concatenated observation and action."""

    def forward(self, x: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return self.trunk.features(torch.cat([x, action], dim=1))


class _EncoderWithAction(_Encoder):
    """Encoder with a dense layer on the concatenated features and action."""

    def __init__(self, trunk: PolicyNetwork, action_size: int) -> None:
        super().__init__(trunk)
        self.mix = nn.Linear(trunk.num_features + action_size, trunk.num_features)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return self.mix(torch.cat([self.trunk.features(x), action], dim=1)).relu()  # type: ignore[no-any-return]


def trained(
    create: Callable[[], Any],
    buffer: Any,
    updates: int,
    *,
    seed: int,
    device: str,
    report: Callable[[Any, int, int], None],
    owner: str,
) -> Any:
    """Train an algorithm of d3rlpy with its own `fit`.

    Args:
        create: function that makes the algorithm and its networks; called after d3rlpy is seeded.
        buffer: buffer that batches are drawn from.
        updates: number of gradient steps.
        seed: seed of all randomness.
        device: `cpu` or `cuda`.
        report: called with the algorithm, the epoch and the step, after each step.
        owner: owner of the training, for messages.

    Raises:
        RLCondenseError: its weights are no longer finite.
    """
    failure: ValueError | None = None
    with seeded(seed, device), quiet():
        algorithm = create()
        try:
            algorithm.fit(
                buffer,
                n_steps=updates,
                n_steps_per_epoch=updates,
                logger_adapter=NoopAdapterFactory(),
                show_progress=False,
                callback=report,
            )
        except ValueError as error:  # so torch's distributions refuse NaN
            failure = error
    if failure is not None and "invalid values" not in str(failure):
        raise failure
    modules = algorithm.impl.modules.get_torch_modules().values()
    finite = all(p.isfinite().all() for module in modules for p in module.parameters())
    if failure is not None or not finite:
        raise RLCondenseError(
            f"{owner} diverged with seed {seed} (try a smaller learning rate)"
        ) from failure
    return algorithm


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed d3rlpy's global randomness within the context, and restore it afterwards."""
    states = random.getstate(), np.random.get_state(), torch.backends.cudnn.deterministic
    if device != "cpu":
        torch.cuda.init()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=cuda_devices()):
        d3rlpy.seed(seed if seed < _SEEDS else _drawn(seed))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.backends.cudnn.deterministic = states[2]


def _drawn(seed: int) -> int:
    """Return one of the seeds that d3rlpy takes, drawn by a larger one."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def cuda_devices() -> list[int]:
    """Return the GPUs whose random state d3rlpy may change."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return list(range(torch.cuda.device_count()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep d3rlpy's log off the terminal."""
    before = structlog.get_config()
    errors_only = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(**{**before, "wrapper_class": errors_only})
    try:
        yield
    finally:
        structlog.configure(**before)
