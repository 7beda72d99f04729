from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rlcondense.cli import main
from rlcondense.make import make_task
from rlcondense.networks import NetworkSpec, fresh_from
from rlcondense.policies.stacked_mlps import Population
from rlcondense.runtime import checkpoint as checkpoints
from rlcondense.tasks.base import Task
from rlcondense.training.evolve import ESConfig, evolve_policy, evolve_to

SMALL = {"population": "4", "generations": "3", "width": "8", "episodes": "1", "horizon": "30"}


@pytest.fixture(scope="module")
def cartpole() -> Task:
    return make_task("cartpole")


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
def test_weights_survive_being_laid_out_in_a_row(head: str) -> None:
    spec = NetworkSpec("mlp", (3,), 2, width=5, depth=2, head=head)
    population = Population.of([fresh_from(spec, "cpu", seed) for seed in range(3)])
    flat = population.flat()
    assert flat.shape == (3, population.length)
    assert population.length == sum(p.numel() for p in population.network(0).parameters())
    x = torch.rand(3, 4, 3)
    assert torch.equal(population.like(flat)(x), population(x))
    assert not torch.equal(population.like(flat.flip(0))(x), population(x))


def test_evolution_of_weights_learns_cartpole(cartpole: Task) -> None:
    """From 22 by chance; the mean of a generation, sampled actions."""
    config = ESConfig(
        population=32, generations=25, width=16, episodes=1, sigma=0.1, learning_rate=0.1
    )
    found = evolve_policy(cartpole, config)
    assert found.curve["mean"][0] < 30
    assert found.curve["mean"][-1] > 60
    assert found.curve["steps"][-1] == found.steps
    again = evolve_policy(cartpole, config)
    weights, same = (p.policies.networks[0].head.weight for p in (found, again))
    assert torch.equal(weights, same)


class _Killed(BaseException):
    pass


def test_a_killed_evolution_goes_on_to_the_same_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)

    def kill(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "evolve" and done == 2:
            raise _Killed

    with pytest.raises(_Killed):
        evolve_to(tmp_path / "a", "pendulum", SMALL, episodes=2, device="cpu", progress=kill)
    assert (tmp_path / "a" / "unfinished.safetensors").exists()
    cards = [
        evolve_to(tmp_path / name, "pendulum", SMALL, episodes=2, device="cpu")[1]
        for name in ("a", "b")
    ]
    files = [(tmp_path / name / "policies.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert cards[0]["environment_steps"] == cards[1]["environment_steps"] == 3 * 4 * 30
    assert cards[0]["curve"] == cards[1]["curve"]
    assert not (tmp_path / "a" / "unfinished.safetensors").exists()


def test_what_was_evolved_is_evaluated_like_any_policy(tmp_path: Path) -> None:
    settings = [part for k, v in SMALL.items() for part in ("--set", f"{k}={v}")]
    out = tmp_path / "mine"
    made = CliRunner().invoke(
        main, ["expert", "evolve", "cartpole", "--out", str(out), "--episodes", "2", *settings]
    )
    assert made.exit_code == 0, made.output
    judged = CliRunner().invoke(
        main,
        ["evaluate", str(out), "--task", "cartpole", "--episodes", "2", "--json", "--results",
         str(tmp_path / "results")],
    )  # fmt: skip
    assert judged.exit_code == 0, judged.output
    record = json.loads(judged.stdout)["record"]
    assert record["cell"]["method"]["id"] == "policies:mine"
    said = json.loads((out / "card.json").read_text())["returns"]["heldout"]["mean"]
    assert np.mean(record["returns"]["heldout"]) == pytest.approx(said)
    refused = CliRunner().invoke(main, ["expert", "evolve", "cartpole", "--set", "sigma=0"])
    assert refused.exit_code == 2
    assert "sigma must be above 0" in refused.output


def test_where_it_is_written_and_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    small = ["--set", "population=2", "--set", "generations=1", "--set", "horizon=5"]
    evolve = ["expert", "evolve", "cartpole", "--episodes", "1", *small]
    for seed in ("0", "3"):
        done = runner.invoke(main, [*evolve, "--seed", seed])
        assert done.exit_code == 0, done.output
        [folder] = Path("results/evolved").glob(f"*-{seed}")
        assert json.loads((folder / "card.json").read_text())["config"]["seed"] == int(seed)
    again = runner.invoke(main, [*evolve, "--seed", "3"])
    assert again.exit_code == 2
    assert "holds what was evolved before: name another folder with --out" in again.stderr
    Path("file").write_text("")
    for extra in (["--set", "seed=7"], ["--out", "file"]):
        refused = runner.invoke(main, [*evolve, *extra])
        assert refused.exit_code == 2
        assert refused.stderr.count("\n") == 1
