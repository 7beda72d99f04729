"""Datasets with injected faults: what is faulty, what is not, and who sees it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Discrete

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.cli import main
from rlcondense.cli.dataset_making import dataset_corrupt
from rlcondense.comparison.tables import faults_table, suite_table
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.episodes import Episode, episode_of
from rlcondense.datasets.faults import (
    FAULTS,
    LAG,
    Plan,
    action_noise,
    corrupted,
    faulty_episodes,
    wrong_action,
)
from rlcondense.datasets.minari import _faulty, minari_path, remove_minari
from rlcondense.datasets.scores import Scores
from rlcondense.datasets.traces import Trace
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.make import load_dataset, make_method
from rlcondense.methods.base import Method
from rlcondense.records.reading import record_files
from rlcondense.records.store import Store, read_record_file, write_record_file
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.running.scoring import score_lines
from rlcondense.running.states import SweepResult, dry_run
from rlcondense.running.suite import load_suite
from rlcondense.tasks.base import Task
from rlcondense.training.corrupt import corrupt_dataset, named_after
from tests.conftest import TINY
from tests.datasets import minari_data

LEADERBOARD = Path(__file__).parents[2] / "leaderboard"
FAULTY = np.arange(10) % 5 == 3  # of ten episodes


def same(a: Episode, b: Episode) -> bool:
    names = ("observations", "actions", "rewards", "action_probs", "level_seed", "truncated")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.fixture(scope="module")
def by_fault(tiny: TransitionDataset, task: Task, trace: Trace) -> dict[str, list[Episode]]:
    return {
        fault: list(corrupted(tiny, fault, FAULTY, 0, task=task, trace=trace)) for fault in FAULTS
    }


def test_an_episode_without_an_end_is_cut_off_and_one_with_both_has_terminated(
    tiny: TransitionDataset,
) -> None:
    terminations, truncations = (
        np.array(tiny.column(name)) for name in ("terminations", "truncations")
    )
    open_, both = tiny.episodes[0].stop - 1, tiny.episodes[1].stop - 1
    terminations[[open_, both]], truncations[[open_, both]] = [False, True], [False, True]
    data = replace(tiny, terminations=terminations, truncations=truncations, known_sha256="")
    assert [episode_of(data, number).truncated for number in (0, 1)] == [True, False]


@pytest.mark.parametrize("fault", FAULTS)
def test_clean_episodes_stay_what_they_were_and_faulty_ones_do_not(
    fault: str, by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    episodes = by_fault[fault]
    assert len(episodes) == 10
    for number, episode in enumerate(episodes):
        assert same(episode, episode_of(tiny, number)) != FAULTY[number]


def test_wrong_actions_are_those_of_other_steps_and_frames_stay(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    for number in np.flatnonzero(FAULTY):
        wrong, right = by_fault["wrong-action"][number], episode_of(tiny, number)
        assert np.array_equal(wrong.observations, right.observations)
        assert sorted(wrong.actions) == sorted(right.actions)


def test_a_wrong_action_brings_its_own_distribution() -> None:
    actions, frames, rewards = np.arange(9), np.zeros((9, 2)), np.zeros(9, np.float32)
    episode = Episode(frames, actions, rewards, 0, np.eye(9, dtype=np.float32))
    wrong = wrong_action(episode, np.random.default_rng(0))
    assert wrong.action_probs is not None
    assert not (wrong.actions == actions).any()
    two = Episode(frames[:2], actions[:2], rewards[:2], 0)
    assert wrong_action(two, np.random.default_rng(0)).actions.tolist() == [1, 0]
    assert np.array_equal(wrong.action_probs.argmax(1), wrong.actions)


def test_stale_frames_are_a_few_steps_behind(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    stale, fresh = by_fault["stale-frames"][3], episode_of(tiny, 3)
    assert np.array_equal(stale.observations[LAG:], fresh.observations[:-LAG])
    assert all(np.array_equal(frame, fresh.observations[0]) for frame in stale.observations[:LAG])
    assert np.array_equal(stale.actions, fresh.actions)


def test_truncated_episodes_are_the_beginnings(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    short, long = by_fault["truncated"][3], episode_of(tiny, 3)
    count = len(short.rewards)
    assert 0.1 * len(long.rewards) < count < 0.7 * len(long.rewards)
    assert short.truncated
    assert np.array_equal(short.observations, long.observations[:count])


def test_duplicates_are_copies_of_clean_episodes(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    clean = [episode_of(tiny, int(i)) for i in np.flatnonzero(~FAULTY)]
    for number in np.flatnonzero(FAULTY):
        assert any(same(by_fault["duplicated"][number], episode) for episode in clean)
    first, second = (by_fault["duplicated"][number] for number in np.flatnonzero(FAULTY))
    assert same(first, second)  # up to five are copies of one episode


def test_noise_is_played_so_that_frames_follow_from_the_actions_taken(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset, task: Task, trace: Trace
) -> None:
    """Alone in its environment, the first faulty episode's own actions give its own frames."""
    noisy, recorded = by_fault["action-noise"][3], episode_of(tiny, 3)
    count = min(len(noisy.rewards), len(recorded.rewards))
    differs = noisy.actions[:count] != recorded.actions[:count]
    assert 0.1 < differs.mean() < 0.5
    first = int(np.argmax(differs))
    assert np.array_equal(noisy.observations[: first + 1], recorded.observations[: first + 1])
    assert not np.array_equal(noisy.observations[:count], recorded.observations[:count])
    assert noisy.level_seed == recorded.level_seed
    assert noisy.action_probs is not None
    assert noisy.action_probs.sum(1) == pytest.approx(1, abs=1e-4)
    assert recorded.action_probs is not None
    mixed = 0.7 * recorded.action_probs[:count] + 0.3 / 15
    assert noisy.action_probs[:count] == pytest.approx(mixed, abs=1e-5)


def test_another_policy_plays_the_same_level_at_random(
    by_fault: dict[str, list[Episode]], tiny: TransitionDataset
) -> None:
    other, recorded = by_fault["other-policy"][3], episode_of(tiny, 3)
    assert other.level_seed == recorded.level_seed
    assert np.array_equal(other.observations[0], recorded.observations[0])
    assert other.action_probs is not None
    assert np.ptp(other.action_probs) == 0
    assert len(other.rewards) <= max(len(rows) for rows in tiny.episodes)


def test_a_fault_that_is_played_needs_the_datasets_trace(
    tiny: TransitionDataset, task: Task, trace: Trace
) -> None:
    with pytest.raises(BadConfig, match=r"dataset 'tests/starpilot-v0' has no trace"):
        next(corrupted(tiny, "action-noise", FAULTY, 0, task=task))
    other = replace(trace, seed=trace.seed + 1)
    with pytest.raises(CorruptArtifact, match="does not replay"):
        list(corrupted(tiny, "action-noise", FAULTY, 0, task=task, trace=other))


def test_episodes_in_which_a_fault_would_change_nothing_are_not_faulty() -> None:
    lengths = [1, 3, 1, 3, 3, 1]
    for fault in ("wrong-action", "stale-frames", "truncated"):
        assert np.flatnonzero(faulty_episodes(lengths, fault, 0.5, 0)).tolist() == [1, 3, 4]
        with pytest.raises(BadConfig, match="3 of 6 are longer, and 4 are to be faulty"):
            faulty_episodes(lengths, fault, 0.7, 0)
    assert faulty_episodes(lengths, "duplicated", 0.7, 0).sum() == 4
    plan = Plan(np.zeros(2, int), None)
    for seed in range(30):
        noisy = action_noise(plan, 2, Discrete(1000), np.random.default_rng(seed))
        assert noisy.actions.any()


def test_a_share_leaves_some_of_both() -> None:
    assert faulty_episodes([5] * 20, "truncated", 0.2, 0).sum() == 4
    drawn = [faulty_episodes([5] * 20, "truncated", 0.2, seed) for seed in (0, 1)]
    assert not np.array_equal(*drawn)
    for share in (0.01, 1.0):
        with pytest.raises(BadConfig, match="some must be faulty, and some clean"):
            faulty_episodes([5] * 20, "truncated", share, 0)


def test_auroc_is_one_for_a_score_that_sees_and_half_for_a_blind_one(
    tiny: TransitionDataset,
) -> None:
    assert Scores(np.where(FAULTY, 0.0, 1.0)).auroc(tiny, FAULTY) == 1
    assert Scores(np.where(FAULTY, 1.0, 0.0)).auroc(tiny, FAULTY) == 0
    assert Scores(np.zeros(10)).auroc(tiny, FAULTY) == 0.5
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, 10).astype(float)
    pairs = np.sign(scores[~FAULTY][:, None] - scores[FAULTY])
    assert Scores(scores).auroc(tiny, FAULTY) == pytest.approx((pairs.mean() + 1) / 2, abs=1e-6)


@pytest.fixture
def new(tiny: TransitionDataset) -> str:
    name = named_after(TINY, "truncated")
    assert name == "tests/starpilot-truncated-v0"
    remove_minari(name)
    return name


def test_corrupt_writes_a_dataset_that_knows_its_faults_and_shows_no_method_which(
    new: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["dataset", "corrupt", TINY, "--fault", "truncated", "--share", "0.3"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert f"{new}: 10 episodes, 3 of them with truncated" in done.stdout
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "name the new one by --id" in again.stderr
    assert not minari_path(new).exists()  # it lies on disk once, as columns
    data = load_dataset(new)
    assert sum(data.origin.faulty) == 3
    method = make_method("longest")
    report = method.condense(data, task=task, budget=20).report
    assert report is not None
    assert report.fault_auroc == method.score(data, task=task).auroc(data, data.origin.faulty)
    assert report.fault_auroc > 0.5
    problem = method._problem(data, task, Budget(size=1), None, 0, "cpu", lambda *_: None)
    assert problem.dataset.origin.faulty == ()
    out = tmp_path / "scores.csv"
    done = CliRunner().invoke(main, ["score", new, "--method", "longest", "--out", str(out)])
    assert "a clean episode scores above a faulty one" in done.stdout
    assert [line.rsplit(",", 1)[1] for line in out.read_text().splitlines()] == [
        "faulty", *(str(int(one)) for one in data.origin.faulty)
    ]  # fmt: skip


def test_a_dataset_of_the_catalogue_can_have_faults(
    new: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"source": TINY, "fault": "truncated", "share": 0.3, "seed": 1}
    facts = {"task": task.id}
    point = "rlcondense.training.corrupt:FaultyDataset"
    entry = Entry("datasets", new, point, config=config, facts=facts)
    monkeypatch.setitem(catalogue._registered, ("datasets", new), entry)
    data = load_dataset(new)
    assert np.array_equal(data.origin.faulty, faulty_episodes([9] * 10, "truncated", 0.3, 1))
    with pytest.raises(BadConfig, match="there is a dataset"):
        corrupt_dataset(TINY, "truncated")
    remove_minari(new)


def test_a_trace_of_ones_own_is_played_again_too(
    task: Task, trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    path = tmp_path / "mine.trace.safetensors"
    trace.save(path)
    data = corrupt_dataset(str(path), "other-policy", task=task.id)
    assert re.fullmatch("local/[0-9a-f]{12}-other-policy-v0", data.id)
    assert sum(data.origin.faulty) == 2
    remove_minari(data.id)


def test_a_dataset_is_not_corrupted_twice_nor_in_the_place_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = corrupt_dataset(TINY, "truncated", id="aa/bb-v0")
    with pytest.raises(BadConfig, match="faulty already"):
        corrupt_dataset(first.id, "duplicated", id="aa/cc-v0")
    with pytest.raises(BadConfig, match="would take the place of 'aa/bb-v0'"):
        corrupt_dataset(TINY, "duplicated", id="aa-bb-v0")  # whose folder has the same name
    assert load_dataset("aa/bb-v0").sha256 == first.sha256
    remove_minari("aa/bb-v0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share", "nan"], "between 0 and 1, not nan"),
        (["--share", "inf"], "between 0 and 1, not inf"),
        (["--id", "noversion"], "is no Minari id"),
        (["--id", "x/full-v0"], "is no Minari id"),
        (["--id", f"aa/{'b' * 300}-v0"], "too long"),
    ],
)
def test_wrong_options_are_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(
        main, ["dataset", "corrupt", TINY, "--fault", "truncated", *arguments]
    )
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert message in done.output


def test_a_copy_with_other_episodes_states_its_own_faults(
    tiny: TransitionDataset, task: Task
) -> None:
    known = replace(tiny, origin=replace(tiny.origin, faulty=tuple(map(bool, FAULTY))))
    assert known.faulty == tuple(FAULTY)
    stop = known.episodes[5].stop
    some = {name: column[:stop] for name, column in known.columns().items()}
    method = make_method("longest")
    scores = method.score(replace(known, **some, origin=tiny.origin), task=task)
    with pytest.raises(BadConfig, match=r"has 6 episodes, its origin\.faulty is of 10"):
        list(score_lines(replace(known, **some), scores))
    own = replace(tiny.origin, faulty=tuple(map(bool, FAULTY[:6])))
    lines = list(score_lines(replace(known, **some, origin=own), scores))
    assert [line["faulty"] for line in lines] == [0, 0, 0, 1, 0, 0]


def test_scores_of_episodes_that_are_all_faulty_have_no_auroc(tiny: TransitionDataset) -> None:
    scores = Scores(np.arange(10.0))
    for faulty in ([True] * 10, [False] * 10, []):
        assert scores.auroc(tiny, faulty) is None
    assert scores.auroc(tiny, [True] * 5 + [False] * 5) == 1


def test_the_command_names_every_fault() -> None:
    [option] = [p for p in dataset_corrupt.params if p.name == "fault"]
    assert sorted(option.type.choices) == sorted(FAULTS)  # type: ignore[attr-defined]


def test_a_suites_table_shows_what_scores_see_beside_what_is_kept() -> None:
    def record(method: str, seed: int, size: int = 90, **report: object) -> dict[str, object]:
        cell = {
            "task": "t", "dataset": "d", "method": {"id": method, "config": {}},
            "condensation_seed": seed, "budget": {"size": size},
            "learner": {"id": "bc", "config": {}},
        }  # fmt: skip
        returns = {"heldout": [[1.0 + seed, 3.0 + seed]]}
        return {
            "status": "done",
            "cell": cell,
            "returns": returns,
            "report": {**report, "size": size},
        }

    ranks = {"length": -1.0, "return": None}
    scored = [
        record("shortest", seed, fault_auroc=0.25 + seed / 2, score_correlation=ranks)
        for seed in (0, 1)
    ]
    [about, table] = faults_table([*scored, record("random", 0)])
    assert "0.5: blind" in about
    [line] = table.splitlines()[2:]
    assert line.split() == ["d", "shortest", "90", "bc", "0.50", "-1.00", "nan", "2.50"]
    other = record("shortest", 0, 100, fault_auroc=1.0, score_correlation=ranks)
    [_, table] = faults_table([*scored, other])
    assert [line.split()[4] for line in table.splitlines()[2:]] == ["0.50", "1.00"]
    ranked: dict[str, object] = {"fault_auroc": 0.5, "score_correlation": ranks}
    share = {"percent": 80.0, "unit": "episodes"}
    sets = [record("band", seed, 90 + seed, **ranked) for seed in (0, 1)]
    cells = [{**of["cell"], "budget": share} for of in sets]  # type: ignore[dict-item]
    [_, table] = faults_table([{**of, "cell": cell} for of, cell in zip(sets, cells, strict=True)])
    assert len(table.splitlines()) == 3  # sets of whole episodes differ in size
    assert faults_table([record("random", 0)]) == []


@pytest.mark.slow
def test_the_table_of_a_suite_says_what_scores_see_of_faults(tmp_path: Path) -> None:
    for path in record_files(LEADERBOARD / "results"):
        record = read_record_file(path)
        if "climber-plain/expert-action-noise-v0" in record["cell"]["dataset"]:
            write_record_file(tmp_path / "records" / f"{record['cell_id']}.json", record)
    states = dry_run(load_suite("faults"), Store(tmp_path, writable=False))
    rows = SweepResult(load_suite("faults"), states, 0, 0, Store(tmp_path, writable=False)).rows()
    table = suite_table(rows)
    assert "AUROC is how often a clean episode scores above a faulty one" in table
    [line] = [line for line in table.splitlines() if line.split()[1:2] == ["discounted-return"]]
    assert line.split()[0].endswith("action-noise-v0")
    assert line.split()[4] == "0.84"


def test_the_suite_judges_scores_on_three_games_and_two_faults() -> None:
    suite = load_suite("faults")
    judged = {(t, d) for product in suite.products for t in product.tasks for d in product.datasets}
    clean = {task for task, data in judged if data == "expert-v0"}
    assert len(judged) == 6 + 3
    assert len(clean) == len({task for task, _ in judged}) == 3
    for product in suite.products:
        for choice in product.methods:
            if choice.id not in (RANDOM_SUBSET, *WHOLE):
                method = make_method(choice.id, **choice.config)
                assert type(method)._score is not Method._score


def test_metadata_that_do_not_say_it_of_every_episode_are_refused() -> None:
    assert _faulty("010", 3, "d") == [False, True, False]
    assert _faulty("", 3, "d") == []
    for text in ("01", "012", "0101"):
        with pytest.raises(CorruptArtifact, match="not 0 or 1 for each of 3 episodes"):
            _faulty(text, 3, "d")


def test_a_task_of_an_id_that_gymnasium_does_not_take_is_refused_in_one_line() -> None:
    name, data = "mine/a/b-v0", "tests/strange-v0"
    minari_data.create(data, [minari_data.episode()] * 5)
    catalogue.register("tasks", name, "rlcondense.tasks.gymnasium:GymnasiumTask", env="CartPole-v1")
    with pytest.raises(BadConfig, match="Gymnasium takes no environment 'mine/a/b-v0'"):
        corrupt_dataset(data, "truncated", task=name)
