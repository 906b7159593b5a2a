"""The hand-written hidden layer: values and gradients."""

from __future__ import annotations

import numpy as np
import torch

from sparcode.model.folded import FoldedHead

GROUPS, ROWS, CANDIDATES, HIDDEN, WIDTH = 2, 3, 5, 7, 11


def parts(dtype=torch.float64) -> list[torch.Tensor]:
    """Return queries (G, X, d), folded (G, N, H, d), bias (H,), weight (H,)."""
    random = torch.Generator().manual_seed(3)
    shapes = [(GROUPS, ROWS, WIDTH), (GROUPS, CANDIDATES, HIDDEN, WIDTH), (HIDDEN,), (HIDDEN,)]
    return [torch.randn(*shape, generator=random, dtype=dtype).requires_grad_() for shape in shapes]


def test_values_equal_loops():
    queries, folded, bias, weight = (part.detach().numpy() for part in parts())
    found = FoldedHead.apply(*parts()).detach().numpy()
    for g, x, n in np.ndindex(GROUPS, ROWS, CANDIDATES):
        hidden = [max(0.0, float(queries[g, x] @ folded[g, n, h]) + bias[h]) for h in range(HIDDEN)]
        assert np.isclose(found[g, x, n], float(np.dot(hidden, weight)))


def test_gradients_by_finite_differences():
    assert torch.autograd.gradcheck(FoldedHead.apply, parts(), eps=1e-6, atol=1e-6)


def test_gradients_equal_autograd_also_for_strided_upstream():
    mine, plain = parts(), parts()
    upstream = torch.randn(CANDIDATES, ROWS, GROUPS, dtype=torch.float64).permute(2, 1, 0)
    FoldedHead.apply(*mine).backward(upstream)
    queries, folded, bias, weight = plain
    hidden = torch.relu(torch.einsum("gxd,gnhd->gxnh", queries, folded) + bias)
    (hidden @ weight).backward(upstream)
    for left, right in zip(mine, plain, strict=True):
        torch.testing.assert_close(left.grad, right.grad)
