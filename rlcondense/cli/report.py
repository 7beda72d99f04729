"""Commands that turn results into something for others: report and cite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rlcondense.cli.base import include_option, main, split_once
from rlcondense.console import echo
from rlcondense.errors import BadConfig


@main.command()
@include_option
@click.argument("results", default="results", type=click.Path(path_type=Path))
@click.option("--suite", help="Its cells only: a shipped suite, or a .toml file.")
@click.option("--task", "tasks", multiple=True, help="Which tasks. Repeatable. Default: all.")
@click.option("--row", "rows", multiple=True, help="Which rows. Repeatable. Default: all.")
@click.option("--without", multiple=True, metavar="ROW", help="A row to leave out. Repeatable.")
@click.option(
    "--column", "columns", multiple=True,
    help="Which columns, such as seen, gain or rank. Repeatable. Default: a few that fit.",
)  # fmt: skip
@click.option(
    "--name", "pairs", multiple=True, metavar="ROW=NAME", help="Another name of a row. Repeatable."
)
@click.option("--caption", help="Of the table. Default: one that says what is shown.")
@click.option("--latex", type=click.Path(path_type=Path), help="Write a LaTeX table (booktabs).")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write all numbers of the rows.")
def report(
    results: Path,
    suite: str | None,
    tasks: Sequence[str],
    rows: Sequence[str],
    without: Sequence[str],
    columns: Sequence[str],
    pairs: Sequence[str],
    caption: str | None,
    latex: Path | None,
    html: Path | None,
    csv: Path | None,
) -> None:
    """Make one table of the results of run, transfer or sweep in RESULTS (./results)."""
    from rlcondense.files import write_bytes
    from rlcondense.reporting.report import report as make_report

    names = split_once(pairs, "--name", "ROW=NAME")
    if csv is not None and latex is None and html is None:
        for option, value in (("--name", names), ("--column", columns), ("--caption", caption)):
            if value:
                raise BadConfig(f"--csv writes all numbers by their own names, without {option}")
    made = make_report(
        results, suite, tasks=tasks, rows=rows, without=without, columns=columns, names=names,
        caption=caption,
    )  # fmt: skip
    for note in made.notes:
        echo(f"Not shown: {note}", err=True)
    writers = {"latex": (latex, made.latex), "html": (html, made.html), "csv": (csv, made.csv)}
    written = [(path, make) for path, make in writers.values() if path is not None]
    for path, make in written:
        write_bytes(path, make().encode(errors="replace"))
        echo(str(path))
    if not written:
        echo(str(made))


@main.command()
@include_option
@click.argument("what")
def cite(what: str) -> None:
    """Print the BibTeX of WHAT, a method, task, learner, dataset or record, and of this package.

    A record is a file, or the id of one in ./leaderboard/results or ./results/records.
    """
    from rlcondense.citations import cite as cite_name
    from rlcondense.records.store import read_record_file
    from rlcondense.reporting.citation import cite_record, record_file

    path = record_file(what)
    echo(cite_name(what) if path is None else cite_record(read_record_file(path)))
