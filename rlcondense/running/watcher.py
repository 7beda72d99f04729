"""Watchers: the receivers of a sweep's events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlcondense.running.estimate import Estimate
from rlcondense.running.planned import Planned
from rlcondense.running.states import State


class Watcher(Protocol):
    """The interface that receives the events of a sweep."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Receive the states of all cells and the number of cells to compute, at the start."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """Receive that a worker has started a cell, or its progress."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """Receive that a cell has ended, and the estimate of the remaining time."""

    def notice(self, text: str) -> None:
        """Receive a line for the user."""


class Silent:
    """A watcher that prints nothing."""

    def began(self, states: Sequence[State], todo: int, workers: int) -> None:
        """Do nothing."""

    def at(self, worker: int, planned: Planned, text: str) -> None:
        """Do nothing."""

    def ended(self, planned: Planned, status: str, reason: str, left: Estimate) -> None:
        """Do nothing."""

    def notice(self, text: str) -> None:
        """Do nothing."""
