"""The command that computes a published cell again."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rlcondense.comparison.rows import findings_of
from rlcondense.config import config_json
from rlcondense.errors import RLCondenseError
from rlcondense.make import make_method, make_task
from rlcondense.protocol import protocol_of
from rlcondense.records.cell import Cell, episodes_of, evaluation_json
from rlcondense.records.record import Record
from rlcondense.running.pairs import make_pair


def takes_heldout_data(record: Record) -> bool:
    """Return whether a record is of data that hold held-out levels, which one has to ask for."""
    return any(finding["name"] == "heldout-data" for finding in findings_of([record]))


def command_of(record: Record) -> str:
    """Return the command that computes a record's cell, for a shell; empty if no command does.

    Settings are listed where they differ from those that the command has by itself, and all of
    them where the method or the learner is not installed here.
    """
    cell = Cell.from_json(record["cell"])
    if cell.is_handed_in or cell.dataset.startswith("local/"):
        return ""  # it takes files that a reader does not have
    learner_seeds, evaluation = list(cell.learner_seeds), cell.evaluation
    episodes = episodes_of(evaluation)
    if learner_seeds != list(range(len(learner_seeds))):
        return ""
    if episodes < 1 or dict(evaluation) != evaluation_json(protocol_of(episodes)):
        return ""
    what = ["--task", cell.task, *(["--dataset", cell.dataset] if cell.dataset else [])]
    if takes_heldout_data(record):
        what.append("--heldout-data")
    measured = ["--seeds", str(len(learner_seeds)), "--episodes", str(episodes)]
    if cell.learner is None or cell.budget is None:
        return shlex.join(["rlcondense", "evaluate", cell.method["id"], *what, *measured])
    budget = [part for key, value in cell.budget.items() for part in (f"--{key}", str(value))]
    seed = ["--seed", str(cell.condensation_seed), "--condensations", "1"]
    parts = [json.dumps(part, sort_keys=True) for part in (cell.method, cell.learner)]
    return shlex.join(
        [
            "rlcondense", "run", "--method", cell.method["id"], *what, *budget, *seed,
            "--learner", cell.learner["id"], *measured, *_settings(cell.task, *parts),
        ]
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _settings(task: str, method: str, learner: str) -> list[str]:
    """Return the options of settings; method and learner are JSON."""
    wanted, taught = json.loads(method), json.loads(learner)
    own, learners = dict(wanted["config"]), dict(taught["config"])
    try:
        made = make_task(task)
        own = _differing(own, make_method(wanted["id"], made).config)
        pair = make_pair(wanted["id"], taught["id"], made, own, {})
        learners = _differing(learners, pair[1].config)
    except (RLCondenseError, TypeError, ValueError):
        pass  # it is not installed here, or of another version
    pairs = [*own.items(), *((f"learner.{key}", value) for key, value in learners.items())]
    return [part for key, value in pairs for part in ("--set", f"{key}={setting_text(value)}")]


def _differing(config: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """Return the settings of a cell that differ from a config; those it lacks have defaults."""
    own = config_json(usual)
    lacking = {f.name: f.default for f in dataclasses.fields(usual) if f.name in own}
    return {
        key: value
        for key, value in sorted({**lacking, **config}.items())
        if key not in own or (own[key] != value and (key in config or own[key] != lacking[key]))
    }


def setting_text(value: Any) -> str:
    """Format a setting's value in the form that `--set` takes."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
