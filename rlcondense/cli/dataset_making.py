"""Commands that make datasets: corrupt and collect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlcondense.cli.base import include_option
from rlcondense.cli.dataset import dataset
from rlcondense.console import ConsoleProgress, echo
from rlcondense.errors import BadConfig
from rlcondense.text import shown

if TYPE_CHECKING:
    from rlcondense.tasks.base import Task


@dataset.command("corrupt")
@include_option
@click.argument("name")
@click.option(
    "--fault",
    required=True,
    type=click.Choice(
        [
            "action-noise",
            "duplicated",
            "other-policy",
            "stale-frames",
            "truncated",
            "wrong-action",
        ]
    ),
    help="What is wrong with some of the episodes.",
)
@click.option("--share", default=0.2, show_default=True, help="Share of the episodes.")
@click.option("--seed", default=0, show_default=True, help="Decides which episodes, and how.")
@click.option("--id", "new", help="Id of the new dataset. Default: NAME's with the fault in it.")
@click.option("--task", help="Task that a file was collected on, where it does not say.")
def dataset_corrupt(
    name: str, fault: str, share: float, seed: int, new: str | None, task: str | None
) -> None:
    """Write a dataset with a known fault in some of NAME's episodes, to judge scores by.

    action-noise and other-policy are played again, so that frames follow from the actions; this
    takes a dataset that is made from a trace. wrong-action and stale-frames change what was
    written down, truncated cuts episodes off, duplicated puts copies in their place."""
    from rlcondense.training.corrupt import corrupt_dataset

    with ConsoleProgress() as progress:
        data = corrupt_dataset(
            name, fault, task=task, share=share, seed=seed, id=new, progress=progress
        )
    faulty = sum(data.faulty)
    echo(f"{data.id}: {len(data.episodes)} episodes, {faulty} of them with {fault}")


@dataset.command("collect")
@include_option
@click.argument("task")
@click.option(
    "--kind",
    default="expert",
    show_default=True,
    type=click.Choice(["expert", "mixed", "random"]),
    help="Played by the expert, by three to five policies along its training, or at random.",
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
@click.option(
    "--view",
    metavar="VIEW",
    help="View of the game that the --expert sees, such as plain. Default: the task's.",
)
@click.option("--episodes", default=100, show_default=True)
@click.option("--seed", default=1000, show_default=True, help="Evaluations use seed 0.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
def dataset_collect(
    task: str,
    kind: str,
    folder: Path | None,
    expert: str | None,
    view: str | None,
    episodes: int,
    seed: int,
    out: Path,
) -> None:
    """Play seen levels of a task and write the trace, or what was seen where none replays."""
    from rlcondense.make import make_task
    from rlcondense.training.collect import collect_dataset, write_played

    if view is not None and (expert is None or kind != "expert"):
        raise BadConfig("--view needs --expert and its kind: the task's own sees the task's view")
    if kind == "random" and (expert is not None or folder is not None):
        raise BadConfig("--expert and --folder name who plays: --kind random plays at random")
    if out.suffix != ".safetensors" or out.is_dir():
        raise BadConfig(f"--out is a file whose name ends in .safetensors, not {shown(str(out))}")
    with ConsoleProgress() as progress:
        task_object = make_task(task)
        trace = collect_dataset(
            task_object if view is None else _in_view(task_object, view),
            kind,
            folder=folder,
            expert=expert,
            episodes=episodes,
            seed=seed,
            progress=progress,
        )
        write_played(trace, task_object, out)
    echo(f"{episodes} episodes, {len(trace.actions)} steps: {out}")


def _in_view(task: Task, view: str) -> Task:
    """Return a Procgen task with another view of the same states."""
    from rlcondense.tasks.procgen import ProcgenTask

    if not isinstance(task, ProcgenTask):
        raise BadConfig(f"--view is for Procgen, {task.id!r} has one view")
    return replace(task, view=view)
