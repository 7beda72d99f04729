"""Scores of a dataset's episodes or rows as a table: one line each, for people who curate data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense.datasets.scores import Scores
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import load_dataset, make_method, make_task, stated_task
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import resolve_device
from rlcondense.runtime.tune import one_thread


def score_dataset(
    dataset: str | Path | TransitionDataset,
    method: str,
    *,
    task: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> tuple[TransitionDataset, Scores]:
    """Score the episodes or rows of a dataset by a method.

    Args:
        dataset: id or path of the dataset, or the data.
        method: id of a method that scores episodes or rows.
        task: id or alias of the task; by default the dataset's own.
        download: fetch the dataset from Minari's remote if it is not on this machine.
        heldout_data: take data of held-out levels too.
        seed: condensation seed.
        device: `auto`, `cpu` or `cuda`.
        settings: of the method.
        progress: called with the progress.

    Raises:
        BadConfig: the dataset is of no known task, or the method gives no scores.
    """
    make_method(method, task, **dict(settings or {}))  # a wrong request before a long reading
    data = load_dataset(
        dataset, task=task, download=download, heldout_data=heldout_data, progress=progress
    )
    made = make_task(task or stated_task(data))
    scorer = make_method(method, made, **dict(settings or {}))
    device = resolve_device(device)
    with one_thread():
        scores = scorer.score(data, task=made, seed=seed, device=device, progress=progress)
    return data, scores


def score_lines(data: TransitionDataset, scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield a line for each episode or row: score, and the episode's length, return and level.

    The level is None where the data have none. Data with injected faults have `faulty`, 0 or 1.
    """
    returns, faulty = data.episode_returns(), data.faulty
    for number, (rows, total) in enumerate(zip(data.episodes, returns, strict=True)):
        level = None if data.level_seeds is None else int(data.level_seeds[rows.start])
        of_episode = {"length": len(rows), "return": float(total), "level": level}
        if faulty:
            of_episode["faulty"] = int(faulty[number])
        if scores.unit == "episodes":
            yield {"episode": number, "score": float(scores.values[number]), **of_episode}
            continue
        for step, row in enumerate(rows):
            place = {"row": row, "episode": number, "step": step}
            yield {**place, "score": float(scores.values[row]), **of_episode}


def summary_of(data: TransitionDataset, scores: Scores) -> str:
    """Return in one line how many have a score, and how episodes' scores rank with other things."""
    from rlcondense.comparison.tables import correlations_text

    ranks = correlations_text(scores.rank_correlations(data))
    spread = f"{np.min(scores.values):.4g} to {np.max(scores.values):.4g}"
    text = f"{len(scores.values)} {scores.unit}, scores {spread}; rank correlation {ranks}"
    auroc = scores.auroc(data, data.faulty)
    return (
        text
        if auroc is None
        else f"{text}; a clean episode scores above a faulty one {auroc:.0%} of the time"
    )
