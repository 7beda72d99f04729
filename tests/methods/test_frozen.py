"""FRePo with a frozen encoder, and students that train the last layer alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.learners.bc import BCConfig, _Rows, _train, initial_network
from rlcondense.make import make_learner, make_method
from rlcondense.methods.base import Method
from rlcondense.networks import is_of_head
from rlcondense.policies import NetworkPolicies
from tests.small_tasks import Gridworld, play

GRID = Gridworld()
DATA = play(GRID, GRID.shortest, 300, noise=0.1)
QUICK = {"network": "mlp", "width": 16, "iterations": 20, "encoder": "frozen", "real_batch": 64}
Made = tuple[Method[Any], CondensedDataset]


def frozen(**settings: Any) -> Made:
    method = make_method("frepo", **{**QUICK, "encoder_updates": 60, **settings})
    return method, method.condense(DATA, task=GRID, budget=8)


@pytest.fixture(scope="module")
def made() -> Made:
    return frozen(learning_rate=4.0, label_learning_rate=0.1)


def weights(network: torch.nn.Module, head: bool) -> torch.Tensor:
    parameters = network.named_parameters()
    return torch.cat([p.detach().flatten() for name, p in parameters if is_of_head(name) == head])


def student(method: Method[Any], data: CondensedDataset, **settings: Any) -> torch.nn.Module:
    learner = make_learner("bc", **{**method.students(GRID), "updates": 20, **settings})
    policies = learner.fit(data, task=GRID, seeds=[0])
    assert isinstance(policies, NetworkPolicies)
    return policies.networks[0]


def test_the_loss_falls_and_the_set_carries_the_encoder(made: Made, tmp_path: Path) -> None:
    _, data = made
    assert data.report is not None
    loss = data.report.matching_loss
    assert loss is not None
    assert loss.after < 0.95 * loss.before
    data.save(tmp_path)
    assert load_condensed(tmp_path).sha256 == data.sha256
    assert data.report.initialisation_bytes == 4 * (432 * 16 + 16 + 16 * 16 + 16 + 16 * 4 + 4)


def test_features_of_a_trained_encoder_regress_better() -> None:
    losses = []
    for updates in (1, 80):
        report = frozen(encoder_updates=updates, iterations=1)[1].report
        assert report is not None
        assert report.matching_loss is not None
        losses.append(report.matching_loss.before)
    assert losses[1] < losses[0]


def test_students_keep_the_encoder_and_train_a_new_last_layer(made: Made) -> None:
    method, data = made
    start = data.initialisation
    assert start is not None
    carried = {
        head: np.concatenate([w.ravel() for n, w in start.weights.items() if is_of_head(n) == head])
        for head in (True, False)
    }
    trained = student(method, data)
    assert np.array_equal(weights(trained, head=False).numpy(), carried[False])
    assert not np.allclose(weights(trained, head=True).numpy(), carried[True])
    assert all(p.requires_grad for p in trained.parameters())
    whole = student(method, data, train="all")
    assert not np.allclose(weights(whole, head=False).numpy(), carried[False])


def test_students_side_by_side_train_the_last_layer_as_alone(made: Made) -> None:
    method, data = made
    learner: Any = make_learner("bc", **{**method.students(GRID), "updates": 5})
    config: BCConfig = learner.config
    spec = learner._spec(data.observations.shape[1:], GRID)
    rows = _Rows(data, data.column("action_probs"), "cpu")
    both, _ = _train(rows, spec, config, [0, 1], "cpu", lambda *_: None, data.initialisation)
    [alone], _ = _train(rows, spec, config, [1], "cpu", lambda *_: None, data.initialisation)
    for a, b in zip(both[1].parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_without_initial_weights_everything_is_trained(made: Made) -> None:
    method, data = made
    trained: Any = student(method, replace(data, initialisation=None))
    initial = initial_network(trained.spec, 0, None)
    assert not torch.allclose(weights(trained, head=False), weights(initial, head=False))


def test_the_pool_says_nothing_of_students() -> None:
    assert make_method("frepo").students(GRID) == {}


def test_a_budget_in_bytes_counts_the_encoder() -> None:
    method = make_method("frepo", **QUICK, encoder_updates=2)
    data = method.condense(sample_box_data(), task=SampleBoxTask(), budget=Budget(bytes=4000))
    assert data.report is not None
    assert data.initialisation is not None
    assert 3900 < data.report.bytes <= 4000
