from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense import limits
from rlcondense.config import make_config
from rlcondense.datasets.budget import Budget
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.evaluation import evaluate
from rlcondense.learners.bc import BCConfig
from rlcondense.make import make_learner, make_method, make_task
from rlcondense.methods.hades import HadesFConfig, HadesRConfig
from rlcondense.networks import NetworkSpec, PolicyNetwork, num_weights
from rlcondense.policies import NetworkPolicies, load_policies, random_policies
from rlcondense.protocol import Protocol, protocol_of
from rlcondense.running.runner import run
from rlcondense.running.suite import suite_from
from rlcondense.training.distil import DistilConfig
from rlcondense.training.evolve import ESConfig
from rlcondense.training.ppo import PPOConfig

HUGE = 10**15
SUITE = {"tasks": ["cartpole"], "methods": ["random"]}


def in_little_memory(ask: Callable[[], object], message: str) -> None:
    """Fail unless something is refused with a message, before much memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(BadConfig, match=message):
            ask()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: protocol_of(HUGE), "episodes must be at most 100,000, not 1000000000000000"),
        (lambda: Protocol(HUGE, 1), "environments must be at most 65,536"),
        (lambda: Protocol(1000, 1000), "episodes must be at most 100,000, not 1000000"),
        (lambda: Protocol(0, 1), "environments must be at least 1"),
        (lambda: run("random", "cartpole", seeds=HUGE), "seeds must be a whole number from 1"),
        (lambda: run("random", "cartpole", condensations=HUGE), "condensations must be"),
        (lambda: run("random", "cartpole", seed=-1), "seed must be a whole number from 0"),
        (lambda: run("random", "cartpole", episodes=HUGE), "episodes must be at most"),
        (lambda: Budget(size=10**6).transitions(None), "size must be at most 100,000"),
        (lambda: make_learner("bc", "cartpole", width=HUGE), "width must be at most 4,096"),
        (lambda: make_learner("bc", "cartpole", depth="99999"), "depth must be at most 32"),
        (lambda: make_learner("bc", batch_size=HUGE), "batch_size must be at most 65,536"),
        (lambda: make_learner("bc", updates=10**12), "learner 'bc': updates must be at most"),
        (lambda: make_method("trajmatch", latest=10**12), "setting 'latest' of method 'trajmatch'"),
        (lambda: make_learner("bc", network="impala", width=65), "width must be at most 64"),
        (lambda: make_method("gradmatch", real_batch=HUGE), "real_batch must be at most"),
        (lambda: make_method("el2n", networks=HUGE), "networks must be at most 1,000"),
        (lambda: make_method("frepo", pool=HUGE), "pool must be at most 1,000"),
        (lambda: make_method("hades-f", population=10**9), "population must be at most"),
        (lambda: make_method("cupid", projection=20_000), "projection must be at most 16,384"),
        (
            lambda: make_method("cupid", projection=16_384, episodes=100_000),
            "episodes x projection must be at most 1,073,741,824",
        ),
        (lambda: make_method("ncfm", frequencies=10**9), "frequencies must be at most 65,536"),
        (
            lambda: HadesRConfig(initialisations=1000).network(make_task("cartpole")),
            "weights of a population must be at most|initialisations x episodes must be at most",
        ),
        (lambda: HadesFConfig(episodes=1000), "population x episodes must be at most 65,536"),
        (lambda: ESConfig(seed=-1), "seed must be a whole number from 0"),
        (lambda: PPOConfig(num_envs=HUGE), "num_envs must be at most"),
        (lambda: PPOConfig(num_envs=4096, rollout_length=4096), "num_envs x rollout_length must"),
        (lambda: DistilConfig(memory=HUGE), "memory must be at most 4,194,304"),
        (lambda: suite_from("s", {**SUITE, "condensation_seeds": HUGE}), "condensation_seeds of"),
        (lambda: suite_from("s", {**SUITE, "learner_seeds": HUGE}), "learner_seeds of suite 's'"),
        (lambda: suite_from("s", {**SUITE, "sizes": list(range(1, 3000))}), "names in sizes of"),
        (
            lambda: suite_from(
                "s", {**SUITE, "sizes": list(range(1, 1000)), "condensation_seeds": 1000}
            ),
            "cells of suite 's' must be at most 200,000, not 999000",
        ),
        (
            lambda: HadesFConfig(population=65_536, episodes=1).network(make_task("cartpole")),
            "weights of a population must be at most",
        ),
    ],
)
def test_what_is_too_large_is_refused_with_its_bound(
    ask: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        ask()


@pytest.mark.parametrize("task", ["starpilot", "cartpole", "breakout"])
def test_too_many_environments_are_refused_by_every_family(task: str) -> None:
    made = make_task(task)
    in_little_memory(lambda: made.make_vec("seen", HUGE, seed=0), "num_envs must be at most 65,536")
    crowd = random_policies(made.action_space, range(2000))
    in_little_memory(
        lambda: evaluate(crowd, made, protocol=Protocol(50, 1)), "policies x environments must be"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "nature", "observation_shape": (3, 2048, 2048)}, "weights of a network must"),
        ({"name": "mlp", "observation_shape": (2**24,), "width": 4096}, "weights of a network"),
        ({"name": "mlp", "observation_shape": (10**70,)}, "numbers of an observation must"),
        ({"name": "mlp", "observation_shape": (4,), "num_outputs": 10**40}, "num_outputs must be"),
    ],
)
def test_networks_are_counted_before_they_are_made(settings: dict[str, Any], message: str) -> None:
    in_little_memory(lambda: NetworkSpec(**{"num_outputs": 15, **settings}), message)


def test_weights_are_counted_right() -> None:
    for name, shape in (("nature", (3, 64, 64)), ("impala", (3, 64, 64)), ("mlp", (4,))):
        spec = NetworkSpec(name, shape, 15)
        assert num_weights(spec) == sum(p.numel() for p in PolicyNetwork(spec).parameters())


def test_policies_whose_file_holds_less_than_they_say_take_no_memory(tmp_path: Path) -> None:
    network = PolicyNetwork(NetworkSpec("mlp", (4,), 2, width=8))
    NetworkPolicies([network], [0]).save(tmp_path)
    file = tmp_path / "policies.json"
    said = json.loads(file.read_text())
    said["network"].update(width=4096, depth=30)  # two gigabytes
    file.write_text(json.dumps(said))
    with pytest.raises(CorruptArtifact, match=r"does not hold policies: .*of shape"):
        load_policies(tmp_path)


def test_defaults_and_shipped_settings_lie_far_below_the_bounds() -> None:
    for name, value in limits.MOST.items():
        default = getattr(BCConfig(), name, None) or getattr(PPOConfig(), name, None) or 1
        assert 8 * default <= value
    for name in ("hades-f", "hades-r"):
        assert make_method(name, "breakout", preset="minatar").config.population == 2048


def test_numbers_of_numpy_are_numbers() -> None:
    limits.check_count("num_envs", np.int64(5))
    with pytest.raises(BadConfig, match="num_envs must be at most 65,536, not 70000"):
        limits.check_count("num_envs", np.int64(70_000))
    assert make_config(BCConfig, {"updates": 10**6}, "bc").updates == 10**6
