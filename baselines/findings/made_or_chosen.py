"""Do made rows teach more than chosen ones? All records of a leaderboard, as a page.

python baselines/findings/made_or_chosen.py leaderboard/results    # into docs/results

Rows that were made (synthesised) and rows that were chosen (selected) each stand beside as many
random rows with the same labels, of the same data and with the same students; then the best of
both stand beside each other.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gradmatch_parts import short_name
from pages import (
    RESULTS,
    compare,
    draw,
    mean_of,
    publish,
    read_records,
    size_asked,
    task_name,
    way_to_expert,
)

from rlcondense import catalogue
from rlcondense.comparison.columns import bracketed
from rlcondense.comparison.rows import VERDICTS, FloorComparison, Group, Row, groups_of
from rlcondense.files import canonical_json
from rlcondense.records.record import Record
from rlcondense.references import POLICIES, RANDOM_SUBSET, WHOLE
from rlcondense.reporting.formats import markdown_table
from rlcondense.reporting.publish import fill_part
from rlcondense.statistics.intervals import (
    Interval,
    difference_of,
    student_interval,
    student_means,
)
from rlcondense.types import Array

MADE, CHOSEN = "made", "chosen"
NEITHER = (RANDOM_SUBSET, *WHOLE, *POLICIES, "init-only")
FEW = (50, 500)  # rows: up to so many, up to so many, more


@dataclass(frozen=True)
class Pair:
    """A row beside another of the same data, students, budget and labels.

    Attributes:
        group: in which both are.
        row: the one.
        other: the other.
        comparison: of both, on held-out levels.
    """

    group: Group
    row: Row
    other: Row
    comparison: FloorComparison

    @property
    def place(self) -> str:
        """The task, or the view of Procgen's games."""
        if not self.group.task.startswith("procgen/"):
            return task_name(self.group.task)
        return "procgen, plain" if "-plain" in self.group.task else "procgen, ordinary"

    @property
    def share(self) -> Interval | None:
        """The difference as a share of what the expert returns beyond the random policy."""
        way = way_to_expert(self.group)
        return self.comparison.difference.scaled(1 / way) if way else None


def kind_of(row: Row) -> str:
    """Return whether a method makes rows or chooses them from the data; empty for all others.

    Those are controls, methods that play the task themselves, and what is not installed here.
    """
    if row.id in NEITHER or row.id not in catalogue.entries("methods"):
        return ""
    method = catalogue.find("methods", row.id).load()
    if method.access == "online":
        return ""
    return CHOSEN if method.gives is None else MADE


def rows_of(group: Group) -> list[Row]:
    """Return the rows of a group that are done and have a budget in rows."""
    return [row for row in group.rows if row.status == "done" and size_asked(row)]


def read_groups(folder: Path) -> tuple[list[Group], dict[str, Record]]:
    """Read all rows that are done, as comparable groups and by cell id."""
    records = {k: r for k, r in read_records(folder).items() if r["status"] == "done"}
    return groups_of(records.values()), records


def beside_random(groups: Sequence[Group], records: Mapping[str, Record]) -> list[Pair]:
    """Return the judged rows that were made or chosen, each beside its random rows.

    Of one dataset, budget and kind of labels a method counts once, by the students of which there
    are most rows (of as many by those who sample). Methods that choose the same rows count once,
    too: those whose students return the same in every episode. Made rows that teach nothing do so
    as well, and are not the same.
    """
    pairs = [pair for group in groups for pair in _of_group(group, records)]
    many = Counter((id(pair.group), _what(pair)) for pair in pairs)
    pairs.sort(key=lambda p: (-many[id(p.group), _what(p)], *_order(p.group), p.row.name))
    met: set[tuple[str, ...]] = set()
    once = []
    for pair in pairs:
        place = (pair.group.task, pair.group.dataset, *_what(pair))
        same = {(*place, canonical_json(pair.row.method))}
        if kind_of(pair.row) == CHOSEN:
            returns = canonical_json([records[cell]["returns"] for cell in pair.row.cells])
            same.add((*place, returns))
        if met.isdisjoint(same):
            once.append(pair)
        met |= same
    return once


def _of_group(group: Group, records: Mapping[str, Record]) -> Iterator[Pair]:
    for row in filter(kind_of, rows_of(group)):
        for other in group.of_id(RANDOM_SUBSET):
            if other.status == "done" and _alike(row, other):
                pair = Pair(group, row, other, compare(row, other, records))
                if pair.comparison.verdict != "unknown":
                    yield pair


def _order(group: Group) -> tuple[bool, int, int, str]:
    """Return how early a group of equally many rows comes: students who sample, then most."""
    greedy = group.action_selection == "greedy"
    return greedy, -group.learner_seeds, -group.episodes, canonical_json(group.learner)


def _what(pair: Pair) -> tuple[str, str]:
    return canonical_json(pair.row.budget), str(pair.row.labels)


def best_of_both(groups: Sequence[Group], records: Mapping[str, Record]) -> Iterator[Pair]:
    """Yield the best made rows beside the best chosen ones, where the same students have both.

    Of one dataset, budget and kind of labels once, by the students of which there are most rows.
    """
    places: dict[tuple[str, ...], list[list[Pair]]] = {}
    for group in sorted(groups, key=_order):
        alike: dict[tuple[str, str], list[Pair]] = {}
        for pair in _of_group(group, records):
            alike.setdefault(_what(pair), []).append(pair)
        for what, pairs in alike.items():
            if {kind_of(pair.row) for pair in pairs} == {MADE, CHOSEN}:
                places.setdefault((group.task, group.dataset, *what), []).append(pairs)
    for candidates in places.values():
        pairs = max(candidates, key=len)
        made, chosen = (
            max(
                (pair.row for pair in pairs if kind_of(pair.row) == kind),
                key=lambda row: mean_of(row, "heldout").estimate,
            )
            for kind in (MADE, CHOSEN)
        )
        yield Pair(pairs[0].group, made, chosen, compare(made, chosen, records))


def own_seeds(pairs: Sequence[Pair], records: Mapping[str, Record]) -> str:
    """Say what remains of the differences without the students of their sets' own seeds.

    Methods that draw networks from a set's seed begin with the initial weights of the student of
    that learner seed, where its network is theirs.
    """
    parts = []
    for kind in (MADE, CHOSEN):
        of = [pair for pair in pairs if kind_of(pair.row) == kind]
        moved, changed = [], 0
        for pair in of:
            before = pair.comparison
            random = student_means([records[cell] for cell in pair.other.cells], "heldout")
            apart = difference_of(without_own_seeds(pair.row, records), random)
            after = replace(before, difference=apart)
            changed += before.verdict != after.verdict
            half = (before.difference.high - before.difference.low) / 2
            if half:
                moved.append((after.difference.estimate - before.difference.estimate) / half)
        share = bracketed(student_interval(np.array(moved)), "{:+.3f}")
        parts.append(
            f"{len(of)} rows {kind}: {share} of half an interval, {changed} verdicts change"
        )
    return "; ".join(parts) + "."


def without_own_seeds(row: Row, records: Mapping[str, Record]) -> Array:
    """Return means of students `(sets, students)`, those of their set's own seed by the others'.

    They are the sum of an effect of the set and one of the student, fitted to all others; of a
    single set, their mean.
    """
    of_row = [records[cell] for cell in row.cells]
    means = student_means(of_row, "heldout")
    own = np.array(
        [
            [seed == one["cell"]["condensation_seed"] for seed in one["cell"]["learner_seeds"]]
            for one in of_row
        ]
    )
    sets, students = means.shape
    if own.all(1).any():  # nobody else learned from a set
        return means
    if sets == 1:
        return np.where(own, means[~own].mean(), means)
    effects = np.concatenate(
        [np.repeat(np.eye(sets), students, 0), np.tile(np.eye(students), (sets, 1))], 1
    )
    fit = np.linalg.lstsq(effects[~own.ravel()], means[~own], rcond=None)[0]
    return np.where(own, (effects @ fit).reshape(means.shape), means)


def _alike(row: Row, other: Row) -> bool:
    return (row.budget, row.labels) == (other.budget, other.labels)


def page(pairs: Sequence[Pair], best: Sequence[Pair]) -> str:
    """Format the counts and all differences that are told apart."""
    counts = {
        (place, size, labels): [
            verdict
            for kind in (MADE, CHOSEN)
            for verdict in _counted(
                [p for p in pairs if kind_of(p.row) == kind and _where(p) == (place, size, labels)]
            )
        ]
        for place, size, labels in sorted({_where(pair) for pair in pairs})
    }
    total = {kind: [p for p in pairs if kind_of(p.row) == kind] for kind in (MADE, CHOSEN)}
    sums = [
        f"{len(of)} rows {kind}: {_verdicts(of, 'above')} above as many random ones, "
        f"{_verdicts(of, 'below')} below"
        for kind, of in total.items()
    ]
    names = ("up to 50", "51 to 500", "more")
    headers = ["task", "rows", "labels"]
    headers += [f"{kind}{of}" for kind in (MADE, CHOSEN) for of in ("", ": above", ": below")]
    return "\n\n".join(
        [
            "; ".join(sums) + ".",
            markdown_table(
                headers, [[p, names[s], lab, *of] for (p, s, lab), of in counts.items()]
            ),
            "### Rows told apart from random ones",
            _table([p for p in pairs if p.comparison.verdict in ("above", "below")], "random"),
            "### The best made rows beside the best chosen ones",
            f"Of {len(best)} places with both, made rows are above in {_verdicts(best, 'above')}, "
            f"below in {_verdicts(best, 'below')}.",
            _table(best, "chosen"),
        ]
    )


def _where(pair: Pair) -> tuple[str, int, str]:
    size = size_asked(pair.row)
    return pair.place, sum(size > most for most in FEW), str(pair.row.labels)


def _verdicts(pairs: Sequence[Pair], verdict: str) -> int:
    return sum(pair.comparison.verdict == verdict for pair in pairs)


def _counted(pairs: Sequence[Pair]) -> list[str]:
    return [
        str(n or "") for n in (len(pairs), _verdicts(pairs, "above"), _verdicts(pairs, "below"))
    ]


def _table(pairs: Sequence[Pair], other: str) -> str:
    lines = [
        [
            task_name(pair.group.task),
            pair.group.dataset.rsplit("/", 1)[-1],
            f"{size_asked(pair.row):,}",
            str(pair.row.labels),
            short_name(pair.row),
            *([] if other == "random" else [short_name(pair.other)]),
            bracketed(mean_of(pair.row, "heldout")),
            bracketed(pair.comparison.difference, "{:+.2f}"),
            VERDICTS[pair.comparison.verdict],
        ]
        for pair in sorted(pairs, key=lambda p: (kind_of(p.row), p.group.task, size_asked(p.row)))
    ]
    headers = ["task", "data", "rows", "labels", "method"]
    headers += [] if other == "random" else [f"best {other}"]
    return markdown_table([*headers, "held-out", "difference", "verdict"], lines)


def picture(pairs: Sequence[Pair]) -> str:
    """Draw what made rows of Procgen teach beside random ones."""
    made = [pair for pair in pairs if kind_of(pair.row) == MADE and "procgen" in pair.place]
    bars = [
        (f"{task_name(p.group.task)}, {size_asked(p.row)}, {short_name(p.row)}", p.share)
        for p in made
    ]
    shown = sorted(
        ((name, share) for name, share in bars if share), key=lambda bar: -bar[1].estimate
    )
    label = "beside as many random rows, of what the expert returns beyond the random policy"
    return draw(shown, label)


def main() -> None:
    """Fill the page and draw its picture."""
    groups, records = read_groups(Path(sys.argv[1]))
    pairs = beside_random(groups, records)
    publish("made-or-chosen", page(pairs, list(best_of_both(groups, records))), picture(pairs))
    fill_part(RESULTS / "made-or-chosen.md", "own-seeds", own_seeds(pairs, records))


if __name__ == "__main__":
    main()
