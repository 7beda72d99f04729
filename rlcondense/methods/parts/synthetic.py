"""Synthetic datasets: observations and labels as parameters, their start and optimisation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.nn import functional as F

from rlcondense.cloning import OPTIMISERS, SHIFT
from rlcondense.config import LATER, check_choice, check_positive, check_share
from rlcondense.datasets.labels import TAUGHT
from rlcondense.datasets.report import Displacement, MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Problem, TeachingConfig, select
from rlcondense.methods.parts.features import targets_of
from rlcondense.methods.random_balanced import balanced_rows
from rlcondense.runtime.checkpoint import Checkpoint, Stateful
from rlcondense.runtime.progress import RESUMED
from rlcondense.types import Array

LABELS = ("hard", "soft", "learned", TAUGHT)
STARTS = ("balanced", "random")
AUGMENTATIONS = ("none", "shift")
STD_UNITS = 50  # vectors: one unit of the learning rate is a fiftieth of a feature's deviation
MOVED_AT_A_TIME = 256  # rows
MOVED_EVERY = 10  # iterations between two measurements of how far observations have moved
SMOOTHING = 0.1  # smoothing of hard labels that are learned: a logit of one-hot has no gradient


@dataclass(frozen=True)
class SyntheticConfig(TeachingConfig):
    """Settings of synthetic data: learned quantities, initial rows and learning rates.

    Attributes:
        labels: `hard` (the action taken) and `soft` (the distribution from which it was drawn) are
            fixed labels of the initial frames; `learned` starts as the soft label if the data has
            one, else as a smoothed hard label, and is optimised. Continuous actions are fixed if
            `hard`, and optimised within their bounds if `learned`. `taught` labels are those of an
            ensemble of students of the data: of the data's frames during the optimisation (but for
            `dbc`, which always imitates the actions taken), and of the frames that were made at the
            end.
        start: choice of the initial real rows: `balanced` by action, or `random`, as always for
            continuous actions.
        resolution: side of a learned square image, which is enlarged bilinearly to the frame (Kim
            et al., 2022, arXiv 2205.14959, afford more frames so). None learns every pixel.
        learning_rate: learning rate of Adam for observations: grey levels in a step; for vectors,
            fiftieths of each feature's standard deviation.
        label_learning_rate: learning rate of Adam for the logits of learned labels; for continuous
            actions, in standard deviations.
        outer_optimiser: `adam`, or `sgd` with momentum, whose steps are the learning rates times
            the gradient, by pixels in [0, 1] or by vectors in standard deviations.
        outer_momentum: momentum of `sgd`.
    """

    labels: str = "hard"
    start: str = "balanced"
    resolution: int | None = None
    learning_rate: float = 1.0
    label_learning_rate: float = 0.02
    outer_optimiser: str = field(default="adam", metadata=LATER)
    outer_momentum: float = field(default=0.9, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "outer_optimiser", ("adam", "sgd"))
        check_share(self, "outer_momentum", below_one=True)
        check_choice(self, "labels", LABELS)
        check_choice(self, "start", STARTS)
        check_positive(self, "resolution", "learning_rate", "label_learning_rate")

    @property
    def real_valued(self) -> bool:
        """Return whether learned labels of discrete actions are real-valued, not distributions."""
        return False


class Synthetic:
    """Synthetic dataset during optimisation.

    Attributes:
        rows: `(M,)` initial rows of the source, sorted by action if actions are discrete.
        actions: `(M,)` or `(M, A)` actions of these rows.
        classes: the synthetic rows of each discrete action.
        gradient_evaluations: number of gradients, which the caller increases.
    """

    def __init__(
        self,
        problem: Problem,
        config: SyntheticConfig,
        rng: np.random.Generator,
        *,
        source: Array | None = None,
    ) -> None:
        """Start as real rows.

        Args:
            problem: the problem.
            config: its settings.
            rng: of the choice of these rows.
            source: the source's rows from which they are chosen; None for all.

        Raises:
            BadConfig: a setting does not fit the data, or there are fewer rows than the budget.
        """
        dataset, self.config, self.device = problem.dataset, config, problem.device
        actions = np.asarray(dataset.actions)
        self.continuous = problem.continuous
        if self.continuous and config.labels == "soft":
            raise BadConfig("soft labels are for discrete actions")
        self._source = all_rows(problem, source)
        self.rows = self._start_rows(problem, rng)
        kind = "soft" if config.labels == "soft" else "hard"
        self._initial = select(dataset, self.rows, kind).columns
        self.actions = self._initial["actions"]
        self.classes = {} if self.continuous else slices_by_action(self.actions)
        self.gradient_evaluations = 0

        shape = dataset.observations.shape[1:]
        self.is_pixels = len(shape) == 3
        self._shape = tuple(shape[-2:])
        self._unit: Tensor | float = 255.0 if config.outer_optimiser == "sgd" else 1.0
        if not self.is_pixels:
            std = np.asarray(dataset.observations, np.float32).std(0)
            units = STD_UNITS if config.outer_optimiser == "adam" else 1
            self._unit = torch.from_numpy(np.maximum(std, 1e-6) / units).to(self.device)
        if config.resolution is not None and (
            not self.is_pixels or config.resolution > min(self._shape)
        ):
            raise BadConfig(f"resolution {config.resolution} is not for observations of {shape}")
        space = problem.task.observation_space
        self._limits: list[Tensor] | None = None  # of observations, in what is learned
        if not self.is_pixels and isinstance(space, Box):
            ends = (torch.from_numpy(end).to(self.device) for end in (space.low, space.high))
            self._limits = [end / self._unit for end in ends]
        self._x = self._parameters(self._initial["observations"])
        self.start = self.observations().detach().clone()

        self._targets = data_targets(problem, config.labels)[torch.from_numpy(self.rows)]
        self._logits: Tensor | None = None  # of discrete actions, or vectors over their deviation
        if config.labels == "learned" and self.continuous:
            space = problem.task.action_space
            assert isinstance(space, Box)
            spread = np.maximum(actions.reshape(len(actions), -1).std(0), 1e-6).astype(np.float32)
            self._spread = torch.from_numpy(spread).to(self.device)
            self._bounds = [
                torch.from_numpy(b.reshape(-1)).to(self.device) / self._spread
                for b in (space.low, space.high)
            ]
            self._logits = (self._targets / self._spread).requires_grad_()
        elif config.labels == "learned":
            smoothed = self._targets
            if dataset.action_probs is None:
                smoothed = (1 - SMOOTHING) * smoothed + SMOOTHING / smoothed.shape[1]
            logits = smoothed.clamp_min(1e-4).log()
            if config.real_valued:
                logits = logits - logits.mean(1, keepdim=True)
            self._logits = logits.requires_grad_()

    def _start_rows(self, problem: Problem, rng: np.random.Generator) -> Array:
        """Draw the initial rows, sorted by action if actions are discrete."""
        size, source, actions = problem.size, self._source, np.asarray(problem.dataset.actions)
        if size > len(source):
            raise BadConfig(f"{size} rows of {len(source)}, beside those that are held back")
        if self.config.start == "balanced" and not self.continuous:
            return np.asarray(source[balanced_rows(actions[source], size, rng)])
        rows = np.sort(source[rng.choice(len(source), size, replace=False)])
        return rows if self.continuous else rows[np.argsort(actions[rows], kind="stable")]

    def _parameters(self, observations: Array) -> Tensor:
        """Return the parameters of observations `(B, *observation)`: the inverse of `_shown`."""
        x = torch.from_numpy(observations.astype(np.float32)).to(self.device)
        if self.config.resolution is not None:
            x = F.interpolate(x, [self.config.resolution] * 2, mode="area")
        return (x / self._unit).requires_grad_()

    def observations(self, rows: slice | Tensor = slice(None)) -> Tensor:
        """Return observations `(B, *observation)` in the environment's units, differentiable."""
        return self._shown(self._x[rows])

    @contextlib.contextmanager
    def apart(self, rows: slice) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Give observations of rows, and the leaves to differentiate for them.

        The gradient of these rows alone is computed and added to that of all when the block ends: a
        gradient through a slice of all rows would be as large as all rows, and mostly zeros.
        """
        x = self._x
        if (rows.start, rows.stop) == (0, len(x)):
            yield self._shown(x), self.leaves
            return
        part = x.detach()[rows].requires_grad_()
        yield self._shown(part), [part, *self.leaves[1:]]
        if x.grad is None:
            x.grad = torch.zeros_like(x)
        assert part.grad is not None
        x.grad[rows] += part.grad

    def _shown(self, x: Tensor) -> Tensor:
        if self.config.resolution is not None:
            x = F.interpolate(x, self._shape, mode="bilinear", align_corners=False)
        return x * self._unit

    def targets(self, rows: slice | Tensor = slice(None)) -> Tensor:
        """Return labels `(B, A)`: distributions, numbers, or actions; differentiable if learned."""
        if self._logits is None:
            return self._targets[rows]
        if self.continuous:
            return self._logits[rows] * self._spread
        if self.config.real_valued:
            return self._logits[rows]
        return self._logits[rows].softmax(1)

    @property
    def leaves(self) -> list[Tensor]:
        """Return the learned tensors."""
        return [self._x] if self._logits is None else [self._x, self._logits]

    def optimiser(self) -> torch.optim.Optimizer:
        """Make Adam or SGD on the leaves."""
        c = self.config
        rates = (c.learning_rate, c.label_learning_rate)
        groups = [{"params": [p], "lr": lr} for p, lr in zip(self.leaves, rates, strict=False)]
        if c.outer_optimiser == "sgd":
            return OPTIMISERS["sgd"](groups, momentum=c.outer_momentum)
        return OPTIMISERS["adam"](groups)

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp pixels, vectors and continuous actions to their spaces."""
        if self.is_pixels:
            assert isinstance(self._unit, float)
            self._x.clamp_(0, 255 / self._unit)
        elif self._limits is not None:
            self._x.clamp_(*self._limits)
        if self.continuous and self._logits is not None:
            self._logits.clamp_(*self._bounds)

    @torch.no_grad()
    def moved(self) -> float:
        """Compute the mean absolute change of an observation's values since the start."""
        parts = zip(*(torch.split(x, MOVED_AT_A_TIME) for x in (self._x, self.start)), strict=True)
        total = sum(float((self._shown(x) - start).abs().sum()) for x, start in parts)
        return total / self.start.numel()

    @torch.no_grad()
    def condensation(self, matching_loss: MatchingLoss | None = None) -> Condensation:
        """Return the learned dataset, with its displacement and cost."""
        observations = self.observations()
        columns = {"observations": observations.cpu().numpy(), "actions": self.actions}
        kind = self.config.labels
        label_kind = "continuous" if self.continuous else "hard" if kind == "hard" else "soft"
        if self.continuous:
            columns["actions"] = self.targets().cpu().numpy().reshape(self.actions.shape)
        elif kind == "soft":
            columns["action_probs"] = self._initial["action_probs"]
        elif kind == "learned":
            assert self._logits is not None
            columns["action_probs"] = self._logits.softmax(1).cpu().numpy()
            if self.config.real_valued:
                columns["targets"] = self._logits.cpu().numpy().copy()
        return Condensation(
            columns,
            label_kind=label_kind,
            initial_indices=self.rows,
            gradient_evaluations=self.gradient_evaluations,
            displacement=Displacement.between(observations, self.start),
            matching_loss=matching_loss,
        )


class RealBatches:
    """Batches of the data with which synthetic rows are compared.

    Args:
        problem: the problem.
        config: settings of the synthetic rows.
        source: the source's rows that are drawn; None for all.
    """

    def __init__(
        self, problem: Problem, config: SyntheticConfig, *, source: Array | None = None
    ) -> None:
        self._dataset, self._device = problem.dataset, problem.device
        self._targets = data_targets(problem, config.labels)
        self._all = all_rows(problem, source)
        actions = np.asarray(problem.dataset.actions)[self._all]
        taken = [] if problem.continuous else np.unique(actions)
        self._rows_of = {int(a): self._all[actions == a] for a in taken}

    def draw(
        self, size: int, rng: np.random.Generator, action: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw observations and targets of an action's rows, or of all; all if there are fewer."""
        rows = self._all if action is None else self._rows_of[action]
        if len(rows) > size:
            rows = np.sort(rng.choice(rows, size, replace=False))
        return self.take(rows)

    def take(self, rows: Array) -> tuple[Tensor, Tensor]:
        """Return observations and targets of rows of the source."""
        frames = torch.from_numpy(np.asarray(self._dataset.observations[rows]))
        return frames.to(self._device), self._targets[torch.from_numpy(rows).to(self._device)]


def learn(
    problem: Problem,
    synthetic: Synthetic,
    iterations: int,
    loss: Callable[[int], float],
    rng: np.random.Generator,
    *,
    beside: Stateful | None = None,
    restarts: int = 1,
) -> None:
    """Optimise a synthetic dataset, with progress, and with checkpoints where there is one.

    A run that resumes from a checkpoint gives the same bytes as an uninterrupted one: a checkpoint
    holds the leaves, Adam's state, and the states of `rng` and of torch's generator.

    Args:
        problem: the problem with progress and checkpoint.
        synthetic: changed in place.
        iterations: steps of the optimiser.
        loss: function of the iteration that adds gradients to the leaves and returns the loss.
        rng: generator of `loss`, beside torch's generator.
        beside: further state that `loss` changes.
        restarts: period in iterations after which `loss` carries no state over (except `beside`);
            checkpoints are possible only there.
    """
    optimiser, note = synthetic.optimiser(), ""
    first = _resumed(problem, synthetic, optimiser, rng, beside)
    if first:
        problem.progress("condense", first, iterations, RESUMED)
    for iteration in range(first, iterations):
        if iteration % restarts == 0 and problem.checkpoint and problem.checkpoint.due:
            _keep(problem.checkpoint, iteration, synthetic, optimiser, rng, beside)
        optimiser.zero_grad()
        value = loss(iteration)
        optimiser.step()
        synthetic.clamp()
        done = iteration + 1
        if not note or done % MOVED_EVERY == 0 or done == iterations:
            note = f", moved {synthetic.moved():.1f}"
        problem.progress("condense", done, iterations, f"matching loss {value:.3f}{note}")


def _keep(
    checkpoint: Checkpoint,
    iteration: int,
    synthetic: Synthetic,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    beside: Stateful | None,
) -> None:
    arrays = {f"learned.{k}": _array(leaf) for k, leaf in enumerate(synthetic.leaves)}
    arrays |= optimiser_state("adam", optimiser)
    arrays["torch"] = torch.get_rng_state().numpy()
    if beside is not None:
        arrays |= {f"beside.{name}": array for name, array in beside.state().items()}
    facts = {
        "iteration": iteration,
        "gradient_evaluations": synthetic.gradient_evaluations,
        "rng": rng.bit_generator.state,
    }
    checkpoint.write(arrays, facts)


def _resumed(
    problem: Problem,
    synthetic: Synthetic,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    beside: Stateful | None,
) -> int:
    """Restore everything and return the iteration to continue with."""
    saved = problem.checkpoint.read() if problem.checkpoint else None
    if saved is None:
        return 0
    arrays, facts = saved
    with torch.no_grad():
        for k, leaf in enumerate(synthetic.leaves):
            leaf.copy_(torch.from_numpy(arrays[f"learned.{k}"]))
    restore_optimiser("adam", optimiser, arrays)
    if beside is not None:
        beside.restore(under("beside.", arrays))
    synthetic.gradient_evaluations = facts["gradient_evaluations"]
    rng.bit_generator.state = facts["rng"]
    torch.set_rng_state(torch.from_numpy(arrays["torch"]))
    return int(facts["iteration"])


def optimiser_state(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Array]:
    """Return the moments and counts of Adam or SGD, by names that begin with `name`."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"{name}.{k}.{kind}": _array(value)
        for k, p in enumerate(parameters)
        for kind, value in optimiser.state[p].items()
        if value is not None  # such as SGD's momentum if it has none
    }


def restore_optimiser(
    name: str, optimiser: torch.optim.Optimizer, arrays: Mapping[str, Array]
) -> None:
    """Restore what `optimiser_state` returned."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.state.clear()
    for k, p in enumerate(parameters):
        for kind, array in under(f"{name}.{k}.", arrays).items():
            value = torch.from_numpy(np.array(array))
            # Adam counts its steps on the CPU, wherever the parameters are.
            as_here = torch.empty(()) if kind == "step" else torch.empty_like(p).detach()
            optimiser.state[p][kind] = as_here.copy_(value.reshape(as_here.shape))


def under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix, by names without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()


def all_rows(problem: Problem, source: Array | None) -> Array:
    """Return the source's rows that may be used: those that are given, else all."""
    return np.arange(len(problem.dataset)) if source is None else source


def data_targets(problem: Problem, labels: str) -> Tensor:
    """Return the data's labels `(N, A)` for synthetic labels of a kind, or continuous actions."""
    if problem.continuous:
        return targets_of(problem, "hard")
    soft = labels == "soft" or (labels == "learned" and problem.dataset.action_probs is not None)
    return targets_of(problem, "soft" if soft else "hard")


def slices_by_action(actions: Array) -> dict[int, slice]:
    """Return the slice of each action in an array sorted by action."""
    present, starts = np.unique(actions, return_index=True)
    stops = [*starts[1:], len(actions)]
    return {int(a): slice(int(s), int(e)) for a, s, e in zip(present, starts, stops, strict=True)}


def drawn_augmentation(
    name: str, is_pixels: bool, rng: np.random.Generator
) -> Callable[[Tensor], Tensor]:
    """Draw an augmentation of frames `(B, C, H, W)`, the same for all that it is applied to.

    Synthetic and real frames are moved alike by a few pixels, edges repeated (Zhao and Bilen, 2021,
    arXiv 2102.08259). Frames are not mirrored, because left and right are different actions.

    Args:
        name: one of `AUGMENTATIONS`.
        is_pixels: whether observations are frames; vectors stay as they are.
        rng: of the shift.
    """
    if name == "none" or not is_pixels:
        return lambda batch: batch
    y, x = (int(v) for v in rng.integers(-SHIFT, SHIFT + 1, 2))

    def moved(batch: Tensor) -> Tensor:
        height, width = batch.shape[-2:]
        rows = (torch.arange(height, device=batch.device) + y).clamp(0, height - 1)
        columns = (torch.arange(width, device=batch.device) + x).clamp(0, width - 1)
        return batch[:, :, rows][:, :, :, columns]

    return moved
