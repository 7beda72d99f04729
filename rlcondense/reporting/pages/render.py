"""Templates of the site, and the forms of texts and numbers in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rlcondense.comparison.columns import LEGEND, SIGNS, columns_of, number
from rlcondense.comparison.rows import explanations
from rlcondense.errors import MissingExtra
from rlcondense.findings import finding_name
from rlcondense.records.cell import budget_text
from rlcondense.references import BY_ID, FLOORS, POLICIES
from rlcondense.statistics.intervals import Interval
from rlcondense.types import SPLIT_NAMES

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from rlcondense.reporting.pages.lines import Line


def environment() -> Environment:
    """Return the environment of the templates, whose filters and names are those below.

    Raises:
        MissingExtra: Jinja is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise MissingExtra("jinja2", "site") from None
    return _environment()


@cache  # the templates take as long to compile as a small site to write
def _environment() -> Environment:
    import jinja2

    from rlcondense.reporting import charts

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "interval": _interval, "number": _number, "budget": budget_text,
        "budgets": _budgets, "plain": _plain, "minus_sign": _minus_sign,
        "settings": settings_of, "short": _short, "without": _without, "finding": finding_name,
        "breakable": _breakable, "key": key_of,
    }  # fmt: skip
    made.globals |= {
        "paper_parts": paper_parts, "fact_table": fact_table, "swatch": charts.swatch,
        "splits": SPLIT_NAMES, "floors": {name: BY_ID[name] for name in FLOORS}, "signs": SIGNS,
        "legend": LEGEND, "figure_columns": columns_of("page"), "policies": POLICIES,
        "explanations": explanations,
    }  # fmt: skip
    return made


@cache
def resource(name: str) -> str:
    """Return a template, the style sheet or the script."""
    return (files("rlcondense.reporting") / "site" / name).read_text(encoding="utf-8")


def _interval(value: Interval | None, form: str = "{:.2f}") -> Markup:
    """Format an estimate with its interval in small type."""
    from markupsafe import Markup

    if value is None:
        return Markup("")
    text = number(value.estimate, form)
    if value.known:
        text += f" <small>[{number(value.low, form)}, {number(value.high, form)}]</small>"
    return Markup(_minus(text))


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "" if value is None else _minus(number(value, form))


def _short(value: float) -> str:
    """Format a number to sort by: six digits, so that a page does not depend on the machine."""
    return f"{value:.6g}"


def _minus(text: str) -> str:
    """Replace the hyphens of negative numbers by minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text) if "-" in text else text  # noqa: RUF001


def _minus_sign(sign: str) -> str:
    return sign.replace("-", "−")  # noqa: RUF001


def _breakable(name: str) -> Markup:
    """Return a name that browsers may break after a slash; after a hyphen they do."""
    from markupsafe import Markup, escape

    return Markup(str(escape(name)).replace("/", "/<wbr>"))


def key_of(cells: Sequence[str]) -> str:
    """Return a name of a row: of rows that begin with the same record, each has another length."""
    return cells[0] if len(cells) == 1 else f"{cells[0]}-{len(cells)}"


def settings_of(name: str) -> str:
    """Return the text in brackets of a name such as `bc (updates=100)`."""
    return name.partition(" (")[2].removesuffix(")")


def _budgets(lines: Sequence[Line]) -> list[str]:
    """Return the budgets of rows, sizes in order and then percentages."""
    asked = [line.row.budget for line in lines if line.row.budget]
    sizes = {budget["size"] for budget in asked if "size" in budget}
    shares = {budget_text(budget) for budget in asked if "size" not in budget}
    return [*map(str, sorted(sizes)), *sorted(shares)]


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def fact_table(values: Mapping[str, Any], caption: str) -> Markup:
    """Format nested settings as a table of names and texts; empty without settings."""
    return _fact_table(json.dumps(values, sort_keys=True), caption)


@lru_cache(maxsize=1024)  # most records have the settings and versions of many others
def _fact_table(values: str, caption: str) -> Markup:
    from markupsafe import Markup, escape

    lines = [
        f'<tr><th scope="row">{escape(name)}<td>{escape(text)}\n'
        for name, text in facts(json.loads(values))
    ]
    if not lines:
        return Markup("")
    head = f'<table class="facts"><caption>{escape(caption)}</caption>\n'
    return Markup(f"{head}{''.join(lines)}</table>\n")


def facts(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into names and texts, one line each, by name."""
    out = []
    for key, part in sorted(value.items()):
        name = f"{prefix}{key}"
        if isinstance(part, Mapping):
            out += facts(part, f"{name}.")
        else:
            out.append((name, _plain(part)))
    return out


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(part) for part in value[:24])
        return f"{shown}, … ({len(value)})" if len(value) > 24 else shown
    return json.dumps(value, sort_keys=True)


def paper_parts(paper: str) -> list[tuple[str, str | None]]:
    """Split the reference to a paper into parts, each with the address that it links to, if any.

    Http addresses and arXiv numbers become links.
    """
    if re.fullmatch(r"https?://[^\s\"'<>\\]+", paper):
        return [(paper, paper)]
    parts = re.split(r"(\barXiv:\d{4}\.\d{4,5}(?:v\d+)?)(?!\d)", paper)
    return [
        (part, f"https://arxiv.org/abs/{part.removeprefix('arXiv:')}" if number % 2 else None)
        for number, part in enumerate(parts)
    ]
