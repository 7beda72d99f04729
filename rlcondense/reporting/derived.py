"""What lies on a leaderboard beside its records: compared with what is made of them, or named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isclose
from pathlib import Path
from typing import Any

from rlcondense.errors import CorruptArtifact, RLCondenseError
from rlcondense.files import Refused, parse_json, read_bounded
from rlcondense.reporting.board import build_board, comparable, publishable_results
from rlcondense.reporting.pictures import MOST_BYTES as MOST_PICTURE_BYTES
from rlcondense.reporting.publish import BOARD, TABLES, built_files
from rlcondense.reporting.reading import INDEX, PICTURES, RESULTS, SCHEMA
from rlcondense.reporting.schema import record_schema
from rlcondense.text import one_line

MOST_BUILT_BYTES = 2**28
MOST_NAMED = 5  # files in one line
LAST_DIGITS = 1e-6  # that numbers of another machine may differ by


def wrong_files(leaderboard: Path, published: Path | None = None) -> Iterator[tuple[str, str]]:
    """Files that `leaderboard build` and `add` write, and that are not what they would write.

    Args:
        leaderboard: its folder.
        published: another one; what is byte for byte as there is taken for what it is.

    Returns:
        Names and reasons; first of links, which are not looked at any further.
    """
    names = list(_names(leaderboard))
    linked = [name for name in names if (leaderboard / name).is_symlink()]
    yield from ((name, "is a symbolic link") for name in linked)
    own = [name for name in names if name not in linked and _is_derived(name)]
    changed = [n for n in own if published is None or not _is_same(leaderboard / n, published / n)]
    made = _made(leaderboard) if any(name != SCHEMA for name in changed) else {}
    made = {**made, SCHEMA: json.dumps(record_schema(), indent=2, sort_keys=True) + "\n"}
    for name in changed:
        try:
            text = read_bounded(leaderboard / name, MOST_BUILT_BYTES).decode(errors="replace")
        except Refused as error:
            yield name, str(error)
            continue
        if name in made and not _agree(name, text, made[name]):
            maker = "add" if name == SCHEMA else "build"
            yield name, f"is not what 'rlcondense leaderboard {maker}' writes"


def strangers(leaderboard: Path) -> list[str]:
    """Names of the files on a leaderboard that nothing here writes, and that nobody looks at."""
    return [name for name in _names(leaderboard) if not _is_derived(name) and name != INDEX]


def changed_pictures(published: Path, here: Path) -> Iterator[tuple[str, str]]:
    """Published pictures that are missing or not the same, and which of it they are."""
    folder = published / PICTURES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        other = here / PICTURES / path.name
        if not (other.exists() or other.is_symlink()):
            yield f"{PICTURES}/{path.name}", "is missing"
        elif not _is_same(path, other, MOST_PICTURE_BYTES):
            yield f"{PICTURES}/{path.name}", "is another picture"


def _names(leaderboard: Path) -> Iterator[str]:
    """What lies in a leaderboard's folder and its tables', but for records and pictures."""
    for path in sorted(leaderboard.iterdir()):
        if path.is_symlink() or path.name not in (RESULTS, PICTURES, TABLES):
            yield path.name
        elif path.name == TABLES and path.is_dir():
            yield from (f"{TABLES}/{inner.name}" for inner in sorted(path.iterdir()))


def _is_derived(name: str) -> bool:
    return name in (SCHEMA, BOARD) or name.startswith(f"{TABLES}/")


def _made(leaderboard: Path) -> Mapping[str, str]:
    """What `build` writes, by name; nothing where that cannot be told."""
    try:
        records, _ = publishable_results(leaderboard / RESULTS)
        board = build_board(comparable(records)[0])
    except RLCondenseError:  # what is wrong with the records is told elsewhere
        return {}
    return built_files(board)


def _is_same(a: Path, b: Path, most: int = MOST_BUILT_BYTES) -> bool:
    """Whether two plain files have the same bytes."""
    try:
        return read_bounded(a, most) == read_bounded(b, most)
    except Refused:
        return False


def _agree(name: str, told: str, made: str) -> bool:
    """Whether a file says what was made; JSON may differ in the last digits of its numbers."""
    if told == made:
        return True
    if name != BOARD:
        return False
    try:
        return _near(parse_json(told.encode()), parse_json(made.encode()))
    except (Refused, CorruptArtifact):
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
    """A few names, fit for a terminal, and how many more there are."""
    few = ", ".join(one_line(name) for name in names[:MOST_NAMED])
    return few if len(names) <= MOST_NAMED else f"{few} and {len(names) - MOST_NAMED} more"
