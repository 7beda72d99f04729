"""Tasks by their names in the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from rlcondense import catalogue
from rlcondense.errors import BadConfig, PluginLoadError, RLCondenseError, no_exit
from rlcondense.files import plain
from rlcondense.tasks.base import ReturnEstimate, Task

_PLAIN = {"env", "seen", "heldout", "score_range"}  # settings that leave an environment as it is


def make_task(name: str | Task) -> Task:
    """Make a task by id or alias; a task is returned as it is.

    Example:
        >>> make_task("starpilot").id
        'procgen/starpilot-easy-v0'
    """
    if isinstance(name, Task):
        return name
    entry = catalogue.find("tasks", name)
    cls = catalogue.load_class(entry, Task)
    config = {**entry.config, **_pairs(entry)}
    random_return = {
        split: ReturnEstimate(**values)
        for split, values in entry.facts.get("random_return", {}).items()
    }
    try:
        with no_exit(f"task {entry.id!r}"):
            task = cls(id=entry.id, random_return=random_return, **config)
            _check_declared(task)
    except RLCondenseError:
        raise
    except Exception as error:
        raise PluginLoadError(
            f"task {entry.id!r} of {entry.origin} cannot be made: {error}"
        ) from error
    assert isinstance(task, Task)
    return task


def _pairs(entry: catalogue.Entry) -> dict[str, tuple[Any, ...] | None]:
    """Return the settings that are pairs of numbers, which a file has as lists.

    Raises:
        BadConfig: one is no pair.
    """
    out: dict[str, tuple[Any, ...] | None] = {}
    for key in {"seen", "heldout", "score_range"} & entry.config.keys():
        value = entry.config[key]
        if value is None and key == "score_range":
            out[key] = None
            continue
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            meant = "(lowest, highest)" if key == "score_range" else "(first level, how many)"
            raise BadConfig(f"{key} of task {entry.id!r} must be {meant}, not {value!r:.80}")
        out[key] = tuple(value)
    return out


def _check_declared(task: Task) -> None:
    """Raise `TypeError` or `ValueError` unless a task's returns and range can be reckoned with."""
    if not isinstance(task.random_return, Mapping):
        raise TypeError(f"random_return is {type(task.random_return).__name__}, not a mapping")
    for value in task.random_return.values():
        if not isinstance(value, ReturnEstimate):
            raise TypeError(
                f"random_return holds {value!r:.80}, not a rlcondense.tasks.base.ReturnEstimate"
            )
    if task.score_range is not None:
        low, high = task.score_range
        if not low < high:
            raise ValueError(f"score_range is {task.score_range}: r_min must be below r_max")


def check_named(task: Task) -> None:
    """Raise `BadConfig` if a task has the id of another one, by which its data would be known."""
    if task.id in catalogue.entries("tasks") and not _is_alike(task, make_task(task.id)):
        raise BadConfig(
            f"the task given is not what {task.id!r} names, by which records know it: register it "
            "under an id of its own"
        )


def _is_alike(task: Task, named: Task) -> bool:
    """Return whether a task is not known to have other settings than the one that its id names."""
    if is_dataclass(task):
        return task == named
    if type(task) is not type(named):  # such as one that hides the held-out levels
        return True
    pairs = [(vars(task).get(name), value) for name, value in vars(named).items()]
    return all(_text(ours) == _text(theirs) for ours, theirs in pairs if _text(theirs))


def _text(value: Any) -> str:
    """Return a setting as a text; nothing of None, and of what is no plain value."""
    try:
        return json.dumps(plain(value), sort_keys=True) if value is not None else ""
    except (TypeError, ValueError):
        return ""


def task_of_environment(environment: str) -> str:
    """Return the id of the task that an environment of Gymnasium is, or "" if none or several are.

    It is the task of that id, or else the one that plays the environment unchanged.

    Args:
        environment: Gymnasium's id.

    Example:
        >>> task_of_environment("CartPole-v1")
        'classic/cartpole-v0'
    """
    entries = catalogue.entries("tasks")
    if environment in entries:
        return environment
    plain = [
        entry.id
        for entry in entries.values()
        if entry.config.get("env") == environment and entry.config.keys() <= _PLAIN
    ]
    return plain[0] if len(plain) == 1 else ""
