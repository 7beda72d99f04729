"""Fitness over environment steps, of methods that evaluate their sets and of evolved policies.

Runs are compared at equal numbers of steps, up to where the shortest of them ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.comparison.columns import bracketed
from rlcondense.errors import BadConfig
from rlcondense.files import read_json
from rlcondense.limits import MOST_MEASURED
from rlcondense.reporting.charts import round_ticks
from rlcondense.statistics.intervals import Interval, student_interval, welch_interval

ROWS = 5  # of the table
POINTS = 60  # of each drawn line
WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 44
PANEL = (220, 160)  # of a learning curve
PANELS = 4  # beside each other
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#475569")


@dataclass(frozen=True)
class Curve:
    """The fitness curve of one run.

    Attributes:
        name: of the method or strategy; runs of one name are replicates.
        task: id.
        made_by: settings, the seed apart.
        seed: of the run.
        steps: `(T,)` environment steps, increasing.
        mean: `(T,)` mean fitness of a generation.
    """

    name: str
    task: str
    made_by: Mapping[str, Any]
    seed: Any
    steps: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]

    def at(self, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Interpolate the mean fitness at `steps`, of which none lies before the run's first."""
        return np.interp(steps, self.steps, self.mean)


def read_curve(folder: Path) -> Curve:
    """Read the curve from the folder of a condensed dataset or of `expert evolve`.

    Raises:
        BadConfig: there is none.
    """
    for file, named in (("report.json", "method"), ("card.json", "algorithm")):
        if not (folder / file).is_file():
            continue
        facts = read_json(folder / file)
        curve = facts.get("curve") if isinstance(facts, dict) else None
        if not isinstance(curve, dict):
            break
        try:
            steps, mean = (np.asarray(curve[key], np.float64) for key in ("steps", "mean"))
            name, size = str(facts[named]).partition(" (")[0], facts.get("size")
            task, config = str(facts["task"]), dict(facts.get("config", {}))
            seed = facts.get("seed", config.pop("seed", None))
        except (KeyError, TypeError, ValueError):
            break
        if steps.ndim != 1 or steps.shape != mean.shape or not len(steps):
            break
        is_measured = (np.abs([steps, mean]) <= MOST_MEASURED).all()  # of NaN it is false
        if not (is_measured and (np.diff(steps, prepend=0) > 0).all()):
            break
        name = name if size is None else f"{name}, {size} pairs"
        return Curve(name, task, config, seed, steps, mean)
    raise BadConfig(f"{folder} has no curve: neither a report nor a card that holds one")


@dataclass(frozen=True)
class Comparison:
    """Groups of runs to compare.

    Attributes:
        task: id.
        groups: runs by name.
    """

    task: str
    groups: Mapping[str, Sequence[Curve]]

    @property
    def begin(self) -> float:
        """The number of steps at which every run has a fitness."""
        return max(float(run.steps[0]) for runs in self.groups.values() for run in runs)

    @property
    def end(self) -> float:
        """The number of steps that every run has taken."""
        return min(float(run.steps[-1]) for runs in self.groups.values() for run in runs)

    def steps(self, count: int) -> npt.NDArray[np.float64]:
        """Return steps at equal distances, from the first to the last that all runs have taken."""
        return np.linspace(self.begin, self.end, count)

    def values(self, steps: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the fitness `(runs, steps)` of each group by name."""
        return {n: np.stack([run.at(steps) for run in runs]) for n, runs in self.groups.items()}

    def intervals(self, steps: npt.NDArray[np.float64]) -> dict[str, list[Interval]]:
        """Compute the interval of each group's mean over runs at each of `steps`."""
        return {n: [student_interval(x) for x in v.T] for n, v in self.values(steps).items()}

    def differences(self, steps: npt.NDArray[np.float64]) -> dict[str, list[Interval]]:
        """Compute the interval of the first group minus each other one, at each of `steps`."""
        (_, one), *rest = self.values(steps).items()
        return {n: [welch_interval(x, y) for x, y in zip(one.T, v.T, strict=True)] for n, v in rest}

    def __str__(self) -> str:
        """Return the table that `curves` prints."""
        from tabulate import tabulate

        steps = self.steps(ROWS)
        columns: dict[str, list[Any]] = {"steps": [f"{step:,.0f}" for step in steps]}
        for name, intervals in self.intervals(steps).items():
            runs = len(self.groups[name])
            columns[f"{name} ({runs} run{'s' * (runs > 1)})"] = _cells(intervals)
        first = next(iter(self.groups))
        for name, intervals in self.differences(steps).items():
            columns[f"{first} - {name}"] = _cells(intervals, "{:+.1f}")
        notes = [
            f"{self.task}: mean fitness of a generation's population, interpolated at equal",
            "environment steps. Intervals are 95%, Student's t over runs; Welch's for differences.",
        ]
        table = tabulate(columns, headers="keys", disable_numparse=True)
        return "\n".join([str(table), "", *notes])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `curves --json` prints."""
        steps = self.steps(ROWS)
        return {
            "task": self.task,
            "steps": steps.tolist(),
            "groups": {n: [i.to_json() for i in x] for n, x in self.intervals(steps).items()},
            "differences": {
                n: [i.to_json() for i in x] for n, x in self.differences(steps).items()
            },
        }

    def svg(self) -> str:
        """Draw each group's mean over runs with its 95% interval as a band, and each run."""
        steps = self.steps(POINTS)
        values = self.values(steps)
        low = min(float(v.min()) for v in values.values())
        high = max(float(v.max()) for v in values.values())
        unit = max(1.0, abs(low), abs(high))
        if high - low < 1e-9 * unit:  # too little for ticks between
            high = low + max(1.0, 1e-6 * unit)

        def x(step: float) -> float:
            return LEFT + step / self.end * (WIDTH - LEFT - RIGHT)

        def y(value: float) -> float:
            value = min(max(value, low), high)
            return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

        def line(ys: Sequence[float] | npt.NDArray[np.float64]) -> str:
            return " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, ys, strict=True))

        parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
        for value in round_ticks(low, high):
            parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(_text(LEFT - 6, y(value) + 4, _tick(value), "end"))
        for step in np.linspace(0, self.end, 6):
            parts.append(_text(x(step), HEIGHT - BOTTOM + 18, _short(step), "middle"))
        parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 8, "environment steps", "middle"))
        intervals = self.intervals(steps)
        for i, (name, rows) in enumerate(values.items()):
            colour = COLOURS[i % len(COLOURS)]
            known = [interval for interval in intervals[name] if interval.known]
            if len(known) == len(steps):
                above, below = [j.high for j in known], [j.low for j in known]
                edge = line(above) + " " + " ".join(reversed(line(below).split()))
                parts.append(f'<polygon points="{edge}" fill="{colour}" opacity="0.15"/>')
            for row in rows:
                thin = f'fill="none" stroke="{colour}" stroke-width="0.7" opacity="0.6"'
                parts.append(f'<polyline points="{line(row)}" {thin}/>')
            thick = f'fill="none" stroke="{colour}" stroke-width="2.2"'
            parts.append(f'<polyline points="{line(rows.mean(0))}" {thick}/>')
            across = LEFT + i * (WIDTH - LEFT) / len(values)
            parts.append(f'<rect x="{across:.0f}" y="12" width="14" height="4" fill="{colour}"/>')
            parts.append(_text(across + 20, 18, name, "start"))
        label = escape(f"mean fitness against environment steps on {self.task}")
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        style = 'font-family="sans-serif" font-size="12" fill="#333"'
        return f'{head} {style} aria-label="{label}">{"".join(parts)}</svg>\n'


def compare_curves(folders: Sequence[Path]) -> Comparison:
    """Group runs by the method that made them, in the order of the folders.

    Args:
        folders: of condensed datasets, or of evolved policies.

    Raises:
        BadConfig: a folder has no curve, their tasks differ, or runs of one name differ in their
            settings or are of the same seed.
    """
    curves = [read_curve(folder) for folder in folders]
    if len(tasks := sorted({curve.task for curve in curves})) != 1:
        raise BadConfig(f"curves of different tasks do not compare: {', '.join(tasks)}")
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.name, []).append(curve)
    for name, runs in groups.items():
        if any(run.made_by != runs[0].made_by for run in runs):
            raise BadConfig(f"runs of {name} have different settings, and are no replicates")
        if len({repr(run.seed) for run in runs}) < len(runs):
            raise BadConfig(f"two runs of {name} are of the same seed")
    comparison = Comparison(tasks[0], groups)
    if comparison.begin > comparison.end:
        raise BadConfig("a run begins after another has ended: no steps in common")
    return comparison


@dataclass(frozen=True)
class LearningCurve:
    """The return of one training over its environment steps.

    Attributes:
        name: title of its panel.
        steps: `(T,)` environment steps, increasing.
        returns: `(T,)` mean return of the last episodes, nan before the first has ended.
        marks: returns to compare with, by name.
    """

    name: str
    steps: npt.NDArray[np.float64]
    returns: npt.NDArray[np.float64]
    marks: Mapping[str, float]


def draw_learning_curves(curves: Sequence[LearningCurve]) -> str:
    """Draw a panel for each training as SVG, each with axes of its own.

    Args:
        curves: of one training each, all with the same marks or fewer.
    """
    width, height = PANEL
    rows = math.ceil(len(curves) / PANELS)
    names = list(dict.fromkeys(name for curve in curves for name in curve.marks))
    colours = dict(zip(names, COLOURS[1:], strict=False))
    parts = [f'<rect width="{PANELS * width}" height="{rows * height + TOP}" fill="#fff"/>']
    for i, name in enumerate(["training return", *names]):
        across, dash = 12 + i * width, ' stroke-dasharray="5 3"' if i else ""
        colour = colours.get(name, COLOURS[0])
        parts.append(f'<path d="M{across} 16h22" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(_text(across + 28, 20, name, "start"))
    for i, curve in enumerate(curves):
        left, top = i % PANELS * width, TOP + i // PANELS * height
        panel = _panel(curve, colours)
        parts.append(f'<g transform="translate({left} {top})">{panel}</g>')
    size = f'viewBox="0 0 {PANELS * width} {rows * height + TOP}"'
    label = f"returns along training: {', '.join(curve.name for curve in curves)}"
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {style}'
    return f'{head} aria-label="{escape(label)}">\n{chr(10).join(parts)}\n</svg>\n'


def _panel(curve: LearningCurve, colours: Mapping[str, str]) -> str:
    width, height = PANEL
    left, right, top, bottom = 40.0, width - 14, 24.0, height - 24
    known = np.isfinite(curve.returns)
    steps, returns = curve.steps[known], curve.returns[known]
    values: list[float] = [*returns.tolist(), *curve.marks.values(), 0.0]
    low, high, end = min(values), max(values), float(curve.steps[-1])
    high += high == low

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [_text((left + right) / 2, 14, curve.name, "middle")]
    for value in round_ticks(low, high):
        parts.append(f'<path d="M{left:.0f} {y(value):.1f}H{right:.0f}" stroke="#ddd"/>')
        parts.append(_text(left - 5, y(value) + 4, _tick(value), "end"))
    for step in (0.0, end / 2, end):
        across = left + step / end * (right - left)
        parts.append(_text(across, bottom + 16, _short(step), "middle"))
    for name, value in curve.marks.items():
        line = f"M{left:.0f} {y(value):.1f}H{right:.0f}"
        parts.append(f'<path d="{line}" stroke="{colours[name]}" stroke-dasharray="5 3"/>')
    points = " ".join(
        f"{left + step / end * (right - left):.1f},{y(value):.1f}"
        for step, value in zip(steps, returns, strict=True)
    )
    drawn = f'fill="none" stroke="{COLOURS[0]}" stroke-width="2"'
    parts.append(f'<polyline points="{points}" {drawn}/>')
    return "".join(parts)


def _cells(intervals: Sequence[Interval], form: str = "{:.1f}") -> list[str]:
    return [bracketed(interval, form) for interval in intervals]


def _tick(value: float) -> str:
    """Format a round value on an axis with all its digits."""
    return f"{value:,.10g}" if abs(value) < 1e9 else f"{value:.4g}"


def _short(number: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{math.floor(number)}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
