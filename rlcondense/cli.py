"""The command line; heavy imports happen inside the commands, so that `list` is quick."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlcondense import __version__
from rlcondense.console import ConsoleProgress, ConsoleSweep, echo, echo_json, plugins_at_work
from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError
from rlcondense.process import tune
from rlcondense.terminal import write_what_can_be
from rlcondense.text import one_line

if TYPE_CHECKING:
    from rlcondense.catalogue import Entry

F = TypeVar("F", bound=Callable[..., Any])

MOST_SHOWN = 2000  # cells whose table a sweep ends with unasked


class _Commands(click.Group):
    """Turns the project's own errors into one line and exit code 2."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in arguments
        write_what_can_be()
        try:
            return super().main([a for a in arguments if a != "--debug"], *rest, **kwargs)
        except RLCondenseError as error:
            if debug:
                raise
            echo(f"Error: {one_line(str(error))}", err=True)
            sys.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            echo("\nInterrupted; what is finished is kept, run it again to go on.", err=True)
            sys.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlcondense")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Which small dataset trains the best policy?"""
    tune()


def _settings(pairs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split `--set` values into the method's and the learner's."""
    method: dict[str, str] = {}
    learner: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadConfig(f"--set takes key=value, not {pair!r}")
        if key.startswith("learner."):
            learner[key.removeprefix("learner.")] = value
        else:
            method[key] = value
    return method, learner


class _FolderToWrite(click.Path):
    """A path that names a folder: not the working directory, its parent or the root."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from rlcondense.files import output_folder

        return output_folder(Path(str(super().convert(value, param, ctx))))


def _include_files(paths: Sequence[Path]) -> None:
    if paths:
        from rlcondense.making import include

        with plugins_at_work():
            for path in paths:
                include(path)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


_include = click.option(
    "--include",
    type=click.Path(path_type=Path),
    multiple=True,
    expose_value=False,
    callback=lambda _ctx, _option, paths: _include_files(paths),
    help="A Python file with methods or learners of yours. Repeatable.",
)
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
_set = click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE",
    help="A setting of the method, or learner.KEY=VALUE of the learner. Repeatable.",
)  # fmt: skip
_download = click.option(
    "--download", is_flag=True, help="Fetch the dataset from Minari's remote if it is not here."
)
_what = _options(
    click.option("--task", default="starpilot", show_default=True, help="Task id or alias."),
    click.option("--dataset", help="Dataset id. Default: the task's expert dataset."),
    _download,
    click.option(
        "--heldout-data", is_flag=True, help="Take data of held-out levels; every table says so."
    ),
)
_budget = _options(
    click.option("--size", type=int, help="Budget in transitions. Default: the method's own."),
    click.option("--percent", type=float, help="Budget as a percentage of the data."),
    click.option(
        "--unit", type=click.Choice(["transitions", "episodes"]), help="What --percent counts."
    ),
    click.option("--seed", default=0, show_default=True, help="Condensation seed."),
)
_results = click.option(
    "--results",
    default="results",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the records.",
)
_measuring = _options(
    click.option("--seeds", default=3, show_default=True, help="How many learner seeds."),
    click.option(
        "--episodes", default=100, show_default=True, help="Episodes of each policy on each split."
    ),
    _results,
    click.option("--refresh", is_flag=True, help="Compute again what is there already."),
    click.option("--json", "as_json", is_flag=True, help="Print the records as JSON."),
)
_judging = _options(
    click.option("--learner", default="bc", show_default=True, help="Learner id."), _measuring
)


@main.command()
@_include
@click.option("--method", default="gradmatch", show_default=True, help="Method id.")
@_what
@_budget
@click.option(
    "--condensations",
    type=int,
    help="How many condensation seeds. Default: three if two more take five minutes at most.",
)
@_judging
@click.option("--keep-policies", is_flag=True, help="Keep the policies that bc trains.")
@_set
@_device
def run(pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Condense, train and evaluate a method, beside its reference rows."""
    from rlcondense.running.runner import run as run_method

    settings, learner_settings = _settings(pairs)
    started = time.monotonic()
    with ConsoleProgress() as progress:
        result = run_method(
            **options, settings=settings, learner_settings=learner_settings, progress=progress
        )
    _print_result(result, as_json, time.monotonic() - started)


def _print_result(result: Any, as_json: bool, seconds: float) -> None:
    from rlcondense.running.cell import Cell

    for warning in result.warnings:
        echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(result.to_json(), sort_keys=True)
        _exit_if_failed(result)
        return
    echo(str(result))
    if not result.references and all(r["status"] == "skipped" for r in result.records):
        return
    total = len(result.records) + len(result.references)
    echo(f"\n{total} rows in {seconds:.0f} s, {result.reused} of them read back. Records:")
    for record in result.records:
        echo(f"  {result.store.record_path(record['cell_id'])}")
    cells = [Cell.from_json(record["cell"]) for record in result.records]
    sets = [result.store.condensed_path(cell.condensation_id) for cell in cells]
    if there := [path for path in sets if path.is_dir()]:
        echo("\n  ".join(["Condensed data:", *map(str, there)]))
    _exit_if_failed(result)


def _exit_if_failed(result: Any) -> None:
    if any(record["status"] == "failed" for record in (*result.records, *result.references)):
        sys.exit(1)


@main.command()
@_include
@click.option("--method", default="gradmatch", show_default=True, help="Method id.")
@_what
@_budget
@click.option("--out", required=True, type=_FolderToWrite(), help="Folder to write to.")
@_set
@_device
def condense(
    method: str,
    task: str,
    dataset: str | None,
    download: bool,
    heldout_data: bool,
    size: int | None,
    percent: float | None,
    unit: str | None,
    seed: int,
    out: Path,
    pairs: Sequence[str],
    device: str,
) -> None:
    """Make a condensed dataset and stop there."""
    from rlcondense.running.runner import condense_to

    settings, learner_settings = _settings(pairs)
    if learner_settings:
        raise BadConfig("condense trains no learner: --set takes the method's settings only")
    with ConsoleProgress() as progress:
        data = condense_to(
            out, method, task, dataset=dataset, download=download, heldout_data=heldout_data,
            size=size, percent=percent, unit=unit, seed=seed, device=device, settings=settings,
            progress=progress,
        )  # fmt: skip
    assert data.report is not None
    echo(
        f"{len(data)} transitions, {data.report.bytes:,} bytes, "
        f"{data.report.cost.wall_seconds:.1f} s: {out}"
    )
    for finding in data.report.findings or ():
        echo(f"! {finding}")


@main.command()
@_include
@click.argument("what")
@_what
@_judging
@_set
@_device
def evaluate(what: str, pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Evaluate WHAT: a folder with a condensed dataset or policies, or random-policy,
    marginal-policy, constant-policy or expert."""
    from rlcondense.running.runner import evaluate_artifact

    settings, learner_settings = _settings(pairs)
    if settings:
        raise BadConfig("evaluate runs no method: use --set learner.KEY=VALUE")
    started = time.monotonic()
    with ConsoleProgress() as progress:
        result = evaluate_artifact(
            what, **options, learner_settings=learner_settings, progress=progress
        )
    _print_result(result, as_json, time.monotonic() - started)


@main.command()
@_include
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
@_what
@_budget
@click.option("--condensations", default=1, show_default=True, help="How many condensation seeds.")
@_measuring
@_device
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
        echo(str(result))
        seconds = time.monotonic() - started
        echo(f"\n{len(result.records)} cells in {seconds:.0f} s, {result.reused} read back")
    if any(record["status"] == "failed" for record in result.records):
        sys.exit(1)


@main.command()
@_include
@click.option("--task", "tasks", multiple=True, required=True, help="Task id or alias. Repeatable.")
@click.option("--method", default="hades-r", show_default=True, help="Method id.")
@click.option("--size", type=int, help="Transitions for each task. Default: the method's own.")
@click.option("--seed", default=0, show_default=True, help="Condensation seed.")
@_measuring
@_set
@_device
def multitask(pairs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Train one policy on the sets of several TASKs together, and on each alone."""
    from rlcondense.running.multitask import multitask as run_multitask

    settings, learner_settings = _settings(pairs)
    with ConsoleProgress() as progress:
        result = run_multitask(
            **options, settings=settings, learner_settings=learner_settings, progress=progress
        )
    if as_json:
        echo_json(result.to_json())
    else:
        echo(str(result))


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

    found = compare_curves(folders)
    if svg is not None:
        write_bytes(svg, found.svg().encode())
        echo(f"curves: {svg}", err=True)
    if as_json:
        echo_json(found.to_json())
    else:
        echo(str(found))


_workers = _options(
    click.option("--workers", type=int, help="Cells at once. Default: one a core, or one a GPU."),
    click.option("--threads", default=1, show_default=True, help="Threads of each worker."),
)


@main.command()
@_include
@click.argument("suite")
@_results
@click.option(
    "--only",
    metavar="STATUS,...",
    help="failed, missing, skipped or not-installed cells. Default: all but the skipped.",
)
@click.option("--shard", metavar="I/N", help="The I-th of N parts, for job arrays.")
@click.option("--dry-run", is_flag=True, help="Show the cells and what they will take, and stop.")
@click.option("--refresh", is_flag=True, help="Compute again what is there already.")
@click.option("--keep-policies", is_flag=True, help="Keep the policies that bc trains.")
@click.option("--max-failures", type=int, metavar="N", help="Begin nothing more after N failures.")
@click.option("--stop-on-error", is_flag=True, help="As --max-failures 1.")
@_workers
@click.option(
    "--executor",
    default="local",
    show_default=True,
    help="local, or ray (pip install 'rlcondense[ray]').",
)
@click.option("--address", help="Of a Ray cluster; auto for this machine's. Default: start one.")
@click.option("--gpus", default=1.0, show_default=True, help="Of a GPU for each of Ray's tasks.")
@_device
@click.option("--json", "as_json", is_flag=True, help="Print where every cell stands as JSON.")
def sweep(
    suite: str,
    results: Path,
    only: str | None,
    shard: str | None,
    dry_run: bool,
    stop_on_error: bool,
    max_failures: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compute every cell of SUITE that is not there yet: a shipped suite, or a .toml file."""
    from rlcondense.running import sweep as sweeping
    from rlcondense.running.suite import load_suite

    _expect_many_objects()
    the_suite = load_suite(suite)
    part = _shard(shard)
    wanted = None if only is None else tuple(status.strip() for status in only.split(","))
    if results.exists() and not results.is_dir():
        raise BadConfig(f"--results {results} is no folder")
    if dry_run:
        _dry_run(the_suite, results, wanted, part, as_json, **options)
        return
    watcher = ConsoleSweep()
    started = time.monotonic()
    _interrupt_on_termination()
    try:
        with plugins_at_work():
            result = sweeping.sweep(
                the_suite,
                results=results,
                only=wanted,
                shard=part,
                max_failures=1 if stop_on_error else max_failures,
                watcher=watcher,
                **options,
            )
    finally:
        watcher.close()
    _print_sweep(suite, result, as_json, time.monotonic() - started)
    if not result.ok:
        sys.exit(1)


def _expect_many_objects() -> None:
    """Have Python look for garbage less often: of ten thousand cells none is any."""
    import gc

    gc.set_threshold(100_000, 50, 50)


def _interrupt_on_termination() -> None:
    """Have a batch system's SIGTERM end a sweep as Ctrl-C does."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        number, of = map(int, text.split("/"))
    except ValueError:
        raise BadConfig(f"--shard takes I/N, such as 1/4, not {text!r}") from None
    return number, of


def _dry_run(
    suite: Any,
    results: Path,
    only: Sequence[str] | None,
    shard: tuple[int, int] | None,
    as_json: bool,
    *,
    refresh: bool,
    device: str,
    threads: int,
    workers: int | None,
    **_options: Any,
) -> None:
    from rlcondense.running import sweep as sweeping
    from rlcondense.running.store import Store

    store = Store(results, writable=False)
    with plugins_at_work():
        states = sweeping.dry_run(suite, store, only, shard, refresh)
    if as_json:
        echo_json([state.to_json() for state in states])
        return
    for state in states:
        to_skip = state.planned.skip and state.status == "missing"
        expected = sweeping.TO_SKIP if to_skip else ""
        why = f" ({state.reason})" if state.reason else ""
        echo(
            f"{state.planned.id or '-':<16}  {expected or state.status:<13}  "
            f"{state.planned.text}{why}"
        )
    _print_counts(suite.name, states, store, device, threads, workers)


def _print_counts(
    name: str,
    states: Sequence[Any],
    store: Any,
    device: str,
    threads: int,
    workers: int | None,
) -> None:
    from rlcondense.running import sweep as sweeping
    from rlcondense.running.estimate import share
    from rlcondense.running.executors import LocalExecutor, Setting

    counts = ", ".join(f"{n} {status}" for status, n in sweeping.counts_of(states).items())
    echo(f"{name}: {counts or 'no such cells'}")
    executor = LocalExecutor(Setting(store, device, threads, workers))
    left = sweeping.time_left(states, store, executor.device, threads)
    if not left.cells:
        return
    size = executor.size()
    noun = "worker" if size == 1 else "workers"
    cells = "1 cell" if left.cells == 1 else f"{left.cells} cells"
    text = f"{cells} left, {share(left, size)} with {size} {noun} on {executor.device}"
    if left.borrowed:
        text += (
            f"; for {left.borrowed} of them by rates of two Intel Xeon cores, "
            "until their like is timed here"
        )
    if left.unknown:
        text += f"; the like of {left.unknown} of them was never timed"
    echo(text)


def _print_sweep(suite: str, result: Any, as_json: bool, seconds: float) -> None:
    from rlcondense.reporting.tables import suite_table
    from rlcondense.running.estimate import in_words

    if as_json:
        echo_json([state.to_json() for state in result.states])
        return
    if len(result.states) > MOST_SHOWN:
        command = f"rlcondense status {suite} --table"
        echo(f"{len(result.states)} cells: '{command}' shows the table")
    else:
        echo(suite_table(result.rows()))
    counts = ", ".join(f"{n} {status}" for status, n in result.counts().items())
    early = ", ended early because of failures" if result.stopped else ""
    took = f"{result.computed} computed in {in_words(seconds)}{early}"
    echo(f"\n{result.suite.name}: {counts}; {took}. Records: {result.store.root / 'records'}")


@main.command()
@click.argument("suite")
@_results
@_workers
@_device
@click.option("--costs", is_flag=True, help="Show what each method cost.")
@click.option("--table", is_flag=True, help="Show the table of what is done.")
@click.option("--rates", is_flag=True, help="Show the rates that estimates go by.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(
    suite: str,
    results: Path,
    workers: int | None,
    threads: int,
    device: str,
    costs: bool,
    table: bool,
    rates: bool,
    as_json: bool,
) -> None:
    """Show how far the sweeps of SUITE are."""
    from rlcondense.reporting.ledger import ledger, ledger_table
    from rlcondense.reporting.tables import suite_table
    from rlcondense.running import sweep as sweeping
    from rlcondense.running.environment import resolve_device
    from rlcondense.running.estimate import Rates
    from rlcondense.running.store import Store
    from rlcondense.running.suite import load_suite

    _expect_many_objects()
    the_suite = load_suite(suite)
    store = Store(results, writable=False)
    plan, changed = sweeping.read_manifest(store, the_suite)
    states = sweeping.states_of(plan, store)
    sums = ledger(state.facts for state in states if state.facts is not None)
    if as_json:
        out = {
            "suite": the_suite.name,
            "counts": sweeping.counts_of(states),
            "cells": [state.to_json() for state in states],
            "costs": [cost.to_json() for cost in sums],
        }
        echo_json(out)
        return
    if changed:
        echo(
            "the suite has changed since its last sweep, which is what is shown; "
            "'rlcondense sweep --dry-run' shows what it says now",
            err=True,
        )
    _print_undone(states)
    if table:
        result = sweeping.SweepResult(the_suite, states, 0, 0, store)
        echo(suite_table(result.rows()) + "\n")
    if costs:
        echo(ledger_table(sums))
    if rates:
        finished = (state.facts for state in states if state.facts is not None)
        for key, seconds in Rates(finished, resolve_device(device), threads).table().items():
            echo(f'"{key}" = {seconds:.3g}')
    _print_counts(the_suite.name, states, store, device, threads, workers)


def _print_undone(states: Sequence[Any]) -> None:
    """A line on each cell that is running, has failed, was skipped or cannot be computed."""
    for state in states:
        if state.status == "done" or (state.status == "missing" and not state.unread):
            continue
        since = ""
        if state.since is not None:
            since = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(state.since))}"
        echo(f"{state.status:<13}  {state.planned.text} ({state.reason}{since})")


@main.command("list")
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
    found = {name: list(entries(name).values()) for name in groups}
    suites = [load_suite(name) for name in shipped_suites()] if group in (None, "suites") else []
    if as_json:
        plain: dict[str, Any] = {
            name: [entry.to_json() for entry in rows] for name, rows in found.items()
        }
        if suites:
            plain["suites"] = [{"id": s.name, "summary": s.summary} for s in suites]
        echo_json(plain, sort_keys=True)
        return
    for name, rows in found.items():
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

    if png is not None:
        echo(_drawn(Path(name), png), err=as_json)
    if name in shipped_suites() and not as_json:
        echo((suites_folder() / f"{name}.toml").read_text().rstrip())
        return
    facts = _folder_facts(Path(name)) or _entry_facts(name, with_settings)
    if as_json:
        echo_json(facts, sort_keys=True)
        return
    findings, _ = facts.pop("findings", None) or (), facts.pop("curve", None)
    settings = facts.pop("settings", None) or {}
    for key, value in facts.items():
        if value not in ("", [], {}, None):
            text = value if isinstance(value, str) else json.dumps(value)
            echo(f"{one_line(key):<16} {one_line(text)}")
    for key, value in settings.items():
        echo(one_line(f"--set {key}={_setting_text(value)}"))
    for finding in findings:
        echo(one_line(f"! {finding['name'].replace('-', ' ')}: {finding['text']}"))
    if table := _folder_table(Path(name)):
        echo(f"\n{table}")


def _drawn(folder: Path, png: Path) -> str:
    """Draw the frames of a condensed dataset in a folder, and say what they show."""
    from rlcondense.methods.condensed import load_condensed
    from rlcondense.reporting.pictures import draw_enlarged, legend
    from rlcondense.reporting.states import action_name

    data = load_condensed(folder)
    facts = _task_facts(data.report.task if data.report else None)
    rows = draw_enlarged(data, png)
    lines = {"frames": str(png), "colours": legend(facts.get("observation_names", ()))}
    if data.actions.ndim == 1 and facts.get("action_names"):
        lines["labels"] = ", ".join(action_name(facts, int(data.actions[row])) for row in rows)
    return "\n".join(f"{name:<16} {value}" for name, value in lines.items() if value)


def _task_facts(task: str | None) -> Mapping[str, Any]:
    """What the catalogue says of a task, if there is one of that name."""
    from rlcondense.catalogue import find
    from rlcondense.errors import UnknownName

    try:
        return find("tasks", task or "").facts
    except UnknownName:
        return {}


def _folder_table(folder: Path) -> str | None:
    """The states and actions of a condensed dataset in a folder, if they are few and no frames."""
    from rlcondense.methods.condensed import ARRAYS, REPORT, load_condensed
    from rlcondense.reporting.states import state_table

    if not ((folder / ARRAYS).is_file() and (folder / REPORT).is_file()):
        return None
    data = load_condensed(folder)
    return state_table(data, _task_facts(data.report.task if data.report else None))


def _setting_text(value: Any) -> str:
    """A setting's value as `--set` takes it."""
    return "none" if value is None else str(value)


def _folder_facts(folder: Path) -> dict[str, Any] | None:
    """What a folder's report says, with what detectors see where it does not say what they saw."""
    from rlcondense.errors import CorruptArtifact
    from rlcondense.files import read_json
    from rlcondense.methods.condensed import ARRAYS, REPORT, load_condensed
    from rlcondense.methods.detectors import detect

    for file in (REPORT, "policies.json"):
        if (folder / file).is_file():
            facts = read_json(folder / file)
            if not isinstance(facts, dict):
                raise CorruptArtifact(f"{folder / file} is no object")
            data = load_condensed(folder) if (folder / ARRAYS).is_file() else None
            if data is not None and facts.get("findings") is None:
                facts["findings"] = [dataclasses.asdict(one) for one in detect(data, None)]
            elif data is None:
                facts.pop("findings", None)
            return facts
    return None


def _settings_of(entry: Entry) -> dict[str, Any]:
    """The settings of a method or a learner with their defaults, if it can be loaded."""
    from rlcondense.config import config_json
    from rlcondense.errors import RLCondenseError
    from rlcondense.making import make_learner, make_method

    makers: dict[str, Callable[[str], Any]] = {"methods": make_method, "learners": make_learner}
    make = makers.get(entry.group)
    if make is None:
        return {}
    try:
        with plugins_at_work():
            settings = config_json(make(entry.id).config)
    except RLCondenseError:
        return {}
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


@main.command()
@_include
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--expect-failure",
    "expected",
    multiple=True,
    metavar="CHECK=REASON",
    help="A check that is known to fail, and why. Repeatable.",
)
def check(name: str, as_json: bool, expected: Sequence[str]) -> None:
    """Check a method, learner, task or dataset of anybody's against what the suite relies on."""
    from rlcondense.checks import check as run_checks

    known = dict(pair.partition("=")[::2] for pair in expected)
    with ConsoleProgress() as progress:
        results = run_checks(name, expected_failures=known, progress=progress)
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
    from rlcondense.reporting import compare as comparing
    from rlcondense.running.store import read_record_file

    records = read_record_file(a), read_record_file(b)
    if as_json:
        found = comparing.compare(*records)
        echo_json({split: of.to_json() for split, of in found.items()})
        return
    echo(comparing.compare_text(*records))


@main.group()
def new() -> None:
    """Start a package of your own."""


@new.command("method")
@click.argument("name")
@click.option("--out", type=_FolderToWrite(), help="Folder. Default: ./NAME.")
def new_method(name: str, out: Path | None) -> None:
    """Write a small package with a method that installs, passes its test and runs."""
    from rlcondense.template import write_method_package

    folder = write_method_package(name, out or Path(name))
    echo(
        f"{folder} is a package with a method of yours. Next:\n\n"
        f"    pip install -e {shlex.quote(str(folder))}\n"
        f"    rlcondense check {name}\n"
        f"    rlcondense run --method {name} --task starpilot --size 50 --seeds 1 --episodes 4"
    )


@main.group()
def expert() -> None:
    """Train, distil and evaluate experts."""


_NETWORKS = click.Choice(["compact", "impala", "impala-patch2", "impala-patch4", "mlp", "nature"])
_training = _options(
    click.option("--seed", default=0, show_default=True),
    click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint."),
    click.option("--restart", is_flag=True, help="Discard the folder's checkpoint and begin anew."),
    click.option(
        "--episodes",
        default=500,
        show_default=True,
        help="Episodes of its evaluation on each split.",
    ),
    click.option(
        "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Another setting. Repeatable."
    ),
    _device,
)


@expert.command("train")
@click.argument("task")
@click.option(
    "--network",
    type=_NETWORKS,
    help="Default: the task's in the catalogue, else impala, or mlp for vectors.",
)
@click.option("--steps", type=int, help="Environment steps. Default: the task's, else 25,000,000.")
@click.option("--out", type=_FolderToWrite(), help="Folder. Default: results/experts/TASK.")
@_training
def expert_train(task: str, **options: Any) -> None:
    """Train an expert by PPO and write its weights and card to a folder."""
    from rlcondense.experts.training import train_expert

    _train(train_expert, ["train", task], (task,), **options)


@expert.command("distil")
@click.argument("task")
@click.option(
    "--teacher",
    required=True,
    metavar="ID|FOLDER",
    help="Expert of a task that is TASK but for the picture: its id, its task, or a folder.",
)
@click.option(
    "--network",
    type=_NETWORKS,
    help="The student's. Default: nature, on a GPU impala-patch2, or mlp for vectors.",
)
@click.option("--steps", type=int, help="Environment steps. Default: 500,000, on a GPU 2,000,000.")
@click.option("--out", type=_FolderToWrite(), help="Folder. Default: results/distilled/TASK.")
@_training
def expert_distil(task: str, teacher: str, **options: Any) -> None:
    """Distil an expert from a teacher that sees another picture of the same game.

    Both step in lockstep on seen levels; the student learns the teacher's distributions (DAgger).
    """
    from rlcondense.experts.training import distil_expert

    _train(distil_expert, ["distil", task, "--teacher", teacher], (task, teacher), **options)


def _train(
    train: Callable[..., tuple[Path, dict[str, Any]]],
    command: Sequence[str],
    arguments: Sequence[str],
    *,
    network: str | None,
    steps: int | None,
    seed: int,
    pairs: Sequence[str],
    **options: Any,
) -> None:
    """Run a training, and print what its card says."""
    settings, learner_settings = _settings(pairs)
    if learner_settings:
        raise BadConfig(f"expert {command[0]} trains no learner: --set takes its own settings only")
    given = {"network": network, "steps": steps, "seed": seed or None}
    said = {name: str(value) for name, value in given.items() if value is not None}
    words = ["rlcondense", "expert", *command]
    words += [part for name, value in said.items() for part in (f"--{name}", value)]
    words += [part for pair in pairs for part in ("--set", pair)]
    try:
        with ConsoleProgress() as progress:
            path, card = train(
                *arguments,
                {**said, **settings},
                command=shlex.join(words),
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        echo("\nInterrupted; the same command with --resume goes on.", err=True)
        sys.exit(130)
    _print_returns(card["returns"])
    echo(f"{card['steps']:,} steps in {card['seconds']:.0f} s: {path}")


@expert.command("evolve")
@click.argument("task")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=_FolderToWrite(), help="Folder. Default: results/evolved/TASK-SEED.")
@click.option(
    "--episodes", default=100, show_default=True, help="Episodes of its evaluation on each split."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting. Repeatable.")
@_device
def expert_evolve(
    task: str, seed: int, out: Path | None, episodes: int, pairs: Sequence[str], device: str
) -> None:
    """Evolve a policy's weights, HaDES' baseline, into a folder that 'evaluate' takes."""
    from rlcondense.experts.es import evolve_to

    settings, learner_settings = _settings(pairs)
    if learner_settings:
        raise BadConfig("expert evolve trains no learner: --set takes settings of evolution only")
    if "seed" in settings:
        raise BadConfig("give the seed by --seed")
    command = ["rlcondense", "expert", "evolve", task, "--seed", str(seed)]
    command += [part for pair in pairs for part in ("--set", pair)]
    with ConsoleProgress() as progress:
        folder, card = evolve_to(
            out,
            task,
            {**settings, "seed": str(seed)},
            episodes=episodes,
            device=device,
            command=shlex.join(command),
            progress=progress,
        )
    _print_returns(card["returns"])
    echo(f"{card['environment_steps']:,} steps in {card['seconds']:.0f} s: {folder}")


@expert.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def expert_list(as_json: bool) -> None:
    """List the newest shipped expert of each task and what its card says it scores."""
    from rlcondense.experts.zoo import expert_table, shipped_cards

    if as_json:
        echo_json(shipped_cards(), sort_keys=True)
    else:
        echo(expert_table())


@expert.command("evaluate")
@click.argument("task")
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True), help="Default: the shipped experts."
)
@click.option("--episodes", default=500, show_default=True, help="Episodes on each split.")
@_device
def expert_evaluate(task: str, folder: Path | None, episodes: int, device: str) -> None:
    """Evaluate a task's expert."""
    from rlcondense.experts.training import evaluate_expert

    with ConsoleProgress() as progress:
        measured = evaluate_expert(
            task, folder=folder, episodes=episodes, device=device, progress=progress
        )
    _print_returns(measured["returns"])
    if "greedy" in measured:
        echo("greedily")
        _print_returns(measured["greedy"])
        echo(f"entropy {measured['entropy']:.2f} nats")


def _print_returns(returns: dict[str, dict[str, Any]]) -> None:
    for split, value in returns.items():
        error = value["standard_error"]
        spread = (
            "one episode"
            if error is None
            else (f"± {error:.3f} (standard error over {value['episodes']} episodes)")
        )
        echo(f"{split:<8} {value['mean']:.3f} {spread}")


def _quartiles(quartiles: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in quartiles)


@main.group()
def dataset() -> None:
    """Build, list, show, verify and collect datasets."""


@dataset.command("build")
@click.argument("name")
@click.option("--rebuild", is_flag=True, help="Remove it first if it is there.")
@_download
def dataset_build(name: str, rebuild: bool, download: bool) -> None:
    """Build a dataset of the catalogue into Minari's folder, and check its sha256."""
    from rlcondense.catalogue import find
    from rlcondense.datasets.storage import is_local, remove_minari
    from rlcondense.making import load_dataset

    if rebuild:
        remove_minari(find("datasets", name).id)
    here = is_local(name)
    started = time.monotonic()
    with ConsoleProgress() as progress:
        data = load_dataset(name, download=download, progress=progress)
    seconds = time.monotonic() - started
    took = "already here" if here else f"{seconds:.1f} s, {len(data) / seconds:.0f} transitions/s"
    echo(
        f"{data.id}: {len(data.episodes)} episodes, {len(data)} transitions, {took}, "
        f"sha256 {data.sha256}"
    )


@dataset.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def dataset_list(as_json: bool) -> None:
    """List the catalogue's datasets and Minari's on this machine."""
    from rlcondense.catalogue import entries
    from rlcondense.datasets.storage import local_datasets

    shipped, local = entries("datasets"), local_datasets()
    rows = [
        {"id": id_, "here": id_ in local, **(dict(shipped[id_].facts) if id_ in shipped else {})}
        for id_ in sorted({*shipped, *local})
    ]
    if as_json:
        echo_json(rows, sort_keys=True)
        return
    from tabulate import tabulate

    table = [
        [
            row["id"],
            "here" if row["here"] else "on first use",
            row.get("episodes", ""),
            row.get("transitions", ""),
            _quartiles(row.get("returns", {}).get("quartiles", [])),
        ]
        for row in rows
    ]
    headers = ["dataset", "built", "episodes", "transitions", "return: quartiles"]
    echo(tabulate(table, headers, disable_numparse=True, colalign=("left",) * 5))


@dataset.command("verify")
@click.argument("name")
def dataset_verify(name: str) -> None:
    """Read a dataset again from Minari's files and compare its sha256 with what it should be."""
    from rlcondense.catalogue import find
    from rlcondense.datasets.storage import verify_minari
    from rlcondense.errors import UnknownName
    from rlcondense.making import load_dataset

    try:
        expected = find("datasets", name).facts.get("sha256")
    except UnknownName:
        expected = None
    actual = verify_minari(load_dataset(name).id)  # loading has compared it with the catalogue's
    against = "as the catalogue says" if expected else "as when it was first read here"
    echo(f"{name}: sha256 {actual}, {against}")


@dataset.command("show")
@click.argument("name")
@click.option("--png", type=click.Path(path_type=Path), help="Write a contact sheet of frames.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_download
def dataset_show(name: str, png: Path | None, as_json: bool, download: bool) -> None:
    """Show a dataset's card, building the dataset if need be."""
    from rlcondense.datasets.cards import card_of, contact_sheet, write_card
    from rlcondense.making import load_dataset

    with ConsoleProgress() as progress:
        data = load_dataset(name, download=download, progress=progress)
    card = card_of(data)
    if as_json:
        echo_json(card, sort_keys=True)
    else:
        echo(write_card(card))
    if png:
        contact_sheet(data, png)
        echo(f"frames           {png}", err=as_json)


@dataset.command("collect")
@click.argument("task")
@click.option(
    "--kind",
    default="expert",
    show_default=True,
    type=click.Choice(["expert", "mixed", "random"]),
    help="Played by the expert, by five policies along its training, or at random.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True),
    help="What 'expert train' wrote. Default: the shipped experts.",
)
@click.option(
    "--expert",
    metavar="ID",
    help="Which expert plays. Default: the task's newest, or the folder's.",
)
@click.option("--episodes", default=100, show_default=True)
@click.option("--seed", default=1000, show_default=True, help="Evaluations use seed 0.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
def dataset_collect(
    task: str,
    kind: str,
    folder: Path | None,
    expert: str | None,
    episodes: int,
    seed: int,
    out: Path,
) -> None:
    """Play seen levels of a task and write the trace, or what was seen where none replays."""
    from rlcondense.experts.datasets import collect_dataset, write_played
    from rlcondense.making import make_task

    with ConsoleProgress() as progress:
        made = make_task(task)
        trace = collect_dataset(
            made,
            kind,
            folder=folder,
            expert=expert,
            episodes=episodes,
            seed=seed,
            progress=progress,
        )
        write_played(trace, made, out)
    echo(f"{episodes} episodes, {len(trace.actions)} steps: {out}")


@main.group()
def leaderboard() -> None:
    """Add records to a leaderboard, verify them, compare two, and build tables from one."""


_board = click.option(
    "--leaderboard",
    "board",
    default="leaderboard",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Its folder.",
)


@leaderboard.command("add")
@click.argument("results", type=click.Path(path_type=Path))
@_board
@click.option("--replace", is_flag=True, help="Overwrite what is published with other content.")
def leaderboard_add(results: Path, board: Path, replace: bool) -> None:
    """Verify the records in RESULTS, copy them onto the leaderboard and pin their content."""
    from rlcondense.reporting.submissions import add

    made = not board.exists()
    with ConsoleProgress() as progress:
        done = add(results, board, replace=replace, progress=progress)
    _print_findings(done.verification)
    for file, status in (done.left_out or {}).items():
        echo(f"{file}: left out, since it is {status}")
    if not done.verification.ok:
        echo("nothing was added: something is wrong")
        sys.exit(1)
    echo(
        f"{board}: {len(done.added)} added, {len(done.replaced)} replaced, "
        f"{len(done.same)} were there already; {done.pictures} pictures drawn"
    )
    if made:
        echo(f"{board} is a new leaderboard")


@leaderboard.command("verify")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option(
    "--rerun", "number", type=click.IntRange(min=1), metavar="N", help="Compute N cells again."
)
@click.option("--seed", type=int, help="Of the choice of those. Default: another one each time.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A published leaderboard, of which nothing may be changed or missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def leaderboard_verify(
    path: Path, number: int | None, seed: int | None, against: Path | None, as_json: bool
) -> None:
    """Check the records in PATH: a leaderboard (by default ./leaderboard), a results folder, a
    folder of records or one record."""
    from rlcondense.reporting.verification import verify

    if seed is not None and number is None:
        raise BadConfig("--seed chooses what is computed again: give --rerun too")
    with ConsoleProgress() as progress:
        found = verify(path, against=against, progress=progress)
        if number is not None:
            from rlcondense.reporting.reading import INDEX, read_index
            from rlcondense.reporting.reruns import rerun

            among = read_index(against / INDEX).records if against is not None else None
            found = rerun(path, found, number, seed=seed, among=among, progress=progress)
    if as_json:
        echo_json(found.to_json(), sort_keys=True)
    else:
        _print_findings(found)
        for again in found.reruns or ():
            if again.agrees is not False:
                echo(f"{again.file}: {again.text}")
        echo(found.summary())
    if not (found.ok and found.is_complete):
        sys.exit(1)


def _print_findings(found: Any) -> None:
    """What is wrong, a line each; what is worth knowing, a line for all that it is said of."""
    for finding in found.findings:
        echo(str(finding))
    notes: dict[str, list[str]] = {}
    for note in found.notes:
        notes.setdefault(note.text, []).append(note.file)
    for text, files in notes.items():
        where = files[0] if len(files) == 1 else f"{len(files)} records"
        echo(f"note: {where}: {text}")


@leaderboard.command("build")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option("--suite", "suites", multiple=True, help="Which to show. Repeatable. Default: all.")
@click.option(
    "--into", "documents", multiple=True, metavar="FILE.md", type=click.Path(path_type=Path),
    help="Fill in the tables that a document asks for by <!-- leaderboard SUITE -->. Repeatable.",
)  # fmt: skip
@click.option("--site", type=click.Path(path_type=Path), help="Write the site here, too.")
@click.option("--data", is_flag=True, help="Put records and tables into the site, to be taken.")
@click.option("--strict", is_flag=True, help="Build nothing if a record cannot be shown.")
def leaderboard_build(
    path: Path,
    suites: Sequence[str],
    documents: Sequence[Path],
    site: Path | None,
    data: bool,
    strict: bool,
) -> None:
    """Write the tables of the leaderboard in PATH (./leaderboard): Markdown, LaTeX, CSV, HTML."""
    from rlcondense.reporting.publish import build, fill_in

    _expect_many_objects()
    started = time.monotonic()
    if data and site is None:
        raise BadConfig("--data puts them into a site: give --site too")
    board, files = build(
        path,
        suites or None,
        site,
        data=data,
        strict=strict,
        left_out=lambda line: echo(f"left out: {line}", err=True),
    )
    pages = [file for file in files if site is not None and file.is_relative_to(site)]
    for file in files[: len(files) - len(pages)]:
        echo(str(file))
    if site is not None:
        echo(f"{site / 'index.html'}, {len(pages)} files")
    for document in documents:
        echo(f"{document}: {fill_in(document, board)} tables")
    said = ", ".join(f"{s.name} {s.done} of {s.planned}" for s in board.suites)
    seconds = time.monotonic() - started
    echo(f"{len(board.records)} records in {seconds:.1f} s: {said or 'of no suite'}")


@leaderboard.command("diff")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def leaderboard_diff(folders: Sequence[Path]) -> None:
    """Show what is new, missing or changed in FOLDERS: [A] B, A being ./leaderboard by default."""
    from rlcondense.reporting.submissions import diff

    if len(folders) > 2:
        raise BadConfig(f"diff compares two folders, not {len(folders)}")
    a, b = folders if len(folders) == 2 else (Path("leaderboard"), folders[0])
    found = diff(a, b)
    groups = {
        "new": found.new,
        "missing": found.missing,
        "changed": found.changed,
        "unreadable": found.unreadable,
    }
    for name, lines in groups.items():
        for line in lines:
            echo(f"{name:<10} {line}")
    echo(", ".join(f"{len(lines)} {name}" for name, lines in groups.items()))


if __name__ == "__main__":
    main()
