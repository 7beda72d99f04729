"""The page on backgrounds: its figures are those of the published records."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.scripts import ROOT, script


@pytest.fixture(scope="module")
def findings() -> Any:
    return script("baselines/findings/backgrounds.py")


@pytest.fixture(scope="module")
def views(findings: Any) -> Any:
    return findings.read_views(ROOT / "leaderboard" / "results")


def test_the_page_is_that_of_the_records(findings: Any, views: Any) -> None:
    assert len({one.game for one in views}) > 1
    assert findings.page(views) in (ROOT / "docs" / "results" / "backgrounds.md").read_text()


def test_rows_of_one_game_method_and_size_are_compared(findings: Any, views: Any) -> None:
    for one in views:
        assert [group.task for group in one.groups] == [
            f"procgen/{one.game}-plain-v0",
            f"procgen/{one.game}-easy-v0",
        ]
        assert (one.plain.name, one.plain.budget) == (one.ordinary.name, one.ordinary.budget)
        held = [row.returns["heldout"]["mean"].estimate for row in (one.plain, one.ordinary)]
        assert one.cost.estimate == pytest.approx(held[0] - held[1])


def test_both_views_have_the_episodes_of_one_teacher(views: Any) -> None:
    # The policy that never looks takes the same actions on the same levels.
    for one in views:
        assert one.policy("marginal-policy", 0) == one.policy("marginal-policy", 1)
