"""The report on a folder of results: a table for a paper, a page for a colleague, all numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

from rlcondense import catalogue
from rlcondense.comparison.columns import COLUMNS, Column, columns_of
from rlcondense.comparison.frames import frame_of, numbers_of
from rlcondense.comparison.rows import Group, Row, groups_of, names_of
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.findings import EXPLANATIONS, finding_name
from rlcondense.records.reading import source_of
from rlcondense.records.shipped import shipped_beside
from rlcondense.references import BY_ID
from rlcondense.reporting.board import ReadRecord, comparable, read_results, score_range, suite_part
from rlcondense.reporting.formats import csv_of, markdown_table, tex_text
from rlcondense.running.suite import Suite, load_suite

_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}caption{text-align:left;margin-bottom:.5em}"
    "th,td{padding:.2em .8em;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}"
    "thead tr,tbody:not(:first-of-type){border-top:1px solid #999}"
    "table{border-top:2px solid;border-bottom:2px solid}"
)

_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")  # of a negative number


@dataclass(frozen=True)
class Section:
    """The rows of a report that are compared with each other.

    Attributes:
        title: how its task, data and learner differ from the other sections'; may be empty.
        group: the comparable rows that they are of.
        rows: the rows that are shown, all of them done.
    """

    title: str
    group: Group
    rows: tuple[Row, ...]

    def blocks(self) -> list[list[Row]]:
        """Return the ceilings, the methods and the floors, without those that have no rows."""
        by_side: dict[int, list[Row]] = {}
        for row in self.rows:
            place = BY_ID[row.id].place if row.id in BY_ID else 0
            by_side.setdefault((place > 0) - (place < 0), []).append(row)
        return [by_side[side] for side in sorted(by_side)]


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        name: name of the suite, or of the folder of results.
        sections: of the table.
        columns: of the table.
        caption: of the table.
        names: what rows are called, by their names in our tables.
        notes: a line on each row that is not shown because it is not done.
    """

    name: str
    sections: tuple[Section, ...]
    columns: tuple[Column, ...]
    caption: str
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the report in Markdown."""
        parts = []
        for section in self.sections:
            cells = [self._cells(row) for row in section.rows]
            parts += [section.title] if section.title else []
            parts.append(markdown_table(self._headers(), cells))
        return "\n\n".join([*parts, self.caption])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._html_table()

    def _headers(self) -> list[str]:
        return [column.header for column in self.columns]

    def _cells(self, row: Row) -> list[str]:
        """Return the cells of a row; the first one is its name with its mark."""
        first = f"{self._name(row)} {row.mark}".rstrip()
        return [first, *(column.cell(row) for column in self.columns[1:])]

    def _name(self, row: Row) -> str:
        return _called(row, self.names)

    def latex(self) -> str:
        """Return the report as a LaTeX table, for the package booktabs."""
        width = len(self.columns)
        lines = []
        for section in self.sections:
            if section.title:
                title = rf"\multicolumn{{{width}}}{{l}}{{\emph{{{tex_text(section.title)}}}}} \\"
                lines += [r"\midrule", title]
            for block in section.blocks():
                lines += [r"\midrule", *map(self._latex_row, block)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                r"\small",
                r"\setlength{\tabcolsep}{4pt}",
                rf"\caption{{{tex_text(self.caption)}}}",
                rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', self.name.lower()).strip('-')}}}",
                rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
                r"\toprule",
                " & ".join(map(tex_text, self._headers())) + r" \\",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def _latex_row(self, row: Row) -> str:
        mark = rf"\textsuperscript{{{row.mark}}}" if row.mark else ""
        numbers = [_MINUS.sub("$-$", tex_text(cell)) for cell in self._cells(row)[1:]]
        cells = [tex_text(self._name(row)) + mark, *numbers]
        return " & ".join(cells) + r" \\"

    def html(self) -> str:
        """Return the report as one page that needs no other file."""
        title = escape(self.name)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        undone = f"<p>Not shown:</p><ul>{notes}</ul>" if notes else ""
        return (
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n{self._html_table()}\n{undone}</html>\n"
        )

    def _html_table(self) -> str:
        lines = [f"<table><caption>{escape(self.caption)}</caption>"]
        lines.append(_html_row("th", self._headers()).join(("<thead>", "</thead>")))
        for section in self.sections:
            if section.title:
                cell = f'<th colspan="{len(self.columns)}">{escape(section.title)}</th>'
                lines.append(f"<tbody><tr>{cell}</tr></tbody>")
            for block in section.blocks():
                rows = "\n".join(_html_row("td", self._cells(row)) for row in block)
                lines.append(f"<tbody>{rows}</tbody>")
        return "\n".join([*lines, "</table>"])

    def csv(self) -> str:
        """Return all numbers of the rows as CSV, a line for each row."""
        return csv_of(self._numbers())

    def to_pandas(self) -> Any:
        """Return all numbers of the rows as a pandas DataFrame, a line for each row.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frame_of(self._numbers())

    def _numbers(self) -> list[dict[str, Any]]:
        return [
            {**numbers_of(section.group, row), **(row.cost or {})}
            for section in self.sections
            for row in section.rows
        ]


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def report(
    results: str | Path = "results",
    suite: str | Path | Suite | None = None,
    *,
    tasks: str | Sequence[str] = (),
    rows: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    columns: str | Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    caption: str | None = None,
) -> Report:
    """Report on the records of a folder, with the reference rows that the package has of them.

    Args:
        results: what `run`, `transfer` or `sweep` wrote, a leaderboard, or a folder of records.
        suite: takes the cells of a suite only, shipped or of a file.
        tasks: which tasks, by id or alias; by default all.
        rows: which rows, by method or name; by default all.
        without: rows that are left out.
        columns: which columns, by their headers; by default those that fit a column of text.
        names: what rows are called instead, by method or name.
        caption: of the table, instead of the one that says what is shown.

    Raises:
        RLCondenseError: there is no such folder or suite.
        UnknownName: there is no such row or column.
        BadConfig: nothing is left to be shown.

    Example:
        >>> table = report("results", without=["full"], names={"gradmatch": "Ours"})
        >>> Path("table.tex").write_text(table.latex())
    """
    tasks, rows, without, columns = (
        [one] if isinstance(one, str) else one for one in (tasks, rows, without, columns)
    )
    folder = Path(results)
    records, unlike = comparable(read_results(source_of(folder).records))
    notes = [f"record {cell_id} {why}" for cell_id, why in unlike.items()]
    done = [record for record in records.values() if record["status"] == "done"]
    beside = {record["cell_id"]: record for record in shipped_beside(done)}
    all_records = cast("dict[str, ReadRecord]", {**beside, **records})
    the_suite = load_suite(suite) if isinstance(suite, (str, Path)) else suite
    if the_suite is None:
        groups = groups_of(all_records.values(), score_range)
    else:
        groups = list(suite_part(the_suite, all_records).groups)
    task_ids = {catalogue.find("tasks", name).id for name in tasks}
    groups = [group for group in groups if not task_ids or group.task in task_ids]
    notes += [
        f"{group.task}, {row.name}: {_why_left_out(row, all_records)}"
        for group in groups
        for row in group.rows
        if row.status not in ("done", "missing") or (row.status == "missing" and any(row.cells))
    ]
    groups = [
        group
        for group in groups
        if any(not records.keys().isdisjoint(row.cells) for row in group.rows)
    ]
    chosen = _chosen(groups, rows, without, names or {})
    if not chosen:
        raise BadConfig(f"{folder} has no row that is done and wanted: nothing to report")
    sections = tuple(
        Section(title, group, of_group)
        for title, (group, of_group) in zip(_titles([g for g, _ in chosen]), chosen, strict=True)
    )
    shown = _columns(columns, sections)
    return Report(
        name=the_suite.name if the_suite is not None else folder.resolve().name,
        sections=sections,
        columns=shown,
        caption=caption if caption is not None else _caption(sections, shown, names or {}),
        names=dict(names or {}),
        notes=tuple(notes),
    )


def _why_left_out(row: Row, records: Mapping[str, ReadRecord]) -> str:
    """Return why a row that has records is not shown."""
    if row.status == "missing":
        done = [c for c in row.cells if c in records and records[c]["status"] == "done"]
        return f"{len(done)} of {len(row.cells)} sets are done"
    return f"{row.status} ({row.reason})"


def _chosen(
    groups: Sequence[Group], rows: Sequence[str], without: Sequence[str], names: Iterable[str]
) -> list[tuple[Group, tuple[Row, ...]]]:
    """Return the groups that have rows that are done and wanted, with these rows."""
    known = {name for group in groups for row in group.rows for name in (row.id, row.name)}
    for name in (*rows, *without, *names):
        if name not in known:
            raise UnknownName("row", name, known)

    def is_wanted(row: Row) -> bool:
        names = {row.id, row.name}
        named = bool(not rows or names & {*rows}) and not names & {*without}
        return named and row.returns is not None

    chosen = [(group, tuple(filter(is_wanted, group.rows))) for group in groups]
    return [pair for pair in chosen if pair[1]]


def _titles(groups: Sequence[Group]) -> list[str]:
    """Return the parts of each group's task, data and learner in which groups differ."""
    parts = [
        [_short(group.task) for group in groups],
        [group.dataset or "no data" for group in groups],
        names_of([group.learner for group in groups]),
    ]
    varying = [part for part in parts if len(set(part)) > 1]
    return [", ".join(part[place] for part in varying) for place in range(len(groups))]


def _short(task: str) -> str:
    """Return the alias of a task, or its id if it has none."""
    entry = catalogue.entries("tasks").get(task)
    return entry.aliases[0] if entry is not None and entry.aliases else task


def _columns(names: Sequence[str], sections: Sequence[Section]) -> tuple[Column, ...]:
    """Return the named columns after that of the methods, or those that fit a column of text."""
    by_name = {column.header: column for column in COLUMNS}
    if not names:
        usual = [column.header for column in columns_of("paper")]
        known = any(row.recovery for section in sections for row in section.rows)
        names = [name if name != "recovery" or known else "gain" for name in usual]
    for name in names:
        if name not in by_name:
            raise UnknownName("column", name, by_name)
    first = COLUMNS[0]
    return (first, *(by_name[name] for name in dict.fromkeys(names) if name != first.header))


def _called(row: Row, names: Mapping[str, str]) -> str:
    """Return what a row is called."""
    return names.get(row.name, names.get(row.id, row.name))


def _caption(
    sections: Sequence[Section], columns: Sequence[Column], names: Mapping[str, str]
) -> str:
    """Return a caption that says what the table shows, and no more."""
    rows = [row for section in sections for row in section.rows]
    trained = [row for row in rows if not row.is_policy]
    tasks = list(dict.fromkeys(_short(section.group.task) for section in sections))
    learners = list(dict.fromkeys(section.group.learner["id"] for section in sections))
    on = _listed(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"
    students = _range(row.learner_seeds for row in trained or rows)
    episodes = _range(row.episodes for row in rows)
    sentences = [
        f"Returns on {on} of students that {_listed(learners)} trained on what each method keeps "
        f"or makes: {students} students of each set, {episodes} episodes each."
    ]
    sentences += [column.caption or column.legend for column in columns]
    if any("±" in column.cell(row) for column in columns for row in rows):
        sets = {row.condensation_seeds for row in trained if row.draws}
        over = "students" if sets <= {1} else "condensed sets and students"
        if 1 in sets and sets > {1}:
            over += ", or over students where there is one set"
        sentences.append(f"± is the standard error over {over}.")
    marks = {row.mark for row in rows}
    if "!" in marks:
        sentences.append(
            "! marks rows that are not above the random policy, a policy that does not look and "
            "the random subset, at 95%."
        )
    if "?" in marks:
        sentences.append("? marks rows that are not judged, such as those of one set.")
    return " ".join([*filter(None, sentences), *_findings(rows, names)])


def _findings(rows: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    """Return a sentence for each kind of finding, with the rows that have it."""
    by_name: dict[str, dict[str, None]] = {}
    for row in rows:
        for finding in row.findings:
            by_name.setdefault(finding["name"], {})[_called(row, names)] = None
    ordered = [name for name in EXPLANATIONS if name in by_name]
    return [
        f"{finding_name(name).capitalize()}: {', '.join(by_name[name])}."
        for name in dict.fromkeys([*ordered, *by_name])
    ]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _range(numbers: Iterable[int]) -> str:
    values = sorted(set(numbers))
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
