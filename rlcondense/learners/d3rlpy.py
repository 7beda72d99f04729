"""d3rlpy's offline algorithms as learners (Seno and Imai, 2022, JMLR 23(315)).

Each trains with d3rlpy's own `fit` and its own losses, on networks of ours. Isolated transitions
reach it through `TransitionBuffer`; algorithms that look beyond one transition need data whose
episodes go on to their end, and get d3rlpy's own buffer. All learn from the actions taken: soft
labels are not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import structlog
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlcondense.config import check_choice, check_positive
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.learners.base import Learner
from rlcondense.methods.condensed import CondensedDataset
from rlcondense.networks import NetworkSpec, PolicyNetwork, check_network, given_options
from rlcondense.policies import (
    ACTION_SELECTIONS,
    Player,
    PolicyBatch,
    num_actions_of,
    sample_actions,
)
from rlcondense.progress import Progress, silent
from rlcondense.quiet import quiet_import
from rlcondense.tasks.base import Task


@contextlib.contextmanager
def _torch_left_alone() -> Iterator[None]:
    """Undo what importing d3rlpy does to torch where there is a GPU."""
    precision = torch.get_float32_matmul_precision()
    yield
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch._dynamo.config.compiled_autograd = False


with quiet_import("d3rlpy"), _torch_left_alone():
    import d3rlpy
    from d3rlpy.constants import ActionSpace
    from d3rlpy.dataset import DatasetInfo, Signature, Transition, TransitionMiniBatch
    from d3rlpy.logging import NoopAdapterFactory
    from d3rlpy.models.encoders import EncoderFactory, register_encoder_factory
    from d3rlpy.preprocessing import MinMaxActionScaler

Array = npt.NDArray[Any]
PAIRS = frozenset({"observations", "actions"})
TRANSITIONS = PAIRS | {"rewards", "next_observations", "terminations"}
EPISODES = TRANSITIONS | {"episodes"}
POSITIVE = (
    "updates", "batch_size", "n_critics", "target_update_interval", "update_actor_interval",
    "context_size", "max_timestep", "num_heads", "num_layers", "n_action_samples",
)  # fmt: skip
DERIVED = ("compile_graph", "warmup_tokens", "final_tokens")  # no settings: see `_create`


def _settings(algorithm: str, network: str, policies: str) -> type[Any]:
    """A frozen config: ours, and the numbers and texts of d3rlpy's with its defaults."""
    theirs = getattr(d3rlpy.algos, f"{algorithm}Config")
    fields: list[tuple[str, Any, Any]] = [
        ("network", str, network),
        ("width", int | None, None),
        ("depth", int | None, None),
        ("activation", str | None, None),
        ("updates", int, 800),
    ]
    if policies in ("stochastic", "remembering"):
        fields.append(("action_selection", str, "sample"))
    if policies == "remembering":
        fields.append(("target_return", float | None, None))
    fields += [
        (f.name, f.type, f.default)
        for f in dataclasses.fields(theirs)
        if f.type in (int, float, bool, str) and f.name not in DERIVED
    ]
    return dataclasses.make_dataclass(
        f"{algorithm}Settings", fields, frozen=True, namespace={"__post_init__": _check_settings}
    )


def _check_settings(self: Any) -> None:
    names = [f.name for f in dataclasses.fields(self)]
    check_positive(self, *(n for n in names if n in POSITIVE or n.endswith("learning_rate")))
    check_network(self.network, given_options(self))
    if hasattr(self, "action_selection"):
        check_choice(self, "action_selection", ACTION_SELECTIONS)


class D3RLPyLearner(Learner[Any]):
    """An algorithm of d3rlpy.

    Attributes:
        algorithm: its name there.
        policies: `greedy`, `stochastic`, `drawing` (candidate actions) or `remembering`.
    """

    label_kinds = ("hard", "continuous")
    algorithm: ClassVar[str]
    policies: ClassVar[str]

    def fit(
        self,
        data: CondensedDataset,
        *,
        task: Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> PolicyBatch:
        target = self._target_return(data)
        with _seeded(0, "cpu"), _quiet():  # d3rlpy's buffer looks at a few of its rows
            whole = _episode_buffer(data, task, self.id) if "episodes" in self.requires else None
        algorithms = []
        for place, seed in enumerate(seeds):

            def report(_algorithm: Any, _epoch: int, step: int, place: int = place) -> None:
                if step % 20 == 0 or step == self.config.updates:
                    done = place * self.config.updates + step
                    progress("train", done, len(seeds) * self.config.updates)

            rng = np.random.default_rng(seed)
            single = whole is None
            buffer = TransitionBuffer(data, task, self.requires, rng) if single else whole
            algorithms.append(self._fit_one(buffer, data, task, seed, device, report))
        selection = getattr(self.config, "action_selection", "greedy")
        if self.policies == "drawing":
            return DrawingPolicies(algorithms, seeds, task, selection)
        if self.policies == "remembering":
            return RememberingPolicies(algorithms, seeds, task, selection, target)
        return D3RLPyPolicies(algorithms, seeds, task, selection)

    def _fit_one(
        self,
        buffer: Any,
        data: CondensedDataset,
        task: Task,
        seed: int,
        device: str,
        report: Any,
    ) -> Any:
        with _seeded(seed, device), _quiet():
            algorithm = self._create(data, task, device)
            failure: ValueError | None = None
            try:
                algorithm.fit(
                    buffer,
                    n_steps=self.config.updates,
                    n_steps_per_epoch=self.config.updates,
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
                f"learner {self.id!r} diverged with seed {seed} (try a smaller learning rate)"
            ) from failure
        return algorithm

    def _create(self, data: CondensedDataset, task: Task, device: str) -> Any:
        """An algorithm with its networks, its last layers those of the task's actions."""
        c, info = self.config, _dataset_info(data, task)
        theirs = getattr(d3rlpy.algos, f"{self.algorithm}Config")
        fields = {f.name for f in dataclasses.fields(theirs)}
        settings = {k: v for k, v in dataclasses.asdict(c).items() if k in fields}
        network = NetworkFactory(c.network, c.width, c.depth, c.activation)
        settings |= {name: network for name in fields if name.endswith("encoder_factory")}
        shape = tuple(data.observations.shape[1:])
        if self.policies == "remembering":
            features = network.trunk(shape).num_features
            if features % c.num_heads:
                raise BadConfig(f"{features} features cannot be shared by {c.num_heads} heads")
            # Its learning rate falls over all that is seen, after a fiftieth of it to warm up.
            settings["final_tokens"] = c.updates * c.batch_size * c.context_size
            settings["warmup_tokens"] = settings["final_tokens"] // 50
        if isinstance(task.action_space, Box):
            if not task.action_space.is_bounded():
                raise BadConfig(
                    f"learner {self.id!r} needs bounded actions, as {task.id!r} has not"
                )
            settings["action_scaler"] = MinMaxActionScaler(
                minimum=task.action_space.low, maximum=task.action_space.high
            )
        algorithm = theirs(**settings).create(device="cpu:0" if device == "cpu" else "cuda:0")
        try:
            algorithm.create_impl(shape, info.action_size)
        except ValueError as error:  # how d3rlpy refuses a setting
            raise BadConfig(f"learner {self.id!r}: {error}") from error
        return algorithm

    def _target_return(self, data: CondensedDataset) -> float:
        """What a decision transformer is asked for: by default the best return in the data."""
        if self.policies != "remembering":
            return 0.0
        episodes = data.whole_episodes
        assert episodes is not None
        longest = max(int(data.column("steps")[rows].max()) + 1 for rows in episodes)
        if longest > self.config.max_timestep:
            raise BadConfig(
                f"learner {self.id!r} has max_timestep {self.config.max_timestep}, but an episode "
                f"has {longest} steps: try --set learner.max_timestep={longest}"
            )
        if self.config.target_return is not None:
            return float(self.config.target_return)
        return max(float(data.column("rewards")[rows].sum()) for rows in episodes)


def _learner(
    algorithm: str, requires: frozenset[str], *, network: str = "nature", policies: str = "greedy"
) -> type[D3RLPyLearner]:
    theirs = getattr(d3rlpy.algos, algorithm)
    discrete = theirs.get_action_type(None) is ActionSpace.DISCRETE
    return type(
        algorithm,
        (D3RLPyLearner,),
        {
            "__doc__": f"d3rlpy's {algorithm}.",
            "__module__": __name__,
            "algorithm": algorithm,
            "policies": policies,
            "requires": requires,
            "action_kinds": ("discrete",) if discrete else ("continuous",),
            "Config": _settings(algorithm, network, policies),
        },
    )


DiscreteBC = _learner("DiscreteBC", PAIRS, policies="stochastic")
DQN = _learner("DQN", TRANSITIONS)
DoubleDQN = _learner("DoubleDQN", TRANSITIONS)
NFQ = _learner("NFQ", TRANSITIONS)
DiscreteBCQ = _learner("DiscreteBCQ", TRANSITIONS)
DiscreteCQL = _learner("DiscreteCQL", TRANSITIONS)
DiscreteSAC = _learner("DiscreteSAC", TRANSITIONS, policies="stochastic")
DiscreteDecisionTransformer = _learner(
    "DiscreteDecisionTransformer", EPISODES, policies="remembering"
)
BC = _learner("BC", PAIRS, network="mlp")
AWAC = _learner("AWAC", TRANSITIONS, network="mlp")
BCQ = _learner("BCQ", TRANSITIONS, network="mlp", policies="drawing")
BEAR = _learner("BEAR", TRANSITIONS, network="mlp", policies="drawing")
CQL = _learner("CQL", TRANSITIONS, network="mlp")
CRR = _learner("CRR", TRANSITIONS, network="mlp", policies="drawing")
DDPG = _learner("DDPG", TRANSITIONS, network="mlp")
IQL = _learner("IQL", TRANSITIONS, network="mlp")
PLAS = _learner("PLAS", TRANSITIONS, network="mlp")
PLASWithPerturbation = _learner("PLASWithPerturbation", TRANSITIONS, network="mlp")
SAC = _learner("SAC", TRANSITIONS, network="mlp")
TD3 = _learner("TD3", TRANSITIONS, network="mlp")
TD3PlusBC = _learner("TD3PlusBC", TRANSITIONS, network="mlp")
# These use the return to go, the next action, or all the data at once.
CalQL = _learner("CalQL", EPISODES, network="mlp")
PRDC = _learner("PRDC", EPISODES, network="mlp")
ReBRAC = _learner("ReBRAC", EPISODES, network="mlp")


class TransitionBuffer(d3rlpy.dataset.ReplayBufferBase):  # type: ignore[misc]
    """Single transitions for d3rlpy to draw batches from, in proportion to their weights.

    d3rlpy's own buffer holds episodes, and counts a lone transition as none at all. Rows of which
    nobody knows what came next are left out where that is needed.

    Args:
        data: where they come from.
        task: whose actions they have.
        requires: what the learner needs.
        rng: decides what is drawn.
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
            raise RLCondenseError("of no transition it is known what came next")
        self._heights = data.weights[self._rows].astype(np.float64).cumsum()
        self._info = _dataset_info(data, task)
        self._actions = _actions(data)

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        drawn = self._rng.random(batch_size) * self._heights[-1]
        rows = self._rows[np.searchsorted(self._heights, drawn, side="right")]
        data, ones = self._data, np.ones((batch_size, 1), np.float32)
        observations = np.asarray(data.observations[rows], np.float32)
        actions = self._actions[rows]
        if not self._whole:  # what is not there is not looked at either
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


def _actions(data: CondensedDataset) -> Array:
    """Actions `(M, A)` float32, as d3rlpy keeps them; A is 1 for discrete ones."""
    return np.asarray(data.actions, np.float32).reshape(len(data), -1)


def _dataset_info(data: CondensedDataset, task: Task) -> DatasetInfo:
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


def _episode_buffer(data: CondensedDataset, task: Task, owner: str) -> Any:
    """d3rlpy's own buffer, for data of episodes that go on to their end."""
    if np.ptp(data.weights) > 0:
        raise RLCondenseError(f"learner {owner!r} draws from whole episodes, and takes no weights")
    actions, rewards = _actions(data), data.column("rewards")
    assert data.whole_episodes is not None
    info = _dataset_info(data, task)
    return d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=[
            d3rlpy.dataset.Episode(
                observations=np.asarray(data.observations[rows]),
                actions=actions[rows],
                rewards=np.asarray(rewards[rows, None], np.float32),
                terminated=bool(data.column("terminations")[rows[-1]]),
            )
            for rows in data.whole_episodes
        ],
        action_space=info.action_space,
        action_size=info.action_size,
    )


@dataclasses.dataclass()
class NetworkFactory(EncoderFactory):  # type: ignore[misc]
    """Our networks, without their last layer, as encoders of d3rlpy.

    Attributes:
        network: its name.
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
        """The network for observations of a shape, its features the output."""
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
    """Observation and action side by side at the input."""

    def forward(self, x: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return self.trunk.features(torch.cat([x, action], dim=1))


class _EncoderWithAction(_Encoder):
    """The action joins the features, and a dense layer mixes them."""

    def __init__(self, trunk: PolicyNetwork, action_size: int) -> None:
        super().__init__(trunk)
        self.mix = nn.Linear(trunk.num_features + action_size, trunk.num_features)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return self.mix(torch.cat([self.trunk.features(x), action], dim=1)).relu()  # type: ignore[no-any-return]


class D3RLPyPolicies(PolicyBatch):
    """What d3rlpy trained, one algorithm for each seed.

    Args:
        algorithms: trained by `fit`.
        seeds: the learner seed of each.
        task: whose actions they take.
        action_selection: `greedy`, d3rlpy's `predict`, or for algorithms with a stochastic policy
            over discrete actions `sample`.
    """

    def __init__(
        self, algorithms: Sequence[Any], seeds: Sequence[int], task: Task, action_selection: str
    ) -> None:
        self.algorithms, self.seeds = list(algorithms), tuple(seeds)
        self.num_policies = len(self.algorithms)
        self.action_selection = action_selection
        self._space = task.action_space

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        probs = np.zeros((len(observations), num_actions_of(self._space)))
        for policy in np.unique(policy_index):
            rows = np.flatnonzero(policy_index == policy)
            if self.action_selection == "sample":
                probs[rows] = self._distribution(self.algorithms[policy], observations[rows])
            else:
                probs[rows, self.algorithms[policy].predict(observations[rows])] = 1
        return probs

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        if not isinstance(self._space, Box):
            return super().act(observations, policy_index, noise)
        actions = np.empty((len(observations), *self._space.shape), np.float32)
        for policy in np.unique(policy_index):
            rows = policy_index == policy
            chosen = self.algorithms[policy].predict(observations[rows])
            actions[rows] = chosen.reshape(-1, *self._space.shape)
        return actions.clip(self._space.low, self._space.high)

    @torch.inference_mode()
    def _distribution(self, algorithm: Any, observations: Array) -> Array:
        modules = algorithm.impl.modules
        modules.set_eval()
        policy = modules.imitator if hasattr(modules, "imitator") else modules.policy
        frames = torch.from_numpy(observations).float().to(algorithm.impl.device)
        return policy(frames).probs.double().cpu().numpy()  # type: ignore[no-any-return]


class DrawingPolicies(D3RLPyPolicies):
    """Continuous policies that draw candidate actions and take the best.

    d3rlpy draws them from torch's global state, for a whole batch at once. Here each observation's
    come from its own noise, one observation after another, so that an action never depends on what
    was batched with it.
    """

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        actions = np.empty_like(noise, np.float32)
        with torch.random.fork_rng(devices=_cuda_devices()):
            for row in range(len(noise)):
                torch.manual_seed(int(noise[row].flat[0] * 2**53))
                one = slice(row, row + 1)
                actions[one] = super().act(observations[one], policy_index[one], noise[one])
        return actions


class RememberingPolicies(D3RLPyPolicies):
    """Decision transformers, which look at the steps before and at the return still to come.

    Args:
        algorithms: trained by `fit`.
        seeds: the learner seed of each.
        task: whose actions they take.
        action_selection: `sample` or `greedy`.
        target_return: what each episode is to bring (Chen et al., 2021, arXiv:2106.01345).
    """

    def __init__(
        self,
        algorithms: Sequence[Any],
        seeds: Sequence[int],
        task: Task,
        action_selection: str,
        target_return: float,
    ) -> None:
        super().__init__(algorithms, seeds, task, action_selection)
        self.target_return = target_return

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        """The distribution over actions `(B, A)` of each observation as an episode's first."""
        probs = np.empty((len(observations), num_actions_of(self._space)))
        for policy in np.unique(policy_index):
            rows = np.flatnonzero(policy_index == policy)
            memory = self.player(policy, len(rows))
            probs[rows] = memory.probs(observations[rows], np.arange(len(rows)))
        return probs

    def player(self, policy: int, num_envs: int) -> _Remembering:
        return _Remembering(self, policy, num_envs)


class _Remembering(Player):
    """A decision transformer at play, with a context for each environment, padded on the left."""

    def __init__(self, policies: RememberingPolicies, policy: int, num_envs: int) -> None:
        self._algorithm = policies.algorithms[policy]
        self._greedy = policies.action_selection == "greedy"
        self._target = policies.target_return
        self._length = self._algorithm.config.context_size
        self._last = self._algorithm.config.max_timestep
        shape = (num_envs, self._length)
        frame = tuple(self._algorithm.impl.observation_shape)
        self._observations = np.zeros((*shape, *frame), np.float32)
        self._actions, self._timesteps = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._returns, self._masks = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._to_come = np.full(num_envs, self._target)
        self._time = np.ones(num_envs, np.int64)

    def _contexts(self) -> tuple[Array, ...]:
        return self._observations, self._actions, self._timesteps, self._returns, self._masks

    @torch.inference_mode()
    def probs(self, observations: Array, environments: Array) -> Array:
        """Take in one observation of each environment, and give the distributions `(B, A)`."""
        now = (observations, 0, self._time[environments], self._to_come[environments], 1)
        for context, value in zip(self._contexts(), now, strict=True):
            context[environments, :-1] = context[environments, 1:]
            context[environments, -1] = value
        impl = self._algorithm.impl
        impl.modules.set_eval()
        seen, actions, timesteps, returns, masks = (
            torch.from_numpy(context[environments]).to(impl.device) for context in self._contexts()
        )
        probs, _ = impl.modules.transformer(seen, actions, returns[..., None], timesteps, 1 - masks)
        return probs[:, -1].double().cpu().numpy()  # type: ignore[no-any-return]

    def act(self, observations: Array, environments: Array, noise: Array) -> Array:
        probs = self.probs(observations, environments)
        actions = probs.argmax(1) if self._greedy else sample_actions(probs, noise)
        self._actions[environments, -1] = actions
        return np.asarray(actions)

    def observe(self, environments: Array, rewards: Array, ended: Array) -> None:
        self._to_come[environments] -= rewards
        self._time[environments] = np.minimum(self._time[environments] + 1, self._last)
        done = environments[ended]
        for context in self._contexts():
            context[done] = 0
        self._to_come[done], self._time[done] = self._target, 1


@contextlib.contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Within, d3rlpy's global randomness comes from `seed`; after, all is as it was."""
    kept = random.getstate(), np.random.get_state(), torch.backends.cudnn.deterministic
    if device != "cpu":
        torch.cuda.init()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=_cuda_devices()):
        d3rlpy.seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.backends.cudnn.deterministic = kept[2]


def _cuda_devices() -> list[int]:
    """The GPUs whose random state d3rlpy may touch."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return list(range(torch.cuda.device_count()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep d3rlpy's log off the terminal."""
    before = structlog.get_config()
    errors_only = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(**{**before, "wrapper_class": errors_only})
    try:
        yield
    finally:
        structlog.configure(**before)
