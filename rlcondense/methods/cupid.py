"""CUPID: an episode's influence on the return of rollouts (Agia et al., 2025, arXiv 2506.19121).

    Psi(xi) = - grad J(pi)^T  H^-1  mean_{(s, a) in xi} grad loss(s, a),
    grad J(pi) = mean_tau  R(tau)  sum_{(s, a) in tau} grad log pi(a | s)

is how the expected return J of a cloned policy changes as the episode xi weighs more in its data,
to first order. The policy is rolled out on seen levels, which the method pays for. As in the paper
H is the mean outer product of random projections of gradients (TRAK: Park et al., 2023, arXiv
2303.14186). Gradients are those of the last layer, outer products of an error and a feature, so
that the product of two projections is one of the whole; the paper's are of all weights. Returns
are taken in deviations from the rollouts' mean, for less variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rlcondense.config import check_positive
from rlcondense.datasets.scores import Scores
from rlcondense.errors import BadConfig
from rlcondense.limits import check_most
from rlcondense.methods.base import Problem
from rlcondense.methods.gradient_omp import head_factors, with_one
from rlcondense.methods.parts.features import BATCH, FeatureConfig, cloned_network
from rlcondense.methods.parts.scorers import EpisodeScorer
from rlcondense.networks import PolicyNetwork, spread
from rlcondense.policies import NetworkPolicies, noise_stream
from rlcondense.rollout import Rollout
from rlcondense.types import Array

ENVIRONMENTS = 20


@dataclass(frozen=True)
class CupidConfig(FeatureConfig):
    """Settings.

    Attributes:
        updates: number of updates of the policy that is rolled out.
        episodes: number of rollouts, a multiple of 20, or fewer than 20.
        projection: width of the random projections.
        ridge: number added to the diagonal of H, as a fraction of its mean.
    """

    updates: int = 800
    episodes: int = 100
    projection: int = 512
    ridge: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "episodes", "projection", "ridge")
        sums = self.episodes * self.projection
        check_most("episodes x projection", sums, "weights of a network")
        if self.episodes > ENVIRONMENTS and self.episodes % ENVIRONMENTS:
            raise BadConfig(f"episodes must be a multiple of {ENVIRONMENTS}, not {self.episodes}")


class Cupid(EpisodeScorer[CupidConfig]):
    """Keeps the episodes that raise the return of a policy cloned from the data the most.

    Its environment steps are those of the episodes, without those of environments that have played
    theirs and wait for the last one.

    Paper: projection=4000, episodes=100
    """

    Config = CupidConfig
    access = "online"
    stochastic = True
    id = "cupid"

    def _score(self, problem: Problem) -> Scores:
        c, rng = self.config, np.random.default_rng([problem.seed, 6])
        seed = int(rng.integers(2**31))
        network = cloned_network(problem, c.network, c.updates, c.labels, seed)
        errors, features = head_factors(problem, network, c.labels)
        sketch = Sketch(errors.shape[1], features.shape[1], c.projection, rng)
        phi = sketch(errors, features)  # (N, P)
        hessian = phi.T @ phi / len(phi)
        hessian += c.ridge * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
        gradients, returns, steps = roll_out(problem, network, sketch, c.episodes, seed)
        if np.ptp(returns) == 0:
            raise BadConfig(
                f"method {self.id!r} learns from rollouts that differ, and each of {len(returns)} "
                f"returns {returns[0]:g}: more episodes or updates may tell them apart"
            )
        advantages = returns - returns.mean()
        ascent = np.linalg.solve(hessian, advantages @ gradients / len(gradients))
        values = Scores(phi @ ascent, "rows").of_episodes(problem.dataset)
        rows = BATCH * c.updates + len(phi) + steps  # each step of a rollout has its gradient too
        return Scores(values, gradient_evaluations=rows, environment_steps=steps)


class Sketch:
    """Random projections of outer products, which keep inner products on average.

    Args:
        outputs: length of the errors.
        inputs: length of the features.
        width: width of the projections.
        rng: draws them.

    Attributes:
        width: width of the projections.
    """

    def __init__(self, outputs: int, inputs: int, width: int, rng: np.random.Generator) -> None:
        self.width = width
        self._errors = rng.normal(size=(outputs, width))
        self._features = rng.normal(size=(inputs, width)) / np.sqrt(width)

    def __call__(self, errors: Array, features: Array) -> npt.NDArray[np.float64]:
        """Project the outer products of errors `(B, A)` and features `(B, F)` to `(B, P)`."""
        return np.asarray((errors @ self._errors) * (features @ self._features))


def roll_out(
    problem: Problem, network: PolicyNetwork, sketch: Sketch, episodes: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Roll a policy out on seen levels.

    Returns:
        The sums over the steps of each episode `(T, P)` of the sketched gradients of the loss of
        the actions taken, the episodes' returns `(T,)`, and the steps of these episodes, without
        those of environments that wait for the last one.
    """
    num_envs = min(episodes, ENVIRONMENTS)
    quota, task = episodes // num_envs, problem.task
    policies = NetworkPolicies([network], [0], device=problem.device, space=task.action_space)
    noise = noise_stream(seed, 0, num_envs, task.action_space.shape or ())
    sums = np.zeros((num_envs, quota, sketch.width))
    slots = np.zeros(num_envs, np.int64)

    def act(observations: Array, environments: Array) -> Array:
        drawn = next(noise)[environments]
        # The gradient is one of the density of what was drawn, which the action's bounds cut off.
        actions = policies.draw(observations, np.zeros(len(environments), np.int64), drawn)
        sums[environments, slots[environments]] += sketch(
            *factors_of(network, observations, actions, problem.device)
        )
        return policies.boxed(actions)

    def observe(environments: Array, rewards: Array, ended: Array) -> None:
        slots[environments] += ended
        problem.progress("roll out", int(slots.sum()), episodes)

    env = task.make_vec("seen", num_envs, seed=seed)
    rollout = Rollout(env, act, quota, seed, observe, ("the cloned policy", f"task {task.id!r}"))
    while not rollout.done:
        rollout.start_step()
        rollout.finish_step()
    rollout.close()
    steps = int(rollout.lengths.sum())
    return sums.reshape(episodes, -1), rollout.returns.ravel(), steps


@torch.no_grad()
def factors_of(
    network: PolicyNetwork, observations: Array, actions: Array, device: str
) -> tuple[Array, Array]:
    """Return a policy's errors `(B, A)` for actions taken and the last inputs `(B, F + 1)`."""
    x = torch.from_numpy(np.array(observations)).to(device)
    features = network.features(x)
    outputs = network.head(features)
    if network.spec.head == "categorical":
        errors = outputs.softmax(1).cpu().numpy() - np.eye(outputs.shape[1])[actions]
    else:
        log_std = spread(network.log_std, network.spec.log_std_gain)
        errors = outputs.cpu().numpy() - np.asarray(actions).reshape(len(actions), -1)
        errors = errors / np.exp(2 * log_std.cpu().numpy())
    return errors, with_one(features.cpu().numpy())
