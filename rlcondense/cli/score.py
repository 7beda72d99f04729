"""The command that scores a dataset's episodes or rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rlcondense.cli.base import (
    device_option,
    download_option,
    include_option,
    main,
    set_option,
    split_settings,
)
from rlcondense.console import ConsoleProgress, echo
from rlcondense.errors import BadConfig
from rlcondense.text import shown


@main.command()
@include_option
@click.argument("dataset")
@click.option("--method", required=True, help="Id of a method that scores episodes or rows.")
@click.option("--task", help="Task id or alias. Default: the dataset's own.")
@download_option
@click.option("--heldout-data", is_flag=True, help="Take data of held-out levels too.")
@click.option("--seed", default=0, show_default=True, help="Condensation seed.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The CSV to write.")
@set_option
@device_option
def score(
    dataset: str,
    method: str,
    task: str | None,
    download: bool,
    heldout_data: bool,
    seed: int,
    out: Path,
    pairs: Sequence[str],
    device: str,
) -> None:
    """Write the scores that a method gives to DATASET's episodes or rows: one line each with its
    score, and the length, return and level of the episode. Methods keep the highest first."""
    from rlcondense.files import write_bytes
    from rlcondense.reporting.formats import csv_of
    from rlcondense.running.scoring import score_dataset, score_lines, summary_of

    settings, learner_settings = split_settings(pairs)
    if learner_settings:
        raise BadConfig("score trains no learner: --set takes the method's settings only")
    if not out.name or out.is_dir():
        raise BadConfig(f"--out names a file to write, not {shown(str(out))}")
    with ConsoleProgress() as progress:
        data, scores = score_dataset(
            dataset, method, task=task, download=download, heldout_data=heldout_data, seed=seed,
            device=device, settings=settings, progress=progress,
        )  # fmt: skip
    write_bytes(out, csv_of(list(score_lines(data, scores))).encode())
    echo(f"{summary_of(data, scores)}: {out}")
