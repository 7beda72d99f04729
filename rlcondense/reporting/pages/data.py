"""What machines read beside the pages: all rows as JSON with a schema, and a plain summary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict

from rlcondense.comparison.columns import bracketed
from rlcondense.files import json_lines
from rlcondense.json_schema import Json, schema_of
from rlcondense.records.cell import budget_text
from rlcondense.reporting.pages.lines import Line
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.reporting.standings import Standing, View
from rlcondense.statistics.intervals import Interval

VERSION = 1
MOST_TOLD = 12  # views in the plain summary
MOST_LISTED = 10  # methods of each


class Mean(TypedDict):
    """An estimate with its 95% interval; the ends are null where they are unknown."""

    mean: float
    low: float | None
    high: float | None


class RowJson(TypedDict):
    """A method with a budget, over its condensation seeds."""

    task: str
    dataset: str
    learner: Annotated[str, "id; empty for policies that are not trained here"]
    learner_config: Annotated[str, "key of configs"]
    method: str
    method_config: Annotated[str, "key of configs"]
    budget: Annotated[str, "as asked for, such as 150, or 10% of episodes"]
    size: Annotated[int | None, "transitions kept"]
    labels: Annotated[str | None, "hard, soft, continuous or taught"]
    tracks: Annotated[list[str], "what the method was allowed"]
    condensation_seeds: int
    learner_seeds: int
    episodes: Annotated[int, "of each student on each split"]
    heldout: Mean | None
    seen: Mean | None
    recovery: Annotated[Mean | None, "(R - random policy) / (expert - random policy), held-out"]
    gain: Annotated[Mean | None, "over the random subset of the same size and labels, held-out"]
    against: Annotated[Mapping[str, str], "verdict by floor: above, level, below or unknown"]
    mark: Annotated[str, "! not above all floors, ? not judged"]
    unjudged: Annotated[str, "why it is not judged"]
    status: str
    records: Annotated[list[str], "ids, one for each condensation seed"]


class StandingJson(TypedDict):
    """A method of a view, on held-out levels."""

    method: str
    name: Annotated[str, "with the settings in which those of one id differ"]
    rank: Annotated[int | None, "one more than the number of methods shown to be better"]
    mean: Annotated[Mean | None, "over tasks, on the scale of the view"]
    records: list[str]


class ViewJson(TypedDict):
    """Comparable rows of one kind of tasks, learner, size and label regime."""

    title: str
    page: str
    tasks: list[str]
    scale: Annotated[str, "recovery, or return where a task has no known expert"]
    methods: Annotated[list[StandingJson], "best first"]


class BoardJson(TypedDict):
    """The rows and views of a leaderboard."""

    version: Annotated[int, "of this form"]
    records: Annotated[int, "number of records"]
    configs: Annotated[Mapping[str, Any], "settings by the keys that rows name"]
    rows: list[RowJson]
    views: list[ViewJson]


def site_schema() -> Json:
    """Return the JSON schema of the site's `leaderboard.json`."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A leaderboard's rows"}
    return {**head, **schema_of(BoardJson)}


def data_pages(site: Site, paths: Mapping[str, str]) -> Pages:
    """Return the files for machines.

    Args:
        site: the site.
        paths: the page of each view that has one, by its title.
    """
    yield "leaderboard.json", _lines(_board(site, paths))
    yield "leaderboard.schema.json", json_lines(site_schema()).encode()
    yield "llms.txt", "".join(_summary(site, paths)).encode()


def _board(site: Site, paths: Mapping[str, str]) -> BoardJson:
    configs: dict[str, Any] = {}
    rows = [_row(line, configs) for line in site.lines]
    views = [_view(view, paths[view.title]) for view in site.views if view.title in paths]
    return {
        "version": VERSION,
        "records": len(site.board.records),
        "configs": configs,
        "rows": rows,
        "views": views,
    }


def _lines(board: BoardJson) -> bytes:
    """Return JSON with a row, a view or a config on each line."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)

    configs = ",\n".join(f"{json.dumps(k)}:{compact(v)}" for k, v in board["configs"].items())
    parts = {name: ",\n".join(map(compact, board[name])) for name in ("rows", "views")}
    head = (
        f'{{"version":{board["version"]},"records":{board["records"]},\n"configs":{{\n{configs}}}'
    )
    return f'{head},\n"rows":[\n{parts["rows"]}],\n"views":[\n{parts["views"]}]}}\n'.encode()


def _row(line: Line, configs: dict[str, Any]) -> RowJson:
    row, group = line.row, line.group
    trained = bool(line.learner)
    return {
        "task": group.task,
        "dataset": group.dataset,
        "learner": group.learner["id"] if trained else "",
        "learner_config": _config(group.learner["config"] if trained else {}, configs),
        "method": row.id,
        "method_config": _config(row.method["config"], configs),
        "budget": budget_text(row.budget) if row.budget else "",
        "size": row.size,
        "labels": row.labels,
        "tracks": list(line.tracks),
        "condensation_seeds": row.condensation_seeds,
        "learner_seeds": row.learner_seeds,
        "episodes": row.episodes,
        "heldout": _interval(row.returns["heldout"]["mean"] if row.returns else None),
        "seen": _interval(row.returns["seen"]["mean"] if row.returns else None),
        "recovery": _interval(row.recovery),
        "gain": _interval(row.gain),
        "against": row.verdicts,
        "mark": row.mark,
        "unjudged": row.unjudged,
        "status": row.status,
        "records": [cell for _, cell in line.cells],
    }


def _config(config: Mapping[str, Any], configs: dict[str, Any]) -> str:
    key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    configs.setdefault(key, dict(config))
    return key


def _interval(interval: Interval | None) -> Mean | None:
    if interval is None:
        return None
    low, high = (_short(end) if interval.known else None for end in (interval.low, interval.high))
    return {"mean": _short(interval.estimate), "low": low, "high": high}


def _short(value: float) -> float:
    """Round to six digits: the last ones depend on the machine that computes them."""
    return float(f"{value:.6g}")


def _view(view: View, page: str) -> ViewJson:
    return {
        "title": view.title,
        "page": page,
        "tasks": [column.task for column in view.columns],
        "scale": view.scale,
        "methods": [
            {
                "method": standing.id,
                "name": standing.name,
                "rank": standing.rank,
                "mean": _interval(standing.mean),
                "records": standing.cells,
            }
            for standing in view.standings["heldout"]
        ],
    }


def _summary(site: Site, paths: Mapping[str, str]) -> Iterator[str]:
    """Return the summary, line by line."""
    yield "# rlcondense leaderboard\n\n"
    yield (
        "> Which small dataset trains the best policy? Methods condense recorded data of an expert "
        "to few transitions; students are trained on them with equal updates and evaluated on seen "
        "and held-out levels.\n\n"
    )
    yield f"{len(site.board.records)} records, {len(site.lines)} rows, {len(site.views)} views.\n\n"
    yield "- leaderboard.json: every row and view; leaderboard.schema.json: its schema\n"
    yield "- records/<id>.html: one record, with the command that computes it again\n"
    yield "- tasks.html, methods.html, suites.html, rows.html, log.html: lists\n\n"
    yield (
        "Recovery is 0% for the uniform random policy and 100% for the expert, on held-out levels, "
        "with a 95% interval. Methods of one rank are not shown to differ; `-` is not judged.\n"
    )
    for view in site.views[:MOST_TOLD]:
        tasks = ", ".join(column.task for column in view.columns)
        yield f"\n## {_plain(view.title)}\n\n{_plain(tasks)} ({paths.get(view.title, '')})\n\n"
        beside = [s for s in view.references["heldout"] if s.mean]
        for standing in (*view.standings["heldout"][:MOST_LISTED], *beside):
            yield _line(view, standing)


def _line(view: View, standing: Standing) -> str:
    rank = "-" if standing.rank is None else str(standing.rank)
    mean = standing.mean
    text = bracketed(mean, view.form) or "lacks a task"
    return f"- rank {rank}: {_plain(standing.name)}: {text}\n"


def _plain(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())
