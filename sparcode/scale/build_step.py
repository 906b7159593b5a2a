"""Builds the index of one run and notes its peak memory: ``python -m sparcode.scale.build_step RUN``."""

from __future__ import annotations

import sys
from pathlib import Path

from sparcode.eval.machine import one_thread


def main(folder: str) -> None:
    """Build with one thread; ``RUN/build_step.json`` gets ``peak_bytes``, the largest resident set of the process.

    Windows does not tell it: RunError there.
    """
    from sparcode.build.job import build_index
    from sparcode.errors import RunError
    from sparcode.files import write_json

    try:
        import resource
    except ImportError:
        raise RunError("the peak of memory can be measured on Linux and macOS alone") from None
    with one_thread():
        build_index(folder)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    write_json(Path(folder) / "build_step.json", {"peak_bytes": peak, "threads": 1})


if __name__ == "__main__":
    main(sys.argv[1])
