"""What the policy saw is what the dataset holds, for every game and kind of dataset."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from minari.storage import get_dataset_path

from rlcondense import rollout as collecting
from rlcondense.datasets.minari import columns_folder, read_minari, write_minari
from rlcondense.datasets.traces import load_trace, replay
from rlcondense.make import make_task
from rlcondense.policies import NetworkPolicies, PolicyBatch, random_policies
from rlcondense.rollout import Rollout, collect
from rlcondense.tasks.procgen import GAMES
from tests.conftest import random_network

POLICIES = {
    "random": lambda: random_policies(Discrete(15), [0]),
    "expert": lambda: NetworkPolicies([random_network(0, "compact")], [0]),
    "mixed": lambda: NetworkPolicies([random_network(s, "compact") for s in (0, 1)], [0, 1]),
}
OFTEN = {"coinrun", "maze", "starpilot"}  # `make slow` has all sixteen


class _Witness(PolicyBatch):
    """Acts like another batch and remembers what each of its policies was shown and likely did."""

    def __init__(self, policies: PolicyBatch) -> None:
        self.policies, self.num_policies = policies, policies.num_policies
        self.seeds = policies.seeds
        self.seen: list[list[int]] = [[] for _ in range(policies.num_policies)]
        self.probs: list[list[Any]] = [[] for _ in range(policies.num_policies)]

    def action_probs(self, observations: Any, policy_index: Any) -> Any:
        for policy, frame in zip(policy_index, observations, strict=True):
            self.seen[policy].append(_hash(frame))
        probs = self.policies.action_probs(observations, policy_index)
        for policy, row in zip(policy_index, probs, strict=True):
            self.probs[policy].append(row)
        return probs


def _hash(frame: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(frame))


@pytest.mark.parametrize(
    "kind",
    # The others differ from it in the policy alone.
    ["mixed", *(pytest.param(k, marks=pytest.mark.slow) for k in ("expert", "random"))],
)
@pytest.mark.parametrize(
    "game",
    [g if g in OFTEN else pytest.param(g, marks=pytest.mark.slow) for g in GAMES],
)
def test_what_was_seen_is_what_is_stored(
    game: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, name, path = make_task(game), f"tests/{game}-{kind}-v0", tmp_path / "t.safetensors"
    witness = _Witness(POLICIES[kind]())
    n = witness.num_policies
    rollouts: list[Rollout] = []

    def rolled_out(*arguments: Any) -> Rollout:
        rollouts.append(Rollout(*arguments))
        return rollouts[0]

    monkeypatch.setattr(collecting, "Rollout", rolled_out)
    trace = collect(witness, task, episodes=2 * n, seed=5, num_envs=n)
    trace.save(path)

    write_minari(name, replay(load_trace(path), task), {}, gymnasium.make(task.id))
    data = read_minari(name, task.id)

    # One environment a policy, and the dataset goes environment by environment.
    seen = [frame for frames in witness.seen for frame in frames]
    assert [_hash(frame) for frame in data.observations] == seen
    assert np.array_equal(data.actions, trace.actions)
    assert set(np.asarray(data.level_seeds)) <= set(task.splits["seen"])
    probs = [row for rows in witness.probs for row in rows]
    np.testing.assert_allclose(data.action_probs, probs, atol=0.03)
    played = rollouts[0]
    np.testing.assert_allclose(data.episode_returns(), played.returns.ravel(), atol=1e-5)
    assert [len(rows) for rows in data.episodes] == played.lengths.ravel().tolist()
    firsts = [rows.start for rows in data.episodes]
    assert np.array_equal(np.asarray(data.level_seeds)[firsts], played.level_seeds.ravel())
    shutil.rmtree(get_dataset_path(name))
    shutil.rmtree(columns_folder(name))
