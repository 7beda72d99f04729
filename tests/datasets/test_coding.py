"""Rows in few bytes: what is stored is what is claimed, and learned is what is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.coding import CodedRows, Coding, encode, label_bytes
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, BudgetExceeded, CorruptArtifact
from rlcondense.files import read_header
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.methods.base import Condensation, Method, Problem, select
from tests.small_tasks import Gridworld, play

GRID = Gridworld()
DATA = play(GRID, GRID.shortest, 200, noise=0.3)
FRAME, VECTOR = (3, 12, 12), (4,)


def coded(observations: np.ndarray, **settings: Any) -> CodedRows:
    actions = np.zeros(len(observations), np.int64)
    rows = {"observations": observations, "actions": actions}
    return encode(rows, Coding(shape=observations.shape[1:], **settings))


@pytest.mark.parametrize("bits", [1, 3, 4, 5, 7, 8])
def test_frames_are_off_by_half_a_step_at_most_and_take_their_bits(bits: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, *FRAME), np.uint8)
    rows = coded(frames, bits=bits)
    seen = rows.columns()["observations"]
    assert seen.dtype == np.uint8
    off = np.abs(seen.astype(float) - frames).max()
    assert off <= 255 / (2**bits - 1) / 2 + 0.5
    assert rows.arrays["observations"].nbytes == -(-7 * 432 * bits // 8)
    if bits == 8:
        assert off == 0


@pytest.mark.parametrize("bits", [2, 5, 12])
def test_features_span_their_own_range(bits: int) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * [1, 10, 1e-3, 0]
    rows = coded(x.astype(np.float32), bits=bits)
    seen = rows.columns()["observations"]
    step = np.ptp(x, axis=0) / (2**bits - 1)
    assert (np.abs(seen - x).max(0) <= step / 2 * 1.001 + 1e-6).all()
    assert np.allclose(seen.max(0), x.max(0), rtol=1e-6)
    assert np.isfinite(seen).all()


def test_codes_of_more_than_one_block_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, *FRAME), np.uint8)
    whole = coded(frames, bits=3)
    monkeypatch.setattr("rlcondense.datasets.coding.AT_A_TIME", 16)
    parts = coded(frames, bits=3)
    np.testing.assert_array_equal(parts.arrays["observations"], whole.arrays["observations"])
    seen = whole.columns()["observations"]
    np.testing.assert_array_equal(parts.columns()["observations"], seen)


def test_low_resolution_keeps_means_and_shows_ramps_as_ramps() -> None:
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32) * 20, (1, *FRAME)).copy()
    rows = coded(ramp, bits=8, resolution=6)
    assert rows.arrays["observations"].nbytes == 3 * 6 * 6
    seen = rows.columns()["observations"]
    assert seen.shape == (1, *FRAME)
    np.testing.assert_allclose(seen[..., 1:-1], ramp[..., 1:-1], atol=1)  # edges are repeated
    other = coded(ramp, bits=8, resolution=5).columns()["observations"]  # no divisor of 12
    np.testing.assert_allclose(other[..., 2:-2], ramp[..., 2:-2], atol=4)


@pytest.mark.parametrize("shape", [VECTOR, FRAME])
@pytest.mark.parametrize("most", [100, 9_999])
@pytest.mark.parametrize("bits", [1, 5, 8])
def test_as_many_rows_as_fit(bits: int, most: int, shape: tuple[int, ...]) -> None:
    coding = Coding(bits, shape)
    try:
        rows = coding.rows(most, 3)
    except BadConfig:
        assert coding.size(1, 3) > most
        return
    assert coding.size(rows, 3) <= most < coding.size(rows + 1, 3)


def test_labels_cost_what_is_stored() -> None:
    assert label_bytes("hard", Discrete(15)) == 1
    assert label_bytes("hard", Discrete(300)) == 2
    assert label_bytes("soft", Discrete(15)) == 15
    assert label_bytes("targets", Discrete(15)) == 60
    assert label_bytes("continuous", Box(-1, 1, (3,))) == 12


def file_bytes(data: CondensedDataset, folder: Path) -> int:
    """Bytes of the arrays in a set's file, without the container's header."""
    data.save(folder)
    path = folder / "condensed.safetensors"
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert read_header(path)
    return path.stat().st_size - 8 - header


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("random", {}, {"bits": 2}),
    ("random", {"labels": "soft"}, {"bits": 7, "resolution": 6}),
    ("distmatch", {"iterations": 1, "network": "mlp"}, {"bits": 5}),
    ("gradient-omp", {"updates": 2, "network": "mlp", "networks": 1}, {"bits": 4}),
    ("dbc", {"iterations": 1, "network": "mlp", "inner_steps": 2, "window": 1}, {"bits": 3}),
    ("dbc", {"iterations": 1, "network": "mlp", "inner_steps": 2, "window": 1,
             "loss": "logit-mse"}, {}),
    ("ppmo", {"iterations": 1, "num_envs": 2, "rollout_length": 6, "minibatches": 1}, {"bits": 6}),
    ("hades-f", {"population": 2, "generations": 1, "width": 4, "inner_updates": 1,
                 "episodes": 1, "horizon": 8}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "settings", "form"), CASES)
def test_the_file_has_the_bytes_that_are_claimed_and_no_more_than_allowed(
    id_: str, settings: Mapping[str, Any], form: Mapping[str, Any], tmp_path: Path
) -> None:
    source = DATA if DATA.action_probs is not None else with_probs(DATA)
    method = make_method(id_, **settings)
    budget = Budget(bytes=12_000, **form)
    data = method.condense(source, task=GRID, budget=budget)
    assert data.report is not None
    assert file_bytes(data, tmp_path) == data.report.bytes <= 12_000
    assert data.report.bytes > 12_000 - 600  # one more row would be too much
    again = load_condensed(tmp_path)
    assert again.sha256 == data.sha256
    np.testing.assert_array_equal(again.observations, data.observations)
    assert again.stored().keys() == data.stored().keys()
    assert data.report.budget == budget.to_json()


def with_probs(data: TransitionDataset) -> TransitionDataset:
    probs = 0.7 * np.eye(4, dtype=np.float32)[data.actions] + np.float32(0.075)
    return replace(data, action_probs=probs, known_sha256="")


def test_fewer_bits_hold_more_rows_and_the_learner_sees_them_decoded() -> None:
    sets = [
        make_method("random").condense(DATA, task=GRID, budget=Budget(bytes=4000, bits=bits))
        for bits in (1, 8)
    ]
    assert len(sets[0]) > 7 * len(sets[1])
    assert set(np.unique(sets[0].observations)) <= {0, 255}
    assert "rewards" not in sets[0].provides()
    assert sets[0].source_indices is None
    learner = make_learner("bc", network="mlp", updates=2)
    for data in sets:
        learner.fit(data, task=GRID, seeds=[0])


def test_eight_bits_of_a_selection_are_its_frames() -> None:
    budget = Budget(bytes=433 * 9)
    stored = make_method("random").condense(DATA, task=GRID, budget=budget)
    plain = make_method("random").condense(DATA, task=GRID, budget=9)
    np.testing.assert_array_equal(stored.observations, plain.observations)
    np.testing.assert_array_equal(stored.actions, plain.actions)


def test_continuous_actions_are_stored_as_they_are(tmp_path: Path) -> None:
    data = make_method("random").condense(
        sample_box_data(), task=SampleBoxTask(), budget=Budget(bytes=500, bits=6)
    )
    assert data.report is not None
    assert data.label_kind == "continuous"
    assert file_bytes(data, tmp_path) == data.report.bytes <= 500
    assert np.isin(data.actions, sample_box_data().actions).all()


class Heavy(Method[Any]):
    """Weighs its rows, and does not say so."""

    def _condense(self, problem: Problem) -> Condensation:
        rows = np.arange(problem.size)
        return replace(select(problem.dataset, rows), weights=1 + rows.astype(np.float32))


def test_more_bytes_than_allowed_are_refused() -> None:
    with pytest.raises(BudgetExceeded, match="stores 4370 bytes, allowed are 4330"):
        Heavy(id="heavy").condense(DATA, task=GRID, budget=Budget(bytes=4330))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bytes": 10}, "hold no row: one takes 433"),
        ({"bytes": 10**9}, "transitions of the data"),
        ({"bytes": 10**11}, "when read: at most 2,147,483,648 are"),
        ({"bytes": 4000, "bits": 17}, "bits"),
        ({"bytes": 4000, "bits": 9}, "8 bits a pixel at most"),
        ({"bytes": 4000, "resolution": 13}, "resolution 13 is not for observations"),
        ({"size": 3, "bits": 4}, "go with a budget in bytes"),
        ({"size": 3, "bytes": 4000}, "a size, a percentage or a number of bytes"),
    ],
)
def test_budgets_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        make_method("random").condense(DATA, task=GRID, budget=Budget(**settings))


def test_transitions_with_rewards_have_no_budget_in_bytes() -> None:
    with pytest.raises(BadConfig, match="makes rewards too"):
        make_method("qmatch").condense(DATA, task=GRID, budget=Budget(bytes=9000))


def test_a_file_without_its_form_is_refused(tmp_path: Path) -> None:
    task = make_task("cartpole")
    quick = {"iterations": 1, "num_envs": 2, "rollout_length": 6, "minibatches": 1}
    make_method("ppmo", **quick).condense(None, task=task, budget=Budget(bytes=200)).save(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    del report["sha256"]  # else it would be the sha256 that does not agree
    forms: list[tuple[dict[str, Any] | None, str]] = [
        (None, "need both codes and a coding"),
        ({"bits": 99, "shape": [4]}, "bits must be at most 16, not 99"),
        ({"bits": 17, "shape": [4]}, "bits must be at most 16, not 17"),
        ({"bits": 9, "shape": [4]}, "are not those of 13 rows"),
        ({"bits": 8, "shape": [5]}, "are not those of 13 rows"),
        ({"bits": 8, "shape": [-4, -1]}, "must be at least 1, not -4"),
        ({"bits": 8, "shape": [10**6, 10**6]}, "numbers of an observation must be at most"),
        ({"bits": 8, "shape": [4, 4096, 4096], "resolution": 1}, "numbers of an observation"),
        ({"bits": 8, "shape": "abcd"}, "must be a whole number, not 'a'"),
        ({"bits": 8}, "does not hold a condensed dataset: 'shape'"),
    ]
    for form, message in forms:
        changed = {**report, "coding": form} if form else {**report}
        if form is None:
            del changed["coding"]
        (tmp_path / "report.json").write_text(json.dumps(changed))
        with pytest.raises(CorruptArtifact, match=message):
            load_condensed(tmp_path)


def test_rows_beyond_memory_are_refused_before_they_are_decoded() -> None:
    frames = np.zeros((2000, 1, 4, 4), np.uint8)
    rows = coded(frames, bits=1, resolution=1)
    large = CodedRows(Coding(1, (1, 4096, 4096), 1), rows.arrays)
    with pytest.raises(CorruptArtifact, match="at most"):
        large.columns()
    with pytest.raises(CorruptArtifact, match="at most"):  # more than a gigabyte of some bytes
        CodedRows(Coding(1, (1, 2048, 1024), 1), rows.arrays).columns()
