"""All that rests on how numba works inside: kernels, their cache, calls by address, code it would not write."""

from sparcode.jit.decorators import contracted, exact, exact_inlined, reordered, reordered_without_nan
from sparcode.jit.library import active, overload, types

__all__ = ["active", "contracted", "exact", "exact_inlined", "overload", "reordered", "reordered_without_nan", "types"]
