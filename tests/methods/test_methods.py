from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlcondense import catalogue
from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, BudgetExceeded, CorruptArtifact
from rlcondense.experts.shipped import Expert
from rlcondense.files import write_arrays, write_json
from rlcondense.make import make_method
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.random_balanced import balanced_rows, shares
from rlcondense.tasks.base import Task
from rlcondense.validation import check_rows
from tests.conftest import random_network

METHODS = sorted(id_ for id_ in catalogue.entries("methods") if not id_.startswith("tests/"))
QUICK = {
    id_: entry.facts.get("check_config", {}) for id_, entry in catalogue.entries("methods").items()
}
EXPERT = Expert("procgen/starpilot-easy-v0", random_network(), "0" * 64, {})


def condense(
    id_: str, data: TransitionDataset, task: Task, size: int | Budget = 20, seed: int = 0
) -> CondensedDataset:
    method = make_method(id_, **QUICK.get(id_, {}))
    budget = catalogue.find("methods", id_).facts["budget"]
    if "percent" in budget and isinstance(size, int):
        size = Budget(**budget)
    return method.condense(data, task=task, budget=size, expert=EXPERT, seed=seed)


# Those that take seconds, of each of whose kinds another one is quick.
SECONDS = {
    "av-pbc", "band", "cupid", "gradient-omp", "gradmatch-light2024", "grand", "ncfm", "pbc",
    "ppmo", "qmatch", "sdr", "trajmatch",
}  # fmt: skip
OFTEN = [pytest.param(i, marks=pytest.mark.slow) if i in SECONDS else i for i in METHODS]


@pytest.mark.parametrize("id_", OFTEN)
def test_the_same_seed_gives_the_same_bytes_which_are_saved_and_changes_nothing_else(
    id_: str, tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    a = condense(id_, tiny, task)
    assert (torch.rand(1), np.random.rand()) == expected
    b = condense(id_, tiny, task)
    assert a.sha256 == b.sha256
    assert a.report is not None
    assert a.report.size == len(a)
    takes_data = catalogue.find("methods", id_).load().takes_data
    assert a.report.dataset_sha256 == (tiny.sha256 if takes_data else None)
    assert replace(tiny, known_sha256="").sha256 == tiny.sha256
    a.save(tmp_path)
    again = load_condensed(tmp_path)
    assert again.sha256 == a.sha256
    assert again.report == a.report
    assert again.label_kind == a.label_kind
    assert np.array_equal(again.weights, a.weights)


@pytest.mark.parametrize("id_", ["random", "bc-10", "full", "random-balanced"])
def test_selections_keep_what_comes_next(
    id_: str, tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    data = condense(id_, tiny, task, 50)
    data.save(tmp_path)
    again = load_condensed(tmp_path)
    rows, source = np.arange(len(data)), data.source_indices
    assert source is not None
    for kept in (data, again):
        assert {"rewards", "next_observations", "terminations"} <= kept.provides()
        assert np.array_equal(kept.next_observations(rows), tiny.next_observations(source))
    assert again.sha256 == data.sha256
    assert ("episodes" in data.provides()) == (id_ in ("bc-10", "full"))
    if id_ in ("bc-10", "full"):
        assert data.following is None  # every successor is kept anyway
    else:
        assert data.following is not None
        assert len(data.following) <= len(data)


def test_what_gradmatch_gives_is_no_transition(tiny: TransitionDataset, task: Task) -> None:
    data = condense("gradmatch", tiny, task)
    assert data.provides() == {"observations", "actions", "action_probs"}
    with pytest.raises(CorruptArtifact, match="has no next_observations"):
        data.next_observations(np.arange(2))


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("rewards", np.zeros((3, 1), np.float32), "not one float a row"),
        ("rewards", np.full(3, np.nan, np.float32), "non-finite rewards"),
        ("terminations", np.array([0, 1, 2]), "not one bool a row"),
        ("episode_ids", np.zeros((3, 1), int), "not one whole number a row"),
        ("next_observations", np.zeros((3, 1, 64, 64), np.uint8), "unlike observations"),
        ("next_observations", np.full((3, 3, 64, 64), np.nan, np.float32), "non-finite"),
        ("next_observations", np.zeros((5, 3, 64, 64), np.uint8), "5 next_observations for 3"),
    ],
)
def test_columns_made_elsewhere_are_checked(
    name: str, column: np.ndarray, message: str, task: Task, tmp_path: Path
) -> None:
    arrays = {
        "observations": np.zeros((3, 3, 64, 64), np.uint8),
        "actions": np.zeros(3, int),
        name: column,
    }
    write_arrays(tmp_path / "condensed.safetensors", arrays)
    write_json(tmp_path / "report.json", {"label_kind": "hard"})
    with pytest.raises(CorruptArtifact, match=message):
        check_rows(load_condensed(tmp_path).arrays(), task, "theirs")


def test_real_valued_targets_are_kept_and_checked(task: Task, tmp_path: Path) -> None:
    frames, weights = np.zeros((2, 3, 64, 64), np.uint8), np.ones(2, np.float32)
    targets = np.arange(30, dtype=np.float32).reshape(2, 15)
    data = CondensedDataset(frames, np.zeros(2, int), weights=weights, targets=targets)
    data.save(tmp_path)
    again = load_condensed(tmp_path)
    assert np.array_equal(again.targets, targets)  # type: ignore[arg-type]
    assert again.sha256 == data.sha256 != replace(data, targets=None).sha256
    check_rows(again.arrays(), task, "theirs")
    narrow = replace(data, targets=targets[:, :3])
    with pytest.raises(
        CorruptArtifact, match=r"gave targets of type float32 and shape \(3,\), not 15"
    ):
        check_rows(narrow.arrays(), task, "theirs")


@pytest.mark.parametrize("name", ["source_indices", "initial_indices"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 1, -1], "not be negative"), ([0, 1], "must be 3 whole"), ([0.0, 1, 2], "not float64")],
)
def test_rows_of_no_source_are_refused(name: str, rows: list[float], message: str) -> None:
    frames, weights = np.zeros((3, 2), np.float32), np.ones(3, np.float32)
    with pytest.raises(CorruptArtifact, match=message):
        CondensedDataset(frames, np.zeros(3, int), weights=weights, **{name: np.array(rows)})


@pytest.mark.parametrize(
    ("next_rows", "message"),
    [([0, 1, 3], "must lie in -1..2"), ([-2, 0, 0], "must lie in"), ([0, 1], "2 next_rows")],
)
def test_next_rows_that_point_nowhere_are_refused(next_rows: list[int], message: str) -> None:
    frames = np.zeros((3, 3, 64, 64), np.uint8)
    with pytest.raises(CorruptArtifact, match=message):
        CondensedDataset(
            frames, np.zeros(3, int), weights=np.ones(3, np.float32), next_rows=np.array(next_rows)
        )


@pytest.mark.parametrize("id_", ["random", "random-balanced", "gradmatch", "gradmatch-light2024"])
def test_another_seed_gives_other_data(id_: str, tiny: TransitionDataset, task: Task) -> None:
    assert condense(id_, tiny, task).sha256 != condense(id_, tiny, task, seed=1).sha256


@pytest.mark.parametrize("id_", ["random", "random-balanced", "gradmatch", "gradmatch-light2024"])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_budget_is_met_exactly(
    id_: str, size: int, tiny: TransitionDataset, task: Task
) -> None:
    assert len(condense(id_, tiny, task, size)) == size


@pytest.mark.parametrize("size", [0, -1, 10**9])
def test_impossible_sizes_are_refused(size: int, tiny: TransitionDataset, task: Task) -> None:
    with pytest.raises(BadConfig, match=r"size must be a whole number from 1|above the"):
        condense("random", tiny, task, size)


def test_selections_keep_whole_rows_and_say_which(tiny: TransitionDataset, task: Task) -> None:
    data = condense("random", tiny, task, 30)
    rows = data.source_indices
    assert rows is not None
    assert len(np.unique(rows)) == 30
    for name, column in data.columns().items():
        assert np.array_equal(column, getattr(tiny, name)[rows]), name


def test_synthetic_frames_stay_within_the_pixels_range(tiny: TransitionDataset, task: Task) -> None:
    data = condense("gradmatch", tiny, task)
    assert data.observations.dtype == np.float32
    assert data.observations.min() >= 0
    assert data.observations.max() <= 255
    assert data.rewards is None


def test_soft_labels_are_the_datas_own(tiny: TransitionDataset, task: Task) -> None:
    data = make_method("random", labels="soft").condense(tiny, task=task, budget=5)
    assert data.label_kind == "soft"
    assert np.array_equal(data.action_probs, tiny.action_probs[data.source_indices])
    with pytest.raises(BadConfig, match="soft labels need"):
        make_method("random", labels="soft").condense(
            replace(tiny, action_probs=None), task=task, budget=5
        )


def test_shares_are_even_and_an_action_with_too_few_frames_gives_all() -> None:
    assert shares(np.array([100, 2, 50]), 32).tolist() == [15, 2, 15]
    assert shares(np.array([100, 100, 100]), 10).tolist() == [3, 3, 4]
    assert shares(np.array([1, 2, 3]), 6).tolist() == [1, 2, 3]


def test_balanced_rows_are_distinct_and_sorted_by_action() -> None:
    actions = np.array([0] * 50 + [3] * 2 + [7] * 50)
    rows = balanced_rows(actions, 30, np.random.default_rng(0))
    assert len(np.unique(rows)) == 30
    assert np.bincount(actions[rows])[[0, 3, 7]].tolist() == [14, 2, 14]
    assert (np.diff(actions[rows]) >= 0).all()


def test_bc_10_25_40_keep_the_best_episodes(tiny: TransitionDataset, task: Task) -> None:
    returns = tiny.episode_returns()
    for percent in (10, 25, 40):
        data = condense(f"bc-{percent}", tiny, task)
        kept = np.unique(data.column("episode_ids"))
        assert len(kept) == 10 * percent // 100
        assert sorted(returns[kept]) == sorted(np.sort(returns)[::-1][: len(kept)])
        assert len(data) == sum(len(tiny.episodes[i]) for i in kept)


def test_a_random_fraction_is_of_the_episodes_kept(tiny: TransitionDataset, task: Task) -> None:
    whole = condense("bc-40", tiny, task).source_indices
    method = make_method("bc-40", fraction=0.2)
    budget = Budget(percent=40, unit="episodes")
    fifths = [method.condense(tiny, task=task, budget=budget, seed=s) for s in (0, 0, 1)]
    assert whole is not None
    for fifth in fifths:
        assert fifth.source_indices is not None
        assert len(np.unique(fifth.source_indices)) == len(fifth) == len(whole) // 5
        assert np.isin(fifth.source_indices, whole).all()
        assert "episodes" not in fifth.provides()
    assert fifths[0].sha256 == fifths[1].sha256 != fifths[2].sha256
    assert method.stochastic
    assert not make_method("bc-40").stochastic
    assert "fraction" not in config_json(make_method("bc-40").config)
    with pytest.raises(BadConfig, match=r"fraction must lie in \(0, 1\], not 0"):
        make_method("bc-40", fraction=0)


def test_of_equal_returns_the_earlier_episode_is_kept(tiny: TransitionDataset, task: Task) -> None:
    flat = replace(tiny, rewards=np.zeros(len(tiny), np.float32), known_sha256="")
    data = condense("percentile", flat, task, Budget(percent=30, unit="episodes"))
    assert np.unique(data.column("episode_ids")).tolist() == [0, 1, 2]


def test_a_percentage_of_transitions_is_never_exceeded(tiny: TransitionDataset, task: Task) -> None:
    for percent in (30, 60, 100):
        data = condense("percentile", tiny, task, Budget(percent=percent))
        assert len(data) <= len(tiny) * percent / 100
    assert len(data) == len(tiny)
    with pytest.raises(BadConfig, match="the best episode has"):
        condense("percentile", tiny, task, Budget(percent=100.01 / len(tiny)))
    with pytest.raises(BadConfig, match="takes a percentage, not a size"):
        make_method("percentile").condense(tiny, task=task, budget=10)


def test_full_is_everything(tiny: TransitionDataset, task: Task) -> None:
    data = condense("full", tiny, task)
    for name, column in tiny.columns().items():
        assert np.array_equal(getattr(data, name), column)
    assert np.array_equal(data.source_indices, np.arange(len(tiny)))


class _Bad(Method[None]):
    """Returns what it is told to."""

    def __init__(self, **columns: np.ndarray) -> None:
        super().__init__()
        self.columns = columns

    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.dataset.rows(np.arange(problem.size))
        return Condensation({**rows, **self.columns})


class _TooMuch(Method[None]):
    def _condense(self, problem: Problem) -> Condensation:
        return Condensation(problem.dataset.rows(np.arange(problem.size + 1)))


class _Peeks(Method[None]):
    def _condense(self, problem: Problem) -> Condensation:
        problem.task.make_vec("heldout", 1, seed=0)
        raise AssertionError("held-out levels were within reach")


def test_bad_results_are_refused_each_for_its_own_reason(
    tiny: TransitionDataset, task: Task
) -> None:
    frames = np.full((2, 3, 64, 64), np.nan, np.float32)
    with pytest.raises(CorruptArtifact, match="non-finite observations"):
        _Bad(observations=frames).condense(tiny, task=task, budget=2)
    with pytest.raises(CorruptArtifact, match=r"actions outside 0\.\.14"):
        _Bad(actions=np.array([0, 15])).condense(tiny, task=task, budget=2)
    with pytest.raises(CorruptArtifact, match="observations of shape"):
        _Bad(observations=np.zeros((2, 64, 64, 3), np.uint8)).condense(tiny, task=task, budget=2)
    with pytest.raises(BudgetExceeded, match="kept 3 transitions, allowed are 2"):
        _TooMuch().condense(tiny, task=task, budget=2)
    with pytest.raises(Exception, match="only make the seen levels"):
        _Peeks().condense(tiny, task=task, budget=2)


def test_the_expert_is_given_only_to_methods_that_declare_it(
    tiny: TransitionDataset, task: Task
) -> None:
    with pytest.raises(BadConfig, match="needs the expert"):
        make_method("gradmatch-light2024").condense(tiny, task=task, budget=5)
    assert condense("random", tiny, task).report.expert_sha256 is None  # type: ignore[union-attr]
    light = condense("gradmatch-light2024", tiny, task)
    assert light.report.expert_sha256 == EXPERT.sha256  # type: ignore[union-attr]


def test_arrays_of_another_report_are_noticed(
    tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    """As a kill between the two files would leave them."""
    condense("random", tiny, task).save(tmp_path / "a")
    condense("random", tiny, task, seed=1).save(tmp_path / "b")
    (tmp_path / "a" / "report.json").replace(tmp_path / "b" / "report.json")
    with pytest.raises(CorruptArtifact, match="is not the data of"):
        load_condensed(tmp_path / "b")


def test_a_truncated_condensed_file_is_one_clear_error(
    tiny: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    condense("random", tiny, task).save(tmp_path)
    file = tmp_path / "condensed.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CorruptArtifact, match="not a readable safetensors file"):
        load_condensed(tmp_path)


def test_continuous_actions_are_selected_or_refused() -> None:
    data, task = sample_box_data(), SampleBoxTask()
    kept = make_method("random").condense(data, task=task, budget=30)
    assert kept.label_kind == "continuous"
    assert kept.actions.shape == (30, 2)
    with pytest.raises(BadConfig, match="discrete actions"):
        make_method("random-balanced").condense(data, task=task, budget=30)
