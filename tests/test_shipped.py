"""What is shipped in baselines is what its cards and the catalogue say."""

from __future__ import annotations

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.datasets.cards import card_of
from rlcondense.datasets.recordings import RecordedDataset
from rlcondense.datasets.storage import verify_minari
from rlcondense.datasets.traces import TraceDataset, load_trace
from rlcondense.experts.training import evaluate_expert
from rlcondense.experts.zoo import load_expert, shipped_experts
from rlcondense.making import default_dataset, load_dataset, make_method, make_task
from rlcondense.methods.condensed import Budget

EXPERTS = shipped_experts()
DATASETS = sorted(catalogue.entries("datasets"))
TRACES = [
    id_ for id_ in DATASETS if catalogue.find("datasets", id_).entry_point.endswith("TraceDataset")
]
RECORDINGS = [
    id_
    for id_ in DATASETS
    if catalogue.find("datasets", id_).entry_point.endswith("RecordedDataset")
]
SPLITS = ("seen", "heldout")


def test_every_shipped_expert_has_its_family_of_datasets() -> None:
    names = [id_.removesuffix("-v0") for id_ in EXPERTS]
    wanted = [f"{name}/{kind}-v0" for name in names for kind in _kinds(name)]
    wanted += [f"{name}/expert-1k-v0" for name in names if name.startswith("procgen/")]
    own = [id_ for id_ in DATASETS if "light2024" not in id_ and not id_.startswith("images/")]
    assert sorted(wanted) == own
    assert {"procgen/bigfish-easy-v0", "procgen/jumper-easy-v0", "procgen/starpilot-easy-v0"} <= {
        *EXPERTS
    }
    for id_ in EXPERTS:
        name = id_.removesuffix("-v0")
        assert default_dataset(make_task(id_)) == f"{name}/{_kinds(name)[0]}-v0"


def _kinds(name: str) -> tuple[str, str, str]:
    """Minari's remote has expert sets of MuJoCo's robots, whose names are not taken here."""
    prefix = "ppo-" if name.startswith("mujoco/") else ""
    return f"{prefix}expert", f"{prefix}mixed", "random"


@pytest.mark.parametrize("task_id", EXPERTS)
def test_an_experts_card_tells_how_it_was_made_and_what_it_scores(task_id: str) -> None:
    card = load_expert(task_id).card
    assert card["command"].startswith("rlcondense expert train")
    usual = catalogue.find("tasks", task_id).facts.get("training", {}).get("steps")
    assert card["config"]["steps"] == usual or str(card["config"]["steps"]) in card["command"]
    assert card["steps"] >= card["config"]["steps"]
    for split in SPLITS:
        assert card["returns"][split].keys() == {"mean", "standard_error", "episodes"}
        assert card["returns"][split]["episodes"] >= 500


def test_most_experts_beat_the_random_policy_by_three_standard_errors_on_both_splits() -> None:
    assert sum(min(_margins(task_id)) > 3 for task_id in EXPERTS) >= 8


@pytest.mark.parametrize("task_id", EXPERTS)
def test_every_expert_beats_the_random_policy_on_seen_levels(task_id: str) -> None:
    assert _margins(task_id)[0] > 3


def _margins(task_id: str) -> list[float]:
    """How many standard errors the expert is above the random policy, by split."""
    said, random = load_expert(task_id).card["returns"], make_task(task_id).random_return
    return [
        (said[split]["mean"] - random[split].mean)
        / float(np.hypot(said[split]["standard_error"], random[split].standard_error))
        for split in SPLITS
    ]


@pytest.mark.parametrize("dataset_id", TRACES)
def test_a_trace_is_a_hundred_episodes_and_well_under_a_megabyte(dataset_id: str) -> None:
    facts, path = catalogue.find("datasets", dataset_id).facts, TraceDataset(dataset_id).path
    trace = load_trace(path)
    assert trace.quota * len(trace.lengths) == facts["episodes"] == 100
    assert len(trace.actions) == facts["transitions"]
    assert path.stat().st_size < 600_000
    assert len(str(facts["sha256"])) == 64
    assert str(facts["expert"]) in EXPERTS


@pytest.mark.parametrize("dataset_id", RECORDINGS)
def test_a_recording_is_what_the_catalogue_says_and_small(dataset_id: str) -> None:
    facts, path = catalogue.find("datasets", dataset_id).facts, RecordedDataset(dataset_id).path
    assert path.stat().st_size < 600_000
    data = load_dataset(dataset_id)
    assert data.sha256 == facts["sha256"]
    assert (len(data.episodes), len(data)) == (facts["episodes"], facts["transitions"])
    card = card_of(data)
    assert card["returns"]["mean"] == pytest.approx(facts["returns"]["mean"], abs=6e-4)
    assert card["returns"]["quantiles"][1:4] == pytest.approx(
        facts["returns"]["quartiles"], abs=6e-4
    )
    assert set(np.unique(data.column("level_seeds"))) <= set(make_task(data.task).splits["seen"])


def test_the_experts_of_classic_control_solve_it() -> None:
    for name, least in (("acrobot", -100), ("cartpole", 475), ("mountain-car", -120)):
        card = load_expert(f"classic/{name}-v0").card
        assert min(card["returns"][split]["mean"] for split in SPLITS) > least
    pendulum = load_expert("classic/pendulum-v0").card["returns"]
    assert min(pendulum[split]["mean"] for split in SPLITS) > -200


@pytest.mark.parametrize(
    "id_", sorted(id_ for id_, e in catalogue.entries("tasks").items() if "file" not in e.config)
)
def test_the_random_policys_return_is_known(id_: str) -> None:
    for split in SPLITS:
        assert make_task(id_).random_return[split].episodes >= 200


def test_in_the_mixed_starpilot_data_it_matters_which_episodes_are_kept() -> None:
    data = load_dataset("procgen/starpilot-easy/mixed-v0")
    task, returns = make_task("starpilot"), data.episode_returns()
    expert = load_expert(task.id).card["returns"]["seen"]["mean"]
    low, high = np.quantile(returns, [0.25, 0.75])
    assert high - low >= expert / 3
    best = make_method("bc-10").condense(
        data, task=task, budget=Budget(percent=10, unit="episodes")
    )
    kept = np.unique(np.asarray(best.episode_ids))
    assert len(kept) == 10
    assert returns[kept].mean() > 2 * returns.mean()


@pytest.mark.slow
@pytest.mark.parametrize("dataset_id", TRACES)
def test_a_shipped_dataset_replays_to_its_card(dataset_id: str) -> None:
    facts = catalogue.find("datasets", dataset_id).facts
    card = card_of(load_dataset(dataset_id))
    assert verify_minari(dataset_id) == card["sha256"] == facts["sha256"]
    assert card["returns"]["mean"] == pytest.approx(facts["returns"]["mean"], abs=5e-4)
    said = facts["returns"]["quartiles"]
    assert card["returns"]["quantiles"][1:4] == pytest.approx(said, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task_id", EXPERTS)
def test_an_expert_scores_what_its_card_says(task_id: str) -> None:
    card = load_expert(task_id).card
    for split, now in evaluate_expert(task_id, episodes=500, device="cpu").items():
        said = card["returns"][split]
        error = np.hypot(said["standard_error"], now["standard_error"])
        assert abs(now["mean"] - said["mean"]) <= 4 * error
