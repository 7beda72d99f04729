"""Selections of whole episodes by a score, and what reports say of the scores."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.comparison.tables import correlations_text
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.report import report_from
from rlcondense.datasets.scores import Scores, mean_ranks, rank_correlation
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.make import load_dataset, make_method
from rlcondense.methods.base import Problem
from rlcondense.methods.parts.artifacts import artifact
from rlcondense.methods.stratified import level_by_level
from rlcondense.records.schema import record_schema
from rlcondense.reporting.formats import csv_of
from rlcondense.running.scoring import score_dataset, score_lines
from tests.conftest import TINY
from tests.small_tasks import Gridworld, Reach, play

GRID, REACH = Gridworld(), Reach()


@pytest.fixture(scope="module")
def walks() -> TransitionDataset:
    return play(GRID, GRID.shortest, 300, noise=0.4)


@pytest.fixture(scope="module")
def reaches() -> TransitionDataset:
    return play(REACH, REACH.shortest, 200, noise=0.4)


def lengths(data: TransitionDataset) -> np.ndarray:
    return np.array([len(rows) for rows in data.episodes])


def kept(id_: str, data: TransitionDataset, episodes: int, **settings: object) -> np.ndarray:
    """The episodes that a method keeps, given a percentage of them."""
    budget = Budget(percent=100 * episodes / len(data.episodes), unit="episodes")
    task = REACH if data.actions.ndim > 1 else GRID
    made = make_method(id_, **settings).condense(data, task=task, budget=budget)
    return np.unique(made.column("episode_ids"))


@pytest.mark.parametrize(("id_", "sign"), [("shortest", 1), ("longest", -1)])
def test_shortest_and_longest_keep_by_length_and_of_equals_the_earlier(
    id_: str, sign: int, walks: TransitionDataset
) -> None:
    order = np.argsort(sign * lengths(walks), kind="stable")
    assert kept(id_, walks, 5).tolist() == sorted(order[:5])


def test_a_size_is_met_exactly_and_cuts_the_last_episode(walks: TransitionDataset) -> None:
    made = make_method("longest").condense(walks, task=GRID, budget=40)
    longest = np.argsort(-lengths(walks), kind="stable")
    assert len(made) == 40
    whole = walks.episodes[longest[0]]
    assert set(whole) <= set(made.source_indices)
    assert set(made.column("episode_ids")) <= set(longest[:3])


def with_noise(data: TransitionDataset, noisy: range) -> TransitionDataset:
    """Steady actions in all episodes, and random ones in some."""
    rng = np.random.default_rng(0)
    actions = np.full_like(data.actions, 0)
    for episode in noisy:
        rows = data.episodes[episode]
        drawn = rng.uniform(-0.5, 0.5, actions[rows.start : rows.stop].shape)
        wild = drawn if actions.ndim > 1 else rng.integers(0, 4, len(rows))
        actions[rows.start : rows.stop] = wild
    return replace(data, actions=actions, known_sha256="")


def test_smoothest_ranks_noisy_episodes_last(
    walks: TransitionDataset, reaches: TransitionDataset
) -> None:
    for data, task in ((walks, GRID), (reaches, REACH)):
        long = [i for i, length in enumerate(lengths(data)) if length > 4][:3]
        noisy = with_noise(data, long)  # type: ignore[arg-type]
        scores = make_method("smoothest").score(noisy, task=task).values
        assert sorted(np.argsort(scores)[:3]) == long
        assert (np.delete(scores, long) == 0).all()


def won_and_lost(walks: TransitionDataset) -> TransitionDataset:
    """Games of 10 at the end or nothing: even episodes are lost."""
    rewards = np.zeros(len(walks), np.float32)
    for i, rows in enumerate(walks.episodes):
        rewards[rows.stop - 1] = 10 * (i % 2)
    return replace(walks, rewards=rewards, known_sha256="")


def test_a_discount_tells_won_games_apart_and_keeps_the_earlier_of_lost_ones(
    walks: TransitionDataset,
) -> None:
    data = won_and_lost(walks)
    won = np.arange(1, len(data.episodes), 2)
    quick = won[np.argsort(lengths(data)[won], kind="stable")]
    assert kept("percentile", data, 4).tolist() == won[:4].tolist()
    assert kept("percentile", data, 4, gamma=0.99).tolist() == sorted(quick[:4])
    assert kept("top-return", data, 4, gamma=0.99).tolist() == sorted(quick[:4])
    assert kept("discounted-return", data, 4).tolist() == sorted(quick[:4])
    everyone = kept("percentile", data, len(won) + 2, gamma=0.99)
    assert set(everyone) == {*won, 0, 2}


def test_a_discount_is_new_and_names_no_earlier_cell_anew() -> None:
    for id_ in ("percentile", "top-return"):
        assert config_json(make_method(id_).config) == config_json(
            make_method(id_, gamma=1.0).config
        )
        assert "gamma" not in config_json(make_method(id_).config)
        with pytest.raises(BadConfig, match=r"gamma must lie in \(0, 1\], not 1.5"):
            make_method(id_, gamma=1.5)


def test_stratified_takes_a_level_again_only_after_all_others() -> None:
    levels = np.array([7, 7, 7, 1, 2, 7, 2])
    order = level_by_level(levels, np.random.default_rng(0))
    assert sorted(order) == list(range(7))
    assert sorted(levels[order[:3]]) == [1, 2, 7]
    assert sorted(levels[order[3:5]]) == [2, 7]


def test_stratified_keeps_at_most_one_episode_a_level(walks: TransitionDataset) -> None:
    starts = [rows.start for rows in walks.episodes]
    levels = walks.column("level_seeds")[starts]
    assert len(set(levels)) < len(levels)
    chosen = kept("stratified", walks, len(set(levels)))
    assert sorted(levels[chosen]) == sorted(set(levels))
    with pytest.raises(BadConfig, match="'stratified' needs a dataset with level_seeds"):
        make_method("stratified").condense(replace(walks, level_seeds=None), task=GRID, budget=5)


def test_reports_say_how_scores_rank_with_length_and_return(walks: TransitionDataset) -> None:
    reports = {
        id_: make_method(id_).condense(walks, task=GRID, budget=20).report
        for id_ in ("longest", "shortest", "top-return", "random")
    }
    correlations = {id_: r.score_correlation for id_, r in reports.items() if r is not None}
    assert correlations["longest"] is not None
    assert correlations["longest"]["length"] == 1
    assert correlations["shortest"] is not None
    assert correlations["shortest"]["length"] == -1
    assert correlations["top-return"] is not None
    assert correlations["top-return"]["return"] == 1
    assert correlations["random"] is None
    for report in reports.values():
        assert report is not None
        assert report_from(report.to_json()) == report
        assert ("score_correlation" in report.to_json()) == (report.method != "random")


def test_the_schema_of_records_takes_what_reports_say_of_scores(walks: TransitionDataset) -> None:
    described = record_schema()["properties"]["report"]["properties"]
    report = make_method("top-return").condense(walks, task=GRID, budget=20).report
    assert report is not None
    check = fastjsonschema.compile(described["score_correlation"])
    check(report.to_json()["score_correlation"])
    check({"length": None, "return": 0.5})
    for wrong in ({"length": 2.0, "return": 0.5}, {"length": 0.1}):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            check(wrong)
    fastjsonschema.compile(described["fault_auroc"])(0.5)


def test_rank_correlations_are_spearmans_and_none_of_what_is_constant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 40), rng.integers(0, 5, 40)
    from scipy.stats import rankdata, spearmanr

    assert mean_ranks(a).tolist() == rankdata(a).tolist()
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-5)
    assert rank_correlation(a, np.ones(40)) is None
    assert correlations_text({"length": 0.931, "return": None}) == "0.93 with length, - with return"


def test_scores_that_are_none_are_refused(walks: TransitionDataset) -> None:
    with pytest.raises(BadConfig, match="'k-center' scores neither episodes nor rows"):
        make_method("k-center").score(walks, task=GRID)
    with pytest.raises(CorruptArtifact, match=r"no finite score for each of \d+ episodes"):
        Scores(np.full(len(walks.episodes), np.nan)).check(walks, "a method")
    with pytest.raises(CorruptArtifact, match="no finite score for each of"):
        Scores(np.zeros(3), "rows").check(walks, "a method")


def test_rows_scores_count_for_their_episodes_by_their_mean(walks: TransitionDataset) -> None:
    rows = np.arange(len(walks), dtype=float)
    means = [np.mean(episode) for episode in walks.episodes]
    assert Scores(rows, "rows").of_episodes(walks) == pytest.approx(means)


@pytest.mark.parametrize("id_", ["el2n", "grand"])
def test_row_scorers_keep_the_rows_of_highest_score(id_: str, walks: TransitionDataset) -> None:
    method = make_method(id_, GRID, updates=2, networks=1)
    scores = method.score(walks, task=GRID)
    best = np.argsort(-scores.values, kind="stable")[:9]
    assert scores.unit == "rows"
    assert method.condense(walks, task=GRID, budget=9).source_indices.tolist() == sorted(best)


def scored(out: Path, *options: str) -> list[dict[str, str]]:
    done = CliRunner().invoke(main, ["score", TINY, "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(out.read_text().splitlines()))


def test_score_writes_a_line_an_episode(tiny: TransitionDataset, tmp_path: Path) -> None:
    lines = scored(tmp_path / "scores.csv", "--method", "longest")
    assert list(lines[0]) == ["episode", "score", "length", "return", "level"]
    assert [float(line["score"]) for line in lines] == lengths(tiny).tolist()
    assert [float(line["return"]) for line in lines] == tiny.episode_returns().tolist()
    starts = [rows.start for rows in tiny.episodes]
    assert [int(line["level"]) for line in lines] == tiny.level_seeds[starts].tolist()


def test_no_text_of_a_csv_file_is_a_formula_or_more_than_a_line() -> None:
    odd = {"a": '=HYPERLINK("x")', "b": "-2+3", "c": "@SUM(1)", "d": "two\nlines\x1b[2J", "e": "+"}
    kept = {"f": "-", "g": -2.5, "h": "-2.5", "i": "a=b"}
    [line] = csv.DictReader(io.StringIO(csv_of([odd | kept])))
    assert [line[name] for name in "abce"] == ["'" + odd[name] for name in "abce"]
    assert line["d"] == r"two\nlines\x1b[2J"
    assert [line[name] for name in kept] == ["-", "-2.5", "-2.5", "a=b"]


def test_scored_rows_are_lines_with_their_episode(walks: TransitionDataset) -> None:
    lines = list(score_lines(walks, Scores(np.arange(len(walks)) / 8, "rows")))
    table = list(csv.DictReader(csv_of(lines).splitlines()))
    assert list(table[0]) == ["row", "episode", "step", "score", "length", "return", "level"]
    assert [float(line["score"]) for line in table] == (np.arange(len(walks)) / 8).tolist()
    assert [int(line["step"]) for line in table] == walks.column("steps").tolist()
    assert [int(line["episode"]) for line in table] == walks.column("episode_ids").tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "k-means"], "scores neither episodes nor rows"),
        (["--method", "longest", "--set", "learner.updates=3"], "score trains no learner"),
    ],
)
def test_score_says_what_it_cannot(
    options: list[str], message: str, tiny: TransitionDataset, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["score", TINY, "--out", str(tmp_path / "s.csv"), *options])
    assert done.exit_code == 2
    assert message in done.stderr


def test_scores_and_what_methods_share_are_computed_with_one_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []

    def scores(self: Any, problem: Problem) -> Any:
        def make(folder: Path) -> int:
            seen.append(torch.get_num_threads())
            return 7

        seen.append(torch.get_num_threads())
        assert artifact("tests", problem, {"number": 1}, make)[1] == 7
        return original(self, problem)

    monkeypatch.setattr("rlcondense.methods.parts.artifacts.cache_root", lambda: tmp_path)
    longest = type(make_method("longest"))
    original = longest._score
    monkeypatch.setattr(longest, "_score", scores)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        score_dataset("classic/cartpole/expert-v0", "longest", device="cpu")
        assert torch.get_num_threads() == 2
        assert seen == [1, 1]
        data = load_dataset("classic/cartpole/expert-v0")
        make_method("longest").score(data, task="cartpole", seed=0)
        assert seen == [1, 1, 2]  # kept, and whoever scores alone has their own threads
        shutil.rmtree(tmp_path / "tests")
        make_method("longest").score(data, task="cartpole", seed=0)
        assert seen[3:] == [2, 1]
    finally:
        torch.set_num_threads(before)
