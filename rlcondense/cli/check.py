"""Commands for authors and readers of results: check, plugins, compare, curves and new."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from rlcondense.cli.base import FolderToWrite, include_option, main, split_once
from rlcondense.console import ConsoleProgress, echo, echo_json


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the curves to a file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def curves(folders: Sequence[Path], svg: Path | None, as_json: bool) -> None:
    """Compare runs of online methods and of 'expert evolve' at equal environment steps.

    FOLDERS are what 'condense' or 'run' made, or 'expert evolve'; runs of one method and size are
    replicates.
    """
    from rlcondense.files import write_bytes
    from rlcondense.reporting.curves import compare_curves

    comparison = compare_curves(folders)
    if svg is not None:
        write_bytes(svg, comparison.svg().encode())
        echo(f"curves: {svg}", err=True)
    if as_json:
        echo_json(comparison.to_json())
    else:
        echo(str(comparison))


@main.command()
@include_option
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--expect-failure",
    "expected",
    multiple=True,
    metavar="CHECK=REASON",
    help="A check that is known to fail, and why. Repeatable.",
)
@click.option(
    "--group",
    type=click.Choice(["methods", "learners", "tasks", "datasets"]),
    help="Of NAME, where several have one of that name.",
)
def check(name: str, as_json: bool, expected: Sequence[str], group: str | None) -> None:
    """Check a method, learner, task or dataset against the requirements of the suite."""
    from rlcondense.catalogue import entries
    from rlcondense.checks import check as run_checks
    from rlcondense.errors import BadConfig

    groups = [g for g in ("methods", "learners", "tasks", "datasets") if name in entries(g)]
    if group is None and len(groups) > 1:
        raise BadConfig(f"{name!r} is in {' and '.join(groups)}: --group says which is meant")
    known = split_once(expected, "--expect-failure", "CHECK=REASON")
    with ConsoleProgress() as progress:
        results = run_checks(name, group=group, expected_failures=known, progress=progress)
    if as_json:
        echo_json([result.to_json() for result in results], sort_keys=True)
    else:
        marks = {"passed": "ok", "failed": "FAILED", "expected": "expected", "skipped": "skipped"}
        for result in results:
            text = result.name.replace("_", " ")
            message = f": {result.message}" if result.message else ""
            echo(f"{marks[result.status]:<8} {text}{message}")
        counts = [f"{sum(r.status == s for r in results)} {s}" for s in marks]
        seconds = sum(result.seconds for result in results)
        echo(f"{name}: {', '.join(counts)} in {seconds:.0f} s")
    if any(result.status == "failed" for result in results):
        sys.exit(1)


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Compare two records, A.json and B.json, paired by seed and by level."""
    from rlcondense.reporting.compare import compare as compare_rows

    comparison = compare_rows(a, b)
    if as_json:
        echo_json(comparison.to_json())
    else:
        echo(str(comparison))


@main.group()
def new() -> None:
    """Start a package of your own."""


@new.command("method")
@click.argument("name")
@click.option("--out", type=FolderToWrite(), help="Folder. Default: ./NAME.")
def new_method(name: str, out: Path | None) -> None:
    """Write a small package with a method that installs, passes its test and runs."""
    from rlcondense.template import write_method_package

    folder = write_method_package(name, out or Path(name))
    echo(
        f"{folder} is a package with a method of yours. Next:\n\n"
        f"    pip install -e {shlex.quote(str(folder))}\n"
        f"    rlcondense check {name}\n"
        f"    rlcondense run --method {name} --task cartpole --size 15"
    )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """Load every installed plugin, each in a process of its own, and say how it fares."""
    from rlcondense.catalogue import plugins as offered
    from rlcondense.checks.plugins import plugin_states

    states = plugin_states(offered())
    if as_json:
        echo_json([state.to_json() for state in states], sort_keys=True)
    elif not states:
        echo("no plugins are installed")
    for state in () if as_json else states:
        echo(
            f"{state.kind:<8} {state.id:<24} {state.origin:<24} {state.status:<7} "
            f"{state.seconds:5.1f} s  {state.reason}".rstrip()
        )
