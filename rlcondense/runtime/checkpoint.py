"""Checkpoints of unfinished condensations, from which a killed run resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import canonical_json, read_arrays, write_arrays
from rlcondense.runtime.meter import Seconds
from rlcondense.types import Array

SECONDS_BETWEEN = 60.0  # between two writes: the work that a kill may lose
_FACTS = "facts"
_UNREADABLE = (CorruptArtifact, KeyError, RecursionError, TypeError, ValueError)


class Checkpoint:
    """File of arrays and plain values of one condensation.

    Args:
        path: path of the file.
        identity: description of the output and its inputs; a file with another identity is ignored.
        device: device of the computation.

    Attributes:
        before: seconds of earlier runs, once their state was read.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], device: str = "cpu") -> None:
        self.path, self._identity = path, canonical_json(identity)
        self.before = Seconds()
        self._device = device
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._written = self._wall

    @property
    def due(self) -> bool:
        """Return whether the next write is due."""
        return time.perf_counter() - self._written >= SECONDS_BETWEEN

    def write(self, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
        """Replace the file.

        Args:
            arrays: arrays by name.
            facts: values that JSON can hold.
        """
        content = {"identity": self._identity, "facts": facts, "seconds": vars(self._spent())}
        text = np.frombuffer(canonical_json(content).encode(), np.uint8)
        write_arrays(self.path, {**arrays, _FACTS: text})
        self._written = time.perf_counter()

    def read(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Return the arrays and values of this condensation, or None."""
        try:
            arrays, content = self._content()
            if content["identity"] != self._identity:
                return None
            self.before = Seconds(**content["seconds"])
            return arrays, content["facts"]
        except _UNREADABLE:
            return None

    def refuse_another(self) -> None:
        """Refuse a file of another run; one that cannot be read is worth nothing.

        Raises:
            BadConfig: there is one.
        """
        try:
            is_own = self._content()[1]["identity"] == self._identity
        except _UNREADABLE:
            return
        if not is_own:
            raise BadConfig(
                f"{self.path} is of another run that is unfinished, or of other versions: name "
                "another folder, or delete it"
            )

    def _content(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays = read_arrays(self.path)
        content: dict[str, Any] = json.loads(arrays.pop(_FACTS).tobytes())
        return arrays, content

    def _spent(self) -> Seconds:
        wall = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu
        gpu = 0.0 if self._device == "cpu" else wall
        past = self.before
        return Seconds(past.wall + wall, past.cpu + cpu, past.gpu + gpu)


class Stateful(Protocol):
    """State of a computation, for checkpoints."""

    def state(self) -> dict[str, Array]:
        """Return all state that decides the rest of the computation, as arrays."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore a state that `state` returned."""
