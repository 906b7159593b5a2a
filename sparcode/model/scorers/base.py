"""All-to-all scorers: S(t, c) of a query token t and the K_c tokens of an item c.

Every scorer offers two shapes of work. ``candidates``: each of G groups of P positions is scored against N
shared candidates. ``pairs``: each position is scored against one item of its own. Neither materialises the
Hadamard products of all pairs: W (t * c) = (W * c) t, so the item side is folded into the first layer once per
candidate and the rest is one batched matrix product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparcode.config import ScorerConfig
from sparcode.model.folded import FoldedHead


class Scorer(nn.Module):
    """Base: bias of the item + optional cosine term. ``dot`` is exactly this (the paper's ablation)."""

    kind = "dot"

    def __init__(self, width: int, item_tokens: int, item_count: int, temperature: float, skip: bool = True) -> None:
        super().__init__()
        self.width, self.item_tokens, self.temperature, self.skip = width, item_tokens, temperature, skip
        self.product_dtype: torch.dtype | None = None  # None: as the inputs
        self.item_bias = nn.Parameter(torch.zeros(item_count))

    def candidates(self, tokens: Tensor, items: Tensor, ids: Tensor) -> Tensor:
        """Score tokens (G, P, K_u, d) against item tokens (G, N, K_c, d) with ids (G, N): (G, P, K_u, N)."""
        scores = self.item_bias[ids][:, None, None, :]
        if self.skip:
            mean = items.mean(dim=2) / self.temperature  # (G, N, d): the mean over K_c commutes with the dot product
            groups, positions, heads, width = tokens.shape
            cosine = tokens.reshape(groups, positions * heads, width) @ mean.transpose(1, 2)
            scores = scores + cosine.view(groups, positions, heads, -1)
        interaction = self._candidates(tokens, items)
        return scores if interaction is None else scores + interaction

    def pairs(self, tokens: Tensor, items: Tensor, ids: Tensor) -> Tensor:
        """Score tokens (..., K_u, d) against one item each, tokens (..., K_c, d), ids (...): (..., K_u)."""
        scores = self.item_bias[ids][..., None]
        if self.skip:
            scores = scores + (tokens * (items.mean(dim=-2) / self.temperature)[..., None, :]).sum(-1)
        interaction = self._pairs(tokens, items)
        return scores if interaction is None else scores + interaction

    def _candidates(self, tokens: Tensor, items: Tensor) -> Tensor | None:
        return None

    def _pairs(self, tokens: Tensor, items: Tensor) -> Tensor | None:
        return None


class PerceptronScorer(Scorer):
    """Shared part of the MLP scorers: hidden layers with ReLU, then one linear output that starts at zero.

    Starting at zero makes training begin at the cosine model and add interaction where it pays. Without the
    cosine term (``skip=false``, the paper's form) the output starts at random, else no gradient would flow.
    """

    def __init__(self, width: int, item_tokens: int, item_count: int, temperature: float, config: ScorerConfig) -> None:
        super().__init__(width, item_tokens, item_count, temperature, config.skip)
        self.first_weight = nn.Parameter(torch.empty(config.hidden, self._input_width()))
        self.first_bias = nn.Parameter(torch.zeros(config.hidden))
        self.middle = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers - 1))
        self.out_weight = nn.Parameter(torch.zeros(config.hidden))
        self.out_bias = nn.Parameter(torch.zeros(()))
        nn.init.normal_(self.first_weight, std=math.sqrt(2.0 / self._input_width()))
        if not config.skip:
            nn.init.normal_(self.out_weight, std=math.sqrt(1.0 / config.hidden))

    def _input_width(self) -> int:
        return self.item_tokens * self.width

    def _head(self, first: Tensor) -> Tensor:
        hidden = torch.relu(first)
        for layer in self.middle:
            hidden = torch.relu(layer(hidden))
        return hidden @ self.out_weight + self.out_bias


class HadamardScorer(PerceptronScorer):
    """MLP([t * c_1; ...; t * c_Kc]), the paper's scorer (arXiv 2311.18213, section 3.2.3).

    Inputs are scaled by sqrt(d), because the products of unit vectors have components of size 1/d.
    """

    kind = "hadamard"

    def _folded(self, items: Tensor) -> Tensor:
        weight = self.first_weight.view(-1, self.item_tokens, self.width) * math.sqrt(self.width)
        if self.item_tokens == 1:
            return weight[:, 0] * items  # (H, d) * (..., 1, d) -> (..., H, d)
        return torch.einsum("hjd,...jd->...hd", weight, items)

    def _candidates(self, tokens: Tensor, items: Tensor) -> Tensor:
        groups, positions, heads, width = tokens.shape
        queries = tokens.reshape(groups, positions * heads, width)
        if not self.middle:
            weight = self.first_weight.view(-1, self.item_tokens, self.width) * math.sqrt(self.width)
            parameters = (weight, self.first_bias, self.out_weight, self.product_dtype)
            scores = FoldedHead.apply(queries, items, *parameters) + self.out_bias
            return scores.view(groups, positions, heads, -1)
        folded = self._folded(items)  # (G, N, H, d)
        first = (queries @ folded.flatten(1, 2).transpose(1, 2)).view(groups, positions, heads, items.shape[1], -1)
        return self._head(first + self.first_bias)

    def _pairs(self, tokens: Tensor, items: Tensor) -> Tensor:
        products = tokens[..., :, None, :] * items[..., None, :, :] * math.sqrt(self.width)
        return self._head(products.flatten(-2) @ self.first_weight.T + self.first_bias)


class ConcatenationScorer(PerceptronScorer):
    """MLP([t; c_1; ...; c_Kc]), the form of the released code; the item side is projected once per item."""

    kind = "concatenation"

    def _input_width(self) -> int:
        return (1 + self.item_tokens) * self.width

    def _sides(self, tokens: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.first_weight * math.sqrt(self.width)
        return tokens @ weight[:, : self.width].T, items.flatten(-2) @ weight[:, self.width :].T + self.first_bias

    def _candidates(self, tokens: Tensor, items: Tensor) -> Tensor:
        query_side, item_side = self._sides(tokens, items)
        return self._head(query_side[:, :, :, None, :] + item_side[:, None, None, :, :])

    def _pairs(self, tokens: Tensor, items: Tensor) -> Tensor:
        query_side, item_side = self._sides(tokens, items)
        return self._head(query_side + item_side[..., None, :])
