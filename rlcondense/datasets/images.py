"""Dataset of a task's labelled images, as episodes of sheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from rlcondense.datasets.episodes import Episode
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.images import SHEET, ImagesTask


class ImagesDataset:
    """Training images with their labels, each once, without those that do not fill a sheet.

    Args:
        id: catalogue id.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str) -> None:
        self.id = id

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return one episode for each sheet."""
        assert isinstance(task, ImagesTask)
        images = task.images["seen"]
        sheets = len(images.labels) // SHEET
        one_hot = np.eye(int(task.action_space.n), dtype=np.float32)
        for level in range(sheets):
            rows = images.sheet(level)
            labels = images.labels[rows]
            ones = np.ones(SHEET, np.float32)
            yield Episode(images.frames[rows], labels, ones, level, one_hot[labels])
            progress("write", level + 1, sheets)
