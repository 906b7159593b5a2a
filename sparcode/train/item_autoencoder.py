"""Training of RQ-VAE and VQ-VAE of items: from vectors to arrays that need no torch.

Validation selects the epoch, a plateau lowers the learning rate, and usage of every codebook is part of every report.
The same vectors, options and seed give the same arrays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparcode.errors import ConfigError, DataError
from sparcode.model.item_autoencoder import (
    ItemAutoencoder,
    ItemCodebook,
    Quantised,
    info_nce,
    prefix_mask,
)
from sparcode.model.item_autoencoder_options import ItemAutoencoderOptions, read_options
from sparcode.quantize.normalize import fit_normalizer
from sparcode.seeding import derive, generator
from sparcode.train.item_export import export_arrays
from sparcode.train.item_pairs import NO_PARTNER, Neighbours
from sparcode.train.item_parts import check_validation, check_vectors, split_items
from sparcode.train.item_usage import usage_of
from sparcode.train.run import resolve_device
from sparcode.train.scope import training_scope
from sparcode.types import Sequences

REVIVAL_WINDOW = 20
"""Vectors a codeword, after which wins are looked at: one with an even share is then never without a win."""
START_ROWS_PER_CODEWORD = 32
LEAST_START_ROWS = 8192

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainedAutoencoder:
    """``arrays`` to encode and decode with, the checked ``options``, and the last ``report``."""

    arrays: dict[str, np.ndarray]
    options: ItemAutoencoderOptions
    report: dict[str, Any]


def train_item_autoencoder(
    kind: str, vectors: np.ndarray, options: dict[str, Any], *, seed: int, sequences: Sequences | None = None,
    validation: np.ndarray | None = None, device: str = "auto", report: Report | None = None,
) -> TrainedAutoencoder:  # fmt: skip
    """Train ``rq-vae`` or ``vq-vae`` on vectors (n, d).

    ``sequences``: histories whose items are rows of ``vectors`` (for ``contrastive_weight``). ``validation`` (m, d)
    selects the epoch in place of ``validation_share`` of the items. ``report`` receives a dict after every epoch:
    epoch, epochs (the most there will be), mse, validation_mse (mean squared error of a coordinate, in units of the
    input), usage and perplexity by codebook, revived, learning_rate, seconds. Raises ConfigError and DataError.
    """
    read = read_options(kind, options)
    check_vectors(kind, vectors, read)
    if validation is not None:
        check_validation(kind, validation, vectors.shape[1])
    place = resolve_device(device)
    with training_scope(place):
        return _Trainer(kind, vectors, read, seed, sequences, validation, place, report).fit()


class _Trainer:
    """State of one training."""

    def __init__(
        self, kind: str, vectors: np.ndarray, options: ItemAutoencoderOptions, seed: int, sequences: Sequences | None,
        validation: np.ndarray | None, device: torch.device, report: Report | None,
    ) -> None:  # fmt: skip
        self.kind, self.vectors, self.options, self.seed, self.device = kind, vectors, options, seed, device
        self.report, self.given = report, validation
        self.parts = split_items(len(vectors), options, seed, validation is None)
        self.neighbours = self._find_neighbours(sequences)
        self.normalizer = fit_normalizer(vectors, self.parts.train, options.normalize)
        self.scale = torch.from_numpy(self.normalizer.scale).to(device)
        self.model = self._build().to(device)
        self.optimizer, self.schedule = self._optimizer()
        # Errors of the selection in units of a coordinate's variance, as the loss has them.
        self.unit = float(np.square(self.normalizer.scale, dtype=np.float64).mean())
        digits = len(options.sizes)
        self.lengths = list(range(1, digits + 1)) if options.progressive_masking else [digits]
        self.contrast: list[Tensor] = []
        self.unseen = [0] * len(options.sizes)
        self.best: dict[str, Tensor] = {}
        self.best_selection, self.stale, self.history = math.inf, 0, dict[str, Any]()

    def fit(self) -> TrainedAutoencoder:
        """Train until the epochs or the patience end; the best epoch counts."""
        warmup = 0 if self.options.init == "rq-kmeans" else min(self.options.warmup_epochs, self.options.epochs - 1)
        for epoch in range(self.options.epochs):
            if epoch == warmup:
                self._start()
            found = self._epoch(epoch)
            if epoch >= warmup:
                self._keep_best(found)
            if self.report is not None:
                self.report(found | {"epochs": self.options.epochs})
            if self.stale >= self.options.patience:
                break
        self.model.load_state_dict(self.best)
        return TrainedAutoencoder(export_arrays(self.model, self.normalizer), self.options, self._summary(epoch + 1))

    def _summary(self, epochs: int) -> dict[str, Any]:
        # No times: what is saved with the codec depends on vectors, options and seed alone.
        found = {name: value for name, value in self.history.items() if name not in ("seconds", "quantised")}
        found |= {"best_epoch": found.pop("epoch"), "epochs": epochs}
        if len(self.parts.test):
            found["test_mse"] = self._errors(self.vectors, self.parts.test)[-1]
        counts = {"train_items": self.parts.train, "validation_items": self.parts.validation}
        return found | {name: len(rows) for name, rows in counts.items()} | {"test_items": len(self.parts.test)}

    def _find_neighbours(self, sequences: Sequences | None) -> Neighbours | None:
        if self.options.contrastive_weight == 0:
            return None
        remedy = "give histories of the items, or set contrastive_weight=0"
        if sequences is None:
            raise ConfigError(
                f"{self.kind}: contrastive_weight={self.options.contrastive_weight} needs histories; {remedy}"
            )
        usable = np.zeros(len(self.vectors), bool)
        usable[self.parts.train] = True
        found = Neighbours(sequences, len(self.vectors), usable)
        if len(found) == 0:
            raise DataError(f"{self.kind}: no two different items follow each other in the histories; {remedy}")
        return found

    def _build(self) -> ItemAutoencoder:
        skip = None
        if self.options.init == "rq-kmeans":
            sample = self.normalizer.apply(self.vectors[self._some_rows(self._start_rows())])
            skip = torch.from_numpy(principal_map(sample, self.options.book_width(self.vectors.shape[1])))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, self.kind, "initial"))
            return ItemAutoencoder(self.vectors.shape[1], self.options, skip)

    def _optimizer(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau]:
        words = [book.words for book in self.model.codebooks if book.trainable]
        weights = [p for p in self.model.parameters() if all(p is not word for word in words)]
        # Decay would pull codewords to the origin, where the residuals of deep codebooks already are.
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": words, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups if words else groups[:1], lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        patience, factor = self.options.plateau_patience, self.options.plateau_factor
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau
        # A factor of 1 would be refused; it means no schedule.
        return optimizer, schedule(optimizer, factor=min(factor, 0.999_999), patience=patience, threshold=1e-4)

    def _start_rows(self) -> int:
        small = [size for size in self.options.sizes if size <= 4096]
        return max(LEAST_START_ROWS, START_ROWS_PER_CODEWORD * max(small, default=0), max(self.options.sizes))

    def _some_rows(self, count: int) -> np.ndarray:
        rows = self.parts.train
        if len(rows) <= count:
            return rows
        return np.sort(generator(self.seed, self.kind, "start").choice(rows, count, replace=False))

    @torch.no_grad()
    def _start(self) -> None:
        rows = self._some_rows(self._start_rows())
        latents = [self.model.encode_latent(self._batch(part)) for part in _blocks(rows)]
        self.model.start(torch.cat(latents), derive(self.seed, self.kind, "codebooks"))

    def _batch(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.normalizer.apply(self.vectors[rows])).to(self.device)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        started, model = time.perf_counter(), self.model.train()
        rng = generator(self.seed, self.kind, "epoch", epoch)
        dice = torch.Generator().manual_seed(derive(self.seed, self.kind, "dice", epoch))
        counts = [torch.zeros(size, device=self.device) for size in self.options.sizes]
        total, revived, self.contrast = torch.zeros((), device=self.device), 0, []
        for rows in _blocks(rng.permutation(self.parts.train), self.options.batch_size):
            error, quantised = self._step(rows, rng, dice)
            total += error * len(rows)
            if quantised is not None:
                revived += self._follow(quantised, counts, dice)
        mse = float(total) / len(self.parts.train)
        found: dict[str, Any] = {"epoch": epoch, "quantised": bool(model.ready), "mse": mse}
        if model.ready:
            pairs = [usage_of(count.cpu().numpy()) for count in counts]
            found |= {"usage": [round(u, 4) for u, _ in pairs], "perplexity": [round(p, 3) for _, p in pairs]}
        found |= self._validate(mse) | {"revived": revived}
        return found | {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": time.perf_counter() - started}

    def _step(
        self, rows: np.ndarray, rng: np.random.Generator, dice: torch.Generator
    ) -> tuple[Tensor, Quantised | None]:
        """Take one step on the items ``rows``; return the squared error in units of the input, and the codes."""
        x, quantised = self._batch(rows), None
        value = z = self.model.encode_latent(x)
        loss = z.new_zeros(())
        if self.model.ready:
            masked, digits = self.options.progressive_masking, len(self.options.sizes)
            kept = prefix_mask(len(rows), digits, dice).to(self.device) if masked else None
            quantised = self.model.quantise(z, kept)
            value = quantised.value
            loss = self.options.commitment * quantised.commitment
            if self.options.books == "gradient":
                loss = loss + quantised.codebook
        if self.neighbours is not None:
            self.contrast.append(self._contrast(rows, z, quantised, rng))
            loss = loss + self.options.contrastive_weight * self.contrast[-1]
            self.contrast[-1] = self.contrast[-1].detach()
        gap = self.model.decode_latent(value) - x
        self._descend(loss + gap.square().mean())
        return (gap.detach() * self.scale).square().mean(), quantised

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()

    def _contrast(self, rows: np.ndarray, z: Tensor, quantised: Quantised | None, rng: np.random.Generator) -> Tensor:
        assert self.neighbours is not None
        partners = self.neighbours.draw(rows, rng)
        have = np.flatnonzero(partners != NO_PARTNER)
        if len(have) == 0:
            return z.new_zeros(())
        others = self.model.encode_latent(self._batch(partners[have]))
        if self.model.ready and quantised is not None:
            z, others = quantised.full, self.model.quantise(others).full
        ids, other_ids = (torch.from_numpy(x[have]).to(self.device) for x in (rows, partners))
        place = torch.from_numpy(have).to(self.device)
        return info_nce(z[place], others, ids, other_ids, self.options.contrastive_temperature)

    @torch.no_grad()
    def _follow(self, quantised: Quantised, counts: list[Tensor], dice: torch.Generator) -> int:
        """Let the codebooks follow what they encoded, and re-seed those codewords that nothing chooses."""
        revived = 0
        for number, (book, seen) in enumerate(zip(self.model.codebooks, quantised.seen, strict=True)):
            codes = quantised.codes[:, number]
            counts[number] += torch.bincount(codes, minlength=len(book.words))
            book.note(seen, codes)
            self.unseen[number] += len(codes)
            if self.options.revive_below > 0 and self.unseen[number] >= REVIVAL_WINDOW * len(book.words):
                self.unseen[number] = 0
                dead = book.replace_unused(seen, self.options.revive_below, dice)
                self._forget(book, dead)
                revived += len(dead)
        return revived

    def _forget(self, book: ItemCodebook, dead: Tensor) -> None:
        if book.trainable and len(dead):
            state = self.optimizer.state.get(book.words, {})
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name][dead] = 0.0

    def _validate(self, mse: float) -> dict[str, Any]:
        """Return the validation MSE (None without such items) and what selects the epoch.

        That is the validation MSE, over all prefixes where they are trained for, plus the contrastive loss of the
        epoch: the error alone would prefer an epoch in which these options have done nothing.
        """
        errors = None
        if self.given is not None:
            errors = self._errors(self.given, np.arange(len(self.given)))
        elif len(self.parts.validation):
            errors = self._errors(self.vectors, self.parts.validation)
        found: dict[str, Any] = {"validation_mse": None if errors is None else errors[-1]}
        if errors is not None and self.options.progressive_masking:
            found["validation_prefix_mse"] = errors
        selection = (mse if errors is None else float(np.mean(errors))) / self.unit
        if self.contrast:
            found["contrast"] = float(torch.stack(self.contrast).mean())
            selection += self.options.contrastive_weight * found["contrast"]
        return found | {"selection": selection}

    @torch.no_grad()
    def _errors(self, vectors: np.ndarray, rows: np.ndarray) -> list[float]:
        """Return the squared error of a coordinate of ``vectors[rows]`` in units of the input, by nearest codewords.

        One for each prefix in ``lengths``; the last is that of all digits.
        """
        self.model.eval()
        total = np.zeros(len(self.lengths))
        for part in _blocks(rows):
            x = torch.from_numpy(self.normalizer.apply(vectors[part])).to(self.device)
            z = self.model.encode_latent(x)
            codes = self.model.codes(z) if self.model.ready else None
            for place, length in enumerate(self.lengths):
                value = z if codes is None else self.model.words(codes[:, :length])
                gap = (self.model.decode_latent(value) - x) * self.scale
                total[place] += float(gap.square().mean()) * len(part)
        return (total / len(rows)).tolist()

    def _keep_best(self, found: dict[str, Any]) -> None:
        selection = found["selection"]
        if not math.isfinite(selection):
            message = (
                f"training diverged in epoch {found['epoch'] + 1}; lower learning_rate={self.options.learning_rate}"
            )
            raise ConfigError(f"{self.kind}: {message}")
        self.schedule.step(selection)
        self.stale += 1
        if selection < self.best_selection:
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.best_selection, self.stale, self.history = selection, 0, found


def _blocks(rows: np.ndarray, size: int = 8192) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def principal_map(sample: np.ndarray, width: int) -> np.ndarray:
    """Return (d, width) float32: the identity for width d, else the first principal directions, zero behind d."""
    columns = sample.shape[1]
    if width == columns:
        return np.eye(columns, dtype=np.float32)
    _, directions = np.linalg.eigh(np.cov(sample.astype(np.float64), rowvar=False).reshape(columns, columns))
    result = np.zeros((columns, width), np.float32)
    kept = min(width, columns)
    result[:, :kept] = directions[:, ::-1][:, :kept]
    return result
