"""The site's charts as SVG, from numbers and escaped text; the page sets colours and fonts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from rlcondense.references import EXPERT, FLOOR, MARGINAL
from rlcondense.statistics.intervals import Interval

STYLES = 8  # colours, of markers and of dashes
BAR = (132.0, 18.0)
PLOT = (560.0, 330.0)
LEFT, RIGHT, TOP, BOTTOM = 46.0, 118.0, 26.0, 42.0
LINE = 16.0  # height between two labels at the right
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
        style: number of its colour, marker and dash: those of one colour are `STYLES` apart.
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
        return px(4 + (min(max(value, low), high) - low) * scale)

    floors = {FLOOR: "10v8", MARGINAL: "0v8"}
    ticks = [f"M{x(marks[name])} {tick}" for name, tick in floors.items() if name in marks]
    parts = [f'<path class="m" d="{"".join(ticks)}"/>'] if ticks else []
    if EXPERT in marks:
        parts.append(f'<path class="m m-expert" d="M{x(marks[EXPERT])} 0v18"/>')
    if interval.known:
        ends = [f"M{x(v)} 6v6" for v in (interval.low, interval.high) if low <= v <= high]
        parts.append(
            f'<path class="i" d="M{x(interval.low)} 9H{x(interval.high)}{"".join(ends)}"/>'
        )
    dot = "d" if filled else "d o"
    parts.append(f'<circle class="{dot}" cx="{x(interval.estimate)}" cy="9" r="3.2"/>')
    return Markup(
        f'<svg class="bar" viewBox="0 0 {px(width)} {px(height)}" aria-hidden="true">'
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
        parts.append(f'<path class="g" d="M{px(LEFT)} {px(y(value))}H{px(edge)}"/>')
        parts.append(text_element(LEFT - 6, y(value) + 4, f"{value:g}", "e"))
    for value in _log_ticks(left, right):
        parts.append(f'<path class="a" d="M{px(x(value))} {px(height - BOTTOM)}v5"/>')
        parts.append(text_element(x(value), height - BOTTOM + 18, _short(value), "c"))
    parts.append(f'<path class="a" d="M{px(LEFT)} {px(height - BOTTOM)}H{px(edge)}"/>')
    parts.append(text_element((LEFT + edge) / 2, height - 4, x_label, "c t"))
    parts.append(text_element(0, 12, y_label, "t"))
    heights = _apart([y(value) for value in references.values()], TOP + 4, height - BOTTOM)
    for (name, value), place in zip(references.items(), heights, strict=True):
        parts.append(f'<path class="r" d="M{px(LEFT)} {px(y(value))}H{px(edge)}"/>')
        parts.append(f'<path class="k" d="M{px(edge)} {px(y(value))}L{px(edge + 8)} {px(place)}"/>')
        parts.append(text_element(edge + 11, place + 4, name, ""))
    if len(front) > 1:
        steps = "".join(f"H{px(x(across))}V{px(y(value))}" for across, value in front[1:])
        first = f"M{px(x(front[0][0]))} {px(y(front[0][1]))}"
        parts.append(f'<path class="f" d="{first}{steps}H{px(edge)}"/>')
    for one in series:
        parts.append(_drawn(one, x, y, (low, high)))
    return Markup(
        f'<svg class="plot" viewBox="0 0 {px(width)} {px(height)}" role="img" '
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
        line = "L".join(f"{px(x(p.x))} {px(y(p.y.estimate))}" for p in one.points)
        parts.append(f'<path class="l" {_dash(one.style)}d="M{line}"/>')
    for point in one.points:
        across, up = x(point.x), y(point.y.estimate)
        if point.y.known:
            bottom, top = y(point.y.low), y(point.y.high)
            caps = [
                f"M{px(across - 3)} {px(y(end))}h6"
                for end in (point.y.low, point.y.high)
                if low <= end <= high
            ]
            path = f"M{px(across)} {px(bottom)}V{px(top)}{''.join(caps)}"
            parts.append(f'<path class="w" d="{path}"/>')
        parts.append(
            f'<path class="p" d="{_marker(one.style, across, up)}">'
            f"<title>{escape(point.text)}</title></path>"
        )
    return f'<g class="s s{one.style % STYLES}">{"".join(parts)}</g>'


def swatch(style: int) -> Markup:
    """Draw the marker of a series, for the legend."""
    line = f'<path class="l" {_dash(style)}d="M1 8H35"/>'
    return Markup(
        f'<svg class="swatch" viewBox="0 0 36 16" aria-hidden="true"><g class="s '
        f's{style % STYLES}">{line}<path class="p" d="{_marker(style, 18, 8)}"/></g></svg>'
    )


def _dash(style: int) -> str:
    dash = _DASHES[(style + style // STYLES + style // STYLES**2) % STYLES]
    return f'stroke-dasharray="{dash}" ' if dash else ""


def px(value: float) -> str:
    """Format a coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _polygon(corners: int, radius: float, turn: float) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * (turn + i / corners) for i in range(corners)]
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


_OUTLINES: tuple[tuple[tuple[float, float], ...], ...] = (
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


def _relative(corners: Sequence[tuple[float, float]]) -> str:
    """Return a closed outline as lines from corner to corner, beginning at the centre."""
    pairs = zip([(0.0, 0.0), *corners], corners, strict=False)
    first, *others = [f"{px(b[0] - a[0])} {px(b[1] - a[1])}" for a, b in pairs]
    return f"m{first}l{' '.join(others)}z"


_MARKERS = tuple(_relative(corners) for corners in _OUTLINES)


def _marker(style: int, x: float, y: float) -> str:
    """Draw a closed outline around a point: another shape for each style of one colour."""
    return f"M{px(x)} {px(y)}{_MARKERS[(style + style // STYLES) % STYLES]}"


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
    shown = [value for value in values if left <= math.log10(value) <= right]
    if len(shown) > 1:
        return shown
    return [value for value in round_ticks(10**left, 10**right) if value > 0]  # less than a decade


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


def text_element(x: float, y: float, text: str, classes: str) -> str:
    """Return a text of a drawing, escaped."""
    named = f' class="{classes}"' if classes else ""
    return f'<text{named} x="{px(x)}" y="{px(y)}">{escape(text)}</text>'
