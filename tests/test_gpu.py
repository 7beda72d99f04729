"""The work of a GPU, there and on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.runtime.provenance import resolve_device
from rlcondense.tasks.base import Task
from tests.device_checks import CHECKS, Check

DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_work_of_a_device(
    check: Check, device: str, tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    check(tiny, task, tmp_path, resolve_device(device))
