"""Which student should learn from frames by default? What students make of the same rows, measured.

Every line that this writes is one student: a network, trained with some settings on rows of one
dataset, and its return on *seen* levels; held-out levels play no part in the choice. A line that is
there already is not computed again, so that a study can be stopped and gone on with, and split
between processes by task.

    python baselines/students/study.py networks --task starpilot-plain
    python baselines/students/study.py players --task starpilot-plain
    python baselines/students/study.py table    # into docs/results/students.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rlcondense as rlc
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.traces import replay
from rlcondense.evaluation import evaluate
from rlcondense.files import open_to_append
from rlcondense.make import default_dataset
from rlcondense.policies import NetworkPolicies
from rlcondense.protocol import protocol_of
from rlcondense.records.shipped import shipped_summaries
from rlcondense.references import MARGINAL
from rlcondense.reporting.publish import fill_part
from rlcondense.rollout import collect
from rlcondense.tasks.base import Task

RESULTS = Path(__file__).with_name("results.jsonl")
PAGE = Path(__file__).parents[2] / "docs" / "results" / "students.md"
SIZES = (150, 500, 1500, None)  # rows; None for all
EPISODES = 50
TEMPERATURES = (1.0, 0.5)  # how a student acts: as it learned, and sharpened
LONG = {"updates": 2500, "batch_size": 128}  # six times the work
STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "compact": {"network": "compact"},
    "nature": {"network": "nature"},
    "impala-patch4": {"network": "impala-patch4"},
    "impala-patch4, twice as wide": {"network": "impala-patch4", "width": 2},
    "impala-patch2": {"network": "impala-patch2"},
    "impala-patch2, rate 0.001": {"network": "impala-patch2", "learning_rate": 1e-3},
    "impala-patch2, hard labels": {"network": "impala-patch2", "labels": "hard"},
    "impala-patch2, 400 updates": {"network": "impala-patch2", "updates": 400},
    "impala-patch4, 1600 updates": {"network": "impala-patch4", "updates": 1600},
    "impala-patch2, 2500 x 128": {"network": "impala-patch2", **LONG},
    "impala-patch4, 2500 x 128": {"network": "impala-patch4", **LONG},
}
# Who plays and who labels: the teacher as it is, or sharpened.
PLAYERS = {"teacher": (1.0, 1.0), "sharpened": (0.5, 0.5), "sharpened, labels not": (0.5, 1.0)}


@dataclass(frozen=True)
class Line:
    """One student and what it returned.

    Attributes:
        study: `networks` or `players`.
        task: alias.
        name: of the student or the player.
        rows: that it learned from.
        temperature: that it acted with.
        mean: return on seen levels.
        standard_error: over episodes.
        train_seconds: of one core.
    """

    study: str
    task: str
    name: str
    rows: int
    temperature: float
    mean: float
    standard_error: float
    train_seconds: float

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two lines have in common."""
        return (self.study, self.task, self.name, self.rows, self.temperature)


def read_lines() -> list[Line]:
    """What has been measured before."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    return [Line(**json.loads(line)) for line in text.splitlines()]


def measure(
    study: str, name: str, data: CondensedDataset, task: str, settings: Mapping[str, Any]
) -> list[Line]:
    """Train one student and evaluate it on seen levels, at each temperature: a line of each."""
    made = rlc.make_task(task)
    settings = {k: v for k, v in settings.items() if k != "labels"}
    started = time.process_time()
    policies = rlc.make_learner("bc", **settings).fit(data, task=made, seeds=[0])
    seconds = time.process_time() - started
    assert isinstance(policies, NetworkPolicies)
    lines = []
    for temperature in TEMPERATURES:
        policies.temperature = temperature
        scores = evaluate(policies, made, "seen", protocol=protocol_of(EPISODES)).estimate()
        figures = round(scores.mean, 3), round(scores.standard_error, 3), round(seconds, 1)
        lines.append(Line(study, task, name, len(data), temperature, *figures))
    return lines


def networks(task: str, only: list[str], sizes: list[int | None]) -> Iterator[list[Line]]:
    """Train every student on random rows of a task's data, and on all of them."""
    made = rlc.make_task(task)
    dataset = rlc.load_dataset(default_dataset(made))
    known = {line.key for line in read_lines()}
    for size in sizes:
        for name in only or STUDENTS:
            settings = STUDENTS[name]
            rows = size or len(dataset)
            if ("networks", task, name, rows, TEMPERATURES[-1]) in known:
                continue
            labels = settings.get("labels", "soft")
            method = rlc.make_method("random" if size else "full", labels=labels)
            data = method.condense(dataset, task=made, budget=rows, seed=0)
            yield measure("networks", name, data, task, settings)


def players(task: str, rows: int = 500) -> Iterator[list[Line]]:
    """Let the teacher of a task play as it is and sharpened, and train a student on each."""
    made = rlc.make_task(task)
    known = {line.key for line in read_lines()}
    for name, (plays, labels) in PLAYERS.items():
        if ("players", task, name, rows, TEMPERATURES[-1]) in known:
            continue
        data = _played(made, plays, labels, rows)
        yield measure("players", name, data, task, STUDENTS["impala-patch2"])


def _played(task: Task, plays: float, labels: float, rows: int) -> CondensedDataset:
    """Rows of episodes that a task's expert plays at one temperature and labels at another."""
    network = rlc.load_expert(task.id).network
    player = NetworkPolicies([network], [0], temperature=plays)
    episodes = list(replay(collect(player, task, episodes=60, seed=1000), task))
    frames = np.concatenate([e.observations for e in episodes])
    probs = np.concatenate([e.action_probs for e in episodes if e.action_probs is not None])
    kept = np.sort(np.random.default_rng(0).choice(len(frames), rows, replace=False))
    actions = np.concatenate([e.actions for e in episodes])[kept]
    # A temperature raises probabilities to a power.
    powered = probs[kept].astype(np.float64) ** (plays / labels)
    soft = (powered / powered.sum(1, keepdims=True)).astype(np.float32)
    return CondensedDataset(
        observations=frames[kept], actions=actions, action_probs=soft, label_kind="soft",
        weights=np.ones(rows, np.float32),
    )  # fmt: skip


def table(lines: list[Line]) -> str:
    """Write what has been measured as Markdown: sampled / sharpened returns by task and rows.

    The last column is what a student of the most rows returns by sampling more than the marginal
    policy on seen levels, for a minute of a core that it was trained.
    """
    out = []
    for study in dict.fromkeys(line.study for line in lines):
        own = [line for line in lines if line.study == study]
        for task in dict.fromkeys(line.task for line in own):
            of_task = [line for line in own if line.task == task]
            sizes = sorted({line.rows for line in of_task})
            named = " | ".join(f"{size:,}" if size in SIZES else f"all {size:,}" for size in sizes)
            out += ["", f"| {task} | {named} | seconds | gain a minute |"]
            out += ["|---" * (len(sizes) + 3) + "|"]
            floor = _marginal_return(task)
            for name in dict.fromkeys(line.name for line in of_task):
                cells = [
                    _cell([x for x in of_task if (x.name, x.rows) == (name, s)]) for s in sizes
                ]
                seconds = np.median([x.train_seconds for x in of_task if x.name == name])
                gains = [
                    f"{60 * (x.mean - floor) / x.train_seconds:.1f}"
                    for x in of_task
                    if (x.name, x.rows, x.temperature) == (name, sizes[-1], TEMPERATURES[0])
                ]
                out.append(f"| {name} | {' | '.join(cells)} | {seconds:.0f} | {' '.join(gains)} |")
    return "\n".join(out[1:])


def _marginal_return(task: str) -> float:
    """Return what the marginal policy of a task's data returns on seen levels."""
    policies = shipped_summaries(default_dataset(rlc.make_task(task)))
    return float(policies[MARGINAL]["seen"]["mean"])


def _cell(lines: list[Line]) -> str:
    by = {line.temperature: line for line in lines}
    if not by:
        return ""
    plain, sharp = (by[t] for t in TEMPERATURES)
    return " / ".join(f"{line.mean:.1f} ± {line.standard_error:.1f}" for line in (plain, sharp))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["networks", "players", "table"])
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--only", action="append", default=[], choices=sorted(STUDENTS))
    rows = ["all" if size is None else str(size) for size in SIZES]
    parser.add_argument("--size", action="append", default=[], choices=rows)
    given = parser.parse_args()
    if (given.study == "table") == bool(given.task):
        parser.error("networks and players take --task, table takes none")
    if given.study != "networks" and (given.only or given.size):
        parser.error("--only and --size are of networks")
    torch.set_num_threads(1)
    if given.study == "table":
        fill_part(PAGE, "table", table(read_lines()))
        return
    sizes = [None if s == "all" else int(s) for s in given.size] or list(SIZES)
    for task in given.task:
        of_task = networks(task, given.only, sizes) if given.study == "networks" else players(task)
        for lines in of_task:
            written = "".join(json.dumps(vars(line)) + "\n" for line in lines)
            with open_to_append(RESULTS) as file:
                file.write(written.encode())  # at once: a student is there as a whole or not
            print(written, end="", flush=True)


if __name__ == "__main__":
    main()
