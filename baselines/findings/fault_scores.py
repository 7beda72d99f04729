"""Which scores of episodes see known faults, and which are length in disguise? As a page.

python baselines/findings/fault_scores.py           # into docs/results, an hour on one core
python baselines/findings/fault_scores.py --page    # of the scores that fault_scores.jsonl holds
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pages import RESULTS, draw
from scipy.stats import bootstrap, norm

from rlcondense.comparison.rows import draws_at_random
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.files import open_to_append, write_bytes
from rlcondense.references import RANDOM_SUBSET, WHOLE
from rlcondense.reporting.publish import fill_part
from rlcondense.running.scoring import score_dataset
from rlcondense.running.suite import Choice, load_suite
from rlcondense.statistics.intervals import Interval

SUITE = "faults"
SCORES = Path(__file__).with_suffix(".jsonl")
PAGE, PICTURE = RESULTS / "faults.md", RESULTS / "faults-seen.svg"
LENGTH = ("longest", "shortest")
DRAWS = 2000
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """How often a clean episode scores above a faulty one.

    Attributes:
        share: of the pairs; of equal scores, half.
        low: lower end of its 95% interval over episodes.
        high: upper end.
        beyond: whether it is above that of the better order by length, by an interval that
            excludes zero; None for the orders by length themselves.
    """

    share: float
    low: float
    high: float
    beyond: bool | None

    @property
    def beyond_half(self) -> Interval:
        """The share beyond a half, which is what a blind score has."""
        # Of its two ends: a bootstrap interval need not lie evenly about the share.
        error = (self.high - self.low) / (2 * norm.ppf(0.975))
        return Interval(self.share - 0.5, error, self.low - 0.5, self.high - 0.5, 1)

    def __str__(self) -> str:
        """Format the share in percent, with a sign for what it is beside length."""
        sign = " *" if self.beyond else ""
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}]{sign}"


def scorers() -> list[tuple[str, Choice, int]]:
    """Return the datasets and methods of the suite, and the number of condensation seeds."""
    return [
        (f"procgen/{task}/{dataset}", choice, seeds)
        for product in load_suite(SUITE).products
        for task in product.tasks
        for dataset in product.datasets
        for choice in product.methods
        if choice.id not in (RANDOM_SUBSET, *WHOLE)
        for seeds in (product.condensation_seeds if _draws(choice) else 1,)
    ]


def _draws(choice: Choice) -> bool:
    return draws_at_random({"id": choice.id, "config": dict(choice.config)})


def asked_for() -> list[dict[str, Any]]:
    """Return what each line of the scores is of: dataset, method, config and seed."""
    return [
        {"dataset": dataset, "method": choice.id, "config": dict(choice.config), "seed": seed}
        for dataset, choice, seeds in scorers()
        for seed in range(seeds)
    ]


def compute() -> Iterator[dict[str, Any]]:
    """Yield the scores of all episodes by each method and seed that are not yet there."""
    there = {_key(line) for line in read_lines()}
    for asked in asked_for():
        if _key(asked) in there:
            continue
        data, scores = score_dataset(
            asked["dataset"],
            asked["method"],
            seed=asked["seed"],
            device="cpu",
            settings=asked["config"],
        )
        values = [float(f"{value:.6g}") for value in scores.of_episodes(data)]
        with_length = scores.rank_correlations(data)
        yield {**asked, "scores": values, "faulty": _faulty(data), "ranks": with_length}


def finished(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the scores asked for, of datasets that have those of every method and seed."""
    there, wanted = {_key(line) for line in lines}, list(asked_for())
    begun = {asked["dataset"] for asked in wanted if _key(asked) not in there}
    keys = {_key(asked) for asked in wanted}  # settings may have been others before
    return [line for line in lines if _key(line) in keys and line["dataset"] not in begun]


def _faulty(data: TransitionDataset) -> list[int]:
    return [number for number, faulty in enumerate(data.faulty) if faulty]


def _key(line: Mapping[str, Any]) -> str:
    return json.dumps([line[name] for name in ("dataset", "method", "config", "seed")])


def read_lines() -> list[dict[str, Any]]:
    """Read the scores that were computed."""
    text = SCORES.read_text() if SCORES.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def wins(lines: Sequence[Mapping[str, Any]]) -> Array:
    """Return for each clean and each faulty episode how often the clean one scores above it.

    Args:
        lines: of one method and dataset, a line for each seed.
    """
    faulty = np.isin(np.arange(len(lines[0]["scores"])), lines[0]["faulty"])
    scores = np.array([line["scores"] for line in lines])
    clean, bad = scores[:, ~faulty, None], scores[:, None, faulty]
    return np.asarray(((clean > bad) + 0.5 * (clean == bad)).mean(0))


def interval(pairs: Array) -> tuple[float, float]:
    """Compute the 95% bootstrap interval over episodes of the mean of `(clean, faulty)` pairs."""
    if np.ptp(pairs) == 0:
        return float(pairs[0, 0]), float(pairs[0, 0])

    def share(clean: npt.NDArray[Any], bad: npt.NDArray[Any], axis: int) -> Array:
        return np.asarray(pairs[clean[..., :, None], bad[..., None, :]].mean((-2, -1)))

    found = bootstrap(
        [np.arange(size) for size in pairs.shape], share,
        n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def seen(of: Mapping[str, Array]) -> dict[str, Seen]:
    """Compute what each method sees of the faults of one dataset.

    Args:
        of: by method the pairs of `wins`, orders by length among them.
    """
    length = max((of[name] for name in LENGTH), key=lambda pairs: float(pairs.mean()))
    return {
        name: Seen(
            float(pairs.mean()),
            *interval(pairs),
            None if name in LENGTH else interval(pairs - length)[0] > 0,
        )
        for name, pairs in of.items()
    }


def seen_everywhere(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Seen]]:
    """Compute by dataset what each method sees of its faults."""
    of: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for line in lines:
        of.setdefault(line["dataset"], {}).setdefault(line["method"], []).append(line)
    return {
        dataset: seen({name: wins(own) for name, own in methods.items()})
        for dataset, methods in of.items()
    }


def picture(lines: Sequence[Mapping[str, Any]]) -> str:
    """Draw how far what each method sees lies from what a blind score does, by dataset."""
    bars = [
        (f"{short(dataset)}: {name}", one.beyond_half)
        for dataset, methods in seen_everywhere(lines).items()
        for name, one in sorted(methods.items(), key=lambda item: -item[1].share)
    ]
    return draw(bars, "how often a clean episode scores above a faulty one, less a half")


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """Format what stands between the marks of the page.

    Args:
        lines: of datasets that are finished.
    """
    if not lines:
        return "No dataset has all its scores yet."
    by = seen_everywhere(lines)
    datasets, methods = list(by), list(dict.fromkeys(line["method"] for line in lines))
    ranks = {
        name: {
            beside: [line["ranks"][beside] or 0.0 for line in lines if line["method"] == name]
            for beside in ("length", "return")
        }
        for name in methods
    }
    correlations = [f"rank correlation with {beside}" for beside in ("length", "return")]
    headers = ["score", *(short(dataset) for dataset in datasets), *correlations]
    rows = [headers, ["---"] * len(headers)]
    shares = {name: np.mean([by[dataset][name].share for dataset in datasets]) for name in methods}
    for name in sorted(methods, key=lambda name: -shares[name]):
        spreads = [f"{min(of):+.2f} to {max(of):+.2f}" for of in ranks[name].values()]
        rows.append([f"`{name}`", *(str(by[dataset][name]) for dataset in datasets), *spreads])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{said(by, [name for name in methods if name not in LENGTH])}\n\n{table}"


def said(by: Mapping[str, Mapping[str, Seen]], methods: Sequence[str]) -> str:
    """Say how many scores see a fault beyond length, and on how many datasets each does."""
    counts = {name: sum(bool(of[name].beyond) for of in by.values()) for name in methods}
    above = sorted((name for name in methods if counts[name]), key=lambda name: -counts[name])
    each = "; ".join(f"`{name}` on {counts[name]}" for name in above)
    return (
        f"Of {len(methods)} scores, {len(above)} see a fault better than the better order by "
        f"length on at least one of {len(by)} datasets{f': {each}' if each else ''}."
    )


def short(dataset: str) -> str:
    """Return a dataset's game and fault, such as `coinrun, action-noise`."""
    _, task, name = dataset.split("/")
    return f"{task.removesuffix('-plain')}, {name.removeprefix('expert-').removesuffix('-v0')}"


def main() -> None:
    """Compute the scores that are missing, and fill the page."""
    if "--page" not in sys.argv[1:]:
        for line in compute():
            with open_to_append(SCORES) as out:
                out.write((json.dumps(line) + "\n").encode())  # at once: whole or not there
            print(line["dataset"], line["method"], line["seed"], flush=True)
    lines = finished(read_lines())
    fill_part(PAGE, SUITE, page(lines))
    write_bytes(PICTURE, picture(lines).encode())


if __name__ == "__main__":
    main()
