"""Benchmarks that compare two things in one run and print the ratio: `make bench`."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlcondense as rlc
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.traces import Trace, replay
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.evaluation import evaluate
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.policies import NetworkPolicies, random_policies
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.runtime.meter import forget_peak_memory, peak_memory_bytes
from rlcondense.tasks.base import Task
from rlcondense.training.ppo import PPOConfig, Trainer
from tests.benchmarks import plain_ppo
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import now, seconds_of
from tests.benchmarks.parts import gradmatch_and_its_passes, made_up
from tests.conftest import TINY, random_network


def test_evaluation_costs_little_beside_its_parts(task: Task, bench: Bench) -> None:
    """The evaluator against the environment alone plus the policy alone, on the same work.

    The environments are stepped until the last has played its quota, and the policy acts for those
    that still play, as many as in the evaluation.
    """
    num = bench.size(50, 2)
    protocol = Protocol(num, bench.size(2), 0)
    policy = NetworkPolicies([random_network()], [0])
    lengths = evaluate(policy, task, "seen", protocol=protocol).lengths.reshape(num, -1).sum(1)
    playing = [(lengths > t).sum() for t in range(lengths.max())]
    env = task.make_vec("seen", num, seed=0, copy=False)
    env.reset()
    actions = np.full(num, 4)
    frames = np.random.default_rng(0).integers(0, 256, (num, 3, 64, 64), dtype=np.uint8)
    index = np.zeros(num, int)

    def parts() -> None:
        for count in playing:
            env.step(actions)
            policy.act(frames[:count], index[:count], np.zeros(count))

    whole, alone = bench.paired(lambda: evaluate(policy, task, "seen", protocol=protocol), parts, 5)
    env.close()
    bench.ratio(
        "evaluation, Nature, 100 episodes",
        f"{whole:.2f} s",
        f"environment and policy alone {alone:.2f} s",
        whole / alone,
        most=1.15,
    )


@pytest.mark.parametrize("encoder", ["its own", "our"])
@pytest.mark.parametrize("batch", [64, 256])
def test_bc_against_d3rlpys_with_the_same_network(
    tiny: TransitionDataset, task: Task, bench: Bench, batch: int, encoder: str
) -> None:
    """Updates, ours and d3rlpy's DiscreteBC: the Nature CNN, the same optimiser and rate, in turns.

    Each in its own way of drawing batches, and both to the same loss on the data. d3rlpy's own
    encoder of pixels is the Nature CNN too, in another memory format.
    """
    import d3rlpy

    from rlcondense.integrations.d3rlpy.parts import NetworkFactory, quiet

    batch = bench.size(batch, batch // 16)
    updates = bench.size(2400 // batch + 20, 2)
    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("bc", network="nature", updates=updates, batch_size=batch)
    with quiet():
        dataset = d3rlpy.dataset.MDPDataset(
            np.asarray(tiny.observations),
            np.asarray(tiny.actions)[:, None],
            np.asarray(tiny.rewards)[:, None],
            np.asarray(tiny.terminations).astype(np.float32)[:, None],
            action_space=d3rlpy.ActionSpace.DISCRETE,
            action_size=15,
        )
    encoders = {
        "its own": {"observation_scaler": d3rlpy.preprocessing.PixelObservationScaler()},
        "our": {"encoder_factory": NetworkFactory("nature")},
    }
    config = d3rlpy.algos.DiscreteBCConfig(
        batch_size=batch, learning_rate=5e-4, beta=0, **encoders[encoder]
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

    mine, other = (seconds / updates for seconds in bench.paired(ours, theirs, 5))
    rows = np.arange(len(tiny))
    frames, actions = np.array(tiny.observations), np.asarray(tiny.actions)
    probs = trained["ours"].action_probs(frames, np.zeros(len(rows), int))
    with torch.inference_mode():
        scale = 255 if encoder == "its own" else 1
        policy = trained["theirs"].impl.modules.imitator(torch.from_numpy(frames) / scale)
    losses = [-np.log(p[rows, actions]).mean() for p in (probs, policy.probs.numpy())]
    assert abs(losses[0] - losses[1]) < 0.1
    bench.ratio(
        f"BC, Nature, batch {batch}, d3rlpy with {encoder} encoder",
        f"{1000 * mine:.1f} ms an update (loss {losses[0]:.2f})",
        f"d3rlpy's DiscreteBC {1000 * other:.1f} ms (loss {losses[1]:.2f})",
        other / mine,
        least=1.5 if encoder == "its own" else 1,
    )


def test_the_default_student_against_its_passes(
    tiny: TransitionDataset, task: Task, bench: Bench
) -> None:
    """An update of `bc` beside the network's forward and backward pass on frames at hand."""
    updates = bench.size(20)
    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("bc", updates=updates)
    network = random_network(name=learner.config.network)
    frames = torch.from_numpy(np.array(tiny.observations[: learner.config.batch_size]))

    def passes() -> None:
        for _ in range(updates):
            network.zero_grad()
            network(frames).square().mean().backward()

    whole, alone = bench.paired(lambda: learner.fit(data, task=task, seeds=[0]), passes, 5)
    bench.ratio(
        "BC, default student, batch 64",
        f"{1e3 * whole / updates:.1f} ms an update",
        f"its passes {1e3 * alone / updates:.1f} ms",
        whole / alone,
    )


def test_rows_of_run_against_a_plain_loop(
    tiny: TransitionDataset, task: Task, bench: Bench, tmp_path: Path
) -> None:
    """`run` of one row without its references, beside the calls that one would write."""
    updates, episodes, size = bench.size(100), bench.size(20, 2), bench.size(150, 15)
    learner_settings = {"network": "nature" if bench.full else "compact", "updates": updates}
    protocol, seeds, count = protocol_of(episodes), bench.size(3), iter(range(99))

    def ours() -> None:
        rlc.run(
            "random", task.id, dataset=TINY, size=size, condensations=1, seeds=seeds, device="cpu",
            episodes=episodes, learner_settings=learner_settings, references=False,
            results=tmp_path / str(next(count)),
        )  # fmt: skip

    def loop() -> None:
        data = make_method("random").condense(tiny, task=task, budget=size)
        policies = make_learner("bc", **learner_settings).fit(data, task=task, seeds=range(seeds))
        for split in ("seen", "heldout"):
            evaluate(policies, task, split, protocol=protocol)

    whole, alone = bench.paired(ours, loop, 3)
    bench.ratio(
        "a row of `run`: 3 students, Nature, 100 updates, 20 episodes",
        f"{whole:.1f} s",
        f"a plain loop {alone:.1f} s",
        whole / alone,
    )


def test_the_evaluator_against_d3rlpys_for_ten_policies(
    tiny: TransitionDataset, task: Task, bench: Bench
) -> None:
    """Steps per second over ten policies: ours together, d3rlpy's one environment at a time."""
    import gymnasium
    from d3rlpy.metrics import evaluate_qlearning_with_environment

    data = make_method("full").condense(tiny, task=task, budget=len(tiny))
    learner = make_learner("dqn", network="nature", updates=1, batch_size=8)
    policies = learner.fit(data, task=task, seeds=range(bench.size(10, 2)))
    protocol = Protocol(bench.size(50), 1, 0)  # environments as by default
    env = gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0", split="seen")
    env.reset(seed=0)
    counted, played = [0], [0]
    step = env.unwrapped.step

    def count(action: Any) -> Any:
        counted[0] += 1
        return step(action)

    env.unwrapped.step = count  # type: ignore[method-assign]

    def ours() -> None:
        played[0] = evaluate(policies, task, "seen", protocol=protocol).lengths.sum()

    def theirs() -> None:
        counted[0] = 0
        for algorithm in policies.algorithms:  # type: ignore[attr-defined]
            evaluate_qlearning_with_environment(algorithm, env, n_trials=1)

    mine, other = bench.paired(ours, theirs, 2, clock=True)
    rates = played[0] / mine, counted[0] / other
    bench.ratio(
        "evaluator, 10 policies, 50 environments each",
        f"{rates[0]:.0f} steps/s",
        f"d3rlpy's {rates[1]:.0f}",
        rates[0] / rates[1],
        least=5,
    )


def peak_of_ten_students(path: str, rows: int, updates: int) -> float:
    """Megabytes beside what torch holds, of ten students of frames in a file."""
    frames = np.memmap(path, np.uint8, "w+", shape=(rows, 3, 64, 64))
    task = make_task("starpilot")
    forget_peak_memory()
    before = peak_memory_bytes()
    actions = np.arange(rows) % 15
    data = CondensedDataset(frames, actions, weights=np.ones(rows, np.float32))
    make_learner("bc", updates=updates).fit(data, task=task, seeds=range(10))
    return (peak_memory_bytes() - before) / 1e6


def test_memory_of_ten_students_with_fifty_thousand_frames(tmp_path: Path, bench: Bench) -> None:
    path = str(tmp_path / "frames")
    if not bench.full:
        assert peak_of_ten_students(path, 64, 1) < 2000
        return
    code = f"from {__name__} import *; print(peak_of_ten_students({path!r}, 50_000, 20))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    bench.row("ratios", "memory of 10 students, 50,000 frames", f"{float(done.stdout):.0f} MB")
    assert float(done.stdout) < 2000


def test_ppo_against_its_parts(task: Task, tmp_path: Path, bench: Bench) -> None:
    """Steps per second of the trainer beside what its network alone could do."""
    length = bench.size(64, 2)
    config = PPOConfig(network="nature", steps=2 * 64 * length, rollout_length=length, epochs=2)
    trainer = Trainer(task, config, tmp_path, num_threads=0)
    trainer._rollout()
    frames = torch.randint(0, 256, (512, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)

    def ours() -> None:
        trainer._rollout()
        trainer._update()

    def update() -> None:
        logits, values = trainer.network.outputs_and_value(frames)
        (logits.square().mean() + values.mean()).backward()

    whole, alone = bench.paired(ours, update, 3)
    rate, limit = config.batch_size / whole, 512 / alone / config.epochs
    bench.ratio(
        "PPO, Nature, its updates",
        f"{rate:.0f} steps/s",
        f"its updates alone {limit:.0f}",
        rate / limit,
    )


def test_ppo_of_the_compact_network_against_the_nature_cnn(tmp_path: Path, bench: Bench) -> None:
    """Steps per second on one core: the compact network on plain frames, Nature on others."""
    length = bench.size(64, 2)

    def trainer(name: str, network: str) -> Trainer:
        config = PPOConfig(network=network, steps=1, rollout_length=length, epochs=2)
        return Trainer(make_task(name), config, tmp_path / network, num_threads=0)

    trainers = trainer("starpilot-plain", "compact"), trainer("starpilot", "nature")

    def iteration(trainer: Trainer) -> None:
        trainer._rollout()
        trainer._update()

    compact, nature = (
        64 * length / seconds
        for seconds in bench.paired(*(partial(iteration, trainer) for trainer in trainers), 3)
    )
    bench.ratio(
        "PPO, compact network on plain frames",
        f"{compact:.0f} steps/s",
        f"Nature on ordinary ones {nature:.0f}",
        compact / nature,
        least=3,
    )


def test_ppo_against_a_plain_loop(task: Task, tmp_path: Path, bench: Bench) -> None:
    """Steps per second of the trainer beside a plain PPO loop, same network and settings."""
    length = bench.size(256, 2)
    config = PPOConfig(network="nature", steps=1, rollout_length=length, epochs=2)
    trainer = Trainer(task, config, tmp_path, num_threads=0)
    plain = plain_ppo.iterations("starpilot", "nature", length, num_threads=0)

    def ours() -> None:
        trainer._rollout()
        trainer._update()

    rates = [64 * length / s for s in bench.paired(ours, lambda: next(plain), 2)]
    plain.close()
    bench.ratio(
        "PPO, Nature, one thread",
        f"{rates[0]:.0f} steps/s",
        f"a plain loop {rates[1]:.0f}",
        rates[0] / rates[1],
    )


def test_building_a_dataset_against_the_environment_alone(
    task: Task, trace: Trace, bench: Bench
) -> None:
    """Replaying a trace into frames, beside stepping the same environments without keeping any."""
    env = task.make_vec("seen", len(trace.lengths), seed=trace.seed, copy=False)
    env.reset()
    steps = int(trace.lengths.max())

    def alone() -> None:
        for _ in range(steps):
            env.step(np.zeros(len(trace.lengths), np.int64))

    replaying, environment = bench.paired(lambda: list(replay(trace, task)), alone, 3)
    env.close()
    rates = len(trace.actions) / replaying, len(trace.lengths) * steps / environment
    bench.ratio(
        "replay of a trace into frames",
        f"{rates[0]:.0f} transitions/s",
        f"environment alone {rates[1]:.0f} steps/s",
        rates[0] / rates[1],
    )


def test_the_random_policy_runs_at_the_environments_rate(task: Task, bench: Bench) -> None:
    protocol = Protocol(bench.size(50, 2), bench.size(4), 0)
    scores = evaluate(random_policies(task.action_space, [0]), task, "seen", protocol=protocol)
    rate = scores.lengths.sum() / scores.seconds
    bench.row("ratios", "random policy", f"{rate:.0f} steps/s on the clock")


def test_gradient_matching_against_its_passes(
    tiny: TransitionDataset, task: Task, bench: Bench
) -> None:
    small = {} if bench.full else {"network": "compact", "classes": 2}
    iteration, alone = gradmatch_and_its_passes(tiny, task, bench.size(10), **small)
    bench.ratio(
        "gradmatch, Nature, 150 frames",
        f"{1e3 * iteration:.0f} ms an iteration",
        f"its passes {1e3 * alone:.0f} ms",
        iteration / alone,
        most=1.2,
    )


def test_generations_of_hades(bench: Bench) -> None:
    """Population and steps of the preset `quick` on cartpole; its 60 generations by a few."""
    generations, whole = bench.size(6, 1), 60
    settings = {"preset": "quick", "generations": generations}
    settings |= {} if bench.full else {"population": 4, "inner_updates": 2, "episodes": 1}
    task, method = make_task("cartpole"), make_method("hades-f", **settings)
    seconds = seconds_of(lambda: method.condense(None, task=task, budget=4)) / generations
    bench.row(
        "ratios", "hades-f quick on cartpole", f"{whole * seconds:.1f} s for {whole} generations"
    )


def cost_of_a_set(
    name: str, rows: int, iterations: int, settings: dict[str, Any]
) -> tuple[float, float]:
    """Seconds of an iteration on so many made-up frames, and the peak of memory in megabytes."""
    times = []

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "condense":
            times.append(now())

    method = make_method(name, iterations=iterations, **settings)
    data, task = made_up(2 * rows), make_task("starpilot")
    forget_peak_memory()
    before = peak_memory_bytes()
    method.condense(data, task=task, budget=rows, progress=progress)
    each = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return each, (peak_memory_bytes() - before) / 1e6


@pytest.mark.parametrize("name", ["gradmatch", "frepo", "distmatch", "pbc"])
def test_large_sets(name: str, bench: Bench) -> None:
    """Cost of 1500 frames by a few iterations, in a process that holds no memory freed before."""
    if not bench.full:
        few: dict[str, Any] = {"frepo": {"pool": 2, "oldest": 4}}.get(name, {})
        few |= {"inner_steps": 2, "window": 1} if name == "pbc" else {}
        cost_of_a_set(name, 15, 1, {"network": "compact", **few})
        return
    size, default = 1500, make_method(name).config.iterations  # type: ignore[attr-defined]
    call = f"cost_of_a_set({name!r}, {size}, 4, {{'network': 'nature'}})"
    code = f"from {__name__} import *; torch.set_num_threads(1); print(*{call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    each, peak = map(float, done.stdout.split()[-2:])
    bench.row(
        "large-sets",
        name,
        str(size),
        str(default),
        f"{each:.2f}",
        f"{default * each / 60:.0f}",
        f"{peak:.0f} MB",
    )
    assert default * each < 3600
