"""The largest numbers that a request and a record may hold, so that what runs can be published."""

from __future__ import annotations

from typing import Any

from rlcondense.errors import BadConfig

LARGEST = 2**53  # that every reader of JSON keeps exactly: seeds, sizes, bytes and other counts
MOST_SECONDS = 1e9  # of one phase
MOST_LEARNER_SEEDS = 10_000
MOST_SETS = 10_000  # condensation seeds of one request
MOST_EVALUATION_SEED = 2**31 - 2  # that Procgen takes
MOST_MEASURED = 3.5e38  # of a figure, about the largest that float32 holds


def check_seeds(seed: int, condensations: int, learner_seeds: int) -> None:
    """Refuse seeds, or numbers of them, that no record holds.

    Args:
        seed: the first condensation seed.
        condensations: how many of them.
        learner_seeds: how many of those.

    Raises:
        BadConfig: one is out of range.
    """
    check_whole(seed, "seed")
    check_whole(condensations, "condensations", least=1, most=min(LARGEST - seed, MOST_SETS))
    check_whole(learner_seeds, "seeds", least=1, most=MOST_LEARNER_SEEDS)


def check_whole(value: Any, name: str, *, least: int = 0, most: int = LARGEST) -> None:
    """Refuse what is no whole number of a range.

    Raises:
        BadConfig: it is none; names the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        asked = f"a whole number from {least:,} to {most:,}"
        raise BadConfig(f"{name} must be {asked}, not {_cut(value)}")


def _cut(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 128:
        return f"one of {value.bit_length():,} bits"
    return repr(value)
