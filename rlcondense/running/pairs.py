"""Pairs of a method and the learner that is trained on its condensed sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium.spaces import Box

from rlcondense import catalogue
from rlcondense.config import config_json
from rlcondense.datasets.condensed import load_condensed
from rlcondense.datasets.exported import is_condensed
from rlcondense.datasets.labels import TAUGHT, label_settings
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.learners.base import Learner
from rlcondense.make import (
    facts_of,
    follows_learner,
    make_learner,
    make_method,
    recorded_method,
)
from rlcondense.methods.base import Method
from rlcondense.tasks.base import Task


def id_and_settings(kind: str, text: str) -> tuple[str, dict[str, str]]:
    """Split `id:key=value,key=value` into the id and the settings.

    Args:
        kind: `method` or `learner`, for messages.
        text: the text.
    """
    name, colon, settings = text.partition(":")
    pairs = [[part.strip() for part in pair.partition("=")] for pair in settings.split(",")]
    values = {key: value for key, _, value in pairs} if colon else {}
    if not name or (colon and (not all(all(p) for p in pairs) or len(values) < len(pairs))):
        raise BadConfig(f"a {kind} is given as id or id:key=value,key=value, not {text!r}")
    return name, values


def make_pair(
    method: str,
    learner: str,
    task: Task,
    settings: Mapping[str, Any] | None,
    learner_settings: Mapping[str, Any] | None,
) -> tuple[Method[Any], Learner[Any]]:
    """Make a method and the learner that is trained on its condensed sets.

    The learner has the settings of the method's paper, unless the method follows the learner.

    Args:
        method: id.
        learner: id.
        task: the task of both.
        settings: of the method.
        learner_settings: of the learner, over those of the paper.
    """
    settings, own = dict(settings or {}), dict(learner_settings or {})
    if follows_learner(settings):
        trained = make_learner(learner, task, **own)
        return make_method(method, task, trained, **settings), trained
    condenser = make_method(method, task, **settings)
    return condenser, make_learner(
        learner, task, **{**settings_of_paper(condenser, task, learner), **own}
    )


def settings_of_paper(method: Method[Any], task: Task, learner: str) -> dict[str, Any]:
    """Return the settings of `bc` in a method's paper; other learners have none.

    Args:
        method: made for the task.
        task: the task of both.
        learner: id.
    """
    if catalogue.find("learners", learner).id != "bc":
        return {}
    facts = facts_of(catalogue.find("methods", method.id))
    return {**facts.get("learner", {}), **method.students(task)}


def preferred_learner(folder: Path, task: Task, learner: str) -> dict[str, Any]:
    """Return the learner settings of the method that made a condensed dataset."""
    report = load_condensed(folder).report if is_condensed(folder) else None
    if report is None:
        return {}
    try:
        return settings_of_paper(recorded_method(report.method, report.config), task, learner)
    except (BadConfig, UnknownName):  # an unknown method, or one of another version
        return {}


def expected_regime(method: Method[Any], learner: Learner[Any], task: Task) -> dict[str, Any]:
    """Return the settings of the labels that a method's reference rows will have."""
    labels = getattr(method.config, "labels", method.label_kinds[0])
    if isinstance(task.action_space, Box):
        kind = "continuous"
    else:
        soft = labels in ("soft", "learned", TAUGHT) and "soft" in learner.label_kinds
        kind = "soft" if soft else "hard"
    return label_settings(config_json(method.config), kind)
