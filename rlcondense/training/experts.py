"""Training of experts, from the name of a task to the shipped weights and card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense import catalogue
from rlcondense.config import make_config
from rlcondense.errors import BadConfig
from rlcondense.evaluation import evaluate
from rlcondense.experts.shipped import (
    find_expert,
    float16_weights,
    load_expert,
    load_newest,
    save_expert,
)
from rlcondense.files import slug
from rlcondense.make import make_task, suited
from rlcondense.networks import ANY_OPTION, PolicyNetwork
from rlcondense.policies import NetworkPolicies, check_fits, network_from_arrays
from rlcondense.protocol import protocol_of
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import describe, resolve_device
from rlcondense.tasks.base import Task
from rlcondense.training import runs
from rlcondense.training.distil import ON_GPU, DistilConfig, Distiller
from rlcondense.training.ppo import PPOConfig, Trainer
from rlcondense.training.runs import TrainingResult
from rlcondense.types import SPLITS

GREEDY_SHARE = 5  # greedy policies get stuck, and then play until the step limit


def train_expert(
    task: str,
    settings: Mapping[str, str],
    *,
    out: Path | None = None,
    resume: bool = False,
    restart: bool = False,
    episodes: int = 500,
    device: str = "auto",
    command: str = "",
    progress: Progress = silent,
) -> tuple[Path, dict[str, Any]]:
    """Train, evaluate on both splits, and write float16 weights and their card.

    Args:
        task: id or alias.
        settings: settings of `PPOConfig`, which override those that suit the task.
        out: folder of checkpoint, log, weights and card.
        resume: continue from the folder's checkpoint.
        restart: start anew even if there is a checkpoint.
        episodes: number of evaluation episodes on each split.
        device: `auto`, `cpu` or `cuda`.
        command: the user's command line, for the card.
        progress: receives the steps done.

    Returns:
        The weights' path, and the card.
    """
    resolved_task, device = make_task(task), resolve_device(device)
    protocol_of(episodes)
    threads = os.cpu_count() or 1
    # On a GPU, half of the environments step while the policy computes for the other half.
    of_gpu = {"precision": "bfloat16", "env_groups": 2} if device == "cuda" else {}
    of_task = _suited_to(resolved_task, settings.get("network"))
    config = make_config(PPOConfig, {**of_gpu, **of_task, **settings}, "the trainer")
    out = out or Path("results", "experts", slug(resolved_task.id))
    with runs.folder_lock(out):
        trainer = Trainer(
            resolved_task,
            config,
            out,
            device=device,
            resume=resume,
            restart=restart,
            num_threads=threads,
        )
        trained = trainer.train(progress)
        card = {"command": command, "algorithm": "PPO (Schulman et al. 2017)"}
        return _ship(trained, resolved_task, config, card, out, episodes, device, progress)


def distil_expert(
    task: str,
    teacher: str,
    settings: Mapping[str, str],
    *,
    out: Path | None = None,
    resume: bool = False,
    restart: bool = False,
    episodes: int = 500,
    device: str = "auto",
    command: str = "",
    progress: Progress = silent,
) -> tuple[Path, dict[str, Any]]:
    """Distil a teacher with another view, evaluate, and write float16 weights and card.

    Args:
        task: id or alias of the student's task.
        teacher: an expert's id, a task's alias, or a folder; its card names its own task.
        settings: settings of `DistilConfig`, which override those that suit device and task.
        out: folder of checkpoint, log, weights and card.
        resume: continue from the folder's checkpoint.
        restart: start anew even if there is a checkpoint.
        episodes: number of evaluation episodes on each split.
        device: `auto`, `cpu` or `cuda`.
        command: the user's command line, for the card.
        progress: receives the steps done.

    Returns:
        The weights' path, and the card.
    """
    resolved_task, device = make_task(task), resolve_device(device)
    protocol_of(episodes)
    expert = find_expert(teacher)
    played = make_task(expert.card["task"])
    check_fits(expert.network.spec, played, f"teacher {expert.id!r}")
    of_gpu = ON_GPU if device == "cuda" else {}
    of_task = suited(DistilConfig, resolved_task)
    config = make_config(DistilConfig, {**of_gpu, **of_task, **settings}, "distillation")
    if not config.num_updates:
        raise BadConfig(
            f"{config.steps} steps end before the first update: learning_starts is "
            f"{config.learning_starts}"
        )
    out = out or Path("results", "distilled", slug(resolved_task.id))
    with runs.folder_lock(out):
        distiller = Distiller(
            resolved_task,
            expert,
            played,
            config,
            out,
            device=device,
            resume=resume,
            restart=restart,
            num_threads=os.cpu_count() or 1,
        )
        trained = distiller.train(progress)
        card = {
            "command": command,
            "algorithm": "DAgger with soft labels (Ross et al. 2011)",
            "teacher": expert.id,
            "teacher_sha256": expert.sha256,
        }
        return _ship(trained, resolved_task, config, card, out, episodes, device, progress)


def _ship(
    trained: TrainingResult,
    task: Task,
    config: PPOConfig | DistilConfig,
    card: dict[str, Any],
    out: Path,
    episodes: int,
    device: str,
    progress: Progress,
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the result of a run, and write it with a card of its returns."""
    # The evaluation uses the shipped weights, rounded to float16.
    shipped = network_from_arrays(trained.network.spec, float16_weights(trained.network), "")
    environment = describe(device, os.cpu_count() or 1, task.packages)
    card = {
        **card,
        "steps": trained.steps,
        "seed": config.seed,
        "config": asdict(config),
        "seconds": round(trained.seconds),
        "environment": {k: v for k, v in environment.items() if k != "git"},
        **measure_policy(shipped, task, episodes, device, progress),
    }
    return save_expert(task.id, trained.network, card, out), card


def evaluate_expert(
    task: str,
    *,
    folder: Path | None = None,
    episodes: int = 500,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure an expert's returns and the entropy of its distributions; see `measure_policy`.

    Args:
        task: id or alias.
        folder: folder of the weights; the shipped ones by default.
        episodes: number of episodes on each split.
        device: `auto`, `cpu` or `cuda`.
        progress: receives the episodes played.
    """
    resolved_task = make_task(task)
    expert = (
        load_newest(resolved_task.id) if folder is None else load_expert(resolved_task.id, folder)
    )
    check_fits(expert.network.spec, resolved_task, f"expert {expert.id!r}")
    return measure_policy(expert.network, resolved_task, episodes, resolve_device(device), progress)


def _suited_to(task: Task, network: str | None) -> dict[str, Any]:
    """Return the catalogue's settings for a task, without those of other networks."""
    from_catalogue = catalogue.find("tasks", task.id).facts.get("training", {})
    settings = {**suited(PPOConfig, task), **from_catalogue}
    if network in (None, settings.get("network", PPOConfig.network)):
        return settings
    return {name: value for name, value in settings.items() if name not in ANY_OPTION}


def measure_policy(
    network: PolicyNetwork, task: Task, episodes: int, device: str, progress: Progress = silent
) -> dict[str, Any]:
    """Measure the figures of a policy's card.

    Args:
        network: the policy.
        task: the task to play.
        episodes: number of episodes on each split.
        device: `cpu` or `cuda`.
        progress: receives the episodes played.

    Returns:
        `returns` of sampled actions, by split: mean, standard error over episodes and their number.
        For discrete actions also `greedy`, the same for the likeliest actions, in a fifth of the
        episodes; and `entropy`, in nats, of the distributions in the seen levels' sampled episodes.
    """
    sampling = _EntropyPolicies([network], [0], device=device, space=task.action_space)
    out: dict[str, Any] = {"returns": {}}
    for split in SPLITS:
        out["returns"][split] = _estimate(sampling, task, split, episodes, progress)
        if split == "seen" and sampling.rows:
            out["entropy"] = round(sampling.entropy / sampling.rows, 4)
    if network.spec.head == "categorical":
        greedy = NetworkPolicies([network], [0], device=device, action_selection="greedy")
        fewer = max(1, episodes // GREEDY_SHARE)
        out["greedy"] = {s: _estimate(greedy, task, s, fewer, progress) for s in SPLITS}
    return out


def _estimate(
    policies: NetworkPolicies, task: Task, split: str, episodes: int, progress: Progress
) -> dict[str, Any]:
    protocol, threads = protocol_of(episodes), os.cpu_count() or 1
    scores = evaluate(
        policies, task, split, protocol=protocol, num_threads=threads, progress=progress
    )
    return scores.estimate().to_json()


class _EntropyPolicies(NetworkPolicies):
    """Policies that sum the entropy of their action distributions."""

    entropy, rows = 0.0, 0

    def action_probs(self, observations: Any, policy_index: Any) -> Any:
        probs = super().action_probs(observations, policy_index)
        self.entropy -= float((probs * np.log(np.maximum(probs, 1e-12))).sum())
        self.rows += len(probs)
        return probs
