"""The verification of records: each by itself, beside others, and beside published ones.

Only a rerun detects a forged record that agrees with itself, the catalogue and its game; see
`rlcondense.submissions.rerun`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rlcondense.datasets.condensed import read_saved
from rlcondense.datasets.report import FindingJson, ReportJson
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import FileRefusal, canonical_json, read_unpacked
from rlcondense.records.cell import CONDENSED, OF_SEVERAL_TASKS, POLICIES_FROM, Cell
from rlcondense.records.reading import (
    PICTURES,
    Source,
    read_index,
    read_record,
    record_name,
    record_path,
    source_of,
)
from rlcondense.records.record import Record
from rlcondense.records.schema import misshapen
from rlcondense.records.store import content_sha256, costs_sha256
from rlcondense.references import POLICIES
from rlcondense.reporting.commands import takes_heldout_data
from rlcondense.reporting.derived import changed_pictures, listed, look_beside
from rlcondense.reporting.pictures import wrong_pictures
from rlcondense.runtime.progress import Progress, silent
from rlcondense.submissions.content import (
    CHANCE,
    DIFFERENT,
    LocalFacts,
    known_here,
    problems,
    remarks,
)
from rlcondense.tasks.base import Task
from rlcondense.text import one_line, unquoted
from rlcondense.types import Split
from rlcondense.validation import check_rows

PUBLISHABLE = ("done", "skipped")
STARTS = ("random", "random-balanced", "init-only")  # the rows that synthesisers start from
UNEQUAL = {
    "levels": "its levels are not those of {}, which is of the same protocol",
    "dataset": "its data are not those of {}, which names the same dataset: key.dataset_sha256",
}


@dataclass(frozen=True)
class Finding:
    """A fault of a record, or a note on it.

    Attributes:
        file: its name.
        cell: the id of its cell, if the file states it.
        check: the name of the check.
        text: the fault or note, in one line.
    """

    file: str
    cell: str
    check: str
    text: str

    def __str__(self) -> str:
        """Return the finding in a line."""
        return f"{self.file}: {self.check}: {self.text}"


@dataclass(frozen=True)
class Outline:
    """The facts of a record that are needed after its own checks.

    Attributes:
        path: of its file.
        cell: the record's cell.
        status: `done`, `failed`, `skipped` or `not-installed`.
        content_sha256: computed, not read from the record.
        costs_sha256: of the measured costs.
        means: mean returns by split, if it is done.
        collapsed: whether its policies are greedy and all act the same, or their episodes take one
            of a few courses.
        unmoved: whether its synthetic observations are the real ones that they started as.
    """

    path: Path
    cell: Cell
    status: str
    content_sha256: str
    costs_sha256: str
    means: Mapping[Split, float]
    collapsed: bool = False
    unmoved: bool = False


@dataclass(frozen=True)
class Rerun:
    """A cell that was computed again.

    Attributes:
        file: of its record.
        cell: its id.
        agrees: whether the numbers do; None if it could not be computed.
        text: how they compare, in one line.
        is_compared: whether it was computed, and its numbers compared.
    """

    file: str
    cell: str
    agrees: bool | None
    text: str
    is_compared: bool = False


@dataclass(frozen=True)
class Verification:
    """The result of verifying a folder of records.

    Attributes:
        findings: the faults.
        notes: remarks that are no faults.
        files: how many were checked.
        outlines: of the records whose form is right, by cell id.
        reruns: of the cells that were computed again; None if none were asked for.
        wanted: how many were asked for.
    """

    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    files: int
    outlines: Mapping[str, Outline]
    reruns: tuple[Rerun, ...] | None = None
    wanted: int = 0

    @property
    def ok(self) -> bool:
        """True if there are no findings."""
        return not self.findings

    @property
    def is_complete(self) -> bool:
        """True if as many cells were computed again as were asked for."""
        return sum(rerun.agrees is not None for rerun in self.reruns or ()) >= self.wanted

    def with_reruns(self, reruns: Iterable[Rerun], wanted: int) -> Verification:
        """Add reruns to the verification; a rerun that does not agree is a finding.

        Args:
            reruns: the cells that were computed again.
            wanted: how many were asked for.
        """
        reruns = tuple(reruns)
        bad = [Finding(r.file, r.cell, "rerun", r.text) for r in reruns if r.agrees is False]
        return replace(self, findings=(*self.findings, *bad), reruns=reruns, wanted=wanted)

    def summary(self) -> str:
        """Return the last line that `leaderboard verify` prints."""
        wrong = len({finding.file for finding in self.findings})
        verdict = "nothing wrong" if not wrong else f"something is wrong with {_files(wrong)}"
        return f"{_count(self.files, 'record')}: {verdict}; {self._rerun_summary()}"

    def _rerun_summary(self) -> str:
        if self.reruns is None:
            return "not re-run (--rerun N computes some again)"
        agree = sum(rerun.agrees is True for rerun in self.reruns)
        computed = sum(rerun.agrees is not None for rerun in self.reruns)
        short = "" if self.is_complete else f"{computed} of {self.wanted} could be: "
        counts = f"{computed} computed again, {agree} of them agree" if computed else "none re-run"
        return short + counts

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `leaderboard verify --json` prints."""
        return {
            "records": self.files,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
            "notes": [asdict(note) for note in self.notes],
            "complete": self.is_complete,
            "reruns": None if self.reruns is None else [asdict(rerun) for rerun in self.reruns],
        }


@dataclass(frozen=True)
class _Condensed:
    """What records must agree with of a condensed dataset; the data itself may fill the memory.

    Attributes:
        name: of its folder.
        faults: of its files and rows.
        unseen: one of the levels of its rows that is no seen level, if there is one.
        size: rows; None if it cannot be read.
        label_kind: the kind of its labels.
        reported: its report.
    """

    name: str
    faults: tuple[str, ...]
    unseen: int | None = None
    size: int | None = None
    label_kind: str = ""
    reported: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Evidence:
    """The evidence collected while records are read one after the other."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    outlines: dict[str, Outline] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    # Values that must agree in all records of a place: by check and place, each value's records.
    alike: dict[tuple[str, str], dict[str, list[Outline]]] = field(default_factory=dict)
    # The records by a hash of their returns and lengths.
    results: dict[str, list[Outline]] = field(default_factory=dict)
    # Files that others are compared with, and that are not judged themselves.
    published: set[Path] = field(default_factory=set)
    condensations: set[str] = field(default_factory=set)
    condensed: dict[str, _Condensed | None] = field(default_factory=dict)


def verify(
    path: Path,
    *,
    against: Path | None = None,
    beside: Path | None = None,
    progress: Progress = silent,
) -> Verification:
    """Check the records in a folder, without computing any of them again.

    Args:
        path: a leaderboard, a results folder, a folder of records, or one record.
        against: a leaderboard whose records must all exist unchanged.
        beside: a folder of published records of other cells to compare with: levels and data must
            be the same, and episodes must not.
        progress: called with the number of files read.

    Raises:
        BadConfig: there are no records at one of the paths.
    """
    source, known, seen = source_of(path), known_here(), _Evidence()
    files = list(source.files())
    for number, (file, refusal) in enumerate(files):
        progress("verify", number, len(files))
        if refusal:
            seen.findings.append(Finding(unquoted(file.name), "", "file", refusal))
        else:
            _verify_file(file, source, known, seen)
    progress("verify", len(files), len(files))
    if beside is not None:
        _gather_published(beside, seen)
    seen.findings += _unequal(seen)
    for finding, is_wrong in _equal_results(seen, known):
        (seen.findings if is_wrong else seen.notes).append(finding)
    if source.index is not None:
        seen.findings += _drift(source.index, seen)
        for name, text in wrong_pictures(source.root / PICTURES, seen.condensations):
            seen.findings.append(Finding(name, "", "picture", text))
        wrong, others = look_beside(source.root, against)
        seen.findings += [Finding(one_line(name), "", "file", text) for name, text in wrong]
        if others:
            seen.notes.append(Finding(listed(others), "", "file", "not looked at"))
    elif others := _unread(source):
        seen.notes.append(Finding(listed(others), "", "file", "not looked at"))
    if against is not None:
        seen.findings += _changes(against, source.root, seen)
    return Verification(tuple(seen.findings), tuple(seen.notes), len(files), seen.outlines)


def _verify_file(file: Path, source: Source, known: LocalFacts, seen: _Evidence) -> None:
    name = unquoted(file.name)
    seen.names.append(record_name(file))
    try:
        record = read_record(file)
    except FileRefusal as error:
        seen.findings.append(Finding(name, "", "file", str(error)))
        return
    stated = record.get("cell_id")
    cell_id = unquoted(stated, 16) if isinstance(stated, str) else ""
    wrong = problems(record, record_name(file), known)
    findings = [Finding(name, cell_id, *problem) for problem in wrong]
    seen.findings += findings
    if any(finding.check == "schema" for finding in findings):
        return
    seen.notes += [Finding(name, cell_id, *remark) for remark in remarks(record, known)]
    seen.condensations.add(Cell.from_json(record["cell"]).condensation_id)
    status = record["status"]
    if status not in PUBLISHABLE:
        where = seen.notes if source.index is None else seen.findings
        where.append(Finding(name, cell_id, "status", f"is {status}, which is not published"))
    if not findings:
        outline = _outline(file, record)
        seen.outlines[outline.cell.id] = outline
        if status == "done":
            _gather(outline, record, seen)
            for text in _artifact_problems(outline.cell, record, source, known, seen):
                seen.findings.append(Finding(name, cell_id, "artifact", text))


def _outline(file: Path, record: Record) -> Outline:
    done = record["status"] == "done"
    means = {k: float(np.mean(rows)) for k, rows in record["returns"].items()} if done else {}
    return Outline(
        path=file,
        cell=Cell.from_json(record["cell"]),
        status=record["status"],
        content_sha256=content_sha256(record),
        costs_sha256=costs_sha256(record),
        means=means,
        collapsed=done and _is_collapsed(record),
        unmoved=any(f["name"] == "moved-nothing" for f in _findings_of(record)),
    )


def _is_collapsed(record: Record) -> bool:
    """Return whether greedy policies all act the same, or episodes take one of a few courses."""
    names: tuple[Literal["returns", "lengths"], ...] = ("returns", "lengths")
    splits = [rows for name in names for rows in record[name].values()]
    same = all(row == rows[0] for rows in splits for row in rows)
    played = list(zip(*(np.ravel(record[n]["heldout"]).tolist() for n in names), strict=True))
    few_ways = len(set(played)) < DIFFERENT and len(played) >= CHANCE
    return (same and record["action_selection"] == "greedy") or few_ways


def _gather_published(folder: Path, seen: _Evidence) -> None:
    for file, refusal in source_of(folder).files():
        with suppress(FileRefusal):
            if refusal:
                continue
            record = read_record(file)
            if misshapen(record) or record["status"] != "done":
                continue
            outline = _outline(file, record)
            if outline.cell.id not in seen.outlines:
                seen.published.add(file)
                _gather(outline, record, seen)


def _gather(outline: Outline, record: Record, seen: _Evidence) -> None:
    cell, data = outline.cell, record["key"].get("dataset_sha256")
    place = f"{cell.task} {canonical_json(cell.evaluation)}"
    shared = {("levels", place): record["level_seeds"]}
    if cell.dataset and data is not None:
        shared["dataset", cell.dataset] = data
    for where, what in shared.items():
        seen.alike.setdefault(where, {}).setdefault(_hash(what), []).append(outline)
    rows = [rows for name in ("returns", "lengths") for _, rows in sorted(record[name].items())]
    numbers = _hash_rows(cell.task, np.asarray(rows, np.float64))  # 3 and 3.0 are the same
    seen.results.setdefault(numbers, []).append(outline)


def _hash_rows(task: str, rows: npt.NDArray[np.float64]) -> str:
    numbers = hashlib.sha256(f"{task} {rows.shape}".encode())
    numbers.update(rows.tobytes())
    return numbers.hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _unequal(seen: _Evidence) -> Iterator[Finding]:
    """Yield values that must agree and do not; published records or the majority are right.

    Rows of one task and protocol play the same levels, and a dataset's id stands for one dataset.
    """

    def weight(outlines: list[Outline]) -> tuple[bool, int]:
        return any(o.path in seen.published for o in outlines), len(outlines)

    for (check, _), by_value in seen.alike.items():
        usual = max(by_value.values(), key=weight)
        for others in by_value.values():
            if others is not usual:
                text = UNEQUAL[check].format(_file_name(usual[0]))
                new = [other for other in others if other.path not in seen.published]
                yield from (Finding(_file_name(o), o.cell.id, check, text) for o in new)


def _file_name(outline: Outline) -> str:
    return unquoted(outline.path.name)


def _equal_results(seen: _Evidence, known: LocalFacts) -> Iterator[tuple[Finding, bool]]:
    """Yield findings on other cells with the very same episodes, and whether that is a fault.

    Most reference policies use no dataset, presets are methods with settings, and a submitted
    condensed dataset may be one of ours: these legitimately agree.
    """
    for outlines in seen.results.values():
        first, *others = in_order = sorted(outlines, key=lambda o: o.path not in seen.published)
        for number, other in enumerate(others, start=1):
            if other.path in seen.published:
                continue
            name, twin = _file_name(other), _twin(other, in_order[:number])
            if twin is not None:
                for text, is_wrong in _copied(twin, other, known):
                    yield Finding(name, other.cell.id, "duplicate", text), is_wrong
            elif not _may_agree(first.cell, other.cell):
                text = f"its episodes are exactly those of {_file_name(first)} ({first.cell})"
                yield Finding(name, other.cell.id, "duplicate", text), _is_copy(first, other, known)


def _twin(outline: Outline, others: Iterable[Outline]) -> Outline | None:
    """Return an outline whose cell differs only in the condensation seed, or None."""
    wanted = {**outline.cell.to_json(), "condensation_seed": None}
    cells = ((o, {**o.cell.to_json(), "condensation_seed": None}) for o in others)
    return next((o for o, cell in cells if cell == wanted), None)


def _copied(twin: Outline, outline: Outline, known: LocalFacts) -> Iterator[tuple[str, bool]]:
    """Yield lines on the very same episodes in the cell of another seed."""
    seed, method = twin.cell.condensation_seed, outline.cell.method["id"]
    if seed == outline.cell.condensation_seed:
        yield f"its cell is that of {_file_name(twin)}, written in another way", True
    elif not known.is_deterministic(outline.cell.method):
        text = f"its episodes are exactly those of {_file_name(twin)}, condensed with seed {seed}"
        # Policies that have all learned the same actions agree for every seed.
        may_agree = (twin.collapsed and outline.collapsed) or known.keeps_episodes(method)
        yield text, not may_agree


def _may_agree(a: Cell, b: Cell) -> bool:
    """Return whether two cells are the same thing under two names, which needs no note."""
    return a.is_policy and b.is_policy and a.method == b.method


def _is_copy(a: Outline, b: Outline, known: LocalFacts) -> bool:
    """Return whether two methods cannot both have the very same episodes.

    Policies that have all learned the same actions can, and so can reference policies, settings of
    one method, a method and another name of it in the catalogue, a set evaluated again from its
    folder or with others, a synthetic set that did not move beside the real rows that it started
    as, and methods that keep as many rows in whole episodes.
    """
    are_references = all(o.cell.method["id"] in POLICIES for o in (a, b))
    if are_references or (a.collapsed and b.collapsed):
        return False
    methods = [_maker(outline.cell, known) for outline in (a, b)]
    cells = [outline.cell for outline in (a, b)]
    again = any(x.method["id"] == f"{POLICIES_FROM}{y.id}" for x, y in (cells, cells[::-1]))
    # Students of several tasks learn that of the widest one as students of it alone do.
    several = _alike(*cells) and any(x.method["id"] == OF_SEVERAL_TASKS for x in cells)
    start = any(x.unmoved and _may_start_as(x.cell, y.cell) for x, y in ((a, b), (b, a)))
    episodes = _alike(*cells) and all(known.keeps_episodes(cell.method["id"]) for cell in cells)
    return methods[0] != methods[1] and not (again or several or start or episodes)


def _may_start_as(synthetic: Cell, real: Cell) -> bool:
    """Return whether a synthetic set may have started as the rows of another cell."""
    return _alike(synthetic, real) and real.method["id"] in STARTS


def _alike(a: Cell, b: Cell) -> bool:
    """Return whether two cells differ at most in the method and in seeds."""
    return (a.dataset, a.budget, a.learner) == (b.dataset, b.budget, b.learner)


def _findings_of(record: Record) -> list[FindingJson]:
    return list(record.get("report", {}).get("findings") or [])


def _maker(cell: Cell, known: LocalFacts) -> str:
    """Return the class of a cell's method, independent of its name, or else its id."""
    name = cell.method["id"].removeprefix(CONDENSED)
    entry = known.entries["methods"].get(name)
    return name if entry is None else entry.entry_point


def _drift(index: Path, seen: _Evidence) -> Iterator[Finding]:
    """Yield the records that differ from the pins of a leaderboard's own index."""
    try:
        pinned = read_index(index)
        pins, costs = pinned.records, pinned.costs
    except FileRefusal as error:
        yield Finding(index.name, "", "index", str(error))
        return
    for cell_id in sorted(pins.keys() - set(seen.names)):
        yield Finding(index.name, cell_id, "index", f"record {cell_id} is pinned, and missing")
    for cell_id, outline in seen.outlines.items():
        if cell_id not in pins:
            text = f"is not pinned in {index.name} ('rlcondense leaderboard add' does that)"
            yield Finding(outline.path.name, cell_id, "index", text)
        elif pins[cell_id] != outline.content_sha256:
            text = f"has changed since it was pinned in {index.name}"
            yield Finding(outline.path.name, cell_id, "index", text)
        elif costs.get(cell_id, outline.costs_sha256) != outline.costs_sha256:
            text = f"its timings or memory have changed since they were pinned in {index.name}"
            yield Finding(outline.path.name, cell_id, "index", text)


def _changes(against: Path, here: Path, seen: _Evidence) -> Iterator[Finding]:
    """Yield the changed or missing records of a published leaderboard."""
    source = source_of(against)
    if source.index is None:
        raise BadConfig(f"{str(against)!r} is no leaderboard to compare with")
    try:
        pins = read_index(source.index).records
    except FileRefusal as error:
        raise BadConfig(f"{source.index} {error}") from error
    for cell_id, pin in pins.items():
        outline = seen.outlines.get(cell_id)
        if outline is None and cell_id not in seen.names:
            text = f"record {cell_id} is published in {against}, and missing here"
            yield Finding(record_path(source.records, cell_id).name, cell_id, "published", text)
        elif outline is not None and outline.content_sha256 != pin:
            text = f"differs from what is published in {against}"
            yield Finding(outline.path.name, cell_id, "published", text)
        elif outline is not None and (text := _unlike_published(outline, source)):
            yield Finding(outline.path.name, cell_id, "published", f"{text} in {against}")
    for name, text in changed_pictures(against, here):
        yield Finding(one_line(name), "", "published", f"{text}, unlike in {against}")


def _unlike_published(outline: Outline, published: Source) -> str:
    """Describe how the file of a record with the same content differs from the published one."""
    path = record_path(published.records, outline.cell.id)
    try:
        if read_unpacked(path) == read_unpacked(outline.path):
            return ""
        if costs_sha256(read_record(path)) == outline.costs_sha256:
            return "is written in another way than what is published"
    except FileRefusal as error:
        return f"cannot be compared, since its file {error}"
    return "its timings or memory differ from what is published"


def _artifact_problems(
    cell: Cell, record: Record, source: Source, known: LocalFacts, seen: _Evidence
) -> Iterator[str]:
    """Yield the faults of the condensed dataset beside a record, if there is one."""
    if source.condensed is None or cell.budget is None:
        return
    name = cell.condensation_id
    if name not in seen.condensed:
        seen.condensed[name] = _condensed(source.condensed / name, known.task(cell.task))
    condensed = seen.condensed[name]
    if condensed is not None:
        yield from _unlike(condensed, record["report"])
        yield from condensed.faults
        if condensed.unseen is not None and not takes_heldout_data(record):
            yield (
                f"condensed/{name} holds frames of level {condensed.unseen}, which is no seen level"
            )


def _condensed(folder: Path, task: Task | None) -> _Condensed | None:
    """Read and check a condensed dataset; return None without files."""
    if not folder.is_dir():
        return None
    try:
        data = read_saved(folder)
    except RLCondenseError as error:
        return _Condensed(folder.name, (unquoted(str(error), 200),))
    reported = data.report.to_json() if data.report else {}
    of = partial(_Condensed, size=len(data), label_kind=data.label_kind, reported=reported)
    if task is None:
        return of(folder.name, ())
    try:
        check_rows(data.arrays(), task, "the condensed dataset")
    except CorruptArtifact as error:
        return of(folder.name, (str(error),))
    levels = [] if data.level_seeds is None else np.unique(data.level_seeds).tolist()
    unseen = (level for level in levels if level not in task.splits["seen"])
    return of(folder.name, (), next(unseen, None))


def _unlike(condensed: _Condensed, report: ReportJson) -> Iterator[str]:
    if condensed.size is None:
        return
    if (condensed.size, condensed.label_kind) != (report["size"], report["label_kind"]):
        yield (
            f"condensed/{condensed.name} has {condensed.size} rows and {condensed.label_kind} "
            f"labels, the report {report['size']} and {report['label_kind']}"
        )
    for name in ("method", "config", "seed", "dataset", "dataset_sha256"):
        if name in report and condensed.reported.get(name) != report.get(name):
            yield f"condensed/{condensed.name} was made with another {name} than it says"


def _unread(source: Source) -> list[str]:
    """Return the names in a results folder that are neither records nor their condensed sets."""
    if source.condensed is None:
        return []
    looked_at = (source.records.name, source.condensed.name)
    paths = [path for path in sorted(source.root.iterdir()) if path.name not in looked_at]
    return [path.name for path in paths if not path.is_dir() or any(path.iterdir())]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _files(number: int) -> str:
    return _count(number, "file")
