"""Put the published records that `rlcondense run` reads into the wheel, and into the sdist.

Those are the records of reference rows, which `baselines/references.json` names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RECORDS = "leaderboard/results"
IN = {"wheel": "rlcondense/_catalogue/", "sdist": ""}


class ReferenceRecords(BuildHookInterface):  # type: ignore[misc]
    """Build hook of `pyproject.toml`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the records; an editable installation reads them where they are."""
        if version == "editable":
            return
        root = Path(self.root)
        index = json.loads((root / "baselines" / "references.json").read_text())
        for record in (name for cells in index.values() for name in cells.values()):
            plain, packed = (f"{RECORDS}/{record}.json{ending}" for ending in ("", ".gz"))
            path = plain if (root / plain).exists() else packed
            build_data["force_include"][str(root / path)] = f"{IN[self.target_name]}{path}"
