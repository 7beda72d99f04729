"""Figures of comparison rows: mean returns with their intervals, a panel for each table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcondense.comparison.columns import name_and_size
from rlcondense.comparison.rows import Group, groups_of, names_of
from rlcondense.errors import BadConfig
from rlcondense.records.record import Record
from rlcondense.runtime.figures import finished, panels
from rlcondense.statistics.intervals import Interval
from rlcondense.types import SPLIT_NAMES, SPLITS

_OFFSETS = {"seen": -0.15, "heldout": 0.15}  # of a row's two points, downwards


def plot_records(records: Sequence[Record], path: str | Path | None = None) -> list[Any]:
    """Draw the mean return of each row on both splits, with its 95% interval.

    Args:
        records: of the rows.
        path: file to write, such as `returns.pdf`.

    Returns:
        The axes of matplotlib, one for each task, dataset and learner.

    Raises:
        MissingExtra: matplotlib is not installed.
        BadConfig: no row is done.
    """
    groups = [g for g in groups_of(records) if any(row.returns is not None for row in g.rows)]
    if not groups:
        raise BadConfig("no row has returns: there is nothing to draw")
    most = max(len(group.rows) for group in groups)
    axes = panels(len(groups), height=1.2 + 0.3 * most, width=5.0)
    names = names_of([group.learner for group in groups])
    for panel, group, learner in zip(axes, groups, names, strict=True):
        _draw(panel, group)
        panel.set_title(f"{group.task}, {learner}", fontsize="medium")
    axes[0].legend()
    return finished(axes, path)


def _draw(panel: Any, group: Group) -> None:
    rows = [row for row in group.rows if row.returns is not None]
    for number, split in enumerate(SPLITS):
        means = [row.returns[split]["mean"] for row in rows if row.returns is not None]
        panel.errorbar(
            [mean.estimate for mean in means],
            [place + _OFFSETS[split] for place in range(len(rows))],
            xerr=list(zip(*map(_arms, means), strict=True)),
            fmt="o",
            color=f"C{number}",
            markerfacecolor="white" if split == "seen" else None,
            label=SPLIT_NAMES[split],
        )
    sized = [name_and_size(row) for row in rows]
    panel.set_yticks(range(len(rows)), sized)
    panel.invert_yaxis()
    panel.set_xlabel("mean return")


def _arms(mean: Interval) -> tuple[float, float]:
    """Return the lengths of an interval below and above its estimate, zero if it is not known."""
    if not mean.known:
        return 0.0, 0.0
    return mean.estimate - mean.low, mean.high - mean.estimate
