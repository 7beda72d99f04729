"""The cells of a plan, and the shards that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlcondense.records.cell import Cell
from rlcondense.records.schema import is_cell


@dataclass(frozen=True)
class Planned:
    """A cell of a plan.

    Attributes:
        text: the cell in words.
        cell: None if it is not known yet, or not on this machine.
        absent: the part it needs that is not installed.
        skip: why it will be skipped; for an entry without a cell, why it cannot have one.
        after: id of the cell that must be done before this one is known: a random subset has the
            size that a percentage comes to.
        shard_key: cells with the same one are in the same shard.
        is_reference: whether it is a reference row, which is skipped if it cannot exist. A plan
            that is read back does not say.
    """

    text: str
    cell: Cell | None = None
    absent: str = ""
    skip: str = ""
    after: str = ""
    shard_key: str = "0"
    is_reference: bool = False

    @property
    def id(self) -> str:
        """The cell's id, empty without a cell."""
        return self.cell.id if self.cell is not None else ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the planned cell that manifests hold."""
        cell = self.cell.to_json() if self.cell is not None else None
        return {
            "id": self.id,
            "text": self.text,
            "cell": cell,
            "absent": self.absent,
            "skip": self.skip,
            "after": self.after,
            "shard_key": self.shard_key,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Planned:
        """Make a planned cell from the JSON of `to_json`."""
        names = ("text", "absent", "skip", "after", "shard_key")
        texts = all(isinstance(values[name], str) for name in names)
        if not (texts and (values["cell"] is None or is_cell(values["cell"]))):
            raise TypeError("it names what is no cell")
        cell = Cell.from_json(values["cell"]) if values["cell"] else None
        return cls(cell=cell, **{name: values[name] for name in names})


def in_shard(planned: Planned, shard: tuple[int, int] | None) -> bool:
    """Return whether a cell is in shard i of n, counted from 1.

    Cells with the same condensation are in the same shard.
    """
    if shard is None:
        return True
    number, count = shard
    return int(planned.shard_key, 16) % count == number - 1
