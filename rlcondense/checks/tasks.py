"""Conformance checks of tasks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import Entry
from rlcondense.checks.base import Check, CheckFailed, CheckSkipped, bind
from rlcondense.checks.common import Traces, Trial, check_id, check_warnings, contained, watch
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.make import make_task
from rlcondense.rollout import MOST_STEPS
from rlcondense.tasks.base import Task, shared_levels
from rlcondense.types import SPLITS
from rlcondense.validation import TAKEN, check_action_space

NUM_ENVS, STEPS = 4, 200


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of some environments: `(T, N, ...)` arrays, the first row after reset."""

    observations: npt.NDArray[Any]
    rewards: npt.NDArray[Any]
    ends: npt.NDArray[np.bool_]
    levels: npt.NDArray[np.int64]

    def same(self, other: Trajectories) -> bool:
        """Return whether other trajectories are equal."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("observations", "rewards", "ends", "levels")
        )


@dataclass(frozen=True)
class Subject:
    """A task.

    Attributes:
        entry: of the catalogue.
    """

    entry: Entry

    @cached_property
    def task(self) -> Task:
        """The task."""
        return make_task(self.entry.id)

    @cached_property
    def watched(self) -> Trial[Trajectories]:
        """Trajectories of random actions on seen levels from seed 0, and their side effects."""
        task = self.task
        return watch(lambda _: self.play("seen"), task)

    @property
    def seen(self) -> Trajectories:
        """Trajectories of random actions on seen levels from seed 0."""
        return self.watched.result

    def play(
        self,
        split: str,
        *,
        seed: int = 0,
        actions: int = 0,
        threads: int = 1,
        steps: int = STEPS,
        environments: int = NUM_ENVS,
        used_with: int | None = None,
    ) -> Trajectories:
        """Play random actions drawn from the seed `actions`, the same ones for an environment.

        With `used_with`, the environments were made with that other seed and played before.
        """
        first = seed if used_with is None else used_with
        env = self.task.make_vec(split, environments, seed=first, num_threads=threads)
        space = self.task.action_space
        space.seed(actions)
        if used_with is not None:
            env.reset()
            env.step(np.stack([space.sample() for _ in range(environments)]))
            space.seed(actions)
        observations, infos = env.reset(seed=seed)
        floats = np.asarray(observations).dtype.kind == "f"
        shown, rewards, ends, levels = [np.array(observations)], [], [], [_levels(infos)]
        for _ in range(steps):
            chosen = np.stack([space.sample() for _ in range(NUM_ENVS)])[:environments]
            observation, reward, terminations, truncations, infos = env.step(chosen)
            if not np.array_equal(observations, shown[-1], equal_nan=floats):
                raise CheckFailed(
                    "a step changes the observations that were returned before it: copy them, "
                    "where copy is true"
                )
            observations = observation
            shown.append(np.array(observation))
            rewards.append(np.array(reward))
            ends.append(terminations | truncations)
            levels.append(_levels(infos))
        env.close()
        return Trajectories(np.stack(shown), np.stack(rewards), np.stack(ends), np.stack(levels))


def _levels(infos: dict[str, Any]) -> npt.NDArray[np.int64]:
    if "level_seed" not in infos:
        raise CheckFailed("infos has no 'level_seed': report the level on show at every step")
    levels = np.array(infos["level_seed"])
    if levels.dtype.kind not in "iu":
        raise CheckFailed(f"'level_seed' has the type {levels.dtype}: give whole numbers")
    return levels.astype(np.int64)


def task_checks(entry: Entry) -> list[Check]:
    """Return the checks of one task."""
    return bind(CHECKS, Subject(entry))


def id_follows_the_grammar(s: Subject) -> None:
    """The id is [namespace/]name[-vN]."""
    check_id(s.entry)


def splits_share_no_level(s: Subject) -> None:
    """There are seen and held-out levels, and none is both."""
    splits = s.task.splits
    if set(splits) != set(SPLITS):
        raise CheckFailed(f"splits are {sorted(splits)}; name {' and '.join(SPLITS)}")
    shared = shared_levels(splits)
    if shared and not getattr(s.task, "overlap", False):
        raise CheckFailed(
            f"levels {shared[0]} to {shared[-1]} are both seen and held-out: a student "
            "would be judged on what it was trained on"
        )


def observations_lie_in_their_space(s: Subject) -> None:
    """Observations have the space's shape, type and range, and networks can take them."""
    space, shown = s.task.observation_space, s.seen.observations
    if not isinstance(space, gymnasium.spaces.Box):
        raise CheckFailed(f"observation_space is {space}, only Box is supported")
    if shown.shape[2:] != space.shape or shown.dtype != space.dtype:
        raise CheckFailed(
            f"observations are {shown.dtype} {shown.shape[2:]}, the space says {space.dtype} "
            f"{space.shape}"
        )
    if space.dtype not in TAKEN:
        raise CheckFailed(f"observations are {space.dtype}, only uint8 and float32 are taken")
    if len(space.shape) == 3 and space.high.max() <= 1:
        raise CheckFailed(
            "frames go up to 1, but networks divide them by 255: show grey levels from 0 to 255"
        )
    if not ((shown >= space.low) & (shown <= space.high)).all():
        raise CheckFailed("observations leave the range of observation_space")


def actions_are_numbers_from_0_or_floats(s: Subject) -> None:
    """Actions are discrete, counted from 0, or vectors of floats."""
    try:
        check_action_space(s.task.action_space, "the task")
    except BadConfig as error:
        raise CheckFailed(str(error)) from error


def rewards_are_finite(s: Subject) -> None:
    """Rewards are finite numbers, one for each environment."""
    if s.seen.rewards.shape != (STEPS, NUM_ENVS) or not np.isfinite(s.seen.rewards).all():
        raise CheckFailed("rewards must be finite, of shape (num_envs,) at every step")


def the_same_seed_plays_the_same(s: Subject) -> None:
    """One seed and one sequence of actions give the same frames, rewards and ends."""
    if not s.play("seen").same(s.seen):
        raise CheckFailed("the same seed and actions gave another play: seed everything by `seed`")


def a_reset_with_a_seed_begins_anew(s: Subject) -> None:
    """After a reset with a seed, environments play as those that were made with it."""
    if not s.play("seen", used_with=1).same(s.seen):
        raise CheckFailed(
            "reset(seed=0) of environments that were made with seed 1 gave another play than "
            "environments made with seed 0: seed everything in reset too"
        )


def threads_change_nothing(s: Subject) -> None:
    """The number of threads has no effect on what happens."""
    if not s.play("seen", threads=2).same(s.seen):
        raise CheckFailed("two threads gave another play than one")


def an_environment_does_not_depend_on_those_beside_it(s: Subject) -> None:
    """Seed and index of an environment alone decide its levels, however many there are."""
    fewer = NUM_ENVS - 1
    ours, theirs = _sequences(s.seen), _sequences(s.play("seen", environments=fewer))
    for one, other in zip(ours[:fewer], theirs, strict=True):
        length = min(len(one), len(other))
        if one[:length] != other[:length]:
            raise CheckFailed(
                "with fewer environments the same ones show other levels: let the seed and an "
                "environment's index decide them"
            )


def level_seeds_are_those_played(s: Subject) -> None:
    """level_seeds names the levels that are played, if it names any."""
    for split in SPLITS:
        shown = s.seen if split == "seen" else s.play(split)
        sequences = _sequences(shown)
        episodes = min(map(len, sequences))
        told = s.task.level_seeds(split, NUM_ENVS, episodes, seed=0)
        if told is None:
            raise CheckSkipped("it names none: levels are found by playing")
        if not np.array_equal(told, [levels[:episodes] for levels in sequences]):
            raise CheckFailed(
                f"level_seeds names other {split} levels than make_vec plays: its records would be "
                "refused"
            )


def another_seed_plays_other_levels(s: Subject) -> None:
    """Another seed gives another sequence of levels."""
    if len(s.task.splits["seen"]) == 1:
        raise CheckSkipped("it has one seen level")
    if _sequences(s.play("seen", seed=1)) == _sequences(s.seen):
        raise CheckFailed("seeds 0 and 1 show the same levels: draw the levels by the seed")


def levels_do_not_depend_on_actions(s: Subject) -> None:
    """Each environment's sequence of levels follows from the seed alone."""
    ours, theirs = (_sequences(played) for played in (s.seen, s.play("seen", actions=1)))
    if all(min(len(one), len(other)) < 2 for one, other in zip(ours, theirs, strict=True)):
        raise CheckSkipped(f"no episode ended within {STEPS} steps")
    for one, other in zip(ours, theirs, strict=True):
        length = min(len(one), len(other))
        if one[:length] != other[:length]:
            raise CheckFailed(
                "the levels depend on the actions: policies could not be compared level by level"
            )


def _sequences(played: Trajectories) -> list[list[int]]:
    """Return the levels of each environment, one for each started episode."""
    begun = np.vstack([np.ones((1, played.ends.shape[1]), bool), played.ends])
    return [played.levels[begun[:, i], i].tolist() for i in range(begun.shape[1])]


def levels_are_of_their_split(s: Subject) -> None:
    """Each split shows its own levels only."""
    for split in SPLITS:
        shown = s.seen if split == "seen" else s.play(split)
        own = s.task.splits[split]
        strange = [level for level in np.unique(shown.levels).tolist() if level not in own]
        if strange:
            raise CheckFailed(
                f"the {split} split showed level {min(strange)}, which is not its own"
            )


def a_level_changes_only_where_an_episode_ends(s: Subject) -> None:
    """An environment resets in the same step as its episode ends, without a dummy step."""
    if not s.seen.ends.any():
        raise CheckSkipped(f"no episode ended within {STEPS} steps")
    changed = s.seen.levels[1:] != s.seen.levels[:-1]
    if (changed & ~s.seen.ends).any():
        raise CheckFailed(
            "a level changed a step after its episode's end: reset in the same step (Gymnasium's "
            "own vector environments insert a dummy step; adapt them)"
        )


def episodes_end(s: Subject) -> None:
    """Every environment's episode ends, or is cut, however it is played."""
    env, space = s.task.make_vec("seen", NUM_ENVS, seed=0), s.task.action_space
    space.seed(0)
    env.reset(seed=0)
    playing = np.ones(NUM_ENVS, np.bool_)
    with contextlib.closing(env):
        for _ in range(MOST_STEPS):
            actions = np.stack([space.sample() for _ in range(NUM_ENVS)])
            _, _, terminations, truncations, _ = env.step(actions)
            playing &= ~(terminations | truncations)
            if not playing.any():
                return
    raise CheckFailed(
        f"an episode has not ended after {MOST_STEPS:,} steps of random actions: cut it "
        "(truncations), or evaluation would be stopped there"
    )


def methods_cannot_make_heldout_levels(s: Subject) -> None:
    """The view that methods are given refuses the held-out split."""
    try:
        s.task.seen_only().make_vec("heldout", 1, seed=0).close()
    except RLCondenseError:
        return
    raise CheckFailed("seen_only() made held-out levels: do not override it")


def unknown_splits_are_refused(s: Subject) -> None:
    """A split of another name is refused."""
    try:
        s.task.make_vec("test", 1, seed=0).close()
    except RLCondenseError:
        return
    raise CheckFailed("make_vec took the split 'test': call self.check_split(split)")


def global_randomness_is_left_alone(s: Subject) -> None:
    """The global random states of random, numpy and torch stay as they were."""
    traces = Traces()
    with contained(traces):
        s.play("seen", steps=5)
    traces.check_state()


def there_are_no_warnings(s: Subject) -> None:
    """It warns of nothing."""
    check_warnings(s.watched)


CHECKS = (
    id_follows_the_grammar,
    splits_share_no_level,
    observations_lie_in_their_space,
    actions_are_numbers_from_0_or_floats,
    rewards_are_finite,
    the_same_seed_plays_the_same,
    a_reset_with_a_seed_begins_anew,
    threads_change_nothing,
    an_environment_does_not_depend_on_those_beside_it,
    level_seeds_are_those_played,
    another_seed_plays_other_levels,
    levels_do_not_depend_on_actions,
    levels_are_of_their_split,
    a_level_changes_only_where_an_episode_ends,
    episodes_end,
    methods_cannot_make_heldout_levels,
    unknown_splits_are_refused,
    global_randomness_is_left_alone,
    there_are_no_warnings,
)
