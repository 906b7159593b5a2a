"""The mean over categories equals a loop, and its gradient that of ordinary autograd."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.model.category_mean import CategoryMean


@given(st.lists(st.sets(st.integers(0, 6), max_size=5), min_size=1, max_size=9), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_means_and_gradient_equal_a_loop(rows: list[set[int]], seed: int) -> None:
    indptr = np.cumsum([0, *map(len, rows)])
    items = np.array([word for row in rows for word in sorted(row)], np.int32)
    dice = torch.Generator().manual_seed(seed)
    table = torch.randn(7, 3, generator=dice, requires_grad=True)
    upstream = torch.randn(len(rows), 3, generator=dice)
    (CategoryMean(indptr, items, 7)(table) * upstream).sum().backward()
    assert table.grad is not None
    found = table.grad.clone()
    table.grad = None
    literal = torch.stack([table[sorted(row)].mean(0) if row else table[:0].sum(0) for row in rows])
    (literal * upstream).sum().backward()
    torch.testing.assert_close(CategoryMean(indptr, items, 7)(table), literal)
    assert table.grad is not None
    torch.testing.assert_close(found, table.grad)
