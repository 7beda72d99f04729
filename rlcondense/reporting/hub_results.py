"""Results in the forms of the Hugging Face Hub: `.eval_results/*.yaml`, and a card's model-index.

A benchmark is a dataset of the Hub whose leaderboard collects the results of all models. A method
stands for a model: its folder is one to be uploaded as a model, or to be taken into one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcondense import __version__
from rlcondense.comparison.columns import plus_minus, with_coding
from rlcondense.comparison.rows import Group, Row, groups_of, names_of
from rlcondense.errors import BadConfig
from rlcondense.files import canonical_json, write_bytes
from rlcondense.records.reading import RESULTS
from rlcondense.reporting.board import refusal, shown_results, suite_part
from rlcondense.running.suite import load_suite
from rlcondense.statistics.intervals import Interval

_MOST_CHARACTERS = 80  # of a file name
BENCHMARK = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_Result = tuple[Group, str, Row]  # with the name of the group's learner


def export_results(
    leaderboard: Path,
    out: Path,
    benchmark: str,
    suites: Sequence[str] | None = None,
    source: str | None = None,
    left_out: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Write the held-out returns of every method on a leaderboard in the Hub's forms.

    Args:
        leaderboard: a folder with `results/`.
        out: the folder to write: of each method a folder with `.eval_results/` and a card.
        benchmark: the dataset of the Hub that hosts the leaderboard, `OWNER/NAME`.
        suites: takes the cells of these suites only.
        source: address of the leaderboard, to which results link.
        left_out: called with a line on each file that is left out.

    Returns:
        The files.

    Raises:
        BadConfig: the benchmark is not of that form, or no method has a result.
    """
    if not BENCHMARK.fullmatch(benchmark):
        raise BadConfig(f"a benchmark is a dataset of the Hub, OWNER/NAME, not {benchmark!r}")
    records, refused = shown_results(leaderboard / RESULTS)
    for file, why in sorted(refused.items()):
        left_out(refusal(leaderboard / RESULTS, file, why))
    if suites is None:
        groups = groups_of(records.values())
    else:
        parts = [suite_part(load_suite(suite), records) for suite in suites]
        groups = [group for part in parts for group in part.groups]
    learners = names_of([group.learner for group in groups])
    methods: dict[str, dict[str, dict[tuple[str, ...], _Result]]] = {}
    names: dict[str, str] = {}
    for group, learner in zip(groups, learners, strict=True):
        for row in group.rows:
            if not row.is_policy and row.returns is not None:
                method = canonical_json(row.method)  # a name is that of one group only
                names.setdefault(method, _file_name(row.name))
                variants = methods.setdefault(method, {})
                variant = _file_name(f"{with_coding(str(row.size), row)}-{row.labels}-{learner}")
                variants.setdefault(variant, {})[row.cells] = (group, learner, row)
    if not methods:
        raise BadConfig(f"{leaderboard} has no result of a method")
    taken = Counter(names.values())
    for method, name in names.items():
        if taken[name] > 1:
            names[method] += f"-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
    files = {
        out / names[method] / path: text
        for method, variants in methods.items()
        for path, text in _files(variants, benchmark, source)
    }
    for path, text in files.items():
        write_bytes(path, text.encode())
    return list(files)


def _file_name(text: str) -> str:
    """Return a file name for a text; of a long one its beginning and a hash."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
    if len(name) <= _MOST_CHARACTERS:
        return name
    return f"{name[: _MOST_CHARACTERS - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _files(
    variants: Mapping[str, Mapping[tuple[str, ...], _Result]], benchmark: str, source: str | None
) -> Iterator[tuple[str, str]]:
    """Yield the files of a method by their paths: one for each size and learner, and the card."""
    for variant, results in variants.items():
        entries = [_entry(*result, benchmark, source) for result in results.values()]
        yield f".eval_results/{variant}.yaml", "\n".join(entries) + "\n"
    every = [result for results in variants.values() for result in results.values()]
    yield "README.md", _card(every)


def _heldout(row: Row) -> Interval:
    assert row.returns is not None
    return row.returns["heldout"]["mean"]


def _sized(row: Row) -> str:
    return with_coding(f"{row.size} transitions", row)


def _notes(group: Group, learner: str, row: Row) -> str:
    """Return the setting of a result, and what is known of its uncertainty."""
    return (
        f"mean return on held-out levels {plus_minus(_heldout(row))}, {_sized(row)} "
        f"({row.labels} labels) of {group.dataset or 'no data'}, learner {learner}, "
        f"{row.condensation_seeds} sets x {row.learner_seeds} students x {row.episodes} episodes"
        + (f"; {row.unjudged}" if row.unjudged else "")
    )


def _entry(group: Group, learner: str, row: Row, benchmark: str, source: str | None) -> str:
    """Return an entry of a file of `.eval_results`."""
    lines = [
        "- dataset:",
        f"    id: {_text(benchmark)}",
        f"    task_id: {_text(group.task)}",
        f"  value: {_heldout(row).estimate:.6g}",
    ]
    if source:
        lines += ["  source:", f"    url: {_text(source)}", '    name: "rlcondense leaderboard"']
    return "\n".join([*lines, f"  notes: {_text(_notes(group, learner, row))}"])


def _card(results: Sequence[_Result]) -> str:
    """Return the card of a method, whose front matter has a model-index."""
    name = results[0][2].name
    index = [
        {
            "task": {"type": "reinforcement-learning", "name": "reinforcement learning"},
            "dataset": {"type": group.task, "name": f"{group.task}, held-out levels"},
            "metrics": [
                {
                    "type": "mean_reward",
                    "name": f"mean return, {_sized(row)}, learner {learner}",
                    "value": plus_minus(_heldout(row)),
                }
            ],
        }
        for group, learner, row in results
    ]
    # JSON is YAML, too.
    model_index = json.dumps([{"name": name, "results": index}], indent=1, ensure_ascii=False)
    return "\n".join(
        [
            "---",
            "tags:",
            "- reinforcement-learning",
            "- rlcondense",
            f"model-index: {model_index}",
            "---",
            "",
            f"# {name}",
            "",
            f"Results of students of sets that this method condensed, by rlcondense {__version__}.",
            "",
        ]
    )


def _text(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)
