from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlcondense.datasets.transitions import Origin, TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.make import make_task
from rlcondense.tasks.base import Task
from rlcondense.validation import (
    EnvironmentValidator,
    channels_last,
    check_action_space,
    check_agreement,
    check_arrays,
    check_dataset,
    check_labels,
    check_policies,
    check_rows,
    checked_actions,
    checked_distributions,
    first_row,
    heldout_rows,
    with_known_levels,
)
from tests.small_tasks import Gridworld, Reach, play

CARTPOLE = make_task("cartpole")


def small(task: Gridworld | Reach | None = None) -> TransitionDataset:
    task = task or Gridworld()
    return play(task, task.shortest, 60, 0.2)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(3, start=1), "start at 1; they must start at 0"),
        (Discrete(3, start=-1), "start at -1"),
        (Box(0, 4, (1,), np.int32), "vectors of int32; only Discrete and a Box of floats"),
        (MultiDiscrete([2, 2]), "neither discrete nor a box"),
    ],
)
def test_spaces_that_no_policy_acts_in_are_refused(space: Space[Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        check_action_space(space, "somebody's task")
    check_action_space(Discrete(3), "somebody's task")
    check_action_space(Box(-1, 1, (2,), np.float64), "somebody's task")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("actions", lambda a: a - 5, "outside 0..3: -5 in row|outside 0..3: -. in row"),
        ("actions", lambda a: np.where(np.arange(len(a)) == 7, 4, a), "outside 0..3: 4 in row 7"),
        ("actions", lambda a: a.astype(float), "not whole numbers, one a row, but float64"),
        ("actions", lambda a: a[:, None], r"int64 of shape \(1,\)"),
        ("observations", lambda o: o.astype(float), "observations of type float64"),
        ("observations", lambda o: np.moveaxis(o, 1, -1), r"shape \(12, 12, 3\)"),
        ("rewards", lambda r: np.where(np.arange(len(r)) == 9, np.nan, r), "nan in row 9"),
        ("rewards", lambda r: r.astype(int), "not one float a row"),
        ("rewards", lambda r: np.stack([r, r], 1), "not one float a row"),
        ("terminations", lambda t: t.astype(int), "not one bool a row"),
        ("level_seeds", lambda s: s.astype(float), "not one whole number a row"),
    ],
)
def test_a_dataset_of_anybody_is_checked(name: str, change: Any, message: str) -> None:
    data = small()
    check_dataset(data, Gridworld())
    changed = replace(data, **{name: change(getattr(data, name))})
    with pytest.raises(CorruptArtifact, match=message) as caught:
        check_dataset(changed, Gridworld())
    assert "'tests/small-play-v0'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_is_not_blamed_for_the_data() -> None:
    from rlcondense.make import make_method

    data = small()
    bad = replace(data, actions=data.actions + 1)
    with pytest.raises(CorruptArtifact, match="dataset 'tests/small-play-v0' gave actions"):
        make_method("random").condense(bad, task=Gridworld(), budget=5)


def test_vectors_may_leave_their_box_in_data_and_not_in_play() -> None:
    data = small(Reach())
    wide = replace(data, actions=data.actions * 3)
    check_dataset(wide, Reach())
    with pytest.raises(CorruptArtifact, match=r"allowed is the box from \[-0.5, -0.5\]"):
        checked_actions(wide.actions, len(wide), Reach().action_space, "a policy")
    with pytest.raises(CorruptArtifact, match=r"type float64"):
        check_dataset(replace(data, actions=data.actions.astype(float)), Reach())


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[2.2, -2.2]]),  # logits
        np.array([[-0.1, -2.3]]),  # log-probabilities
        np.array([[90.0, 10.0]]),  # percent
        np.array([[0.0, 0.0]]),
        np.array([[np.nan, 1.0]]),
        np.array([[1.2, -0.2]]),  # which sum to 1
        np.array([[np.inf, 0.0]]),
    ],
)
def test_labels_that_are_no_distributions_are_refused(labels: np.ndarray) -> None:
    good = np.tile([[0.25, 0.75]], (5, 1)).astype(np.float32)
    check_labels(good, Discrete(2), "somebody")
    with pytest.raises(CorruptArtifact, match=r"no distribution: .* in row 3"):
        check_labels(np.vstack([good[:3], labels, good]), Discrete(2), "somebody")
    with pytest.raises(CorruptArtifact, match="must be 0 or more and sum to 1"):
        checked_distributions(labels, "a policy")


def test_labels_of_another_width_or_kind_are_refused() -> None:
    for labels, space in (
        (np.full((4, 3), 1 / 3), Discrete(2)),
        (np.array([0, 1]), Discrete(2)),
        (np.eye(2, dtype=int), Discrete(2)),
        (np.eye(2), Box(-1, 1, (2,))),
    ):
        with pytest.raises(CorruptArtifact, match="action_probs"):
            check_labels(labels, space, "somebody")


def drawn(rows: int, sharpness: float, actions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Distributions, and actions drawn from them."""
    rng = np.random.default_rng(0)
    scores = sharpness * rng.standard_normal((rows, actions))
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    taken = (probs.cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=actions - 1)
    return taken, probs


def test_distributions_that_contradict_the_actions_are_refused() -> None:
    taken, probs = drawn(400, 3.0)
    check_agreement(taken, probs, "somebody")
    with pytest.raises(CorruptArtifact, match=r"contradict its actions: .* below chance"):
        check_agreement((taken + 1) % 3, probs, "somebody")


@pytest.mark.parametrize("sharpness", [0.0, 0.1, 1.0])
def test_uniform_and_blunt_policies_contradict_nothing(sharpness: float) -> None:
    taken, probs = drawn(1000, sharpness, 15)
    check_agreement(taken, probs.astype(np.float32), "somebody")


def test_a_few_unlikely_actions_contradict_nothing() -> None:
    check_agreement(np.array([1]), np.array([[0.98, 0.02]]), "somebody")
    check_agreement(np.array([1, 0, 0]), np.array([[0.98, 0.02]] * 3), "somebody")


def test_outputs_that_are_no_columns_are_refused() -> None:
    good = {"observations": np.zeros((2, 3)), "actions": np.zeros(2, int)}
    check_arrays(good, {*good, "rewards"}, "a method")
    for columns, message in (
        ({**good, "actions": [0, 1]}, "actions as list, not an array"),
        ({**good, "actions": np.int64(1)}, "actions as int64"),
        ({**good, "reward": np.zeros(2)}, "a column 'reward'; known are actions, obs"),
        ({"observations": good["observations"]}, "gave no actions"),
    ):
        with pytest.raises(CorruptArtifact, match=message):
            check_arrays(columns, {*good, "rewards"}, "a method")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((4, 3), True),
        ((4, 3, 1), False),
        ((4, 1), False),
        ((3,), False),
        ((3, 4), False),
        ((), False),
    ],
)
def test_vectors_of_another_shape_are_not_spread_over_the_environments(
    shape: tuple[int, ...], fits: bool
) -> None:
    space = Box(-1, 1, (3,))
    if fits:
        assert checked_actions(np.zeros(shape), 4, space, "a policy").shape == (4, 3)
        return
    with pytest.raises(CorruptArtifact, match="gave actions of shape"):
        checked_actions(np.zeros(shape), 4, space, "a policy")


@pytest.mark.parametrize(
    "actions",
    [
        [1, 0, 1],
        np.array([True, False, True]),
        np.array([1.0, 0.0, 1.0]),
        np.array([1, 0, 1], np.uint8),
        1,
    ],
)
def test_whole_numbers_of_any_kind_are_actions(actions: Any) -> None:
    taken = checked_actions(actions, 3, Discrete(2), "a policy")
    assert taken.tolist() == ([1, 1, 1] if isinstance(actions, int) else [1, 0, 1])


@pytest.mark.parametrize(
    "actions",
    [
        np.array([0.9999, 0, 1]),
        np.array([1, 2, 1]),
        np.array([-1, 0, 0]),
        np.array([np.nan, 0, 1]),
        np.array([[1], [0], [1]]),
        np.array([1, 0]),
        np.array(["1", "0", "1"]),
        None,
    ],
)
def test_what_is_no_action_is_refused(actions: Any) -> None:
    with pytest.raises(CorruptArtifact, match="a policy gave action"):
        checked_actions(actions, 3, Discrete(2), "a policy")


def test_a_vector_may_leave_its_box_by_what_float32_rounds() -> None:
    space = Box(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), dtype=np.float64)
    checked_actions(np.array([[2.0000002, 1.0]]), 1, space, "a policy")
    for wrong in ([[2.01, 1.0]], [[np.nan, 0.0]], [[0.0, np.inf]]):
        with pytest.raises(CorruptArtifact, match="a policy gave action"):
            checked_actions(np.array(wrong), 1, space, "a policy")
    unbounded = Box(-np.inf, np.inf, (1,))
    checked_actions(np.array([[1e30]]), 1, unbounded, "a policy")
    half = Box(0.0, np.inf, (1,))
    checked_actions(np.array([[1e30]]), 1, half, "a policy")
    for action, space in ((-0.1, half), (np.inf, half), (np.inf, unbounded)):
        with pytest.raises(CorruptArtifact, match="a policy gave action"):
            checked_actions(np.array([[action]]), 1, space, "a policy")


class Policies:
    def __init__(self, seeds: Any, number: int | None = None) -> None:
        self.seeds, self.num_policies = seeds, len(seeds) if number is None else number


def test_a_learner_gives_one_policy_a_seed() -> None:
    check_policies(Policies((0, 1)), (0, 1), "learner 'mine'")
    check_policies(Policies([0, 1]), (0, 1), "learner 'mine'")
    for made in (Policies((0,)), Policies((1, 0)), Policies((0, 1), 1), object()):
        with pytest.raises(CorruptArtifact, match=r"learner 'mine' gave .* for the seeds \(0, 1\)"):
            check_policies(made, (0, 1), "learner 'mine'")


class Environment:
    num_envs = 3
    single_observation_space = Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ({}, "no infos"),
        ({"level_seed": np.zeros(2, int)}, r"shape \(2,\), not one whole number for each of 3"),
        ({"level_seed": np.zeros(3)}, "type float64"),
        ({"level_seed": 4}, r"shape \(\)"),
    ],
)
def test_environments_tell_their_levels(infos: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptArtifact, match=message):
        EnvironmentValidator(Environment(), "task 'mine'").levels(infos)


def test_environments_show_what_their_space_says() -> None:
    validator, every = EnvironmentValidator(Environment(), "task 'mine'"), np.arange(3)
    shown = np.zeros((3, 2), np.float32)
    validator.observations(shown, every)
    with pytest.raises(CorruptArtifact, match="of type float64, not uint8 or float32"):
        validator.observations(np.zeros((3, 2)), every)
    with pytest.raises(CorruptArtifact, match=r"shape \(3, 3\), not \(3, 2\)"):
        validator.observations(np.zeros((3, 3)), every)
    shown[1, 1] = np.nan
    validator.observations(shown, np.array([0, 2]))  # nobody looks at the one that has finished
    with pytest.raises(CorruptArtifact, match="non-finite observations in environment 1 after 0"):
        validator.observations(shown, every)


def test_environments_pay_one_number_each() -> None:
    validator, never = EnvironmentValidator(Environment(), "task 'mine'"), np.zeros(3, bool)
    paid, ended = validator.outcome([1, 2, 3], never, np.array([0, 0, 1]))
    assert paid.tolist() == [1, 2, 3]
    assert ended.tolist() == [False, False, True]
    for rewards in (np.zeros((3, 1)), 1.0, np.array(["a", "b", "c"]), np.array([None] * 3)):
        with pytest.raises(CorruptArtifact, match="task 'mine' gave rewards of type"):
            validator.outcome(rewards, never, never)
    with pytest.raises(CorruptArtifact, match="terminations and truncations"):
        validator.outcome(np.zeros(3), never, False)


@pytest.mark.parametrize(
    ("origin", "levels", "expected"),
    [
        (Origin(), [0, 199, 10_000, 19_999, 20_000, -3], [2, 3]),
        (Origin("CartPole-v1", reset_seeds=(7, 10_500)), None, [3, 4, 5]),
        (Origin("", reset_seeds=(None, 10_500)), None, [3, 4, 5]),
        (Origin("CartPole-v1", reset_seeds=(2**63 + 5, None)), None, []),
        # Somebody else's levels, whose seeds are none of this task's.
        (Origin("Acrobot-v1", reset_seeds=(10_500, 10_500)), None, []),
        (Origin("classic/cartpole-v0", "heldout", (7, 8)), None, [0, 1, 2, 3, 4, 5]),
        (Origin("classic/cartpole-v0", "seen", (10_500, 8)), None, []),
    ],
)
def test_rows_of_heldout_levels_are_known(
    origin: Origin, levels: list[int] | None, expected: list[int]
) -> None:
    data = TransitionDataset(
        observations=np.zeros((6, 4), np.float32),
        actions=np.zeros(6, np.int64),
        rewards=np.zeros(6, np.float32),
        terminations=np.tile([False, False, True], 2),
        truncations=np.zeros(6, bool),
        episode_ids=np.repeat([0, 1], 3),
        steps=np.tile([0, 1, 2], 2),
        level_seeds=None if levels is None else np.array(levels),
        id="somebody's",
        origin=origin,
    )
    assert heldout_rows(data, CARTPOLE).tolist() == expected
    if not expected:
        check_dataset(data, CARTPOLE)
        return
    with pytest.raises(BadConfig, match=f"held-out levels of .*row {expected[0]} first"):
        check_dataset(data, CARTPOLE)
    check_dataset(replace(data, heldout_allowed=True), CARTPOLE)


def test_seeds_that_minari_drew_are_no_levels() -> None:
    def of(*seeds: int) -> TransitionDataset:
        data = TransitionDataset(
            observations=np.zeros((4, 4), np.float32),
            actions=np.zeros(4, np.int64),
            rewards=np.zeros(4, np.float32),
            terminations=np.tile([False, True], 2),
            truncations=np.zeros(4, bool),
            episode_ids=np.repeat([0, 1], 2),
            steps=np.tile([0, 1], 2),
            id="somebody's",
            origin=Origin("CartPole-v1", reset_seeds=seeds),
        )
        return with_known_levels(data, CARTPOLE)

    levels = of(3, 4).level_seeds
    assert levels is not None
    assert levels.tolist() == [3, 3, 4, 4]
    assert of(3, 2**63 + 5).level_seeds is None


def test_a_level_that_is_seen_as_well_is_not_held_out() -> None:
    task = make_task("starpilot-light2024")
    assert task.splits["heldout"].start < task.splits["seen"].start
    shape = task.observation_space.shape
    data = TransitionDataset(
        observations=np.zeros((3, *(shape or ())), np.uint8),
        actions=np.zeros(3, np.int64),
        rewards=np.zeros(3, np.float32),
        terminations=np.array([False, False, True]),
        truncations=np.zeros(3, bool),
        episode_ids=np.zeros(3, np.int64),
        steps=np.arange(3),
        level_seeds=np.array([100, 299, 300]),
    )
    assert heldout_rows(data, task).tolist() == [2]


def test_a_check_needs_no_more_memory_than_a_block() -> None:
    column = np.broadcast_to(np.float32(0), (1_000_000, 100))  # 400 MB, were it there

    sizes = []

    def wrong(block: np.ndarray) -> np.ndarray:
        sizes.append(block.size)
        return np.zeros(len(block), bool)

    assert first_row(column, wrong) is None
    assert max(sizes) <= 1_000_000
    assert sum(sizes) == 100_000_000


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 64, 3), True), ((3, 64, 64), False), ((10, 10, 4), True), ((4, 4, 4), False),
     ((8,), False), ((84, 84), False)],
)  # fmt: skip
def test_frames_have_their_channels_where_they_are_fewest(
    shape: tuple[int, ...], expected: bool
) -> None:
    assert channels_last(shape) == expected


def test_the_owner_stands_in_every_message_about_rows(task: Task) -> None:
    rows = {"observations": np.zeros((2, 3, 64, 64), np.uint8), "actions": np.array([0, 15])}
    with pytest.raises(
        CorruptArtifact, match=r"somebody's folder gave actions outside 0\.\.14: 15"
    ):
        check_rows(rows, task, "somebody's folder")
