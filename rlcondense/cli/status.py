"""The command that shows how far suites are: status."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlcondense.cli.base import (
    USUAL_RESULTS,
    check_machine,
    device_option,
    expect_many_objects,
    include_option,
    main,
    results_option,
    workers_option,
)
from rlcondense.console import echo, echo_json
from rlcondense.errors import BadConfig


@main.command()
@include_option
@click.argument("suite")
@results_option
@workers_option
@device_option
@click.option("--costs", is_flag=True, help="Show what each method cost.")
@click.option("--table", is_flag=True, help="Show the table of what is done.")
@click.option("--rates", is_flag=True, help="Show the rates that estimates go by.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(
    suite: str,
    results: Path,
    workers: int | None,
    device: str,
    costs: bool,
    table: bool,
    rates: bool,
    as_json: bool,
) -> None:
    """Show how far the sweeps of SUITE are.

    --results may name a leaderboard. Where no sweep of SUITE has been begun in ./results,
    what ./leaderboard has of it is shown.
    """
    from rlcondense.comparison.tables import suite_table
    from rlcondense.records.reading import INDEX, LEADERBOARD
    from rlcondense.records.store import PublishedStore, Store
    from rlcondense.reporting.ledger import ledger, ledger_table
    from rlcondense.running import states as of_suite
    from rlcondense.running.suite import load_suite

    if as_json and (table or rates):
        raise BadConfig("--json has neither the table nor the rates: give one of them")
    check_machine(workers, device)
    expect_many_objects()
    the_suite = load_suite(suite)
    store = Store(results, writable=False)
    begun = of_suite.manifest_path(store, the_suite).exists()
    published = LEADERBOARD if results == USUAL_RESULTS else results
    if not begun and (published / INDEX).is_file():
        if published != results:
            echo(
                f"no sweep of {the_suite.name!r} has been begun in {results}; "
                f"this is what {published} has of it",
                err=True,
            )
        store, changed = PublishedStore(published), False
        states = of_suite.dry_run(the_suite, store)
    else:
        plan, changed = of_suite.read_manifest(store, the_suite)
        states = of_suite.states_of(plan, store)
    if changed:
        echo(
            "the suite has changed since its last sweep, which is what is shown; "
            "'rlcondense sweep --dry-run' shows what it says now",
            err=True,
        )
    finished = [state.facts for state in states if state.facts is not None]
    if as_json:
        out = {
            "suite": the_suite.name,
            "records": str(store.root),
            "counts": of_suite.counts_of(states),
            "cells": [state.to_json() for state in states],
            "costs": [cost.to_json() for cost in ledger(finished)],
        }
        echo_json(out)
        return
    _print_undone(states)
    if table:
        result = of_suite.SweepResult(the_suite, states, 0, 0, store)
        echo(suite_table(result.rows()) + "\n")
    if costs:
        echo(ledger_table(ledger(finished)))
    if rates:
        from rlcondense.running.estimate import Rates
        from rlcondense.runtime.provenance import resolve_device  # with torch

        for key, seconds in Rates(finished, resolve_device(device)).table().items():
            echo(f'"{key}" = {seconds:.3g}')
    print_counts(the_suite.name, states, store, device, workers)


def _print_undone(states: Sequence[Any]) -> None:
    """Print a line on each cell that is running, has failed, was skipped or cannot be computed."""
    for state in states:
        if state.status == "done" or (state.status == "missing" and not state.unread):
            continue
        since = ""
        if state.since is not None:
            since = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(state.since))}"
        echo(f"{state.status:<13}  {state.planned.text} ({state.reason}{since})")


def print_counts(
    name: str,
    states: Sequence[Any],
    store: Any,
    device: str,
    workers: int | None,
    refresh: bool = False,
    executor: str = "local",
) -> None:
    """Print the number of a suite's cells by status, and the time that the remaining ones take."""
    from rlcondense.running import states as of_suite

    counts = ", ".join(f"{n} {status}" for status, n in of_suite.counts_of(states).items())
    echo(f"{name}: {counts or 'no such cells'}")
    if not of_suite.cells_left(states):
        return

    from rlcondense.running.estimate import share
    from rlcondense.running.executors.base import Setting
    from rlcondense.running.executors.local import LocalExecutor

    if executor == "local":
        local = LocalExecutor(Setting(store, device, workers))
        device, size = local.device, local.size()
    else:  # the cluster is not asked
        device, size = "cpu" if device == "auto" else device, workers or 1
    left = of_suite.time_left(states, store, device, refresh)
    noun = "worker" if size == 1 else "workers"
    cells = "1 cell" if left.cells == 1 else f"{left.cells} cells"
    text = f"{cells} left, {share(left, size)} with {size} {noun} on {device}"
    if left.borrowed:
        text += (
            f"; for {left.borrowed} of them by rates of two Intel Xeon cores, "
            "until their like is timed here"
        )
    if left.unknown:
        text += f"; the like of {left.unknown} of them was never timed"
    echo(text)
