"""How many CPUs this process may use, and how many threads the numeric libraries take. Imports nothing heavy.

Thread pools are told through their own interfaces, for the time of a block, and told back afterwards: environment
variables are read when a library is loaded, and numba refuses to compile when they change later. The command line may
set them, because it starts before any library is loaded (``set_environment_defaults``).
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

_RUNTIMES = ("numpy", "scipy", "numba", "torch", "faiss", "sklearn")
"""Packages that read the environment when they are loaded."""
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")  # OpenBLAS and MKL follow OMP_NUM_THREADS


def available_cpus() -> int:
    """Return how many CPUs this process may use, at least 1: its affinity, and less where a control group limits it.

    Linux: the scheduler's mask and the CPU quota of cgroup v2 or v1 (rounded up). Elsewhere: the CPUs of the machine.
    """
    found = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        with suppress(OSError):
            found = len(os.sched_getaffinity(0))
    quota = cgroup_cpus()
    return max(1, found if quota is None else min(found, math.ceil(quota)))


def cgroup_cpus(root: Path = Path("/")) -> float | None:
    """Return the CPUs the control groups of this process allow (quota / period, the least of all levels), or None.

    ``root``: the folder ``proc`` and ``sys`` stand in.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers == "":
            quotas += _quotas(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in names:
            for folder in dict.fromkeys((controllers, "cpu")):
                quotas += _quotas(root / "sys/fs/cgroup" / folder, path, _quota_v1)
    return min(quotas, default=None)


def _quotas(mount: Path, path: str, quota_of: Callable[[Path], float]) -> list[float]:
    # Inside a container the path may be the host's and absent here: every level that exists counts, up to the mount.
    own = PurePosixPath(path.lstrip("/"))
    found = []
    for level in (own, *own.parents):
        with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
            quota = quota_of(mount / level)
            if quota > 0:
                found.append(quota)
    return found


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()[:2]
    return int(quota) / int(period)  # "max" is a ValueError: no limit


def _quota_v1(folder: Path) -> float:
    quota, period = (
        int((folder / name).read_text(encoding="ascii")) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    return quota / period  # -1: no limit


def set_environment_defaults() -> Mapping[str, str]:
    """Set variables that OpenMP and numba read when they are loaded; for the first line of a program.

    Threads that have nothing to do wait passively (spinning ones made an epoch 15 times dearer on a shared machine),
    and where a control group allows fewer CPUs than the machine has, as many threads start. What the user has set
    stays. cuBLAS is told to use one workspace, without which it is not deterministic. Does nothing once one of the
    libraries is loaded. Returns what was set.
    """
    if any(name in sys.modules for name in _RUNTIMES):
        return {}
    wanted: dict[str, str] = {}
    if not any(name in os.environ for name in _WAITING):
        wanted |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    if "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        wanted["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    quota = cgroup_cpus()
    if quota is not None and math.ceil(quota) < (os.cpu_count() or 1):
        wanted |= {name: str(available_cpus()) for name in _COUNTS if name not in os.environ}
    os.environ.update(wanted)
    return wanted


@contextmanager
def limited(count: int | None = None, load: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Run the block with ``count`` threads in BLAS, OpenMP, torch, numba and faiss; tell them back afterwards.

    ``count`` None or 0: as many as each library takes by itself, but no more than ``available_cpus()``. ``load``:
    modules to load first, where installed, because a pool can be told only when its library is loaded. Yields what
    was done, by library ("1", "not loaded"). numba is told only when ``load`` names it or its threads run already:
    asking starts them. The limits hold for the calling thread and for threads that BLAS starts.
    """
    for name in load:
        with suppress(ImportError, OSError):
            importlib.import_module(name)
    most = count or available_cpus()
    pools = list(_pools(load))
    # OpenMP's number is read first, and set last both times: numba changes it when it starts and when it is told.
    before = [pool.number() for pool in reversed(pools)][::-1]
    try:
        how = {}
        for pool, number in zip(pools, before, strict=True):
            wanted = min(count or min(number or most, most), pool.most)
            pool.set(wanted)
            how[pool.name] = f"{wanted}{pool.through}"
        yield _unpinned(load) | how
    finally:
        for pool, number in zip(pools, before, strict=True):
            pool.set(number)


class _Pool(NamedTuple):
    """A thread pool: how its number of threads is read and set, and the most it takes."""

    name: str
    number: Callable[[], int]
    set: Callable[[int], Any]
    most: int = sys.maxsize
    through: str = ""


def _pools(load: Iterable[str]) -> Iterator[_Pool]:
    """Yield the pools of the libraries that are loaded, those of OpenMP and BLAS last."""
    for name, interface in _INTERFACES.items():
        module = sys.modules.get(name)
        if module is None or (name == "numba" and "numba" not in load and not _numba_runs()):
            continue
        most = module.config.NUMBA_NUM_THREADS if name == "numba" else sys.maxsize
        read, write = (getattr(module, function) for function in interface)
        yield _Pool(name, read, write, most)
    with suppress(ImportError):
        for library in importlib.import_module("threadpoolctl").ThreadpoolController().lib_controllers:
            yield _Pool(library.user_api, library.get_num_threads, library.set_num_threads, through=" (threadpoolctl)")


def _unpinned(load: Iterable[str]) -> dict[str, str]:
    """Say what of ``load`` has no pool here; what is pinned is written over it."""
    said = {name: "not loaded" for name in _INTERFACES if name in load}
    return said | {"blas": f"not pinned; environment says {os.environ.get('OPENBLAS_NUM_THREADS') or 'nothing'}"}


def _numba_runs() -> bool:
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    return bool(getattr(parallel, "_is_initialized", False))


_INTERFACES = {
    "numba": ("get_num_threads", "set_num_threads"),
    "faiss": ("omp_get_max_threads", "omp_set_num_threads"),
    "torch": ("get_num_threads", "set_num_threads"),
}
"""Library -> functions that return and set its number of threads."""
