"""Commands that compute cells at once: run, condense, evaluate, transfer, multitask."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlcondense.cli.base import (
    FolderToWrite,
    budget_options,
    bytes_options,
    device_option,
    include_option,
    judging_options,
    main,
    measuring_options,
    own_references_option,
    seeds_option,
    set_option,
    split_settings,
    what_options,
    workers_option,
)
from rlcondense.console import ConsoleProgress, echo, echo_json
from rlcondense.errors import BadConfig


@main.command()
@include_option
@click.option(
    "--method",
    multiple=True,
    default=("gradmatch",),
    show_default=True,
    metavar="ID[:KEY=VALUE,...]",
    help="A method, with settings. Repeatable: one table.",
)
@what_options
@budget_options
@bytes_options
@click.option(
    "--condensations",
    type=int,
    help="How many condensation seeds. Default: three if two more take five minutes at most.",
)
@seeds_option
@judging_options
@click.option("--keep-policies", is_flag=True, help="Keep the policies that bc trains.")
@click.option(
    "--references/--no-references", default=True, help="Compute the reference rows too. Default."
)
@own_references_option
@workers_option
@set_option
@device_option
def run(pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Condense, train and evaluate methods, beside their reference rows."""
    from rlcondense.running.runner import run as run_method

    settings, learner_settings = split_settings(pairs)
    started = time.monotonic()
    with ConsoleProgress() as progress:
        result = run_method(
            **options, settings=settings, learner_settings=learner_settings, progress=progress
        )
    _print_result(result, as_json, time.monotonic() - started)


def _print_result(result: Any, as_json: bool, seconds: float) -> None:
    from rlcondense.records.cell import Cell

    for warning in result.warnings:
        echo(f"Warning: {warning}", err=True)
    if as_json:
        for note in result.notes:
            echo(note, err=True)
        echo_json(result.to_json(), sort_keys=True)
        _exit_if_failed(result)
        return
    echo(result.table)
    if not result.references and all(r["status"] == "skipped" for r in result.records):
        return
    total = len(result.records) + len(result.references)
    echo(f"\n{total} rows in {seconds:.0f} s, {result.reused} of them read back. Records:")
    for record in result.records:
        echo(f"  {result.store.record_path(record['cell_id'])}")
    cells = [Cell.from_json(record["cell"]) for record in result.records]
    sets = [result.store.condensed_path(cell.condensation_id) for cell in cells]
    if folders := [path for path in sets if path.is_dir()]:
        echo("\n  ".join(["Condensed data:", *map(str, folders)]))
    _exit_if_failed(result)


def _exit_if_failed(result: Any) -> None:
    if any(record["status"] == "failed" for record in (*result.records, *result.references)):
        sys.exit(1)


@main.command()
@include_option
@click.option("--method", default="gradmatch", show_default=True, help="Method id.")
@what_options
@budget_options
@bytes_options
@click.option("--out", required=True, type=FolderToWrite(), help="Folder to write to.")
@set_option
@device_option
def condense(out: Path, pairs: Sequence[str], **options: Any) -> None:
    """Make a condensed dataset and stop there."""
    from rlcondense.running.condensing import condense as condense_data

    settings, learner_settings = split_settings(pairs)
    if learner_settings:
        raise BadConfig("condense trains no learner: --set takes the method's settings only")
    with ConsoleProgress() as progress:
        data = condense_data(**options, out=out, settings=settings, progress=progress)
    assert data.report is not None
    echo(
        f"{len(data)} transitions, {data.report.bytes:,} bytes, "
        f"{data.report.cost.wall_seconds:.1f} s: {out}"
    )
    for finding in data.report.findings or ():
        echo(f"! {finding}")


@main.command()
@include_option
@click.argument("what")
@what_options
@click.option(
    "--seeds",
    type=int,
    help="How many learner seeds. Default: 3, or those of the folder's policies.",
)
@judging_options
@own_references_option
@workers_option
@set_option
@device_option
def evaluate(what: str, pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Evaluate WHAT: a folder with a condensed dataset or policies, or a reference policy, such
    as random-policy or expert."""
    from rlcondense.running.evaluating import evaluate_artifact

    settings, learner_settings = split_settings(pairs)
    if settings:
        raise BadConfig("evaluate runs no method: use --set learner.KEY=VALUE")
    started = time.monotonic()
    with ConsoleProgress() as progress:
        result = evaluate_artifact(
            what, **options, learner_settings=learner_settings, progress=progress
        )
    _print_result(result, as_json, time.monotonic() - started)


@main.command()
@include_option
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="Method id, or id:key=value,key=value. Repeatable.",
)
@click.option(
    "--learner", "learners", multiple=True, required=True, metavar="ID[:KEY=VALUE,...]",
    help="A learner, with settings. Repeatable.",
)  # fmt: skip
@what_options
@budget_options
@click.option("--condensations", default=1, show_default=True, help="How many condensation seeds.")
@seeds_option
@measuring_options
@own_references_option
@workers_option
@device_option
def transfer(as_json: bool, **options: Any) -> None:
    """Train several learners on what each METHOD keeps, or on condensed datasets in FOLDERS."""
    from rlcondense.running.transfer import transfer as run_transfer

    started = time.monotonic()
    with ConsoleProgress() as progress:
        result = run_transfer(**options, progress=progress)
    for warning in result.warnings:
        echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(result.to_json(), sort_keys=True)
    else:
        echo(result.table)
        seconds = time.monotonic() - started
        echo(f"\n{len(result.records)} cells in {seconds:.0f} s, {result.reused} read back")
    if any(record["status"] == "failed" for record in result.records):
        sys.exit(1)


@main.command()
@include_option
@click.option("--task", "tasks", multiple=True, required=True, help="Task id or alias. Repeatable.")
@click.option("--method", default="hades-r", show_default=True, help="Method id.")
@click.option("--size", type=int, help="Transitions for each task. Default: the method's own.")
@click.option("--seed", default=0, show_default=True, help="Condensation seed.")
@seeds_option
@measuring_options
@set_option
@device_option
def multitask(pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Train one policy on the sets of several TASKs together, and on each alone."""
    from rlcondense.running.multitask import multitask as run_multitask

    settings, learner_settings = split_settings(pairs)
    with ConsoleProgress() as progress:
        result = run_multitask(
            **options, settings=settings, learner_settings=learner_settings, progress=progress
        )
    for warning in result.warnings:
        echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(result.to_json())
    else:
        echo(str(result))
