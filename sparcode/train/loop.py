"""One readable loop for every torch model: steps, validation, early stopping, checkpoints, metrics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparcode.config import Config
from sparcode.files import append_text
from sparcode.model.sparcode import SparCodeModel
from sparcode.seeding import derive
from sparcode.train.batches import Batch, epoch_batches
from sparcode.train.checkpoint import load_checkpoint, save_checkpoint
from sparcode.train.objective import Objective, StepResult
from sparcode.train.progress import Progress
from sparcode.train.sparsity import DensitySteering
from sparcode.train.validation import Validator
from sparcode.types import Sequences

Callback = Callable[[dict[str, Any]], None]
TOKEN_SAMPLE = 65_536
"""Query tokens kept for k-means and for reviving dead codewords; k-means takes more when there are many codewords."""
TOKENS_A_CODEWORD = 16


@dataclass
class LoopState:
    """Where training stands; saved with every checkpoint."""

    epoch: int = 0
    best_metric: float = -1.0
    best_epoch: int = -1
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    positions: int = 0
    padded_positions: int = 0
    warnings: list[str] = field(default_factory=list)


class Trainer:
    """Fits one model. ``name`` tells its checkpoint, its metrics lines and its progress bar apart.

    ``codes_only``: the weights are trained already (a warm start), and only the codebooks are fitted to them.
    """

    def __init__(
        self, name: str, model: SparCodeModel, objective: Objective, sequences: Sequences, validator: Validator | None,
        config: Config, folder: Path, progress: Progress, callback: Callback | None = None, codes_only: bool = False,
    ) -> None:  # fmt: skip
        assert config.train.epochs is not None, "resolve the configuration first"
        self.name, self.model, self.objective, self.sequences = name, model, objective, sequences
        self.validator, self.config, self.progress, self.callback = validator, config, progress, callback
        self.epochs: int = config.train.epochs
        self.codes_only = codes_only
        self.checkpoint = folder / "checkpoints" / f"{name}.safetensors"
        self.metrics_file = folder / "metrics.jsonl"
        self.state = LoopState()
        self.best: dict[str, Tensor] = {}
        quantised = model.quantizer is not None
        # The schedule (learning rate, warm-up) spans all epochs, also when training stops before its end.
        self.last_epoch = min(self.epochs, config.train.stop_after or self.epochs) - 1
        warmup = math.ceil(config.quantizer.warmup * self.epochs)
        self.quantised_from = min(warmup, self.last_epoch) if quantised else self.epochs
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
            fused=next(model.parameters()).device.type in ("cpu", "cuda"),
        )

    def fit(self, resume: bool = False) -> LoopState:
        """Train to the end (or from the last checkpoint); the model holds the best weights afterwards."""
        if resume and self.checkpoint.exists():
            self.best, state = load_checkpoint(self.checkpoint, self.model, self.optimizer)
            self.state = LoopState(**state)
        while not self.state.finished:
            if self.codes_only:
                self._fit_codes()
            else:
                self._epoch(self.state.epoch)
        self.model.load_state_dict(self.best)
        return self.state

    def _fit_codes(self) -> None:
        started = time.perf_counter()
        assert self.model.quantizer is not None
        tokens = self._start_quantizer(0)
        heads = self.config.model.heads or 1
        codes = self.model.quantizer.encode(tokens[: len(tokens) // heads * heads])
        report: dict[str, Any] = {"model": self.name, "epoch": 0, "quantised": True} | self._validate(True)
        report |= code_usage(codes, self.config.quantizer.codewords or 0, heads)
        self._keep_best(0, report)
        self.state.seconds += time.perf_counter() - started
        self.state.finished = True
        self._log(report | {"seconds": round(self.state.seconds, 3)})

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        # All randomness of an epoch follows from (seed, epoch): a resumed run repeats it bit for bit.
        torch.manual_seed(derive(self.config.seed, self.name, "epoch", epoch))
        quantised = epoch >= self.quantised_from
        if quantised and not bool(self.model.quantizer.ready):  # type: ignore[union-attr]
            self._start_quantizer(epoch)
        losses, codes, tokens = self._steps(epoch, quantised)
        report: dict[str, Any] = {"model": self.name, "epoch": epoch, "loss": losses, "quantised": quantised}
        if quantised:
            report |= self._after_quantised_epoch(epoch, codes, tokens)
        report |= self._validate(quantised)
        self.state.seconds += time.perf_counter() - started
        report["seconds"] = round(self.state.seconds, 3)
        report["padding"] = round(1 - self.state.positions / max(self.state.padded_positions, 1), 4)
        self._keep_best(epoch, report)
        self.state.epoch = epoch + 1
        self.state.finished = self._is_over(epoch)
        self._save()
        self._log(report)

    def _steps(self, epoch: int, quantised: bool) -> tuple[float, Tensor | None, Tensor | None]:
        train = self.config.train
        batches = list(
            epoch_batches(self.sequences, self.config.model.history, train.batch_positions, self.config.seed, epoch)
        )
        steering = self._steering(epoch) if quantised else None
        self.model.train()
        losses, codes, tokens = [], [], []
        for batch in batches:
            self._set_learning_rate(epoch + batch.number / len(batches))
            result = self._step(batch, epoch, quantised)
            losses.append(result.ranking)
            if quantised and result.tokens is not None and result.codes is not None:
                self.model.quantizer.update(result.tokens, result.codes)  # type: ignore[union-attr]
                codes.append(result.codes)
                tokens.append(result.tokens[: TOKEN_SAMPLE // len(batches) + 1])
                if steering is not None and batch.number % 10 == 0:
                    steering.nudge(result.codes)
            self._count(batch)
            self.progress.step(self.name, epoch, self.epochs, batch.number + 1, len(batches), float(np.mean(losses)))
        joined = (torch.cat(codes), torch.cat(tokens)) if codes else (None, None)
        return float(np.mean(losses)), *joined

    def _step(self, batch: Batch, epoch: int, quantised: bool) -> StepResult:
        result = self.objective.step(batch, epoch, quantised)
        self.optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.optimizer.step()
        return result

    def _set_learning_rate(self, time_in_epochs: float) -> None:
        """Linear warm-up over half an epoch, then a cosine down to 2 % of the peak."""
        warm = min(1.0, (time_in_epochs + 1e-2) / 0.5)
        share = min(1.0, time_in_epochs / self.epochs)
        factor = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.train.learning_rate * factor

    def _count(self, batch: Batch) -> None:
        self.state.positions += int(batch.valid.sum())
        self.state.padded_positions += batch.valid.size

    @torch.no_grad()
    def _start_quantizer(self, epoch: int) -> Tensor:
        """Fit the codebooks to a sample of query tokens and return it, (X, d)."""
        assert self.model.quantizer is not None
        self.model.eval()
        table, found, total = self.model.items.table(), [], 0
        train = self.config.train
        most = max(TOKEN_SAMPLE, TOKENS_A_CODEWORD * (self.config.quantizer.codewords or 0))
        for batch in epoch_batches(
            self.sequences, self.config.model.history, train.batch_positions, self.config.seed, epoch
        ):
            tokens = self.objective.queries_of(table, batch)[0].flatten(0, 1)
            found.append(tokens)
            total += len(tokens)
            if total >= most:
                break
        sample = torch.cat(found)[:most]
        self.model.quantizer.start(sample, derive(self.config.seed, "kmeans") % 2**31)
        return sample

    def _steering(self, epoch: int) -> DensitySteering | None:
        percent = self.config.sparsity.target_density
        if percent is None:
            return None
        return DensitySteering(self.model, percent, derive(self.config.seed, "steering", epoch))

    def _after_quantised_epoch(self, epoch: int, codes: Tensor | None, tokens: Tensor | None) -> dict[str, Any]:
        assert codes is not None and tokens is not None  # noqa: PT018 (no test)
        assert self.model.quantizer is not None
        quantizer, config = self.model.quantizer, self.config.quantizer
        usage = code_usage(codes, config.codewords or 0, self.config.model.heads or 1)
        revived = 0
        if epoch < self.last_epoch:  # a codeword revived after the last step would never be trained
            dice = torch.Generator().manual_seed(derive(self.config.seed, "revive", epoch))
            revived = quantizer.revive(tokens, config.revive_below, dice)
        if (steering := self._steering(epoch)) is not None:
            steering.settle(codes)
        return usage | {"revived": revived, "bias": float(self.model.bias)}

    def _validate(self, quantised: bool) -> dict[str, Any]:
        if self.validator is None or len(self.validator) == 0:
            return {}
        return dict(self.validator.measure(self.model, quantised))

    def _keep_best(self, epoch: int, report: dict[str, Any]) -> None:
        metric = selection_metric(report)
        if epoch == self.quantised_from and self.model.quantizer is not None:
            self.state.best_metric = -1.0  # weights from before the codebooks existed cannot be served
        if metric is None or metric > self.state.best_metric or not self.best:
            self.state.best_metric = -1.0 if metric is None else metric
            self.state.best_epoch, self.state.waited = epoch, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.state.waited += 1

    def _is_over(self, epoch: int) -> bool:
        if epoch >= self.last_epoch:
            return True
        may_stop = self.model.quantizer is None or epoch >= self.quantised_from
        return may_stop and self.validator is not None and self.state.waited >= self.config.train.patience

    def _save(self) -> None:
        save_checkpoint(self.checkpoint, self.model, self.optimizer, self.best, vars(self.state))

    def _log(self, report: dict[str, Any]) -> None:
        append_text(self.metrics_file, json.dumps(report) + "\n")
        self.progress.epoch(self.name, self.epochs, report)
        if self.callback is not None:
            self.callback(report)


def selection_metric(report: dict[str, Any]) -> float | None:
    """Return what selects the best epoch: the unquantised NDCG@10, averaged with the quantised one if there is one."""
    if "ndcg@10" not in report:
        return None
    found = [report[key] for key in ("ndcg@10", "quantised_ndcg@10") if key in report]
    return float(np.mean(found))


def code_usage(codes: Tensor, codewords: int, heads: int) -> dict[str, float]:
    """Describe codes (X, M): smallest share of codewords used, perplexity share, distinct codes a query."""
    shares, perplexities = [], []
    for column in codes.T:
        share = torch.bincount(column, minlength=codewords).double()
        share = share / share.sum()
        shares.append(float((share > 0).double().mean()))
        entropy = -(share[share > 0] * share[share > 0].log()).sum()
        perplexities.append(float(entropy.exp()) / codewords)
    composite = codes[:, 0].clone()
    for column in codes.T[1:]:
        composite = composite * codewords + column
    ordered = composite.view(-1, heads).sort(dim=1).values
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).double()
    return {
        "usage": min(shares),
        "perplexity": min(perplexities),
        "distinct_codes": float(distinct.mean()),
        "codes": int(torch.unique(composite).numel()),
    }
