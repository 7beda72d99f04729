from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.errors import BadConfig, CorruptArtifact, UnknownName
from rlcondense.experts import shipped
from rlcondense.experts.shipped import Expert
from rlcondense.files import read_arrays
from rlcondense.make import make_task
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.tasks.base import Task
from rlcondense.tasks.procgen import ProcgenTask
from rlcondense.training import runs
from rlcondense.training.distil import DistilConfig, Distiller, Lockstep
from rlcondense.training.experts import distil_expert, train_expert
from tests.conftest import random_network

# A memory of 10 steps of all environments, of which a rollout overwrites 4: most frames are older
# than what a checkpoint is taken after.
SMALL = DistilConfig(
    network="compact", steps=160, num_envs=4, rollout_length=4, memory=40, learning_starts=32,
    batch_size=16, samples_per_step=2, mixing=0.5,
)  # fmt: skip


def _expert(network: PolicyNetwork, sha256: str = "0") -> Expert:
    return Expert("tests/teacher-v0", network, sha256, {})


def _mlp(num_features: int, num_actions: int) -> Expert:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _expert(PolicyNetwork(NetworkSpec("mlp", (num_features,), num_actions, width=8)))


def _distiller(out: Path, config: DistilConfig = SMALL, **options: Any) -> Distiller:
    teacher = _expert(random_network(1, "compact"))
    tasks = make_task("starpilot"), make_task("starpilot-plain")
    return Distiller(tasks[0], teacher, tasks[1], config, out, **options)


class _Killed(BaseException):
    pass


def _kill() -> None:
    raise _Killed


def _press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("steps", "kill", "error", "kept"),
    [
        (32, _kill, _Killed, 16),  # nothing is learned yet
        (64, _kill, _Killed, 48),  # the memory is overwritten for the first time
        (128, _press_ctrl_c, KeyboardInterrupt, 128),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    steps: int,
    kill: Callable[[], None],
    error: type[BaseException],
    kept: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = _distiller(tmp_path / "whole")
    whole.train()

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        if done == steps:
            kill()

    begun = _distiller(tmp_path / "parts")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", -1)
    with pytest.raises(error):
        begun.train(stop)
    monkeypatch.undo()
    signal.signal(signal.SIGINT, before)
    parts = _distiller(tmp_path / "parts", resume=True)
    assert parts.steps == kept
    parts.train()
    assert torch.equal(whole.memory.frames, parts.memory.frames)
    assert len(whole.memory.arrays()["memory.actions"]) == 20  # at most two times the memory
    a, b = (read_arrays(tmp_path / name / runs.CHECKPOINT) for name in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert [name for name in a if not np.array_equal(a[name], b[name])] == ["clock"]  # of seconds
    log = [json.loads(line) for line in (tmp_path / "parts" / runs.LOG).read_text().splitlines()]
    assert [entry["steps"] for entry in log] == list(range(16, 161, 16))
    assert log[0]["divergence"] is None
    assert log[-1]["divergence"] > 0


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    _distiller(tmp_path, replace(SMALL, steps=16)).train()
    with pytest.raises(BadConfig, match="--resume goes on from it, --restart discards it"):
        _distiller(tmp_path)
    with pytest.raises(BadConfig, match=r"other settings: steps was 16, is 160$"):
        _distiller(tmp_path, resume=True)
    task, config = make_task("starpilot-plain"), replace(SMALL, steps=16)
    other = _expert(random_network(1, "compact"), sha256="1")
    with pytest.raises(BadConfig, match=r"task was .*easy.*teacher's sha256 was 0, is 1"):
        Distiller(task, other, task, config, tmp_path, resume=True)
    arrays = read_arrays(tmp_path / runs.CHECKPOINT)
    arrays["memory.actions"] = 1 - arrays["memory.actions"].clip(0, 1)
    distiller = _distiller(tmp_path, config, restart=True)
    with pytest.raises(CorruptArtifact, match="its frames do not come again"):
        distiller._restore(arrays)
    del arrays["recent"]
    with pytest.raises(CorruptArtifact, match="not a checkpoint of distillation"):
        distiller._restore(arrays)


def test_teacher_and_student_look_at_one_state_each_in_its_own_picture(tmp_path: Path) -> None:
    distiller = _distiller(tmp_path)
    distiller._rollout()
    ordinary, plain = (
        make_task(name).make_vec("seen", 4, seed=SMALL.seed)
        for name in ("starpilot", "starpilot-plain")
    )
    frames, pictures = ordinary.reset()[0], plain.reset()[0]
    for slot, actions in enumerate(distiller.memory.arrays()["memory.actions"]):
        assert np.array_equal(distiller.memory.frames[slot].movedim(-1, 1), frames)
        with torch.no_grad():
            labels = distiller.teacher(torch.from_numpy(pictures)).softmax(1)
        torch.testing.assert_close(distiller.memory.labels[slot], labels)
        frames, pictures = ordinary.step(actions)[0], plain.step(actions)[0]
        assert not np.array_equal(frames, pictures)


def test_a_label_knows_nothing_of_what_is_to_come(tmp_path: Path) -> None:
    """The same frame has the same label, whatever the simulator has in store."""
    task = ProcgenTask("tests/three-v0", "starpilot", view="plain", seen=(0, 3))
    config = replace(SMALL, num_envs=8, memory=8 * 4)
    distiller = Distiller(task, _expert(random_network(1)), task, config, tmp_path)
    env = distiller.envs.env
    states = env.get_state()
    distiller._rollout()
    first = distiller.memory.frames[0].flatten(1)
    one, other = next((i, j) for i in range(8) for j in range(i) if torch.equal(first[i], first[j]))
    frames = env.set_state(states)
    for _ in range(300):  # the same actions lead to other levels
        frames = env.step(np.zeros(8, np.int64))[0]
    assert not np.array_equal(frames[one], frames[other])
    labels = distiller.memory.labels[0]
    torch.testing.assert_close(labels[one], labels[other], rtol=0, atol=1e-6)
    assert not torch.allclose(labels[one], labels[(first != first[one]).any(1)][0], atol=1e-5)


def test_only_seen_levels_are_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make_vec = [], ProcgenTask.make_vec

    def note(self: ProcgenTask, split: str, *rest: Any, **options: Any) -> Any:
        made.append((self.id, split))
        return make_vec(self, split, *rest, **options)

    monkeypatch.setattr(ProcgenTask, "make_vec", note)
    _distiller(tmp_path, replace(SMALL, steps=16)).train()
    assert made == [("procgen/starpilot-easy-v0", "seen"), ("procgen/starpilot-plain-v0", "seen")]


class _PaidTwice(ProcgenTask):
    def make_vec(self, *rest: Any, **options: Any) -> Any:
        env = super().make_vec(*rest, **options)
        step = env.step

        def paid(actions: Any) -> Any:
            frames, rewards, *others = step(actions)
            return frames, 2 * rewards, *others

        env.step = paid  # type: ignore[method-assign]
        return env


@pytest.mark.parametrize(
    ("student", "teacher", "why"),
    [
        ("starpilot", "cartpole", "different actions"),
        ("starpilot", "starpilot-light2024", "different seen levels"),
        ("cartpole", "cartpole-long", "do not keep step, their episode ends differ"),
        ("bigfish", _PaidTwice("tests/x-v0", "bigfish"), "do not keep step, their rewards differ"),
    ],
)
def test_tasks_that_part_are_refused(student: str, teacher: str | Task, why: str) -> None:
    theirs = make_task(teacher) if isinstance(teacher, str) else teacher
    ours = make_task(student)

    def play() -> None:
        lockstep = Lockstep(ours, theirs, 8, seed=0, num_threads=1)
        rng = np.random.default_rng(0)
        for _ in range(1000):
            lockstep.step(rng.integers(0, ours.action_space.n, 8))  # type: ignore[attr-defined]

    with pytest.raises(BadConfig, match=f"'{theirs.id}' cannot teach '{ours.id}': .*{why}"):
        play()


def test_continuous_actions_are_refused(tmp_path: Path) -> None:
    task = make_task("pendulum")
    with pytest.raises(BadConfig, match="its actions are not discrete"):
        Distiller(task, _mlp(3, 1), task, SMALL, tmp_path)


def test_the_teacher_acts_first_and_then_the_student(tmp_path: Path) -> None:
    config = DistilConfig(steps=1000, mixing=0.3, cooldown=0.5, learning_rate=1.0)
    shares = [config.teacher_share(steps) for steps in (0, 150, 300, 900)]
    assert shares == pytest.approx([1, 0.5, 0, 0])
    rates = [config.rate_after(steps) for steps in (0, 500, 750, 1000, 1024)]
    assert rates == pytest.approx([1, 1, 0.5, 0, 0])
    assert replace(config, cooldown=0).rate_after(999) == 1.0
    teacher = random_network(1, "compact")
    with torch.no_grad():
        teacher.head.bias[3] = 30.0  # it always does the same
    task = make_task("starpilot")
    taken = []
    for mixing in (1.0, 0.0):
        config = replace(SMALL, mixing=mixing, steps=10_000)
        distiller = Distiller(task, _expert(teacher), task, config, tmp_path / str(mixing))
        distiller._rollout()
        taken.append((distiller.memory.arrays()["memory.actions"] == 3).mean())
    assert taken[0] == 1
    assert taken[1] < 0.5


def test_updates_keep_the_ratio_to_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[int] = []
    step = Distiller._step

    def count(self: Distiller) -> torch.Tensor:
        updates.append(self.steps)
        return step(self)

    monkeypatch.setattr(Distiller, "_step", count)
    _distiller(tmp_path).train()
    assert len(updates) == (160 - 32) * 2 // 16
    assert min(updates) == 32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_student_comes_to_act_as_its_teacher(precision: str, tmp_path: Path) -> None:
    """Twenty steps by chance; the shipped expert of cartpole keeps the pole up for 500."""
    task = make_task("cartpole")
    config = DistilConfig(
        network="mlp", width=32, steps=6000, num_envs=16, learning_starts=512,
        memory=4000, learning_rate=5e-3, precision=precision,
    )  # fmt: skip
    distiller = Distiller(task, shipped.load_expert("classic/cartpole-v0"), task, config, tmp_path)
    distiller.train()
    log = [json.loads(line) for line in (tmp_path / runs.LOG).read_text().splitlines()]
    first, last = (entry["divergence"] for entry in (log[2], log[-1]))
    assert last < first / 5
    assert log[-1]["teacher_share"] == 0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What 'expert train' leaves of one rollout."""
    out = tmp_path_factory.mktemp("teacher")
    small = {"network": "compact", "num_envs": "4", "rollout_length": "16", "steps": "64"}
    train_expert("starpilot-plain", small, out=out, episodes=2, device="cpu")
    return out


def test_the_command_leaves_an_expert_whose_card_names_its_teacher(
    teacher: Path, tmp_path: Path
) -> None:
    small = ["num_envs=4", "rollout_length=4", "memory=24", "learning_starts=0", "batch_size=8"]
    command = ["expert", "distil", "starpilot", "--teacher", str(teacher), "--network", "compact",
               "--steps", "32", "--episodes", "2", "--device", "cpu"]  # fmt: skip
    command += ["--out", str(tmp_path)]
    command += [part for pair in small for part in ("--set", pair)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "32 steps in" in done.stdout
    expert = shipped.load_expert("procgen/starpilot-easy-v0", tmp_path)
    plain_expert = shipped.load_expert("procgen/starpilot-plain-v0", teacher)
    assert expert.card["teacher"] == plain_expert.id
    assert expert.card["teacher_sha256"] == plain_expert.sha256
    assert expert.card["command"].startswith(
        f"rlcondense expert distil starpilot --teacher {teacher}"
    )
    assert expert.card["returns"]["heldout"]["episodes"] == 2
    weights = (tmp_path / "procgen-starpilot-easy-v0.safetensors").read_bytes()
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    again = CliRunner().invoke(main, [*command, "--restart"])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "procgen-starpilot-easy-v0.safetensors").read_bytes() == weights


def test_what_parts_is_one_line_of_the_command(teacher: Path, tmp_path: Path) -> None:
    command = ["expert", "distil", "bigfish", "--teacher", str(teacher), "--out", str(tmp_path)]
    small = ["--network", "compact", "--set", "num_envs=4", "--set", "memory=64"]
    refused = CliRunner().invoke(main, [*command, *small])
    assert refused.exit_code == 2
    assert "'procgen/starpilot-plain-v0' cannot teach 'procgen/bigfish-easy-v0'" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_teacher_is_an_id_a_task_or_a_folder(teacher: Path, tmp_path: Path) -> None:
    assert shipped.find_expert(str(teacher)).id == "procgen/starpilot-plain-v0"
    by_id, by_task = shipped.find_expert("classic/cartpole-v0"), shipped.find_expert("cartpole")
    assert by_id.sha256 == by_task.sha256
    for name in ("procgen/starpilto-v0", "starpilot-hard"):
        with pytest.raises(UnknownName, match="expert"):
            shipped.find_expert(name)
    with pytest.raises(BadConfig, match="holds no finished expert"):
        shipped.find_expert(str(tmp_path))
    with pytest.raises(BadConfig, match=r"holds \d+ finished experts; name a folder of one"):
        shipped.find_expert(str(shipped.experts_folder()))


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for settings, why in (
        ({"mixing": "1.5"}, r"mixing must lie in \[0, 1\]"),
        ({"memory": "10"}, "memory must hold a frame of each environment"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"steps": "4000"}, "4000 steps end before the first update: learning_starts is 4096"),
        ({"batch_size": "0"}, "batch_size must be above 0"),
        ({"rate": "1"}, "distillation has no setting 'rate'"),
    ):
        with pytest.raises(BadConfig, match=why):
            distil_expert("cartpole", "cartpole", settings, out=tmp_path, device="cpu")
