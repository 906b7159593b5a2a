"""The model: query tokenizer, quantizer and all-to-all scorer over shared item tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparcode.config import Config
from sparcode.data.features import Features
from sparcode.model.item_tokens import ItemTokens, unit
from sparcode.model.quantizers import TokenQuantizer, build_quantizer
from sparcode.model.scorers import Scorer, build_scorer
from sparcode.model.tokenizers.layers import build_tokenizer

DEFAULT_TEMPERATURE = 0.1
ITEM_BLOCK = 4096
"""Items scored at a time when all are: the folded items of a block take 4,096 x H x d floats."""


class SparCodeModel(nn.Module):
    """f(q, c) = sum over the K_u query tokens of ReLU(S(token, c) + b) (arXiv 2311.18213, equations of section 3.2).

    With quantised tokens this is what the index stores; with unquantised tokens and without ReLU it is the
    all-to-all score that rescoring uses. ``bias`` is the paper's b~: a buffer, steered rather than learned.
    """

    bias: Tensor

    def __init__(self, config: Config, item_count: int, item_features: Features | None, feature_width: int) -> None:
        super().__init__()
        model = config.model
        self.config, self.item_count, self.feature_width = config, item_count, feature_width
        self.items = ItemTokens(model, item_count, item_features)
        self.tokenizer = build_tokenizer(model, item_count, feature_width)
        temperature = model.temperature or DEFAULT_TEMPERATURE
        self.scorer: Scorer = build_scorer(config.scorer, model.width, model.item_tokens, item_count, temperature)
        self.quantizer: TokenQuantizer | None = build_quantizer(config.quantizer, model.width)
        self.sparse = config.sparsity.target_density is not None or config.sparsity.bias is not None
        self.register_buffer("bias", torch.tensor(float(config.sparsity.bias or 0.0)))

    def query_tokens(
        self, table: Tensor, items: Tensor, valid: Tensor, features: Tensor | None, kept: Tensor | None = None
    ) -> Tensor:
        """Return unit tokens (R, L, K_u, d): the query after each event of rows (R, L), padded on the right.

        ``kept`` (R, L) bool hides events from the history in training: their vectors become zero.
        """
        vectors = nn.functional.embedding(items, table)
        if kept is not None:
            vectors = vectors * kept[..., None]
        return unit(self.tokenizer(vectors, valid, features))

    def empty_tokens(self, features: Tensor) -> Tensor:
        """Return unit tokens (R, K_u, d) of queries with features (R, F) and no history."""
        return unit(self.tokenizer.empty(features))

    def last_tokens(self, table: Tensor, items: Tensor, lengths: Tensor, features: Tensor | None) -> Tensor:
        """Return unit tokens (R, K_u, d) after the last of ``lengths`` (R,) events; lengths must be >= 1."""
        valid = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        tokens = self.query_tokens(table, items, valid, features)
        return tokens[torch.arange(len(items), device=items.device), lengths - 1]

    def quantise(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise tokens (..., d): straight-through values (..., d), codes (..., M), squared errors (...)."""
        assert self.quantizer is not None
        flat, codes, errors = self.quantizer(tokens.reshape(-1, tokens.shape[-1]))
        shape = tokens.shape[:-1]
        return flat.view(tokens.shape), codes.view(*shape, -1), errors.view(shape)

    def activation(self, scores: Tensor) -> Tensor:
        """ReLU(S + b) when sparsity is trained in, else S: then the cut is an index matter."""
        return torch.relu(scores + self.bias) if self.sparse else scores

    @torch.no_grad()
    def score_all(self, table: Tensor, tokens: Tensor, quantised: bool = False) -> Tensor:
        """Return the scores (B, n) of all items for tokens (B, K_u, d), unquantised (no ReLU) or as indexed."""
        if quantised:
            tokens = self.quantise(tokens)[0]
        blocks = []
        for ids in torch.arange(self.item_count, device=tokens.device).split(ITEM_BLOCK):
            scores = self.scorer.candidates(tokens[None], self.items.tokens(table[ids])[None], ids[None])[0]
            blocks.append((self.activation(scores) if quantised else scores).sum(dim=1))  # (B, K_u, block) summed
        return torch.cat(blocks, dim=1)
