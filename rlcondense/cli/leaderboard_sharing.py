"""Commands that give a leaderboard to others: export and pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rlcondense.cli.base import FolderToWrite
from rlcondense.cli.leaderboard import leaderboard
from rlcondense.console import echo


@leaderboard.command("export")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Choice(["hf"]), help="Form: the Hub's.")
@click.option(
    "--benchmark", required=True, metavar="OWNER/NAME",
    help="The Hub's dataset that hosts the leaderboard.",
)  # fmt: skip
@click.option("--suite", "suites", multiple=True, help="Its cells only. Repeatable. Default: all.")
@click.option("--source", metavar="URL", help="Address of the leaderboard, which results link to.")
@click.option("--out", required=True, type=FolderToWrite(), help="Folder to write to.")
def leaderboard_export(
    path: Path, to: str, benchmark: str, suites: Sequence[str], source: str | None, out: Path
) -> None:
    """Write the results of the leaderboard in PATH (./leaderboard) as the Hub publishes them."""
    from rlcondense.reporting.hub_results import export_results

    files = export_results(
        path,
        out,
        benchmark,
        suites or None,
        source,
        left_out=lambda line: echo(f"left out: {line}", err=True),
    )
    folders = {file.relative_to(out).parts[0] for file in files}
    echo(f"{out}: {len(files)} files of {len(folders)} methods, each a folder for a model's page")


@leaderboard.command("pack")
@click.argument("path", default="leaderboard", type=click.Path(path_type=Path))
@click.option("--out", required=True, metavar="FILE.zip", type=click.Path(path_type=Path))
def leaderboard_pack(path: Path, out: Path) -> None:
    """Write the leaderboard in PATH (./leaderboard) into one archive, with the checksum of each
    file; `leaderboard verify` takes it."""
    from rlcondense.submissions.archive import pack

    number = pack(path, out)
    echo(f"{out}: {number} files, {out.stat().st_size / 1e6:.1f} MB")
