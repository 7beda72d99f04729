"""What every condensation method gives: a small dataset and a report of how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.transitions import Columns, TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import (
    canonical_json,
    read_arrays,
    read_json,
    sha256_arrays,
    write_arrays,
    write_json,
)
from rlcondense.tasks.base import Task

Array = npt.NDArray[Any]
LABEL_KINDS = ("hard", "soft", "continuous")
UNITS = ("transitions", "episodes")
ARRAYS, REPORT = "condensed.safetensors", "report.json"
EXTRA = ("source_indices", "initial_indices", "next_rows", "following", "held_back")
# What columns of one value a row hold, by numpy's kinds.
SCALARS = {
    "rewards": "f", "terminations": "b", "truncations": "b", "episode_ids": "iu", "steps": "iu",
}  # fmt: skip
KINDS = {"f": "float", "b": "bool", "iu": "whole number"}
EPISODIC = ("rewards", "terminations", "truncations", "episode_ids", "steps")
_LATER = ("curve", "initialisation_bytes", "task")  # of a report, left out where there is none
INITIAL = "initialisation."  # before the names of its weights


@dataclass(frozen=True)
class Budget:
    """How much a method may keep: a number of transitions, or a percentage of the data.

    Attributes:
        size: transitions.
        percent: of the dataset's transitions or episodes.
        unit: what `percent` counts, `transitions` or `episodes`.
    """

    size: int | None = None
    percent: float | None = None
    unit: str = "transitions"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.percent is None):
            raise BadConfig("a budget is either a size or a percentage")
        if self.size is not None and self.size < 1:
            raise BadConfig(f"size must be at least 1, not {self.size}")
        if self.percent is not None and not 0 < self.percent <= 100:
            raise BadConfig(f"percent must lie in (0, 100], not {self.percent}")
        if self.unit not in UNITS:
            raise BadConfig(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    def transitions(self, dataset: TransitionDataset | None) -> int:
        """The budget in transitions.

        Args:
            dataset: what there is to keep; None where nothing bounds it.

        Raises:
            BadConfig: it counts episodes, comes to nothing, or is more than there is.
        """
        if dataset is None:
            if self.size is None:
                raise BadConfig("a percentage is of a dataset, and none is condensed: give a size")
            return self.size
        if self.percent is not None:
            if self.unit == "episodes":
                raise BadConfig("a percentage of episodes is for methods that select episodes")
            size = int(len(dataset) * self.percent / 100 + 1e-9)
            if size < 1:
                raise BadConfig(f"{self.percent}% of {len(dataset)} transitions is less than one")
            return size
        assert self.size is not None
        if self.size > len(dataset):
            raise BadConfig(f"size {self.size} is above the {len(dataset)} transitions of the data")
        return self.size

    def episodes(self, dataset: TransitionDataset) -> int:
        """A percentage of episodes as a number of them.

        Raises:
            BadConfig: it comes to less than one.
        """
        assert self.percent is not None
        assert self.unit == "episodes"
        count = int(len(dataset.episodes) * self.percent / 100 + 1e-9)
        if count < 1:
            raise BadConfig(f"{self.percent}% of {len(dataset.episodes)} episodes is less than one")
        return count

    def to_json(self) -> dict[str, Any]:
        """The budget as plain values."""
        if self.size is not None:
            return {"size": self.size}
        return {"percent": self.percent, "unit": self.unit}


@dataclass(frozen=True)
class Displacement:
    """How far synthetic observations moved from the real ones they started as, in their own units.

    Attributes:
        mean: mean absolute change of a pixel, in grey levels, or of a number.
        largest: the largest.
    """

    mean: float
    largest: float

    @classmethod
    def between(cls, after: Any, before: Any) -> Displacement:
        """The displacement of one array or tensor from another."""
        moved = abs(after - before)
        return cls(float(moved.mean()), float(moved.max()))


@dataclass(frozen=True)
class MatchingLoss:
    """A matching loss before and after condensation, measured as the method's file says."""

    before: float
    after: float


@dataclass(frozen=True)
class Finding:
    """What one of `rlcondense.methods.detectors` found.

    Attributes:
        name: of the detector.
        measured: the figure.
        bound: what it was compared with.
        text: both in words.
    """

    name: str
    measured: float
    bound: float
    text: str

    def __str__(self) -> str:
        """The finding in a line."""
        return f"{self.name.replace('-', ' ')}: {self.text}"


@dataclass(frozen=True)
class Cost:
    """What condensation took.

    Attributes:
        gradient_evaluations: gradients of one observation's loss.
        environment_steps: steps taken in the seen levels.
        device: `cpu` or `cuda`.
        wall_seconds: measured, and so no part of what two equal runs agree on.
        cpu_seconds: of the process on all processors, measured.
        gpu_seconds: of the wall seconds those with a GPU held, measured.
        peak_memory_bytes: of the whole process, measured.
    """

    gradient_evaluations: int = 0
    environment_steps: int = 0
    device: str = "cpu"
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class CondensationReport:
    """How a condensed dataset came about.

    Attributes:
        method: id of the method.
        config: its settings, defaults resolved.
        seed: condensation seed.
        budget: as asked for.
        dataset: id of the source; None of methods that take none.
        dataset_sha256: of the source's columns.
        expert_sha256: of the expert's weights, where the method was given them.
        size: transitions kept.
        bytes: of the condensed columns, weights and initialisation; the observations that come
            after rows are not counted.
        label_kind: `hard`, `soft` or `continuous`.
        cost: what it took.
        displacement: of synthetic observations.
        matching_loss: of methods that match something.
        findings: of the detectors; None where none have looked.
        curve: of methods that try what they make in the environment: `steps`, `best` and `mean`
            return along the way.
        task: id of what it was condensed for; None where an earlier version wrote it.
        initialisation_bytes: of `bytes` those of the initialisation, if there is one.
    """

    method: str
    config: Mapping[str, Any]
    seed: int
    budget: Mapping[str, Any]
    dataset: str | None
    dataset_sha256: str | None
    expert_sha256: str | None
    size: int
    bytes: int
    label_kind: str
    cost: Cost
    displacement: Displacement | None = None
    matching_loss: MatchingLoss | None = None
    findings: tuple[Finding, ...] | None = None
    curve: Mapping[str, list[float]] | None = None
    task: str | None = None
    initialisation_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        found = self.findings
        plain = {**asdict(self), "findings": None if found is None else list(map(asdict, found))}
        return {k: v for k, v in plain.items() if k not in _LATER or v is not None}


@dataclass(frozen=True)
class Initialisation:
    """Where training on the data is to start.

    Attributes:
        network: what `rlcondense.networks.NetworkSpec` is made with.
        weights: of that network, by name.
    """

    network: Mapping[str, Any]
    weights: Mapping[str, Array]


@dataclass(frozen=True)
class CondensedDataset(Columns):
    """A small dataset. Observations keep the environment's units; synthetic pixels are float32.

    Attributes:
        weights: `(M,)` float32 weight of each row in a learner's loss.
        label_kind: `hard` (actions), `soft` (action_probs) or `continuous` (float actions).
        source_indices: `(M,)` rows of the source, for selections.
        initial_indices: `(M,)` rows of the source that synthetic observations started as.
        next_rows: `(M,)` int64, where the observation after each row stands, counted through
            `observations` and then `following`. A terminal row's is its own, since nothing comes
            after it, and -1 says that it is not known.
        following: `(K, *observation)` observations that come after a row and are no rows.
        held_back: `(M,)` bool, rows that students are not trained on: training ends when the loss
            on them stops falling, instead of after a learner's own number of updates.
        initialisation: of the network that learns from it, where the data were made for one.
        targets: `(M, A)` float32 real-valued labels of discrete actions, for learners that regress
            logits; `action_probs` are their softmax.
        report: how it came about.
    """

    weights: Array = field(default_factory=lambda: np.ones(0, np.float32))
    label_kind: str = "hard"
    source_indices: Array | None = None
    initial_indices: Array | None = None
    next_rows: Array | None = None
    following: Array | None = None
    held_back: Array | None = None
    initialisation: Initialisation | None = None
    targets: Array | None = None
    report: CondensationReport | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weights) != len(self):
            raise CorruptArtifact(f"{len(self.weights)} weights for {len(self)} rows")
        if not ((self.weights >= 0).all() and self.weights.sum() > 0):
            raise CorruptArtifact("weights must not be negative, nor all zero")
        if self.label_kind not in LABEL_KINDS:
            raise BadConfig(
                f"label_kind must be one of {', '.join(LABEL_KINDS)}, not {self.label_kind!r}"
            )
        if self.label_kind == "soft":
            self.column("action_probs")
        if self.next_rows is not None:
            kept = len(self) + (0 if self.following is None else len(self.following))
            if self.next_rows.dtype.kind != "i" or len(self.next_rows) != len(self):
                raise CorruptArtifact(f"{len(self.next_rows)} next_rows for {len(self)} rows")
            if self.next_rows.min() < -1 or self.next_rows.max() >= kept:
                raise CorruptArtifact(f"next_rows must lie in -1..{kept - 1}")
        if self.held_back is not None:
            rows = self.held_back
            if rows.dtype != np.bool_ or rows.shape != (len(self),):
                raise CorruptArtifact(f"held_back must be {len(self)} truth values")
            if rows.all() or not rows.any():
                raise CorruptArtifact("held_back must leave rows on either side")
        for name in ("source_indices", "initial_indices"):
            self._check_source_rows(name)

    def _check_source_rows(self, name: str) -> None:
        rows = getattr(self, name)
        if rows is None:
            return
        if rows.dtype.kind not in "iu" or rows.shape != (len(self),):
            raise CorruptArtifact(
                f"{name} must be {len(self)} whole numbers, not {rows.dtype} of shape {rows.shape}"
            )
        if len(rows) and rows.min() < 0:
            raise CorruptArtifact(f"{name} must not be negative")

    @cached_property
    def sha256(self) -> str:
        """The sha256 of everything a learner sees: arrays, the kind of label, the network."""
        said = {"label_kind": self.label_kind}
        if self.initialisation is not None:
            said["network"] = canonical_json(self.initialisation.network)
        texts = {name: np.frombuffer(text.encode(), np.uint8) for name, text in said.items()}
        return sha256_arrays({**self.arrays(), **texts})

    def arrays(self) -> dict[str, Array]:
        """Everything that is stored: rows with what goes with them, and initial weights."""
        extra = {name: getattr(self, name) for name in (*EXTRA, "targets")}
        found = {name: array for name, array in extra.items() if array is not None}
        start = self.initialisation.weights if self.initialisation is not None else {}
        initial = {f"{INITIAL}{name}": array for name, array in start.items()}
        return {**self.columns(), "weights": self.weights, **found, **initial}

    def provides(self) -> set[str]:
        """What a learner may find: columns, `next_observations`, `episodes` and `held_back`.

        `episodes` is there if each episode's rows go on to its end without a gap.
        """
        found = set(self.columns())
        if self.next_rows is not None:
            found.add("next_observations")
        if self.held_back is not None:
            found.add("held_back")
        if self.whole_episodes is not None:
            found.add("episodes")
        return found

    def next_observations(self, indices: Array) -> Array:
        """The observation after each of some rows.

        Args:
            indices: `(B,)` rows.

        Raises:
            CorruptArtifact: the data do not tell, for all rows or for one of these.
        """
        if self.next_rows is None:
            raise CorruptArtifact("the data has no next_observations")
        where = self.next_rows[indices]
        if (where < 0).any():
            raise CorruptArtifact("what comes after one of these rows is not known")
        if self.following is None:
            return np.asarray(self.observations[where])
        inside = where < len(self)
        dtype = np.result_type(self.observations.dtype, self.following.dtype)
        found = np.empty((len(where), *self.observations.shape[1:]), dtype)
        found[inside] = self.observations[where[inside]]
        found[~inside] = self.following[where[~inside] - len(self)]
        return found

    @cached_property
    def whole_episodes(self) -> list[Array] | None:
        """The rows of each episode in order, or None unless each goes on to its end."""
        if any(getattr(self, name) is None for name in EPISODIC):
            return None
        ids, steps = self.column("episode_ids"), self.column("steps")
        order = np.lexsort((steps, ids))
        new = np.diff(ids[order]) != 0
        if not (new | (np.diff(steps[order]) == 1)).all():
            return None
        found = np.split(order, np.flatnonzero(new) + 1)
        ended = self.column("terminations") | self.column("truncations")
        return found if all(ended[rows[-1]] for rows in found) else None

    def save(self, folder: Path) -> None:
        """Write `condensed.safetensors` and `report.json`, bit for bit what is in memory."""
        report = self.report.to_json() if self.report else {"label_kind": self.label_kind}
        write_arrays(folder / ARRAYS, self.arrays())
        start = self.initialisation
        network = {"initialisation": dict(start.network)} if start is not None else {}
        write_json(folder / REPORT, {**report, **network, "sha256": self.sha256})


def load_condensed(folder: Path) -> CondensedDataset:
    """Read a condensed dataset, made here or elsewhere.

    Raises:
        CorruptArtifact: a file is missing, truncated or not of the promised form.
    """
    arrays = read_arrays(folder / ARRAYS)
    report = read_json(folder / REPORT)
    try:
        sha256, network = report.pop("sha256", None), report.pop("initialisation", None)
        arrays.setdefault("weights", np.ones(len(arrays["observations"]), np.float32))
        initial = {name: arrays.pop(name) for name in list(arrays) if name.startswith(INITIAL)}
        weights = {name.removeprefix(INITIAL): array for name, array in initial.items()}
        if bool(weights) != (network is not None):
            raise CorruptArtifact(
                f"{folder}: weights to begin with need the network that they are of, and it them"
            )
        label_kind = report["label_kind"]
        data = CondensedDataset(
            **with_next_rows(arrays),
            label_kind=label_kind,
            initialisation=Initialisation(network, weights) if network is not None else None,
            report=_report(report),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifact(f"{folder} does not hold a condensed dataset: {error}") from error
    if sha256 not in (None, data.sha256):
        raise CorruptArtifact(f"{folder / ARRAYS} is not the data that {REPORT} speaks of")
    return data


def with_next_rows(columns: Mapping[str, Array]) -> dict[str, Array]:
    """Columns whose `next_observations`, if there are any, are kept as `following`."""
    found = dict(columns)
    if "next_observations" in found:
        found["following"] = found.pop("next_observations")
        size = len(found["observations"])
        if len(found["following"]) != size:
            raise CorruptArtifact(f"{len(found['following'])} next_observations for {size} rows")
        found["next_rows"] = np.arange(size, 2 * size)
    return found


def check_rows(columns: Mapping[str, Array], task: Task, owner: str) -> None:
    """Refuse rows that are not observations, actions and labels of a task.

    Args:
        columns: by name, `observations` and `actions` at least.
        task: whose spaces they must fit.
        owner: where they come from, for messages.

    Raises:
        CorruptArtifact: a shape, a type or a value is off.
    """
    if len(columns["observations"]) == 0:
        raise CorruptArtifact(f"{owner} kept nothing")
    for name, column in columns.items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise CorruptArtifact(f"{owner} gave non-finite {name}")
    observations, actions = columns["observations"], columns["actions"]
    if observations.dtype not in (np.uint8, np.float32):
        raise CorruptArtifact(f"{owner} gave observations of type {observations.dtype}")
    shape = observations.shape[1:]
    if shape != task.observation_space.shape:
        raise CorruptArtifact(
            f"{owner} gave observations of shape {shape}, "
            f"task {task.id!r} has {task.observation_space.shape}"
        )
    following = columns.get("following", observations)
    if following.shape[1:] != shape or following.dtype not in (np.uint8, np.float32):
        raise CorruptArtifact(f"{owner} gave next observations unlike observations")
    for name in SCALARS.keys() & columns.keys():
        column, kinds = columns[name], SCALARS[name]
        if column.ndim != 1 or column.dtype.kind not in kinds:
            raise CorruptArtifact(
                f"{owner} gave {name} of type {column.dtype} and shape {column.shape}, "
                f"not one {KINDS[kinds]} a row"
            )
    _check_actions(actions, columns.get("action_probs"), columns.get("targets"), task, owner)


def _check_actions(
    actions: Array, probs: Array | None, targets: Array | None, task: Task, owner: str
) -> None:
    num_actions = getattr(task.action_space, "n", None)
    if num_actions is None:
        if actions.dtype != np.float32 or actions.shape[1:] != task.action_space.shape:
            raise CorruptArtifact(
                f"{owner} gave actions of type {actions.dtype} and shape {actions.shape[1:]}, "
                f"task {task.id!r} has float32 of {task.action_space.shape}"
            )
        return
    if actions.dtype.kind not in "iu" or actions.ndim != 1:
        raise CorruptArtifact(f"{owner} gave actions that are not whole numbers")
    if not ((actions >= 0) & (actions < num_actions)).all():
        raise CorruptArtifact(f"{owner} gave actions outside 0..{num_actions - 1}")
    if targets is not None and targets.shape != (len(actions), num_actions):
        raise CorruptArtifact(f"{owner} gave targets of {targets.shape[1:]}, not {num_actions}")
    if probs is not None and (probs.ndim != 2 or probs.shape[1] != num_actions):
        raise CorruptArtifact(f"{owner} gave action_probs of {probs.shape[1:]}, not {num_actions}")


def _report(values: dict[str, Any]) -> CondensationReport | None:
    if "method" not in values:
        return None
    for name, kinds in (("method", str), ("config", dict), ("task", (str, type(None)))):
        if not isinstance(values.get(name), kinds):
            raise TypeError(f"its report gives {name} in another form")
    moved, loss = values.pop("displacement"), values.pop("matching_loss")
    found = values.pop("findings", None)
    return CondensationReport(
        **values | {"cost": Cost(**values["cost"])},
        displacement=Displacement(**moved) if moved else None,
        matching_loss=MatchingLoss(**loss) if loss else None,
        findings=None if found is None else tuple(Finding(**finding) for finding in found),
    )
