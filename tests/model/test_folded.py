"""The hand-written hidden layer: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcode.model.folded import FoldedHead

GROUPS, ROWS, CANDIDATES, HIDDEN, WIDTH = 2, 3, 5, 7, 11


def parts(item_tokens: int, dtype=torch.float64) -> list[torch.Tensor]:
    """Return queries (G, X, d), items (G, N, K_c, d), weight (H, K_c, d), bias (H,), out weight (H,)."""
    random = torch.Generator().manual_seed(3)
    sides = [(GROUPS, ROWS, WIDTH), (GROUPS, CANDIDATES, item_tokens, WIDTH)]
    shapes = [*sides, (HIDDEN, item_tokens, WIDTH), (HIDDEN,), (HIDDEN,)]
    return [torch.randn(*shape, generator=random, dtype=dtype).requires_grad_() for shape in shapes]


def folded(*tensors: torch.Tensor) -> torch.Tensor:
    """Apply with products in float64."""
    return FoldedHead.apply(*tensors, torch.float64)


@pytest.mark.parametrize("item_tokens", [1, 3])
def test_values_equal_loops(item_tokens):
    queries, items, weight, bias, out = (part.detach().numpy() for part in parts(item_tokens))
    found = folded(*parts(item_tokens)).detach().numpy()
    for g, x, n in np.ndindex(GROUPS, ROWS, CANDIDATES):
        total = 0.0
        for h in range(HIDDEN):
            products = [weight[h, j, i] * items[g, n, j, i] * queries[g, x, i]
                        for j in range(item_tokens) for i in range(WIDTH)]  # fmt: skip
            total += out[h] * max(0.0, sum(products) + bias[h])
        assert np.isclose(found[g, x, n], total)


@pytest.mark.parametrize("item_tokens", [1, 2])
def test_gradients_by_finite_differences(item_tokens):
    assert torch.autograd.gradcheck(folded, parts(item_tokens), eps=1e-6, atol=1e-6)


def test_gradients_equal_autograd_also_for_strided_upstream():
    mine, plain = parts(2), parts(2)
    upstream = torch.randn(CANDIDATES, ROWS, GROUPS, dtype=torch.float64).permute(2, 1, 0)
    folded(*mine).backward(upstream)
    queries, items, weight, bias, out = plain
    first = torch.einsum("gxd,gnjd,hjd->gxnh", queries, items, weight) + bias
    (torch.relu(first) @ out).backward(upstream)
    for left, right in zip(mine, plain, strict=True):
        torch.testing.assert_close(left.grad, right.grad)


def test_half_precision_products_stay_close():
    single = [part.detach().float() for part in parts(1)]
    exact, half = FoldedHead.apply(*single, torch.float32), FoldedHead.apply(*single, torch.bfloat16)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.5)
