"""numba, as far as it promises to stay: started here, and a refusal told in one line.

What rests on more than it promises is imported within ``resting_on_numba``: with a numba that has moved it, the name is
noted and the caller takes its plain way. ``active`` tells which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

_found: dict[str, str] = {}


@contextmanager
def resting_on_numba(name: str) -> Iterator[None]:
    """Run imports of numba's internals for the sake of ``name``; note whether they were there, or what was not."""
    try:
        yield
        _found.setdefault(name, "active")
    except (ImportError, AttributeError) as problem:
        _found[name] = f"not with numba {numba.__version__}: {problem}"


def is_active(name: str) -> bool:
    """Tell whether everything was there."""
    return _found.get(name) == "active"


def active() -> dict[str, str]:
    """Return "active" or the reason why not for each part that rests on numba's internals; without it we are slower."""
    return dict(_found)


__all__ = ["SETTINGS", "active", "is_active", "numba", "overload", "resting_on_numba", "typeof", "types"]
