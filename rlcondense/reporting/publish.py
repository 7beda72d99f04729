"""The build of the published files: tables and a site, from a leaderboard's records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import refuse_links, write_bytes
from rlcondense.records.reading import RESULTS
from rlcondense.reporting.board import OTHERS, Board, build_board, refusal, shown_results
from rlcondense.reporting.formats import FORMATS, KEPT, board_json, headline
from rlcondense.reporting.log import append_entry
from rlcondense.reporting.site import build_site, check_site
from rlcondense.running.suite import shipped_suites

BOARD, TABLES = "leaderboard.json", "tables"
_PLACE = re.compile(r"(<!-- leaderboard ([\w.-]+) -->)\n.*?(<!-- /leaderboard -->)", re.DOTALL)


def build(
    leaderboard: Path,
    suites: Sequence[str] | None = None,
    site: Path | None = None,
    *,
    data: bool = False,
    tex: bool = False,
    strict: bool = False,
    left_out: Callable[[str], object] = lambda line: None,
) -> tuple[Board, list[Path]]:
    """Build the tables of a leaderboard, and its site: the same records give the same bytes.

    A file without a record, or with one that is not comparable with the others, is left out and
    reported. A record that the log knows and that is gone is written down there as withdrawn.

    Args:
        leaderboard: a folder with `results/`; tables are written to its `tables/`.
        suites: which to show, shipped ones or .toml files, without `leaderboard.json`, which has
            all; by default those with a record, and records of no suite as `other`.
        site: the folder of the site; by default none is built.
        data: whether the site includes the records and tables.
        tex: whether tables are written in LaTeX too.
        strict: build nothing if a file would be left out.
        left_out: called with a line on each file that is left out.

    Returns:
        The board, and the files that were written.

    Raises:
        CorruptArtifact: there is nothing to show, or with `strict` a file cannot be shown.
    """
    if site is not None:
        check_site(site)
    folder = leaderboard / RESULTS
    refuse_links(leaderboard, leaderboard / TABLES)
    records, refused = shown_results(folder)
    for name, why in sorted(refused.items()):
        if strict:
            raise CorruptArtifact(refusal(folder, name, why))
        left_out(refusal(folder, name, why))
    try:
        append_entry(leaderboard, date.today(), [], [])
    except CorruptArtifact as error:
        if strict:
            raise
        left_out(str(error))
    board = build_board(records, suites)
    files = {
        leaderboard / name: text
        for name, text in built_files(board, (*KEPT, "tex") if tex else KEPT).items()
    }
    if suites is not None:
        del files[leaderboard / BOARD]
    else:  # remove tables of suites that have no record any more; others may be of users' suites
        for name in (*shipped_suites(), OTHERS):
            for ending in FORMATS:
                (leaderboard / TABLES / f"{name}.{ending}").unlink(missing_ok=True)
    for path, text in files.items():
        write_bytes(path, text.encode())
    pages = [] if site is None else build_site(board, leaderboard, site, data=data)
    return board, [*files, *pages]


def built_files(board: Board, endings: Iterable[str] = FORMATS) -> dict[str, str]:
    """Return the files that `build` writes for a leaderboard, by name, in the given formats."""
    files = {BOARD: board_json(board)}
    for suite in board.suites:
        for ending in endings:
            files[f"{TABLES}/{suite.name}.{ending}"] = FORMATS[ending](suite)
    return files


def fill_part(document: Path, name: str, text: str) -> None:
    """Write a text between the marks `<!-- NAME -->` and `<!-- /NAME -->` of a document.

    Raises:
        BadConfig: the document does not have these marks once.
    """
    place = re.compile(rf"(<!-- ({re.escape(name)}) -->)\n.*?(<!-- /\2 -->)", re.DOTALL)
    before, line_end = _read(document)
    filled, count = place.subn(lambda mark: f"{mark[1]}\n{text}\n{mark[3]}", before)
    if count != 1:
        raise BadConfig(f"{document} has {count} places named {name!r}, not one")
    write_bytes(document, filled.replace("\n", line_end).encode())


def _read(document: Path) -> tuple[str, str]:
    """Return the text of a document with line feeds alone, and what ends its lines."""
    text = document.read_bytes().decode()
    if text.count("\r\n") < text.count("\n") or "\n" not in text:
        return text, "\n"
    return text.replace("\r\n", "\n"), "\r\n"


def fill_in(document: Path, board: Board) -> int:
    """Write the headline table of suites into a Markdown document.

    Each table goes between a line `<!-- leaderboard SUITE -->` and the next
    `<!-- /leaderboard -->`.

    Returns:
        The number of tables written.

    Raises:
        BadConfig: the document cannot be read, or asks for a suite that the board does not have.
    """
    try:
        text, line_end = _read(document)
    except (OSError, ValueError) as error:
        raise BadConfig(f"cannot read {document}: {error}") from error
    suites = {suite.name: suite for suite in board.suites}

    def table(match: re.Match[str]) -> str:
        if match[2] not in suites:
            shown = ", ".join(suites) or "none"
            raise BadConfig(f"{document} asks for suite {match[2]!r}: built were {shown}")
        return f"{match[1]}\n{headline(suites[match[2]])}\n{match[3]}"

    filled, count = _PLACE.subn(table, text)
    if filled != text:
        write_bytes(document, filled.replace("\n", line_end).encode())
    return count
