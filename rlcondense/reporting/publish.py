"""Building what is published: tables, and a site, from a leaderboard's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlcondense.files import write_bytes
from rlcondense.reporting.board import Board, build_board, read_results
from rlcondense.reporting.formats import FORMATS, board_json


def build(leaderboard: Path, suites: Sequence[str] | None = None) -> tuple[Board, list[Path]]:
    """Build the tables of a leaderboard: the same records give the same bytes.

    Args:
        leaderboard: a folder with `results/`; tables are written to its `tables/`.
        suites: which to show, shipped ones or .toml files; by default those of which there is a
            record.

    Returns:
        What was built, and the files that were written.
    """
    board = build_board(read_results(leaderboard / "results"), suites)
    files = {leaderboard / "leaderboard.json": board_json(board)}
    for suite in board.suites:
        for ending, form in FORMATS.items():
            files[leaderboard / "tables" / f"{suite.name}.{ending}"] = form(suite)
    for path, text in files.items():
        write_bytes(path, text.encode())
    return board, list(files)
