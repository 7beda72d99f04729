"""Datasets that experts play: good, of mixed quality, or random to compare with.

Named after D4RL's (Fu et al., 2020, arXiv 2004.07219); Mediratta et al. (2023, arXiv 2312.05742)
have their like for Procgen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.recordings import save_recording
from rlcondense.datasets.traces import Trace, load_trace, replay
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.experts.shipped import load_expert, load_newest, snapshots
from rlcondense.files import cache_root, lock, slug
from rlcondense.limits import MOST_EVALUATION_SEED, check_most, check_whole
from rlcondense.networks import PolicyNetwork
from rlcondense.policies import NetworkPolicies, PolicyBatch, check_fits, random_policies
from rlcondense.rollout import collect
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

KINDS = ("expert", "mixed", "random")
SEED = 1000  # evaluations use 0, and would else play the very levels of the data
MIXED_PARTS = 5
LEAST_PARTS = 3


def collect_dataset(
    task: Task,
    kind: str = "expert",
    *,
    folder: Path | None = None,
    expert: str | None = None,
    episodes: int = 100,
    seed: int = SEED,
    num_envs: int = 20,
    progress: Progress = silent,
) -> Trace:
    """Play one of the three kinds of dataset on seen levels.

    Args:
        task: where to play.
        kind: `expert`; `mixed`, equal parts of five policies along its training; or `random`.
        folder: where training wrote to; needed for `mixed`, else the shipped experts by default.
        expert: id of the expert that plays: by default the task's newest, or of `folder` its own.
        episodes: how many, a multiple of `num_envs`.
        seed: of levels and actions.
        num_envs: parallel environments.
        progress: told the episodes played.
    """
    check_most("episodes", episodes)
    check_whole(seed, "seed", most=MOST_EVALUATION_SEED)
    policies = _policies(task, kind, folder, expert)
    return collect(
        policies, task, episodes=episodes, seed=seed, num_envs=num_envs, progress=progress
    )


def write_played(trace: Trace, task: Task, path: Path) -> None:
    """Write what was just played: the trace where it replays anywhere, else what it shows here."""
    if task.replays:
        trace.save(path)
    else:
        save_recording(path, list(replay(trace, task)))


def _policies(task: Task, kind: str, folder: Path | None, expert: str | None) -> PolicyBatch:
    if kind == "random":
        return random_policies(task.action_space, [0])
    if kind == "expert":
        of_task = expert is None and folder is None
        player = load_newest(task.id) if of_task else load_expert(expert or task.id, folder)
        network = player.network
        check_fits(network.spec, task, f"expert {player.id!r}")
        return NetworkPolicies([network], [0], space=task.action_space)
    if kind != "mixed":
        raise BadConfig(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if folder is None:
        raise BadConfig("a mixed dataset needs --folder, where training wrote its snapshots to")
    networks = snapshots(expert or task.id, folder)
    check_fits(next(iter(networks.values())).spec, task, str(folder))
    return mixed_policies(networks, task)


def mixed_policies(networks: Mapping[int, PolicyNetwork], task: Task) -> NetworkPolicies:
    """Choose up to five policies along one training run, the first and the last included.

    Those between lie a third, a ninth and so on of the way, as near as there are any.

    Args:
        networks: by environment steps.
        task: whose actions they take.

    Raises:
        BadConfig: there are fewer than three.
    """
    parts = max(LEAST_PARTS, min(MIXED_PARTS, len(networks)))
    first, last = min(networks), max(networks)
    between = [min(networks, key=lambda s: abs(s - last / 3**k)) for k in range(1, parts - 1)]
    steps = sorted({first, *between, last})
    if len(steps) < parts:
        raise BadConfig(f"training left too few snapshots for {parts} different policies")
    return NetworkPolicies([networks[s] for s in steps], steps, space=task.action_space)


class ExpertDataset:
    """A catalogue dataset that the shipped expert plays on first use.

    What it plays is kept as a trace, so that a build that was cut short does not play it again.
    Networks round differently from machine to machine, so that the data are not the same
    everywhere, as those of a shipped trace are.

    Args:
        id: its catalogue id.
        task: id of its task.
        episodes: how many.
        expert: id of the expert that plays; by default the first one of the task, its namesake.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str, *, task: str, episodes: int, expert: str | None = None) -> None:
        self.id, self.task, self.num_episodes = id, task, episodes
        self.expert = expert or task

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """The dataset's episodes, collected unless they were before."""
        expert = load_expert(self.expert).sha256[:12]
        path = cache_root() / "traces" / f"{slug(self.id)}-{expert}.trace.safetensors"
        with lock(path.with_suffix(".lock")):
            try:
                trace = load_trace(path)
            except CorruptArtifact:  # or not there yet
                trace = collect_dataset(
                    task,
                    expert=self.expert,
                    episodes=self.num_episodes,
                    num_envs=50,
                    progress=progress,
                )
                trace.save(path)
        return replay(trace, task, progress=progress)
