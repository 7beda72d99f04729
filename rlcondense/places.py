"""Folders on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder of everything that may be deleted and made again: `$RLCONDENSE_HOME`."""
    from platformdirs import user_data_path

    home = os.environ.get("RLCONDENSE_HOME")
    return Path(home) if home else user_data_path("rlcondense")
