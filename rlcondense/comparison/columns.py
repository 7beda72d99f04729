"""The columns of tables of rows, each declared once for all formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlcondense.comparison.rows import Row
from rlcondense.datasets.report import BudgetJson
from rlcondense.records.cell import budget_text
from rlcondense.references import FLOORS
from rlcondense.statistics.intervals import Interval

SIGNS = {"above": "+", "level": "=", "below": "-", "unknown": "?"}


@dataclass(frozen=True)
class Column:
    """A column of a table of rows.

    Attributes:
        header: its name.
        text: the cell of a row that is done.
        undone: the cell of a row that is not done.
        legend: its meaning, a sentence or more; empty if the header suffices.
        caption: its meaning in the caption of a paper's table, where the legend is too long.
        places: where it is shown beside the full tables: `terminal`, `headline` (the one table of
            a suite in a document), `page` (as a sortable figure of the site) and `paper` (the
            columns that fit a column of text).
        title: a short explanation on the site.
        figure: the value that the site shows with its interval, and sorts by.
        format: of that figure.
    """

    header: str
    text: Callable[[Row], str]
    undone: Callable[[Row], str] = lambda row: ""
    legend: str = ""
    caption: str = ""
    places: frozenset[str] = frozenset()
    title: str = ""
    figure: Callable[[Row], Interval | None] = lambda row: None
    format: str = ""

    def cell(self, row: Row) -> str:
        """Return the text of a row's cell, done or not."""
        return self.undone(row) if row.returns is None else self.text(row)


def plus_minus(interval: Interval) -> str:
    """Format an estimate and its standard error, if it is known."""
    if not interval.known:
        return f"{interval.estimate:.2f}"
    return f"{interval.estimate:.2f} ± {interval.standard_error:.2f}"


def bracketed(interval: Interval | None, form: str = "{:.2f}") -> str:
    """Format an estimate and its 95% interval, if there is one."""
    if interval is None:
        return ""
    estimate = number(interval.estimate, form)
    if not interval.known:
        return estimate
    return f"{estimate} [{number(interval.low, form)}, {number(interval.high, form)}]"


def number(value: float, form: str = "{:.2f}") -> str:
    """Format a number, without a minus sign before a rounded zero."""
    text = form.format(value)
    return text if any(digit in text for digit in "123456789") else text.replace("-", "")


def recovery_text(row: Row) -> str:
    """Format the recovery of a row; of its two ends, if they are told apart, 100% and 0%."""
    if row.recovery_end is not None:
        return f"{row.recovery_end:.0%}"
    return bracketed(row.recovery, "{:.0%}") or "-"


def signs(row: Row) -> str:
    """Return a row's verdicts against the three floors, a sign each; a dot if none is needed."""
    verdicts = row.verdicts
    if not verdicts:
        return ""
    return " ".join(SIGNS[verdicts[floor]] if floor in verdicts else "·" for floor in FLOORS)


def _name(row: Row) -> str:
    return f"{row.name} {row.marks}".rstrip()


def _size(row: Row) -> str:
    size = "" if row.size is None else str(row.size)
    if len({*row.sizes}) > 1:
        size = f"{min(row.sizes)} to {max(row.sizes)}"
    return with_coding(size, row)


def with_coding(size: str, row: Row) -> str:
    """Return a row's size, in words, with its budget behind it if that is one in bytes."""
    return " in ".join(filter(None, [size, coding_of(row.budget)]))


def name_and_size(row: Row) -> str:
    """Return a row's name with its size, where it has one."""
    return row.name if row.size is None else f"{row.name}, {with_coding(f'{row.size:,}', row)}"


def coding_of(budget: BudgetJson | None) -> str:
    """Return a budget in bytes in words, of which a method may have several forms; else nothing."""
    return budget_text(budget) if budget and "bytes" in budget else ""


def _size_and_labels(row: Row) -> str:
    if row.size is None or row.labels in (None, "hard", "continuous"):
        return _size(row)
    return f"{_size(row)} {row.labels}"


def seeds_text(row: Row) -> str:
    """Format the numbers of sets and of students of each, such as `3 x 5`."""
    return (
        str(row.learner_seeds)
        if row.is_policy
        else f"{row.condensation_seeds} x {row.learner_seeds}"
    )


def _returns(split: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        assert row.returns is not None
        return plus_minus(row.returns[split]["mean"])

    return text


def _interquartile(row: Row) -> str:
    assert row.returns is not None
    return bracketed(row.returns["heldout"]["interquartile_mean"])


def _rank(row: Row) -> str:
    return "" if row.rank is None else "-".join(map(str, sorted(set(row.rank))))


EVERYWHERE = frozenset({"terminal", "headline"})
COLUMNS = (
    Column("method", _name, lambda row: row.name, places=EVERYWHERE | {"paper"}),
    Column("size", _size_and_labels, _size_and_labels, places=frozenset({"headline", "paper"})),
    Column("seeds", seeds_text, seeds_text, legend="Seeds: condensation x learner."),
    Column(
        "seen", _returns("seen"), lambda row: row.status, places=EVERYWHERE,
        caption="Seen: mean return on the levels that data may come from.",
    ),
    Column(
        "held-out", _returns("heldout"), lambda row: row.status, places=EVERYWHERE | {"paper"},
        caption="Held-out: mean return on levels that no data come from.",
    ),
    Column(
        "held-out IQM", _interquartile,
        legend="IQM: interquartile mean of a student's episodes.",
    ),
    Column(
        "recovery", recovery_text, places=frozenset({"terminal", "page", "paper"}),
        caption="Recovery: the share of the way from the random policy to the expert on held-out "
        "levels, with its 95% interval.",
        legend="Recovery: (R - random policy) / (expert - random policy), - where the expert is "
        "not known to be above or the interval has no end; it is Fieller's.",
        title="(R - random policy) / (expert - random policy), held-out",
        figure=lambda row: row.recovery, format="{:.0%}",
    ),
    Column(
        "gain", lambda row: bracketed(row.gain, "{:+.2f}"),
        places=frozenset({"terminal", "headline", "page"}),
        caption="Gain: over a random subset of the same size and labels on held-out levels, with "
        "its 95% interval.",
        legend="Gain: R - random subset of the same size and labels, on the same levels.",
        title="R - random subset of the same size and labels, held-out",
        figure=lambda row: row.gain, format="{:+.2f}",
    ),
    Column(
        "gap", lambda row: bracketed(row.gap, "{:+.2f}"), places=frozenset({"page"}),
        legend="Gap: seen minus held-out.", title="seen minus held-out",
        figure=lambda row: row.gap, format="{:+.2f}",
    ),
    Column(
        "rank", _rank,
        legend="Rank: the places among trained rows that paired differences leave open.",
    ),
    Column(
        "U M S", signs, places=frozenset({"headline"}),
        legend="U M S: whether the row is above (+), level with (=) or below (-) the uniform "
        "random policy, the marginal policy (or the constant policy, where students act greedily "
        "and it returns more) and the random subset, on held-out levels, at 95%, for the levels "
        "that were played and without correction for the number of rows; ? where that is not "
        "judged, · where it need not be.",
    ),
)  # fmt: skip
SIZE_ALONE = Column("size", _size, _size)  # for the terminal, where names include the labels
LEGEND = " ".join(
    [
        "± is the standard error over sets and students; that of a row with one set is over its "
        "students, conditional on one condensed dataset. Brackets are 95% intervals (Student's t).",
        *(column.legend for column in COLUMNS if column.legend),
        "!: a row that is not above all that it should beat; ?: one set: not judged; so too with "
        "one learner seed, and where a row or any spread is missing.",
    ]
)


def columns_of(place: str) -> list[Column]:
    """Return the columns of a place; see `Column.places`."""
    return [column for column in COLUMNS if place in column.places]
