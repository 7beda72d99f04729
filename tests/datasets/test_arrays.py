"""Data in memory: checked like files, and taken wherever a dataset is."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlcondense as rlc
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra, RLCondenseError
from rlcondense.make import make_method, named_dataset
from rlcondense.protocol import protocol_of

ROWS = 12
QUICK: dict[str, Any] = {
    "seeds": 1,
    "episodes": 2,
    "references": False,
    "learner_settings": {"updates": 1},
}


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "observations": rng.normal(size=(ROWS, 4)),
        "actions": rng.integers(0, 2, ROWS),
        "rewards": np.ones(ROWS),
        "terminations": np.arange(ROWS) % 5 == 4,
        "task": "cartpole",
    }
    return {**columns, **changes}


@pytest.fixture(scope="module")
def data() -> TransitionDataset:
    return rlc.from_arrays(**arrays())


def test_arrays_are_episodes_with_an_end(data: TransitionDataset) -> None:
    assert [len(rows) for rows in data.episodes] == [5, 5, 2]
    assert data.column("truncations").tolist() == [False] * 11 + [True]
    assert (data.task, data.observations.dtype) == ("classic/cartpole-v0", np.float32)
    lists = {
        name: getattr(value, "tolist", lambda v=value: v)() for name, value in arrays().items()
    }
    assert rlc.from_arrays(**lists).id == data.id
    other = rlc.from_arrays(**arrays(rewards=np.zeros(ROWS)))
    assert other.id != data.id


def test_what_the_caller_does_with_its_arrays_later_changes_nothing() -> None:
    buffer = np.zeros((ROWS, 4), np.float32)
    data = rlc.from_arrays(**arrays(observations=buffer))
    buffer[:] = 1
    assert not np.asarray(data.observations).any()
    for column in (data.observations, data.actions, data.next_rows):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_tensors_are_arrays_and_what_is_neither_is_one_line() -> None:
    torch = pytest.importorskip("torch")
    observations = torch.from_numpy(arrays()["observations"]).requires_grad_()
    given = rlc.from_arrays(**arrays(observations=observations))
    assert given.id == rlc.from_arrays(**arrays()).id
    with pytest.raises(CorruptArtifact, match="rewards that are no array"):
        rlc.from_arrays(**arrays(rewards=[[1.0], [1.0, 2.0]]))
    with pytest.raises(CorruptArtifact, match="the policy gave actions that are no array"):
        rlc.collect("pendulum", lambda _: (np.zeros(1, np.float32), None), episodes=1)
    several = gymnasium.make_vec("CartPole-v1", 2)
    with pytest.raises(BadConfig, match="one environment with discrete actions or vectors"):
        rlc.collect(several, lambda _: 0, task="cartpole")  # type: ignore[arg-type]
    several.close()
    boxes = gymnasium.make_vec("Pendulum-v1", 2)
    with pytest.raises(BadConfig, match="one environment with discrete actions or vectors"):
        rlc.collect(boxes, lambda _: np.zeros((2, 1)), task="pendulum")  # type: ignore[arg-type]
    boxes.close()
    with pytest.raises(BadConfig, match="a task is played itself"):
        rlc.collect("cartpole", lambda _: 0, task="acrobot")
    played = rlc.collect("cartpole", lambda _: 0, episodes=1, seed=np.int64(7))  # type: ignore[arg-type]
    assert played.id == rlc.collect("cartpole", lambda _: 0, episodes=1, seed=7).id


@pytest.mark.parametrize("learner", ["bc", "discrete-cql"])
def test_seeds_are_any_whole_numbers_and_at_least_one(learner: str) -> None:
    small = make_method("full").condense(rlc.from_arrays(**arrays()), task="cartpole", budget=ROWS)
    made = rlc.make_learner(learner, "cartpole", network="mlp", updates=1)
    of_numpy = made.fit(small, task="cartpole", seeds=np.arange(2))  # type: ignore[arg-type]
    assert of_numpy.seeds == (0, 1)
    of_python = made.fit(small, task="cartpole", seeds=iter([0, 1]))  # type: ignore[arg-type]
    shown, which = np.asarray(small.observations, np.float64), np.zeros(ROWS, int)
    noise = np.linspace(0, 0.99, ROWS)
    acts = [policies.act(shown, which, noise).tolist() for policies in (of_numpy, of_python)]
    assert acts[0] == acts[1]
    with pytest.raises(BadConfig, match="at least one learner seed"):
        made.fit(small, task="cartpole", seeds=[])
    with pytest.raises(BadConfig, match="a learner seed must be"):
        made.fit(small, task="cartpole", seeds=[-1])


def test_data_in_memory_are_run_condensed_and_evaluated(
    data: TransitionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = rlc.run("random", dataset=data, size=4, condensations=1, results=tmp_path, **QUICK)
    assert result.record["status"] == "done"
    assert result.record["cell"]["dataset"] == data.id
    assert result.record["cell"]["task"] == "classic/cartpole-v0"
    assert repr(result) == str(result)
    assert "`-`: without reference rows" in str(result)
    assert "<pre>" in result._repr_html_()
    if find_spec("pandas") is not None:
        frame = result.to_pandas()
        assert frame["method"].tolist() == ["random"]
        assert frame["heldout_mean"][0] == result.record["summary"]["heldout"]["mean"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[pandas\]'"):
        result.to_pandas()
    with pytest.raises(MissingExtra, match="pandas"):
        rlc.leaderboard("smoke", tmp_path)
    small = rlc.condense(data, "random", size=4, out=str(tmp_path / "small"))
    assert rlc.load_condensed(str(tmp_path / "small")).sha256 == small.sha256
    same = make_method("random").condense(data, task="cartpole", budget=4)
    assert same.sha256 == small.sha256
    assert rlc.load_dataset(data.id).sha256 == data.sha256


def test_several_methods_are_one_table_with_the_reference_rows_once(
    data: TransitionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**QUICK, "references": True, "workers": 1, "condensations": 1, "size": 4}
    methods = ["random-balanced", "random:labels=hard"]
    both = rlc.run(methods, dataset=data, results=tmp_path, **options)
    assert [record["cell"]["method"]["id"] for record in both.records] == [
        "random-balanced",
        "random",
    ]
    names = [record["cell"]["method"]["id"] for record in both.references]
    assert sorted(names) == ["expert", "full", "full-converged", "marginal-policy", "random-policy"]
    assert str(both).count("\nrandom ") == str(both).count("\nrandom-balanced ") == 1
    again = rlc.run("random-balanced", dataset=data, results=tmp_path, **options)
    assert again.reused == len(names) + 2
    for wrong, message in (
        ([], "name a method"),
        (["random", "pbc", "random"], "method 'random' is named twice"),
        (["random:x"], "'random:x'|x is no setting|NAME=VALUE"),
    ):
        with pytest.raises(BadConfig, match=message):
            rlc.run(wrong, dataset=data, results=tmp_path, **options)
    pytest.importorskip("matplotlib").use("Agg")
    [axes] = both.plot(tmp_path / "returns.png")
    assert (tmp_path / "returns.png").stat().st_size > 1000
    assert axes.get_yticklabels()[0].get_text() == "expert"
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[plot\]'"):
        data.plot()


def test_names_stand_for_tasks_and_folders_for_what_they_hold(
    data: TransitionDataset, tmp_path: Path
) -> None:
    small = rlc.condense(data, "random", size=4)
    policies = rlc.make_learner("bc", "cartpole", updates=1).fit(small, task="cartpole", seeds=[0])
    policies.save(str(tmp_path / "mine"))
    scores = [
        rlc.evaluate(what, "cartpole", protocol=protocol_of(2)).returns.tolist()
        for what in (policies, str(tmp_path / "mine"))
    ]
    assert scores[0] == scores[1]
    assert rlc.load_expert(rlc.make_task("cartpole")).sha256 == rlc.load_expert("cartpole").sha256
    with gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="held-out") as env:
        levels = rlc.make_task("cartpole").splits["heldout"]
        assert env.reset()[1]["level_seed"] in levels
    with pytest.raises(BadConfig, match="network 'mlp' takes vectors"):
        rlc.make_learner("bc", network="nature").fit(small, task="cartpole", seeds=[0])
    with pytest.raises(BadConfig, match="network 'mlp' takes vectors"):
        rlc.make_method("gradmatch").condense(data, task="cartpole", budget=4)


def test_a_changed_copy_is_other_data(data: TransitionDataset) -> None:
    loaded = rlc.load_dataset(named_dataset(data))
    assert named_dataset(loaded) == data.id
    changed = replace(loaded, rewards=np.zeros(ROWS, np.float32))
    assert named_dataset(changed) == rlc.from_arrays(**arrays(rewards=np.zeros(ROWS))).id
    with pytest.raises(BadConfig, match="whole episodes"):
        named_dataset(replace(data, truncations=np.zeros(ROWS, bool)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": [0, 1]}, "2 of actions"),
        ({"rewards": 1.0}, "rewards as one value"),
        ({"rewards": np.full(ROWS, np.nan)}, "non-finite rewards"),
        ({"rewards": np.ones((ROWS, 2))}, "rewards"),
        ({"observations": np.ones((ROWS, 3))}, r"has \(4,\)"),
        ({"actions": np.full(ROWS, 2)}, r"outside 0\.\.1"),
        ({"terminations": np.full(ROWS, 3)}, "no flags"),
        ({"action_probs": np.ones((ROWS, 2))}, "no distribution"),
        ({"action_probs": [["x", "y"]] * ROWS}, "no probabilities"),
        ({"level_seeds": np.ones((ROWS, 2))}, "level_seeds"),
        ({"level_seeds": np.full(ROWS, 2**64 - 1, np.uint64)}, "not one whole number a row"),
        ({"level_seeds": np.arange(ROWS)}, "change within an episode"),
        ({"observations": [[0.0] * 4] * (ROWS - 1) + [[0.0]]}, "observations that are no array"),
        ({"rewards": None}, "gave no rewards"),
        ({"task": "cartpol"}, "cartpole"),
    ],
)
def test_arrays_that_are_no_data_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCondenseError, match=message) as refusal:
        rlc.from_arrays(**arrays(**changes))
    assert "\n" not in str(refusal.value)


def test_held_out_levels_need_a_word() -> None:
    levels = np.full(ROWS, rlc.make_task("cartpole").splits["heldout"][0])
    with pytest.raises(BadConfig, match="held-out"):
        rlc.from_arrays(**arrays(level_seeds=levels))
    assert rlc.from_arrays(**arrays(level_seeds=levels), heldout_data=True).heldout_allowed


def test_a_policy_plays_a_dataset() -> None:
    task = rlc.make_task("cartpole")
    by_name = rlc.collect("cartpole", lambda o: int(o[2] > 0), episodes=3, seed=7)
    assert len(by_name.episodes) == 3
    assert by_name.actions.tolist() == (by_name.observations[:, 2] > 0).astype(int).tolist()
    assert set(by_name.column("level_seeds").tolist()) <= set(task.splits["seen"])
    assert rlc.collect(task, lambda o: int(o[2] > 0), episodes=3, seed=7).id == by_name.id
    at_random = rlc.collect("cartpole", episodes=3)
    assert len(at_random.episodes) == 3
    assert at_random.action_probs is not None
    with gymnasium.make("CartPole-v1") as env:
        of_env = rlc.collect(env, lambda o: 0, episodes=1, task="cartpole")
        assert of_env.level_seeds is None
        assert rlc.collect(env, lambda o: 0, episodes=1).task == "classic/cartpole-v0"
        with pytest.raises(BadConfig, match="function"):
            rlc.collect(env, "random", task="cartpole")
    greedy = rlc.make_learner("bc", "cartpole", updates=1, action_selection="greedy")
    few = rlc.make_method("random").condense(at_random, task=task, budget=4)
    with pytest.raises(BadConfig, match="that take the likeliest action: give a function"):
        rlc.collect("cartpole", greedy.fit(few, task=task, seeds=[0]))
    with (
        gymnasium.make("FrozenLake-v1") as other,
        pytest.raises(BadConfig, match="no task is the environment 'FrozenLake-v1'"),
    ):
        rlc.collect(other, lambda o: 0)
    with pytest.raises(CorruptArtifact):
        rlc.collect("cartpole", lambda o: 0.5, episodes=1)


def test_what_is_not_the_task_is_not_collected_as_it() -> None:
    heavy = replace(rlc.make_task("cartpole"), physics={"gravity": 20.0})
    with pytest.raises(BadConfig, match="is not what 'classic/cartpole-v0' names"):
        rlc.collect(heavy, lambda o: 0)
    other = replace(heavy, id="tests/heavy-v0")
    assert rlc.collect(other, lambda o: 0, episodes=1).task == "tests/heavy-v0"
    for settings in ({"g": 1.62}, {"max_episode_steps": 50}):
        with (
            gymnasium.make("Pendulum-v1", **settings) as env,
            pytest.raises(BadConfig, match="'Pendulum-v1' has settings of its own"),
        ):
            rlc.collect(env, lambda o: [0.0])
    with (
        gymnasium.make("CartPole-v1") as env,
        pytest.raises(BadConfig, match="seed 12345 is a held-out level"),
    ):
        rlc.collect(env, lambda o: 0, seed=12345)


def test_a_split_may_be_written_as_tables_print_it(data: TransitionDataset) -> None:
    from rlcondense.policies import random_policies

    policies = random_policies(rlc.make_task("cartpole").action_space, [0])
    scores = rlc.evaluate(policies, "cartpole", "held-out", protocol=protocol_of(2))
    assert scores.split == "heldout"
    with pytest.raises(BadConfig, match="'test'"):
        rlc.evaluate(policies, "cartpole", "test")


class FromOne(gymnasium.Env[Any, Any]):
    """Three actions, numbered from one: the reward is the action's own number."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(4, np.float32), float(action), self.steps == 3, False, {}


def test_actions_that_begin_elsewhere_are_recorded_from_zero_on() -> None:
    data = rlc.collect(FromOne(), lambda _: 2, episodes=2, task="cartpole")
    assert data.actions.tolist() == [1] * 6
    assert data.column("rewards").tolist() == [2] * 6
    with pytest.raises(CorruptArtifact):
        rlc.collect(FromOne(), lambda _: 0, episodes=1, task="cartpole")
