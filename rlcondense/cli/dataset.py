"""Commands of datasets that are there: build, add, remove, list, verify and show."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from rlcondense.cli.base import download_option, include_option, main
from rlcondense.console import ConsoleProgress, echo, echo_json, plugins_at_work


def _quartiles(quartiles: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in quartiles)


@main.group()
def dataset() -> None:
    """Build, list, show, verify and collect datasets."""


@dataset.command("build")
@include_option
@click.argument("name")
@click.option("--rebuild", is_flag=True, help="Build it anew even if it is there.")
@download_option
def dataset_build(name: str, rebuild: bool, download: bool) -> None:
    """Build a dataset of the catalogue on this machine, and check its sha256."""
    from rlcondense.catalogue import base_of, find
    from rlcondense.datasets.minari import is_local, set_aside
    from rlcondense.datasets.traces import forget_collected
    from rlcondense.make import load_dataset

    base = base_of(find("datasets", name).id)
    with set_aside(base) if rebuild else contextlib.nullcontext():
        if rebuild:
            forget_collected(base)
        here = is_local(base)
        started = time.monotonic()
        with ConsoleProgress() as progress:
            data = load_dataset(name, download=download, progress=progress)
    seconds = time.monotonic() - started
    took = "already here" if here else f"{seconds:.1f} s, {len(data) / seconds:.0f} transitions/s"
    echo(
        f"{data.id}: {len(data.episodes)} episodes, {len(data)} transitions, {took}, "
        f"sha256 {data.sha256}"
    )


@dataset.command("add")
@include_option
@click.argument("source")
@click.option("--id", "name", required=True, help="Its name, such as mine/poles-v0.")
@click.option("--task", help="Task that it was collected on, where its file does not say.")
@click.option("--expert", help="Expert of the expert row: id, folder or file.")
def dataset_add(source: str, name: str, task: str | None, expert: str | None) -> None:
    """Give SOURCE, a file or folder, a name on this machine."""
    from rlcondense.make import add_dataset

    with plugins_at_work():
        data = add_dataset(source, name, task=task, expert=expert)
    echo(f"{data.id}: {len(data.episodes)} episodes, {len(data)} transitions of {data.task}")


@dataset.command("remove")
@include_option
@click.argument("name")
def dataset_remove(name: str) -> None:
    """Remove a dataset and its columns from this machine; the file it came from stays."""
    from rlcondense.errors import BadConfig
    from rlcondense.make import remove_dataset

    if not remove_dataset(name):
        raise BadConfig(f"no dataset {name!r} lies on this machine")
    echo(f"{name} is removed")


@dataset.command("list")
@click.option("--paths", is_flag=True, help="Show where those on this machine lie.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def dataset_list(paths: bool, as_json: bool) -> None:
    """List the catalogue's datasets, and those on this machine."""
    from rlcondense.catalogue import base_of, entries
    from rlcondense.datasets.minari import local_datasets, paths_of
    from rlcondense.datasets.sources import folder_of

    shipped, local = entries("datasets"), local_datasets()

    def is_here(base: str) -> bool:
        return base in local or (folder_of(base) is not None and bool(paths_of(base)))

    rows = [
        {
            "id": id_,
            "here": is_here(base_of(id_)),
            **(dict(shipped[id_].facts) if id_ in shipped else {}),
        }
        for id_ in sorted({*shipped, *local})
    ]
    if paths:
        for row in rows:
            if row["here"]:
                row["paths"] = list(map(str, paths_of(base_of(row["id"]))))
    if as_json:
        echo_json(rows, sort_keys=True)
        return
    from tabulate import tabulate

    if paths:
        for row in rows:
            for path in row.get("paths", []):
                echo(f"{row['id']}  {path}")
        return
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
@include_option
@click.argument("name")
def dataset_verify(name: str) -> None:
    """Read a dataset again and compare its sha256 with what it should be."""
    from rlcondense.catalogue import base_of, find
    from rlcondense.datasets.minari import verify_minari
    from rlcondense.datasets.sources import folder_of
    from rlcondense.errors import UnknownName
    from rlcondense.make import load_dataset

    try:
        expected = find("datasets", name).facts.get("sha256")
    except UnknownName:
        expected = None
    # Loading has compared it with the catalogue's sha256.
    base = base_of(load_dataset(name).id)
    actual = verify_minari(base, folder_of(base))
    against = "as the catalogue says" if expected else "as when it was first read here"
    echo(f"{name}: sha256 {actual}, {against}")


@dataset.command("show")
@include_option
@click.argument("name")
@click.option("--png", type=click.Path(path_type=Path), help="Write a contact sheet of frames.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--task", help="Task that a file was collected on, where it does not say.")
@download_option
def dataset_show(
    name: str, png: Path | None, as_json: bool, task: str | None, download: bool
) -> None:
    """Show the card of a dataset, which is an id or a file or folder of yours."""
    from rlcondense.datasets.cards import card_of, contact_sheet, write_card
    from rlcondense.make import agreed_task, load_dataset, task_of_dataset
    from rlcondense.records.shipped import shipped_summaries

    with ConsoleProgress() as progress:
        data = load_dataset(name, task=task, download=download, progress=progress)
    if task:
        agreed = agreed_task(task_of_dataset(data), task, f"dataset {data.id!r}")
        data = replace(data, task=agreed.id)
    card = {**card_of(data), "students": shipped_summaries(data.id)}
    if as_json:
        echo_json(card, sort_keys=True)
    else:
        echo(write_card(card))
    if png:
        contact_sheet(data, png)
        echo(f"frames           {png}", err=as_json)
