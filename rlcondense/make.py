"""Makers of tasks, datasets, experts, methods and learners from names of the catalogue."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.spaces import Box

from rlcondense import __version__, catalogue
from rlcondense.catalogue import Entry, load_class
from rlcondense.config import make_config, recorded_settings
from rlcondense.datasets import hub
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.episodes import Episode, what_is_wrong_with
from rlcondense.datasets.exported import is_condensed
from rlcondense.datasets.labels import TAUGHT, TEACHING
from rlcondense.datasets.minari import (
    EXPERT_SHA256,
    build_columns,
    check_length,
    download_minari,
    is_local,
    local_datasets,
    marks_of,
    minari_facts,
    read_minari,
    read_minari_folder,
    remove_minari,
)
from rlcondense.datasets.sources import (
    content_of,
    folder_of,
    is_path,
    is_source,
    local_id,
    task_of,
)
from rlcondense.datasets.traces import forget_collected
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.datasets.writers import dataset_columns, write_npz
from rlcondense.errors import (
    BadConfig,
    CorruptArtifact,
    PluginLoadError,
    RLCondenseError,
    UnknownName,
    no_exit,
)
from rlcondense.experts import shipped
from rlcondense.files import (
    canonical_json,
    lock,
    read_json,
    sha256_arrays,
    sha256_file,
    write_json,
)
from rlcondense.learners.base import Learner
from rlcondense.methods.base import Method
from rlcondense.networks import FOR_FRAMES, fitting_network
from rlcondense.places import cache_root
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.tasks.named import make_task as make_task  # noqa: PLC0414  re-exported
from rlcondense.tasks.named import task_of_environment
from rlcondense.text import shown
from rlcondense.validation import hides_heldout, with_known_levels

STUDENTS = ("own", "learner")

PARTS: Mapping[str, type] = {"methods": Method, "learners": Learner, "tasks": Task}
# Facts of methods and learners that are mappings.
MAPPINGS = {"budget", "learner", "check_config", "expected_failures", "presets"}


def make_environment(
    task: str, split: str = "seen", render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Make one environment of a task of the catalogue, for `gymnasium.make`.

    Args:
        task: id or alias.
        split: `seen` or `heldout` levels.
        render_mode: a render mode of the environment.

    Example:
        >>> env = gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="heldout")
    """
    return make_task(task).make_one(split, render_mode)


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
        task: the task, or its name. If its observations are vectors, defaults for frames become
            `mlp` and no augmentation.
        learner: learner that trains on the method's output, if known.
        **settings: of its config.

    Two settings stand for others. `preset` names settings of the catalogue, and `student="learner"`
    stands for the settings by which the method's students equal those that `learner` trains: their
    network, initial weights and updates. Settings by name override the student's, which override
    the preset's.

    Example:
        >>> make_method("gradmatch", iterations=100).config.iterations
        100
        >>> make_method("gradmatch", "cartpole").config.network
        'mlp'
    """
    entry = catalogue.find("methods", name)
    own = {k: v for k, v in settings.items() if k not in ("preset", "student")}
    merged = {**_preset(entry, settings), **_student(entry, settings, learner, task), **own}
    return configured(entry, Method, merged, task)  # type: ignore[no-any-return]


def _preset(entry: Entry, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the preset in `settings`, if there is one."""
    if "preset" not in settings:
        return {}
    presets = facts_of(entry).get("presets", {})
    wanted = settings["preset"]
    if not isinstance(wanted, str) or wanted not in presets:
        known = ", ".join(sorted(presets)) or "none"
        raise BadConfig(f"method {entry.id!r} has no preset {wanted!r} (known: {known})")
    preset: Mapping[str, Any] = presets[wanted]
    return preset


def follows_learner(settings: Mapping[str, Any] | None) -> bool:
    """Return whether a method's settings request the students of the learner to be trained.

    Raises:
        BadConfig: `student` is neither `own` nor `learner`.
    """
    student = (settings or {}).get("student", "own")
    if student not in STUDENTS:
        raise BadConfig(f"student must be one of {', '.join(STUDENTS)}, not {student!r}")
    return bool(student == "learner")


def _student(
    entry: Entry,
    settings: Mapping[str, Any],
    learner: Learner[Any] | None,
    task: str | Task | None,
) -> Mapping[str, Any]:
    """Return the settings that `student=learner` stands for, if it is set."""
    if not follows_learner(settings):
        return {}
    if learner is None:
        raise BadConfig("student=learner needs a learner: use it with run, sweep or transfer")
    method, theirs = load_class(entry, Method), dataclasses.asdict(learner.config)
    if task is not None:
        continuous = isinstance(make_task(task).action_space, Box)
        theirs["head"] = "gaussian" if continuous else "categorical"
    try:
        student_settings: Mapping[str, Any] = method.settings_like(theirs)
    except BadConfig as error:
        raise BadConfig(f"method {entry.id!r}: {error}") from None
    return student_settings


def make_learner(name: str, task: str | Task | None = None, /, **settings: Any) -> Learner[Any]:
    """Make a learner by id, with settings of its config; arguments as for `make_method`."""
    return configured(catalogue.find("learners", name), Learner, settings, task)  # type: ignore[no-any-return]


def recorded_method(name: str, recorded: Mapping[str, Any]) -> Method[Any]:
    """Make a method by id with the settings of a cell or a report."""
    cls = load_class(catalogue.find("methods", name), Method)
    settings = recorded_settings(cls.Config, recorded)
    if settings.get("labels") != TAUGHT:  # they did nothing, and are refused now
        settings = {key: value for key, value in settings.items() if key not in TEACHING}
    return make_method(name, **settings)


def recorded_learner(name: str, recorded: Mapping[str, Any]) -> Learner[Any]:
    """Make a learner by id with the settings of a cell."""
    cls = load_class(catalogue.find("learners", name), Learner)
    return make_learner(name, **recorded_settings(cls.Config, recorded))


def load_expert(name: str | Path | Task) -> Expert:
    """Load the newest shipped expert of a task, or an expert by its id or path.

    Args:
        name: a task, or its id or alias; or an expert's id, folder or file.

    Example:
        >>> load_expert("cartpole").card["task"]
        'classic/cartpole-v0'
    """
    try:
        task = name.id if isinstance(name, Task) else catalogue.find("tasks", str(name)).id
    except UnknownName:
        return shipped.find_expert(str(name))
    return shipped.load_newest(task)


Expert = shipped.Expert


def default_dataset(task: Task) -> str:
    """Return the id of a task's default dataset: the newest expert dataset.

    Raises:
        BadConfig: none is shipped for the task.
    """
    wanted = f"{catalogue.unversioned(task.id)}/expert"
    entries = catalogue.entries("datasets")
    of_task = [e.id for e in entries.values() if e.facts.get("task") == task.id]
    versions = [id_ for id_ in of_task if catalogue.unversioned(id_) == wanted]
    if versions:
        return max(versions, key=catalogue.version)
    if of_task:
        return of_task[0]
    tasks = {id_: known_task(entry) for id_, entry in entries.items()}
    if task.id in tasks.values():  # as the class of a plugin says
        return next(id_ for id_, known in tasks.items() if known == task.id)
    shipped = ", ".join(sorted({*tasks.values()} - {""}))
    raise BadConfig(
        f"no dataset is shipped for task {task.id!r}; name one with --dataset (tasks that have "
        f"one: {shipped})"
    )


def known_task(entry: Entry) -> str:
    """Return the id of the task that a dataset is of, or "" if nothing that can be read says so."""
    if "task" in entry.facts:
        return str(entry.facts["task"])
    try:
        with no_exit(f"dataset {entry.id!r}"):
            name = task_of_dataset(entry.id)
            return catalogue.find("tasks", name).id if name else ""
    except Exception:  # such as a plugin that cannot be imported, or raises
        return ""


def named_dataset(
    source: str | Path | TransitionDataset,
    task: str | None = None,
    expert: str | Path | None = None,
) -> str:
    """Return the catalogue id of a dataset; what is named by a path is registered first.

    A file's id is made from its content and that of the expert, so that a moved file is the same
    data. Data in memory are first stored in the folder of this package.

    Args:
        source: catalogue or Minari id, or path of a trace, a recording, an npz, HDF5 or parquet
            file of named columns, a folder that `rlcondense export` wrote, or one of Minari,
            LeRobot or the Hugging Face Hub; or `hf:OWNER/NAME`, which is fetched; or the data.
        task: name of the task that it was collected on; by default what the file says.
        expert: expert of the expert row and of methods that use one, by id or path; by default the
            dataset's own, or the newest of its task.

    Raises:
        BadConfig: there is no such path, it holds no dataset, or nothing says on which task it was
            collected.
    """
    if isinstance(source, TransitionDataset):
        source = _register_data(source, task)
    source = _here(source)
    if is_source(source) and not _is_named(source):
        source = _register_file(Path(source), task)
    if not catalogue.ID.fullmatch(source):
        if Path(source).exists():
            raise BadConfig(f"{shown(source)} holds no dataset")
        raise BadConfig(f"{shown(source)} is neither the id of a dataset nor a file or folder")
    if expert is None:
        return source
    facts: dict[str, Any] = {}
    with contextlib.suppress(UnknownName):
        entry = catalogue.find("datasets", source)
        source, facts = entry.id, dict(entry.facts)
    facts |= {"base": source, "expert": _expert_path(expert)}
    return _register([source, shipped.find_expert(expert).sha256], {}, facts)


def _here(source: str | Path) -> str:
    """Return the name of a dataset as text; what is on the Hub is fetched, and has a path then.

    Raises:
        BadConfig: it is a path, and nothing is there, or a condensed set.
    """
    name = str(source)
    if hub.is_on_hub(name):
        return str(hub.fetched(name))
    is_missing = isinstance(source, Path) or (is_path(name) and not _is_named(name))
    if is_missing and not Path(name).exists():
        raise BadConfig(f"no such file or folder: {shown(name)}")
    if is_condensed(name) and not _is_named(name):
        raise BadConfig(f"{shown(name)} is a condensed set, which 'rlcondense evaluate' judges")
    return name


def _is_named(source: str) -> bool:
    """Return whether a name is an id of the catalogue or of Minari on this machine."""
    try:
        return source in catalogue.entries("datasets") or is_local(source)
    except RLCondenseError:  # a path that is no id, or no folder of Minari
        return False


def _register_file(path: Path, task: str | None) -> str:
    """Register the dataset of a path, and return its id."""
    content, of_file = content_of(path), task_of(path)
    if not (of_file or task):
        raise BadConfig(f"{shown(str(path))} does not say on which task it was collected: --task")
    facts = {"source": str(path), "task": of_file or catalogue.find("tasks", str(task)).id}
    return _register([content, facts["task"]], {"path": str(path.resolve())}, facts)


def _register_data(data: TransitionDataset, task: str | None) -> str:
    """Register data in memory, stored under their sha256, and return their id."""
    sha256 = sha256_arrays(data.columns())  # arrays may have been changed in place
    if data.known_sha256 == sha256 and data.id and _is_named(data.id):
        return data.id
    if not (data.task or task):
        raise BadConfig("the data do not say on which task they were collected: give a task")
    the_task = make_task(data.task or str(task))
    levelled, marks = with_known_levels(data, the_task), marks_of(data)
    if levelled is not data:
        data, sha256 = levelled, sha256_arrays(levelled.columns())
    columns, losses = dataset_columns(data)
    if losses:
        raise BadConfig(f"data in memory must consist of whole episodes: {losses[0]}")
    if hides_heldout(data, the_task):
        raise BadConfig("data in memory of held-out levels must have level_seeds")
    path = cache_root() / "arrays" / f"{sha256}.npz"
    with lock(path.with_suffix(".lock")):
        if not path.is_file():
            building = path.with_suffix(".building")
            write_npz(building, columns)
            building.replace(path)
    config: dict[str, Any] = {"path": str(path)}
    identity = [sha256, the_task.id]
    if marks:
        config["marks"] = marks
        identity.append(canonical_json(marks))
    return _register(identity, config, {"source": str(path), "task": the_task.id})


def _register(identity: Sequence[str], config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Register a dataset for this process by what makes it what it is, and return its id."""
    # What is read of a file depends on its task; another dataset under a new name has its own.
    settings = catalogue.settings_of_task(facts.get("task", ""))
    id_ = local_id([*identity, settings] if settings else identity)
    catalogue.add(Entry("datasets", id_, catalogue.FILE, config, facts=facts))
    return id_


def add_dataset(
    source: str | Path,
    name: str,
    *,
    task: str | None = None,
    expert: str | Path | None = None,
) -> TransitionDataset:
    """Give a dataset of a path, or another one beside another expert, a name on this machine.

    Args:
        source: as for `named_dataset`.
        name: the id that it gets, `[namespace/]name-vN`.
        task: name of the task that it was collected on, where a file does not say.
        expert: expert of the expert row, by id or path.

    Raises:
        BadConfig: the id is malformed or taken, the source has a name already, or is of another
            task.
    """
    if not catalogue.ID.fullmatch(name) or not re.search(r"-v[0-9]+$", name):
        raise BadConfig(f"{shown(name)} is not an id of the form [namespace/]name-vN")
    check_length(name)
    taken = f"there is a dataset {name!r} already: 'rlcondense dataset remove {name}'"
    if name in catalogue.entries("datasets") or catalogue.is_taken("datasets", name):
        raise BadConfig(taken)
    registered = named_dataset(source, task, expert)
    owner, stated = f"dataset {shown(str(source))}", task_of_dataset(registered)
    agreed = agreed_task(stated, task, owner).id if task else stated
    if registered == str(source):
        raise BadConfig(f"dataset {source!r} has its name already")
    data = load_dataset(registered)
    facts = {"base": registered, **catalogue.find("datasets", registered).facts}
    row: dict[str, Any] = {"id": name}
    file = catalogue.entries("datasets").get(catalogue.base_of(registered))
    if file is not None and file.entry_point == catalogue.FILE:
        row |= file.config
        facts = {**file.facts, **facts, "base": file.id}
    row["facts"] = {**facts, "sha256": data.sha256, **({"task": agreed} if agreed else {})}
    with lock(catalogue.added_path().with_suffix(".lock")):
        path = catalogue.added_path()
        rows = read_json(path) if path.is_file() else []
        if any(other["id"] == name for other in rows):  # meanwhile, by another process
            raise BadConfig(taken)
        write_json(path, [*rows, row])
    return load_dataset(name)


def remove_dataset(name: str) -> bool:
    """Remove a dataset from this machine: its files in Minari's folder, its columns and its name.

    A trace that its expert played on first use goes too.

    The file or folder that it was made from stays. Of `hf:OWNER/NAME`, what was fetched is removed.

    Returns:
        Whether there was anything to remove.
    """
    if hub.is_on_hub(name):
        return hub.forget(name)
    path, added, base = catalogue.added_path(), catalogue.added(), catalogue.base_of(name)
    known = name in added or is_local(name)
    if known:
        remove_minari(name)
        forget_collected(name)
    others = [entry for id_, entry in added.items() if id_ not in (name, base)]
    of_file = base in added and "path" in added[base].config  # another dataset has its own name
    if name in added and of_file and not any(e.facts.get("base") == base for e in others):
        remove_minari(base)
    with lock(path.with_suffix(".lock")):
        rows = read_json(path) if path.is_file() else []
        if any(row["id"] == name for row in rows):
            write_json(path, [row for row in rows if row["id"] != name])
    return known


def _expert_path(name: str | Path) -> str:
    """Return the name of an expert that holds in other processes too."""
    return str(Path(name).resolve() if Path(name).exists() else name)


def task_of_dataset(source: str | Path | TransitionDataset, *, download: bool = False) -> str:
    """Return the id of the task that a dataset was collected on, or "" if nothing says so.

    The catalogue says so, the dataset's class, the file, or the environment in Minari's metadata.

    Args:
        source: as for `named_dataset`.
        download: fetch it from Minari's remote if it is neither in the catalogue nor here.

    Raises:
        UnknownName: no dataset has that name.
        BadConfig: it is a path, and nothing is there.
    """
    if isinstance(source, TransitionDataset):
        return source.task or task_of_environment(source.origin.environment)
    name = _here(source)
    if is_source(name) and not _is_named(name):
        return task_of(Path(name))
    try:
        entry = catalogue.find("datasets", name)
    except UnknownName:
        _fetch_minari(name, download)
        return task_of_environment(str(minari_facts(name).get("environment", "")))
    if stated := entry.facts.get("task"):
        return str(stated)
    if base := entry.facts.get("base"):
        return task_of_dataset(str(base))
    return str(getattr(_source_of(entry), "task", ""))


def stated_task(source: str | Path | TransitionDataset, *, download: bool = False) -> str:
    """Return the id of the task that a dataset was collected on; see `task_of_dataset`.

    Raises:
        BadConfig: nothing says so.
    """
    if not (task := task_of_dataset(source, download=download)):
        raise BadConfig("the data do not say on which task they were collected: --task")
    return task


def agreed_task(stated: str | None, task: str | Task | None, owner: str) -> Task:
    """Return the task that data say they are of, or else the one that the user names.

    Args:
        stated: its id, if the data say so.
        task: what the user names, if anything.
        owner: the data, for messages.

    Raises:
        BadConfig: nobody says so, or the two are not the same.
    """
    if not (task or stated):
        raise BadConfig(f"{owner} does not say of which task it is: --task")
    named = make_task(task or str(stated))
    if stated and named.id != stated:
        raise BadConfig(f"{owner} is of task {stated!r}, not of {named.id!r}")
    return named


def load_dataset(
    name: str | Path | TransitionDataset,
    *,
    task: str | None = None,
    download: bool = False,
    heldout_data: bool = False,
    progress: Progress = silent,
) -> TransitionDataset:
    """Load a dataset by catalogue id, any Minari dataset by its id, or one from a path.

    A catalogue dataset that is not on this machine is built first: its class, made with its id and
    the entry's config, has `episodes(task, progress)`, which returns `Episode`s; a plugin's class
    also has a `task`. It may have `metadata` for Minari, which is complete when `episodes` returns.

    Args:
        name: catalogue id, Minari id, path, or data in memory; see `named_dataset`.
        task: task that a file was collected on, where it does not say.
        download: fetch it from Minari's remote if it is neither in the catalogue nor here.
        heldout_data: whether data of held-out levels may be condensed.
        progress: receives the progress of a build.

    Raises:
        UnknownName: no dataset has that name.
        CorruptArtifact: it is damaged, or differs from the catalogue's sha256.
    """
    name = named_dataset(name, task)
    try:
        entry = catalogue.find("datasets", name)
    except UnknownName:
        data = _load_minari(name, download)
    else:
        data = _load_entry(entry, download, progress)
    return replace(data, heldout_allowed=heldout_data)


def _load_minari(name: str, download: bool) -> TransitionDataset:
    _fetch_minari(name, download)
    return read_minari(name)


def _fetch_minari(name: str, download: bool) -> None:
    """Download a dataset of Minari if it is not on this machine, or raise `UnknownName`."""
    if download:
        download_minari(name)
    if not is_local(name):
        known = [*catalogue.entries("datasets"), *local_datasets()]
        raise UnknownName("dataset", name, known, "fetch Minari's with --download")


def _source_of(entry: Entry) -> Any:
    """Make the class behind a dataset of the catalogue, which has its episodes.

    Raises:
        PluginLoadError: it cannot be made.
    """
    cls = entry.load()
    with _one_line(f"dataset {entry.id!r} of {entry.origin}", "made"):
        return cls(entry.id, **entry.config)


def _episodes_of(source: Any, entry: Entry, task: Task, progress: Progress) -> Iterator[Episode]:
    """Return the episodes of a dataset's class, whose `metadata` may be known from here on.

    Raises:
        PluginLoadError: the class raises an error, or yields something else, now or later.
    """
    owner = f"dataset {entry.id!r} of {entry.origin}"
    if not callable(getattr(source, "episodes", None)):
        raise PluginLoadError(f"{owner} has no method `episodes(task, progress)`")
    with _one_line(owner):
        episodes = source.episodes(task, progress)
    return _checked_episodes(episodes, owner)


def _checked_episodes(episodes: Iterable[Any], owner: str) -> Iterator[Episode]:
    with _one_line(owner):
        for episode in episodes:
            if wrong := what_is_wrong_with(episode):
                raise PluginLoadError(f"{owner} yields {wrong}")
            yield episode


@contextlib.contextmanager
def _one_line(owner: str, what: str = "built") -> Iterator[None]:
    """Turn what a dataset's class raises into one error that names it."""
    try:
        with no_exit(owner):
            yield
    except RLCondenseError:
        raise
    except Exception as error:
        raise PluginLoadError(
            f"{owner} cannot be {what}: {type(error).__name__}: {error}"
        ) from error


def _load_entry(entry: Entry, download: bool, progress: Progress) -> TransitionDataset:
    if base := entry.facts.get("base"):  # another dataset beside another expert
        data = load_dataset(str(base), download=download, progress=progress)
        task = data.task or str(entry.facts.get("task", ""))
        return _as_added(replace(data, id=entry.id, task=task), entry)
    if (path := folder_of(entry.id)) is not None:
        data = replace(read_minari_folder(path, entry.id, progress), task=entry.facts["task"])
        return _as_added(data, entry)
    return _load_shipped(entry, progress)


def _as_added(data: TransitionDataset, entry: Entry) -> TransitionDataset:
    """Return data that are what they were when they got their name.

    Raises:
        CorruptArtifact: they are others.
    """
    expected = entry.facts.get("sha256", data.sha256)
    if data.sha256 != expected:
        raise CorruptArtifact(
            f"dataset {entry.id!r} is not what it was when it got its name: its sha256 is "
            f"{data.sha256[:12]}, not {str(expected)[:12]} ('rlcondense dataset remove' takes the "
            "name away, 'dataset add' gives it again)"
        )
    return data


def _load_shipped(entry: Entry, progress: Progress) -> TransitionDataset:
    source = _source_of(entry)
    stated = entry.facts.get("task") or getattr(source, "task", None)
    if not stated:
        raise PluginLoadError(
            f"dataset {entry.id!r} of {entry.origin} does not say of which task it is: its class "
            "needs an attribute `task`"
        )
    task = make_task(str(stated))
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
    """Refuse a dataset that was played by another expert than the shipped one."""
    player = minari_facts(entry.id).get(EXPERT_SHA256)
    if player and player != shipped.find_expert(str(entry.facts["expert"])).sha256:
        raise CorruptArtifact(f"dataset {entry.id!r} was played by an earlier expert; {rebuild}")


def _build(entry: Entry, source: Any, task: Task, progress: Progress) -> bool:
    """Build a dataset unless it exists, and return whether it was built."""
    if is_local(entry.id):
        return False
    with contextlib.closing(environment_of(task)) as env:
        episodes = _episodes_of(source, entry, task, progress)
        metadata = {**_metadata(entry, task), **getattr(source, "metadata", {})}
        build_columns(entry.id, episodes, metadata, env, progress)
    return True


def environment_of(task: Task) -> Any:
    """Make the Gymnasium environment of a task, by its id."""
    import rlcondense.tasks  # noqa: F401  registers the environments

    try:
        spec = gymnasium.spec(task.id)
    except gymnasium.error.Error as error:
        raise BadConfig(
            f"Gymnasium takes no environment {task.id!r}: register the task under another id"
        ) from error
    if spec.entry_point != "rlcondense.make:make_environment":
        raise BadConfig(
            f"{task.id!r} is another environment of Gymnasium: register the task under another id"
        )
    return gymnasium.make(task.id)


def _metadata(entry: Entry, task: Task) -> dict[str, Any]:
    """Return Minari's own fields; reference scores are of the random policy and the expert."""
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
        expert = shipped.find_expert(str(entry.facts["expert"]))
        fields["ref_max_score"] = float(expert.card["returns"]["seen"]["mean"])
        if not entry.facts.get("sha256"):  # played here, so which expert it was matters
            fields[EXPERT_SHA256] = expert.sha256
    return fields


def include(path: Path) -> list[Entry]:
    """Register the methods, learners and tasks that a single file defines, for this process.

    The name of each is its class's `id`, or else the class's name in lower case with hyphens.
    Entries that the file registers itself count too.

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
    new_entries: list[Entry] = []
    for entry in catalogue.registered():
        if id(entry) not in before or entry.distribution == origin:
            new_entries.append(
                replace(entry, distribution=origin, summary=entry.summary or "included")
            )
            catalogue.add(new_entries[-1])
    unfinished: list[str] = []
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or cls.__module__ != module.__name__ or name[0] == "_":
            continue
        group = next((g for g, base in PARTS.items() if issubclass(cls, base)), None)
        if group is None or inspect.isabstract(cls):
            lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            unfinished += [f"{name} lacks {lacking}"] if lacking else []
            if group is None and hasattr(cls, "episodes"):
                unfinished.append(
                    f'{name} needs rlc.register("datasets", ID, __file__ + ":{name}")'
                )
            continue
        own = cls.__dict__.get("id")
        id_ = own if isinstance(own, str) and own else _hyphenated(name)
        if any((entry.group, entry.id) == (group, id_) for entry in new_entries):
            continue  # the file says with which settings
        entry = Entry(group, id_, f"{path}:{name}", summary="included", distribution=origin)
        catalogue.add(entry)
        new_entries.append(entry)
    if not new_entries:
        why = f": {'; '.join(unfinished)}" if unfinished else ""
        raise BadConfig(f"{path} defines no method, no learner and no task{why}")
    return new_entries


def _hyphenated(name: str) -> str:
    """Convert `MyMethod` to `my-method`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def load_part(entry: Entry) -> Any:
    """Import the class behind the entry of a method, learner or task.

    Raises:
        PluginLoadError: it cannot be imported, is none, or has no settings where it needs them.
    """
    cls = load_class(entry, PARTS[entry.group])
    if entry.group != "tasks" and not dataclasses.is_dataclass(getattr(cls, "Config", None)):
        raise PluginLoadError(
            f"{entry.kind} {entry.id!r} of {entry.origin}: its Config is no dataclass"
        )
    return cls


def facts_of(entry: Entry) -> dict[str, Any]:
    """Return the facts of a method or learner: its class's `facts`, overridden by the catalogue's.

    `budget`: default budget of `run`. `learner`: settings of the learner that trains its students.
    `check_config`: settings that make its checks quick. `expected_failures`: checks that are known
    to fail, with reasons. `presets`: settings by the name of each preset.
    """
    own = getattr(entry.load(), "facts", {})
    owner = f"{entry.kind} {entry.id!r} of {entry.origin}"
    if not isinstance(own, Mapping):
        raise PluginLoadError(f"{owner}: its facts are {type(own).__name__}, not a mapping")
    facts = {**own, **entry.facts}
    for name in MAPPINGS & facts.keys():
        if not isinstance(facts[name], Mapping):
            raise PluginLoadError(f"{owner}: its fact {name!r} is no mapping")
    try:
        Budget(**facts["budget"]) if facts.get("budget") else None
    except (BadConfig, TypeError) as error:
        raise PluginLoadError(f"{owner}: its fact 'budget' is none: {error}") from error
    return facts


def is_stochastic(entry: Entry, settings: Mapping[str, Any]) -> bool:
    """Return whether another seed gives another set with these settings of a method.

    Of settings that the method does not have, its class decides; True if it cannot be imported.
    """

    def made() -> Method[Any]:
        method: Method[Any] = configured(entry, Method, dict(settings))
        return method

    attempts: tuple[Callable[[], Any], ...] = (made, entry.load)
    for attempt in attempts:
        try:
            return bool(attempt().stochastic)
        except Exception:  # such as an error of a plugin
            continue
    return True


def configured(
    entry: Entry, base: type, settings: dict[str, Any], task: str | Task | None = None
) -> Any:
    """Make the object of an entry from its config, overridden by `settings`.

    Args:
        entry: entry of the catalogue.
        base: base class that it must have.
        settings: of its config.
        task: the task; see `make_method`.

    Raises:
        PluginLoadError: it cannot be imported, or is no subclass of `base`.
        BadConfig: a setting is unknown or of the wrong type.
    """
    cls = load_class(entry, base)
    owner = f"{entry.kind} {entry.id!r}"
    try:
        own = suited(cls.Config, make_task(task) if isinstance(task, str) else task)
        with no_exit(owner):
            config = make_config(cls.Config, {**own, **entry.config, **settings}, owner)
            return cls(config, id=entry.id)
    except RLCondenseError:
        raise
    except ValueError as error:  # as the settings' own checks raise it
        raise BadConfig(f"{owner}: {error}") from error
    except Exception as error:
        raise PluginLoadError(f"{owner} of {entry.origin} cannot be made: {error}") from error


def suited(config: type[Any], task: Task | None) -> dict[str, Any]:
    """Return defaults that suit a task better: no augmentation for vectors, and another network.

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
