"""Every command that reads a file of somebody else's, on sound files that were mutated.

Whatever is in them, a command ends soon, with a result or with one line and exit code 2, and never
in a traceback. `make fuzz` tries for ten minutes, from another seed each time; what it finds,
hypothesis makes small.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Box
from hypothesis import strategies as st
from safetensors.numpy import load, save

from rlcondense import catalogue
from rlcondense.catalogue import experts_folder
from rlcondense.cli import main
from rlcondense.datasets.hdf5 import FILE
from rlcondense.datasets.minari import columns_folder, minari_path
from rlcondense.datasets.parquet import write_parquet
from rlcondense.datasets.recordings import RecordedDataset
from rlcondense.datasets.traces import TraceDataset
from rlcondense.datasets.writers import write_hdf5, write_npz
from rlcondense.networks import NetworkSpec, fresh_from
from rlcondense.policies import NetworkPolicies
from rlcondense.records.cell import Cell
from rlcondense.records.store import content_sha256
from tests.datasets.minari_data import create, episode
from tests.fuzz.mutations import (
    changed_arrays,
    damaged,
    flipped,
    hdf5_changes,
    mutated,
    mutated_arrays,
    toml,
)

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 60)
SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(10**6))
LONGEST = 60  # seconds of one command on a processor
ROUND = 10  # inputs between two looks at the clock
QUICK = ["--task", "cartpole", "--seeds", "1", "--episodes", "1"]
# Few enough updates to be quick, and so many that students are no copies of the marginal policy.
TRAINED = [*QUICK[:-1], "4", "--set", "learner.updates=30", "--set", "learner.learning_rate=0.01"]
TRACE = "fuzz/trace-v0"
RECORDING = "fuzz/recording-v0"
MINARI = "fuzz/minari-v0"
SUITE = """
summary = "a small suite"
tasks = ["cartpole"]
methods = ["random", {id = "full", config = {labels = "hard"}}, {id = "bc-10", percent = 5, unit = "episodes"}]
sizes = [4, 8]
learners = [{id = "bc", config = {updates = 2, network = "mlp", width = 8}}]
condensation_seeds = 2
learner_seeds = 1
episodes = 2
references = true
cells = [{tasks = ["acrobot"], methods = ["random"], sizes = [3]}]
exclude = [{method = "random", size = 8}]
"""  # noqa: E501


WRITERS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "npz": write_npz, "hdf5": write_hdf5, "parquet": write_parquet,
}  # fmt: skip
ENDINGS: Counter[int] = Counter()  # exit codes of all commands


class Took(Exception):
    """A command has not come to an end."""


@contextlib.contextmanager
def _impatient(timer: int, seconds: float) -> Iterator[None]:
    """Raise within after so many seconds of a timer: on the clock, or of the processor."""

    def late(*_: object) -> None:
        raise Took(f"it has not ended after {seconds} seconds")

    kind = signal.SIGALRM if timer == signal.ITIMER_REAL else signal.SIGPROF
    before = signal.signal(kind, late)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(kind, before)


def call(*arguments: str) -> None:
    """Run a command, and fail unless it ends as one should."""
    with _impatient(signal.ITIMER_PROF, LONGEST), _impatient(signal.ITIMER_REAL, 10 * LONGEST):
        done = CliRunner().invoke(main, list(arguments))
    said = f"rlcondense {' '.join(arguments)}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"{said} ended in a traceback") from done.exception
    assert done.exit_code in (0, 1, 2), said
    ENDINGS[done.exit_code] += 1
    if done.exit_code == 2:
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, f"{said} said {lines}"
        assert lines[0].startswith("Error: "), said
    assert done.exit_code == 0 or done.output.strip(), f"{said} failed without a word"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.output), (
        f"{said} wrote to a terminal"
    )
    assert not re.search(r"^::", done.output, re.MULTILINE), f"{said} spoke to a CI"


@dataclass(frozen=True)
class Samples:
    """Sound files, to be mutated.

    Attributes:
        root: a folder of theirs: `results`, `board`, `condensed`, `policies` (of cart-pole),
            `boxed` (of the pendulum), and the files `trace.safetensors` and
            `recording.safetensors`.
    """

    root: Path

    @property
    def record(self) -> dict[str, Any]:
        """A record of a method."""
        read = (json.loads(path.read_text()) for path in (self.root / "results/records").iterdir())
        return next(record for record in read if record["cell"]["method"]["id"] == "random")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    root = tmp_path_factory.mktemp("samples")
    results = ["--results", str(root / "results")]
    quick = [*TRAINED, *results]
    call("run", "--method", "random", "--size", "6", *quick, "--keep-policies")
    chosen = root / "chosen"  # all the data's students are as good as the expert: copies of it
    chosen.mkdir()
    for path in (root / "results/records").iterdir():
        if json.loads(path.read_text())["cell"]["method"]["id"] in ("random", "random-policy"):
            shutil.copy(path, chosen)
    call("leaderboard", "add", str(chosen), "--leaderboard", str(root / "board"))
    assert (root / "board").is_dir()
    call("leaderboard", "build", str(root / "board"))
    [policies, *_] = (root / "results" / "policies").iterdir()
    shutil.copytree(policies, root / "policies")
    gaussian = NetworkSpec("mlp", (3,), 1, width=8, head="gaussian")
    box = Box(-2, 2, (1,), np.float32)
    NetworkPolicies([fresh_from(gaussian, "cpu", 0)], [0], space=box).save(root / "boxed")
    call("condense", "--method", "init-only", "--task", "cartpole", "--size", "4",
         "--out", str(root / "condensed"))  # fmt: skip
    call("dataset", "collect", "breakout", "--kind", "random", "--episodes", "20",
         "--out", str(root / "trace.safetensors"))  # fmt: skip
    call("dataset", "collect", "cartpole", "--kind", "random", "--episodes", "20",
         "--out", str(root / "recording.safetensors"))  # fmt: skip
    return Samples(root)


Try = Callable[[Path, st.DataObject], None]


def records(samples: Samples) -> Try:
    """A record on a leaderboard, in a results folder and by itself."""
    sound = samples.record
    other = str(next((samples.root / "results/records").iterdir()))
    text = json.dumps(sound).encode()

    def attempt(folder: Path, data: st.DataObject) -> None:
        record, content = sound, b""
        if data.draw(st.integers(0, 9)):
            record = data.draw(mutated(sound))
            content = json.dumps(_sealed(record, data.draw(st.booleans()))).encode()
        else:
            content = data.draw(damaged(text))
        command = data.draw(st.sampled_from(["verify", "against", "build", "add", "diff", "compare",
                                             "run", "status", "sweep"]))  # fmt: skip
        name = f"{record.get('cell_id') if isinstance(record, dict) else 'x'}.json"
        name = name if re.fullmatch(r"[0-9a-f]{16}\.json", name) else f"{sound['cell_id']}.json"
        if command in ("run", "status", "sweep"):
            shutil.copytree(samples.root / "results", folder / "r")
            (folder / "r/records" / name).write_bytes(content)
            results = ["--results", str(folder / "r")]
            if command == "run":
                quick = [*TRAINED, *results]
                call("run", "--method", "random", "--size", "6", *quick)
                return
            (folder / "s.toml").write_text(SUITE)
            extra = ["--dry-run"] if command == "sweep" else ["--table", "--costs", "--rates"]
            call(command, str(folder / "s.toml"), *extra, *results)
            return
        board = folder / "board"
        shutil.copytree(samples.root / "board", board)
        packed = gzip.compress(content, mtime=0)
        if not data.draw(st.integers(0, 9)):
            packed = data.draw(damaged(packed))
        file = board / "results" / f"{name}.gz"
        file.write_bytes(packed)
        file.with_name(name).unlink(missing_ok=True)  # the plain one that the board has
        pub = str(samples.root / "board")
        if command == "compare":
            call("compare", str(file), other)
        elif command == "add":
            call("leaderboard", "add", str(board / "results"), "--leaderboard", str(folder / "new"))
        elif command == "diff":
            call("leaderboard", "diff", pub, str(board))
        elif command == "against":
            call("leaderboard", "verify", str(board), "--against", pub)
        elif command == "build":
            call("leaderboard", "build", str(board), "--site", str(folder / "site"))
        else:
            call("leaderboard", "verify", str(file))

    return attempt


def _sealed(record: Any, anew: bool) -> Any:
    """A record whose checksums are right again, so that more than those is looked at."""
    if not anew or not isinstance(record, dict):
        return record
    with contextlib.suppress(Exception):  # its cell may be none any more
        record = {**record, "cell_id": Cell.from_json(record["cell"]).id}
    with contextlib.suppress(Exception):
        record = {**record, "content_sha256": content_sha256(record)}
    return record


def condensed(samples: Samples) -> Try:
    """A condensed set: its report, its arrays, or both."""
    folder = samples.root / "condensed"
    report, text = json.loads((folder / "report.json").read_text()), (folder / "report.json")
    arrays = load((folder / "condensed.safetensors").read_bytes())

    def attempt(here: Path, data: st.DataObject) -> None:
        shutil.copytree(folder, here / "d")
        which = data.draw(st.sampled_from(["report", "arrays", "both", "bytes"]))
        said = report
        if which in ("report", "both"):
            said = data.draw(mutated(report))
        if isinstance(said, dict):  # or nothing but the checksum would be looked at
            said = {k: v for k, v in said.items() if k != "sha256"}
        (here / "d/report.json").write_text(json.dumps(said))
        if which in ("arrays", "both"):
            (here / "d/condensed.safetensors").write_bytes(data.draw(mutated_arrays(arrays)))
        if which == "bytes":
            (here / "d/report.json").write_bytes(data.draw(damaged(text.read_bytes())))
        _look_at(here / "d", here, data, samples)

    return attempt


def policies(samples: Samples) -> Try:
    """Policies: their networks, their weights, or both."""
    sound = {}
    for name, task in (("policies", "cartpole"), ("boxed", "pendulum")):
        folder = samples.root / name
        config = json.loads((folder / "policies.json").read_text())
        sound[task] = (folder, config, load((folder / "policies.safetensors").read_bytes()))

    def attempt(here: Path, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(sound)))
        folder, config, arrays = sound[task]
        shutil.copytree(folder, here / "d")
        which = data.draw(st.sampled_from(["config", "arrays", "both", "bytes"]))
        if which in ("config", "both"):
            (here / "d/policies.json").write_text(json.dumps(data.draw(mutated(config))))
        if which in ("arrays", "both"):
            (here / "d/policies.safetensors").write_bytes(data.draw(mutated_arrays(arrays)))
        if which == "bytes":
            content = (folder / "policies.json").read_bytes()
            (here / "d/policies.json").write_bytes(data.draw(damaged(content)))
        _look_at(here / "d", here, data, samples, task)

    return attempt


def experts(samples: Samples) -> Try:
    """An expert's card, its weights, or both."""
    name = "classic-cartpole-v0"
    card = json.loads((experts_folder() / f"{name}.json").read_text())
    arrays = load((experts_folder() / f"{name}.safetensors").read_bytes())

    def attempt(here: Path, data: st.DataObject) -> None:
        content = data.draw(st.just(save(arrays)) | mutated_arrays(arrays))
        said = {**card, "sha256": hashlib.sha256(content).hexdigest()}
        said = data.draw(st.just(said) | mutated(said))
        (here / f"{name}.safetensors").write_bytes(content)
        (here / f"{name}.json").write_text(json.dumps(said))
        folder = ["cartpole", "--folder", str(here), "--episodes", "1"]
        command = data.draw(st.sampled_from(["evaluate", "expert", "mixed"]))
        if command == "evaluate":
            call("expert", "evaluate", *folder)
        else:
            out = ["--out", str(here / "played.safetensors")]
            call("dataset", "collect", *folder, "--kind", command, *out)

    return attempt


def _look_at(
    folder: Path, here: Path, data: st.DataObject, samples: Samples, task: str = "cartpole"
) -> None:
    """Evaluate or show a folder in one of the ways there are."""
    quick = ["--task", task, *QUICK[2:]]
    command = data.draw(st.sampled_from(["evaluate", "show", "json", "png", "transfer", "curves"]))
    results = ["--results", str(samples.root / "evaluated")]
    if command == "evaluate":
        call("evaluate", str(folder), *quick, "--set", "learner.updates=1", *results)
    elif command == "transfer":
        call("transfer", str(folder), "--learner", "bc:updates=1", *quick, *results)
    elif command == "curves":
        call("curves", str(folder))
    else:
        call("show", str(folder), *{"show": [], "json": ["--json"],
                                    "png": ["--png", str(here / "x.png")]}[command])  # fmt: skip


class FuzzedTrace(TraceDataset):
    """A trace that lies where it is told."""

    task = "breakout"

    def __init__(self, id: str, path: str = "") -> None:
        self.path = Path(path)


class FuzzedRecording(RecordedDataset):
    """A recording that lies where it is told."""

    task = "cartpole"

    def __init__(self, id: str, path: str = "") -> None:
        self.path = Path(path)


def traces(samples: Samples) -> Try:
    """A trace that a dataset is built from."""
    return _built(TRACE, "FuzzedTrace", samples.root / "trace.safetensors")


def recordings(samples: Samples) -> Try:
    """A recording that a dataset is built from."""
    return _built(RECORDING, "FuzzedRecording", samples.root / "recording.safetensors")


def _built(id_: str, made_by: str, sound: Path) -> Try:
    arrays = load(sound.read_bytes())

    def attempt(here: Path, data: st.DataObject) -> None:
        path = here / sound.name
        path.write_bytes(data.draw(mutated_arrays(arrays)))
        catalogue.register("datasets", id_, f"{__name__}:{made_by}", path=str(path))
        call("dataset", "build", id_, "--rebuild")
        call("dataset", "show", id_)

    return attempt


def minari_files(samples: Samples) -> Try:
    """A dataset in Minari's folder: its HDF5 file, or what its metadata say."""
    folder = minari_path(MINARI) / "data"
    sound: list[dict[str, bytes]] = []
    rng = np.random.default_rng(0)
    level, probs = np.full(10, 3), np.full((10, 2), 0.5, np.float32)
    pictures = [rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(11)]
    space = Box(0, 255, (32, 32, 3), np.uint8)
    created = (
        {"episodes": [episode(infos={"level_seed": level, "action_probs": probs})] * 2},
        {"episodes": [episode(observations=pictures)], "observations": space},
    )
    for parts in created:
        create(MINARI, **parts)
        sound.append({path.name: path.read_bytes() for path in folder.iterdir()})

    def attempt(here: Path, data: st.DataObject) -> None:
        files = data.draw(st.sampled_from(sound))
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.rmtree(columns_folder(MINARI), ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        which = data.draw(st.sampled_from(["bytes", "bytes", "damage", "items", "metadata"]))
        if which == "metadata":
            said = data.draw(mutated(json.loads(files["metadata.json"])))
            (folder / "metadata.json").write_text(json.dumps(said))
        elif which == "items":
            data.draw(hdf5_changes(folder / FILE))
        else:
            change = flipped if which == "bytes" else damaged
            (folder / FILE).write_bytes(data.draw(change(files[FILE])))
        call("dataset", "show", MINARI, *data.draw(st.sampled_from([[], ["--json"]])))
        command = data.draw(st.sampled_from(["verify", "list", "run", "nothing"]))
        if command == "run":
            results = ["--results", str(here / "r"), "--set", "learner.updates=1"]
            call("run", "--method", "random", "--size", "4", "--dataset", MINARI, *QUICK, *results)
        elif command != "nothing":
            call("dataset", command, *([MINARI] if command == "verify" else []))

    return attempt


def columns(samples: Samples) -> Try:
    """A file of columns, in each of the forms that there are."""
    path = samples.root / "columns"
    call("export", str(samples.root / "recording.safetensors"), "--to", "npz", "--out", str(path))
    sound = dict(np.load(path / "data.npz"))

    def attempt(here: Path, data: st.DataObject) -> None:
        file = _file_of_columns(here / "mine", data, sound)
        about = ["--task", "cartpole"]
        if data.draw(st.booleans()):
            call("dataset", "show", str(file), *about)
        else:
            results = ["--results", str(here / "r"), "--set", "learner.updates=1"]
            call(
                "run", "--method", "random", "--size", "4", "--dataset", str(file), *QUICK, *results
            )

    return attempt


def exported(samples: Samples) -> Try:
    """The folder of an exported condensed set: its report, its columns, or both."""
    folders = {}
    for form in WRITERS:
        folders[form] = samples.root / f"exported-{form}"
        source = samples.root / "condensed"
        call("export", str(source), "--to", form, "--out", str(folders[form]))
    report = json.loads((folders["npz"] / "report.json").read_text())
    sound = dict(np.load(folders["npz"] / "data.npz"))

    def attempt(here: Path, data: st.DataObject) -> None:
        form = data.draw(st.sampled_from(sorted(WRITERS)))
        shutil.copytree(folders[form], here / "d")
        said = data.draw(st.just(report) | mutated(report))
        if isinstance(said, dict):  # or nothing but the checksum would be looked at
            said = {k: v for k, v in said.items() if k != "sha256"}
        (here / "d/report.json").write_text(json.dumps(said))
        [place] = (here / "d").rglob(f"*.{form}")
        shutil.copy(_file_of_columns(here / "mine", data, sound, form), place)
        _look_at(here / "d", here, data, samples)

    return attempt


def _file_of_columns(
    path: Path, data: st.DataObject, sound: dict[str, np.ndarray], form: str | None = None
) -> Path:
    """A file of columns that were sound, whose arrays or whose bytes were changed."""
    form = form or data.draw(st.sampled_from(sorted(WRITERS)))
    path = path.with_suffix(f".{form}")
    WRITERS[form](path, sound)
    which = data.draw(st.sampled_from(["arrays", "arrays", "bytes", "damage"]))
    if which == "arrays":
        with contextlib.suppress(Exception):  # what a writer does not write cannot be sent
            WRITERS[form](path, data.draw(changed_arrays(sound)))
    else:
        change = flipped if which == "bytes" else damaged
        path.write_bytes(data.draw(change(path.read_bytes())))
    return path


def suites(samples: Samples) -> Try:
    """A suite, planned and looked up."""
    sound = tomllib.loads(SUITE)

    def attempt(here: Path, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 5)):
            text = toml(data.draw(mutated(sound)))
            content = text.encode(errors="surrogatepass")
        else:
            content = data.draw(damaged(SUITE.encode()))
        (here / "s.toml").write_bytes(content)
        results = ["--results", str(samples.root / "results")]
        call("sweep", str(here / "s.toml"), "--dry-run", *results)
        call("status", str(here / "s.toml"), *results)

    return attempt


KINDS = (
    records, condensed, exported, policies, experts, traces, recordings, minari_files, columns,
    suites,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_mutated_file_ends_no_command_in_a_traceback(
    kind: Callable[[Samples], Try],
    samples: Samples,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    attempt, inputs = kind(samples), 0
    ENDINGS.clear()

    def once(data: st.DataObject) -> None:
        here = tmp_path / "here"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        nonlocal inputs
        inputs += 1
        attempt(here, data)

    ends, rounds = time.monotonic() + SECONDS / len(KINDS), 0
    while time.monotonic() < ends:
        checked = hypothesis.given(st.data())(once)
        checked = hypothesis.settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )(checked)
        hypothesis.seed(SEED + rounds)(checked)()
        rounds += 1
    codes = ", ".join(f"{ENDINGS[code]} ended with {code}" for code in sorted(ENDINGS))
    said = f"{kind.__name__}: {inputs} inputs from seed {SEED}; {ENDINGS.total()} commands, {codes}"
    record_property("fuzzed", said)
    assert inputs
