"""Types that many modules share."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt

Array = npt.NDArray[Any]
Split = Literal["seen", "heldout"]  # of a task's levels
SPLITS: tuple[Split, ...] = ("seen", "heldout")
SPLIT_NAMES = {"seen": "seen levels", "heldout": "held-out levels"}  # for people
