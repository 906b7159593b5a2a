"""Mixture of logits: a gate that sees both sides weighs P_q P_c dot products of one query token and one item.

Zhai et al., Revisiting Neural Retrieval on Accelerators (arXiv 2306.04039), and Ding and Zhai, Retrieval with Learned
Similarities (arXiv 2407.15462, RAILS), with a query token in place of a user:

    q_a = unit(W_a t)    e_b = unit(V_b [c_1; ...; c_Kc])    l_ab = q_a . e_b / tau
    S(t, c) = bias_c + sum_ab gate_ab l_ab                   gate = softmax_ab(G_q t + G_c [c_1; ...; c_Kc] + MLP(l))

With the cosine term (``skip``) the sum is multiplied by a learned factor that starts at zero, so that training begins
at the cosine model. Without it the maps, which start near the identity (the V_b at the mean of the K_c tokens), and
a uniform gate make it begin near there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparcode.config import ScorerConfig
from sparcode.model.item_tokens import unit
from sparcode.model.scorers.base import Scorer

PAIRS = 1 << 16
"""Pairs (token, candidate) mixed at a time: their P_q P_c logits and hidden units should stay near the cache."""
NOISE = 0.02


class MixtureScorer(Scorer):
    """A gated sum of P_q P_c cosines; logits of a pair are numbered ab = a P_c + b."""

    kind = "mixture"

    def __init__(self, width: int, item_tokens: int, item_count: int, temperature: float, config: ScorerConfig) -> None:
        super().__init__(width, item_tokens, item_count, temperature, config.skip)
        logits = config.query_components * config.item_components
        self.query_maps = nn.Parameter(_near_mean(config.query_components, width, 1))  # W (P_q, d, d)
        self.item_maps = nn.Parameter(_near_mean(config.item_components, width, item_tokens))  # V (P_c, d, K_c d)
        self.query_gate = nn.Parameter(torch.zeros(logits, width))
        self.item_gate = nn.Parameter(torch.zeros(logits, item_tokens * width))
        # Logits are cosines over tau; the factor tau gives the hidden units the size they have for cosines.
        self.hidden_weight = nn.Parameter(torch.randn(config.hidden, logits) * temperature * math.sqrt(2.0 / logits))
        self.hidden_bias = nn.Parameter(torch.zeros(config.hidden))
        self.out_weight = nn.Parameter(torch.zeros(logits, config.hidden))
        self.out_bias = nn.Parameter(torch.zeros(logits))
        self.scale = nn.Parameter(torch.zeros(())) if config.skip else None

    def arrays(self) -> dict[str, Tensor]:
        """Return what the served scorer needs, by the names of ``sparcode.query.rescore.mixture``."""
        return {
            "mixture.query.maps": self.query_maps,
            "mixture.query.gate": self.query_gate,
            "mixture.item.maps": self.item_maps,
            "mixture.item.gate": self.item_gate,
            "mixture.hidden.weight": self.hidden_weight,
            "mixture.hidden.bias": self.hidden_bias,
            "mixture.out.weight": self.out_weight,
            "mixture.out.bias": self.out_bias,
            "mixture.scale": torch.ones(1) if self.scale is None else self.scale.reshape(1),
        }

    def _query_side(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return components (..., P_q, d), over tau, and gates (..., P_q P_c) of tokens (..., d)."""
        components = unit((tokens @ self.query_maps.flatten(0, 1).T).unflatten(-1, self.query_maps.shape[:2]))
        return components / self.temperature, tokens @ self.query_gate.T + self.out_bias

    def _item_side(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return components (..., P_c, d) and gates (..., P_q P_c) of item tokens (..., K_c, d)."""
        flat = items.flatten(-2)
        components = unit((flat @ self.item_maps.flatten(0, 1).T).unflatten(-1, self.item_maps.shape[:2]))
        return components, flat @ self.item_gate.T

    def _candidates(self, tokens: Tensor, items: Tensor) -> Tensor:
        groups, positions, heads, width = tokens.shape
        queries, query_gates = self._query_side(tokens.reshape(groups, positions * heads, width))
        components, item_gates = self._item_side(items)
        rows = max(PAIRS // items.shape[1], 1)
        mixed = []
        for group in range(groups):
            shared = (components[group].transpose(0, 1), item_gates[group].T)
            parts = zip(queries[group].split(rows), query_gates[group].split(rows), strict=True)
            mixed += [self._mix_block(part.transpose(0, 1), gates.T, *shared) for part, gates in parts]
        return self._scaled(torch.cat(mixed).view(groups, positions, heads, -1))

    def _mix_block(self, *sides: Tensor) -> Tensor:
        """Mix one block; in training nothing of the block is kept, the backward pass computes it again."""
        if not torch.is_grad_enabled():
            return self._mix(*sides)
        mixed: Tensor = checkpoint(self._mix, *sides, use_reentrant=False, preserve_rng_state=False)
        return mixed

    def _mix(self, queries: Tensor, query_gates: Tensor, items: Tensor, item_gates: Tensor) -> Tensor:
        """Queries (P_q, X, d), items (P_c, N, d), gates (L, X) and (L, N) -> (X, N).

        Logits lie one after another, each for all pairs, so that the gate's MLP is two plain matrix products.
        """
        (many, rows, width), (few, columns, _) = queries.shape, items.shape
        products = queries.reshape(-1, width) @ items.reshape(-1, width).T
        logits = products.view(many, rows, few, columns).transpose(1, 2).reshape(many * few, rows * columns)
        hidden = torch.relu(torch.addmm(self.hidden_bias[:, None], self.hidden_weight, logits))
        gates = (self.out_weight @ hidden).view(-1, rows, columns) + query_gates[:, :, None] + item_gates[:, None]
        return (torch.softmax(gates, dim=0) * logits.view_as(gates)).sum(0)

    def _pairs(self, tokens: Tensor, items: Tensor) -> Tensor:
        queries, query_gates = self._query_side(tokens)  # (..., K_u, P_q, d)
        components, item_gates = self._item_side(items)
        logits = (queries @ components[..., None, :, :].transpose(-1, -2)).flatten(-2)
        hidden = torch.relu(logits @ self.hidden_weight.T + self.hidden_bias)
        gates = torch.softmax(hidden @ self.out_weight.T + query_gates + item_gates[..., None, :], dim=-1)
        return self._scaled((gates * logits).sum(-1))

    def _scaled(self, mixed: Tensor) -> Tensor:
        return mixed if self.scale is None else mixed * self.scale


def _near_mean(components: int, width: int, tokens: int) -> Tensor:
    """Return (P, d, K d): each map takes the mean of K vectors, but for noise that lets the maps part ways."""
    mean = torch.eye(width).repeat(components, 1, tokens) / tokens
    return mean + torch.randn_like(mean) * NOISE / tokens
