"""Figures of data: returns of episodes, actions, and a few frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.datasets.summary import BINS, MOST_ACTIONS, frame_strip
from rlcondense.runtime.figures import finished, panels
from rlcondense.types import Array

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import Columns


def plot_columns(data: Columns, returns: Array | None, path: str | Path | None) -> list[Any]:
    """Draw data: a panel of returns, one of actions, and one of frames if there are any.

    Args:
        data: the data.
        returns: the return of each episode, if the data are of whole episodes.
        path: file to write, such as `data.pdf`.

    Returns:
        The axes of matplotlib, one a panel.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    strip = frame_strip(data)
    axes = panels(1 + (returns is not None) + (strip is not None))
    left = list(axes)
    if returns is not None:
        _histogram(left.pop(0), returns, "return of an episode", "episodes")
    _actions(left.pop(0), np.asarray(data.actions))
    if strip is not None:
        picture = left.pop(0)
        picture.imshow(np.moveaxis(strip, 0, -1).squeeze(), cmap="gray", interpolation="nearest")
        picture.set_axis_off()
    return finished(axes, path)


def _histogram(panel: Any, values: Array, what: str, count: str) -> None:
    finite = values[np.isfinite(values)]
    try:
        panel.hist(finite, BINS)
    except ValueError:  # so close together that floats do not separate the bins
        panel.bar(float(finite.mean()), len(finite))
    panel.set(xlabel=what, ylabel=count)


def _actions(panel: Any, actions: Array) -> None:
    """Draw the counts of discrete actions, or the spread of each number of continuous ones."""
    if actions.ndim > 1:
        numbers = actions.reshape(len(actions), -1)[:, :MOST_ACTIONS]
        panel.boxplot(numbers, sym="", tick_labels=list(map(str, range(numbers.shape[1]))))
        panel.set(xlabel="number of an action", ylabel="value")
        return
    names, counts = np.unique(actions, return_counts=True)
    if len(names) > MOST_ACTIONS:
        _histogram(panel, actions, "action", "transitions")
        return
    panel.bar(names, counts)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set(xlabel="action", ylabel="transitions")
