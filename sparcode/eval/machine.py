"""What a measurement ran on, and one thread for its time. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparcode.threads import available_cpus, limited

_LIBRARIES = ("numpy", "numba", "pyarrow", "safetensors", "faiss-cpu", "hnswlib", "torch")


def machine_info() -> dict[str, Any]:
    """Return processor, cores, memory (bytes), operating system, Python and library versions, load (JSON-able)."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": available_cpus(),
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


@contextmanager
def one_thread(*load: str) -> Iterator[dict[str, str]]:
    """Run the block with one thread in BLAS, numba, faiss and torch; yield how each was pinned; restore afterwards.

    ``load``: more modules that the block will import and that bring thread pools of their own. Also a decorator.
    """
    with limited(1, ("numpy", "scipy.linalg", "numba", "faiss", *load)) as how:
        yield how


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
