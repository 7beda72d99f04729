"""Standardised observations: moments, the scaling that a condensed set brings, and its folding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense import scaling as module
from rlcondense.config import config_json
from rlcondense.datasets.condensed import CondensedDataset, Initialisation, load_condensed
from rlcondense.datasets.report import ARRAYS, REPORT
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, read_json, write_arrays, write_json
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.networks import NetworkSpec, fold_scaling, fresh_from, standardised
from rlcondense.policies.stacked_mlps import Population
from rlcondense.scaling import Moments, Scaling
from tests.small_tasks import Gridworld, play

RNG = np.random.default_rng(0)
ROWS = RNG.normal([0, 5, 1000], [1, 0.1, 30], (500, 3)).astype(np.float32)
SCALING = Scaling.of(ROWS)


def data(**parts: Any) -> CondensedDataset:
    weights = np.ones(len(ROWS), np.float32)
    return CondensedDataset(ROWS, np.zeros(len(ROWS), np.int64), weights=weights, **parts)


def test_moments_are_those_of_all_rows() -> None:
    met = Moments((3,))
    for part in np.split(ROWS, [1, 17, 200]):
        met.add(part)
    assert np.allclose(met.mean, ROWS.mean(0, dtype=np.float64), rtol=1e-6)
    assert np.allclose(met.deviation, ROWS.std(0, dtype=np.float64), rtol=1e-5)
    same = Moments((3,))
    same.restore(met.state())
    assert np.array_equal(same.deviation, met.deviation)


def test_a_scaling_is_of_blocks_of_rows_and_a_feature_that_never_changes_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.concatenate([ROWS, np.full((500, 1), 7, np.float32)], 1)
    monkeypatch.setattr(module, "BLOCK", 30)
    found = Scaling.of(rows)
    assert np.allclose(found.mean, rows.mean(0, dtype=np.float64), rtol=1e-6)
    assert np.allclose(found.deviation[:3], ROWS.std(0, dtype=np.float64), rtol=1e-5)
    assert found.deviation[3] == 1


@pytest.mark.parametrize(("depth", "head"), [(1, "categorical"), (2, "gaussian")])
def test_a_folded_network_gives_of_observations_what_it_gave_of_standardised_ones(
    depth: int, head: str
) -> None:
    spec = NetworkSpec("mlp", (3,), 4, width=16, depth=depth, head=head)
    network, x = fresh_from(spec, "cpu", 0), torch.from_numpy(ROWS)
    with torch.no_grad():
        expected, raw = network(standardised(x, SCALING)), network(x)
        population = Population.of([network, fresh_from(spec, "cpu", 1)]).folded(SCALING)
        assert torch.allclose(population(torch.stack([x, x]))[0], expected, atol=1e-4)
        fold_scaling(network, SCALING)
        assert torch.allclose(network(x), expected, atol=1e-4)
    assert not torch.allclose(raw, expected, atol=0.1)


def test_a_scaling_is_kept_with_a_set(tmp_path: Path) -> None:
    made = data(scaling=SCALING)
    made.save(tmp_path)
    again = load_condensed(tmp_path)
    assert again.scaling is not None
    assert np.array_equal(again.scaling.mean, SCALING.mean)
    assert np.array_equal(again.scaling.deviation, SCALING.deviation)
    other = replace(made, scaling=replace(SCALING, mean=SCALING.mean + 1))
    assert len({again.sha256, other.sha256, data().sha256}) == 3
    assert again.sha256 == made.sha256


def test_the_hash_of_a_set_without_a_scaling_is_that_of_before_there_were_any() -> None:
    rows, weights = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(3, np.float32)
    start = Initialisation({"name": "mlp"}, {"w": np.ones(2, np.float32)})
    old = CondensedDataset(rows, np.array([0, 1, 0]), weights=weights, initialisation=start)
    assert old.sha256 == "42eb0397be65f1564555ac86a71231c2a30ea1a2da219972268be79179fb80e9"


THREE = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"deviation": np.array([1, 0, 1], np.float32)}, "deviations .* must be above 0, not 0"),
        ({"deviation": -THREE}, "must be above 0, not -1"),
        ({"mean": np.array([0, np.nan, 0], np.float32)}, "mean of the scaling must be finite"),
        ({"deviation": np.inf * THREE}, "deviation of the scaling must be finite"),
        ({"mean": THREE[:2]}, r"float32 of shape \(2,\), not float32 of \(3,\)"),
        ({"deviation": np.ones(3)}, r"float64 of shape \(3,\), not float32 of \(3,\)"),
        ({"deviation": None}, "does not hold a condensed dataset"),
        ({"median": THREE}, "does not hold a condensed dataset"),
    ],
)
def test_a_bad_scaling_is_refused_in_a_line(
    parts: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data(scaling=Scaling(THREE, THREE)).save(tmp_path)
    arrays, report = read_arrays(tmp_path / ARRAYS), read_json(tmp_path / REPORT)
    arrays |= {f"scaling.{name}": array for name, array in parts.items()}
    write_arrays(tmp_path / ARRAYS, {n: a for n, a in arrays.items() if a is not None})
    write_json(tmp_path / REPORT, {**report, "sha256": None})
    with pytest.raises(CorruptArtifact, match=message) as error:
        load_condensed(tmp_path)
    assert "\n" not in str(error.value)


def test_a_scaling_of_frames_is_refused() -> None:
    frames, pixels = np.zeros((2, 3, 8, 8), np.uint8), np.ones((3, 8, 8), np.float32)
    with pytest.raises(CorruptArtifact, match="a scaling is of vectors"):
        CondensedDataset(
            frames, np.zeros(2, int), weights=np.ones(2), scaling=Scaling(pixels, pixels)
        )


CARTPOLE = make_task("cartpole")
STUDENT = {"network": "mlp", "width": 16, "updates": 100, "learning_rate": 5e-3}


def badly_scaled(rows: int = 300) -> CondensedDataset:
    """What the action is to be is in the hundredths of a number near 1000; others are noise."""
    noise = np.random.default_rng(1).normal(size=(rows, 4))
    seen = (noise * [0.01, 100, 1, 1e-3] + [1000, 0, 0, -3]).astype(np.float32)
    weights = np.ones(rows, np.float32)
    return CondensedDataset(seen, (noise[:, 0] > 0).astype(np.int64), weights=weights)


def shares_right(made: CondensedDataset, **settings: Any) -> float:
    policies = make_learner("bc", **STUDENT, **settings).fit(made, task=CARTPOLE, seeds=[0])
    probs = policies.action_probs(made.observations, np.zeros(len(made), int))
    return float((probs.argmax(1) == made.actions).mean())


def test_a_standardised_student_learns_from_features_of_unlike_scales() -> None:
    made = badly_scaled()
    assert shares_right(made) < 0.7
    assert shares_right(made, standardise=True) > 0.9


def test_the_scaling_that_data_bring_goes_before_their_own_moments() -> None:
    made = badly_scaled()
    useless = Scaling(np.zeros(4, np.float32), np.ones(4, np.float32))
    assert shares_right(replace(made, scaling=useless), standardise=True) < 0.7
    own = replace(made, scaling=Scaling.of(made.observations))
    assert shares_right(own, standardise=True) > 0.9


def test_rows_that_are_held_back_are_not_measured() -> None:
    made = badly_scaled(40)
    observations = np.concatenate([made.observations, 1e9 * np.ones((10, 4), np.float32)])
    held = replace(
        made,
        observations=observations,
        actions=np.append(made.actions, np.zeros(10, np.int64)),
        weights=np.ones(50, np.float32),
        held_back=np.arange(50) >= 40,
    )
    found = make_learner("bc", **STUDENT, standardise=True)._scaling(held)  # type: ignore[attr-defined]
    assert np.array_equal(found.mean, Scaling.of(made.observations).mean)


@pytest.mark.parametrize(("brought", "asked"), [(True, False), (False, True)])
def test_weights_to_begin_with_are_of_networks_that_see_what_students_see(
    brought: bool, asked: bool
) -> None:
    settings = {"network": "mlp", "width": 8, "updates": 1, "init": "dataset"}
    spec = NetworkSpec("mlp", (4,), 2, width=8)
    weights = {n: w.numpy() for n, w in fresh_from(spec, "cpu", 0).state_dict().items()}
    made = badly_scaled(20)
    made = replace(
        made,
        initialisation=Initialisation(config_json(spec), weights),
        scaling=Scaling.of(made.observations) if brought else None,
    )
    with pytest.raises(BadConfig, match=f"set standardise={str(brought).lower()}, or init=random"):
        make_learner("bc", **settings, standardise=asked).fit(made, task=CARTPOLE, seeds=[0])
    policies = make_learner("bc", **settings, standardise=brought).fit(
        made, task=CARTPOLE, seeds=[0]
    )
    assert policies.num_policies == 1


GRID = Gridworld()
PLAYED = play(GRID, GRID.shortest, 40, noise=0.1)


@pytest.mark.parametrize(("id_", "settings"), [("dbc", {}), ("hades-f", {"population": 4})])
def test_methods_refuse_frames(id_: str, settings: dict[str, Any]) -> None:
    method = make_method(id_, GRID, **settings, standardise=True)
    with pytest.raises(BadConfig, match="standardise is for vectors, not for frames"):
        method.condense(PLAYED, task=GRID, budget=4)


def test_students_refuse_frames() -> None:
    frames = make_method("random").condense(PLAYED, task=GRID, budget=4)
    with pytest.raises(BadConfig, match="standardise is for vectors, not for frames"):
        make_learner("bc", network="mlp", standardise=True).fit(frames, task=GRID, seeds=[0])


@pytest.mark.parametrize("id_", ["dbc", "pbc", "av-pbc", "hades-f", "hades-r"])
def test_what_was_made_before_there_was_the_setting_keeps_its_name(id_: str) -> None:
    assert "standardise" not in config_json(make_method(id_).config)
    assert config_json(make_method(id_, standardise=True).config)["standardise"]
