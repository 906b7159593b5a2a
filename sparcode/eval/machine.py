"""What a measurement ran on, and how threads were pinned. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LIBRARIES = ("numpy", "numba", "pyarrow", "safetensors", "faiss-cpu", "hnswlib", "torch")
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def machine_info() -> dict[str, Any]:
    """Return processor, cores, memory (bytes), operating system, Python and library versions, load (JSON-able)."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def git_commit(folder: Path | None = None) -> str | None:
    """Return the commit of the repository the package stands in, ``+`` appended when files differ; else None."""
    folder = folder or Path(__file__).resolve().parent
    with suppress(OSError, subprocess.SubprocessError):
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    return None


def pin_environment() -> None:
    """Ask every numeric library for one thread; works only before numpy is imported (a command's first line)."""
    for name in _VARIABLES:
        os.environ.setdefault(name, "1")


@contextmanager
def one_thread() -> Iterator[dict[str, str]]:
    """Run the block with one thread in BLAS, numba and faiss; yield how each was pinned; restore afterwards."""
    how: dict[str, str] = {}
    restore = [step for name, pin in _PINS.items() if (step := _try_pin(name, pin, how)) is not None]
    try:
        yield how
    finally:
        for step in restore:
            step()


def _try_pin(name: str, pin: Any, how: dict[str, str]) -> Any:
    try:
        restore, how[name] = pin()
    except (ImportError, OSError, AttributeError):
        variable = os.environ.get("OPENBLAS_NUM_THREADS" if name == "blas" else "OMP_NUM_THREADS")
        how[name] = f"not pinned; environment says {variable or 'nothing'}" if name == "blas" else "not loaded"
        return None
    return restore


def _pin_blas() -> tuple[Any, str]:
    try:
        limits = importlib.import_module("threadpoolctl").threadpool_limits(1)
        return limits.restore_original_limits, "1 (threadpoolctl)"
    except ImportError:
        return _pin_bundled_openblas()


def _pin_bundled_openblas() -> tuple[Any, str]:
    # numpy's wheels bundle OpenBLAS with prefixed names; the setter takes effect at once, unlike the environment.
    folder = Path(importlib.import_module("numpy").__file__ or "").parent.parent / "numpy.libs"
    paths = sorted(folder.glob("libscipy_openblas64_*"))
    if not paths:
        raise ImportError("numpy bundles no OpenBLAS")
    library = ctypes.CDLL(str(paths[0]))
    before = library.scipy_openblas_get_num_threads64_()
    library.scipy_openblas_set_num_threads64_(1)
    return (lambda: library.scipy_openblas_set_num_threads64_(before)), "1 (openblas)"


def _pin_numba() -> tuple[Any, str]:
    numba = importlib.import_module("numba")
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    return (lambda: numba.set_num_threads(before)), "1"


def _pin_faiss() -> tuple[Any, str]:
    faiss = importlib.import_module("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    return (lambda: faiss.omp_set_num_threads(before)), "1"


_PINS = {"blas": _pin_blas, "numba": _pin_numba, "faiss": _pin_faiss}


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
