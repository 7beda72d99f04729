"""Gradient matching of a Q-learner: synthetic transitions (s, a, r, s', terminal).

    D_syn = argmin  E_{theta, theta'}  sum_a  d( grad_theta L(D_syn^a), grad_theta L(D^a) )
    L     = huber( Q_theta(s, a) - r - gamma (1 - terminal) Q_theta'(s', argmax_b Q_theta(s', b)) )
          + alpha ( log sum_b exp Q_theta(s, b)  -  Q_theta(s, a) )

The matching is that of Zhao et al. (2021, arXiv 2006.05929), which Light et al. (2024, arXiv
2407.20299) brought to offline reinforcement learning. L is double Q-learning's (van Hasselt et al.,
2016, arXiv 1509.06461) with the conservative term of Kumar et al. (2020, arXiv 2006.04779), as
d3rlpy's DiscreteCQL has it. With `match = "loss"`, L is matched instead of its gradient: the
Bellman-loss matching of arXiv 2512.00536, which has a proof for linear Q-functions.

No paper known to us matches this gradient, so the rest is our design: s, s' and r are learned, a
and terminal are fixed to those of a real transition; theta and its target theta' belong to
Q-learners trained on the real data, so that the bootstrapped target is meaningful; initial rows are
stratified, with weights that correct for it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.cloning import OPTIMISERS, descend, shuffled_batches
from rlcondense.config import LATER, check_choice, check_least, check_positive, check_share
from rlcondense.datasets.report import Displacement, MatchingLoss
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.gradmatch import DISTANCES
from rlcondense.methods.parts.students import network_like
from rlcondense.methods.parts.synthetic import Synthetic, SyntheticConfig, learn
from rlcondense.methods.random_balanced import shares
from rlcondense.networks import (
    INITS,
    NetworkSpec,
    PolicyNetwork,
    check_network,
    fresh,
    given_options,
)
from rlcondense.types import Array

PROBES = 4  # networks of a separate learner on which the loss before and after is measured
STARTS = ("stratified", "balanced", "random")


@dataclass(frozen=True)
class QMatchConfig:
    """Settings.

    Attributes:
        network: name of the Q-learners' network.
        width: see `rlcondense.networks.NetworkSpec`.
        depth: likewise.
        activation: likewise.
        gamma: discount factor.
        conservative: alpha, the weight of the conservative term; 0 is plain Q-learning.
        iterations: number of steps of Adam on the synthetic data.
        real_batch: number of real transitions of each action in an iteration, or of all together if
            classes are matched jointly.
        match: `gradient`, or `loss`: the squared relative difference of the two losses.
        classes: `per-class` for one gradient of each action, or `joint`.
        distance: distance of gradients; see gradmatch.
        theta: `trajectory` draws a network along the training of Q-learners on the real data;
            `student` follows Q-learners on the current synthetic data, one after another (Zhao et
            al., algorithm 1); `initial` draws initial weights, for theta and its target.
        learners: number of Q-learners that are trained on the real data.
        updates: number of updates of each learner, in whole multiples of `every`.
        batch_size: number of rows in an update.
        q_learning_rate: learning rate of Adam in these updates.
        init: initialisation of the weights; see `rlcondense.networks.PolicyNetwork`.
        every: number of updates between two networks of a learner's trajectory.
        target_interval: number of updates between two copies of theta to theta'.
        rewards: `learned`, within the range of the data's rewards, or `kept`.
        start: choice of the initial real rows: `stratified` by action and outcome (the commonest
            reward, another reward, an end) in proportion to the data, with at least one row each if
            the budget allows; `balanced` by action; or `random`. A row's weight corrects for its
            stratum's share in the data.
        resolution: of both observations; see gradmatch.
        learning_rate: learning rate of Adam for observations; see gradmatch.
        reward_learning_rate: learning rate of Adam for rewards, in standard deviations of the
            data's rewards.
    """

    network: str = "nature"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    gamma: float = 0.99
    conservative: float = 1.0
    iterations: int = 150
    real_batch: int = 32
    match: str = "gradient"
    classes: str = "per-class"
    distance: str = "cosine"
    theta: str = "trajectory"
    learners: int = 3
    updates: int = 400
    every: int = 20
    target_interval: int = 100
    rewards: str = "learned"
    start: str = "stratified"
    resolution: int | None = None
    learning_rate: float = 1.0
    reward_learning_rate: float = 0.02
    batch_size: int = field(default=64, metadata=LATER)
    q_learning_rate: float = field(default=5e-4, metadata=LATER)
    init: str = field(default="random", metadata=LATER)

    def __post_init__(self) -> None:
        check_positive(self, "batch_size", "q_learning_rate")
        check_choice(self, "init", INITS)
        check_positive(self, "iterations", "real_batch", "learners", "updates", "every")
        check_positive(self, "target_interval", "resolution")
        check_positive(self, "learning_rate", "reward_learning_rate")
        check_network(self.network, given_options(self))
        check_choice(self, "match", ("gradient", "loss"))
        check_choice(self, "classes", ("per-class", "joint"))
        check_choice(self, "distance", tuple(DISTANCES))
        check_choice(self, "theta", ("trajectory", "student", "initial"))
        check_choice(self, "rewards", ("learned", "kept"))
        check_choice(self, "start", STARTS)
        check_share(self, "gamma")
        check_least(self, "conservative")
        if self.theta != "initial" and self.every > self.updates:
            raise BadConfig(f"every ({self.every}) must be at most updates ({self.updates})")


class QMatch(Method[QMatchConfig]):
    """Learns whole transitions whose gradients of a Q-learner's loss match the data's."""

    Config = QMatchConfig
    needs = frozenset({"rewards"})
    gives = frozenset({"observations", "actions", "rewards", "terminations", "next_observations"})
    id = "qmatch"

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings that follow a Q-learner: network, updates, discount and loss."""
        if "gamma" not in learner:
            raise BadConfig("student=learner of qmatch is a Q-learner")
        names = {
            "updates": "updates",
            "batch_size": "batch_size",
            "learning_rate": "q_learning_rate",
            "gamma": "gamma",
            "target_update_interval": "target_interval",
        }
        own_settings = {own: learner[name] for name, own in names.items() if name in learner}
        own_settings["conservative"] = learner.get("alpha", 0.0)
        return network_like(learner) | own_settings | {"every": max(1, learner["updates"] // 20)}

    def _condense(self, problem: Problem) -> Condensation:
        c, rng = self.config, problem.rng()
        _ = problem.num_actions  # refuses continuous actions
        synthetic = SyntheticTransitions(problem, c, rng)
        matching = _Matching(problem, c, synthetic)
        before = matching.probe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            thetas = matching.thetas(c.theta, rng)

            def loss(_: int) -> float:
                return matching.backward(*next(thetas), rng)

            restarts = c.updates // c.every + 1 if c.theta == "student" else 1
            learn(problem, synthetic, c.iterations, loss, rng, restarts=restarts)
        return synthetic.condensation(MatchingLoss(before, matching.probe()))


@dataclass(frozen=True)
class Transitions:
    """Batch of B transitions.

    Attributes:
        observations: `(B, *observation)` in the environment's units.
        actions: `(B,)` int64.
        rewards: `(B,)`.
        next_observations: `(B, *observation)`; those of terminal rows are ignored.
        terminations: `(B,)` bool.
        weights: `(B,)` weights of the rows in a loss.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminations: Tensor
    weights: Tensor


def q_loss(
    theta: nn.Module, target: nn.Module, batch: Transitions, gamma: float, alpha: float
) -> Tensor:
    """Compute L, as a weighted mean over a batch.

    It is differentiable in theta and in the batch's s, s' and r. The gradient in theta is
    Q-learning's: the target is a constant. A row with an error above one has a gradient of constant
    size in theta, as in d3rlpy, and hence no gradient in r and s'.

    Args:
        theta: function that returns values `(B, A)` of observations.
        target: the same for next observations, with other weights.
        batch: transitions.
        gamma: discount factor.
        alpha: weight of the conservative term.
    """
    values = theta(batch.observations)
    taken = values.gather(1, batch.actions[:, None])[:, 0]
    with torch.no_grad():
        best = theta(batch.next_observations).argmax(1, keepdim=True)
    following = target(batch.next_observations).gather(1, best)[:, 0]
    goal = batch.rewards + gamma * following.masked_fill(batch.terminations, 0)
    losses = F.huber_loss(taken, goal, reduction="none")
    if alpha:
        losses = losses + alpha * (values.logsumexp(1) - taken)
    return (batch.weights * losses).sum() / batch.weights.sum()


class SyntheticTransitions(Synthetic):
    """Synthetic transitions during optimisation: `Synthetic` with next observations and rewards."""

    def __init__(self, problem: Problem, config: QMatchConfig, rng: np.random.Generator) -> None:
        self._q, dataset = config, problem.dataset
        frames = SyntheticConfig(resolution=config.resolution, learning_rate=config.learning_rate)
        super().__init__(problem, frames, rng)
        rewards = np.asarray(dataset.column("rewards"), np.float32)
        self._range = float(rewards.min()), float(rewards.max())
        self._reward_std = float(rewards.std()) or 1.0
        self._terminal = np.asarray(dataset.column("terminations"))[self.rows].astype(bool)
        self._next = self._parameters(dataset.next_observations(self.rows))
        self._next_start = self._shown(self._next).detach().clone()
        self._rewards = torch.from_numpy(rewards[self.rows]).to(self.device)
        self._rewards.requires_grad_(config.rewards == "learned")
        fixed = (self.actions.astype(np.int64), self._terminal, self.weights)
        self._kept = [torch.from_numpy(column).to(self.device) for column in fixed]

    def _start_rows(self, problem: Problem, rng: np.random.Generator) -> Array:
        rows, self.weights = start_rows(problem.dataset, problem.size, self._q.start, rng)
        return rows

    def transitions(self, rows: slice | Tensor) -> Transitions:
        """Return some of the transitions, differentiable."""
        actions, terminations, weights = (column[rows] for column in self._kept)
        return Transitions(
            observations=self.observations(rows),
            actions=actions,
            rewards=self._rewards[rows],
            next_observations=self._shown(self._next[rows]),
            terminations=terminations,
            weights=weights,
        )

    @property
    def leaves(self) -> list[Tensor]:
        frames = [self._x, self._next]
        return [*frames, self._rewards] if self._rewards.requires_grad else frames

    def optimiser(self) -> torch.optim.Optimizer:
        c = self._q
        groups: list[dict[str, Any]] = [{"params": self.leaves[:2], "lr": c.learning_rate}]
        if self._rewards.requires_grad:
            rate = c.reward_learning_rate * self._reward_std
            groups.append({"params": [self._rewards], "lr": rate})
        return OPTIMISERS["adam"](groups)

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp observations to their range, and rewards to the range of the data's."""
        super().clamp()
        if self.is_pixels:
            self._next.clamp_(0, 255)
        elif self._limits is not None:
            self._next.clamp_(*self._limits)
        self._rewards.clamp_(*self._range)

    @torch.no_grad()
    def condensation(self, matching_loss: MatchingLoss | None = None) -> Condensation:
        condensation = super().condensation(matching_loss)
        goes_on = ~self._terminal
        size, following = len(goes_on), self._shown(self._next)[torch.from_numpy(goes_on)]
        next_rows = np.arange(size)
        next_rows[goes_on] = size + np.arange(goes_on.sum())
        columns = condensation.columns | {
            "rewards": self._rewards.detach().cpu().numpy(),
            "terminations": self._terminal,
            "next_rows": next_rows,
        }
        if goes_on.any():
            columns["following"] = following.cpu().numpy()
        after = torch.cat([self.observations(), following])
        before = torch.cat([self.start, self._next_start[torch.from_numpy(goes_on)]])
        return replace(
            condensation,
            columns=columns,
            weights=self.weights,
            displacement=Displacement.between(after, before),
        )


class RealTransitions:
    """Batches of the data's transitions whose next observation is known."""

    def __init__(self, dataset: TransitionDataset, device: str) -> None:
        self._dataset, self._device = dataset, device
        self.rows = known_rows(dataset)
        actions = np.asarray(dataset.actions)[self.rows]
        self._rows_of = {int(a): self.rows[actions == a] for a in np.unique(actions)}

    def draw(self, size: int, rng: np.random.Generator, action: int | None) -> Transitions:
        """Draw rows of an action, or of all actions; all rows if there are fewer."""
        rows = self.rows if action is None else self._rows_of[action]
        if len(rows) > size:
            rows = np.sort(rng.choice(rows, size, replace=False))
        return self.take(rows)

    def take(self, rows: Array) -> Transitions:
        """Return rows of the data."""
        data = self._dataset
        columns = (
            np.asarray(data.observations[rows]),
            np.asarray(data.actions[rows], np.int64),
            np.asarray(data.column("rewards")[rows], np.float32),
            data.next_observations(rows),
            np.asarray(data.column("terminations")[rows], bool),
            np.ones(len(rows), np.float32),
        )
        return Transitions(*(torch.from_numpy(c).to(self._device) for c in columns))


Pair = tuple[PolicyNetwork, PolicyNetwork]  # theta and its target


class _Matching:
    """Distance of a synthetic dataset from the data under a Q-network theta and its target."""

    def __init__(
        self, problem: Problem, config: QMatchConfig, synthetic: SyntheticTransitions
    ) -> None:
        self.config, self.synthetic, self.seed = config, synthetic, problem.seed
        self.probe_seed = problem.torch_seed(1)
        self.device, self.progress = problem.device, problem.progress
        shape = problem.dataset.observations.shape[1:]
        options = given_options(config)
        self.spec = NetworkSpec(config.network, shape, problem.num_actions, **options)
        self._probes: list[Pair] = []
        self.real = RealTransitions(problem.dataset, problem.device)
        self.classes: dict[int | None, slice] = {None: slice(None)}
        if config.classes == "per-class":
            self.classes = dict(synthetic.classes.items())

    def thetas(self, kind: str, rng: np.random.Generator) -> Iterator[Pair]:
        """Yield networks without end, with initial weights from torch's global state.

        The networks of `trajectory` are trained at the start, so that a resumed run has the same
        networks.
        """
        if kind == "trajectory":
            learners = [self._learner(rng, of_data=True) for _ in range(self.config.learners)]
            pool = [_copied(*pair) for learner in learners for pair in learner]
            return (pool[int(rng.integers(len(pool)))] for _ in itertools.count())
        learners_without_end = (self._learner(rng, of_data=False) for _ in itertools.count())
        networks = None if kind == "student" else 1
        return itertools.chain.from_iterable(
            itertools.islice(learner, networks) for learner in learners_without_end
        )

    def _learner(self, rng: np.random.Generator, of_data: bool) -> Iterator[Pair]:
        """Yield a Q-learner along its training on the real or the synthetic data."""
        c, known = self.config, self.real.rows
        theta = fresh(self.spec, self.device, c.init)
        target = _frozen(theta)
        optimiser = OPTIMISERS["adam"](theta.parameters(), lr=c.q_learning_rate)
        rows = len(known) if of_data else len(self.synthetic.rows)
        batches = shuffled_batches(rows, min(rows, c.batch_size), rng)
        yield theta, target
        for update in range(1, c.updates // c.every * c.every + 1):
            drawn = next(batches)
            batch = self.real.take(known[drawn]) if of_data else self._taken(drawn)
            loss = q_loss(theta, target, batch, c.gamma, c.conservative)
            descend(optimiser, loss)
            self.synthetic.gradient_evaluations += len(drawn)
            if update % c.target_interval == 0:
                target = _frozen(theta)
            if update % c.every == 0:
                if of_data:
                    note = f"loss {float(loss.detach()):.3f}"
                    self.progress("train Q-learner", update, c.updates, note)
                yield theta, target

    @torch.no_grad()
    def _taken(self, rows: Array) -> Transitions:
        return self.synthetic.transitions(torch.from_numpy(rows).to(self.device))

    def backward(
        self, theta: PolicyNetwork, target: PolicyNetwork, rng: np.random.Generator
    ) -> float:
        """Add the distance's gradient to the leaves, class by class, and return the distance."""
        total = 0.0
        for action, rows in self.classes.items():
            real = self.real.draw(self.config.real_batch, rng, action)
            own = self.synthetic.transitions(rows)
            loss = distance(theta, target, own, real, self.config)
            loss.backward(inputs=self.synthetic.leaves)  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self.synthetic.gradient_evaluations += len(real.actions) + len(own.actions)
        return total

    def probe(self) -> float:
        """Compute the mean distance on networks and real batches that never change."""
        rng = np.random.default_rng([self.seed, 1])
        if not self._probes:  # networks of a separate learner, or new ones
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.probe_seed)
                if self.config.theta == "initial":
                    self._probes = list(itertools.islice(self.thetas("initial", rng), PROBES))
                else:
                    pairs = [_copied(*pair) for pair in self._learner(rng, of_data=True)]
                    places = np.linspace(0, len(pairs) - 1, PROBES).round().astype(int)
                    self._probes = [pairs[place] for place in places]
        rng = np.random.default_rng([self.seed, 2])
        distances = [self.backward(*pair, rng) for pair in self._probes]
        for leaf in self.synthetic.leaves:
            leaf.grad = None
        return float(np.mean(distances))


def _copied(theta: PolicyNetwork, target: PolicyNetwork) -> Pair:
    return copy.deepcopy(theta), target


def _frozen(network: PolicyNetwork) -> PolicyNetwork:
    """Return a copy whose weights are constants."""
    return copy.deepcopy(network).requires_grad_(False)


def distance(
    theta: nn.Module,
    target: nn.Module,
    own: Transitions,
    real: Transitions,
    config: QMatchConfig,
) -> Tensor:
    """Return the distance of synthetic from real transitions, differentiable in the former."""
    gamma, alpha = config.gamma, config.conservative
    if config.match == "loss":
        with torch.no_grad():
            l_real = q_loss(theta, target, real, gamma, alpha)
        l_syn = q_loss(theta, target, own, gamma, alpha)
        return ((l_syn - l_real) / l_real.clamp_min(1e-12)) ** 2
    parameters = list(theta.parameters())
    g_real = torch.autograd.grad(q_loss(theta, target, real, gamma, alpha), parameters)
    l_syn = q_loss(theta, target, own, gamma, alpha)
    g_syn = torch.autograd.grad(l_syn, parameters, create_graph=True)
    return DISTANCES[config.distance](list(g_syn), list(g_real))


def known_rows(dataset: TransitionDataset) -> Array:
    """Return the rows whose next observation is known: all but those at a truncation."""
    return np.flatnonzero(dataset.next_rows >= 0)


def start_rows(
    dataset: TransitionDataset, size: int, start: str, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw initial real rows, and compute their weights.

    Args:
        dataset: the source.
        size: number of rows to draw.
        start: `stratified`, `balanced` or `random`.
        rng: generator of the draw.

    Returns:
        `(size,)` rows, sorted by action, and `(size,)` float32 weights of mean one.

    Raises:
        BadConfig: fewer rows have a known next observation.
    """
    known = known_rows(dataset)
    if size > len(known):
        raise BadConfig(f"{len(known)} transitions have a known next observation, not {size}")
    actions = np.asarray(dataset.actions)[known]
    if start == "random":
        rows = np.sort(rng.choice(known, size, replace=False))
        order = np.argsort(np.asarray(dataset.actions)[rows], kind="stable")
        return rows[order], np.ones(size, np.float32)
    strata = actions if start == "balanced" else 3 * actions + outcomes(dataset)[known]
    present, counts = np.unique(strata, return_counts=True)
    allot = shares(counts, size) if start == "balanced" else proportional_shares(counts, size)
    chosen, weights = [], []
    for stratum, count, share in zip(present, counts, allot, strict=True):
        drawn = rng.choice(known[strata == stratum], share, replace=False)
        chosen.append(np.sort(drawn))
        weights.append(np.full(share, count / max(share, 1)))
    all_weights = np.concatenate(weights)
    return np.concatenate(chosen), (all_weights / all_weights.mean()).astype(np.float32)


def outcomes(dataset: TransitionDataset) -> Array:
    """Return the outcome of each row: 0 the commonest reward, 1 another reward, 2 the end."""
    rewards = np.asarray(dataset.column("rewards"))
    values, counts = np.unique(rewards, return_counts=True)
    other = rewards != values[counts.argmax()]
    return np.where(dataset.column("terminations"), 2, other.astype(np.int64))


def proportional_shares(counts: Array, size: int) -> npt.NDArray[np.int64]:
    """Split `size` in proportion to `counts`, with at least one each if `size` suffices."""
    parts = np.zeros(len(counts), np.int64)
    if len(counts) <= size:
        parts += 1
    while parts.sum() < size:  # the next goes to the largest count for each row (Sainte-Lague)
        parts[np.where(parts < counts, counts / (2 * parts + 1), -1).argmax()] += 1
    return parts
