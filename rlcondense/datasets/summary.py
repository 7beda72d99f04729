"""Short views of data in Python: a few lines of text, the first rows, a picture in notebooks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.types import Array

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import Columns

BINS = 12
MOST_ACTIONS = 64  # most discrete actions whose counts are drawn one by one
MOST_NUMBERS = 4  # numbers of a cell that are shown
FRAMES = 8  # of the picture in a notebook
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Head:
    """The first rows of data.

    Attributes:
        columns: arrays by name, of equal length.
    """

    columns: Mapping[str, Array]

    def __repr__(self) -> str:
        return "\n".join("  ".join(cells).rstrip() for cells in self._lines())

    def _repr_html_(self) -> str:
        rows = ["".join(f"<td>{escape(c.strip())}</td>" for c in cells) for cells in self._lines()]
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def _lines(self) -> Iterator[list[str]]:
        """Yield the cells of each line, the names first, as text of equal width."""
        texts = [[name, *map(_cell, column)] for name, column in self.columns.items()]
        widths = [max(map(len, column)) for column in texts]
        for cells in zip(*texts, strict=True):
            yield [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]


def _cell(value: Any) -> str:
    """Return the value of a cell as text: numbers, or the shape of what has many."""
    values = np.asarray(value)
    if values.ndim == 0:
        return f"{values:.4g}" if values.dtype.kind == "f" else str(values)
    if values.ndim > 1:
        return f"{values.dtype} {' x '.join(map(str, values.shape))}"
    few = " ".join(_cell(number) for number in values[:MOST_NUMBERS])
    return few if len(values) <= MOST_NUMBERS else f"{few} ... ({len(values)})"


def summary(title: str, data: Columns, returns: Array | None = None) -> str:
    """Return a few lines on data: what they are, their returns and actions, and their columns.

    Args:
        title: the first line.
        data: the data.
        returns: the return of each episode, if the data are of whole episodes.
    """
    shape = " x ".join(map(str, data.observations.shape[1:]))
    lines = {"observations": f"{data.observations.dtype} {shape}", "actions": _actions(data)}
    if returns is not None:
        lines["returns"] = _histogram(returns)
    lines["columns"] = ", ".join(data.columns())
    return "\n".join([title, *(f"  {name:<13} {text}" for name, text in lines.items())])


def _histogram(returns: Array) -> str:
    if not len(returns) or not np.isfinite(returns).all():
        return "none" if not len(returns) else "not finite"
    low, high = float(returns.min()), float(returns.max())
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return f"all {low:.2f}"
    counts, _ = np.histogram(returns, BINS)
    return f"{low:.2f} {bars(counts.tolist())} {high:.2f}, mean {returns.mean():.2f}"


def _actions(data: Columns) -> str:
    actions = np.asarray(data.actions)
    if not len(actions):
        return "none"
    if actions.ndim > 1:
        return f"{actions.dtype} {' x '.join(map(str, actions.shape[1:]))}"
    most = int(actions.max()) + 1
    if actions.min() < 0 or most > MOST_ACTIONS:
        return f"{actions.min()} to {actions.max()}"
    return f"0 {bars(np.bincount(actions, minlength=most).tolist())} {most - 1}"


def html(text: str, data: Columns) -> str:
    """Return a summary for a notebook, with a few frames where observations are pictures."""
    strip, picture = frame_strip(data), ""
    if strip is not None:
        content = base64.b64encode(png(strip)).decode()
        picture = f'<img alt="frames" src="data:image/png;base64,{content}">'
    return f"<pre>{escape(text)}</pre>{picture}"


def frame_strip(data: Columns) -> Array | None:
    """Return a few frames of data side by side as bytes `(C, H, W)`; None without pictures."""
    shape = data.observations.shape[1:]
    if len(shape) != 3 or shape[0] not in (1, 3) or not len(data):
        return None
    rows = np.unique(np.linspace(0, len(data) - 1, FRAMES).astype(np.int64))
    return _bytes(np.concatenate(list(np.asarray(data.observations[rows])), axis=2))


def _bytes(frame: Array) -> Array:
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def png(frame: Array) -> bytes:
    """Encode a frame `(C, H, W)` of one or three channels, rounded to bytes, as PNG."""
    from PIL import Image

    pixels = _bytes(frame)
    content = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(
        content, "PNG"
    )
    return content.getvalue()


def bars(counts: list[int]) -> str:
    """Return a histogram as one line of text, in which every count above zero is visible."""
    most = max(counts, default=0) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)
