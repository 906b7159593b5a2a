"""A SparCode model that starts from a trained two-tower: same items, same tokenizer, head 0 the two-tower's vector."""

from __future__ import annotations

import torch
from torch import Tensor

from sparcode.model.sparcode import SparCodeModel


@torch.no_grad()
def start_from(model: SparCodeModel, weights: dict[str, Tensor]) -> list[str]:
    """Copy ``weights`` (a two-tower's state) into ``model`` where they fit; return the names that were copied.

    A tensor with more rows than the two-tower's (K_u heads against one) takes the two-tower's as its first rows, so
    that head 0 is the warm query vector and the other heads keep their own start.
    """
    copied = []
    for name, own in model.state_dict().items():
        given = weights.get(name)
        if given is None or name.startswith("quantizer."):
            continue
        if given.shape == own.shape:
            own.copy_(given)
        elif given.dim() == own.dim() and given.shape[1:] == own.shape[1:] and len(given) < len(own):
            own[: len(given)].copy_(given)
        else:
            continue
        copied.append(name)
    return copied
