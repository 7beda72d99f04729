"""Benchmarks that compare two things in one run and print the ratio: `make bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.evaluation import evaluate
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.policies import NetworkPolicies, random_policies
from rlcondense.protocol import Protocol
from rlcondense.tasks.base import Task
from rlcondense.training.ppo import PPOConfig, Trainer
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
    """The evaluator against the environment alone plus the policy alone, on the same work.

    The environments are stepped until the last has played its quota, and the policy acts for those
    that still play.
    """
    protocol = Protocol(50, 2, 0)
    policy = NetworkPolicies([random_network()], [0])
    lengths = evaluate(policy, task, "seen", protocol=protocol).lengths.reshape(50, 2).sum(1)
    steps, iterations = lengths.sum(), lengths.max()
    whole = _seconds(lambda: evaluate(policy, task, "seen", protocol=protocol))
    env = task.make_vec("seen", 50, seed=0, copy=False)
    env.reset()
    actions = np.full(50, 4)
    frames = np.random.default_rng(0).integers(0, 256, (50, 3, 64, 64), dtype=np.uint8)
    index = np.zeros(50, int)

    def environment() -> None:
        for _ in range(iterations):
            env.step(actions)

    def acting() -> None:
        for _ in range(steps // 50):
            policy.act(frames, index, np.zeros(50))

    parts = _seconds(environment) + _seconds(acting)
    print(f"\nevaluation: {whole:.2f} s, its parts {parts:.2f} s, ratio {whole / parts:.2f}")
    env.close()


def test_bc_against_d3rlpys_with_the_same_network(tiny: TransitionDataset, task: Task) -> None:
    """Updates of 256 frames, ours and d3rlpy's DiscreteBC: same network, optimiser and rate.

    Each in its own way of drawing batches, and both to the same loss on the data.
    """
    import d3rlpy

    from rlcondense.integrations.d3rlpy.parts import NetworkFactory, quiet

    updates = 30
    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("bc", updates=updates, batch_size=256)
    with quiet():
        dataset = d3rlpy.dataset.MDPDataset(
            np.asarray(tiny.observations),
            np.asarray(tiny.actions)[:, None],
            np.asarray(tiny.rewards)[:, None],
            np.asarray(tiny.terminations).astype(np.float32)[:, None],
            action_space=d3rlpy.ActionSpace.DISCRETE,
            action_size=15,
        )
    config = d3rlpy.algos.DiscreteBCConfig(
        batch_size=256, learning_rate=5e-4, beta=0, encoder_factory=NetworkFactory("nature")
    )
    trained: dict[str, Any] = {}

    def ours() -> None:
        trained["ours"] = learner.fit(data, task=task, seeds=[0])

    def theirs() -> None:
        trained["theirs"] = algorithm = config.create(device="cpu:0")
        with quiet():
            algorithm.fit(
                dataset,
                n_steps=updates,
                n_steps_per_epoch=updates,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
                show_progress=False,
            )

    mine, other = (_seconds(train) / updates for train in (ours, theirs))
    rows = np.arange(len(tiny))
    frames, actions = np.array(tiny.observations), np.asarray(tiny.actions)
    probs = trained["ours"].action_probs(frames, np.zeros(len(rows), int))
    with torch.inference_mode():
        policy = trained["theirs"].impl.modules.imitator(torch.from_numpy(frames).float())
    losses = [-np.log(p[rows, actions]).mean() for p in (probs, policy.probs.numpy())]
    assert abs(losses[0] - losses[1]) < 0.1
    print(
        f"\nBC: {1000 * mine:.0f} ms an update (loss {losses[0]:.3f}), d3rlpy "
        f"{1000 * other:.0f} ms (loss {losses[1]:.3f}), ratio {other / mine:.2f}"
    )


def test_ten_students_against_one(tiny: TransitionDataset, task: Task) -> None:
    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    learner = make_learner("bc", updates=20)
    one, ten = (
        _seconds(lambda s=seeds: learner.fit(data, task=task, seeds=range(s), device=device))
        for seeds in (1, 10)
    )
    print(f"\n10 students on {device}: {ten:.2f} s, one {one:.2f} s, ratio {ten / one:.2f}")


def test_the_evaluator_against_d3rlpys_for_ten_policies(
    tiny: TransitionDataset, task: Task
) -> None:
    """Steps per second over ten policies: ours together, d3rlpy's one environment at a time."""
    import gymnasium
    from d3rlpy.metrics import evaluate_qlearning_with_environment

    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("dqn", updates=1, batch_size=8)
    policies = learner.fit(data, task=task, seeds=range(10))
    protocol = Protocol(20, 1, 0)
    started = time.perf_counter()
    steps = evaluate(policies, task, "seen", protocol=protocol).lengths.sum()
    ours = steps / (time.perf_counter() - started)
    env = gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="seen")
    env.reset(seed=0)
    counted = [0]
    step = env.unwrapped.step

    def count(action: Any) -> Any:
        counted[0] += 1
        return step(action)

    env.unwrapped.step = count  # type: ignore[method-assign]
    started = time.perf_counter()
    for algorithm in policies.algorithms:  # type: ignore[attr-defined]
        evaluate_qlearning_with_environment(algorithm, env, n_trials=1)
    theirs = counted[0] / (time.perf_counter() - started)
    print(f"\nevaluator: {ours:.0f} steps/s, d3rlpy's {theirs:.0f}, ratio {ours / theirs:.1f}")


MEMORY = """
import resource, sys
import numpy as np, torch
from rlcondense.make import make_learner, make_task
from rlcondense.datasets.condensed import CondensedDataset
frames = np.memmap(sys.argv[1], np.uint8, "w+", shape=(50_000, 3, 64, 64))
task = make_task("starpilot")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
actions = np.arange(50_000) % 15
data = CondensedDataset(frames, actions, weights=np.ones(50_000, np.float32))
make_learner("bc", updates=100).fit(data, task=task, seeds=range(10))
print(peak() - before)
"""


def test_memory_of_ten_students_with_fifty_thousand_frames(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "frames")],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"\n10 students, 50,000 frames: {float(done.stdout):.0f} MB beside torch")
    assert float(done.stdout) < 2000


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
        logits, values = trainer.network.outputs_and_value(frames)
        (logits.square().mean() + values.mean()).backward()

    limit = 512 / _seconds(update) / config.epochs
    print(f"\nPPO: {rate:.0f} steps/s, its updates alone {limit:.0f}, ratio {rate / limit:.2f}")


def test_ppo_of_the_compact_network_against_the_nature_cnn(tmp_path: Path) -> None:
    """Steps per second on one core: the compact network on plain frames, Nature on others."""

    def rate(name: str, network: str) -> float:
        config = PPOConfig(network=network, steps=1, rollout_length=64, epochs=2)
        trainer = Trainer(make_task(name), config, tmp_path / network, num_threads=0)
        trainer._rollout()
        started = time.perf_counter()
        for _ in range(3):
            trainer._rollout()
            trainer._update()
        return 3 * config.batch_size / (time.perf_counter() - started)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compact, nature = rate("starpilot-plain", "compact"), rate("starpilot", "nature")
    finally:
        torch.set_num_threads(threads)
    print(
        f"\nPPO on one core: compact on plain frames {compact:.0f} steps/s, "
        f"Nature on ordinary ones {nature:.0f}, ratio {compact / nature:.1f}"
    )
    assert compact > 2 * nature


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


def test_gradient_matching_against_its_passes(tiny: TransitionDataset, task: Task) -> None:
    """An iteration of 150 frames in 15 classes, 32 real frames each, against its passes alone.

    The passes: for each class, real frames forward and backward, and synthetic ones forward and
    twice backward. The rest is drawing, targets, the distance and Adam: 1.3 times is the limit.
    """
    classes, real, own = 15, 32, 10
    actions = np.arange(len(tiny)) % classes
    data = replace(tiny, actions=actions, known_sha256="")
    theta = random_network()
    parameters = list(theta.parameters())
    frames = torch.from_numpy(np.array(tiny.observations[: classes * real]))
    targets = torch.eye(classes).repeat_interleave(real, 0)
    synthetic = frames[: classes * own].float().requires_grad_()

    def passes() -> None:
        for a in range(classes):
            at = slice(a * real, (a + 1) * real)
            loss = F.cross_entropy(theta(frames[at]), targets[at])
            aims = torch.autograd.grad(loss, parameters)
            at = slice(a * own, (a + 1) * own)
            loss = F.cross_entropy(theta(synthetic[at]), targets[:own])
            found = torch.autograd.grad(loss, parameters, create_graph=True)
            torch.autograd.backward(found, aims, inputs=[synthetic])

    def seconds_of(iterations: int) -> float:
        method = make_method("gradmatch", iterations=iterations, real_batch=real)
        return _seconds(lambda: method.condense(data, task=task, budget=150), 1)

    alone = _seconds(passes, 5)
    few, many = 2, 12
    iteration = (seconds_of(many) - seconds_of(few)) / (many - few)
    ratio = iteration / alone
    print(f"\ngradmatch: {1e3 * iteration:.0f} ms, its passes {1e3 * alone:.0f} ms, {ratio:.2f}")
    assert ratio < 1.3
