"""Tables for papers and pages: Markdown, LaTeX and CSV, equal bytes for equal records."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcondense.comparison.columns import COLUMNS, LEGEND, bracketed, columns_of
from rlcondense.comparison.frames import frame_of, numbers_of, require_pandas
from rlcondense.comparison.rows import Group, Row, explanations, names_of
from rlcondense.comparison.tables import group_caption
from rlcondense.records.cell import budget_text
from rlcondense.references import FLOORS
from rlcondense.reporting.board import Aggregate, Board, SuitePart, read_results, suite_part
from rlcondense.running.suite import load_suite
from rlcondense.statistics.intervals import STATISTICS
from rlcondense.text import markdown_text, one_line
from rlcondense.types import SPLITS

PAPER = ("paper, seen", "paper, held-out")
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "·": r"$\cdot$",
}  # fmt: skip


def table_of(group: Group, suite: SuitePart | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the headers and cells of a group's table, as plain text.

    Args:
        group: the rows.
        suite: adds a paper's figures, if the suite has them.
    """
    published = [suite.published_of(group, row) if suite else None for row in group.rows]
    headers = [column.header for column in COLUMNS]
    cells = [[column.cell(row) for column in COLUMNS] for row in group.rows]
    if any(published):
        headers += PAPER
        for line, paper in zip(cells, published, strict=True):
            line.extend([f"{paper.seen:.2f}", f"{paper.heldout:.2f}"] if paper else ["", ""])
    return headers, cells


AGGREGATE_HEADERS = (
    "method", "budget", "learner", "tasks", "normalised mean", "IQM", "median", "recovery mean",
    "gain", "gap", "P > S", "above U", "above M", "above S",
)  # fmt: skip


def aggregate_table(suite: SuitePart) -> tuple[list[str], list[list[str]]]:
    """Return the headers and cells of a suite's table over tasks."""
    learners = iter(names_of([row.learner for row in suite.aggregates if row.learner]))
    cells = [
        _aggregate_cells(row, next(learners) if row.learner else "") for row in suite.aggregates
    ]
    return list(AGGREGATE_HEADERS), cells


def _aggregate_cells(row: Aggregate, learner: str) -> list[str]:
    count = len(row.tasks)
    asked = budget_text(row.budget) if row.budget is not None else ""
    normalised, recovery = row.normalised or {}, row.recovery or {}
    return [
        row.name,
        asked,
        learner,
        f"{count} of {row.of}",
        *(bracketed(normalised.get(name), "{:.3f}") for name in STATISTICS),
        bracketed(recovery.get("mean"), "{:.0%}"),
        bracketed(row.gain, "{:+.3f}"),
        bracketed(row.gap, "{:+.3f}"),
        "" if row.probability is None else f"{row.probability:.2f}",
        *("{} of {}".format(*row.above[f]) if f in row.above else "" for f in FLOORS),
    ]


def markdown(suite: SuitePart) -> str:
    """Format a suite's tables in Markdown."""
    parts = [f"# {suite.name}", markdown_text(suite.summary), progress_text(suite)]
    shown, missing = _shown(suite)
    for title, group in shown:
        parts += [f"## {markdown_text(title)}", markdown_text(group_caption(group))]
        parts.append(markdown_table(*table_of(group, suite)))
    if missing:
        parts += ["## Missing", "\n".join(f"- {markdown_text(title)}" for title in missing)]
    if suite.aggregates:
        parts += ["## Over tasks", markdown_table(*aggregate_table(suite)), _over_tasks_text()]
    return "\n\n".join([*parts, *map(markdown_text, _found(suite)), LEGEND]) + "\n"


def _found(suite: SuitePart) -> list[str]:
    """Return a line for each mark of a detector in a suite's tables."""
    return explanations(row for group in suite.groups for row in group.rows)


def _shown(suite: SuitePart) -> tuple[list[tuple[str, Group]], list[str]]:
    """Return the groups that have a table, and the titles of those without any record."""
    named = list(zip(titles(suite.groups), suite.groups, strict=True))
    shown = [(title, group) for title, group in named if group.begun or suite.published]
    return shown, [title for title, group in named if not (group.begun or suite.published)]


def headline(suite: SuitePart) -> str:
    """Format the done rows of a suite as one narrow Markdown table, held-out levels first."""
    lines, names = [], names_of([group.learner for group in suite.groups])
    tables = [table_of(group, suite) for group in suite.groups]
    columns = [column.header for column in columns_of("headline")]
    columns += PAPER if any(len(headers) > len(COLUMNS) for headers, _ in tables) else []
    for group, learner, (headers, rows) in zip(suite.groups, names, tables, strict=True):
        done = [cells for cells, row in zip(rows, group.rows, strict=True) if row.returns]
        if not any(row.returns and not row.is_policy for row in group.rows):
            continue
        task = group.task.removeprefix("procgen/")
        for number, cells in enumerate(done):
            cell_of = dict(zip(headers, cells, strict=True))
            first = "" if number else f"{task}, {learner}"
            lines.append([first, *(cell_of.get(name, "") for name in columns)])
    table = markdown_table(["task, learner", *columns], lines)
    return "\n\n".join([table, *map(markdown_text, _found(suite)), progress_text(suite)])


def titles(groups: Sequence[Group]) -> list[str]:
    """Return each group's task and learner, with the settings in which those of one id differ."""
    names = names_of([group.learner for group in groups])
    return [f"{group.task}, {name}" for group, name in zip(groups, names, strict=True)]


def progress_text(suite: SuitePart) -> str:
    """Return how many cells of a suite are done, and what the others are."""
    others = "".join(f", {count} {status}" for status, count in suite.undone.items())
    rest = (
        "; the rest is missing" if suite.done + sum(suite.undone.values()) < suite.planned else ""
    )
    return f"{suite.done} of {suite.planned} cells are done{others}{rest}."


def _over_tasks_text() -> str:
    return (
        "Normalised: (R - r_min) / (r_max - r_min) with the published constants, on held-out "
        "levels. Intervals here are over sets, students and levels, and recovery's are given what "
        "expert and random policy were measured to return; the median's are too wide. Mean, IQM "
        "and median are Agarwal et al.'s (2021): over all units of all tasks, each task with "
        "the same weight, and over tasks' means; a row that some task lacks has none. Gain and gap "
        "are normalised too. P > S: the probability that a set returns more than one of the random "
        "subset, or a student where either has one set, on average over tasks. Above: on how many "
        "of the tasks on which that can be told."
    )


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table of plain texts in Markdown."""
    from tabulate import tabulate

    plain = [[markdown_text(cell) for cell in row] for row in rows]
    return str(tabulate(plain, headers, tablefmt="github", disable_numparse=True))


def latex(suite: SuitePart) -> str:
    """Format a suite's tables in LaTeX, for the packages booktabs and graphicx."""
    shown, missing = _shown(suite)
    parts = [
        _latex_table(table_of(group, suite), group_caption(group), f"{suite.name}-{number}")
        for number, (_, group) in enumerate(shown, 1)
    ]
    if missing:
        parts.append(rf"\noindent Missing: {tex_text('; '.join(missing))}.")
    if suite.aggregates:
        parts.append(_latex_table(aggregate_table(suite), _over_tasks_text(), f"{suite.name}-all"))
    head = f"% {suite.name}: {progress_text(suite)} Needs booktabs and graphicx."
    legends = [rf"\noindent{{\footnotesize {tex_text(t)}\par}}" for t in (*_found(suite), LEGEND)]
    return "\n\n".join([head, *parts, *legends]) + "\n"


def _latex_table(table: tuple[list[str], list[list[str]]], caption: str, label: str) -> str:
    headers, rows = table
    lines = [" & ".join(map(tex_text, row)) + r" \\" for row in (headers, *rows)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex_text(caption)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9-]', '-', label.lower())}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def tex_text(text: str) -> str:
    """Escape a text so that LaTeX shows it literally."""
    return "".join(_TEX.get(character, character) for character in re.sub(r"\s+", " ", text))


def csv_text(suite: SuitePart) -> str:
    """Format all numbers of a suite's rows as CSV, one row per line."""
    return csv_of([_csv_row(suite, group, row) for group in suite.groups for row in group.rows])


def csv_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """Format lines as CSV, whose columns are the names that any line has."""
    out = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_value(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    """Return a value as CSV has it: a text on one line that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text[:1] in tuple("=+-@") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"  # stands for none in tables
    return True


def _csv_row(suite: SuitePart, group: Group, row: Row) -> dict[str, Any]:
    paper = suite.published_of(group, row)
    published = {f"paper_{split}": getattr(paper, split) if paper else None for split in SPLITS}
    return {"suite": suite.name, **numbers_of(group, row), **published, **(row.cost or {})}


def leaderboard(suite: str, results: str | Path = "leaderboard/results") -> Any:
    """Return all numbers of a suite's rows as a pandas DataFrame, with the columns of the CSV.

    Args:
        suite: name or path of the suite.
        results: folder of the records.

    Raises:
        MissingExtra: pandas is not installed.
        RLCondenseError: there is no such folder or suite.
    """
    require_pandas()
    part = suite_part(load_suite(suite), read_results(Path(results)))
    return frame_of([_csv_row(part, group, row) for group in part.groups for row in group.rows])


KEPT = ("md", "csv")  # written by default
FORMATS: dict[str, Callable[[SuitePart], str]] = {
    "md": markdown,
    "tex": latex,
    "csv": csv_text,
}


def board_json(board: Board) -> str:
    """Format the board as JSON: a line for each table and for each suite.

    `groups` are the tables of all suites, each once, without the rows that are missing; a suite
    names its tables by their places in `groups`.
    """
    places: dict[str, int] = {}
    suites = []
    for part in board.suites:
        suite = part.to_json()
        measured = [
            {**group, "rows": [row for row in group["rows"] if row["status"] != "missing"]}
            for group in suite["groups"]
        ]
        lines = [_compact(group) for group in measured if group["rows"]]
        suites.append({**suite, "groups": [places.setdefault(x, len(places)) for x in lines]})
    groups, listed = ",\n".join(places), ",\n".join(map(_compact, suites))
    records = len(board.records)
    return f'{{"records":{records},\n"groups":[\n{groups}],\n"suites":[\n{listed}]}}\n'


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
