"""d3rlpy's offline algorithms as learners (Seno and Imai, 2022, JMLR 23(315)).

Each trains with d3rlpy's `fit` and losses, on this package's networks. Isolated transitions are
passed in a `TransitionBuffer`; algorithms that use more than one transition need data of whole
episodes, and get d3rlpy's own buffer. All learn from the actions taken: soft labels are not used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box

from rlcondense.config import check_choice, check_positive, check_share
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.integrations.d3rlpy.parts import (
    NO_TRANSITION,
    PAIRS,
    TRANSITIONS,
    NetworkFactory,
    TransitionBuffer,
    cuda_devices,
    dataset_info,
    float_actions,
    quiet,
    seeded,
    trained,
)
from rlcondense.learners.base import Learner
from rlcondense.limits import plain_seeds
from rlcondense.networks import check_network, given_options
from rlcondense.policies import (
    ACTION_SELECTIONS,
    Player,
    PolicyBatch,
    num_actions_of,
    sample_actions,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.quiet_import import quiet_import
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task
from rlcondense.types import Array

with quiet_import("d3rlpy"):
    import d3rlpy
    from d3rlpy.constants import ActionSpace
    from d3rlpy.preprocessing import MinMaxActionScaler

EPISODES = TRANSITIONS | {"episodes"}
POSITIVE = (
    "updates", "batch_size", "n_critics", "target_update_interval", "update_actor_interval",
    "context_size", "max_timestep", "num_heads", "num_layers", "n_action_samples",
    "n_target_samples", "n_mmd_action_samples", "initial_temperature", "initial_alpha",
)  # fmt: skip
SHARES = ("gamma", "tau", "expectile")
# Without geglu, which halves the features, as no transformer of d3rlpy's allows for.
ACTIVATIONS = ("relu", "gelu", "tanh", "swish", "none")
CHOICES = {
    "action_selection": ACTION_SELECTIONS,
    "activation_type": ACTIVATIONS,
    "advantage_type": ("mean", "max"),
    "embed_activation_type": ACTIVATIONS,
    "mmd_kernel": ("gaussian", "laplacian"),
    "policy_type": ("deterministic", "stochastic"),
    "target_update_type": ("hard", "soft"),
    "weight_type": ("binary", "exp"),
}
DERIVED = ("compile_graph", "warmup_tokens", "final_tokens")  # no settings: see `_create`


def _settings(algorithm: str, network: str, policies: str) -> type[Any]:
    """Make a frozen config: our settings, and d3rlpy's numbers and texts with its defaults."""
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
    check_share(self, *(n for n in names if n in SHARES))
    if isinstance(self, DiscreteBCQ.Config):  # the logarithm of its threshold is taken
        check_positive(self, "action_flexibility")
    check_network(self.network, given_options(self))
    for name in CHOICES.keys() & set(names):
        check_choice(self, name, CHOICES[name])


class D3RLPyLearner(Learner[Any]):
    """An algorithm of d3rlpy.

    Attributes:
        algorithm: its name in d3rlpy.
        policies: `greedy`, `stochastic`, `drawing` (candidate actions) or `remembering`.
    """

    label_kinds = ("hard", "continuous")
    algorithm: ClassVar[str]
    policies: ClassVar[str]

    @property
    def action_selection(self) -> str:
        return str(getattr(self.config, "action_selection", "greedy"))

    def fit(
        self,
        data: CondensedDataset,
        *,
        task: str | Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> PolicyBatch:
        task, seeds = make_task(task), plain_seeds(seeds)
        if missing := self.missing(data.provides(), task):
            raise BadConfig(f"learner {self.id!r} needs {', '.join(missing)}")
        target = self._target_return(data)
        with seeded(0, "cpu"), quiet():  # d3rlpy's buffer reads a few of its rows
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
            algorithm = trained(
                lambda: self._create(data, task, device),
                buffer,
                self.config.updates,
                seed=seed,
                device=device,
                report=report,
                owner=f"learner {self.id!r}",
            )
            algorithms.append(algorithm)
        selection = self.action_selection
        if self.policies == "drawing":
            return DrawingPolicies(algorithms, seeds, task, selection)
        if self.policies == "remembering":
            return RememberingPolicies(algorithms, seeds, task, selection, target)
        return D3RLPyPolicies(algorithms, seeds, task, selection)

    def _create(self, data: CondensedDataset, task: Task, device: str) -> Any:
        """Make an algorithm with its networks, for the task's actions."""
        c, info = self.config, dataset_info(data, task)
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
            # Its learning rate decays over all tokens, after a warm-up over a fiftieth of them.
            settings["final_tokens"] = c.updates * c.batch_size * c.context_size
            settings["warmup_tokens"] = settings["final_tokens"] // 50
        if isinstance(task.action_space, Box):
            if not task.action_space.is_bounded():
                raise BadConfig(
                    f"learner {self.id!r} needs bounded actions: those of {task.id!r} are not"
                )
            settings["action_scaler"] = MinMaxActionScaler(
                minimum=task.action_space.low.reshape(-1),
                maximum=task.action_space.high.reshape(-1),
            )
        algorithm = theirs(**settings).create(device="cpu:0" if device == "cpu" else "cuda:0")
        try:
            algorithm.create_impl(shape, info.action_size)
        except ValueError as error:  # d3rlpy's error for a wrong setting
            raise BadConfig(f"learner {self.id!r}: {error}") from error
        return algorithm

    def _target_return(self, data: CondensedDataset) -> float:
        """Return a decision transformer's target return, by default the best in the data."""
        if self.policies != "remembering":
            return 0.0
        episodes = data.whole_episodes
        assert episodes is not None
        if any(data.column("steps")[rows[0]] for rows in episodes):  # d3rlpy counts from the first
            raise BadConfig(f"learner {self.id!r} needs episodes from their first step on")
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


def _episode_buffer(data: CondensedDataset, task: Task, owner: str) -> Any:
    """Make d3rlpy's own buffer, for data of whole episodes."""
    if np.ptp(data.weights) > 0:
        raise RLCondenseError(f"learner {owner!r} draws from whole episodes, and takes no weights")
    actions, rewards = float_actions(data), data.column("rewards")
    assert data.whole_episodes is not None
    info = dataset_info(data, task)
    buffer = d3rlpy.dataset.ReplayBuffer(
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
    if not buffer.transition_count:  # all episodes are cut off after one step
        raise RLCondenseError(NO_TRANSITION)
    return buffer


class D3RLPyPolicies(PolicyBatch):
    """Policies that d3rlpy trained, one algorithm for each seed.

    Args:
        algorithms: algorithms trained by `fit`.
        seeds: the learner seed of each.
        task: the task of their actions.
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

    d3rlpy draws them from torch's global state for a whole batch. Here they are drawn for one
    observation after another, from its own noise, so that an action never depends on the rest of
    the batch.
    """

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        actions = np.empty_like(noise, np.float32)
        with torch.random.fork_rng(devices=cuda_devices()):
            for row in range(len(noise)):
                torch.manual_seed(int(noise[row].flat[0] * 2**53))
                one = slice(row, row + 1)
                actions[one] = super().act(observations[one], policy_index[one], noise[one])
        return actions


class RememberingPolicies(D3RLPyPolicies):
    """Decision transformers, whose inputs are earlier steps and the return to go.

    Args:
        algorithms: algorithms trained by `fit`.
        seeds: the learner seed of each.
        task: the task of their actions.
        action_selection: `sample` or `greedy`.
        target_return: target return of each episode (Chen et al., 2021, arXiv:2106.01345).
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
        """Return the distributions `(B, A)` for observations as first steps of episodes."""
        probs = np.empty((len(observations), num_actions_of(self._space)))
        for policy in np.unique(policy_index):
            rows = np.flatnonzero(policy_index == policy)
            memory = self.player(policy, len(rows))
            probs[rows] = memory.probs(observations[rows], np.arange(len(rows)))
        return probs

    def player(self, policy: int, num_envs: int) -> _ContextPlayer:
        return _ContextPlayer(self, policy, num_envs)


class _ContextPlayer(Player):
    """Player of a decision transformer, with a left-padded context for each environment."""

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
        """Add an observation to each environment's context, and return distributions `(B, A)`."""
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
