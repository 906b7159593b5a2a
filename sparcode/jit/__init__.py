"""All that rests on how numba works inside: kernels, their cache, calls by address, code it would not write."""

from sparcode.jit.cache import njit
from sparcode.jit.library import overload, types

__all__ = ["njit", "overload", "types"]
