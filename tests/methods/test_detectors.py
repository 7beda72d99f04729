from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.datasets import detectors
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.detectors import constant_student, detect
from rlcondense.datasets.report import Displacement, MatchingLoss
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import CorruptArtifact
from rlcondense.files import read_json, write_json
from rlcondense.findings import EXPLANATIONS, Finding
from rlcondense.make import make_method
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.policies import FixedPolicies, GaussianPolicies, NetworkPolicies, PolicyBatch
from rlcondense.tasks.base import Task
from tests.conftest import random_network
from tests.methods.test_methods import condense
from tests.small_tasks import Gridworld, Reach, play

Array = np.ndarray[Any, Any]
Findings = dict[str, Finding]
START = np.arange(0, 400, 10)


class Synthetic(Method[None]):
    """Some real rows with whatever is done to them, told as synthetic."""

    stochastic = False

    def __init__(self, change: Callable[[Array], Array] = np.copy, **more: Any) -> None:
        super().__init__()
        self.change, self.more = change, more

    def _condense(self, problem: Problem) -> Condensation:
        rows = START[: problem.size]
        frames = problem.dataset.observations[rows].astype(np.float32)
        columns = {"observations": self.change(frames), "actions": problem.dataset.actions[rows]}
        columns |= self.more.get("columns", {})
        told = {name: value for name, value in self.more.items() if name != "columns"}
        return Condensation(columns, **{"initial_indices": rows, **told})


class Unmoved(Method[None]):
    """Returns real frames as if it had made them, and reports nothing at all."""

    def _condense(self, problem: Problem) -> Condensation:
        rows = problem.rng().choice(len(problem.dataset), problem.size, replace=False)
        columns = problem.dataset.rows(np.sort(rows))
        return Condensation({name: columns[name] for name in ("observations", "actions")})


@pytest.fixture(scope="module")
def varied(tiny: TransitionDataset) -> TransitionDataset:
    """The tiny dataset, its actions one after the other, so that each has its share."""
    actions = np.arange(len(tiny)) % 5
    return replace(tiny, actions=actions, known_sha256="")


def found_by(method: Method[Any], data: TransitionDataset, task: Task, size: int = 40) -> Findings:
    return named(method.condense(data, task=task, budget=size))


def named(data: CondensedDataset) -> Findings:
    assert data.report is not None
    assert data.report.findings is not None
    return {finding.name: finding for finding in data.report.findings}


def noise(deviation: float) -> Callable[[Array], Array]:
    rng = np.random.default_rng(0)
    return lambda x: (x + rng.normal(0, deviation, x.shape)).clip(0, 255).astype(np.float32)


def blotches(deviation: float) -> Callable[[Array], Array]:
    """Noise that is not gone when pixels are averaged."""
    rng = np.random.default_rng(0)

    def change(x: Array) -> Array:
        coarse = rng.normal(0, deviation, (*x.shape[:2], 8, 8))
        fine = coarse.repeat(8, 2).repeat(8, 3)
        return (x + fine).clip(0, 255).astype(np.float32)

    return change


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("id_", ["random", "random-balanced", "top-return", "bc-10", "full"])
def test_selections_give_no_finding(
    id_: str, size: int, tiny: TransitionDataset, task: Task
) -> None:
    assert named(condense(id_, tiny, task, size)) == {}


def test_the_published_gradient_matching_moves_nothing(tiny: TransitionDataset, task: Task) -> None:
    data = condense("gradmatch-light2024", tiny, task)
    finding = named(data)["moved-nothing"]
    assert data.report is not None
    assert data.report.displacement is not None
    assert finding.measured == pytest.approx(data.report.displacement.mean, rel=1e-3)
    assert finding.bound == 0.5
    assert finding.text.endswith("(under 0.5, what rounding to whole grey levels removes)")


def test_frames_that_moved_and_stayed_near_are_no_finding(
    varied: TransitionDataset, task: Task
) -> None:
    told = {"displacement": Displacement(9, 40), "matching_loss": MatchingLoss(5, 4)}
    assert found_by(Synthetic(noise(12), **told), varied, task) == {}


@pytest.mark.parametrize(
    ("moved", "told", "is_found"),
    [
        (0, {}, True),
        (0.4, {}, True),
        (0.6, {}, False),
        (0.6, {"displacement": Displacement(0.6, 0.6)}, False),
        # Whichever is less, of what it says and what there is to be seen.
        (0.6, {"displacement": Displacement(0.1, 0.6)}, True),
        (0, {"displacement": Displacement(20, 90)}, True),
        # Without a start the nearest rows of the data are taken for it...
        (0, {"initial_indices": None}, True),
        (0.4, {"initial_indices": None}, True),
        (2, {"initial_indices": None}, False),
        # ...unless it is told how far the start is.
        (0.1, {"initial_indices": None, "displacement": Displacement(20, 90)}, False),
    ],
)
def test_what_moved_nothing(
    moved: float, told: dict[str, Any], is_found: bool, varied: TransitionDataset, task: Task
) -> None:
    method = Synthetic(lambda x: np.where(x < 128, x + moved, x - moved).astype(np.float32), **told)
    assert ("moved-nothing" in found_by(method, varied, task)) == is_found


def test_a_selection_moves_nothing_and_that_is_no_finding(
    varied: TransitionDataset, task: Task
) -> None:
    method = Synthetic(initial_indices=None, source_indices=START)
    assert found_by(method, varied, task) == {}


def test_an_action_that_hard_labels_never_have(varied: TransitionDataset, task: Task) -> None:
    without = Synthetic(blotches(3), columns={"actions": np.arange(60) % 4})
    # Of 40 rows, 8 have action 4 on average: none of them may be chance.
    assert "missing-actions" not in found_by(_cut(without, 40), varied, task)
    finding = found_by(_cut(without, 60), varied, task, 60)["missing-actions"]
    assert finding.measured == pytest.approx(0.2, abs=0.01)
    assert finding.text.startswith("action 4: 20% of the data")
    all_of_them = Synthetic(blotches(3), columns={"actions": np.arange(60) % 5})
    assert "missing-actions" not in found_by(_cut(all_of_them, 60), varied, task, 60)


def _cut(method: Synthetic, size: int) -> Synthetic:
    """The method with as many rows, beyond those that `START` has too."""
    rows = np.arange(0, 6 * size, 6)
    columns = {name: column[:size] for name, column in method.more["columns"].items()}

    class Larger(Synthetic):
        def _condense(self, problem: Problem) -> Condensation:
            frames = problem.dataset.observations[rows].astype(np.float32)
            made = {"observations": self.change(frames), **columns}
            return Condensation(
                made, initial_indices=rows, label_kind=self.more.get("kind", "hard")
            )

    return Larger(method.change, **{"kind": method.more.get("kind", "hard")})


@pytest.mark.parametrize(("mass", "is_found"), [(0.0, True), (0.001, True), (0.1, False)])
def test_an_action_that_soft_labels_give_next_to_no_mass(
    mass: float, is_found: bool, varied: TransitionDataset, task: Task
) -> None:
    probs = np.full((60, 15), 0.0, np.float32)
    probs[:, :4], probs[:, 4] = (1 - mass) / 4, mass
    columns = {"actions": np.arange(60) % 5, "action_probs": probs}
    method = _cut(Synthetic(blotches(3), columns=columns, kind="soft"), 60)
    assert ("missing-actions" in found_by(method, varied, task, 60)) == is_found


def test_rows_without_weight_have_no_labels(varied: TransitionDataset, task: Task) -> None:
    data = make_method("full").condense(varied, task=task, budget=len(varied))
    weights = np.where(varied.actions == 4, 0, 1).astype(np.float32)
    assert [f.name for f in detect(replace(data, weights=weights), varied)] == ["missing-actions"]
    assert detect(data, varied) == ()


def test_a_source_row_taken_twice_is_a_duplicate(varied: TransitionDataset, task: Task) -> None:
    rows = np.where(START < 50, 0, START)
    method = Synthetic(initial_indices=None, source_indices=rows)
    finding = found_by(method, varied, task)["duplicate-rows"]
    assert (finding.measured, finding.text) == (4, "4 of 40 rows repeat another")


def test_equal_frames_of_the_data_are_no_duplicates_of_a_selection(
    varied: TransitionDataset, task: Task
) -> None:
    still = replace(
        varied, observations=np.repeat(varied.observations[:1], len(varied), 0), known_sha256=""
    )
    assert "duplicate-rows" not in named(make_method("random").condense(still, task=task, budget=9))


@pytest.mark.parametrize("repeated", [1, 2, 5])
def test_synthetic_rows_may_be_equal_as_often_as_the_datas(
    repeated: int, varied: TransitionDataset, task: Task
) -> None:
    """The data has one frame and label thrice."""
    frames, actions = varied.observations.copy(), varied.actions.copy()
    frames[:3], actions[:3] = frames[0], 0
    data = replace(varied, observations=frames, actions=actions, known_sha256="")
    rows = np.concatenate([np.zeros(repeated, int), START[repeated:]])
    method = Synthetic(
        columns={
            "observations": frames[rows].astype(np.float32),
            "actions": actions[rows],
        },
        initial_indices=None,
    )
    found = found_by(method, data, task)
    assert ("duplicate-rows" in found) == (repeated > 3)
    if repeated > 3:
        assert found["duplicate-rows"].measured == 2


def test_synthetic_rows_that_began_as_one_may_stay_one(
    varied: TransitionDataset, task: Task
) -> None:
    rows = np.where(START < 50, 0, START)
    frames = blotches(90)(varied.observations[:400].astype(np.float32))[rows]
    columns = {"observations": frames, "actions": varied.actions[rows]}
    began_as_one = Synthetic(columns=columns, initial_indices=rows)
    assert "duplicate-rows" not in found_by(began_as_one, varied, task)
    became_one = Synthetic(columns=columns, initial_indices=START)
    assert found_by(became_one, varied, task)["duplicate-rows"].measured == 4


def test_one_frame_with_two_labels_is_no_duplicate(varied: TransitionDataset, task: Task) -> None:
    actions = np.arange(40) % 5
    same = Synthetic(lambda x: blotches(3)(x[:1]).repeat(len(x), 0), columns={"actions": actions})
    assert found_by(same, varied, task)["duplicate-rows"].measured == 35


def test_rows_that_are_no_numbers_are_refused_by_learners_and_told_where_sets_are_read(
    varied: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    def spoil(frames: Array) -> Array:
        frames[:3, 0, 0, 0] = np.nan
        return frames

    with pytest.raises(CorruptArtifact, match="non-finite observations"):
        Synthetic(spoil).condense(varied, task=task, budget=40)
    data = Synthetic(noise(9)).condense(varied, task=task, budget=5)
    spoilt = replace(data, observations=spoil(data.observations.copy()))
    assert [(f.name, f.text) for f in detect(spoilt, varied)] == [
        ("non-finite-rows", "3 of 5 rows")
    ]
    weightless = replace(data, weights=np.array([1, 1, np.inf, 1, 1], np.float32))
    assert [f.measured for f in detect(weightless, None)] == [1]


@pytest.mark.parametrize(
    ("after", "is_found"), [(4.0, False), (5.0, False), (5.1, True), (float("nan"), True)]
)
def test_a_matching_loss_that_rose(
    after: float, is_found: bool, varied: TransitionDataset, task: Task
) -> None:
    method = Synthetic(noise(9), matching_loss=MatchingLoss(5.0, after))
    found = found_by(method, varied, task)
    assert ("loss-rose" in found) == is_found
    if is_found:
        assert found["loss-rose"].text == f"matching loss rose from 5 to {after:.4g}"
        # No text of a record may hold what a page could take for a tag.
        assert set("<>").isdisjoint(found["loss-rose"].text)


@pytest.mark.parametrize(
    ("change", "is_found"),
    [
        (noise(9), False),  # the eye sees the frames
        (blotches(3), False),
        (blotches(90), True),
        (lambda x: noise(255)(np.full_like(x, 127)), True),
        (lambda x: 255 - x, True),
        # The median decides: less than half of the rows may lie anywhere.
        (lambda x: np.concatenate([255 - x[:15], noise(9)(x[15:])]), False),
    ],
)
def test_what_is_far_from_the_data(
    change: Callable[[Array], Array], is_found: bool, varied: TransitionDataset, task: Task
) -> None:
    found = found_by(Synthetic(change), varied, task)
    assert ("far-from-data" in found) == is_found
    if is_found:
        assert found["far-from-data"].measured > found["far-from-data"].bound > 0.5


def test_large_data_is_compared_with_in_part_and_always_the_same(
    varied: TransitionDataset, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Synthetic(blotches(90)).condense(varied, task=task, budget=40)
    whole = detect(data, varied)
    monkeypatch.setattr(detectors, "MOST_ROWS", 100)
    some = detect(data, varied)
    assert some == detect(data, varied)
    assert [f.name for f in some] == [f.name for f in whole] == ["far-from-data"]
    assert some[0].measured >= whole[0].measured  # of fewer rows none is nearer


def test_the_few_frames_of_a_small_world_are_no_yardstick_of_nothing() -> None:
    """Each frame is there many times over, and moved ones are not far but like others."""
    world = Gridworld()
    data = play(world, world.shortest, 500, noise=0.2)
    assert found_by(Synthetic(noise(20)), data, world) == {}
    assert set(found_by(Synthetic(lambda x: 255 - x), data, world)) == {"far-from-data"}


def test_vectors_are_measured_in_the_datas_deviations() -> None:
    reach = Reach()
    data = play(reach, reach.shortest, 500, noise=0.5)
    rng = np.random.default_rng(0)

    def found(change: Callable[[Array], Array]) -> Findings:
        method = Synthetic(lambda x: change(x).astype(np.float32), label_kind="continuous")
        return found_by(method, data, reach)

    moved = found(lambda x: x + rng.normal(0, 0.001, x.shape))["moved-nothing"]
    assert moved.bound == 0.01
    assert "standard deviations of the data on average (under 0.01)" in moved.text
    assert found(lambda x: x + rng.normal(0, 0.05, x.shape)) == {}
    assert set(found(lambda x: x + 9)) == {"far-from-data"}


def test_a_feature_that_never_changes_has_no_deviation_to_be_far_by() -> None:
    """0.1 has none in float32, and that of a thousand of them is 1.5e-8."""
    reach = Reach()
    data = play(reach, reach.shortest, 500, noise=0.5)
    observations = np.array(data.observations, np.float32)
    observations[:, 0] = 0.1
    assert 0 < observations[:, 0].std() < 1e-7
    columns = {**data.columns(), "observations": observations}
    still = TransitionDataset(**columns, id="tests/still-v0", task=reach.id)
    rng = np.random.default_rng(0)
    method = Synthetic(
        lambda x: (x + rng.normal(0, 0.02, x.shape)).astype(np.float32), label_kind="continuous"
    )
    assert "far-from-data" not in found_by(method, still, reach)


def test_equal_sets_give_equal_findings_and_the_datas_hash_does_not_know_them(
    varied: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    a = Synthetic(blotches(90)).condense(varied, task=task, budget=40)
    b = Synthetic(blotches(90)).condense(varied, task=task, budget=40)
    assert named(a) == named(b) != {}
    assert a.report is not None
    bare = replace(a, report=replace(a.report, findings=None))
    assert bare.sha256 == a.sha256
    a.save(tmp_path)
    assert load_condensed(tmp_path).report == a.report


def test_artifacts_of_before_there_were_detectors_can_be_read(
    varied: TransitionDataset, task: Task, tmp_path: Path
) -> None:
    make_method("random").condense(varied, task=task, budget=5).save(tmp_path)
    report = read_json(tmp_path / "report.json")
    assert report.pop("findings") == []
    write_json(tmp_path / "report.json", report)
    loaded = load_condensed(tmp_path).report
    assert loaded is not None
    assert loaded.findings is None
    write_json(tmp_path / "report.json", {**report, "findings": [{"name": "new"}]})
    with pytest.raises(CorruptArtifact, match="does not hold a condensed dataset"):
        load_condensed(tmp_path)


def test_sets_of_unknown_source_are_judged_by_themselves(
    varied: TransitionDataset, task: Task
) -> None:
    data = Synthetic(
        lambda x: x[:1].repeat(len(x), 0),
        columns={"actions": np.zeros(40, int)},
        displacement=Displacement(0.1, 0.2),
        matching_loss=MatchingLoss(1, 2),
    ).condense(varied, task=task, budget=40)
    names = [finding.name for finding in detect(data, None)]
    assert names == ["moved-nothing", "duplicate-rows", "loss-rose"]


def test_a_plugins_set_is_looked_at_like_any_other(varied: TransitionDataset, task: Task) -> None:
    catalogue.register("methods", "tests/unmoved", "tests.methods.test_detectors:Unmoved")
    assert set(found_by(make_method("tests/unmoved"), varied, task)) == {"moved-nothing"}


class Sighted(PolicyBatch):
    """A policy that tells a bright frame from a dark one, by a share of its probability."""

    def __init__(self, *shares: float, action_selection: str = "sample") -> None:
        self.shares, self.num_policies = shares, len(shares)
        self.seeds, self.action_selection = tuple(range(len(shares))), action_selection

    def action_probs(self, observations: Array, policy_index: Array) -> Array:
        light = observations.reshape(len(observations), -1).mean(1)
        bright = np.where(light > np.median(light), 1, -1)
        share = np.array(self.shares)[policy_index] * bright
        return np.stack([0.6 + share, 0.4 - share], 1)


@pytest.mark.parametrize(
    ("policies", "is_found"),
    [
        (FixedPolicies(np.arange(15) + 1, [0, 1]), True),
        (Sighted(0.0, 0.01), True),
        (Sighted(0.0, 0.3), False),  # one of the two sees something
        (Sighted(0.09), False),
        (Sighted(0.09, action_selection="greedy"), True),  # takes the first action always
        (Sighted(0.2, action_selection="greedy"), False),
    ],
)
def test_what_a_constant_student_is(
    policies: PolicyBatch, is_found: bool, tiny: TransitionDataset
) -> None:
    finding = constant_student(policies, tiny)
    assert (finding is not None) == is_found
    if finding is not None:
        assert finding.name == "constant-student"
        assert 0 <= finding.measured < finding.bound == 0.01


def test_the_information_is_that_of_the_definition(tiny: TransitionDataset) -> None:
    """Half of the frames each way: H(0.6, 0.4) - (H(0.8, 0.2) + H(0.4, 0.6)) / 2."""

    def entropy(p: float) -> float:
        return float(-p * np.log(p) - (1 - p) * np.log(1 - p))

    frames = tiny.observations[:100]
    (found,) = detectors._information(Sighted(0.2), frames)
    assert found == pytest.approx(entropy(0.6) - (entropy(0.8) + entropy(0.4)) / 2, abs=1e-3)


def test_a_network_that_has_died_is_constant(tiny: TransitionDataset) -> None:
    dead, sharp = random_network(0), random_network(1)
    for parameter in list(dead.parameters())[:-1]:
        parameter.data.zero_()
    for parameter in list(sharp.parameters())[-2:]:
        parameter.data *= 1000
    assert constant_student(NetworkPolicies([dead, dead], [0, 1]), tiny) is not None
    assert constant_student(NetworkPolicies([dead, sharp], [0, 1]), tiny) is None


def test_continuous_students_are_held_against_the_datas_spread() -> None:
    reach = Reach()
    data = play(reach, reach.shortest, 200, noise=0.5)

    class Moving(PolicyBatch):
        num_policies = 2

        def act(self, observations: Array, policy_index: Array, noise: Array) -> Array:
            assert noise.shape == (len(observations), 2)
            return observations * np.where(policy_index == 1, 0.5, 0)[:, None]

    assert constant_student(Moving(), data) is None
    blind = GaussianPolicies(data.actions, reach.action_space, [0])
    assert constant_student(blind, data) is not None


def test_policies_that_tell_nothing_are_passed_over(tiny: TransitionDataset) -> None:
    class Silent(PolicyBatch):
        num_policies = 1

    assert constant_student(Silent(), tiny) is None


def test_every_finding_is_explained() -> None:
    assert set(EXPLANATIONS) == {
        "non-finite-rows", "moved-nothing", "missing-actions", "duplicate-rows", "loss-rose",
        "far-from-data", "constant-student", "another-task", "another-expert", "heldout-data",
        "lossy-frames",
    }  # fmt: skip
