"""Checks of the work that a GPU does, for a device by name; needs no pytest.

`tests/test_gpu.py` calls them on both devices, `make gpu` on one where there may be no pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.evaluation import evaluate
from rlcondense.experts.shipped import Expert
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.networks import NetworkSpec, fresh_from
from rlcondense.policies import NetworkPolicies
from rlcondense.protocol import Protocol
from rlcondense.runtime.progress import silent
from rlcondense.tasks.base import Task
from rlcondense.training.distil import ON_GPU, DistilConfig, Distiller
from rlcondense.training.ppo import PPOConfig, Trainer

Check = Callable[[TransitionDataset, Task, Path, str], None]
METHODS = {
    "gradmatch": {"network": "compact", "iterations": 2},
    "gradmatch-light2024": {"iterations": 2, "real_batch": 16},
    "frepo": {"network": "compact", "iterations": 2, "pool": 2, "oldest": 2, "real_batch": 16},
    "distmatch": {"network": "compact", "iterations": 2, "real_batch": 16},
    "ncfm": {"network": "compact", "iterations": 2, "networks": 1, "network_updates": 2},
    "pbc": {"network": "compact", "iterations": 2, "inner_steps": 3, "window": 2},
    "ppmo": {"network": "compact", "iterations": 2, "num_envs": 2, "rollout_length": 8},
}
PPO = {"network": "compact", "num_envs": 4, "rollout_length": 16, "minibatches": 2}


def _expert(network: str) -> Expert:
    weights = fresh_from(NetworkSpec(network, (3, 64, 64), 15), "cpu", 0)
    return Expert("tests/teacher-v0", weights, "0" * 64, {})


def methods_are_repeatable(data: TransitionDataset, task: Task, folder: Path, device: str) -> None:
    """Condense twice with each of some methods: the same bytes."""
    for id_, settings in METHODS.items():
        method = make_method(id_, **settings)
        first, second = (
            method.condense(data, task=task, budget=15, expert=_expert("compact"), device=device)
            for _ in range(2)
        )
        assert first.sha256 == second.sha256, id_


def students_are_repeatable_and_play(
    data: TransitionDataset, task: Task, folder: Path, device: str
) -> None:
    """Train two seeds twice: the same weights; they play."""
    rows = make_method("random").condense(data, task=task, budget=30)
    learner = make_learner("bc", updates=3, batch_size=8)
    first, second = (learner.fit(rows, task=task, seeds=[0, 1], device=device) for _ in range(2))
    assert _same(first, second)
    scores = evaluate(first, task, "seen", protocol=Protocol(2, 1, 0))
    assert scores.returns.shape == (2, 2)


def students_of_a_device_are_those_of_the_cpu(
    data: TransitionDataset, task: Task, folder: Path, device: str
) -> None:
    """Train two seeds on the device and on the CPU: the same weights up to rounding."""
    rows = make_method("random").condense(data, task=task, budget=30)
    # Adam divides by the gradient's size, and so makes rounding of small gradients visible.
    learner = make_learner("bc", updates=3, batch_size=8, optimiser="sgd", learning_rate=0.1)
    here, there = (
        learner.fit(rows, task=task, seeds=[0, 1], device=name) for name in ("cpu", device)
    )
    for a, b in zip(here.networks, there.networks, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.allclose(p.cpu(), q.cpu(), rtol=1e-3, atol=1e-4)


def ppo_resumes(data: TransitionDataset, task: Task, folder: Path, device: str) -> None:
    """Stop PPO and go on with it, in half precision."""
    config = PPOConfig(**PPO, steps=64, precision="bfloat16")  # type: ignore[arg-type]
    Trainer(task, config, folder, device=device).train()
    longer = replace(config, steps=128)
    assert Trainer(task, longer, folder, device=device, resume=True).train().steps == 128


def distillation_resumes_to_the_same_bytes(
    data: TransitionDataset, task: Task, folder: Path, device: str
) -> None:
    """Stop distillation and go on with it: the same weights as without a stop."""
    small = {"steps": 192, "num_envs": 4, "memory": 64, "learning_starts": 0, "batch_size": 32}
    config = DistilConfig(**{**ON_GPU, **small})  # type: ignore[arg-type]
    teacher, plain = _expert("impala-patch2"), make_task("starpilot-plain")

    def distiller(name: str, **options: bool) -> Distiller:
        return Distiller(task, teacher, plain, config, folder / name, device=device, **options)

    whole, begun = distiller("whole"), distiller("parts")
    whole.train()
    begun._advance(silent)
    begun._save()
    parts = distiller("parts", resume=True)
    assert parts.steps == 64
    parts.train()
    for p, q in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        assert torch.equal(p, q)


def _same(first: NetworkPolicies, second: NetworkPolicies) -> bool:
    return all(
        torch.equal(p, q)
        for a, b in zip(first.networks, second.networks, strict=True)
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


CHECKS: tuple[Check, ...] = (
    methods_are_repeatable,
    students_are_repeatable_and_play,
    students_of_a_device_are_those_of_the_cpu,
    ppo_resumes,
    distillation_resumes_to_the_same_bytes,
)
