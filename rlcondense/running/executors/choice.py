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
    name: str, setting: Setting, *, address: str | None = None, gpus: float | None = None
) -> Iterator[Executor]:
    """Open the executor of a name, `local` or `ray`, and close it at the end.

    Args:
        name: of the executor.
        setting: of all workers.
        address: of a Ray cluster.
        gpus: of a GPU for each of Ray's tasks, by default one.
    """
    check_executor(name, address=address, gpus=gpus)
    if gpus is not None and setting.device == "cpu":
        raise BadConfig("--gpus shares out GPUs, --device cpu uses none: give one")
    executor: Executor
    if name == "local":
        executor = LocalExecutor(setting)
    else:
        executor = RayExecutor(setting, address, 1.0 if gpus is None else gpus)
    try:
        yield executor
    finally:
        executor.close()


def check_executor(name: str, *, address: str | None = None, gpus: float | None = None) -> None:
    """Check the name of an executor and what is asked of it; see `executor_of`.

    Raises:
        BadConfig: there is no such executor, or it does not take this.
    """
    if name not in ("local", "ray"):
        raise BadConfig(f"executor must be local or ray, not {name!r}")
    if name == "local" and address is not None:
        raise BadConfig("an address is for --executor ray")
    if address is not None and not address.strip():
        raise BadConfig("--address is empty: without it Ray starts on this machine")
    if name == "local" and gpus is not None:
        raise BadConfig("--gpus is for --executor ray")
    if gpus is not None and not gpus > 0:
        raise BadConfig(f"gpus must be above 0, not {gpus}")
