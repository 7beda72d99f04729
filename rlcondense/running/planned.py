"""The cells of a plan, and the parts of it that a sweep computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlcondense.catalogue import find
from rlcondense.errors import BadConfig
from rlcondense.records.cell import Cell
from rlcondense.records.schema import is_cell
from rlcondense.references import POLICIES


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


@dataclass(frozen=True)
class Part:
    """The part of a suite that one sweep computes.

    Attributes:
        shard: `(i, n)`: only the i-th of n parts, counted from 1. Cells with the same condensation
            are in the same one. None for all.
        tasks: ids of the tasks to compute; none stands for all.
        methods: ids of the methods and reference rows to compute; none stands for all.
    """

    shard: tuple[int, int] | None = None
    tasks: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()

    def has(self, planned: Planned) -> bool:
        """Return whether a cell is of this part; a planned one without a cell may become one."""
        if self.shard is not None:
            number, count = self.shard
            if int(planned.shard_key, 16) % count != number - 1:
                return False
        cell = planned.cell
        return cell is None or (
            (not self.tasks or cell.task in self.tasks)
            and (not self.methods or cell.method["id"] in self.methods)
        )

    def check(self, plan: Iterable[Planned], suite: str) -> None:
        """Refuse names that no cell of a plan has.

        Raises:
            BadConfig: the suite has no such task or method.
        """
        planned_cells = [planned.cell for planned in plan]
        cells = [cell for cell in planned_cells if cell is not None]
        if len(cells) < len(planned_cells):
            return  # what is not known yet, or not installed here, may have the name
        for kind, asked, there in (
            ("task", self.tasks, {cell.task for cell in cells}),
            ("method", self.methods, {cell.method["id"] for cell in cells}),
        ):
            for name in sorted(asked - there):
                known = ", ".join(sorted(there))
                raise BadConfig(f"suite {suite!r} has no {kind} {name!r}: its are {known}")


WHOLE = Part()


def part_of(
    shard: tuple[int, int] | None = None, tasks: Iterable[str] = (), methods: Iterable[str] = ()
) -> Part:
    """Make a part of a suite from names of tasks and methods, aliases or ids.

    Raises:
        BadConfig: the shard is impossible.
        UnknownName: there is no such task, method or reference row.
    """
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise BadConfig(f"a shard is one of 1/n to n/n, not {shard[0]}/{shard[1]}")
    return Part(
        shard,
        frozenset(find("tasks", name).id for name in tasks),
        frozenset(name if name in POLICIES else find("methods", name).id for name in methods),
    )
