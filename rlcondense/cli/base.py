"""The group of all commands, and the options that several share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from rlcondense import __version__
from rlcondense.console import echo, plugins_at_work
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.limits import check_count, check_device
from rlcondense.runtime.tune import tune
from rlcondense.terminal import interrupt_on_termination, write_what_can_be
from rlcondense.text import one_line, shown

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """The command group, which prints the project's own errors in one line with exit code 2."""

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
        except (
            OSError
        ) as error:  # an error of a path that no other check reports: too long, not permitted
            if debug:
                raise
            where = "" if error.filename is None else f"{shown(str(error.filename))}: "
            why = f"{where}{error.strerror or error}"
            echo(f"Error: {one_line(why)} (--debug shows where)", err=True)
            sys.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        interrupt_on_termination()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            echo("\nInterrupted; what is finished is kept, run it again to go on.", err=True)
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlcondense")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Which small dataset trains the best policy?"""
    tune()


def check_machine(workers: int | None, device: str) -> None:
    """Refuse a number of workers or a device that cannot be, also where nothing is computed."""
    if workers is not None:
        check_count("workers", workers)
    check_device(device)


def split_settings(pairs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split `--set` values into the method's and the learner's."""
    method: dict[str, str] = {}
    learner: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadConfig(f"--set takes key=value, not {pair!r}")
        settings, name = method, key
        if key.startswith("learner."):
            settings, name = learner, key.removeprefix("learner.")
        if name in settings:
            raise BadConfig(f"--set gives {key} twice")
        settings[name] = value
    return method, learner


def split_once(pairs: Sequence[str], option: str, form: str) -> dict[str, str]:
    """Split the values of an option such as `--name ROW=NAME`, each key given once.

    Raises:
        BadConfig: a value is of another form, or a key is given twice.
    """
    out: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not (key and value):
            raise BadConfig(f"{option} takes {form}")
        if key in out:
            raise BadConfig(f"{option} gives {key} twice")
        out[key] = value
    return out


class FolderToWrite(click.Path):
    """A path of a folder to write: not the working directory, its parent or the root."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from rlcondense.files import output_folder

        return output_folder(Path(str(super().convert(value, param, ctx))))


class ResultsFolder(click.Path):
    """A path of a folder of records: neither empty, like an unset variable, nor the root."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        if not str(value) or (path.is_absolute() and not path.name):
            raise BadConfig(f"--results must name a folder of records, not {str(value)!r}")
        return path


def include_files(paths: Sequence[Path]) -> None:
    if paths:
        from rlcondense.make import include

        with plugins_at_work():
            for path in paths:
                include(path)


def all_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


include_option = click.option(
    "--include",
    type=click.Path(path_type=Path),
    multiple=True,
    expose_value=False,
    callback=lambda _ctx, _option, paths: include_files(paths),
    help="A Python file with methods, learners, tasks or datasets of yours. Repeatable.",
)


device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda."
)


set_option = click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE",
    help="A setting of the method, or learner.KEY=VALUE of the learner. Repeatable.",
)  # fmt: skip


download_option = click.option(
    "--download", is_flag=True, help="Fetch the dataset from Minari's remote if it is not here."
)


what_options = all_options(
    click.option(
        "--task",
        help="Task id or alias. Default: the data's or a condensed set's; else starpilot.",
    ),
    click.option(
        "--dataset",
        help="Dataset id, or a file or folder of yours. Default: the task's expert dataset.",
    ),
    click.option(
        "--expert", help="Expert id, folder or file. Default: the dataset's, or the task's newest."
    ),
    download_option,
    click.option(
        "--heldout-data", is_flag=True, help="Take data of held-out levels; every table says so."
    ),
)


budget_options = all_options(
    click.option("--size", type=int, help="Budget in transitions. Default: the method's own."),
    click.option("--percent", type=float, help="Budget as a percentage of the data."),
    click.option(
        "--unit", type=click.Choice(["transitions", "episodes"]), help="What --percent counts."
    ),
    click.option("--seed", default=0, show_default=True, help="Condensation seed."),
)


bytes_options = all_options(
    click.option(
        "--bytes", "max_bytes", type=int,
        help="Budget in bytes: rows are stored as codes, and learned as these show them.",
    ),
    click.option("--bits", type=int, help="With --bytes: bits of a pixel or feature. Default: 8."),
    click.option(
        "--resolution", type=int, help="With --bytes: side of stored frames. Default: their own."
    ),
)  # fmt: skip


USUAL_RESULTS = Path("results")
results_option = click.option(
    "--results",
    default=USUAL_RESULTS,
    show_default=True,
    type=ResultsFolder(),
    help="Folder of the records.",
)


seeds_option = click.option("--seeds", default=3, show_default=True, help="How many learner seeds.")


measuring_options = all_options(
    click.option(
        "--episodes", default=100, show_default=True, help="Episodes of each policy on each split."
    ),
    results_option,
    click.option("--refresh", is_flag=True, help="Compute existing records again."),
    click.option("--json", "as_json", is_flag=True, help="Print the records as JSON."),
)


judging_options = all_options(
    click.option("--learner", default="bc", show_default=True, help="Learner id."),
    measuring_options,
)


own_references_option = click.option(
    "--own-references",
    is_flag=True,
    help="Compute the reference rows that are shipped too, and those that would be left out.",
)


workers_option = click.option(
    "--workers", type=int, help="Cells at once. Default: one a core, or one a GPU."
)


def expect_many_objects() -> None:
    """Run Python's garbage collector less often: ten thousand cells contain no garbage."""
    import gc

    gc.set_threshold(100_000, 50, 50)
