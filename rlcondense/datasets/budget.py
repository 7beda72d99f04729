"""Budgets: the number or share of transitions that a method may keep."""

from __future__ import annotations

from dataclasses import dataclass

from rlcondense.datasets.report import UNITS, BudgetJson
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.limits import check_most, check_whole


@dataclass(frozen=True)
class Budget:
    """Budget of a method: a number of transitions, or a percentage of the data.

    Attributes:
        size: number of transitions.
        percent: percentage of the dataset's transitions or episodes.
        unit: unit of `percent`, `transitions` or `episodes`.
    """

    size: int | None = None
    percent: float | None = None
    unit: str = "transitions"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.percent is None):
            raise BadConfig("a budget is either a size or a percentage")
        if self.size is not None and self.size < 1:
            raise BadConfig(f"size must be at least 1, not {self.size}")
        if self.size is not None:
            check_whole(self.size, "size", least=1)
        if self.percent is not None and not 0 < self.percent <= 100:
            raise BadConfig(f"percent must lie in (0, 100], not {self.percent}")
        if self.unit not in UNITS:
            raise BadConfig(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    def transitions(self, dataset: TransitionDataset | None) -> int:
        """Return the budget in transitions.

        Args:
            dataset: the source dataset; None for a method that takes no data.

        Raises:
            BadConfig: the budget counts episodes, rounds to nothing, or exceeds the dataset.
        """
        if dataset is None:
            if self.size is None:
                raise BadConfig(
                    "a percentage needs a dataset, and the method takes none: give a size"
                )
            check_most("size", self.size, "size of what no data bound")
            return self.size
        if self.percent is not None:
            if self.unit == "episodes":
                raise BadConfig("a percentage of episodes is for methods that select episodes")
            size = int(len(dataset) * self.percent / 100 + 1e-9)
            if size < 1:
                raise BadConfig(f"{self.percent}% of {len(dataset)} transitions is less than one")
            return size
        assert self.size is not None
        if self.size > len(dataset):
            raise BadConfig(f"size {self.size} is above the {len(dataset)} transitions of the data")
        return self.size

    def episodes(self, dataset: TransitionDataset) -> int:
        """Return the number of episodes that a percentage of them comes to.

        Raises:
            BadConfig: the number is below one.
        """
        assert self.percent is not None
        assert self.unit == "episodes"
        count = int(len(dataset.episodes) * self.percent / 100 + 1e-9)
        if count < 1:
            raise BadConfig(f"{self.percent}% of {len(dataset.episodes)} episodes is less than one")
        return count

    def to_json(self) -> BudgetJson:
        """Return the budget as plain values."""
        if self.size is not None:
            return {"size": self.size}
        assert self.percent is not None
        return {"percent": self.percent, "unit": self.unit}
