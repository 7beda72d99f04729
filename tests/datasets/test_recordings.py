"""Datasets shipped as their transitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.minari import read_minari, remove_minari, write_minari
from rlcondense.datasets.recordings import load_recording, save_recording
from rlcondense.datasets.traces import load_trace, replay
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.files import read_arrays, write_arrays
from rlcondense.make import make_task
from rlcondense.policies import FixedPolicies, PolicyBatch, random_policies
from rlcondense.rollout import collect
from rlcondense.tasks.base import Task
from rlcondense.training.collect import write_played

COLUMNS = ("observations", "actions", "rewards", "level_seed", "action_probs", "truncated")


def _played(name: str) -> tuple[Task, list[Episode]]:
    """Six episodes of a policy that looks at nothing."""
    task = make_task(name)
    policy: PolicyBatch = random_policies(task.action_space, [0])
    if name == "cartpole":
        policy = FixedPolicies(np.array([0.3, 0.7]), [0])
    return task, list(replay(collect(policy, task, episodes=6, seed=1, num_envs=3), task))


@pytest.fixture(scope="module", params=["cartpole", "pendulum"])
def played(request: pytest.FixtureRequest) -> tuple[Task, list[Episode]]:
    return _played(request.param)


def _same(a: Episode, b: Episode) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in COLUMNS[:-2]) and (
        a.truncated == b.truncated
    )


def test_a_recording_comes_back_bit_for_bit(
    played: tuple[Task, list[Episode]], tmp_path: Path
) -> None:
    task, episodes = played
    save_recording(tmp_path / "r.safetensors", episodes)
    again = load_recording(tmp_path / "r.safetensors", task)
    assert len(again) == 6
    assert all(_same(a, b) for a, b in zip(again, episodes, strict=True))
    for a, b in zip(again, episodes, strict=True):
        assert (a.action_probs is None) == (b.action_probs is None)
        if a.action_probs is not None:
            np.testing.assert_allclose(a.action_probs, [[0.3, 0.7]] * len(a.actions), atol=0.003)
    size = sum(e.observations.nbytes + e.actions.nbytes + e.rewards.nbytes for e in episodes)
    assert (tmp_path / "r.safetensors").stat().st_size < size


def test_episodes_cut_by_the_clock_are_truncated_and_the_others_end(tmp_path: Path) -> None:
    for name, cut in (("cartpole", False), ("pendulum", True)):
        task, episodes = _played(name)
        assert all(e.truncated == cut for e in episodes)
        assert cut == all(len(e.rewards) == 200 for e in episodes)
        write_minari(
            "tests/played-v0", iter(episodes), {}, gymnasium.make(f"rlcondense.tasks:{task.id}")
        )
        data = read_minari("tests/played-v0", task.id)
        remove_minari("tests/played-v0")
        last = [rows.stop - 1 for rows in data.episodes]
        ends, cuts = data.column("terminations"), data.column("truncations")
        assert (cuts[last] == cut).all()
        assert (ends[last] != cut).all()
        assert ends.sum() + cuts.sum() == 6
        assert (data.next_rows[last] == (-1 if cut else last)).all()
        assert data.observations.dtype == np.float32
        assert data.actions.dtype == (np.float32 if cut else np.int64)
        assert (data.action_probs is None) == cut


def test_what_replays_everywhere_is_written_as_a_trace_and_the_rest_as_a_recording(
    tmp_path: Path, task: Task
) -> None:
    ours = make_task("pendulum")
    policy = random_policies(ours.action_space, [0])
    write_played(collect(policy, ours, episodes=2, seed=0, num_envs=2), ours, tmp_path / "ours")
    assert len(load_recording(tmp_path / "ours", ours)) == 2
    fixed = FixedPolicies(np.ones(15), [0])
    write_played(collect(fixed, task, episodes=2, seed=0, num_envs=2), task, tmp_path / "theirs")
    assert len(load_trace(tmp_path / "theirs").lengths) == 2


def test_a_trace_of_continuous_actions_is_saved_too(tmp_path: Path) -> None:
    task = make_task("pendulum")
    policy = random_policies(task.action_space, [0])
    trace = collect(policy, task, episodes=2, seed=0, num_envs=2)
    trace.save(tmp_path / "t.safetensors")
    again = load_trace(tmp_path / "t.safetensors")
    assert again.action_probs is None
    assert np.array_equal(again.actions, trace.actions)


@pytest.mark.parametrize("damage", ["cut", "column", "bytes", "lengths"])
def test_a_damaged_recording_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    task, episodes = _played("cartpole")
    path = tmp_path / "r.safetensors"
    save_recording(path, episodes)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        arrays = read_arrays(path)
        if damage == "column":
            del arrays["rewards"]
        elif damage == "bytes":
            arrays["observations"] = arrays["observations"][5:]
        else:
            arrays["lengths"] = arrays["lengths"] + 1
        write_arrays(path, arrays)
    with pytest.raises(CorruptArtifact):
        load_recording(path, task)


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
@pytest.mark.parametrize("lengths", [[2**62, 1], [2**62] * 4, [0, 25], [-5, 30], [12.0, 13.0]])
def test_lengths_that_cannot_be_are_refused(
    name: str, lengths: list[float], tmp_path: Path
) -> None:
    task, path = make_task(name), tmp_path / "r.safetensors"
    save_recording(path, [_made_up(task, 12), _made_up(task, 13)])
    assert [len(e.rewards) for e in load_recording(path, task)] == [12, 13]
    write_arrays(path, read_arrays(path) | {"lengths": np.array(lengths)})
    with pytest.raises(CorruptArtifact, match=r"no recording of|announces [0-9,]+ bytes"):
        load_recording(path, task)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("cartpole", "actions", 9),
        ("cartpole", "action_probs", 0.0),
        ("cartpole", "observations", np.nan),
        ("cartpole", "rewards", np.inf),
        ("pendulum", "actions", np.nan),
    ],
)
def test_columns_that_cannot_be_are_refused(
    name: str, column: str, value: float, tmp_path: Path
) -> None:
    task = make_task(name)
    episode = _made_up(task, 12)
    getattr(episode, column)[3] = value
    save_recording(tmp_path / "r.safetensors", [episode])
    with pytest.raises(CorruptArtifact, match=f"its {column} are invalid"):
        load_recording(tmp_path / "r.safetensors", task)


def _made_up(task: Task, steps: int) -> Episode:
    """Zeros, and even probabilities where there are any."""
    discrete = task.action_space.shape == ()
    return Episode(
        observations=np.zeros((steps, *(task.observation_space.shape or ())), np.float32),
        actions=np.zeros(steps, np.int64) if discrete else np.zeros((steps, 1), np.float32),
        rewards=np.zeros(steps, np.float32),
        level_seed=0,
        action_probs=np.full((steps, 2), 0.5, np.float32) if discrete else None,
    )


def test_an_action_that_a_byte_does_not_name_is_refused(tmp_path: Path) -> None:
    episode = _made_up(make_task("cartpole"), 3)
    with pytest.raises(BadConfig, match="actions below 256, not 256"):
        save_recording(tmp_path / "r.safetensors", [replace(episode, actions=np.full(3, 256))])


def test_a_recording_of_another_task_is_refused(tmp_path: Path) -> None:
    save_recording(tmp_path / "r.safetensors", _played("cartpole")[1])
    with pytest.raises(CorruptArtifact, match="no recording of 'classic/acrobot-v0'"):
        load_recording(tmp_path / "r.safetensors", make_task("acrobot"))


@pytest.mark.parametrize("name", ["mine.npz", "mine", ""])
def test_what_is_played_goes_to_a_file_that_can_be_read(name: str, tmp_path: Path) -> None:
    out = str(tmp_path / name) if name else ""
    arguments = ["dataset", "collect", "cartpole", "--kind", "random", "--episodes", "1"]
    done = CliRunner().invoke(main, [*arguments, "--out", out])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "ends in .safetensors" in done.stderr
    assert list(tmp_path.iterdir()) == []
