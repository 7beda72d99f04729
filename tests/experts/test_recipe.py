"""The recipe of the shipped experts, run small and without a GPU (baselines/experts)."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense.catalogue import data_root
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.experts.shipped import load_expert, snapshots
from rlcondense.files import read_arrays, slug
from rlcondense.make import make_task
from rlcondense.runtime import provenance
from rlcondense.runtime.provenance import source_sha256
from rlcondense.tasks.procgen import GAMES

RECIPE = data_root() / "baselines" / "experts"
PAGE = Path(__file__).parents[2] / "docs" / "results" / "experts.md"
PLAIN, ORDINARY = ("starpilot-plain", "fruitbot-plain"), ("starpilot", "fruitbot")
# Both scripts as a user runs them, but in one interpreter: to start one takes longer than they do.
BOTH = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        assert not error.code, error.code
"""


def _run(*commands: list[str]) -> None:
    path = os.pathsep.join([str(RECIPE), str(RECIPE.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", BOTH, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr


def _small(script: str, out: Path, names: tuple[str, ...], *more: str) -> list[str]:
    settings = {
        "teachers": ("rollout_length=16",),
        "students": ("memory=48", "learning_starts=32", "batch_size=16"),
    }[script]
    command = [str(RECIPE / f"{script}.py"), *names, "--out", str(out), "--steps", "128", *more]
    for pair in ("network=compact", "num_envs=4", *settings):
        command += ["--set", pair]
    return command


def _commands(out: Path, *device: str) -> list[list[str]]:
    teachers = out / "teachers"
    return [
        _small("teachers", teachers, PLAIN, *device, "--episodes", "0"),
        _small("teachers", out / "further", PLAIN[:1], *device, "--episodes", "2",
               "--start", str(teachers / "latest.safetensors")),
        _small("students", out / "students", ORDINARY, *device, "--episodes", "0",
               "--teachers", str(teachers)),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both scripts leave of two games, and of one that goes on from its weights."""
    out = tmp_path_factory.mktemp("recipe")
    _run(*_commands(out, "--cpu"))
    return out


def _folder(out: Path, name: str) -> tuple[str, Path]:
    task_id = make_task(name).id
    return task_id, out / slug(task_id)


@pytest.mark.gpu
def test_the_recipe_runs_on_a_gpu_by_captured_graphs(tmp_path: Path) -> None:
    for command in _commands(tmp_path):  # each in a process that has not called CUDA yet
        _run(command)
    for name in ORDINARY:
        expert = load_expert(*_folder(tmp_path / "students", name))
        assert expert.card["environment"]["device"] == "cuda"
        assert all(value.isfinite().all() for value in expert.network.state_dict().values())


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.slow
def test_teachers_leave_experts_with_cards_and_snapshots(made: Path, name: str) -> None:
    task_id, folder = _folder(made / "teachers", name)
    card = load_expert(task_id, folder).card
    assert (card["steps"], card["config"]["steps"], card["network"]) == (128, 128, "compact")
    assert card["command"].startswith("python baselines/experts/teachers.py starpilot-plain")
    assert {"environment", "seconds", "seed", "sha256"} <= card.keys()
    assert card["published"]["seen"] > card["published"]["heldout"]
    policies = snapshots(task_id, folder)
    assert list(policies) == [0, 64, 128]
    first, _, last = (policy.head.weight for policy in policies.values())
    assert not torch.equal(first, last)


@pytest.mark.slow
def test_an_experts_card_is_completed_by_its_evaluation(made: Path) -> None:
    card = load_expert(*_folder(made / "further", PLAIN[0])).card
    assert card["returns"]["seen"]["episodes"] == card["returns"]["heldout"]["episodes"] == 2
    assert {"greedy", "entropy", "command", "published"} <= card.keys()


@pytest.mark.slow
def test_a_run_goes_on_from_the_weights_of_another(made: Path) -> None:
    task_id, folder = _folder(made / "further", PLAIN[0])
    begun, left = snapshots(task_id, folder)[0], read_arrays(made / "teachers/latest.safetensors")
    for name, value in begun.state_dict().items():
        weights = torch.from_numpy(left[f"{PLAIN[0]}/{name}"])
        torch.testing.assert_close(value, weights.half().float(), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "plain"), list(zip(ORDINARY, PLAIN, strict=True)))
@pytest.mark.slow
def test_students_never_part_from_their_teachers(made: Path, name: str, plain: str) -> None:
    task_id, folder = _folder(made / "students", name)
    card = load_expert(task_id, folder).card  # a process whose views have parted would have ended
    teacher = load_expert(*_folder(made / "teachers", plain))
    assert (card["teacher"], card["teacher_sha256"]) == (teacher.id, teacher.sha256)
    assert card["steps"] == 128
    assert card["updates"] > 8


@pytest.mark.parametrize(("script", "names"), [("teachers", PLAIN), ("students", ORDINARY)])
@pytest.mark.slow
def test_the_log_and_its_picture_have_every_game(
    made: Path, script: str, names: tuple[str, ...]
) -> None:
    with (made / script / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows[-2:]] == [make_task(name).id for name in names]
    assert rows[-1]["steps"] == "128"
    picture = (made / script / "curves.svg").read_text()
    assert all(name.partition("-")[0] in picture for name in names)


def test_the_shipped_picture_is_drawn_from_the_shipped_log(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    recipe["games"].draw(RECIPE / "curves.csv", tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_bytes() == (RECIPE / "curves.svg").read_bytes()


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The three files as modules."""
    monkeypatch.syspath_prepend(str(RECIPE))
    return {name: __import__(name) for name in ("games", "teachers", "students")}


def test_the_pages_table_is_that_of_the_cards(recipe: dict[str, ModuleType]) -> None:
    table = recipe["games"].table()
    assert f"<!-- experts -->\n{table}\n<!-- /experts -->" in PAGE.read_text()
    title, row = table.splitlines()[::2][:2]
    assert title.startswith("| task ")
    assert any(row.startswith(f"| {game}") for game in GAMES)


@pytest.mark.slow
def test_a_run_is_not_written_over(recipe: dict[str, ModuleType], made: Path) -> None:
    arguments = ["--cpu", "--steps", "9", "--out", str(made / "teachers")]
    with pytest.raises(BadConfig, match="teachers holds a run already"):
        recipe["teachers"].main(arguments, standalone_mode=False)


def test_the_teacher_hands_over_and_the_rate_falls(recipe: dict[str, ModuleType]) -> None:
    """As in the run that made the shipped students: a quarter of it, and the last five eighths."""
    student, _ = _student(recipe)
    shares, rates = [], []
    for share in (0.0, 0.125, 0.25, 0.375, 0.6875, 1.0):
        student._start_acting(recipe["games"].Stream(student.device), share)
        student._start_learning(recipe["games"].Stream(student.device), share)
        shares.append(float(student.teacher_share))
        rates.append(1000 * float(student.learning_rate))
    assert shares == pytest.approx([1, 0.5, 0, 0, 0, 0])
    assert rates == pytest.approx([1, 1, 1, 1, 0.5, 0.01])


def _student(recipe: dict[str, ModuleType]) -> tuple[Any, Any]:
    """A student of one game, whose process was not started, and its teacher."""
    module, task = recipe["students"], make_task("starpilot")
    small = {"network": "compact", "num_envs": "2", "memory": "5", "batch_size": "3"}
    config = module.configure(small, cpu=True)
    memory, processes = module.SharedFrames(1, 2), module.Processes(["starpilot"])
    expert, cpu = load_expert("procgen/starpilot-easy-v0"), torch.device("cpu")
    return module.Student(0, task, expert, config, memory, processes, cpu), expert


def _teacher(recipe: dict[str, ModuleType], out: Path) -> Any:
    module, task = recipe["teachers"], make_task("starpilot-plain")
    small = {"network": "compact", "num_envs": "3", "rollout_length": "5", "minibatches": "5"}
    config = module.configure(small, cpu=True)
    memory, processes = module.SharedRollouts(1, config), module.Processes(["starpilot"])
    return module.Teacher(0, task, config, memory, processes, out, torch.device("cpu"))


def test_advantages_are_those_of_their_definition(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    teacher, rng = _teacher(recipe, tmp_path), np.random.default_rng(0)
    rewards, values = rng.normal(size=(5, 3)), rng.normal(size=(6, 3))
    first = np.zeros((5, 3))
    first[2, 1] = 1
    for name, array in (("rewards", rewards), ("values", values), ("first", first)):
        getattr(teacher, name).copy_(torch.from_numpy(array))
    teacher.estimate_advantages()
    gamma, both = 0.999, 0.999 * 0.95
    deltas = rewards + gamma * (1 - first) * values[1:] - values[:-1]
    expected = np.zeros((5, 3))
    for t, n in np.ndindex(5, 3):  # the sum of what is to come, up to the episode's end
        for later in range(t, 5):
            expected[t, n] += both ** (later - t) * deltas[later, n]
            if first[later, n]:
                break
    np.testing.assert_allclose(teacher.returns, expected + values[:-1], atol=1e-5)
    normalised = (expected - expected.mean()) / (expected.std(ddof=1) + 1e-8)
    np.testing.assert_allclose(teacher.advantages, normalised, atol=1e-5)


def test_each_epoch_learns_from_every_transition_once(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    teacher = _teacher(recipe, tmp_path)
    teacher._shuffle()
    epochs = teacher.order.view(2, -1)
    assert (epochs.sort(1).values == torch.arange(15)).all()
    assert not torch.equal(epochs[0], epochs[1])


def test_what_is_remembered_is_the_students_frame_with_the_teachers_label(
    recipe: dict[str, ModuleType],
) -> None:
    student, expert = _student(recipe)
    shown = []
    for _ in range(3):  # the third two overwrite the first two: the memory has room for four
        shown.append(student.frames.random_(256).clone())
        student.act()
    remembered = torch.cat([shown[2][0], shown[1][0]])
    seen_by_teacher = torch.cat([shown[2][1], shown[1][1]]).permute(0, 3, 1, 2)
    assert torch.equal(student.remembered, remembered)
    labels = expert.network(seen_by_teacher).softmax(1)
    torch.testing.assert_close(student.labels.float(), labels, atol=1e-3, rtol=0)
    assert float(student.filled) == 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_game_whose_process_ends_is_named(recipe: dict[str, ModuleType]) -> None:
    processes = recipe["games"].Processes(["starpilot-plain", "maze-plain"])

    def body(game: int) -> None:
        if game == 0:
            list(processes.steps(game))  # until all are stopped

    processes.start(body)
    processes._processes[1].join()
    with pytest.raises(RLCondenseError, match="the process of maze-plain has ended"):
        processes.check()
    processes.stop()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("teachers", ["--steps", "9", "--minutes", "1"], "give one of them"),
        ("teachers", ["--steps", "9", "--set", "potential=x"], "potential cannot be set here"),
        ("teachers", ["--steps", "9", "--set", "minibatches=7"], "multiple of minibatches"),
        ("teachers", ["--steps", "9", "cartpole"], "'classic/cartpole-v0' is no game of Procgen"),
        ("teachers", ["--steps", "9", "maze", "maze"], "not maze-ordinary twice"),
        ("students", ["--steps", "9", "maze-hard"], "differ in more than their views"),
        ("students", ["--steps", "9", "--set", "memory=9"], "memory must hold a frame of each"),
        ("students", ["--steps", "9", "--set", "rollout_length=9"], "cannot be set here"),
        ("students", ["--steps", "9", "--set", "memry=9"], "did you mean 'memory'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    recipe: dict[str, ModuleType], tmp_path: Path, script: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        recipe[script].main(
            [*arguments, "--cpu", "--out", str(tmp_path / "out")], standalone_mode=False
        )
    assert not (tmp_path / "out").exists()


def test_where_a_wheel_keeps_the_recipe_changes_no_key_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def sha256_now() -> str:
        provenance._own_sources.cache_clear()  # as in another process
        return source_sha256()

    monkeypatch.setattr(provenance, "OURS", tmp_path)
    request.addfinalizer(provenance._own_sources.cache_clear)
    (tmp_path / "__init__.py").touch()
    before = sha256_now()
    inside = tmp_path / "_catalogue" / "baselines" / "experts"
    inside.mkdir(parents=True)
    (inside / "games.py").write_text("one = 1\n")
    assert sha256_now() == before
    (tmp_path / "games.py").write_text("one = 1\n")
    assert sha256_now() != before
