"""Upper bounds of requested numbers, checked before memory is allocated.

They are far above useful values, and below values that exhaust a machine. Bounds of a record's
numbers are in its schema too, so that every result can be published.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from rlcondense.errors import BadConfig

LARGEST = 2**53  # that every reader of JSON keeps exactly: seeds, sizes, bytes and other counts
MOST_SECONDS = 1e9  # of one phase
MOST_LEARNER_SEEDS = 10_000
MOST_SETS = 10_000  # condensation seeds of one request
MOST_EVALUATION_SEED = 2**31 - 2  # that Procgen takes
MOST_MEASURED = 3.5e38  # of a figure, about the largest that float32 holds
OTHER = 10**11  # of a whole number that the table does not name
MOST: Mapping[str, int] = MappingProxyType(
    {
        # Of a run.
        "episodes": 100_000,
        "size of what no data bound": 100_000,
        "cells of a suite": 200_000,
        "names in a list": 2000,
        "workers": 1024,
        "threads": 1024,
        "seeds x episodes": 200_000,  # some 80 bytes each, of a file that may have 16 MiB
        # Of environments, of all policies together; an evaluation's seed is one of Procgen's.
        "num_envs": 65_536,
        "evaluation's seed": MOST_EVALUATION_SEED,
        "horizon": 10_000_000,
        "levels that are made at once": 100_000,  # two seconds
        # Of networks.
        "width": 4096,
        "width of impala": 64,
        "depth": 32,
        "num_outputs": 1_000_000,
        "numbers of an observation": 2**24,
        "weights of a network": 2**30,
        "n_critics": 64,
        "num_heads": 64,
        "num_layers": 64,
        "context_size": 4096,
        "max_timestep": 1_000_000,
        "n_action_samples": 10_000,
        # Of training and of methods.
        "batch_size": 65_536,
        "real_batch": 65_536,
        "inner_batch": 65_536,
        "teacher_batch": 65_536,
        "rollout_length": 65_536,
        "transitions of a rollout": 2**21,
        "minibatches": 65_536,
        "memory": 2**22,
        "population": 65_536,
        "weights of a population": 2**32,
        "initialisations": 1000,
        "learners": 1000,
        "networks": 1000,
        "pool": 1000,
        "teachers": 1000,
        "label_teachers": 1000,
        "episodes that are compared": 20_000,  # each with each, some 12 GB
        "trajectory": 10_000,
        "inner_steps": 10_000,
        "segment": 10_000,
        "span": 10_000,
        "window": 10_000,
        "resolution": 1024,
        "projection": 16_384,
        "frequencies": 65_536,
        "bits": 16,
        "label_views": 64,
    }
)


def check_seeds(seed: int, condensations: int, learner_seeds: int) -> None:
    """Refuse seeds, and numbers of seeds, that no record may hold.

    Args:
        seed: the first condensation seed.
        condensations: number of condensation seeds.
        learner_seeds: number of learner seeds.

    Raises:
        BadConfig: one is out of range.
    """
    check_whole(seed, "seed")
    check_whole(condensations, "condensations", least=1, most=min(LARGEST - seed, MOST_SETS))
    check_whole(learner_seeds, "seeds", least=1, most=MOST_LEARNER_SEEDS)


def check_evaluation(learner_seeds: int, environments: int, episodes: int) -> None:
    """Refuse more policies, or episodes of all of them, than are played at once or a record holds.

    Args:
        learner_seeds: number of policies.
        environments: of each policy.
        episodes: of each policy on each split.

    Raises:
        BadConfig: it is too many.
    """
    check_most("seeds x environments", learner_seeds * environments, "num_envs")
    check_most("seeds x episodes", learner_seeds * episodes)


def check_whole(value: Any, name: str, *, least: int = 0, most: int = LARGEST) -> None:
    """Refuse values that are no whole numbers in a range.

    Raises:
        BadConfig: it is not; the message names the bounds.
    """
    if not _is_whole(value) or not least <= value <= most:
        asked = f"a whole number from {least:,} to {most:,}"
        raise BadConfig(f"{name} must be {asked}, not {_cut(value)}")


def plain_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return learner seeds as Python's numbers, which NumPy's are not everywhere taken for.

    Raises:
        BadConfig: there is none, or one is no whole number from 0 on.
    """
    plain = tuple(seeds)
    if not plain:
        raise BadConfig("seeds must name at least one learner seed")
    for seed in plain:
        check_whole(seed, "a learner seed")
    return tuple(map(int, plain))


def most(name: str) -> int:
    """Return the upper bound of a number by its name."""
    return MOST.get(name, OTHER)


def check_most(name: str, value: float, bound: str = "") -> None:
    """Refuse a number above its bound in `MOST`.

    Args:
        name: name of the number, for the message.
        value: value of the number.
        bound: name of the bound in `MOST`, if it is another one.

    Raises:
        BadConfig: it is above; the message names the bound.
    """
    if value > most(bound or name):
        raise BadConfig(f"{name} must be at most {most(bound or name):,}, not {_cut(value)}")


def check_count(name: str, value: Any, least: int = 1, bound: str = "") -> None:
    """Refuse what is no whole number from `least` to its bound; arguments as for `check_most`."""
    if not _is_whole(value):
        raise BadConfig(f"{name} must be a whole number, not {_cut(value)}")
    if value < least:
        raise BadConfig(f"{name} must be at least {least}, not {_cut(value)}")
    check_most(name, value, bound)


def check_device(name: str) -> None:
    """Refuse what is no name of a device; see `provenance.resolve_device`."""
    if name not in ("auto", "cpu", "cuda"):
        raise BadConfig(f"device must be auto, cpu or cuda, not {name!r}")


def as_number(name: str, value: Any) -> float:
    """Return a value that is a number.

    Raises:
        BadConfig: it is none.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise BadConfig(f"{name} must be a number, not {_cut(value)}")
    number: float = value  # type: ignore[assignment]
    return number


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _cut(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 128:
        return f"one of {value.bit_length():,} bits"
    return repr(value)
