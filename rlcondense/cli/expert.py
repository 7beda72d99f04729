"""Commands of experts: train, distil, evolve, list and evaluate."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from rlcondense.cli.base import (
    FolderToWrite,
    all_options,
    device_option,
    include_option,
    main,
    split_settings,
)
from rlcondense.console import ConsoleProgress, echo, echo_json
from rlcondense.errors import BadConfig


@main.group()
def expert() -> None:
    """Train, distil and evaluate experts."""


_NETWORKS = click.Choice(
    ["cnn4", "compact", "impala", "impala-patch2", "impala-patch4", "mlp", "nature"]
)


_training = all_options(
    click.option("--seed", type=int, help="Default: 0."),
    click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint."),
    click.option(
        "--restart",
        is_flag=True,
        help="Discard the folder's training and its expert, and begin anew.",
    ),
    click.option(
        "--episodes",
        default=500,
        show_default=True,
        help="Episodes of its evaluation on each split.",
    ),
    click.option(
        "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Another setting. Repeatable."
    ),
    device_option,
)


@expert.command("train")
@include_option
@click.argument("task")
@click.option(
    "--network",
    type=_NETWORKS,
    help="Default: the task's in the catalogue, else impala, or mlp for vectors.",
)
@click.option("--steps", type=int, help="Environment steps. Default: the task's, else 25,000,000.")
@click.option("--out", type=FolderToWrite(), help="Folder. Default: results/experts/TASK.")
@_training
def expert_train(task: str, **options: Any) -> None:
    """Train an expert by PPO and write its weights and card to a folder."""
    from rlcondense.training.experts import train_expert

    _train(train_expert, ["train", task], (task,), **options)


@expert.command("distil")
@include_option
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
@click.option("--out", type=FolderToWrite(), help="Folder. Default: results/distilled/TASK.")
@_training
def expert_distil(task: str, teacher: str, **options: Any) -> None:
    """Distil an expert from a teacher that sees another picture of the same game.

    Both step in lockstep on seen levels; the student learns the teacher's distributions (DAgger).
    """
    from rlcondense.training.experts import distil_expert

    _train(distil_expert, ["distil", task, "--teacher", teacher], (task, teacher), **options)


def _train(
    train: Callable[..., tuple[Path, dict[str, Any]]],
    command: Sequence[str],
    arguments: Sequence[str],
    *,
    network: str | None,
    steps: int | None,
    seed: int | None,
    pairs: Sequence[str],
    **options: Any,
) -> None:
    """Run a training, and print its card."""
    settings, learner_settings = split_settings(pairs)
    if learner_settings:
        raise BadConfig(f"expert {command[0]} trains no learner: --set takes its own settings only")
    flags = {"network": network, "steps": steps, "seed": seed}
    shown = {name: str(value) for name, value in flags.items() if value is not None}
    if twice := shown.keys() & settings.keys():
        raise BadConfig(f"--{min(twice)} and --set {min(twice)}=... say the same thing: give one")
    words = ["rlcondense", "expert", *command]
    words += [part for name, value in shown.items() for part in (f"--{name}", value)]
    words += [part for pair in pairs for part in ("--set", pair)]
    try:
        with ConsoleProgress() as progress:
            path, card = train(
                *arguments,
                {**shown, **settings},
                command=shlex.join(words),
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        echo(
            "\nInterrupted; the same command with --resume goes on from the checkpoint, or anew "
            "if there is none.",
            err=True,
        )
        sys.exit(130)
    _print_returns(card["returns"])
    echo(f"{card['steps']:,} steps in {card['seconds']:.0f} s: {path}")


@expert.command("evolve")
@include_option
@click.argument("task")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=FolderToWrite(), help="Folder. Default: results/evolved/TASK-SEED.")
@click.option(
    "--episodes", default=100, show_default=True, help="Episodes of its evaluation on each split."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting. Repeatable.")
@device_option
def expert_evolve(
    task: str, seed: int, out: Path | None, episodes: int, pairs: Sequence[str], device: str
) -> None:
    """Evolve a policy's weights, HaDES' baseline, into a folder that 'evaluate' takes."""
    from rlcondense.training.evolve import evolve_to

    settings, learner_settings = split_settings(pairs)
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
    from rlcondense.experts.shipped import expert_table, shipped_cards, shipped_experts

    if as_json:
        newest = set(shipped_experts().values())
        echo_json([card for card in shipped_cards() if card["id"] in newest], sort_keys=True)
    else:
        echo(expert_table())


@expert.command("evaluate")
@include_option
@click.argument("task")
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True), help="Default: the shipped experts."
)
@click.option("--episodes", default=500, show_default=True, help="Episodes on each split.")
@device_option
def expert_evaluate(task: str, folder: Path | None, episodes: int, device: str) -> None:
    """Evaluate a task's expert."""
    from rlcondense.training.experts import evaluate_expert

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
