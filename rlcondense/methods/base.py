"""Interface of condensation methods: a config, a class of a few lines, and its checks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from gymnasium.spaces import Box

from rlcondense.config import LATER, check_choice, check_least, check_positive, config_json
from rlcondense.datasets.budget import EPISODES_CHOSEN, Budget
from rlcondense.datasets.coding import SEEN, CodedRows, Coding, encode, label_bytes
from rlcondense.datasets.condensed import (
    EXTRA,
    VIEWS,
    CondensedDataset,
    Initialisation,
    with_next_rows,
)
from rlcondense.datasets.detectors import with_findings
from rlcondense.datasets.labels import TAUGHT
from rlcondense.datasets.report import CondensationReport, Cost, Figures
from rlcondense.datasets.scores import Scores
from rlcondense.datasets.transitions import COLUMNS, TransitionDataset
from rlcondense.errors import BadConfig, BudgetExceeded, CorruptArtifact, no_exit
from rlcondense.experts.shipped import Expert
from rlcondense.limits import check_count, check_whole
from rlcondense.networks import ENCODERS
from rlcondense.runtime.checkpoint import Checkpoint
from rlcondense.runtime.meter import measured, peak_memory_bytes
from rlcondense.runtime.progress import Progress, silent
from rlcondense.scaling import Scaling
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task
from rlcondense.types import Array
from rlcondense.validation import check_action_space, check_arrays, check_dataset, check_rows

if TYPE_CHECKING:
    from rlcondense.methods.parts.teachers import Teachers

LEAST_TEMPERATURE = 1e-3  # of labels: logits divided by less may be infinite
BESIDE = ("weights", "source_indices", "initial_indices")  # of a condensation, not its columns
NEEDS = frozenset({"rewards", "action_probs", "expert", "episodes", "level_seeds"})


@dataclass(frozen=True)
class NoConfig:
    """Config of a method without settings."""


@dataclass(frozen=True)
class Problem:
    """Input of a condensation method.

    Attributes:
        source: the dataset to condense; None for methods that receive the task alone.
        task: a view of the task that can make seen levels only.
        budget: the budget.
        expert: the dataset's policy, for methods that declare that they need it.
        seed: seed of all randomness.
        device: device of the computation.
        progress: receives the progress.
        checkpoint: checkpoint from which a killed run resumes.
        actions_taken: the actions that were taken and paid for, where a teacher's stand in their
            place; else None.
    """

    source: TransitionDataset | None
    task: Task
    budget: Budget
    expert: Expert | None
    seed: int
    device: str
    progress: Progress
    checkpoint: Checkpoint | None = None
    actions_taken: Array | None = None

    def as_taken(self) -> Problem:
        """Return the problem with the actions that were taken, where a teacher's are in place."""
        if self.actions_taken is None:
            return self
        taken = replace(self.dataset, actions=self.actions_taken)
        return replace(self, source=taken, actions_taken=None)

    def check_actions_taken(self) -> None:
        """Refuse to value actions that earned none of the rewards beside them.

        Raises:
            BadConfig: they are a teacher's.
        """
        if self.actions_taken is not None:
            raise BadConfig(
                "labels=taught gives continuous actions that earned none of the rewards: there are "
                "no transitions to value"
            )

    @property
    def size(self) -> int:
        """Budget in transitions."""
        return self.budget.transitions(self.source)

    @property
    def dataset(self) -> TransitionDataset:
        """Dataset to condense."""
        assert self.source is not None
        return self.source

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed."""
        return np.random.default_rng(self.seed)

    def torch_seed(self, *use: int) -> int:
        """Return a 32-bit seed for torch, distinct for each use."""
        return int(np.random.SeedSequence([self.seed, *use]).generate_state(1)[0])

    @property
    def num_actions(self) -> int:
        """Number of discrete actions of the task."""
        n = getattr(self.task.action_space, "n", None)
        if n is None:
            raise BadConfig(f"task {self.task.id!r} has no discrete actions")
        return int(n)

    @property
    def continuous(self) -> bool:
        """Return whether actions are vectors."""
        return isinstance(self.task.action_space, Box)

    @property
    def num_outputs(self) -> int:
        """Number of a policy's outputs: discrete actions, or elements of an action vector."""
        space = self.task.action_space
        return math.prod(space.shape) if isinstance(space, Box) else self.num_actions


@dataclass(frozen=True)
class Condensation(Figures):
    """Output of a condensation method: columns, and figures of the report; see `Figures`.

    Attributes:
        columns: `observations`, `actions` and other known columns, by name; for Q-learning
            `rewards`, `terminations` and `next_observations` too.
        label_kind: `hard`, `soft` or `continuous`.
        source_indices: rows of the source, for selections.
        initial_indices: rows of the source that synthetic observations started as.
        weights: weights of the rows; None stands for ones.
        initialisation: initial network of the students, if the rows were made for one.
        scaling: scaling of the observations for students, if the rows were made for students that
            see standardised observations.
        learning_rate: step size of the students, if it was learned with the rows.
        gradient_evaluations: number of gradients of one observation's loss.
        environment_steps: steps taken in seen levels.
        scores: scores of the source's episodes or rows, for methods that score them.
    """

    columns: dict[str, Array]
    label_kind: str = "hard"
    source_indices: Array | None = None
    initial_indices: Array | None = None
    weights: Array | None = None
    initialisation: Initialisation | None = None
    scaling: Scaling | None = None
    learning_rate: float | None = None
    gradient_evaluations: int = 0
    environment_steps: int = 0
    scores: Scores | None = None

    def costing(self, gradient_evaluations: int) -> Condensation:
        """Return a copy with a number of gradient evaluations."""
        return replace(self, gradient_evaluations=gradient_evaluations)


def select(dataset: TransitionDataset, indices: Array, label_kind: str = "hard") -> Condensation:
    """Make a condensation of unchanged rows of the source: whole transitions.

    Args:
        dataset: the source.
        indices: `(M,)` rows to keep, in this order.
        label_kind: `hard`, or `soft` to train on the data's action_probs. Of continuous actions,
            hard labels are `continuous`.
    """
    indices = np.asarray(indices, np.int64)
    columns = {**dataset.rows(indices), **_following(dataset, indices)}
    return Condensation(columns, selection_labels(dataset, label_kind), indices)


def selection_labels(dataset: TransitionDataset, label_kind: str) -> str:
    """Return the kind of label that rows of a dataset have.

    Raises:
        BadConfig: soft labels are requested of a dataset without action_probs.
    """
    if label_kind == "soft" and dataset.action_probs is None:
        raise BadConfig("soft labels need a dataset with action_probs")
    continuous = label_kind == "hard" and dataset.actions.dtype.kind == "f"
    return "continuous" if continuous else label_kind


def _following(dataset: TransitionDataset, indices: Array) -> dict[str, Array]:
    """Return `next_rows` and `following` of a selection; a selected frame is not stored twice."""
    place = np.full(len(dataset), -1)
    place[indices] = np.arange(len(indices))
    source = dataset.next_rows[indices]
    outside = np.unique(source[(source >= 0) & (place[source] < 0)])
    place[outside] = len(indices) + np.arange(len(outside))
    columns = {"next_rows": np.where(source < 0, -1, place[source])}
    if len(outside):
        columns["following"] = np.asarray(dataset.observations[outside])
    return columns


FRAME_BITS = 8  # learners see whole grey levels
ConfigT = TypeVar("ConfigT")


class Method(ABC, Generic[ConfigT]):
    """Base of every condensation method.

    A subclass names its `Config`, a frozen dataclass with neither budget nor seed in it, and
    writes `_condense`.

    Attributes:
        access: `offline`, or `online` for methods that step the seen levels and count the steps.
        takes_data: whether it condenses a dataset. A method that makes its data from the task alone
            gets no dataset.
        needs: of `rewards`, `action_probs`, `expert`, `episodes`, `level_seeds`.
        label_kinds: kinds of label that it can make.
        stochastic: whether another seed gives another dataset.
        gives: columns that the method makes, if they are always the same. A learner that needs
            other columns is then skipped before any computation. None for selections, which keep
            whole transitions.
        keeps_everything: whether it returns all rows of the source, of which no copy is stored.
        facts: facts of its catalogue entry; see `rlcondense.make.facts_of`.
    """

    api_version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = NoConfig
    access: ClassVar[str] = "offline"
    takes_data: ClassVar[bool] = True
    needs: frozenset[str] = frozenset()
    label_kinds: ClassVar[tuple[str, ...]] = ("hard",)
    stochastic: bool = True
    gives: ClassVar[frozenset[str] | None] = None
    keeps_everything: ClassVar[bool] = False
    facts: ClassVar[Mapping[str, Any]] = {}
    id: str = ""

    def __init__(self, config: ConfigT | None = None, *, id: str = "") -> None:
        self.config: ConfigT = self.Config() if config is None else config
        self.id = id or self.id or type(self).__name__
        if self._draws_views:
            self.stochastic = True

    @property
    def _draws_views(self) -> bool:
        """Whether a teacher labels views of frames that the seed draws."""
        return bool(getattr(self.config, "label_views", 0))

    @abstractmethod
    def _condense(self, problem: Problem) -> Condensation:
        """Condense. All randomness comes from `problem.seed`; held-out levels cannot be made."""

    def _score(self, problem: Problem) -> Scores:
        """Score the episodes or rows of the source, for methods that select by a score."""
        raise BadConfig(f"method {self.id!r} scores neither episodes nor rows")

    def students(self, task: Task) -> dict[str, Any]:
        """Return the settings of `bc` that this method's config implies for its students.

        They override the catalogue's fact `learner`, which is the same for all configs.
        """
        return {}

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings by which the method's students equal those that a learner trains.

        They are the meaning of `student=learner`.

        Args:
            learner: the learner's settings.

        Raises:
            BadConfig: the method has no students, or cannot have such students.
        """
        raise BadConfig("student=learner is for methods that train students while they condense")

    def label_form(self, task: Task) -> str:
        """Return the form of the labels that it makes: `hard`, `soft`, `targets` or `continuous`.

        It tells how many rows a budget in bytes holds.
        """
        if isinstance(task.action_space, Box):
            return "continuous"
        labels = getattr(self.config, "labels", self.label_kinds[0])
        if labels == "learned" and getattr(self.config, "real_valued", False):
            return "targets"
        return "soft" if labels in ("soft", "learned", TAUGHT) else "hard"

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        """Return the bytes beside observations and labels, of a set in all and of each row."""
        views = self.config.label_views if self._is_taught else 0  # type: ignore[attr-defined]
        outputs = getattr(task.action_space, "n", math.prod(task.action_space.shape or ()))
        return (0, views * (2 + 4 * int(outputs)))

    def condense(
        self,
        dataset: TransitionDataset | None,
        *,
        task: str | Task,
        budget: int | Budget,
        expert: Expert | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
        made_from: str = "",
        replaces_checkpoint: bool = True,
    ) -> CondensedDataset:
        """Make a condensed dataset and its report.

        Args:
            dataset: the dataset to condense, not changed; may be None if `takes_data` is False.
            task: the task that it was collected on, by name perhaps.
            budget: transitions, or a `Budget`.
            expert: the dataset's policy; passed on only to methods that need it.
            seed: condensation seed: the same seed gives the same bytes.
            device: device of the computation.
            progress: receives the progress.
            checkpoint: a checkpoint file for slow methods: a run resumes from the file of a killed
                run and makes the same bytes. Whoever stores the result deletes the file then.
            made_from: further facts that must agree for a resume, such as versions.
            replaces_checkpoint: whether the checkpoint of another condensation is overwritten.

        Raises:
            BadConfig: the budget is zero or larger than the data, a need is not met, the data
                are of held-out levels, or a checkpoint is not to be overwritten.
            BudgetExceeded: the method returned more than the budget.
            CorruptArtifact: the dataset does not fit the task, or the method did not return a
                dataset.
        """
        task, budget = make_task(task), _budget_of(budget)
        problem = self._problem(dataset, task, budget, expert, seed, device, progress)
        source = problem.source
        if checkpoint is not None:
            identity = {
                "method": self.id,
                "config": config_json(self.config),
                "seed": seed,
                "budget": budget.to_json(),
                "dataset": source.sha256 if source else None,
                "expert": problem.expert.sha256 if problem.expert else None,
                "device": device,
                "made_from": made_from,
            }
            saved = Checkpoint(checkpoint, identity, device)
            if not replaces_checkpoint:
                saved.refuse_another()
            problem = replace(problem, checkpoint=saved)
        with measured(device) as seconds, no_exit(f"method {self.id!r}"):
            result = self._labelled(problem) if self._is_taught else self._condense(problem)
        self._check_kind(result)
        if problem.checkpoint is not None:
            seconds.add(problem.checkpoint.before)
        spent = seconds.to_json()
        result = replace(result, columns=with_next_rows(result.columns))
        self._check_result(result, problem)
        coded = _coded(result, budget, task) if budget.bytes is not None else None
        if coded is not None:
            views = {name: result.columns[name] for name in VIEWS if name in result.columns}
            result = replace(result, columns={**coded.columns(), **views})
        size = len(result.columns["observations"])
        weights = np.ones(size, np.float32) if result.weights is None else result.weights
        columns = {name: np.ascontiguousarray(column) for name, column in result.columns.items()}
        rate = None if result.learning_rate is None else np.float32(result.learning_rate)
        correlation = auroc = None
        if result.scores is not None and source is not None:
            result.scores.check(source, f"method {self.id!r}")
            correlation = result.scores.rank_correlations(source)
            assert dataset is not None
            auroc = result.scores.auroc(source, dataset.faulty)
        condensed = CondensedDataset(
            **columns,
            weights=weights,
            label_kind=result.label_kind,
            source_indices=result.source_indices,
            initial_indices=result.initial_indices,
            initialisation=result.initialisation,
            scaling=result.scaling,
            learning_rate=None if rate is None else float(rate),
            coded=coded,
            report=None,
        )
        start = result.initialisation
        report = CondensationReport(
            method=self.id,
            config=config_json(self.config),
            seed=seed,
            budget=budget.to_json(),
            dataset=source.id if source else None,
            dataset_sha256=source.sha256 if source else None,
            expert_sha256=problem.expert.sha256 if problem.expert else None,
            size=size,
            bytes=self._counted_bytes(condensed, budget),
            label_kind=result.label_kind,
            cost=Cost(
                gradient_evaluations=result.gradient_evaluations,
                environment_steps=result.environment_steps,
                device=device,
                wall_seconds=spent["wall"],
                cpu_seconds=spent["cpu"],
                gpu_seconds=spent["gpu"],
                peak_memory_bytes=peak_memory_bytes(),
            ),
            **result.figures(),
            task=task.id,
            initialisation_bytes=sum(w.nbytes for w in start.weights.values()) if start else None,
            score_correlation=correlation,
            fault_auroc=auroc,
        )
        condensed = with_findings(replace(condensed, report=report), source, task)
        if coded is None:
            return condensed
        # Where coded rows come from is not stored with them.
        return replace(condensed, source_indices=None, initial_indices=None)

    def _counted_bytes(self, data: CondensedDataset, budget: Budget) -> int:
        """Return the bytes of what students are trained with.

        Raises:
            BudgetExceeded: they are more than a budget in bytes.
        """
        # What follows a kept row is bookkeeping; what follows a synthetic one was made, too.
        made_too = {"following"} if data.source_indices is None else set()
        uncounted = set(EXTRA) - made_too
        stored = data.stored().items()
        size = sum(array.nbytes for name, array in stored if name not in uncounted)
        if budget.bytes is not None and size > budget.bytes:
            raise BudgetExceeded(
                f"method {self.id!r} stores {size} bytes, allowed are {budget.bytes}"
            )
        return size

    def score(
        self,
        dataset: TransitionDataset,
        *,
        task: str | Task,
        expert: Expert | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> Scores:
        """Score the episodes or rows of a dataset; `_condense` keeps the highest.

        Args:
            dataset: the dataset, not changed.
            task: the task that it was collected on, by name perhaps.
            expert: the dataset's policy; passed on only to methods that need it.
            seed: condensation seed: the same seed gives the same scores.
            device: device of the computation.
            progress: receives the progress.

        Raises:
            BadConfig: the method gives no scores, a need is not met, or the data are of held-out
                levels.
            CorruptArtifact: the dataset does not fit the task, or a score is no finite number.
        """
        whole = Budget(size=len(dataset))
        problem = self._problem(dataset, make_task(task), whole, expert, seed, device, progress)
        with no_exit(f"method {self.id!r}"):
            method, problem, _ = self._taught(problem) if self._is_taught else (self, problem, None)
            scores = method._score(problem)
        scores.check(dataset, f"method {self.id!r}")
        return scores

    @property
    def _is_taught(self) -> bool:
        return getattr(self.config, "labels", None) == TAUGHT

    def _labelled(self, problem: Problem) -> Condensation:
        """Condense data that have a teacher's labels; frames that are made get them too."""
        views = getattr(self.config, "label_views", 0)
        if views and len(problem.task.observation_space.shape or ()) != 3:
            raise BadConfig(f"label_views is for frames, not for task {problem.task.id!r}")
        method, relabelled, teachers = self._taught(problem)
        space = problem.task.action_space
        result = teachers.labelled(method._condense(relabelled), space)
        if not views:
            return result
        rng = np.random.default_rng([problem.seed, 5])
        return teachers.with_views(result, views, space, rng)

    def _taught(self, problem: Problem) -> tuple[Method[ConfigT], Problem, Teachers]:
        """Return the method and the problem as if the data had a teacher's labels, and these."""
        from rlcondense.methods.parts.teachers import teachers_of

        teachers, space = teachers_of(problem, self.config), problem.task.action_space
        kind = "hard" if teachers.is_continuous else "soft"
        config = replace(self.config, labels=kind, **_UNTAUGHT)  # type: ignore[type-var]
        source = teachers.relabelled(problem.dataset, space)
        taken = problem.dataset.actions if teachers.is_continuous else None
        taught = replace(problem, source=source, actions_taken=taken)
        return type(self)(config, id=self.id), taught, teachers

    def check(
        self,
        dataset: TransitionDataset | None,
        *,
        task: str | Task,
        budget: int | Budget,
        expert: Expert | None = None,
        seed: int = 0,
    ) -> None:
        """Refuse what `condense` refuses before it begins; arguments and errors as for it."""
        task, budget = make_task(task), _budget_of(budget)
        problem = self._problem(dataset, task, budget, expert, seed, "cpu", silent)
        if problem.budget.size is not None:  # methods read a percentage in their own units
            problem.budget.transitions(problem.source)

    def _problem(
        self,
        dataset: TransitionDataset | None,
        task: Task,
        budget: Budget,
        expert: Expert | None,
        seed: int,
        device: str,
        progress: Progress,
    ) -> Problem:
        """Check what the method is given, and return its input."""
        check_whole(seed, "seed")
        source = dataset if self.takes_data else None
        self._check_needs(source, expert)
        check_action_space(task.action_space, f"task {task.id!r}")
        if source is not None:
            check_dataset(source, task)
            discrete = not isinstance(task.action_space, Box)
            if discrete and getattr(self.config, "labels", "") == "soft":
                selection_labels(source, "soft")
            if source.faulty:  # the answer
                source = replace(source, origin=replace(source.origin, faulty=()))
        return Problem(
            source=source,
            task=task.seen_only(),
            budget=budget if budget.bytes is None else Budget(size=self._rows(budget, task)),
            expert=expert if "expert" in self.needs else None,
            seed=seed,
            device=device,
            progress=progress,
        )

    def _rows(self, budget: Budget, task: Task) -> int:
        """Return the number of rows that a budget in bytes holds."""
        assert budget.bytes is not None
        if self.gives is not None and "rewards" in self.gives:
            raise BadConfig(
                f"a budget in bytes stores observations and labels: method {self.id!r} makes "
                "rewards too"
            )
        in_all, each = self.bytes_beside(task)
        each += label_bytes(self.label_form(task), task.action_space)
        return _coding(budget, task).rows(budget.bytes - in_all, each)

    def _check_needs(self, dataset: TransitionDataset | None, expert: Expert | None) -> None:
        if dataset is None and self.takes_data:
            raise BadConfig(f"method {self.id!r} needs a dataset to condense")
        if "expert" in self.needs and expert is None:
            whose = f"dataset {dataset.id!r}" if dataset is not None else "the task"
            raise BadConfig(f"method {self.id!r} needs the expert of {whose}")
        for name in COLUMNS if dataset is not None else ():
            if name in self.needs and getattr(dataset, name) is None:
                raise BadConfig(f"method {self.id!r} needs a dataset with {name}")

    def _check_kind(self, result: object) -> None:
        if not isinstance(result, Condensation):
            raise CorruptArtifact(
                f"method {self.id!r} gave {type(result).__name__}, not a Condensation"
            )
        beside = {name: column for name in BESIDE if (column := getattr(result, name)) is not None}
        known = {*COLUMNS, *EXTRA, *VIEWS, "next_observations", "targets"} - {*BESIDE}
        check_arrays(result.columns, known, f"method {self.id!r}")
        check_arrays({**result.columns, **beside}, {*known, *beside}, f"method {self.id!r}")

    def _check_result(self, result: Condensation, problem: Problem) -> None:
        columns = result.columns
        size = len(columns["observations"])
        if problem.budget.percent is not None and problem.budget.unit == "episodes":
            if "episode_ids" not in columns:
                raise BadConfig(EPISODES_CHOSEN)
            count = len(np.unique(columns["episode_ids"]))
            allowed, unit = problem.budget.episodes(problem.dataset), "episodes"
        else:
            count, allowed, unit = size, problem.size, "transitions"
        if count > allowed:
            raise BudgetExceeded(f"method {self.id!r} kept {count} {unit}, allowed are {allowed}")
        weights = {} if result.weights is None else {"weights": result.weights}
        check_rows({**columns, **weights}, problem.task, f"method {self.id!r}")


def _budget_of(budget: int | Budget) -> Budget:
    return budget if isinstance(budget, Budget) else Budget(size=budget)


def _coding(budget: Budget, task: Task) -> Coding:
    """Return the form in which a budget in bytes stores a task's observations."""
    shape = task.observation_space.shape
    assert shape is not None
    if len(shape) == 3 and budget.bits > FRAME_BITS:
        raise BadConfig(f"frames have {FRAME_BITS} bits a pixel at most, not {budget.bits}")
    return Coding(budget.bits, tuple(shape), budget.resolution)


def _coded(result: Condensation, budget: Budget, task: Task) -> CodedRows:
    """Return a result's observations and labels as a budget in bytes stores them."""
    names = SEEN if result.label_kind == "soft" else SEEN[:2]
    rows = {name: result.columns[name] for name in names if name in result.columns}
    return encode(rows, _coding(budget, task))


def scaling_bytes(task: Task) -> int:
    """Return the bytes of a scaling of a task's observations."""
    return 8 * math.prod(task.observation_space.shape or ())


@dataclass(frozen=True)
class TeachingConfig:
    """Settings of the ensemble that makes `taught` labels.

    Attributes:
        label_teachers: number of students of the data in the ensemble that makes `taught` labels.
        label_temperature: divisor of their logits of discrete actions.
        label_network: name of their network; None is that of `bc` for the observations.
        label_updates: number of updates after which each may stop, as `full-converged` does: when
            the loss on held-back episodes has stopped falling, after ten times as many or ten
            passes over the data at most, whichever is more.
        label_views: number of views of each frame, shifted by up to four pixels, whose `taught`
            labels are stored beside the frame's own, for `augmentation=views` of `bc`.
    """

    label_teachers: int = field(default=5, metadata=LATER, kw_only=True)
    label_temperature: float = field(default=1.0, metadata=LATER, kw_only=True)
    label_network: str | None = field(default=None, metadata=LATER, kw_only=True)
    label_updates: int = field(default=800, metadata=LATER, kw_only=True)
    label_views: int = field(default=0, metadata=LATER, kw_only=True)

    def __post_init__(self) -> None:
        check_count("label_views", self.label_views, least=0)
        check_positive(self, "label_teachers", "label_temperature", "label_updates")
        check_least(self, "label_temperature", least=LEAST_TEMPERATURE)
        if self.label_network is not None:
            check_choice(self, "label_network", tuple(ENCODERS))
        given = [name for name, usual in _UNTAUGHT.items() if getattr(self, name) != usual]
        if given and getattr(self, "labels", None) != TAUGHT:
            raise BadConfig(f"{given[0]} needs labels=taught")


_UNTAUGHT: dict[str, Any] = {part.name: part.default for part in fields(TeachingConfig)}


@dataclass(frozen=True)
class LabelConfig(TeachingConfig):
    """Config of a selection.

    Attributes:
        labels: labels that students learn from, `hard` (the action taken), `soft` (the
            distribution that the action was drawn from) or `taught` (that of an ensemble of
            students of the data).
    """

    labels: str = field(default="hard")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in ("hard", "soft", TAUGHT):
            raise BadConfig(f"labels must be hard, soft or taught, not {self.labels!r}")
