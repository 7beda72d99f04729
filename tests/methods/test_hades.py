from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gymnasium.vector import VectorWrapper

from rlcondense.cli import main
from rlcondense.cloning import gaussian_losses, row_losses
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.evaluation import evaluate
from rlcondense.evolution.loop import Arena
from rlcondense.learners.bc import BehaviouralCloning
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.methods.base import Problem
from rlcondense.networks import NetworkSpec, fresh_from, standardised
from rlcondense.policies import head_of, network_from_arrays
from rlcondense.policies.stacked_mlps import PlayResult, Population, cloned, play
from rlcondense.protocol import protocol_of
from rlcondense.running.runner import run
from rlcondense.runtime import checkpoint as checkpoints
from rlcondense.runtime.progress import RESUMED, silent
from rlcondense.submissions.verification import verify
from rlcondense.tasks.base import Task
from tests import small_tasks
from tests.small_tasks import Gridworld

SMALL = {
    "population": 4, "generations": 3, "width": 8, "inner_updates": 5, "inner_rate": 0.02,
    "sigma": 0.3, "episodes": 2, "horizon": 30,
}  # fmt: skip
METHODS = ["hades-f", "hades-r"]


@pytest.fixture(scope="module")
def cartpole() -> Task:
    return make_task("cartpole")


class Counting(VectorWrapper):
    """Counts every step of every environment, of those that may rest too unless told so."""

    steps = 0

    def step(self, actions: Any) -> Any:
        self.steps += self.num_envs
        return super().step(actions)


class Resting(Counting):
    """Counts the steps of environments that do not rest."""

    resting = 0

    def rest(self, resting: Any) -> None:
        self.resting = int(resting.sum())
        self.env.rest(resting)  # type: ignore[attr-defined]

    def step(self, actions: Any) -> Any:
        self.steps -= self.resting
        return super().step(actions)


class Counted(Task):
    """A task whose environments count their steps."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.id, self.score_range, self.random_return = task.id, None, {}
        self.made: list[Counting] = []

    @property
    def observation_space(self) -> Any:
        return self._task.observation_space

    @property
    def action_space(self) -> Any:
        return self._task.action_space

    @property
    def splits(self) -> Any:
        return self._task.splits

    def make_vec(self, split: str, num_envs: int, **kwargs: Any) -> Any:
        assert split == "seen"
        self.made.append(Counting(self._task.make_vec(split, num_envs, **kwargs)))
        return self.made[-1]


def condense(method: str, task: Task, size: int = 4, **settings: Any) -> CondensedDataset:
    return make_method(method, **{**SMALL, **settings}).condense(None, task=task, budget=size)


@pytest.mark.parametrize("method", METHODS)
def test_initial_weights_are_new_in_every_generation_of_one_method_and_fixed_in_the_other(
    method: str, cartpole: Task
) -> None:
    made: Any = make_method(method, **SMALL)
    problem = Problem(None, cartpole, Budget(size=4), None, 0, "cpu", silent)  # type: ignore[arg-type]
    spec = NetworkSpec("mlp", (4,), 2, width=8)
    first, again, later = (made.drawn(problem, spec, generation) for generation in (0, 0, 1))
    weights = [next(one[0].parameters()) for one in (first, again, later)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2]) == (method == "hades-f")


@pytest.mark.parametrize("strategy", ["openes", "snes"])
@pytest.mark.parametrize("method", METHODS)
def test_every_step_is_paid_for(method: str, strategy: str, cartpole: Task) -> None:
    task = Counted(cartpole)
    data = condense(method, task, strategy=strategy)
    assert data.report is not None
    counted = sum(env.steps for env in task.made)
    assert data.report.cost.environment_steps == counted > 4 * 3 * 2 * 5
    started = 2 if method == "hades-r" else 1
    assert data.report.cost.gradient_evaluations == 3 * 4 * started * 5 * 4


@pytest.mark.parametrize("method", METHODS)
def test_policies_that_see_standardised_states_bring_what_was_measured_for_them(
    method: str, cartpole: Task
) -> None:
    """By a policy that acts at random, whose steps are paid for; states evolve from the mean."""
    task = Counted(cartpole)
    small = {"preset": "quick", **SMALL, "sigma": 1e-3, "learning_rate": 1e-6}
    made = make_method(method, **small, standardise=True)
    data = made.condense(None, task=task, budget=4)
    assert data.report is not None
    assert data.scaling is not None
    assert data.report.cost.environment_steps == sum(env.steps for env in task.made)
    assert task.made[0].num_envs == 64
    assert np.allclose(data.observations, data.scaling.mean, atol=1e-3)
    assert np.abs(data.scaling.mean).max() < 0.2
    assert np.all((data.scaling.deviation > 0.03) & (data.scaling.deviation < 1.2))
    assert data.report.bytes - (data.report.initialisation_bytes or 0) == 4 * (16 + 8 + 4 + 8)
    assert made.students(cartpole)["standardise"]
    other = make_method(method, **small).condense(None, task=cartpole, budget=4)
    assert other.scaling is None


def test_one_generation_follows_a_measurement_of_more_than_the_most_steps(cartpole: Task) -> None:
    data = condense("hades-f", cartpole, most_steps=5, standardise=True)
    assert data.report is not None
    assert len((data.report.curve or {})["steps"]) == 1


@pytest.mark.parametrize(("size", "counts"), [(4, [2, 2]), (5, [3, 2]), (1, [1])])
def test_labels_are_fixed_and_balanced(size: int, counts: list[int], cartpole: Task) -> None:
    data = condense("hades-r", cartpole, size)
    assert np.bincount(data.actions).tolist() == counts
    assert data.observations.shape == (size, 4)
    assert data.observations.dtype == np.float32
    assert np.abs(data.observations).min() > 0  # nothing stayed at zero


@pytest.mark.parametrize("method", METHODS)
def test_continuous_actions_are_learned_within_their_bounds(method: str) -> None:
    task = make_task("pendulum")
    data = condense(method, task, 3, sigma=3.0)
    assert data.label_kind == "continuous"
    assert data.actions.shape == (3, 1)
    assert data.actions.dtype == np.float32
    assert 0 < np.abs(data.actions).max() <= 2
    policies = BehaviouralCloning(students(method, task)).fit(data, task=task, seeds=[0])
    acted = policies.act(data.observations, np.zeros(3, int), np.full((3, 1), 0.5))
    assert acted.shape == (3, 1)
    assert np.abs(acted).max() <= 2


def test_frames_stay_pictures() -> None:
    task = Gridworld()
    for more in ({}, {"normalise": True}):
        data = condense("hades-f", task, 6, sigma=2.0, **more)
        assert data.observations.shape == (6, 3, 12, 12)
        assert data.observations.min() >= 0
        assert 0 < data.observations.max() <= 255
        policies = BehaviouralCloning(students("hades-f", task)).fit(data, task=task, seeds=[0])
        assert np.isfinite(evaluate(policies, task, protocol=protocol_of(2)).returns).all()


def students(method: str, task: Task, **settings: Any) -> Any:
    made = make_method(method, **{**SMALL, **settings})
    return make_learner("bc", **made.students(task)).config


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
@pytest.mark.parametrize("standardise", [False, True])
def test_a_student_is_trained_as_the_population_was(standardise: bool, name: str) -> None:
    """The same start, rows, updates and clipping: the very network whose fitness was measured."""
    task = make_task(name)
    settings = {"inner_clip": 0.3, "inner_updates": 20, "standardise": standardise}
    data = condense("hades-f", task, **settings)
    assert (data.scaling is not None) == standardise
    bc = BehaviouralCloning(students("hades-f", task, **settings))
    [student] = bc.fit(data, task=task, seeds=[5]).networks
    assert data.initialisation is not None
    spec = student.spec
    begun = Population.of([network_from_arrays(spec, data.initialisation.weights, "")])
    x = standardised(torch.from_numpy(data.observations)[None], data.scaling)
    y, losses = torch.from_numpy(data.actions)[None], gaussian_losses
    if name == "cartpole":
        y, losses = torch.eye(2)[y], row_losses
    made = cloned(begun, x, y, losses, updates=20, learning_rate=0.02, clip=0.3)
    made = made.folded(data.scaling)
    for own, other in zip(student.parameters(), made.network(0).parameters(), strict=True):
        assert torch.allclose(own, other, atol=2e-5, rtol=1e-4)
    assert not torch.equal(student.head.weight, begun.network(0).head.weight)


def test_students_of_hades_f_start_alike_and_those_of_hades_r_do_not(cartpole: Task) -> None:
    for method, alike in (("hades-f", True), ("hades-r", False)):
        data = condense(method, cartpole)
        bc = BehaviouralCloning(students(method, cartpole))
        a, b = bc.fit(data, task=cartpole, seeds=[0, 1]).networks
        assert torch.equal(a.head.weight, b.head.weight) == alike


def test_an_initialisation_of_another_network_is_refused(cartpole: Task) -> None:
    data = condense("hades-f", cartpole)
    settings = {**make_method("hades-f", **SMALL).students(cartpole), "width": 9}
    with pytest.raises(BadConfig, match="init=random"):
        make_learner("bc", **settings).fit(data, task=cartpole, seeds=[0])
    made = make_learner("bc", **{**settings, "init": "random"})
    assert made.fit(data, task=cartpole, seeds=[0]).networks[0].spec.width == 9


def test_what_is_saved_comes_back_with_its_initialisation(cartpole: Task, tmp_path: Path) -> None:
    data = condense("hades-f", cartpole)
    data.save(tmp_path)
    again = load_condensed(tmp_path)
    assert again.sha256 == data.sha256
    assert again.report == data.report
    assert data.initialisation is not None
    assert again.initialisation is not None
    assert again.initialisation.network == {
        **data.initialisation.network, "observation_shape": [4],
    }  # fmt: skip
    for name, weights in data.initialisation.weights.items():
        assert np.array_equal(again.initialisation.weights[name], weights)
    kept = data.observations.nbytes + data.actions.nbytes + data.weights.nbytes
    assert data.report is not None
    assert data.report.initialisation_bytes == 4 * (4 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2)
    assert data.report.bytes == kept + data.report.initialisation_bytes


@pytest.mark.parametrize("method", METHODS)
def test_another_seed_gives_another_dataset(method: str, cartpole: Task) -> None:
    made = make_method(method, **SMALL)
    first, other = (made.condense(None, task=cartpole, budget=4, seed=seed) for seed in (0, 1))
    assert first.sha256 != other.sha256


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("strategy", "scaled"),
    [("openes", "normalise"), ("snes", "normalise"), ("openes", "standardise")],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_same_bytes(
    method: str,
    strategy: str,
    scaled: str,
    cartpole: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    made = make_method(method, **{**SMALL, "strategy": strategy, scaled: True})
    path = tmp_path / "unfinished.safetensors"

    def go(checkpoint: Path | None, kill_at: int) -> tuple[CondensedDataset, list[Any]]:
        said: list[Any] = []

        def progress(phase: str, done: int, total: int, note: str = "") -> None:
            said.append((done, note))
            if done == kill_at:
                raise _Killed

        return made.condense(
            None, task=cartpole, budget=4, checkpoint=checkpoint, progress=progress
        ), said

    whole, _ = go(None, 0)
    with pytest.raises(_Killed):
        go(path, 2)
    assert path.exists()
    resumed, said = go(path, 0)
    assert said[0] == (1, RESUMED)
    assert said[1][0] == 2  # the second generation was tried, and nobody was told
    assert resumed.sha256 == whole.sha256
    assert resumed.report is not None
    assert whole.report is not None
    curves = (json.dumps(dict(report.curve or {})) for report in (resumed.report, whole.report))
    assert next(curves) == next(curves)  # a record's checksum tells 5.0 from 5
    paid = resumed.report.cost, whole.report.cost
    assert paid[0].environment_steps == paid[1].environment_steps
    assert paid[0].gradient_evaluations == paid[1].gradient_evaluations


def test_the_curve_is_reported(cartpole: Task) -> None:
    data = condense("hades-f", cartpole, generations=120, population=2, episodes=1, horizon=5)
    assert data.report is not None
    assert data.report.curve is not None
    steps, best, mean = (data.report.curve[name] for name in ("steps", "best", "mean"))
    assert len(steps) == 100
    assert steps[-1] == data.report.cost.environment_steps == 120 * 2 * 5
    assert all(low <= high for low, high in zip(mean, best, strict=True))
    assert best[-1] == 5
    grid = Gridworld()
    source = small_tasks.play(grid, grid.shortest, 40, noise=0.1)
    other = make_method("random").condense(source, task=grid, budget=3)
    assert other.report is not None
    assert "curve" not in other.report.to_json()


def test_progress_says_best_and_mean(cartpole: Task) -> None:
    said: list[str] = []
    make_method("hades-f", **SMALL).condense(
        None,
        task=cartpole,
        budget=2,
        progress=lambda phase, done, total, note="": said.append(f"{phase} {done}/{total} {note}"),
    )
    assert len(said) == 3
    assert said[0].startswith("condense 1/3 best ")
    assert "mean" in said[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"population": 5},
        {"strategy": "cma"},
        {"sigma": 0},
        {"action_selection": "best"},
        {"momentum": 1.0},
        {"momentum": 0.5, "strategy": "snes"},
        {"temperature": 20.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=next(iter(settings))):
        make_method("hades-f", **settings)


def test_a_percentage_is_of_no_data(cartpole: Task) -> None:
    with pytest.raises(BadConfig, match="give a size"):
        make_method("hades-f", **SMALL).condense(None, task=cartpole, budget=Budget(percent=10.0))


def test_presets_are_settings_that_others_go_over() -> None:
    quick = make_method("hades-r", preset="quick", generations=7).config
    assert (quick.population, quick.generations) == (64, 7)
    minatar = make_method("hades-f", preset="minatar").config
    assert (minatar.strategy, minatar.inner_clip, minatar.population) == ("snes", None, 2048)
    with pytest.raises(BadConfig, match=r"no preset 'fast' \(known: minatar, paper, quick"):
        make_method("hades-f", preset="fast")
    with pytest.raises(BadConfig, match="no preset"):
        make_method("random", preset="quick")


@pytest.mark.parametrize("shape", [(5,), (2, 4, 4)])
@pytest.mark.parametrize(("activation", "head"), [("relu", "categorical"), ("tanh", "gaussian")])
def test_a_population_acts_as_its_networks_do(
    shape: tuple[int, ...], activation: str, head: str
) -> None:
    spec = NetworkSpec("mlp", shape, 3, width=7, depth=3, activation=activation, head=head)
    networks = [fresh_from(spec, "cpu", seed) for seed in range(2)]
    if head == "gaussian":
        for i, network in enumerate(networks):
            torch.nn.init.constant_(network.log_std, -0.1 * i)
    population = Population.of(networks, 2)
    x = 255 * torch.rand(4, 6, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = population(x)
        for i in range(4):
            assert torch.allclose(outputs[i], networks[i % 2](x[i]), atol=1e-5)
            assert torch.allclose(population.network(i)(x[i]), outputs[i], atol=1e-5)


def test_only_the_first_episode_counts(cartpole: Task) -> None:
    """Random policies fall at different times; each return is the length of a first episode."""
    spec = NetworkSpec("mlp", (4,), 2, width=4, depth=1)
    population = Population.of([fresh_from(spec, "cpu", seed) for seed in range(3)])
    env = Counting(cartpole.make_vec("seen", 6, seed=0))
    ends = []

    class Watch(VectorWrapper):
        def step(self, actions: Any) -> Any:
            found = super().step(actions)
            ends.append(found[2] | found[3])
            return found

    rng = np.random.default_rng(0)
    played = play(population, Watch(env), seed=3, rng=rng, horizon=500)
    first = np.stack(ends).argmax(0) + 1
    assert played.returns.ravel().tolist() == first.tolist()
    assert played.steps == env.steps == 6 * first.max()
    short = play(population, env, seed=3, rng=np.random.default_rng(0), horizon=9)
    assert short.steps == 54
    assert (short.returns <= 9).all()


@pytest.mark.parametrize("task_id", ["cartpole", "breakout", "hopper"])
def test_who_has_finished_rests_and_nothing_else_changes(task_id: str) -> None:
    if task_id == "hopper":
        pytest.importorskip("mujoco")
    task = make_task(task_id)
    outputs, head = head_of(task.action_space)
    spec = NetworkSpec("mlp", task.observation_space.shape or (), outputs, width=4, head=head)
    population = Population.of([fresh_from(spec, "cpu", seed) for seed in range(3)])

    def played(make: type[Counting]) -> tuple[PlayResult, int]:
        env = make(task.make_vec("seen", 30, seed=0))
        found = play(population, env, seed=3, rng=np.random.default_rng(0), horizon=1000)
        return found, env.steps

    (awake, all_steps), (rested, steps) = played(Counting), played(Resting)
    assert np.array_equal(rested.returns, awake.returns)
    assert (awake.steps, rested.steps) == (all_steps, steps)
    assert steps < all_steps
    if task_id == "cartpole":
        assert steps == rested.returns.sum()


def test_no_generation_follows_one_that_reaches_the_most_steps(cartpole: Task) -> None:
    data = condense("hades-f", cartpole, generations=50, population=2, episodes=1, most_steps=60)
    assert data.report is not None
    steps = (data.report.curve or {})["steps"]
    assert steps[-2] < 60 <= steps[-1] == data.report.cost.environment_steps
    assert data.report.cost.gradient_evaluations == len(steps) * 2 * 5 * 4


@pytest.mark.parametrize("method", METHODS)
def test_held_out_levels_are_out_of_reach(method: str, cartpole: Task) -> None:
    seen_only = cartpole.seen_only()
    with pytest.raises(RLCondenseError, match="seen"):
        seen_only.make_vec("heldout", 1, seed=0)
    levels: list[int] = []

    class Told(VectorWrapper):
        def reset(self, **kwargs: Any) -> Any:
            found = super().reset(**kwargs)
            levels.extend(found[1]["level_seed"])
            return found

        def step(self, actions: Any) -> Any:
            found = super().step(actions)
            levels.extend(found[4]["level_seed"])
            return found

    class Watched(Counted):
        def make_vec(self, split: str, num_envs: int, **kwargs: Any) -> Any:
            return Told(super().make_vec(split, num_envs, **kwargs))

    condense(method, Watched(cartpole))
    assert set(levels) <= set(cartpole.splits["seen"])
    assert len(set(levels)) > 5


def test_it_runs_without_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record says so, and stands beside the random policy alone."""
    from rlcondense.running import bench

    def none(task: Task) -> str:
        raise BadConfig("no dataset is shipped")

    monkeypatch.setattr(bench, "default_dataset", none)

    def go() -> Any:
        return run(
            "hades-f", "cartpole", size=4, seeds=2, episodes=2, settings=SMALL, device="cpu",
            results=tmp_path, progress=silent, condensations=1,
        )  # fmt: skip

    result = go()
    assert result.record["status"] == "done"
    assert result.record["cell"]["dataset"] == ""
    assert result.record["report"]["dataset"] is None
    assert result.record["report"]["cost"]["environment_steps"] > 0
    learner = result.record["cell"]["learner"]["config"]
    assert (learner["network"], learner["width"], learner["init"]) == ("mlp", 8, "dataset")
    names = [row["cell"]["method"]["id"] for row in result.references]
    assert "random-policy" in names
    assert not {"marginal-policy", "random", "full"} & set(names)
    assert go().reused == len(result.references) + 1
    with pytest.raises(BadConfig, match="no dataset is shipped"):
        run("random", "cartpole", size=4, results=tmp_path)


@pytest.mark.slow
def test_a_task_without_a_dataset_is_swept_verified_and_transferred(tmp_path: Path) -> None:
    """Cart-pole with a long pole has none."""
    runner, results = CliRunner(), str(tmp_path / "results")
    settings = ", ".join(f"{k} = {v}" for k, v in SMALL.items())
    suite = tmp_path / "long.toml"
    suite.write_text(
        f"""
        summary = "small"
        tasks = ["cartpole-long"]
        methods = [{{ id = "hades-r", config = {{ {settings} }} }}, {{ id = "hades-f", config = {{ {settings} }} }}]
        sizes = [2]
        condensation_seeds = 1
        learner_seeds = 2
        episodes = 2
        learners = [{{ id = "bc", config = {{ network = "mlp", width = 8, updates = 5, batch_size = "none" }} }}]
        """  # noqa: E501
    )
    done = runner.invoke(main, ["sweep", str(suite), "--results", results, "--workers", "1"])
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in (tmp_path / "results/records").iterdir()]
    assert sorted(r["cell"]["method"]["id"] for r in records) == [
        "hades-f", "hades-r", "random-policy"
    ]  # fmt: skip
    assert {r["status"] for r in records} == {"done"}
    # So few pairs and generations may end in policies that act alike.
    assert {f.check for f in verify(tmp_path / "results").findings} <= {"duplicate"}
    [kept, *_] = (tmp_path / "results/condensed").iterdir()
    transfer = [
        "transfer", "--task", "cartpole-long", "--seeds", "2", "--episodes", "2",
        "--learner", "bc:updates=5", "--learner", "bc:updates=3,width=4", "--results", results,
    ]  # fmt: skip
    done = runner.invoke(main, [*transfer, str(kept)])
    assert done.exit_code == 0, done.output
    assert "random-policy" in done.stdout
    refused = runner.invoke(main, [*transfer, "--method", "random"])
    assert refused.exit_code == 2
    assert "no dataset is shipped" in refused.stderr


@pytest.mark.slow
def test_its_records_can_be_published(tmp_path: Path) -> None:
    """With the reference rows of cart-pole's data, trained as its own students are."""
    result = run(
        "hades-f", "cartpole", size=4, seeds=2, episodes=20, settings=SMALL, device="cpu",
        results=tmp_path, progress=silent, condensations=1,
    )  # fmt: skip
    names = [row["cell"]["method"]["id"] for row in result.references]
    assert {"random", "full", "marginal-policy", "expert"} <= set(names)
    [random] = [row for row in result.references if row["cell"]["method"]["id"] == "random"]
    assert random["cell"]["learner"] == result.record["cell"]["learner"]
    assert result.record["report"]["task"] == "classic/cartpole-v0"
    assert f"{result.record['report']['cost']['environment_steps']:,} environment steps" in str(
        result
    )
    found = verify(tmp_path)
    assert found.ok, [str(finding) for finding in found.findings]


@pytest.mark.slow
def test_four_pairs_teach_cartpole_something(cartpole: Task) -> None:
    """Seconds, and far from what a minute does: the random policy returns 22."""
    settings = {"preset": "quick", "generations": 12, "population": 32, "width": 16}
    method = make_method("hades-f", **settings)
    data = method.condense(None, task=cartpole, budget=4, seed=0)
    bc = make_learner("bc", **method.students(cartpole))
    policies = bc.fit(data, task=cartpole, seeds=[0])
    assert evaluate(policies, cartpole, protocol=protocol_of(20)).returns.mean() > 60


@pytest.fixture
def two_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_four_pairs_balance_the_pole(cartpole: Task, two_cores: None) -> None:
    """What the README says: hades-f to 490 from its start, hades-r ten others to 450."""
    returns = {}
    for method in METHODS:
        made = make_method(method, preset="quick")
        data = made.condense(None, task=cartpole, budget=4, seed=0)
        bc = make_learner("bc", **made.students(cartpole))
        policies = bc.fit(data, task=cartpole, seeds=range(10))
        returns[method] = evaluate(policies, cartpole).returns.mean()
    assert returns["hades-f"] >= 490
    assert returns["hades-r"] >= 450


def test_a_policy_that_has_diverged_has_no_return(cartpole: Task) -> None:
    spec = NetworkSpec("mlp", (4,), 2, width=8, depth=1)
    population = Population.of([fresh_from(spec, "cpu", seed) for seed in range(3)])
    population.weights[0][1, 0, 0] = torch.nan
    with Arena(cartpole, 2, 20, True) as arena:
        returns = arena.returns(population, np.random.default_rng(0))
    assert np.isnan(returns).all(1).tolist() == [False, True, False]
