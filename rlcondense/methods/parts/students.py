"""Students of a synthesiser: their networks, and settings that follow a learner's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlcondense import cloning
from rlcondense.config import LATER, check_choice
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.synthetic import SyntheticConfig
from rlcondense.networks import INITS, INPUTS, NetworkSpec, PolicyNetwork, given_options

OPTIMISERS = ("sgd", "adam")
LOSSES = ("cross-entropy", "softmax-mse", "softmax-mae")
OF_NETWORK = ("network", "width", "depth", "activation", "input", "init")


@dataclass(frozen=True)
class NetworkConfig(SyntheticConfig):
    """The network that synthetic data are made on, beside its name.

    Attributes:
        width: see `rlcondense.networks.NetworkSpec`.
        depth: likewise.
        activation: likewise.
        input: likewise.
        init: of the first weights, see `rlcondense.networks.PolicyNetwork`.
    """

    width: int | None = field(default=None, metadata=LATER)
    depth: int | None = field(default=None, metadata=LATER)
    activation: str | None = field(default=None, metadata=LATER)
    input: str = field(default="scaled", metadata=LATER)
    init: str = field(default="random", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "input", INPUTS)
        check_choice(self, "init", INITS)


def network_spec(
    problem: Problem, config: Any, num_outputs: int, head: str = "categorical"
) -> NetworkSpec:
    """The network that a config names for a problem's observations.

    Args:
        problem: whose observations it takes.
        config: a `NetworkConfig` with a `network`.
        num_outputs: width of the last layer.
        head: `categorical` or `gaussian`.
    """
    shape = problem.dataset.observations.shape[1:]
    return NetworkSpec(
        config.network, shape, num_outputs, config.input, **given_options(config), head=head
    )


def fresh_from(spec: NetworkSpec, device: str, seed: int, init: str = "random") -> PolicyNetwork:
    """A network with initial weights of a seed, torch's global state left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fresh(spec, device, init)


def fresh(spec: NetworkSpec, device: str, init: str = "random") -> PolicyNetwork:
    """A network with initial weights from torch's global state."""
    return PolicyNetwork(spec, init).to(device)


def make_optimiser(name: str, network: PolicyNetwork, rate: float) -> torch.optim.Optimizer:
    """The optimiser of a student, one of `OPTIMISERS`."""
    return cloning.OPTIMISERS[name](network.parameters(), lr=rate)


def network_like(learner: Mapping[str, Any], more: tuple[str, ...] = ()) -> dict[str, Any]:
    """A method's settings for the network that a learner trains.

    Args:
        learner: the learner's settings.
        more: settings of the network and what it sees that the method has beside `OF_NETWORK`.

    Raises:
        BadConfig: its students begin with weights that the data bring, or see standardised
            observations, and the method's do not.
    """
    settings = {name: learner[name] for name in (*OF_NETWORK, *more) if name in learner}
    if learner.get("standardise") and "standardise" not in settings:
        raise BadConfig("student=learner cannot follow learner.standardise=true")
    if settings.get("init") == "dataset":
        raise BadConfig("student=learner cannot begin with the weights of data that are not made")
    return settings


def updates_like(learner: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """A method's settings for the updates that a learner makes.

    Args:
        learner: the learner's settings.
        **names: what the method calls the learner's `updates`, `batch_size`, `optimiser` and
            `learning_rate`.

    Raises:
        BadConfig: the method has no such optimiser.
    """
    optimiser = learner.get("optimiser", "adam")
    if "optimiser" in names and optimiser not in OPTIMISERS:
        raise BadConfig(f"student=learner follows {' and '.join(OPTIMISERS)}, not {optimiser!r}")
    return {own: learner[name] for name, own in names.items() if name in learner}


def loss_like(learner: Mapping[str, Any], more: tuple[str, ...] = ()) -> dict[str, Any]:
    """A method's loss for the one that a learner minimises; `nll` is a cross-entropy there.

    Args:
        learner: the learner's settings.
        more: losses that the method has beside `LOSSES`.

    Raises:
        BadConfig: the method has no such loss.
    """
    loss = learner.get("loss", "cross-entropy").replace("nll", "cross-entropy")
    if loss not in (*LOSSES, *more):
        raise BadConfig(f"student=learner follows {', '.join((*LOSSES, *more))}, not {loss!r}")
    return {"loss": loss}
