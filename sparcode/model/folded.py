"""The hot step of training: one hidden layer over all (position, candidate) pairs, group by group, nothing kept.

Written as one autograd function because the plain formulation materialises the folded items and the hidden values
of all groups several times forward and backward, and is then bound by memory. A group's values fit the cache; the
backward pass computes them again, one more matrix product, which is cheaper than reading them from memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FoldedHead(torch.autograd.Function):
    """out[g, x, n] = sum_h w[h] relu(b[h] + sum_j (W[h, j] * c[g, n, j]) . q[g, x]).

    The products run in ``dtype`` (None: that of the queries; bfloat16 where the processor multiplies it faster);
    gradients are returned in the dtype of their inputs.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor,
        dtype: torch.dtype | None,
    ) -> Tensor:  # fmt: skip
        """queries (G, X, d), items (G, N, K_c, d), weight (H, K_c, d), bias (H,), out_weight (H,) -> (G, X, N)."""
        ctx.save_for_backward(queries, items, weight, bias, out_weight)
        ctx.dtype = dtype = dtype or queries.dtype
        out = queries.new_empty(queries.shape[0], queries.shape[1], items.shape[1])
        for group in range(len(queries)):
            hidden = _hidden(queries[group].to(dtype), _fold(items[group], weight).to(dtype), bias.to(dtype))
            out[group] = hidden @ out_weight.to(dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        """Return the gradients of the tensor inputs, in order."""
        queries, items, weight, bias, out_weight = ctx.saved_tensors
        dtype, (gradient,) = ctx.dtype, gradients
        to_queries, to_items = torch.empty_like(queries), torch.empty_like(items)
        to_weight, to_bias, to_out = torch.zeros_like(weight), torch.zeros_like(bias), torch.zeros_like(out_weight)
        for group in range(len(queries)):
            query, outer = queries[group].to(dtype), gradient[group].to(dtype)
            folded = _fold(items[group], weight).to(dtype)  # (N, H, d)
            hidden = _hidden(query, folded, bias.to(dtype))  # (X, N, H)
            to_out += outer.reshape(-1) @ hidden.flatten(0, 1)
            # ReLU's slope is 1 where the hidden value is positive; the buffer is reused for its gradient.
            upstream = torch.gt(hidden, 0, out=hidden).mul_(outer[..., None]).mul_(out_weight.to(dtype))
            flat = upstream.flatten(1)
            to_bias += flat.sum(0).view(-1, len(bias)).sum(0)
            to_queries[group] = flat @ folded.flatten(0, 1)
            to_folded = (flat.T @ query).view(folded.shape).to(queries.dtype)
            to_items[group], change = _unfold(to_folded, items[group], weight)
            to_weight += change
        return to_queries, to_items, to_weight, to_bias, to_out, None


def _fold(items: Tensor, weight: Tensor) -> Tensor:
    """Return sum_j weight (H, K_c, d) * items (N, K_c, d) as (N, H, d)."""
    if items.shape[1] == 1:
        return items * weight[:, 0]
    return torch.einsum("hjd,njd->nhd", weight, items)


def _unfold(gradient: Tensor, items: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of items (N, K_c, d) and weight (H, K_c, d), given that of the folded items (N, H, d)."""
    to_items = torch.stack([(gradient * weight[:, j]).sum(1) for j in range(items.shape[1])], dim=1)
    to_weight = torch.stack([(gradient * items[:, j, None]).sum(0) for j in range(items.shape[1])], dim=1)
    return to_items, to_weight


def _hidden(queries: Tensor, folded: Tensor, bias: Tensor) -> Tensor:
    """Return relu(queries (X, d) . folded (N, H, d) + bias) as (X, N, H)."""
    first = torch.addmm(bias.repeat(len(folded)), queries, folded.flatten(0, 1).T)
    return first.view(len(queries), *folded.shape[:2]).relu_()
