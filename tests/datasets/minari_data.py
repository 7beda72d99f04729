"""Small Minari datasets of whatever a test wants to be in them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.storage import get_dataset_path

VECTORS = gymnasium.spaces.Box(-10, 10, (4,), np.float32)
TWO = gymnasium.spaces.Discrete(2)


def episode(length: int = 10, **changes: Any) -> dict[str, Any]:
    """An episode of four numbers and two actions; `changes` go over its parts."""
    rng = np.random.default_rng(length)
    return {
        "observations": rng.standard_normal((length + 1, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, length),
        "rewards": np.ones(length),
        "terminations": np.arange(length) == length - 1,
        "truncations": np.zeros(length, bool),
        **changes,
    }


def create(
    id_: str,
    episodes: Iterable[dict[str, Any]],
    observations: gymnasium.Space[Any] = VECTORS,
    actions: gymnasium.Space[Any] = TWO,
    **options: Any,
) -> str:
    """Write a dataset anew, and give its id."""
    shutil.rmtree(get_dataset_path(id_), ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            id_,
            [EpisodeBuffer(**parts) for parts in episodes],
            observation_space=observations,
            action_space=actions,
            **options,
        )
    return id_
