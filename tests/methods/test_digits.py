"""Matching on a problem small enough to know: naming scikit-learn's digits, a frame of 8 x 8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from scipy import stats
from sklearn.datasets import load_digits

from rlcondense.checks.common import SampleBoxTask
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_learner, make_method

SEEDS, SIZE = 5, 20
STUDENT = {"network": "mlp", "width": 64, "updates": 300, "batch_size": 20, "learning_rate": 1e-3}


class Digits(SampleBoxTask):
    """An episode is one digit and the right name its reward."""

    id = "tests/digits-v0"
    observation_space = Box(0, 16, (64,), np.float32)
    action_space = Discrete(10)  # type: ignore[assignment]


Held = tuple[TransitionDataset, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> Held:
    """1,297 digits as one-step episodes of a policy that never errs, and 500 held out."""
    x, y = load_digits(return_X_y=True)
    x, y = x.astype(np.float32), y.astype(np.int64)
    seen, n = slice(500, None), len(x) - 500
    data = TransitionDataset(
        observations=x[seen],
        actions=y[seen],
        rewards=np.ones(n, np.float32),
        terminations=np.ones(n, bool),
        truncations=np.zeros(n, bool),
        episode_ids=np.arange(n),
        steps=np.zeros(n, np.int64),
        id="tests/digits",
        task=Digits.id,
    )
    return data, x[:500], y[:500]


def accuracies(id_: str, digits: Held, **settings: object) -> np.ndarray:
    """The mean return of two students on held-out digits, for each condensation seed."""
    data, x, y = digits
    found = []
    for seed in range(SEEDS):
        method = make_method(id_, **settings)
        small = method.condense(data, task=Digits(), budget=SIZE, seed=seed)
        assert len(small) == SIZE
        students = make_learner("bc", **STUDENT).fit(small, task=Digits(), seeds=range(2))
        with torch.no_grad():
            named = [n(torch.from_numpy(x)).argmax(1).numpy() for n in students.networks]
        found.append(np.mean([(names == y).mean() for names in named]))
    return np.array(found)


@pytest.fixture(scope="module")
def random_rows(digits: Held) -> np.ndarray:
    return accuracies("random-balanced", digits)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        pytest.param("gradmatch", {}, marks=pytest.mark.slow),
        pytest.param("frepo", {"labels": "hard", "start": "balanced"}, marks=pytest.mark.slow),
    ],
)
def test_synthetic_digits_teach_more_than_as_many_real_ones(
    method: str, settings: dict[str, object], digits: Held, random_rows: np.ndarray
) -> None:
    """The same size, labels and students; paired by seed, an interval of 95% above zero."""
    found = accuracies(method, digits, network="mlp", iterations=40, **settings)
    gain = stats.ttest_1samp(found - random_rows, 0).confidence_interval()
    assert gain.low > 0, (found, random_rows)


@pytest.mark.slow
def test_their_start_alone_teaches_what_real_ones_do(digits: Held, random_rows: np.ndarray) -> None:
    found = accuracies("init-only", digits)
    assert np.array_equal(found, random_rows)
