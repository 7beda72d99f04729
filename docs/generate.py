"""Fill the tables of the reference pages from the catalogue and the command line, and README's.

A page asks for a table by `<!-- generated NAME -->` and `<!-- /generated -->`; the rest of it is
written by hand. `make docs` runs this file, and a test compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from gymnasium.spaces import Discrete

import rlcondense
from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.cli import main
from rlcondense.experts.shipped import shipped_cards
from rlcondense.files import write_bytes
from rlcondense.make import facts_of, make_learner, make_method, make_task
from rlcondense.reporting.conclusions import read_conclusions
from rlcondense.running.plan import plan_suite
from rlcondense.running.suite import load_suite, shipped_suites

PAGES = Path(__file__).parent / "reference"
README = Path(__file__).parents[1] / "README.md"
FIRST = 3  # findings that the README has
PLACE = re.compile(r"(<!-- generated ([\w./-]+) -->)\n.*?(<!-- /generated -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page with its tables as they are now."""
    return PLACE.sub(lambda place: f"{place[1]}\n{table_named(place[2])}\n{place[3]}", page)


def table_named(name: str) -> str:
    """The table that a page asks for, such as `methods` or `tasks/procgen`."""
    kind, _, part = name.partition("/")
    return "\n".join(TABLES[kind](part) if part else TABLES[kind]())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _code(names: Iterable[Any]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _entries(group: str) -> list[Entry]:
    return [entry for entry in catalogue.entries(group).values() if entry.is_built_in]


def _returns(values: dict[str, Any] | None) -> str:
    """Mean returns on both splits, with standard errors."""
    if not values:
        return ""
    return " / ".join(
        f"{values[split]['mean']:.2f} ± {values[split]['standard_error']:.2f}"
        for split in ("seen", "heldout")
    )


def tasks(family: str) -> Iterator[str]:
    """The tasks of a family, with the returns of the random policy and of the newest expert."""
    experts = {card["task"]: card for card in shipped_cards()}
    rows = []
    for entry in _entries("tasks"):
        if not entry.id.startswith(f"{family}/"):
            continue
        names = _code(entry.aliases) or f"`{entry.id}`"
        expert = experts.get(entry.id, {}).get("returns")
        returns = [_returns(entry.facts.get("random_return")), _returns(expert)]
        rows.append([names, *_spaces(entry), *returns])
    header = ("task", "actions", "observation", "score from, to", "random policy", "expert")
    yield from _table(header, rows)


def _spaces(entry: Entry) -> list[str]:
    """Actions, observation and score range of a task; nothing where its file is the user's."""
    if "file" in entry.config:
        return ["", "", ""]
    task = make_task(entry.id)
    space = task.action_space
    actions = (
        str(space.n) if isinstance(space, Discrete) else f"{(space.shape or (1,))[0]} continuous"
    )
    shape = " x ".join(map(str, task.observation_space.shape or ()))
    return [actions, shape, ", ".join(f"{bound:g}" for bound in task.score_range or ())]


def _budget(facts: dict[str, Any]) -> str:
    budget = facts.get("budget", {})
    if "percent" in budget:
        return f"{budget['percent']:g}% of {budget['unit']}"
    return f"{budget['size']} rows" if "size" in budget else ""


def _settings(config: Any) -> Iterator[str]:
    """The settings of a config: defaults, and what the docstrings of its classes say of each."""
    meanings = _meanings(type(config))
    rows = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = (
            "none" if value is None else str(value).lower() if isinstance(value, bool) else value
        )
        rows.append([f"`{field.name}`", f"`{default}`", meanings.get(field.name, "")])
    if any(meaning for *_, meaning in rows):
        yield from _table(("setting", "default", "meaning"), rows)
    else:  # d3rlpy's own, which its documentation describes
        yield _code(f"{name}={default}".replace("`", "") for name, default, _ in rows) or "none"


def _meanings(config: type[Any]) -> dict[str, str]:
    """The attributes that the docstrings of a class and of those it derives from describe."""
    meanings: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE):
            meanings[name] = " ".join(text.split())
    return meanings


def _settings_by_id(group: str, make: Callable[[str], Any]) -> Iterator[str]:
    """A heading and a table for each entry; entries with one table share it."""
    alike: dict[str, list[str]] = {}
    for entry in _entries(group):
        table = "\n".join(_settings(make(entry.id).config))
        alike.setdefault(table, []).append(entry.id)
    for table, ids in alike.items():
        yield from (f"### {', '.join(ids)}", "", table, "")


def methods() -> Iterator[str]:
    """All methods: labels, needs, default budget and paper."""
    rows = []
    for entry in _entries("methods"):
        method, facts = make_method(entry.id), facts_of(entry)
        data = "none" if not method.takes_data else ", ".join(sorted(method.needs)) or "any"
        rows.append(
            [
                f"`{entry.id}`", entry.summary, ", ".join(method.label_kinds), data,
                _budget(facts), _code(facts.get("presets", {})), entry.paper,
            ]
        )  # fmt: skip
    header = ("id", "keeps or makes", "labels", "data", "budget", "presets", "paper")
    yield from _table(header, rows)


def method_settings() -> Iterator[str]:
    """The settings of all methods."""
    yield from _settings_by_id("methods", make_method)


def learners() -> Iterator[str]:
    """All learners: actions, needs and paper."""
    rows = []
    for entry in _entries("learners"):
        learner = make_learner(entry.id)
        more = sorted(learner.requires - {"observations", "actions"})
        kinds, labels = ", ".join(learner.action_kinds), ", ".join(learner.label_kinds)
        rows.append(
            [
                f"`{entry.id}`", entry.summary, kinds, labels, ", ".join(more),
                learner.action_selection, entry.paper,
            ]
        )  # fmt: skip
    header = ("id", "what it is", "actions", "labels", "also needs", "acts by", "paper")
    yield from _table(header, rows)


def learner_settings() -> Iterator[str]:
    """The settings of all learners."""
    yield from _settings_by_id("learners", make_learner)


def datasets(family: str) -> Iterator[str]:
    """The datasets of a family: episodes, transitions and returns."""
    rows = []
    for entry in _entries("datasets"):
        facts = entry.facts
        if entry.id.startswith(f"{family}/"):
            returns = facts.get("returns", {})
            quartiles = ", ".join(f"{value:.2f}" for value in returns.get("quartiles", ()))
            mean = f"{returns['mean']:.2f}" if returns else ""
            size = f"{facts['transitions']:,}" if "transitions" in facts else ""
            rows.append([f"`{entry.id}`", str(facts["episodes"]), size, mean, quartiles])
    yield from _table(("id", "episodes", "transitions", "mean return", "quartiles"), rows)


def suites() -> Iterator[str]:
    """All suites with their numbers of cells."""
    rows = []
    for name in shipped_suites():
        suite = load_suite(name)
        cells = len(plan_suite(suite))
        rows.append([f"`{name}`", suite.summary, str(cells)])
    yield from _table(("suite", "what it compares", "cells"), rows)


def commands() -> Iterator[str]:
    """Every command with its arguments and options."""
    yield from _command(main, "rlcondense")


def _command(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, sub in sorted(command.commands.items()):
            yield from _command(sub, f"{path} {name}")
        return
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    yield from (f"## {path}", "", f"    {' '.join([path, *map(_word, arguments)])}", "")
    yield from ((command.help or "").replace("\n    ", "\n"), "")
    rows = [_option(p) for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if rows:
        yield from _table(("option", "value", "default", "meaning"), rows)
        yield ""


def _word(argument: click.Argument) -> str:
    """An argument as a usage line has it: in brackets where it may be left out."""
    word = (argument.metavar or argument.name or "").upper() + "..." * (argument.nargs < 0)
    return word if argument.required or word.startswith("[") else f"[{word}]"


def _option(option: click.Option) -> list[str]:
    kind = option.type
    choices = kind.choices if isinstance(kind, click.Choice) else ()
    value = option.metavar or " or ".join(map(str, choices)) or kind.name.upper()
    values = option.default if isinstance(option.default, tuple) else [option.default]
    default = _code(values) if option.show_default else ""
    meaning = option.help or ""
    if option.multiple and "Repeatable" not in meaning:
        meaning = f"{meaning} Repeatable."
    return [
        _code([*option.opts, *option.secondary_opts]), "" if option.is_flag else value,
        "required" if option.required else default, meaning,
    ]  # fmt: skip


def names() -> Iterator[str]:
    """Every name of the package with its arguments and what it does."""
    rows = []
    for name in rlcondense.__all__:
        function = getattr(rlcondense, name)
        arguments = inspect.signature(function).parameters.values()
        words = [f"{'*' * (p.kind // 2) * (p.kind in (2, 4))}{p.name}" for p in arguments]
        said = (inspect.getdoc(function) or "").partition("\n\n")[0]
        rows.append([f"`{name}`", ", ".join(words), " ".join(said.split())])
    yield from _table(("name", "arguments", "what it does"), rows)


def findings() -> Iterator[str]:
    """The first findings of the leaderboard, and where each comes from."""
    for one in read_conclusions(README.parent / "leaderboard")[:FIRST]:
        yield f"- {one.text} [Details]({one.page})"


TABLES: dict[str, Callable[..., Iterator[str]]] = {
    "tasks": tasks,
    "methods": methods,
    "method-settings": method_settings,
    "learners": learners,
    "learner-settings": learner_settings,
    "datasets": datasets,
    "suites": suites,
    "commands": commands,
    "names": names,
    "findings": findings,
}

if __name__ == "__main__":
    for path in (README, *sorted(PAGES.glob("*.md"))):
        write_bytes(path, filled(path.read_text()).encode())
