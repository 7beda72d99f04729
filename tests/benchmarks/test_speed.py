"""Benchmarks that compare two things in one run and print the ratio: `make bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.evaluation import Protocol, evaluate
from rlcondense.experts.ppo import PPOConfig, Trainer
from rlcondense.making import make_learner, make_method
from rlcondense.policies import NetworkPolicies, random_policies
from rlcondense.tasks.base import Task
from tests.conftest import random_network


def _seconds(function: Callable[[], object], repeats: int = 3) -> float:
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def test_evaluation_costs_little_beside_its_parts(task: Task) -> None:
    """The evaluator against the environment alone plus the policy alone, on the same work."""
    protocol = Protocol(50, 2, 0)
    policy = NetworkPolicies([random_network()], [0])
    steps = evaluate(policy, task, "seen", protocol=protocol).lengths.sum()
    whole = _seconds(lambda: evaluate(policy, task, "seen", protocol=protocol))
    env = task.make_vec("seen", 50, seed=0, copy=False)
    env.reset()
    actions = np.full(50, 4)
    frames = np.random.default_rng(0).integers(0, 256, (50, 3, 64, 64), dtype=np.uint8)
    index = np.zeros(50, int)

    def environment() -> None:
        for _ in range(steps // 50):
            env.step(actions)

    def acting() -> None:
        for _ in range(steps // 50):
            policy.act(frames, index, np.zeros(50))

    parts = _seconds(environment) + _seconds(acting)
    print(f"\nevaluation: {whole:.2f} s, its parts {parts:.2f} s, ratio {whole / parts:.2f}")
    env.close()


def test_bc_against_d3rlpys_with_the_same_network(tiny: TransitionDataset, task: Task) -> None:
    """One update of 128 frames with the Nature network, ours and d3rlpy's DiscreteBC."""
    import d3rlpy

    updates = 20
    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("bc", updates=updates, batch_size=128)
    ours = _seconds(lambda: learner.fit(data, task=task, seeds=[0]))
    dataset = d3rlpy.dataset.MDPDataset(
        np.asarray(tiny.observations),
        np.asarray(tiny.actions)[:, None],
        np.asarray(tiny.rewards)[:, None],
        np.asarray(tiny.terminations).astype(np.float32)[:, None],
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=15,
    )
    config = d3rlpy.algos.DiscreteBCConfig(
        batch_size=128, observation_scaler=d3rlpy.preprocessing.PixelObservationScaler()
    )
    algorithm = config.create(device="cpu:0")
    algorithm.build_with_dataset(dataset)

    def theirs() -> None:
        for _ in range(updates):
            algorithm.update(dataset.sample_transition_batch(128))

    other = _seconds(theirs)
    print(
        f"\nBC: {1000 * ours / updates:.0f} ms an update, d3rlpy {1000 * other / updates:.0f} ms, "
        f"ratio {other / ours:.2f}"
    )


def test_ppo_against_its_parts(task: Task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Steps per second of the trainer beside what its network alone could do."""
    config = PPOConfig(network="nature", steps=2 * 64 * 64, rollout_length=64, epochs=2)
    trainer = Trainer(task, config, tmp_path)
    trainer._rollout()
    started = time.perf_counter()
    trainer._rollout()
    trainer._update()
    rate = config.batch_size / (time.perf_counter() - started)
    frames = torch.randint(0, 256, (512, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)

    def update() -> None:
        logits, values = trainer.network.logits_and_value(frames)
        (logits.square().mean() + values.mean()).backward()

    limit = 512 / _seconds(update) / config.epochs
    print(f"\nPPO: {rate:.0f} steps/s, its updates alone {limit:.0f}, ratio {rate / limit:.2f}")


def test_ppo_against_a_plain_loop(tmp_path: Path) -> None:
    """Steps per second of `expert train` beside a plain PPO loop, same network and settings.

    Each in a process of its own, as users run them, and with all threads.
    """
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout

    plain = float(call("tests.benchmarks.plain_ppo", "starpilot", "nature", "5"))
    call(
        "rlcondense.cli", "expert", "train", "starpilot", "--network", "nature", "--steps",
        str(5 * 64 * 256), "--set", "epochs=2", "--episodes", "2", "--out", str(tmp_path),
    )  # fmt: skip
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    ours = float(np.median([json.loads(line)["steps_per_second"] for line in log]))
    print(f"\nPPO: {ours:.0f} steps/s, a plain loop {plain:.0f}, ratio {ours / plain:.2f}")


def test_building_a_dataset_against_the_environment_alone(task: Task, trace: Trace) -> None:
    """Replaying a trace into frames, beside stepping the same environments without keeping any."""
    env = task.make_vec("seen", len(trace.lengths), seed=trace.seed, copy=False)
    env.reset()
    steps = int(trace.lengths.max())

    def alone() -> None:
        for _ in range(steps):
            env.step(np.zeros(len(trace.lengths), np.int64))

    replaying = _seconds(lambda: list(replay(trace, task)))
    environment = _seconds(alone)
    env.close()
    print(
        f"\nreplay: {len(trace.actions) / replaying:.0f} transitions/s, "
        f"environment alone {len(trace.lengths) * steps / environment:.0f} steps/s"
    )


def test_the_random_policy_runs_at_the_environments_rate(task: Task) -> None:
    protocol = Protocol(50, 4, 0)
    scores = evaluate(random_policies(task.action_space, [0]), task, "seen", protocol=protocol)
    print(f"\nrandom policy: {scores.lengths.sum() / scores.seconds:.0f} steps/s")
