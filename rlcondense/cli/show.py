"""Commands that show what is there: list and show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlcondense.cli.base import include_option, main
from rlcondense.console import echo, echo_json, plugins_at_work
from rlcondense.errors import BadConfig, MissingExtra
from rlcondense.findings import finding_name
from rlcondense.text import one_line, shown

if TYPE_CHECKING:
    from rlcondense.catalogue import Entry


@main.command("list")
@include_option
@click.argument(
    "group",
    required=False,
    type=click.Choice(["tasks", "datasets", "methods", "learners", "suites"]),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(group: str | None, as_json: bool) -> None:
    """List tasks, datasets, methods, learners and suites. Imports none of them."""
    from rlcondense.catalogue import GROUPS, collisions, entries
    from rlcondense.running.suite import load_suite, shipped_suites

    groups = [name for name in GROUPS if group in (None, name)]
    groups_shown = {name: list(entries(name).values()) for name in groups}
    suites = [load_suite(name) for name in shipped_suites()] if group in (None, "suites") else []
    if as_json:
        plain: dict[str, Any] = {
            name: [{**entry.to_json(), "rivals": list(entry.rivals)} for entry in rows]
            for name, rows in groups_shown.items()
        }
        if hidden := [entry.to_json() for name in groups for entry in collisions(name)]:
            plain["hidden"] = hidden
        if suites:
            plain["suites"] = [{"id": s.name, "summary": s.summary} for s in suites]
        echo_json(plain, sort_keys=True)
        return
    for name, rows in groups_shown.items():
        echo(f"{name}:")
        width = max((len(entry.id) for entry in rows), default=0)
        for entry in rows:
            alias = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
            echo(f"  {entry.id:<{width}}  {entry.summary}{alias}")
            if entry.rivals:
                echo(f"    ! offered by {' and '.join(entry.rivals)}: cannot be used")
        for entry in collisions(name):
            echo(f"    ! {entry.id} of {entry.origin} is hidden by the built-in one")
        for extra in sorted({entry.facts["extra"] for entry in rows if "extra" in entry.facts}):
            if find_spec(extra) is None:
                waiting = [entry.id for entry in rows if entry.facts.get("extra") == extra]
                echo(f"  ! {MissingExtra(extra, extra)}: needed by {', '.join(waiting)}")
    if suites:
        echo("suites:")
    for suite in suites:
        echo(f"  {suite.name:<{max(len(s.name) for s in suites)}}  {suite.summary}")


@main.command()
@include_option
@click.argument("name")
@click.option(
    "--settings", "with_settings", is_flag=True, help="With its settings, which takes to load it."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw a folder's frames to a file.")
def show(name: str, as_json: bool, with_settings: bool, png: Path | None) -> None:
    """Show a catalogue entry, a suite, or a condensed dataset in a folder: its report and, of
    vectors, its states and actions."""
    from rlcondense.running.suite import shipped_suites, suites_folder

    of_folder = _folder_facts(Path(name))
    if with_settings and (of_folder is not None or name in shipped_suites()):
        raise BadConfig(f"--settings is of methods and learners: {shown(name)} is none")
    if png is not None:
        echo(_drawn(Path(name), png), err=as_json)
    if name in shipped_suites() and not as_json:
        echo((suites_folder() / f"{name}.toml").read_text(encoding="utf-8").rstrip())
        return
    facts = of_folder or _entry_facts(name, with_settings)
    if as_json:
        echo_json(facts, sort_keys=True)
        return
    findings, _ = facts.pop("findings", None) or (), facts.pop("curve", None)
    settings = facts.pop("settings", None) if isinstance(facts.get("settings"), dict) else None
    for key, value in facts.items():
        if value not in ("", [], {}, None):
            text = value if isinstance(value, str) else json.dumps(value)
            echo(f"{one_line(key):<16} {one_line(text)}")
    if settings:
        from rlcondense.reporting.commands import setting_text

        for key, value in settings.items():
            echo(one_line(f"--set {key}={setting_text(value)}"))
    for finding in findings:
        echo(one_line(f"! {finding_name(finding['name'])}: {finding['text']}"))
    if table := _folder_table(Path(name)):
        echo(f"\n{table}")


def _drawn(folder: Path, png: Path) -> str:
    """Draw the frames of a condensed dataset in a folder, and describe them."""
    from rlcondense.datasets.condensed import load_condensed
    from rlcondense.reporting.pictures import draw_enlarged, legend
    from rlcondense.reporting.states import action_name, are_discrete

    if not folder.is_dir():
        raise BadConfig(f"--png draws the folder of a condensed set: {shown(str(folder))} is none")
    data = load_condensed(folder)
    facts = _task_facts(data.report.task if data.report else None)
    rows = draw_enlarged(data, png)
    lines = {"frames": str(png), "colours": legend(facts.get("observation_names", ()))}
    if are_discrete(data.actions) and facts.get("action_names"):
        lines["labels"] = ", ".join(action_name(facts, int(data.actions[row])) for row in rows)
    return "\n".join(f"{name:<16} {value}" for name, value in lines.items() if value)


def _task_facts(task: str | None) -> Mapping[str, Any]:
    """Return the catalogue's facts on a task; none for an unknown one."""
    from rlcondense.catalogue import find
    from rlcondense.errors import UnknownName

    try:
        return find("tasks", task or "").facts
    except UnknownName:
        return {}


def _folder_table(folder: Path) -> str | None:
    """Return the states and actions of a condensed dataset, if they are few and not frames."""
    from rlcondense.datasets.condensed import load_condensed
    from rlcondense.datasets.exported import is_condensed
    from rlcondense.datasets.report import REPORT
    from rlcondense.reporting.states import state_table

    if not (is_condensed(folder) and (folder / REPORT).is_file()):
        return None
    data = load_condensed(folder)
    return state_table(data, _task_facts(data.report.task if data.report else None))


def _folder_facts(folder: Path) -> dict[str, Any] | None:
    """Return a folder's report, with the detectors' findings added if it has none."""
    from rlcondense.datasets.condensed import load_condensed
    from rlcondense.datasets.detectors import detect
    from rlcondense.datasets.exported import is_condensed
    from rlcondense.datasets.report import REPORT, findings_from
    from rlcondense.errors import CorruptArtifact
    from rlcondense.files import read_json

    for file in (REPORT, "policies.json"):
        if (folder / file).is_file():
            facts = read_json(folder / file)
            if not isinstance(facts, dict):
                raise CorruptArtifact(f"{folder / file} is no object")
            told = facts.pop("findings", None)
            if is_condensed(folder):
                data = load_condensed(folder)
                try:  # a report without a method is not looked at when its set is read
                    found = detect(data, None) if told is None else findings_from(told)
                except (TypeError, ValueError) as error:
                    raise CorruptArtifact(f"{folder / file}: {error}") from error
                facts["findings"] = [one.to_json() for one in found]
            return facts
    return None


def _settings_of(entry: Entry) -> dict[str, Any]:
    """Return the settings of a method or a learner with their defaults."""
    from rlcondense.make import make_learner, make_method

    makers: dict[str, Callable[[str], Any]] = {"methods": make_method, "learners": make_learner}
    if (make := makers.get(entry.group)) is None:
        raise BadConfig(f"--settings is of methods and learners: {entry.id} is a {entry.kind}")
    with plugins_at_work():
        settings = dataclasses.asdict(make(entry.id).config)
    prefix = "learner." if entry.group == "learners" else ""
    return {"settings": {f"{prefix}{key}": value for key, value in settings.items()}}


def _entry_facts(name: str, with_settings: bool) -> dict[str, Any]:
    from rlcondense.catalogue import GROUPS, entries, find
    from rlcondense.errors import UnknownName, UnknownVersion
    from rlcondense.running.suite import load_suite, shipped_suites

    for group in GROUPS:
        try:
            entry = find(group, name)
            return {**entry.to_json(), **(_settings_of(entry) if with_settings else {})}
        except UnknownVersion:
            raise
        except UnknownName:
            continue
    if name in shipped_suites():
        return dataclasses.asdict(load_suite(name))
    known = [e for group in GROUPS for x in entries(group).values() for e in (x.id, *x.aliases)]
    raise UnknownName("name", name, [*known, *shipped_suites()])
