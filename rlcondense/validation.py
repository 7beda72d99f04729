"""Validation of data, policies, environments and spaces, whatever their source.

Minari datasets, condensed folders, methods, learners, tasks and their environments are all checked
here. A message is one line: the owner of the value, the row, and the allowed values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space
from gymnasium.spaces import Box, Discrete

from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.types import Array

if TYPE_CHECKING:
    from rlcondense.datasets.transitions import TransitionDataset
    from rlcondense.tasks.base import Task

# NumPy's kinds of the columns with one value in each row.
SCALARS: Mapping[str, str] = {
    "rewards": "f", "terminations": "b", "truncations": "b", "episode_ids": "iu", "steps": "iu",
    "level_seeds": "iu",
}  # fmt: skip
KINDS = {"f": "float", "b": "bool", "iu": "whole number"}
SUM_TOLERANCE = 1e-3  # tolerance of a sum of probabilities, which float32 and 255ths round
TAKEN = (np.dtype(np.uint8), np.dtype(np.float32))  # types of observations
# Tolerance as a share of the bounds of a box of actions, for float32.
BOX_TOLERANCE = 1e-5
# Hoeffding's bound: by chance, labels of one in e^14 datasets contradict the actions.
CONTRADICTION_NATS = 14.0
BLOCK = 1_000_000  # numbers in memory at a time


def check_action_space(space: Space[Any], owner: str) -> None:
    """Refuse an action space that policies do not support.

    Args:
        space: space of one action.
        owner: its owner, for messages.

    Raises:
        BadConfig: it is neither `Discrete` from 0 nor a `Box` of floats.
    """
    if isinstance(space, Discrete):
        if space.start != 0:
            raise BadConfig(f"the actions of {owner} start at {space.start}; they must start at 0")
        return
    if not isinstance(space, Box):
        raise BadConfig(f"the action space of {owner}, {space}, is neither discrete nor a box")
    if not space.shape:
        raise BadConfig(f"the actions of {owner} are single numbers: make them vectors of one")
    if space.dtype is None or space.dtype.kind != "f":
        raise BadConfig(
            f"the actions of {owner} are vectors of {space.dtype}; only Discrete and a Box of "
            "floats are supported"
        )


def check_rows(columns: Mapping[str, Array], task: Task, owner: str) -> None:
    """Refuse rows that are not observations, actions and labels of a task.

    Args:
        columns: columns by name, with at least `observations` and `actions`.
        task: task whose spaces they must fit.
        owner: owner of the rows, for messages.

    Raises:
        CorruptArtifact: a shape, a type or a value is off.
    """
    if len(columns["observations"]) == 0:
        raise CorruptArtifact(f"{owner} kept nothing")
    check_fit(columns, task, owner)
    check_finite_columns(columns, owner)
    if _has_float_frames(columns, task):  # which a method may move beyond black and white
        _check_white(columns["observations"], owner)
    check_scalars(columns, owner)
    check_actions(columns["actions"], task.action_space, owner)
    if "action_probs" in columns:
        check_labels(columns["action_probs"], task.action_space, owner)
    if "targets" in columns:
        check_targets(columns["targets"], task.action_space, owner)


def check_arrays(columns: Mapping[str, Any], known: Collection[str], owner: str) -> None:
    """Refuse columns that are no arrays, have unknown names, or lack a required one."""
    for name, column in columns.items():
        if name not in known:
            raise CorruptArtifact(
                f"{owner} gave a column {name!r}; known are {', '.join(sorted(known))}"
            )
        if not isinstance(column, np.ndarray) or column.ndim < 1:
            raise CorruptArtifact(f"{owner} gave {name} as {type(column).__name__}, not an array")
    for name in ("observations", "actions"):
        if name not in columns:
            raise CorruptArtifact(f"{owner} gave no {name}")


def check_fit(columns: Mapping[str, Array], task: Task, owner: str) -> None:
    """Refuse observations of another shape than a task's, or neither uint8 nor float32."""
    observations, expected = columns["observations"], task.observation_space.shape
    if observations.dtype not in TAKEN:
        raise CorruptArtifact(
            f"{owner} gave observations of type {observations.dtype}, not uint8 or float32"
        )
    shape = observations.shape[1:]
    if shape != expected:
        raise CorruptArtifact(
            f"{owner} gave observations of shape {shape}, task {task.id!r} has {expected}"
        )
    following = columns.get("following", observations)
    if following.shape[1:] != shape or following.dtype not in TAKEN:
        raise CorruptArtifact(f"{owner} gave next observations unlike observations")


def _has_float_frames(columns: Mapping[str, Array], task: Task) -> bool:
    """Return whether observations are floats where the task's are grey levels."""
    is_grey = task.observation_space.dtype == np.uint8
    return is_grey and columns["observations"].dtype == np.float32


def check_grey_levels(frames: Array, owner: str) -> None:
    """Refuse frames that bytes cannot hold: grey levels are whole numbers from 0 to 255."""
    if frames.dtype == np.uint8 or not len(frames):
        return
    _check_range_of_frames(frames, owner)
    row = first_row(frames, lambda block: block != np.rint(block))
    if row is not None:
        raise CorruptArtifact(
            f"{owner} gave frames between grey levels in row {row}: round them, or keep them as "
            "float32 in a condensed set"
        )


def _check_range_of_frames(frames: Array, owner: str) -> None:
    """Refuse a column of values that leave 0 to 255, or of floats whose white is 1."""
    row = first_row(frames, lambda block: ~((block >= 0) & (block <= 255)))
    if row is not None:
        raise CorruptArtifact(
            f"{owner} gave frames outside 0..255, from {frames[row].min():g} to "
            f"{frames[row].max():g} in row {row}"
        )
    if frames.dtype.kind == "f":
        _check_white(frames, owner)


def _check_white(frames: Array, owner: str) -> None:
    """Refuse a column of frames from 0 to 1, which would be all but black."""
    highest = 0.0  # of all, of which most have a bright pixel in the first block
    for rows in _blocks(frames):
        highest = max(highest, float(frames[rows].max()))
        if highest > 1:
            return
    if highest > 0:
        raise CorruptArtifact(
            f"{owner} gave frames from 0 to {highest:g}; grey levels are 0 to 255: multiply by 255"
        )


def check_finite_columns(columns: Mapping[str, Array], owner: str) -> None:
    """Refuse NaN and infinity."""
    for name, column in columns.items():
        if column.dtype.kind != "f":
            continue
        row = first_row(column, lambda block: ~np.isfinite(block))
        if row is not None:
            raise CorruptArtifact(
                f"{owner} gave non-finite {name}: {_shown(column[row])} in row {row}"
            )


def check_scalars(columns: Mapping[str, Array], owner: str) -> None:
    """Refuse columns that do not have one value of their kind in each row."""
    for name in SCALARS.keys() & columns.keys():
        column, kinds = columns[name], SCALARS[name]
        if column.ndim != 1 or column.dtype.kind not in kinds:
            raise CorruptArtifact(
                f"{owner} gave {name} of type {column.dtype} and shape {column.shape}, "
                f"not one {KINDS[kinds]} a row"
            )


def check_actions(actions: Array, space: Space[Any], owner: str) -> None:
    """Refuse a column with actions outside a space.

    Vectors may leave their box: policies that learn from them are clipped to it.
    """
    if isinstance(space, Box):
        if actions.dtype != np.float32 or actions.shape[1:] != space.shape:
            raise CorruptArtifact(
                f"{owner} gave actions of type {actions.dtype} and shape {actions.shape[1:]}, "
                f"not float32 of {space.shape}"
            )
        return
    n = int(space.n)  # type: ignore[attr-defined]
    if actions.dtype.kind not in "iu" or actions.ndim != 1:
        raise CorruptArtifact(
            f"{owner} gave actions that are not whole numbers, one a row, but {actions.dtype} of "
            f"shape {actions.shape[1:]}"
        )
    row = first_row(actions, lambda block: (block < 0) | (block >= n))
    if row is not None:
        raise CorruptArtifact(
            f"{owner} gave actions outside 0..{n - 1}: {actions[row]} in row {row}"
        )


def check_labels(probs: Array, space: Space[Any], owner: str) -> None:
    """Refuse a column of soft labels that are not distributions over a space's actions."""
    _check_number_for_each_action("action_probs", probs, space, owner)
    row = first_row(probs, _no_distributions)
    if row is not None:
        raise CorruptArtifact(
            f"{owner} gave action_probs that are no distribution: {_shown(probs[row])} in row "
            f"{row}; they must be 0 or more and sum to 1"
        )


def check_targets(targets: Array, space: Space[Any], owner: str) -> None:
    """Refuse a column of real-valued targets without one number for each action."""
    _check_number_for_each_action("targets", targets, space, owner)


def _check_number_for_each_action(name: str, column: Array, space: Space[Any], owner: str) -> None:
    if isinstance(space, Box):
        raise CorruptArtifact(f"{owner} gave {name}, but its actions are vectors")
    n = int(space.n)  # type: ignore[attr-defined]
    if column.ndim != 2 or column.shape[1] != n or column.dtype.kind != "f":
        raise CorruptArtifact(
            f"{owner} gave {name} of type {column.dtype} and shape {column.shape[1:]}, not "
            f"{n} floats a row"
        )


def check_agreement(actions: Array, probs: Array, owner: str) -> None:
    """Refuse distributions from which the actions cannot have been drawn.

    The expected probability of an action under its own distribution is the sum of the squared
    probabilities. If the mean probability is below chance by more than Hoeffding's inequality
    allows, the two columns belong to different rows, or the actions are numbered differently.

    Args:
        actions: `(N,)` discrete actions.
        probs: `(N, A)` distributions.
        owner: owner of the columns, for messages.
    """
    taken = expected = 0.0
    for rows in _blocks(probs):
        block = np.asarray(probs[rows], np.float64)
        taken += float(block[np.arange(len(block)), actions[rows]].sum())
        expected += float((block**2).sum())
    size, chance = len(probs), 1 / probs.shape[1]
    if taken / size < chance and 2 * (expected - taken) ** 2 / size > CONTRADICTION_NATS:
        raise CorruptArtifact(
            f"{owner} gave action_probs that contradict its actions: the action taken has a mean "
            f"probability of {taken / size:.3f}, below chance ({chance:.3f})"
        )


def check_dataset(data: TransitionDataset, task: Task) -> None:
    """Refuse a dataset that does not fit a task, or that holds invalid values.

    Args:
        data: the dataset.
        task: the task that students of the data play.

    Raises:
        BadConfig: it was collected on held-out levels without permission of the user.
        CorruptArtifact: a shape, a type or a value is off.
    """
    owner, columns = f"dataset {data.id!r}", data.columns()
    if len(data) == 0:
        raise CorruptArtifact(f"{owner} has no transitions")
    check_fit(columns, task, owner)
    if _has_float_frames(columns, task):
        _check_range_of_frames(columns["observations"], owner)
    elif task.observation_space.dtype == np.uint8 and columns["observations"].ndim == 4:
        _check_white(columns["observations"], owner)
    check_actions(columns["actions"], task.action_space, owner)
    if not data.known_sha256:  # else they were checked when they were read
        check_values(columns, task.action_space, owner)
    elif data.num_actions not in (None, getattr(task.action_space, "n", None)):
        check_labels(columns["action_probs"], task.action_space, owner)
    if not data.heldout_allowed:
        refuse_heldout(heldout_rows(data, task), task, owner)


def check_values(columns: Mapping[str, Array], space: Space[Any], owner: str) -> None:
    """Refuse values that are invalid in every dataset over a space of actions."""
    check_scalars(columns, owner)
    check_finite_columns(columns, owner)
    check_actions(columns["actions"], space, owner)
    if "action_probs" in columns:
        check_labels(columns["action_probs"], space, owner)
        check_agreement(columns["actions"], columns["action_probs"], owner)


def heldout_rows(data: TransitionDataset, task: Task) -> npt.NDArray[np.int64]:
    """Return the rows `(B,)` that are known to be of held-out levels of a task.

    They are known by `level_seeds`, by the split of the data's environment, or, if a level is a
    reset seed of the environment, by Minari's reset seeds.
    """
    if data.level_seeds is not None:
        return heldout_levels(data.level_seeds, task)
    origin = data.origin
    if origin.split in ("heldout", "held-out") and data.task in ("", task.id):
        return np.arange(len(data))
    theirs = origin.environment in ("", getattr(task, "env", ""))
    if not (task.levels_are_reset_seeds and theirs and origin.reset_seeds):
        return np.empty(0, np.int64)
    heldout, seen = task.splits.get("heldout", ()), task.splits["seen"]
    rows = [
        np.arange(episode.start, episode.stop)
        for episode, seed in zip(data.episodes, _reset_seeds(data), strict=True)
        if seed is not None and seed in heldout and seed not in seen
    ]
    return np.concatenate([np.empty(0, np.int64), *rows])


def _reset_seeds(data: TransitionDataset) -> list[int | None]:
    """Return the reset seed of each episode, by its number: a copy may have some of them only."""
    seeds, ids = data.origin.reset_seeds, data.column("episode_ids")
    numbers = [int(ids[rows.start]) for rows in data.episodes]
    return [seeds[number] if 0 <= number < len(seeds) else None for number in numbers]


def with_known_levels(data: TransitionDataset, task: Task) -> TransitionDataset:
    """Return a dataset with its levels as a column, if it has one or all reset seeds are known.

    A level is a reset seed where the task says so, and the data are of its environment.
    """
    origin = data.origin
    theirs = origin.environment in ("", getattr(task, "env", ""))
    seeds = [seed for seed in _reset_seeds(data) if seed is not None]
    # Minari draws seeds of 64 bits where it is given none: those are no levels.
    are_levels = len(seeds) == len(data.episodes) and all(seed < 2**63 for seed in seeds)
    is_known = task.levels_are_reset_seeds and theirs and are_levels
    if data.level_seeds is not None or not is_known:
        return data
    lengths = [len(rows) for rows in data.episodes]
    return replace(data, level_seeds=np.repeat(np.array(seeds, np.int64), lengths))


def hides_heldout(data: TransitionDataset, task: Task) -> bool:
    """Return whether data are of held-out levels, and have no column that says which.

    What is made of them would not say so.
    """
    return data.level_seeds is None and len(heldout_rows(data, task)) > 0


def heldout_levels(level_seeds: Array, task: Task) -> npt.NDArray[np.int64]:
    """Return the indices of held-out levels; a level that is also seen does not count."""
    heldout = _among(level_seeds, task.splits.get("heldout", ()))
    return np.flatnonzero(heldout & ~_among(level_seeds, task.splits["seen"]))


def _among(levels: Array, some: Collection[int]) -> npt.NDArray[np.bool_]:
    if isinstance(some, range) and some.step == 1:
        return np.asarray((levels >= some.start) & (levels < some.stop))
    return np.isin(levels, list(some))


def refuse_heldout(rows: Array, task: Task, owner: str) -> None:
    """Raise `BadConfig` if some rows are of held-out levels."""
    if len(rows):
        raise BadConfig(
            f"{owner} was collected on held-out levels of {task.id!r}, row {rows[0]} first: "
            "students would be judged on what they were taught (--heldout-data, or heldout_data = "
            "true in a suite, takes it, and every table says so)"
        )


def check_policies(policies: Any, seeds: tuple[int, ...], owner: str) -> None:
    """Refuse a learner's policies unless there is one for each of its seeds, in their order."""
    pair = getattr(policies, "num_policies", None), tuple(getattr(policies, "seeds", ()))
    if pair != (len(seeds), seeds):
        raise CorruptArtifact(
            f"{owner} gave {pair[0]} policies of seeds {pair[1]} for the seeds {seeds}; it must "
            "give one for each, in their order"
        )


def owner_of(policies: object) -> str:
    """Return the name of policies in messages."""
    return f"policies of type {type(policies).__name__}"


def checked_distributions(probs: Any, owner: str) -> Array:
    """Return the distributions `(B, A)` of a policy as an array.

    Raises:
        CorruptArtifact: a row is no distribution.
    """
    array = np.asarray(probs)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise CorruptArtifact(
            f"{owner} gave action_probs of shape {array.shape}, not one distribution a row"
        )
    if (wrong := _no_distributions(array)).any():
        row = int(wrong.argmax())
        raise CorruptArtifact(
            f"{owner} gave action_probs {_shown(array[row])}; they must be 0 or more and sum to 1"
        )
    return array


def as_array(values: Any) -> Array:
    """Return values as an array; a tensor is detached and fetched from its device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def checked_actions(actions: Any, count: int, space: Space[Any], owner: str) -> Array:
    """Return the actions of a policy for `count` environments as an array of the space's type.

    Args:
        actions: result of `act`.
        count: number of environments.
        space: space of one action.
        owner: owner of the policies, for messages.

    Raises:
        CorruptArtifact: an action is not in the space.
    """
    try:
        array = as_array(actions)
    except (TypeError, ValueError) as error:  # such as a pair of actions and None
        raise CorruptArtifact(f"{owner} gave actions that are no array: {error}") from error
    shape = (count, *(space.shape or ()))
    if array.dtype.kind not in "fiub":
        raise CorruptArtifact(f"{owner} gave actions of type {array.dtype}, which are no numbers")
    if not array.ndim and not isinstance(space, Box):
        array = np.broadcast_to(array, shape)  # one number for all
    elif count == 1 and array.size == math.prod(shape):
        array = array.reshape(shape)
    elif array.shape != shape:
        raise CorruptArtifact(f"{owner} gave actions of shape {array.shape}, not {shape}")
    if isinstance(space, Box):
        bounds = (np.abs(np.where(np.isfinite(b), b, 0)) for b in (space.low, space.high))
        slack = BOX_TOLERANCE * (1 + sum(bounds))
        inside = (array >= space.low - slack) & (array <= space.high + slack) & np.isfinite(array)
        allowed = f"the box from {_shown(space.low)} to {_shown(space.high)}"
    else:
        n = int(space.n)  # type: ignore[attr-defined]
        inside, allowed = (array >= 0) & (array < n), f"0..{n - 1}"
        if array.dtype.kind == "f":
            inside &= array == np.rint(array)
    if not inside.all():
        wrong = array.reshape(count, -1)[~inside.reshape(count, -1).all(1)][0]
        raise CorruptArtifact(f"{owner} gave action {_shown(wrong)}; allowed is {allowed}")
    return array


class EnvironmentValidator:
    """Checks of a vector environment's observations, levels and rewards.

    Args:
        env: the environment.
        owner: its owner, for messages.
    """

    def __init__(self, env: Any, owner: str) -> None:
        self._owner, self._num_envs = owner, int(env.num_envs)
        self._shape = (self._num_envs, *(env.single_observation_space.shape or ()))
        self._steps = 0

    def levels(self, infos: Mapping[str, Any]) -> npt.NDArray[np.int64]:
        """Return a copy of the current levels `(E,)`."""
        if "level_seed" not in infos:
            raise CorruptArtifact(f"{self._owner} gave no infos['level_seed'], the levels on show")
        levels = np.array(infos["level_seed"])
        if levels.shape != (self._num_envs,) or levels.dtype.kind not in "iu":
            raise CorruptArtifact(
                f"{self._owner} gave infos['level_seed'] of type {levels.dtype} and shape "
                f"{levels.shape}, not one whole number for each of {self._num_envs} environments"
            )
        return levels

    def observations(self, observations: Any, active: Array) -> Array:
        """Return the observations `(E, *observation)`."""
        shown = np.asarray(observations)
        if shown.shape != self._shape:
            raise CorruptArtifact(
                f"{self._owner} showed observations of shape {shown.shape}, not {self._shape}"
            )
        if shown.dtype not in TAKEN:
            raise CorruptArtifact(
                f"{self._owner} showed observations of type {shown.dtype}, not uint8 or float32"
            )
        if shown.dtype.kind != "f" or np.isfinite(shown).all():
            return shown
        row = first_row(shown[active], lambda block: ~np.isfinite(block))
        if row is not None:
            raise CorruptArtifact(
                f"{self._owner} showed non-finite observations in environment {active[row]} after "
                f"{self._steps} steps"
            )
        return shown

    def outcome(
        self, rewards: Any, terminations: Any, truncations: Any
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return the rewards `(E,)` of a step, and whether episodes ended `(E,)`."""
        self._steps += 1
        paid = np.asarray(rewards)
        if paid.shape != (self._num_envs,) or paid.dtype.kind not in "fiub":
            raise CorruptArtifact(
                f"{self._owner} gave rewards of type {paid.dtype} and shape {paid.shape}, not one "
                f"number for each of {self._num_envs} environments"
            )
        ends = np.asarray(terminations, bool), np.asarray(truncations, bool)
        if any(end.shape != (self._num_envs,) for end in ends):
            raise CorruptArtifact(
                f"{self._owner} gave terminations and truncations of shapes {ends[0].shape} and "
                f"{ends[1].shape}, not one for each of {self._num_envs} environments"
            )
        return paid, ends[0] | ends[1]


def check_played_levels(levels: Array, task: Task, split: str) -> None:
    """Refuse played levels that do not belong to the requested split."""
    strange = ~_among(levels, task.splits[split])
    if strange.any():
        raise CorruptArtifact(
            f"task {task.id!r} played level {levels[strange][0]} in its {split} split, which has "
            "no such level"
        )


def channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether frames are channel-last: whether their last side is the shortest."""
    return len(shape) == 3 and shape[2] < min(shape[:2])


def first_row(column: Array, wrong: Callable[[Array], Array]) -> int | None:
    """Return the first invalid row of a column, or None.

    Args:
        column: `(N, ...)`, perhaps larger than memory.
        wrong: function of some rows that returns whether each row, or each number, is invalid.
    """
    for rows in _blocks(column):
        faulty = wrong(np.asarray(column[rows]))
        if faulty.any():
            return int(rows.start) + int(faulty.reshape(len(faulty), -1).any(1).argmax())
    return None


def _blocks(column: Array) -> list[slice]:
    step = max(1, BLOCK // max(1, math.prod(column.shape[1:])))
    return [slice(i, min(i + step, len(column))) for i in range(0, len(column), step)]


def _no_distributions(probs: Array) -> npt.NDArray[np.bool_]:
    """Return whether each row of `(B, A)` is no distribution; a row with NaN is none."""
    sums = probs.sum(1, dtype=np.float64)
    return np.asarray(~((np.abs(sums - 1) < SUM_TOLERANCE) & (probs.min(1) >= 0)))


def _shown(value: Any) -> str:
    """Format a value in a line; a long one is shortened."""
    numbers = np.asarray(value).ravel()
    some = numbers[:6].tolist()
    text = ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in some)
    return text if numbers.size == 1 else f"[{text}{', ...' if numbers.size > 6 else ''}]"
