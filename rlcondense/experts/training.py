"""Training an expert from its task's name to the weights and card that are shipped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlcondense import catalogue
from rlcondense.config import make_config
from rlcondense.evaluation import evaluate, protocol_of
from rlcondense.experts.ppo import PPOConfig, Trainer
from rlcondense.experts.zoo import float16_weights, load_expert, save_expert
from rlcondense.files import slug
from rlcondense.making import make_task, suited
from rlcondense.networks import ANY_OPTION, PolicyNetwork
from rlcondense.policies import NetworkPolicies, network_from_arrays
from rlcondense.progress import Progress, silent
from rlcondense.running.environment import describe, resolve_device
from rlcondense.tasks.base import SPLITS, Task


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
        settings: of `PPOConfig`, over those that suit the task.
        out: folder of checkpoint, log, weights and card.
        resume: go on from the folder's checkpoint.
        restart: begin anew where there is a checkpoint.
        episodes: of the evaluation, on each split.
        device: `auto`, `cpu` or `cuda`.
        command: what the user typed, for the card.
        progress: told the steps done.

    Returns:
        The weights' path, and the card.
    """
    made, device = make_task(task), resolve_device(device)
    protocol_of(episodes)
    threads = os.cpu_count() or 1
    # On a GPU one half of the environments steps while the policy computes for the other.
    of_gpu = {"precision": "bfloat16", "env_groups": 2} if device == "cuda" else {}
    of_task = _suited_to(made, settings.get("network"))
    config = make_config(PPOConfig, {**of_gpu, **of_task, **settings}, "the trainer")
    out = out or Path("results", "experts", slug(made.id))
    trainer = Trainer(
        made, config, out, device=device, resume=resume, restart=restart, num_threads=threads
    )
    trained = trainer.train(progress)
    # What is evaluated is what is shipped: the weights after rounding to float16.
    shipped = network_from_arrays(trained.network.spec, float16_weights(trained.network), "")
    card: dict[str, Any] = {
        "command": command,
        "steps": trained.steps,
        "seed": config.seed,
        "algorithm": "PPO (Schulman et al. 2017)",
        "config": asdict(config),
        "seconds": round(trained.seconds),
        "environment": {k: v for k, v in describe(device, threads).items() if k != "git"},
        "returns": _returns(shipped, made, episodes, device, progress),
    }
    return save_expert(made.id, trained.network, card, out), card


def evaluate_expert(
    task: str,
    *,
    folder: Path | None = None,
    episodes: int = 500,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Mean return, its standard error over episodes and their number, by split.

    Args:
        task: id or alias.
        folder: where the weights lie; the shipped ones by default.
        episodes: on each split.
        device: `auto`, `cpu` or `cuda`.
        progress: told the episodes played.
    """
    made = make_task(task)
    network = load_expert(made.id, folder).network
    return _returns(network, made, episodes, resolve_device(device), progress)


def _suited_to(task: Task, network: str | None) -> dict[str, Any]:
    """The catalogue's settings for a task, without those of a network that is not `network`."""
    told = catalogue.find("tasks", task.id).facts.get("training", {})
    settings = {**suited(PPOConfig, task), **told}
    if network in (None, settings.get("network", PPOConfig.network)):
        return settings
    return {name: value for name, value in settings.items() if name not in ANY_OPTION}


def _returns(
    network: PolicyNetwork, task: Task, episodes: int, device: str, progress: Progress
) -> dict[str, dict[str, Any]]:
    policies = NetworkPolicies([network], [0], device=device, space=task.action_space)
    protocol, threads = protocol_of(episodes), os.cpu_count() or 1
    return {
        split: asdict(
            evaluate(
                policies, task, split, protocol=protocol, num_threads=threads, progress=progress
            ).estimate()
        )
        for split in SPLITS
    }
