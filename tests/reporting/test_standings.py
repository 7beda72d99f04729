"""Views of comparable rows: which rows stand beside each other, their order and their ties."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from rlcondense.comparison.rows import Group, Row
from rlcondense.records.record import MethodJson
from rlcondense.reporting.board import Board, build_board, read_results
from rlcondense.reporting.charts import STYLES, swatch
from rlcondense.reporting.pages.front import _over_sizes
from rlcondense.reporting.pages.legend import legend_entries
from rlcondense.reporting.pages.render import environment
from rlcondense.reporting.pages.shared import Site
from rlcondense.reporting.pages.views import (
    ViewPage,
    _answers,
    bytes_plot,
    costs_of,
    legend_of,
    size_curve,
)
from rlcondense.reporting.site import build_site
from rlcondense.reporting.standings import View, kind_of, views_of
from rlcondense.statistics.intervals import (
    Interval,
    difference_of,
    difference_over_tasks,
    student_means,
)
from rlcondense.types import SPLITS, Split
from tests.reporting.boards import COINRUN, RANDOM, Record, forge, shipped_leaderboard

TIED, BETTER = "herding", "k-means"


def add_method(folder: Path, method: str, more: float, tasks: int = 2) -> None:
    """Two sets of a method that return what the random subset does, and more."""
    for seed in (0, 1):
        for task in range(tasks):
            forge(folder, lambda r, s=seed, t=task: change(r, method, more, s, t), RANDOM)


def change(record: Record, method: str, more: float, seed: int, task: int) -> None:
    record["cell"]["method"] = {"id": method, "config": {"labels": "hard"}}
    record["cell"]["condensation_seed"] = seed
    if task:
        record["cell"]["task"], record["cell"]["dataset"] = COINRUN
    more += seed * {TIED: 0.05, BETTER: 0.1}.get(method, 0.0)  # equal differences have no spread
    for rows in record["returns"].values():
        rows[:] = [[value + more for value in row] for row in rows]


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shipped_leaderboard(tmp_path_factory.mktemp("view") / "leaderboard")
    for cell_id in ("8f8dfee8183560ff", "bd653a873b8436e2", "bed9560062eafc02"):
        forge(folder, lambda r: r["cell"].update(task=COINRUN[0], dataset=COINRUN[1]), cell_id)
    for path in (folder / "results").glob("*.json"):
        if json.loads(path.read_text())["cell"]["method"]["id"] == "random":
            path.unlink()
    add_method(folder, "random", 0.0)
    add_method(folder, TIED, 0.0)
    add_method(folder, BETTER, 3.0)
    add_method(folder, "sdr", 9.0, tasks=1)
    return folder


@pytest.fixture(scope="module")
def board(leaderboard: Path) -> Board:
    return build_board(read_results(leaderboard / "results"), ())


@pytest.fixture(scope="module")
def view(board: Board) -> View:
    return views_of(board.groups, board.records)[0]


def test_methods_that_are_not_shown_to_differ_share_a_rank(view: View) -> None:
    ranks = {s.id: s.rank for s in view.standings["heldout"]}
    assert ranks[BETTER] == 1
    assert ranks["random"] == ranks[TIED] == 2


def test_a_method_that_lacks_a_task_or_a_second_set_has_no_rank(view: View) -> None:
    by_id = {s.id: s for s in view.standings["heldout"]}
    assert (by_id["sdr"].mean, by_id["sdr"].rank) == (None, None)
    assert by_id["gradmatch"].rank is None
    assert view.standings["heldout"][0].id == BETTER


@pytest.mark.parametrize("split", SPLITS)
def test_a_mean_is_of_the_splits_own_returns_and_places_are_those_still_possible(
    split: Split, view: View, board: Board
) -> None:
    standings = view.standings[split]
    [better] = [s for s in standings if s.id == BETTER]
    ends = {s.id: s for s in view.references[split]}

    def mean(row: Row | None) -> float:
        assert row is not None
        return float(np.mean([board.records[cell]["returns"][split] for cell in row.cells]))

    shares = [
        (mean(row) - mean(low)) / (mean(high) - mean(low))
        for row, low, high in zip(
            better.rows, ends["random-policy"].rows, ends["expert"].rows, strict=True
        )
    ]
    assert better.mean is not None
    assert better.mean.estimate == pytest.approx(np.mean(shares))
    last = sum(s.mean is not None for s in standings)
    assert better.beats
    assert better.places == (1, last - len(better.beats))


def test_the_first_page_says_what_the_records_say(
    leaderboard: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.strips_of", lambda task: [])
    out = leaderboard.parent / "site"
    build_site(board, leaderboard, out)
    page = re.sub(r"<[^>]+>", "", (out / "index.html").read_text())
    for part in (
        f"Best: {BETTER}. On coinrun, starpilot, its 150 transitions recover",
        "more than the other judged method; the random subset (random) recovers less.",
        "Better than random rows: 1 of 2 methods judged against them returns more than the random "
        "subset of the same size and labels on every task: k-means",
        "What all the data teach the same learner is not measured",
    ):
        assert part in " ".join(page.split())


def test_the_first_page_counts_methods_and_no_reference_rows(
    leaderboard: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(row: Row) -> Row:
        """All references clear their floors, and no method but one."""
        clears = row.id in ("random", "full", BETTER)
        more = Interval(1.0, 0.1, 0.5, 1.5, 3) if clears else Interval(0.0, 0.1, -0.5, 0.5, 3)
        against = (replace(one, difference=more, judged=True) for one in row.against)
        return replace(row, against=tuple(against))

    groups = [replace(group, rows=list(map(marked, group.rows))) for group in board.groups]
    rows = [row for group in groups for row in group.rows if row.status == "done"]
    methods = [row for row in rows if not row.is_policy and row.id not in ("random", "full")]
    clearing = [row for row in methods if row.id == BETTER]
    assert any(row.id == "full" and not row.mark for row in rows)
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.strips_of", lambda task: [])
    out = leaderboard.parent / "counted"
    suites = build_board(read_results(leaderboard / "results")).suites
    build_site(replace(board, groups=groups, suites=suites), leaderboard, out)
    page = " ".join(re.sub(r"<[^>]+>", "", (out / "index.html").read_text()).split())
    assert f"{len(clearing)} of {len(methods)} rows of methods clear their floors" in page


def test_on_one_task_the_mean_is_the_score_and_ranks_are_by_differences_of_rows(
    board: Board,
) -> None:
    here = [group for group in board.groups if group.task != COINRUN[0]]
    (view,) = views_of(here, board.records)
    ranked = [s for s in view.standings["heldout"] if s.rank]
    assert len(ranked) > 2
    for standing in view.standings["heldout"]:
        assert standing.mean == standing.scores[0]
    returns = {s.name: student_means([board.records[c] for c in s.done[0].cells], "heldout")
               for s in ranked}  # fmt: skip
    for one in ranked:
        beaten = {
            other for other in returns
            if difference_of(returns[one.name], returns[other]).above_zero
        }  # fmt: skip
        assert one.beats == beaten


def test_an_answer_claims_no_more_than_is_judged(view: View) -> None:
    answers = _answers(view)
    assert (answers.beaten, answers.everywhere, answers.matched_place) == (1, True, "after")
    assert answers.most is not None
    assert (answers.most[0].id, *answers.most[1:]) == (BETTER, 2, 2)
    assert (answers.some_judged, answers.doubt) == (True, "")
    first, *others = view.standings["heldout"]
    assert first.rows[0] is not None
    unjudged = replace(first.rows[0], against=())
    worse = replace(first, rows=(unjudged, *first.rows[1:]), beats=frozenset({"random"}))
    answers = _answers(replace(view, standings={**view.standings, "heldout": (worse, *others)}))
    assert answers.above == (worse,)
    assert (answers.beaten, answers.everywhere) == (0, False)


def _said(page: ViewPage, site: Any) -> str:
    """The answers of a page, as a reader sees them."""
    macros: Any = environment().get_template("matrix.html").module
    text = re.sub(r"<[^>]+>", "", str(macros.answers(site, "", page)))
    return " ".join(text.split())


def test_answers_on_several_tasks_say_on_which_a_method_is_judged(view: View) -> None:
    methods = {s.id: "a" for s in view.standings["heldout"]} | {"full": "a", "full-converged": "a"}
    site = SimpleNamespace(methods=methods)
    first, *others = view.standings["heldout"]
    below = Interval(-1.0, 0.1, -1.5, -0.5, 3)
    rows = [
        replace(row, against=tuple(replace(one, difference=below) for one in row.against))
        for row in first.done[:1]
    ]
    uneven = replace(first, rows=(*rows, *first.rows[1:]))
    alone = replace(view, standings={**view.standings, "heldout": (uneven, *others)})
    judged = [s for s in alone.standings["heldout"] if s.rank and s.id != "random"]
    said = _said(ViewPage(alone, "", _answers(alone), ()), site)
    assert "No method is shown to be better than random rows on every task: of 2 methods" in said
    assert f"none returns more wherever that is judged; {BETTER} does on 1 of 2." in said
    for kept, text in (
        (judged[:1], f"The only method judged on every task: {judged[0].id}."),
        ([], "No method is judged on every one of coinrun, starpilot"),
    ):
        few = tuple(
            s if s in (*kept, others[-1]) else replace(s, rank=None) for s in (uneven, *others)
        )
        page = replace(alone, standings={**view.standings, "heldout": few})
        assert text in _said(ViewPage(page, "", _answers(page), ()), site)
    drawn_once = [
        replace(s, rank=None, rows=tuple(replace(r, condensation_seeds=1) for r in s.done))
        for s in (first, others[-1])
    ]
    page = replace(view, standings={**view.standings, "heldout": tuple(drawn_once)})
    said = _said(ViewPage(page, "", _answers(page), ()), site)
    assert "No method has been drawn twice and taught to two students on coinrun" in said
    assert f"is that of {BETTER} (one set: not judged)." in said
    small = replace(view, budget="1")
    assert "its 1 transition recovers" in _said(ViewPage(small, "", _answers(small), ()), site)
    twin = replace(first, name=f"{first.id} (width=8)")
    equal = tuple(replace(s, rank=1, beats=frozenset()) for s in (first, twin))
    page = replace(view, standings={**view.standings, "heldout": equal})
    said = _said(ViewPage(page, "", _answers(page), ()), site)
    assert f"nobody has shown a difference from another setting of {first.id}" in said


def test_who_is_first_by_random_rows_alone_is_not_called_best(view: View) -> None:
    by_id = {s.id: s for s in view.standings["heldout"]}
    site = SimpleNamespace(methods=dict.fromkeys(by_id, "a"))
    # The random rows are shown to be above the tied method, and the better method is not.
    random = replace(by_id["random"], rank=1, beats=frozenset({TIED}))
    first = replace(by_id[BETTER], rank=1, beats=frozenset())
    standings = first, random, replace(by_id[TIED], rank=2)
    page = replace(view, standings={**view.standings, "heldout": standings})
    said = _said(ViewPage(page, "", _answers(page), ()), site)
    assert said.startswith(f"First: {BETTER}.")
    assert "which is not shown to be more than the other judged method" in said
    assert "more than 0" not in said


def test_costs_are_of_methods_with_a_row_on_every_task(view: View) -> None:
    costs = {cost.standing.id: cost for cost in costs_of(view)}
    assert costs[BETTER].bytes is not None
    assert costs[BETTER].train is not None
    assert len(costs["sdr"].standing.done) < len(view.columns)
    assert (costs["sdr"].bytes, costs["sdr"].condense, costs["sdr"].train) == (None, None, None)


def test_a_budget_that_is_no_number_of_rows_has_its_methods_over_bytes(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.charts.plot", lambda series, *_, **__: series)
    own = replace(view, budget="10%")
    standings = tuple(
        replace(s, rows=tuple(replace(r, cost={"bytes": 1e6 * place}) for r in s.done))
        for place, s in enumerate((s for s in view.standings["heldout"] if s.mean), 1)
    )
    own = replace(own, standings={**view.standings, "heldout": standings})
    views = [own, replace(view, budget="15")]
    legend, page = legend_of(own, views), ViewPage(own, "", _answers(own), ())
    drawn = bytes_plot(page, views, legend)
    assert drawn is not None
    assert {s.name for s in drawn} >= {BETTER, TIED}  # type: ignore[attr-defined]
    assert size_curve(page, views, legend) is None  # one size


def test_the_random_subset_is_no_method_that_wins(view: View) -> None:
    by_id = {s.id: s for s in view.standings["heldout"]}
    random, tied = by_id["random"], by_id[TIED]
    assert by_id[BETTER].beats == {"random", TIED}
    first = replace(random, rank=1)
    for standings, place in (((tied, random), "beside"), ((first, tied), "before")):
        answers = _answers(replace(view, standings={**view.standings, "heldout": standings}))
        assert (answers.leaders, answers.judged, answers.first) == ((tied,), (tied,), tied)
        assert answers.matched_place == place


def test_one_method_alone_is_a_view_of_its_own_behind_the_others(
    board: Board, leaderboard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(group: Group, kept: str) -> Group:
        return replace(group, rows=[r for r in group.rows if r.is_policy or r.id == kept])

    groups = [without(group, "random") for group in board.groups]
    (alone,) = views_of(groups, board.records)
    assert _answers(alone).only == alone.standings["heldout"][0]
    more = [replace(g, learner={"id": "other", "config": {}}) for g in groups]
    assert views_of([*more, *board.groups], board.records)[-1].learner == "other"
    out = leaderboard.parent / "alone"
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.strips_of", lambda task: [])
    build_site(replace(board, groups=groups), leaderboard, out)
    page = re.sub(r"<[^>]+>", "", (out / "index.html").read_text())
    expected = "Which is best is not known yet: only random was measured on coinrun, starpilot"
    assert expected in " ".join(page.split())


def test_a_curve_joins_one_method_under_any_name(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.charts.plot", lambda series, *_: series)
    best, tied, other = [s for s in view.standings["heldout"] if s.mean][:3]
    rows = [replace(r, method={"id": r.id, "config": {"labels": "soft"}}) for r in tied.done]
    small = (replace(best, name="renamed"), replace(tied, rows=tuple(rows)), other)
    views = [view, replace(view, budget="15", standings={**view.standings, "heldout": small})]
    page = ViewPage(view, "", _answers(view), ())
    series = size_curve(page, views, legend_of(view, views))
    assert series is not None
    points = [(s.name, len(s.points)) for s in series]  # type: ignore[attr-defined]
    assert points.count((best.id, 2)) == points.count((other.id, 2)) == 1
    assert {(f"{tied.id} (labels={name})", 1) for name in ("hard", "soft")} <= {*points}


def test_a_first_page_of_one_size_shows_the_curves_of_another_view(view: View) -> None:
    other = replace(view, kind="Another")
    views = [view, other, replace(other, budget="15")]
    pages = [ViewPage(v, f"views/{n}.html", _answers(v), ()) for n, v in enumerate(views)]
    site = cast("Site", SimpleNamespace(views=views))
    found = _over_sizes(site, pages, pages[0])
    assert found is not None
    page, entries, curve = found
    assert page is pages[1]
    assert [entry.name for entry in entries] == [e.name for e in legend_of(other, views).values()]
    assert "by size: Another" in curve
    assert _over_sizes(cast("Site", SimpleNamespace(views=[view])), pages[:1], pages[0]) is None


def test_methods_of_one_id_have_one_colour_and_no_two_look_alike() -> None:
    usual = {"network": "mlp", "rate": 0.1, "steps": 30}
    variants = [usual, {**usual, "steps": 100, "rate": 0.2}, {**usual, "steps": 100, "rate": 0.3}]
    ids = [f"m{i}" for i in range(20)]
    methods: list[MethodJson] = [{"id": "m3", "config": config} for config in variants]
    methods += [{"id": name, "config": usual} for name in ids if name != "m3"]
    entries = legend_entries(methods)
    assert len({swatch(entry.style) for entry in entries}) == len(methods)
    assert len({entry.style % STYLES for entry in entries[:3]}) == 1
    assert len({entry.style % STYLES for entry in entries[2:10]}) == STYLES
    assert [entry.name for entry in entries[:4]] == [f"m3 (rate=0.{i})" for i in (1, 2, 3)] + ["m0"]
    assert entries[0].title == "m3 (rate=0.1, steps=30)"


def test_the_columns_are_tasks_of_one_kind(view: View) -> None:
    assert [column.name for column in view.columns] == ["coinrun", "starpilot"]
    assert (view.kind, view.budget, view.labels) == ("Procgen", "150", "hard")
    assert {s.id for s in view.references["heldout"]} >= {"marginal-policy", "random-policy"}


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("procgen/starpilot-plain-v0", ("Procgen, plain", "starpilot")),
        ("classic/mountain-car-v0", ("Classic control", "mountain-car")),
        ("lab/mine", ("lab", "mine")),
        ("mine", ("other", "mine")),
    ],
)
def test_a_task_has_a_kind(task: str, kind: tuple[str, str]) -> None:
    assert kind_of(task) == kind


def test_a_difference_over_tasks_is_paired_where_it_can_be() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 9, (1, 50))  # some levels are easier, for everybody
    a = [levels + rng.normal(1, 0.1, (4, 1, 50)) for _ in range(2)]
    b = [levels + rng.normal(0, 0.1, (4, 1, 50)) for _ in range(2)]
    assert difference_over_tasks(a, b).above_zero
    fewer = difference_over_tasks(a, [x[:3] for x in b])
    assert fewer.known
    assert fewer.estimate == pytest.approx(1, abs=0.1)
