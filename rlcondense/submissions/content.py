"""The checks of a single record: against itself, the catalogue and the limits of its game.

Each check takes a record whose form is right, and yields a line for each fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import isclose, prod
from typing import Any, Literal

import numpy as np

from rlcondense import catalogue
from rlcondense.comparison.rows import NOBODY
from rlcondense.config import config_json
from rlcondense.datasets.budget import share_of
from rlcondense.errors import BadConfig, MissingExtra, PluginLoadError, RLCondenseError
from rlcondense.evaluation import evaluate
from rlcondense.experts.shipped import shipped_cards
from rlcondense.files import canonical_json
from rlcondense.findings import reported_findings
from rlcondense.learners.base import Learner
from rlcondense.make import configured, is_stochastic, make_task
from rlcondense.methods.base import Method
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.methods.stratified import Stratified
from rlcondense.policies import random_policies
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.records.cell import (
    CONDENSED,
    MADE_ELSEWHERE,
    POLICIES_FROM,
    Cell,
    budget_text,
    episodes_of,
    protocol_from,
)
from rlcondense.records.record import LearnerJson, MethodJson, Record
from rlcondense.records.schema import KINDS, what_is_wrong, wrong_rows
from rlcondense.records.store import content_sha256
from rlcondense.references import BLIND, POLICIES
from rlcondense.statistics.intervals import summarise
from rlcondense.tasks.base import Task
from rlcondense.text import shown, unquoted
from rlcondense.types import SPLITS, Array

# Losses whose gradient vanishes once a student is sure: students may then take one action always,
# the same one, and play the very same episodes.
SATURATING = ("softmax-mse", "softmax-mae")
MOST_ENVIRONMENTS = 1000  # made to find out the sequence of levels
NEEDED = ("torch", "numpy", "gymnasium")
ROUNDING = 1e-3  # of returns, whose rewards are float32
CHANCE = 20  # episodes that sampling policies do not play alike by chance,
DIFFERENT = 10  # of which so many differ: a pole that is always pushed left falls in three ways
FEW = 100  # episodes of all students on a split: a percentage of success has an error of 5 points
SAME_EPISODES = "learner seeds {} and {} have the very same episodes"
# The fields of every record; fields added later are not required of earlier records.
KEY = (
    "dataset_sha256", "expert_sha256", "source_sha256", "rlcondense", "plugins", "device",
    "threads", "torch version", "numpy version", "gymnasium version", "d3rlpy version",
    "minari version", "procgen-mirror version", "safetensors version",
)  # fmt: skip
REPORT = ("bytes", "cost", "displacement", "matching_loss")  # fields that are not compared
COUNTED = ("gradient_evaluations", "environment_steps")
BASES: Mapping[str, type] = {"methods": Method, "learners": Learner}


@dataclass(frozen=True)
class LocalFacts:
    """The facts about catalogue, tasks and experts that this machine knows.

    Attributes:
        entries: of the catalogue, by group and id.
        task: makes a task, or returns None if it cannot be made.
        levels: the level seeds of a task's split under a protocol, or None likewise.
        experts: the sha256 of the shipped experts by id.
        experts_of: the ids of a task's shipped experts, the newest last.
    """

    entries: Mapping[str, Mapping[str, catalogue.Entry]]
    task: Callable[[str], Task | None]
    levels: Callable[[str, str, Protocol], list[int] | None]
    experts: Mapping[str, str]
    experts_of: Mapping[str, Sequence[str]]

    def resolved(self, group: str, part: MethodJson | LearnerJson) -> dict[str, Any]:
        """Return a built-in method's or learner's settings with defaults; none if unknown.

        Raises:
            BadConfig: a setting is unknown or wrong.
        """
        name = part["id"]
        if not self.is_built_in(group, name):
            return {}
        try:
            instance = configured(self.entries[group][name], BASES[group], dict(part["config"]))
        except (MissingExtra, PluginLoadError):
            return {}
        except RLCondenseError as error:  # such as an unknown network
            raise BadConfig(str(error)) from error
        return config_json(instance.config)

    def is_deterministic(self, method: MethodJson) -> bool:
        """Return whether a method declares that all its seeds give the same set."""
        name = method["id"].removeprefix(CONDENSED)
        settings = method["config"] if name == method["id"] else {}  # a folder's are not its own
        entry = self.entries["methods"].get(name)
        return entry is not None and not is_stochastic(entry, settings)

    def keeps_episodes(self, method: str) -> bool:
        """Return whether a method keeps the episodes it scores best, or draws, whole until full.

        Few episodes fill a small budget, so that two such methods or seeds may keep the same rows.
        """
        entry = self.entries["methods"].get(method)
        try:
            return entry is not None and issubclass(entry.load(), (EpisodeScorer, Stratified))
        except Exception:  # an error of a plugin
            return False

    def facts(self, group: str, name: str) -> Mapping[str, Any]:
        """Return the catalogue's facts on an id; none for an unknown one."""
        entry = self.entries[group].get(name)
        return entry.facts if entry else {}

    def is_built_in(self, group: str, name: str) -> bool:
        """Return whether an id belongs to this package."""
        entry = self.entries[group].get(name)
        return entry is not None and entry.is_built_in


def known_here() -> LocalFacts:
    """Collect the facts of this machine's catalogue and games."""
    entries = {group: catalogue.entries(group) for group in catalogue.GROUPS}

    @cache
    def task(name: str) -> Task | None:
        try:
            return make_task(name) if name in entries["tasks"] else None
        except Exception:  # an error of a plugin; then its levels are unknown here
            return None

    @cache
    def levels(name: str, split: str, protocol: Protocol) -> list[int] | None:
        instance = task(name)
        if instance is None or protocol.environments > MOST_ENVIRONMENTS:
            return None
        return level_seeds(instance, split, protocol)

    cards = shipped_cards()
    experts = {card["id"]: card["sha256"] for card in cards}
    experts_of: dict[str, list[str]] = {}
    for card in cards:
        experts_of.setdefault(card["task"], []).append(card["id"])
    return LocalFacts(entries, task, levels, experts, experts_of)


def level_seeds(task: Task, split: str, protocol: Protocol) -> list[int]:
    """Return the levels that every policy plays, environment by environment."""
    levels: Array | None = task.level_seeds(
        split, protocol.environments, protocol.quota, seed=protocol.seed
    )
    if levels is None:
        policies = random_policies(task.action_space, [0])
        levels = evaluate(policies, task, split, protocol=protocol).level_seeds[0]
    return list(map(int, levels.ravel()))


def problems(record: Record, stem: str, known: LocalFacts) -> Iterator[tuple[str, str]]:
    """Yield the faults of a record, as pairs of a check's name and a line.

    Args:
        record: as read from its file.
        stem: the file's name without its ending.
        known: the facts to compare it with.
    """
    if broken := what_is_wrong(record):
        yield "schema", broken
        return
    if stem != (cell_id := Cell.from_json(record["cell"]).id):
        yield "name", f"the file is called {shown(stem)}, but holds cell {cell_id}"
    yield from _all_of(OF_EVERY, record, known)
    if record["status"] == "done":
        wrong = [("quota", text) for text in wrong_rows(record)]
        yield from wrong or _all_of(OF_RESULTS, record, known)


def remarks(record: Record, known: LocalFacts) -> Iterator[tuple[str, str]]:
    """Yield notes, which are no faults, on a record whose form is right."""
    yield from _all_of(NOTES, record, known)


Check = Callable[[Record, LocalFacts], Iterator[str]]


def _all_of(
    checks: Mapping[str, Check], record: Record, known: LocalFacts
) -> Iterator[tuple[str, str]]:
    for name, check in checks.items():
        try:
            yield from ((name, text) for text in check(record, known))
        except Exception as error:  # no record may stop the checks of the others
            yield name, f"cannot be checked ({type(error).__name__}: {shown(str(error))})"


def _name(record: Record, known: LocalFacts) -> Iterator[str]:
    cell_id = Cell.from_json(record["cell"]).id
    if record["cell_id"] != cell_id:
        yield f"cell_id is {record['cell_id']}, but its cell's is {cell_id}"


def _content(record: Record, known: LocalFacts) -> Iterator[str]:
    if record["content_sha256"] != content_sha256(record):
        yield "content_sha256 is not that of the content: it was changed after it was written"


def _cell(record: Record, known: LocalFacts) -> Iterator[str]:
    cell = record["cell"]
    name, learner, budget = cell["method"]["id"], cell["learner"], cell["budget"]
    is_policy = name in POLICIES or name.startswith(POLICIES_FROM)
    if is_policy and not (learner is None and budget is None):
        yield f"policy {name!r} has neither a learner nor a budget"
    elif not is_policy and (learner is None or budget is None):
        yield f"method {name!r} needs a learner and a budget"
    looks = name in BLIND if is_policy else not _needs_no_data(name, record, known)
    if not cell["dataset"] and looks:
        yield f"{name!r} names no dataset"


def _versions(record: Record, known: LocalFacts) -> Iterator[str]:
    environment, key = record["environment"], record.get("key", {})
    packages = environment["packages"]
    absent = [name for name in NEEDED if not packages.get(name)]
    if (task := known.task(record["cell"]["task"])) is not None:
        absent += [name for name in task.packages if not packages.get(name)]
    if absent and record["status"] == "done":
        yield f"environment.packages gives no version of {', '.join(absent)}"
    for name in ("rlcondense", "device", "threads"):
        if name in key and key[name] != environment[name]:
            yield f"key has {name} {shown(key[name])}, environment {shown(environment[name])}"
    for name, version in packages.items():
        if key.get(f"{name} version", version) != version:
            stated = shown(key[f"{name} version"])
            yield f"key has {shown(name)} {stated}, environment {shown(version)}"


def _plugins(record: Record, known: LocalFacts) -> Iterator[str]:
    cell = record["cell"]
    used = {"tasks": cell["task"], "methods": cell["method"]["id"]}
    if cell["learner"] is not None:
        used["learners"] = cell["learner"]["id"]
    if used["methods"] in POLICIES or used["methods"].startswith(MADE_ELSEWHERE):
        del used["methods"]
    foreign = [
        f"{group.removesuffix('s')} {name!r}"
        for group, name in used.items()
        if not known.is_built_in(group, name)
    ]
    for plugin in record["plugins"]:
        if not (plugin["distribution"] and plugin["version"]):
            yield f"{shown(plugin['target'])} is made by a file, not an installable package"
    if len(record["plugins"]) < len(foreign):
        yield (
            f"{' and '.join(foreign)} is not of rlcondense, and 'plugins' does not say which "
            "distribution it comes from, in which version"
        )


def _settings(record: Record, known: LocalFacts) -> Iterator[str]:
    for group, part in _parts(record):
        try:
            resolved = known.resolved(group, part)
        except BadConfig as error:
            yield unquoted(str(error), 200)
            continue
        if resolved and not part["config"]:
            yield f"{part['id']!r} has settings, and none is told"
        for name in sorted(part["config"].keys() & resolved.keys()):
            stated, meant = part["config"][name], resolved[name]
            if canonical_json(stated) != canonical_json(meant):
                yield (
                    f"setting {name!r} of {part['id']!r} is {shown(stated)}, "
                    f"which runs write as {shown(meant)}"
                )


def _parts(record: Record) -> Iterator[tuple[str, MethodJson | LearnerJson]]:
    """Yield the parts of a cell that have settings, with their catalogue group."""
    cell = record["cell"]
    yield "methods", cell["method"]
    if cell["learner"] is not None:
        yield "learners", cell["learner"]


def _key(record: Record, known: LocalFacts) -> Iterator[str]:
    key = record["key"]
    if absent := [name for name in KEY if name not in key]:
        yield f"key lacks {', '.join(absent)}"


def _measured(record: Record, known: LocalFacts) -> Iterator[str]:
    cell, phases = record["cell"], [f"evaluate_{split}" for split in SPLITS]
    if cell["learner"] is not None:
        phases.append("train")
    if known.is_built_in("methods", cell["method"]["id"]):
        phases.append("condense")
    if absent := [phase for phase in phases if phase not in record["timings"]]:
        yield f"timings lacks {', '.join(absent)}"
    if "peak_bytes" not in record["memory"]:
        yield "memory lacks peak_bytes"


def _summary(record: Record, known: LocalFacts) -> Iterator[str]:
    for split in SPLITS:
        stated: Mapping[str, Any] = record["summary"][split]
        computed: Mapping[str, Any] = summarise(record["returns"][split])
        for name, value in computed.items():
            if not _agree(stated[name], value):
                yield (
                    f"summary.{split}.{name} is {shown(stated[name])}, "
                    f"but the returns give {shown(value)}"
                )


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b))
    if a is None or b is None:
        return a is b
    return isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def _levels(record: Record, known: LocalFacts) -> Iterator[str]:
    cell = record["cell"]
    task = known.task(cell["task"])
    if task is None:
        return
    protocol = protocol_from(cell["evaluation"])
    for split in SPLITS:
        played, declared = record["level_seeds"][split], task.splits[split]
        outside = [level for level in played if level not in declared]
        if outside:
            yield (
                f"level_seeds.{split} holds {outside[0]}, outside the {split} levels "
                f"{declared.start}..{declared.stop - 1} of {cell['task']!r}"
            )
        elif known.levels(cell["task"], split, protocol) not in (None, played):
            yield f"level_seeds.{split} are not those that seed {protocol.seed} gives"


def _returns(record: Record, known: LocalFacts) -> Iterator[str]:
    name = record["cell"]["task"]
    facts = known.facts("tasks", name)
    low, high = facts.get("return_range", (-np.inf, np.inf))
    step = facts.get("return_step", ROUNDING)
    for split in SPLITS:
        returns = np.asarray(record["returns"][split], np.float64)
        lengths = np.asarray(record["lengths"][split], np.int64)
        impossible = returns[(returns < low - ROUNDING) | (returns > high + ROUNDING)]
        between = returns[abs(returns - step * np.round(returns / step)) > ROUNDING]
        if impossible.size:
            yield (
                f"returns.{split} holds {impossible[0]:g}, "
                f"and an episode of {name!r} gives {low} to {high}"
            )
        elif between.size:
            yield (
                f"returns.{split} holds {between[0]:g}, "
                f"and returns of {name!r} are multiples of {step}"
            )
        longest = facts.get("longest_episode", np.inf)
        wrong = lengths[(lengths < 1) | (lengths > longest)]
        if wrong.size:
            yield (
                f"lengths.{split} holds {wrong[0]}, "
                f"and an episode of {name!r} lasts 1 to {longest} steps"
            )


def _report(record: Record, known: LocalFacts) -> Iterator[str]:
    cell, name = record["cell"], record["cell"]["method"]["id"]
    if "report" not in record or cell["learner"] is None:
        if "report" in record:
            yield f"policy {name!r} condensed nothing, and has a report"
        return
    report: Mapping[str, Any] = record["report"]
    if known.is_built_in("methods", name):
        yield from _whole_report(report)
    if record["labels"] not in (report["label_kind"], "hard"):
        yield f"labels are {record['labels']}, but the report's {report['label_kind']}"
    made_elsewhere = name.startswith(CONDENSED)
    if made_elsewhere and "method" not in report:
        return
    expected: dict[str, Any] = {
        "method": name.removeprefix(CONDENSED),
        "seed": cell["condensation_seed"],
    }
    if not made_elsewhere:
        expected |= {
            "config": cell["method"]["config"],
            "budget": cell["budget"],
            "dataset": cell["dataset"],
            "dataset_sha256": record["key"].get("dataset_sha256"),
            "expert_sha256": record["key"].get("expert_sha256"),
        }
        if _needs_no_data(name, record, known):
            expected |= {"dataset": None, "dataset_sha256": None}
    for field, value in expected.items():
        if field not in report:
            yield f"report lacks {field}"
        elif canonical_json(report[field]) != canonical_json(value):
            yield f"report.{field} is {shown(report[field])}, but the record's {shown(value)}"


def _whole_report(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a built-in method's report that are missing or not numbers."""
    if absent := [name for name in REPORT if name not in report]:
        yield f"report lacks {', '.join(absent)}"
    cost = report.get("cost", {})
    for name in COUNTED:
        if type(cost.get(name)) is not int or cost[name] < 0:
            yield f"report.cost.{name} must be a whole number, and is {shown(cost.get(name))}"


def _needs_no_data(name: str, record: Record, known: LocalFacts) -> bool:
    """Return whether a method uses only the task; for a plugin's method the report tells."""
    if known.is_built_in("methods", name):
        return not known.entries["methods"][name].load().takes_data
    return record.get("report", {}).get("dataset") is None


def _budget(record: Record, known: LocalFacts) -> Iterator[str]:
    cell, report = record["cell"], record.get("report")
    if report is None or cell["budget"] is None:
        return
    budget, size = cell["budget"], report["size"]
    most = known.facts("datasets", cell["dataset"]).get("transitions")
    if "size" in budget:
        most = budget["size"]
    elif "bytes" in budget:
        if report.get("bytes", 0) > budget["bytes"]:
            yield f"it stored {report['bytes']:,} bytes, and its budget is {budget_text(budget)}"
        return
    elif most is not None and budget["unit"] == "transitions":
        most = share_of(most, budget["percent"])
    if most is not None and size > most:
        yield f"it kept {size} transitions, and its budget of {budget_text(budget)} is {most}"


def _bytes(record: Record, known: LocalFacts) -> Iterator[str]:
    report, task = record.get("report"), known.task(record["cell"]["task"])
    if report is None or task is None or "bytes" not in report:
        return
    if "bytes" in (record["cell"]["budget"] or {}):  # fewer are stored than the rows have
        return
    space, actions = task.observation_space, task.action_space
    values = prod(space.shape or (1,))
    outputs = int(getattr(actions, "n", 0)) or prod(actions.shape or (1,))
    size = report["size"]
    least = size * values * (1 if space.dtype == np.uint8 else 4)
    # Float32 observations and those that follow, the action, its probabilities, the weight and a
    # dozen scalars; shifted views with their labels; a scaling is as long as two observations.
    views = record["cell"]["method"]["config"].get("label_views", 0)
    most = size * (2 * values * 4 + outputs * 16 + 200 + int(views) * (2 + 4 * outputs))
    most += report.get("initialisation_bytes", 0) + 2 * values * 4
    if not least <= report["bytes"] <= most:
        yield f"{size} transitions take {least:,} to {most:,} bytes, not {report['bytes']:,}"


def _displacement(record: Record, known: LocalFacts) -> Iterator[str]:
    moved = record.get("report", {}).get("displacement")
    if moved is None:
        return
    if moved["mean"] > moved["largest"]:
        yield f"mean displacement {moved['mean']:g} is above the largest, {moved['largest']:g}"
    task = known.task(record["cell"]["task"])
    facts = known.facts("methods", record["cell"]["method"]["id"].removeprefix(CONDENSED))
    clamped = "output_fits_the_task" not in facts.get("expected_failures", {})
    pixels = task is not None and task.observation_space.dtype == np.uint8
    if pixels and clamped and moved["largest"] > 255 + ROUNDING:
        yield f"pixels cannot move by {moved['largest']:g}"


def _findings(record: Record, known: LocalFacts) -> Iterator[str]:
    """Yield the findings that follow from a report's figures and that it omits."""
    report, task = record.get("report", {}), known.task(record["cell"]["task"])
    findings = report.get("findings")
    if findings is None or task is None:
        return
    pixels = task.observation_space.dtype == np.uint8
    moved, loss = report.get("displacement") if pixels else None, report.get("matching_loss")
    reported = {finding["name"] for finding in findings}
    for finding in reported_findings(moved, loss):
        if finding.name not in reported:
            yield f"report.findings lacks {finding.name}: {finding.text}"


def _dataset(record: Record, known: LocalFacts) -> Iterator[str]:
    cell, report = record["cell"], record.get("report", {})
    digests_of: dict[str, list[Any]] = {cell["dataset"]: [record["key"].get("dataset_sha256")]}
    source = report.get("dataset", cell["dataset"]) or ""
    digests_of.setdefault(source, []).append(report.get("dataset_sha256"))
    for name, digests in digests_of.items():
        published = known.facts("datasets", name).get("sha256")
        for digest in digests:
            if published and digest not in (None, published):
                yield (
                    f"dataset {name!r} is published with sha256 {published[:12]}, this was made "
                    f"from {shown(digest)[1:13]}: other data, or other levels"
                )
    if cell["dataset"] and record["key"].get("dataset_sha256") is None:
        yield "key.dataset_sha256 does not say which data it was made from"


def _expert(record: Record, known: LocalFacts) -> Iterator[str]:
    cell = record["cell"]
    named = cell["method"]["config"].get("weights") if cell["method"]["id"] == "expert" else None
    if named is not None:  # by somebody, in place of the task's own
        if str(record["key"].get("expert_sha256"))[:16] != named:
            yield f"key.expert_sha256 is not that of the weights {shown(named)}"
        return
    facts = known.facts("datasets", cell["dataset"])
    # Of data that are not of the catalogue it is the task's newest, when the record was made; of
    # data that were played by an expert of before, one that is no longer shipped.
    ids = (facts.get("expert", ""),) if facts else known.experts_of.get(cell["task"], ())
    shipped = {name: known.experts[name] for name in ids if name in known.experts}
    stated = record["key"].get("expert_sha256")
    if stated is None and cell["method"]["id"] == "expert":
        yield "key.expert_sha256 does not say which expert it is"
    if shipped and stated not in (None, *shipped.values()):
        name, sha256 = [*shipped.items()][-1]
        yield f"the expert {name!r} has sha256 {sha256[:12]}, not {shown(stated)[1:13]}"


def _selection(record: Record, known: LocalFacts) -> Iterator[str]:
    learner = record["cell"]["learner"] or NOBODY
    asked = learner["config"].get("action_selection", record["action_selection"])
    if asked != record["action_selection"]:
        yield f"actions are chosen by {record['action_selection']}, its learner asks for {asked}"


def _copies(record: Record, known: LocalFacts) -> Iterator[str]:
    if (twins := _twins(record, *KINDS)) and _is_sure(record, twins[0]):
        yield SAME_EPISODES.format(*twins)


def _is_sure(record: Record, seed: int) -> bool:
    """Return whether only copying can explain the same episodes as a learner seed.

    Greedy policies may all have learned the same actions, a few episodes may agree by chance, and
    in a game that nearly always ends in the same way all do. Students that start from the weights
    in the data may be one network, and students of a saturating loss may always take the same
    action.
    """
    row = record["cell"]["learner_seeds"].index(seed)
    played = zip(*(record[name]["heldout"][row] for name in KINDS), strict=True)
    learner = record["cell"]["learner"] or NOBODY
    return (
        record["action_selection"] == "sample"
        and len(record["level_seeds"]["heldout"]) >= CHANCE
        and len(set(played)) >= DIFFERENT
        and learner["config"].get("init") != "dataset"
        and learner["config"].get("loss") not in SATURATING
    )


def _twins(record: Record, *names: Literal["returns", "lengths"]) -> tuple[int, int] | None:
    """Return two learner seeds whose rows are the same, or None."""
    first: dict[tuple[float, ...], int] = {}
    for number, seed in enumerate(record["cell"]["learner_seeds"]):
        rows = [record[n][split][number] for n in names for split in SPLITS]
        twin = first.setdefault(tuple(chain.from_iterable(rows)), seed)
        if twin != seed:
            return twin, seed
    return None


def _copies_note(record: Record, known: LocalFacts) -> Iterator[str]:
    if record["status"] != "done" or any(wrong_rows(record)):
        return
    if twins := _twins(record, *KINDS):
        if not _is_sure(record, twins[0]):
            yield SAME_EPISODES.format(*twins)
    elif (twins := _twins(record, "returns")) and len(set(record["returns"]["heldout"][0])) > 1:
        yield "learner seeds {} and {} have the very same returns".format(*twins)


def _episodes_note(record: Record, known: LocalFacts) -> Iterator[str]:
    if record["status"] != "done" or any(wrong_rows(record)):
        return
    episodes = sum(map(len, record["returns"]["heldout"]))
    if episodes < FEW:
        yield f"has {episodes} held-out episodes in all, too few to tell most rows apart"


def _settings_note(record: Record, known: LocalFacts) -> Iterator[str]:
    for group, part in _parts(record):
        try:
            resolved = known.resolved(group, part)
        except BadConfig:  # a finding
            continue
        if absent := sorted(resolved.keys() - part["config"].keys()):
            kind = group.removesuffix("s")
            yield f"made before {kind} {part['id']!r} had the setting {', '.join(absent)}"


def _git_note(record: Record, known: LocalFacts) -> Iterator[str]:
    git = record["environment"]["git"]
    if git is None:
        yield "made by an installed package: no git commit"
    elif git["dirty"]:
        yield "made from a checkout with changed files"


def _dataset_note(record: Record, known: LocalFacts) -> Iterator[str]:
    name = record["cell"]["dataset"]
    if name and name not in known.entries["datasets"]:
        yield f"the catalogue does not know dataset {name!r}: what it holds is not checked"
    elif name and "sha256" not in known.facts("datasets", name):
        yield f"dataset {name!r} has no published sha256: what it holds is not checked"


def _levels_note(record: Record, known: LocalFacts) -> Iterator[str]:
    cell = record["cell"]
    if record["status"] != "done":
        return
    if known.task(cell["task"]) is None:
        yield f"task {cell['task']!r} cannot be made here: levels not checked"
    elif cell["evaluation"]["environments"] > MOST_ENVIRONMENTS:
        yield f"more than {MOST_ENVIRONMENTS} environments: levels not checked"
    if "return_range" not in known.facts("tasks", cell["task"]):
        yield f"what returns {cell['task']!r} can give is not known: returns not checked"


def _seeds_note(record: Record, known: LocalFacts) -> Iterator[str]:
    seeds, protocol = record["cell"]["learner_seeds"], record["cell"]["evaluation"]
    if seeds != list(range(len(seeds))):
        yield "its learner seeds are not the first ones"
    if protocol["seed"] != 0:
        yield f"evaluated with seed {protocol['seed']}, where others have 0"
    episodes = episodes_of(protocol)
    if protocol_from(protocol) != protocol_of(episodes, protocol["seed"]):
        yield f"plays {episodes} episodes in {protocol['environments']} environments, unlike others"


OF_EVERY: Mapping[str, Check] = {
    "name": _name,
    "content": _content,
    "cell": _cell,
    "versions": _versions,
    "plugins": _plugins,
    "settings": _settings,
}
OF_RESULTS: Mapping[str, Check] = {
    "summary": _summary,
    "key": _key,
    "measured": _measured,
    "copies": _copies,
    "levels": _levels,
    "returns": _returns,
    "report": _report,
    "budget": _budget,
    "bytes": _bytes,
    "displacement": _displacement,
    "findings": _findings,
    "dataset": _dataset,
    "expert": _expert,
    "selection": _selection,
}
NOTES: Mapping[str, Check] = {
    "git": _git_note,
    "dataset": _dataset_note,
    "levels": _levels_note,
    "seeds": _seeds_note,
    "settings": _settings_note,
    "copies": _copies_note,
    "episodes": _episodes_note,
}
