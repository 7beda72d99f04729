from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.checks import check
from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.comparison.tables import run_table
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.evaluation import evaluate
from rlcondense.make import make_learner, make_method
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import PolicyBatch
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.records.store import Store
from rlcondense.running.bench import Bench
from rlcondense.running.compute import run_method, run_policy
from rlcondense.runtime.progress import silent
from rlcondense.tasks.base import Task
from tests.small_tasks import Gridworld, Reach, SmallTask, play

GRID, REACH = Gridworld(), Reach()
MLP = {"network": "mlp", "width": 64}
FAST_Q = {**MLP, "updates": 1000, "learning_rate": 1e-3, "target_update_interval": 50, "gamma": 0.9}
# What it takes each learner to solve the gridworld.
SOLVERS: dict[str, dict[str, Any]] = {
    "bc": {**MLP, "updates": 500, "action_selection": "greedy"},
    "discrete-bc": {**MLP, "updates": 500, "action_selection": "greedy"},
    "dqn": FAST_Q,
    "double-dqn": FAST_Q,
    "nfq": {**MLP, "updates": 1500},
    "discrete-bcq": FAST_Q,
    "discrete-cql": FAST_Q,
    "discrete-sac": {
        **MLP, "updates": 1000, "action_selection": "greedy", "initial_temperature": 0.01,
        "temp_learning_rate": 1e-6, "target_update_interval": 50, "actor_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
    },
    "discrete-decision-transformer": {
        **MLP, "updates": 800, "action_selection": "greedy", "context_size": 3, "num_heads": 2,
        "num_layers": 1, "learning_rate": 3e-3,
    },
}  # fmt: skip
D3RLPY = [i for i, e in catalogue.entries("learners").items() if ".d3rlpy." in e.entry_point]
DISCRETE = [i for i in D3RLPY if make_learner(i).action_kinds == ("discrete",)]


class _Straight(PolicyBatch):
    """The way straight to the middle."""

    num_policies, seeds = 1, (0,)

    def act(self, observations: Any, policy_index: Any, noise: Any) -> Any:
        return REACH.shortest(observations)


def _everything(data: TransitionDataset, task: Task) -> CondensedDataset:
    return make_method("full").condense(data, task=task, budget=len(data))


def _subset(data: TransitionDataset, task: Task, size: int, seed: int = 0) -> CondensedDataset:
    return make_method("random").condense(data, task=task, budget=size, seed=seed)


@pytest.fixture(scope="module")
def walks() -> TransitionDataset:
    """Gridworld episodes with enough random steps to have tried every action everywhere."""
    return play(GRID, GRID.shortest, 1500, noise=0.75)


@pytest.fixture(scope="module")
def reaches() -> TransitionDataset:
    return play(REACH, REACH.shortest, 1000, noise=0.3)


def _short_of_best(policies: Any) -> float:
    scores = evaluate(policies, GRID, "heldout", protocol=protocol_of(100))
    return float((GRID.best_return(scores.level_seeds) - scores.returns).mean())


@pytest.mark.slow
@pytest.mark.parametrize("id_", SOLVERS)
def test_every_learner_solves_the_gridworld_from_all_the_data_and_not_from_four_transitions(
    id_: str, walks: TransitionDataset
) -> None:
    learner = make_learner(id_, **SOLVERS[id_])
    policies = learner.fit(_everything(walks, GRID), task=GRID, seeds=[0])
    assert _short_of_best(policies) < 1e-6
    few = _subset(walks, GRID, 4)
    if learner.missing(few.provides(), GRID):
        assert id_ == "discrete-decision-transformer"
        return
    assert _short_of_best(learner.fit(few, task=GRID, seeds=[0])) > 0.5


def test_every_discrete_learner_is_among_them() -> None:
    assert {*DISCRETE, "bc"} == SOLVERS.keys()
    assert len(D3RLPY) == 24


@pytest.mark.parametrize(
    ("id_", "settings", "below"),
    [  # cloning learns the random steps too: d3rlpy's imitates the mean action
        ("d3rlpy-bc", {}, 0.35),
        pytest.param("td3-plus-bc", {"update_actor_interval": 1}, 0.08, marks=pytest.mark.slow),
        pytest.param(
            "iql",
            {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3},
            0.08,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "awac",
            {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3},
            0.08,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_continuous_learners_reach_the_middle(
    id_: str, settings: dict[str, Any], below: float, reaches: TransitionDataset
) -> None:
    learner = make_learner(id_, width=64, updates=800, **settings)
    policies = learner.fit(_everything(reaches, REACH), task=REACH, seeds=[0])
    scores = evaluate(policies, REACH, "heldout", protocol=protocol_of(100))
    assert policies.act(np.float32([[-1, 1]]), np.zeros(1, int), np.zeros((1, 2))) == pytest.approx(
        np.array([[0.5, -0.5]]), abs=0.2
    )
    best = evaluate(_Straight(), REACH, "heldout", protocol=protocol_of(100)).returns.mean()
    assert scores.returns.mean() > best - below
    assert scores.returns.mean() > reaches.episode_returns().mean() + 0.1


@pytest.mark.parametrize("id_", D3RLPY)
def test_each_trains_acts_and_leaves_nothing_behind(
    id_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"updates": 4, "batch_size": 8, "width": 8, "network": "mlp"}
    if id_ == "discrete-decision-transformer":
        small |= {"context_size": 3, "num_heads": 2, "num_layers": 1}
    learner = make_learner(id_, **small)
    discrete = id_ in DISCRETE
    source = play(GRID, GRID.shortest, 60, 0.5) if discrete else sample_box_data()
    task: Task = GRID if discrete else SampleBoxTask()
    told: list[tuple[int, int]] = []
    policies = learner.fit(
        _everything(source, task),
        task=task,
        seeds=[0, 1],
        progress=lambda _phase, done, total, _note="": told.append((done, total)),
    )
    noise = np.full((5, *(task.action_space.shape or ())), 0.5)
    for policy in (0, 1):
        actions = policies.act(source.observations[:5], np.full(5, policy), noise)
        assert all(task.action_space.contains(action) for action in actions)
    assert told[-1] == (8, 8)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("id_", D3RLPY)
def test_the_checks_pass(id_: str) -> None:
    assert {r.name: r.message for r in check(id_) if r.status == "failed"} == {}


def _q_star(gamma: float) -> np.ndarray[Any, Any]:
    """Optimal values `(16, 4)` of the gridworld by value iteration."""
    states = np.array([divmod(i, 4) for i in range(16)], float)
    q = np.zeros((16, 4))
    for _ in range(200):
        for a in range(4):
            after, rewards, ended = GRID.move(states, np.full(16, a))
            best = q.max(1)[(after[:, 0] * 4 + after[:, 1]).astype(int)]
            q[:, a] = rewards + gamma * best * ~ended
    return q


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "percentile"])
def test_selected_transitions_keep_their_successors_so_that_q_values_are_right(
    method: str, walks: TransitionDataset
) -> None:
    """Of random transitions, most successors are not kept: d3rlpy's own buffer cannot hold them."""
    if method == "random":
        data = _subset(walks, GRID, 900)
    else:
        budget = Budget(percent=70, unit="transitions")
        data = make_method("percentile").condense(walks, task=GRID, budget=budget)
    learner = make_learner("dqn", **{**FAST_Q, "updates": 1500})
    [algorithm] = learner.fit(data, task=GRID, seeds=[0]).algorithms  # type: ignore[attr-defined]
    q_star = _q_star(0.9)
    cells = np.array([divmod(i, 4) for i in range(15)], float)
    tried = {
        (tuple(frame.ravel()), int(a))
        for frame, a in zip(data.observations, data.actions, strict=True)
    }
    errors = []
    for a in range(4):
        frames = GRID.look(cells)
        values = algorithm.predict_value(frames, np.full(15, a))
        known = [(tuple(frame.ravel()), a) in tried for frame in frames]
        errors += list(abs(values - q_star[:15, a])[known])
    assert len(errors) >= 50
    assert np.mean(errors) < 0.03


def test_batches_are_the_sources_own_transitions(walks: TransitionDataset) -> None:
    from rlcondense.integrations.d3rlpy.parts import TRANSITIONS, TransitionBuffer

    data = _subset(walks, GRID, 40)
    batch = TransitionBuffer(data, GRID, TRANSITIONS, np.random.default_rng(0))
    drawn = batch.sample_transition_batch(200)
    whole = {
        (o.tobytes(), int(a), float(r), bool(t)): n.tobytes()
        for o, a, r, t, n, known in zip(
            walks.observations.astype(np.float32),
            walks.actions,
            walks.column("rewards"),
            walks.column("terminations"),
            walks.next_observations(np.arange(len(walks))).astype(np.float32),
            walks.next_rows >= 0,
            strict=True,
        )
        if known
    }
    for i in range(200):
        key = (
            drawn.observations[i].tobytes(),
            int(drawn.actions[i, 0]),
            float(drawn.rewards[i, 0]),
            bool(drawn.terminals[i, 0]),
        )
        assert whole[key] == drawn.next_observations[i].tobytes()
    assert len({d.tobytes() for d in drawn.observations}) > 5


def test_rows_of_weight_zero_are_never_drawn_and_heavy_ones_often(
    walks: TransitionDataset,
) -> None:
    from rlcondense.integrations.d3rlpy.parts import PAIRS, TransitionBuffer

    data = _subset(walks, GRID, 10)
    weights = np.array([0, 3, 1, 0, 0, 0, 0, 0, 0, 0], np.float32)
    data = replace(data, weights=weights, actions=np.arange(10) % 4)
    drawn = TransitionBuffer(data, GRID, PAIRS, np.random.default_rng(0))
    actions = drawn.sample_transition_batch(4000).actions[:, 0]
    assert np.bincount(actions.astype(int)) / 4000 == pytest.approx([0, 0.75, 0.25], abs=0.03)


def test_transitions_whose_successor_nobody_knows_are_left_out(walks: TransitionDataset) -> None:
    from rlcondense.integrations.d3rlpy.parts import PAIRS, TRANSITIONS, TransitionBuffer

    cut = np.flatnonzero(walks.column("truncations"))[:1]
    rows = np.append(cut, [0, 1])
    known = _everything(walks, GRID)
    assert known.next_rows is not None
    assert known.next_rows[cut] == -1
    picked = replace(
        known,
        **{name: column[rows] for name, column in known.columns().items()},
        weights=np.ones(3, np.float32),
        source_indices=None,
        next_rows=np.array([-1, 2, -1]),
    )
    rng = np.random.default_rng(0)
    assert TransitionBuffer(picked, GRID, TRANSITIONS, rng).transition_count == 1
    assert TransitionBuffer(picked, GRID, PAIRS, rng).transition_count == 3
    with pytest.raises(RLCondenseError, match="no transition has a known next"):
        TransitionBuffer(replace(picked, next_rows=np.full(3, -1)), GRID, TRANSITIONS, rng)


class _OneAtATime(gymnasium.Env[Any, Any]):
    """A vector environment of one as a plain one, as d3rlpy's evaluator wants it."""

    def __init__(self, task: Task, split: str) -> None:
        self.envs = task.make_vec(split, 1, seed=0)
        self.action_space = task.action_space
        self.observation_space = task.observation_space
        self._first, self._next = True, None

    def reset(self, **_: Any) -> Any:
        if self._first:
            self._first, (self._next, _infos) = False, self.envs.reset(seed=0)
        return self._next[0].copy(), {}

    def step(self, action: Any) -> Any:
        self._next, rewards, ended, cut, _ = self.envs.step(np.array([action]))
        return self._next[0].copy(), float(rewards[0]), bool(ended[0]), bool(cut[0]), {}


def test_our_evaluator_and_d3rlpys_agree_level_by_level(
    tiny: TransitionDataset, task: Task
) -> None:
    from d3rlpy.metrics import evaluate_qlearning_with_environment

    learner = make_learner("dqn", network="cnn4", updates=10, batch_size=16)
    policies = learner.fit(_everything(tiny, task), task=task, seeds=[0])
    ours = evaluate(policies, task, "heldout", protocol=Protocol(1, 6, 0))
    [algorithm] = policies.algorithms  # type: ignore[attr-defined]
    theirs = evaluate_qlearning_with_environment(algorithm, _OneAtATime(task, "heldout"), 6)
    assert ours.returns.mean() == pytest.approx(theirs)


def test_a_decision_transformer_plays_as_d3rlpys_own_wrapper_does(
    walks: TransitionDataset,
) -> None:
    from d3rlpy.algos import GreedyTransformerActionSampler
    from d3rlpy.metrics import evaluate_transformer_with_environment

    settings = {**SOLVERS["discrete-decision-transformer"], "updates": 100, "target_return": 0.7}
    learner = make_learner("discrete-decision-transformer", **settings)
    policies = learner.fit(_everything(walks, GRID), task=GRID, seeds=[0])
    ours = evaluate(policies, GRID, "heldout", protocol=Protocol(1, 12, 0))
    wrapper = policies.algorithms[0].as_stateful_wrapper(0.7, GreedyTransformerActionSampler())  # type: ignore[attr-defined]
    theirs = evaluate_transformer_with_environment(wrapper, _OneAtATime(GRID, "heldout"), 12)
    assert ours.returns.mean() == pytest.approx(theirs)
    assert len(np.unique(ours.returns)) > 2
    together = evaluate(policies, GRID, "heldout", protocol=Protocol(7, 3, 0))
    alone = evaluate(policies, GRID, "heldout", protocol=Protocol(7, 1, 0))
    assert np.array_equal(together.returns.reshape(7, 3)[:, 0], alone.returns[0])


def test_the_target_return_is_the_best_of_the_data_unless_given(walks: TransitionDataset) -> None:
    quick = {"updates": 1, "network": "mlp", "width": 8, "num_heads": 2, "num_layers": 1}
    data = _everything(walks, GRID)
    best = make_learner("discrete-decision-transformer", **quick).fit(data, task=GRID, seeds=[0])
    assert best.target_return == pytest.approx(walks.episode_returns().max())  # type: ignore[attr-defined]
    with pytest.raises(BadConfig, match=r"max_timestep 5, but an episode has \d+ steps"):
        make_learner("discrete-decision-transformer", **quick, max_timestep=5).fit(
            data, task=GRID, seeds=[0]
        )


@pytest.mark.parametrize("network", ["cnn4", "nature", "impala", "mlp"])
def test_encoders_are_our_networks(network: str) -> None:
    from rlcondense.integrations.d3rlpy.parts import NetworkFactory

    def count(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    whole = PolicyNetwork(NetworkSpec(network, (3, 64, 64), 15))
    encoder = NetworkFactory(network).create((3, 64, 64))
    assert count(encoder) == count(whole) - count(whole.head)
    widened = NetworkFactory(network).create_with_action((3, 64, 64), 2)
    features = whole.num_features
    assert count(widened) == count(encoder) + (features + 2) * features + features
    # d3rlpy serialises its configs, and finds the factory by its type.
    assert NetworkFactory.deserialize(NetworkFactory(network).serialize()).network == network


def test_settings_reach_d3rlpy_and_bad_ones_are_one_clear_error(walks: TransitionDataset) -> None:
    data = _subset(walks, GRID, 20)
    learner = make_learner("discrete-cql", alpha="3.5", gamma="0.5", updates=1, network="mlp")
    [algorithm] = learner.fit(data, task=GRID, seeds=[0]).algorithms  # type: ignore[attr-defined]
    assert (algorithm.config.alpha, algorithm.config.gamma) == (3.5, 0.5)
    assert algorithm.config.batch_size == 64
    wrong: Sequence[tuple[str, dict[str, Any], str]] = [
        ("dqn", {"alfa": 1}, "no setting 'alfa'"),
        ("dqn", {"updates": 0}, "updates must be above 0"),
        ("sac", {"temp_learning_rate": -1}, "temp_learning_rate must be above 0"),
        ("dqn", {"network": "natur"}, "did you mean 'nature'"),
        ("dqn", {"action_selection": "sample"}, "no setting 'action_selection'"),
        ("discrete-sac", {"action_selection": "best"}, "must be one of sample, greedy"),
        ("discrete-sac", {"initial_temperature": 0}, "initial_temperature must be above 0"),
        ("discrete-bcq", {"action_flexibility": 0}, "action_flexibility must be above 0"),
        ("bear", {"n_target_samples": 0}, "n_target_samples must be above 0"),
        ("bear", {"n_mmd_action_samples": 0}, "n_mmd_action_samples must be above 0"),
        ("dqn", {"gamma": 3}, r"gamma must lie in \[0, 1\]"),
        ("sac", {"tau": -1}, r"tau must lie in \[0, 1\]"),
        ("discrete-decision-transformer", {"activation_type": "geglu"}, "activation_type must be"),
    ]
    for id_, settings, message in wrong:
        with pytest.raises(RLCondenseError, match=message):
            make_learner(id_, **settings)
    box = _everything(sample_box_data(), SampleBoxTask())
    with pytest.raises(BadConfig, match="policy_type must be one of"):
        make_learner("d3rlpy-bc", policy_type="odd").fit(box, task=SampleBoxTask(), seeds=[0])


@pytest.mark.parametrize("id_", ["discrete-sac", "discrete-bc"])
def test_divergence_is_one_clear_error(id_: str, walks: TransitionDataset) -> None:
    rates = {"discrete-sac": ("actor_learning_rate", "critic_learning_rate")}
    huge = dict.fromkeys(rates.get(id_, ("learning_rate",)), 1e11)
    learner = make_learner(id_, **MLP, **huge, updates=20)
    with pytest.raises(RLCondenseError, match=f"^learner '{id_}' diverged with seed 3 .try a sm"):
        learner.fit(_subset(walks, GRID, 50), task=GRID, seeds=[3])


def test_what_a_decision_transformer_cannot_be_is_said(walks: TransitionDataset) -> None:
    data = _everything(walks, GRID)
    learner = make_learner("discrete-decision-transformer", **MLP, num_heads=3, updates=1)
    with pytest.raises(BadConfig, match="64 features cannot be shared by 3 heads"):
        learner.fit(data, task=GRID, seeds=[0])
    uneven = replace(data, weights=np.linspace(1, 2, len(data)).astype(np.float32))
    learner = make_learner("discrete-decision-transformer", **MLP, updates=1)
    with pytest.raises(RLCondenseError, match="takes no weights"):
        learner.fit(uneven, task=GRID, seeds=[0])


def test_a_decision_transformer_needs_episodes_from_their_first_step(
    walks: TransitionDataset,
) -> None:
    """d3rlpy counts an episode's steps from the first row that it gets; students play from 1."""
    data = _everything(walks, GRID)
    late = replace(data, steps=data.column("steps") + 1)
    assert late.whole_episodes is not None
    learner = make_learner("discrete-decision-transformer", **MLP, updates=1)
    with pytest.raises(BadConfig, match="needs episodes from their first step on"):
        learner.fit(late, task=GRID, seeds=[0])


@pytest.mark.parametrize("id_", ["cal-ql", "rebrac", "prdc", "cql"])
def test_episodes_cut_off_after_one_step_teach_nothing_of_what_follows(
    id_: str, reaches: TransitionDataset
) -> None:
    first = [rows[0] for rows in reaches.episodes[:6]]
    data = CondensedDataset(
        observations=reaches.observations[first], actions=reaches.actions[first],
        rewards=reaches.column("rewards")[first], weights=np.ones(6, np.float32),
        terminations=np.zeros(6, bool), truncations=np.ones(6, bool),
        episode_ids=np.arange(6), steps=np.zeros(6, np.int64),
        next_rows=np.full(6, -1), label_kind="continuous",
    )  # fmt: skip
    with pytest.raises(RLCondenseError, match="no transition has a known next observation"):
        make_learner(id_, updates=1).fit(data, task=REACH, seeds=[0])


def test_what_data_lack_is_said_and_any_seed_is_taken(walks: TransitionDataset) -> None:
    data = _subset(walks, GRID, 20)
    pairs = CondensedDataset(
        observations=data.observations, actions=data.actions, weights=data.weights
    )
    for id_ in ("dqn", "discrete-decision-transformer"):
        with pytest.raises(BadConfig, match=f"learner '{id_}' needs .*rewards"):
            make_learner(id_, **MLP, updates=1).fit(pairs, task=GRID, seeds=[0])
    learner = make_learner("discrete-bc", **MLP, updates=1)
    seeds = [0, 2**32, 2**32 + 1, 2**32]
    probs = learner.fit(pairs, task=GRID, seeds=seeds).action_probs(
        np.repeat(pairs.observations[:1], 4, axis=0), np.arange(4)
    )
    assert np.array_equal(probs[1], probs[3])
    assert len(np.unique(probs, axis=0)) == 3


class _Square(Reach):
    """The same with actions in a square of numbers, `(1, 2)`."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(-0.5, 0.5, (1, 2), np.float32)

    def move(self, state: Any, actions: Any) -> Any:
        return super().move(state, actions.reshape(len(state), 2))


@pytest.mark.parametrize("id_", ["d3rlpy-bc", "td3-plus-bc", "bcq", "cal-ql"])
def test_actions_of_two_dimensions_are_learned(id_: str, reaches: TransitionDataset) -> None:
    task = _Square()
    data = _everything(reaches, REACH)
    square = replace(data, actions=data.actions[:, None])
    policies = make_learner(id_, updates=2, width=8).fit(square, task=task, seeds=[0])
    actions = policies.act(np.zeros((3, 2), np.float32), np.zeros(3, int), np.zeros((3, 1, 2)))
    assert actions.shape == (3, 1, 2)


def test_a_decision_transformers_learning_rate_falls_over_its_updates(
    walks: TransitionDataset,
) -> None:
    settings = {**SOLVERS["discrete-decision-transformer"], "learning_rate": 1e-3}
    for updates in (20, 40):
        learner = make_learner("discrete-decision-transformer", **{**settings, "updates": updates})
        policies = learner.fit(_everything(walks, GRID), task=GRID, seeds=[0])
        optimiser = policies.algorithms[0].impl.modules.optim.optim  # type: ignore[attr-defined]
        assert optimiser.param_groups[0]["lr"] < 3e-4


def test_each_says_what_it_needs() -> None:
    def needs(id_: str, task: Task, provided: set[str]) -> str:
        return ", ".join(make_learner(id_).missing(provided, task))

    pairs = {"observations", "actions"}
    small: SmallTask = GRID
    assert needs("discrete-bc", small, pairs) == ""
    assert needs("dqn", small, pairs) == "rewards, next_observations, terminations"
    assert needs("iql", small, {*pairs, "rewards", "next_observations", "terminations"}) == (
        "continuous actions"
    )
    assert needs("bc", REACH, pairs) == ""
    assert needs("discrete-bc", REACH, pairs) == "discrete actions"
    assert needs("rebrac", REACH, {*pairs, "rewards", "next_observations", "terminations"}) == (
        "episodes"
    )


@pytest.mark.slow
def test_continuous_rows_stand_beside_continuous_reference_policies(
    reaches: TransitionDataset, tmp_path: Path
) -> None:
    learner = make_learner("td3-plus-bc", width=64, updates=600, update_actor_interval=1)
    bench = Bench(
        task=REACH,
        dataset=reaches,
        expert=None,
        learner=learner,
        seeds=(0, 1),
        protocol=Protocol(20, 2, 0),
        device="cpu",
        store=Store(tmp_path),
        refresh=False,
        progress=silent,
    )
    whole = Budget(percent=100.0)
    full = run_method(bench, make_method("full"), whole, 0).record
    some = run_method(bench, make_method("random"), Budget(size=100), 0).record
    policies = {n: run_policy(bench, n).record for n in ("random-policy", "marginal-policy")}
    assert full["report"]["label_kind"] == some["report"]["label_kind"] == "continuous"
    mean = {
        name: record["summary"]["heldout"]["mean"]
        for name, record in {"full": full, "random": some, **policies}.items()
    }
    assert mean["full"] > mean["random-policy"] + 0.3
    assert mean["full"] > mean["marginal-policy"] + 0.3
    skipped = run_method(
        replace(bench, learner=make_learner("discrete-bc")), make_method("full"), whole, 0
    )
    assert skipped.record["reason"] == "needs discrete actions"
    text = run_table([some], [full, *policies.values()])
    assert "td3-plus-bc (mlp)" in text
    assert "\nmarginal-policy" in text
