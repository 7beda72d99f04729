"""Intervals that documents quote are those of the published records."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rlcondense.comparison.rows import groups_of
from rlcondense.reporting.board import publishable_results
from rlcondense.reporting.conclusions import read_conclusions
from rlcondense.statistics.intervals import crossed_interval, difference_of, student_means
from rlcondense.types import Split
from tests.docs.pages import PAGES, ROOT, name_of

PARTS = re.compile(r"<!-- (?P<name>[\w-]+) -->.*?<!-- /(?P=name) -->", re.DOTALL)  # by scripts
NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?"
INTERVAL = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\](?!%)")
Array = npt.NDArray[np.float64]

# What no published row says, by page.
MERGED = {"+0.25 [0.00, +0.50]", "+0.25 [-0.01, +0.51]"}  # of scores relative to each task's own
EARLY = {"-241 [-453, -29]"}  # of evolved weights at 0.6 million steps
ELSEWHERE: dict[str, set[str]] = {
    "README.md": {"+457.32 [+456.56, +458.08]"},  # the output of the example
    "docs/get-started.md": {"+440.76 [+296.83, +584.69]"},  # the same
    "docs/results/claims.md": MERGED | EARLY,
    "docs/results/hades.md": MERGED | EARLY | {
        # each merged set
        "+0.35 [+0.23, +0.48]", "+0.25 [+0.14, +0.37]", "+0.15 [+0.03, +0.27]",
        # curves along evolutions, on hopper and breakout
        "301 [98, 505]", "543 [341, 745]", "430 [59, 801]", "777 [473, 1082]", "-347 [-702, +8]",
        "528 [-2, 1058]", "869 [780, 957]", "-340 [-878, +197]", "530 [-6, 1067]",
        "874 [764, 984]", "-344 [-892, +204]", "612 [132, 1092]", "947 [864, 1031]",
        "-336 [-823, +151]", "3.3 [3.2, 3.4]",
    },
    # the first three of five sets
    "docs/results/small-sets.md": {
        "+0.19 [-0.02, +0.39]", "+0.69 [-0.19, +1.56]", "+0.93 [-0.16, +2.01]"
    },
}  # fmt: skip


def unfolded(text: str) -> str:
    """Return a text without its line ends."""
    return re.sub(r"\s+", " ", text)


def quotes(text: str) -> Iterator[re.Match[str]]:
    """Yield the intervals that a page quotes outside the parts that scripts write."""
    return INTERVAL.finditer(unfolded(PARTS.sub("", text)))


@cache
def made() -> set[tuple[str, ...]]:
    """Return the intervals in the parts of all pages that scripts write, without plus signs."""
    parts = " ".join(m[0] for page in PAGES for m in PARTS.finditer(page.read_text()))
    return {unsigned(m.groups()) for m in INTERVAL.finditer(unfolded(parts))}


def unsigned(numbers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(number.lstrip("+").replace(",", "") for number in numbers)


def opposite(numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the interval of the difference the other way round."""
    estimate, low, high = unsigned(numbers)
    return tuple(n[1:] if n.startswith("-") else f"-{n}" for n in (estimate, high, low))


@cache
def rows() -> list[list[Array]]:
    """Return the means of students `(sets, students)` of all rows of a task, for each split."""
    records, _ = publishable_results(ROOT / "leaderboard" / "results")
    found: dict[tuple[str, Split], list[Array]] = defaultdict(list)
    for group in groups_of(records.values()):
        for row in group.rows:
            if row.status == "done":
                own = [records[cell] for cell in row.cells]
                for split in ("heldout", "seen"):
                    found[group.task, split].append(student_means(own, split))
    return list(found.values())


def is_of_records(numbers: tuple[str, ...]) -> bool:
    """Return whether an interval is that of a published row, or of two rows of a task."""
    quoted = np.array([float(n) for n in unsigned(numbers)])
    digits = [len(n.partition(".")[2]) for n in numbers]
    off = np.array([0.5 * 10.0**-d + 1e-6 for d in digits])

    def fits(one: Any) -> bool:
        return bool((abs(np.array([one.estimate, one.low, one.high]) - quoted) <= off).all())

    for of_task in rows():
        means = np.array([x.mean() for x in of_task])
        if any(fits(crossed_interval(of_task[i])) for i in near(means, quoted[0], off[0])):
            return True
        apart = means[:, None] - means
        places = zip(*np.nonzero(abs(apart - quoted[0]) <= off[0]), strict=True)
        if any(fits(difference_of(of_task[i], of_task[j])) for i, j in places if i != j):
            return True
    return False


def near(values: Array, value: float, off: float) -> npt.NDArray[np.intp]:
    return np.flatnonzero(abs(values - value) <= off)


def test_every_exception_is_still_quoted() -> None:
    for name, known in ELSEWHERE.items():
        assert known <= {quote[0] for quote in quotes((ROOT / name).read_text())}, name


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.name != "CHANGELOG.md" and any(quotes(p.read_text()))],
    ids=name_of,
)
def test_quoted_intervals_are_those_of_published_rows(page: Path) -> None:
    known = ELSEWHERE.get(name_of(page), set())
    unknown = {
        quote[0]
        for quote in quotes(page.read_text())
        if quote[0] not in known
        and not {unsigned(quote.groups()), opposite(quote.groups())} & made()
        and not is_of_records(quote.groups())
    }
    assert not unknown


def numbers(text: str) -> set[str]:
    """Return the numbers of a text, without signs and commas between thousands."""
    found = re.findall(r"(?<![\w.,])[+-]?(\d[\d,]*(?:\.\d+)?)", text)
    return {number.rstrip(",").replace(",", "") for number in found}


def stands(number: str, among: set[str]) -> bool:
    """Return whether a number is among others, or what a longer one of them rounds to."""
    digits = len(number.partition(".")[2])
    return any(
        other == number
        or (len(other.partition(".")[2]) > digits and f"{float(other):.{digits}f}" == number)
        for other in among
    )


def test_numbers_of_conclusions_stand_on_their_pages() -> None:
    for one in read_conclusions(ROOT / "leaderboard"):
        page = unfolded((ROOT / one.page).read_text())
        assert all(quote[0] in page for quote in INTERVAL.finditer(one.text)), one.page
        there = numbers(page)
        assert not {n for n in numbers(one.text) if not stands(n, there)}, one.page


def test_a_number_that_is_part_of_another_is_noticed() -> None:
    there = numbers("of 121 rows, 2,800 of them, +78.51 and 8.49")
    assert there == {"121", "2800", "78.51", "8.49"}
    assert [n for n in ("21", "8.5", "8.51", "80", "79") if stands(n, there)] == ["8.5", "79"]


def test_an_interval_that_no_row_has_is_noticed() -> None:
    assert made()
    assert not is_of_records(("+123.45", "+67.89", "+234.56"))
