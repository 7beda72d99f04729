"""What is shipped in baselines is what its cards and the catalogue say."""

from __future__ import annotations

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.datasets.traces import TraceDataset, load_trace
from rlcondense.experts.training import evaluate_expert
from rlcondense.experts.zoo import load_expert, shipped_experts
from rlcondense.making import load_dataset, make_task

GAMES = ("bigfish", "jumper", "starpilot")
EXPERTS = [f"procgen/{game}-easy-v0" for game in GAMES]
DATASETS = [f"procgen/{game}-easy/expert-v0" for game in GAMES]


def test_the_three_games_are_shipped() -> None:
    assert shipped_experts() == EXPERTS
    assert sorted(catalogue.entries("datasets")) == DATASETS


@pytest.mark.parametrize("task_id", EXPERTS)
def test_an_experts_card_tells_how_it_was_made_and_what_it_scores(task_id: str) -> None:
    card = load_expert(task_id).card
    assert card["command"].startswith("rlcondense expert train")
    assert card["steps"] > 0
    for split in ("seen", "heldout"):
        assert card["returns"][split].keys() == {"mean", "standard_error", "episodes"}
        assert card["returns"][split]["episodes"] >= 100


@pytest.mark.parametrize("task_id", EXPERTS)
def test_an_expert_is_better_than_the_random_policy_by_three_standard_errors(task_id: str) -> None:
    card = load_expert(task_id).card
    random = make_task(task_id).random_return["seen"]
    expert = card["returns"]["seen"]
    error = np.hypot(random.standard_error, expert["standard_error"])
    assert expert["mean"] > random.mean + 3 * error


@pytest.mark.parametrize("dataset_id", DATASETS)
def test_a_trace_is_a_hundred_episodes_of_a_known_expert(dataset_id: str) -> None:
    entry = catalogue.find("datasets", dataset_id)
    trace = load_trace(TraceDataset(dataset_id).path)
    assert trace.quota * len(trace.lengths) == 100
    assert len(str(entry.facts["sha256"])) == 64
    assert str(entry.facts["expert"]) in EXPERTS


@pytest.mark.parametrize("id_", sorted(catalogue.entries("tasks")))
def test_the_random_policys_return_is_known(id_: str) -> None:
    for split in ("seen", "heldout"):
        assert make_task(id_).random_return[split].episodes >= 200


@pytest.mark.slow
@pytest.mark.parametrize("dataset_id", DATASETS)
def test_a_shipped_dataset_replays_to_its_sha256(dataset_id: str) -> None:
    data = load_dataset(dataset_id)
    assert data.sha256 == catalogue.find("datasets", dataset_id).facts["sha256"]
    assert len(data.episodes) == 100


@pytest.mark.slow
@pytest.mark.parametrize("task_id", EXPERTS)
def test_an_expert_scores_what_its_card_says(task_id: str) -> None:
    card = load_expert(task_id).card
    for split, now in evaluate_expert(task_id, episodes=500, device="cpu").items():
        said = card["returns"][split]
        error = np.hypot(said["standard_error"], now["standard_error"])
        assert abs(now["mean"] - said["mean"]) < 4 * error
