"""Label regimes: `hard`, `soft` (stored distributions) and `taught` (a teacher's labels).

Rows of different regimes are not compared: what they gain is the labels'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TAUGHT = "taught"
# Settings of the teachers, which a regime is made of beside its name.
TEACHING = (
    "label_teachers", "label_temperature", "label_network", "label_updates", "label_views",
)  # fmt: skip


def label_settings(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the settings by which a selection's rows have labels of the same regime as a result's.

    Args:
        config: the settings of the result's method.
        kind: the labels that its learner learned from, `hard`, `soft` or `continuous`.
    """
    if config.get("labels") == TAUGHT and kind != "hard":
        return {"labels": TAUGHT, **{name: config[name] for name in TEACHING if name in config}}
    return {"labels": "soft" if kind == "soft" else "hard"}


def regime_of(config: Mapping[str, Any], kind: str | None) -> str | None:
    """Return the name of a result's label regime, such as `soft` or `taught (teachers=3)`.

    Args:
        config: the settings of the result's method.
        kind: the labels that its learner learned from; None where it learned from none.
    """
    settings = label_settings(config, kind or "hard")
    if kind is None or settings.pop("labels") != TAUGHT:
        return kind
    others = ", ".join(f"{name.removeprefix('label_')}={settings[name]}" for name in settings)
    return f"{TAUGHT} ({others})" if others else TAUGHT
