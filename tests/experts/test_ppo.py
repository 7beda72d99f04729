from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense.errors import BadConfig, CorruptArtifact, UnknownName
from rlcondense.experts import shipped
from rlcondense.policy_gradient import RewardScale
from rlcondense.tasks.base import Task
from rlcondense.training import runs
from rlcondense.training.distil import DistilConfig
from rlcondense.training.experts import train_expert
from rlcondense.training.ppo import PPOConfig, Trainer
from tests.conftest import random_network

SMALL = {"network": "nature", "num_envs": 4, "rollout_length": 16, "epochs": 2, "minibatches": 2}


def _config(steps: int) -> PPOConfig:
    return PPOConfig(**SMALL, steps=steps)  # type: ignore[arg-type]


def _parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_interrupted_and_resumed_equals_uninterrupted(task: Task, tmp_path: Path) -> None:
    whole = Trainer(task, _config(256), tmp_path / "whole").train()
    Trainer(task, _config(128), tmp_path / "parts").train()
    resumed = Trainer(task, _config(256), tmp_path / "parts", resume=True).train()
    assert (whole.steps, resumed.steps) == (256, 256)
    assert torch.equal(_parameters(whole.network), _parameters(resumed.network))
    log = [json.loads(line) for line in (tmp_path / "parts" / runs.LOG).read_text().splitlines()]
    assert [entry["steps"] for entry in log] == [64, 128, 192, 256]
    assert {"seconds", "steps_per_second", "return", "entropy"} <= log[0].keys()


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from rlcondense.training.ppo import PPOConfig, Trainer
from rlcondense.make import make_task

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored

def progress(phase, done, total, note=""):
    if done == 128:
        os.kill(os.getpid(), signal.SIGINT)

small = {"network": "nature", "num_envs": 4, "rollout_length": 16, "epochs": 2, "minibatches": 2}
Trainer(make_task("starpilot"), PPOConfig(**small, steps=4096), Path(sys.argv[1])).train(progress)
"""


@pytest.mark.slow
def test_ctrl_c_saves_and_the_run_goes_on_as_if_nothing_had_been(
    task: Task, tmp_path: Path
) -> None:
    whole = Trainer(task, _config(256), tmp_path / "whole").train()
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "parts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    resumed = Trainer(task, _config(256), tmp_path / "parts", resume=True)
    assert resumed.steps == 128
    assert torch.equal(_parameters(whole.network), _parameters(resumed.train().network))


def test_environments_in_groups_that_take_turns_resume_exactly_too(
    task: Task, tmp_path: Path
) -> None:
    def config(steps: int) -> PPOConfig:
        return PPOConfig(**{**SMALL, "env_groups": 2}, steps=steps)  # type: ignore[arg-type]

    whole = Trainer(task, config(256), tmp_path / "whole").train()
    Trainer(task, config(128), tmp_path / "parts").train()
    resumed = Trainer(task, config(256), tmp_path / "parts", resume=True).train()
    assert torch.equal(_parameters(whole.network), _parameters(resumed.network))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_a_compiled_network_learns_the_same_but_for_rounding(task: Task, tmp_path: Path) -> None:
    plain = Trainer(task, _config(64), tmp_path / "plain").train()
    config = PPOConfig(**{**SMALL, "compiled": True}, steps=64)  # type: ignore[arg-type]
    compiled = Trainer(task, config, tmp_path / "compiled").train()
    torch.testing.assert_close(
        _parameters(plain.network), _parameters(compiled.network), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (PPOConfig, {"learning_rate": -1.0}),
        (PPOConfig, {"discount": -3.0}),
        (PPOConfig, {"gae_lambda": 1.5}),
        (PPOConfig, {"clip": 0.0}),
        (PPOConfig, {"max_gradient_norm": -1.0}),
        (PPOConfig, {"num_envs": 1, "rollout_length": 1}),
        (DistilConfig, {"learning_rate": 0.0}),
        (DistilConfig, {"weight_decay": -1.0}),
        (DistilConfig, {"max_gradient_norm": 0.0}),
    ],
)
def test_settings_that_cannot_be_are_refused(config: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=r"must|has two"):
        config(**settings)


def test_groups_must_divide_the_environments() -> None:
    with pytest.raises(BadConfig, match="multiple of env_groups"):
        PPOConfig(num_envs=4, env_groups=3)


def test_steps_after_the_checkpoint_are_logged_once(task: Task, tmp_path: Path) -> None:
    Trainer(task, _config(64), tmp_path).train()
    with (tmp_path / runs.LOG).open("a") as log:
        log.write('{"steps": 128}\n{"ste')
    Trainer(task, _config(128), tmp_path, resume=True).train()
    log = [json.loads(line) for line in (tmp_path / runs.LOG).read_text().splitlines()]
    assert [entry["steps"] for entry in log] == [64, 128]
    assert "return" in log[1]


def test_a_training_is_only_discarded_when_one_says_so(
    task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Trainer(task, _config(64), tmp_path / "typo", resume=True)
    assert "typo holds no checkpoint: the training begins anew" in caplog.text
    a = Trainer(task, _config(64), tmp_path).train()
    with pytest.raises(BadConfig, match="--resume goes on from it, --restart discards it"):
        Trainer(task, _config(64), tmp_path)
    (tmp_path / shipped.SNAPSHOTS / "48.safetensors").touch()
    finished = shipped.expert_path(task.id, tmp_path)
    for path in (finished, finished.with_suffix(".json")):
        path.touch()
    b = Trainer(task, _config(64), tmp_path, restart=True).train()
    assert torch.equal(_parameters(a.network), _parameters(b.network))
    assert not finished.exists()  # of the training that was discarded
    assert not finished.with_suffix(".json").exists()
    assert len((tmp_path / runs.LOG).read_text().splitlines()) == 1
    assert {p.stem for p in (tmp_path / shipped.SNAPSHOTS).iterdir()} == {"0", "64"}


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    with runs.folder_lock(tmp_path), pytest.raises(BadConfig, match="trains there"):
        train_expert("starpilot", {"steps": "64"}, out=tmp_path)


@pytest.mark.slow
def test_sigterm_saves_as_ctrl_c_does(task: Task, tmp_path: Path) -> None:
    code = INTERRUPTED.replace("SIGINT", "SIGTERM")
    assert code != INTERRUPTED
    first = "from rlcondense.terminal import interrupt_on_termination as heed; heed()\n"
    command = [sys.executable, "-c", first + code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert Trainer(task, _config(256), tmp_path, resume=True).steps == 128


def test_a_checkpoint_of_something_else_is_refused(task: Task, tmp_path: Path) -> None:
    Trainer(task, _config(64), tmp_path).train()
    other = PPOConfig(**{**SMALL, "epochs": 1}, steps=64)  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match=r"other settings: epochs was 2, is 1$"):
        Trainer(task, other, tmp_path, resume=True)
    Trainer(task, _config(128), tmp_path, resume=True).train()
    with pytest.raises(BadConfig, match="has 128 steps, more than 64"):
        Trainer(task, _config(64), tmp_path, resume=True)
    assert Trainer(task, _config(65), tmp_path, resume=True).steps == 128  # in whole rollouts
    file = tmp_path / runs.CHECKPOINT
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CorruptArtifact, match="not a readable safetensors file"):
        Trainer(task, _config(64), tmp_path, resume=True)


def test_rewards_are_scaled_by_the_spread_of_discounted_returns() -> None:
    rng = np.random.default_rng(0)
    scale = RewardScale(32, 0.9)
    returns = np.zeros(32)
    history = []
    for _ in range(300):
        rewards = rng.normal(1, 3, 32).astype(np.float32)
        returns = returns * 0.9 + rewards
        history.append(returns.copy())
        scaled = scale(rewards, np.zeros(32, bool))
    np.testing.assert_allclose(scaled, np.clip(rewards / np.std(history), -10, 10), rtol=0.02)


def test_training_writes_weights_and_a_card_that_load(tmp_path: Path) -> None:
    settings = {**{k: str(v) for k, v in SMALL.items()}, "steps": "64"}
    path, card = train_expert("starpilot", settings, out=tmp_path, episodes=4, device="cpu")
    expert = shipped.load_expert("procgen/starpilot-easy-v0", tmp_path)
    assert path.stat().st_size < 1_300_000
    assert expert.card["steps"] == card["steps"] == 64
    for split in ("seen", "heldout"):
        assert expert.card["returns"][split].keys() == {"mean", "standard_error", "episodes"}
    assert expert.card["returns"]["seen"]["episodes"] == 4


def test_a_truncated_or_altered_expert_is_one_clear_error(tmp_path: Path) -> None:
    path = shipped.save_expert("procgen/x-v0", random_network(), {}, tmp_path)
    shipped.load_expert("procgen/x-v0", tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptArtifact, match="truncated or altered"):
        shipped.load_expert("procgen/x-v0", tmp_path)
    with pytest.raises(BadConfig, match="holds no finished expert"):
        shipped.load_expert("procgen/y-v0", tmp_path)
    with pytest.raises(UnknownName, match="unknown expert"):
        shipped.load_expert("procgen/y-v0")


def test_bad_settings_are_refused() -> None:
    with pytest.raises(BadConfig, match="epochs must be above 0"):
        PPOConfig(epochs=0)
    with pytest.raises(BadConfig, match="precision"):
        PPOConfig(precision="float8")
