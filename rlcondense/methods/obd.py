"""Offline behaviour distillation, OBD (Lei, Zhang and Tao, 2024, arXiv 2410.22728).

    D_syn = argmin  E_s  w(s) d( pi_theta(s), pi*(s) ),   theta = what D_syn trains a student to

DBC matches the data's actions, PBC a near-expert policy pi*, both with w = 1; Av-PBC weighs each
state by pi*'s action value. The gradient flows back through the student's updates. The window of
RaT-BPTT (Feng, Vedantam and Kempe, 2023, arXiv 2310.07506) makes it affordable: training ends at a
random update, and the gradient flows through the last few updates only.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlcondense import cloning
from rlcondense.cloning import descend, shuffled_batches
from rlcondense.config import LATER, check_choice, check_positive
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.labels import TAUGHT
from rlcondense.datasets.report import MatchingLoss
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem, scaling_bytes
from rlcondense.methods.full import Full
from rlcondense.methods.parts.density import sparsity_weights
from rlcondense.methods.parts.features import encode, targets_of
from rlcondense.methods.parts.q_values import GAMMA, LEARNING_RATE, SYNCS, shared_critic
from rlcondense.methods.parts.students import OPTIMISERS, loss_like, network_like, updates_like
from rlcondense.methods.parts.synthetic import Synthetic, data_targets, learn
from rlcondense.methods.parts.unrolled import (
    StudentConfig,
    Training,
    add_gradients,
    differentiate,
    held,
    losses_of,
    student_spec,
)
from rlcondense.networks import fresh, fresh_from, standardised
from rlcondense.scaling import Scaling, check_vectors
from rlcondense.tasks.base import Task
from rlcondense.types import Array

PROBES = 4  # fresh students on which the loss before and after is measured
CHUNK = 512  # rows of one forward pass of a policy
VALUE_BATCH = 64  # rows of an update of the fitted value
MOST_POWER = 64.0  # maximal power of a distance; more gives all the weight to one state
LEAST_TAU, MOST_INTERVAL = 0.005, 8000  # d3rlpy's, for hundreds of thousands of updates
CLIP = 2.0  # maximal gradient norm of SGD on the synthetic data
POLICIES = ("auto", "data", "expert", "offline-rl")


@dataclass(frozen=True)
class ObdConfig(StudentConfig):
    """Settings. The paper makes 50,000 iterations of SGD, 25 GPU hours, with inner SGD.

    The defaults have fewer iterations, by Adam, whose step is in grey levels. It gets the gradients
    on observations and on labels, each scaled to length 1, so that every iteration counts the same.
    Inner updates use Adam, as the package's students do, with larger and fewer steps;
    `inner_optimiser=sgd`, `inner_rate=0.1` and `window=none` are the paper's. Learned labels of
    discrete actions start as the distributions from which the data's actions were drawn, if the
    data has them, for DBC too.

    Attributes:
        iterations: number of steps on the synthetic data.
        real_batch: number of rows of the data on which a student's loss is computed.
        inner_steps: maximal number of a student's updates on the synthetic data (the paper: 100).
        window: number of last updates through which the gradient flows; training then ends at a
            random update between `window` and `inner_steps`. None: all `inner_steps`, as in the
            paper.
        segment: number of updates whose graph is in memory at a time.
        inner_batch: maximal number of synthetic rows in an update, None for all (as in the paper).
        inner_optimiser: optimiser of the students, `sgd` or `adam`.
        inner_rate: step size of the students.
        standardise: whether students see states that are standardised by the data's mean and
            deviation. Both are part of the condensed dataset, whose states stay in the
            environment's units.
        density_weight: power of the distance to the tenth nearest state by which each state's
            loss is multiplied, of standardised vectors or of frames in a cloned network's features;
            0 leaves it out. After SDW (Lei, Cheng and Tao, 2025, arXiv 2512.06692), which takes the
            reciprocal of a flow's density: a distance is the d-th root of a reciprocal density, so
            that a power of d, the dimension of the states or 32 components of them, is the nearest
            to theirs.
    """

    labels: str = "learned"
    start: str = "random"
    iterations: int = 150
    real_batch: int = 256
    inner_steps: int = 100
    window: int | None = 20
    segment: int = 20
    inner_batch: int | None = 64
    inner_optimiser: str = "adam"
    inner_rate: float = 1e-3
    standardise: bool = field(default=False, metadata=LATER)
    density_weight: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations", "real_batch", "inner_steps", "window", "segment")
        if not 0 <= self.density_weight <= MOST_POWER:
            raise BadConfig(
                f"density_weight must lie in [0, {MOST_POWER}], not {self.density_weight}"
            )
        check_positive(self, "inner_batch", "inner_rate")
        check_choice(self, "inner_optimiser", OPTIMISERS)
        if self.window is not None and self.window > self.inner_steps:
            raise BadConfig(f"window {self.window} is above inner_steps {self.inner_steps}")


@dataclass(frozen=True)
class PbcConfig(ObdConfig):
    """Settings.

    Attributes:
        policy: the near-expert policy. `data` is the distribution from which the data's actions
            were drawn (action_probs), which is near-expert if an expert played. `expert` is the
            dataset's expert; `offline-rl` is trained on the data by d3rlpy (the paper uses Cal-QL):
            discrete CQL or, for continuous actions, TD3+BC. `auto` is `data` if action_probs are
            known, else `offline-rl`. With `labels=taught` the students' distributions stand in
            place of the data's, also where the data have none. Av-PBC's weights are those of a
            network fitted to the data's returns to go, whoever played, so that `expert` asks for
            data of the expert's.
        policy_updates: number of updates of offline RL, or of the value network of Av-PBC. Of
            offline RL the target network is renewed twenty times in them, so that values look some
            twenty steps ahead. From 160,000 updates on (4,000 for continuous actions) it is renewed
            as often as by d3rlpy's defaults, so that they look further.
        values: action values by which Av-PBC weighs states: `own`, those of the offline-RL policy
            or of the fitted network, or `critic`, those of the critic of `sdr` and `critical` for
            the actions taken, which is trained once for all three if `policy_updates` are as many
            as their `value_updates`.
    """

    policy: str = "auto"
    policy_updates: int = 1000
    values: str = field(default="own", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "policy", POLICIES)
        check_choice(self, "values", ("own", "critic"))
        check_positive(self, "policy_updates")


@dataclass(frozen=True)
class Aims:
    """Targets of a student in the data's states.

    Attributes:
        targets: `(N, A)` distributions, or continuous actions.
        weights: `(N,)` weights of the states, with mean 1.
        gradient_evaluations: number of gradients spent to compute them.
    """

    targets: Tensor
    weights: Tensor
    gradient_evaluations: int = 0


class Dbc(Method[ObdConfig]):
    """Learns a dataset that trains students to act as the data did.

    Paper: iterations=50000, real_batch=2560, inner_steps=100, window=none, inner_batch=none,
        inner_optimiser=sgd, inner_rate=0.1, outer_optimiser=sgd, outer_momentum=0.9,
        learning_rate=0.1, label_learning_rate=0.1, init=orthogonal-all, standardise=true
    """

    Config: ClassVar[type[ObdConfig]] = ObdConfig
    label_kinds = ("hard", "soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "dbc"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings; the gradient flows through all updates unless a window is set too."""
        updates = updates_like(
            learner,
            updates="inner_steps",
            batch_size="inner_batch",
            optimiser="inner_optimiser",
            learning_rate="inner_rate",
        )
        return (
            network_like(learner, ("standardise",))
            | updates
            | {"window": None}
            | loss_like(learner, ("logit-mse",))
        )

    def students(self, task: Task) -> dict[str, Any]:
        return {"standardise": True} if self.config.standardise else {}

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        in_all, each = super().bytes_beside(task)
        return (in_all + (scaling_bytes(task) if self.config.standardise else 0), each)

    def _condense(self, problem: Problem) -> Condensation:
        scaling = None
        if self.config.standardise:
            check_vectors(problem.dataset.observations.shape[1:])
            scaling = Scaling.of(problem.dataset.observations)
        rng = problem.rng()
        synthetic = Synthetic(problem, self.config, rng)
        aims = self._weighed_by_density(problem, self._aims(problem))
        synthetic.gradient_evaluations += aims.gradient_evaluations
        unrolled = _UnrolledLoss(problem, self.config, synthetic, aims, scaling)
        before = unrolled.probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            learn(problem, synthetic, self.config.iterations, lambda _: unrolled.backward(rng), rng)
        condensation = synthetic.condensation(MatchingLoss(before, unrolled.probe()))
        return replace(condensation, scaling=scaling)

    def _weighed_by_density(self, problem: Problem, aims: Aims) -> Aims:
        if not self.config.density_weight:
            return aims
        network = student_spec(problem, self.config).name
        by_state, cost = sparsity_weights(problem, network, self.config.density_weight)
        weights = aims.weights * torch.from_numpy(by_state).to(problem.device)
        cost += aims.gradient_evaluations
        return Aims(aims.targets, weights / weights.mean(), cost)

    def _aims(self, problem: Problem) -> Aims:
        targets = data_targets(problem.as_taken(), "hard")
        return Aims(targets, torch.ones(len(targets), device=problem.device))


class Pbc(Dbc):
    """Learns a dataset that trains students to act as a near-expert policy.

    Paper: iterations=50000, real_batch=2560, inner_steps=100, window=none, inner_batch=none,
        inner_optimiser=sgd, inner_rate=0.1, outer_optimiser=sgd, outer_momentum=0.9,
        learning_rate=0.1, label_learning_rate=0.1, init=orthogonal-all, standardise=true,
        policy=offline-rl, policy_updates=1000000
    """

    Config = PbcConfig
    id = "pbc"

    def __init__(self, config: ObdConfig | None = None, *, id: str = "") -> None:
        super().__init__(config, id=id)
        assert isinstance(self.config, PbcConfig)
        self.settings = self.config
        if self.settings.values != "own" and not isinstance(self, AvPbc):
            raise BadConfig("values=critic is of av-pbc: pbc weighs no states")
        if self.settings.policy == "expert":
            self.needs |= {"expert"}
        if self.settings.policy == "offline-rl":
            self.needs |= {"rewards"}
        if self.settings.policy == "data" and self.settings.labels != TAUGHT:
            self.needs |= {"action_probs"}

    def _aims(self, problem: Problem) -> Aims:
        targets, _, cost = self._policy(problem, False)
        return Aims(targets, torch.ones(len(targets), device=problem.device), cost)

    def _policy(self, problem: Problem, valued: bool) -> tuple[Tensor, Array, int]:
        """Return the policy's actions in the data's states, optionally its values, and the cost."""
        policy, updates = self.settings.policy, self.settings.policy_updates
        is_taught = problem.actions_taken is not None
        known = problem.dataset.action_probs is not None or is_taught
        if policy == "offline-rl" or (policy == "auto" and not known):
            return offline_rl(problem, self.settings.network, updates)
        if problem.expert is not None:
            network = copy.deepcopy(problem.expert.network).to(problem.device)
            done = encode(network, problem.dataset)[1]
            space = problem.task.action_space
            if isinstance(space, Box):
                done = done.reshape(-1, *space.shape).clip(space.low, space.high)
            targets = torch.from_numpy(done).to(problem.device)
        else:
            targets = targets_of(problem, "hard" if is_taught else "soft")
        if not valued:
            return targets, np.ones(len(targets)), 0
        values = fitted_values(problem, self.settings.network, updates)
        return targets, values, updates * VALUE_BATCH


class AvPbc(Pbc):
    """As PBC, with states weighted by the near-expert policy's action values.

    Paper: iterations=50000, real_batch=2560, inner_steps=100, window=none, inner_batch=none,
        inner_optimiser=sgd, inner_rate=0.1, outer_optimiser=sgd, outer_momentum=0.9,
        learning_rate=0.1, label_learning_rate=0.1, init=orthogonal-all, standardise=true,
        policy=offline-rl, policy_updates=1000000
    """

    id = "av-pbc"
    needs = frozenset({"rewards"})

    def _aims(self, problem: Problem) -> Aims:
        critic = self.settings.values == "critic"
        targets, values, cost = self._policy(problem, not critic)
        if critic:
            c = self.settings
            network = student_spec(problem, c).name
            shared = shared_critic(problem, network, c.policy_updates).values(problem)
            values, cost = shared.q, cost + shared.gradient_evaluations
        weights = torch.from_numpy(action_value_weights(values)).to(problem.device)
        return Aims(targets, weights, cost)


def action_value_weights(values: Array) -> Array:
    """Compute weights `(N,)` with mean 1, in proportion to action values.

    The paper's values are not negative. If some are negative here, all are shifted to be at least
    0.
    """
    raised = values - min(0.0, float(values.min()))
    mean = float(raised.mean())
    return (raised / mean if mean > 0 else np.ones_like(raised)).astype(np.float32)


def fitted_values(problem: Problem, network: str | None, updates: int) -> Array:
    """Fit a network to returns to go: the values `(N,)` of states under the data's policy.

    The value of the policy that played needs no bootstrapping.
    """
    dataset, rng = problem.dataset, np.random.default_rng([problem.seed, 2])
    returns = dataset.returns_to_go(GAMMA)
    spread = max(float(returns.std()), 1e-6)
    wanted = torch.from_numpy(((returns - returns.mean()) / spread).astype(np.float32))
    spec = replace(student_spec(problem, StudentConfig(network=network)), num_outputs=1)
    critic = fresh_from(spec, problem.device, problem.seed)
    optimiser = cloning.OPTIMISERS["adam"](critic.parameters(), lr=5e-4)
    batches = itertools.islice(shuffled_batches(len(dataset), VALUE_BATCH, rng), updates)
    for update, rows in enumerate(batches, 1):
        frames = torch.from_numpy(np.asarray(dataset.observations[rows])).to(problem.device)
        errors = critic(frames)[:, 0] - wanted[torch.from_numpy(rows)].to(problem.device)
        loss = (errors**2).mean()
        descend(optimiser, loss)
        if update % 20 == 0 or update == updates:
            problem.progress("fit values", update, updates, f"loss {float(loss.detach()):.3f}")
    with torch.no_grad():
        predictions = [
            critic(torch.from_numpy(np.array(part)).to(problem.device))[:, 0].cpu().numpy()
            for part in _chunks(dataset.observations)
        ]
    values: Array = np.concatenate(predictions) * spread + returns.mean()
    return values


def offline_rl(problem: Problem, network: str | None, updates: int) -> tuple[Tensor, Array, int]:
    """Train a policy on the data; return its actions, its critic's values, and the cost."""
    # d3rlpy is slow to import, and only needed here.
    from rlcondense.integrations.d3rlpy.learners import D3RLPyPolicies, DiscreteCQL, TD3PlusBC

    problem.check_actions_taken()
    dataset = problem.dataset
    data: CondensedDataset = Full().condense(dataset, task=problem.task, budget=len(dataset))
    kind = TD3PlusBC if problem.continuous else DiscreteCQL
    name = student_spec(problem, StudentConfig(network=network)).name
    config = kind.Config(updates=updates, network=name, **_hastened(problem.continuous, updates))
    policies = kind(config).fit(
        data,
        task=problem.task,
        seeds=[problem.seed],
        device=problem.device,
        progress=lambda _, done, total, note="": problem.progress("offline RL", done, total, note),
    )
    assert isinstance(policies, D3RLPyPolicies)
    algorithm, actions, values = policies.algorithms[0], [], []
    for part in _chunks(dataset.observations):
        chosen = algorithm.predict(np.array(part))
        actions.append(chosen)
        values.append(algorithm.predict_value(np.array(part), chosen))
    done = np.concatenate(actions)
    targets = done.astype(np.float32)
    if not problem.continuous:
        targets = np.eye(problem.num_actions, dtype=np.float32)[done]
    cost = updates * config.batch_size
    return torch.from_numpy(targets).to(problem.device), np.concatenate(values), cost


def _hastened(continuous: bool, updates: int) -> dict[str, Any]:
    """Return settings with which values get ahead of the targets' first copy in a few updates."""
    if continuous:
        return {"tau": max(LEAST_TAU, min(1.0, SYNCS / updates))}
    interval = min(MOST_INTERVAL, max(updates // SYNCS, 1))
    return {
        "batch_size": VALUE_BATCH,
        "learning_rate": LEARNING_RATE,
        "target_update_interval": interval,
    }


def _chunks(rows: Array) -> list[Array]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


class _UnrolledLoss:
    """Loss of students trained on a synthetic dataset, on their targets in the data's states."""

    def __init__(
        self,
        problem: Problem,
        config: ObdConfig,
        synthetic: Synthetic,
        aims: Aims,
        scaling: Scaling | None,
    ) -> None:
        self.config, self.synthetic, self.aims, self.scaling = config, synthetic, aims, scaling
        self.problem, self.spec = problem, student_spec(problem, config)
        self.losses = losses_of(problem, config.loss)
        outer = "cross-entropy" if config.real_valued else config.loss  # aims are distributions
        self.outer_losses = losses_of(problem, outer)

    def backward(self, rng: np.random.Generator) -> float:
        """Train a student, add the gradient of its loss to the leaves, and return the loss."""
        c = self.config
        steps = c.inner_steps
        if c.window is not None:
            steps = int(rng.integers(c.window, c.inner_steps + 1))
        inputs = self._inputs()
        apart = held(inputs)
        begin = steps - (c.window or steps)
        training, state = self._train(rng, steps, begin, apart)
        value, gradients = differentiate(
            training, self._outer(training, rng), state, range(begin, steps), apart, c.segment
        )
        longest = CLIP if c.outer_optimiser == "sgd" else None
        add_gradients(inputs, gradients, self.synthetic.leaves, longest)
        batch = min(c.real_batch, len(self.problem.dataset))
        self.synthetic.gradient_evaluations += batch + steps * self._rows_a_step
        return value

    def _inputs(self) -> list[Tensor]:
        """Return the synthetic observations as students see them, and their labels."""
        seen = standardised(self.synthetic.observations(), self.scaling)
        return [seen, self.synthetic.targets()]

    @property
    def _rows_a_step(self) -> int:
        size = len(self.synthetic.rows)
        return min(self.config.inner_batch or size, size)

    def _train(
        self, rng: np.random.Generator, steps: int, until: int, inputs: list[Tensor]
    ) -> tuple[Training, list[Tensor]]:
        """Return a training of a number of steps, and its state after the first of them."""
        c, size = self.config, len(self.synthetic.rows)
        batches = None
        if size > self._rows_a_step:
            drawn = shuffled_batches(size, self._rows_a_step, rng)
            batches = list(itertools.islice(drawn, steps))
        network = fresh(self.spec, self.problem.device, c.init)
        training = Training(network, self.losses, c.inner_optimiser, c.inner_rate, batches)
        state = training.begin(network.parameters())
        for i in range(until):
            state = training(i, state, inputs, False)
        return training, state

    def _outer(
        self, training: Training, rng: np.random.Generator
    ) -> Callable[[list[Tensor]], Tensor]:
        """Compute the loss of a student on a batch of the data."""
        dataset, size = self.problem.dataset, self.config.real_batch
        rows = np.arange(len(dataset))
        if len(rows) > size:
            rows = np.sort(rng.choice(len(dataset), size, replace=False))
        frames = torch.from_numpy(np.asarray(dataset.observations[rows])).to(self.problem.device)
        frames = standardised(frames, self.scaling)
        where = torch.from_numpy(rows).to(self.problem.device)

        def loss(state: list[Tensor]) -> Tensor:
            losses = self.outer_losses(training.outputs(state, frames), self.aims.targets[where])
            return (losses * self.aims.weights[where]).mean()

        return loss

    def probe(self) -> float:
        """Compute the mean loss of students and real batches that are the same at every call."""
        rng, losses = np.random.default_rng([self.problem.seed, 1]), []
        inputs = self._inputs()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.problem.torch_seed(1))
            for k in range(PROBES):
                self.problem.progress("try fresh students", k, PROBES)
                steps = self.config.inner_steps
                training, state = self._train(rng, steps, steps, inputs)
                with torch.no_grad():
                    losses.append(float(self._outer(training, rng)(state)))
                self.synthetic.gradient_evaluations += steps * self._rows_a_step
        return float(np.mean(losses))
