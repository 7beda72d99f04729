"""Detectors of suspicious results: checks of a condensed set, its source and its students.

Each compares one figure with one bound. Detectors neither refuse nor change anything and use no
randomness. Their findings are stored in reports and records, and shown wherever the result is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import Columns, TransitionDataset
from rlcondense.findings import (
    EXPECTED_ROWS,
    MOVED_DEVIATIONS,
    MOVED_LEVELS,
    NEAR_ROWS,
    NEAR_SHARE,
    Finding,
    finding_of,
    risen,
    unmoved,
)
from rlcondense.scaling import units_of
from rlcondense.types import Array
from rlcondense.validation import heldout_levels, heldout_rows

if TYPE_CHECKING:
    from rlcondense.policies import PolicyBatch
    from rlcondense.tasks.base import Task

# Fraction of the data's share of an action below which labels count as neglecting the action.
SCARCE = 0.01


# Side to which frames are averaged before comparison, and the most data rows compared.
SIDE, MOST_ROWS = 8, 20_000

# Information of the observation about the action, in nats. Of the students measured, those whose
# network had died had 0.000, all others 0.02 or more, and the experts 0.15 to 0.4.
CONSTANT_NATS = 0.01

# For continuous actions: their spread over observations, relative to the data's spread.
CONSTANT_SPREAD = 0.01

INHERITED = ("heldout-data", "lossy-frames")  # findings about data that hold for sets of them
PROBES = 128  # observations on which students are examined

CHUNK = 256  # rows in memory as floats at once


def detect(data: CondensedDataset, source: TransitionDataset | None) -> tuple[Finding, ...]:
    """Run all detectors on a condensed set.

    Args:
        data: the condensed set.
        source: the dataset that it was condensed from; None if unavailable, in which case only
            detectors that need the set and its report alone can fire.
    """
    broken = _non_finite_rows(data)
    if broken is not None:  # distances to such rows are undefined
        return (broken,)
    near = None
    if source is not None and data.source_indices is None and not _hides_its_origin(data):
        near = _Nearness(data, source)
    findings = [
        _moved_nothing(data, near),
        _missing_actions(data, source) if source is not None else None,
        _duplicate_rows(data, source),
        _loss_rose(data),
        _far_from_data(near) if near is not None else None,
    ]
    return tuple(finding for finding in findings if finding is not None)


def _hides_its_origin(data: CondensedDataset) -> bool:
    """Return whether rows were chosen, by their report, and codes do not say which they are.

    Such rows lie beside those of the data, and may coincide.
    """
    known = data.source_indices is not None or data.initial_indices is not None
    is_chosen = data.report is not None and data.report.displacement is None
    return data.coded is not None and not known and is_chosen


def with_findings(
    data: CondensedDataset, source: TransitionDataset | None, task: Task
) -> CondensedDataset:
    """Return the set with findings in its report: the detectors', and what its source is."""
    assert data.report is not None
    inherited = provenance(source, task) if source is not None else ()
    findings = (*detect(data, source), *(one for one in inherited if one.name in INHERITED))
    return replace(data, report=replace(data.report, findings=findings))


def inherited_findings(data: CondensedDataset) -> tuple[Finding, ...]:
    """Return what the report of a set says about the data that it was made of."""
    findings = data.report.findings if data.report is not None else ()
    return tuple(one for one in findings or () if one.name in INHERITED)


def constant_student(policies: PolicyBatch, source: TransitionDataset) -> Finding | None:
    """Return a finding if all students act independently of the observation.

    The measure is the mutual information of observation and action over evenly spaced rows of the
    data: the mean divergence of a row's distribution over actions from the mean distribution, in
    nats. A greedy student's distributions have one action each. For continuous actions the measure
    is the spread of the student's actions relative to the data's spread.

    Args:
        policies: trained policies; those that offer neither distributions nor actions are skipped.
        source: dataset of the observations that they see.
    """
    observations = np.ascontiguousarray(source.observations[_spaced(len(source), PROBES)])
    continuous = source.actions.dtype.kind == "f"
    try:
        if continuous:
            bound, unit = CONSTANT_SPREAD, "of the data's spread"
            measured = _spreads(policies, observations, source.actions)
        else:
            bound, unit = CONSTANT_NATS, "nats"
            measured = _information(policies, observations)
    except NotImplementedError:
        return None
    most = max(measured)
    if most >= bound:
        return None
    text = (
        f"what they see tells {most:.2g} {unit} at most about the actions of any of "
        f"{len(measured)} students (under {bound:g})"
    )
    return finding_of("constant-student", most, bound, text)


def is_elsewhere(where: str, task: Task) -> bool:
    """Return whether a task or environment, if it is known, is another one than a task."""
    return where not in ("", task.id, getattr(task, "env", ""))


def provenance(
    data: TransitionDataset | CondensedDataset | None, task: Task, expert: str = ""
) -> tuple[Finding, ...]:
    """Return the findings about the origin of the data and of the expert.

    Args:
        data: a dataset, or a condensed set whose source is unavailable.
        task: the task that students play.
        expert: id of the task that the expert was trained on, if there is an expert.
    """
    findings = []
    if expert not in ("", task.id):
        findings.append(finding_of("another-expert", 1, 0, f"the expert is that of {expert}"))
    if data is None:
        return tuple(findings)
    where, heldout, lossy = _origin(data, task)
    if is_elsewhere(where, task):
        findings.append(finding_of("another-task", 1, 0, f"the data were collected on {where}"))
    if len(heldout):
        share, total = len(heldout) / len(data), len(data)
        text = f"{len(heldout)} of {total} rows are of held-out levels of {task.id}"
        findings.append(finding_of("heldout-data", share, 0, text))
    if lossy:
        findings.append(
            finding_of("lossy-frames", 1, 0, "frames were stored as JPEG and are not exact")
        )
    return tuple(findings)


def _origin(data: TransitionDataset | CondensedDataset, task: Task) -> tuple[str, Array, bool]:
    """Return the task of collection, the rows of held-out levels, and whether frames are lossy."""
    if isinstance(data, TransitionDataset):
        where = data.task or data.origin.environment
        return where, heldout_rows(data, task), data.origin.lossy
    levels = np.empty(0, np.int64) if data.level_seeds is None else data.level_seeds
    where = data.report.task or "" if data.report else ""
    return where, heldout_levels(levels, task), False


def _information(policies: PolicyBatch, observations: Array) -> list[float]:
    information = []
    for student in range(policies.num_policies):
        which = np.full(len(observations), student)
        probs = np.asarray(policies.action_probs(observations, which), np.float64)  # (B, A)
        if policies.action_selection == "greedy":
            probs = np.eye(probs.shape[1])[probs.argmax(1)]
        tiny = np.finfo(np.float64).tiny  # a probability of 0 contributes 0 to the sum
        ratio = np.log(probs.clip(tiny) / probs.mean(0).clip(tiny))
        information.append(max(0.0, float((probs * ratio).sum(1).mean())))
    return information


def _spreads(policies: PolicyBatch, observations: Array, actions: Array) -> list[float]:
    spreads = []
    middle = np.full((len(observations), *actions.shape[1:]), 0.5)
    usual = units_of(np.std(actions, axis=0))
    for student in range(policies.num_policies):
        acted = policies.act(observations, np.full(len(observations), student), middle)
        spread = np.std(acted, axis=0) / usual
        spreads.append(max(0.0, float(spread.max())))
    return spreads


def _non_finite_rows(data: CondensedDataset) -> Finding | None:
    """Count rows with NaN or infinity, in sets that are read only: learners refuse such rows."""
    bad = np.zeros(len(data), bool)
    for column in (*data.columns().values(), data.weights):
        if column.dtype.kind == "f":
            for rows in _chunks(len(data)):
                finite = np.isfinite(column[rows]).reshape(rows.stop - rows.start, -1)
                bad[rows] |= ~finite.all(1)
    count = int(bad.sum())
    if not count:
        return None
    return finding_of("non-finite-rows", count, 0, f"{count} of {len(data)} rows")


def _moved_nothing(data: CondensedDataset, near: _Nearness | None) -> Finding | None:
    """Compare the change from the start with its bound: the reported or the measured, the smaller.

    If neither is known, the nearest rows of the data stand for the start. So rows of the data
    without `source_indices` count as a synthetic set that did not move.
    """
    reported = data.report.displacement if data.report is not None else None
    if near is None:
        frames = data.observations.ndim > 2
        return unmoved(reported.mean) if reported is not None and frames else None
    measured = [] if reported is None else [reported.mean / near.deviation]
    from_what = ""
    start = data.initial_indices
    if start is not None and start.max() < len(near.source):
        measured.append(near.change_from(start))
    elif reported is None:
        from_what = " from the nearest rows of the data"
        measured.append(near.change_from(near.nearest))
    if not measured:
        return None
    return unmoved(min(measured), frames=near.frames, from_what=from_what)


def _missing_actions(data: CondensedDataset, source: TransitionDataset) -> Finding | None:
    if source.actions.dtype.kind == "f":
        return None
    mass: Array
    if data.label_kind == "soft":
        mass = data.weights.astype(np.float64) @ data.column("action_probs")
    else:
        mass = np.bincount(data.actions.astype(np.int64), data.weights)
    count = max(len(mass), int(source.actions.max()) + 1)
    mass = np.pad(mass / mass.sum(), (0, count - len(mass)))
    share = np.bincount(source.actions, minlength=count) / len(source)
    missing = np.flatnonzero((share * len(data) >= EXPECTED_ROWS) & (mass < SCARCE * share))
    if not len(missing):
        return None
    lost = float(share[missing].sum())
    named = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
    text = (
        f"{'actions' if len(missing) > 1 else 'action'} {named}: {100 * lost:.2g}% of the data "
        f"(a random set of the size has {EXPECTED_ROWS} rows or more of each)"
    )
    return finding_of("missing-actions", lost, 0, text)


def _duplicate_rows(data: CondensedDataset, source: TransitionDataset | None) -> Finding | None:
    """Count repeated rows: by source row in selections, by content in synthetic sets.

    Synthetic rows may repeat as often as their initial rows do, or, if these are unknown, as often
    as rows of the data do.
    """
    if _hides_its_origin(data):
        return None
    if data.source_indices is not None:
        count = len(data) - len(np.unique(data.source_indices))
    else:
        repeated = {row: n for row, n in Counter(_contents(data, data)).items() if n > 1}
        count = sum(repeated.values()) - len(repeated)
        start = data.initial_indices
        if count and source is not None:
            if start is not None and start.max() < len(source):
                began = Counter(_contents(source, data, start))
                count = max(0, count - began.total() + len(began))
            else:
                in_source = Counter(row for row in _contents(source, data) if row in repeated)
                count = sum(max(0, n - max(1, in_source[row])) for row, n in repeated.items())
    if not count:
        return None
    return finding_of("duplicate-rows", count, 0, f"{count} of {len(data)} rows repeat another")


def _contents(
    columns: Columns, like: CondensedDataset, which: Array | None = None
) -> Iterator[bytes]:
    """Return a digest of observation and label for each row, equal for 3 and 3.0."""
    labels = columns.action_probs if like.label_kind == "soft" else columns.actions
    if labels is None:
        return
    which = np.arange(len(columns)) if which is None else which
    for part in _chunks(len(which)):
        observations = np.asarray(columns.observations[which[part]], np.float32)
        targets = np.asarray(labels[which[part]], np.float32)
        for observation, target in zip(observations, targets, strict=True):
            content = observation.tobytes() + target.tobytes()
            yield hashlib.blake2b(content, digest_size=16).digest()


def _loss_rose(data: CondensedDataset) -> Finding | None:
    loss = data.report.matching_loss if data.report is not None else None
    return None if loss is None else risen(loss.before, loss.after)


def _far_from_data(near: _Nearness) -> Finding | None:
    own, usual = float(np.median(near.distances)), near.usual
    if own <= max(usual, near.nothing):
        return None
    unit = "grey levels" if near.frames else "standard deviations"
    text = (
        f"half of the rows lie {own:.3g} {unit} or more from the nearest row of the data (above "
        f"{usual:.3g}, as {NEAR_SHARE:.0%} of its own rows lie from the nearest that differs)"
    )
    return finding_of("far-from-data", own, usual, text)


@dataclass(frozen=True)
class _Nearness:
    """Distances between synthetic rows and the data, root mean squares over features.

    Features of frames are their averages over 8 x 8 parts, in grey levels, so that noise of single
    pixels does not count as distance. Other observations are measured in standard deviations.

    Attributes:
        data: the synthetic set.
        source: the data, of which at most `MOST_ROWS` evenly spaced rows are compared.
    """

    data: CondensedDataset
    source: TransitionDataset

    @property
    def frames(self) -> bool:
        """Return whether distances are in grey levels."""
        return bool(self.source.observations.dtype == np.uint8)

    @property
    def nothing(self) -> float:
        """Distance up to which rows count as equal."""
        return MOVED_LEVELS if self.frames else MOVED_DEVIATIONS

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """Rows of the data that are compared."""
        return _spaced(len(self.source), MOST_ROWS)

    @cached_property
    def _deviations(self) -> Array:
        """Unit of each feature `(F,)`."""
        if self.frames:
            return np.ones(1, np.float32)
        return units_of(self._raw.std(0)).astype(np.float32)

    @property
    def deviation(self) -> float:
        """Unit of a change of observations."""
        return float(self._deviations.mean())

    @cached_property
    def _raw(self) -> Array:
        return _features(self.source.observations, self.rows)

    @cached_property
    def _centre(self) -> Array:
        """Mean of the features; without it, float32 would resolve the differences less well."""
        return np.asarray(self._raw.mean(0))

    @cached_property
    def _real(self) -> Array:  # (N, F)
        return np.asarray((self._raw - self._centre) / self._deviations)

    @cached_property
    def _synthetic(self) -> Array:  # (M, F)
        features = _features(self.data.observations, np.arange(len(self.data)))
        return np.asarray((features - self._centre) / self._deviations)

    @cached_property
    def _neighbours(self) -> tuple[Array, Array]:
        return self._search(self._synthetic)

    @property
    def nearest(self) -> npt.NDArray[np.int64]:
        """`(M,)` row of the data that is nearest to each synthetic row."""
        return self.rows[self._neighbours[0]]

    @property
    def distances(self) -> Array:
        """`(M,)` distance to the nearest row."""
        return self._neighbours[1]

    @cached_property
    def usual(self) -> float:
        """Distance within which most rows of the data have another frame as nearest neighbour."""
        held = self._real[_spaced(len(self._real), NEAR_ROWS)]
        _, distances = self._search(held, beyond=self.nothing)
        return float(np.quantile(distances, NEAR_SHARE))

    def change_from(self, rows: Array) -> float:
        """Return the mean absolute difference of synthetic observations from rows of the data."""
        total = 0.0
        for part in _chunks(len(self.data)):
            before = np.asarray(self.source.observations[rows[part]], np.float32)
            total += float(abs(self.data.observations[part] - before).sum(dtype=np.float64))
        return total / max(1, self.data.observations.size) / self.deviation

    def _search(self, features: Array, beyond: float = -1.0) -> tuple[Array, Array]:
        """Find the data's row nearest to each of `(M, F)` features, and its distance.

        Args:
            features: features of the query rows.
            beyond: rows within this distance are ignored.
        """
        real, squares = self._real, (self._real**2).sum(1)
        nearest = np.empty(len(features), np.int64)
        for part in _chunks(len(features)):
            own = (features[part] ** 2).sum(1)[:, None]
            apart = own + squares - 2 * features[part] @ real.T  # (B, N)
            if beyond >= 0:
                apart[apart <= beyond**2 * features.shape[1]] = np.inf
            nearest[part] = apart.argmin(1)
        gaps = (features - real[nearest]).astype(np.float64)
        return nearest, np.sqrt((gaps**2).mean(1))


def _features(observations: Array, rows: npt.NDArray[np.int64]) -> Array:
    """Return features `(N, F)` for comparison: averaged frames, or other observations unchanged."""
    parts = []
    for part in _chunks(len(rows)):
        values = np.asarray(observations[rows[part]], np.float32)
        if values.ndim > 2:
            values = _averages(values.shape[-2]).T @ values @ _averages(values.shape[-1])
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts)


def _averages(pixels: int) -> Array:
    """Return the matrix `(pixels, parts)` that averages a line of pixels over its parts."""
    parts = np.array_split(np.arange(pixels), min(SIDE, pixels))
    out = np.zeros((pixels, len(parts)), np.float32)
    for column, part in enumerate(parts):
        out[part, column] = 1 / len(part)
    return out


def _spaced(size: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of `size` rows, evenly spaced, including the first and the last."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(np.int64)


def _chunks(size: int) -> Iterator[slice]:
    for start in range(0, size, CHUNK):
        yield slice(start, min(start + CHUNK, size))
