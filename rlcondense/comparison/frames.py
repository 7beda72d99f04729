"""All numbers of comparison rows, for CSV files and pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlcondense.comparison.columns import columns_of
from rlcondense.comparison.rows import Group, Row, groups_of
from rlcondense.errors import MissingExtra
from rlcondense.records.record import Record
from rlcondense.references import FLOORS
from rlcondense.statistics.intervals import STATISTICS, Interval
from rlcondense.types import SPLITS


def numbers_of(group: Group, row: Row) -> dict[str, Any]:
    """Return the identity and all statistics of a row by name, without its costs."""
    line: dict[str, Any] = {
        "task": group.task,
        "dataset": group.dataset,
        "learner": "" if row.is_policy else group.learner["id"],
        "learner_config": "" if row.is_policy else _config(group.learner),
        "method": row.id,
        "config": _config(row.method),
        "budget": json.dumps(row.budget, sort_keys=True) if row.budget else "",
        "size": row.size,
        "labels": row.labels,
        "status": row.status,
        "condensation_seeds": None if row.is_policy else row.condensation_seeds,
        "learner_seeds": row.learner_seeds,
        "episodes": row.episodes,
        "mark": row.mark,
        "findings": " ".join(finding["name"] for finding in row.findings),
        "rank": "" if row.rank is None else "-".join(map(str, row.rank)),
        "cells": " ".join(filter(None, row.cells)),
    }
    for split in SPLITS:
        for name in STATISTICS:
            interval = row.returns[split][name] if row.returns else None
            line |= _bounds(f"{split}_{name}", interval)
    line |= _bounds("normalised", row.normalised)
    for column in columns_of("page"):
        line |= _bounds(column.header, column.figure(row))
    against = {a.floor: a for a in row.against}
    for floor in FLOORS:
        comparison = against.get(floor)
        line[f"against_{floor}"] = comparison.verdict if comparison else ""
        probability = comparison.probability if comparison else None
        line |= _bounds(f"probability_over_{floor}", probability)
    return line


def _bounds(name: str, interval: Interval | None) -> dict[str, Any]:
    plain = interval.to_json() if interval else {}
    bounds = {f"{name}_{bound}": plain.get(bound) for bound in ("low", "high")}
    return {name: plain.get("estimate"), **bounds}


def _config(part: Any) -> str:
    return json.dumps(part["config"], sort_keys=True)


def require_pandas() -> None:
    """Raise `MissingExtra` if pandas is not installed."""
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pandas", "pandas") from error


def frame_of(lines: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows of numbers as a pandas DataFrame, or raise `MissingExtra` without pandas."""
    require_pandas()
    import pandas as pd

    return pd.DataFrame(list(lines))


def frame_of_records(records: Sequence[Record]) -> Any:
    """Return the rows of records as a pandas DataFrame, a line for each row."""
    require_pandas()
    groups = groups_of(records)
    return frame_of(
        [{**numbers_of(group, row), **(row.cost or {})} for group in groups for row in group.rows]
    )
