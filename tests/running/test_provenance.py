"""Where data and experts come from, and who is told."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import rlcondense as rlc
from rlcondense.cli import main
from rlcondense.comparison.tables import suite_table
from rlcondense.datasets.detectors import provenance
from rlcondense.datasets.transitions import Origin, TransitionDataset
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.evaluation import evaluate
from rlcondense.learners.base import Learner
from rlcondense.make import make_method, make_task
from rlcondense.policies import FixedPolicies, PolicyBatch
from rlcondense.protocol import protocol_of
from rlcondense.records.cell import Cell
from rlcondense.records.schema import what_is_wrong
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.running.executors.base import Event, Setting
from rlcondense.running.executors.local import LocalExecutor
from rlcondense.running.executors.worker import Cells
from rlcondense.running.runner import RunResult, run
from rlcondense.running.suite import suite_from
from rlcondense.running.sweep import sweep
from tests.datasets.minari_data import create, episode

DATA = "tests/origin-v0"
QUICK: dict[str, Any] = {
    "seeds": 2,
    "episodes": 2,
    "learner_settings": {"updates": 2, "batch_size": 512, "width": 8},
}


def quick(results: Path, task: str = "cartpole", **options: Any) -> RunResult:
    return run("random", task, size=5, results=results, **{"dataset": DATA, **QUICK, **options})


def names(record: dict[str, Any]) -> set[str]:
    found = {finding["name"] for finding in record.get("findings", ())}
    return found & {"another-task", "another-expert", "heldout-data", "lossy-frames"}


def heldout_by_infos() -> None:
    create(DATA, [episode(infos={"level_seed": np.full(10, 10_500)}), episode(infos={
        "level_seed": np.full(10, 7)})])  # fmt: skip


def heldout_by_reset_seed() -> None:
    create(DATA, [episode(seed=3), episode(seed=10_500)], env=gymnasium.make("CartPole-v1"))


def heldout_by_split() -> None:
    env = gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="heldout")
    create(DATA, [episode(seed=3), episode(5, seed=4)], env=env)


def heldout_by_its_other_name() -> None:
    env = gymnasium.make("rlcondense.tasks:classic/cartpole-v0", split="held-out")
    create(DATA, [episode(seed=3), episode(5, seed=4)], env=env)


@pytest.mark.parametrize(
    "made",
    [heldout_by_infos, heldout_by_reset_seed, heldout_by_split, heldout_by_its_other_name],
)
def test_data_of_heldout_levels_are_refused_unless_asked_for(made: Any, tmp_path: Path) -> None:
    made()
    with pytest.raises(BadConfig, match=f"dataset '{DATA}' was collected on held-out levels"):
        quick(tmp_path)
    result = quick(tmp_path, heldout_data=True)
    title = str(result).splitlines()[0]
    assert f"{DATA} (heldout data)" in title
    assert "! random: heldout data: " in str(result)
    for record in (result.record, *result.references):
        blind = record["cell"]["method"]["id"] in ("random-policy", "expert")
        assert names(record) == (set() if blind else {"heldout-data"})
        assert what_is_wrong(record) is None


def test_the_command_line_asks_for_heldout_data(tmp_path: Path) -> None:
    heldout_by_infos()
    command = ["run", "--method", "random", "--task", "cartpole", "--dataset", DATA, "--size", "5",
               "--seeds", "2", "--episodes", "2", "--set", "learner.updates=2",
               "--set", "learner.batch_size=512", "--set", "learner.width=8",
               "--results", str(tmp_path)]  # fmt: skip
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "--heldout-data, or heldout_data = true in a suite, takes it" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    taken = CliRunner().invoke(main, [*command, "--heldout-data"])
    assert taken.exit_code == 0
    assert "10 of 20 rows are of held-out levels" in taken.stdout
    condensed = ["condense", *command[1:11], "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, condensed[:-4] + condensed[-2:]).exit_code == 2


class Here(LocalExecutor):
    """Computes cells in this process, with the settings that a worker would be sent."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.ended: list[Event] = []

    def begin(
        self, cell: Cell, *, refreshed: bool, seen: tuple[int, ...], is_reference: bool = False
    ) -> None:
        order = {
            "cell": cell.to_json(), "refresh": False, "refreshed": refreshed, "seen": seen,
            "is_reference": is_reference,
        }  # fmt: skip
        answer = Cells(self._greeting()).compute(order, lambda text: None)
        self.ended.append(Event(cell.id, "done", text=answer["reason"], status=answer["status"]))

    def events(self, timeout: float) -> list[Event]:
        out, self.ended = self.ended, []
        return out


def test_a_suite_asks_for_heldout_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heldout_by_infos()
    monkeypatch.setattr(
        "rlcondense.running.sweep.executor_of",
        lambda name, setting, **_: contextlib.nullcontext(Here(setting)),
    )
    values = {
        "tasks": ["cartpole"], "datasets": [DATA], "methods": ["random"], "sizes": [5],
        "learners": [{"id": "bc", "config": {"updates": 2}}], "learner_seeds": 2, "episodes": 2,
        "references": False,
    }  # fmt: skip
    [refused] = sweep(suite_from("mine", values), results=tmp_path).rows()
    assert (refused["status"], "\n" in refused["reason"]) == ("failed", False)
    assert "heldout_data = true in a suite" in refused["reason"]
    taken = sweep(suite_from("mine", {**values, "heldout_data": True}), results=tmp_path)
    assert taken.counts() == {"done": 1}
    table = suite_table(taken.rows())
    assert "heldout data] " in table  # the mark of the row
    assert "[heldout data]: the data hold held-out levels" in table


def test_a_method_refuses_them_too() -> None:
    heldout_by_infos()
    data, task = rlc.load_dataset(DATA), make_task("cartpole")
    with pytest.raises(BadConfig, match="held-out levels"):
        make_method("random").condense(data, task=task, budget=5)
    data = rlc.load_dataset(DATA, heldout_data=True)
    assert len(make_method("random").condense(data, task=task, budget=5)) == 5


def test_a_condensed_set_of_heldout_levels_is_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    save_file(
        {
            "observations": np.zeros((4, 4), np.float32),
            "actions": np.array([0, 1, 0, 1]),
            "level_seeds": np.array([5, 6, 10_001, 7]),
        },
        folder / "condensed.safetensors",
    )
    (folder / "report.json").write_text('{"label_kind": "hard"}')
    create(DATA, [episode(), episode(3)])
    options: dict[str, Any] = {"dataset": DATA, "results": tmp_path / "r", **QUICK}
    with pytest.raises(BadConfig, match=r"held-out levels of .*row 2 first"):
        evaluate_artifact(str(folder), "cartpole", **options)
    result = evaluate_artifact(str(folder), "cartpole", heldout_data=True, **options)
    assert names(result.record) == {"heldout-data"}
    assert [names(row) for row in result.references] == [set()] * len(result.references)


def test_data_of_another_environment_are_taken_and_said_to_be(tmp_path: Path) -> None:
    long = "classic/cartpole-long-v0"
    create(DATA, [episode(), episode(3)], env=gymnasium.make(f"rlcondense.tasks:{long}"))
    result = quick(tmp_path)
    assert f"{DATA} (another task)" in str(result).splitlines()[0]
    assert f"the data were collected on {long}" in str(result)
    assert names(result.record) == {"another-task"}
    create(DATA, [episode(), episode(3)], env=gymnasium.make("CartPole-v1"))
    assert names(quick(tmp_path, refresh=True).record) == set()


def test_an_expert_of_another_task_is_said_to_be(tmp_path: Path) -> None:
    result = quick(tmp_path, "cartpole-long", dataset="classic/cartpole/expert-v0")
    found = {r["cell"]["method"]["id"]: names(r) for r in (result.record, *result.references)}
    assert found["expert"] == {"another-expert"}
    assert found["random-policy"] == set()
    assert found["random"] == found["full"] == found["marginal-policy"] == {"another-task"}
    assert "! expert: another expert: the expert is that of classic/cartpole-v0." in str(result)


def test_what_provenance_says(tiny: TransitionDataset) -> None:
    starpilot, bigfish = make_task("starpilot"), make_task("bigfish")
    assert provenance(tiny, starpilot, starpilot.id) == ()
    assert provenance(None, starpilot) == ()
    assert [f.name for f in provenance(tiny, bigfish, starpilot.id)] == [
        "another-expert", "another-task",
    ]  # fmt: skip
    lossy = replace(tiny, origin=Origin(lossy=True))
    assert [f.name for f in provenance(lossy, starpilot)] == ["lossy-frames"]
    unknown = replace(tiny, task="", origin=Origin())
    assert provenance(unknown, bigfish) == ()


@dataclass(frozen=True)
class Config:
    kind: str = "short"


class Odd(Learner[Config]):
    """Gives policies of other seeds than it was asked for."""

    Config = Config

    def fit(self, data: Any, *, task: Any, seeds: Any, **_: Any) -> PolicyBatch:
        return FixedPolicies(np.ones(2), seeds[:1] if self.config.kind == "short" else seeds[::-1])


@pytest.mark.parametrize("kind", ["short", "swapped"])
def test_a_learner_that_gives_other_policies_fails_its_cell(kind: str, tmp_path: Path) -> None:
    create(DATA, [episode(), episode(3)])
    rlc.register("learners", "tests-odd", f"{__name__}:Odd")
    result = quick(tmp_path, learner="tests-odd", learner_settings={"kind": kind}, references=False)
    assert result.record["status"] == "failed"
    assert "learner 'tests-odd' gave" in result.record["reason"]
    assert "one for each, in their order" in result.record["reason"]


class Strange(PolicyBatch):
    num_policies, seeds = 1, (0,)

    def __init__(self, probs: Any = None, actions: Any = None) -> None:
        self.probs, self.actions = probs, actions

    def action_probs(self, observations: Any, policy_index: Any) -> Any:
        return np.tile(self.probs, (len(observations), 1))

    def act(self, observations: Any, policy_index: Any, noise: Any) -> Any:
        if self.probs is not None:
            return super().act(observations, policy_index, noise)
        return np.full(len(observations), self.actions)


@pytest.mark.parametrize(
    "policies",
    [
        Strange([np.nan, 1.0]),
        Strange([-1.0, 2.0]),
        Strange([5.0, -5.0]),
        Strange([0.0, 0.0, 1.0]),
        Strange(actions=2),
        Strange(actions=-1),
        Strange(actions=0.9),
        Strange(actions=np.nan),
    ],
)
def test_policies_that_act_as_nobody_can_are_not_scored(policies: Strange) -> None:
    with pytest.raises(CorruptArtifact, match="policies of type Strange gave action"):
        evaluate(policies, make_task("cartpole"), protocol=protocol_of(2))


class Broken(gymnasium.Env[Any, Any]):
    """Shows, pays or takes what no environment may, from its third step on."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, kind: str = "", start: int = 0) -> None:
        self.kind, self.steps = kind, 0
        self.action_space = gymnasium.spaces.Discrete(2, start=start)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.steps += 1
        broken = self.steps >= 3
        shown = np.zeros(3 if broken and self.kind == "wide" else 2, np.float32)
        if broken and self.kind == "nan":
            shown[1] = np.nan
        reward: Any = np.array([1.0])
        if broken and self.kind == "two":
            reward = np.ones(2)
        if broken and self.kind == "none":
            reward = None
        return shown, reward, self.steps == 5, False, {}


gymnasium.register("tests/Broken-v0", Broken)


def broken(**settings: Any) -> Any:
    rlc.register(
        "tasks",
        "tests/broken-v0",
        "rlcondense.tasks.gymnasium:GymnasiumTask",
        env="tests/Broken-v0",
        settings=settings,
    )
    return make_task("tests/broken-v0")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "task 'tests/broken-v0' showed non-finite observations in environment 0 after 3"),
        ("wide", r"task 'tests/broken-v0' showed observations of shape \(2, 3\)"),
        ("two", "a reward is array"),
        ("none", "a reward is None"),
    ],
)
def test_environments_that_show_or_pay_what_none_may_are_not_scored(
    kind: str, message: str
) -> None:
    task = broken(kind=kind)
    with pytest.raises(CorruptArtifact, match=message):
        evaluate(FixedPolicies(np.ones(2), [0]), task, protocol=protocol_of(2))


@pytest.mark.parametrize("start", [0, 1, -3])
def test_a_task_numbers_its_actions_from_0_whatever_its_environment_does(start: int) -> None:
    task = broken(start=start)
    assert task.action_space == gymnasium.spaces.Discrete(2)
    scores = evaluate(FixedPolicies(np.ones(2), [0]), task, protocol=protocol_of(2))
    assert scores.returns.tolist() == [[5.0, 5.0]]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ([], "is no report"),
        (
            {"label_kind": "hard", "note": "\ud800"},
            "holds half of a surrogate pair, which is no text",
        ),
        ({"label_kind": "hard", "note": float("nan")}, "holds NaN, which is no JSON"),
        ({"label_kind": ["hard"]}, "gives label_kind in another form"),
        ({"label_kind": "firm"}, "label_kind must be one of"),
        ({"seed": "0"}, "gives seed in another form"),
        ({"seed": True}, "gives seed in another form"),
        ({"seed": -1}, "seed as -1, which must not be negative"),
        ({"seed": 10**400}, "holds a number that is too large"),
        ({"size": 1.5}, "gives size in another form"),
        ({"method": 7}, "gives method in another form"),
        ({"config": [1]}, "gives config in another form"),
        ({"cost": {"wall_seconds": "long"}}, "gives wall_seconds in another form"),
        ({"cost": 3}, "cost is no table"),
        ({"displacement": {"mean": "x", "largest": 1}}, "gives mean in another form"),
        ({"displacement": [1, 2]}, "displacement is no table"),
        ({"matching_loss": {"before": None, "after": 1.0}}, "gives before in another form"),
        ({"findings": [{"name": 1, "measured": 1, "bound": 1, "text": ""}]}, "gives name in"),
        ({"findings": [5]}, "a finding is no table"),
    ],
)
def test_a_report_of_another_form_is_one_line(report: Any, message: str, tmp_path: Path) -> None:
    full = {
        "method": "random", "config": {}, "seed": 0, "budget": {"size": 2}, "dataset": None,
        "dataset_sha256": None, "expert_sha256": None, "size": 2, "bytes": 1,
        "label_kind": "hard", "cost": {}, "displacement": None, "matching_loss": None,
    }  # fmt: skip
    rows = {"observations": np.zeros((2, 4), np.float32), "actions": np.array([0, 1])}
    save_file(rows, tmp_path / "condensed.safetensors")
    whole = report if isinstance(report, list) or "note" in report else {**full, **report}
    (tmp_path / "report.json").write_text(json.dumps(whole))
    shown = CliRunner().invoke(main, ["evaluate", str(tmp_path), "--task", "cartpole"])
    assert shown.exit_code == 2
    assert len(shown.stderr.splitlines()) == 1
    assert message in shown.stderr


def test_methods_that_return_something_else_are_one_line(tiny: TransitionDataset) -> None:
    from rlcondense.methods.base import Condensation, Method, Problem

    class Gives(Method[Any]):
        id = "gives"

        def __init__(self, what: Any) -> None:
            super().__init__()
            self.what = what

        def _condense(self, problem: Problem) -> Condensation:
            return self.what  # type: ignore[no-any-return]

    frames = np.zeros((2, 3, 64, 64), np.uint8)
    good = {"observations": frames, "actions": np.array([0, 1])}
    for what, message in (
        (good, "gave dict, not a Condensation"),
        (Condensation({**good, "actions": [0, 1]}), "gave actions as list"),
        (Condensation({**good, "label": np.zeros(2)}), "gave a column 'label'"),
        (Condensation({**good, "source_indices": good["actions"]}), "column 'source_indices'"),
        (Condensation({"observations": frames}), "gave no actions"),
        (Condensation(good, weights=[1, 1]), "gave weights as list"),  # type: ignore[arg-type]
        (Condensation(good, weights=np.array([1, np.inf], np.float32)), "non-finite weights"),
    ):
        with pytest.raises(CorruptArtifact, match=message):
            Gives(what).condense(tiny, task=make_task("starpilot"), budget=5)
