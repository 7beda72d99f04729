"""The page that compares ticked rows level by level, and the returns by level that it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.comparison.columns import coding_of
from rlcondense.reporting.pages.lines import Line, learner_names
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.statistics.intervals import level_means, student_means
from rlcondense.types import SPLITS


def compare_pages(site: Site) -> Pages:
    """Return the page, and for each task a script with the returns of its rows."""
    yield site.page("compare.html", "compare.html")
    lines: dict[str, dict[str, Line]] = {}
    for line in (*site.lines, *_rows_of_suites(site)):
        if line.row.returns is not None and line.cells:
            lines.setdefault(line.group.task, {}).setdefault(line.key, line)
    for task, own in lines.items():
        yield f"levels/{site.tasks[task]}.js", _script(site, task, own)


def _rows_of_suites(site: Site) -> Iterator[Line]:
    """Yield the rows of which a suite has fewer sets than the board."""
    known = {line.row.cells for line in site.lines}
    for suite in site.board.suites:
        names = learner_names(suite.groups)
        for group, name in zip(suite.groups, names, strict=True):
            if any(row.returns is not None and row.cells not in known for row in group.rows):
                for line in site.lines_of([group]):
                    yield replace(line, learner=line.learner and name)


def _script(site: Site, task: str, lines: Mapping[str, Line]) -> bytes:
    rows = {key: _row(site, line) for key, line in lines.items()}
    name = json.dumps(site.tasks[task])
    body = ",\n".join(f"{json.dumps(key)}: {_compact(row)}" for key, row in rows.items())
    head = f"(globalThis.levels ??= {{}})[{name}] = {{task: {json.dumps(task)}, rows: {{\n"
    return f"{head}{body}\n}}}};\n".encode()


def _row(site: Site, line: Line) -> dict[str, Any]:
    """Return what a comparison needs of a row: who it is, its returns by student and by level."""
    row, records = line.row, [site.board.records[cell] for _, cell in line.cells]
    return {
        "name": row.name,
        "learner": line.learner,
        "size": row.size,
        "budget": coding_of(row.budget),
        "labels": row.labels,
        "dataset": line.group.dataset,
        "played": records[0]["levels_sha256"][:12],
        "unjudged": row.unjudged,
        "students": {
            split: [_numbers(of_set, 15) for of_set in student_means(records, split)]
            for split in SPLITS
        },
        "levels": {split: _numbers(level_means(records, split), 6) for split in SPLITS},
    }


def _numbers(values: npt.NDArray[np.float64], digits: int) -> list[float | int]:
    """Return values with few digits, whole ones as integers."""
    rounded = [float(f"{value:.{digits}g}") for value in values.tolist()]
    return [int(value) if value == int(value) else value for value in rounded]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
