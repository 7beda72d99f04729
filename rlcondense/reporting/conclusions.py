"""What the records of a leaderboard are taken to show, in sentences beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcondense.files import FileRefusal, read_strictly

CONCLUSIONS = "conclusions.json"
MOST_BYTES = 2**16


@dataclass(frozen=True)
class Conclusion:
    """A finding.

    Attributes:
        text: sentences, with names of methods between backticks.
        page: path of the page that has the table, the intervals and the command.
    """

    text: str
    page: str

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The text in parts, and whether each is a name."""
        return [(part, bool(place % 2)) for place, part in enumerate(self.text.split("`"))]


def read_conclusions(leaderboard: Path) -> list[Conclusion]:
    """Return the findings of a leaderboard; none if their file is missing or malformed."""
    try:
        values = read_strictly(leaderboard / CONCLUSIONS, MOST_BYTES)
    except FileRefusal:
        return []
    found = [_conclusion(value) for value in values] if isinstance(values, list) else []
    return [one for one in found if one is not None]


def _conclusion(value: Any) -> Conclusion | None:
    if not isinstance(value, dict) or value.keys() != {"text", "page"}:
        return None
    return Conclusion(**value) if all(isinstance(v, str) for v in value.values()) else None
