"""Policies that act: batches of networks of one shape, and the two that need no learning."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from torch.func import functional_call, vmap

from rlcondense.config import config_json
from rlcondense.datasets.columns import check_action_space, checked_distributions, owner_of
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import read_arrays, read_json, write_arrays, write_json
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.text import one_line

Array = npt.NDArray[Any]
ACTION_SELECTIONS = ("sample", "greedy")
MOST_SAID = 200  # characters of why a file holds no policies


class PolicyBatch:
    """S policies of one shape.

    Over discrete actions, a subclass writes `action_probs`; over continuous ones, `act`.

    Attributes:
        num_policies: S.
        seeds: the learner seed of each.
        action_selection: `sample` or `greedy`.
        acts_together: whether one `act` for several policies is faster than one for each. Such
            policies look at the observation alone.
    """

    num_policies: int
    seeds: tuple[int, ...]
    action_selection: str = "sample"
    acts_together: bool = False

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        """The distribution over actions `(B, A)` of each observation under its policy."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution over actions")

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        """Choose actions.

        Args:
            observations: `(B, *observation)`.
            policy_index: `(B,)`, which policy acts on which observation.
            noise: `(B,)`, or `(B, A)` for continuous actions, uniform in [0, 1), which alone
                decides among likely actions.

        Returns:
            `(B,)` int64 actions, or `(B, A)` float32.
        """
        probs = checked_distributions(self.action_probs(observations, policy_index), owner_of(self))
        if self.action_selection == "greedy":
            return np.asarray(probs.argmax(1))
        return sample_actions(probs, noise)

    def player(self, policy: int, num_envs: int) -> Player:
        """The policy numbered `policy`, ready to play in `num_envs` environments."""
        return Player(self, policy)


class Player:
    """One policy of a batch at play, for policies that look at the observation alone.

    A policy that remembers overrides `PolicyBatch.player` with one that keeps a memory for each
    environment.

    Args:
        policies: the batch.
        policy: which of it plays.
    """

    def __init__(self, policies: PolicyBatch, policy: int) -> None:
        self._policies, self._policy = policies, policy

    def act(self, observations: Array, environments: Array, noise: Array) -> Array:
        """Choose actions for the environments `(B,)` that still play."""
        which = np.full(len(observations), self._policy)
        return self._policies.act(observations, which, noise)

    def observe(self, environments: Array, rewards: Array, ended: Array) -> None:
        """Be told, `(B,)` each, what the last actions gave, and whether their episodes ended."""


def sample_actions(probs: Array, noise: Array) -> npt.NDArray[np.int64]:
    """Draw `(B,)` actions from `(B, A)` probabilities by inverting their cumulative sums."""
    cumulative = probs.astype(np.float64).cumsum(1)
    below = noise[:, None] * cumulative[:, -1:] >= cumulative
    return np.asarray(below.sum(1).clip(max=probs.shape[1] - 1))


def normal(noise: Array) -> npt.NDArray[np.float64]:
    """Standard normal draws of uniform noise in [0, 1), by the inverse of their distribution."""
    from scipy.special import ndtri

    return np.asarray(ndtri(noise.clip(1e-12, 1 - 1e-12)))


def noise_stream(
    evaluation_seed: int, learner_seed: int, num_envs: int, action_shape: tuple[int, ...] = ()
) -> Iterator[npt.NDArray[np.float64]]:
    """Uniform noise `(E, *action)` for each step in turn, from a counter-based generator.

    It is a function of the two seeds, the environment and the step, so that an action never
    depends on what else was evaluated beside it.
    """
    key = np.array([evaluation_seed, learner_seed], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random((num_envs, *action_shape))


class NetworkPolicies(PolicyBatch):
    """Policies that are networks.

    Args:
        networks: S networks of one spec.
        seeds: the learner seed of each.
        device: where they compute.
        action_selection: `sample` or `greedy`.
        space: of the actions; of Gaussian heads, it is the box that actions are clipped to.
        temperature: what the logits of discrete actions are divided by.

    Attributes:
        training: how the loss on held-back rows fell, of policies that trained until it stopped
            falling.
    """

    training: dict[str, Any] | None = None

    def __init__(
        self,
        networks: Sequence[PolicyNetwork],
        seeds: Sequence[int],
        *,
        device: str = "cpu",
        action_selection: str = "sample",
        space: Space[Any] | None = None,
        temperature: float = 1.0,
    ) -> None:
        if action_selection not in ACTION_SELECTIONS:
            raise BadConfig(
                f"action selection must be one of {', '.join(ACTION_SELECTIONS)}, "
                f"not {action_selection!r}"
            )
        self.networks = [network.to(device).eval() for network in networks]
        self.spec = networks[0].spec
        if self.spec.head == "gaussian" and not isinstance(space, Box):
            raise BadConfig("policies with Gaussian heads need the box that actions are clipped to")
        self.space = space
        self.seeds = tuple(seeds)
        self.num_policies = len(networks)
        self.device = torch.device(device)
        self.action_selection = action_selection
        self.temperature = temperature
        self.acts_together = self.device.type == "cuda" and self.num_policies > 1

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        if self.spec.head != "categorical":
            return super().action_probs(observations, policy_index)
        return self._outputs(observations, policy_index)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        if self.spec.head == "categorical":
            return super().act(observations, policy_index, noise)
        assert isinstance(self.space, Box)
        actions, log_std = np.split(self._outputs(observations, policy_index), 2, 1)
        if self.action_selection == "sample":
            actions = actions + np.exp(log_std) * normal(noise.reshape(len(noise), -1))
        boxed = actions.reshape(len(noise), *self.space.shape)
        return np.asarray(boxed.clip(self.space.low, self.space.high), np.float32)

    def _outputs(self, observations: Array, policy_index: Array) -> Array:
        """Probabilities `(B, A)`, or means and logarithms of standard deviations `(B, 2A)`."""
        if self.acts_together and len(np.unique(policy_index)) > 1:
            return self._together(observations, policy_index)
        return self._one_by_one(observations, policy_index)

    @torch.inference_mode()
    def _one_by_one(self, observations: Array, policy_index: Array) -> Array:
        outputs = self._empty(len(observations))
        for policy in np.unique(policy_index):
            rows = policy_index == policy
            batch = observations if rows.all() else observations[rows]
            found = self.networks[policy](torch.from_numpy(batch).to(self.device))
            outputs[rows] = self._finished(found)
        return outputs

    def _empty(self, rows: int) -> Array:
        parts = 1 if self.spec.head == "categorical" else 2
        return np.empty((rows, parts * self.spec.num_outputs))

    def _finished(self, outputs: torch.Tensor) -> Array:
        outputs = outputs.double()
        if self.temperature != 1.0 and self.spec.head == "categorical":
            outputs = outputs / self.temperature
        found = outputs.softmax(-1) if self.spec.head == "categorical" else outputs
        return np.asarray(found.cpu().numpy())

    @torch.no_grad()
    def _together(self, observations: Array, policy_index: Array) -> Array:
        """All policies in one pass, each with its share of the observations, padded to one size."""
        policies, counts = np.unique(policy_index, return_counts=True)
        order = np.argsort(policy_index, kind="stable")
        place = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
        share = np.repeat(np.arange(len(policies)), counts)
        padded = np.zeros(
            (len(policies), counts.max(), *observations.shape[1:]), observations.dtype
        )
        padded[share, place] = observations[order]
        weights = {name: w[policies] for name, w in self._stacked.items()}
        found = vmap(lambda p, x: functional_call(self._shape, p, (x,)))(
            weights, torch.from_numpy(padded).to(self.device)
        )
        outputs = self._empty(len(observations))
        outputs[order] = self._finished(found)[share, place]
        return outputs

    @cached_property
    def _stacked(self) -> dict[str, torch.Tensor]:
        states = [network.state_dict() for network in self.networks]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    @cached_property
    def _shape(self) -> PolicyNetwork:
        """A network whose weights `_together` replaces; vmap knows no memory formats."""
        network = copy.deepcopy(self.networks[0])
        network.channels_last = False
        return network

    def save(self, folder: Path) -> None:
        """Write weights and configuration to `policies.safetensors` and `policies.json`."""
        arrays = {
            f"{i}.{name}": weight.cpu().numpy()
            for i, network in enumerate(self.networks)
            for name, weight in network.state_dict().items()
        }
        network = config_json(self.spec)
        if isinstance(self.space, Box):
            arrays |= {"action_low": self.space.low, "action_high": self.space.high}
        else:
            del network["head"]
        write_arrays(folder / "policies.safetensors", arrays)
        write_json(
            folder / "policies.json",
            {
                "network": network,
                "seeds": list(self.seeds),
                "action_selection": self.action_selection,
                **({"temperature": self.temperature} if self.temperature != 1.0 else {}),
            },
        )


def load_policies(folder: Path, device: str = "cpu") -> NetworkPolicies:
    """Read what `NetworkPolicies.save` wrote.

    Raises:
        CorruptArtifact: a file is missing, truncated or of another shape.
    """
    config = read_json(folder / "policies.json")
    seeds = config.get("seeds") if isinstance(config, dict) else None
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
        raise CorruptArtifact(f"{folder} does not hold policies: it names no seeds")
    arrays = read_arrays(folder / "policies.safetensors")
    try:
        spec = spec_from_json(config["network"])
        networks = [network_from_arrays(spec, arrays, f"{i}.") for i in range(len(config["seeds"]))]
        is_box = spec.head == "gaussian"
        return NetworkPolicies(
            networks,
            config["seeds"],
            device=device,
            action_selection=config["action_selection"],
            temperature=float(config.get("temperature", 1.0)),
            space=Box(arrays["action_low"], arrays["action_high"]) if is_box else None,
        )
    except (
        AttributeError, KeyError, OverflowError, TypeError, ValueError, RuntimeError,
        RLCondenseError,
    ) as error:  # fmt: skip
        why = one_line(str(error))[:MOST_SAID]
        raise CorruptArtifact(f"{folder} does not hold policies: {why}") from error


def network_from_arrays(
    spec: NetworkSpec, arrays: Mapping[str, Array], prefix: str
) -> PolicyNetwork:
    """A policy network with the weights found under `prefix`, widened to float32.

    Raises:
        KeyError: weights are missing.
        RuntimeError: they are of other shapes.
    """
    with torch.device("meta"):  # no memory is taken for what the arrays do not hold
        shapes = {name: tuple(w.shape) for name, w in PolicyNetwork(spec).state_dict().items()}
    for name, shape in shapes.items():
        if (given := arrays[prefix + name].shape) != shape:
            raise RuntimeError(f"weights {name!r} are of shape {given}, the network's of {shape}")
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be replaced
        network = PolicyNetwork(spec)
    network.load_state_dict(
        {
            name: torch.from_numpy(arrays[prefix + name].astype(np.float32))
            for name in network.state_dict()
        }
    )
    return network


def spec_from_json(value: Mapping[str, Any]) -> NetworkSpec:
    """The spec of its fields as plain values."""
    return NetworkSpec(**{**value, "observation_shape": tuple(value["observation_shape"])})


class FixedPolicies(PolicyBatch):
    """Policies blind to the observation: each draws from one distribution over actions.

    Args:
        probs: `(A,)` the distribution, uniform for the random policy, the dataset's action
            frequencies for the marginal one.
        seeds: the learner seeds they stand beside.
    """

    def __init__(self, probs: Array, seeds: Sequence[int]) -> None:
        self.probs = np.asarray(probs, np.float64) / np.sum(probs)
        self.seeds = tuple(seeds)
        self.num_policies = len(self.seeds)

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        return np.broadcast_to(self.probs, (len(observations), len(self.probs)))


class UniformPolicies(PolicyBatch):
    """Policies that draw uniformly from a box of actions.

    Args:
        space: the box.
        seeds: the learner seeds they stand beside.

    Raises:
        BadConfig: the box is unbounded.
    """

    def __init__(self, space: Box, seeds: Sequence[int]) -> None:
        if not space.is_bounded():
            raise BadConfig("a random policy over continuous actions needs a bounded space")
        self.space, self.seeds, self.num_policies = space, tuple(seeds), len(seeds)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        low, high = self.space.low, self.space.high
        return np.asarray(low + noise * (high - low), np.float32)


class GaussianPolicies(PolicyBatch):
    """Policies that draw from one normal distribution of actions, whatever they see.

    Args:
        actions: `(N, A)`, whose mean and covariance they have.
        space: the box that actions are clipped to.
        seeds: the learner seeds they stand beside.
    """

    def __init__(self, actions: Array, space: Box, seeds: Sequence[int]) -> None:
        flat = actions.reshape(len(actions), -1).astype(np.float64)
        self.mean = flat.mean(0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False, bias=True)))
        self.root = vectors * np.sqrt(values.clip(min=0))
        self.space, self.seeds, self.num_policies = space, tuple(seeds), len(seeds)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        drawn = normal(noise.reshape(len(noise), -1))
        actions = (self.mean + drawn @ self.root.T).reshape(len(noise), *self.space.shape)
        return np.asarray(actions.clip(self.space.low, self.space.high), np.float32)


def random_policies(space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """The uniform random policy."""
    check_action_space(space, "the task")
    if isinstance(space, Box):
        return UniformPolicies(space, seeds)
    return FixedPolicies(np.ones(num_actions_of(space)), seeds)


def marginal_policies(actions: Array, space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """The policy that knows only how often each action occurs in `actions` `(N,)`.

    Of continuous actions `(N, A)` it knows mean and covariance.
    """
    if isinstance(space, Box):
        return GaussianPolicies(actions, space, seeds)
    return FixedPolicies(np.bincount(actions, minlength=num_actions_of(space)), seeds)


def constant_policies(actions: Array, space: Space[Any], seeds: Sequence[int]) -> PolicyBatch:
    """The policy that always takes the action that is most frequent in `actions` `(N,)`.

    Of continuous actions `(N, A)` it takes the mean. A policy that acts greedily is such a one if
    it does not look at the observation.
    """
    policies = marginal_policies(actions, space, seeds)
    if isinstance(space, Box):
        policies = GaussianPolicies(np.stack([actions.mean(0)] * 2), space, seeds)
    policies.action_selection = "greedy"
    return policies


def head_of(space: Space[Any]) -> tuple[int, str]:
    """The outputs and the head of a policy network over a space of actions.

    Raises:
        BadConfig: the space is neither discrete nor a box.
    """
    check_action_space(space, "the task")
    if isinstance(space, Box):
        return math.prod(space.shape), "gaussian"
    return num_actions_of(space), "categorical"


def num_actions_of(space: Space[Any]) -> int:
    """How many discrete actions a space has.

    Raises:
        BadConfig: it is neither discrete, from 0 on, nor, elsewhere, a box.
    """
    check_action_space(space, "the task")
    if not isinstance(space, Discrete):
        raise BadConfig(f"action space {space} is no discrete one")
    return int(space.n)
