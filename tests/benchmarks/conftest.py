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
    bench = Bench()
    yield bench
    torch.set_num_threads(threads)
    assert not (bench.full and bench.missed)


def pytest_sessionfinish() -> None:
    write()
