"""The choice of an executor by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rlcondense.errors import BadConfig
from rlcondense.running.executors.base import Executor, Setting
from rlcondense.running.executors.local import LocalExecutor
from rlcondense.running.executors.ray import RayExecutor


@contextlib.contextmanager
def executor_of(
    name: str, setting: Setting, *, address: str | None = None, gpus: float = 1.0
) -> Iterator[Executor]:
    """Open the executor of a name, `local` or `ray`, and close it at the end.

    Args:
        name: of the executor.
        setting: of all workers.
        address: of a Ray cluster.
        gpus: of a GPU for each of Ray's tasks.
    """
    if name not in ("local", "ray"):
        raise BadConfig(f"executor must be local or ray, not {name!r}")
    if name == "local" and address is not None:
        raise BadConfig("an address is for --executor ray")
    executor: Executor
    executor = LocalExecutor(setting) if name == "local" else RayExecutor(setting, address, gpus)
    try:
        yield executor
    finally:
        executor.close()
