"""Benchmarks at full size where BENCH is set (`make bench`), else once at their smallest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.benchmarks.bench import Bench, write


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One thread, whatever the machine has: what is compared are operations, not schedulers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Bench()
    torch.set_num_threads(threads)


def pytest_sessionfinish() -> None:
    write()
