"""Measurements that `make bench` and `make gpu` have in common; needs no pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import make_learner, make_method
from rlcondense.networks import NetworkSpec, fresh_from
from rlcondense.tasks.base import Task
from tests.benchmarks.figures import now, seconds_of


def made_up(rows: int) -> TransitionDataset:
    """Frames, actions and their distributions at random: what costs time is how many they are."""
    rng, length = np.random.default_rng(0), 50
    probs = rng.dirichlet(np.ones(15), rows).astype(np.float32)
    return TransitionDataset(
        observations=rng.integers(0, 256, (rows, 3, 64, 64), dtype=np.uint8),
        actions=(probs.cumsum(1) > rng.random((rows, 1))).argmax(1),
        rewards=np.zeros(rows, np.float32),
        terminations=np.arange(1, rows + 1) % length == 0,
        truncations=np.zeros(rows, np.bool_),
        episode_ids=np.arange(rows) // length,
        steps=np.arange(rows) % length,
        level_seeds=np.zeros(rows, np.int64),
        action_probs=probs,
    )


def gradmatch_and_its_passes(
    data: TransitionDataset,
    task: Task,
    iterations: int,
    *,
    device: str = "cpu",
    network: str = "nature",
    classes: int = 15,
) -> tuple[float, float]:
    """Median seconds of an iteration of gradient matching, and of its passes alone, in turns.

    An iteration has 10 frames of each class, and 32 real ones. The passes: for each class, real
    frames forward and backward, and synthetic ones forward and twice backward. The rest is drawing,
    targets, the distance and Adam.
    """
    real, own = 32, 10
    actions = np.arange(len(data)) % classes
    data = replace(data, actions=actions, action_probs=None, known_sha256="")
    theta = fresh_from(NetworkSpec(network, (3, 64, 64), 15), device, 0)
    parameters = list(theta.parameters())
    rows = np.arange(classes * real) % len(data)
    frames = torch.from_numpy(np.array(data.observations[rows])).to(device)
    targets = torch.eye(15, device=device)[:classes].repeat_interleave(real, 0)
    synthetic = frames[: classes * own].float().requires_grad_()

    def passes() -> None:
        for a in range(classes):
            at = slice(a * real, (a + 1) * real)
            loss = F.cross_entropy(theta(frames[at]), targets[at])
            aims = torch.autograd.grad(loss, parameters)
            at = slice(a * own, (a + 1) * own)
            loss = F.cross_entropy(theta(synthetic[at]), targets[:own])
            gradients = torch.autograd.grad(loss, parameters, create_graph=True)
            torch.autograd.backward(gradients, aims, inputs=[synthetic])

    times: list[tuple[float, float]] = []
    began = [now(device)]

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        iteration = now(device) - began[0]
        if phase == "condense":
            times.append((iteration, seconds_of(passes, device)))
        began[0] = now(device)

    settings = {"preset": "per-class", "iterations": iterations + 1}
    method = make_method("gradmatch", **settings, real_batch=real, network=network)
    method.condense(data, task=task, budget=classes * own, device=device, progress=progress)
    iteration, alone = np.median(times[1:], 0)  # the first one warms up
    return float(iteration), float(alone)


def students_together_and_apart(
    data: CondensedDataset, task: Task, seeds: Sequence[int], device: str, updates: int
) -> tuple[float, float]:
    """Seconds of students of some seeds in one call, and in one call each."""
    learner = make_learner("bc", updates=updates)

    def together() -> None:
        learner.fit(data, task=task, seeds=seeds, device=device)

    def apart() -> None:
        for seed in seeds:
            learner.fit(data, task=task, seeds=[seed], device=device)

    apart()
    together()
    return seconds_of(together, device), seconds_of(apart, device)
