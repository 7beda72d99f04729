"""The same work on a GPU: it runs there, and the same seed gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.evaluation import evaluate
from rlcondense.experts.shipped import Expert
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.protocol import Protocol
from rlcondense.runtime.progress import silent
from rlcondense.runtime.provenance import resolve_device
from rlcondense.tasks.base import Task
from rlcondense.training.distil import ON_GPU, DistilConfig, Distiller
from rlcondense.training.ppo import PPOConfig, Trainer
from tests.conftest import random_network
from tests.methods.test_methods import EXPERT

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    resolve_device("cuda")


@pytest.mark.parametrize("id_", ["gradmatch", "gradmatch-light2024"])
def test_methods_are_repeatable_on_a_gpu(id_: str, tiny: TransitionDataset, task: Task) -> None:
    method = make_method(id_, iterations=3)
    a, b = (
        method.condense(tiny, task=task, budget=15, expert=EXPERT, device="cuda") for _ in range(2)
    )
    assert a.sha256 == b.sha256


def test_students_train_and_play_on_a_gpu(tiny: TransitionDataset, task: Task) -> None:
    data = make_method("random").condense(tiny, task=task, budget=30)
    learner = make_learner("bc", updates=5)
    a, b = (learner.fit(data, task=task, seeds=[0], device="cuda") for _ in range(2))
    for p, q in zip(a.networks[0].parameters(), b.networks[0].parameters(), strict=True):
        assert torch.equal(p, q)
    scores = evaluate(a, task, "seen", protocol=Protocol(4, 1, 0))
    assert scores.returns.shape == (1, 4)


def test_ppo_resumes_on_a_gpu(task: Task, tmp_path: Path) -> None:
    small = {"network": "nature", "num_envs": 4, "rollout_length": 16, "minibatches": 2}
    config = PPOConfig(**small, steps=64, precision="bfloat16")  # type: ignore[arg-type]
    Trainer(task, config, tmp_path, device="cuda").train()
    longer = PPOConfig(**small, steps=128, precision="bfloat16")  # type: ignore[arg-type]
    assert Trainer(task, longer, tmp_path, device="cuda", resume=True).train().steps == 128


def test_distillation_resumes_to_the_same_bytes_on_a_gpu(task: Task, tmp_path: Path) -> None:
    small = {"steps": 192, "num_envs": 4, "memory": 64, "learning_starts": 0, "batch_size": 32}
    config = DistilConfig(**{**ON_GPU, **small})
    teacher = Expert("tests/teacher-v0", random_network(name="impala-patch2"), "0", {})

    def distiller(name: str, **options: bool) -> Distiller:
        plain, out = make_task("starpilot-plain"), tmp_path / name
        return Distiller(task, teacher, plain, config, out, device="cuda", **options)

    whole, begun = distiller("whole"), distiller("parts")
    whole.train()
    begun._advance(silent)
    begun._save()
    parts = distiller("parts", resume=True)
    assert parts.steps == 64
    parts.train()
    for p, q in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        assert torch.equal(p, q)
