"""Policies computed by neural networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from torch.func import functional_call, vmap

from rlcondense.config import config_json
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import read_arrays, read_json, write_arrays, write_json
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies.base import (
    ACTION_SELECTIONS,
    MOST_SAID,
    PolicyBatch,
    normal,
    num_actions_of,
)
from rlcondense.tasks.base import Task
from rlcondense.text import one_line
from rlcondense.types import Array
from rlcondense.validation import check_action_space

WEIGHTS, SPEC = "policies.safetensors", "policies.json"  # the files of saved policies


class NetworkPolicies(PolicyBatch):
    """Batch of policies that are neural networks.

    Args:
        networks: S networks of one spec.
        seeds: the learner seed of each.
        device: device of the computation.
        action_selection: `sample` or `greedy`.
        space: action space; for Gaussian heads, the box that actions are clipped to.
        temperature: divisor of the logits of discrete actions.

    Attributes:
        training: curve of the loss on held-back rows, for policies that trained until it
            stopped falling.
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
        if not 0 < temperature < math.inf:
            raise BadConfig(f"the temperature of policies must be above 0, not {temperature}")
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

    def on(self, device: str) -> NetworkPolicies:
        """Return the same policies on a device."""
        moved = NetworkPolicies(
            [copy.deepcopy(network) for network in self.networks],
            self.seeds,
            device=device,
            action_selection=self.action_selection,
            space=self.space,
            temperature=self.temperature,
        )
        moved.training = self.training
        return moved

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        if self.spec.head != "categorical":
            return super().action_probs(observations, policy_index)
        return self._outputs(observations, policy_index)

    def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        if self.spec.head == "categorical":
            return super().act(observations, policy_index, noise)
        return self.boxed(self.draw(observations, policy_index, noise))

    def draw(self, observations: Array, policy_index: Array, noise: Array) -> Array:
        """Choose actions as `act` does, before those of Gaussian policies are clipped."""
        if self.spec.head == "categorical":
            return super().act(observations, policy_index, noise)
        actions, log_std = np.split(self._outputs(observations, policy_index), 2, 1)
        if self.action_selection == "sample":
            actions = actions + np.exp(log_std) * normal(noise.reshape(len(noise), -1))
        return np.asarray(actions)

    def boxed(self, actions: Array) -> Array:
        """Clip actions of `draw` to the action space."""
        if not isinstance(self.space, Box):
            return actions
        shaped = actions.reshape(len(actions), *self.space.shape)
        return np.asarray(shaped.clip(self.space.low, self.space.high), np.float32)

    def _outputs(self, observations: Array, policy_index: Array) -> Array:
        """Return probabilities `(B, A)`, or means and log standard deviations `(B, 2A)`."""
        observations, policy_index = np.asarray(observations), np.asarray(policy_index)
        if observations.dtype == np.float64:
            observations = observations.astype(np.float32)
        elif not observations.flags.writeable:  # which torch warns of
            observations = observations.copy()
        if self.acts_together and len(np.unique(policy_index)) > 1:
            return self._together(observations, policy_index)
        return self._one_by_one(observations, policy_index)

    @torch.inference_mode()
    def _one_by_one(self, observations: Array, policy_index: Array) -> Array:
        outputs = self._empty(len(observations))
        for policy in np.unique(policy_index):
            rows = policy_index == policy
            batch = observations if rows.all() else observations[rows]
            raw = self.networks[policy](torch.from_numpy(batch).to(self.device))
            outputs[rows] = self._finished(raw)
        return outputs

    def _empty(self, rows: int) -> Array:
        parts = 1 if self.spec.head == "categorical" else 2
        return np.empty((rows, parts * self.spec.num_outputs))

    def _finished(self, outputs: torch.Tensor) -> Array:
        outputs = outputs.double()
        if self.temperature != 1.0 and self.spec.head == "categorical":
            outputs = outputs / self.temperature
        values = outputs.softmax(-1) if self.spec.head == "categorical" else outputs
        return np.asarray(values.cpu().numpy())

    @torch.no_grad()
    def _together(self, observations: Array, policy_index: Array) -> Array:
        """Run all policies in one pass; each one's observations are padded to a common size."""
        policies, counts = np.unique(policy_index, return_counts=True)
        order = np.argsort(policy_index, kind="stable")
        place = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
        share = np.repeat(np.arange(len(policies)), counts)
        padded = np.zeros(
            (len(policies), counts.max(), *observations.shape[1:]), observations.dtype
        )
        padded[share, place] = observations[order]
        weights = {name: w[policies] for name, w in self._stacked.items()}
        stacked = vmap(lambda p, x: functional_call(self._shape, p, (x,)))(
            weights, torch.from_numpy(padded).to(self.device)
        )
        outputs = self._empty(len(observations))
        outputs[order] = self._finished(stacked)[share, place]
        return outputs

    @cached_property
    def _stacked(self) -> dict[str, torch.Tensor]:
        states = [network.state_dict() for network in self.networks]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    @cached_property
    def _shape(self) -> PolicyNetwork:
        """Network whose weights `_together` replaces; vmap does not support memory formats."""
        network = copy.deepcopy(self.networks[0])
        network.channels_last = False
        return network

    def save(self, folder: str | Path) -> None:
        """Write weights and configuration to `policies.safetensors` and `policies.json`."""
        folder = Path(folder)
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
        write_arrays(folder / WEIGHTS, arrays)
        write_json(
            folder / SPEC,
            {
                "network": network,
                "seeds": list(self.seeds),
                "action_selection": self.action_selection,
                **({"temperature": self.temperature} if self.temperature != 1.0 else {}),
            },
        )


def load_policies(folder: str | Path, device: str = "cpu") -> NetworkPolicies:
    """Read policies that `NetworkPolicies.save` wrote.

    Raises:
        CorruptArtifact: a file is missing, truncated or of another shape.
    """
    folder = Path(folder)
    config = read_json(folder / SPEC)
    seeds = config.get("seeds") if isinstance(config, dict) else None
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
        raise CorruptArtifact(f"{folder} does not hold policies: it names no seeds")
    if len(set(seeds)) < len(seeds):
        raise CorruptArtifact(f"{folder} holds two policies of one seed, which would be one twice")
    arrays = read_arrays(folder / WEIGHTS)
    try:
        spec = spec_from_json(config["network"])
        networks = [network_from_arrays(spec, arrays, f"{i}.") for i in range(len(config["seeds"]))]
        space = None
        if spec.head == "gaussian":
            space = Box(arrays["action_low"], arrays["action_high"])
            if math.prod(space.shape) != spec.num_outputs:
                raise ValueError(f"the bounds of actions {space.shape} are not {spec.num_outputs}")
        return NetworkPolicies(
            networks,
            config["seeds"],
            device=device,
            action_selection=config["action_selection"],
            temperature=float(config.get("temperature", 1.0)),
            space=space,
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
    """Build a policy network from the weights under `prefix`, widened to float32.

    Raises:
        KeyError: weights are missing.
        RuntimeError: weights have other shapes.
    """
    with torch.device("meta"):  # allocates no memory for weights that the arrays lack
        shapes = {name: tuple(w.shape) for name, w in PolicyNetwork(spec).state_dict().items()}
    for name, shape in shapes.items():
        if (stored := arrays[prefix + name].shape) != shape:
            raise RuntimeError(f"weights {name!r} are of shape {stored}, the network's of {shape}")
    with torch.random.fork_rng(devices=[]):  # initial weights are replaced below
        network = PolicyNetwork(spec)
    network.load_state_dict(
        {
            name: torch.from_numpy(arrays[prefix + name].astype(np.float32))
            for name in network.state_dict()
        }
    )
    return network


def check_fits(spec: NetworkSpec, task: Task, owner: str) -> None:
    """Refuse policies that cannot play a task.

    Args:
        spec: spec of their networks.
        task: the task to play.
        owner: owner of the policies, for messages.

    Raises:
        BadConfig: their observations or actions do not fit the task's.
    """
    shape, (size, head) = task.observation_space.shape, head_of(task.action_space)
    if (spec.observation_shape, spec.num_outputs, spec.head) != (shape, size, head):
        raise BadConfig(
            f"{owner} holds {spec.head} policies from {spec.observation_shape} to "
            f"{spec.num_outputs} actions, task {task.id!r} needs {head} ones from {shape} to {size}"
        )


def spec_from_json(value: Mapping[str, Any]) -> NetworkSpec:
    """Make a spec from its fields as plain values."""
    return NetworkSpec(**{**value, "observation_shape": tuple(value["observation_shape"])})


def head_of(space: Space[Any]) -> tuple[int, str]:
    """Return the number of outputs and the head of a policy network for an action space.

    Raises:
        BadConfig: the space is neither discrete nor a box.
    """
    check_action_space(space, "the task")
    if isinstance(space, Box):
        return math.prod(space.shape), "gaussian"
    return num_actions_of(space), "categorical"
