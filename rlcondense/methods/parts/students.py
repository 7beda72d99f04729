"""Students of a synthesiser: their networks, and settings that follow a learner's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlcondense import cloning
from rlcondense.config import LATER, check_choice
from rlcondense.errors import BadConfig
from rlcondense.methods.parts.synthetic import SyntheticConfig
from rlcondense.networks import INITS, INPUTS, NetworkSpec, PolicyNetwork, given_options
from rlcondense.tasks.base import Task

OPTIMISERS = ("sgd", "adam")
LOSSES = ("cross-entropy", "softmax-mse", "softmax-mae")
OF_NETWORK = ("network", "width", "depth", "activation", "input", "init")


@dataclass(frozen=True)
class NetworkConfig(SyntheticConfig):
    """Settings of a synthesiser's network, beside its name.

    Attributes:
        width: see `rlcondense.networks.NetworkSpec`.
        depth: likewise.
        activation: likewise.
        input: likewise.
        init: initialisation of the weights; see `rlcondense.networks.PolicyNetwork`.
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
    task: Task, config: Any, num_outputs: int, head: str = "categorical"
) -> NetworkSpec:
    """Return the network that a config names, for a task's observations.

    Args:
        task: task with the observations.
        config: a `NetworkConfig` with a `network`.
        num_outputs: width of the last layer.
        head: `categorical` or `gaussian`.
    """
    shape = tuple(task.observation_space.shape or ())
    return NetworkSpec(
        config.network, shape, num_outputs, config.input, **given_options(config), head=head
    )


def make_optimiser(name: str, network: PolicyNetwork, rate: float) -> torch.optim.Optimizer:
    """Make the optimiser of a student, one of `OPTIMISERS`."""
    return cloning.OPTIMISERS[name](network.parameters(), lr=rate)


def check_learner(learner: Mapping[str, Any], needs: Mapping[str, Any], owner: str) -> None:
    """Raise `BadConfig` unless a learner has some settings, and inputs that are scaled."""
    for name, value in needs.items():
        if learner.get(name) != value:
            raise BadConfig(
                f"student=learner of {owner} needs learner.{name}={str(value).lower()}, "
                f"not {learner.get(name)}"
            )
    if learner.get("input", "scaled") != "scaled":
        raise BadConfig(f"student=learner of {owner} needs learner.input=scaled")


def network_like(learner: Mapping[str, Any], more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a method's settings for the network that a learner trains.

    Args:
        learner: the learner's settings.
        more: further settings of the network and its inputs that the method has, beside
            `OF_NETWORK`.

    Raises:
        BadConfig: the learner takes initial weights or standardisation from the data, and the
            method does not.
    """
    settings = {name: learner[name] for name in (*OF_NETWORK, *more) if name in learner}
    if learner.get("standardise") and "standardise" not in settings:
        raise BadConfig("student=learner cannot follow learner.standardise=true")
    is_other = learner.get("log_std", "fast") != "fast" and "log_std" not in settings
    if is_other and learner.get("head") == "gaussian":
        raise BadConfig(f"student=learner cannot follow learner.log_std={learner['log_std']}")
    if settings.get("init") == "dataset":
        raise BadConfig(
            "student=learner cannot follow learner.init=dataset: the data are not made yet"
        )
    return settings


def updates_like(learner: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return a method's settings for the updates that a learner makes.

    Args:
        learner: the learner's settings.
        **names: the method's names of `updates`, `batch_size`, `optimiser` and `learning_rate`.

    Raises:
        BadConfig: the method has no such optimiser.
    """
    optimiser = learner.get("optimiser", "adam")
    if "optimiser" in names and optimiser not in OPTIMISERS:
        raise BadConfig(f"student=learner follows {' and '.join(OPTIMISERS)}, not {optimiser!r}")
    return {own: learner[name] for name, own in names.items() if name in learner}


def loss_like(learner: Mapping[str, Any], more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a method's loss for a learner's; the learner's `nll` is the method's cross-entropy.

    Args:
        learner: the learner's settings.
        more: further losses of the method, beside `LOSSES`.

    Raises:
        BadConfig: the method has no such loss.
    """
    loss = learner.get("loss", "cross-entropy").replace("nll", "cross-entropy")
    if loss not in (*LOSSES, *more):
        raise BadConfig(f"student=learner follows {', '.join((*LOSSES, *more))}, not {loss!r}")
    return {"loss": loss}
