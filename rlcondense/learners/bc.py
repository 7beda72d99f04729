"""Behavioural cloning (Pomerleau, 1989): supervised learning of the action from the observation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from rlcondense.cloning import (
    DISCRETE_LOSSES,
    LOSSES,
    OPTIMISERS,
    SHIFT,
    clip_each,
    descend,
    losses_of_head,
    shifted,
    shuffled_batches,
)
from rlcondense.config import LATER, check_choice, check_positive, config_json
from rlcondense.datasets.condensed import CondensedDataset, Initialisation
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.learners.base import Learner
from rlcondense.limits import plain_seeds
from rlcondense.networks import (
    INITS,
    INPUTS,
    LOG_STDS,
    NetworkSpec,
    PolicyNetwork,
    check_network,
    fold_scaling,
    fresh_from,
    given_options,
    is_of_head,
    standardised,
)
from rlcondense.policies import (
    ACTION_SELECTIONS,
    NetworkPolicies,
    head_of,
    network_from_arrays,
    spec_from_json,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.scaling import Scaling, check_vectors
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task

Losses = Callable[[Tensor, Tensor], Tensor]
# With held-back rows, training ends after CAP passes over the rows or CAP times the learner's
# updates, whichever is more. The loss is measured LOOKS times until then, and training ends earlier
# after PATIENCE measurements without a new minimum.
CAP, LOOKS, PATIENCE = 10, 40, 6
MOST_HELD_BACK = 2048  # random rows on which the loss is measured
AUGMENTATIONS = ("none", "random-crop", "views")
RATES = ("own", "dataset")


@dataclass(frozen=True)
class BCConfig:
    """Settings.

    Attributes:
        network: name of the network, one of `rlcondense.networks.ENCODERS`.
        width: width of the network: a factor of `impala`'s channels, or the units of a layer of
            `mlp`.
        depth: number of hidden layers of `mlp`.
        activation: activation of `mlp`, `relu` or `tanh`.
        loss: loss for discrete actions: `cross-entropy` with the labels; `softmax-mse` or
            `softmax-mae`, the mean squared or absolute error of the softmax (Light et al., 2024);
            `logit-mse`, the mean squared error of the logits from the data's real-valued `targets`,
            or from the labels if there are no targets (Wilhelm and Ventura, 2025); or `nll`, the
            cross-entropy with the action taken, whatever the labels. For continuous actions it is
            the negative log-likelihood under a Gaussian.
        input: `scaled` divides pixels by 255, `raw` does not.
        updates: number of gradient steps.
        batch_size: number of rows in a step, None for all rows. A small dataset is passed through
            many times, so that every method gets the same compute.
        optimiser: `adam`, `adamw` or `sgd`.
        learning_rate: step size of the optimiser.
        train: `all` the weights; or `head`: the last layer alone, if the data include initial
            weights and `init=dataset` takes them.
        rate: `own` is that step size; `dataset` takes the one that was learned with the data, if
            the data include one.
        augmentation: `none`, or `random-crop`: each frame of a batch is shifted by up to four
            pixels in each direction, with repeated edges (Yarats et al., 2021, arXiv:2004.13649);
            or `views`: each frame of a batch is itself or one of its views whose labels a teacher
            gave (`labels=taught`, `label_views=V`), with that view's label.
        action_selection: action selection of the policies, `sample` or `greedy`.
        gradient_clip: maximal gradient norm of a student's update, None for no bound.
        init: `random`, `orthogonal` and `orthogonal-all` draw the initial weights from the
            student's seed (see `rlcondense.networks.PolicyNetwork`); `dataset` takes the initial
            weights for which the data were made, if the data include some. If the data include a
            scaling too, these weights need `standardise`. Students then differ by their batches
            alone, and are equal if each batch is all the data without augmentation: only
            condensation seeds are then replicates, learner seeds are not.
        temperature: divisor of the logits when policies sample: below 1, likely actions are taken
            more often than in the labels.
        log_std: parametrisation of a Gaussian policy's log-std; see
            `rlcondense.networks.NetworkSpec`.
        standardise: whether students see vectors x as (x - mean) / deviation, by the scaling that
            the data include, or else by the moments of the training rows, where a deviation below
            1e-6 counts as 1. After training, the scaling is folded into the first layer: policies
            take unscaled observations.
    """

    network: str = "impala-patch2"
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
    temperature: float = field(default=1.0, metadata=LATER)
    log_std: str = field(default="fast", metadata=LATER)
    standardise: bool = field(default=False, metadata=LATER)
    rate: str = field(default="own", metadata=LATER)
    train: str = field(default="all", metadata=LATER)

    def __post_init__(self) -> None:
        check_positive(self, "updates", "batch_size", "learning_rate", "gradient_clip")
        check_positive(self, "temperature")
        check_choice(self, "init", (*INITS, "dataset"))
        check_network(self.network, given_options(self))
        check_choice(self, "log_std", LOG_STDS)
        check_choice(self, "loss", LOSSES)
        check_choice(self, "input", INPUTS)
        check_choice(self, "optimiser", tuple(OPTIMISERS))
        check_choice(self, "augmentation", AUGMENTATIONS)
        check_choice(self, "rate", RATES)
        check_choice(self, "train", ("all", "head"))
        check_choice(self, "action_selection", ACTION_SELECTIONS)


class BehaviouralCloning(Learner[BCConfig]):
    """Trains each policy on minibatches of shuffled passes over the rows.

    Students train side by side on a GPU, with one step for all, and one after another on a CPU,
    where that is faster. A student's batches depend on its own seed alone in both cases.

    If the data has held-back rows, each student trains on the other rows until the loss on the
    held-back ones stops falling, and keeps the weights with the lowest such loss.
    """

    Config = BCConfig
    action_kinds = ("discrete", "continuous")
    stops_by_held_back = True
    id = "bc"

    def __init__(self, config: BCConfig | None = None, *, id: str = "") -> None:
        super().__init__(config, id=id)
        if self.config.loss == "nll":  # which is of the actions taken
            self.label_kinds = tuple(kind for kind in self.label_kinds if kind != "soft")

    def fit(
        self,
        data: CondensedDataset,
        *,
        task: str | Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> NetworkPolicies:
        task, seeds = make_task(task), plain_seeds(seeds)
        c = self.config
        if c.rate == "dataset" and data.learning_rate is not None:
            c = replace(c, learning_rate=data.learning_rate)
        spec = self._checked_spec(tuple(data.observations.shape[1:]), task)
        if c.augmentation == "views":
            self._check_views(data, spec)
        scaling = self._scaling(data)
        rows = _Rows(data, self._targets(data, spec), device, scaling)
        start = self._start(data)
        networks: list[PolicyNetwork] = []
        curves: list[Curve] = []
        for group in [list(seeds)] if device != "cpu" else [[seed] for seed in seeds]:

            def report(
                done: int, most: int, loss: float, before: int = len(networks), n: int = len(group)
            ) -> None:
                each = most // n
                progress("train", before * each + done, len(seeds) * each, f"loss {loss:.3f}")

            trained, curve = _train(rows, spec, c, group, device, report, start)
            networks += trained
            curves += [curve] if curve is not None else []
        for seed, network in zip(seeds, networks, strict=True):
            fold_scaling(network, scaling)
            if not all(p.isfinite().all() for p in network.parameters()):
                raise RLCondenseError(
                    f"learner {self.id!r} diverged with seed {seed} (try a smaller learning_rate)"
                )
        policies = NetworkPolicies(
            networks,
            seeds,
            device=device,
            action_selection=c.action_selection,
            space=task.action_space,
            temperature=c.temperature,
        )
        policies.training = _training(curves, _cap(rows, c)) if curves else None
        return policies

    def check_task(self, task: Task) -> None:
        """Refuse a network, loss, augmentation or scaling that is not for a task's spaces."""
        self._checked_spec(tuple(task.observation_space.shape or ()), task)

    def _checked_spec(self, shape: tuple[int, ...], task: Task) -> NetworkSpec:
        augmentation = self.config.augmentation
        if augmentation != "none" and len(shape) != 3:
            raise BadConfig(f"augmentation {augmentation!r} is for frames, not for {shape}")
        if self.config.standardise:
            check_vectors(shape)
        return self._spec(shape, task)

    def _check_views(self, data: CondensedDataset, spec: NetworkSpec) -> None:
        if data.view_labels is None:
            raise BadConfig(
                "augmentation 'views' needs labels of views: condense with labels=taught and "
                "label_views=N"
            )
        if spec.head == "categorical" and self.config.loss in ("nll", "logit-mse"):
            raise BadConfig(f"loss {self.config.loss!r} does not learn the labels of views")

    def _spec(self, shape: tuple[int, ...], task: Task) -> NetworkSpec:
        c, (size, head) = self.config, head_of(task.action_space)
        if head == "gaussian" and c.loss in DISCRETE_LOSSES:
            raise BadConfig(f"loss {c.loss!r} is for discrete actions, not for {task.id!r}")
        if head == "gaussian" and c.temperature != 1:
            raise BadConfig(f"temperature is for discrete actions, not for {task.id!r}")
        return NetworkSpec(
            c.network, shape, size, c.input, **given_options(c), head=head, log_std=c.log_std
        )

    def _scaling(self, data: CondensedDataset) -> Scaling | None:
        """Return the scaling of the observations, if students see standardised ones."""
        if not self.config.standardise:
            return None
        if data.scaling is not None:
            return data.scaling
        learned = slice(None) if data.held_back is None else ~data.held_back
        return Scaling.of(data.observations[learned])

    def _start(self, data: CondensedDataset) -> Initialisation | None:
        """Return the initialisation of the students, if the data have one.

        Raises:
            BadConfig: its network scales observations in another way than the students.
        """
        if self.config.init != "dataset" or data.initialisation is None:
            return None
        made_for = data.scaling is not None
        if self.config.standardise != made_for:
            seen = "standardised" if made_for else "as they are"
            raise BadConfig(
                f"the data's initialisation is of a network that sees observations {seen}: set "
                f"standardise={str(made_for).lower()}, or init=random"
            )
        return data.initialisation

    def _targets(self, data: CondensedDataset, spec: NetworkSpec) -> npt.NDArray[np.float32]:
        if spec.head == "gaussian":
            return np.array(data.actions, np.float32).reshape(len(data), -1)
        if data.targets is not None and self.config.loss == "logit-mse":
            return data.targets.astype(np.float32)
        if data.label_kind == "soft" and self.config.loss != "nll":
            return data.column("action_probs").astype(np.float32)
        return np.eye(spec.num_outputs, dtype=np.float32)[data.actions]


def initial_network(
    spec: NetworkSpec, seed: int, start: Initialisation | None, init: str = "random"
) -> PolicyNetwork:
    """Make a network with the weights of `start`, or with weights drawn from a seed.

    Raises:
        BadConfig: `start` belongs to another network.
        CorruptArtifact: `start` holds the weights of no network.
    """
    if start is None:
        return fresh_from(spec, "cpu", seed, init)
    try:
        if spec_from_json(start.network) == spec:
            return network_from_arrays(spec, start.weights, "")
    except (KeyError, TypeError, RuntimeError) as error:
        raise CorruptArtifact(f"the data's initialisation is of no network: {error}") from error
    raise BadConfig(
        f"the data's initialisation is of {dict(start.network)}, the learner's network is "
        f"{config_json(spec)}: set it so, or init=random"
    )


class _Rows:
    """Training rows, standardised if there is a scaling, and copied to a GPU once."""

    def __init__(
        self,
        data: CondensedDataset,
        targets: npt.NDArray[np.float32],
        device: str,
        scaling: Scaling | None = None,
    ) -> None:
        self._observations, self._scaling = data.observations, scaling
        self._targets = torch.from_numpy(targets).to(device)
        self._weights = torch.from_numpy(data.weights / data.weights.mean()).to(device)
        self._shifts, self._view_labels = data.view_shifts, data.view_labels
        self._on_device = None if device == "cpu" else torch.tensor(data.observations).to(device)
        kept_back = np.zeros(len(data), np.bool_) if data.held_back is None else data.held_back
        self._trained_on = np.flatnonzero(~kept_back)
        self.held_back = np.flatnonzero(kept_back)
        self.size = len(self._trained_on)

    def batch(self, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return `take` of training rows, indexed among the training rows."""
        return self.take(self._trained_on[places])

    def viewed(
        self,
        places: npt.NDArray[np.int64],
        observations: Tensor,
        targets: Tensor,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Return frames and targets of a batch, each as itself or as one of its views.

        Args:
            places: `(S, B)` rows of the batch, among the training rows.
            observations: `(S, B, C, H, W)`.
            targets: `(S, B, A)`.
            rngs: a generator for each of the S students.
        """
        assert self._shifts is not None
        assert self._view_labels is not None
        rows, views = self._trained_on[places], self._shifts.shape[1]
        which = np.stack([rng.integers(views + 1, size=places.shape[1]) for rng in rngs])
        is_view = which > 0  # else the frame itself
        moves = np.where(is_view[..., None], self._shifts[rows, which - 1], 0)
        labels = self._view_labels[rows, which - 1].reshape(targets.shape)
        chosen = torch.from_numpy(is_view[..., None]).to(targets.device)
        of_views = torch.from_numpy(labels).to(targets.device)
        frames = shifted(observations.flatten(0, 1), moves.reshape(-1, 2))
        return frames.reshape(observations.shape), torch.where(chosen, of_views, targets)

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return observations, targets and weights of rows, for `indices` of any shape."""
        where = torch.from_numpy(indices).to(self._targets.device)
        if self._on_device is None:
            observations = torch.from_numpy(np.asarray(self._observations[indices]))
        else:
            observations = self._on_device[where]
        seen = standardised(observations, self._scaling)
        return seen, self._targets[where], self._weights[where]


def _train(
    rows: _Rows,
    spec: NetworkSpec,
    c: BCConfig,
    seeds: Sequence[int],
    device: str,
    report: Callable[[int, int, float], None],
    start: Initialisation | None = None,
) -> tuple[list[PolicyNetwork], Curve | None]:
    """Train one network for each seed, with one step for all."""
    init = "random" if c.init == "dataset" else c.init  # if the data include no weights
    networks = [initial_network(spec, seed, start, init).to(device) for seed in seeds]
    losses = losses_of_head(spec.head, c.loss)
    # Weights that do not come with the data cannot stay as they are.
    learns = is_of_head if c.train == "head" and start is not None else _any
    students: _SingleStudent | _StackedStudents = (
        _SingleStudent(networks[0], losses, learns)
        if len(networks) == 1
        else _StackedStudents(networks, losses, learns)
    )
    optimiser = OPTIMISERS[c.optimiser](students.parameters, lr=c.learning_rate)
    size = c.batch_size or rows.size
    batches = [shuffled_batches(rows.size, size, np.random.default_rng(seed)) for seed in seeds]
    shifts = [np.random.default_rng([seed, 1]) for seed in seeds]
    watch = _Watch(rows, len(seeds)) if len(rows.held_back) else None
    most = _cap(rows, c) if watch is not None else c.updates
    every = max(1, most // LOOKS)
    length = c.gradient_clip
    clip = partial(students.clip, length) if length is not None else lambda: None
    for update in range(1, most + 1):
        places = np.stack([next(batch) for batch in batches])
        observations, targets, weights = rows.batch(places)
        if c.augmentation == "random-crop":
            observations = _cropped(observations, shifts)
        if c.augmentation == "views":
            observations, targets = rows.viewed(places, observations, targets, shifts)
        loss = students.loss(observations, targets, weights)
        descend(optimiser, loss, clip)
        if update % 20 == 0 or update == most:
            report(update * len(seeds), most * len(seeds), loss.item() / len(seeds))
        if watch is not None and update % every == 0:
            watch.look(students, update)
            if watch.ended:
                break
    students.finish()
    if watch is None:
        return networks, None
    return watch.restore(networks), watch.curve


def _any(_: str) -> bool:
    return True


def _cap(rows: _Rows, c: BCConfig) -> int:
    """Return the maximal number of updates of a training with held-back rows."""
    one_pass = -(-rows.size // (c.batch_size or rows.size))
    return CAP * max(one_pass, c.updates)


@dataclass(frozen=True)
class Curve:
    """Curve of the loss on held-back rows.

    Attributes:
        updates: numbers of updates at which the loss was measured.
        losses: loss of each student at each of them.
        best: for each student, the number of updates with the lowest loss.
    """

    updates: list[int]
    losses: list[list[float]]
    best: list[int]


def _training(curves: Sequence[Curve], cap: int) -> dict[str, Any]:
    """Return the curves of all students for a record; those that ended early are shorter."""
    longest = max((curve.updates for curve in curves), key=len)
    return {
        "updates": longest,
        "held_back_loss": [[round(x, 5) for x in row] for c in curves for row in c.losses],
        "best_update": [best for curve in curves for best in curve.best],
        "cap": cap,
    }


class _Watch:
    """Loss on held-back rows along training, and the weights at its minimum.

    A student that has not improved for a while is at its end: where students train together, the
    others go on, and what it learns beside them does not count.
    """

    def __init__(self, rows: _Rows, students: int) -> None:
        rng = np.random.default_rng(0)
        size = min(MOST_HELD_BACK, len(rows.held_back))
        self._rows = rows
        self._places = np.sort(rng.choice(rows.held_back, size, replace=False))
        self._best: list[tuple[float, int, dict[str, Tensor]]] = [(np.inf, 0, {})] * students
        self._updates: list[int] = []
        self._losses: list[list[float]] = [[] for _ in range(students)]

    def look(self, students: _SingleStudent | _StackedStudents, update: int) -> None:
        """Measure the loss after a number of updates, of students that are not at their end."""
        self._updates.append(update)
        for i, loss in enumerate(self._mean_losses(students)):
            if self._is_at_its_end(i):
                continue
            self._losses[i].append(loss)
            if loss < self._best[i][0]:
                self._best[i] = (loss, update, students.weights(i))

    @torch.no_grad()
    def _mean_losses(self, students: _SingleStudent | _StackedStudents) -> list[float]:
        totals = np.zeros(len(self._losses))
        for places in np.split(self._places, range(256, len(self._places), 256)):
            observations, targets, weights = self._rows.take(places)
            totals += [
                float(total) * len(places)
                for total in students.losses_of(observations, targets, weights)
            ]
        return [float(total) for total in totals / len(self._places)]

    def _is_at_its_end(self, student: int) -> bool:
        best = self._best[student][1]
        looks = self._updates[: len(self._losses[student])]
        return sum(update > best for update in looks) >= PATIENCE

    @property
    def ended(self) -> bool:
        """Return whether no student has recently reached a new lowest loss."""
        return all(map(self._is_at_its_end, range(len(self._best))))

    def restore(self, networks: Sequence[PolicyNetwork]) -> list[PolicyNetwork]:
        """Restore the weights of each network at its lowest loss."""
        for network, (_, _, weights) in zip(networks, self._best, strict=True):
            if weights:  # there are none if the loss was never finite
                network.load_state_dict(weights)
        return list(networks)

    @property
    def curve(self) -> Curve:
        """Return the curve so far."""
        return Curve(self._updates, self._losses, [best for _, best, _ in self._best])


class _SingleStudent:
    """One student."""

    def __init__(
        self, network: PolicyNetwork, losses: Losses, learns: Callable[[str], bool]
    ) -> None:
        self.network, self.losses = network, losses
        for name, weights in network.named_parameters():
            weights.requires_grad_(learns(name))
        self.parameters = [p for p in network.parameters() if p.requires_grad]

    def loss(self, observations: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Compute the mean loss of one batch `(1, B, ...)`."""
        losses = self.losses(self.network(observations[0]), targets[0])
        return (losses * weights[0]).mean()

    def losses_of(self, observations: Tensor, targets: Tensor, weights: Tensor) -> list[Tensor]:
        """Compute the student's mean loss of rows `(B, ...)`."""
        return [self.loss(observations[None], targets[None], weights[None])]

    def weights(self, student: int) -> dict[str, Tensor]:
        """Return a copy of its weights."""
        return copy.deepcopy(self.network.state_dict())

    def clip(self, length: float) -> None:
        """Clip the gradient."""
        torch.nn.utils.clip_grad_norm_(self.parameters, length)

    def finish(self) -> None:
        """Let all weights learn again; the network itself was trained."""
        self.network.requires_grad_(True)


class _StackedStudents:
    """S students with stacked weights, so that each operation serves all of them."""

    def __init__(
        self,
        networks: Sequence[PolicyNetwork],
        losses: Losses,
        learns: Callable[[str], bool],
    ) -> None:
        self.networks, self.losses = networks, losses
        states = [dict(network.named_parameters()) for network in networks]
        self.stacked = {
            name: torch.stack([state[name].detach() for state in states]).requires_grad_(
                learns(name)
            )
            for name in states[0]
        }
        self.parameters = [p for p in self.stacked.values() if p.requires_grad]
        networks[0].channels_last = False  # vmap does not support memory formats

    def loss(self, observations: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Compute the sum over students of the mean loss of their batches `(S, B, ...)`.

        Students share no weights, so that the gradient of the sum is each student's own gradient.
        """
        total: Tensor = vmap(self._one)(self.stacked, observations, targets, weights).sum()
        return total

    def _one(self, p: dict[str, Tensor], x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        outputs = functional_call(self.networks[0], p, (x,))
        return (self.losses(outputs, y) * w).mean()

    def losses_of(self, observations: Tensor, targets: Tensor, weights: Tensor) -> list[Tensor]:
        """Compute each student's mean loss of the same rows `(B, ...)`."""
        alike = vmap(self._one, in_dims=(0, None, None, None))
        return list(alike(self.stacked, observations, targets, weights))

    def weights(self, student: int) -> dict[str, Tensor]:
        """Return a copy of one student's weights."""
        return {name: p[student].detach().clone() for name, p in self.stacked.items()}

    def clip(self, length: float) -> None:
        """Clip each student's gradient."""
        clip_each(self.parameters, length)

    def finish(self) -> None:
        """Give each network its weights."""
        self.networks[0].channels_last = len(self.networks[0].spec.observation_shape) == 3
        for i, network in enumerate(self.networks):
            network.load_state_dict({name: p[i].detach() for name, p in self.stacked.items()})


def _cropped(frames: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Shift each of the frames `(S, B, C, H, W)` by up to `SHIFT` pixels, and repeat edges."""
    batch = frames.shape[1]
    moves = np.stack([rng.integers(-SHIFT, SHIFT + 1, (batch, 2)) for rng in rngs])
    return shifted(frames.flatten(0, 1), moves.reshape(-1, 2)).reshape(frames.shape)
