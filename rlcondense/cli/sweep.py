"""The command that computes suites: sweep."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlcondense.cli.base import (
    check_machine,
    device_option,
    expect_many_objects,
    include_option,
    main,
    results_option,
    workers_option,
)
from rlcondense.cli.status import print_counts
from rlcondense.console import ConsoleSweep, echo, echo_json, plugins_at_work
from rlcondense.errors import BadConfig
from rlcondense.limits import check_count

MOST_SHOWN = 2000  # most cells for which a sweep prints its tables by default


@main.command()
@include_option
@click.argument("suite")
@results_option
@click.option(
    "--only",
    metavar="STATUS,...",
    help="failed, missing, skipped or not-installed cells. Default: all but the skipped.",
)
@click.option("--shard", metavar="I/N", help="The I-th of N parts, for job arrays.")
@click.option("--task", "tasks", multiple=True, help="Its cells alone. Repeatable.")
@click.option(
    "--method", "methods", multiple=True, help="Its cells alone, or a reference row's. Repeatable."
)
@click.option("--dry-run", is_flag=True, help="Show the cells and what they will take, and stop.")
@click.option("--refresh", is_flag=True, help="Compute existing records again.")
@click.option("--keep-policies", is_flag=True, help="Keep the policies that bc trains.")
@click.option("--max-failures", type=int, metavar="N", help="Begin nothing more after N failures.")
@click.option("--stop-on-error", is_flag=True, help="As --max-failures 1.")
@workers_option
@click.option(
    "--executor",
    default="local",
    show_default=True,
    help="local, or ray (pip install 'rlcondense[ray]').",
)
@click.option("--address", help="Of a Ray cluster; auto for this machine's. Default: start one.")
@click.option("--gpus", type=float, help="Of a GPU for each of Ray's tasks. Default: one.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print where every cell stands as JSON.")
def sweep(
    suite: str,
    results: Path,
    only: str | None,
    shard: str | None,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    dry_run: bool,
    stop_on_error: bool,
    max_failures: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compute every cell of SUITE that is not there yet: a shipped suite, or a .toml file."""
    from rlcondense.running import sweep as sweeping
    from rlcondense.running.executors.choice import check_executor
    from rlcondense.running.planned import part_of
    from rlcondense.running.suite import load_suite

    expect_many_objects()
    the_suite = load_suite(suite)
    of_array = _shard(shard)
    wanted = None if only is None else tuple(status.strip() for status in only.split(","))
    if stop_on_error and max_failures is not None:
        raise BadConfig("--stop-on-error is --max-failures 1: give one of them")
    most_failures = 1 if stop_on_error else max_failures
    if results.exists() and not results.is_dir():
        raise BadConfig(f"--results {results} is no folder")
    if most_failures is not None:
        check_count("max failures", most_failures)
    check_machine(options["workers"], options["device"])
    check_executor(options["executor"], address=options["address"], gpus=options["gpus"])
    if dry_run:
        _dry_run(the_suite, results, wanted, part_of(of_array, tasks, methods), as_json, **options)
        return
    watcher = ConsoleSweep()
    started = time.monotonic()
    try:
        with plugins_at_work():
            result = sweeping.sweep(
                the_suite,
                results=results,
                only=wanted,
                shard=of_array,
                tasks=tasks,
                methods=methods,
                max_failures=most_failures,
                watcher=watcher,
                **options,
            )
    finally:
        watcher.close()
    _print_sweep(suite, result, as_json, time.monotonic() - started)
    if not result.ok:
        sys.exit(1)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        raise BadConfig(f"--shard takes I/N, such as 1/4, not {text!r}") from None
    return number, count


def _dry_run(
    suite: Any,
    results: Path,
    only: Sequence[str] | None,
    part: Any,
    as_json: bool,
    *,
    refresh: bool,
    device: str,
    workers: int | None,
    executor: str,
    **_: Any,
) -> None:
    from rlcondense.records.store import Store
    from rlcondense.running import states as of_suite

    store = Store(results, writable=False)
    with plugins_at_work():
        states = of_suite.dry_run(suite, store, only, part, refresh)
    if as_json:
        echo_json([state.to_json() for state in states])
        return
    for state in states:
        to_skip = state.planned.skip and state.status == "missing"
        expected = of_suite.TO_SKIP if to_skip else ""
        why = f" ({state.reason})" if state.reason else ""
        echo(
            f"{state.planned.id or '-':<16}  {expected or state.status:<13}  "
            f"{state.planned.text}{why}"
        )
    print_counts(suite.name, states, store, device, workers, refresh, executor)


def _print_sweep(suite: str, result: Any, as_json: bool, seconds: float) -> None:
    from rlcondense.comparison.tables import suite_table
    from rlcondense.running.estimate import in_words

    if as_json:
        echo_json([state.to_json() for state in result.states])
        return
    if len(result.states) > MOST_SHOWN:
        command = shlex.join(
            ["rlcondense", "status", suite, "--results", str(result.store.root), "--table"]
        )
        echo(f"{len(result.states)} cells: '{command}' shows the table")
    else:
        echo(suite_table(result.rows()))
    counts = ", ".join(f"{n} {status}" for status, n in result.counts().items())
    early = ", ended early because of failures" if result.stopped else ""
    took = f"{result.computed} computed in {in_words(seconds)}{early}"
    echo(f"\n{result.suite.name}: {counts}; {took}. Records: {result.store.root / 'records'}")
