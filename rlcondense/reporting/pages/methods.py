"""The page of a method."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rlcondense.catalogue import entries
from rlcondense.comparison.tables import correlations_text
from rlcondense.records.record import Record
from rlcondense.reporting.pages.lines import TRACKS, tracks
from rlcondense.reporting.pages.shared import Pages, Site


def _plugins(records: Iterable[Record]) -> list[str]:
    """Return the distributions other than this package that made records."""
    plugins = (plugin for record in records for plugin in record["plugins"])
    return sorted({f"{p['distribution']} {p['version']}" for p in plugins})


def _correlations(records: Iterable[Record]) -> dict[str, str]:
    """Return by task how the scores of a method that scores episodes rank with other things."""
    reports = [(r["cell"]["task"], r.get("report", {}).get("score_correlation")) for r in records]
    return {task: correlations_text(correlation) for task, correlation in reports if correlation}


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
    yield site.page(
        "method.html",
        f"methods/{site.methods[method]}.html",
        method=method,
        summary=site.summary(method),
        entry=entries("methods").get(method),
        tracks=[TRACKS[name] for name in tracks(method)],
        plugins=_plugins(records.values()),
        configs=list(configs.values()),
        versions=_versions(records.values()),
        lines=lines,
        records=len(records),
        correlations=_correlations(records.values()),
        pictures=[p for p in site.pictures.values() if p.cell["method"]["id"] == method],
    )
