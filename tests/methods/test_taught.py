"""Labels of an ensemble of students: on what is kept, on what is made, and on the rows beside."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense import catalogue
from rlcondense.cloning import shifted
from rlcondense.comparison.rows import groups_of
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.labels import TAUGHT, TEACHING, label_settings, regime_of
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.learners import bc
from rlcondense.learners.bc import BehaviouralCloning
from rlcondense.make import make_learner, make_method
from rlcondense.methods.base import Problem, TeachingConfig
from rlcondense.methods.obd import Aims, Dbc
from rlcondense.methods.parts.teachers import Teachers, teachers_of
from rlcondense.networks import PolicyNetwork
from rlcondense.running.pairs import expected_regime
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import suite_from
from tests.small_tasks import Gridworld, Reach, SmallTask, play

GRID, REACH = Gridworld(), Reach()
GRID_DATA = play(GRID, GRID.shortest, 150, noise=0.1)
REACH_DATA = play(REACH, REACH.shortest, 150, noise=0.1)
TEACH: dict[str, Any] = {"labels": TAUGHT, "label_teachers": 2, "label_updates": 3}
SYNTHESISERS = ("distmatch", "gradmatch", "init-only", "dbc")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLCONDENSE_HOME", str(tmp_path_factory.mktemp("taught")))
        yield


def condense(
    id_: str, data: TransitionDataset, task: SmallTask, **settings: Any
) -> CondensedDataset:
    quick = catalogue.find("methods", id_).facts.get("check_config", {})
    quick = {k: v for k, v in quick.items() if k != "network"}
    method = make_method(id_, task, **{**quick, **TEACH, **settings})
    return method.condense(data, task=task, budget=8)


def teachers(data: TransitionDataset, task: SmallTask, **settings: Any) -> Teachers:
    method = make_method("random", task, **{**TEACH, **settings})
    budget = Budget(size=8)
    problem = method._problem(data, task, budget, None, 0, "cpu", lambda *_: None)
    return teachers_of(problem, method.config)


@pytest.mark.parametrize("id_", ["random", "k-center", "el2n", "top-return"])
def test_rows_that_are_kept_have_the_mean_of_the_students_distributions(id_: str) -> None:
    kept = condense(id_, GRID_DATA, GRID)
    ensemble = teachers(GRID_DATA, GRID)
    policies = ensemble.policies
    each = [
        policies.action_probs(kept.observations, np.full(len(kept), k))
        for k in range(policies.num_policies)
    ]
    assert kept.label_kind == "soft"
    assert policies.num_policies == 2
    assert kept.action_probs == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    rows = kept.source_indices
    assert np.array_equal(kept.actions, GRID_DATA.actions[rows])
    assert np.array_equal(kept.observations, GRID_DATA.observations[rows])


@pytest.mark.parametrize("id_", ["random", "distmatch"])
def test_views_are_stored_with_the_students_labels_of_the_shifted_frames(id_: str) -> None:
    made = condense(id_, GRID_DATA, GRID, label_views=3)
    plain = condense(id_, GRID_DATA, GRID)
    assert np.array_equal(made.observations, plain.observations)
    assert np.array_equal(made.column("action_probs"), plain.column("action_probs"))
    assert made.view_shifts is not None
    assert made.view_labels is not None
    assert made.view_shifts.shape == (8, 3, 2)
    assert np.ptp(made.view_shifts) > 4
    down, right = made.view_shifts[5, 1]
    frame = made.observations[5]
    rows, columns = (np.clip(np.arange(12) + move, 0, 11) for move in (down, right))
    expected = teachers(GRID_DATA, GRID).labels(frame[:, rows][:, :, columns][None], None)
    assert made.view_labels[5, 1] == pytest.approx(expected[0], abs=1e-5)
    assert made.report is not None
    assert plain.report is not None
    assert made.report.bytes == plain.report.bytes + 8 * 3 * (2 + 4 * 4)
    assert regime_of(made.report.config, "soft") == "taught (teachers=2, updates=3, views=3)"


def test_a_student_of_views_learns_each_frame_and_its_views_with_their_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = condense("random", GRID_DATA, GRID, label_views=2)
    made.save(tmp_path)
    made = load_condensed(tmp_path)
    shown: dict[bytes, set[bytes]] = {}
    losses = bc.losses_of_head

    def watched(head: str, name: str) -> Any:
        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seen["targets"].append(targets.numpy().copy())
            return losses(head, name)(outputs, targets)

        return loss

    seen: dict[str, list[np.ndarray]] = {"targets": [], "frames": []}
    forward = PolicyNetwork.features

    def features(self: PolicyNetwork, observations: torch.Tensor) -> torch.Tensor:
        seen["frames"].append(observations.numpy().copy())
        return forward(self, observations)

    monkeypatch.setattr(bc, "losses_of_head", watched)
    monkeypatch.setattr(PolicyNetwork, "features", features)
    settings = {"network": "mlp", "width": 8, "updates": 60, "batch_size": 8}
    make_learner("bc", augmentation="views", **settings).fit(made, task=GRID, seeds=[0])
    for frames, targets in zip(*(seen[k] for k in ("frames", "targets")), strict=True):
        for frame, target in zip(frames, targets, strict=True):
            shown.setdefault(frame.tobytes(), set()).add(target.tobytes())
    expected: dict[bytes, set[bytes]] = {}
    assert made.view_shifts is not None
    assert made.view_labels is not None
    for row, frame in enumerate(made.observations):
        expected.setdefault(frame.tobytes(), set()).add(made.column("action_probs")[row].tobytes())
        for move, label in zip(made.view_shifts[row], made.view_labels[row], strict=True):
            view = shifted(torch.from_numpy(frame[None]), move[None]).numpy()
            expected.setdefault(view.tobytes(), set()).add(label.tobytes())
    assert shown == expected


def test_views_need_frames_that_a_teacher_labelled() -> None:
    with pytest.raises(BadConfig, match="label_views is for frames"):
        condense("random", REACH_DATA, REACH, label_views=2)
    with pytest.raises(BadConfig, match="label_views needs labels=taught"):
        make_method("random", labels="soft", label_views=2)
    with pytest.raises(BadConfig, match="label_network needs labels=taught"):
        make_method("pbc", label_network="mlp")
    views = make_learner("bc", network="mlp", updates=1, augmentation="views")
    with pytest.raises(BadConfig, match="labels=taught and label_views=N"):
        views.fit(condense("random", GRID_DATA, GRID), task=GRID, seeds=[0])
    made = condense("random", GRID_DATA, GRID, label_views=1)
    of_actions = make_learner("bc", network="mlp", loss="nll", augmentation="views")
    with pytest.raises(BadConfig, match="'nll' does not learn the labels of views"):
        of_actions.fit(made, task=GRID, seeds=[0])


def test_a_budget_in_bytes_counts_views() -> None:
    method = make_method("random", GRID, **TEACH, label_views=2)
    data = method.condense(GRID_DATA, task=GRID, budget=Budget(bytes=4000, bits=4))
    each = 432 / 2 + 4 + 2 * (2 + 16)
    assert len(data) == 4000 // each
    assert data.view_labels is not None
    assert data.report is not None
    assert data.report.bytes == len(data) * each


@pytest.mark.parametrize("id_", SYNTHESISERS)
def test_frames_that_are_made_have_the_students_labels_of_what_was_made(id_: str) -> None:
    network = {"network": "mlp"} if id_ == "dbc" else {}
    made = condense(id_, GRID_DATA, GRID, **network)
    expected = teachers(GRID_DATA, GRID).labels(made.observations, GRID.action_space)
    assert made.label_kind == "soft"
    assert made.action_probs == pytest.approx(expected, abs=1e-5)
    assert made.report is not None
    assert made.report.config["labels"] == TAUGHT


@pytest.mark.parametrize("id_", ["random", "distmatch"])
def test_continuous_actions_are_the_mean_of_the_students_within_the_bounds(id_: str) -> None:
    made = condense(id_, REACH_DATA, REACH)
    expected = teachers(REACH_DATA, REACH).labels(made.observations, REACH.action_space)
    assert made.label_kind == "continuous"
    assert made.actions == pytest.approx(expected, abs=1e-5)
    assert REACH.action_space.contains(made.actions[0])


def test_actions_that_nobody_took_are_no_transitions() -> None:
    made = condense("random", REACH_DATA, REACH)
    assert made.rewards is None
    assert made.next_rows is None
    assert made.terminations is None
    budget = Budget(percent=20, unit="episodes")
    best = make_method("percentile", REACH, **TEACH).condense(REACH_DATA, task=REACH, budget=budget)
    assert best.rewards is None
    assert condense("random", GRID_DATA, GRID).rewards is not None  # its actions are those taken
    for id_, settings in (
        ("critical", {}),
        ("sdr", {}),
        ("pbc", {"policy": "offline-rl"}),
        ("gradient-omp", {"gradient": "critic"}),
    ):
        with pytest.raises(BadConfig, match="no transitions to value"):
            condense(id_, REACH_DATA, REACH, **settings)


def test_the_students_are_trained_once_for_all_methods_and_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = condense("random", GRID_DATA, GRID).report
    monkeypatch.setattr(BehaviouralCloning, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = condense("k-center", GRID_DATA, GRID)
    assert first is not None
    assert first.cost.gradient_evaluations > 0
    assert again.label_kind == "soft"


def test_each_student_costs_the_updates_until_its_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []
    fit = BehaviouralCloning.fit

    def kept(self: BehaviouralCloning, *arguments: Any, **options: Any) -> Any:
        trained.append(fit(self, *arguments, **options))
        return trained[-1]

    monkeypatch.setattr(BehaviouralCloning, "fit", kept)
    made = teachers(GRID_DATA, GRID, label_updates=4)
    told = trained[0].training
    assert told is not None
    ends = [told["updates"][len(curve) - 1] for curve in told["held_back_loss"]]
    assert made.gradient_evaluations == sum(ends) * bc.BCConfig().batch_size


def test_a_temperature_sharpens_the_labels() -> None:
    rows = GRID_DATA.observations[:20]
    plain, sharp = (
        teachers(GRID_DATA, GRID, label_temperature=t).labels(rows, GRID.action_space)
        for t in (1.0, 0.2)
    )
    assert sharp.max(1).mean() > plain.max(1).mean() + 0.05


@pytest.mark.parametrize("id_", ["smoothest", "deminf"])
def test_what_a_score_is_of_is_the_actions_that_were_taken(
    id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    scorer = type(make_method(id_))
    real = scorer._score
    monkeypatch.setattr(
        scorer, "_score", lambda self, problem: (seen.append(real(self, problem)), seen[-1])[1]
    )
    condense(id_, REACH_DATA, REACH)
    make_method(id_, REACH, labels="hard").condense(REACH_DATA, task=REACH, budget=8)
    assert np.array_equal(seen[0].values, seen[1].values)


def test_dbc_imitates_the_actions_taken_and_pbc_the_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aims = {}
    real = Dbc._weighed_by_density

    def watched(self: Dbc, problem: Problem, of: Aims) -> Aims:
        aims[self.id] = of.targets.numpy()
        return real(self, problem, of)

    monkeypatch.setattr(Dbc, "_weighed_by_density", watched)
    for id_ in ("dbc", "pbc", "av-pbc"):
        condense(id_, REACH_DATA, REACH)
    taught = teachers(REACH_DATA, REACH).labels(REACH_DATA.observations, REACH.action_space)
    assert np.array_equal(aims["dbc"], REACH_DATA.actions)
    assert not np.array_equal(taught, REACH_DATA.actions)
    assert np.array_equal(aims["pbc"], taught)
    assert np.array_equal(aims["av-pbc"], taught)


def test_taught_labels_need_no_stored_ones_and_stored_ones_make_no_difference() -> None:
    probs = np.full((len(GRID_DATA), 4), 0.25, np.float32)
    stored = replace(GRID_DATA, action_probs=probs)
    kept = condense("random", stored, GRID)
    without = condense("random", GRID_DATA, GRID)
    assert np.array_equal(kept.action_probs, without.action_probs)  # type: ignore[arg-type]
    assert not np.allclose(kept.action_probs, 0.25)  # type: ignore[arg-type]


def test_every_method_with_labels_takes_taught_ones_and_no_earlier_cell_is_named_anew() -> None:
    count = 0
    for id_, entry in catalogue.entries("methods").items():
        config = entry.load().Config
        if "labels" not in {f.name for f in dataclasses.fields(config)}:
            continue
        count += 1
        assert make_method(id_, labels=TAUGHT).config.labels == TAUGHT
        assert not set(TEACHING) & config_json(make_method(id_).config).keys()
    assert count > 30
    assert tuple(f.name for f in dataclasses.fields(TeachingConfig)) == TEACHING


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_teachers": 0}, "label_teachers must be above 0"),
        ({"label_temperature": 0.0}, "label_temperature must be above 0"),
        ({"label_temperature": 1e-4}, "label_temperature must be at least 0.001"),
        ({"label_teachers": 1001}, "label_teachers must be at most 1,000"),
        ({"label_network": "lenet"}, "label_network must be one of"),
        ({"labels": "learned"}, "labels must be hard, soft or taught"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        make_method("random", **settings)


def test_reference_rows_are_of_the_same_regime() -> None:
    taught = {"labels": TAUGHT, "label_teachers": 3, "iterations": 5}
    assert label_settings(taught, "soft") == {"labels": TAUGHT, "label_teachers": 3}
    assert label_settings(taught, "continuous") == {"labels": TAUGHT, "label_teachers": 3}
    assert label_settings(taught, "hard") == {"labels": "hard"}  # of a learner of actions alone
    assert label_settings({"labels": "learned"}, "soft") == {"labels": "soft"}
    assert regime_of(taught, "soft") == "taught (teachers=3)"
    assert regime_of({"labels": TAUGHT}, "soft") == "taught"
    assert regime_of({}, "continuous") == "continuous"
    assert regime_of({}, None) is None


class ActionsTaken(BehaviouralCloning):
    label_kinds = ("hard", "continuous")


@pytest.mark.parametrize(
    ("id_", "task", "learner", "expected"),
    [
        ("k-center", GRID, BehaviouralCloning, TEACH),
        ("gradmatch", GRID, BehaviouralCloning, TEACH),
        ("k-center", GRID, ActionsTaken, {"labels": "hard"}),
        ("k-center", REACH, BehaviouralCloning, TEACH),
    ],
)
def test_the_regime_of_reference_rows_is_known_before_a_row_is_computed(
    id_: str, task: SmallTask, learner: type[BehaviouralCloning], expected: dict[str, Any]
) -> None:
    method = make_method(id_, task, **TEACH)
    assert expected_regime(method, learner(), task) == expected


def test_a_suite_plans_reference_rows_of_the_same_regime() -> None:
    values = {"tasks": ["cartpole"], "methods": [{"id": "k-center", "config": TEACH}], "sizes": [8]}
    suite = suite_from("s", {**values, "learner_seeds": 2, "episodes": 4})
    planned = plan_suite(suite)
    cells = [p.cell for p in planned if p.cell is not None and p.cell.learner is not None]
    regimes = {c.method["id"]: label_settings(c.method["config"], "soft") for c in cells}
    assert regimes == dict.fromkeys(["k-center", "random", "full", "full-converged"], TEACH)


@pytest.mark.slow
def test_run_puts_taught_random_rows_beside_a_taught_method(tmp_path: Path) -> None:
    from rlcondense.running.runner import run

    result = run(
        "top-return",
        "cartpole",
        dataset="classic/cartpole/random-v0",
        size=8,
        seeds=2,
        episodes=4,
        condensations=1,
        settings={**TEACH, "label_updates": 1},
        learner_settings={"updates": 2},
        results=tmp_path,
    )
    by_method = {r["cell"]["method"]["id"]: r for r in result.references if r["cell"]["learner"]}
    for id_ in ("random", "full"):
        config = by_method[id_]["cell"]["method"]["config"]
        assert {name: config[name] for name in ("labels", "label_teachers")} == {
            "labels": TAUGHT, "label_teachers": 2
        }  # fmt: skip
    [group] = [g for g in groups_of([*result.records, *result.references]) if len(g.rows) > 3]
    row = next(row for row in group.rows if row.id == "top-return")
    assert row.labels == "taught (teachers=2, updates=1)"
    assert "random" in {a.floor for a in row.against}
