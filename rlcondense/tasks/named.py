"""Tasks by their names in the catalogue."""

from __future__ import annotations

from rlcondense import catalogue
from rlcondense.errors import PluginLoadError, no_exit
from rlcondense.tasks.base import ReturnEstimate, Task


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
    config = dict(entry.config)
    for key in ("seen", "heldout", "score_range"):
        if key in config:
            config[key] = tuple(config[key])
    random_return = {
        split: ReturnEstimate(**values)
        for split, values in entry.facts.get("random_return", {}).items()
    }
    try:
        with no_exit(f"task {entry.id!r}"):
            task = cls(id=entry.id, random_return=random_return, **config)
    except TypeError as error:
        raise PluginLoadError(
            f"task {entry.id!r} of {entry.origin} cannot be made: {error}"
        ) from error
    assert isinstance(task, Task)
    return task
