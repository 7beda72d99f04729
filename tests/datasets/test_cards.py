from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from imageio import v3 as imageio

from rlcondense.cli import main
from rlcondense.datasets.cards import (
    _actions,
    bars,
    card_of,
    contact_sheet,
    information_of,
    write_card,
)
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from tests.conftest import TINY


def test_a_card_adds_up(tiny: TransitionDataset) -> None:
    card = card_of(tiny)
    assert (card["episodes"], card["transitions"]) == (10, len(tiny))
    assert sum(card["returns"]["counts"]) == 10
    assert sum(card["actions"]["counts"]) == len(tiny)
    assert card["returns"]["mean"] == pytest.approx(tiny.episode_returns().mean())
    assert 1 <= card["levels"] <= 10
    assert card["minari"]["environment"] == "procgen/starpilot-easy-v0"
    assert card["minari"]["author"] == ["tests"]
    json.dumps(card)


def test_a_card_reads_well(tiny: TransitionDataset) -> None:
    text = write_card(card_of(tiny))
    assert f"10 episodes, {len(tiny):,} transitions" in text
    assert tiny.sha256 in text
    assert all(len(line) < 140 for line in text.splitlines())


def test_a_card_says_whether_there_is_anything_to_teach(tiny: TransitionDataset) -> None:
    def summary(mean: float) -> dict[str, dict[str, float]]:
        return {split: {"mean": mean, "standard_error": 0.5} for split in ("seen", "heldout")}

    students = {"full-converged": summary(9.25), "marginal-policy": summary(3.0)}
    text = write_card({**card_of(tiny), "students": students})
    assert "held-out levels: students of all of it 9.25 ± 0.50, the marginal policy 3.00" in text
    assert "students of all" not in write_card({**card_of(tiny), "students": {}})


def test_bars_show_whatever_is_there() -> None:
    assert bars([0, 1, 100]) == " ▁█"
    assert bars([]) == ""


def test_continuous_actions_have_a_mean_and_a_spread() -> None:
    data = TransitionDataset(
        observations=np.zeros((4, 2), np.float32),
        actions=np.array([[0.0], [1.0], [0.0], [1.0]], np.float32),
        rewards=np.ones(4, np.float32),
        terminations=np.array([False, False, False, True]),
        truncations=np.zeros(4, bool),
        episode_ids=np.zeros(4, np.int64),
        steps=np.arange(4),
    )
    card = card_of(data)
    assert card["actions"] == {"mean": [0.5], "std": [0.5]}
    many = np.full((3_000_000, 1), 0.9, np.float32)
    assert _actions(many)["mean"] == pytest.approx([0.9], abs=1e-6)
    assert "0.50" in write_card(card)
    with pytest.raises(BadConfig, match="has no frames to show"):
        contact_sheet(data, Path("never.png"))


def test_show_writes_a_contact_sheet_of_real_frames(
    tiny: TransitionDataset, tmp_path: Path
) -> None:
    png = tmp_path / "sheet.png"
    done = CliRunner().invoke(main, ["dataset", "show", TINY, "--png", str(png)])
    assert done.exit_code == 0, done.output
    sheet = imageio.imread(png)
    assert sheet.shape == (640, 640, 3)
    assert np.array_equal(sheet[:64, :64], np.asarray(tiny.observations[0]).transpose(1, 2, 0))
    last = np.asarray(tiny.observations[len(tiny) - 1]).transpose(1, 2, 0)
    assert np.array_equal(sheet[-64:, -64:], last)


def test_list_names_what_is_shipped_and_what_is_here(tiny: TransitionDataset) -> None:
    done = CliRunner().invoke(main, ["dataset", "list", "--json"])
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    assert rows[TINY]["here"]
    assert rows["procgen/starpilot-easy/expert-v0"]["episodes"] == 100
    assert TINY in CliRunner().invoke(main, ["dataset", "list"]).stdout


def test_what_an_observation_tells_of_the_action() -> None:
    """Nothing where all rows act alike; all of it where each row's action is certain."""
    alike = np.tile([0.2, 0.3, 0.5], (9, 1))
    assert information_of(alike) == pytest.approx(0, abs=1e-9)
    assert information_of(np.tile(np.eye(3), (4, 1))) == pytest.approx(np.log(3))
    half = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]])
    assert information_of(half) == pytest.approx(np.log(2) / 2)
