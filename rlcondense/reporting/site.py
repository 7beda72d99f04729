"""The leaderboard as a folder of pages that need no server and no network."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.catalogue import Entry, entries
from rlcondense.comparison.columns import LEGEND, SIGNS, columns_of
from rlcondense.comparison.rows import (
    UNMARKED,
    Group,
    Row,
    explanations,
    finding_name,
    findings_of,
    names_of,
)
from rlcondense.comparison.tables import correlations_text
from rlcondense.errors import CorruptArtifact, MissingExtra, RLCondenseError
from rlcondense.files import (
    FileRefusal,
    open_to_append,
    read_bounded,
    read_strictly,
    refuse_links,
    replace_file,
    slug,
)
from rlcondense.records.cell import Cell, budget_text
from rlcondense.records.record import CellJson, Record
from rlcondense.references import BY_ID, FLOORS, POLICIES, WHOLE
from rlcondense.reporting.board import Aggregate, Board, PublishedRow, SuitePart, score_range
from rlcondense.reporting.formats import FORMATS
from rlcondense.statistics.intervals import Interval
from rlcondense.types import SPLITS, Split

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from rlcondense.reporting.charts import Point

Pages = Iterator[tuple[str, bytes]]
MARKER = ".rlcondense-site"
MOST_ROWS = 400  # on the first page; with more rows only the tasks' pages show them
MOST_PICTURE_BYTES = 2_000_000
DOWNLOADS = ("md", "tex", "csv")
SPLIT_NAMES = {"seen": "seen levels", "heldout": "held-out levels"}


def check_site(out: Path) -> None:
    """Check that a site can be built in a folder, before the work begins.

    Raises:
        MissingExtra: Jinja is not installed.
        RLCondenseError: the folder holds files other than an earlier site.
    """
    _environment()
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
    return _write(out, _Site(board, leaderboard, data).pages())


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
                replace_file(path, content)
        for name in sorted(set(earlier) - set(names)):
            _remove(out, name)
        replace_file(marker, "".join(f"{name}\n" for name in sorted(names)).encode())
    except OSError as error:
        raise RLCondenseError(f"cannot write {out}: {error}") from error
    return [*(out / name for name in names), marker]


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


def _environment() -> Environment:
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("jinja2", "site") from None
    from rlcondense.reporting import charts

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": _interval, "number": _number, "budget": budget_text,
        "budgets": _budgets, "plain": _plain, "minus_sign": _minus_sign,
        "settings": _settings, "without": _without, "finding": finding_name,
    }  # fmt: skip
    environment.globals |= {
        "paper_parts": paper_parts, "fact_table": fact_table, "swatch": charts.swatch,
        "splits": SPLIT_NAMES, "floors": {name: BY_ID[name] for name in FLOORS}, "signs": SIGNS,
        "legend": LEGEND, "figure_columns": columns_of("page"), "policies": POLICIES,
        "explanations": explanations,
    }  # fmt: skip
    return environment


@cache
def _resource(name: str) -> str:
    return (files("rlcondense.reporting") / "site" / name).read_text()


def _interval(value: Interval | None, form: str = "{:.2f}") -> Markup:
    """Format an estimate with its interval in small type."""
    from markupsafe import Markup

    if value is None:
        return Markup("")
    text = form.format(value.estimate)
    if value.known:
        text += f" <small>[{form.format(value.low)}, {form.format(value.high)}]</small>"
    return Markup(_minus(text))


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "" if value is None else _minus(form.format(value))


def _minus(text: str) -> str:
    """Replace the hyphens of negative numbers by minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text) if "-" in text else text  # noqa: RUF001


def _minus_sign(sign: str) -> str:
    return sign.replace("-", "−")  # noqa: RUF001


def _settings(name: str) -> str:
    """Return the text in brackets of a name such as `bc (updates=100)`."""
    return name.partition(" (")[2].removesuffix(")")


def _budgets(lines: Sequence[Line]) -> list[str]:
    """Return the budgets of rows, sizes in order and then percentages."""
    asked = [line.row.budget for line in lines if line.row.budget]
    sizes = {budget["size"] for budget in asked if "size" in budget}
    shares = {budget_text(budget) for budget in asked if "size" not in budget}
    return [*map(str, sorted(sizes)), *sorted(shares)]


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _is_told(name: str, record: Record) -> bool:
    """Return whether a part of a record's making is repeated in its environment."""
    return name.endswith(" version") or name in record.get("environment", {})


def fact_table(values: Mapping[str, Any], caption: str) -> Markup:
    """Format nested settings as a table of names and texts; empty without settings."""
    return _fact_table(json.dumps(values, sort_keys=True), caption)


@lru_cache(maxsize=1024)  # most records have the settings and versions of many others
def _fact_table(values: str, caption: str) -> Markup:
    from markupsafe import Markup, escape

    lines = [
        f'<tr><th scope="row">{escape(name)}<td>{escape(text)}\n'
        for name, text in facts(json.loads(values))
    ]
    if not lines:
        return Markup("")
    head = f'<table class="facts"><caption>{escape(caption)}</caption>\n'
    return Markup(f"{head}{''.join(lines)}</table>\n")


def facts(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into names and texts, one line each, by name."""
    out = []
    for key, part in sorted(value.items()):
        name = f"{prefix}{key}"
        if isinstance(part, Mapping):
            out += facts(part, f"{name}.")
        else:
            out.append((name, _plain(part)))
    return out


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(part) for part in value[:24])
        return f"{shown}, … ({len(value)})" if len(value) > 24 else shown
    return json.dumps(value, sort_keys=True)


def paper_parts(paper: str) -> list[tuple[str, str | None]]:
    """Split the reference to a paper into parts, each with the address that it links to, if any.

    Http addresses and arXiv numbers become links.
    """
    if re.fullmatch(r"https?://[^\s\"'<>\\]+", paper):
        return [(paper, paper)]
    parts = re.split(r"(\barXiv:\d{4}\.\d{4,5}(?:v\d+)?)(?!\d)", paper)
    return [
        (part, f"https://arxiv.org/abs/{part.removeprefix('arXiv:')}" if number % 2 else None)
        for number, part in enumerate(parts)
    ]


@dataclass(frozen=True)
class Line:
    """A row of the site's tables.

    Attributes:
        group: the row's group.
        row: the row.
        learner: its name, with the settings in which learners of one id differ; none of policies.
        access: `offline` or `online`; empty if unknown.
        bars: drawings of its interval, by split.
        cells: its condensation seeds and the ids of their records, if they have one.
        paper: the figures of a paper.
    """

    group: Group
    row: Row
    learner: str
    access: str
    bars: Mapping[Split, Markup]
    cells: tuple[tuple[int, str], ...]
    paper: PublishedRow | None = None

    @property
    def clears(self) -> bool:
        """True if it is above all floors that it should beat."""
        row = self.row
        return row.status == "done" and not row.mark and row.id not in POLICIES

    @property
    def detail(self) -> str:
        """The settings that distinguish it from methods of the same id."""
        return _settings(self.row.name)

    @property
    def learner_detail(self) -> str:
        """The settings that distinguish its learner from those of the same id."""
        return _settings(self.learner)

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """The verdict against each floor that it should beat."""
        return list(self.row.verdicts.items())

    @property
    def above(self) -> int:
        """The number of floors that it is above."""
        return sum(a.verdict == "above" for a in self.row.against)


@dataclass(frozen=True)
class Picture:
    """The picture of a condensation.

    Attributes:
        id: of the condensation.
        cell: one of the cells that use it.
        width: of the contact sheet in pixels.
        height: likewise.
        facts: `kind`, `rows`, `size`, `label_kind`, `amplified`.
        actions: its action distribution, drawn; None if unknown.
        record: id of a record.
    """

    id: str
    cell: CellJson
    width: int
    height: int
    facts: Mapping[str, Any]
    actions: Markup | None
    record: str

    @property
    def caption(self) -> str:
        """The caption of its lines of frames."""
        rows = self.facts.get("rows")
        square = isinstance(rows, list) and self.height * len(rows) == 3 * self.width
        if self.facts.get("kind") != "synthetic" or not square:
            return "Frames of the condensed set"
        more = self.facts.get("amplified")
        larger = f", {more} times larger than it is" if isinstance(more, int) and more > 1 else ""
        return f"Frames before, after, and the difference around grey{larger}"


class _Site:
    """The data that all pages share, computed once."""

    def __init__(self, board: Board, leaderboard: Path, data: bool) -> None:
        self.board, self.leaderboard, self.data = board, leaderboard, data
        self.environment = _environment()
        cells = [record["cell"] for record in board.records.values()]
        for cell_id in board.records:
            _check_cell_id(cell_id)
        groups = [*board.groups, *(group for suite in board.suites for group in suite.groups)]
        self.tasks = _file_names({c["task"] for c in cells} | {g.task for g in groups})
        self.methods = _file_names(
            {c["method"]["id"] for c in cells} | {row.id for g in groups for row in g.rows}
        )
        self.spans = _spans(groups)
        self.lines = self._lines(board.groups)
        self.siblings = {cell: line.cells for line in self.lines for _, cell in line.cells}
        self.pictures = _pictures(board.records, leaderboard / "pictures")

    def pages(self) -> Pages:
        """Return every file of the site with its content."""
        yield "style.css", _resource("style.css").encode()
        yield "site.js", _resource("site.js").encode()
        yield from self._index()
        for suite in self.board.suites:
            yield from self._suite(suite)
        for task in self.tasks:
            yield from self._task(task)
        for method in self.methods:
            yield from self._method(method)
        for cell_id in self.board.records:
            yield from self._record(cell_id)
        for picture in self.pictures.values():
            path = self.leaderboard / "pictures" / f"{picture.id}.png"
            yield f"pictures/{picture.id}.png", read_bounded(path, MOST_PICTURE_BYTES)

    def _page(self, template: str, path: str, **values: Any) -> tuple[str, bytes]:
        from jinja2 import TemplateError

        root = "../" * path.count("/")
        common = {"site": self, "board": self.board, "root": root}
        try:
            text = self.environment.get_template(template).render(**common, **values)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CorruptArtifact(
                f"cannot write {path} of what its records say: {error}"
            ) from error
        return path, text.encode()

    def _lines(self, groups: Sequence[Group], suite: SuitePart | None = None) -> list[Line]:
        """Return the rows of groups; policies are the same for all learners, and appear once."""
        from rlcondense.reporting.charts import interval_bar

        names = _learner_names(groups)
        out: dict[Any, Line] = {}
        for number, (group, name) in enumerate(zip(groups, names, strict=True)):
            marks = {split: _policy_returns(group, split) for split in SPLITS}
            for place, row in enumerate(group.rows):
                bars = {}
                if row.returns is not None:
                    filled = not row.mark
                    bars = {
                        split: interval_bar(
                            row.returns[split]["mean"], marks[split], self.spans[group.task], filled
                        )
                        for split in SPLITS
                    }
                line = Line(
                    group=group,
                    row=row,
                    learner="" if row.is_policy else name,
                    access="" if row.id in POLICIES else _access(row.id),
                    bars=bars,
                    cells=self._cells(row),
                    paper=suite.published_of(group, row) if suite else None,
                )
                out.setdefault((row.cells if row.is_policy else (number, place)), line)
        return list(out.values())

    def _cells(self, row: Row) -> tuple[tuple[int, str], ...]:
        records = self.board.records
        return tuple(
            (int(records[cell]["cell"]["condensation_seed"]), cell)
            for cell in row.cells
            if cell in records
        )

    def _index(self) -> Pages:
        few = len(self.lines) <= MOST_ROWS
        tasks = {task: [ln for ln in self.lines if ln.group.task == task] for task in self.tasks}
        yield self._page(
            "index.html",
            "index.html",
            lines=self.lines if few else None,
            tasks=tasks,
            headlines=[_headline(suite) for suite in self.board.suites],
            clearing=sum(line.clears for line in self.lines),
            trained=sum(_is_entry(line.row) for line in self.lines),
            summaries={method: self.summary(method) for method in self.methods},
        )

    def summary(self, method: str) -> str:
        """Return the one-line summary of a method."""
        entry = entries("methods").get(method)
        return entry.summary if entry else BY_ID[method].summary if method in BY_ID else ""

    def _suite(self, suite: SuitePart) -> Pages:
        name = slug(suite.name)
        named = list(zip(suite.groups, _learner_names(suite.groups), strict=True))
        yield self._page(
            "suite.html",
            f"suites/{name}.html",
            suite=suite,
            tables=[
                (group, title, self._lines([group], suite)) for group, title in named if group.begun
            ],
            absent=[(group, title) for group, title in named if not group.begun],
            aggregates=_named(suite.aggregates),
            downloads=[f"{name}.{ending}" for ending in DOWNLOADS if self.data],
        )
        for ending in DOWNLOADS if self.data else ():
            yield f"suites/{name}.{ending}", FORMATS[ending](suite).encode()

    def _task(self, task: str) -> Pages:
        groups = [group for group in self.board.groups if group.task == task]
        styles = _styles(groups)
        span = score_range(task)
        yield self._page(
            "task.html",
            f"tasks/{self.tasks[task]}.html",
            task=task,
            entry=entries("tasks").get(task),
            span=span,
            datasets=_datasets(task, self.board.records),
            experts=_experts(task),
            lines=self._lines(groups),
            figures=[
                (group, title, *_figures(group, styles))
                for group, title in zip(groups, _learner_names(groups), strict=True)
            ],
            styles=styles,
            matrices=_matrices(groups),
        )

    def _method(self, method: str) -> Pages:
        records = {
            cell_id: record
            for cell_id, record in self.board.records.items()
            if record["cell"]["method"]["id"] == method
        }
        lines = [line for line in self.lines if line.row.id == method]
        configs = {
            json.dumps(r["cell"]["method"]["config"], sort_keys=True): r["cell"]["method"]["config"]
            for r in records.values()
        }
        yield self._page(
            "method.html",
            f"methods/{self.methods[method]}.html",
            method=method,
            summary=self.summary(method),
            entry=entries("methods").get(method),
            access="" if method in POLICIES else _access(method),
            plugins=_plugins(records.values()),
            configs=list(configs.values()),
            versions=_versions(records.values()),
            lines=lines,
            records=len(records),
            correlations=_correlations(records.values()),
            pictures=[p for p in self.pictures.values() if p.cell["method"]["id"] == method],
        )

    def _record(self, cell_id: str) -> Pages:
        from rlcondense.reporting.charts import histogram

        record = self.board.records[cell_id]
        cell = Cell.from_json(record["cell"])
        of = SPLITS if record["status"] == "done" else ()
        returns = {split: np.asarray(record["returns"][split]) for split in of}
        yield self._page(
            "record.html",
            f"records/{cell_id}.html",
            id=cell_id,
            record=record,
            cell=cell,
            findings=findings_of([record]),
            said=[name for name in record.get("key", {}) if _is_told(name, record)],
            means={split: rows.mean(1) for split, rows in returns.items()},
            histogram=histogram(returns) if returns else None,
            siblings=self.siblings.get(cell_id, ()),
            picture=self.pictures.get(cell.condensation_id) if self.pictures else None,
        )
        if self.data:
            raw = read_bounded(self.leaderboard / "results" / f"{cell_id}.json")
            yield f"records/{cell_id}.json.gz", gzip.compress(raw, 4, mtime=0)


def _check_cell_id(cell_id: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{16}", cell_id):
        raise RLCondenseError(f"{cell_id!r} is no cell id: sixteen hexadecimal digits")


def _file_names(ids: Iterable[str]) -> dict[str, str]:
    """Return the name of each id's page, made unique."""
    names: dict[str, str] = {}
    for identifier in sorted(ids):
        name = slug(identifier)
        if name.lower() in (taken.lower() for taken in names.values()):
            name += f".{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"
        names[identifier] = name
    return names


def _learner_names(groups: Sequence[Group]) -> list[str]:
    """Return each group's learner, with the settings in which those of one id on a task differ."""
    names: dict[int, str] = {}
    for task in dict.fromkeys(group.task for group in groups):
        places = [i for i, group in enumerate(groups) if group.task == task]
        labels = names_of([groups[i].learner for i in places])
        names |= dict(zip(places, labels, strict=True))
    return [names[i] for i in range(len(groups))]


@cache
def _access(method: str) -> str:
    """Return a method's access to the environment; empty if it is not installed here."""
    entry = entries("methods").get(method)
    if entry is None:
        return ""
    try:
        return str(entry.load().access)
    except (AttributeError, RLCondenseError):
        return ""


def _policy_returns(group: Group, split: str) -> dict[str, float]:
    """Return the mean returns of a group's reference policies."""
    rows = {name: group.find(name) for name in POLICIES}
    return {
        name: row.returns[split]["mean"].estimate
        for name, row in rows.items()
        if row is not None and row.returns is not None
    }


def _spans(groups: Sequence[Group]) -> dict[str, tuple[float, float]]:
    """Return the range of each task's bars, the same for all its rows."""
    from rlcondense.reporting.charts import shown_range

    intervals: dict[str, list[Interval]] = {}
    for group in groups:
        intervals.setdefault(group.task, [])
        for row in group.rows:
            if row.returns is not None:
                intervals[group.task] += [row.returns[split]["mean"] for split in SPLITS]
    return {
        task: shown_range(values, room=0.12) if values else (0, 1)
        for task, values in intervals.items()
    }


def _is_entry(row: Row) -> bool:
    """Return whether a row belongs to a method under test, not to a reference."""
    return row.status == "done" and not row.is_policy and row.id not in UNMARKED


@dataclass(frozen=True)
class Headline:
    """The summary of a suite.

    Attributes:
        suite: the part of the suite.
        name: of its page.
        clearing: how many rows of methods are above all floors that they should beat.
        entries: the number of rows of methods.
        best: the rows over tasks with the highest normalised means.
    """

    suite: SuitePart
    name: str
    clearing: int
    entries: int
    best: tuple[Aggregate, ...]


def _headline(suite: SuitePart) -> Headline:
    rows = [row for group in suite.groups for row in group.rows if _is_entry(row)]
    scored = [
        (row.normalised["mean"].estimate, row)
        for row in suite.aggregates
        if row.normalised and row.learner and row.method["id"] not in UNMARKED
        and len(row.tasks) == row.of
    ]  # fmt: skip
    scored.sort(key=lambda pair: -pair[0])
    best = tuple(row for _, row in scored[:3])
    clearing = sum(not row.mark for row in rows)
    return Headline(suite, slug(suite.name), clearing, len(rows), best)


def _named(aggregates: Sequence[Aggregate]) -> list[tuple[Aggregate, str]]:
    """Return rows over tasks with their learners' names."""
    names = iter(names_of([row.learner for row in aggregates if row.learner]))
    return [(row, next(names) if row.learner else "") for row in aggregates]


def _styles(groups: Sequence[Group]) -> dict[str, int]:
    """Return the number of the marker for each row's name on a task."""
    names = dict.fromkeys(r.name for g in groups for r in g.rows if not r.is_policy)
    return {name: number for number, name in enumerate(sorted(names))}


def _figures(group: Group, styles: Mapping[str, int]) -> tuple[Markup | None, Markup | None]:
    """Plot the held-out return over size, and over seconds."""
    from rlcondense.reporting.charts import Series, plot

    done = [row for row in group.rows if row.returns is not None and not row.is_policy]
    returns = _policy_returns(group, "heldout")
    references = {BY_ID[name].short: value for name, value in returns.items()}
    for name in WHOLE:
        full = group.find(name)
        if full is not None and full.returns is not None:
            references[name] = full.returns["heldout"]["mean"].estimate
    sizes: dict[str, list[Point]] = {}
    seconds: dict[str, list[Point]] = {}
    for row in done:
        if row.size and row.id not in WHOLE:
            sizes.setdefault(row.name, []).append(_point(row, row.size))
        spent = [(row.cost or {}).get(f"{phase}_seconds") or 0.0 for phase in ("condense", "train")]
        if sum(spent) > 0:
            seconds.setdefault(row.name, []).append(_point(row, sum(spent)))
    place = f"{group.task}, {group.learner['id']}"
    curve = cost = None
    if sizes:
        lines = [Series(name, styles[name], tuple(points)) for name, points in sizes.items()]
        curve = plot(
            lines, references, "transitions kept", "held-out return",
            f"held-out return over the size of the dataset: {place}",
        )  # fmt: skip
    if seconds:
        dots = [
            Series(name, styles[name], tuple(points), joined=False)
            for name, points in seconds.items()
        ]
        cost = plot(
            dots, references, "seconds to condense and to train", "held-out return",
            f"held-out return over what it cost: {place}",
        )  # fmt: skip
    return curve, cost


def _point(row: Row, x: float) -> Point:
    from rlcondense.reporting.charts import Point

    assert row.returns is not None
    y = row.returns["heldout"]["mean"]
    return Point(x, y, f"{row.name}, {row.size} transitions: {y.estimate:.2f}")


@dataclass(frozen=True)
class Matrix:
    """A matrix of methods and learners: how well each condensed set serves each learner.

    Attributes:
        dataset: id.
        learners: names, one a column.
        rows: for each method and budget its row in each column, if it is done.
        shades: the level of each of those within the matrix, 0 to 4.
    """

    dataset: str
    learners: tuple[str, ...]
    rows: tuple[tuple[Row | None, ...], ...]
    shades: tuple[tuple[int, ...], ...]


def _matrices(groups: Sequence[Group]) -> list[Matrix]:
    """Return a matrix for each dataset and protocol with several learners."""
    places: dict[str, list[Group]] = {}
    for group in groups:
        key = [group.dataset, group.evaluation, group.learner_seeds]
        places.setdefault(json.dumps(key, sort_keys=True), []).append(group)
    matrices = [_matrix(beside) for beside in places.values() if len(beside) > 1]
    return [matrix for matrix in matrices if matrix is not None]


def _matrix(groups: Sequence[Group]) -> Matrix | None:
    by_row: dict[str, dict[int, Row]] = {}
    for column, group in enumerate(groups):
        for row in group.rows:
            if row.returns is not None and not row.is_policy:
                key = json.dumps([row.method, row.budget], sort_keys=True)
                by_row.setdefault(key, {})[column] = row
    shared = [cells for cells in by_row.values() if len(cells) > 1]
    columns = [i for i in range(len(groups)) if any(i in cells for cells in shared)]
    if not shared:
        return None
    rows = tuple(tuple(cells.get(i) for i in columns) for cells in shared)
    values = [_heldout(row) for line in rows for row in line if row]
    low, high = min(values), max(values)
    names = _learner_names(groups)
    return Matrix(
        dataset=groups[0].dataset,
        learners=tuple(names[i] for i in columns),
        rows=rows,
        shades=tuple(
            tuple(
                min(4, int(5 * (_heldout(row) - low) / (high - low or 1.0))) if row else 0
                for row in line
            )
            for line in rows
        ),
    )


def _heldout(row: Row) -> float:
    assert row.returns is not None
    return row.returns["heldout"]["mean"].estimate


def _datasets(task: str, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Return the catalogue's datasets of a task, and the other datasets of its records."""
    known = [_dataset(e) for e in entries("datasets").values() if e.facts.get("task") == task]
    listed = {dataset["id"] for dataset in known}
    used = {
        record["cell"]["dataset"]: record.get("report", {}).get("dataset_sha256", "")
        for record in records.values()
        if record["cell"]["task"] == task and record["cell"]["dataset"] not in listed
    }
    return known + [{"id": id_, "sha256": used[id_], "summary": ""} for id_ in sorted(used)]


def _dataset(entry: Entry) -> dict[str, Any]:
    return {**entry.facts, "id": entry.id, "summary": entry.summary}


def _experts(task: str) -> list[dict[str, Any]]:
    """Return the cards of the task's own expert and of those that recorded its datasets."""
    from rlcondense.experts.shipped import shipped_cards

    wanted = {task}
    for entry in entries("datasets").values():
        if entry.facts.get("task") == task and "expert" in entry.facts:
            wanted.add(entry.facts["expert"])
    return [card for card in shipped_cards() if card["id"] in wanted]


def _plugins(records: Iterable[Record]) -> list[str]:
    """Return the distributions other than this package that made records."""
    plugins = (plugin for record in records for plugin in record["plugins"])
    return sorted({f"{p['distribution']} {p['version']}" for p in plugins})


def _correlations(records: Iterable[Record]) -> dict[str, str]:
    """Return by task how the scores of a method that scores episodes rank with other things."""
    reports = [(r["cell"]["task"], r.get("report", {}).get("score_correlation")) for r in records]
    return {task: correlations_text(correlation) for task, correlation in reports if correlation}


def _versions(records: Iterable[Record]) -> list[tuple[str, str, int]]:
    """Return version and commit of the code behind records, and the number of records of each."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        commit, git = "", record["environment"]["git"]
        if git is not None:
            commit = git["commit"][:12] + (" with changes" if git["dirty"] else "")
        key = (record["environment"]["rlcondense"], commit)
        counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in sorted(counts.items())]


def _pictures(records: Mapping[str, Record], folder: Path) -> dict[str, Picture]:
    """Return the existing pictures of the condensations behind records."""
    if not folder.is_dir():
        return {}
    pictures: dict[str, Picture] = {}
    for cell_id, record in records.items():
        if record["cell"]["learner"] is None:
            continue
        name = Cell.from_json(record["cell"]).condensation_id
        if name in pictures:
            continue
        shape = _png_shape(folder / f"{name}.png")
        if shape is not None:
            picture_facts = _picture_facts(folder / f"{name}.json")
            drawn = _action_bars(picture_facts)
            pictures[name] = Picture(name, record["cell"], *shape, picture_facts, drawn, cell_id)
    return pictures


def _png_shape(path: Path) -> tuple[int, int] | None:
    """Return width and height of a picture; None if it is not a picture, or too large."""
    try:
        head = read_bounded(path, MOST_PICTURE_BYTES)[:24]
    except FileRefusal:
        return None
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _picture_facts(path: Path) -> dict[str, Any]:
    """Read the facts about a picture; none if the file cannot be read."""
    try:
        values = read_strictly(path, MOST_PICTURE_BYTES)
    except FileRefusal:
        return {}
    return values if isinstance(values, dict) else {}


def _action_bars(said: Mapping[str, Any]) -> Markup | None:
    from rlcondense.reporting.charts import action_bars

    own, source = _shares(said.get("actions")), _shares(said.get("dataset_actions"))
    if own is None:
        return None
    return action_bars(own, source if source and len(source) == len(own) else None)


def _shares(values: Any) -> list[float] | None:
    """Return the values if they can be shares of a whole, else None."""
    if not isinstance(values, list) or not 0 < len(values) <= 200:
        return None
    numbers = [float(v) for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return numbers if len(numbers) == len(values) and all(0 <= v <= 1 for v in numbers) else None
