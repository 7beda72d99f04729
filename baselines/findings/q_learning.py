"""Do fewer, better rows help a Q-learner? The records of a suite, as a page.

python baselines/findings/q_learning.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pages import Rows, draw, mean_of, publish, read_suite, way_to_expert

from rlcondense.comparison.columns import bracketed
from rlcondense.references import EXPERT, FLOOR, MARGINAL, RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table
from rlcondense.statistics.intervals import Interval

SUITE = "q-learning"
ALL, BEST, EPISODES = "full", "top-return", "stratified"
OTHERS = {ALL: "all the data", RANDOM_SUBSET: "random rows", EPISODES: "random episodes"}


class Learning(Rows):
    """What one learner makes of one task's data."""

    @property
    def learner(self) -> str:
        """The learner and its updates."""
        return f"{self.group.learner['id']}, {self.group.learner['config']['updates']:,} updates"


def read_learning(folder: Path) -> list[Learning]:
    """Read the learners of the suite, each on each task."""
    groups, records = read_suite(folder, SUITE)
    found = [Learning(group, records) for group in groups]
    known = [one for one in found if {ALL, FLOOR, MARGINAL, EXPERT} <= one.rows.keys()]
    return sorted(known, key=lambda one: (one.task, one.learner))


def page(found: Sequence[Learning]) -> str:
    """Format the returns and the differences, by task and learner."""
    lines = []
    for one in found:
        cells = [one.rows.get(name) for name in (ALL, RANDOM_SUBSET, EPISODES, BEST)]
        lines.append(
            [
                one.task,
                one.learner,
                *(bracketed(mean_of(row, "heldout")) if row else "" for row in cells),
                *(bracketed(one.gain(BEST, other), "{:+.2f}") for other in OTHERS),
            ]
        )
    headers = ["task", "learner", *OTHERS.values(), "best episodes"]
    more = [f"best - {name}" for name in OTHERS.values()]
    return "\n\n".join(
        [
            *(counted(other, found) for other in OTHERS),
            markdown_table([*headers, *more], lines),
            "Policies beside them:",
            policies(found),
        ]
    )


def counted(other: str, found: Sequence[Learning]) -> str:
    """Count the learners that learn more, and less, of the best episodes than of others."""
    met = [(one, one.beside(BEST, other)) for one in found]
    gains = [(one, gain) for one, gain in met if gain is not None and gain.judged]
    above = [one for one, gain in gains if gain.verdict == "above"]
    below = [one for one, gain in gains if gain.verdict == "below"]
    return (
        f"Beside {OTHERS[other]}, the best episodes teach more in {len(above)} of {len(gains)} "
        f"comparisons ({_named(above)}), less in {len(below)} ({_named(below)})."
    )


def _named(found: Sequence[Learning]) -> str:
    return "; ".join(f"{one.task}, {one.learner}" for one in found) or "none"


def policies(found: Sequence[Learning]) -> str:
    """Format the policies of each task."""
    names = (FLOOR, MARGINAL, EXPERT)
    lines: dict[str, list[str]] = {}
    for one in found:
        rows = [one.rows[name] for name in names]
        lines[one.task] = [one.task, *(bracketed(mean_of(row, "heldout")) for row in rows)]
    return markdown_table(
        ["task", "random policy", "marginal policy", "expert"], list(lines.values())
    )


def bars(found: Sequence[Learning]) -> Iterator[tuple[str, Interval]]:
    """Return the differences to draw, as shares of the way from the random policy to the expert."""
    for one in found:
        for other in (ALL, EPISODES):
            gain, way = one.gain(BEST, other), way_to_expert(one.group)
            if gain is not None and way:
                name = f"{one.task}, {one.learner}: {OTHERS[other]}"
                yield name, gain.scaled(1 / way)


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_learning(Path(sys.argv[1]))
    label = "the best episodes beside others, as a share of the way from random policy to expert"
    publish("q-learning", page(found), draw(list(bars(found)), label))


if __name__ == "__main__":
    main()
