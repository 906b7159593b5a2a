"""Arrow arrays seen as numpy, without copying and without what ``to_numpy`` loads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_TYPES = {pa.int32(): np.int32, pa.int64(): np.int64, pa.uint64(): np.uint64}
_TYPES |= {pa.float16(): np.float16, pa.float32(): np.float32, pa.float64(): np.float64}


def view(array: pa.Array) -> np.ndarray:
    """Return the values of a numeric array without nulls; read-only, the array's memory stays alive.

    ``Array.to_numpy`` imports pandas where it is installed, which costs a third of a second when a run is opened.
    """
    kind = np.dtype(_TYPES[array.type])
    buffer = array.buffers()[1]
    if array.null_count or buffer is None or len(array) == 0:
        return np.asarray(array.to_pylist(), dtype=kind)
    return np.frombuffer(buffer, dtype=kind, count=len(array), offset=array.offset * kind.itemsize)
