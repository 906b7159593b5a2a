"""Training state on disk: one safetensors file, replaced atomically at the end of each epoch. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparcode.errors import RunError
from sparcode.files import atomic_path, require_regular


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], state: dict[str, Any]
) -> None:
    """Write model, optimizer moments, the best weights so far and the JSON-able loop state."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for name, moments in _moments(model, optimizer).items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore model and optimizer in place; return the best weights so far and the loop state."""
    require_regular(path, RunError)
    try:
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()["state"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError, OSError) as problem:
        raise RunError(f"{path}: not a readable checkpoint ({problem}); train again with --overwrite") from None
    model.load_state_dict(_strip(tensors, "model."))
    moments = _strip(tensors, "optimizer.")
    for name, parameter in model.named_parameters():
        stored = {key: f"{name}.{key}" for key in ("step", "exp_avg", "exp_avg_sq")}
        found = {key: moments[place] for key, place in stored.items() if place in moments}
        if found:
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in found.items()
            }
    return _strip(tensors, "best."), state


def load_best(path: Path) -> dict[str, Tensor]:
    """Return the best weights of a checkpoint, by name; RunError if it cannot be read."""
    require_regular(path, RunError)
    try:
        with safe_open(path, framework="pt") as stream:
            names = [name for name in stream.keys() if name.startswith("best.")]  # noqa: SIM118 (not a dict)
            return _strip({name: stream.get_tensor(name) for name in names}, "best.")
    except (SafetensorError, OSError) as problem:
        raise RunError(f"{path}: not a readable checkpoint ({problem}); train again with --overwrite") from None


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    named = model.named_parameters()
    return {name: dict(optimizer.state[parameter]) for name, parameter in named if parameter in optimizer.state}


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
