"""numba, as far as it promises to stay: started here, and a refusal told in one line."""

from __future__ import annotations

from typing import Any

from sparcode.errors import SparcodeError

try:
    import numba
    from numba import typeof, types
    from numba.extending import overload
except ValueError as problem:  # one of its variables, such as NUMBA_NUM_THREADS=0
    raise SparcodeError(f"numba refuses to start ({problem}); look at the variables NUMBA_* you have set") from None

SETTINGS: Any = numba.config
if SETTINGS.DISABLE_JIT:
    raise SparcodeError("NUMBA_DISABLE_JIT is set, but the kernels of sparcode have to be compiled; unset it")

__all__ = ["SETTINGS", "numba", "overload", "typeof", "types"]
