"""PPO's gradient through supervised steps, and what two rows do for cart-pole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlcondense.cloning import losses_of_head
from rlcondense.datasets.condensed import load_condensed
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.methods.parts.unrolled import Training, differentiate
from rlcondense.methods.ppmo import episode_returns, objective
from rlcondense.policy_gradient import DISTRIBUTIONS
from tests.small_tasks import Reach

QUICK = {"iterations": 2, "num_envs": 2, "rollout_length": 10, "epochs": 1, "minibatches": 2}
LONGER = {"iterations": 6, "num_envs": 16, "rollout_length": 60, "epochs": 2, "learning_rate": 0.1}


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(steps: int, head: str) -> None:
    outputs = 2 if head == "categorical" else 4  # two actions, or two means and log deviations
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()
        x, played = torch.randn(2, 3).double(), torch.randn(8, 3).double()
        y, drawn = torch.randn(2, 2).double(), torch.randn(8, 2).double()
        advantages = torch.randn(8).double()
    inputs = [x.requires_grad_(), y.requires_grad_(), torch.tensor(0.3).double().requires_grad_()]
    actions = drawn.argmax(1) if head == "categorical" else drawn
    training = Training(network, losses_of_head(head, "logit-mse"), "sgd", None)
    start = training.begin(network.parameters())
    with torch.no_grad():  # what another student gave, so that some ratios are clipped
        before = DISTRIBUTIONS[head](training.outputs(start, played)).log_probs(actions)
    batch = {
        "observations": played, "actions": actions, "log_probs": before, "advantages": advantages,
    }  # fmt: skip
    outer = objective(training, head, batch, clip=0.2, entropy_bonus=0.05)
    _, gradients = differentiate(training, outer, start, range(steps), inputs, 2)

    def value() -> float:
        state = list(start)
        for i in range(steps):
            state = training(i, state, inputs, False)
        return float(outer(state))

    for tensor, gradient in zip(inputs, gradients, strict=True):
        flat, numeric = tensor.data.view(-1), torch.zeros(tensor.numel()).double()
        for k in range(len(flat)):
            kept = flat[k].item()
            flat[k] = kept + 1e-6
            above = value()
            flat[k] = kept - 1e-6
            numeric[k] = (above - value()) / 2e-6
            flat[k] = kept
        assert torch.allclose(gradient.view(-1), numeric, rtol=1e-4, atol=1e-8)
        assert numeric.abs().max() > 1e-3


def test_two_rows_and_a_step_make_new_networks_balance_the_pole_longer() -> None:
    task = make_task("cartpole")
    method = make_method("ppmo", **{**QUICK, **LONGER})
    data = method.condense(None, task=task, budget=2)
    assert data.report is not None
    assert data.report.curve is not None
    means = data.report.curve["mean"]
    assert means[-1] > 1.5 * means[0]
    assert data.report.cost.environment_steps == 6 * 60 * 16 == data.report.curve["steps"][-1]
    assert data.learning_rate not in (None, 1.0)


def test_students_take_the_step_size_that_comes_with_the_rows(tmp_path: Path) -> None:
    task = make_task("cartpole")
    method = make_method("ppmo", **QUICK, inner_rate=2.0)
    data = method.condense(None, task=task, budget=2)
    data.save(tmp_path)
    again = load_condensed(tmp_path)
    assert (again.learning_rate, again.sha256) == (data.learning_rate, data.sha256)

    def weights(**settings: object) -> Tensor:
        learner = make_learner("bc", **{**method.students(task), **settings})
        [network] = learner.fit(again, task=task, seeds=[0]).networks
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    learned = weights()
    assert torch.equal(learned, weights(rate="own", learning_rate=data.learning_rate))
    assert not torch.equal(learned, weights(rate="own"))


def test_a_set_without_a_step_size_leaves_the_learner_its_own() -> None:
    task, method = make_task("cartpole"), make_method("ppmo", **QUICK)
    rows = replace(method.condense(None, task=task, budget=2), learning_rate=None)
    weights = []
    for rate in ("own", "dataset"):
        learner = make_learner("bc", **{**method.students(task), "rate": rate})
        weights.append(learner.fit(rows, task=task, seeds=[0]).networks[0].state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_step_size_that_is_none_is_refused() -> None:
    data = make_method("ppmo", **QUICK).condense(None, task=make_task("cartpole"), budget=2)
    for rate in (0.0, float("nan"), 0.1):  # 0.1 is no float32
        with pytest.raises(CorruptArtifact, match="learning_rate"):
            replace(data, learning_rate=rate)


def test_continuous_actions_are_learned_within_their_bounds() -> None:
    data = make_method("ppmo", **QUICK, learning_rate=1.0).condense(None, task=Reach(), budget=3)
    assert data.label_kind == "continuous"
    assert np.abs(data.actions).max() == pytest.approx(0.5)


def test_returns_are_those_of_ended_episodes_or_of_all_where_none_ended() -> None:
    rewards = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    ends = np.array([[False, False], [True, False], [False, False]])
    assert episode_returns(rewards, ends).tolist() == [4.0]
    assert episode_returns(rewards, np.zeros_like(ends)).tolist() == [9.0, 12.0]


def test_only_a_learner_of_full_batches_can_be_followed() -> None:
    with pytest.raises(BadConfig, match="batch_size=none"):
        type(make_method("ppmo")).settings_like({"batch_size": 64})
    with pytest.raises(BadConfig, match=r"learner\.input=scaled"):
        type(make_method("ppmo")).settings_like(
            {"batch_size": None, "optimiser": "sgd", "loss": "logit-mse", "input": "raw"}
        )


def test_a_learner_of_vectors_of_actions_is_followed_too() -> None:
    reach, whole = Reach(), {"batch_size": None, "optimiser": "sgd", "network": "mlp"}
    learner = make_learner("bc", reach, loss="nll", log_std="plain", updates=3, **whole)
    config = make_method("ppmo", reach, learner, student="learner").config
    assert (config.log_std, config.inner_steps) == ("plain", 3)
    with pytest.raises(BadConfig, match=r"needs learner\.loss=logit-mse, not nll"):
        make_method("ppmo", "cartpole", learner, student="learner")
    default = make_learner("bc", reach, updates=3, **whole)
    assert make_method("ppmo", reach, default, student="learner").config.inner_steps == 3


def test_the_noise_of_continuous_policies_is_learned_as_plainly_as_the_authors_do() -> None:
    """A step of size one would bring a scaled log-deviation to its bound."""
    method, reach = make_method("ppmo"), Reach()
    assert method.config.spec(reach).log_std == "plain"
    assert method.students(reach)["log_std"] == "plain"
    assert "log_std" not in make_method("ppmo", "cartpole").students(make_task("cartpole"))


def test_a_student_that_diverges_is_one_clear_error() -> None:
    method = make_method("ppmo", **QUICK, inner_steps=60, inner_rate=100.0)
    with pytest.raises(RLCondenseError, match=r"has diverged: a smaller inner_rate"):
        method.condense(None, task=make_task("cartpole"), budget=16)
