"""Views of a result in Python: its table as text and in a notebook, its numbers as a DataFrame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlcondense.comparison.frames import frame_of_records
from rlcondense.comparison.plots import plot_records
from rlcondense.records.record import Record


class ResultViews(ABC):
    """Views of a result, whose `str` is its table or counts, with what should be known of them."""

    @abstractmethod
    def every_record(self) -> Sequence[Record]:
        """Return all records, those of reference rows included."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_pandas(self) -> Any:
        """Return all numbers of the rows as a pandas DataFrame, a line for each row.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frame_of_records(self.every_record())

    def plot(self, path: str | Path | None = None) -> list[Any]:
        """Draw the mean return of each row on both splits, with its 95% interval.

        Args:
            path: file to write, such as `returns.pdf`.

        Returns:
            The axes of matplotlib, one for each task, dataset and learner.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return plot_records(self.every_record(), path)
