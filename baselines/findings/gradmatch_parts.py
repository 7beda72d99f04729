"""Which part of gradient matching does what? Its variants beside their starts, as a page.

python baselines/findings/gradmatch_parts.py leaderboard/results    # into docs/results
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pages import compare, draw, mean_of, publish, read_suite, task_name

from rlcondense.comparison.columns import bracketed, seeds_text
from rlcondense.comparison.rows import FloorComparison, Group, Row
from rlcondense.datasets.labels import TAUGHT
from rlcondense.records.record import Record
from rlcondense.references import RANDOM_SUBSET
from rlcondense.reporting.formats import markdown_table

SUITE, METHOD, START = "gradmatch-parts", "gradmatch", "init-only"
OTHER_STUDENT = "student_rate"  # stated where the student inside is not the usual one
VALIDATED = "validate_every"  # rows are held back, so that a seed's start is another
FROZEN = "encoder=frozen"
# A form's name is what sets it apart: the first that fits.
FORMS: tuple[tuple[dict[str, object], str], ...] = (
    ({"distance": "norm", "outer_optimiser": "sgd", "input": "raw"}, "equation 2"),
    ({"distance": "norm", "input": "raw"}, "equation 2, Adam's steps of a grey level"),
    ({"loss": "softmax-mse", "input": "raw"}, "equation 2, Adam, cosine distance"),
    ({"distance": "norm", "outer_optimiser": "sgd"}, "equation 2, inputs scaled to 0..1"),
    ({"distance": "norm"}, "equation 2, scaled, Adam's steps"),
    ({"loss": "softmax-mse"}, "equation 2, scaled, Adam, cosine distance"),
    ({"match": "per-class", "labels": "hard"}, "per-class, its loss and network"),
    ({"match": "per-class", "start": "balanced", "theta": "initial"}, "per-class, soft labels"),
    ({"match": "per-class", "start": "balanced"}, "soft labels, along a student's training"),
    ({"match": "joint", "start": "balanced"}, "soft labels, all actions together"),
    ({"match": "per-class", "labels": "soft"}, "per-class, soft labels, random rows"),
    ({"match": "per-class", VALIDATED: 25}, "per-class, learned labels, random rows, validated"),
    ({"match": "joint", VALIDATED: 20}, "default, 200 iterations, validated"),
    ({"match": "per-class"}, "per-class, learned labels, random rows"),
    ({"match": "joint", "theta": "trajectory"}, "default: jointly, along a student's training"),
)


@dataclass(frozen=True)
class Variant:
    """A form of gradient matching on one task.

    Attributes:
        task: the task's alias.
        row: its row.
        form: its place and name among the forms.
        start: the comparison with the frames that it starts from, as they are: of its own seeds.
        random: the comparison with random rows that have its labels, of all seeds.
    """

    task: str
    row: Row
    form: tuple[int, str]
    start: FloorComparison | None
    random: FloorComparison | None


def form_of(config: Mapping[str, object]) -> tuple[int, str]:
    """Return the place and the name of a form; of unknown ones the last place, and no name."""
    usual = {"outer_optimiser": "adam"}
    found = {**usual, **config}
    fitting = (
        (place, name)
        for place, (asked, name) in enumerate(FORMS)
        if all(found.get(key) == value for key, value in asked.items())
    )
    return next(fitting, (len(FORMS), ""))


def short_name(row: Row) -> str:
    """Return a row's name, with a form of gradmatch in words.

    Labels that come with the data, or are learned, are left out: they have a column. A teacher's
    stay, for a method may stand there with them and with its own. So does a frozen encoder, whose
    rows are a group of their own, since their students are others.
    """
    taught = row.method["config"].get("labels") == TAUGHT
    form = form_of(row.method["config"])[1] if row.id == METHOD else ""
    if form and OTHER_STUDENT in row.method["config"]:
        form += ", another student"
    name, _, listed = row.name.partition(" (")
    hidden = () if taught else (f"labels={row.labels}", "labels=learned")
    settings = [one for one in listed.removesuffix(")").split(", ") if one and one not in hidden]
    if row.method["config"].get("encoder") == "frozen" and FROZEN not in settings:
        settings.append(FROZEN)
    if form:
        settings = [form, f"labels={TAUGHT}"] if taught else [form]
    return f"{name} ({', '.join(settings)})" if settings else name


def read_variants(folder: Path) -> list[Variant]:
    """Read the forms of the suite that have records, by task and form."""
    groups, records = read_suite(folder, SUITE)
    found = [
        variant_of(group, row, records)
        for group in groups
        for row in group.of_id(METHOD)
        if row.status == "done"
    ]
    return sorted(found, key=lambda one: (one.task, one.form))


def variant_of(group: Group, row: Row, records: Mapping[str, Record]) -> Variant:
    """Return a form beside its start and random rows of its labels."""
    config = row.method["config"]

    def control(name: str) -> Row | None:
        controls = [one for one in group.of_id(name) if one.status == "done"]
        fitting = (one for one in controls if (one.labels, one.budget) == (row.labels, row.budget))
        return next(fitting, None)

    start = control(START if config["start"] == "balanced" else RANDOM_SUBSET)
    if VALIDATED in config:
        start = None
    others = control(RANDOM_SUBSET)
    return Variant(
        task_name(group.task),
        row,
        form_of(config),
        compare(row, of_its_seeds(start, row, records), records) if start else None,
        compare(row, others, records) if others else None,
    )


def of_its_seeds(start: Row, row: Row, records: Mapping[str, Record]) -> Row:
    """Return a row with the sets alone that another's sets of the same seeds start from."""
    seeds = {records[cell]["cell"]["condensation_seed"] for cell in row.cells}
    cells = [k for k in start.cells if records[k]["cell"]["condensation_seed"] in seeds]
    return replace(start, cells=tuple(cells), condensation_seeds=len(cells))


def page(found: Sequence[Variant]) -> str:
    """Format the forms of each task."""
    if not found:
        return "No form has a record yet."
    headers = ["task", "form", "labels", "sets x students", "pixels moved", "held-out"]
    beside = ["beside its start", "beside random rows"]
    lines = [
        [
            one.task,
            one.form[1],
            str(one.row.labels),
            seeds_text(one.row),
            f"{one.row.displacement['mean']:.2g}" if one.row.displacement else "",
            bracketed(mean_of(one.row, "heldout")),
            *(
                bracketed(floor.difference, "{:+.2f}") if floor else ""
                for floor in (one.start, one.random)
            ),
        ]
        for one in found
    ]
    return f"{said(found)}\n\n{markdown_table([*headers, *beside], lines)}"


def said(found: Sequence[Variant]) -> str:
    """Count the forms that are above and below what they are compared with."""
    parts = []
    beside = {
        "their start": [one.start for one in found],
        "random rows of their labels": [one.random for one in found],
    }
    for name, floors in beside.items():
        verdicts = [floor.verdict for floor in floors if floor is not None and floor.judged]
        above, below = verdicts.count("above"), verdicts.count("below")
        parts.append(f"of {len(verdicts)} beside {name}, {above} are above and {below} below")
    tasks = len({one.task for one in found})
    return f"Rows on {tasks} tasks: {'; '.join(parts)}."


def picture(found: Sequence[Variant]) -> str:
    """Draw what each form teaches beside its start."""
    bars = [
        (f"{one.task}, {one.form[1]}", one.start.difference)
        for one in found
        if one.start is not None and one.start.difference.known
    ]
    return draw(bars, "held-out return beside the frames that it starts from")


def main() -> None:
    """Fill the page and draw its picture."""
    found = read_variants(Path(sys.argv[1]))
    publish("gradmatch", page(found), picture(found))


if __name__ == "__main__":
    main()
