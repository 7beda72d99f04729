from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense.checks.common import sample_box_data
from rlcondense.cloning import DISCRETE_LOSSES, row_losses, shuffled_batches
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.evaluation import evaluate
from rlcondense.learners import bc
from rlcondense.learners.bc import BCConfig, _cropped, _Rows, _train
from rlcondense.make import make_learner, make_method
from rlcondense.methods.full import held_back_rows
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import NetworkPolicies, load_policies, random_policies
from rlcondense.protocol import protocol_of
from rlcondense.tasks.base import Task
from tests.small_tasks import Reach, play

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
        {"loss": "softmax-mae"},
        {"loss": "nll"},
        {"input": "raw"},
        {"updates": 4},
        {"batch_size": 8},
        {"batch_size": None},
        {"optimiser": "sgd"},
        {"optimiser": "adamw"},
        {"learning_rate": 1e-2},
        {"augmentation": "random-crop"},
        {"width": 2},
        {"network": "mlp"},
    ],
    ids=str,
)
def test_every_setting_changes_the_trained_weights(
    settings: dict[str, object], small: CondensedDataset, task: Task
) -> None:
    # Decay is too little to see at a small rate, and width is impala's.
    beside: dict[str, object] = {"learning_rate": 0.01} if "optimiser" in settings else {}
    beside |= {"network": "impala"} if "width" in settings else {}
    changed = _weights(_fit(small, task, **{**beside, **settings}))
    plain = _weights(_fit(small, task, **beside))
    assert changed.shape != plain.shape or not torch.equal(changed, plain)


@pytest.mark.parametrize("settings", [{"width": 64}, {"depth": 1}, {"activation": "tanh"}], ids=str)
def test_every_setting_of_the_mlp_changes_the_trained_weights(
    settings: dict[str, object], small: CondensedDataset, task: Task
) -> None:
    changed = _weights(_fit(small, task, network="mlp", **settings))
    plain = _weights(_fit(small, task, network="mlp"))
    assert changed.shape != plain.shape or not torch.equal(changed, plain)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("nature", {"augmentation": "random-crop"}),
        ("cnn4", {"optimiser": "sgd", "loss": "softmax-mse"}),
        ("compact", {}),
        ("impala", {}),
        ("impala-patch2", {}),
        ("impala-patch4", {}),
        ("mlp", {"optimiser": "adamw"}),
    ],
)
def test_students_trained_together_are_those_trained_alone(
    network: str, settings: dict[str, Any], small: CondensedDataset
) -> None:
    config = BCConfig(network=network, updates=5, batch_size=8, learning_rate=1e-3, **settings)
    rows = _Rows(small, np.eye(15, dtype=np.float32)[small.actions], "cpu")
    spec = NetworkSpec(network, (3, 64, 64), 15)

    def train(seeds: list[int]) -> list[torch.Tensor]:
        networks, _ = _train(rows, spec, config, seeds, "cpu", lambda *_: None)
        return [torch.cat([p.flatten() for p in network.parameters()]) for network in networks]

    together, alone = train([3, 4, 5]), [train([seed])[0] for seed in (3, 4, 5)]
    assert not torch.equal(alone[0], alone[1])
    for a, b in zip(together, alone, strict=True):
        # Sums in another order; of a gradient that is nothing but rounding Adam makes a whole step.
        assert (a - b).abs().mean() < 1e-6


def test_a_random_crop_shifts_each_frame_by_up_to_four_pixels_and_repeats_edges() -> None:
    frame = torch.arange(100.0).reshape(1, 10, 10).expand(1, 40, 3, 10, 10)
    moved = _cropped(frame, [np.random.default_rng(0)])[0, :, 0]
    offsets = set()
    for image in moved:
        dy, dx = int(image[4, 4] - 44) // 10, int(image[4, 4] - 44) % 10
        dx = dx - 10 if dx > 5 else dx
        dy = int((image[4, 4] - 44 - dx) // 10)
        offsets.add((dy, dx))
        y, x = ((torch.arange(10) + d).clamp(0, 9) for d in (dy, dx))
        assert torch.equal(image, frame[0, 0, 0][y][:, x])
    assert max(max(abs(dy), abs(dx)) for dy, dx in offsets) == 4
    assert len(offsets) > 20


def test_hard_and_soft_labels_and_weights_change_the_trained_weights(
    small: CondensedDataset, task: Task
) -> None:
    soft = _weights(_fit(small, task))
    hard = _weights(_fit(replace(small, label_kind="hard"), task))
    weighted = replace(small, weights=np.linspace(0.1, 2, 40).astype(np.float32))
    assert not torch.equal(soft, hard)
    changed = _fit(weighted, task, optimiser="sgd")
    assert not torch.equal(_weights(changed), _weights(_fit(small, task, optimiser="sgd")))
    doubled = _fit(replace(weighted, weights=2 * weighted.weights), task, optimiser="sgd")
    assert torch.equal(_weights(doubled), _weights(changed))  # only their ratios count


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
    batches = shuffled_batches(10, 16, np.random.default_rng(0))
    drawn = np.concatenate([next(batches) for _ in range(5)])
    assert (np.bincount(drawn) == 8).all()


def test_a_bad_setting_is_refused_before_training() -> None:
    with pytest.raises(BadConfig, match="updates must be above 0"):
        make_learner("bc", updates=0)


REACH = Reach()


@pytest.fixture(scope="module")
def reaches() -> CondensedDataset:
    """All of some episodes that go nearly straight to the middle, in continuous steps."""
    data = play(REACH, REACH.shortest, 600, noise=0.1)
    return make_method("full").condense(data, task=REACH, budget=len(data))


def test_continuous_actions_are_cloned_with_their_spread(reaches: CondensedDataset) -> None:
    settings = {"network": "mlp", "width": 64, "updates": 500}
    drawn, greedy = (
        make_learner("bc", action_selection=how, **settings).fit(reaches, task=REACH, seeds=(0,))
        for how in ("sample", "greedy")
    )
    shown = np.asarray(reaches.observations)
    index, noise = np.zeros(len(shown), int), np.random.default_rng(0).random((len(shown), 2))
    errors = greedy.act(shown, index, noise) - REACH.shortest(shown)
    assert np.abs(errors).mean() < 0.06
    # One step in ten was random: a spread of a tenth of a uniform step's squares.
    spread = (drawn.act(shown, index, noise) - greedy.act(shown, index, noise)).std()
    assert 0.04 < spread < 0.2
    scores = evaluate(greedy, REACH, "heldout", protocol=protocol_of(50))
    floor = evaluate(random_policies(REACH.action_space, [0]), REACH, protocol=protocol_of(50))
    assert scores.returns.mean() > floor.returns.mean() + 2


def test_students_of_continuous_actions_trained_together_are_those_trained_alone(
    reaches: CondensedDataset,
) -> None:
    config = BCConfig(network="mlp", width=32, updates=5, batch_size=8, learning_rate=1e-3)
    rows = _Rows(reaches, np.asarray(reaches.actions, np.float32), "cpu")
    spec = NetworkSpec("mlp", (2,), 2, width=32, head="gaussian")

    def train(seeds: list[int]) -> list[torch.Tensor]:
        networks, _ = _train(rows, spec, config, seeds, "cpu", lambda *_: None)
        return [torch.cat([p.flatten() for p in network.parameters()]) for network in networks]

    together, alone = train([3, 4]), [train([seed])[0] for seed in (3, 4)]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_four_continuous_actions_learned_by_heart_leave_every_number_finite(
    reaches: CondensedDataset,
) -> None:
    few = make_method("random").condense(
        play(REACH, REACH.shortest, 100, noise=0.5), task=REACH, budget=4
    )
    settings = {"network": "mlp", "updates": 600, "learning_rate": 0.01, "batch_size": None}
    policies = make_learner("bc", **settings).fit(few, task=REACH, seeds=(0,))
    index = np.zeros(4, int)
    acted = policies.act(np.asarray(few.observations), index, np.full((4, 2), 0.5))
    assert acted == pytest.approx(np.asarray(few.actions), abs=0.1)


@pytest.mark.parametrize("loss", DISCRETE_LOSSES)
def test_a_loss_of_distributions_is_refused_for_continuous_actions(
    loss: str, reaches: CondensedDataset
) -> None:
    with pytest.raises(BadConfig, match=f"'{loss}' is for discrete actions"):
        make_learner("bc", network="mlp", loss=loss).fit(reaches, task=REACH, seeds=(0,))


def test_losses_of_the_softmax_are_means_over_actions() -> None:
    logits, targets = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.eye(2)
    p = 1 / (1 + math.exp(-3))
    for name, expected in (("softmax-mse", [0.25, p**2]), ("softmax-mae", [0.5, p])):
        assert row_losses(logits, targets, name).tolist() == pytest.approx(expected)


@pytest.fixture(scope="module")
def whole(tiny: TransitionDataset, task: Task) -> CondensedDataset:
    return make_method("full-converged", labels="soft").condense(tiny, task=task, budget=len(tiny))


def test_whole_episodes_are_held_back(whole: CondensedDataset, tiny: TransitionDataset) -> None:
    held = whole.held_back
    assert held is not None
    kinds = [set(held[rows.start : rows.stop]) for rows in tiny.episodes]
    assert all(len(kind) == 1 for kind in kinds)
    assert sum(kind == {True} for kind in kinds) == 1  # a tenth of ten


def test_a_tenth_of_the_episodes_is_held_back_and_not_the_first_of_them() -> None:
    data = sample_box_data()
    ones, each = np.ones(200, np.bool_), np.arange(200)
    short = replace(
        data, terminations=ones, steps=0 * each, episode_ids=each, level_seeds=each, known_sha256=""
    )
    held = held_back_rows(short, 0.1)
    assert held.sum() == 20
    assert not held[:20].all()


def test_students_are_not_trained_on_what_is_held_back(
    whole: CondensedDataset, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bc, "CAP", 1)
    monkeypatch.setattr(bc, "LOOKS", 1)  # the loss is taken at the end alone, and decides nothing
    spoilt = np.array(whole.observations)
    spoilt[whole.held_back] = 255
    others = replace(whole, observations=spoilt)
    settings = {"updates": 2, "batch_size": 512, "network": "mlp", "width": 8}
    plain, changed = (_fit(data, task, **settings) for data in (whole, others))
    assert torch.equal(_weights(plain), _weights(changed))
    assert plain.training["held_back_loss"] != changed.training["held_back_loss"]  # type: ignore[index]


def test_training_ends_when_the_held_back_loss_has_stopped_falling(
    whole: CondensedDataset, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[torch.Tensor] = []
    look = bc._Watch.look

    def watched(self: bc._Watch, students: Any, update: int) -> None:
        look(self, students, update)
        looks.append(torch.cat([w.flatten() for w in students.weights(0).values()]).clone())

    # Rows learned by heart, whose labels tell nothing of the rows held back.
    rng = np.random.default_rng(0)
    probs = np.eye(15, dtype=np.float32)[rng.integers(0, 15, len(whole))]
    noise = replace(whole, action_probs=probs)
    settings = {
        "updates": 20, "batch_size": 16, "network": "mlp", "width": 32, "learning_rate": 0.01
    }  # fmt: skip
    policies = _fit(noise, task, (0, 1), **settings)
    told = policies.training
    assert told is not None
    for losses, best in zip(told["held_back_loss"], told["best_update"], strict=True):
        assert told["updates"][int(np.argmin(losses))] == best
        assert len(losses) < bc.LOOKS
        assert len(losses) - 1 - int(np.argmin(losses)) == bc.PATIENCE
    monkeypatch.setattr(bc._Watch, "look", watched)
    again = _fit(noise, task, (1,), **settings)
    assert again.training is not None
    [losses] = again.training["held_back_loss"]
    state = again.networks[0].state_dict().values()
    kept = torch.cat([w.flatten() for w in state])
    assert [torch.equal(kept, weights) for weights in looks].index(True) == int(np.argmin(losses))
    assert not torch.equal(kept, looks[-1])
    assert torch.equal(_weights(policies, 1), _weights(again))


@pytest.mark.slow
def test_students_that_train_together_each_end_as_they_do_alone(
    whole: CondensedDataset, task: Task
) -> None:
    rng = np.random.default_rng(0)
    config = BCConfig(network="mlp", width=8, updates=20, batch_size=16, learning_rate=0.01)
    noise = np.eye(15, dtype=np.float32)[rng.integers(0, 15, len(whole))]
    rows = _Rows(whole, noise, "cpu")
    spec = NetworkSpec("mlp", (3, 64, 64), 15, width=8)

    def ends(seeds: list[int]) -> tuple[list[PolicyNetwork], list[int], list[list[float]]]:
        networks, curve = _train(rows, spec, config, seeds, "cpu", lambda *_: None)
        assert curve is not None
        return networks, curve.best, curve.losses

    seeds = list(range(4))
    networks, best, losses = ends(seeds)
    assert len({len(curve) for curve in losses}) > 1
    for seed in seeds:
        (alone,), (best_alone,), (losses_alone,) = ends([seed])
        assert best[seed] == best_alone
        np.testing.assert_allclose(losses[seed], losses_alone, rtol=1e-4)
        for x, y in zip(networks[seed].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_a_lower_temperature_sharpens_the_policy(small: CondensedDataset, task: Task) -> None:
    frames, which = np.asarray(small.observations[:5]), np.zeros(5, np.int64)
    plain, sharp = (_fit(small, task, temperature=t) for t in (1.0, 0.5))
    assert torch.equal(_weights(plain), _weights(sharp))
    squared = plain.action_probs(frames, which) ** 2
    np.testing.assert_allclose(
        sharp.action_probs(frames, which), squared / squared.sum(1, keepdims=True), rtol=1e-5
    )


def test_a_temperature_is_kept_with_the_policies(
    small: CondensedDataset, task: Task, tmp_path: Path
) -> None:
    policies = _fit(small, task, temperature=0.5)
    policies.save(tmp_path)
    frames, which = np.asarray(small.observations[:5]), np.zeros(5, np.int64)
    read = load_policies(tmp_path)
    assert (read.action_probs(frames, which) == policies.action_probs(frames, which)).all()
