"""OGBench's own files, which hold no rewards, as the task of one goal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.datasets.flat import read_flat
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra
from rlcondense.make import load_dataset, make_task

ogbench = pytest.importorskip("ogbench")
NAME = "pointmaze-medium-navigate-singletask-task1-v0"
EPISODES, STEPS = 4, 30
TASK = """
import rlcondense as rlc

rlc.register(
    "tasks",
    "ogbench/pointmaze-v0",
    "rlcondense.tasks.gymnasium:GymnasiumTask",
    env="ogbench:pointmaze-medium-singletask-task1-v0",
    settings={"max_episode_steps": 20},
)
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as OGBench writes them: a trajectory's last row is its last state."""
    env = ogbench.make_env_and_datasets(NAME, env_only=True)
    rows: dict[str, list[Any]] = {n: [] for n in ("observations", "actions", "terminals", "qpos")}
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        for step in range(STEPS):
            action = env.action_space.sample()
            values = observation, action, step == STEPS - 1, env.unwrapped.data.qpos.copy()
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
            observation, *_ = env.step(action)
        if seed == 0:  # its last states are at the goal
            rows["qpos"][-10:] = [env.unwrapped.cur_goal_xy] * 10
    path = tmp_path_factory.mktemp("ogbench") / "pointmaze-medium-navigate-v0.npz"
    columns = {name: np.array(values) for name, values in rows.items()}
    columns = {k: v.astype(np.float32) if k == "actions" else v for k, v in columns.items()}
    for part in ("", "-val"):
        np.savez_compressed(path.with_stem(f"{path.stem}{part}"), **columns)
    return path


@pytest.fixture
def include(tmp_path: Path) -> list[str]:
    """The task of one goal, in a file of other content than what is imported already."""
    (tmp_path / "mazes.py").write_text(f"{TASK}# {tmp_path}\n")
    return ["--include", str(tmp_path / "mazes.py")]


def test_rewards_and_steps_are_ogbenchs(played: Path, include: list[str]) -> None:
    assert CliRunner().invoke(main, ["list", *include]).exit_code == 0
    episodes = list(read_flat(played, make_task("ogbench/pointmaze-v0")))
    _, theirs, _ = ogbench.make_env_and_datasets(NAME, dataset_path=str(played))
    assert {len(episode.rewards) for episode in episodes} == {STEPS - 1}
    assert all(episode.truncated for episode in episodes)
    for name in ("observations", "actions", "rewards"):
        ours = np.concatenate([getattr(episode, name)[: STEPS - 1] for episode in episodes])
        assert np.array_equal(ours, theirs[name]), name
    assert set(episodes[0].rewards.tolist()) == {-1.0, 0.0}
    assert set(episodes[1].rewards.tolist()) == {-1.0}


def test_it_is_run_scored_and_exported(played: Path, include: list[str], tmp_path: Path) -> None:
    task = ["--task", "ogbench/pointmaze-v0", *include]
    for command in (
        ["run", "--method", "random", "--dataset", str(played), *task, "--size", "4",
         "--seeds", "1", "--episodes", "1", "--condensations", "1", "--set", "learner.updates=1",
         "--workers", "1", "--results", str(tmp_path / "r")],
        ["score", str(played), *task, "--method", "longest", "--out", str(tmp_path / "s.csv")],
        ["export", str(played), *task, "--to", "hdf5", "--out", str(tmp_path / "out")],
    ):  # fmt: skip
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    scores = (tmp_path / "s.csv").read_text().splitlines()
    assert len(scores) == EPISODES + 1
    exported = load_dataset(str(tmp_path / "out"), task="ogbench/pointmaze-v0")
    assert exported.sha256 == load_dataset(str(played), task="ogbench/pointmaze-v0").sha256


def test_what_is_missing_is_one_line(
    played: Path, include: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CliRunner().invoke(main, ["list", *include]).exit_code == 0
    task = make_task("ogbench/pointmaze-v0")
    with pytest.raises(BadConfig, match="those of a task with a single goal"):
        list(read_flat(played, make_task("pendulum")))
    other = tmp_path / "other.npz"
    with np.load(played) as columns:
        np.savez(other, **{**columns, "qpos": np.zeros((len(columns["qpos"]), 0))})
    with pytest.raises(CorruptArtifact, match="others than those of the file"):
        list(read_flat(other, task))
    monkeypatch.setitem(sys.modules, "ogbench.relabel_utils", None)
    with pytest.raises(MissingExtra, match=r"rlcondense\[ogbench\]"):
        list(read_flat(played, task))
