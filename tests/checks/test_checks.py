from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Box, Discrete

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.checks import CheckFailed, check, parametrize_with_checks
from rlcondense.checks.base import CheckSkipped, _result, bind, checks_of
from rlcondense.checks.datasets import CHECKS as DATASET_CHECKS
from rlcondense.checks.learners import no_environments_are_made
from rlcondense.cli import main
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import UnknownName
from rlcondense.make import make_task
from rlcondense.tasks.base import Task
from rlcondense.tasks.procgen import ProcgenTask
from tests.conftest import TINY

faulty = import_module("tests.checks.faulty")
SLOW_CHECKS = {"a_fresh_process_gives_the_same_bytes", "a_fresh_process_gives_the_same_policy"}
# One id of each class: bc-10, bc-25 and bc-40 are percentile by other names.
# What matters most of them is tested in tests/methods, and often.
METHODS = sorted({e.entry_point: id_ for id_, e in catalogue.entries("methods").items()}.values())


@pytest.mark.parametrize(
    "id_", [i if i == "random" else pytest.param(i, marks=pytest.mark.slow) for i in METHODS]
)
def test_every_built_in_method_passes(id_: str) -> None:
    failed = {r.name: r.message for r in check(id_) if r.status == "failed"}
    assert not failed


@parametrize_with_checks("bc", group="learners")
def test_the_built_in_learner(check) -> None:  # type: ignore[no-untyped-def]
    check()


@parametrize_with_checks("starpilot")
def test_a_built_in_task(check) -> None:  # type: ignore[no-untyped-def]
    check()


def test_a_minari_dataset_passes(tiny: TransitionDataset) -> None:
    results = check(TINY)
    assert {r.name: r.message for r in results if r.status == "failed"} == {}
    assert sum(r.status == "passed" for r in results) >= 5
    done = CliRunner().invoke(main, ["check", TINY])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) > 5


def _add(cls: type, group: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"tests/{cls.__name__.lower()}"
    facts = {"check_config": faulty.QUICK_BC} if group == "learners" else {}
    entry = Entry(group, name, f"tests.checks.faulty:{cls.__name__}", facts=facts)
    monkeypatch.setitem(catalogue._registered, (group, name), entry)
    return name


FAULTS = [*faulty.METHODS, *faulty.LEARNERS]
# The checks that start another process take seconds: `make test` has them fail once.
SECONDS = {"EarlyBird", "GpuGreedy", "HomeGrown"}


def _group(cls: type) -> str:
    return "learners" if cls in faulty.LEARNERS else "methods"


@pytest.mark.parametrize(
    "cls",
    [c if c.__name__ not in SECONDS else pytest.param(c, marks=pytest.mark.slow) for c in FAULTS],
    ids=lambda cls: cls.__name__,
)
def test_each_fault_fails_its_own_check_for_its_own_reason(
    cls: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = _group(cls)
    wanted, reason = (cls.__doc__ or "").strip().split(": ", 1)
    checks = checks_of(_add(cls, group, monkeypatch), group)
    [result] = [_result(one, {}) for one in checks if one.name == wanted]
    assert result.status == "failed"
    assert reason in result.message


@pytest.mark.slow
@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_each_fault_fails_little_else(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    group = _group(cls)
    wanted = (cls.__doc__ or "").strip().split(": ", 1)[0]
    failed = {
        one.name
        for one in checks_of(_add(cls, group, monkeypatch), group)
        if (one.name == wanted or one.name not in SLOW_CHECKS)
        and _result(one, {}).status == "failed"
    }
    breaks_more = {
        "Peeper", "NotANumber", "NoJson", "Quitter", "OnePolicy", "Whimsical", "Doubtful",
        "Defacer", "Thawed",
    }  # fmt: skip
    assert cls.__name__ in breaks_more or failed == {wanted}


@pytest.mark.parametrize("group", ["methods", "learners", "tasks", "datasets"])
def test_every_check_has_something_that_fails_it(group: str, tiny: TransitionDataset) -> None:
    name, faults = {
        "methods": ("random", faulty.METHODS),
        "learners": ("bc", faulty.LEARNERS),
        "tasks": ("starpilot", TASKS),
        "datasets": (tiny.id, []),
    }[group]
    blamed = {(cls.__doc__ or "").strip().split(": ")[0] for cls in faults}
    blamed |= set(FAULTY_DATA) if group == "datasets" else set()
    # The catalogue refuses the first, make_config the second, the reader the third.
    refused_before = {"id_follows_the_grammar", "unknown_settings_are_refused", "it_loads"}
    assert {one.name for one in checks_of(name, group)} - blamed <= refused_before


class Leaky(ProcgenTask):
    """methods_cannot_make_heldout_levels: seen_only() made held-out levels"""

    def seen_only(self) -> Task:
        return self


class Overlapping(ProcgenTask):
    """splits_share_no_level: are both seen and held-out"""

    @property
    def splits(self) -> dict[str, range]:
        return {"seen": range(200), "heldout": range(100, 300)}


class Drifting(ProcgenTask):
    """the_same_seed_plays_the_same: gave another play"""

    kept: ClassVar[list[Any]] = []

    def make_vec(self, split: str, num_envs: int, *, seed: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, seed=len(Drifting.kept), **options)
        reset = env.reset
        env.reset = lambda **_: reset()
        Drifting.kept.append(env)
        return env


class Swapped(ProcgenTask):
    """levels_are_of_their_split: which is not its own"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        self.check_split(split)
        return super().make_vec("seen", num_envs, **options)


class Dreaming(ProcgenTask):
    """rewards_are_finite: rewards must be finite"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        step = env.step

        def dream(actions: Any) -> Any:
            observations, _, *rest = step(actions)
            return (observations, np.full(num_envs, np.nan), *rest)

        env.step = dream
        return env


class FromOne(ProcgenTask):
    """actions_are_numbers_from_0_or_floats: start at 1; they must start at 0"""

    @property
    def action_space(self) -> Discrete:
        return Discrete(15, start=1)


class Endless(ProcgenTask):
    """episodes_end: has not ended after 300 steps"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        step = env.step

        def go_on(actions: Any) -> Any:
            observations, rewards, ends, *rest = step(actions)
            return (observations, rewards, np.zeros_like(ends), *rest)

        env.step = go_on
        return env


class Crowded(ProcgenTask):
    """an_environment_does_not_depend_on_those_beside_it: the same ones show other levels"""

    def make_vec(self, split: str, num_envs: int, *, seed: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, seed=seed + num_envs, **options)
        reset = env.reset
        env.reset = lambda **_: reset()
        return env


class Misnamed(ProcgenTask):
    """level_seeds_are_those_played: names other seen levels than make_vec plays"""

    def level_seeds(self, split: str, num_envs: int, episodes: int, *, seed: int) -> Any:
        return super().level_seeds(split, num_envs, episodes, seed=seed + 1)


class Deaf(ProcgenTask):
    """a_reset_with_a_seed_begins_anew: gave another play than environments made with seed 0"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        reset = env.reset
        env.reset = lambda **_: reset()
        return env


class OneBuffer(ProcgenTask):
    """observations_lie_in_their_space: a step changes the observations that were returned"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        buffer = np.zeros((num_envs, *self.observation_space.shape), np.uint8)
        reset, step = env.reset, env.step

        def again(**given: Any) -> Any:
            buffer[:], infos = reset(**given)
            return buffer, infos

        def over(actions: Any) -> Any:
            buffer[:], *rest = step(actions)
            return (buffer, *rest)

        env.reset, env.step = again, over
        return env


class Whitened(ProcgenTask):
    """observations_lie_in_their_space: frames go up to 1, but networks divide them by 255"""

    factor, dtype, highest = 1 / 255, np.float32, 1.0

    @property
    def observation_space(self) -> Box:
        return Box(0, self.highest, super().observation_space.shape, self.dtype)

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        env.single_observation_space = self.observation_space
        reset, step = env.reset, env.step

        def shown(frames: Any) -> Any:
            return (frames * self.dtype(self.factor)).astype(self.dtype)

        def again(**given: Any) -> Any:
            frames, infos = reset(**given)
            return shown(frames), infos

        def over(actions: Any) -> Any:
            frames, *rest = step(actions)
            return (shown(frames), *rest)

        env.reset, env.step = again, over
        return env


class Doubled(Whitened):
    """observations_lie_in_their_space: are float64, only uint8 and float32 are taken"""

    factor, dtype, highest = 1, np.float64, 255.0


class Threaded(ProcgenTask):
    """threads_change_nothing: two threads gave another play than one"""

    def make_vec(self, split: str, num_envs: int, *, seed: int, **options: Any) -> Any:
        threads = options.get("num_threads", 1)
        env = super().make_vec(split, num_envs, seed=seed + threads, **options)
        reset = env.reset
        env.reset = lambda **_: reset()
        return env


class OneSeed(ProcgenTask):
    """another_seed_plays_other_levels: seeds 0 and 1 show the same levels"""

    def make_vec(self, split: str, num_envs: int, *, seed: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, seed=0, **options)
        reset = env.reset
        env.reset = lambda **_: reset()
        return env


class Steered(ProcgenTask):
    """levels_do_not_depend_on_actions: the levels depend on the actions"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        step = env.step

        def steer(actions: Any) -> Any:
            *rest, infos = step(actions)
            return (*rest, {**infos, "level_seed": actions})

        env.step = steer
        return env


class Late(ProcgenTask):
    """a_level_changes_only_where_an_episode_ends: a step after its episode's end"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        env = super().make_vec(split, num_envs, **options)
        reset, step, last = env.reset, env.step, np.zeros(num_envs, np.int64)

        def again(**given: Any) -> Any:
            frames, infos = reset(**given)
            last[:] = infos["level_seed"]
            return frames, infos

        def over(actions: Any) -> Any:
            *rest, infos = step(actions)
            shown = last.copy()
            last[:] = infos["level_seed"]
            return (*rest, {**infos, "level_seed": shown})

        env.reset, env.step = again, over
        return env


class AnySplit(ProcgenTask):
    """unknown_splits_are_refused: make_vec took the split 'test'"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        return super().make_vec("seen" if split == "test" else split, num_envs, **options)


class Stirring(ProcgenTask):
    """global_randomness_is_left_alone: global state of numpy.random changed"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        np.random.seed(0)
        return super().make_vec(split, num_envs, **options)


class Warning(ProcgenTask):
    """there_are_no_warnings: the end is near"""

    def make_vec(self, split: str, num_envs: int, **options: Any) -> Any:
        warnings.warn("the end is near", stacklevel=1)
        return super().make_vec(split, num_envs, **options)


TASKS = [
    Leaky, Overlapping, Drifting, Swapped, Dreaming, FromOne, Endless, Crowded, Misnamed,
    Deaf, OneBuffer, Whitened, Doubled, Threaded, OneSeed, Steered, Late, AnySplit, Stirring,
    Warning,
]  # fmt: skip


@pytest.mark.parametrize("cls", TASKS)
def test_faulty_tasks_fail_their_own_check(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, reason = (cls.__doc__ or "").strip().split(": ")
    monkeypatch.setattr("rlcondense.checks.tasks.MOST_STEPS", 300)
    entry = Entry("tasks", "tests/faulty-v0", f"{__name__}:{cls.__name__}", {"game": "starpilot"})
    monkeypatch.setitem(catalogue._registered, ("tasks", "tests/faulty-v0"), entry)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    [guilty] = [one for one in checks_of("tests/faulty-v0", "tasks") if one.name == wanted]
    result = _result(guilty, {})
    assert result.status == "failed"
    assert reason in result.message


Change = Callable[[TransitionDataset], TransitionDataset]


def _with(column: str, value: Any) -> Change:
    """Return a change of the fourth row."""

    def change(data: TransitionDataset) -> TransitionDataset:
        values = np.array(data.column(column))
        values[3] = value
        return dataclasses.replace(data, **{column: values}, known_sha256="")

    return change


FAULTY_DATA: dict[str, list[Change]] = {
    "levels_are_seen_ones": [_with("level_seeds", 10_001)],
    "actions_and_labels_fit": [_with("actions", 15), _with("action_probs", 1.0)],
    "numbers_are_finite": [_with("rewards", np.nan)],
    "episodes_are_whole": [_with("terminations", True), _with("steps", 7)],
    "it_is_the_data_it_claims_to_be": [lambda d: dataclasses.replace(d, known_sha256="0" * 64)],
    "observations_fit_the_task": [
        lambda d: dataclasses.replace(d, observations=d.observations[..., 1:], known_sha256="")
    ],
    "frames_are_exact": [
        lambda d: dataclasses.replace(d, origin=dataclasses.replace(d.origin, lossy=True))
    ],
}


@pytest.mark.parametrize(
    ("wanted", "change"), [(name, one) for name, all_ in FAULTY_DATA.items() for one in all_]
)
def test_faulty_datasets_fail_their_own_check(
    wanted: str, change: Change, tiny: TransitionDataset
) -> None:
    class Subject:
        data = change(tiny)
        task = make_task("starpilot")

    failed = [c.name for c in bind(DATASET_CHECKS, Subject()) if _result(c, {}).status == "failed"]
    assert failed == [wanted]


@pytest.mark.slow
@pytest.mark.parametrize("cls", [faulty.Halves, faulty.Thirds], ids=lambda cls: cls.__name__)
def test_a_plugin_tells_its_own_facts(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _add(cls, "methods", monkeypatch)
    assert not {r.name: r.message for r in check(name) if r.status == "failed"}


def test_what_cannot_be_loaded_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("methods", "tests/nowhere", "no_such_module:Method")
    monkeypatch.setitem(catalogue._registered, ("methods", "tests/nowhere"), entry)
    done = CliRunner().invoke(main, ["check", "tests/nowhere"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_expected_failures_are_named_and_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    name = _add(faulty.Stubborn, "methods", monkeypatch)
    reason = {"another_seed_gives_other_data": "it is a baseline"}
    [result] = [r for r in check(name, expected_failures=reason) if r.status == "expected"]
    assert result.message.startswith("it is a baseline (seeds 0 and 1 give the same data")
    [result] = [
        r
        for r in check(name, expected_failures={k.replace("_", " "): v for k, v in reason.items()})
        if r.status == "expected"
    ]
    with pytest.raises(UnknownName, match=r"unknown check 'says_what_it_iss' .did you mean 'says_"):
        check(name, expected_failures={"says what it iss": ""})


def test_an_unknown_name_is_one_clear_error() -> None:
    with pytest.raises(UnknownName, match="unknown name 'nobody'"):
        check("nobody")
    with pytest.raises(UnknownName, match="did you mean 'gradmatch'"):
        check("gradmach", group="methods")


MINE = """
import numpy as np
from rlcondense.methods.base import Method, select

class LastRows(Method):
    stochastic = False

    def _condense(self, problem):
        n = len(problem.dataset)
        return select(problem.dataset, np.arange(n - problem.size, n))
"""


@pytest.mark.slow
def test_a_single_file_is_included_checked_and_run(
    tmp_path: Path, tiny: TransitionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    checked = CliRunner().invoke(main, ["check", "last-rows", "--include", str(file)])
    assert checked.exit_code == 0, checked.output
    assert "0 failed" in checked.stdout
    run = [
        "run", "--include", str(file), "--method", "last-rows", "--dataset", TINY, "--size", "5",
        "--seeds", "1", "--episodes", "2", "--set", "learner.updates=2", "--json",
        "--set", "learner.network=compact", "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, run)
    assert done.exit_code == 0, done.output
    assert '"distribution": "mine.py"' in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name' .line 1."),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "defines no method, no learner and no task"),
        (MINE.replace("LastRows", "Random"), "'random' is a built-in method"),
        ("import sys; sys.exit(0)", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_included_is_one_clear_error(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    file = tmp_path / "bad.py"
    file.write_text(text)
    done = CliRunner().invoke(main, ["check", "random", "--include", str(file)])
    assert done.exit_code == 2
    assert message.replace(".line 1.", "(line 1)") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_failed_check_is_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    name = _add(faulty.Alarmist, "methods", monkeypatch)
    done = CliRunner().invoke(main, ["check", name])
    assert done.exit_code == 1
    assert "FAILED   there are no warnings: it warned: UserWarning: the end is near" in done.stdout
    expected = ["--expect-failure", "there_are_no_warnings=it always does"]
    assert CliRunner().invoke(main, ["check", name, *expected]).exit_code == 0


@pytest.mark.slow
def test_the_command_does_the_same_in_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rlcondense.cli", "check", "random", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"status": "passed"') > 20


def test_a_check_that_fails_raises_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    name = _add(faulty.Litterer, "methods", monkeypatch)
    [one] = [c for c in checks_of(name) if c.name == "no_files_are_left"]
    with pytest.raises(CheckFailed, match=r"it left work/notes\.txt behind"):
        one()


def test_environments_that_cannot_be_watched_are_a_check_that_is_skipped() -> None:
    with pytest.raises(CheckSkipped, match="cannot be watched"):
        no_environments_are_made(SimpleNamespace(discrete=False))  # type: ignore[arg-type]
