"""From catalogue names to objects: tasks, datasets, experts, methods and learners."""

from __future__ import annotations

from typing import Any

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.config import make_config
from rlcondense.datasets.storage import local_datasets, read_minari, write_minari
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, PluginLoadError, UnknownName
from rlcondense.experts import zoo
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import ReturnEstimate, Task


def make_task(name: str) -> Task:
    """Make a task by id or alias.

    Example:
        >>> make_task("starpilot").id
        'procgen/starpilot-easy-v0'
    """
    entry = catalogue.find("tasks", name)
    cls = _load(entry, Task)
    config = dict(entry.config)
    for key in ("seen", "heldout", "score_range"):
        if key in config:
            config[key] = tuple(config[key])
    random_return = {
        split: ReturnEstimate(**values)
        for split, values in entry.facts.get("random_return", {}).items()
    }
    try:
        task = cls(id=entry.id, random_return=random_return, **config)
    except TypeError as error:
        raise PluginLoadError(
            f"task {entry.id!r} of {entry.origin} cannot be made: {error}"
        ) from error
    assert isinstance(task, Task)
    return task


def make_method(name: str, **settings: Any) -> Method[Any]:
    """Make a method by id, with settings of its config.

    Example:
        >>> make_method("gradmatch", iterations=100).config.iterations
        100
    """
    return _configured(catalogue.find("methods", name), Method, settings)  # type: ignore[no-any-return]


def make_learner(name: str, **settings: Any) -> Learner[Any]:
    """Make a learner by id, with settings of its config."""
    return _configured(catalogue.find("learners", name), Learner, settings)  # type: ignore[no-any-return]


def load_expert(name: str) -> Expert:
    """The shipped expert of a task, by the task's id or alias."""
    return zoo.load_expert(catalogue.find("tasks", name).id)


Expert = zoo.Expert


def default_dataset(task: Task) -> str:
    """The id of the dataset that a task is condensed from unless another is named.

    Raises:
        BadConfig: none is shipped for the task.
    """
    wanted = f"{task.id.rpartition('-v')[0]}/expert"
    entries = catalogue.entries("datasets")
    of_task = [e for e in entries.values() if e.facts.get("task") == task.id]
    for entry in of_task:
        if entry.id.rpartition("-v")[0] == wanted:
            return entry.id
    if of_task:
        return of_task[0].id
    shipped = ", ".join(sorted(str(e.facts.get("task")) for e in entries.values()))
    raise BadConfig(
        f"no dataset is shipped for task {task.id!r}; name one with --dataset (tasks that have "
        f"one: {shipped})"
    )


def load_dataset(name: str, *, progress: Progress = silent) -> TransitionDataset:
    """Load a dataset by catalogue id, or any Minari dataset on this machine by its id.

    A catalogue dataset that is not on this machine yet is built first: its class, made with its id,
    gives `episodes(task, progress)` of `Episode`s, and a plugin's also names its `task`.

    Raises:
        UnknownName: there is none of that name.
        CorruptArtifact: it is broken, or not the data that the catalogue speaks of.
    """
    try:
        entry = catalogue.find("datasets", name)
    except UnknownName:
        pass
    else:
        return _load_shipped(entry, progress)
    try:
        return read_minari(name)
    except UnknownName:
        known = [*catalogue.entries("datasets"), *local_datasets()]
        raise UnknownName("dataset", name, known) from None


def _load_shipped(entry: Entry, progress: Progress) -> TransitionDataset:
    source = entry.load()(entry.id)
    task = make_task(str(entry.facts.get("task") or source.task))
    _build(entry, source, task, progress)
    dataset = read_minari(entry.id, task.id)
    expected = entry.facts.get("sha256")
    if expected and dataset.sha256 != expected:
        raise CorruptArtifact(
            f"dataset {entry.id!r} on this machine is not the shipped one (its sha256 is "
            f"{dataset.sha256[:12]}, not {expected[:12]}); delete it from Minari's folder to "
            "have it built anew"
        )
    return dataset


def _build(entry: Entry, source: Any, task: Task, progress: Progress) -> None:
    from minari.storage import get_dataset_path

    if get_dataset_path(entry.id).exists():
        return
    import gymnasium

    import rlcondense.tasks  # noqa: F401  registers the environments

    env = gymnasium.make(task.id)
    write_minari(
        entry.id,
        source.episodes(task, progress),
        {
            "author": "rlcondense",
            "algorithm_name": str(entry.facts.get("algorithm", "")),
            "description": entry.summary,
            "code_permalink": "https://pypi.org/project/rlcondense/",
        },
        env,
    )
    env.close()  # type: ignore[no-untyped-call]


def _load(entry: Entry, base: type) -> Any:
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginLoadError(
            f"{entry.kind} {entry.id!r} of {entry.origin}: "
            f"{entry.entry_point} is no {base.__name__}"
        )
    return cls


def _configured(entry: Entry, base: type, settings: dict[str, Any]) -> Any:
    cls = _load(entry, base)
    config = make_config(cls.Config, {**entry.config, **settings}, f"{entry.kind} {entry.id!r}")
    return cls(config, id=entry.id)
