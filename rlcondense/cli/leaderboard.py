"""Commands of leaderboards: add, verify, build and diff."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from rlcondense.cli.base import expect_many_objects, main
from rlcondense.console import ConsoleProgress, echo, echo_json
from rlcondense.errors import BadConfig

MOST_NOTES = 3  # of one check that are printed


@main.group()
def leaderboard() -> None:
    """Add records to a leaderboard, verify or export them, compare two, and build tables."""


_board = click.option(
    "--leaderboard",
    "board",
    default="leaderboard",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Its folder.",
)


@leaderboard.command("add")
@click.argument("results", type=click.Path(path_type=Path))
@_board
@click.option("--replace", is_flag=True, help="Overwrite what is published with other content.")
def leaderboard_add(results: Path, board: Path, replace: bool) -> None:
    """Verify the records in RESULTS, copy them onto the leaderboard and pin their content."""
    from rlcondense.submissions.add import add

    is_new = not board.exists()
    with ConsoleProgress() as progress:
        done = add(results, board, replace=replace, progress=progress)
    print_findings(done.verification)
    for file, status in (done.left_out or {}).items():
        echo(f"{file}: left out, since it is {status}")
    if not done.verification.ok:
        echo("nothing was added: something is wrong")
        sys.exit(1)
    echo(
        f"{board}: {len(done.added)} added, {len(done.replaced)} replaced, "
        f"{len(done.same)} were there already; {done.pictures} pictures drawn"
    )
    if is_new:
        echo(f"{board} is a new leaderboard")


@leaderboard.command("verify")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option(
    "--rerun",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compute N cells again; a leaderboard keeps which, and when.",
)
@click.option("--seed", type=int, help="Of the choice of those. Default: another one each time.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A published leaderboard, of which nothing may be changed or missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def leaderboard_verify(
    path: Path, number: int | None, seed: int | None, against: Path | None, as_json: bool
) -> None:
    """Check the records in PATH: a leaderboard (by default ./leaderboard) or an archive of one, a
    results folder, a folder of records or one record."""
    from rlcondense.submissions.archive import unpacked

    if seed is not None and number is None:
        raise BadConfig("--seed chooses what is computed again: give --rerun too")
    with unpacked(path) as folder:  # an archive's is gone at the end
        fit = _verified(folder, number, seed, against, as_json, lasts=folder == path)
    if not fit:
        sys.exit(1)


def _verified(
    path: Path,
    number: int | None,
    seed: int | None,
    against: Path | None,
    as_json: bool,
    *,
    lasts: bool,
) -> bool:
    """Print what is found in records, and return whether all is as it should be."""
    from rlcondense.submissions.verification import verify

    with ConsoleProgress() as progress:
        verification = verify(path, against=against, progress=progress)
        if number is not None:
            from rlcondense.records.reading import INDEX, read_index
            from rlcondense.submissions.rerun import rerun

            among = read_index(against / INDEX).records if against is not None else None
            verification = rerun(
                path, verification, number, seed=seed, among=among, progress=progress
            )
    if as_json:
        echo_json(verification.to_json(), sort_keys=True)
    else:
        print_findings(verification)
        for again in verification.reruns or ():
            if again.agrees is not False:
                echo(f"{again.file}: {again.text}")
        echo(verification.summary())
    # Once printed, since it fails where the file of reruns is malformed.
    if number is not None and lasts:
        from rlcondense.submissions.rerun import write_down

        write_down(path, verification, date.today())
    return verification.ok and verification.is_complete


def print_findings(verification: Any) -> None:
    """Print a line for each fault, and the notes that concern most records, a few of each check."""
    for finding in verification.findings:
        echo(str(finding))
    notes: dict[str, dict[str, list[str]]] = {}
    for note in verification.notes:
        notes.setdefault(note.check, {}).setdefault(note.text, []).append(note.file)
    for check, lines in notes.items():
        of_most = sorted(lines.items(), key=lambda line: -len(line[1]))
        for text, files in of_most[:MOST_NOTES]:
            where = files[0] if len(files) == 1 else f"{len(files)} records"
            echo(f"note: {where}: {text}")
        if more := sum(len(files) for _, files in of_most[MOST_NOTES:]):
            echo(f"note: {check}: {more} more like these (leaderboard verify --json lists all)")


@leaderboard.command("build")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option("--suite", "suites", multiple=True, help="Tables and site of it alone. Repeatable.")
@click.option(
    "--into", "documents", multiple=True, metavar="FILE.md", type=click.Path(path_type=Path),
    help="Fill in the tables that a document asks for by <!-- leaderboard SUITE -->. Repeatable.",
)  # fmt: skip
@click.option("--site", type=click.Path(path_type=Path), help="Write the site here, too.")
@click.option("--data", is_flag=True, help="Put records and tables into the site, to be taken.")
@click.option("--tex", is_flag=True, help="Write the tables in LaTeX, too.")
@click.option("--strict", is_flag=True, help="Build nothing if a record cannot be shown.")
def leaderboard_build(
    path: Path,
    suites: Sequence[str],
    documents: Sequence[Path],
    site: Path | None,
    data: bool,
    tex: bool,
    strict: bool,
) -> None:
    """Write the tables of the leaderboard in PATH (./leaderboard) in Markdown and CSV."""
    from rlcondense.reporting.publish import build, fill_in

    expect_many_objects()
    started = time.monotonic()
    if data and site is None:
        raise BadConfig("--data puts them into a site: give --site too")
    board, files = build(
        path,
        suites or None,
        site,
        data=data,
        tex=tex,
        strict=strict,
        left_out=lambda line: echo(f"left out: {line}", err=True),
    )
    pages = [file for file in files if site is not None and file.is_relative_to(site)]
    for file in files[: len(files) - len(pages)]:
        echo(str(file))
    if site is not None:
        echo(f"{site / 'index.html'}, {len(pages)} files")
    for document in documents:
        echo(f"{document}: {fill_in(document, board)} tables")
    suites_text = ", ".join(f"{s.name} {s.done} of {s.planned}" for s in board.suites)
    seconds = time.monotonic() - started
    echo(f"{len(board.records)} records in {seconds:.1f} s: {suites_text or 'of no suite'}")


@leaderboard.command("diff")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def leaderboard_diff(folders: Sequence[Path]) -> None:
    """Show what is new, missing or changed in FOLDERS: [A] B, A being ./leaderboard by default."""
    from rlcondense.submissions.add import diff

    if len(folders) > 2:
        raise BadConfig(f"diff compares two folders, not {len(folders)}")
    a, b = folders if len(folders) == 2 else (Path("leaderboard"), folders[0])
    difference = diff(a, b)
    groups = {
        "new": difference.new,
        "missing": difference.missing,
        "changed": difference.changed,
        "unreadable": difference.unreadable,
    }
    for name, lines in groups.items():
        for line in lines:
            echo(f"{name:<10} {line}")
    echo(", ".join(f"{len(lines)} {name}" for name, lines in groups.items()))
