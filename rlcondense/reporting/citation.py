"""BibTeX of records and of comparable rows, with the papers behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlcondense.citations import cite_cell, cite_entries
from rlcondense.comparison.rows import Group
from rlcondense.errors import CorruptArtifact
from rlcondense.records.cell import Cell
from rlcondense.records.reading import PUBLISHED, record_path
from rlcondense.reporting.formats import tex_text

PLACES = (PUBLISHED, Path("results", "records"))


def record_file(what: str) -> Path | None:
    """Return the file of a record by its path, or by its id in a folder of `PLACES`.

    Returns:
        The path; None of what is neither a file nor of the form of an id.

    Raises:
        CorruptArtifact: no such record is in one of the folders.
    """
    if Path(what).is_file():
        return Path(what)
    if not re.fullmatch(r"[0-9a-f]{16}", what):
        return None
    paths = [record_path(folder, what) for folder in PLACES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise CorruptArtifact(f"there is no record {what} in {' or '.join(map(str, PLACES))}")
    return path


def cite_record(record: Mapping[str, Any]) -> str:
    """Return BibTeX entries of a record, of the package and of the papers behind them."""
    cell = Cell.from_json(record["cell"])
    method, task = tex_text(cell.method["id"]), tex_text(cell.task)
    own = [
        f"@misc{{rlcondense-{cell.id},",
        "  author = {{The rlcondense authors}},",
        f"  title = {{{{{method} on {task}: record {cell.id}}}}},",
        f"  note = {{content sha256 {str(record.get('content_sha256', ''))[:16]}}}",
        "}",
    ]
    learner = cell.learner["id"] if cell.learner else ""
    papers = _papers(cell.task, cell.dataset, cell.method["id"], learner)
    return "\n".join(own) + f"\n\n{papers}"


@lru_cache(maxsize=1024)
def _papers(task: str, dataset: str, method: str, learner: str) -> str:
    named = {"id": learner} if learner else None
    cell = {"task": task, "dataset": dataset, "method": {"id": method}, "learner": named}
    return cite_cell(cell)


def cite_groups(groups: Iterable[Group], methods: Iterable[str]) -> str:
    """Return the BibTeX of the package and of all papers behind methods in groups of rows."""
    names = {("methods", method) for method in methods}
    for group in groups:
        names |= {("tasks", group.task), ("datasets", group.dataset)}
        names.add(("learners", group.learner["id"]))
    return cite_entries(sorted(names))
