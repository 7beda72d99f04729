"""The rerun of published cells, which detects forged records that are consistent."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import date
from math import exp, sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense import catalogue
from rlcondense.datasets.condensed import CondensedDataset, read_saved
from rlcondense.datasets.minari import is_local
from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import plain
from rlcondense.make import load_dataset, make_task
from rlcondense.records.cell import Cell
from rlcondense.records.reading import read_record, source_of
from rlcondense.records.record import Record
from rlcondense.records.store import MemoryStore
from rlcondense.reporting.commands import takes_heldout_data
from rlcondense.reporting.reruns import WrittenRerun, write_reruns
from rlcondense.running.compute import run_cell
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import describe, resolve_device
from rlcondense.submissions.content import COUNTED
from rlcondense.submissions.verification import Outline, Rerun, Verification
from rlcondense.text import one_line, shown
from rlcondense.types import SPLITS

Array = npt.NDArray[np.float64]

STANDARD_ERRORS = 4
FEWEST_LEVELS = 20  # levels from which on their variance is informative
FEW, FEW_SHARE = 3, 0.02  # episodes that may differ, regardless of the variance
COUNTED_APART = 2  # factor by which counts of steps or gradients may differ between machines
MOST_SHOWN = 60  # characters of a differing value
SAME_MACHINE = ("cpu", "gpu", "os", "python")


class _SubmittedSets(MemoryStore):
    """Results in memory, whose condensed dataset is used regardless of its `made_from`."""

    def read_condensed(self, condensation_id: str, made_from: str) -> CondensedDataset | None:
        data, _ = self._kept.get(condensation_id, (None, ""))
        return data


def rerun(
    path: Path,
    found: Verification,
    number: int,
    *,
    seed: int | None = None,
    among: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Verification:
    """Compute some of the finished cells again and compare.

    A cell's condensed dataset is read from the results folder if it exists there; otherwise it is
    condensed again. If the record's key and machine are the same here, each return must be the
    same. Otherwise the differences are named, the number of transitions must be the same, and the
    returns are compared level by level; see `compare`.

    Args:
        path: of the records.
        found: their verification.
        number: how many cells.
        seed: of the choice; by default another one each time.
        among: content hashes by cell id of a published leaderboard; new and differing records are
            chosen first, and among them those whose parts are installed.
        progress: called with the progress of a cell.

    Returns:
        The verification with the reruns. A cell that fails here is a finding. A cell whose parts
        are not installed is not, but then fewer cells are computed than `number`.
    """
    done = [o for _, o in sorted(found.outlines.items()) if o.status == "done"]
    can = [o for o in done if not o.cell.is_handed_in]
    random.Random(seed).shuffle(can)
    can.sort(key=lambda o: not _is_here(o.cell))
    if among is not None:
        can.sort(key=lambda o: among.get(o.cell.id) == o.content_sha256)
    condensed = source_of(path).condensed
    reruns = [_rerun(outline, condensed, progress) for outline in can[:number]]
    return found.with_reruns(reruns, min(number, len(done)))


def write_down(path: Path, verification: Verification, day: date) -> bool:
    """Write the reruns of a leaderboard's records down beside them.

    Args:
        path: of the records.
        verification: with reruns.
        day: of the reruns.

    Returns:
        Whether there was a leaderboard, and a rerun that could be compared.
    """
    source = source_of(path)
    compared = [again for again in verification.reruns or () if again.is_compared]
    if source.index is None or not compared:
        return False
    new = {}
    for again in compared:
        record = read_record(verification.outlines[again.cell].path)
        device = resolve_device("auto" if record["environment"]["device"] == "cuda" else "cpu")
        here, there = describe(device), record["environment"]
        new[again.cell] = WrittenRerun(
            date=day.isoformat(),
            agrees=bool(again.agrees),
            machine=f"{here['gpu'] or here['cpu']}, {here['os']}",
            same_machine=all(here.get(name) == there.get(name) for name in SAME_MACHINE),
            content_sha256=record["content_sha256"],
        )
    write_reruns(source.index.parent, new)
    return True


def _is_here(cell: Cell) -> bool:
    """Return whether everything that a cell names is installed."""
    names = [("tasks", cell.task)]
    if cell.dataset and not is_local(cell.dataset):
        names.append(("datasets", cell.dataset))
    if cell.learner is not None:
        names += [("methods", cell.method["id"]), ("learners", cell.learner["id"])]
    return all(name in catalogue.entries(group) for group, name in names)


def _rerun(outline: Outline, condensed: Path | None, progress: Progress) -> Rerun:
    record, cell = read_record(outline.path), outline.cell
    sets = _artifact(condensed, cell.condensation_id) if cell.budget is not None else {}
    heldout = cell.is_policy or takes_heldout_data(record)  # most policies do not look at the data

    def dataset(name: str) -> Any:  # None for a policy that needs no data
        return load_dataset(name, heldout_data=heldout, progress=progress) if name else None

    try:
        device = resolve_device("auto" if record["environment"]["device"] == "cuda" else "cpu")
        computed = run_cell(
            cell,
            dataset=dataset,
            store=_SubmittedSets(sets),
            device=device,
            progress=progress,
        ).record
    except RLCondenseError as error:
        text = f"computed again, it is failed: {error}"
        return Rerun(outline.path.name, cell.id, False, text)
    if computed["status"] == "not-installed":
        text = f"cannot be computed here: {computed['reason']}"
        return Rerun(outline.path.name, cell.id, None, text)
    if computed["status"] != "done":
        text = f"computed again, it is {computed['status']}: {computed['reason']}"
        return Rerun(outline.path.name, cell.id, False, text)
    from_artifact = " from its condensed dataset" if sets else ""
    agrees, text = compare(record, computed, _random_returns(cell.task))
    text = f"computed again{from_artifact}: {text}"
    return Rerun(outline.path.name, cell.id, agrees, text, is_compared=True)


def _random_returns(task: str) -> dict[str, float]:
    """Return the measured return of the uniform random policy, by split."""
    return {split: estimate.mean for split, estimate in make_task(task).random_return.items()}


def _artifact(condensed: Path | None, name: str) -> dict[str, tuple[CondensedDataset, str]]:
    if condensed is None or not (condensed / name).is_dir():
        return {}
    try:
        return {name: (read_saved(condensed / name), "")}
    except CorruptArtifact:
        return {}


def compare(
    record: Record, computed: Record, floors: Mapping[str, float] = MappingProxyType({})
) -> tuple[bool, str]:
    """Return whether two records of a cell agree, and a line on the comparison.

    If both were made with the same versions on the same kind of machine, each return and the
    report must be the same. Otherwise the report's counts must be close, and every standard error
    comes from the record computed here, since a forger can write any variance:

    - The mean over levels of the paired differences may be four standard errors. With several
      seeds its variance is twice, since both records have it, the larger of that of the seeds'
      means over the number of seeds and that within levels; with one, that of the levels' means.
    - The variance of the levels' means must be like that here, within four standard errors of its
      logarithm.

    A split is not judged by these where but one episode in fifty, and no more than three, differ:
    policies that all but never fail have no variance to tell an error by. None of these may be
    better than the best one here, or lie further below the random policy than that lies above it.

    Args:
        record: the submitted one.
        computed: the one computed again.
        floors: returns of the uniform random policy by split, if known.
    """
    same = is_same_making(record, computed)
    if wrong := _unlike_report(record, computed, same):
        return False, wrong
    if all(record[name] == computed[name] for name in ("returns", "lengths")):
        return True, "each return is the same"
    if same:
        return False, f"made with the same, and the returns differ: {_means(record, computed)}"
    why = f"not compared return by return, since made with {_other_making(record, computed)}"
    published, here = _returns(record), _returns(computed)
    differing = [
        split
        for split in SPLITS
        if not _is_but_for_few(published[split], here[split], floors.get(split))
    ]
    apart = [split for split in differing if not _near(published[split], here[split])]
    if apart:
        return False, (
            f"{' and '.join(apart)} means lie more than {STANDARD_ERRORS} standard errors "
            f"apart: {_means(record, computed)}; {why}"
        )
    unlike = [split for split in differing if not _spread_alike(published[split], here[split])]
    if unlike:
        spreads = [
            f"{published[s].mean(0).std():.3g} told, {here[s].mean(0).std():.3g}" for s in unlike
        ]
        return False, (
            f"{' and '.join(unlike)} returns vary between levels by another standard deviation: "
            f"{' and '.join(spreads)} here; {why}"
        )
    return True, f"within {STANDARD_ERRORS} standard errors: {_means(record, computed)}; {why}"


def is_same_making(a: Record, b: Record) -> bool:
    """Return whether two records have the same key and kind of machine."""
    return not list(_differences(a, b))


def _other_making(record: Record, computed: Record) -> str:
    """Describe the differences between the keys and machines of two records."""
    return ", ".join(
        f"another {name} ({one_line(str(published))[:MOST_SHOWN]}, here {str(here)[:MOST_SHOWN]})"
        for name, published, here in _differences(record, computed)
    )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for part, names in (("environment", SAME_MACHINE), ("key", sorted({*a["key"], *b["key"]}))):
        for name in names:
            published, here = a[part].get(name), b[part].get(name)
            if published != here:
                yield name, published, here


def _returns(record: Record) -> dict[str, Array]:
    """Return the returns `(seeds, levels)` by split."""
    return {split: np.asarray(record["returns"][split], np.float64) for split in SPLITS}


def _unlike_report(record: Record, computed: Record, same: bool) -> str:
    """Return an impermissible difference of two condensation reports, or an empty text.

    Args:
        record: the submitted one.
        computed: the one computed again.
        same: whether they have the same key and kind of machine.
    """
    published, here = (plain(one.get("report", {})) for one in (record, computed))
    if published.get("size") != here.get("size"):
        return f"it kept {published.get('size')} transitions, and {here.get('size')} here"
    exact = sorted({*published, *here}) if same else ("bytes", "label_kind")
    if unlike := [name for name in exact if published.get(name) != here.get(name)]:
        return f"its report has another {', '.join(unlike)} than here"
    for name in ("labels", "action_selection"):  # which decide what a row is compared with
        told, here_too = record.get(name), computed.get(name)
        if told != here_too:
            return f"it says {name.replace('_', ' ')} {shown(told)}, and {shown(here_too)} here"
    for name in COUNTED:
        # The report of a method that is not built in may say anything, or nothing.
        counts = [one.get("cost", {}).get(name) for one in (published, here)]
        theirs, mine = (count if type(count) is int else 0 for count in counts)
        if max(theirs, mine) > COUNTED_APART * min(theirs, mine):
            words = name.replace("_", " ")
            return f"its report counts {theirs} {words}, and {mine} here"
    return ""


def _is_but_for_few(published: Array, here: Array, floor: float | None) -> bool:
    differing = published[published != here]
    if len(differing) > min(FEW, published.size * FEW_SHARE):
        return False
    best = here.max()
    lowest = -np.inf if floor is None else min(here.min(), 2 * floor - best)
    return bool(((lowest <= differing) & (differing <= best)).all())


def _near(published: Array, here: Array) -> bool:
    """Return whether published returns are within the error of a rerun."""
    paired = published.mean(0) - here.mean(0)  # of each level
    return bool(abs(paired.mean()) <= STANDARD_ERRORS * sqrt(2 * _variance(here)) + 1e-9)


def _variance(returns: Array) -> float:
    """Estimate the variance of the mean of `(seeds, levels)` returns over reruns on the levels."""
    seeds, levels = returns.shape
    if seeds > 1:
        within = returns.var(0, ddof=1).sum() / (seeds * levels**2)
        return float(max(returns.mean(1).var(ddof=1) / seeds, within))
    return float(returns.var(ddof=1) / levels) if levels > 1 else 0.0


def _spread_alike(published: Array, here: Array) -> bool:
    """Return whether published and computed returns have a similar variance between levels."""
    levels = published.shape[1]
    if levels < FEWEST_LEVELS:
        return True
    means = here.mean(0) - here.mean()
    variance = float((means**2).mean())
    if variance == 0:
        return float(published.mean(0).var()) == 0
    # The variance of a sample variance's logarithm; at least that of normal samples.
    error = sqrt(2 * max((means**4).mean() / variance**2 - 1, 2.0) / levels)
    ratio = float(published.mean(0).var()) / variance
    bound = exp(STANDARD_ERRORS * error)
    return 1 / bound <= ratio <= bound


def _means(a: Record, b: Record) -> str:
    return ", ".join(
        f"{split} {np.mean(a['returns'][split]):.3f} told, {np.mean(b['returns'][split]):.3f} here"
        for split in SPLITS
    )
