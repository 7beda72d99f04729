"""What is told how a sweep goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlcondense.running.estimate import Estimate
from rlcondense.running.planned import Planned
from rlcondense.running.states import (
    State,
)


class Watcher(Protocol):
    """Told how a sweep goes."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """The sweep begins: where everything stands, and how much there is to do."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """A worker has begun a cell, or says how far it is."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """A cell has come to an end, and this is left."""

    def notice(self, text: str) -> None:
        """Something that is worth a line."""


class Silent:
    """Says nothing."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Nothing."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """Nothing."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""
