"""Types that many modules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Record = Mapping[str, Any]  # the record of a cell, as its JSON file has it
