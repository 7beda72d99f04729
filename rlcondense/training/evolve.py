"""Evolution strategies on a policy's weights (Salimans et al., 2017): HaDES without a dataset.

The baseline of Lupu et al. (2024): the same strategies, networks and environments, but the weights
themselves are evolved, thousands of numbers instead of a few states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlcondense.catalogue import settings_of_task
from rlcondense.config import make_config
from rlcondense.errors import BadConfig
from rlcondense.evaluation import evaluate
from rlcondense.evolution.loop import Arena, EvolutionConfig, evolve
from rlcondense.files import lock, slug, write_json
from rlcondense.limits import MOST_EVALUATION_SEED, check_whole
from rlcondense.make import make_task
from rlcondense.networks import fresh_from
from rlcondense.policies import NetworkPolicies
from rlcondense.policies.stacked_mlps import Population
from rlcondense.protocol import protocol_of
from rlcondense.runtime.checkpoint import Checkpoint
from rlcondense.runtime.meter import measured
from rlcondense.runtime.progress import Progress, silent
from rlcondense.runtime.provenance import describe, resolve_device, source_of
from rlcondense.tasks.base import ReturnEstimate, Task
from rlcondense.types import SPLITS


@dataclass(frozen=True)
class ESConfig(EvolutionConfig):
    """Settings of evolution; each point holds the weights of a policy.

    Attributes:
        seed: seed of all randomness.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.seed, "seed", most=MOST_EVALUATION_SEED)


@dataclass(frozen=True)
class EvolutionResult:
    """Result of evolution.

    Attributes:
        policies: one policy, the last mean.
        steps: environment steps.
        curve: `steps`, `best` and `mean` return during evolution.
    """

    policies: NetworkPolicies
    steps: int
    curve: Mapping[str, list[float]]


def evolve_policy(
    task: Task,
    config: ESConfig,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> EvolutionResult:
    """Evolve a policy's weights from random initial weights.

    Args:
        task: the task; its seen levels are played.
        config: the settings.
        device: device of the policies.
        checkpoint: checkpoint of the run.
        progress: receives the generations done.
    """
    c = config
    start = Population.of([fresh_from(c.network(task), device, c.seed)])
    strategy = c.start(start.flat()[0].cpu().numpy())

    def fitness(
        evolved: npt.NDArray[Any], generation: int, rng: np.random.Generator
    ) -> npt.NDArray[Any]:
        return np.asarray(arena.returns(start.like(torch.from_numpy(evolved)), rng).mean(1))

    with Arena(task.seen_only(), c.episodes, c.horizon, c.action_selection == "greedy") as arena:
        _, curve = evolve(
            strategy,
            fitness,
            arena,
            population=c.population,
            generations=c.generations,
            most_steps=c.most_steps,
            seed=c.seed,
            progress=progress,
            phase="evolve",
            checkpoint=checkpoint,
        )
    network = start.like(torch.from_numpy(strategy.mean)[None]).network(0)
    policies = NetworkPolicies(
        [network],
        [c.seed],
        device=device,
        action_selection=c.action_selection,
        space=task.action_space,
    )
    return EvolutionResult(policies, arena.steps, curve)


def evolve_to(
    out: Path | None,
    task: str,
    settings: Mapping[str, str],
    *,
    episodes: int = 100,
    device: str = "auto",
    command: str = "",
    progress: Progress = silent,
) -> tuple[Path, dict[str, Any]]:
    """Evolve a policy and write it, with a card, to a folder that `rlcondense evaluate` reads.

    A killed run continues from its checkpoint. A run waits for another process in the same folder.

    Args:
        out: the folder; by default `results/evolved/TASK-SEED`.
        task: id or alias.
        settings: settings of `ESConfig`.
        episodes: number of evaluation episodes on each split.
        device: `auto`, `cpu` or `cuda`.
        command: the user's command line, for the card.
        progress: receives the progress.

    Returns:
        The folder, and the card.

    Raises:
        BadConfig: a setting is wrong, or `out` is no folder or holds another unfinished run or a
            finished one.
    """
    resolved_task, device = make_task(task), resolve_device(device)
    protocol = protocol_of(episodes)
    config = make_config(ESConfig, settings, "evolution")
    out = out or Path("results", "evolved", f"{slug(resolved_task.id)}-{config.seed}")
    if out.exists() and not out.is_dir():
        raise BadConfig(f"{out} is no folder")
    out.mkdir(parents=True, exist_ok=True)
    with lock(out / ".lock"):
        identity = {
            **source_of(resolved_task, settings_of_task(resolved_task.id)),
            "config": asdict(config),
            "device": device,
        }
        checkpoint = Checkpoint(out / "unfinished.safetensors", identity, device)
        checkpoint.refuse_another()
        if (out / "card.json").exists():
            raise BadConfig(f"{out} holds what was evolved before: name another folder with --out")
        with measured(device) as seconds:
            result = evolve_policy(
                resolved_task, config, device=device, checkpoint=checkpoint, progress=progress
            )
        seconds.add(checkpoint.before)
        returns: dict[str, ReturnEstimate] = {
            split: evaluate(
                result.policies, resolved_task, split, protocol=protocol, progress=progress
            ).estimate()
            for split in SPLITS
        }
        card = {
            "command": command,
            "algorithm": "evolution strategies (Salimans et al. 2017)",
            "task": resolved_task.id,
            "config": asdict(config),
            "environment_steps": result.steps,
            "seconds": round(seconds.wall),
            "environment": {
                k: v
                for k, v in describe(
                    device, torch.get_num_threads(), resolved_task.packages
                ).items()
                if k != "git"
            },
            "returns": {split: estimate.to_json() for split, estimate in returns.items()},
            "curve": dict(result.curve),
        }
        result.policies.save(out)
        write_json(out / "card.json", card)
        checkpoint.path.unlink(missing_ok=True)
    return out, card
