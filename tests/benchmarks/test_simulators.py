"""Steps per second of simulators in one run, by CPU time: `make bench`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlcondense.make import make_task
from rlcondense.tasks.minatar import GAMES, MinAtarTask
from rlcondense.tasks.mujoco import MujocoTask
from tests.benchmarks.bench import Bench


def _rate(step: Callable[[Any], object], actions: Any, each: int, rounds: int) -> float:
    """Steps per second of CPU time, the median of some rounds."""
    rates = []
    for _ in range(rounds):
        started = time.process_time()
        for action in actions:
            step(action)
        rates.append(each * len(actions) / (time.process_time() - started))
    return float(np.median(rates))


def test_hopper_against_gymnasiums_vector_and_mujocos_rollout(bench: Bench) -> None:
    """64 hoppers, random actions: ours, Gymnasium's `SyncVectorEnv`, and `mujoco.rollout`.

    The last moves them only: it pays nothing, shows nothing and starts nobody over.
    """
    pytest.importorskip("mujoco")
    from mujoco import MjData, mj_getState, mj_stateSize, mjtState, rollout

    num, rounds, rng = bench.size(64, 2), bench.size(3), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (bench.size(30), num, 3)).astype(np.float32)
    task = make_task("hopper")
    assert isinstance(task, MujocoTask)
    ours = task.make_vec("seen", num, seed=0)
    ours.reset()
    theirs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("Hopper-v5")] * num)
    theirs.reset(seed=0)
    model, kind = ours._one.model, mjtState.mjSTATE_FULLPHYSICS
    spare, start = MjData(model), np.empty(mj_stateSize(model, kind))
    mj_getState(model, ours._one.data, start, kind)
    states = np.tile(start, (num, 1))

    def roll(action: Any) -> None:
        control = np.repeat(action[:, None].astype(float), ours._one.frame_skip, 1)
        after, _ = rollout.rollout(model, spare, states, control)
        states[:] = after[:, -1]
        states[(states[:, 2] < 0.7) | (np.abs(states[:, 3]) > 0.2)] = start

    rates = [_rate(step, actions, num, rounds) for step in (ours.step, theirs.step, roll)]
    ours.close()
    theirs.close()
    bench.ratio(
        "hopper, 64 environments",
        f"{rates[0]:.0f} steps/s",
        f"Gymnasium's vector {rates[1]:.0f}, mujoco.rollout alone {rates[2]:.0f}",
        rates[0] / rates[1],
        least=1,
    )


@pytest.mark.parametrize("game", sorted(set(GAMES) - {"seaquest"}))
def test_games_as_arrays_against_the_package(game: str, bench: Bench) -> None:
    """1024 games as arrays, and the package's one at a time, with sticky actions and frames."""
    pytest.importorskip("minatar")
    from minatar import Environment

    num, rounds, rng = bench.size(1024, 2), bench.size(3), np.random.default_rng(0)
    codes = GAMES[game].actions
    actions = rng.integers(len(codes), size=(bench.size(100, 4), num))
    env = MinAtarTask("benchmarks/one-v0", game).make_vec("seen", num, seed=0)
    env.reset()
    single = Environment(game)
    single.seed(0)
    single.reset()

    def step(action: int) -> None:
        _, over = single.act(codes[action])
        single.state()
        if over:
            single.reset()

    single_actions = actions[:4].ravel().tolist()
    ours, package = _rate(env.step, actions, num, rounds), _rate(step, single_actions, 1, rounds)
    bench.ratio(
        f"{game}, 1024 environments",
        f"{ours:.0f} steps/s",
        f"the package {package:.0f}",
        ours / package,
    )
