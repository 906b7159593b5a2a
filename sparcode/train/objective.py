"""What one step minimises: ranking losses of the unquantised and the quantised score, and the commitment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding  # its gradient is added by rows: no atomics, any number of threads

from sparcode.model.losses import bpr_loss, logq_corrected, mask_equal, softmax_loss
from sparcode.model.sparcode import SparCodeModel
from sparcode.train.batches import Batch
from sparcode.train.negatives import CandidateSampler


@dataclass
class StepResult:
    """Loss of a step and what the loop wants to know of it; ``tokens`` and ``codes`` of valid positions or None."""

    loss: Tensor
    ranking: float
    tokens: Tensor | None = None
    codes: Tensor | None = None


@dataclass(frozen=True)
class Positions:
    """Training queries in groups: tokens (G, P, K_u, d), targets (G, P), weight (G, P) (0 for padding)."""

    tokens: Tensor
    targets: Tensor
    weight: Tensor


class Objective:
    """Turns batches into losses for one model."""

    def __init__(
        self, model: SparCodeModel, sampler: CandidateSampler, features: Tensor | None, history_dropout: float
    ) -> None:
        self.model, self.sampler, self.features = model, sampler, features
        self.history_dropout = history_dropout
        self.device = model.items.known.device

    def step(self, batch: Batch, epoch: int, quantised: bool) -> StepResult:
        """Return the loss of one batch; ``quantised`` adds the score through the codebooks."""
        table = self.model.items.table()
        positions = self._positions(table, batch)
        ids, log_probability = self.sampler.draw(positions.targets, positions.weight > 0, epoch, batch.number)
        positions = _regroup(positions, len(ids))
        if not quantised:
            loss = self._ranking(table, positions.tokens, positions, ids, log_probability, parts=1)[0]
            return StepResult(loss, float(loss.detach()))
        return self._quantised_step(table, positions, ids, log_probability)

    def _quantised_step(
        self, table: Tensor, positions: Positions, ids: Tensor, log_probability: Tensor | None
    ) -> StepResult:
        config = self.model.config
        values, codes, errors = self.model.quantise(positions.tokens)
        # Both scores share one pass: the quantised tokens are K_u more heads of the same positions.
        both = torch.cat([positions.tokens, values], dim=2)
        unquantised, ranking = self._ranking(table, both, positions, ids, log_probability, parts=2)
        commitment = (errors.mean(-1) * positions.weight).sum() / positions.weight.sum().clamp_min(1.0)
        loss = ranking + config.loss.unquantised_weight * unquantised + config.quantizer.commitment * commitment
        seen = positions.weight > 0
        width = positions.tokens.shape[-1]
        tokens = positions.tokens.detach()[seen].reshape(-1, width)
        return StepResult(loss, float(ranking.detach()), tokens, codes[seen].reshape(len(tokens), -1))

    def _positions(self, table: Tensor, batch: Batch) -> Positions:
        items, targets, valid = (torch.from_numpy(x).to(self.device) for x in (batch.items, batch.targets, batch.valid))
        features = None if self.features is None else self.features[torch.from_numpy(batch.users).to(self.device)]
        tokens = self.model.query_tokens(table, items, valid, features, self._kept(valid))
        if features is not None:
            # A row that starts a sequence also predicts its first event from the features alone.
            tokens = torch.cat([self.model.empty_tokens(features)[:, None], tokens], dim=1)
            targets = torch.cat([items[:, :1], targets], dim=1)
            first = torch.from_numpy(batch.first).to(self.device)
            valid = torch.cat([(first & valid[:, 0])[:, None], valid], dim=1)
        groups = len(items) // batch.group_rows
        return Positions(
            tokens.reshape(groups, -1, *tokens.shape[2:]),
            targets.reshape(groups, -1),
            valid.float().reshape(groups, -1),
        )

    @torch.no_grad()
    def queries_of(self, table: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return unquantised tokens (X, K_u, d) and targets (X,) of the X valid positions of a batch."""
        positions = self._positions(table, batch)
        seen = positions.weight > 0
        return positions.tokens[seen], positions.targets[seen]

    def _kept(self, valid: Tensor) -> Tensor | None:
        if not self.model.training or self.history_dropout == 0:
            return None
        return torch.rand(valid.shape, device=valid.device) >= self.history_dropout

    def _ranking(
        self, table: Tensor, tokens: Tensor, positions: Positions, ids: Tensor, log_q: Tensor | None, parts: int
    ) -> list[Tensor]:
        """Return one loss for each of ``parts`` equal slices of the head axis: unquantised, then quantised."""
        model, loss_kind = self.model, self.sampler.config.kind
        ids = ids.to(self.device)
        targets = positions.targets
        positive = model.scorer.pairs(tokens, model.items.tokens(embedding(targets, table)), targets)
        candidates = model.scorer.candidates(tokens, model.items.tokens(embedding(ids, table)), ids)
        losses = []
        pieces = zip(positive.chunk(parts, dim=-1), candidates.chunk(parts, dim=2), strict=True)
        for number, (one, many) in enumerate(pieces):
            if number == 1:
                one, many = model.activation(one), model.activation(many)
            many = mask_equal(many.sum(dim=2), ids, targets)
            if log_q is not None:
                many = logq_corrected(many, log_q.to(self.device))
            one = one.sum(dim=-1)
            if log_q is not None:
                one = one - self.sampler.log_probability.to(self.device)[targets]
            loss = bpr_loss if loss_kind == "bpr" else softmax_loss
            losses.append(loss(one, many, positions.weight))
        return losses


def _regroup(positions: Positions, candidate_groups: int) -> Positions:
    """Merge all groups into one when the candidates are shared by all of them."""
    if candidate_groups == len(positions.targets):
        return positions
    tokens = positions.tokens
    return Positions(
        tokens.reshape(1, -1, *tokens.shape[2:]), positions.targets.reshape(1, -1), positions.weight.reshape(1, -1)
    )
