from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.evaluation import Evaluation, evaluate
from rlcondense.make import make_task
from rlcondense.policies import FixedPolicies, NetworkPolicies, noise_stream, random_policies
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.rollout import Rollout
from rlcondense.tasks.base import Task
from rlcondense.validation import EnvironmentValidator
from tests import small_tasks
from tests.conftest import random_network

SMALL = Protocol(environments=4, quota=2, seed=0)


class ShortAndLong(VectorEnv[Any, Any, Any]):
    """Episodes of 1 step worth 1 or of 20 steps worth 0, with equal chance."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(0, 1, (1,))
        self.single_action_space = gymnasium.spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._rng = np.random.default_rng(seed)
        self._lengths = self._rng.choice([1, 20], self.num_envs)
        self._steps = np.zeros(self.num_envs, int)
        return np.zeros((self.num_envs, 1), np.float32), {"level_seed": self._lengths.copy()}

    def step(self, actions: Any) -> Any:
        self._steps += 1
        done = self._steps == self._lengths
        rewards = (done & (self._lengths == 1)).astype(float)
        self._lengths[done] = self._rng.choice([1, 20], int(done.sum()))
        self._steps[done] = 0
        infos = {"level_seed": self._lengths.copy()}
        return np.zeros((self.num_envs, 1), np.float32), rewards, done, np.zeros_like(done), infos


def test_a_quota_is_unbiased_where_the_first_to_finish_are_not() -> None:
    """Half the episodes are short, and worth 1: the true mean return is 0.5."""
    quota = 40
    rollout = Rollout(ShortAndLong(50), lambda obs, envs: np.zeros(len(envs), int), quota, seed=0)
    first_to_finish: list[float] = []
    while not rollout.done:
        before = rollout._finished.copy()
        rollout.start_step()
        rollout.finish_step()
        ended = np.flatnonzero(rollout._finished > before)
        first_to_finish += [rollout.returns[e, before[e]] for e in ended]
    assert rollout.returns.size == 50 * quota
    assert abs(rollout.returns.mean() - 0.5) < 0.05
    assert np.mean(first_to_finish[:30]) > 0.8


def test_environments_are_closed_if_one_cannot_start(task: Task) -> None:
    made: list[Any] = []

    class Third(ShortAndLong):
        open = True

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            if len(made) == 3:
                raise OSError("no room")
            return super().reset(seed=seed)

        def close(self, **options: Any) -> None:
            self.open = False

    class Full(small_tasks.Gridworld):
        observation_space = gymnasium.spaces.Box(0, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
            made.append(Third(num_envs))
            return made[-1]

    policies = FixedPolicies(np.ones(2), range(3))
    with pytest.raises(OSError, match="no room"):
        evaluate(policies, Full(), protocol=SMALL)
    assert [env.open for env in made] == [False] * 3


def test_policies_that_are_shown_different_levels_are_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, places = make_task("cartpole"), {}
    levels = EnvironmentValidator.levels

    def uneven(self: EnvironmentValidator, infos: Any) -> Any:
        return levels(self, infos) + places.setdefault(id(self), len(places))

    monkeypatch.setattr(EnvironmentValidator, "levels", uneven)
    with pytest.raises(CorruptArtifact, match="showed policies different seen levels"):
        evaluate(random_policies(task.action_space, [0, 1]), task, "seen", protocol=SMALL)


def test_every_environment_plays_exactly_its_quota(task: Task) -> None:
    scores = evaluate(random_policies(task.action_space, [0]), task, "seen", protocol=SMALL)
    assert scores.returns.shape == (1, 8)
    assert (scores.lengths > 0).all()


def test_every_policy_plays_the_same_levels_in_the_same_order(task: Task) -> None:
    policies = NetworkPolicies([random_network(i) for i in range(3)], [0, 1, 2])
    scores = evaluate(policies, task, "heldout", protocol=SMALL)
    assert (scores.level_seeds == scores.level_seeds[0]).all()
    assert set(scores.level_seeds.ravel()) <= set(task.splits["heldout"])
    random = evaluate(random_policies(task.action_space, [0]), task, "heldout", protocol=SMALL)
    assert (random.level_seeds == scores.level_seeds[:1]).all()


def test_a_policy_plays_the_same_alone_and_beside_three_others(task: Task) -> None:
    networks = [random_network(i) for i in range(4)]
    beside = evaluate(NetworkPolicies(networks, range(4)), task, "seen", protocol=SMALL)
    alone = evaluate(NetworkPolicies(networks[2:3], [2]), task, "seen", protocol=SMALL)
    assert (alone.returns[0] == beside.returns[2]).all()
    assert (alone.lengths[0] == beside.lengths[2]).all()


def test_noise_is_drawn_by_the_seeds_of_the_evaluation_and_of_the_policy(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []

    def noted(seed: int, policy: int, environments: int, shape: tuple[int, ...]) -> Any:
        asked.append((seed, policy, environments))
        return noise_stream(seed, policy, environments, shape)

    monkeypatch.setattr("rlcondense.evaluation.noise_stream", noted)
    policies = random_policies(task.action_space, [3, 8])
    evaluate(policies, task, "seen", protocol=Protocol(environments=2, quota=1, seed=5))
    assert asked == [(5, 3, 2), (5, 8, 2)]


def test_an_estimate_is_a_mean_with_the_standard_error_over_episodes() -> None:
    returns, ones = np.array([[0.0, 2.0], [4.0, 6.0]]), np.ones((2, 2), int)
    found = Evaluation("seen", returns, ones, ones, seconds=0.0).estimate()
    assert (found.mean, found.episodes) == (3, 4)
    assert found.standard_error == pytest.approx(np.sqrt(20 / 3) / 2)


def test_threads_of_the_environments_change_nothing(task: Task) -> None:
    policies = random_policies(task.action_space, [0, 1])
    one = evaluate(policies, task, "seen", protocol=SMALL, num_threads=1)
    two = evaluate(policies, task, "seen", protocol=SMALL, num_threads=2)
    assert (one.returns == two.returns).all()


@pytest.mark.parametrize(
    ("episodes", "environments", "quota"), [(100, 50, 2), (7, 7, 1), (60, 30, 2), (53, 1, 53)]
)
def test_episodes_are_split_evenly(episodes: int, environments: int, quota: int) -> None:
    protocol = protocol_of(episodes)
    assert (protocol.environments, protocol.quota) == (environments, quota)


def test_no_episodes_are_refused() -> None:
    with pytest.raises(BadConfig, match="episodes must be at least 1, not 0"):
        protocol_of(0)


def test_policies_of_another_task_are_refused(task: Task, tmp_path: Path) -> None:
    policies = NetworkPolicies([random_network()], [0])
    policies.save(tmp_path / "p")
    for theirs in (policies, tmp_path / "p"):
        with pytest.raises(BadConfig, match="needs categorical ones"):
            evaluate(theirs, "cartpole", protocol=SMALL)


def test_policies_that_act_together_play_as_they_do_one_by_one(task: Task) -> None:
    networks = [random_network(i) for i in range(3)]
    alone, together = (NetworkPolicies(networks, [0, 1, 2]) for _ in range(2))
    together.acts_together = True  # as on a GPU
    a, b = (evaluate(p, task, "seen", protocol=SMALL) for p in (alone, together))
    assert np.array_equal(a.level_seeds, b.level_seeds)
    assert np.array_equal(a.lengths, b.lengths)
    assert np.array_equal(a.returns, b.returns)
