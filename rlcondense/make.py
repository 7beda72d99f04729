"""From catalogue names to objects: tasks, datasets, experts, methods and learners."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcondense import __version__, catalogue
from rlcondense.catalogue import Entry
from rlcondense.config import make_config
from rlcondense.datasets.minari import (
    EXPERT_SHA256,
    download_minari,
    is_local,
    local_datasets,
    minari_facts,
    read_minari,
    remove_minari,
    write_minari,
)
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, PluginLoadError, UnknownName, no_exit
from rlcondense.experts import shipped
from rlcondense.files import sha256_file
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method
from rlcondense.networks import FOR_FRAMES, fitting_network
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import ReturnEstimate, Task

STUDENTS = ("own", "learner")


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
        with no_exit(f"task {entry.id!r}"):
            task = cls(id=entry.id, random_return=random_return, **config)
    except TypeError as error:
        raise PluginLoadError(
            f"task {entry.id!r} of {entry.origin} cannot be made: {error}"
        ) from error
    assert isinstance(task, Task)
    return task


def make_method(
    name: str,
    task: str | Task | None = None,
    learner: Learner[Any] | None = None,
    /,
    **settings: Any,
) -> Method[Any]:
    """Make a method by id, with settings of its config.

    Args:
        name: its id.
        task: what it is for, by name perhaps. Defaults that are for frames are then `mlp` and no
            augmentation where the task shows vectors.
        learner: what is trained on what the method makes, where it is known.
        **settings: of its config.

    Two settings stand for others, and are none themselves. `preset` names settings of the
    catalogue, and `student="learner"` the settings by which the method's own students are those
    that `learner` trains: their network, initial weights and updates. Presets come first, then the
    student, then what is set by its own name.

    Example:
        >>> make_method("gradmatch", iterations=100).config.iterations
        100
        >>> make_method("gradmatch", "cartpole").config.network
        'mlp'
    """
    entry = catalogue.find("methods", name)
    own = {k: v for k, v in settings.items() if k not in ("preset", "student")}
    merged = {**_preset(entry, settings), **_student(entry, settings, learner), **own}
    return configured(entry, Method, merged, task)  # type: ignore[no-any-return]


def _preset(entry: Entry, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the preset that `settings` name, if they name one."""
    if "preset" not in settings:
        return {}
    presets = facts_of(entry).get("presets", {})
    wanted = settings["preset"]
    if wanted not in presets:
        known = ", ".join(sorted(presets)) or "none"
        raise BadConfig(f"method {entry.id!r} has no preset {wanted!r} (known: {known})")
    preset: Mapping[str, Any] = presets[wanted]
    return preset


def follows_learner(settings: Mapping[str, Any] | None) -> bool:
    """Return whether a method's settings request the students of the learner to be trained.

    Raises:
        BadConfig: they ask for other students, which there are not.
    """
    student = (settings or {}).get("student", "own")
    if student not in STUDENTS:
        raise BadConfig(f"student must be one of {', '.join(STUDENTS)}, not {student!r}")
    return bool(student == "learner")


def _student(
    entry: Entry, settings: Mapping[str, Any], learner: Learner[Any] | None
) -> Mapping[str, Any]:
    """The settings that `student=learner` stands for, if it is asked for."""
    if not follows_learner(settings):
        return {}
    if learner is None:
        raise BadConfig("student=learner needs a learner: use it with run, sweep or transfer")
    method = _load(entry, Method)
    try:
        student_settings: Mapping[str, Any] = method.settings_like(
            dataclasses.asdict(learner.config)
        )
    except BadConfig as error:
        raise BadConfig(f"method {entry.id!r}: {error}") from None
    return student_settings


def make_learner(name: str, task: str | Task | None = None, /, **settings: Any) -> Learner[Any]:
    """Make a learner by id, with settings of its config; arguments as for `make_method`."""
    return configured(catalogue.find("learners", name), Learner, settings, task)  # type: ignore[no-any-return]


def load_expert(name: str) -> Expert:
    """The newest shipped expert of a task, by the task's id or alias."""
    return shipped.load_newest(catalogue.find("tasks", name).id)


Expert = shipped.Expert


def default_dataset(task: Task) -> str:
    """The id of the dataset that a task is condensed from unless another is named: the newest.

    Raises:
        BadConfig: none is shipped for the task.
    """
    wanted = f"{task.id.rpartition('-v')[0]}/expert"
    entries = catalogue.entries("datasets")
    of_task = [e for e in entries.values() if e.facts.get("task") == task.id]
    versions = [entry.id for entry in of_task if entry.id.rpartition("-v")[0] == wanted]
    if versions:
        return max(versions, key=lambda id_: int(id_.rpartition("-v")[2]))
    if of_task:
        return of_task[0].id
    shipped = ", ".join(sorted({str(e.facts.get("task")) for e in entries.values()}))
    raise BadConfig(
        f"no dataset is shipped for task {task.id!r}; name one with --dataset (tasks that have "
        f"one: {shipped})"
    )


def load_dataset(
    name: str,
    *,
    download: bool = False,
    heldout_data: bool = False,
    progress: Progress = silent,
) -> TransitionDataset:
    """Load a dataset by catalogue id, or any Minari dataset by its id.

    A catalogue dataset that is not on this machine yet is built first: its class, made with its id
    and the entry's config, gives `episodes(task, progress)` of `Episode`s, and a plugin's also
    names its `task`. It may have `metadata` for Minari's, known when `episodes` returns.

    Args:
        name: catalogue id or Minari id.
        download: fetch it from Minari's remote if it is neither in the catalogue nor here.
        heldout_data: let it be condensed though it was collected on held-out levels.
        progress: receives the progress of a build.

    Raises:
        UnknownName: there is none of that name.
        CorruptArtifact: it is broken, or not the data that the catalogue speaks of.
    """
    try:
        entry = catalogue.find("datasets", name)
    except UnknownName:
        data = _load_minari(name, download)
    else:
        data = _load_shipped(entry, progress)
    return replace(data, heldout_allowed=heldout_data)


def _load_minari(name: str, download: bool) -> TransitionDataset:
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
    rebuild = f"'rlcondense dataset build --rebuild {entry.id}' makes it anew"
    try:
        dataset = read_minari(entry.id, task.id, progress)
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{error}; {rebuild}") from error
    expected = entry.facts.get("sha256")
    if not expected:
        _check_player(entry, rebuild)
    if not expected or dataset.sha256 == expected:
        return dataset
    differs = f"its sha256 is {dataset.sha256[:12]}, not {str(expected)[:12]}"
    if built:
        remove_minari(entry.id)
        raise CorruptArtifact(
            f"dataset {entry.id!r} came out different from what the catalogue says ({differs}): "
            "what it is built from is damaged, or is a trace that this platform plays differently"
        )
    raise CorruptArtifact(
        f"dataset {entry.id!r} on this machine is not the shipped one ({differs}); {rebuild}"
    )


def _check_player(entry: Entry, rebuild: str) -> None:
    """Refuse a dataset that another expert than the shipped one has played."""
    player = minari_facts(entry.id).get(EXPERT_SHA256)
    if player and player != shipped.load_expert(str(entry.facts["expert"])).sha256:
        raise CorruptArtifact(f"dataset {entry.id!r} was played by an earlier expert; {rebuild}")


def _build(entry: Entry, source: Any, task: Task, progress: Progress) -> bool:
    """Build a dataset unless it is there, and say whether it was built."""
    if is_local(entry.id):
        return False
    import gymnasium

    import rlcondense.tasks  # noqa: F401  registers the environments

    with contextlib.closing(gymnasium.make(task.id)) as env:
        episodes = source.episodes(task, progress)
        metadata = {**_metadata(entry, task), **getattr(source, "metadata", {})}
        write_minari(entry.id, episodes, metadata, env)
    return True


def _metadata(entry: Entry, task: Task) -> dict[str, Any]:
    """Minari's own fields; the reference scores are of the random policy and the expert."""
    fields: dict[str, Any] = {
        "author": "rlcondense",
        "algorithm_name": str(entry.facts.get("algorithm", "")),
        "description": entry.summary,
        "code_permalink": "https://pypi.org/project/rlcondense/",
        "requirements": [f"rlcondense=={__version__}"],
    }
    if "seen" in task.random_return:
        fields["ref_min_score"] = task.random_return["seen"].mean
    if entry.facts.get("expert"):
        expert = shipped.load_expert(str(entry.facts["expert"]))
        fields["ref_max_score"] = float(expert.card["returns"]["seen"]["mean"])
        if not entry.facts.get("sha256"):  # played here, so which expert it was matters
            fields[EXPERT_SHA256] = expert.sha256
    return fields


def include(path: Path) -> list[Entry]:
    """Register the methods, learners and tasks that a single file defines, for this process.

    Each is found by its class's `id`, or else by the class's name in lower case with hyphens. What
    the file itself registers is as good.

    Args:
        path: a Python file.

    Returns:
        The new entries, whose origin is the file and the sha256 of its content.

    Raises:
        BadConfig: it cannot be imported, defines nothing, or takes a built-in name.
    """
    path = path.resolve()
    before = set(map(id, catalogue.registered()))
    module = catalogue.include_file(path)
    origin = (path.name, sha256_file(path)[:12])
    new_entries = []
    for entry in catalogue.registered():
        if id(entry) not in before or entry.distribution == origin:
            new_entries.append(
                replace(entry, distribution=origin, summary=entry.summary or "included")
            )
            catalogue.add(new_entries[-1])
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or cls.__module__ != module.__name__:
            continue
        groups = {"methods": Method, "learners": Learner, "tasks": Task}
        group = next((g for g, base in groups.items() if issubclass(cls, base)), None)
        if group is None or inspect.isabstract(cls):
            continue
        own = cls.__dict__.get("id")
        id_ = own if isinstance(own, str) and own else _hyphenated(name)
        entry = Entry(group, id_, f"{path}:{name}", summary="included", distribution=origin)
        catalogue.add(entry)
        new_entries.append(entry)
    if not new_entries:
        raise BadConfig(f"{path} defines no method, no learner and no task")
    return new_entries


def _hyphenated(name: str) -> str:
    """`MyMethod` as `my-method`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def facts_of(entry: Entry) -> dict[str, Any]:
    """Return the facts of a method or learner: its class's `facts`, overridden by the catalogue's.

    `budget`: what `run` uses where none is given. `learner`: settings its students are trained
    with. `check_config`: settings that make its checks quick. `expected_failures`: checks that it
    is known to fail, and why. `presets`: settings by the name of each preset.
    """
    return {**getattr(entry.load(), "facts", {}), **entry.facts}


def _load(entry: Entry, base: type) -> Any:
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginLoadError(
            f"{entry.kind} {entry.id!r} of {entry.origin}: "
            f"{entry.entry_point} is no {base.__name__}"
        )
    return cls


def configured(
    entry: Entry, base: type, settings: dict[str, Any], task: str | Task | None = None
) -> Any:
    """Make the object of an entry from its config, overridden by `settings`.

    Args:
        entry: of the catalogue.
        base: what it must be.
        settings: of its config.
        task: what it is for; see `make_method`.

    Raises:
        PluginLoadError: it cannot be imported, or is no `base`.
        BadConfig: a setting is unknown or of the wrong type.
    """
    cls = _load(entry, base)
    owner = f"{entry.kind} {entry.id!r}"
    try:
        own = suited(cls.Config, make_task(task) if isinstance(task, str) else task)
        with no_exit(owner):
            config = make_config(cls.Config, {**own, **entry.config, **settings}, owner)
            return cls(config, id=entry.id)
    except (AttributeError, TypeError) as error:
        raise PluginLoadError(f"{owner} of {entry.origin} cannot be made: {error}") from error


def suited(config: type[Any], task: Task | None) -> dict[str, Any]:
    """No augmentation, and another network, in place of defaults that are for other observations.

    See `rlcondense.networks.fitting_network`.

    Args:
        config: a class of settings.
        task: the task that they are for, if known.
    """
    if task is None:
        return {}
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    shape = task.observation_space.shape or ()
    frames, network = len(shape) == 3, defaults.get("network")
    fitting = {}
    if network in FOR_FRAMES and (other := fitting_network(str(network), shape)) != network:
        fitting = {"network": other}
    augmented = not frames and defaults.get("augmentation", "none") != "none"
    return fitting | ({"augmentation": "none"} if augmented else {})
