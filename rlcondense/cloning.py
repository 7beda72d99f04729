"""Supervised learning of actions from observations, shared by learners and methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rlcondense.networks import PolicyNetwork

SHIFT = 4  # most pixels by which an augmentation shifts a frame
LOSSES = ("cross-entropy", "softmax-mse", "softmax-mae", "logit-mse", "nll")
# On a CPU, torch's loop over tensors writes to memory of its own more often than its foreach form,
# which gives the same bytes in half to two thirds of the time.
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, foreach=True),
    "adamw": partial(torch.optim.AdamW, foreach=True),
    "sgd": partial(torch.optim.SGD, foreach=True),
}
CLONING_RATE = 5e-4  # of Adam in `cloning_updates`
DISCRETE_LOSSES = ("softmax-mse", "softmax-mae", "logit-mse")  # of discrete actions alone


class ShuffledBatches(Iterator[npt.NDArray[np.int64]]):
    """Endless batches of row indices from one shuffled pass after another.

    Args:
        rows: number of rows.
        size: size of a batch.
        rng: generator of the shuffles.

    Attributes:
        queue: remaining indices of the current passes.
    """

    def __init__(self, rows: int, size: int, rng: np.random.Generator) -> None:
        self._rows, self._size, self._rng = rows, size, rng
        self.queue = np.empty(0, np.int64)

    def __next__(self) -> npt.NDArray[np.int64]:
        while len(self.queue) < self._size:
            self.queue = np.concatenate([self.queue, self._rng.permutation(self._rows)])
        batch, self.queue = self.queue[: self._size], self.queue[self._size :]
        return np.sort(batch)


def shuffled_batches(rows: int, size: int, rng: np.random.Generator) -> ShuffledBatches:
    """Return endless batches of `size` row indices from one shuffled pass after another."""
    return ShuffledBatches(rows, size, rng)


def row_losses(logits: Tensor, targets: Tensor, name: str = "cross-entropy") -> Tensor:
    """Compute the loss of each row.

    Args:
        logits: `(B, A)`.
        targets: `(B, A)`, one-hot or distributions; for `logit-mse` any numbers.
        name: one of `LOSSES`.

    Returns:
        `(B,)`.
    """
    if name == "softmax-mse":
        return ((logits.softmax(1) - targets) ** 2).mean(1)
    if name == "softmax-mae":
        return (logits.softmax(1) - targets).abs().mean(1)
    if name == "logit-mse":
        return ((logits - targets) ** 2).mean(1)
    return F.cross_entropy(logits, targets, reduction="none")


def shifted(frames: Tensor, moves: npt.NDArray[Any]) -> Tensor:
    """Shift frames, and repeat their edges.

    Args:
        frames: `(B, C, H, W)`.
        moves: `(B, 2)` pixels from which each frame's first row and column come.
    """
    height, width = frames.shape[-2:]
    row = torch.arange(len(frames), device=frames.device)[:, None, None]
    by = torch.from_numpy(np.asarray(moves, np.int64)).to(frames.device)
    y = (by[:, :1] + torch.arange(height, device=frames.device)).clamp(0, height - 1)
    x = (by[:, 1:] + torch.arange(width, device=frames.device)).clamp(0, width - 1)
    return frames[row, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def clip_each(parameters: Sequence[Tensor], length: float) -> None:
    """Clip the gradients of students with stacked weights, each to a maximal norm.

    It does for each student what `torch.nn.utils.clip_grad_norm_` does for one network.

    Args:
        parameters: `(S, ...)`, with gradients.
        length: maximal norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (length / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))


def gaussian_losses(outputs: Tensor, actions: Tensor) -> Tensor:
    """Compute the negative log-likelihood of each continuous action.

    Args:
        outputs: `(B, 2A)`, means and logarithms of standard deviations.
        actions: `(B, A)`.

    Returns:
        `(B,)`.
    """
    mean, log_std = outputs.chunk(2, 1)
    errors = (actions - mean) / log_std.exp()
    return (errors**2 / 2 + log_std + math.log(2 * math.pi) / 2).sum(1)


def losses_of_head(head: str, name: str = "cross-entropy") -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss `(B,)` of a network's outputs and targets by its head.

    Args:
        head: `categorical`, or `gaussian`, whose loss is the negative log-likelihood.
        name: name of a categorical head's loss, one of `LOSSES`.
    """
    return gaussian_losses if head == "gaussian" else partial(row_losses, name=name)


def descend(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    clip: Callable[[], object] = lambda: None,
) -> None:
    """Take one step down the gradient of a loss.

    Args:
        optimiser: optimiser of the parameters.
        loss: a scalar.
        clip: called between the gradient and the step, to clip gradients.
    """
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    clip()
    optimiser.step()


def cloning_updates(
    network: PolicyNetwork,
    observations: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    targets: Tensor,
    rng: np.random.Generator,
    *,
    batch_size: int = 64,
) -> Iterator[float]:
    """Train a network by behavioural cloning, one update at a time.

    Args:
        network: changed in place.
        observations: `(N, *observation)`, perhaps memory-mapped.
        targets: `(N, A)`, one-hot or distributions, or actions for a Gaussian head; on the
            network's device.
        rng: generator of the batches.
        batch_size: number of rows in an update.

    Yields:
        The loss of each update.
    """
    optimiser = OPTIMISERS["adam"](network.parameters(), lr=CLONING_RATE)
    losses = losses_of_head(network.spec.head)
    for rows in shuffled_batches(len(targets), batch_size, rng):
        where = torch.from_numpy(rows).to(targets.device)
        batch = torch.from_numpy(np.asarray(observations[rows])).to(targets.device)
        loss = losses(network(batch), targets[where]).mean()
        descend(optimiser, loss)
        yield float(loss.detach())
