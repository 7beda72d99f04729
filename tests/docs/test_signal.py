"""The page on what there is to teach: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from rlcondense.comparison.columns import number
from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def teachable() -> Any:
    return script("baselines/students/teachable.py")


@pytest.fixture(scope="module")
def games(teachable: Any) -> Any:
    return teachable.read_games(ROOT / "leaderboard" / "results")


def test_the_page_is_that_of_the_records(teachable: Any, games: Any) -> None:
    assert len(games) == 32
    assert teachable.page(games) in (ROOT / "docs" / "results" / "signal.md").read_text()


def test_the_pages_returns_are_the_boards(teachable: Any, games: Any) -> None:
    board = (ROOT / "leaderboard" / "tables" / "signal.md").read_text()
    [starpilot] = [game for game in games if game.task == "starpilot-plain"]
    of_game = board.split("## procgen/starpilot-plain-v0")[1].split("\n## ")[0]
    [row] = [line for line in of_game.splitlines() if "full-converged" in line]
    returned = starpilot.records[teachable.CONVERGED]["summary"]["heldout"]["mean"]
    assert number(returned) in row


def test_a_student_that_the_cap_ended_is_counted(teachable: Any) -> None:
    training = {
        "updates": list(range(100, 1000, 100)),
        "cap": 950,
        "best_update": [800, 200, 100],
        "held_back_loss": [[1.0] * 9, [1.0] * 9, [1.0] * 7],  # ended by the cap, both, patience
    }
    game = teachable.Game("maze-plain", {teachable.CONVERGED: {"training": training}})
    assert game.capped == 1
    assert teachable.Game("maze-plain", {}).capped == 0
