"""The page on scores and known faults: its figures are those of the scores beside its script."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlcondense.datasets.scores import Scores
from rlcondense.datasets.transitions import TransitionDataset
from tests.docs.scripts import script


@pytest.fixture(scope="module")
def scorers() -> Any:
    return script("baselines/findings/fault_scores.py")


def test_the_page_is_that_of_the_scores(scorers: Any) -> None:
    lines = scorers.read_lines()
    assert scorers.page(lines) in scorers.PAGE.read_text()
    assert scorers.picture(lines) == scorers.PICTURE.read_text()


def test_every_scorer_of_the_suite_met_every_fault(scorers: Any) -> None:
    lines = scorers.read_lines()
    asked = {
        (dataset, choice.id, seed)
        for dataset, choice, seeds in scorers.scorers()
        for seed in range(seeds)
    }
    assert {(line["dataset"], line["method"], line["seed"]) for line in lines} == asked
    assert len(lines) == len(asked)


def test_pairs_won_are_the_area_under_the_curve(scorers: Any, tiny: TransitionDataset) -> None:
    values = np.arange(len(tiny.episodes), dtype=np.float64) // 2  # with ties
    faulty = [number % 3 == 1 for number in range(len(values))]
    line = {"scores": values.tolist(), "faulty": np.flatnonzero(faulty).tolist()}
    other = {**line, "scores": (-values).tolist()}
    auroc = Scores(values).auroc(tiny, faulty)
    assert scorers.wins([line]).mean() == pytest.approx(auroc, abs=1e-6)
    assert scorers.wins([line, other]).mean() == pytest.approx(0.5)


def test_a_score_is_beyond_length_only_if_the_episodes_show_it(scorers: Any) -> None:
    rng = np.random.default_rng(0)
    faulty, length = np.arange(100) < 20, rng.normal(size=100)

    def pairs(scores: np.ndarray[Any, Any]) -> Any:
        line = {"scores": scores.tolist(), "faulty": np.flatnonzero(faulty).tolist()}
        return scorers.wins([line])

    of = {
        "longest": pairs(length - faulty),
        "shortest": pairs(faulty - length),
        "disguise": pairs(2 * (length - faulty)),
        "sees": pairs(length - 4.0 * faulty),
        "blind": pairs(rng.normal(size=100)),
    }
    seen = scorers.seen(of)
    assert {name for name, one in seen.items() if one.beyond} == {"sees"}
    assert seen["longest"].beyond is None
    assert seen["disguise"].share == seen["longest"].share > 0.6
    assert seen["blind"].low < 0.5 < seen["blind"].high


def test_scores_that_are_no_longer_asked_for_do_not_count(scorers: Any) -> None:
    lines = scorers.read_lines()
    assert scorers.finished(lines) == lines
    other = {**lines[0], "config": {**lines[0]["config"], "other": 1}}
    gone = {**lines[0], "method": "gone"}
    assert scorers.finished([other, *lines, gone]) == lines
