from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Discrete

from rlcondense.cli import main
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.traces import Trace, dequantise, load_trace, quantise, replay
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, write_arrays
from rlcondense.make import load_dataset, make_task
from rlcondense.policies import NetworkPolicies, random_policies
from rlcondense.rollout import collect
from rlcondense.tasks.base import Task
from tests.conftest import random_network
from tests.small_tasks import Gridworld


def _same(a: Episode, b: Episode) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("observations", "actions", "rewards", "level_seed", "action_probs")
    )


def test_a_trace_replays_bit_for_bit_whatever_the_threads(trace: Trace, task: Task) -> None:
    once, twice = (list(replay(trace, task, num_threads=n)) for n in (1, 2))
    assert len(once) == 10
    assert all(_same(a, b) for a, b in zip(once, twice, strict=True))


def test_the_same_seed_collects_the_same_trace_and_another_does_not(task: Task) -> None:
    policy = NetworkPolicies([random_network()], [0])
    a, b, c = (collect(policy, task, episodes=4, seed=s, num_envs=2) for s in (0, 0, 1))
    assert np.array_equal(a.actions, b.actions)
    assert not np.array_equal(a.actions, c.actions)


def test_episodes_are_on_seen_levels_and_carry_the_distribution(trace: Trace, task: Task) -> None:
    for episode in replay(trace, task):
        assert episode.level_seed in task.splits["seen"]
        assert episode.action_probs is not None
        np.testing.assert_allclose(episode.action_probs.sum(1), 1, atol=1e-5)


def test_a_saved_trace_comes_back_and_is_small(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    trace.save(path)
    again = load_trace(path)
    assert np.array_equal(again.actions, trace.actions)
    assert np.array_equal(again.action_probs, trace.action_probs)
    assert (again.seed, again.quota) == (trace.seed, trace.quota)
    assert path.stat().st_size < 20 * len(trace.actions) + 1000


def test_a_truncated_trace_is_one_clear_error(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    trace.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptArtifact, match="not a readable safetensors file"):
        load_trace(path)


def test_a_trace_that_does_not_fit_its_task_is_noticed(trace: Trace, task: Task) -> None:
    with pytest.raises(CorruptArtifact, match="does not replay"):
        list(replay(replace(trace, seed=trace.seed + 1), task))
    with pytest.raises(CorruptArtifact, match="actions for"):
        replace(trace, actions=trace.actions[:-1])


def test_traces_that_cannot_be_are_refused(trace: Trace, tmp_path: Path) -> None:
    for odd in (
        {"lengths": -trace.lengths},
        {"lengths": trace.lengths.astype(np.float64)},
        {"lengths": trace.lengths[:0]},
        {"quota": 0},
        {"actions": np.full_like(trace.actions, 15)},
        {"action_probs": np.zeros_like(trace.action_probs)},
    ):
        with pytest.raises(CorruptArtifact, match="the trace"):
            replace(trace, **odd)
    trace.save(tmp_path / "t.safetensors")
    arrays = read_arrays(tmp_path / "t.safetensors")
    bomb = zlib.compress(bytes(10**8))
    for odd in (
        {"num_actions": np.array([2**62])},
        {"num_actions": np.array([14])},
        {"action_probs": np.frombuffer(bomb, np.uint8)},
        {"action_probs": arrays["action_probs"][:-9]},
    ):
        write_arrays(tmp_path / "odd.safetensors", {**arrays, **odd})
        with pytest.raises(CorruptArtifact):
            load_trace(tmp_path / "odd.safetensors")


def test_quantised_probabilities_are_close_and_sum_to_one() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(15), 100)
    again = dequantise(quantise(probs))
    np.testing.assert_allclose(again, probs, atol=0.015)
    np.testing.assert_allclose(again.sum(1), 1, atol=1e-6)


def test_episodes_that_do_not_divide_among_the_environments_are_refused(task: Task) -> None:
    with pytest.raises(BadConfig, match="multiple of 3"):
        collect(NetworkPolicies([random_network()], [0]), task, episodes=4, seed=0, num_envs=3)


def test_more_actions_than_a_byte_names_are_refused() -> None:
    class Many(Gridworld):
        action_space = Discrete(300)

    with pytest.raises(BadConfig, match="has 300 actions, a trace holds 256 at most"):
        collect(random_policies(Many().action_space, [0]), Many(), episodes=2, seed=0, num_envs=2)


def test_more_environments_than_a_machine_holds_are_refused(task: Task) -> None:
    many = np.ones(1025, np.int64)
    with pytest.raises(CorruptArtifact, match="1,025 environments at once, more than 1,024"):
        Trace(0, 1, many, np.zeros(1025, np.uint8), np.full((1025, 15), 17, np.uint8))
    policies = random_policies(task.action_space, [0])
    with pytest.raises(BadConfig, match="at most 1,024 environments are recorded at once"):
        collect(policies, task, episodes=2048, seed=0, num_envs=2048)


def test_no_array_is_inflated_beyond_its_limit(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace.save(tmp_path / "t.safetensors")
    size = 15 * len(trace.actions)
    monkeypatch.setattr("rlcondense.datasets.traces.MOST_ARRAY_BYTES", size)
    assert len(load_trace(tmp_path / "t.safetensors").actions) == len(trace.actions)
    monkeypatch.setattr("rlcondense.datasets.traces.MOST_ARRAY_BYTES", size - 1)
    with pytest.raises(CorruptArtifact, match=f"announces {size:,} bytes of one array"):
        load_trace(tmp_path / "t.safetensors")


def test_lengths_whose_sum_comes_round_are_refused(trace: Trace) -> None:
    n = len(trace.actions)
    lengths = np.array([2**63 - 1, 2**63 - 1, n + 2], np.int64)
    with np.errstate(all="ignore"):
        assert lengths.sum() == n
    with pytest.raises(CorruptArtifact, match="above its number of actions"):
        replace(trace, lengths=lengths)


@pytest.mark.parametrize("action", [15, 255])
def test_actions_that_the_task_has_not_are_refused_before_they_are_played(
    trace: Trace, task: Task, action: int
) -> None:
    actions = trace.actions.copy()
    actions[3] = action
    bad = Trace(trace.seed, trace.quota, trace.lengths, actions, None)
    with pytest.raises(CorruptArtifact, match=r"its actions are not in Discrete\(15\)"):
        list(replay(bad, task))


def test_vectors_are_no_discrete_actions(trace: Trace, task: Task) -> None:
    vectors = np.zeros((len(trace.actions), 2), np.float32)
    bad = Trace(trace.seed, trace.quota, trace.lengths, vectors, None)
    with pytest.raises(CorruptArtifact, match="does not replay on 'procgen/starpilot-easy-v0'"):
        list(replay(bad, task))


def test_an_expert_plays_on_the_view_it_knows_and_the_data_show_the_tasks(tmp_path: Path) -> None:
    expert, traces = "procgen/jumper-plain-v0", {}
    for task, view in (("jumper", "plain"), ("jumper-plain", "plain"), ("jumper", "ordinary")):
        out = tmp_path / f"{task}-{view}.safetensors"
        command = ["dataset", "collect", task, "--view", view, "--expert", expert, "--out", out]
        result = CliRunner().invoke(main, [*map(str, command), "--episodes", "2"])
        assert result.exit_code == 0, result.output
        traces[task, view] = load_trace(out)
    taught, plain, blind = traces.values()
    assert np.array_equal(taught.actions, plain.actions)
    assert not np.array_equal(taught.actions[:20], blind.actions[:20])
    data = load_dataset(tmp_path / "jumper-plain.safetensors")
    assert data.task == make_task("jumper").id
    shown, seen = (
        next(replay(taught, make_task(name))).observations for name in ("jumper", "jumper-plain")
    )
    assert np.array_equal(data.observations[: len(shown)], shown)
    assert not np.array_equal(shown, seen)
