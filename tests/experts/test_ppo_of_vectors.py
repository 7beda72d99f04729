"""PPO on vectors, on continuous actions, and where the clock cuts episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcondense import catalogue
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.experts import shipped
from rlcondense.make import make_task
from rlcondense.policy_gradient import Gaussian
from rlcondense.tasks.gymnasium import GymnasiumTask
from rlcondense.tasks.levels import LevelVectorEnv
from rlcondense.tasks.minatar import MinAtarTask
from rlcondense.training import ppo
from rlcondense.training.collect import collect_dataset
from rlcondense.training.experts import evaluate_expert, train_expert
from rlcondense.training.ppo import PPOConfig, Trainer
from rlcondense.training.runs import CHECKPOINT

SMALL: dict[str, Any] = {
    "network": "mlp", "width": 16, "activation": "tanh", "num_envs": 4, "rollout_length": 32,
    "epochs": 2, "minibatches": 2,
}  # fmt: skip


def _parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_interrupted_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    task = make_task(name)
    whole = Trainer(task, PPOConfig(**SMALL, steps=1024), tmp_path / "whole").train()
    Trainer(task, PPOConfig(**SMALL, steps=512), tmp_path / "parts").train()
    again = Trainer(task, PPOConfig(**SMALL, steps=1024), tmp_path / "parts", resume=True).train()
    assert torch.equal(_parameters(whole.network), _parameters(again.network))


def test_a_task_whose_state_cannot_be_kept_is_trained_without_checkpoints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = GymnasiumTask("tests/balance-v0", "CartPole-v1")
    trainer = Trainer(task, PPOConfig(**SMALL, steps=256), tmp_path)
    assert trainer.train().steps == 256
    assert "begins anew" in caplog.text
    assert not (tmp_path / CHECKPOINT).exists()
    with pytest.raises(BadConfig, match="holds a training already"):
        Trainer(task, PPOConfig(**SMALL, steps=256), tmp_path)
    again = Trainer(task, PPOConfig(**SMALL, steps=256), tmp_path, resume=True)
    assert again.steps == 0


def test_files_of_others_beside_a_training_stay(tmp_path: Path) -> None:
    mine = [tmp_path / shipped.SNAPSHOTS / name for name in ("notes.txt", "best.safetensors")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (tmp_path / shipped.SNAPSHOTS / "48.safetensors").write_text("of an earlier training")
    Trainer(make_task("cartpole"), PPOConfig(**SMALL, steps=256), tmp_path)
    assert sorted(tmp_path.glob(f"{shipped.SNAPSHOTS}/*")) == sorted(mine)


@pytest.mark.slow
def test_the_catalogues_settings_of_cartpole_train_an_expert_in_seconds(tmp_path: Path) -> None:
    path, card = train_expert(
        "cartpole", {"steps": "30000"}, out=tmp_path, episodes=20, device="cpu"
    )
    assert card["returns"]["heldout"]["mean"] > 150
    assert path.stat().st_size < 30_000
    expert = shipped.load_expert("classic/cartpole-v0", tmp_path)
    assert (expert.network.spec.width, expert.network.spec.activation) == (64, "tanh")
    assert (
        evaluate_expert("cartpole", folder=tmp_path, episodes=20)["returns"]["seen"]["mean"] > 150
    )
    mixed = collect_dataset(make_task("cartpole"), "mixed", folder=tmp_path, episodes=20)
    assert mixed.lengths.max() > 3 * mixed.lengths.min()


def test_an_expert_of_continuous_actions_is_kept_with_its_head(tmp_path: Path) -> None:
    _, card = train_expert(
        "pendulum", {**SMALL, "steps": "256"}, out=tmp_path, episodes=2, device="cpu"
    )
    expert = shipped.load_expert("classic/pendulum-v0", tmp_path)
    assert expert.network.spec.head == expert.card["head"] == "gaussian"
    trace = collect_dataset(
        make_task("pendulum"), "expert", folder=tmp_path, episodes=4, num_envs=4
    )
    assert trace.actions.shape == (800, 1)
    assert card["config"]["discount"] == 0.95  # of the catalogue


def test_an_episode_that_the_clock_cuts_is_worth_what_comes_after_it(tmp_path: Path) -> None:
    """Where every step pays 1 and nothing ends, advantages do not know of the clock."""
    config = PPOConfig(**{**SMALL, "rollout_length": 256}, discount=0.9, steps=1024)
    trainer = Trainer(make_task("pendulum"), config, tmp_path)
    with torch.no_grad():
        for p in trainer.network.value_head.parameters():
            p.zero_()
        trainer.network.value_head.bias.fill_(10.0)  # 1 / (1 - 0.9)
    trainer._rollout()
    assert trainer.first.any()
    trainer.rewards[:] = 1
    trainer.reward_scale = lambda rewards, first: rewards  # type: ignore[assignment]
    torch.testing.assert_close(trainer._advantages(), torch.zeros(256, 4), atol=1e-4, rtol=0)
    trainer.cut_values[:] = 0
    assert trainer._advantages().min() < -5


def test_episodes_are_cut_in_any_number_without_compiling_anew(tmp_path: Path) -> None:
    task = MinAtarTask("tests/short-v0", "breakout", steps=13)
    trainer = Trainer(task, PPOConfig(**SMALL), tmp_path)
    sizes, forward = set(), trainer.forward

    def noting(observations: torch.Tensor) -> Any:
        sizes.add(len(observations))
        return forward(observations)

    trainer.forward = noting
    trainer._rollout()
    cut = (trainer.cut_values != 0).sum(1)
    assert set(cut) > {0}
    assert set(cut) - {0, 4}
    assert sizes == {4}


def test_a_cut_whose_last_observation_nobody_tells_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = LevelVectorEnv.step

    def untold(self: LevelVectorEnv, actions: Any) -> Any:
        *given, infos = step(self, actions)
        return *given, {"level_seed": infos["level_seed"]}

    monkeypatch.setattr(LevelVectorEnv, "step", untold)
    config = PPOConfig(**SMALL)
    never_cut = MinAtarTask("tests/long-v0", "breakout", steps=10_000)
    Trainer(never_cut, config, tmp_path / "1")._rollout()
    cut = MinAtarTask("tests/short-v0", "breakout", steps=13)
    with pytest.raises(BadConfig, match=r"'tests/short-v0' cannot be trained on.*lack the 'final_"):
        Trainer(cut, config, tmp_path / "2")._rollout()


def test_a_potential_pays_for_its_rise_and_nothing_over_an_episode(tmp_path: Path) -> None:
    config = PPOConfig(
        **{**SMALL, "rollout_length": 200}, discount=1.0, potential="mountain-car-energy"
    )
    trainer = Trainer(make_task("mountain-car"), config, tmp_path)
    with pytest.raises(BadConfig, match="is of another task than 'classic/cartpole-v0'"):
        Trainer(make_task("cartpole"), config, tmp_path / "other")
    first = ppo.POTENTIALS["mountain-car-energy"](trainer.groups[0].observations)
    trainer._rollout()
    last = trainer.first[-1]
    assert last.all()  # 200 steps, and nobody got there
    final = trainer.shaping.sum(0) + first
    assert (trainer.rewards == -1).all()
    assert (final < 0).all()  # the potential where the clock cut it, below the top's
    assert np.abs(trainer.shaping).max() > 0.1
    goal, valley = np.array([[0.5, 0.05]]), np.array([[-0.52, 0.0]])
    assert ppo.POTENTIALS["mountain-car-energy"](goal) == 0
    assert ppo.POTENTIALS["mountain-car-energy"](valley) < -40


def test_gaussians_have_the_densities_and_entropies_of_torchs() -> None:
    outputs = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        Gaussian(outputs),
        torch.distributions.Normal(outputs[:, :3], outputs[:, 3:].exp()),
    )
    drawn = ours.draw(torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.log_probs(drawn), theirs.log_prob(drawn).sum(1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(1))
    many = Gaussian(torch.tensor([[1.0, -1.0, 0.0, -2.0]]).expand(20_000, 4))
    sample = many.draw(torch.Generator().manual_seed(2))
    torch.testing.assert_close(sample.mean(0), torch.tensor([1.0, -1.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(
        sample.std(0), torch.tensor([1.0, float(np.exp(-2))]), atol=0.02, rtol=0
    )


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown potential 'height'"):
        PPOConfig(potential="height")
    with pytest.raises(BadConfig, match="has no depth"):
        PPOConfig(network="nature", depth=2)
    with pytest.raises(BadConfig, match=r"needs .channels, height, width. observations"):
        Trainer(make_task("cartpole"), PPOConfig(), tmp_path)


def _trained_with(task: str, settings: dict[str, str], out: Path) -> dict[str, Any]:
    small = {"num_envs": "2", "rollout_length": "8", "minibatches": "1", "steps": "16"}
    _, card = train_expert(task, {**small, **settings}, out=out, episodes=2, device="cpu")
    return {name: card["config"][name] for name in ("network", "width", "depth", "activation")}


def test_another_network_has_none_of_the_catalogues_sizes(tmp_path: Path) -> None:
    none = dict.fromkeys(("width", "depth", "activation"))
    assert _trained_with("breakout", {}, tmp_path / "1") == {**none, "network": "mlp", "width": 256}
    same = _trained_with("breakout", {"network": "mlp"}, tmp_path / "2")
    assert same == {**none, "network": "mlp", "width": 256}
    impala = _trained_with("breakout", {"network": "impala"}, tmp_path / "3")
    assert impala == {**none, "network": "impala"}
    wide = _trained_with("breakout", {"network": "impala", "width": "2"}, tmp_path / "4")
    assert wide == {**none, "network": "impala", "width": 2}
    with pytest.raises(BadConfig, match="needs frames of 36 x 36 at least"):
        _trained_with("breakout", {"network": "nature"}, tmp_path / "5")


def test_a_task_of_vectors_that_the_catalogue_says_nothing_of_has_an_mlp(tmp_path: Path) -> None:
    entry_point = "rlcondense.tasks.classic_control:ClassicControlTask"
    catalogue.register("tasks", "tests/cartpole-v0", entry_point, env="CartPole-v1")
    assert _trained_with("tests/cartpole-v0", {}, tmp_path)["network"] == "mlp"


def test_settings_in_the_catalogue_are_those_of_the_trainer() -> None:
    told = [
        e.facts["training"] for e in catalogue.entries("tasks").values() if "training" in e.facts
    ]
    assert len(told) >= 4
    for settings in told:
        PPOConfig(**settings)


@pytest.mark.parametrize(
    ("variant", "base"),
    [
        ("acrobot-heavy", "acrobot"),
        ("ant-heavy", "ant"),
        ("cartpole-long", "cartpole"),
        ("mountain-car-weak", "mountain-car"),
        ("pendulum-heavy", "pendulum"),
        ("walker2d-heavy", "walker2d"),
    ],
)
def test_a_variant_is_trained_on_as_its_base_is(variant: str, base: str) -> None:
    theirs, ours = (catalogue.find("tasks", name).facts["training"] for name in (variant, base))
    assert theirs == ours


def test_comments_between_tasks_hold_no_settings() -> None:
    """In TOML a line below a comment belongs to the task above it."""
    registry = (catalogue.data_root() / "registry" / "tasks.toml").read_text()
    paragraphs = [p.splitlines() for p in registry.split("\n\n")]
    comments = [lines for lines in paragraphs if lines[0].startswith("#")]
    assert len(comments) > 3
    assert all(line.startswith("#") for lines in comments for line in lines)
