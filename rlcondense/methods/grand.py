"""GraNd scores (Paul et al., 2021, arXiv 2107.07075, definition 2.1).

The score of a row is the norm of its loss's gradient over all weights, in expectation over networks
early in training. The paper also computes it at initialisation, where it is uninformative (Kirsch,
2023, arXiv 2303.14753), so networks are trained briefly first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from rlcondense.cloning import losses_of_head
from rlcondense.datasets.scores import Scores
from rlcondense.methods.base import Problem
from rlcondense.methods.el2n import ScoreConfig, mean_scores
from rlcondense.methods.parts.features import targets_of
from rlcondense.methods.parts.scorers import RowScorer
from rlcondense.networks import PolicyNetwork

CHUNK = 64  # rows whose gradients are in memory at a time, one layer after another


class GraNd(RowScorer[ScoreConfig]):
    """Keeps the rows with the largest gradient norms early in training.

    Paper: networks=10, updates=0
    """

    Config = ScoreConfig
    id = "grand"

    def _score(self, problem: Problem) -> Scores:
        targets = targets_of(problem, self.config.labels)
        observations = problem.dataset.observations

        def score(network: PolicyNetwork) -> npt.NDArray[Any]:
            return gradient_norms(network, observations, targets, problem)

        scores = mean_scores(problem, self.config, score)
        taken = scores.gradient_evaluations + self.config.networks * len(targets)
        return replace(scores, gradient_evaluations=taken)


def gradient_norms(
    network: PolicyNetwork, observations: npt.NDArray[Any], targets: Tensor, problem: Problem
) -> npt.NDArray[np.float32]:
    """Compute the exact L2 norm of the gradient of each row's loss over all weights.

    Args:
        network: a network of linear and convolutional layers, as all networks of this package are.
        observations: `(N, *observation)`.
        targets: `(N, A)` distributions or continuous actions, on the network's device.
        problem: its progress receives the number of finished rows.

    Returns:
        `(N,)` norms.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append((layer, inputs[0], output))
        return output.clone()  # the next layer may change it in place

    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    gaussian = network.spec.head == "gaussian"  # it learns a spread beside the layers
    weights = sum(1 for m in layers for _ in m.parameters()) + gaussian
    assert weights == sum(1 for _ in network.parameters())
    losses = losses_of_head(network.spec.head)
    handles = [layer.register_forward_hook(watch) for layer in layers]
    norms = []
    for start in range(0, len(targets), CHUNK):
        rows = slice(start, start + CHUNK)
        batch = torch.from_numpy(np.array(observations[rows])).to(targets.device)
        # No row's loss depends on another row, so the sum's gradient contains each row's own.
        outputs = network(batch)
        loss = losses(outputs, targets[rows]).sum()
        *deltas, by_output = torch.autograd.grad(loss, [*(out for *_, out in seen), outputs])
        squares = [
            _squared_norms(layer, x, delta)
            for (layer, x, _), delta in zip(seen, deltas, strict=True)
        ]
        if gaussian:
            by_log_std = network.spec.log_std_gain * by_output[:, by_output.shape[1] // 2 :]
            squares.append(by_log_std.square().sum(1))
        norms.append(torch.stack(squares).sum(0).sqrt().cpu().numpy())
        seen.clear()
        problem.progress("score rows", start + len(batch), len(targets))
    for handle in handles:
        handle.remove()
    return np.concatenate(norms)


@torch.no_grad()
def _squared_norms(layer: nn.Module, x: Tensor, delta: Tensor) -> Tensor:
    """Compute the squared norms `(B,)` of each row's gradient over a layer's weights and bias.

    Args:
        layer: linear or convolutional.
        x: inputs of the layer `(B, ...)`.
        delta: gradients of the loss by the layer's outputs `(B, ...)`.
    """
    if isinstance(layer, nn.Linear):  # the outer product of delta and x, and delta for the bias
        return delta.square().sum(1) * (x.square().sum(1) + 1)
    assert isinstance(layer, nn.Conv2d)
    rows, (out, *kernel) = len(x), layer.weight.shape
    # One group of channels for each row gives each row's gradient in one convolution.
    by_row: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        x.reshape(1, -1, *x.shape[2:]),
        (rows * out, *kernel),
        delta.reshape(1, -1, *delta.shape[2:]),
        stride=layer.stride,
        padding=layer.padding,
        groups=rows,
    )
    squares: Tensor = by_row.reshape(rows, -1).square().sum(1) + delta.sum((2, 3)).square().sum(1)
    return squares
