"""Catalogue of names: the registry's TOML files and the entry points of installed plugins.

Reading the catalogue imports no task, method or learner; `Entry.load` imports one, on use.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from rlcondense.errors import (
    BadConfig,
    CorruptArtifact,
    PluginLoadError,
    RLCondenseError,
    UnknownName,
    UnknownVersion,
)
from rlcondense.files import plain
from rlcondense.places import cache_root

GROUPS = ("tasks", "datasets", "methods", "learners")
EXPERTS = "experts"  # a group of names of files and folders; the shipped experts are no entries
API_VERSION = 1
ID = re.compile(
    r"(?!.*\.\.)"  # as `NAME` of `json_schema`: an id becomes a path
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*?(?:/[A-Za-z0-9][A-Za-z0-9_.-]*?)*)(?:-v(?P<version>\d+))?"
)
BUILT_IN = "rlcondense"
LOCAL = "local/"  # namespace of data that nobody has given a name
FILE = "rlcondense.datasets.sources:FileDataset"  # entry point of a dataset of a file
_FIELDS = {"id", "entry_point", "config", "aliases", "summary", "paper"}
_HEADER = re.compile(r"^(Name|Version): *(\S+)", re.MULTILINE)

_registered: dict[tuple[str, str], Entry] = {}
_included: dict[Path, None] = {}  # files, in the order in which they were included
_followers: list[tuple[str, Callable[[Entry], None]]] = []


@dataclass(frozen=True)
class Entry:
    """Entry of the catalogue.

    Attributes:
        group: `tasks`, `datasets`, `methods` or `learners`.
        id: `[namespace/]name[-vN]`.
        entry_point: `module:attribute` of the class behind it, or `path/to/file.py:attribute`.
        config: settings of the class.
        aliases: other names.
        summary: one sentence.
        paper: reference of its paper.
        facts: further facts of its group (a dataset's task and sha256, a method's default budget).
        distribution: name and version of the installed distribution that offers it.
        rivals: distributions that offer the same name; with any, it cannot be loaded.
    """

    group: str
    id: str
    entry_point: str
    config: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    summary: str = ""
    paper: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    distribution: tuple[str, str] | None = None
    rivals: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Singular of the group, for messages."""
        return self.group.removesuffix("s")

    def refuse_rivals(self) -> None:
        """Raise `PluginLoadError` if two distributions offer the name."""
        if self.rivals:
            raise PluginLoadError(
                f"{' and '.join(self.rivals)} both offer the {self.kind} {self.id!r}: "
                "uninstall one, or name the one to see in RLCONDENSE_PLUGINS"
            )

    def load(self) -> Any:
        """Import the class behind the entry.

        Raises:
            PluginLoadError: it cannot be imported, has another `api_version`, or two distributions
                offer it.
        """
        if not ID.fullmatch(self.id):
            raise PluginLoadError(f"{self.id!r} of {self.origin} is no id of the form name[-vN]")
        self.refuse_rivals()
        module, _, attribute = self.entry_point.rpartition(":")
        if not module:
            raise PluginLoadError(
                f"{self.kind} {self.id!r} of {self.origin} has the entry point "
                f"{self.entry_point!r}: write 'module:Class'"
            )
        try:
            target = import_file(Path(module)) if module.endswith(".py") else import_module(module)
            for part in attribute.split("."):
                target = getattr(target, part)
        except RLCondenseError:
            raise
        # The import of a plugin may raise any error, and must not end this process.
        except (Exception, SystemExit) as error:
            raise PluginLoadError(
                f"{self.kind} {self.id!r} of {self.origin} cannot be loaded from "
                f"{self.entry_point!r}: {type(error).__name__}: {error}"
            ) from error
        version = getattr(target, "api_version", None)
        if version != API_VERSION:
            raise PluginLoadError(
                f"{self.kind} {self.id!r} of {self.origin} has api_version {version!r}, "
                f"this rlcondense needs {API_VERSION}"
            )
        return target

    @property
    def is_built_in(self) -> bool:
        """Whether this package offers it."""
        return self.distribution is not None and self.distribution[0] == BUILT_IN

    @property
    def origin(self) -> str:
        """Name and version of its distribution, for messages."""
        return " ".join(self.distribution) if self.distribution else "this process"

    @property
    def settings_text(self) -> str:
        """Its settings as JSON, the same in every process."""
        config = dict(self.config)
        return json.dumps(config, default=_named, sort_keys=True, separators=(",", ":"))

    def exported(self) -> dict[str, Any]:
        """Return the whole entry as plain values, for `imported` in another process."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}

    @classmethod
    def imported(cls, values: Mapping[str, Any]) -> Entry:
        """Make the entry from the values of `exported`, whose tuples may have become lists."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain values, with its facts."""
        return {
            "id": self.id,
            "entry_point": self.entry_point,
            "config": json.loads(self.settings_text),
            "aliases": list(self.aliases),
            "summary": self.summary,
            "paper": self.paper,
            "origin": self.origin,
            **self.facts,
        }


def _named(value: Any) -> str:
    """Return a text of a setting that JSON does not know."""
    value = plain(value)
    known = isinstance(value, (int, float, list, Path))
    return str(value if known else getattr(value, "__qualname__", type(value)))


def data_root() -> Path:
    """Return the folder of `registry` and `baselines`, in the installed package or the checkout."""
    package = Path(__file__).parent
    for root in (package / "_catalogue", package.parent):
        if (root / "registry" / "methods.toml").is_file():
            return root
    raise RLCondenseError(f"the catalogue is missing beside {package}; reinstall rlcondense")


def settings_of_task(id_: str) -> str:
    """Return the settings of a registered task as JSON; nothing if it has none or is built in."""
    entry = entries("tasks").get(id_)
    if entry is None or entry.is_built_in or not entry.config:
        return ""
    return entry.settings_text


def experts_folder() -> Path:
    """Return the folder of the shipped experts."""
    return data_root() / "baselines" / "experts"


def entries(group: str) -> Mapping[str, Entry]:
    """Return every entry of a group by id: built-in, of plugins, and registered in this process.

    Built-in names cannot be taken, nor their aliases and other versions. A name that two
    distributions offer is listed, and fails when it is loaded. Nothing is imported.
    """
    by_id = dict(_built_in(group))
    for name, offers in _plugins(group).items():
        if is_taken(group, name):
            continue
        owners = sorted({entry.origin for entry in offers})
        rivals = tuple(owners) if len(owners) > 1 else ()
        by_id[name] = replace(offers[0], rivals=rivals)
    if group == "datasets":
        by_id.update((id_, entry) for id_, entry in added().items() if not is_taken(group, id_))
    by_id.update({id_: entry for (g, id_), entry in _registered.items() if g == group})
    return MappingProxyType(by_id)


def added() -> dict[str, Entry]:
    """Return the datasets that `dataset add` gave a name on this machine, and those of their files.

    Raises:
        CorruptArtifact: the file that lists them is damaged.
    """
    path = added_path()
    if not path.is_file():
        return {}
    from rlcondense.files import read_json

    rows = read_json(path)
    by_id: dict[str, Entry] = {}
    try:
        for row in rows:
            config = {"path": row["path"]} if "path" in row else {}
            facts = {
                str(key): value
                for key, value in row["facts"].items()
                if not (key in _NO_TEXT and isinstance(value, str))
            }
            if config and "base" in facts:  # the file keeps its own id, under which its columns lie
                own = {key: facts[key] for key in facts if key not in ("base", "expert")}
                base = str(facts["base"])
                by_id[base] = _of_file(base, config, own, "file of a dataset")
                config = {}
            by_id[row["id"]] = _of_file(row["id"], config, facts, "added on this machine")
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifact(f"{path} is no list of datasets: {error}") from error
    return {id_: entry for id_, entry in by_id.items() if ID.fullmatch(id_)}


def _of_file(id_: str, config: Mapping[str, Any], facts: Mapping[str, Any], summary: str) -> Entry:
    return Entry("datasets", id_, FILE, config, summary=summary, facts=facts)


def base_of(dataset: str) -> str:
    """Return the id under which the columns of a dataset lie.

    It is the dataset's own, unless the dataset is another one under another name or beside another
    expert.
    """
    entry = entries("datasets").get(dataset)
    base = str(entry.facts.get("base", dataset)) if entry is not None else dataset
    return dataset if base == dataset else base_of(base)


# As earlier versions wrote them.
_NO_TEXT = ("episodes", "transitions", "returns", "information", "share", "tiers")


def added_path() -> Path:
    """Return the path of the list of the datasets that were added on this machine."""
    return cache_root() / "datasets.json"


def collisions(group: str) -> list[Entry]:
    """Return plugin entries that are hidden because they have the name of a built-in one."""
    return [
        entry
        for name, offers in _plugins(group).items()
        if is_taken(group, name)
        for entry in offers
    ]


def is_taken(group: str, name: str) -> bool:
    """Return whether a name means a built-in entry: its id in any version, or an alias.

    Of the shipped experts it is the id alone, for later versions are what users train.
    """
    if group == EXPERTS:
        files = {path.stem for path in experts_folder().glob("*.json")}
        return "/" in name and name.replace("/", "-") in files
    built_in = _built_in(group)
    taken = {unversioned(id_) for id_ in built_in}
    taken |= {alias for entry in built_in.values() for alias in entry.aliases}
    return name in built_in or unversioned(name) in taken


def find(group: str, name: str) -> Entry:
    """Find an entry by id, by id without version (the newest), or by alias.

    Raises:
        UnknownName: there is no such name; the message suggests the nearest one.
        UnknownVersion: the name exists in other versions only.
    """
    known = entries(group)
    if name in known:
        return known[name]
    by_alias = {alias: entry for entry in known.values() for alias in entry.aliases}
    if name in by_alias:
        return by_alias[name]
    versions = {
        version(id_): entry for id_, entry in known.items() if unversioned(id_) == unversioned(name)
    }
    if versions and unversioned(name) == name:
        return versions[max(versions)]
    kind = group.removesuffix("s")
    if versions:
        raise UnknownVersion(kind, name, [entry.id for entry in versions.values()])
    raise UnknownName(kind, name, [*known, *by_alias])


def list_tasks() -> list[str]:
    """Return the ids of all tasks.

    Example:
        >>> "classic/cartpole-v0" in list_tasks()
        True
    """
    return sorted(entries("tasks"))


def list_datasets() -> list[str]:
    """Return the ids of all datasets of the catalogue."""
    return sorted(entries("datasets"))


def list_methods() -> list[str]:
    """Return the ids of all methods."""
    return sorted(entries("methods"))


def list_learners() -> list[str]:
    """Return the ids of all learners."""
    return sorted(entries("learners"))


def load_class(entry: Entry, base: type) -> Any:
    """Import the class behind an entry, or raise `PluginLoadError` unless it is a `base`."""
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginLoadError(
            f"{entry.kind} {entry.id!r} of {entry.origin}: "
            f"{entry.entry_point} is no {base.__name__}"
        )
    return cls


def register(group: str, name: str, entry_point: str, **config: Any) -> None:
    """Add an entry for this process only, as Gymnasium's `register` does.

    Args:
        group: `tasks`, `datasets`, `methods`, `learners` or `experts`.
        name: its id.
        entry_point: `module:attribute`; of an expert its folder or file, or where its path is.
        **config: settings of the class.
    """
    add(Entry(group, name, entry_point, MappingProxyType(config)))


def add(entry: Entry) -> None:
    """Add an entry for this process only.

    Raises:
        BadConfig: its id is malformed, or a built-in one.
    """
    _check_group(entry.group)
    if not ID.fullmatch(entry.id):
        raise BadConfig(f"{entry.id!r} is not an id of the form [namespace/]name[-vN]")
    if is_taken(entry.group, entry.id):
        raise BadConfig(f"{entry.id!r} is a built-in {entry.kind}; choose another name")
    _registered[entry.group, entry.id] = entry
    for group, act in _followers:
        if group == entry.group:
            act(entry)


def follow(group: str, act: Callable[[Entry], None]) -> None:
    """Call `act` with every entry of a group: present ones now, later ones when they are added."""
    _followers.append((group, act))
    for entry in entries(group).values():
        act(entry)


def registered() -> list[Entry]:
    """Return the entries added in this process, for another process to `add`."""
    return list(_registered.values())


def included() -> list[Path]:
    """Return the files that were included in this process, for another process to import."""
    return list(_included)


def include_file(path: Path) -> ModuleType:
    """Import a file for its definitions and its effects, such as registered environments.

    Args:
        path: absolute path of the file.

    Raises:
        BadConfig: it is missing, or cannot be imported.
    """
    module = import_file(path)
    _included[path] = None
    return module


def import_file(path: Path) -> ModuleType:
    """Import a single file as a module, once for each content.

    Raises:
        BadConfig: it is missing, or cannot be imported.
    """
    if path.suffix != ".py":
        raise BadConfig(f"{path} is no Python file: its name must end in .py")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()[:12]
    name = f"rlcondense_included_{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file may raise any error
        del sys.modules[name]
        line = "" if isinstance(error, SyntaxError) else f" (line {_line_of(error, path)})"
        beside = path.parent / f"{getattr(error, 'name', None)}.py"
        hint = f": put {path.parent} on PYTHONPATH" if beside.is_file() else ""
        raise BadConfig(
            f"{path} cannot be imported: {type(error).__name__}: {error}{line}{hint}"
        ) from error
    return module


def _line_of(error: BaseException, path: Path) -> int | str:
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path and frame.lineno
    ]
    return lines[-1] if lines else "?"


def plugins() -> list[Entry]:
    """Return every entry that an installed plugin offers, hidden and disputed ones included."""
    return [
        replace(entry, rivals=tuple(sorted({other.origin for other in offers} - {entry.origin})))
        for group in (*GROUPS, EXPERTS)
        for offers in _plugins(group).values()
        for entry in offers
    ]


def _check_group(group: str) -> None:
    if group not in (*GROUPS, EXPERTS):
        raise UnknownName("group", group, (*GROUPS, EXPERTS))


def unversioned(id_: str) -> str:
    """Return an id without its version, where it has one."""
    return re.sub(r"-v\d+$", "", id_)


def version(id_: str) -> int:
    """Return the version in an id, -1 where it has none."""
    match = re.search(r"-v(\d+)$", id_)
    return int(match[1]) if match else -1


@cache
def _built_in(group: str) -> Mapping[str, Entry]:
    _check_group(group)
    if group == EXPERTS:
        return MappingProxyType({})
    path = data_root() / "registry" / f"{group}.toml"
    rows = tomllib.loads(path.read_text(encoding="utf-8"))[group]
    by_id = {row["id"]: _from_row(group, row) for row in rows}
    if len(by_id) != len(rows):
        raise RLCondenseError(f"{path} names an id twice")
    return MappingProxyType(by_id)


def _from_row(group: str, row: dict[str, Any]) -> Entry:
    return Entry(
        group=group,
        id=row["id"],
        entry_point=row["entry_point"],
        config=MappingProxyType(row.get("config", {})),
        aliases=tuple(row.get("aliases", ())),
        summary=row.get("summary", ""),
        paper=row.get("paper", ""),
        facts=MappingProxyType({k: v for k, v in row.items() if k not in _FIELDS}),
        distribution=(BUILT_IN, _own_version()),
    )


def _own_version() -> str:
    from rlcondense import __version__

    return __version__


def _plugins(group: str) -> dict[str, list[Entry]]:
    allowed = os.environ.get("RLCONDENSE_PLUGINS")
    wanted = None if allowed is None else {_normalised(name) for name in allowed.split(",")}
    by_id: dict[str, list[Entry]] = {}
    for point, owner in _installed():
        seen = wanted is None or _normalised(owner[0]) in wanted
        if seen and point.group == f"rlcondense.{group}":
            entry = Entry(group, point.name, point.value, summary="plugin", distribution=owner)
            by_id.setdefault(entry.id, []).append(entry)
    return by_id


@cache
def _installed() -> list[tuple[EntryPoint, tuple[str, str]]]:
    """Return rlcondense's entry points of installed distributions, with names and versions.

    A distribution with unreadable metadata is skipped, so that it does not break the others.
    """
    installed, seen = [], set()
    for distribution in distributions():
        try:
            name, version = _name_and_version(distribution)
            points = [p for p in distribution.entry_points if p.group.startswith("rlcondense.")]
        except Exception:  # an interrupted uninstall or a malformed file; each fails in its own way
            continue
        if not name or _normalised(name) in seen:  # the first on the path is the one imported
            continue
        seen.add(_normalised(name))
        installed += [(point, (name, version or "?")) for point in points]
    return installed


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Return a distribution's name and version, empty where its metadata names none.

    Reads the two headers alone: parsing all metadata would take most of the time of `list`.
    """
    metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    headers = dict(_HEADER.findall(metadata.partition("\n\n")[0]))
    return headers.get("Name", ""), headers.get("Version", "")


def _normalised(name: str) -> str:
    """Return a distribution's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()
