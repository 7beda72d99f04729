"""The queue that works off the suites: what is published counts as done, nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlcondense.errors import BadConfig
from rlcondense.records.store import read_record_file, sealed, write_record_file
from rlcondense.running.suite import shipped_suites
from tests.docs.scripts import ROOT, script
from tests.reporting.boards import GRADMATCH, RANDOM, shipped_leaderboard


def test_a_record_that_is_not_the_published_one_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, results = script("baselines/results.py"), tmp_path / "results"
    monkeypatch.setattr(queue, "BOARD", shipped_leaderboard(tmp_path / "board"))
    queue.fill(results)
    older, dearer = (results / "records" / f"{name}.json" for name in (GRADMATCH, RANDOM))
    changed = read_record_file(older)
    changed["returns"]["seen"][0][0] += 1.0
    write_record_file(older, sealed({k: v for k, v in changed.items() if k != "content_sha256"}))
    dear = json.loads(dearer.read_text())
    dear["timings"]["train"]["wall"] += 1.0
    dearer.write_text(json.dumps(dear))
    left = older.read_bytes()
    queue.fill(results)
    assert read_record_file(older) == read_record_file(tmp_path / "board" / "results" / older.name)
    assert (results / "set-aside" / f"0-{older.name}").read_bytes() == left
    assert json.loads(dearer.read_text()) == dear  # timings are no content
    assert capsys.readouterr().out.count("is not what is published") == 1
    _edit(older)  # its hash still says that it is the published one
    queue.fill(results)
    assert (results / "set-aside" / f"1-{older.name}").exists()
    (results / "set-aside" / f"0-{older.name}").unlink()
    _edit(older)
    queue.fill(results)
    assert len(list((results / "set-aside").iterdir())) == 2  # none of them is written over


def _edit(path: Path) -> None:
    record = json.loads(path.read_text())
    record["returns"]["seen"][0][0] += 1.0
    path.write_text(json.dumps(record))


# What runs in the background may not be told of Ctrl-C, a test neither.
LISTENS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
STUBBORN = f"""{LISTENS}
import time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the commands of rlcondense do
try:
    Path(sys.argv[1]).touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # as a sweep does that ends its workers
    Path(sys.argv[1]).write_text("ended by itself")
    sys.exit(130)
"""
QUEUE = f"""{LISTENS}
sys.path.insert(0, sys.argv[1])
import results
results.run(*sys.argv[2:])
print("goes on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_queue_ends_once_its_command_has(tmp_path: Path, number: signal.Signals) -> None:
    child, started = tmp_path / "child.py", tmp_path / "started"
    child.write_text(STUBBORN)
    queue = subprocess.Popen(
        [sys.executable, "-c", QUEUE, str(ROOT / "baselines"), str(child), str(started)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not started.exists():
        time.sleep(0.05)
    time.sleep(0.2)
    if number == signal.SIGINT:  # a terminal sends it to all that run in it
        os.killpg(queue.pid, number)
    else:
        queue.send_signal(number)
    said, _ = queue.communicate(timeout=30)
    assert (queue.returncode, said) == (130, "")
    assert started.read_text() == "ended by itself"


def test_a_folder_without_records_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="holds no records"):
        script("baselines/findings/pages.py").read_records(tmp_path / "leaderbord")
    with pytest.raises(BadConfig, match="holds no records"):
        script("baselines/references.py").name_references(tmp_path / "leaderbord")
    with pytest.raises(BadConfig, match="holds no records"):
        script("baselines/students/teachable.py").read_games(tmp_path / "leaderbord")


def test_the_queue_has_every_suite_that_asks_something() -> None:
    assert set(script("baselines/results.py").SUITES) == set(shipped_suites()) - {"smoke"}
