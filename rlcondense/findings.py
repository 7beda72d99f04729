"""Findings of detectors, and those that follow from the figures of a report alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlcondense.datasets.report import DisplacementJson, FindingJson, MatchingLossJson


@dataclass(frozen=True)
class Finding:
    """Finding of a detector in `rlcondense.datasets.detectors`.

    Attributes:
        name: name of the detector.
        measured: the measured figure.
        bound: the bound that it was compared with.
        text: both in words.
    """

    name: str
    measured: float
    bound: float
    text: str

    def to_json(self) -> FindingJson:
        """Return the finding as plain values."""
        return {
            "name": self.name, "measured": self.measured, "bound": self.bound, "text": self.text
        }  # fmt: skip

    def __str__(self) -> str:
        """Return the finding in a line."""
        return f"{finding_name(self.name)}: {self.text}"


def finding_name(name: str) -> str:
    """Return the name of a detector for people."""
    return name.replace("-", " ")


# Mean change in grey levels that rounding to whole grey levels removes.
MOVED_LEVELS = 0.5

# The same for other observations, in standard deviations of the data: frames have 0.5 of some 50.
MOVED_DEVIATIONS = 0.01

# Rows of an action that a random set of the size has on average. It then has none once in 20,000
# sets, so that chance is no explanation, not even over 15 actions and many records.
EXPECTED_ROWS = 10
# Share of the data's rows that are so near to another row; measured on NEAR_ROWS of them.
NEAR_SHARE, NEAR_ROWS = 0.99, 256

EXPLANATIONS: Mapping[str, str] = {
    "non-finite-rows": "rows hold NaN or infinity",
    "moved-nothing": (
        f"synthetic frames moved by less than {MOVED_LEVELS} grey levels on average, what rounding "
        f"to whole ones removes (other observations: {MOVED_DEVIATIONS} standard deviations)"
    ),
    "missing-actions": (
        "the labels leave out an action of the data that a random set of the same size has "
        f"{EXPECTED_ROWS} rows or more of on average"
    ),
    "duplicate-rows": "rows repeat others exactly, more often than the data does",
    "loss-rose": "the matching loss is higher after condensation than before it",
    "far-from-data": (
        "half of the synthetic observations or more lie farther from the nearest row of the data "
        f"than {NEAR_SHARE:.0%} of its own rows lie from the nearest that differs"
    ),
    "constant-student": "each student acts in the same way whatever it sees",
    "another-task": "the data were collected on another task than the one that students play",
    "another-expert": "the expert is another task's",
    "heldout-data": "the data hold held-out levels, on which students are judged as well",
    "lossy-frames": "the data's frames were stored as JPEG, which changes them",
}

# Findings about the origin of data and experts, which titles of tables name too.
PROVENANCE = ("another-task", "another-expert", "heldout-data", "lossy-frames")


def reported_findings(
    displacement: DisplacementJson | None, matching_loss: MatchingLossJson | None
) -> list[Finding]:
    """Return the findings that follow from the figures of a report, without the set itself.

    Args:
        displacement: in grey levels.
        matching_loss: of the method.
    """
    findings = [
        unmoved(displacement["mean"]) if displacement else None,
        risen(matching_loss["before"], matching_loss["after"]) if matching_loss else None,
    ]
    return [finding for finding in findings if finding is not None]


def unmoved(mean: float, *, frames: bool = True, from_what: str = "") -> Finding | None:
    """Return the finding `moved-nothing` if the change is below its bound, else None.

    Args:
        mean: absolute change, in grey levels or standard deviations of the data.
        frames: whether the change is in grey levels.
        from_what: reference of the change, if it is not the start.
    """
    bound = MOVED_LEVELS if frames else MOVED_DEVIATIONS
    if mean >= bound:
        return None
    unit = "grey levels" if frames else "standard deviations of the data"
    why = ", what rounding to whole grey levels removes" if frames else ""
    text = f"{mean:.3g} {unit} on average{from_what} (under {bound:g}{why})"
    return finding_of("moved-nothing", mean, bound, text)


def risen(before: float, after: float) -> Finding | None:
    """Return the finding `loss-rose` unless the loss fell, else None; NaN counts as risen."""
    if after <= before:
        return None
    return finding_of(
        "loss-rose", after, before, f"matching loss rose from {before:.4g} to {after:.4g}"
    )


def finding_of(name: str, measured: float, bound: float, text: str) -> Finding:
    """Make a finding, with figures rounded to four digits, which all machines agree on."""
    return Finding(name, float(f"{measured:.4g}"), float(f"{bound:.4g}"), text)
