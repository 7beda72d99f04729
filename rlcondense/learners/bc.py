"""Behavioural cloning (Pomerleau, 1989): supervised learning of the action from the observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from rlcondense.cloning import LOSSES, clip_each, gaussian_losses, row_losses, shuffled_batches
from rlcondense.config import LATER, check_choice, check_positive
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.learners.base import Learner
from rlcondense.methods.condensed import CondensedDataset, Initialisation
from rlcondense.networks import INPUTS, NetworkSpec, PolicyNetwork, check_network, given_options
from rlcondense.policies import (
    ACTION_SELECTIONS,
    NetworkPolicies,
    head_of,
    network_from_arrays,
    spec_from_json,
)
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import Task

Losses = Callable[[Tensor, Tensor], Tensor]
SHIFT = 4  # pixels
AUGMENTATIONS = ("none", "random-crop")
INITS = ("random", "dataset")
OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class BCConfig:
    """Settings.

    Attributes:
        network: one of `networks.ENCODERS`.
        width: of `impala` (so many times its channels) or `mlp` (units a layer).
        depth: hidden layers of `mlp`.
        activation: of `mlp`, `relu` or `tanh`.
        loss: `cross-entropy` with the labels the data has, `softmax-mse` (the mean squared error
            of the softmax, Light et al., 2024), or `nll` (of the action taken, whatever the
            labels). Of continuous actions it is the negative log-likelihood under a Gaussian.
        input: `scaled` divides pixels by 255, `raw` does not.
        updates: gradient steps.
        batch_size: rows of each step, None for all rows. Small data is gone through again and
            again, so that every method gets the same compute.
        optimiser: `adam`, `adamw` or `sgd`.
        learning_rate: its step size.
        augmentation: `none`, or `random-crop`: each frame of a batch is shifted by up to four
            pixels each way, its edges repeated (Yarats et al., 2021, arXiv:2004.13649).
        action_selection: how the policies act, `sample` or `greedy`.
        gradient_clip: the longest gradient of a student's update, None for any length.
        init: `random` draws the first weights from the student's seed; `dataset` takes those that
            the data were made for, where they bring some. Students then differ by their batches
            alone, and are all the same where each batch is all the data and is not augmented:
            learner seeds are then no replicates, only condensation seeds are.
    """

    network: str = "nature"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    loss: str = "cross-entropy"
    input: str = "scaled"
    updates: int = 800
    batch_size: int | None = 64
    optimiser: str = "adam"
    learning_rate: float = 5e-4
    augmentation: str = "none"
    action_selection: str = "sample"
    gradient_clip: float | None = field(default=None, metadata=LATER)
    init: str = field(default="random", metadata=LATER)

    def __post_init__(self) -> None:
        check_positive(self, "updates", "batch_size", "learning_rate", "gradient_clip")
        check_choice(self, "init", INITS)
        check_network(self.network, given_options(self))
        check_choice(self, "loss", LOSSES)
        check_choice(self, "input", INPUTS)
        check_choice(self, "optimiser", tuple(OPTIMISERS))
        check_choice(self, "augmentation", AUGMENTATIONS)
        check_choice(self, "action_selection", ACTION_SELECTIONS)


class BehaviouralCloning(Learner[BCConfig]):
    """Trains each policy on minibatches of shuffled passes over the rows.

    On a GPU, students are trained side by side, one step for all; on a CPU one after another, which
    is faster there. A student's batches depend on its own seed alone either way.
    """

    Config = BCConfig
    action_kinds = ("discrete", "continuous")
    id = "bc"

    def fit(
        self,
        data: CondensedDataset,
        *,
        task: Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> NetworkPolicies:
        c = self.config
        shape = tuple(data.observations.shape[1:])
        if c.augmentation != "none" and len(shape) != 3:
            raise BadConfig(f"augmentation {c.augmentation!r} is for frames, not for {shape}")
        spec = self._spec(shape, task)
        rows = _Rows(data, self._targets(data, spec), device)
        start = data.initialisation if c.init == "dataset" else None
        networks: list[PolicyNetwork] = []
        for group in [list(seeds)] if device != "cpu" else [[seed] for seed in seeds]:

            def report(updates: int, loss: float, first: int = len(networks)) -> None:
                done = first * c.updates + updates
                progress("train", done, len(seeds) * c.updates, f"loss {loss:.3f}")

            networks += _train(rows, spec, c, group, device, report, start)
        for seed, network in zip(seeds, networks, strict=True):
            if not all(p.isfinite().all() for p in network.parameters()):
                raise RLCondenseError(
                    f"learner {self.id!r} diverged with seed {seed} (try a smaller learning_rate)"
                )
        return NetworkPolicies(
            networks,
            seeds,
            device=device,
            action_selection=c.action_selection,
            space=task.action_space,
        )

    def _spec(self, shape: tuple[int, ...], task: Task) -> NetworkSpec:
        c, (size, head) = self.config, head_of(task.action_space)
        if head == "gaussian" and c.loss == "softmax-mse":
            raise BadConfig(f"loss {c.loss!r} is for discrete actions, not for {task.id!r}")
        return NetworkSpec(c.network, shape, size, c.input, **given_options(c), head=head)

    def _targets(self, data: CondensedDataset, spec: NetworkSpec) -> npt.NDArray[np.float32]:
        if spec.head == "gaussian":
            return np.array(data.actions, np.float32).reshape(len(data), -1)
        if data.label_kind == "soft" and self.config.loss != "nll":
            return data.column("action_probs").astype(np.float32)
        return np.eye(spec.num_outputs, dtype=np.float32)[data.actions]


def initial_network(spec: NetworkSpec, seed: int, start: Initialisation | None) -> PolicyNetwork:
    """A network with the weights of `start`, or else with those that are drawn from a seed.

    Raises:
        BadConfig: `start` is of another network.
        CorruptArtifact: it is of none.
    """
    if start is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return PolicyNetwork(spec)
    try:
        if spec_from_json(start.network) == spec:
            return network_from_arrays(spec, start.weights, "")
    except (KeyError, TypeError, RuntimeError) as error:
        raise CorruptArtifact(f"the data's initialisation is of no network: {error}") from error
    raise BadConfig(
        f"the data's initialisation is of {dict(start.network)}, the learner's network is "
        f"{asdict(spec)}: set it so, or init=random"
    )


class _Rows:
    """Rows to train on; on a GPU they are sent there once."""

    def __init__(
        self, data: CondensedDataset, targets: npt.NDArray[np.float32], device: str
    ) -> None:
        self._observations = data.observations
        self._targets = torch.from_numpy(targets).to(device)
        self._weights = torch.from_numpy(data.weights / data.weights.mean()).to(device)
        self._on_device = None if device == "cpu" else torch.tensor(data.observations).to(device)
        self.size = len(data)

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Observations, targets and weights of rows, whatever the shape of `indices`."""
        where = torch.from_numpy(indices).to(self._targets.device)
        if self._on_device is None:
            observations = torch.from_numpy(np.asarray(self._observations[indices]))
        else:
            observations = self._on_device[where]
        return observations, self._targets[where], self._weights[where]


def _train(
    rows: _Rows,
    spec: NetworkSpec,
    c: BCConfig,
    seeds: Sequence[int],
    device: str,
    report: Callable[[int, float], None],
    start: Initialisation | None = None,
) -> list[PolicyNetwork]:
    """Train one network for each seed, with one step for all."""
    networks = [initial_network(spec, seed, start).to(device) for seed in seeds]
    losses = gaussian_losses if spec.head == "gaussian" else partial(row_losses, name=c.loss)
    students: _Alone | _Together = (
        _Alone(networks[0], losses) if len(networks) == 1 else _Together(networks, losses)
    )
    optimiser = OPTIMISERS[c.optimiser](students.parameters, lr=c.learning_rate)  # type: ignore[call-arg]
    size = c.batch_size or rows.size
    batches = [shuffled_batches(rows.size, size, np.random.default_rng(seed)) for seed in seeds]
    shifts = [np.random.default_rng([seed, 1]) for seed in seeds]
    for update in range(1, c.updates + 1):
        indices = np.stack([next(batch) for batch in batches])
        observations, targets, weights = rows.take(indices)
        if c.augmentation == "random-crop":
            observations = _shifted(observations, shifts)
        loss = students.loss(observations, targets, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if c.gradient_clip is not None:
            students.clip(c.gradient_clip)
        optimiser.step()
        if update % 20 == 0 or update == c.updates:
            report(update * len(seeds), loss.item() / len(seeds))
    students.finish()
    return networks


class _Alone:
    """One student."""

    def __init__(self, network: PolicyNetwork, losses: Losses) -> None:
        self.network, self.losses = network, losses
        self.parameters = list(network.parameters())

    def loss(self, observations: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The mean loss of one batch `(1, B, ...)`."""
        losses = self.losses(self.network(observations[0]), targets[0])
        return (losses * weights[0]).mean()

    def clip(self, length: float) -> None:
        """Shorten the gradient."""
        torch.nn.utils.clip_grad_norm_(self.parameters, length)

    def finish(self) -> None:
        """Nothing is left to do: the network itself was trained."""


class _Together:
    """S students whose weights are stacked, so that each operation serves them all."""

    def __init__(self, networks: Sequence[PolicyNetwork], losses: Losses) -> None:
        self.networks, self.losses = networks, losses
        states = [dict(network.named_parameters()) for network in networks]
        self.stacked = {
            name: torch.stack([state[name].detach() for state in states]).requires_grad_()
            for name in states[0]
        }
        self.parameters = list(self.stacked.values())
        networks[0].channels_last = False  # vmap knows no memory formats

    def loss(self, observations: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The sum over students of the mean loss of their batches `(S, B, ...)`.

        No weight is shared, so that the gradient of the sum is each student's own.
        """

        def one(p: dict[str, Tensor], x: Tensor, y: Tensor, w: Tensor) -> Tensor:
            outputs = functional_call(self.networks[0], p, (x,))
            return (self.losses(outputs, y) * w).mean()

        total: Tensor = vmap(one)(self.stacked, observations, targets, weights).sum()
        return total

    def clip(self, length: float) -> None:
        """Shorten each student's gradient."""
        clip_each(self.parameters, length)

    def finish(self) -> None:
        """Give each network its weights."""
        self.networks[0].channels_last = len(self.networks[0].spec.observation_shape) == 3
        for i, network in enumerate(self.networks):
            network.load_state_dict({name: p[i].detach() for name, p in self.stacked.items()})


def _shifted(frames: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Frames `(S, B, C, H, W)`, each moved by up to `SHIFT` pixels, edges repeated."""
    s, b, _, height, width = frames.shape
    moves = np.stack([rng.integers(-SHIFT, SHIFT + 1, (b, 2)) for rng in rngs]).reshape(-1, 2)
    flat = frames.flatten(0, 1)
    row = torch.arange(s * b, device=frames.device)[:, None, None]
    by = torch.from_numpy(moves).to(frames.device)
    y = (by[:, :1] + torch.arange(height, device=frames.device)).clamp(0, height - 1)
    x = (by[:, 1:] + torch.arange(width, device=frames.device)).clamp(0, width - 1)
    moved = flat[row, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    return moved.reshape(s, b, *moved.shape[1:])
