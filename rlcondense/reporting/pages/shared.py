"""The data that all pages of the site share, computed once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcondense.catalogue import entries
from rlcondense.citations import PACKAGE
from rlcondense.comparison.rows import Group, Row
from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import slug
from rlcondense.references import BY_ID
from rlcondense.reporting.board import Board, SuitePart
from rlcondense.reporting.log import histories_of, read_log
from rlcondense.reporting.pages.drawn import pictures_of
from rlcondense.reporting.pages.lines import Line, learner_names, policy_returns, spans, tracks_of
from rlcondense.reporting.pages.render import environment
from rlcondense.reporting.reruns import read_reruns
from rlcondense.reporting.standings import views_of
from rlcondense.types import SPLITS

Pages = Iterator[tuple[str, bytes]]
LEAST_SECONDS = 0.01  # of an axis: random rows cost next to nothing
MOST_ROWS = 200  # on one page; with more, rows stand on pages of tasks, and theirs of datasets


class Site:
    """The board, and what several kinds of pages take of it.

    Attributes:
        board: what is shown.
        leaderboard: its folder.
        data: whether records and tables come along.
        tasks: the name of each task's page.
        methods: the name of each method's page.
        lines: all rows.
        siblings: of each record the condensation seeds of its row, with their records.
        log: what was added, changed and withdrawn, by day.
        histories: of each cell what happened to its record.
        reruns: of each record those that somebody wrote down.
        views: comparable rows, those that tell the most first.
        pictures: by condensation.
    """

    def __init__(self, board: Board, leaderboard: Path, data: bool) -> None:
        self.board, self.leaderboard, self.data = board, leaderboard, data
        self._environment = environment()
        cells = [record["cell"] for record in board.records.values()]
        for cell_id in board.records:
            _check_cell_id(cell_id)
        groups = [*board.groups, *(group for suite in board.suites for group in suite.groups)]
        self.tasks = file_names({c["task"] for c in cells} | {g.task for g in groups})
        self.methods = file_names(
            {c["method"]["id"] for c in cells} | {row.id for g in groups for row in g.rows}
        )
        self._spans = spans(groups)
        self.lines = self.lines_of(board.groups)
        self.siblings = {cell: line.cells for line in self.lines for _, cell in line.cells}
        self.log = read_log(leaderboard)
        self.histories = histories_of(self.log)
        self.reruns = read_reruns(leaderboard)
        self.views = views_of(board.groups, board.records)
        self.pictures = pictures_of(board.records, leaderboard / "pictures")

    @property
    def lists_rows(self) -> bool:
        """Whether one page shows all rows."""
        return len(self.lines) <= MOST_ROWS

    def summary(self, method: str) -> str:
        """Return the one-line summary of a method."""
        entry = entries("methods").get(method)
        return entry.summary if entry else BY_ID[method].summary if method in BY_ID else ""

    def page(self, template: str, path: str, **values: Any) -> tuple[str, bytes]:
        """Return a page's path and content, of a template and its values."""
        from jinja2 import TemplateError

        root = "../" * path.count("/")
        common = {"site": self, "board": self.board, "root": root, "citation": PACKAGE}
        try:
            text = self._environment.get_template(template).render(common | values)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CorruptArtifact(
                f"cannot write {path} of what its records say: {error}"
            ) from error
        return path, text.encode()

    def lines_of(self, groups: Sequence[Group], suite: SuitePart | None = None) -> list[Line]:
        """Return the rows of groups; policies are the same for all learners, and appear once."""
        from rlcondense.reporting.charts import interval_bar

        names = learner_names(groups)
        out: dict[Any, Line] = {}
        for number, (group, name) in enumerate(zip(groups, names, strict=True)):
            marks = {split: policy_returns(group, split) for split in SPLITS}
            span = self._spans[group.task]
            for place, row in enumerate(group.rows):
                bars = {}
                if row.returns is not None:
                    filled = not row.mark
                    bars = {
                        split: interval_bar(row.returns[split]["mean"], marks[split], span, filled)
                        for split in SPLITS
                    }
                line = Line(
                    group=group,
                    row=row,
                    learner="" if row.is_policy else name,
                    tracks=tracks_of(row),
                    bars=bars,
                    cells=self._cells(row),
                    paper=suite.published_of(group, row) if suite else None,
                )
                is_shared = row.is_policy and any(row.cells)
                out.setdefault(row.cells if is_shared else (number, place), line)
        return list(out.values())

    def _cells(self, row: Row) -> tuple[tuple[int, str], ...]:
        records = self.board.records
        return tuple(
            (int(records[cell]["cell"]["condensation_seed"]), cell)
            for cell in row.cells
            if cell in records
        )


def _check_cell_id(cell_id: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{16}", cell_id):
        raise RLCondenseError(f"{cell_id!r} is no cell id: sixteen hexadecimal digits")


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """Return the name of each id's page, made unique."""
    names: dict[str, str] = {}
    for identifier in sorted(ids):
        name = slug(identifier.replace(":", "-", 1))
        if name.lower() in (taken.lower() for taken in names.values()):
            name += f".{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"
        names[identifier] = name
    return names
