"""Behavioural cloning (Pomerleau, 1989): supervised learning of the action from the observation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rlcondense.config import check_choice, check_positive
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.learners.base import Learner
from rlcondense.methods.condensed import CondensedDataset
from rlcondense.networks import ENCODERS, INPUTS, NetworkSpec, PolicyNetwork
from rlcondense.policies import ACTION_SELECTIONS, NetworkPolicies
from rlcondense.progress import Progress, silent
from rlcondense.tasks.base import Task

LOSSES = ("cross-entropy", "softmax-mse", "nll")
OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class BCConfig:
    """Settings.

    Attributes:
        network: `nature`, `cnn4` or `impala`.
        loss: `cross-entropy` with the labels the data has, `softmax-mse` (the mean squared error
            of the softmax, Light et al., 2024), or `nll` (of the action taken, whatever the
            labels).
        input: `scaled` divides pixels by 255, `raw` does not.
        updates: gradient steps.
        batch_size: rows of each step, None for all rows. Small data is gone through again and
            again, so that every method gets the same compute.
        optimiser: `adam`, `adamw` or `sgd`.
        learning_rate: its step size.
        action_selection: how the policies act, `sample` or `greedy`.
    """

    network: str = "nature"
    loss: str = "cross-entropy"
    input: str = "scaled"
    updates: int = 800
    batch_size: int | None = 64
    optimiser: str = "adam"
    learning_rate: float = 5e-4
    action_selection: str = "sample"

    def __post_init__(self) -> None:
        check_positive(self, "updates", "batch_size", "learning_rate")
        check_choice(self, "network", tuple(ENCODERS))
        check_choice(self, "loss", LOSSES)
        check_choice(self, "input", INPUTS)
        check_choice(self, "optimiser", tuple(OPTIMISERS))
        check_choice(self, "action_selection", ACTION_SELECTIONS)


class BehaviouralCloning(Learner[BCConfig]):
    """Trains each policy on minibatches of shuffled passes over the rows."""

    Config = BCConfig
    id = "bc"

    def fit(
        self,
        data: CondensedDataset,
        *,
        task: Task,
        seeds: Sequence[int],
        device: str = "cpu",
        progress: Progress = silent,
    ) -> NetworkPolicies:
        num_actions = getattr(task.action_space, "n", None)
        if num_actions is None:
            raise BadConfig(f"learner {self.id!r} needs discrete actions, {task.id!r} has none")
        c = self.config
        spec = NetworkSpec(c.network, data.observations.shape[1:], int(num_actions), c.input)
        targets = self._targets(data, int(num_actions))
        networks = []
        for place, seed in enumerate(seeds):

            def report(updates: int, loss: float, place: int = place) -> None:
                done = place * c.updates + updates
                progress("train", done, len(seeds) * c.updates, f"loss {loss:.3f}")

            networks.append(self._fit_one(data, targets, spec, seed, device, report))
        return NetworkPolicies(networks, seeds, device=device, action_selection=c.action_selection)

    def _targets(self, data: CondensedDataset, num_actions: int) -> npt.NDArray[np.float32]:
        if data.label_kind == "soft" and self.config.loss != "nll":
            return data.column("action_probs").astype(np.float32)
        return np.eye(num_actions, dtype=np.float32)[data.actions]

    def _fit_one(
        self,
        data: CondensedDataset,
        targets: npt.NDArray[np.float32],
        spec: NetworkSpec,
        seed: int,
        device: str,
        report: Callable[[int, float], None],
    ) -> PolicyNetwork:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PolicyNetwork(spec).to(device)
        optimiser = OPTIMISERS[c.optimiser](network.parameters(), lr=c.learning_rate)  # type: ignore[call-arg]
        weights = data.weights / data.weights.mean()
        batches = _batches(len(data), c.batch_size or len(data), np.random.default_rng(seed))
        for update in range(1, c.updates + 1):
            rows = next(batches)
            observations = torch.from_numpy(np.asarray(data.observations[rows])).to(device)
            losses = _loss(
                network(observations), torch.from_numpy(targets[rows]).to(device), c.loss
            )
            loss = (losses * torch.from_numpy(weights[rows]).to(device)).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if update % 20 == 0 or update == c.updates:
                report(update, loss.item())
        if not all(p.isfinite().all() for p in network.parameters()):
            raise RLCondenseError(
                f"learner {self.id!r} diverged with seed {seed} (try a smaller learning_rate)"
            )
        return network


def _batches(rows: int, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Endless batches of `size` row numbers from one shuffled pass after another."""
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(rows)])
        yield np.sort(queue[:size])
        queue = queue[size:]


def _loss(logits: Tensor, targets: Tensor, name: str) -> Tensor:
    """The loss of each row `(B,)`."""
    if name == "softmax-mse":
        return ((logits.softmax(1) - targets) ** 2).mean(1)
    return F.cross_entropy(logits, targets, reduction="none")
