"""Losses of many synthetic rows, with the activations of a few held at a time.

A loss of all rows is a function of statistics that each chunk of rows gives (its features, or the
gradient of its loss). They are computed without a graph first, the loss's gradient is taken for
them, and then each chunk is computed again to go on from them to its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlcondense.methods.parts.synthetic import Synthetic

CHUNK = 512  # rows; a network of the suite holds half a megabyte of each at most

Parts = Sequence[Sequence[Tensor]]  # the statistics of each chunk
# Statistics of observations `(B, *observation)`, of the rows of a slice; differentiable if True.
Part = Callable[[Tensor, slice, bool], Sequence[Tensor]]
Loss = Callable[[Parts], Tensor]


def features_of(features: Callable[[Tensor], Tensor]) -> Part:
    """The part whose one statistic are features of observations."""

    def part(observations: Tensor, _: slice, differentiable: bool) -> list[Tensor]:
        with torch.set_grad_enabled(differentiable):
            return [features(observations)]

    return part


def joined(parts: Parts, which: int = 0) -> Tensor:
    """One of the statistics, `(M, ...)`, of all chunks, row after row."""
    each = [part[which] for part in parts]
    return each[0] if len(each) == 1 else torch.cat(each)


def loss_by_chunks(synthetic: Synthetic, part: Part, loss: Loss) -> float:
    """The loss of all rows, without its gradient."""
    with torch.no_grad():
        chunks = _chunks(slice(0, len(synthetic.rows)))
        return float(loss([part(synthetic.observations(rows), rows, False) for rows in chunks]))


def backward_by_chunks(
    synthetic: Synthetic,
    part: Part,
    loss: Loss,
    rows: slice | None = None,
    beside: Sequence[Tensor] = (),
) -> float:
    """Add the gradient of a loss of rows to what is learned, and give the loss.

    Rows that are one chunk are computed once.

    Args:
        synthetic: the dataset.
        part: gives the same statistics of a chunk at each call.
        loss: of the statistics, and perhaps of the learned labels.
        rows: those that the loss is of, None for all.
        beside: further leaves of the loss, which get its gradient too.
    """
    chunks = _chunks(rows or slice(0, len(synthetic.rows)))
    if len(chunks) == 1:
        with synthetic.apart(chunks[0]) as (observations, leaves):
            value = loss([part(observations, chunks[0], True)])
            value.backward(inputs=[*leaves, *beside])  # type: ignore[no-untyped-call]
        return float(value.detach())
    parts = []
    for chunk in chunks:
        statistics = part(synthetic.observations(chunk).detach(), chunk, False)
        parts.append([x.detach().requires_grad_() for x in statistics])
    value = loss(parts)
    inputs = [*(x for statistics in parts for x in statistics), *synthetic.leaves, *beside]
    value.backward(inputs=inputs)  # type: ignore[no-untyped-call]
    for chunk, statistics in zip(chunks, parts, strict=True):
        with synthetic.apart(chunk) as (observations, leaves):
            again = part(observations, chunk, True)
            torch.autograd.backward(again, [x.grad for x in statistics], inputs=leaves)
    return float(value.detach())


def _chunks(rows: slice) -> list[slice]:
    """Slices of consecutive rows, of `CHUNK` rows at most."""
    return [slice(at, min(at + CHUNK, rows.stop)) for at in range(rows.start, rows.stop, CHUNK)]
