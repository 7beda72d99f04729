"""Policies that act: batches of networks of one shape, and the two that need no learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, read_json, write_arrays, write_json
from rlcondense.networks import NetworkSpec, PolicyNetwork

Array = npt.NDArray[Any]
ACTION_SELECTIONS = ("sample", "greedy")


class PolicyBatch(ABC):
    """S policies of one shape over discrete actions.

    Attributes:
        num_policies: S.
        seeds: the learner seed of each.
        action_selection: `sample` or `greedy`.
    """

    num_policies: int
    seeds: tuple[int, ...]
    action_selection: str = "sample"

    @abstractmethod
    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        """The distribution over actions `(B, A)` of each observation under its policy."""

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        """Choose actions.

        Args:
            observations: `(B, *observation)`.
            policy_index: `(B,)`, which policy acts on which observation.
            noise: `(B,)` uniform in [0, 1), which alone decides among likely actions.

        Returns:
            `(B,)` int64 actions.
        """
        probs = self.action_probs(observations, policy_index)
        if self.action_selection == "greedy":
            return np.asarray(probs.argmax(1))
        return sample_actions(probs, noise)


def sample_actions(probs: Array, noise: Array) -> npt.NDArray[np.int64]:
    """Draw `(B,)` actions from `(B, A)` probabilities by inverting their cumulative sums."""
    cumulative = probs.astype(np.float64).cumsum(1)
    below = noise[:, None] * cumulative[:, -1:] >= cumulative
    return np.asarray(below.sum(1).clip(max=probs.shape[1] - 1))


def noise_stream(
    evaluation_seed: int, learner_seed: int, num_envs: int
) -> Iterator[npt.NDArray[np.float64]]:
    """Uniform noise `(E,)` for each step in turn, from a counter-based generator.

    It is a function of the two seeds, the environment and the step, so that an action never
    depends on what else was evaluated beside it.
    """
    key = np.array([evaluation_seed, learner_seed], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random(num_envs)


class NetworkPolicies(PolicyBatch):
    """Policies that are networks.

    Args:
        networks: S networks of one spec.
        seeds: the learner seed of each.
        device: where they compute.
        action_selection: `sample` or `greedy`.
    """

    def __init__(
        self,
        networks: Sequence[PolicyNetwork],
        seeds: Sequence[int],
        *,
        device: str = "cpu",
        action_selection: str = "sample",
    ) -> None:
        if action_selection not in ACTION_SELECTIONS:
            raise BadConfig(
                f"action selection must be one of {', '.join(ACTION_SELECTIONS)}, "
                f"not {action_selection!r}"
            )
        self.networks = [network.to(device).eval() for network in networks]
        self.spec = networks[0].spec
        self.seeds = tuple(seeds)
        self.num_policies = len(networks)
        self.device = torch.device(device)
        self.action_selection = action_selection

    @torch.inference_mode()
    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        probs = np.empty((len(observations), self.spec.num_outputs))
        for policy in np.unique(policy_index):
            rows = policy_index == policy
            batch = observations if rows.all() else observations[rows]
            logits = self.networks[policy](torch.from_numpy(batch).to(self.device))
            probs[rows] = logits.double().softmax(1).cpu().numpy()
        return probs

    def save(self, folder: Path) -> None:
        """Write weights and configuration to `policies.safetensors` and `policies.json`."""
        arrays = {
            f"{i}.{name}": weight.cpu().numpy()
            for i, network in enumerate(self.networks)
            for name, weight in network.state_dict().items()
        }
        write_arrays(folder / "policies.safetensors", arrays)
        write_json(
            folder / "policies.json",
            {
                "network": _spec_json(self.spec),
                "seeds": list(self.seeds),
                "action_selection": self.action_selection,
            },
        )


def load_policies(folder: Path, device: str = "cpu") -> NetworkPolicies:
    """Read what `NetworkPolicies.save` wrote.

    Raises:
        CorruptArtifact: a file is missing, truncated or of another shape.
    """
    config = read_json(folder / "policies.json")
    if not (isinstance(config, dict) and config.get("seeds")):
        raise CorruptArtifact(f"{folder} does not hold policies: it names no seeds")
    arrays = read_arrays(folder / "policies.safetensors")
    try:
        spec = _spec_from_json(config["network"])
        networks = [network_from_arrays(spec, arrays, f"{i}.") for i in range(len(config["seeds"]))]
        return NetworkPolicies(
            networks,
            config["seeds"],
            device=device,
            action_selection=config["action_selection"],
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise CorruptArtifact(f"{folder} does not hold policies: {error}") from error


def network_from_arrays(
    spec: NetworkSpec, arrays: Mapping[str, Array], prefix: str
) -> PolicyNetwork:
    """A policy network with the weights found under `prefix`, widened to float32."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be replaced
        network = PolicyNetwork(spec)
    network.load_state_dict(
        {
            name: torch.from_numpy(arrays[prefix + name].astype(np.float32))
            for name in network.state_dict()
        }
    )
    return network


def _spec_json(spec: NetworkSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "observation_shape": list(spec.observation_shape),
        "num_outputs": spec.num_outputs,
        "input": spec.input,
    }


def _spec_from_json(value: dict[str, Any]) -> NetworkSpec:
    return NetworkSpec(
        value["name"], tuple(value["observation_shape"]), value["num_outputs"], value["input"]
    )


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


def random_policies(num_actions: int, seeds: Sequence[int]) -> FixedPolicies:
    """The uniform random policy."""
    return FixedPolicies(np.ones(num_actions), seeds)


def marginal_policies(actions: Array, num_actions: int, seeds: Sequence[int]) -> FixedPolicies:
    """The policy that knows only how often each action occurs in `actions` `(N,)`."""
    return FixedPolicies(np.bincount(actions, minlength=num_actions), seeds)
