"""Computing published cells again: what a record that agrees with itself is found out by."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlcondense import catalogue
from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.making import load_dataset
from rlcondense.methods.condensed import CondensedDataset, load_condensed
from rlcondense.progress import Progress, silent
from rlcondense.reporting.plausibility import MADE_ELSEWHERE, Record
from rlcondense.reporting.reading import read_record, source_of
from rlcondense.reporting.verification import Outline, Rerun, Verification
from rlcondense.running.cell import Cell
from rlcondense.running.environment import resolve_device
from rlcondense.running.runner import run_cell
from rlcondense.running.store import MemoryStore
from rlcondense.tasks.base import SPLITS

STANDARD_ERRORS = 4
SAME_MACHINE = ("cpu", "gpu", "os", "python")


class _Given(MemoryStore):
    """Results in memory, with a condensed dataset that is taken whatever it was made from."""

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

    A cell's condensed dataset is taken from the results folder if it lies there; otherwise it is
    condensed again. If everything that the record says it was made with is the same here (its key
    and the machine), each return must be the same. Otherwise as many transitions must be kept, and
    on each split the means may differ by four standard errors: the square root of the sum, over
    both, of the variance of the seeds' means over the number of seeds and of the levels' means over
    the number of levels. That is wide, since the levels are the same; what differs is only how
    numbers are rounded, and where that leads.

    Args:
        path: where the records lie.
        found: what is known of them.
        number: how many cells.
        seed: of the choice; by default another one each time.
        among: content hashes by cell id of a published leaderboard; what is new or differs from it
            is chosen first, and of that what is installed.
        progress: told how far a cell is.

    Returns:
        The verification, with what came of it. A cell that fails here is a finding; one whose
        parts are not installed is not.
    """
    done = [o for _, o in sorted(found.outlines.items()) if o.status == "done"]
    can = [o for o in done if not o.cell.method["id"].startswith(MADE_ELSEWHERE)]
    random.Random(seed).shuffle(can)
    can.sort(key=lambda o: not _is_here(o.cell))
    if among is not None:
        can.sort(key=lambda o: among.get(o.cell.id) == o.content_sha256)
    condensed = source_of(path).condensed
    return found.with_reruns([_rerun(o, condensed, progress) for o in can[:number]])


def _is_here(cell: Cell) -> bool:
    """Whether everything that a cell names is installed."""
    names = [("tasks", cell.task), ("datasets", cell.dataset)]
    if cell.learner is not None:
        names += [("methods", cell.method["id"]), ("learners", cell.learner["id"])]
    return all(name in catalogue.entries(group) for group, name in names)


def _rerun(outline: Outline, condensed: Path | None, progress: Progress) -> Rerun:
    record, cell = read_record(outline.path), outline.cell
    threads = min(int(record["environment"]["threads"]), os.cpu_count() or 1)
    kept = _artifact(condensed, cell.condensation_id) if cell.budget is not None else {}

    def dataset(name: str) -> Any:  # none, for a policy that needs none
        return load_dataset(name, progress=progress) if name else None

    try:
        device = resolve_device("auto" if record["environment"]["device"] == "cuda" else "cpu")
        with _threads(threads):
            computed, _ = run_cell(
                cell,
                dataset=dataset,
                store=_Given(kept),
                device=device,
                threads=threads,
                progress=progress,
            )
    except RLCondenseError as error:
        computed = {"status": "failed", "reason": str(error)}
    if computed["status"] == "not-installed":
        text = f"cannot be computed here: {computed['reason']}"
        return Rerun(outline.path.name, cell.id, None, text)
    if computed["status"] != "done":
        text = f"computed again, it is {computed['status']}: {computed['reason']}"
        return Rerun(outline.path.name, cell.id, False, text)
    from_artifact = " from its condensed dataset" if kept else ""
    agrees, text = compare(record, computed)
    return Rerun(outline.path.name, cell.id, agrees, f"computed again{from_artifact}: {text}")


def _artifact(condensed: Path | None, name: str) -> dict[str, tuple[CondensedDataset, str]]:
    if condensed is None or not (condensed / name).is_dir():
        return {}
    try:
        return {name: (load_condensed(condensed / name), "")}
    except CorruptArtifact:
        return {}


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(record: Record, computed: Record) -> tuple[bool, str]:
    """Whether two records of a cell agree, and how they compare; see `rerun` for the rule."""
    sizes = [one.get("report", {}).get("size") for one in (record, computed)]
    if sizes[0] != sizes[1]:
        return False, f"it kept {sizes[0]} transitions, and {sizes[1]} here"
    if all(record[name] == computed[name] for name in ("returns", "lengths")):
        return True, "each return is the same"
    if is_same_making(record, computed):
        return False, f"made with the same, and the returns differ: {_means(record, computed)}"
    apart = [split for split in SPLITS if not _near(record, computed, split)]
    if apart:
        return False, (
            f"{' and '.join(apart)} means lie more than {STANDARD_ERRORS} standard errors "
            f"apart: {_means(record, computed)}"
        )
    return True, f"within {STANDARD_ERRORS} standard errors: {_means(record, computed)}"


def is_same_making(a: Record, b: Record) -> bool:
    """Whether two records were made with the same things on the same kind of machine."""
    machines = [[record["environment"].get(name) for name in SAME_MACHINE] for record in (a, b)]
    return bool(a["key"] == b["key"] and machines[0] == machines[1])


def _near(a: Record, b: Record, split: str) -> bool:
    x, y = (np.asarray(record["returns"][split], np.float64) for record in (a, b))
    error = sqrt(_variance(x) + _variance(y))
    return bool(abs(x.mean() - y.mean()) <= STANDARD_ERRORS * error + 1e-9)


def _variance(returns: Any) -> float:
    """Of the mean of `(seeds, episodes)` returns, seeds and levels both drawn."""
    by: Sequence[Any] = (returns.mean(1), returns.mean(0))
    return float(sum(means.var(ddof=1) / means.size for means in by if means.size > 1))


def _means(a: Record, b: Record) -> str:
    return ", ".join(
        f"{split} {np.mean(a['returns'][split]):.3f} told, {np.mean(b['returns'][split]):.3f} here"
        for split in SPLITS
    )
