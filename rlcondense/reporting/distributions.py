"""Distributions of returns, actions and kept rows as SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from rlcondense.reporting.charts import px, text_element
from rlcondense.types import SPLIT_NAMES, Split

BINS = 24
LETTER = 6.7  # width of a digit at the size of labels


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
    if low == high:  # halves are lost beside the largest numbers
        low, high = low - abs(low), high + abs(high)
    width, tall, gap = 320.0, 64.0, 16.0
    parts, top = [], 0.0
    for number, (split, rows) in enumerate(returns.items()):
        places = ((rows.ravel() - low) * (bins / (high - low))).astype(int)
        counts = np.bincount(np.minimum(places, bins - 1), minlength=bins)
        step, floor = width / bins, top + gap + tall
        across, down, unit = px(step - 1), f"V{px(floor)}z", -tall / counts.max()
        bars = "".join(
            f"M{px(i * step)} {px(floor)}v{px(unit * count)}h{across}{down}"
            for i, count in enumerate(counts.tolist())
            if count
        )
        parts.append(text_element(0, top + 11, SPLIT_NAMES[split].removesuffix(" levels"), "t"))
        parts.append(f'<path class="h s{number}" d="{bars}"/>')
        parts.append(f'<path class="a" d="M0 {px(floor)}H{px(width)}"/>')
        top = floor
    parts.append(text_element(0, top + 15, f"{first:g}", ""))
    parts.append(text_element(width, top + 15, f"{last:g}", "e"))
    parts.append(text_element(width / 2, top + 15, "return of an episode", "c t"))
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {px(width)} {px(top + 20)}" role="img" '
        f'aria-label="distribution of the returns of episodes on each split">{"".join(parts)}</svg>'
    )


def bars_of(counts: Sequence[int], span: Sequence[float]) -> Markup:
    """Draw a small histogram of a dataset's returns.

    Args:
        counts: of episodes in bins of one width.
        span: the lowest and the highest return.
    """
    width, tall = 96.0, 26.0
    step, unit = width / len(counts), tall / max(counts)
    bars = "".join(
        f"M{px(i * step)} {px(tall)}v{px(-unit * count)}h{px(step - 1)}V{px(tall)}z"
        for i, count in enumerate(counts)
        if count
    )
    label = f"returns of {sum(counts)} episodes, from {span[0]:g} to {span[1]:g}"
    return Markup(
        f'<svg class="bars" viewBox="0 0 {px(width)} {px(tall)}" role="img" '
        f'aria-label="{label}"><path class="h s0" d="{bars}"/></svg>'
    )


def every_return(returns: Mapping[Split, npt.NDArray[np.float64]]) -> Markup:
    """Draw every episode's return: a line for each student, from its lowest to its highest.

    Args:
        returns: by split, `(students, episodes)`.
    """
    low = min(float(rows.min()) for rows in returns.values())
    high = max(float(rows.max()) for rows in returns.values())
    ends = [_end_text(value) for value in (low, high)]
    width, tall, gap, left = 320.0, 110.0, 20.0, max(40.0, LETTER * max(map(len, ends)) + 8.0)
    unit = tall / (high - low or 1.0)
    parts, top = [], 0.0
    for number, (split, rows) in enumerate(returns.items()):
        floor = top + gap + tall
        lines = "".join(_sorted_line(row - low, unit, (left, width), floor) for row in rows)
        parts.append(text_element(left, top + 13, SPLIT_NAMES[split].removesuffix(" levels"), "t"))
        parts.append(text_element(left - 5, floor, ends[0], "e"))
        parts.append(text_element(left - 5, floor - tall + 10, ends[1], "e"))
        parts.append(
            f'<path class="a" d="M{px(left)} {px(floor - tall)}V{px(floor)}H{px(width)}"/>'
        )
        parts.append(f'<path class="every s{number}" d="{lines}"/>')
        top = floor
    parts.append(text_element((left + width) / 2, top + 16, "episodes, by return", "c t"))
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {px(width)} {px(top + 20)}" role="img" '
        'aria-label="every return of every student on each split, from the lowest to the highest">'
        f"{''.join(parts)}</svg>"
    )


def _end_text(value: float) -> str:
    """Format a return at the end of an axis: written out, with four digits where it is small."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _sorted_line(
    returns: npt.NDArray[np.float64], unit: float, span: tuple[float, float], floor: float
) -> str:
    """Return the path of a student's sorted returns, a step for each value that differs."""
    left, right = span
    step, passed, path = (right - left) / len(returns), 0, []
    for value, count in sorted(Counter(returns.tolist()).items()):
        passed += count
        path.append(f"V{floor - value * unit:.0f}H{passed * step + left:.0f}")
    return f"M{px(left)} {px(floor)}{''.join(path)}"


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
            f'<path class="h s0" d="M{px(left + 0.15 * step)} {px(floor)}V{px(tip)}'
            f'h{px(0.7 * step)}V{px(floor)}z"/>'
        )
        text = f"{i}: {share:.0%}"
        if dataset:
            line = floor - tall * dataset[i] / highest
            parts.append(f'<path class="q" d="M{px(left)} {px(line)}h{px(step)}"/>')
            text += f" (dataset {dataset[i]:.0%})"
        if i % every == 0:
            parts.append(text_element(left + step / 2, floor + 14, str(i), "c"))
        texts.append(text)
    parts.append(f'<path class="a" d="M0 {px(floor)}H{px(width)}"/>')
    label = escape(f"share of each action: {', '.join(texts)}")
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {px(width)} {px(floor + 18)}" role="img" '
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
        f"M{px(i * step + 1)} {px(tall)}V{px(tall - unit * share)}h{px(step - 2)}V{px(tall)}z"
        for i, share in enumerate(shares)
    )
    ends = {"steps": ("start", "end"), "returns": ("lowest", "highest")}[what]
    listed = ", ".join(f"{share:.0%}" for share in shares)
    return Markup(
        f'<svg class="histogram tenths" viewBox="0 0 {px(width)} {px(tall + 16)}" role="img" '
        f'aria-label="rows kept by tenths of {what}, {ends[0]} to {ends[1]}: {listed}">'
        f'<path class="h s0" d="{bars}"/>'
        f'<path class="q" d="M0 {px(tall - unit / 10)}H{px(width)}"/>'
        f"{text_element(0, tall + 13, ends[0], '')}"
        f"{text_element(width, tall + 13, ends[1], 'e')}</svg>"
    )
