"""RQ-VAE and VQ-VAE from exported arrays: encoding and decoding without torch.

Every product is summed in the order of its coordinates, in register tiles (``jit.tiles``), so that the codes
of an item depend neither on its batch nor on the number of threads, bit for bit, near ties included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError
from sparcode.jit.tiles import LANES
from sparcode.quantize.nearest import half_distances, nearest_in_panels, panels_of
from sparcode.quantize.normalize import Normalizer
from sparcode.semantic_id.codec import BaseCodec, FitContext
from sparcode.semantic_id.codecs.checks import DEFAULT_SIZE, fitting_size

BLOCK_ROWS = 1024
VQ_SIZE = 1024
"""Codewords of a VQ-VAE of a large catalogue when nobody says, as ``model.item_autoencoder_options``."""

Layers = list[tuple[np.ndarray, np.ndarray]]


class AutoencoderCodec(BaseCodec):
    """``kind`` is ``rq-vae`` or ``vq-vae``. Arrays as ``train.item_export.export_arrays`` names them."""

    def __init__(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Raises KeyError or ValueError where arrays are absent or do not fit each other."""
        self.kind, self.sizes = str(spec["kind"]), tuple(int(size) for size in spec["sizes"])
        self.width, self.options = int(spec["width"]), dict(spec["options"])
        self.training: dict[str, Any] = dict(spec.get("training", {}))
        self._arrays = {name: np.array(array, np.float32, order="C") for name, array in arrays.items()}
        unit_rows = self.options.get("normalize") == "rows"
        self._normalizer = Normalizer(self._arrays["mean"], self._arrays["scale"], unit_rows)
        self._encoder, self._decoder = self._layers("encoder"), self._layers("decoder")
        self._books = [self._arrays[f"codebook.{number}"] for number in range(len(self.sizes))]
        self._skip = self._arrays.get("skip")
        self._check()
        self._panels = [panels_of(book) for book in self._books]

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d): the nearest codeword of each codebook in turn."""
        vectors = self.checked_vectors(vectors)
        codes = np.empty((len(vectors), len(self.sizes)), np.int32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            rest = self.latents(vectors[start : start + BLOCK_ROWS])
            for digit, panels in enumerate(self._panels):
                found = nearest_in_panels(rest, panels)
                codes[start : start + BLOCK_ROWS, digit] = found
                rest -= self._books[digit][found]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the reconstructions (n, d) float32 of codes (n, L); unit vectors where rows were normalised."""
        codes = self.checked_codes(codes)
        vectors = np.empty((len(codes), self.width), np.float32)
        for start in range(0, len(codes), BLOCK_ROWS):
            z = self._words(codes[start : start + BLOCK_ROWS])
            x = _mlp(z, self._decoder)
            if self._skip is not None:
                x += linear(z, np.ascontiguousarray(self._skip.T), np.zeros(self.width, np.float32))
            vectors[start : start + BLOCK_ROWS] = self._normalizer.restore(x)
        return vectors

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, sizes[-1]) float32: squared distances to the last codebook behind the prefix of ``codes``.

        They are taken between latents, where digits are chosen too; through the decoder each would cost a pass.
        """
        vectors, codes = self.checked_vectors(vectors), self.checked_codes(codes)
        book = self._books[-1]
        costs = np.empty((len(vectors), len(book)), np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            rest = self.latents(vectors[rows])
            for digit in range(len(self.sizes) - 1):
                rest -= self._books[digit][codes[rows, digit]]
            # -(2 r.c - |c|^2) + |r|^2
            cross = linear(rest, np.ascontiguousarray(2.0 * book.T), -_squares(book))
            costs[rows] = np.maximum(_squares(rest)[:, None] - cross, 0.0)
        return costs

    def latents(self, vectors: np.ndarray) -> np.ndarray:
        """Return the latents (n, w) float32 of vectors (n, d)."""
        x = self._normalizer.apply(vectors)
        z = _mlp(x, self._encoder)
        return z if self._skip is None else z + linear(x, self._skip, np.zeros(z.shape[1], np.float32))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return normalisation, weights and codebooks, float32."""
        return dict(self._arrays)

    def spec(self) -> dict[str, Any]:
        """Return kind, sizes, width, options, and the figures of the training."""
        return super().spec() | {"training": self.training}

    def _words(self, codes: np.ndarray) -> np.ndarray:
        total = self._books[0][codes[:, 0]].copy()
        for digit in range(1, len(self.sizes)):
            total += self._books[digit][codes[:, digit]]
        return total

    def _layers(self, name: str) -> Layers:
        layers: Layers = []
        while f"{name}.{len(layers)}.weight" in self._arrays:
            stem = f"{name}.{len(layers)}"
            layers.append((self._arrays[f"{stem}.weight"], self._arrays[f"{stem}.bias"]))
        return layers

    def _check(self) -> None:
        inner = self._books[0].shape[1]
        wanted: dict[str, tuple[int, ...]] = {"mean": (self.width,), "scale": (self.width,)}
        wanted |= {f"codebook.{number}": (size, inner) for number, size in enumerate(self.sizes)}
        if self._skip is not None:
            wanted["skip"] = (self.width, inner)
        for name, shape in wanted.items():
            if self._arrays[name].shape != shape:
                raise ValueError(f"{name} has shape {self._arrays[name].shape}, not {shape}")
        for name, layers, ends in (
            ("encoder", self._encoder, (self.width, inner)),
            ("decoder", self._decoder, (inner, self.width)),
        ):
            widths = [ends[0], *(bias.shape[0] for _, bias in layers)]
            fits = all(
                w.shape == pair for (w, _), pair in zip(layers, zip(widths, widths[1:], strict=False), strict=True)
            )
            if not layers or not fits or widths[-1] != ends[1]:
                raise ValueError(f"the layers of the {name} do not lead from width {ends[0]} to {ends[1]}")


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return ``x @ weight + bias`` float32 for x (n, a), weight (a, b), bias (b,); a row depends on itself alone."""
    x = np.ascontiguousarray(x, np.float32)
    values = np.empty((len(x), weight.shape[1]), np.float32)
    least, words = np.empty((len(x), LANES), np.float32), np.empty((len(x), LANES), np.int32)
    half_distances(x, weight, -bias, values, least, words)
    return np.negative(values, out=values)


def _mlp(x: np.ndarray, layers: Layers) -> np.ndarray:
    for number, (weight, bias) in enumerate(layers):
        x = linear(x, weight, bias)
        if number + 1 < len(layers):
            np.maximum(x, 0.0, out=x)
    return x


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.square(rows, dtype=np.float64).sum(1).astype(np.float32)


def fit_rq_vae(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> AutoencoderCodec:
    """Train an RQ-VAE; options as ``model.item_autoencoder_options``. Needs torch (extra ``train``)."""
    return _fit("rq-vae", vectors, seed, options, context)


def fit_vq_vae(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> AutoencoderCodec:
    """Train a VQ-VAE: one codebook of up to 32,768 codewords. Needs torch (extra ``train``)."""
    return _fit("vq-vae", vectors, seed, options, context)


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> AutoencoderCodec:
    """Open what ``spec`` and ``arrays`` of a fitted codec were saved as."""
    return AutoencoderCodec(spec, arrays)


def _fit(kind: str, vectors: np.ndarray, seed: int, options: dict[str, Any], context: FitContext) -> AutoencoderCodec:
    try:
        from sparcode.train.item_autoencoder import train_item_autoencoder
        from sparcode.train.item_usage import check_usage
    except ModuleNotFoundError as problem:
        if problem.name != "torch":
            raise
        raise MissingExtraError("torch", "train", f"fitting {kind}") from None
    if "codebook_size" not in options:
        options = options | {"codebook_size": fitting_size(len(vectors), VQ_SIZE if kind == "vq-vae" else DEFAULT_SIZE)}
    trained = train_item_autoencoder(
        kind, vectors, options, seed=seed, sequences=context.sequences, validation=context.validation,
        device=context.device, report=context.report,
    )  # fmt: skip
    spec = {"kind": kind, "sizes": trained.options.sizes, "width": vectors.shape[1]}
    codec = AutoencoderCodec(spec | {"options": trained.options.model_dump(mode="json")}, trained.arrays)
    # The codes that users get decide, not those of the last training batches.
    codec.training = trained.report | check_usage(kind, codec.encode(vectors), codec.sizes)
    return codec
