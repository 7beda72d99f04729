"""Collection of datasets: by an expert, by policies of mixed quality, or at random.

The names are those of D4RL (Fu et al., 2020, arXiv 2004.07219); Mediratta et al. (2023, arXiv
2312.05742) collect such data on Procgen.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from rlcondense.catalogue import settings_of_task
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.recordings import save_recording
from rlcondense.datasets.sources import TASK
from rlcondense.datasets.traces import Trace, collected_trace, load_trace, replay
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.experts.shipped import (
    Expert,
    expert_path,
    find_expert,
    load_expert,
    load_newest,
    snapshots,
)
from rlcondense.files import lock
from rlcondense.limits import MOST_EVALUATION_SEED, check_most, check_whole
from rlcondense.networks import PolicyNetwork
from rlcondense.policies import NetworkPolicies, PolicyBatch, check_fits, random_policies
from rlcondense.rollout import collect
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

KINDS = ("expert", "mixed", "random")
SEED = 1000  # evaluations use seed 0, and would otherwise play exactly the levels of the data
MIXED_PARTS = 5
LEAST_PARTS = 3
_MOST_ENVS = 20


def collect_dataset(
    task: Task,
    kind: str = "expert",
    *,
    folder: Path | None = None,
    expert: str | None = None,
    episodes: int = 100,
    seed: int = SEED,
    num_envs: int | None = None,
    progress: Progress = silent,
) -> Trace:
    """Collect one of the three kinds of dataset on seen levels.

    Args:
        task: the task to play.
        kind: `expert`; `mixed`, equal parts of three to five policies along its training; or
            `random`.
        folder: folder of a training run; required for `mixed`, else the shipped experts by
            default.
        expert: id of the expert: by default the task's newest, or the one in `folder`.
        episodes: number of episodes; of `mixed`, a multiple of the policies.
        seed: seed of levels and actions.
        num_envs: parallel environments, which divide `episodes`; see `environments_for`.
        progress: receives the episodes played.
    """
    check_most("episodes", episodes)
    check_whole(episodes, "episodes", least=1)
    check_whole(seed, "seed", most=MOST_EVALUATION_SEED)
    policies = _policies(task, kind, folder, expert)
    if num_envs is None:
        num_envs = environments_for(episodes, policies.num_policies)
    return collect(
        policies, task, episodes=episodes, seed=seed, num_envs=num_envs, progress=progress
    )


def environments_for(episodes: int, policies: int = 1) -> int:
    """Return how many of up to 20 environments play a number of episodes, each equally many.

    Args:
        episodes: number of episodes.
        policies: number of policies, which share the environments equally.

    Raises:
        BadConfig: the policies cannot play equally many episodes.
    """
    if episodes % policies:
        raise BadConfig(f"episodes must be a multiple of {policies} policies, not {episodes}")
    most = range(policies, _MOST_ENVS + 1, policies)
    return max(number for number in most if episodes % number == 0)


def write_played(trace: Trace, task: Task, path: Path) -> None:
    """Write collected data: the trace if it replays on every machine, else its transitions."""
    metadata = {TASK: task.id}
    if task.replays:
        trace.save(path, metadata)
    else:
        save_recording(path, list(replay(trace, task)), metadata)


def _policies(task: Task, kind: str, folder: Path | None, expert: str | None) -> PolicyBatch:
    if kind == "random":
        return random_policies(task.action_space, [0])
    if kind == "expert":
        if folder is not None:
            player = _expert_in(folder, expert, task)
        else:
            player = load_newest(task.id) if expert is None else find_expert(expert)
        network = player.network
        check_fits(network.spec, task, f"expert {player.id!r}")
        return NetworkPolicies([network], [0], space=task.action_space)
    if kind != "mixed":
        raise BadConfig(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if folder is None:
        raise BadConfig("a mixed dataset needs --folder, where training wrote its snapshots to")
    networks = snapshots(_expert_in(folder, expert, task).id, folder)
    check_fits(next(iter(networks.values())).spec, task, str(folder))
    return mixed_policies(networks, task)


def _expert_in(folder: Path, expert: str | None, task: Task) -> Expert:
    """Return the named expert of a folder, the task's, or else the only one."""
    if expert is None and folder.is_dir() and not expert_path(task.id, folder).exists():
        with contextlib.suppress(BadConfig):  # it holds none or several
            found = find_expert(folder)
            if found.card.get("task") == task.id:
                return found
    return load_expert(expert or task.id, folder)


def mixed_policies(networks: Mapping[int, PolicyNetwork], task: Task) -> NetworkPolicies:
    """Choose up to five policies along one training run, the first and the last included.

    Those between are the nearest to a third, a ninth and so on of the training; a short one has one
    snapshot for several of these.

    Args:
        networks: networks by environment steps.
        task: task of their actions.

    Raises:
        BadConfig: there are fewer than three networks.
    """
    parts = max(LEAST_PARTS, min(MIXED_PARTS, len(networks)))
    first, last = min(networks), max(networks)
    between = [min(networks, key=lambda s: abs(s - last / 3**k)) for k in range(1, parts - 1)]
    steps = sorted({first, *between, last})
    if len(steps) < LEAST_PARTS:
        raise BadConfig(f"training left too few snapshots for {LEAST_PARTS} different policies")
    return NetworkPolicies([networks[s] for s in steps], steps, space=task.action_space)


class ExpertDataset:
    """Catalogue dataset that the shipped expert collects on first use.

    The episodes are stored as a trace, so that an interrupted build does not play them again.
    Networks round differently on different machines, so that the data differ between machines,
    unlike those of a shipped trace.

    Args:
        id: catalogue id.
        task: id of the task.
        episodes: number of episodes.
        expert: id of the expert; by default the task's first one, which has the task's id.
    """

    api_version: ClassVar[int] = 1

    def __init__(self, id: str, *, task: str, episodes: int, expert: str | None = None) -> None:
        self.id, self.task, self.num_episodes = id, task, episodes
        self.expert = expert or task

    def episodes(self, task: Task, progress: Progress = silent) -> Iterator[Episode]:
        """Return the dataset's episodes; collect them unless their trace is stored."""
        played = load_expert(self.expert).sha256[:12]
        if settings := settings_of_task(task.id):  # a trace replays on what it was collected on
            played += f"-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
        path = collected_trace(self.id, played)
        with lock(path.with_suffix(".lock")):
            try:
                trace = load_trace(path)
            except CorruptArtifact:  # or missing
                trace = None
            if trace is None or trace.quota * len(trace.lengths) != self.num_episodes:
                trace = collect_dataset(
                    task,
                    expert=self.expert,
                    episodes=self.num_episodes,
                    num_envs=50,
                    progress=progress,
                )
                trace.save(path)
        return replay(trace, task, progress=progress)
