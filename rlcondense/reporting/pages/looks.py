"""What a task looks like, and what its datasets hold: read from the task and the shipped files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcondense.catalogue import Entry, entries
from rlcondense.datasets.cards import BINS, information_of
from rlcondense.datasets.recordings import RecordedDataset, load_recording
from rlcondense.datasets.traces import TraceDataset, dequantise, load_trace
from rlcondense.errors import RLCondenseError
from rlcondense.make import make_task
from rlcondense.policies import num_actions_of
from rlcondense.reporting.pictures import draw_frames

if TYPE_CHECKING:
    from markupsafe import Markup

LEVELS, STEPS = 8, 24  # frames of a strip, and random actions before them
VIEWS = {"-easy-": "ordinary picture", "-plain-": "plain picture"}


def strips_of(task: str) -> list[tuple[str, bytes]]:
    """Return pictures of a task, and of the same states in its other view, with their names.

    There are none of tasks without frames, and of tasks that are not installed here.
    """
    names = {task: "picture"}
    for part in VIEWS:
        if part in task:
            family = {task.replace(part, other): name for other, name in VIEWS.items()}
            names = {name: text for name, text in family.items() if name in entries("tasks")}
    drawn = [(text, _strip(name)) for name, text in names.items()]
    return [(text, strip) for text, strip in drawn if strip is not None]


@cache
def _strip(task: str) -> bytes | None:
    """Draw a frame of each of some seen levels, after the same random actions."""
    try:
        made = make_task(task)
        shape = made.observation_space.shape
        if shape is None or len(shape) != 3:
            return None
        actions = np.random.default_rng(0)
        number = num_actions_of(made.action_space)
        env = made.make_vec("seen", LEVELS, seed=0)
        try:
            frames, _ = env.reset()
            for _ in range(STEPS):
                frames, *_ = env.step(actions.integers(number, size=LEVELS))
        finally:
            env.close()
        return draw_frames(np.array(frames))
    except (RLCondenseError, ImportError, AttributeError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Card:
    """What a dataset holds.

    Attributes:
        information: of an observation about the action, in nats; None if unknown.
        histogram: of the returns of its episodes, drawn; None if unknown.
    """

    information: float | None = None
    histogram: Markup | None = None


@cache
def card_of_shipped(dataset: str) -> Card:
    """Return the card of a dataset whose file is shipped; an empty one of any other."""
    entry = entries("datasets").get(dataset)
    try:
        return Card() if entry is None else _card(entry)
    except (RLCondenseError, OSError, KeyError, TypeError, ValueError):
        return Card()


def _card(entry: Entry) -> Card:
    from rlcondense.reporting.distributions import bars_of

    kind = entry.load()
    config: Mapping[str, Any] = entry.config
    if kind is TraceDataset:  # its returns would have to be played
        said = entry.facts.get("returns", {})
        histogram = bars_of(said["counts"], said["range"]) if "counts" in said else None
        probs = load_trace(TraceDataset(entry.id, **config).path.resolve()).action_probs
        return Card(None if probs is None else information_of(dequantise(probs)), histogram)
    if kind is not RecordedDataset:
        return Card()
    path = RecordedDataset(entry.id, **config).path
    episodes = load_recording(path.resolve(), make_task(entry.facts["task"]))
    returns = np.array([float(np.sum(episode.rewards)) for episode in episodes])
    known = [episode.action_probs for episode in episodes if episode.action_probs is not None]
    information = information_of(np.concatenate(known)) if len(known) == len(episodes) else None
    counts, edges = np.histogram(returns, BINS)
    return Card(information, bars_of(counts.tolist(), (edges[0], edges[-1])))
