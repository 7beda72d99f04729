"""The views of the first page: methods by tasks, curves over size, and what condensing costs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcondense.comparison.rows import UNMARKED, Row
from rlcondense.files import canonical_json
from rlcondense.records.cell import Cell
from rlcondense.records.record import MethodJson
from rlcondense.references import BY_ID, MARGINAL, RANDOM_SUBSET, WHOLE
from rlcondense.reporting.pages.drawn import Picture
from rlcondense.reporting.pages.legend import LegendEntry, legend_entries
from rlcondense.reporting.pages.lines import tracks_of
from rlcondense.reporting.pages.shared import LEAST_SECONDS, Site
from rlcondense.reporting.standings import Standing, View
from rlcondense.statistics.intervals import Interval
from rlcondense.types import SPLIT_NAMES, SPLITS, Split

if TYPE_CHECKING:
    from markupsafe import Markup

    from rlcondense.reporting.charts import Point

MOST_VIEWS = 60  # with a page
SHADES = 5  # of scores from 0 to 1; one more for scores below 0
_Key = tuple[str, ...]  # a method's id and its settings in each column
Legend = Mapping[_Key, LegendEntry]


@dataclass(frozen=True)
class Answers:
    """What the records of a view say to three questions, on held-out levels.

    Attributes:
        only: the method that stands alone in the view; None if there are several.
        judged: the methods with a rank, best first, without the random subset.
        some_judged: whether a method is judged on a task, be it without a rank.
        leaders: those of the best rank.
        beaten: how many judged methods the first of them is shown to be above.
        matched: the random subset if it has a rank.
        rivals: the methods that are judged against the random subset on a task.
        above: those of them that are above it wherever that is judged.
        most: the one that is above it on most tasks, on how many, and on how many that is judged;
            None if none is anywhere.
        everywhere: whether that is judged on every task for each of these.
        whole: the best students of all the data, if there are any.
        first: the method with the highest mean, judged or not; None without any mean.
        doubt: why `first` is not judged, where the reason is the same on all tasks.
    """

    only: Standing | None
    judged: tuple[Standing, ...]
    some_judged: bool
    leaders: tuple[Standing, ...]
    beaten: int
    matched: Standing | None
    rivals: tuple[Standing, ...]
    above: tuple[Standing, ...]
    most: tuple[Standing, int, int] | None
    everywhere: bool
    whole: Standing | None
    first: Standing | None
    doubt: str

    @property
    def matched_place(self) -> str:
        """Whether the random subset ranks `before` the leaders, `beside` or `after` them."""
        if self.matched is None or not self.leaders:
            return ""
        own, best = self.matched.rank or 0, self.leaders[0].rank or 0
        return "before" if own < best else "beside" if own == best else "after"


@dataclass(frozen=True)
class Cost:
    """What a method's sets cost, summed over the tasks of a view.

    Attributes:
        standing: the method.
        bytes: kept.
        condense: seconds.
        train: seconds of one student.
        whole: seconds of one student of all the data; None if they are unknown, or of another
            device.
        beside: the row of those.
    """

    standing: Standing
    bytes: float | None
    condense: float | None
    train: float | None
    whole: float | None
    beside: str

    @property
    def pays(self) -> bool | None:
        """Whether a student of the set takes less time than one of all the data."""
        if self.condense is None or self.train is None or self.whole is None:
            return None
        return self.train < self.whole

    @property
    def students(self) -> float | None:
        """How many students must be trained until condensing has paid."""
        if not self.pays:
            return None
        assert self.condense is not None
        assert self.train is not None
        assert self.whole is not None
        return self.condense / (self.whole - self.train)


@dataclass(frozen=True)
class ViewPage:
    """A view with what its page shows beside the matrix.

    Attributes:
        view: the view.
        path: of its page.
        answers: to three questions.
        strip: the pictures of the winner and of the random subset on one task.
    """

    view: View
    path: str
    answers: Answers
    strip: tuple[tuple[Standing, Picture], ...]

    def shade(self, score: Interval | None) -> str:
        """Return the class of a score's colour; empty without a common scale."""
        if score is None or self.view.scale != "recovery":
            return ""
        if score.estimate < 0:
            return "rec-below"
        return f"rec{min(SHADES - 1, int(SHADES * score.estimate))}"

    def tracks(self, standing: Standing) -> str:
        """Return the tracks of a method, by the settings of its rows."""
        return " ".join(dict.fromkeys(name for row in standing.done for name in tracks_of(row)))


def view_pages(site: Site) -> list[ViewPage]:
    """Return the pages of the views that tell the most, that of the first page first."""
    paths: dict[str, str] = {}
    pages = []
    for view in site.views[:MOST_VIEWS]:
        path = _path(view.title, paths.values())
        paths[view.title] = path
        pages.append(ViewPage(view, path, _answers(view), _strip(site, view)))
    return pages


def _path(title: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^a-z0-9.=]+", "-", title.lower()).strip("-.")[:80]
    if f"views/{name}.html" in taken or not name:
        name += f"-{hashlib.sha256(title.encode()).hexdigest()[:8]}"
    return f"views/{name}.html"


def _answers(view: View) -> Answers:
    standings = view.standings["heldout"]
    methods = [s for s in standings if s.id not in UNMARKED]
    judged = tuple(s for s in methods if s.rank is not None)
    rivals = [s for s in methods if s.above(RANDOM_SUBSET)[1]]
    above = [s for s in rivals if len(set(s.above(RANDOM_SUBSET))) == 1]
    means = [s for s in (*methods, *standings) if s.mean]
    wholes = [s for s in view.references["heldout"] if s.id in WHOLE and s.mean]
    best = min((s.rank for s in judged if s.rank is not None), default=None)
    leaders = tuple(s for s in judged if s.rank == best)
    counts = [(s, *s.above(RANDOM_SUBSET)) for s in rivals]
    most = max(counts, key=lambda count: count[1], default=None)
    first = means[0] if means else None
    reasons = {row.unjudged for row in first.done} if first else set()
    return Answers(
        only=standings[0] if len(standings) == 1 else None,
        judged=judged,
        some_judged=any(not row.unjudged for s in methods for row in s.done),
        leaders=leaders,
        beaten=sum(s.name in leaders[0].beats for s in judged) if leaders else 0,
        matched=next((s for s in standings if s.id == RANDOM_SUBSET and s.rank), None),
        rivals=tuple(rivals),
        above=tuple(above),
        most=most if most and most[1] else None,
        everywhere=all(s.above(RANDOM_SUBSET)[1] == len(view.columns) for s in above),
        whole=max(wholes, key=_estimate, default=None),
        first=first,
        doubt=reasons.pop() if len(reasons) == 1 else "",
    )


def _estimate(standing: Standing) -> float:
    assert standing.mean is not None
    return standing.mean.estimate


def _strip(site: Site, view: View) -> tuple[tuple[Standing, Picture], ...]:
    """Return a picture of the best method that has one, and of the random subset on that task."""
    standings = view.standings["heldout"]
    matched = next((s for s in standings if s.id == RANDOM_SUBSET), None)
    for standing in standings:
        if standing.id in UNMARKED:
            continue
        for number, row in enumerate(standing.rows):
            own = _picture(site, row)
            if own is None:
                continue
            beside = None if matched is None else _picture(site, matched.rows[number])
            if matched is None or beside is None:
                return ((standing, own),)
            return ((standing, own), (matched, beside))
    return ()


def _picture(site: Site, row: Row | None) -> Picture | None:
    if row is None or not site.pictures:
        return None
    cells = [Cell.from_json(site.board.records[name]["cell"]) for name in row.cells]
    pictures = (site.pictures.get(cell.condensation_id) for cell in cells)
    return next((picture for picture in pictures if picture is not None), None)


def legend_of(own: View, views: Sequence[View]) -> Legend:
    """Return the names and styles in the charts of a view, methods of one id side by side."""
    wholes = [s for s in own.references["heldout"] if s.id in WHOLE]
    shown = [s for view in (own, *_other_sizes(own, views)) for s in view.standings["heldout"]]
    drawn = {_key(s): s for s in (*shown, *wholes) if s.mean is not None}
    ids = list(dict.fromkeys(standing.id for standing in drawn.values()))
    keys = sorted(drawn, key=lambda key: ids.index(key[0]))
    entries = legend_entries([_method(drawn[key]) for key in keys])
    return dict(zip(keys, entries, strict=True))


def _method(standing: Standing) -> MethodJson:
    """Return a method with its settings; one that differs between tasks has all its values."""
    values: dict[str, dict[str, Any]] = {}
    for row in standing.done:
        for name, value in row.method["config"].items():
            values.setdefault(name, {}).setdefault(canonical_json(value), value)
    config = {
        name: next(iter(of.values())) if len(of) == 1 else " / ".join(of)
        for name, of in values.items()
    }
    return {"id": standing.id, "config": config}


def size_curve(page: ViewPage, views: Sequence[View], legend: Legend) -> Markup | None:
    """Draw the mean over tasks of each method over the number of transitions kept."""
    from rlcondense.reporting.charts import Series, plot

    own = page.view
    points: dict[_Key, list[Point]] = {}
    for view in filter(lambda view: view.budget.isdigit(), _other_sizes(own, views)):
        for standing in view.standings["heldout"]:
            if standing.mean is not None:
                key = _key(standing)
                point = _point(own, legend[key].name, standing.mean, int(view.budget))
                points.setdefault(key, []).append(point)
    if len({point.x for of in points.values() for point in of}) < 2:
        return None
    lines = [
        Series(legend[key].name, legend[key].style, tuple(sorted(of, key=lambda point: point.x)))
        for key, of in sorted(points.items(), key=lambda item: (legend[item[0]].name, item[0]))
    ]
    return plot(lines, _levels(own), "transitions kept", _axis(own), f"by size: {own.title}")


def _key(standing: Standing) -> _Key:
    """Return what a method is in every view: its id and settings; names are those of one view."""
    return standing.id, *(canonical_json(row.method["config"]) for row in standing.done)


def _other_sizes(own: View, views: Sequence[View]) -> list[View]:
    """Return the views that differ from one in nothing but the size, and itself."""
    tasks = [(column.task, column.dataset) for column in own.columns]
    return [
        view
        for view in views
        if (view.kind, view.learner, view.labels, view.scale)
        == (own.kind, own.learner, own.labels, own.scale)
        and [(column.task, column.dataset) for column in view.columns] == tasks
        and (view.budget.isdigit() or view is own)
    ]


def bytes_plot(page: ViewPage, views: Sequence[View], legend: Legend) -> Markup | None:
    """Draw the mean over tasks of each method, and of all the data, over the bytes kept a task."""
    own = page.view
    wholes = [s for s in own.references["heldout"] if s.id in WHOLE]
    standings = [s for view in _other_sizes(own, views) for s in view.standings["heldout"]]
    return _pareto(own, [*standings, *wholes], legend, "bytes", "bytes kept a task")


def seconds_plot(page: ViewPage, legend: Legend) -> Markup | None:
    """Draw the mean over tasks of each method over the seconds to condense a task."""
    standings = page.view.standings["heldout"]
    label = "seconds to condense a task"
    return _pareto(page.view, standings, legend, "condense_seconds", label)


def _pareto(
    view: View, standings: Sequence[Standing], legend: Legend, what: str, label: str
) -> Markup | None:
    """Draw standings over a cost, a key of `Row.cost`, and join those that none cheaper reaches."""
    from rlcondense.reporting.charts import Series, plot

    points: dict[_Key, list[Point]] = {}
    for standing in standings:
        cost = standing.spent(what)
        if standing.mean is not None and cost is not None:
            x = max(cost / len(view.columns), LEAST_SECONDS)
            key = _key(standing)
            point = _point(view, legend[key].name, standing.mean, x)
            points.setdefault(key, []).append(point)
    ends = sorted((p.x, -p.y.estimate) for of in points.values() for p in of)
    if len({x for x, _ in ends}) < 2:
        return None
    front: list[tuple[float, float]] = []
    for x, lower in ends:
        if not front or -lower > front[-1][1]:
            front.append((x, -lower))
    series = [
        Series(legend[key].name, legend[key].style, tuple(of), joined=False)
        for key, of in sorted(points.items(), key=lambda item: (legend[item[0]].name, item[0]))
    ]
    title = f"{_axis(view)} over {label}: {view.title}"
    return plot(series, _levels(view), label, _axis(view), title, front=front)


def _axis(view: View) -> str:
    return "recovery, %, held-out" if view.scale == "recovery" else "held-out return"


def _point(view: View, name: str, mean: Interval, x: float) -> Point:
    from rlcondense.reporting.charts import Point

    text = f"{name}: {view.form.format(mean.estimate)} at {x:,.4g}"
    return Point(x, _drawn(view, mean), text)


def _drawn(view: View, mean: Interval) -> Interval:
    return mean.scaled(100.0) if view.scale == "recovery" else mean


def _levels(view: View) -> dict[str, float]:
    """Return the means of all the data and of the marginal policy, for horizontal lines."""
    return {
        BY_ID[s.id].short: _drawn(view, s.mean).estimate
        for s in view.references["heldout"]
        if s.mean is not None and s.id in (*WHOLE, MARGINAL)
    }


def costs_of(view: View) -> list[Cost]:
    """Return what each method of a view cost, in the order of the ranks."""
    wholes = [s for s in view.references["heldout"] if s.id in WHOLE]
    known = [s for s in wholes if _train(s) is not None and len(s.done) == len(view.columns)]
    whole = known[0] if known else None
    return [
        Cost(
            standing,
            _whole_cost(view, standing, standing.spent("bytes")),
            _whole_cost(view, standing, standing.spent("condense_seconds")),
            _whole_cost(view, standing, _train(standing)),
            _train(whole) if whole and _comparable(standing, whole) else None,
            whole.id if whole else "",
        )
        for standing in view.standings["heldout"]
    ]


def _whole_cost(view: View, standing: Standing, cost: float | None) -> float | None:
    """Return a cost of a method that has a row on each task; None of others, a sum over fewer."""
    return cost if len(standing.done) == len(view.columns) else None


def _comparable(standing: Standing, whole: Standing) -> bool:
    """Return whether a method has all tasks, on the same device."""
    return len(standing.done) == len(whole.done) and _device(standing) == _device(whole)


def _train(standing: Standing) -> float | None:
    """Return the seconds of one student, summed over columns."""
    seconds = [(row.cost or {}).get("train_seconds") for row in standing.done]
    if not seconds or None in seconds:
        return None
    pairs = zip(seconds, standing.done, strict=True)
    return float(sum(spent / row.learner_seeds for spent, row in pairs if spent))


def _device(standing: Standing) -> str:
    return " ".join(sorted({str((row.cost or {}).get("device")) for row in standing.done}))


def split_names(view: View) -> list[tuple[Split, str]]:
    """Return the splits of a view with the names of their tables."""
    return [(split, f"{view.title}, {SPLIT_NAMES[split]}") for split in reversed(SPLITS)]
