"""What training changes in torch for its own time, and gives back: threads, determinism, seeds, types, gradients.

The same seed, data, machine and number of threads give the same bytes. torch adds gradients of gathered rows by
atomics, in the order in which its threads arrive, unless it is told to be deterministic. Another number of threads
divides sums elsewhere and may change last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sparcode.threads import limited


@contextmanager
def training_scope(device: torch.device, threads: int = 0) -> Iterator[None]:
    """Train inside: deterministic, float32, on the CPU unless told, with gradients; all is restored afterwards.

    ``threads``: CPU threads, 0 for as many as torch takes here, at most ``available_cpus()``. On a GPU, operations
    that have no deterministic form warn and run; cuBLAS needs CUBLAS_WORKSPACE_CONFIG=:4096:8 (which the command
    sets) to be deterministic too.
    """
    with ExitStack() as stack:
        stack.enter_context(limited(threads or None, ("scipy.linalg",)))
        stack.enter_context(_own_seeds(device))
        stack.enter_context(_deterministic())
        stack.enter_context(_float32())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _own_seeds(device: torch.device) -> Iterator[None]:
    """Give the generators of CPU and device back as they were."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    of_mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if of_mps is not None:
                torch.mps.set_rng_state(of_mps)


@contextmanager
def _deterministic() -> Iterator[None]:
    enabled, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        torch.use_deterministic_algorithms(True, warn_only=not enabled or lenient)
        if not enabled:  # filling finds bugs, and costs a pass over every new tensor
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=lenient)
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]


@contextmanager
def _float32() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
