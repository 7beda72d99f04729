"""Datasets with injected faults: another dataset's episodes, some faulty, and which ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rlcondense import catalogue
from rlcondense.config import check_choice
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.faults import FAULTS, corrupted, faulty_episodes
from rlcondense.datasets.minari import (
    FAULTY,
    build_columns,
    check_minari_id,
    is_local,
    marks_of,
    read_minari,
)
from rlcondense.datasets.sources import FileDataset
from rlcondense.datasets.traces import Trace, TraceDataset, load_trace
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.limits import check_whole
from rlcondense.make import (
    agreed_task,
    environment_of,
    load_dataset,
    named_dataset,
    task_of_dataset,
)
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.validation import hides_heldout, with_known_levels


class FaultyDataset:
    """Catalogue dataset with a fault in some episodes of another one, built on first use.

    Args:
        id: catalogue id.
        source: id of the dataset.
        fault: one of `rlcondense.datasets.faults.FAULTS`.
        share: share of the episodes that are faulty.
        seed: decides which episodes, and all that the fault draws.
    """

    api_version: ClassVar[int] = 1

    def __init__(
        self, id: str, *, source: str, fault: str, share: float = 0.2, seed: int = 0
    ) -> None:
        self.id, self.source, self.fault = id, source, fault
        self.share, self.seed = share, seed
        check_choice(self, "fault", FAULTS)
        check_whole(seed, "seed")
        self.metadata: Mapping[str, Any] = {}  # known when the source has been read

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return the episodes, faulty or not."""
        data = load_dataset(self.source, progress=progress)
        if any(data.faulty):
            raise BadConfig(
                f"episodes of dataset {self.source!r} are faulty already: with a second fault, "
                "which of them are clean would be lost"
            )
        data = with_known_levels(data, task)
        if hides_heldout(data, task):
            raise BadConfig(
                f"dataset {self.source!r} was collected on held-out levels and does not say which: "
                "its faulty copy would not say so"
            )
        lengths = list(map(len, data.episodes))
        faulty = faulty_episodes(lengths, self.fault, self.share, self.seed)
        about = f"{self.fault} in {faulty.sum()} of {len(faulty)} episodes of {self.source}"
        self.metadata = {
            **marks_of(data),
            FAULTY: "".join("1" if one else "0" for one in faulty),
            "description": about,
        }
        trace = trace_of(self.source)
        return corrupted(
            data, self.fault, faulty, self.seed, task=task, trace=trace, progress=progress
        )


def trace_of(dataset: str) -> Trace | None:
    """Return the trace that a dataset of the catalogue or of a path is made from, or None."""
    try:
        entry = catalogue.find("datasets", dataset)
    except UnknownName:
        return None
    if base := entry.facts.get("base"):  # another dataset beside another expert
        return trace_of(str(base))
    source = entry.load()(entry.id, **entry.config)
    is_trace = isinstance(source, TraceDataset) or (
        isinstance(source, FileDataset) and source.is_trace
    )
    return load_trace(source.path.resolve()) if is_trace else None


def corrupt_dataset(
    dataset: str | Path | TransitionDataset,
    fault: str,
    *,
    task: str | None = None,
    share: float = 0.2,
    seed: int = 0,
    id: str | None = None,
    progress: Progress = silent,
) -> TransitionDataset:
    """Write a dataset with a fault in some episodes of another one, and return it.

    Args:
        dataset: id or path of the dataset, or the data; its task must be one of the catalogue.
        fault: one of `rlcondense.datasets.faults.FAULTS`.
        task: name of the task that a file was collected on, where it does not say.
        share: share of the episodes that are faulty.
        seed: decides which episodes, and all that the fault draws.
        id: id of the new dataset, of Minari's form; by default the dataset's with the fault in it.
        progress: receives the progress.

    Raises:
        BadConfig: the id is taken, or the fault needs a trace that the dataset has not.
    """
    if not 0 < share < 1:
        raise BadConfig(f"share must lie between 0 and 1, not {share}")
    name = named_dataset(dataset, task)
    new = id or named_after(name, fault)
    check_minari_id(new)
    source = FaultyDataset(new, source=name, fault=fault, share=share, seed=seed)
    if is_local(new) or new in catalogue.entries("datasets"):
        raise BadConfig(f"there is a dataset {new!r} already: name the new one by --id")
    played = agreed_task(task_of_dataset(name), task, f"dataset {name!r}")
    episodes = source.episodes(played, progress)
    with contextlib.closing(environment_of(played)) as env:
        metadata = {"author": "rlcondense", **source.metadata}
        build_columns(new, episodes, metadata, env, progress)
    return read_minari(new, played.id, progress)


def named_after(dataset: str, fault: str) -> str:
    """Return a dataset's id with a fault in its name, such as `a/expert-truncated-v0`."""
    parts = re.fullmatch(r"(.*?)(-v\d+)?", dataset)
    assert parts is not None
    return f"{parts[1]}-{fault}{parts[2] or '-v0'}"
