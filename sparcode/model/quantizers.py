"""Trainable quantizers of query tokens: EMA codebooks, k-means start, dead-code revival, straight-through gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sparcode.config import QuantizerConfig
from sparcode.errors import ConfigError
from sparcode.quantize.kmeans import kmeans


class Codebook(nn.Module):
    """N codewords kept as exponential moving averages of the vectors they win (van den Oord et al. 2017, app. A)."""

    words: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codewords: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("words", torch.zeros(codewords, width))
        self.register_buffer("counts", torch.ones(codewords))
        self.register_buffer("sums", torch.zeros(codewords, width))

    @torch.no_grad()
    def start(self, vectors: Tensor, seed: int) -> None:
        """Place the codewords by k-means on vectors (X, width)."""
        fitted = kmeans(vectors.float().cpu().numpy(), len(self.words), seed=seed)
        share = np.bincount(fitted.assignment, minlength=len(self.words)) / len(vectors)
        self.words.copy_(torch.from_numpy(fitted.centroids))
        self.counts.copy_(torch.from_numpy(share.astype(np.float32)))
        self.sums.copy_(self.words * self.counts[:, None])

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the index (X,) of the nearest codeword in Euclidean distance; ties go to the smaller index."""
        return (vectors @ self.words.T - 0.5 * self.words.square().sum(1)).argmax(dim=1)

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor) -> None:
        """Move the codewords towards the vectors (X, width) assigned to them."""
        share = 1.0 / max(len(vectors), 1)
        won = torch.zeros_like(self.counts).index_add_(0, codes, torch.full_like(codes, 1.0, dtype=torch.float32))
        total = torch.zeros_like(self.sums).index_add_(0, codes, vectors.float())
        self.counts.mul_(self.decay).add_(won * share, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(total * share, alpha=1 - self.decay)
        alive = self.counts > 1e-12
        self.words[alive] = self.sums[alive] / self.counts[alive, None]

    @torch.no_grad()
    def revive(self, vectors: Tensor, below: float, generator: torch.Generator) -> int:
        """Re-seed codewords whose share is under ``below`` times the mean with random vectors; return how many."""
        dead = (self.counts < below * self.counts.mean()).nonzero()[:, 0]
        if len(dead) == 0 or len(vectors) == 0:
            return 0
        chosen = torch.randint(len(vectors), (len(dead),), generator=generator)
        self.words[dead] = vectors[chosen.to(vectors.device)].float()
        self.counts[dead] = self.counts.mean()
        self.sums[dead] = self.words[dead] * self.counts[dead, None]
        return len(dead)


class TokenQuantizer(nn.Module):
    """Base of product and residual quantizers: M codebooks shared by all K_u tokens."""

    kind = ""
    ready: Tensor

    def __init__(self, config: QuantizerConfig, width: int) -> None:
        super().__init__()
        assert config.books is not None, "resolve the configuration first"
        assert config.codewords is not None, "resolve the configuration first"
        self.width = width
        book_width = self._book_width(width, config.books)
        codewords, decay = config.codewords, config.ema_decay
        self._books = nn.ModuleList(Codebook(codewords, book_width, decay) for _ in range(config.books))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @property
    def books(self) -> list[Codebook]:
        """The M codebooks."""
        return [book for book in self._books if isinstance(book, Codebook)]

    def _book_width(self, width: int, books: int) -> int:
        raise NotImplementedError

    def inputs(self, vectors: Tensor, codes: Tensor | None) -> list[Tensor]:
        """Return what each book sees of vectors (X, d), given the codes (X, M) chosen so far."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Return the quantised vectors (X, d) of codes (X, M)."""
        raise NotImplementedError

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the codes (X, M) of vectors (X, d)."""
        raise NotImplementedError

    @torch.no_grad()
    def start(self, vectors: Tensor, seed: int) -> None:
        """Fit the codebooks by k-means on a sample of vectors (X, d)."""
        raise NotImplementedError

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise vectors (X, d): straight-through values (X, d), codes (X, M), squared error (X,).

        The value is that of the codewords; its gradient goes to the vectors alone: T + sg[T~ - T]. The squared
        error ||T - sg T~||^2 is the commitment term; the codebooks learn by moving averages only.
        """
        with torch.no_grad():
            codes = self.encode(vectors)
            words = self.decode(codes)
        return vectors + (words - vectors).detach(), codes, (vectors - words).square().sum(-1)

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor) -> None:
        """Move every codebook towards the vectors (X, d) it encoded as codes (X, M)."""
        for book, seen, chosen in zip(self.books, self.inputs(vectors, codes), codes.T, strict=True):
            book.update(seen, chosen)

    @torch.no_grad()
    def revive(self, vectors: Tensor, below: float, generator: torch.Generator) -> int:
        """Re-seed dead codewords from vectors (X, d); return how many."""
        codes = self.encode(vectors)
        return sum(
            book.revive(seen, below, generator)
            for book, seen in zip(self.books, self.inputs(vectors, codes), strict=True)
        )

    def codebooks(self) -> Tensor:
        """Return all codewords: (M, N, d/M) for product, (M, N, d) for residual."""
        return torch.stack([book.words for book in self.books])


class ProductQuantizer(TokenQuantizer):
    """M sub-spaces, one book each (Jegou et al. 2011; SparCode's quantizer). M = 1 is a flat codebook."""

    kind = "product"

    def _book_width(self, width: int, books: int) -> int:
        if width % books:
            raise ConfigError(f"quantizer.books={books} does not divide model.width={width}; change one of them")
        return width // books

    def inputs(self, vectors: Tensor, codes: Tensor | None) -> list[Tensor]:
        return list(vectors.chunk(len(self.books), dim=1))

    def encode(self, vectors: Tensor) -> Tensor:
        return torch.stack([book.nearest(x) for book, x in zip(self.books, self.inputs(vectors, None), strict=True)], 1)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.cat([book.words[column] for book, column in zip(self.books, codes.T, strict=True)], dim=1)

    @torch.no_grad()
    def start(self, vectors: Tensor, seed: int) -> None:
        for number, (book, part) in enumerate(zip(self.books, self.inputs(vectors, None), strict=True)):
            book.start(part, seed + number)
        self.ready.fill_(True)


class ResidualQuantizer(TokenQuantizer):
    """M books in sequence, each quantises what the earlier ones left over."""

    kind = "residual"

    def _book_width(self, width: int, books: int) -> int:
        return width

    def inputs(self, vectors: Tensor, codes: Tensor | None) -> list[Tensor]:
        assert codes is not None
        seen = [vectors]
        for book, column in zip(self.books[:-1], codes.T[:-1], strict=True):
            seen.append(seen[-1] - book.words[column])
        return seen

    def encode(self, vectors: Tensor) -> Tensor:
        columns = []
        for book in self.books:
            columns.append(book.nearest(vectors))
            vectors = vectors - book.words[columns[-1]]
        return torch.stack(columns, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.stack([book.words[column] for book, column in zip(self.books, codes.T, strict=True)]).sum(0)

    @torch.no_grad()
    def start(self, vectors: Tensor, seed: int) -> None:
        for number, book in enumerate(self.books):
            book.start(vectors, seed + number)
            vectors = vectors - book.words[book.nearest(vectors)]
        self.ready.fill_(True)


def build_quantizer(config: QuantizerConfig, width: int) -> TokenQuantizer:
    """Return the quantizer a resolved configuration names."""
    return ProductQuantizer(config, width) if config.kind == "product" else ResidualQuantizer(config, width)
