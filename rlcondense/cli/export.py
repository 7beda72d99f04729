"""The command that exports data to formats that others read."""

from __future__ import annotations

from pathlib import Path

import click

from rlcondense.cli.base import FolderToWrite, include_option, main
from rlcondense.console import ConsoleProgress, echo


@main.command()
@include_option
@click.argument("source")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["npz", "hdf5", "minari", "parquet"]),
    help="Format.",
)
@click.option("--out", required=True, type=FolderToWrite(), help="The folder to write.")
@click.option("--task", help="Task of the data, where they do not say.")
@click.option(
    "--licence", help="Licence on the dataset card. Default: that of shipped data, else unknown."
)
@click.option(
    "--push", metavar="hf:OWNER/NAME", help="Write it to a dataset of the Hugging Face Hub, too."
)
def export(
    source: str, to: str, out: Path, task: str | None, licence: str | None, push: str | None
) -> None:
    """Export SOURCE, a dataset or the folder of a condensed set, so that it is used without us."""
    from rlcondense.exchange import export as export_data

    with ConsoleProgress() as progress:
        losses = export_data(
            source, to, out, task=task, licence=licence, push=push, progress=progress
        )
    for loss in losses:
        echo(f"Not as in the source: {loss}.", err=True)
    where = f" and at {push}" if push else ""
    echo(f"{source} is in {out}{where} as {to}: README.md describes it, example.py trains on it")
