"""`student=learner`: a synthesiser's own students are those of the learner that will be trained."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense.errors import BadConfig
from rlcondense.learners.base import Learner
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.methods.parts import unrolled
from rlcondense.networks import NetworkSpec, PolicyNetwork, fresh
from rlcondense.records.store import StoredState
from rlcondense.running.condensing import condense
from rlcondense.running.pairs import make_pair
from rlcondense.running.plan import plan_suite
from rlcondense.running.runner import run
from rlcondense.running.suite import suite_from
from rlcondense.running.transfer import transfer
from tests.small_tasks import Gridworld, Reach, play

GRID = Gridworld()
PLAYED = play(GRID, GRID.shortest, 100, noise=0.1)
DATA = replace(PLAYED, action_probs=np.full((len(PLAYED), 4), 0.25, np.float32), known_sha256="")
SMALL = {"network": "mlp", "width": 12, "depth": 1, "activation": "tanh", "init": "orthogonal"}
UPDATES = {"updates": 6, "batch_size": None, "learning_rate": 0.02}
SYNTHESISERS = {
    "gradmatch": {"iterations": 3, "theta": "trajectory", "trajectory": 2},
    "distmatch": {"iterations": 2},
    "frepo": {"iterations": 2, "pool": 2},
    "ncfm": {"iterations": 1, "networks": 1, "network_updates": 2, "frequencies": 8},
    "dbc": {"iterations": 2},
    "pbc": {"iterations": 2},
    "av-pbc": {"iterations": 2, "policy_updates": 2},
    "trajmatch": {"iterations": 2, "teachers": 1},
}


def learner(**settings: Any) -> Learner[Any]:
    return make_learner("bc", **{**SMALL, **UPDATES, **settings})


@pytest.mark.parametrize("id_", SYNTHESISERS)
def test_the_networks_that_a_synthesiser_builds_are_the_learners(
    id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make_method(id_, GRID, learner(), student="learner", **SYNTHESISERS[id_])
    built: list[tuple[NetworkSpec, str]] = []

    def watched(spec: NetworkSpec, device: Any, init: str = "random") -> PolicyNetwork:
        built.append((spec, init))
        return fresh(spec, device, init)

    ours = [
        m for n, m in sys.modules.items() if n.startswith("rlcondense.") and hasattr(m, "fresh")
    ]
    assert len(ours) > 1
    for module in ours:
        monkeypatch.setattr(module, "fresh", watched)
    method.condense(DATA, task=GRID, budget=5)
    of_actions = [(spec, init) for spec, init in built if spec.num_outputs == 4]  # no critics
    assert of_actions
    for spec, init in of_actions:
        found = {name: getattr(spec, name) for name in ("width", "depth", "activation")}
        assert {"network": spec.name, **found, "init": init} == SMALL


@pytest.mark.parametrize("batch_size", [None, 3])
def test_updates_through_a_training_are_the_learners(
    batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []

    class Watched(unrolled.Training):
        def __call__(self, i: int, *rest: Any) -> Any:
            seen.append((i, self._adam, self._rate, self.batches and len(self.batches[i])))
            return super().__call__(i, *rest)

    monkeypatch.setattr("rlcondense.methods.obd.Training", Watched)
    of = learner(optimiser="sgd", batch_size=batch_size)
    make_method("dbc", GRID, of, student="learner", iterations=1).condense(
        DATA, task=GRID, budget=5
    )
    assert set(seen) == {(i, False, 0.02, batch_size) for i in range(6)}


def test_settings_go_over_the_student_and_the_student_over_presets() -> None:
    made = make_method("dbc", GRID, learner(), student="learner", width=7, window=2)
    assert (made.config.width, made.config.depth, made.config.window) == (7, 1, 2)
    of = learner(init="random")
    hades = make_method("hades-r", "cartpole", of, student="learner", preset="quick")
    assert (hades.config.width, hades.config.inner_updates, hades.config.population) == (12, 6, 64)
    assert hades.students(make_task("cartpole"))["width"] == 12


@pytest.mark.parametrize(
    ("id_", "settings", "message"),
    [
        ("random", {}, "method 'random': student=learner is for methods that train students"),
        ("gradmatch-light2024", {}, "student=learner is for methods that train students"),
        ("dbc", {"optimiser": "adamw"}, "student=learner follows sgd and adam, not 'adamw'"),
        ("dbc", {"init": "dataset"}, "student=learner cannot follow learner.init=dataset"),
        ("gradmatch", {"standardise": True}, "cannot follow learner.standardise=true"),
        ("hades-r", {"batch_size": 8}, "needs learner.batch_size=none, not 8"),
        ("qmatch", {}, "student=learner of qmatch is a Q-learner"),
    ],
)
def test_a_learner_that_cannot_be_followed_is_refused(
    id_: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        make_method(id_, "cartpole", learner(**settings), student="learner")


def test_the_spread_of_continuous_actions_is_followed_or_refused() -> None:
    plain = learner(log_std="plain")
    make_method("gradmatch", GRID, plain, student="learner")  # which has no spread
    with pytest.raises(BadConfig, match=r"cannot follow learner\.log_std=plain"):
        make_method("gradmatch", Reach(), plain, student="learner")


@pytest.mark.parametrize("id_", ["dbc", "av-pbc", "hades-f", "hades-r"])
@pytest.mark.parametrize("standardise", [False, True])
def test_what_students_see_is_what_the_learners_do(id_: str, standardise: bool) -> None:
    of = learner(init="random", standardise=standardise)
    assert make_method(id_, "cartpole", of, student="learner").config.standardise == standardise


def test_a_q_learner_is_followed_by_qmatch() -> None:
    of = make_learner("discrete-cql", GRID, width=9, updates=40, batch_size=16, gamma=0.9)
    config = make_method("qmatch", GRID, of, student="learner").config
    assert (config.network, config.width, config.updates, config.every) == ("mlp", 9, 40, 2)
    assert (config.batch_size, config.gamma) == (16, 0.9)


@pytest.mark.parametrize(
    ("id_", "settings", "conservative"),
    [("discrete-cql", {"alpha": 4.0}, 4.0), ("discrete-cql", {}, 1.0), ("dqn", {}, 0.0)],
)
def test_qmatch_follows_a_q_learners_loss(
    id_: str, settings: dict[str, Any], conservative: float
) -> None:
    of = make_learner(id_, GRID, target_update_interval=30, **settings)
    config = make_method("qmatch", GRID, of, student="learner").config
    assert (config.conservative, config.target_interval) == (conservative, 30)


def test_there_are_no_other_students_and_none_without_a_learner(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="student must be one of own, learner, not 'teacher'"):
        make_method("dbc", student="teacher")
    with pytest.raises(BadConfig, match="student=learner needs a learner"):
        condense(None, "dbc", "cartpole", settings={"student": "learner"})
    assert make_method("dbc", student="own").config == make_method("dbc").config


def test_the_papers_students_play_no_part_where_a_method_follows_the_learner() -> None:
    settings = {"student": "learner", "preset": "quick"}
    own = {"network": "mlp", "width": 16, "batch_size": "none", "updates": 5}
    _, trained = make_pair("hades-f", "bc", make_task("cartpole"), settings, own)
    assert trained.config.init == "random"
    assert trained.config.learning_rate == make_learner("bc").config.learning_rate


def test_run_sweep_and_transfer_give_the_same_cell(tmp_path: Path) -> None:
    own = {**SMALL, **UPDATES}
    settings = {"student": "learner", "iterations": 1}
    sizes: dict[str, Any] = {"size": 4, "seeds": 1, "episodes": 2, "results": tmp_path}
    ran = run("dbc", "cartpole", settings=settings, learner_settings=own, references=False, **sizes)
    suite = {
        "tasks": ["cartpole"],
        "methods": [{"id": "dbc", "config": settings}],
        "learners": [{"id": "bc", "config": {**own, "batch_size": "none"}}],
        "sizes": [4],
        "learner_seeds": 1,
        "episodes": 2,
    }
    planned = plan_suite(
        suite_from("s", suite), lambda ids: {i: StoredState("missing") for i in ids}
    )
    assert ran.record["cell_id"] in {p.id for p in planned}
    named = ",".join(f"{k}={v}".lower() for k, v in own.items())
    matrix = transfer(
        ["dbc:student=learner,iterations=1"], [f"bc:{named}", f"bc:{named},gradient_clip=9"],
        "cartpole", **sizes,
    )  # fmt: skip
    [row, *_] = matrix.rows.values()
    first, other = (records[0] for records in row.values())
    assert first["cell_id"] == ran.record["cell_id"]
    assert first["report"]["config"]["width"] == other["report"]["config"]["width"] == 12
    assert matrix.reused >= 1
