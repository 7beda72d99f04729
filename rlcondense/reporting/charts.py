"""The site's charts as SVG, from numbers and escaped text; the page sets colours and fonts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from rlcondense.references import EXPERT, FLOOR, MARGINAL
from rlcondense.statistics.intervals import Interval
from rlcondense.types import Split

STYLES = 8  # colours, markers and dashes before they repeat
BAR = (132.0, 18.0)
PLOT = (560.0, 330.0)
LEFT, RIGHT, TOP, BOTTOM = 46.0, 98.0, 26.0, 42.0
LINE = 16.0  # height between two labels at the right
BINS = 24
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2 1 2")


@dataclass(frozen=True)
class Point:
    """A point of a plot.

    Attributes:
        x: above zero.
        y: with its interval.
        text: its description, for tooltips and screen readers.
    """

    x: float
    y: Interval
    text: str


@dataclass(frozen=True)
class Series:
    """A series of points with one marker.

    Attributes:
        name: in the legend.
        style: number of its colour, marker and dash.
        points: by x.
        joined: whether a line connects them.
    """

    name: str
    style: int
    points: tuple[Point, ...]
    joined: bool = True


def interval_bar(
    interval: Interval, marks: Mapping[str, float], span: tuple[float, float], filled: bool
) -> Markup:
    """Draw a row's mean and interval beside the policies that it is compared with.

    Args:
        interval: of the row.
        marks: returns of `random-policy`, `marginal-policy` and `expert`.
        span: the returns at the bar's ends.
        filled: whether the mean is a full dot.
    """
    width, height = BAR
    low, high = span
    scale = (width - 8) / (high - low or 1.0)

    def x(value: float) -> str:
        return _n(4 + (min(max(value, low), high) - low) * scale)

    ticks = {FLOOR: "10v8", MARGINAL: "0v8", EXPERT: "0v18"}
    parts = [
        f'<path class="m m-{name}" d="M{x(marks[name])} {tick}"/>'
        for name, tick in ticks.items()
        if name in marks
    ]
    if interval.known:
        ends = [f"M{x(v)} 6v6" for v in (interval.low, interval.high) if low <= v <= high]
        parts.append(
            f'<path class="i" d="M{x(interval.low)} 9H{x(interval.high)}{"".join(ends)}"/>'
        )
    dot = "d" if filled else "d o"
    parts.append(f'<circle class="{dot}" cx="{x(interval.estimate)}" cy="9" r="3.2"/>')
    return Markup(
        f'<svg class="bar" viewBox="0 0 {_n(width)} {_n(height)}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def plot(
    series: Sequence[Series],
    references: Mapping[str, float],
    x_label: str,
    y_label: str,
    label: str,
    front: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Plot points with intervals over a logarithmic x, and a horizontal line for each reference.

    Args:
        series: each with at least one point.
        references: names and values of the lines.
        x_label: of the axis.
        y_label: of the axis.
        label: a description of the chart, for screen readers.
        front: points by x that a step line joins, such as those that no other one beats.
    """
    width, height = PLOT
    points = [point for one in series for point in one.points]
    left, right = _log_range([point.x for point in points])
    low, high = shown_range([point.y for point in points], list(references.values()))

    def x(value: float) -> float:
        share = (math.log10(value) - left) / (right - left)
        return LEFT + share * (width - LEFT - RIGHT)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return height - BOTTOM - share * (height - BOTTOM - TOP)

    edge = width - RIGHT
    parts = []
    for value in round_ticks(low, high):
        parts.append(f'<path class="g" d="M{_n(LEFT)} {_n(y(value))}H{_n(edge)}"/>')
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", "e"))
    for value in _log_ticks(left, right):
        parts.append(f'<path class="a" d="M{_n(x(value))} {_n(height - BOTTOM)}v5"/>')
        parts.append(_text(x(value), height - BOTTOM + 18, _short(value), "c"))
    parts.append(f'<path class="a" d="M{_n(LEFT)} {_n(height - BOTTOM)}H{_n(edge)}"/>')
    parts.append(_text((LEFT + edge) / 2, height - 4, x_label, "c t"))
    parts.append(_text(0, 12, y_label, "t"))
    heights = _apart([y(value) for value in references.values()], TOP + 4, height - BOTTOM)
    for (name, value), place in zip(references.items(), heights, strict=True):
        parts.append(f'<path class="r" d="M{_n(LEFT)} {_n(y(value))}H{_n(edge)}"/>')
        parts.append(f'<path class="k" d="M{_n(edge)} {_n(y(value))}L{_n(edge + 8)} {_n(place)}"/>')
        parts.append(_text(edge + 11, place + 4, name, ""))
    if len(front) > 1:
        steps = "".join(f"H{_n(x(across))}V{_n(y(value))}" for across, value in front[1:])
        first = f"M{_n(x(front[0][0]))} {_n(y(front[0][1]))}"
        parts.append(f'<path class="f" d="{first}{steps}H{_n(edge)}"/>')
    for one in series:
        parts.append(_drawn(one, x, y, (low, high)))
    return Markup(
        f'<svg class="plot" viewBox="0 0 {_n(width)} {_n(height)}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _drawn(
    one: Series,
    x: Callable[[float], float],
    y: Callable[[float], float],
    shown: tuple[float, float],
) -> str:
    low, high = shown
    parts = []
    if one.joined and len(one.points) > 1:
        line = "L".join(f"{_n(x(p.x))} {_n(y(p.y.estimate))}" for p in one.points)
        parts.append(f'<path class="l" {_dash(one.style)}d="M{line}"/>')
    for point in one.points:
        across, up = x(point.x), y(point.y.estimate)
        if point.y.known:
            bottom, top = y(point.y.low), y(point.y.high)
            caps = [
                f"M{_n(across - 3)} {_n(y(end))}h6"
                for end in (point.y.low, point.y.high)
                if low <= end <= high
            ]
            path = f"M{_n(across)} {_n(bottom)}V{_n(top)}{''.join(caps)}"
            parts.append(f'<path class="w" d="{path}"/>')
        parts.append(
            f'<path class="p" d="{_marker(one.style, across, up)}">'
            f"<title>{escape(point.text)}</title></path>"
        )
    return f'<g class="s s{one.style % STYLES}">{"".join(parts)}</g>'


def swatch(style: int, joined: bool = True) -> Markup:
    """Draw the marker of a series, for the legend."""
    line = f'<path class="l" {_dash(style)}d="M1 8H35"/>' if joined else ""
    return Markup(
        f'<svg class="swatch" viewBox="0 0 36 16" aria-hidden="true"><g class="s '
        f's{style % STYLES}">{line}<path class="p" d="{_marker(style, 18, 8)}"/></g></svg>'
    )


def _dash(style: int) -> str:
    dash = _DASHES[style % STYLES]
    return f'stroke-dasharray="{dash}" ' if dash else ""


def _marker(style: int, x: float, y: float) -> str:
    """Draw a closed outline around a point: one shape for each style."""
    shapes: tuple[tuple[tuple[float, float], ...], ...] = (
        _polygon(14, 4.4, 0.0),
        ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        _polygon(3, 5.6, -0.25),
        _polygon(4, 5.4, -0.25),
        _polygon(3, 5.6, 0.25),
        ((-1.6, -5), (1.6, -5), (1.6, -1.6), (5, -1.6), (5, 1.6), (1.6, 1.6), (1.6, 5), (-1.6, 5),
         (-1.6, 1.6), (-5, 1.6), (-5, -1.6), (-1.6, -1.6)),
        _polygon(6, 5, 0.0),
        ((-5, -2.5), (5, -2.5), (5, 2.5), (-5, 2.5)),
    )  # fmt: skip
    corners = shapes[style % STYLES]
    return "M" + "L".join(f"{_n(x + dx)} {_n(y + dy)}" for dx, dy in corners) + "z"


def _polygon(corners: int, radius: float, turn: float) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * (turn + i / corners) for i in range(corners)]
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


def histogram(returns: Mapping[Split, npt.NDArray[np.float64]]) -> Markup:
    """Draw the distribution of episodes' returns on each split, one above the other.

    Args:
        returns: by split, of all students.
    """
    values = np.concatenate([rows.ravel() for rows in returns.values()])
    low, high, bins = float(values.min()), float(values.max()), BINS
    first, last = low, high
    if high - low < 2 * BINS and not (values % 1).any():  # a bar for each whole number
        low, high, bins = low - 0.5, high + 0.5, round(high - low) + 1
    elif low == high:
        low, high = low - 0.5, high + 0.5
    width, tall, gap = 320.0, 64.0, 16.0
    parts, top = [], 0.0
    for number, (split, rows) in enumerate(returns.items()):
        places = ((rows.ravel() - low) * (bins / (high - low))).astype(int)
        counts = np.bincount(np.minimum(places, bins - 1), minlength=bins)
        step, floor = width / bins, top + gap + tall
        across, down, unit = _n(step - 1), f"V{_n(floor)}z", -tall / counts.max()
        bars = "".join(
            f"M{_n(i * step)} {_n(floor)}v{_n(unit * count)}h{across}{down}"
            for i, count in enumerate(counts.tolist())
            if count
        )
        parts.append(_text(0, top + 11, split.replace("heldout", "held-out"), "t"))
        parts.append(f'<path class="h s{number}" d="{bars}"/>')
        parts.append(f'<path class="a" d="M0 {_n(floor)}H{_n(width)}"/>')
        top = floor
    parts.append(_text(0, top + 15, f"{first:g}", ""))
    parts.append(_text(width, top + 15, f"{last:g}", "e"))
    parts.append(_text(width / 2, top + 15, "return of an episode", "c t"))
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_n(width)} {_n(top + 20)}" role="img" '
        f'aria-label="distribution of the returns of episodes on each split">{"".join(parts)}</svg>'
    )


def bars_of(values: npt.NDArray[np.float64]) -> Markup:
    """Draw a small histogram of a dataset's returns."""
    counts, edges = np.histogram(values, 12)
    width, tall = 96.0, 26.0
    step, unit = width / len(counts), tall / counts.max()
    bars = "".join(
        f"M{_n(i * step)} {_n(tall)}v{_n(-unit * count)}h{_n(step - 1)}V{_n(tall)}z"
        for i, count in enumerate(counts.tolist())
        if count
    )
    label = f"returns of {len(values)} episodes, from {edges[0]:g} to {edges[-1]:g}"
    return Markup(
        f'<svg class="bars" viewBox="0 0 {_n(width)} {_n(tall)}" role="img" '
        f'aria-label="{label}"><path class="h s0" d="{bars}"/></svg>'
    )


def every_return(returns: Mapping[Split, npt.NDArray[np.float64]]) -> Markup:
    """Draw every episode's return: a line for each student, from its lowest to its highest.

    Args:
        returns: by split, `(students, episodes)`.
    """
    low = min(float(rows.min()) for rows in returns.values())
    high = max(float(rows.max()) for rows in returns.values())
    width, tall, gap, left = 320.0, 110.0, 20.0, 40.0
    unit = tall / (high - low or 1.0)
    parts, top = [], 0.0
    for number, (split, rows) in enumerate(returns.items()):
        floor = top + gap + tall
        lines = "".join(_sorted_line(row - low, unit, (left, width), floor) for row in rows)
        parts.append(_text(left, top + 13, split.replace("heldout", "held-out"), "t"))
        parts.append(_text(left - 5, floor, f"{low:g}", "e"))
        parts.append(_text(left - 5, floor - tall + 10, f"{high:g}", "e"))
        parts.append(
            f'<path class="a" d="M{_n(left)} {_n(floor - tall)}V{_n(floor)}H{_n(width)}"/>'
        )
        parts.append(f'<path class="every s{number}" d="{lines}"/>')
        top = floor
    parts.append(_text((left + width) / 2, top + 16, "episodes, by return", "c t"))
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_n(width)} {_n(top + 20)}" role="img" '
        'aria-label="every return of every student on each split, from the lowest to the highest">'
        f"{''.join(parts)}</svg>"
    )


def _sorted_line(
    returns: npt.NDArray[np.float64], unit: float, span: tuple[float, float], floor: float
) -> str:
    """Return the path of a student's sorted returns, a step for each value that differs."""
    left, right = span
    values, counts = np.unique(returns, return_counts=True)
    step = (right - left) / len(returns)
    ends = np.cumsum(counts) * step + left
    heights = floor - values * unit
    steps = zip(heights.tolist(), ends.tolist(), strict=True)
    path = "".join(f"V{height:.0f}H{end:.0f}" for height, end in steps)
    return f"M{_n(left)} {_n(floor)}{path}"


def action_bars(shares: Sequence[float], dataset: Sequence[float] | None) -> Markup:
    """Draw the share of each action in a condensed set, with a line for its share in the source.

    Args:
        shares: of each action.
        dataset: the shares in the source dataset.
    """
    width, tall, top = 320.0, 110.0, 6.0
    highest = max([*shares, *(dataset or ())]) or 1.0
    step, floor = width / len(shares), top + tall
    parts, texts = [], []
    every = math.ceil(len(shares) / 20)
    for i, share in enumerate(shares):
        left, tip = i * step, floor - tall * share / highest
        parts.append(
            f'<path class="h s0" d="M{_n(left + 0.15 * step)} {_n(floor)}V{_n(tip)}'
            f'h{_n(0.7 * step)}V{_n(floor)}z"/>'
        )
        text = f"{i}: {share:.0%}"
        if dataset:
            line = floor - tall * dataset[i] / highest
            parts.append(f'<path class="q" d="M{_n(left)} {_n(line)}h{_n(step)}"/>')
            text += f" (dataset {dataset[i]:.0%})"
        if i % every == 0:
            parts.append(_text(left + step / 2, floor + 14, str(i), "c"))
        texts.append(text)
    parts.append(f'<path class="a" d="M0 {_n(floor)}H{_n(width)}"/>')
    label = escape(f"share of each action: {', '.join(texts)}")
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_n(width)} {_n(floor + 18)}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def tenth_bars(shares: Sequence[float], what: str) -> Markup:
    """Draw the shares of a selection's rows in ten equal parts of the data, beside a tenth each.

    Args:
        shares: of each part.
        what: the parts' order, `steps` of an episode or `returns` of episodes.
    """
    width, tall = 160.0, 60.0
    unit = tall / max(*shares, 0.2)
    step = width / len(shares)
    bars = "".join(
        f"M{_n(i * step + 1)} {_n(tall)}V{_n(tall - unit * share)}h{_n(step - 2)}V{_n(tall)}z"
        for i, share in enumerate(shares)
    )
    ends = {"steps": ("start", "end"), "returns": ("lowest", "highest")}[what]
    listed = ", ".join(f"{share:.0%}" for share in shares)
    return Markup(
        f'<svg class="histogram tenths" viewBox="0 0 {_n(width)} {_n(tall + 16)}" role="img" '
        f'aria-label="rows kept by tenths of {what}, {ends[0]} to {ends[1]}: {listed}">'
        f'<path class="h s0" d="{bars}"/>'
        f'<path class="q" d="M0 {_n(tall - unit / 10)}H{_n(width)}"/>'
        f"{_text(0, tall + 13, ends[0], '')}{_text(width, tall + 13, ends[1], 'e')}</svg>"
    )


def shown_range(
    intervals: Sequence[Interval], others: Sequence[float] = (), room: float = 0.35
) -> tuple[float, float]:
    """Compute the range of a chart: all estimates, and the nearby parts of intervals.

    Few seeds can give an interval ten times as wide as everything else on the chart.

    Args:
        intervals: on the chart.
        others: values on the chart.
        room: for intervals on either side, as a share of the values' range.
    """
    values = [*(interval.estimate for interval in intervals), *others]
    low, high = min(values), max(values)
    room = room * (high - low) or 1.0
    known = [interval for interval in intervals if interval.known]
    low = max(min([low, *(i.low for i in known)]), low - room)
    high = min(max([high, *(i.high for i in known)]), high + room)
    edge = 0.04 * (high - low) or 1.0
    return low - edge, high + edge


def round_ticks(low: float, high: float) -> list[float]:
    """Return four to nine round values between two."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.8)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the decimal logarithms of the two ends of an axis."""
    low, high = math.log10(min(values)), math.log10(max(values))
    edge = max(0.06 * (high - low), 0.08)
    return low - edge, high + edge


def _log_ticks(left: float, right: float) -> list[float]:
    decades = range(math.floor(left), math.ceil(right) + 1)
    steps = (1,) if right - left > 3 else (1, 3) if right - left > 1.5 else (1, 2, 5)
    values = [m * 10.0**d for d in decades for m in steps]
    return [value for value in values if left <= math.log10(value) <= right]


def _short(value: float) -> str:
    """Format a number of an axis, such as `3,000` or `20M`."""
    units = ((1e9, "G"), (1e6, "M"))
    return next((f"{value / u:g}{name}" for u, name in units if value >= u), f"{value:,g}")


def _apart(places: Sequence[float], top: float, bottom: float) -> list[float]:
    """Compute heights for labels near their values, such that no two overlap."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    out = list(places)
    for before, i in zip([None, *order], order, strict=False):
        out[i] = max(out[i], top if before is None else out[before] + LINE)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        out[i] = min(out[i], bottom if after is None else out[after] - LINE)
    return out


def _text(x: float, y: float, text: str, classes: str) -> str:
    named = f' class="{classes}"' if classes else ""
    return f'<text{named} x="{_n(x)}" y="{_n(y)}">{escape(text)}</text>'


def _n(value: float) -> str:
    """Format a coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
