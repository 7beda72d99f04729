"""Proximal policy meta-optimisation of RL-to-SL (Wilhelm and Ventura, 2025, arXiv 2508.09283).

    D_syn, eta = argmin  E_theta0  L_PPO( theta_k ),
    theta_(i+1) = theta_i - eta grad_theta  mean_(s, a) ( z_theta_i(x_s)_a - y_sa )^2

A student with new initial weights makes k supervised steps (one, in the paper) on the synthetic
rows, plays, and the gradient of PPO's clipped loss of what it played flows back through these steps
to the rows x, their targets y and the step size eta. A critic that outlives the students estimates
advantages. Neither data nor an expert is needed; environment steps are paid. Targets are
real-valued labels of the logits; of continuous actions they are actions, learned by likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlcondense.cloning import OPTIMISERS, descend, losses_of_head
from rlcondense.config import LATER, check_choice, check_least, check_positive, check_share
from rlcondense.datasets.report import shown_curve
from rlcondense.errors import RLCondenseError
from rlcondense.limits import MOST_EVALUATION_SEED
from rlcondense.methods.base import Condensation, Method, Problem
from rlcondense.methods.parts.students import check_learner, network_like
from rlcondense.methods.parts.synthetic import optimiser_state, restore_optimiser, under
from rlcondense.methods.parts.unrolled import Training, add_gradients, differentiate, held
from rlcondense.networks import (
    INITS,
    LOG_STDS,
    NetworkSpec,
    check_network,
    fitting_network,
    fresh_from,
    given_options,
)
from rlcondense.policies import head_of
from rlcondense.policy_gradient import (
    DISTRIBUTIONS,
    RewardScale,
    advantages_of,
    check_cuts,
    check_rollout,
    policy_loss,
    possible,
    standardised_advantages,
    value_loss,
)
from rlcondense.runtime.progress import RESUMED
from rlcondense.tasks.base import Task
from rlcondense.types import Array

SEGMENT = 20  # inner steps whose graph is in memory at a time
EPSILON = 1e-5  # Adam's, as in the authors' code
VALUE_CLIP = 0.2  # of a value's change, in units of the scaled return


@dataclass(frozen=True)
class PpmoConfig:
    """Settings.

    Attributes:
        iterations: number of students that play (the paper: 10,000).
        inner_steps: k, steps of SGD of a student on all rows.
        inner_rate: step size of these steps at first; it is learned.
        learning_rate: learning rate of Adam for rows, targets and the logarithm of the step size
            (the paper: 2.5e-4, of the step size itself).
        value_rate: learning rate of Adam for the critic (the paper: 2.5e-4).
        num_envs: environments in which a student plays.
        rollout_length: steps in each.
        epochs: passes over what a student played.
        minibatches: minibatches of each pass.
        discount: gamma.
        gae_lambda: lambda of generalised advantage estimation.
        clip: range of the probability ratio.
        entropy_bonus: weight of the policy's entropy.
        max_gradient_norm: norm to which gradients are clipped, of rows and critic each.
        network: name of the students' network; None is `nature` for frames, and `mlp` for vectors
            and small frames.
        width: see `rlcondense.networks.NetworkSpec`; None is 64 for `mlp`.
        depth: likewise; None is 2.
        activation: likewise; None is `tanh`.
        init: initialisation of the weights; see `rlcondense.networks.PolicyNetwork`.
        log_std: parametrisation of a Gaussian policy's log-std; see
            `rlcondense.networks.NetworkSpec`.
    """

    iterations: int = 150
    inner_steps: int = 1
    inner_rate: float = 1.0
    learning_rate: float = 0.02
    value_rate: float = 1e-3
    num_envs: int = 16
    rollout_length: int = 500
    epochs: int = 4
    minibatches: int = 4
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_bonus: float = 0.0
    max_gradient_norm: float = 0.5
    network: str | None = None
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    init: str = "orthogonal"
    log_std: str = field(default="plain", metadata=LATER)

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "inner_steps", "inner_rate", "learning_rate")
        check_positive(self, "value_rate", "num_envs", "rollout_length", "epochs", "minibatches")
        check_positive(self, "clip", "max_gradient_norm")
        check_rollout(self.num_envs, self.rollout_length)
        check_share(self, "discount", "gae_lambda")
        check_least(self, "entropy_bonus")
        if self.network is not None:
            check_network(self.network, given_options(self))
        check_choice(self, "init", INITS)
        check_choice(self, "log_std", LOG_STDS)

    def spec(self, task: Task) -> NetworkSpec:
        """Return the network spec of a task's students."""
        shape = task.observation_space.shape
        assert shape is not None
        network = self.network or fitting_network("nature", shape)
        own = {"width": 64, "depth": 2, "activation": "tanh"} if network == "mlp" else {}
        outputs, head = head_of(task.action_space)
        options = {**own, **given_options(self)}
        return NetworkSpec(network, shape, outputs, **options, head=head, log_std=self.log_std)


class Ppmo(Method[PpmoConfig]):
    """Learns rows, targets and a step size with which a step or a few make a new network play well.

    Paper: iterations=10000, inner_steps=1, inner_rate=0.02, learning_rate=0.00025,
        value_rate=0.00025, num_envs=10, rollout_length=200, epochs=4, minibatches=4,
        entropy_bonus=0.0, width=64, depth=2, activation=tanh, init=orthogonal
    """

    Config = PpmoConfig
    access = "online"
    takes_data = False
    label_kinds: ClassVar[tuple[str, ...]] = ("soft", "continuous")
    gives = frozenset({"observations", "actions", "action_probs"})
    id = "ppmo"

    def students(self, task: Task) -> dict[str, Any]:
        spec = self.config.spec(task)
        gaussian = {"log_std": spec.log_std} if spec.head == "gaussian" else {}
        return {
            "network": spec.name, **spec.options, "init": self.config.init,
            "loss": "nll" if spec.head == "gaussian" else "logit-mse",
            "updates": self.config.inner_steps, "batch_size": None, "optimiser": "sgd",
            "learning_rate": self.config.inner_rate, "rate": "dataset", **gaussian,
        }  # fmt: skip

    @classmethod
    def settings_like(cls, learner: Mapping[str, Any]) -> dict[str, Any]:
        needs: dict[str, Any] = {"batch_size": None, "optimiser": "sgd"}
        if learner.get("head") != "gaussian":  # of which all losses are the likelihood's
            needs["loss"] = "logit-mse"
        check_learner(learner, needs, cls.id)
        names = {"updates": "inner_steps", "learning_rate": "inner_rate"}
        network = {k: v for k, v in network_like(learner, ("log_std",)).items() if k != "input"}
        return network | {own: learner[name] for name, own in names.items()}

    def label_form(self, task: Task) -> str:
        return "continuous" if isinstance(task.action_space, Box) else "targets"

    def bytes_beside(self, task: Task) -> tuple[int, int]:
        return (4, 0)  # the step size

    def _condense(self, problem: Problem) -> Condensation:
        run = _Run(problem, self.config)
        first = run.resume()
        for iteration in range(first, self.config.iterations):
            if problem.checkpoint and problem.checkpoint.due:
                run.keep(iteration)
            returns = run.iterate(iteration)
            problem.progress(
                "condense",
                iteration + 1,
                self.config.iterations,
                f"return {returns.mean():.4g}, step {run.learned.rate():.3g}, {run.steps:,} steps",
            )
        columns = run.learned.columns()
        return Condensation(
            columns,
            label_kind="continuous" if problem.continuous else "soft",
            learning_rate=run.learned.rate(),
            gradient_evaluations=run.gradient_evaluations,
            environment_steps=run.steps,
            curve=shown_curve(run.curve),
        )


class Learned(nn.Module):
    """Rows, their targets, and the logarithm of the step size.

    Args:
        problem: the problem with the task and the size.
        rate: step size at first.
    """

    def __init__(self, problem: Problem, rate: float) -> None:
        super().__init__()
        space, self._actions = problem.task.observation_space, problem.task.action_space
        assert isinstance(space, Box)
        self._pixels, rng = space.dtype == np.uint8, problem.rng()
        rows = rng.standard_normal((problem.size, *space.shape))
        self.rows = nn.Parameter(_float(rows / 4 + 0.5 if self._pixels else rows))
        self.labels = nn.Parameter(_float(rng.standard_normal((problem.size, problem.num_outputs))))
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))
        self.clamp()

    def inputs(self) -> list[Tensor]:
        """Return what a step takes: observations `(M, ...)`, targets `(M, A)` and the step size."""
        return [self.rows * 255 if self._pixels else self.rows, self.labels, self.log_rate.exp()]

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp pixels and continuous actions to their spaces."""
        if self._pixels:
            self.rows.clamp_(0, 1)
        if isinstance(self._actions, Box):
            ends = (self._actions.low, self._actions.high)
            low, high = (torch.from_numpy(e.reshape(-1)).to(self.labels) for e in ends)
            self.labels.clamp_(low, high)

    def rate(self) -> float:
        """Return the step size."""
        return float(self.log_rate.detach().exp())

    @torch.no_grad()
    def columns(self) -> dict[str, Array]:
        """Return the rows of a condensed dataset."""
        observations, labels, _ = self.inputs()
        columns = {"observations": observations.cpu().numpy().copy()}
        if isinstance(self._actions, Box):
            shape = (len(labels), *self._actions.shape)
            return {**columns, "actions": labels.cpu().numpy().reshape(shape).copy()}
        return {
            **columns,
            "actions": labels.argmax(1).cpu().numpy(),
            "action_probs": labels.softmax(1).cpu().numpy(),
            "targets": labels.cpu().numpy().copy(),
        }


def objective(
    training: Training, head: str, batch: Mapping[str, Tensor], clip: float, entropy_bonus: float
) -> Callable[[list[Tensor]], Tensor]:
    """Return PPO's loss of a student as a function of its parameters.

    Args:
        training: gives the student's outputs.
        head: `categorical` or `gaussian`.
        batch: `observations` and the columns of `policy_loss`.
        clip: range of the probability ratio.
        entropy_bonus: weight of the entropy.
    """

    def loss(state: list[Tensor]) -> Tensor:
        distribution = DISTRIBUTIONS[head](training.outputs(state, batch["observations"]))
        return (
            policy_loss(distribution, batch, clip) - entropy_bonus * distribution.entropy().mean()
        )

    return loss


class _Run:
    """State of the optimisation.

    Attributes:
        learned: what is learned.
        steps: environment steps so far.
        gradient_evaluations: number of gradients of one row's loss so far.
        curve: steps, best and mean return after each iteration.
    """

    def __init__(self, problem: Problem, c: PpmoConfig) -> None:
        self.problem, self.config, self.spec = problem, c, c.spec(problem.task)
        self.learned = Learned(problem, c.inner_rate).to(problem.device)
        critic = replace(self.spec, num_outputs=1, head="categorical")
        seed = problem.torch_seed(1)
        self.critic = fresh_from(critic, problem.device, seed, "orthogonal-all")
        adam = OPTIMISERS["adam"]
        self._outer = adam(self.learned.parameters(), lr=c.learning_rate, eps=EPSILON)
        self._values = adam(self.critic.parameters(), lr=c.value_rate, eps=EPSILON)
        self._scale = RewardScale(c.num_envs, c.discount)
        self.steps, self.gradient_evaluations = 0, 0
        self.curve: list[list[float]] = []

    def iterate(self, iteration: int) -> Array:
        """Let a student learn and play, and make the steps of all minibatches of what it played.

        Returns:
            Returns `(E,)` of its episodes; of those that ended, if any did.
        """
        c, problem = self.config, self.problem
        seed = problem.torch_seed(2, iteration) % MOST_EVALUATION_SEED  # Procgen takes no more
        network = fresh_from(self.spec, problem.device, seed, c.init)
        categorical = self.spec.head == "categorical"
        losses = losses_of_head(self.spec.head, "logit-mse" if categorical else "nll")
        training = Training(network, losses, "sgd", None)
        start = training.begin(network.parameters())
        generator = torch.Generator(problem.device).manual_seed(seed)
        taught = start
        for i in range(c.inner_steps):
            taught = training(i, taught, self.learned.inputs(), False)
        if not all(weight.isfinite().all() for weight in taught):
            raise RLCondenseError(
                "a student of ppmo has diverged: a smaller inner_rate or learning_rate, or fewer "
                "inner_steps, may help"
            )
        self.gradient_evaluations += problem.size * c.inner_steps
        played, returns = self._played(lambda x: training.outputs(taught, x), generator, seed)
        for batch in self._minibatches(played, generator):
            inputs = self.learned.inputs()
            apart = held(inputs)
            outer = objective(training, self.spec.head, batch, c.clip, c.entropy_bonus)
            _, gradients = differentiate(
                training, outer, start, range(c.inner_steps), apart, SEGMENT
            )
            self._outer.zero_grad()
            leaves: list[Tensor] = list(self.learned.parameters())
            add_gradients(inputs, gradients, leaves, c.max_gradient_norm)
            self._outer.step()
            self.learned.clamp()
            values = self.critic(batch["observations"]).squeeze(1)
            descend(self._values, value_loss(values, batch, VALUE_CLIP), self._clip_critic)
            rows = problem.size * c.inner_steps + 2 * len(values)
            self.gradient_evaluations += rows
        self.curve.append([float(self.steps), float(returns.max()), float(returns.mean())])
        return returns

    def _clip_critic(self) -> None:
        nn.utils.clip_grad_norm_(self.critic.parameters(), self.config.max_gradient_norm)

    @torch.no_grad()
    def _played(
        self, policy: Callable[[Tensor], Tensor], generator: torch.Generator, seed: int
    ) -> tuple[dict[str, Tensor], Array]:
        """Play fixed numbers of steps in seen levels, from the beginning of an episode.

        Args:
            policy: gives outputs `(N, ...)` for observations.
            generator: draws the actions.
            seed: of the levels.

        Returns:
            Columns of T x N transitions, and the episodes' returns.
        """
        c, device, task = self.config, self.problem.device, self.problem.task
        t, n = c.rollout_length, c.num_envs
        rewards, ends = np.zeros((t, n), np.float32), np.zeros((t, n), np.bool_)
        values, cut_values = np.zeros((t + 1, n), np.float32), np.zeros((t, n), np.float32)
        seen, taken, likely = [], [], []
        env = task.make_vec("seen", n, seed=seed, num_threads=torch.get_num_threads())

        def value(observations: Array) -> Array:
            return np.asarray(self.critic(_on(observations, device)).squeeze(1).cpu())

        observations, _ = env.reset(seed=seed)
        for step in range(t):
            x = _on(observations, device)
            distribution = DISTRIBUTIONS[self.spec.head](policy(x))
            actions = distribution.draw(generator)
            values[step] = self.critic(x).squeeze(1).cpu().numpy()
            seen.append(x)
            taken.append(actions)
            likely.append(distribution.log_probs(actions))
            observations, rewards[step], ended, cut, infos = env.step(
                possible(actions.cpu().numpy(), task.action_space)
            )
            ends[step] = ended | cut
            cut = cut & ~ended
            check_cuts(cut, infos, task.id)
            if cut.any():
                cut_values[step][cut] = value(infos["final_obs"][cut])
        values[t] = value(observations)
        env.close()
        self.steps += t * n
        self._scale.returns[:] = 0
        scaled = np.array([self._scale(r, e) for r, e in zip(rewards, ends, strict=True)])
        advantages = advantages_of(scaled, values, ends, cut_values, c.discount, c.gae_lambda)
        estimates = torch.from_numpy(advantages.reshape(-1)).to(device)
        old = torch.from_numpy(values[:-1].reshape(-1)).to(device)
        return {
            "observations": torch.cat(seen),
            "actions": torch.cat(taken),
            "log_probs": torch.cat(likely),
            "advantages": standardised_advantages(estimates),
            "values": old,
            "returns": estimates + old,
        }, episode_returns(rewards, ends)

    def _minibatches(
        self, played: Mapping[str, Tensor], generator: torch.Generator
    ) -> Iterator[dict[str, Tensor]]:
        size, device = len(played["values"]), self.problem.device
        for _ in range(self.config.epochs):
            order = torch.randperm(size, generator=generator, device=device)
            for rows in order.chunk(self.config.minibatches):
                yield {name: column[rows] for name, column in played.items()}

    def keep(self, iteration: int) -> None:
        """Write a checkpoint."""
        assert self.problem.checkpoint is not None
        arrays = {"curve": np.array(self.curve).reshape(-1, 3), "moments": self._scale.moments}
        for name, module, optimiser in self._parts():
            state = {k: v.detach().cpu().numpy() for k, v in module.state_dict().items()}
            arrays |= {f"{name}.{k}": v for k, v in state.items()}
            arrays |= optimiser_state(f"{name}-adam", optimiser)
        facts = {
            "iteration": iteration,
            "steps": self.steps,
            "gradient_evaluations": self.gradient_evaluations,
        }
        self.problem.checkpoint.write(arrays, facts)

    def resume(self) -> int:
        """Restore a checkpoint, if there is one, and return the iteration to go on with."""
        saved = self.problem.checkpoint.read() if self.problem.checkpoint else None
        if saved is None:
            return 0
        arrays, facts = saved
        for name, module, optimiser in self._parts():
            state = under(f"{name}.", arrays)
            module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
            restore_optimiser(f"{name}-adam", optimiser, arrays)
        self.curve, self._scale.moments = arrays["curve"].tolist(), np.array(arrays["moments"])
        self.steps, self.gradient_evaluations = facts["steps"], facts["gradient_evaluations"]
        self.problem.progress("condense", facts["iteration"], self.config.iterations, RESUMED)
        return int(facts["iteration"])

    def _parts(self) -> Sequence[tuple[str, nn.Module, torch.optim.Optimizer]]:
        return [("rows", self.learned, self._outer), ("critic", self.critic, self._values)]


def episode_returns(rewards: Array, ends: Array) -> Array:
    """Return returns `(E,)` of the episodes that ended; of all so far, if none did.

    Args:
        rewards: `(T, N)`.
        ends: `(T, N)` whether an episode ended with a step.
    """
    totals, finished = np.zeros(rewards.shape[1]), []
    for paid, ended in zip(rewards, ends, strict=True):
        totals += paid
        finished.append(totals[ended])
        totals[ended] = 0
    done = np.concatenate(finished)
    return done if len(done) else totals


def _float(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _on(observations: Array, device: str) -> Tensor:
    return torch.tensor(observations).to(device)
