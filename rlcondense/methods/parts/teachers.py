"""Taught labels: those of an ensemble of students of the data, on whatever frames are kept or made.

An early-stopped teacher's labels are worth a thousand images (Qin, Deng and Alvarez-Melis, 2024,
arXiv 2406.10485). The teachers are students of `bc`, of the actions taken in all the data but a
tenth of the episodes, trained until the loss on that tenth stops falling; a label is the mean of
their distributions. They depend on the data and the settings alone: all methods and seeds share
them, in a folder of the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from rlcondense.cloning import SHIFT, shifted
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.learners.bc import BCConfig, BehaviouralCloning
from rlcondense.methods.base import Condensation, Problem
from rlcondense.methods.full import FullConverged
from rlcondense.methods.parts.artifacts import artifact
from rlcondense.networks import fitting_network
from rlcondense.policies import NetworkPolicies
from rlcondense.policies.networks import load_policies
from rlcondense.types import Array

OF_TRANSITIONS = ("rewards", "terminations", "truncations", "next_rows", "following")
CHUNK = 512  # rows labelled at a time


@dataclass(frozen=True)
class Teachers:
    """An ensemble of students, which labels observations.

    Attributes:
        policies: the students.
        temperature: divisor of their logits.
        gradient_evaluations: number of gradients of one observation's loss in their training.
    """

    policies: NetworkPolicies
    temperature: float
    gradient_evaluations: int

    @property
    def is_continuous(self) -> bool:
        """Return whether they give actions, not distributions."""
        return self.policies.spec.head == "gaussian"

    @torch.no_grad()
    def labels(self, observations: Array, space: Any) -> Array:
        """Return the mean of the students' distributions `(N, A)`, or of their mean actions.

        Args:
            observations: `(N, *observation)`.
            space: of the actions.
        """
        parts = []
        for start in range(0, len(observations), CHUNK):
            x = torch.from_numpy(np.array(observations[start : start + CHUNK]))
            outputs = [network(x.to(self.policies.device)) for network in self.policies.networks]
            if self.is_continuous:
                outputs = [output.chunk(2, 1)[0] for output in outputs]
            else:
                outputs = [(output / self.temperature).softmax(1) for output in outputs]
            parts.append(torch.stack(outputs).mean(0).cpu().numpy().astype(np.float32))
        labels = np.concatenate(parts)
        if isinstance(space, Box):
            return np.asarray(labels.reshape(-1, *space.shape).clip(space.low, space.high))
        return np.asarray(labels / labels.sum(1, keepdims=True))

    def relabelled(self, dataset: TransitionDataset, space: Any) -> TransitionDataset:
        """Return a dataset with the students' labels in place of its own."""
        labels = self.labels(dataset.observations, space)
        if self.is_continuous:
            return replace(dataset, actions=labels, known_sha256="")
        return replace(dataset, action_probs=labels, known_sha256="")

    def labelled(self, result: Condensation, space: Any) -> Condensation:
        """Return a result with the students' labels on frames that were made."""
        cost = result.gradient_evaluations + self.gradient_evaluations
        columns = dict(result.columns)
        if self.is_continuous:  # actions that were not taken earned none of the rewards
            columns = {k: v for k, v in columns.items() if k not in OF_TRANSITIONS}
        if result.source_indices is None:
            labels = self.labels(columns["observations"], space)
            columns["actions" if self.is_continuous else "action_probs"] = labels
        return replace(result, columns=columns, gradient_evaluations=cost)

    def with_views(
        self, result: Condensation, views: int, space: Any, rng: np.random.Generator
    ) -> Condensation:
        """Return a result with views of its frames, each with the students' label of it.

        Args:
            result: of frames.
            views: number of views of each frame.
            space: of the actions.
            rng: of the shifts.
        """
        frames = result.columns["observations"]
        shifts = rng.integers(-SHIFT, SHIFT + 1, (len(frames), views, 2), np.int8)
        labels = []
        for start in range(0, len(frames), CHUNK):
            part = torch.from_numpy(np.array(frames[start : start + CHUNK]))
            each = [
                self.labels(shifted(part, moves).numpy(), space)
                for moves in shifts[start : start + CHUNK].swapaxes(0, 1)
            ]
            labels.append(np.stack(each, 1))
        columns = {"view_shifts": shifts, "view_labels": np.concatenate(labels)}
        return replace(result, columns={**result.columns, **columns})


def teachers_of(problem: Problem, config: Any) -> Teachers:
    """Train the students that a config asks for, or read them from the cache.

    Args:
        problem: the problem with the data.
        config: with the settings of `rlcondense.methods.base.TeachingConfig`.
    """
    shape = problem.dataset.observations.shape[1:]
    network = config.label_network or fitting_network(BCConfig().network, shape)
    settings = BCConfig(network=network, updates=config.label_updates)
    facts = {
        "learner": config_json(settings), "students": config.label_teachers, "each_ends": "alone"
    }  # fmt: skip

    def make(folder: Path) -> int:
        policies = _trained(problem, settings, config.label_teachers)
        policies.save(folder)
        return _cost(policies, settings)

    folder, cost = artifact("teachers", problem, facts, make)
    return Teachers(load_policies(folder, problem.device), config.label_temperature, cost)


def _trained(problem: Problem, settings: BCConfig, count: int) -> NetworkPolicies:
    data = FullConverged().condense(
        problem.dataset, task=problem.task, budget=Budget(percent=100.0)
    )
    policies = BehaviouralCloning(settings).fit(
        data,
        task=problem.task,
        seeds=range(count),
        device=problem.device,
        progress=lambda _, done, total, note="": problem.progress("teach", done, total, note),
    )
    assert isinstance(policies, NetworkPolicies)
    return policies


def _cost(policies: NetworkPolicies, settings: BCConfig) -> int:
    training: Mapping[str, Any] | None = policies.training
    if training is None:
        updates = settings.updates * len(policies.networks)
    else:  # each student has its own end
        updates = sum(training["updates"][len(curve) - 1] for curve in training["held_back_loss"])
    return int(updates) * (settings.batch_size or 1)
