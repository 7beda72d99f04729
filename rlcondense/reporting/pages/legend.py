"""The legends of charts: a short name and a style of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcondense.comparison.rows import names_of
from rlcondense.files import canonical_json
from rlcondense.records.record import MethodJson


@dataclass(frozen=True)
class LegendEntry:
    """How a method is drawn and named.

    Attributes:
        name: the id, with the fewest settings that tell the methods of one id apart.
        title: the id, with all settings in which those of one id differ.
        style: number of its colour, marker and dash.
    """

    name: str
    title: str
    style: int


def legend_entries(methods: Sequence[MethodJson]) -> list[LegendEntry]:
    """Return the entry of each method, in their order.

    Methods of one id have one colour and differ in marker or dash; the first `STYLES` ids differ
    in colour.
    """
    from rlcondense.reporting.charts import STYLES

    colours = {name: i % STYLES for i, name in enumerate(dict.fromkeys(m["id"] for m in methods))}
    drawn = dict.fromkeys(range(STYLES), 0)  # number of methods of each colour
    out = []
    for method, title in zip(methods, names_of(methods), strict=True):
        colour = colours[method["id"]]
        style = colour + STYLES * drawn[colour]
        drawn[colour] += 1
        out.append(LegendEntry(_short_name(method, methods), title, style))
    return out


def _short_name(method: MethodJson, methods: Sequence[MethodJson]) -> str:
    config = method["config"]
    settings = _telling([m["config"] for m in methods if m["id"] == method["id"]])
    shown = [f"{name}={config[name]}" for name in settings if name in config]
    return method["id"] + (f" ({', '.join(shown)})" if shown else "")


def _telling(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return settings that tell configs apart: each time the one that separates the most."""
    left = sorted({name for config in configs for name in config})
    chosen: list[str] = []

    def kinds(names: Sequence[str]) -> int:
        return len({canonical_json([config.get(name, "") for name in names]) for config in configs})

    while left and kinds(chosen) < len(configs):
        best = max(left, key=lambda name: (kinds([*chosen, name]), all(name in c for c in configs)))
        if kinds([*chosen, best]) == kinds(chosen):
            break
        left.remove(best)
        chosen.append(best)
    return chosen
