"""Figures by matplotlib, which is imported where one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlcondense.errors import MissingExtra

WIDTH = 4.0  # inches of a panel


def panels(number: int, height: float = 3.0, width: float = WIDTH) -> list[Any]:
    """Return the axes of a new figure's panels, which stand side by side.

    Args:
        number: how many panels.
        height: of the figure, in inches.
        width: of a panel, in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    size = (width * number, height)
    _, axes = plt.subplots(1, number, figsize=size, squeeze=False, layout="constrained")
    return list(axes[0])


def finished(axes: list[Any], path: str | Path | None) -> list[Any]:
    """Return the axes of a figure, after it was written to a file if one is named."""
    if path is not None:
        axes[0].figure.savefig(Path(path))
    return axes
