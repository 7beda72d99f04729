"""The page of a method."""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from rlcondense.catalogue import entries
from rlcondense.citations import cite_entries
from rlcondense.comparison.rows import UNMARKED
from rlcondense.comparison.tables import correlations_range
from rlcondense.datasets.report import CorrelationsJson
from rlcondense.errors import RLCondenseError
from rlcondense.records.record import Record
from rlcondense.references import POLICIES
from rlcondense.reporting.pages.drawn import Picture
from rlcondense.reporting.pages.lines import TRACKS, Line, tracks
from rlcondense.reporting.pages.shared import Pages, Site

MOST_TEXT = 4000  # characters of a docstring
MOST_PICTURES = 12  # of sets, above which a page has one of each task


@dataclass(frozen=True)
class Idea:
    """How a method works, in the words of its own code.

    Attributes:
        sentences: two of them at most.
        formulas: of its module.
        code: where it lies.
    """

    sentences: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    code: str = ""


def _idea(method: str) -> Idea:
    """Read the idea of a method from its docstrings; an empty one if it is not installed here."""
    entry = entries("methods").get(method)
    if entry is None or method in POLICIES:
        return Idea()
    module, _, name = entry.entry_point.rpartition(":")
    code = f"{module.replace('.', '/')}.py, {name}" if module.startswith("rlcondense.") else module
    try:
        loaded = entry.load()
    except RLCondenseError:
        return Idea(code=code)
    paragraphs = _paragraphs(sys.modules[loaded.__module__].__doc__)[1:]
    prose = [part for part in paragraphs if not part.startswith("    ")]
    own = _sentences(" ".join(_paragraphs(loaded.__doc__)[:1]))[:1]
    more = _sentences(prose[0])[: 2 - len(own)] if prose else []
    formulas = [textwrap.dedent(part) for part in paragraphs if part.startswith("    ")]
    return Idea((*own, *more), tuple(formulas), code)


def _paragraphs(text: Any) -> list[str]:
    """Return the paragraphs of a docstring, none if there is no text."""
    clean = inspect.cleandoc(text)[:MOST_TEXT] if isinstance(text, str) else ""
    return [part for part in clean.split("\n\n") if part.strip()]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) +(?=[A-Z])", " ".join(text.split())) if text else []


def _made(lines: Sequence[Line]) -> list[Line]:
    """Return a line for each condensation with a cost, whatever was trained on it."""
    kept: dict[str, Line] = {}
    for line in lines:
        row = line.row
        if row.returns is not None and row.budget is not None and row.cost is not None:
            key = json.dumps([line.group.dataset, row.method, row.budget], sort_keys=True)
            kept.setdefault(key, line)
    return list(kept.values())


def shown_pictures(pictures: Iterable[Picture]) -> list[Picture]:
    """Return the sets to show, by task; of many, the smallest of each, as its rows can be seen."""

    def place(picture: Picture) -> tuple[str, float, int]:
        size = picture.facts.get("size")
        rows = size if isinstance(size, int) else inf
        return picture.cell["task"], rows, picture.cell["condensation_seed"]

    ordered = sorted(pictures, key=place)
    if len(ordered) <= MOST_PICTURES:
        return ordered
    return list({picture.cell["task"]: picture for picture in reversed(ordered)}.values())[::-1]


def _plugins(records: Iterable[Record]) -> list[str]:
    """Return the distributions other than this package that made records."""
    plugins = (plugin for record in records for plugin in record["plugins"])
    return sorted({f"{p['distribution']} {p['version']}" for p in plugins})


def _correlations(records: Iterable[Record]) -> dict[str, str]:
    """Return by dataset how the scores of a method that scores episodes rank with other things."""
    found: dict[str, list[CorrelationsJson]] = {}
    for record in records:
        if correlation := record.get("report", {}).get("score_correlation"):
            found.setdefault(str(record["cell"]["dataset"]), []).append(correlation)
    return {dataset: correlations_range(of) for dataset, of in found.items()}


def _versions(records: Iterable[Record]) -> list[tuple[str, str, int]]:
    """Return version and commit of the code behind records, and the number of records of each."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        commit, git = "", record["environment"]["git"]
        if git is not None:
            commit = git["commit"][:12] + (" with changes" if git["dirty"] else "")
        key = (record["environment"]["rlcondense"], commit)
        counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in sorted(counts.items())]


def method_pages(site: Site, method: str) -> Pages:
    """Return the page of a method."""
    records = {
        cell_id: record
        for cell_id, record in site.board.records.items()
        if record["cell"]["method"]["id"] == method
    }
    lines = [line for line in site.lines if line.row.id == method]
    configs = {
        json.dumps(r["cell"]["method"]["config"], sort_keys=True): r["cell"]["method"]["config"]
        for r in records.values()
    }
    pictures = [p for p in site.pictures.values() if p.cell["method"]["id"] == method]
    yield site.page(
        "method.html",
        f"methods/{site.methods[method]}.html",
        method=method,
        summary=site.summary(method),
        citation=cite_entries([("methods", method)]),
        entry=entries("methods").get(method),
        tracks=[TRACKS[name] for name in tracks(method)],
        plugins=_plugins(records.values()),
        configs=list(configs.values()),
        versions=_versions(records.values()),
        idea=_idea(method),
        made=_made(lines),
        lines=lines,
        elsewhere=site.lists_rows and method in UNMARKED,
        records=len(records),
        correlations=_correlations(records.values()),
        pictures=shown_pictures(pictures),
        condensed=len(pictures),
    )
