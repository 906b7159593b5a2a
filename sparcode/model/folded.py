"""The hot step of training: one hidden layer over all (position, candidate) pairs, group by group, nothing kept.

Written as one autograd function because the plain formulation materialises (G, P, N, H) hidden values three times
forward and as often backward, and is then bound by memory. A group's values fit the cache; the backward pass
computes them again, one more matrix product, which is cheaper than reading them from memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FoldedHead(torch.autograd.Function):
    """out[g, x, n] = sum_h w[h] * relu(q[g, x] . folded[g, n, h] + b[h])."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, folded: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        """queries (G, X, d), folded (G, N, H, d), bias (H,), weight (H,) -> (G, X, N)."""
        ctx.save_for_backward(queries, folded, bias, weight)
        out = queries.new_empty(queries.shape[0], queries.shape[1], folded.shape[1])
        for group in range(len(queries)):
            torch.matmul(_hidden(queries[group], folded[group], bias), weight, out=out[group])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of queries, folded, bias and weight."""
        queries, folded, bias, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_queries, to_folded = torch.empty_like(queries), torch.empty_like(folded)
        to_bias, to_weight = torch.zeros_like(bias), torch.zeros_like(weight)
        for group in range(len(queries)):
            hidden = _hidden(queries[group], folded[group], bias)  # (X, N, H)
            outer = gradient[group].reshape(-1)
            to_weight += outer @ hidden.view(-1, len(weight))
            # ReLU's slope is 1 where the hidden value is positive; the buffer is reused for its gradient.
            upstream = torch.gt(hidden, 0, out=hidden).mul_(gradient[group][..., None]).mul_(weight)
            flat = upstream.view(len(upstream), -1)
            to_bias += upstream.view(-1, len(weight)).sum(0)
            torch.matmul(flat, folded[group].flatten(0, 1), out=to_queries[group])
            torch.matmul(flat.T, queries[group], out=to_folded[group].flatten(0, 1))
        return to_queries, to_folded, to_bias, to_weight


def _hidden(queries: Tensor, folded: Tensor, bias: Tensor) -> Tensor:
    """Return relu(queries (X, d) . folded (N, H, d) + bias) as (X, N, H)."""
    first = torch.addmm(bias.repeat(len(folded)), queries, folded.flatten(0, 1).T)
    return first.view(len(queries), *folded.shape[:2]).relu_()
