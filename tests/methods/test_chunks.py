from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_method
from rlcondense.methods.parts import chunks
from rlcondense.networks import PolicyNetwork
from rlcondense.tasks.base import Task

METHODS: dict[str, dict[str, Any]] = {
    "frepo": {"pool": 1, "oldest": 2, "student_batch": 4, "learning_rate": 1e5},
    "distmatch": {"augmentation": "shift", "learning_rate": 1e5},
    "gradmatch": {"theta": "initial", "start": "balanced", "learning_rate": 1e3},
    "ncfm": {"frequencies": 16, "networks": 1, "network_updates": 2, "learning_rate": 1e3},
}
# Steps in proportion to the gradient: Adam's would make rounding of the smallest ones visible.
SGD = {"outer_optimiser": "sgd", "label_learning_rate": 1.0}
QUICK = {"iterations": 2, "real_batch": 4}


def _condensed(id_: str, tiny: TransitionDataset, task: Task) -> CondensedDataset:
    method = make_method(id_, **QUICK, **SGD, network="compact", **METHODS[id_])
    return method.condense(tiny, task=task, budget=20)


@pytest.mark.parametrize("id_", sorted(METHODS))
def test_a_set_of_many_chunks_is_that_of_one_up_to_rounding(
    id_: str, tiny: TransitionDataset, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.methods.parts.features.BATCH", 8)  # of its networks' training
    whole = _condensed(id_, tiny, task)
    monkeypatch.setattr(chunks, "CHUNK", 8)
    largest = [0]
    features = PolicyNetwork.features

    def counted(self: PolicyNetwork, observations: Tensor) -> Tensor:
        largest[0] = max(largest[0], len(observations))
        return features(self, observations)

    monkeypatch.setattr(PolicyNetwork, "features", counted)
    parts = _condensed(id_, tiny, task)
    assert largest[0] == 8
    moved = whole.report.displacement
    assert moved is not None
    assert moved.largest > 0.1
    apart = np.abs(parts.observations - whole.observations).max()
    assert apart < 0.01 * moved.largest
    np.testing.assert_allclose(parts.column("action_probs"), whole.column("action_probs"), 1e-4)
    before, after = whole.report.matching_loss, parts.report.matching_loss
    assert before is not None
    assert after is not None
    assert after.after == pytest.approx(before.after, rel=1e-4)


def test_continuous_actions_are_learned_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def condensed() -> CondensedDataset:
        method = make_method(
            "gradmatch", **QUICK, **SGD, network="mlp", labels="learned", learning_rate=1.0
        )
        return method.condense(sample_box_data(), task=SampleBoxTask(), budget=10)

    whole = condensed()
    monkeypatch.setattr(chunks, "CHUNK", 4)
    np.testing.assert_allclose(condensed().actions, whole.actions, rtol=1e-3, atol=1e-5)
