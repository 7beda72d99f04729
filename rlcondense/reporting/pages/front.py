"""The first page."""

from __future__ import annotations

from rlcondense.reporting.pages.lines import is_entry
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.reporting.pages.suites import headline_of

MOST_ROWS = 400  # on the first page; with more rows only the tasks' pages show them


def front_pages(site: Site) -> Pages:
    """Return the first page."""
    few = len(site.lines) <= MOST_ROWS
    tasks = {task: [ln for ln in site.lines if ln.group.task == task] for task in site.tasks}
    yield site.page(
        "index.html",
        "index.html",
        lines=site.lines if few else None,
        tasks=tasks,
        headlines=[headline_of(suite) for suite in site.board.suites],
        clearing=sum(line.clears for line in site.lines),
        trained=sum(is_entry(line.row) for line in site.lines),
        summaries={method: site.summary(method) for method in site.methods},
    )
