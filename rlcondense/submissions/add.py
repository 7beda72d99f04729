"""The leaderboard's records: adding and pinning them, and the differences of two sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.files import (
    FileRefusal,
    canonical_json,
    lock,
    make_folder,
    refuse_links,
    write_json,
)
from rlcondense.records.cell import Cell
from rlcondense.records.reading import (
    INDEX,
    PICTURES,
    RESULTS,
    SCHEMA,
    Index,
    ending_of,
    read_index,
    read_record,
    record_path,
    source_of,
)
from rlcondense.records.record import Record
from rlcondense.records.schema import misshapen, record_schema
from rlcondense.records.store import COSTS, content_sha256, costs_sha256, write_record_file
from rlcondense.reporting.derived import changed_pictures
from rlcondense.reporting.log import Change, append_entry, read_log, read_log_strictly, unlogged
from rlcondense.reporting.pictures import write_picture
from rlcondense.runtime.progress import Progress, silent
from rlcondense.submissions.verification import PUBLISHABLE, Finding, Outline, Verification, verify
from rlcondense.text import one_line, shown, unquoted
from rlcondense.types import Split

EPISODES = ("status", "returns", "lengths", "level_seeds")
WHAT_WAS_USED = ("key", "environment", "plugins")


@dataclass(frozen=True)
class Addition:
    """The result of adding records.

    Attributes:
        verification: of the new records; with findings, nothing was added.
        added: ids of cells that are new on the leaderboard, or whose file was missing.
        replaced: ids of those that existed with other content, pinned or not.
        same: ids of those that existed already, or whose episodes all existed.
        left_out: files of records that are not published, and why.
        pictures: how many condensed datasets were drawn that had no picture.
    """

    verification: Verification
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    left_out: Mapping[str, str] | None = None
    pictures: int = 0


@dataclass(frozen=True)
class Difference:
    """The differences between two sets of records.

    Attributes:
        new: records that only the second one has, a line each.
        missing: records that only the first one has, if the second is a leaderboard too.
        changed: records of both, and how they differ.
        unreadable: files that were skipped, and why.
    """

    new: tuple[str, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unreadable: tuple[str, ...]


def add(
    results: Path, leaderboard: Path, *, replace: bool = False, progress: Progress = silent
) -> Addition:
    """Copy records onto a leaderboard and pin them, if none of them has a fault.

    Args:
        results: a results folder, a folder of records, or one record.
        leaderboard: its folder; made if it does not exist.
        replace: overwrite existing records that have other content.
        progress: called with the number of files read.

    Raises:
        BadConfig: there are no records.
        RLCondenseError: the leaderboard cannot be read or written.
    """
    _index(leaderboard)  # before anything is read or written
    read_log_strictly(leaderboard)
    published = leaderboard if (leaderboard / RESULTS).is_dir() else None
    verification = verify(results, beside=published, progress=progress)
    if not verification.ok:
        return Addition(verification, left_out=_left_out(verification))
    make_folder(leaderboard)
    with lock(leaderboard / ".lock"):  # two at once would each write the pins that they know
        return _merge(verification, results, leaderboard, replace)


def _left_out(verification: Verification) -> dict[str, str]:
    outlines = verification.outlines.values()
    return {o.path.name: o.status for o in outlines if o.status not in PUBLISHABLE}


def _merge(verification: Verification, results: Path, leaderboard: Path, replace: bool) -> Addition:
    index, folder = _index(leaderboard), leaderboard / RESULTS
    pins = index.records
    fit = {k: o for k, o in verification.outlines.items() if o.status in PUBLISHABLE}
    unpinned = _unpinned(folder, fit.keys() - pins.keys())
    pins.update(unpinned)
    changed = [k for k, o in fit.items() if pins.get(k, o.content_sha256) != o.content_sha256]
    if not replace:  # a record of another version with the same result counts as existing
        changed = [k for k in changed if not _same_episodes(fit[k], leaderboard)]
    if not replace:
        clashes = [_clash(fit[cell_id], leaderboard) for cell_id in changed]
        verification = dataclasses.replace(
            verification, findings=(*verification.findings, *clashes)
        )
    left_out = _left_out(verification)
    if not verification.ok:
        return Addition(verification, left_out=left_out)
    for part in (RESULTS, PICTURES):
        refuse_links(leaderboard, leaderboard / part)
    make_folder(folder)
    missing = [k for k in fit if not record_path(folder, k).exists()]
    new = [k for k in fit if k not in pins or (k in missing and k not in changed)]
    present = [k for k in pins if k in fit and k not in missing]
    changed += [k for k in present if _is_edited(folder, k, index)]
    changed = [k for k in dict.fromkeys(changed) if k not in new]
    cut_short = {
        k for k in changed if pins[k] != fit[k].content_sha256 and _is_there(folder, fit[k])
    }
    before = {cell_id: _published(record_path(folder, cell_id)) for cell_id in changed}
    ending = ending_of(folder)
    for cell_id in (*new, *changed):
        path = record_path(folder, cell_id, new=ending)
        write_record_file(path, _as_verified(fit[cell_id]))
        pins[cell_id] = fit[cell_id].content_sha256
        index.costs.pop(cell_id, None)
    index.costs.update(_costs(folder, pins.keys() - index.costs.keys()))
    after = {cell_id: _published(record_path(folder, cell_id)) for cell_id in changed}
    changes = [Change(k, before[k][0], after[k][0], (before[k][1], after[k][1])) for k in changed]
    logged = {c.cell: _result(c) for entry in read_log(leaderboard) for c in entry.changed}
    changes = [c for c in changes if c.cell not in cut_short or logged.get(c.cell) != _result(c)]
    # Before the index: until that is written, the next addition still sees what came with this one.
    append_entry(leaderboard, date.today(), [*new, *unlogged(leaderboard, unpinned)], changes)
    write_json(leaderboard / INDEX, index.to_json())
    write_json(leaderboard / SCHEMA, record_schema())
    same = tuple(cell_id for cell_id in fit if cell_id not in {*new, *changed})
    drawn, notes = _draw(results, leaderboard, fit.values(), anew=changed)
    verification = dataclasses.replace(verification, notes=(*verification.notes, *notes))
    return Addition(verification, tuple(new), tuple(changed), same, left_out, drawn)


def _result(change: Change) -> tuple[float | None, str | None]:
    """Return the held-out mean after a change, and the version that made it."""
    return change.after, change.versions[1]


def _is_there(folder: Path, outline: Outline) -> bool:
    """Return whether a record lies on the board already, without its pin: it was cut short."""
    try:
        record = read_record(record_path(folder, outline.cell.id))
    except FileRefusal:
        return False
    return not misshapen(record) and content_sha256(record) == outline.content_sha256


def _unpinned(folder: Path, cell_ids: Iterable[str]) -> dict[str, str]:
    """Return the hashes of records that lie on the board without a pin, as after a merge."""
    hashes = {}
    for cell_id in cell_ids:
        with suppress(FileRefusal):
            record = read_record(record_path(folder, cell_id))
            if not misshapen(record):
                hashes[cell_id] = content_sha256(record)
    return hashes


def _published(path: Path) -> tuple[float | None, str | None]:
    """Return the held-out mean of a published record, and the version and commit that made it.

    Each is None if the record has none, or is malformed.
    """
    try:
        record = read_record(path)
    except FileRefusal:
        return None, None
    if misshapen(record):
        return None, None
    made: Mapping[str, Any] = record.get("environment", {})
    commit = (made.get("git") or {}).get("commit") or ""
    version = f"{made.get('rlcondense', '')} {commit[:7]}".strip()
    return _means(record).get("heldout"), version or None


def _is_edited(folder: Path, cell_id: str, index: Index) -> bool:
    """Return whether the file of a published cell differs from its pin."""
    try:
        record = read_record(record_path(folder, cell_id))
    except FileRefusal:
        return True
    if misshapen(record):
        return True
    pin, costs = index.records[cell_id], costs_sha256(record)
    same = record["content_sha256"] == pin == content_sha256(record)
    return not same or index.costs.get(cell_id, costs) != costs


def _costs(folder: Path, cell_ids: Iterable[str]) -> dict[str, str]:
    """Compute the hashes of the measured costs of published cells with readable files."""
    costs = {}
    for cell_id in cell_ids:
        with suppress(FileRefusal):
            costs[cell_id] = costs_sha256(read_record(record_path(folder, cell_id)))
    return costs


def _draw(
    results: Path, leaderboard: Path, outlines: Iterable[Outline], anew: Collection[str]
) -> tuple[int, list[Finding]]:
    """Draw the condensed datasets beside records; return how many, and findings on failures.

    Of a method's sets over seeds the first is drawn: the others look alike, and take as much room.
    """
    condensed = source_of(results).condensed
    if condensed is None:
        return 0, []
    firsts: dict[str, Outline] = {}
    for outline in sorted(outlines, key=lambda o: o.cell.condensation_seed or 0):
        row = canonical_json({**outline.cell.to_json(), "condensation_seed": None})
        if not outline.cell.is_policy:
            firsts.setdefault(row, outline)
    folders = {o.cell.condensation_id: o.cell.id in anew for o in firsts.values()}
    drawn, notes = 0, []
    for name, again in folders.items():
        out = leaderboard / PICTURES / name
        if (condensed / name).is_dir() and (again or not out.with_suffix(".png").exists()):
            try:
                drawn += write_picture(condensed / name, out) is not None
            except Exception as error:  # the records are added already, and the data are untrusted
                text = f"cannot be drawn ({type(error).__name__}: {shown(str(error))})"
                notes.append(Finding(f"condensed/{name}", "", "picture", text))
    return drawn, notes


def _index(leaderboard: Path) -> Index:
    if not (leaderboard / INDEX).exists():
        if any((leaderboard / RESULTS).glob("*")):
            raise BadConfig(f"{leaderboard / RESULTS} holds records, and {INDEX} is missing")
        return Index({}, {})
    try:
        return read_index(leaderboard / INDEX)
    except FileRefusal as error:
        raise BadConfig(f"{leaderboard / INDEX} {error}") from error


def _same_episodes(outline: Outline, leaderboard: Path) -> bool:
    """Return whether a published record has the same returns, lengths and levels."""
    try:
        published = read_record(record_path(leaderboard / RESULTS, outline.cell.id))
    except FileRefusal:
        return False
    own = read_record(outline.path)
    return all(own.get(name) == published.get(name) for name in EPISODES)


def _clash(outline: Outline, leaderboard: Path) -> Finding:
    cell_id = outline.cell.id
    text = f"{outline.cell} is published with other content"
    before, _ = _published(record_path(leaderboard / RESULTS, cell_id))
    if before is not None and outline.means:
        text += f": held-out mean {before:.3f}, here {outline.means['heldout']:.3f}"
    return Finding(outline.path.name, cell_id, "published", f"{text} (--replace overwrites it)")


def _as_verified(outline: Outline) -> Record:
    """Read a record again, and check that it has not changed since its verification."""
    record = read_record(outline.path)
    if content_sha256(record) != outline.content_sha256:
        raise RLCondenseError(f"{outline.path} has changed while it was being added")
    return record


def diff(a: Path, b: Path) -> Difference:
    """Compare two leaderboards, results folders or folders of records.

    Args:
        a: the first one.
        b: the second one.

    Raises:
        BadConfig: there are no records at one of the paths.
    """
    unreadable: list[str] = []
    whole = source_of(b).index is not None  # a results folder need not have all records
    before, after = (_files_by_cell(path, unreadable, costs=whole) for path in (a, b))
    pictures = changed_pictures(a, b) if whole and source_of(a).index is not None else ()
    return Difference(
        new=tuple(_line(after[k]) for k in sorted(after.keys() - before.keys())),
        missing=tuple(_line(before[k]) for k in sorted(before.keys() - after.keys()) if whole),
        changed=tuple(
            _change(before[k], after[k])
            for k in sorted(before.keys() & after.keys())
            if before[k][1] != after[k][1]
        )
        + tuple(f"{one_line(name)} {text}" for name, text in pictures),
        unreadable=tuple(unreadable),
    )


def _files_by_cell(
    path: Path, unreadable: list[str], *, costs: bool
) -> dict[str, tuple[Path, str]]:
    """Return each cell's file and the hash of its content; with `costs` those count too."""
    files = {}
    for file, refusal in source_of(path).files():
        try:
            if refusal:
                raise FileRefusal(refusal)
            record = read_record(file)
            if wrong := misshapen(record):
                raise FileRefusal(wrong)
        except FileRefusal as error:
            unreadable.append(f"{unquoted(str(file))} {error}")
            continue
        digest = content_sha256(record) + (costs_sha256(record) if costs else "")
        files[Cell.from_json(record["cell"]).id] = (file, digest)
    return files


def _line(entry: tuple[Path, str]) -> str:
    record = read_record(entry[0])
    means = "".join(f", {split} {mean:.3f}" for split, mean in _means(record).items())
    cell = Cell.from_json(record["cell"])
    return f"{cell.id} {cell}: {record['status']}{means}"


def _change(before: tuple[Path, str], after: tuple[Path, str]) -> str:
    old, new = read_record(before[0]), read_record(after[0])
    cell = Cell.from_json(new["cell"])
    return f"{cell.id} {cell}: {'; '.join(_differences(old, new))}"


def _differences(old: Record, new: Record) -> Iterator[str]:
    if old["status"] != new["status"]:
        yield f"{old['status']} -> {new['status']}"
    elif old.get("returns") != new.get("returns"):
        before, after = _means(old), _means(new)
        for split in after:
            yield f"{split} {before[split]:.3f} -> {after[split]:.3f}"
    yield from _other_fields(old, new)


def _other_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    rest = (
        "lengths", "level_seeds", "summary", "report", "labels", "action_selection", "findings",
        "reason", "traceback", *COSTS,
    )  # fmt: skip
    if others := [name for name in rest if old.get(name) != new.get(name)]:
        yield f"other {', '.join(others)}"
    if changed := [_made_with(name, old, new) for name in WHAT_WAS_USED if old[name] != new[name]]:
        yield f"made with other {'; '.join(changed)}"


def _made_with(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if not isinstance(old[name], dict):
        return name
    parts = [
        part for part in {**old[name], **new[name]} if old[name].get(part) != new[name].get(part)
    ]
    return f"{name} ({', '.join(parts)})"


def _means(record: Record) -> dict[Split, float]:
    return {split: float(np.mean(rows)) for split, rows in record.get("returns", {}).items()}
