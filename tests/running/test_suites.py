"""Suites and plans: what a file says, and which cells come of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlcondense import catalogue
from rlcondense.config import config_json
from rlcondense.datasets.budget import Budget
from rlcondense.errors import BadConfig, RLCondenseError, UnknownName
from rlcondense.make import default_dataset, make_learner, make_task
from rlcondense.protocol import protocol_of
from rlcondense.records.cell import method_cell
from rlcondense.records.store import MISSING, StoredState
from rlcondense.running.estimate import Rates, in_words, works
from rlcondense.running.pairs import make_pair
from rlcondense.running.plan import plan_suite
from rlcondense.running.planned import Part, Planned, part_of
from rlcondense.running.suite import Suite, load_suite, shipped_suites, suite_from

SMALL: dict[str, Any] = {
    "tasks": ["starpilot"],
    "methods": ["random", "bc-25"],
    "sizes": [10],
    "learner_seeds": 2,
    "episodes": 4,
}


def nothing(ids: Iterable[str]) -> Mapping[str, StoredState]:
    return dict.fromkeys(ids, MISSING)


def plan(**values: Any) -> list[Planned]:
    return plan_suite(suite_from("s", {**SMALL, **values}), nothing)


def texts(planned: Iterable[Planned]) -> list[str]:
    return [p.text.removeprefix("procgen/starpilot-easy-v0 ") for p in planned]


def test_every_cell_is_planned_once_with_its_reference_rows() -> None:
    planned = plan(methods=["random", "random-balanced"], sizes=[10, 20], condensation_seeds=2)
    assert texts(planned) == [
        "random-policy", "marginal-policy", "expert",
        "random 10 bc seed 0", "random 10 bc seed 1", "random 20 bc seed 0", "random 20 bc seed 1",
        "random-balanced 10 bc seed 0", "random-balanced 10 bc seed 1",
        "random-balanced 20 bc seed 0", "random-balanced 20 bc seed 1",
        "full-converged 100% of transitions bc seed 0", "full 100% of transitions bc seed 0",
    ]  # fmt: skip
    ids = [p.id for p in planned]
    assert len(set(ids)) == len(ids)


def test_a_budget_in_bytes_has_a_random_subset_of_as_many_bytes() -> None:
    method = {"id": "gradmatch", "bytes": [10**6], "bits": 4, "resolution": 32}
    planned = plan(methods=[method, "random"])
    budgets = [p.cell.budget for p in planned if p.cell and p.cell.method["id"] == "random"]
    assert budgets == [{"size": 10}, {"bytes": 10**6, "bits": 4, "resolution": 32}]
    assert "gradmatch 1000000 bytes (4 bits, 32 x 32) bc seed 0" in texts(planned)


def test_a_method_that_draws_nothing_is_condensed_once() -> None:
    planned = plan(methods=["bc-25"], condensation_seeds=3, references=False)
    assert texts(planned) == ["bc-25 25% of episodes bc seed 0"]


def test_a_percentages_random_rows_wait_for_its_size() -> None:
    planned = plan(methods=["bc-25"], condensation_seeds=2)
    parent = next(p for p in planned if p.text.endswith("bc-25 25% of episodes bc seed 0"))
    waiting = [p for p in planned if p.after]
    assert [p.after for p in waiting] == [parent.id] * 2
    assert all(p.cell is None and p.shard_key == parent.shard_key for p in waiting)

    def done(ids: Iterable[str]) -> Mapping[str, StoredState]:
        facts = {"size": 1234, "labels": "hard"}
        return {i: StoredState("done", facts=facts) if i == parent.id else MISSING for i in ids}

    again = plan_suite(suite_from("s", {**SMALL, "methods": ["bc-25"]}), done)
    random = next(p for p in again if "random 1234" in p.text)
    assert random.cell is not None
    assert random.cell.budget == {"size": 1234}
    assert random.shard_key == parent.shard_key

    def skipped(ids: Iterable[str]) -> Mapping[str, StoredState]:
        return {i: StoredState("skipped") if i == parent.id else MISSING for i in ids}

    never = plan_suite(suite_from("s", {**SMALL, "methods": ["bc-25"]}), skipped)
    assert [p.skip for p in never if "as many as bc-25" in p.text] == [
        "the set that it stands beside is skipped"
    ]
    assert not [p for p in never if p.after]


def test_soft_labels_get_soft_random_rows_where_the_learner_takes_them() -> None:
    soft = {"id": "gradmatch", "config": {"labels": "soft"}}
    for learner, labels in (("bc", "soft"), ("discrete-bc", "hard")):
        planned = plan(methods=[soft], learners=[learner])
        cells = [p.cell for p in planned if p.cell and p.cell.method["id"] in ("random", "full")]
        assert [c.method["config"]["labels"] for c in cells] == [labels] * 2


def test_what_a_learner_cannot_learn_is_to_be_skipped_and_has_no_rows_beside_it() -> None:
    planned = plan(methods=["gradmatch"], learners=["dqn"])
    assert [p.skip for p in planned if p.skip] == ["needs rewards, next_observations, terminations"]
    assert texts(planned)[-1:] == ["gradmatch 10 dqn seed 0"]
    beside = {p.cell.method["id"] for p in planned[:-1] if p.cell}
    assert beside == {"random-policy", "marginal-policy", "constant-policy", "expert"}


def test_tables_add_to_the_top_and_take_from_it() -> None:
    planned = plan(
        methods=["random"],
        references=False,
        cells=[
            {"methods": ["random"], "sizes": [10, 30]},
            {"tasks": ["jumper"], "methods": [{"id": "random", "sizes": [7]}]},
            {"methods": [{"id": "percentile", "percent": 5.0, "unit": "transitions"}]},
        ],
    )
    assert texts(planned) == [
        "random 10 bc seed 0", "random 30 bc seed 0", "procgen/jumper-easy-v0 random 7 bc seed 0",
        "percentile 5% of transitions bc seed 0",
    ]  # fmt: skip


def test_datasets_go_with_their_tasks() -> None:
    tasks = ["starpilot", "jumper"]
    own = plan(tasks=tasks, datasets=["mixed-v0"], methods=["random"], references=False)
    assert [p.cell.dataset for p in own if p.cell] == [
        "procgen/starpilot-easy/mixed-v0", "procgen/jumper-easy/mixed-v0",
    ]  # fmt: skip
    one = plan(tasks=tasks, datasets=["procgen/jumper-easy/random-v0"], methods=["random"])
    assert {p.cell.task for p in one if p.cell} == {"procgen/jumper-easy-v0"}
    left_out = [p for p in one if p.skip]
    assert [(p.text, p.cell) for p in left_out] == [("procgen/starpilot-easy-v0", None)]
    assert "procgen/jumper-easy/random-v0 is of procgen/jumper-easy-v0" in left_out[0].skip
    assert not [p for p in own if p.skip]
    with pytest.raises(BadConfig, match="is of none of the tasks"):
        plan(datasets=["procgen/jumper-easy/random-v0"])


def test_excludes_leave_out_what_agrees_with_all_they_say() -> None:
    common = {"methods": ["random", "gradmatch"], "sizes": [10, 20], "references": False}
    planned = plan(**common, exclude=[{"method": "gradmatch", "size": 20, "task": "starpilot"}])
    assert texts(planned) == [
        "random 10 bc seed 0",
        "random 20 bc seed 0",
        "gradmatch 10 bc seed 0",
    ]
    with pytest.raises(BadConfig, match="which is no cell"):
        plan(**common, exclude=[{"method": "bc-10"}])


def test_what_is_not_installed_is_told_and_the_rest_planned() -> None:
    planned = plan(tasks=["starpilot", "heist-hard"], methods=["random", "nobodys-method"])
    absent = {p.text: p.absent for p in planned if p.absent}
    assert (
        "unknown method 'nobodys-method'" in absent["procgen/starpilot-easy-v0 nobodys-method bc"]
    )
    assert "no dataset is shipped" in absent["procgen/heist-hard-v0"]
    assert any(p.cell for p in planned)
    plan(methods=["random", "nobodys-method"], exclude=[{"method": "nobodys-method"}])
    with pytest.raises(BadConfig, match="nothing of suite 's' can be computed"):
        plan(tasks=["heist-hard"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"taks": ["x"]}, "did you mean 'tasks'"),
        ({"tasks": "starpilot"}, "must be a list"),
        ({"tasks": ["starpilot", "starpilot"]}, "twice"),
        ({"tasks": []}, "names no tasks"),
        ({"methods": []}, "names no methods"),
        ({"sizes": [0]}, "above 0"),
        ({"sizes": [True]}, "above 0"),
        ({"methods": [{"config": {}}]}, "an id, or a table"),
        ({"methods": [{"id": "random", "conifg": {}}]}, "did you mean 'config'"),
        ({"methods": [{"id": "random", "sizes": [1], "percent": 1.0}]}, "give one of"),
        ({"methods": [{"id": "random", "bytes": [9], "percent": 1.0}]}, "give one of"),
        ({"methods": [{"id": "random", "bits": 4}]}, "go with bytes"),
        ({"methods": [{"id": "random", "bytes": []}]}, "bytes of 'random' in methods of suite 's'"),
        ({"methods": [{"id": "random", "sizes": []}]}, "sizes of 'random' in methods of suite 's'"),
        ({"learner_seeds": 1400, "episodes": 50}, "seeds x environments"),
        ({"learner_seeds": 4, "episodes": 100_000}, "seeds x episodes"),
        ({"methods": [{"id": "random", "bytes": [9], "bits": 17}]}, "bits"),
        ({"methods": [{"id": "random", "unit": "episodes"}]}, "goes with a percentage"),
        ({"learners": [{"id": "bc", "sizes": [1]}]}, "has no setting 'sizes'"),
        ({"methods": [{"id": "gradmatch", "config": {"steps": 1}}]}, "has no setting 'steps'"),
        ({"cells": {"tasks": []}}, "must be tables"),
        ({"exclude": [{"seed": 1}]}, "has no setting 'seed'"),
        ({"methods": [{"id": "percentile", "percent": "10"}]}, "must be a number"),
        ({"methods": [{"id": "percentile", "percent": True}]}, "must be a number"),
        ({"learners": []}, "names no learners"),
        ({"heldout_data": 1}, "heldout_data of suite 's' must be true or false"),
        ({"references": "all"}, "references of suite 's' must be true, false or 'policies'"),
        ({"cells": [{"heldout_data": True}]}, "has no setting 'heldout_data'"),
        ({"episodes": 0}, "above 0"),
        ({"tasks": 16**5000}, "a number of suite 's' must be a whole number from"),
        ({"methods": [{"id": "pbc", "config": {"iterations": 2**70}}]}, "a number of suite 's'"),
        ({"tasks": functools.reduce(lambda inner, _: {"a": inner}, range(3000), 1)}, "too deeply"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        plan(**values)
    assert "\n" not in str(caught.value)


def test_references_are_all_policies_or_none() -> None:
    suite = load_suite("light2024")
    assert suite.references == "policies"
    with pytest.raises(BadConfig, match="not False"):
        replace(suite, references=False)  # type: ignore[arg-type]


def test_a_suite_is_found_by_its_name_or_its_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'smoke'"):
        load_suite("smok")
    with pytest.raises(BadConfig, match="cannot read suite"):
        load_suite(str(tmp_path / "none.toml"))
    file = tmp_path / "mine.toml"
    file.write_text("tasks = [")
    with pytest.raises(BadConfig, match="is no TOML"):
        load_suite(str(file))
    file.write_text(f"{'.'.join('a' * 30_000)} = 1")
    with pytest.raises(BadConfig, match="is too large"):
        load_suite(str(file))
    file.write_text('tasks = ["starpilot"]\nmethods = ["random"]')
    assert load_suite(str(file)).name == "mine"


def test_shards_are_disjoint_whole_and_keep_together_what_condenses_the_same() -> None:
    planned = plan(
        methods=["random", "bc-25"], sizes=[*range(1, 41)], learners=["bc", "discrete-bc"]
    )
    shards = [[p for p in planned if Part((i, 3)).has(p)] for i in (1, 2, 3)]
    assert sum(map(len, shards)) == len(planned)
    assert {p.text for shard in shards for p in shard} == {p.text for p in planned}
    assert min(map(len, shards)) > 15
    for shard in shards:
        ids = {p.cell.condensation_id for p in shard if p.cell}
        for other in shards:
            if other is not shard:
                assert not ids & {p.cell.condensation_id for p in other if p.cell}


def test_a_part_has_the_cells_of_its_tasks_and_methods_alone() -> None:
    planned = plan_suite(load_suite("procgen-plain"), nothing)
    part = part_of(tasks=["coinrun-plain"], methods=["deminf", "marginal-policy"])
    part.check(planned, "procgen-plain")
    cells = [one.cell for one in planned if part.has(one) and one.cell]
    assert {cell.task for cell in cells} == {"procgen/coinrun-plain-v0"}
    assert [cell.method["id"] for cell in cells].count("marginal-policy") == 1
    assert [cell.method["id"] for cell in cells].count("deminf") == 9
    assert len(cells) == 10
    halves = [[one for one in planned if replace(part, shard=(i, 2)).has(one)] for i in (1, 2)]
    assert sum(map(len, halves)) == 10


def test_a_part_has_what_is_not_a_cell_yet() -> None:
    planned = plan(methods=["bc-25"], sizes=[], learners=["bc"])
    unknown = [one for one in planned if one.cell is None]
    assert [one.text for one in unknown if "random" in one.text]
    part = part_of(methods=["random"])
    part.check(planned, "mine")
    assert all(map(part.has, unknown))
    assert len([one for one in planned if part.has(one)]) == len(unknown)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"tasks": ["cartpole"]}, "suite 'procgen-plain' has no task 'classic/cartpole-v0': its a"),
        ({"methods": ["dbc"]}, "suite 'procgen-plain' has no method 'dbc': its are band, critical"),
        ({"methods": ["gradmach"]}, "did you mean 'gradmatch'"),
    ],
)
def test_a_part_of_what_the_suite_has_not_is_refused(
    names: dict[str, list[str]], message: str
) -> None:
    planned = plan_suite(load_suite("procgen-plain"), nothing)
    with pytest.raises(RLCondenseError, match=message):
        part_of(**names).check(planned, "procgen-plain")


@pytest.mark.parametrize("name", shipped_suites())
def test_every_shipped_suite_can_be_planned(name: str) -> None:
    suite = load_suite(name)
    planned = plan_suite(suite, nothing)
    assert suite.summary
    assert len(planned) >= 8
    # Whatever cannot be computed is a game without an expert yet.
    assert all("no dataset is shipped" in p.absent for p in planned if p.absent)
    known = Rates((), "cpu")
    estimate = known.estimate([p.cell for p in planned if p.cell is not None and not p.skip])
    assert estimate.unknown == 0
    assert estimate.borrowed == estimate.cells > 0


def test_the_papers_suite_is_on_levels_that_overlap_and_says_so() -> None:
    suite: Suite = load_suite("light2024")
    names = {task for product in suite.products for task in product.tasks}
    for name in names:
        task = make_task(name)
        assert task.splits["seen"] == range(100, 300)
        assert task.splits["heldout"] == range(2**31 - 1)
        assert "overlapping" in catalogue.find("tasks", name).summary
    cells = [p.cell for p in plan_suite(suite, nothing) if p.cell is not None]
    students = {
        (c.method["id"], c.learner["config"]["updates"], c.learner["config"]["batch_size"])
        for c in cells
        if c.learner
    }
    of_few = ["random", "random-balanced", "gradmatch-light2024", "full"]
    of_paper = ["bc-10", "bc-25", "bc-40", "full"]
    assert students == {(m, 100, 15) for m in of_few} | {(m, 1000, 256) for m in of_paper}
    policies = {c.method["id"] for c in cells if c.learner is None}
    assert policies == {"expert", "marginal-policy", "random-policy"}
    assert {len(c.learner_seeds) for c in cells} == {10}


def test_estimates_come_from_what_the_like_has_taken() -> None:
    first, second = (p.cell for p in plan(methods=["random"], sizes=[10, 20], references=False))
    assert first is not None
    assert second is not None
    facts = {
        "cell": first.to_json(),
        "key": {"device": "cpu", "threads": 1},
        "timings": {
            "condense": {"wall": 1.0}, "train": {"wall": 4.0},
            "evaluate_seen": {"wall": 2.0}, "evaluate_heldout": {"wall": 3.0},
        },
    }  # fmt: skip
    rates = Rates([facts], "cpu")
    assert rates.estimate([second]).seconds == pytest.approx(10.0)
    assert rates.estimate([second, first], [first.condensation_id]).seconds == pytest.approx(19.0)
    assert rates.estimate([second]).borrowed == 0
    elsewhere = Rates([facts], "cuda").estimate([second])
    assert (elsewhere.seconds, elsewhere.unknown) == (0.0, 1)
    assert set(works(second)) == {"evaluate", "train", "condense"}
    assert [in_words(s) for s in (5, 600, 9000, 400_000)] == ["5 s", "10 min", "2.5 h", "4.6 days"]


def test_condensation_on_numbers_says_little_of_that_on_frames() -> None:
    """One size of one method took a second on frames and a hundredth of it on four numbers."""
    (frames,) = (p.cell for p in plan(methods=["random"], sizes=[10], references=False))
    assert frames is not None
    numbers = replace(frames, task="classic/cartpole-v0")
    timed = [
        {
            "cell": cell.to_json(),
            "key": {"device": "cpu", "threads": 1},
            "timings": {"condense": {"wall": wall}},
        }
        for cell, wall in ((frames, 1.0), (numbers, 0.01))
    ]
    rates = Rates(timed, "cpu")
    assert rates.seconds(works(frames)["condense"])[0] == pytest.approx(1.0)
    assert rates.seconds(works(numbers)["condense"])[0] == pytest.approx(0.01)


def test_an_update_on_all_rows_is_another_work_than_a_batch() -> None:
    (batches,) = (p.cell for p in plan(methods=["random"], sizes=[10], references=False))
    assert batches is not None
    assert batches.learner is not None
    config = {**batches.learner["config"], "batch_size": None}
    at_once = replace(batches, learner={"id": "bc", "config": config})
    ours, theirs = (works(cell)["train"].keys for cell in (batches, at_once))
    assert not set(ours) & set(theirs)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("hades-r", {"population": 4, "generations": 1}),  # whose paper trains in its own way
        ("random", {}),
        ("dbc", {"iterations": 1, "student": "learner"}),
    ],
)
def test_a_run_and_a_suite_of_one_method_and_task_are_the_same_cells(
    method: str, settings: dict[str, Any]
) -> None:
    task = make_task("cartpole")
    made, learner = make_pair(method, "bc", task, settings, None)
    run = method_cell(
        task.id, default_dataset(task), made, Budget(size=4), learner, 0, range(3), protocol_of(100)
    )
    choice = {"id": method, "config": settings}
    for learners in ({}, {"learners": ["bc"]}):
        values = {"tasks": ["cartpole"], "methods": [choice], "sizes": [4], **learners}
        suite = suite_from("s", values)
        assert run.id in {planned.id for planned in plan_suite(suite, nothing)}


def test_a_learner_with_settings_of_its_own_is_what_it_says() -> None:
    values = {"tasks": ["cartpole"], "methods": ["hades-r"], "sizes": [4]}
    learners = [{"id": "bc", "config": {"updates": 7}}]
    [cell] = [
        planned.cell
        for planned in plan_suite(suite_from("s", {**values, "learners": learners}), nothing)
        if planned.cell is not None and planned.cell.method["id"] == "hades-r"
    ]
    assert cell.learner is not None
    expected = config_json(make_learner("bc", "cartpole", updates=7).config)
    assert cell.learner["config"] == expected
