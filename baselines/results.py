"""Work off the suites by worth, and add what is finished to the leaderboard.

It goes on where it stopped, whenever and however that was, and its workers have the lowest
priority. Finished cells are added at the beginning, after each suite, and by `--land` alone: all
that lie in the results folder, so keep experiments of your own in another one.

    python baselines/results.py                  # all suites
    python baselines/results.py signal           # some
    python baselines/results.py --land           # add what is finished and stop
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

from rlcondense.files import FileRefusal, parse_json, read_unpacked, write_bytes
from rlcondense.records.reading import RESULTS, record_files, record_name
from rlcondense.records.store import content_sha256

# What answers most comes first.
SUITES = (
    "what-teaches", "signal", "few-frames", "cartpole-sizes", "label-regimes", "q-learning",
    "gradmatch-parts", "bytes", "faults", "two-pairs", "more-pairs", "transfer", "light2024",
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
ROOT = Path(__file__).resolve().parents[1]
BOARD = ROOT / "leaderboard"
PAGE = ROOT / "docs" / "results" / "light2024.md"
OWN = ROOT / "results" / "suites"  # apart from what `run` and `sweep` leave in results/
INTERRUPTED = 130  # exit code of a command that Ctrl-C or SIGTERM ended


def run(*arguments: object) -> int:
    """Run Python with arguments and return its exit code.

    Ctrl-C and SIGTERM end the queue once the command has ended by itself, so that no worker of it
    goes on alone and no file of it is cut short.

    Raises:
        SystemExit: it was interrupted.
    """
    child = subprocess.Popen([sys.executable, *map(str, arguments)])
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        code = child.wait()
    except KeyboardInterrupt:  # a terminal sends it to the command, too
        child.wait()
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (INTERRUPTED, -signal.SIGTERM):
        sys.exit(INTERRUPTED)
    return code


def rlcondense(*arguments: object) -> int:
    """Run a command of rlcondense and return its exit code."""
    return run("-m", "rlcondense.cli", *arguments)


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
            names = (folder / f"{number}-{path.name}" for number in count())
            aside = next(name for name in names if not name.exists())
            path.replace(aside)
            print(f"{path} is not what is published; it is {aside} now")
        if not path.exists():
            write_bytes(path, content)


def _are_alike(own: bytes, published: bytes) -> bool:
    """Return whether two records have the same content, whatever their timings."""
    if own == published:
        return True
    try:
        ours, theirs = (content_sha256(parse_json(content)) for content in (own, published))
    except (AttributeError, FileRefusal, TypeError):
        return False
    return ours == theirs


def land(results: Path) -> list[str]:
    """Add the finished cells to the leaderboard, and build its tables and the pages of findings.

    Returns:
        The steps that failed; those after them are done all the same.
    """
    failed = []
    steps: dict[str, tuple[object, ...]] = {
        "add": (results, "--leaderboard", BOARD),
        "build": (BOARD, "--into", PAGE),
    }
    for step, arguments in steps.items():
        if rlcondense("leaderboard", step, *arguments):
            failed.append(f"leaderboard {step}")
    for script in MADE:
        if run(ROOT / "baselines" / script, BOARD / RESULTS):
            failed.append(script)
    return failed


def main() -> None:
    """Work off the suites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=SUITES)
    parser.add_argument("--results", type=Path, default=OWN)
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
