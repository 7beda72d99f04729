"""The leaderboard as a folder of pages that need no server and no network."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path, PurePosixPath

from rlcondense.errors import RLCondenseError
from rlcondense.files import (
    FileRefusal,
    open_to_append,
    read_bounded,
    refuse_links,
    replace_file,
)
from rlcondense.reporting.board import Board
from rlcondense.reporting.pages.compare import compare_pages
from rlcondense.reporting.pages.front import front_pages
from rlcondense.reporting.pages.log import log_pages
from rlcondense.reporting.pages.methods import method_pages
from rlcondense.reporting.pages.records import record_pages
from rlcondense.reporting.pages.render import environment, resource
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.reporting.pages.suites import suite_pages
from rlcondense.reporting.pages.tasks import task_pages
from rlcondense.reporting.pages.views import view_pages
from rlcondense.reporting.pictures import MOST_BYTES

MARKER = ".rlcondense-site"


def check_site(out: Path) -> None:
    """Check that a site can be built in a folder, before the work begins.

    Raises:
        MissingExtra: Jinja is not installed.
        RLCondenseError: the folder holds files other than an earlier site.
    """
    environment()
    if out.exists() and not out.is_dir():
        raise RLCondenseError(f"{out} is no folder")
    if out.is_dir() and not (out / MARKER).is_file() and any(out.iterdir()):
        raise RLCondenseError(
            f"{out} holds other things than a site ({MARKER} is missing); choose another folder"
        )


def build_site(board: Board, leaderboard: Path, out: Path, *, data: bool = False) -> list[Path]:
    """Build the site: the same records give the same bytes.

    Of the folder, only pages of an earlier site that this one lacks are removed.

    Args:
        board: what to show.
        leaderboard: its folder, with `results/` and perhaps `pictures/`.
        out: the folder to build in: a new or an empty one, or that of an earlier site.
        data: whether the site includes the records and tables, which add half of its size.

    Returns:
        The files that were written.

    Raises:
        MissingExtra: Jinja is not installed.
        RLCondenseError: the folder holds other files, or a record's name is no valid file name.
    """
    check_site(out)
    return _write(out, _pages(Site(board, leaderboard, data)))


def _write(out: Path, pages: Pages) -> list[Path]:
    """Write pages and remove those of an earlier build.

    The marker lists every file of the site and is written before them, so that an interrupted
    build is recognised.
    """
    marker, folders = out / MARKER, {out}
    names = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        earlier = _earlier(marker)
        with open_to_append(marker) as listed:
            for name, content in pages:
                names.append(name)
                listed.write(f"{name}\n".encode())
                path = out / name
                if path.parent not in folders:
                    refuse_links(out, path.parent)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    folders.add(path.parent)
                if not _holds(path, content):
                    replace_file(path, content)
        for name in sorted(set(earlier) - set(names)):
            _remove(out, name)
        replace_file(marker, "".join(f"{name}\n" for name in sorted(names)).encode())
    except OSError as error:
        raise RLCondenseError(f"cannot write {out}: {error}") from error
    return [*(out / name for name in names), marker]


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a plain file of one name holds this content: most pages stay as they were."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    alike = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return alike and status.st_size == len(content) and read_bounded(path) == content


def _earlier(marker: Path) -> list[str]:
    """Return the names of an earlier site's files."""
    if not marker.exists():
        return []
    try:
        return read_bounded(marker).decode(errors="replace").splitlines()
    except FileRefusal as error:
        raise RLCondenseError(f"{marker} {error}") from error


def _remove(out: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RLCondenseError(f"{out / MARKER} names {name!r}, which is no page of a site")
    refuse_links(out, (out / path).parent)
    (out / path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder still has other pages
        (out / path).parent.rmdir()


def _pages(site: Site) -> Pages:
    """Return every file of the site with its content."""
    yield "style.css", resource("style.css").encode()
    yield "site.js", resource("site.js").encode()
    yield "compare.js", resource("compare.js").encode()
    views = view_pages(site)
    paths = {page.view.title: page.path for page in views}
    yield from front_pages(site, views)
    yield from compare_pages(site)
    yield from log_pages(site)
    for suite in site.board.suites:
        yield from suite_pages(site, suite)
    for task in site.tasks:
        yield from task_pages(site, task, paths)
    for method in site.methods:
        yield from method_pages(site, method)
    for cell_id in site.board.records:
        yield from record_pages(site, cell_id)
    for picture in site.pictures.values():
        path = site.leaderboard / "pictures" / f"{picture.id}.png"
        yield f"pictures/{picture.id}.png", read_bounded(path, MOST_BYTES)
