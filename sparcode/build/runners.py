"""Who does the blocks of the offline job: one thread, several threads, or several processes.

A runner only decides where and when a block runs. Blocks are independent and write their own shard, so every
runner and any number of workers give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from sparcode.errors import ConfigError, SparcodeError
from sparcode.threads import available_cpus

_log = logging.getLogger(__name__)
RUNNERS = ("serial", "threads", "processes")


class Runner(Protocol):
    """Anything that applies a function to blocks."""

    def map_blocks(self, function: Callable[[Any], Any], blocks: Sequence[Any]) -> Iterator[Any]:
        """Yield ``function(block)`` for every block, in the order of ``blocks``."""
        ...


class SerialRunner:
    """One block after the other, in this thread."""

    def map_blocks(self, function: Callable[[Any], Any], blocks: Sequence[Any]) -> Iterator[Any]:
        """Yield results in order."""
        return map(function, blocks)


class PoolRunner:
    """A pool of threads (kernels release the interpreter lock) or of processes (started by forkserver, never fork)."""

    def __init__(self, kind: str, workers: int) -> None:
        self.kind, self.workers = kind, workers

    def map_blocks(self, function: Callable[[Any], Any], blocks: Sequence[Any]) -> Iterator[Any]:
        """Yield results in order; on an error or Ctrl-C, blocks that have not started are cancelled."""
        if not blocks:
            return
        pool = self._pool(min(self.workers, len(blocks)))
        try:
            yield from pool.map(function, blocks)
        except BrokenProcessPool:
            raise SparcodeError(
                "a worker process died (killed, or out of memory); run the command again: finished blocks are kept"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, workers: int) -> Executor:
        if self.kind == "threads":
            return ThreadPoolExecutor(workers, thread_name_prefix="sparcode-block")
        import multiprocessing

        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        try:
            return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(kind))
        except (OSError, ImportError) as problem:
            # Queues between processes are made of semaphores in /dev/shm, which a container may not let be written.
            _log.warning("no processes can be started (%s): blocks run in threads", problem)
            return ThreadPoolExecutor(workers, thread_name_prefix="sparcode-block")


def build_runner(name: str, workers: int | None = None) -> Runner:
    """Return a runner by name; ``workers`` absent: one for each CPU this process may use. Raises ConfigError."""
    if name not in RUNNERS:
        raise ConfigError(f"runner {name!r} found, expected one of {', '.join(RUNNERS)}")
    if workers is not None and (not hasattr(workers, "__index__") or workers < 1):
        raise ConfigError(f"{workers!r} workers asked for, expected a whole number, at least 1")
    if name == "serial":
        return SerialRunner()
    return PoolRunner(name, workers or available_cpus())
