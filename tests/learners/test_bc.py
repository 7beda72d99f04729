from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.learners.bc import _batches
from rlcondense.making import make_learner, make_method
from rlcondense.methods.condensed import CondensedDataset
from rlcondense.policies import NetworkPolicies
from rlcondense.tasks.base import Task

QUICK = {"network": "cnn4", "updates": 3, "batch_size": 16}


def _fit(
    data: CondensedDataset, task: Task, seeds: object = (0,), **settings: object
) -> NetworkPolicies:
    return make_learner("bc", **{**QUICK, **settings}).fit(data, task=task, seeds=seeds)  # type: ignore[arg-type, return-value]


def _weights(policies: NetworkPolicies, index: int = 0) -> torch.Tensor:
    return torch.cat([p.flatten() for p in policies.networks[index].parameters()])


@pytest.fixture(scope="module")
def small(tiny: TransitionDataset, task: Task) -> CondensedDataset:
    return make_method("random", labels="soft").condense(tiny, task=task, budget=40)


def test_a_policy_depends_on_its_own_seed_alone(small: CondensedDataset, task: Task) -> None:
    together = _fit(small, task, (0, 1, 2))
    alone = _fit(small, task, (1,))
    assert torch.equal(_weights(together, 1), _weights(alone))
    assert not torch.equal(_weights(together, 0), _weights(together, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "nature"},
        {"loss": "softmax-mse"},
        {"loss": "nll"},
        {"input": "raw"},
        {"updates": 4},
        {"batch_size": 8},
        {"batch_size": None},
        {"optimiser": "sgd"},
        {"optimiser": "adamw", "learning_rate": 0.01},
        {"learning_rate": 1e-2},
    ],
    ids=str,
)
def test_every_setting_changes_the_trained_weights(
    settings: dict[str, object], small: CondensedDataset, task: Task
) -> None:
    changed, plain = _weights(_fit(small, task, **settings)), _weights(_fit(small, task))
    assert changed.shape != plain.shape or not torch.equal(changed, plain)


def test_hard_and_soft_labels_and_weights_change_the_trained_weights(
    small: CondensedDataset, task: Task
) -> None:
    soft = _weights(_fit(small, task))
    hard = _weights(_fit(replace(small, label_kind="hard"), task))
    weighted = replace(small, weights=np.linspace(0.1, 2, 40).astype(np.float32))
    assert not torch.equal(soft, hard)
    assert not torch.equal(soft, _weights(_fit(weighted, task)))


def test_a_row_of_weight_zero_teaches_nothing(small: CondensedDataset, task: Task) -> None:
    weights = np.ones(40, np.float32)
    weights[0] = 0
    frames = np.array(small.observations)
    frames[0] = 255 - frames[0]
    a = _fit(replace(small, weights=weights), task)
    b = _fit(replace(small, weights=weights, observations=frames), task)
    torch.testing.assert_close(_weights(a), _weights(b))


def test_it_learns_what_it_is_shown(small: CondensedDataset, task: Task) -> None:
    policies = _fit(small, task, network="nature", updates=150, learning_rate=1e-3, loss="nll")
    probs = policies.action_probs(small.observations, np.zeros(40, int))
    assert (probs.argmax(1) == small.actions).mean() > 0.9


def test_every_row_comes_equally_often_and_batches_are_full() -> None:
    batches = _batches(10, 16, np.random.default_rng(0))
    drawn = np.concatenate([next(batches) for _ in range(5)])
    assert (np.bincount(drawn) == 8).all()


def test_a_bad_setting_is_refused_before_training() -> None:
    with pytest.raises(BadConfig, match="updates must be above 0"):
        make_learner("bc", updates=0)
