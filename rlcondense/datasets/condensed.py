"""Condensed datasets: a few transitions with weights and a report of their condensation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense.config import check_choice
from rlcondense.datasets.coding import SEEN, CodedRows, Coding
from rlcondense.datasets.report import ARRAYS, LABEL_KINDS, REPORT, CondensationReport, report_from
from rlcondense.datasets.summary import summary
from rlcondense.datasets.transitions import Columns
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import (
    canonical_json,
    read_arrays,
    read_json,
    sha256_arrays,
    write_arrays,
    write_json,
)
from rlcondense.scaling import Scaling
from rlcondense.text import shown
from rlcondense.types import Array

EXTRA = ("source_indices", "initial_indices", "next_rows", "following", "held_back")

VIEWS = ("view_shifts", "view_labels")

EPISODIC = ("rewards", "terminations", "truncations", "episode_ids", "steps")

RATE = "students.learning_rate"  # name of the array that holds it

INITIAL = "initialisation."  # prefix of the names of its weights
_WEIGHT = re.compile(r"[\w.]+", re.ASCII)

SCALING = "scaling."  # prefix of the names of its two arrays

CODED = "coded."  # prefix of the names of coded rows


@dataclass(frozen=True)
class Initialisation:
    """Initial network from which training on the data starts.

    Attributes:
        network: arguments of `rlcondense.networks.NetworkSpec`.
        weights: weights of that network, by name. If the data have a scaling, the network sees
            observations standardised by it.
    """

    network: Mapping[str, Any]
    weights: Mapping[str, Array]


@dataclass(frozen=True, repr=False)
class CondensedDataset(Columns):
    """Small dataset in the environment's units. Synthetic pixels are float32.

    Attributes:
        weights: `(M,)` float32 weight of each row in a learner's loss.
        label_kind: `hard` (actions), `soft` (action_probs) or `continuous` (float actions).
        source_indices: `(M,)` rows of the source, for selections.
        initial_indices: `(M,)` rows of the source that synthetic observations started as.
        next_rows: `(M,)` int64 index of the observation after each row, in `observations`
            followed by `following`. A terminal row has its own index, since no observation follows
            it; -1 stands for an unknown one.
        following: `(K, *observation)` observations that follow a row and are no rows themselves.
        held_back: `(M,)` bool, rows for early stopping: students are not trained on them, and
            training ends when the loss on them stops falling, instead of after a learner's own
            number of updates.
        initialisation: initial network of the students, if the data were made for one.
        targets: `(M, A)` float32 real-valued labels of discrete actions, for learners that regress
            logits; `action_probs` are their softmax.
        scaling: scaling of the observations for students, if the data were made for students
            that see standardised observations. The rows themselves are not scaled.
        view_shifts: `(M, V, 2)` int8 shifts of views of each frame, in rows and columns of pixels.
        view_labels: `(M, V, ...)` float32 labels of these views: distributions, or actions.
        learning_rate: step size of the students, if it was learned with the data; float32.
        coded: the rows as they are stored, of a set that a budget in bytes bounds. Observations,
            actions and labels are what a reader sees of them.
        report: report of the condensation.
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
    scaling: Scaling | None = None
    view_shifts: Array | None = None
    view_labels: Array | None = None
    learning_rate: float | None = None
    coded: CodedRows | None = None
    report: CondensationReport | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_weights()
        check_choice(self, "label_kind", LABEL_KINDS)
        if self.label_kind == "soft":
            self.column("action_probs")
        if self.next_rows is not None:
            stored = len(self) + (0 if self.following is None else len(self.following))
            if self.next_rows.dtype.kind != "i" or len(self.next_rows) != len(self):
                raise CorruptArtifact(f"{len(self.next_rows)} next_rows for {len(self)} rows")
            if self.next_rows.min() < -1 or self.next_rows.max() >= stored:
                raise CorruptArtifact(f"next_rows must lie in -1..{stored - 1}")
        if self.held_back is not None:
            rows = self.held_back
            if rows.dtype != np.bool_ or rows.shape != (len(self),):
                raise CorruptArtifact(f"held_back must be {len(self)} truth values")
            if rows.all() or not rows.any():
                raise CorruptArtifact("held_back must leave rows on either side")
        for name in ("source_indices", "initial_indices"):
            self._check_source_rows(name)
        if self.scaling is not None:
            self.scaling.check(self.observations.shape[1:])
        self._check_views()
        rate = self.learning_rate
        if rate is not None and not (0 < rate < np.inf and rate == np.float32(rate)):
            raise CorruptArtifact(f"learning_rate must be a positive float32, not {rate}")

    def _check_views(self) -> None:
        shifts, labels = self.view_shifts, self.view_labels
        if shifts is None and labels is None:
            return
        own = self.action_probs if self.label_kind == "soft" else self.actions
        if (
            shifts is None
            or labels is None
            or own is None
            or shifts.dtype != np.int8
            or shifts.shape[2:] != (2,)
            or len(shifts) != len(self)
            or labels.dtype != np.float32
            or labels.shape != (*shifts.shape[:2], *own.shape[1:])
        ):
            raise CorruptArtifact("view_shifts and view_labels must be of the same views of frames")

    def _check_weights(self) -> None:
        if len(self.weights) != len(self):
            raise CorruptArtifact(f"{len(self.weights)} weights for {len(self)} rows")
        if self.weights.ndim != 1 or self.weights.dtype.kind not in "fiu":
            raise CorruptArtifact(
                f"weights must be one number a row, not {self.weights.dtype} of shape "
                f"{self.weights.shape[1:]}"
            )
        if not ((self.weights >= 0).all() and self.weights.sum() > 0):
            raise CorruptArtifact("weights must not be negative, nor all zero")

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

    def __repr__(self) -> str:
        report = self.report
        source = f" by {report.method} from {report.dataset or 'no data'}" if report else ""
        return summary(
            f"Condensed set{source}: {len(self):,} transitions, {self.label_kind} labels", self
        )

    @cached_property
    def sha256(self) -> str:
        """Return the sha256 of everything that a learner sees: arrays, label kind and network."""
        facts = {"label_kind": self.label_kind}
        if self.initialisation is not None:
            facts["network"] = canonical_json(self.initialisation.network)
        texts = {name: np.frombuffer(text.encode(), np.uint8) for name, text in facts.items()}
        return sha256_arrays({**self.arrays(), **texts})

    def arrays(self) -> dict[str, Array]:
        """Return all arrays: rows, weights, initial weights, scaling and rate."""
        extra = {name: getattr(self, name) for name in (*EXTRA, *VIEWS, "targets")}
        present = {name: array for name, array in extra.items() if array is not None}
        start = self.initialisation.weights if self.initialisation is not None else {}
        initial = {f"{INITIAL}{name}": array for name, array in start.items()}
        parts = vars(self.scaling) if self.scaling is not None else {}
        scaling = {f"{SCALING}{name}": array for name, array in parts.items()}
        rate = self.learning_rate
        learned = {} if rate is None else {RATE: np.array([rate], np.float32)}
        return {
            **self.columns(), "weights": self.weights, **present, **initial, **scaling, **learned,
        }  # fmt: skip

    def stored(self) -> dict[str, Array]:
        """Return the arrays that are stored: all, or codes in place of coded rows.

        Coded rows have weights only if these are not ones.
        """
        if self.coded is None:
            return self.arrays()
        codes = {f"{CODED}{name}": array for name, array in self.coded.arrays.items()}
        left_out = (*SEEN, *(("weights",) if (self.weights == 1).all() else ()))
        return {**{k: v for k, v in self.arrays().items() if k not in left_out}, **codes}

    def provides(self) -> set[str]:
        """Return the names of what a learner may require.

        They are columns, `next_observations`, `episodes` and `held_back`.

        `episodes` is present if each episode's rows continue to its end without a gap.
        """
        provided = set(self.columns())
        if self.next_rows is not None:
            provided.add("next_observations")
        if self.held_back is not None:
            provided.add("held_back")
        if self.whole_episodes is not None:
            provided.add("episodes")
        return provided

    def next_observations(self, indices: Array) -> Array:
        """Return the observation after each of some rows.

        Args:
            indices: `(B,)` rows.

        Raises:
            CorruptArtifact: it is unknown for all rows or for one of these.
        """
        if self.next_rows is None:
            raise CorruptArtifact("the data has no next_observations")
        where = self.next_rows[indices]
        if (where < 0).any():
            raise CorruptArtifact("the next observation of a row is unknown")
        if self.following is None:
            return np.asarray(self.observations[where])
        inside = where < len(self)
        dtype = np.result_type(self.observations.dtype, self.following.dtype)
        successors = np.empty((len(where), *self.observations.shape[1:]), dtype)
        successors[inside] = self.observations[where[inside]]
        successors[~inside] = self.following[where[~inside] - len(self)]
        return successors

    @cached_property
    def whole_episodes(self) -> list[Array] | None:
        """Return the rows of each episode in order, or None unless all continue to their end."""
        if any(getattr(self, name) is None for name in EPISODIC):
            return None
        ids, steps = self.column("episode_ids"), self.column("steps")
        order = np.lexsort((steps, ids))
        new = np.diff(ids[order]) != 0
        if not (new | (np.diff(steps[order]) == 1)).all():
            return None
        episodes = np.split(order, np.flatnonzero(new) + 1)
        ended = self.column("terminations") | self.column("truncations")
        return episodes if all(ended[rows[-1]] for rows in episodes) else None

    def save(self, folder: str | Path) -> None:
        """Write `condensed.safetensors` and `report.json`, bit for bit as in memory."""
        folder = Path(folder)
        write_arrays(folder / ARRAYS, self.stored())
        write_json(folder / REPORT, self.report_json())

    def report_json(self) -> dict[str, Any]:
        """Return the content of `report.json`: report, initial network, coding and sha256."""
        report = self.report.to_json() if self.report else {"label_kind": self.label_kind}
        start = self.initialisation
        network = {"initialisation": dict(start.network)} if start is not None else {}
        coding = {"coding": self.coded.coding.to_json()} if self.coded is not None else {}
        return {**report, **network, **coding, "sha256": self.sha256}


def load_condensed(folder: str | Path) -> CondensedDataset:
    """Read a condensed dataset from a folder: one that was saved, or exported in any format.

    Raises:
        CorruptArtifact: a file is missing, truncated or not of the promised form.
        MissingExtra: the library of an exported folder's format is not installed.
    """
    from rlcondense.datasets.exported import exported_arrays, is_exported

    folder = Path(folder)
    if (folder / ARRAYS).is_file() or not is_exported(folder):
        return read_saved(folder)
    report = read_json(folder / REPORT)
    report.pop("coding", None)  # the values that codes show are exported, and not the codes
    return _condensed(folder, exported_arrays(folder), report)


def read_saved(folder: Path) -> CondensedDataset:
    """Read a condensed dataset from the folder that it was saved to; errors as `load_condensed`."""
    return _condensed(folder, read_arrays(folder / ARRAYS), read_json(folder / REPORT))


def _condensed(folder: Path, arrays: dict[str, Array], report: Any) -> CondensedDataset:
    """Make a condensed dataset of the arrays and the report in a folder."""
    if not isinstance(report, dict):
        raise CorruptArtifact(f"{folder / REPORT} is no report")
    try:
        sha256, network = report.pop("sha256", None), report.pop("initialisation", None)
        coded = _coded(_taken(arrays, CODED), report.pop("coding", None))
        if coded is not None:
            arrays |= coded.columns()
        arrays.setdefault("weights", np.ones(len(arrays["observations"]), np.float32))
        weights, scaling = _taken(arrays, INITIAL), _taken(arrays, SCALING)
        if odd := [name for name in weights if not _WEIGHT.fullmatch(name)]:
            raise CorruptArtifact(f"{folder}: {shown(odd[0])} is no name of a weight")
        rate = arrays.pop(RATE, None)
        if not isinstance(network, dict | None):
            raise TypeError("the network of its initialisation is no object")
        if bool(weights) != (network is not None):
            raise CorruptArtifact(f"{folder}: an initialisation needs both weights and a network")
        label_kind = report["label_kind"]
        data = CondensedDataset(
            **with_next_rows(arrays),
            label_kind=label_kind,
            initialisation=Initialisation(network, weights) if network is not None else None,
            scaling=Scaling(**scaling) if scaling else None,
            learning_rate=None if rate is None else float(rate.item()),
            coded=coded,
            report=report_from(report),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{folder} does not hold a condensed dataset: {error}") from error
    if sha256 not in (None, data.sha256):
        raise CorruptArtifact(f"the content of {folder} is not the data of its {REPORT}")
    return data


def _coded(arrays: Mapping[str, Array], coding: Any) -> CodedRows | None:
    """Return coded rows, if there are arrays of some, in the form that a report tells."""
    if bool(arrays) != (coding is not None):
        raise TypeError("coded rows need both codes and a coding")
    if coding is None:
        return None
    try:
        form = Coding(**{**coding, "shape": tuple(coding["shape"])})
    except BadConfig as error:
        raise CorruptArtifact(f"the coding cannot be: {error}") from error
    return CodedRows(form, arrays)


def _taken(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Remove the arrays with a prefix from `arrays` and return them by name without it."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}


def with_next_rows(columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return columns with `next_observations`, if present, stored as `following`."""
    stored = dict(columns)
    if "next_observations" in stored:
        stored["following"] = stored.pop("next_observations")
        size = len(stored["observations"])
        if len(stored["following"]) != size:
            raise CorruptArtifact(f"{len(stored['following'])} next_observations for {size} rows")
        stored["next_rows"] = np.arange(size, 2 * size)
    return stored
