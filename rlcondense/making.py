"""From catalogue names to objects: tasks, datasets, experts, methods and learners."""

from __future__ import annotations

from typing import Any

from rlcondense import __version__, catalogue
from rlcondense.catalogue import Entry
from rlcondense.config import make_config
from rlcondense.datasets.storage import (
    download_minari,
    is_local,
    local_datasets,
    read_minari,
    remove_minari,
    write_minari,
)
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


def load_dataset(
    name: str, *, download: bool = False, progress: Progress = silent
) -> TransitionDataset:
    """Load a dataset by catalogue id, or any Minari dataset by its id.

    A catalogue dataset that is not on this machine yet is built first: its class, made with its id
    and the entry's config, gives `episodes(task, progress)` of `Episode`s, and a plugin's also
    names its `task`.

    Args:
        name: catalogue id or Minari id.
        download: fetch it from Minari's remote if it is neither in the catalogue nor here.
        progress: told how far a build is.

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
    if download:
        download_minari(name)
    try:
        return read_minari(name)
    except UnknownName:
        known = [*catalogue.entries("datasets"), *local_datasets()]
        raise UnknownName("dataset", name, known, "fetch Minari's with --download") from None


def _load_shipped(entry: Entry, progress: Progress) -> TransitionDataset:
    source = entry.load()(entry.id, **entry.config)
    task = make_task(str(entry.facts.get("task") or source.task))
    built = _build(entry, source, task, progress)
    dataset = read_minari(entry.id, task.id)
    expected = entry.facts.get("sha256")
    if not expected or dataset.sha256 == expected:
        return dataset
    differs = f"its sha256 is {dataset.sha256[:12]}, not {str(expected)[:12]}"
    if built:
        remove_minari(entry.id)
        raise CorruptArtifact(
            f"dataset {entry.id!r} came out different from what the catalogue says ({differs}): "
            "its trace is damaged, or this platform's Procgen plays differently"
        )
    raise CorruptArtifact(
        f"dataset {entry.id!r} on this machine is not the shipped one ({differs}); "
        f"'rlcondense dataset build --rebuild {entry.id}' makes it anew"
    )


def _build(entry: Entry, source: Any, task: Task, progress: Progress) -> bool:
    """Build a dataset unless it is there, and say whether it was built."""
    if is_local(entry.id):
        return False
    import gymnasium

    import rlcondense.tasks  # noqa: F401  registers the environments

    env = gymnasium.make(task.id)
    write_minari(entry.id, source.episodes(task, progress), _metadata(entry, task), env)
    env.close()  # type: ignore[no-untyped-call]
    return True


def _metadata(entry: Entry, task: Task) -> dict[str, Any]:
    """Minari's own fields; the reference scores are of the random policy and the expert."""
    fields: dict[str, Any] = {
        "author": "rlcondense",
        "algorithm_name": str(entry.facts.get("algorithm", "")),
        "description": entry.summary,
        "code_permalink": f"https://pypi.org/project/rlcondense/{__version__}/",
        "requirements": [f"rlcondense=={__version__}"],
    }
    if "seen" in task.random_return:
        fields["ref_min_score"] = task.random_return["seen"].mean
    if entry.facts.get("expert"):
        card = load_expert(str(entry.facts["expert"])).card
        fields["ref_max_score"] = float(card["returns"]["seen"]["mean"])
    return fields


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
