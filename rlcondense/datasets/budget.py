"""Budgets: how many transitions a method may keep, as a number, a share or what bytes hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcondense.config import check_choice
from rlcondense.datasets.report import UNITS, BudgetJson, BytesJson
from rlcondense.errors import BadConfig
from rlcondense.limits import as_number, check_count, check_most, check_whole
from rlcondense.text import shown

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import TransitionDataset

EPISODES_CHOSEN = "a percentage of episodes is for methods that select episodes"


def share_of(number: int, share: float, of: float = 100) -> int:
    """Return a share of a number, rounded down; of what rounding of floats lacks, up.

    Args:
        number: of which it is a share.
        share: in parts of `of`, by default percent.
        of: what the whole would be.
    """
    return int(number * share / of + 1e-9)


@dataclass(frozen=True)
class Budget:
    """Budget of a method: a number of transitions, a percentage of the data, or bytes.

    Attributes:
        size: number of transitions.
        percent: percentage of the dataset's transitions or episodes.
        unit: unit of `percent`, `transitions` or `episodes`.
        bytes: bytes of the stored rows, labels and all else that students are trained with. Rows
            are then stored as codes; see `rlcondense.datasets.coding`.
        bits: bits of a stored pixel or feature, for a budget in bytes.
        resolution: side of the stored frames, for a budget in bytes; None is their own.
    """

    size: int | None = None
    percent: float | None = None
    unit: str = "transitions"
    bytes: int | None = None
    bits: int = 8
    resolution: int | None = None

    def __post_init__(self) -> None:
        if sum(kind is not None for kind in (self.size, self.percent, self.bytes)) != 1:
            raise BadConfig("a budget is a size, a percentage or a number of bytes")
        if self.bytes is not None:
            check_whole(self.bytes, "bytes", least=1)
            check_count("bits", self.bits)
            if self.resolution is not None:
                check_count("resolution", self.resolution)
        elif (self.bits, self.resolution) != (8, None):
            raise BadConfig("bits and resolution go with a budget in bytes")
        if self.size is not None:
            check_whole(self.size, "size", least=1)
        if self.percent is not None:
            if not 0 < as_number("percent", self.percent) <= 100:
                raise BadConfig(f"percent must lie in (0, 100], not {shown(self.percent)}")
            # 10 and 10.0 are one budget, and cells are named by what JSON writes.
            object.__setattr__(self, "percent", float(self.percent))
        check_choice(self, "unit", UNITS)
        if self.percent is None and self.unit != "transitions":
            raise BadConfig("a unit goes with a percentage")

    def transitions(self, dataset: TransitionDataset | None) -> int:
        """Return the budget in transitions.

        Args:
            dataset: the source dataset; None for a method that takes no data.

        Raises:
            BadConfig: the budget counts episodes, rounds to nothing, or exceeds the dataset.
        """
        assert self.bytes is None
        if dataset is None:
            if self.size is None:
                raise BadConfig(
                    "a percentage needs a dataset, and the method takes none: give a size"
                )
            check_most("size", self.size, "size of what no data bound")
            return self.size
        if self.percent is not None:
            if self.unit == "episodes":
                raise BadConfig(EPISODES_CHOSEN)
            size = share_of(len(dataset), self.percent)
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
        count = share_of(len(dataset.episodes), self.percent)
        if count < 1:
            raise BadConfig(f"{self.percent}% of {len(dataset.episodes)} episodes is less than one")
        return count

    def to_json(self) -> BudgetJson:
        """Return the budget as plain values."""
        if self.size is not None:
            return {"size": self.size}
        if self.bytes is not None:
            coding: BytesJson = {"bytes": self.bytes, "bits": self.bits}
            if self.resolution is not None:
                coding["resolution"] = self.resolution
            return coding
        assert self.percent is not None
        return {"percent": self.percent, "unit": self.unit}
