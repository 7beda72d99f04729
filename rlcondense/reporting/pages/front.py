"""The first page, that of each view, and the lists of rows, suites, tasks and methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlcondense.references import WHOLE
from rlcondense.reporting.citation import cite_groups
from rlcondense.reporting.conclusions import read_conclusions
from rlcondense.reporting.pages.data import data_pages
from rlcondense.reporting.pages.legend import LegendEntry
from rlcondense.reporting.pages.lines import TRACKS, Line, tracks
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.reporting.pages.suites import by_worth, headline_of
from rlcondense.reporting.pages.views import (
    ViewPage,
    bytes_plot,
    costs_of,
    legend_of,
    seconds_plot,
    size_curve,
    split_names,
)

if TYPE_CHECKING:
    from markupsafe import Markup


def front_pages(site: Site, pages: Sequence[ViewPage]) -> Pages:
    """Return the first page, a page of each view, and the lists."""
    headlines = [headline_of(suite) for suite in by_worth(site.board.suites)]
    pictured = next((page for page in pages if page.strip), None)
    first = pages[0] if pages else None
    strip = first if first is None or first.strip else pictured
    shown = _shown(site, first)
    yield site.page(
        "index.html",
        "index.html",
        pages=pages,
        page=first,
        strip=strip,
        **shown,
        sizes=None if first is None or shown["curve"] else _over_sizes(site, pages, first),
        headlines=headlines,
        conclusions=read_conclusions(site.leaderboard),
        clearing=sum(line.clears for line in site.lines if line.is_entry),
        tested=sum(line.is_entry for line in site.lines),
    )
    for page in pages:
        yield site.page(
            "view.html", page.path, pages=pages, page=page, strip=page,
            **_shown(site, page),
        )  # fmt: skip
    yield site.page("views.html", "views.html", pages=pages)
    yield "views.js", _views_script(pages)
    yield from data_pages(site, {page.view.title: page.path for page in pages})
    tasks = _by_task(site)
    every = site.lines if site.lists_rows else None
    counts = [
        (task, sum(not line.row.is_policy for line in lines)) for task, lines in tasks.items()
    ]
    yield site.page("rows.html", "rows.html", lines=every, counts=counts)
    yield site.page("suites.html", "suites.html", headlines=headlines)
    yield site.page("tasks.html", "tasks.html", tasks=tasks)
    yield site.page("methods.html", "methods.html", methods=_methods(site), track_names=TRACKS)


def _views_script(pages: Sequence[ViewPage]) -> bytes:
    """Return the script that tells the choosers which views there are."""
    views = [[p.path, p.view.kind, p.view.size, p.view.labels, p.view.learner] for p in pages]
    lines = ",\n".join(json.dumps(view) for view in views)
    return f"globalThis.views = [\n{lines}\n];\n".encode()


def _shown(site: Site, page: ViewPage | None) -> dict[str, object]:
    """Return the figures of a view's page."""
    if page is None:
        return {}
    shown = (*page.view.standings["heldout"], *page.view.references["heldout"])
    legend = legend_of(page.view, site.views)
    return {
        "tables": split_names(page.view),
        "entries": list(legend.values()),
        "curve": size_curve(page, site.views, legend),
        "bytes_plot": bytes_plot(page, site.views, legend),
        "seconds_plot": seconds_plot(page, legend),
        "costs": costs_of(page.view),
        "citation": cite_groups(
            (group for column in page.view.columns for group in column.groups),
            (standing.id for standing in shown),
        ),
    }


def _over_sizes(
    site: Site, pages: Sequence[ViewPage], first: ViewPage
) -> tuple[ViewPage, list[LegendEntry], Markup] | None:
    """Return a view of several sizes, of the same tasks if there is one, with its curves."""
    for page in sorted(pages, key=lambda page: page.view.kind != first.view.kind):
        legend = legend_of(page.view, site.views)
        if curve := size_curve(page, site.views, legend):
            drawn = [entry for key, entry in legend.items() if key[0] not in WHOLE]
            return page, drawn, curve
    return None


def _by_task(site: Site) -> dict[str, list[Line]]:
    lines: dict[str, list[Line]] = {task: [] for task in site.tasks}
    for line in site.lines:
        lines[line.group.task].append(line)
    return lines


def _methods(site: Site) -> list[tuple[str, str, tuple[str, ...], list[Line]]]:
    """Return each method with its summary, tracks and rows."""
    lines: dict[str, list[Line]] = {method: [] for method in site.methods}
    for line in site.lines:
        lines[line.row.id].append(line)
    return [(name, site.summary(name), tracks(name), own) for name, own in lines.items()]
