"""What methods compute once for a dataset and share: kept in the cache under its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlcondense.files import canonical_json, lock, read_json, write_json
from rlcondense.methods.base import Problem
from rlcondense.places import cache_root
from rlcondense.runtime.provenance import source_sha256, versions
from rlcondense.runtime.tune import one_thread

COST = "cost.json"  # written last


def artifact(
    kind: str, problem: Problem, facts: Mapping[str, Any], make: Callable[[Path], int]
) -> tuple[Path, int]:
    """Return the folder of an artifact, which is made if the cache has none, and its cost.

    Its identity are the data, the task, the device, this package's code, the versions and the
    facts. It is made with one thread, like all that a cell computes. The cost is that of making it,
    whoever made it.

    Args:
        kind: name of the folder of its like.
        problem: the problem with the data.
        facts: settings that decide what it is.
        make: writes it to a folder, and returns the number of gradients of one row's loss.
    """
    identity = {
        "dataset": problem.dataset.sha256,
        "task": problem.task.id,
        **facts,
        "device": problem.device,
        "source": source_sha256(),
        "versions": versions(),
    }
    digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()
    folder = cache_root() / kind / digest[:16]
    with lock(folder.with_suffix(".lock")):
        if not (folder / COST).is_file():
            with one_thread():
                write_json(folder / COST, {"gradient_evaluations": make(folder)})
        return folder, int(read_json(folder / COST)["gradient_evaluations"])
