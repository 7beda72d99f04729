"""The work of a GPU, there and on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.runtime.provenance import resolve_device
from rlcondense.tasks.base import Task
from tests.benchmarks import gpu
from tests.conftest import TINY
from tests.device_checks import CHECKS, Check

DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_work_of_a_device(
    check: Check, device: str, tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    check(tiny, task, tmp_path, resolve_device(device))


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_without_one(tiny: TransitionDataset, tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n\n<!-- measured gpu -->\n<!-- /measured -->\n")
    status = gpu.main(["--device", "cpu", "--small", "--dataset", TINY, "--page", str(page)])
    assert status == 0
    for row in ("checks passed | 5 of 5", "demonstration: evaluation", "students", "gradmatch: an"):
        assert row in page.read_text()
