"""Condensing alone: `rlcondense condense`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcondense.catalogue import settings_of_task
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.experts.shipped import find_expert
from rlcondense.files import canonical_json, lock, new_folder
from rlcondense.limits import check_seeds
from rlcondense.make import (
    default_dataset,
    load_dataset,
    make_method,
    make_task,
    named_dataset,
)
from rlcondense.policies import check_fits
from rlcondense.running.bench import (
    budget_of,
    expert_of,
    own_budget,
    task_named,
)
from rlcondense.running.outcomes import named_progress
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import resolve_device, source_of
from rlcondense.runtime.tune import THREADS, one_thread
from rlcondense.tasks.base import Task

UNFINISHED = "unfinished.safetensors"


def condense(
    dataset: str | Path | TransitionDataset | None = None,
    method: str = "gradmatch",
    task: str | Task | None = None,
    *,
    out: str | Path | None = None,
    expert: str | Path | None = None,
    download: bool = False,
    heldout_data: bool = False,
    size: int | None = None,
    percent: float | None = None,
    unit: str | None = None,
    max_bytes: int | None = None,
    bits: int | None = None,
    resolution: int | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> CondensedDataset:
    """Condense a dataset, and write the result and its report to a folder if one is named.

    Args:
        dataset: id or path of the dataset, or the data; by default the task's expert dataset.
        method: id of the method.
        task: task, or its id or alias; by default the dataset's; without one starpilot.
        out: a new folder, or that of a killed condensation, which resumes from it.
        expert: as for `run`, and so are the other arguments.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too.
        size: budget in transitions; by default the method's own.
        percent: budget as a percentage instead.
        unit: what `percent` counts, `transitions` or `episodes`.
        max_bytes: budget in bytes instead; see `rlcondense.datasets.coding`.
        bits: bits of a stored pixel or feature, with `max_bytes`; by default 8.
        resolution: side of the stored frames, with `max_bytes`; by default their own.
        seed: condensation seed.
        device: `auto`, `cpu` or `cuda`.
        settings: of the method.
        progress: called with the progress.

    Raises:
        BadConfig: a dataset is named for a method that takes none, a setting is wrong, or the
            folder holds something else, finished or not.

    Example:
        >>> data = condense("classic/cartpole/expert-v0", "random", size=20)
        >>> len(data)
        20
    """
    check_seeds(seed, 1, 1)
    task = task_named(task, dataset, download=download)
    folder = None if out is None else _unfinished_or_new(Path(out))
    condenser = make_method(method, task, **dict(settings or {}))
    if not condenser.takes_data:
        if dataset is not None:
            raise BadConfig(f"method {method!r} condenses no dataset: name a task instead")
        if heldout_data or download:
            option = "--heldout-data" if heldout_data else "--download"
            raise BadConfig(f"method {method!r} condenses no dataset, which {option} is for")
        if expert is not None and "expert" not in condenser.needs:
            raise BadConfig(f"method {method!r} uses no expert: leave out --expert")
    budget = budget_of(own_budget(method), size, percent, unit, max_bytes, bits, resolution)
    the_task = make_task(task)
    player = find_expert(expert) if expert else None
    if player is not None:
        check_fits(player.network.spec, the_task, f"expert {player.id!r}")
    name, source = "", None
    if condenser.takes_data:
        name = named_dataset(dataset or default_dataset(the_task), task, expert)
        source = load_dataset(name, download=download, heldout_data=heldout_data, progress=progress)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(lock(folder.with_name(f".{folder.name}.lock")))
            _unfinished_or_new(folder)  # another process may have finished it
        stack.enter_context(one_thread())
        data = condenser.condense(
            source,
            task=the_task,
            budget=budget,
            expert=player or expert_of(name, the_task),
            seed=seed,
            device=resolve_device(device),
            progress=named_progress(progress, condenser.id),
            checkpoint=folder / UNFINISHED if folder is not None else None,
            replaces_checkpoint=False,
            made_from=canonical_json(
                {
                    **source_of(the_task, settings_of_task(the_task.id), type(condenser)),
                    "threads": THREADS,
                }
            ),
        )
        if folder is not None:
            data.save(folder)
            (folder / UNFINISHED).unlink(missing_ok=True)
    return data


def _unfinished_or_new(folder: Path) -> Path:
    return folder if (folder / UNFINISHED).is_file() else new_folder(folder)
