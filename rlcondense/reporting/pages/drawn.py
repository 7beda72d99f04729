"""Pictures of condensations that lie beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.files import FileRefusal, read_bounded, read_strictly
from rlcondense.records.cell import Cell
from rlcondense.records.record import CellJson, Record
from rlcondense.reporting.pictures import MOST_BYTES, PNG

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_TIERS = 20
MOST_SHARES = 200  # that are drawn


@dataclass(frozen=True)
class Picture:
    """The picture of a condensation.

    Attributes:
        id: of the condensation.
        cell: one of the cells that use it.
        width: of the contact sheet in pixels.
        height: likewise.
        facts: `kind`, `rows`, `size`, `label_kind`, `amplified`.
        actions: its action distribution, drawn; None if unknown.
        record: id of a record.
        steps: where in their episodes a selection's rows lie, drawn; None if unknown.
        returns: how much the episodes returned that they are of, likewise.
    """

    id: str
    cell: CellJson
    width: int
    height: int
    facts: Mapping[str, Any]
    actions: Markup | None
    record: str
    steps: Markup | None = None
    returns: Markup | None = None

    @property
    def shown(self) -> int:
        """The number of frames in a line; 1 if unknown."""
        rows = self.facts.get("rows")
        return len(rows) if isinstance(rows, list) and 0 < len(rows) <= self.width else 1

    @property
    def levels(self) -> tuple[int, int] | None:
        """How many levels a selection's rows are of, and its source's."""
        pair = self.facts.get("levels")
        well = isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, int) for n in pair)
        return (pair[0], pair[1]) if isinstance(pair, list) and well else None

    @property
    def tiers(self) -> dict[str, list[float]]:
        """By who played the share of a selection's rows and of its source's; empty if unknown."""
        said = self.facts.get("tiers")
        shares = {str(k): _shares(v) for k, v in said.items()} if isinstance(said, dict) else {}
        pairs = {k: pair for k, pair in shares.items() if pair is not None and len(pair) == 2}
        return pairs if len(pairs) == len(shares) <= MOST_TIERS else {}

    @property
    def caption(self) -> str:
        """The caption of its lines of frames."""
        rows = self.facts.get("rows")
        square = isinstance(rows, list) and self.height * len(rows) == 3 * self.width
        if self.facts.get("kind") != "synthetic" or not square:
            return "Frames of the condensed set"
        more = self.facts.get("amplified")
        larger = f", {more} times larger than it is" if isinstance(more, int) and more > 1 else ""
        return f"Frames before, after, and the difference around grey{larger}"


def pictures_of(records: Mapping[str, Record], folder: Path) -> dict[str, Picture]:
    """Return the existing pictures of the condensations behind records."""
    if not folder.is_dir():
        return {}
    pictures: dict[str, Picture] = {}
    for cell_id, record in records.items():
        if record["cell"]["learner"] is None:
            continue
        name = Cell.from_json(record["cell"]).condensation_id
        if name in pictures:
            continue
        shape = _png_shape(folder / f"{name}.png")
        if shape is not None:
            picture_facts = _picture_facts(folder / f"{name}.json")
            drawn = _action_bars(picture_facts)
            steps, returns = (_tenths(picture_facts.get(k), k) for k in ("steps", "returns"))
            pictures[name] = Picture(
                name, record["cell"], *shape, picture_facts, drawn, cell_id, steps, returns
            )
    return pictures


def _png_shape(path: Path) -> tuple[int, int] | None:
    """Return width and height of a picture; None if it is not a picture, or too large."""
    try:
        head = read_bounded(path, MOST_BYTES)[:24]
    except FileRefusal:
        return None
    if not head.startswith(PNG) or head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _picture_facts(path: Path) -> dict[str, Any]:
    """Read the facts about a picture; none if the file cannot be read."""
    try:
        values = read_strictly(path, MOST_BYTES)
    except FileRefusal:
        return {}
    return values if isinstance(values, dict) else {}


def _action_bars(said: Mapping[str, Any]) -> Markup | None:
    from rlcondense.reporting.distributions import action_bars

    own, source = _shares(said.get("actions")), _shares(said.get("dataset_actions"))
    if own is None:
        return None
    return action_bars(own, source if source and len(source) == len(own) else None)


def _tenths(values: Any, what: str) -> Markup | None:
    """Draw the shares of a selection's rows by tenths, beside a tenth each."""
    from rlcondense.reporting.distributions import tenth_bars

    shares = _shares(values)
    return tenth_bars(shares, what) if shares and len(shares) == 10 else None


def _shares(values: Any) -> list[float] | None:
    """Return the values if they can be shares of a whole, else None."""
    if not isinstance(values, list) or not 0 < len(values) <= MOST_SHARES:
        return None
    numbers = [float(v) for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return numbers if len(numbers) == len(values) and all(0 <= v <= 1 for v in numbers) else None
