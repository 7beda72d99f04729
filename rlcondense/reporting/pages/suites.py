"""The page of a suite: its rows over tasks, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcondense.comparison.rows import UNMARKED, names_of
from rlcondense.files import slug
from rlcondense.reporting.board import OTHERS, Aggregate, SuitePart
from rlcondense.reporting.citation import cite_groups
from rlcondense.reporting.formats import FORMATS, progress_text
from rlcondense.reporting.pages.lines import is_entry, learner_names
from rlcondense.reporting.pages.shared import Pages, Site

DOWNLOADS = ("md", "tex", "csv")


@dataclass(frozen=True)
class Headline:
    """The summary of a suite.

    Attributes:
        suite: the part of the suite.
        name: of its page.
        clearing: how many rows of methods are above all floors that they should beat.
        entries: the number of rows of methods.
        best: the rows over tasks with the highest normalised means.
        aside: whether it only tries the machinery, or holds single runs.
    """

    suite: SuitePart
    name: str
    clearing: int
    entries: int
    best: tuple[Aggregate, ...]
    aside: bool

    @property
    def tasks(self) -> int:
        """The number of tasks with a record."""
        return len({group.task for group in self.suite.groups if group.begun})


# What answers most comes first, then the others by the number of their tasks and cells. Suites of
# which less than a quarter is measured answer nothing yet, and follow.
WORTH = ("procgen-plain", "procgen-core", "signal", "what-teaches", "light2024", "faults")
ASIDE = ("smoke", OTHERS)  # no question: they try the machinery, or are single runs


def by_worth(suites: Sequence[SuitePart]) -> list[SuitePart]:
    """Return suites in the order of what they answer, trials of the machinery last."""

    def worth(suite: SuitePart) -> tuple[bool, bool, int, int, int, str]:
        begun = 4 * suite.done < suite.planned
        place = WORTH.index(suite.name) if suite.name in WORTH else len(WORTH)
        tasks = {group.task for group in suite.groups}
        return suite.name in ASIDE, begun, place, -len(tasks), -suite.done, suite.name

    return sorted(suites, key=worth)


def headline_of(suite: SuitePart) -> Headline:
    rows = [row for group in suite.groups for row in group.rows if is_entry(row)]
    scored = [
        (row.normalised["mean"].estimate, row)
        for row in suite.aggregates
        if row.normalised and row.learner and row.method["id"] not in UNMARKED
        and len(row.tasks) == row.of
    ]  # fmt: skip
    scored.sort(key=lambda pair: -pair[0])
    best = tuple(row for _, row in scored[:3])
    clearing = sum(not row.mark for row in rows)
    return Headline(suite, slug(suite.name), clearing, len(rows), best, suite.name in ASIDE)


def _named(aggregates: Sequence[Aggregate]) -> list[tuple[Aggregate, str]]:
    """Return rows over tasks with their learners' names."""
    names = iter(names_of([row.learner for row in aggregates if row.learner]))
    return [(row, next(names) if row.learner else "") for row in aggregates]


def suite_pages(site: Site, suite: SuitePart) -> Pages:
    """Return the page of a suite, and its tables if the site has data."""
    name = slug(suite.name)
    named = list(zip(suite.groups, learner_names(suite.groups), strict=True))
    yield site.page(
        "suite.html",
        f"suites/{name}.html",
        suite=suite,
        progress=progress_text(suite),
        citation=cite_groups(suite.groups, (r.id for g in suite.groups for r in g.rows)),
        tables=[
            (group, title, site.lines_of([group], suite)) for group, title in named if group.begun
        ],
        absent=[(group, title) for group, title in named if not group.begun],
        aggregates=_named(suite.aggregates),
        downloads=[f"{name}.{ending}" for ending in DOWNLOADS if site.data],
    )
    for ending in DOWNLOADS if site.data else ():
        yield f"suites/{name}.{ending}", FORMATS[ending](suite).encode()
