"""RQ-VAE and VQ-VAE of items: an MLP encoder, residual codebooks, an MLP decoder.

    x -> normalise -> encoder -> z (B, w) -> codes (B, L) -> sum of codewords -> decoder -> x~

van den Oord et al. 2017 (VQ-VAE), Zeghidour et al. 2021 (residual books), Rajput et al. 2023 (TIGER), He et al. 2025
(PLUM: multi-resolution books, progressive masking, InfoNCE). VQ-VAE is the case of one codebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparcode.model.item_autoencoder_options import ItemAutoencoderOptions
from sparcode.model.quantizers import Codebook

CELLS = 1 << 24
"""Most distances of one chunk of an assignment: 64 MiB. Rows times codewords times width never exist at once.

Blocks so large go back to the system when they are freed; many smaller ones would leave holes.
"""
BALANCED_CELLS = 1 << 27
"""Most cells of one balanced assignment, 512 MiB a matrix, of which two exist: larger batches are balanced in parts."""


class Quantised(NamedTuple):
    """What quantization gives for latents (B, w).

    ``value`` (B, w): codewords of the kept digits, its gradient goes to the latents. ``full`` (B, w): the same with all
    digits. ``codes`` (B, L). ``commitment`` and ``codebook``: scalars, the two halves of the VQ loss. ``seen``: what
    each codebook quantised, L tensors (B, w) without gradient.
    """

    value: Tensor
    full: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor
    seen: list[Tensor]


class ItemCodebook(Codebook):
    """A codebook that also counts wins, for revival and reports; codewords are a parameter if ``trainable``."""

    wins: Tensor

    def __init__(self, codewords: int, width: int, decay: float, trainable: bool = False) -> None:
        super().__init__(codewords, width, decay)
        self.trainable = trainable
        if trainable:
            del self._buffers["words"]
            self.words = nn.Parameter(torch.zeros(codewords, width))
        self.register_buffer("wins", torch.zeros(codewords), persistent=False)

    @torch.no_grad()
    def assign(self, vectors: Tensor, balance: Sinkhorn | None = None) -> Tensor:
        """Return the codewords (X,) of vectors (X, w): the nearest, or those of a balanced assignment of the batch."""
        if balance is not None:
            # Of equal size: a few vectors left over for a part of their own would be spread over all codewords.
            most = max(BALANCED_CELLS // len(self.words), 1)
            parts = vectors.chunk(max(-(-len(vectors) // most), 1))
            return torch.cat([balance.assign(self.distances(part)) for part in parts])
        step = max(CELLS // len(self.words), 1)
        half = 0.5 * self.words.square().sum(1)
        # addmm keeps one matrix a chunk: |c|^2/2 - x.c orders codewords as the distance does.
        chunks = [torch.addmm(half, part, self.words.T, alpha=-1).argmin(1) for part in vectors.split(step)]
        return torch.cat(chunks) if chunks else torch.zeros(0, dtype=torch.int64, device=vectors.device)

    def distances(self, vectors: Tensor) -> Tensor:
        """Return all squared distances (X, K), through inner products."""
        result = torch.addmm(self.words.square().sum(1), vectors, self.words.T, alpha=-2)
        return result.add_(vectors.square().sum(1, keepdim=True)).clamp_(min=0)

    @torch.no_grad()
    def note(self, vectors: Tensor, codes: Tensor) -> None:
        """Count the wins of a training batch and, unless codewords are parameters, move the averages."""
        self.wins.add_(torch.bincount(codes, minlength=len(self.words)))
        if not self.trainable:
            self.update(vectors, codes)

    @torch.no_grad()
    def replace_unused(self, vectors: Tensor, below: float, generator: torch.Generator) -> Tensor:
        """Re-seed codewords that won less than ``below`` times the mean from ``vectors`` (X, w); return which.

        Wins are counted from zero afterwards.
        """
        dead = (self.wins < below * self.wins.mean()).nonzero()[:, 0]
        self.wins.zero_()
        chosen = torch.randperm(len(vectors), generator=generator)[: len(dead)]
        dead = dead[: len(chosen)]
        self.words[dead] = vectors[chosen.to(vectors.device)]
        self.counts[dead] = self.counts.mean()
        self.sums[dead] = self.words[dead] * self.counts[dead, None]
        return dead


class Sinkhorn:
    """Balanced assignment of a batch by optimal transport with entropy (Cuturi 2013), in the log domain."""

    def __init__(self, epsilon: float, iterations: int) -> None:
        self.epsilon, self.iterations = epsilon, iterations

    def plan(self, costs: Tensor) -> Tensor:
        """Return the log plan (B, K) of ``costs`` (B, K): columns sum to 1/K, rows to 1/B in the limit.

        The potentials absorb what is added to a row or a column, so costs count in units of their standard deviation
        without row and column means, and ``epsilon`` has no scale.
        """
        return self._plan(costs.clone())

    def assign(self, costs: Tensor) -> Tensor:
        """Return the codeword (B,) that gets most of each row of the plan; ``costs`` are overwritten."""
        return self._plan(costs).argmax(1)

    def _plan(self, costs: Tensor) -> Tensor:
        """Turn ``costs`` into the plan: beside them there is one matrix of their size at a time."""
        costs = costs.sub_(costs.mean(1, keepdim=True))
        costs = costs.sub_(costs.mean(0))
        logits = costs.div_(-self.epsilon * costs.square().mean().sqrt().clamp(min=1e-30))
        rows, columns, left = torch.zeros_like(logits[:, 0]), torch.zeros_like(logits[0]), self.iterations
        while left > 0:
            rows = -math.log(len(rows)) - _sums_of_rows(logits, columns)
            columns = -math.log(len(columns)) - _sums_of_columns(logits, rows)
            some = min(left - 1, SCALED_STEPS)
            u, v = _scaled_steps((logits + rows[:, None]).add_(columns).exp_(), some)
            if _moderate(u) and _moderate(v):
                rows, columns, left = rows + u.log(), columns + v.log(), left - some
            left -= 1
        return logits.add_(columns).add_(rows[:, None])


SCALED_STEPS = 16
"""Iterations between two in the log domain: products with a kernel whose sums are about right already."""


def _sums_of_rows(logits: Tensor, columns: Tensor) -> Tensor:
    """Return log sum_k exp(logits[b, k] + columns[k]) (B,), a part of the rows at a time."""
    parts = logits.split(max(CELLS // logits.shape[1], 1))
    return torch.cat([torch.logsumexp(part + columns, dim=1) for part in parts])


def _sums_of_columns(logits: Tensor, rows: Tensor) -> Tensor:
    """Return log sum_b exp(logits[b, k] + rows[b]) (K,), a part of the columns at a time."""
    parts = logits.split(max(CELLS // len(logits), 1), dim=1)
    return torch.cat([torch.logsumexp(part + rows[:, None], dim=0) for part in parts])


def _scaled_steps(kernel: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return factors of the rows (B,) and columns (K,) of ``kernel`` after so many iterations."""
    u, v = torch.ones_like(kernel[:, 0]), torch.ones_like(kernel[0])
    for _ in range(steps):
        u = 1.0 / (len(u) * (kernel @ v))
        v = 1.0 / (len(v) * (kernel.T @ u))
    return u, v


def _moderate(factors: Tensor) -> bool:
    """Tell whether factors are so near one that no sum of the kernel was lost to underflow."""
    return bool(((factors > 1e-12) & (factors < 1e12)).all())


class Mlp(nn.Module):
    """Linear layers with ReLU between them, but for boundaries that ``projections`` (layers - 1) marks as linear."""

    def __init__(self, widths: Sequence[int], projections: Sequence[bool]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(low, high) for low, high in zip(widths, widths[1:], strict=False))
        self.projections = tuple(projections)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, widths[0]) to (B, widths[-1])."""
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number + 1 < len(self.layers) and not self.projections[number]:
                x = torch.relu(x)
        return x

    def silence(self) -> None:
        """Make the output zero: with a skip connection beside it the network starts as that connection."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class ItemAutoencoder(nn.Module):
    """Encoder, codebooks and decoder. Inputs and outputs are normalised vectors (B, d)."""

    skip: Tensor | None
    ready: Tensor

    def __init__(self, width: int, options: ItemAutoencoderOptions, skip: Tensor | None = None) -> None:
        """``skip`` (d, w): linear map added to the encoder, its transpose to the decoder, which then start at it."""
        super().__init__()
        self.options = options
        inner = options.book_width(width)
        widths = [width, *options.hidden_dims, options.latent_dim]
        projected = inner != options.latent_dim
        tail = [inner] if projected else []
        flags = [False] * (len(widths) - 2) + ([True] if projected else [])
        self.encoder = Mlp([*widths, *tail], flags)
        self.decoder = Mlp([*tail, *widths[::-1]], flags[::-1])
        self.books = nn.ModuleList(
            ItemCodebook(size, inner, options.decay, options.books == "gradient") for size in options.sizes
        )
        self.register_buffer("skip", skip)
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        if skip is not None:
            self.encoder.silence()
            self.decoder.silence()

    @property
    def codebooks(self) -> list[ItemCodebook]:
        """The L codebooks."""
        return [book for book in self.books if isinstance(book, ItemCodebook)]

    def encode_latent(self, x: Tensor) -> Tensor:
        """Return the latents (B, w) of normalised vectors (B, d)."""
        z = self.encoder(x)
        return z if self.skip is None else z + x @ self.skip

    def decode_latent(self, z: Tensor) -> Tensor:
        """Return normalised vectors (B, d) of latents (B, w)."""
        x = self.decoder(z)
        return x if self.skip is None else x + z @ self.skip.T

    @torch.no_grad()
    def codes(self, z: Tensor) -> Tensor:
        """Return the codes (B, L) of latents (B, w): the nearest codeword of each codebook in turn."""
        columns = []
        for book in self.codebooks:
            columns.append(book.assign(z))
            z = z - book.words[columns[-1]]
        return torch.stack(columns, 1)

    @torch.no_grad()
    def words(self, codes: Tensor) -> Tensor:
        """Return the sums of codewords (B, w) of codes (B, <= L), the first digits of all."""
        parts = [book.words[column] for book, column in zip(self.codebooks, codes.T, strict=False)]
        return torch.stack(parts).sum(0)

    def quantise(self, z: Tensor, kept: Tensor | None = None) -> Quantised:
        """Quantise latents (B, w) for training; ``kept`` (B, L) of 0 and 1 says which digits ``value`` is made of."""
        rest, full, part = z, torch.zeros_like(z), torch.zeros_like(z)
        columns, seen = [], []
        commitment = codebook = z.new_zeros(())
        for number, book in enumerate(self.codebooks):
            seen.append(rest.detach())
            columns.append(book.assign(seen[-1], self._balance(number)))
            # Not words[codes]: its gradient is summed by several threads in no fixed order.
            word = functional.embedding(columns[-1], book.words)
            commitment = commitment + functional.mse_loss(rest, word.detach())
            codebook = codebook + functional.mse_loss(word, seen[-1])
            word = word.detach()
            full, rest = full + word, rest - word
            part = part + (word if kept is None else word * kept[:, number, None])
        bridge = rotate if self.options.gradient == "rotation" else straight_through
        return Quantised(bridge(z, part), bridge(z, full), torch.stack(columns, 1), commitment, codebook, seen)

    def _balance(self, number: int) -> Sinkhorn | None:
        chosen, last = self.options.sinkhorn, number + 1 == len(self.books)
        if chosen == "all" or (chosen == "last" and last):
            return Sinkhorn(self.options.sinkhorn_epsilon, self.options.sinkhorn_iterations)
        return None

    @torch.no_grad()
    def start(self, z: Tensor, seed: int) -> None:
        """Place the codewords: k-means on what each codebook sees of latents (X, w), or random ones of them."""
        dice = torch.Generator().manual_seed(seed)
        for number, book in enumerate(self.codebooks):
            if self.options.init == "sample" or len(book.words) > LARGE_BOOK:
                book.words.copy_(_spread(z, len(book.words), dice))
                book.counts.fill_(1.0 / len(book.words))
                book.sums.copy_(book.words * book.counts[:, None])
            else:
                book.start(z, seed + number)
            z = z - book.words[book.assign(z)]
        self.ready.fill_(True)


LARGE_BOOK = 4096
"""Codebooks with more codewords start from random vectors: k-means++ is quadratic, moving averages do the rest."""


def _spread(z: Tensor, count: int, dice: torch.Generator) -> Tensor:
    order = torch.randperm(len(z), generator=dice)
    return z[order.repeat(-(-count // len(z)))[:count].to(z.device)]


def straight_through(z: Tensor, target: Tensor) -> Tensor:
    """Return ``target`` whose gradient goes to ``z`` unchanged: z + sg[target - z]."""
    return z + (target - z).detach()


def rotate(z: Tensor, target: Tensor) -> Tensor:
    """Return ``target`` as a rotation and scaling of ``z``, both held constant in the gradient (Fifty et al. 2024).

    With unit vectors e of z and q of the target and r = (e + q) / |e + q|: target = |t| / |z| (I - 2 r r' + 2 q e') z.
    Rows where a vector is zero or the two are opposite pass the gradient straight through.
    """
    constant, wanted = z.detach(), target.detach()
    size, wanted_size = constant.norm(dim=1, keepdim=True), wanted.norm(dim=1, keepdim=True)
    e, q = constant / size.clamp(min=1e-12), wanted / wanted_size.clamp(min=1e-12)
    middle = e + q
    length = middle.norm(dim=1, keepdim=True)
    r = middle / length.clamp(min=1e-12)
    turned = z - 2 * (z * r).sum(1, keepdim=True) * r + 2 * (z * e).sum(1, keepdim=True) * q
    turned = turned * (wanted_size / size.clamp(min=1e-12))
    usable = (size > 1e-6) & (wanted_size > 1e-6) & (length > 1e-3)
    # The value stays that of the codewords; only the gradient is turned.
    return torch.where(usable, turned + (wanted - turned).detach(), straight_through(z, wanted))


def prefix_mask(rows: int, digits: int, generator: torch.Generator) -> Tensor:
    """Return (rows, digits) float32: row i is 1 for its first m_i digits, m_i uniform in 1..digits (PLUM)."""
    lengths = torch.randint(1, digits + 1, (rows, 1), generator=generator)
    return (torch.arange(digits) < lengths).float()


def info_nce(anchors: Tensor, partners: Tensor, ids: Tensor, partner_ids: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE of anchors (P, w) and the partner (P, w) each has, by cosine and in-batch negatives.

    A partner that is the same item as the row's own partner or anchor is no negative. Zero without pairs.
    """
    if len(anchors) == 0:
        return anchors.new_zeros(())
    logits = functional.normalize(anchors, dim=1) @ functional.normalize(partners, dim=1).T / temperature
    same = (partner_ids[None] == partner_ids[:, None]) | (partner_ids[None] == ids[:, None])
    same.fill_diagonal_(False)
    labels = torch.arange(len(anchors), device=anchors.device)
    return functional.cross_entropy(logits.masked_fill(same, float("-inf")), labels)
