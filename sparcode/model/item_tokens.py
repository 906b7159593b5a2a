"""Item tokens: what the scorer knows of an item, from its id and from its content."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.data.features import Features
from sparcode.model.category_mean import CategoryMean


class ItemContent(nn.Module):
    """Metadata of all n items as vectors: mean category embedding + linear maps of numbers and of a given vector."""

    dense: Tensor

    def __init__(self, features: Features, width: int) -> None:
        super().__init__()
        vocabulary = max(len(features.vocabulary), 1)
        self.mean = CategoryMean(features.categories_indptr, features.categories_items, vocabulary)
        dense = [features.numeric] + ([features.vector] if features.vector is not None else [])
        self.register_buffer("dense", torch.from_numpy(np.concatenate(dense, axis=1).astype(np.float32)), False)
        self.categories = nn.Parameter(torch.randn(vocabulary, width) * 0.02)
        self.linear = nn.Linear(self.dense.shape[1], width, bias=False) if self.dense.shape[1] else None

    def forward(self) -> Tensor:
        """Return the content vectors (n, d) of all items."""
        content: Tensor = self.mean(self.categories)
        return content if self.linear is None else content + self.linear(self.dense)


class ItemTokens(nn.Module):
    """K_c unit tokens of each item, and the vector by which an item enters a history (shared, as in SASRec).

    ``known`` (n, 1) is 1, or 0 for an item that was never seen in training: its id embedding would be noise that only
    negatives pushed about, so it is left out and the item is scored by its content alone (a zero vector without any).
    Without ``config.item_ids`` there are no id embeddings, and the map from content to vectors serves items that no
    training has seen.
    """

    known: Tensor

    def __init__(self, config: ModelConfig, item_count: int, features: Features | None) -> None:
        super().__init__()
        self.item_tokens = config.item_tokens
        self.id_dropout = config.item_id_dropout
        self.embedding = nn.Parameter(torch.randn(item_count, config.width) * 0.02) if config.item_ids else None
        self.register_buffer("known", torch.ones(item_count, 1))
        self.some_unseen = False
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
        if self.embedding is None:
            assert self.content is not None  # checked where the configuration is resolved
            return self.content()
        if self.content is None:
            # Of an item that training never showed nothing is known then: the zero vector, not noise.
            return self.embedding * self.known if self.some_unseen else self.embedding
        ids = self.embedding * self.shown()
        return ids + self.content()

    def shown(self) -> Tensor:
        """Return (n, 1): 1 where an item's id may be used now, 0 where only its content may."""
        if not (self.training and self.id_dropout > 0):
            return self.known
        return self.known * (torch.rand(self.known.shape, device=self.known.device) >= self.id_dropout)

    def learn_ids_of(self, seen: Tensor) -> None:
        """Say which items (n,) bool occur in training; the others are known by content alone."""
        self.known.copy_(seen[:, None])
        self.some_unseen = not bool(seen.all())

    def tokens(self, vectors: Tensor) -> Tensor:
        """Map item vectors (..., d) to unit tokens (..., K_c, d)."""
        if self.token_maps is None:
            return unit(vectors[..., None, :])
        return unit(torch.einsum("...d,jed->...je", vectors, self.token_maps))


def unit(vectors: Tensor) -> Tensor:
    """Scale the last axis to length 1; zero vectors stay zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-8)
