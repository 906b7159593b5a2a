"""Item tokens: what the scorer knows of an item, from its id and from its content."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparcode.config import ModelConfig
from sparcode.data.features import Features


class ItemContent(nn.Module):
    """Metadata of all n items as vectors: mean category embedding + linear maps of numbers and of a given vector."""

    bag_items: Tensor
    bag_offsets: Tensor
    bag_weights: Tensor
    dense: Tensor

    def __init__(self, features: Features, width: int) -> None:
        super().__init__()
        counts = np.diff(features.categories_indptr)
        self.register_buffer("bag_items", torch.from_numpy(features.categories_items.astype(np.int64)), False)
        self.register_buffer("bag_offsets", torch.from_numpy(features.categories_indptr[:-1].astype(np.int64)), False)
        weights = np.repeat(1.0 / np.maximum(counts, 1), counts).astype(np.float32)
        self.register_buffer("bag_weights", torch.from_numpy(weights), False)
        dense = [features.numeric] + ([features.vector] if features.vector is not None else [])
        self.register_buffer("dense", torch.from_numpy(np.concatenate(dense, axis=1).astype(np.float32)), False)
        self.categories = nn.Parameter(torch.randn(max(len(features.vocabulary), 1), width) * 0.02)
        self.linear = nn.Linear(self.dense.shape[1], width, bias=False) if self.dense.shape[1] else None

    def forward(self) -> Tensor:
        """Return the content vectors (n, d) of all items."""
        content = functional.embedding_bag(
            self.bag_items, self.categories, self.bag_offsets, mode="sum", per_sample_weights=self.bag_weights
        )
        return content if self.linear is None else content + self.linear(self.dense)


class ItemTokens(nn.Module):
    """K_c unit tokens of each item, and the vector by which an item enters a history (shared, as in SASRec)."""

    def __init__(self, config: ModelConfig, item_count: int, features: Features | None) -> None:
        super().__init__()
        self.item_tokens = config.item_tokens
        self.id_dropout = config.item_id_dropout
        self.embedding = nn.Parameter(torch.randn(item_count, config.width) * 0.02)
        self.content = ItemContent(features, config.width) if config.item_content and features is not None else None
        self.token_maps: nn.Parameter | None = None
        if config.item_tokens > 1:
            # Near-identity maps: all tokens start as the item vector, slightly apart so that they can specialise.
            maps = torch.eye(config.width).repeat(config.item_tokens, 1, 1)
            self.token_maps = nn.Parameter(maps + torch.randn_like(maps) * 0.02)

    def table(self) -> Tensor:
        """Return the vectors (n, d) of all items: id embedding plus content.

        In training a share ``item_id_dropout`` of the id embeddings is zeroed (content stays), so that an item
        without interactions is scored by its content.
        """
        ids: Tensor = self.embedding
        if self.content is None:
            return ids
        if self.training and self.id_dropout > 0:
            ids = ids * (torch.rand(len(ids), 1, device=ids.device) >= self.id_dropout)
        return ids + self.content()

    def tokens(self, vectors: Tensor) -> Tensor:
        """Map item vectors (..., d) to unit tokens (..., K_c, d)."""
        if self.token_maps is None:
            return unit(vectors[..., None, :])
        return unit(torch.einsum("...d,jed->...je", vectors, self.token_maps))


def unit(vectors: Tensor) -> Tensor:
    """Scale the last axis to length 1; zero vectors stay zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-8)
