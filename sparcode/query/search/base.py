"""What all query kernels share: how a posting and a key are made up, statuses, limits.

Unsigned indices throughout: numba adds a fix-up for negative indices to signed ones. Constants are numpy scalars for
another reason too: numba compiles a kernel anew for a literal argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Number = Any
"""A uint64 or int64 scalar (in uncompiled form also a Python int)."""


BUCKETS = 2048
"""Cells of the counting select."""

NARROW_LIMIT = 65535
"""Largest sum a uint16 accumulator holds."""
WIDE_LIMIT = 4294967295
"""Largest sum a uint32 accumulator holds."""

BAD_ROW = -1
BAD_WEIGHT = -2
TOO_WIDE = -3
UNSORTED = -4

U0 = np.uint64(0)
U1 = np.uint64(1)
U8 = np.uint64(8)
LOW8 = np.uint64(255)
IMPACTS = np.uint64(256)
ID_BITS = np.uint64(24)
ID_MASK = np.uint64((1 << 24) - 1)
SMALL = np.uint64(24)
"""Most keys that are sorted by insertion."""
