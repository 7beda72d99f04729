"""Work off the suites by worth, and add what is finished to the leaderboard.

It goes on where it stopped, whenever and however that was, and its workers have the lowest
priority. Finished cells are added at the beginning, after each suite, and by `--land` alone.

    python baselines/results.py                  # all suites
    python baselines/results.py signal           # some
    python baselines/results.py --land           # add what is finished and stop
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rlcondense.files import FileRefusal, parse_json, read_unpacked, write_bytes
from rlcondense.records.reading import RESULTS, record_files, record_name

# What answers most comes first.
SUITES = (
    "what-teaches", "signal", "few-frames", "cartpole-sizes", "label-regimes", "q-learning",
    "gradmatch-parts", "bytes", "faults", "two-pairs", "transfer", "light2024",
    "transfer-frames", "procgen-core", "procgen-plain", "light2024-questions", "four-pairs",
    "hades-sizes", "hades-transfer", "light2024-as-run", "light2024-weak",
)  # fmt: skip
# What is made of the leaderboard's records: shipped references, and pages.
MADE = (
    "references.py", "students/teachable.py", "findings/small_sets.py",
    "findings/gradmatch_parts.py", "findings/controls.py", "findings/label_regimes.py",
    "findings/q_learning.py", "findings/backgrounds.py", "findings/bytes_budget.py",
    "findings/kept_episodes.py", "findings/made_or_chosen.py",
    "findings/other_students.py", "findings/claims.py",
)  # fmt: skip
BOARD = Path("leaderboard")
PAGE = Path("docs/results/light2024.md")


def rlcondense(*arguments: object) -> int:
    """Run a command of rlcondense and return its exit code."""
    command = [sys.executable, "-m", "rlcondense.cli", *map(str, arguments)]
    return subprocess.run(command, check=False).returncode


def fill(results: Path) -> None:
    """Copy published records into a results folder, so that their cells count as done.

    A record there that is not the published one of its cell is set aside, one computed anew, too
    (`leaderboard add --replace` publishes it): nothing of a folder that holds one can be added.
    """
    records = results / "records"
    records.mkdir(parents=True, exist_ok=True)
    for published in record_files(BOARD / RESULTS):
        path, content = records / f"{record_name(published)}.json", read_unpacked(published)
        if path.exists() and not _are_alike(path.read_bytes(), content):
            folder = results / "set-aside"
            folder.mkdir(exist_ok=True)
            aside = folder / f"{len(list(folder.iterdir()))}-{path.name}"
            path.replace(aside)
            print(f"{path} is not what is published; it is {aside} now")
        if not path.exists():
            write_bytes(path, content)


def _are_alike(own: bytes, published: bytes) -> bool:
    """Return whether two records have the same content, whatever their timings."""
    if own == published:
        return True
    try:
        ours, theirs = (parse_json(content)["content_sha256"] for content in (own, published))
    except (FileRefusal, KeyError, TypeError):
        return False
    return bool(ours == theirs)


def land(results: Path) -> list[str]:
    """Add the finished cells to the leaderboard, and build its tables and the pages of findings.

    Returns:
        The steps that failed; those after them are done all the same.
    """
    failed = []
    steps: dict[str, tuple[object, ...]] = {"add": (results,), "build": (BOARD, "--into", PAGE)}
    for step, arguments in steps.items():
        if rlcondense("leaderboard", step, *arguments):
            failed.append(f"leaderboard {step}")
    for script in MADE:
        command = [sys.executable, str(Path(__file__).parent / script), str(BOARD / "results")]
        if subprocess.run(command, check=False).returncode:
            failed.append(script)
    return failed


def main() -> None:
    """Work off the suites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=SUITES)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--workers", type=int, help="default: one a core, or one a GPU")
    parser.add_argument("--land", action="store_true")
    options = parser.parse_args()
    os.nice(19)
    fill(options.results)
    failed = land(options.results)
    workers = () if options.workers is None else ("--workers", options.workers)
    for suite in () if options.land else options.suites:
        if rlcondense("sweep", suite, "--results", options.results, *workers):
            failed.append(f"sweep {suite}")
        failed += land(options.results)
    if failed:
        sys.exit(f"failed: {', '.join(dict.fromkeys(failed))}")


if __name__ == "__main__":
    main()
