"""The check of the files beside a leaderboard's records, against those made from the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isclose
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import FileRefusal, json_lines, parse_json, read_bounded
from rlcondense.records.reading import INDEX, PICTURES, RESULTS, SCHEMA
from rlcondense.records.schema import record_schema
from rlcondense.reporting.board import build_board, shown_results
from rlcondense.reporting.conclusions import CONCLUSIONS
from rlcondense.reporting.log import LOG
from rlcondense.reporting.pictures import MOST_BYTES as MOST_PICTURE_BYTES
from rlcondense.reporting.publish import BOARD, TABLES, built_files
from rlcondense.reporting.reruns import RERUNS
from rlcondense.text import one_line

LINK = "is a symbolic link"
MOST_BUILT_BYTES = 2**28
MOST_NAMED = 5  # files in one line
LAST_DIGITS = 1e-6  # relative difference that another machine may cause


def look_beside(
    leaderboard: Path, published: Path | None = None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Compare the files beside the records with those that `leaderboard build` and `add` write.

    Args:
        leaderboard: its folder.
        published: another one; files with the same bytes as there are accepted.

    Returns:
        The name of each wrong file and the reason, links included, which are not followed; and the
        names of unknown files, which are not checked.
    """
    names = list(_names(leaderboard))
    wrong = [(name, LINK) for name in names if (leaderboard / name).is_symlink()]
    own = [name for name in names if _is_derived(name) and (name, LINK) not in wrong]
    changed = [n for n in own if published is None or not _is_same(leaderboard / n, published / n)]
    built = dict(_made(leaderboard)) if any(name != SCHEMA for name in changed) else {}
    built[SCHEMA] = json_lines(record_schema())
    wrong += [
        (name, why)
        for name in changed
        if name in built and (why := _why_wrong(leaderboard / name, name, built[name]))
    ]
    known = {
        INDEX,
        LOG,
        RERUNS,
        CONCLUSIONS,
        *(name for name, _ in wrong),
        *(set(own) - set(changed)),
        *built,
    }
    return wrong, [name for name in names if name not in known]


def _why_wrong(path: Path, name: str, made: str) -> str:
    """Return how a file differs from the expected text, or an empty text."""
    try:
        text = read_bounded(path, MOST_BUILT_BYTES).decode(errors="replace")
    except FileRefusal as error:
        return str(error)
    maker = "add" if name == SCHEMA else "build"
    return (
        "" if _agree(name, text, made) else f"is not what 'rlcondense leaderboard {maker}' writes"
    )


def changed_pictures(published: Path, here: Path) -> Iterator[tuple[str, str]]:
    """Yield the published pictures that are missing or changed, and which of the two."""
    folder = published / PICTURES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        other = here / PICTURES / path.name
        if not (other.exists() or other.is_symlink()):
            yield f"{PICTURES}/{path.name}", "is missing"
        elif not _is_same(path, other, MOST_PICTURE_BYTES):
            yield f"{PICTURES}/{path.name}", "is another picture"


def _names(leaderboard: Path) -> Iterator[str]:
    """Yield the names in a leaderboard's folder and its tables', without records and pictures."""
    for path in sorted(leaderboard.iterdir()):
        if path.is_symlink() or path.name not in (RESULTS, PICTURES, TABLES):
            yield path.name
        elif path.name == TABLES and path.is_dir():
            yield from (f"{TABLES}/{inner.name}" for inner in sorted(path.iterdir()))


def _is_derived(name: str) -> bool:
    return name in (SCHEMA, BOARD) or name.startswith(f"{TABLES}/")


def _made(leaderboard: Path) -> Mapping[str, str]:
    """Return the files that `build` writes, by name; none if the records cannot be read."""
    try:
        board = build_board(shown_results(leaderboard / RESULTS)[0])
    except RLCondenseError:  # other checks report faults of the records
        return {}
    return built_files(board)


def _is_same(a: Path, b: Path, most: int = MOST_BUILT_BYTES) -> bool:
    """Return whether two plain files have the same bytes."""
    try:
        return read_bounded(a, most) == read_bounded(b, most)
    except FileRefusal:
        return False


def _agree(name: str, told: str, made: str) -> bool:
    """Return whether a text is the expected one; numbers in JSON may differ in the last digits."""
    if told == made:
        return True
    if name != BOARD:
        return False
    try:
        return _near(parse_json(told.encode()), parse_json(made.encode()))
    except (FileRefusal, CorruptArtifact):
        return False


def _near(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_near(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_near, a, b))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return isclose(a, b, rel_tol=LAST_DIGITS, abs_tol=LAST_DIGITS)
    return bool(a == b)


def listed(names: list[str]) -> str:
    """Return a few names, escaped for a terminal, and the number of the others."""
    few = ", ".join(one_line(name) for name in names[:MOST_NAMED])
    return few if len(names) <= MOST_NAMED else f"{few} and {len(names) - MOST_NAMED} more"
