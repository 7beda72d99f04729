from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, read_json, write_arrays, write_json
from rlcondense.networks import FOR_FRAMES, NetworkSpec, PolicyNetwork
from rlcondense.policies import (
    NetworkPolicies,
    constant_policies,
    load_policies,
    marginal_policies,
    noise_stream,
    random_policies,
    sample_actions,
)
from tests.conftest import random_network


def test_sampled_actions_follow_the_distribution() -> None:
    probs = np.tile([0.5, 0.0, 0.2, 0.3], (20_000, 1))
    actions = sample_actions(probs, np.random.default_rng(0).random(20_000))
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 20_000, probs[0], atol=0.015)


def test_the_last_action_is_reached_and_never_passed() -> None:
    probs = np.array([[0.3, 0.3, 0.3]])
    assert sample_actions(probs, np.array([np.nextafter(1, 0)])) == [2]
    assert sample_actions(np.array([[0.0, 1.0, 0.0]]), np.array([0.0])) == [1]


def test_noise_depends_on_both_seeds_and_nothing_else() -> None:
    def first(evaluation: int, learner: int) -> list[np.ndarray]:
        return list(islice(noise_stream(evaluation, learner, 4), 3))

    assert np.array_equal(first(0, 1), first(0, 1))
    assert not np.array_equal(first(0, 1), first(0, 2))
    assert not np.array_equal(first(0, 1), first(1, 1))


def test_the_marginal_policy_has_the_datas_frequencies() -> None:
    policies = marginal_policies(np.array([0, 0, 0, 2]), Discrete(3), [0])
    np.testing.assert_allclose(
        policies.action_probs(np.zeros((1, 1)), np.zeros(1))[0], [0.75, 0, 0.25]
    )


def test_the_constant_policy_takes_the_most_frequent_action_or_the_mean() -> None:
    noise = np.linspace(0, 1, 9, endpoint=False)
    policies = constant_policies(np.array([2, 0, 2]), Discrete(3), [0])
    assert (policies.act(np.zeros((9, 1)), np.zeros(9), noise) == 2).all()
    actions = np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)
    box = constant_policies(actions, Box(-1, 1, (2,)), [0])
    acted = box.act(np.zeros((9, 1)), np.zeros(9), np.stack([noise, noise], 1))
    np.testing.assert_allclose(acted, [[0.25, 0.5]] * 9)


def test_the_random_policy_is_uniform() -> None:
    np.testing.assert_allclose(
        random_policies(Discrete(4), [0]).action_probs(np.zeros((1, 1)), np.zeros(1)), 0.25
    )


def test_the_random_policy_over_a_box_is_uniform_in_it() -> None:
    space = Box(np.array([-1, 0], np.float32), np.array([1, 5], np.float32))
    noise = np.random.default_rng(0).random((4000, 2))
    actions = random_policies(space, [0]).act(np.zeros((4000, 3)), np.zeros(4000, int), noise)
    assert all(space.contains(action) for action in actions)
    np.testing.assert_allclose(actions.mean(0), [0, 2.5], atol=0.08)
    np.testing.assert_allclose(actions.std(0), [2 / 12**0.5, 5 / 12**0.5], atol=0.05)
    with pytest.raises(BadConfig, match="bounded"):
        random_policies(Box(-np.inf, np.inf, (2,)), [0])


def test_the_marginal_policy_over_a_box_has_the_datas_mean_and_covariance() -> None:
    rng = np.random.default_rng(1)
    seen = rng.multivariate_normal([0.1, -0.2], [[0.04, 0.03], [0.03, 0.09]], 5000)
    policies = marginal_policies(seen.astype(np.float32), Box(-2, 2, (2,)), [0])
    actions = policies.act(np.zeros((5000, 1)), np.zeros(5000, int), rng.random((5000, 2)))
    np.testing.assert_allclose(actions.mean(0), seen.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(actions.T), np.cov(seen.T), atol=0.01)
    tight = marginal_policies(seen.astype(np.float32), Box(-0.1, 0.1, (2,)), [0])
    assert abs(tight.act(np.zeros((9, 1)), np.zeros(9, int), rng.random((9, 2)))).max() <= 0.1001
    single = marginal_policies(np.float32([[0.3, 0.5]]), Box(-1, 1, (2,)), [0])
    alone = single.act(np.zeros((2, 1)), np.zeros(2, int), rng.random((2, 2)))
    np.testing.assert_allclose(alone, [[0.3, 0.5]] * 2, rtol=1e-6)
    one = marginal_policies(np.float32([[0.3], [0.3]]), Box(-1, 1, (1,)), [0])
    assert one.act(np.zeros((2, 1)), np.zeros(2, int), rng.random((2, 1))) == pytest.approx(0.3)


def test_policies_act_by_their_index() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 3, 64, 64), dtype=np.uint8)
    both = NetworkPolicies([random_network(0), random_network(1)], [0, 1])
    alone = [NetworkPolicies([random_network(i)], [i]) for i in (0, 1)]
    index = np.array([0, 1, 0, 1, 1, 0])
    probs = both.action_probs(frames, index)
    for i in (0, 1):
        rows = index == i
        expected = alone[i].action_probs(frames[rows], np.zeros(3, int))
        assert np.array_equal(probs[rows], expected)


@pytest.mark.parametrize("name", FOR_FRAMES)
def test_policies_act_together_as_they_do_one_by_one(name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 3, 64, 64), dtype=np.uint8)
    policies = NetworkPolicies([random_network(i, name) for i in range(3)], [0, 1, 2])
    index = np.array([2, 0, 2, 2, 0, 1, 2, 1, 0])
    np.testing.assert_allclose(
        policies._together(frames, index), policies._one_by_one(frames, index), atol=1e-5
    )
    some = np.array([2, 0, 2, 2, 0, 0, 2, 0, 0])  # one has finished
    np.testing.assert_allclose(
        policies._together(frames, some), policies._one_by_one(frames, some), atol=1e-5
    )


def test_greedy_policies_ignore_the_noise() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
    greedy = NetworkPolicies([random_network()], [0], action_selection="greedy")
    index = np.zeros(5, int)
    expected = greedy.action_probs(frames, index).argmax(1)
    assert (greedy.act(frames, index, np.zeros(5)) == expected).all()
    with pytest.raises(BadConfig, match="action selection"):
        NetworkPolicies([random_network()], [0], action_selection="best")


def test_saved_policies_come_back_bit_for_bit(tmp_path: Path) -> None:
    policies = NetworkPolicies([random_network(0), random_network(1)], [4, 7])
    policies.save(tmp_path)
    again = load_policies(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    index = np.array([0, 1])
    assert again.seeds == (4, 7)
    assert "head" not in read_json(tmp_path / "policies.json")["network"]  # as it always was
    assert np.array_equal(again.action_probs(frames, index), policies.action_probs(frames, index))


def test_two_policies_of_one_seed_are_refused(tmp_path: Path) -> None:
    NetworkPolicies([random_network(0), random_network(1)], [4, 4]).save(tmp_path)
    with pytest.raises(CorruptArtifact, match="two policies of one seed"):
        load_policies(tmp_path)


def test_a_truncated_weights_file_is_one_clear_error(tmp_path: Path) -> None:
    NetworkPolicies([random_network()], [0]).save(tmp_path)
    file = tmp_path / "policies.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CorruptArtifact, match="not a readable safetensors file"):
        load_policies(tmp_path)


def gaussian_policies(seeds: tuple[int, ...] = (0, 1), **settings: str) -> NetworkPolicies:
    """Untrained policies over three numbers, of which the last is free."""
    spec = NetworkSpec("mlp", (5,), 3, width=16, head="gaussian")
    networks = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            networks.append(PolicyNetwork(spec))
            networks[-1].log_std.data = torch.tensor([0.0, -0.2, -0.5])
    return NetworkPolicies(networks, seeds, space=BOX, **settings)


BOX = Box(np.array([-2, 0, -np.inf], np.float32), np.array([2, 0.1, np.inf], np.float32))


def test_gaussian_policies_draw_from_their_mean_and_deviation_and_clip_to_the_box() -> None:
    policies, greedy = gaussian_policies(), gaussian_policies(action_selection="greedy")
    shown = np.tile(np.float32([[0.3, -1, 2, 0, 0.5]]), (20_000, 1))
    which = np.ones(20_000, int)
    noise = np.random.default_rng(0).random((20_000, 3))
    actions, means = policies.act(shown, which, noise), greedy.act(shown, which, noise)
    assert actions.dtype == means.dtype == np.float32
    assert (means == means[0]).all()
    # LOG_STD_GAIN is 10.
    assert actions[:, 2].std() == pytest.approx(np.exp(-5), rel=0.02)
    assert actions[:, 2].mean() == pytest.approx(means[0, 2], abs=2e-4)
    assert np.unique(actions[:, 0].clip(-1.9, 1.9)).size > 10_000
    assert {actions[:, 0].min(), actions[:, 0].max()} == {-2, 2}
    assert (actions[:, 1] >= 0).all()
    assert (actions[:, 1] <= np.float32(0.1)).all()
    with pytest.raises(NotImplementedError, match="no distribution over actions"):
        policies.action_probs(shown, which)


def test_gaussian_policies_act_together_as_they_do_one_by_one() -> None:
    policies = gaussian_policies((0, 1, 2))
    shown = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    index = np.array([2, 0, 2, 2, 0, 1, 2, 1, 0])
    np.testing.assert_allclose(
        policies._together(shown, index), policies._one_by_one(shown, index), atol=1e-6
    )


def test_saved_gaussian_policies_come_back_bit_for_bit(tmp_path: Path) -> None:
    policies = gaussian_policies()
    policies.save(tmp_path)
    again = load_policies(tmp_path)
    shown, noise = np.ones((2, 5), np.float32), np.full((2, 3), 0.9)
    index = np.array([0, 1])
    assert again.space == BOX
    assert np.array_equal(again.act(shown, index, noise), policies.act(shown, index, noise))


def test_a_gaussian_policy_needs_its_box() -> None:
    with pytest.raises(BadConfig, match="the box that actions are clipped to"):
        NetworkPolicies(gaussian_policies().networks, [0, 1], space=Discrete(3))


def test_a_box_of_another_size_than_the_actions_is_refused(tmp_path: Path) -> None:
    gaussian_policies().save(tmp_path)
    arrays = read_arrays(tmp_path / "policies.safetensors")
    for name in ("action_low", "action_high"):
        arrays[name] = np.repeat(arrays[name], 2)
    write_arrays(tmp_path / "policies.safetensors", arrays)
    with pytest.raises(CorruptArtifact, match=r"the bounds of actions \(6,\) are not 3"):
        load_policies(tmp_path)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature: float, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="temperature of policies must be above 0"):
        NetworkPolicies([random_network(0)], [0], temperature=temperature)
    NetworkPolicies([random_network(0)], [0], temperature=2.0).save(tmp_path)
    said = read_json(tmp_path / "policies.json")
    write_json(tmp_path / "policies.json", {**said, "temperature": min(temperature, 0)})
    with pytest.raises(CorruptArtifact, match="temperature"):
        load_policies(tmp_path)


def test_policies_on_a_device_are_others_that_act_alike() -> None:
    policies = NetworkPolicies([random_network(0)], [3], action_selection="greedy", temperature=2.0)
    policies.training = {"curve": []}
    moved = policies.on("cpu")
    assert moved.networks[0] is not policies.networks[0]
    same = ("seeds", "action_selection", "temperature", "space", "training", "spec")
    assert [getattr(moved, name) for name in same] == [getattr(policies, name) for name in same]
    frames = np.random.default_rng(0).integers(0, 256, (6, 3, 64, 64), dtype=np.uint8)
    which = np.zeros(6, int)
    assert (moved.action_probs(frames, which) == policies.action_probs(frames, which)).all()
