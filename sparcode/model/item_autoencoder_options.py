"""Options of RQ-VAE and VQ-VAE for items: typed, frozen, unknown names refused. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from sparcode.config import Section
from sparcode.errors import ConfigError

KINDS = ("rq-vae", "vq-vae")
MOST_CODEWORDS = 32_768


class ItemAutoencoderOptions(Section):
    """What can be chosen; the defaults are those of ``rq-vae`` (``VQ_DEFAULTS`` differ)."""

    codebooks: int = Field(4, ge=1, le=64, description="L, residual codebooks = digits of a semantic id")
    codebook_size: int | tuple[int, ...] = Field(
        256,
        description="codewords of every codebook; a list of L sizes makes them multi-resolution, e.g. [512,256,128]",
    )
    hidden_dims: tuple[int, ...] = Field(
        (512, 256), description="hidden layers of the encoder; mirrored in the decoder"
    )
    latent_dim: int = Field(64, ge=1, le=4096, description="width of the encoder's output")
    codebook_dim: int | None = Field(
        None, ge=1, le=4096, description="width of the codewords; absent: latent_dim (init = rq-kmeans: input width)"
    )
    normalize: Literal["scale", "columns", "rows", "none"] = Field(
        "scale",
        description="scale: centre, one scale for all columns; columns: z-scores; rows: unit length (decoding "
        "gives unit vectors); none",
    )
    books: Literal["ema", "gradient"] = Field("ema", description="how codewords learn")
    decay: float = Field(0.99, ge=0, lt=1, description="of the moving averages (books = ema)")
    init: Literal["rq-kmeans", "kmeans", "sample"] = Field(
        "rq-kmeans",
        description="rq-kmeans: k-means of the inputs themselves; encoder and decoder start as the identity (principal "
        "directions where codebook_dim is smaller) and learn what is added, so that training starts at RQ-KMeans; "
        "kmeans: of the encoder's latents after the warm-up; sample: random latents",
    )
    warmup_epochs: int = Field(
        10, ge=0, description="epochs without quantization before the codebooks start (init = rq-kmeans: none)"
    )
    gradient: Literal["straight-through", "rotation"] = "straight-through"
    commitment: float = Field(0.25, ge=0, description="weight of ||r - sg[c]||^2")
    revive_below: float = Field(
        0.05, ge=0, lt=1, description="a codeword that wins less than this share of the mean is re-seeded; 0 = off"
    )
    sinkhorn: Literal["none", "last", "all"] = Field(
        "none", description="codebooks with balanced assignment in training"
    )
    sinkhorn_epsilon: float = Field(0.05, gt=0, description="softness of the balanced assignment")
    sinkhorn_iterations: int = Field(50, ge=1, le=10_000)
    contrastive_weight: float = Field(
        0.0, ge=0, description="weight of InfoNCE on items that follow each other in histories (PLUM); 0 = off"
    )
    contrastive_temperature: float = Field(0.1, gt=0)
    progressive_masking: bool = Field(False, description="reconstruct from a random prefix of the digits (PLUM)")
    epochs: int = Field(200, ge=1, description="most epochs")
    batch_size: int = Field(1024, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 = off")
    patience: int = Field(20, ge=1, description="epochs without a better validation MSE before training stops")
    plateau_patience: int = Field(5, ge=0, description="such epochs before the learning rate shrinks")
    plateau_factor: float = Field(0.5, gt=0, le=1, description="by which it shrinks")
    validation_share: float = Field(0.05, ge=0, lt=0.9, description="share of items that select the epoch")
    test_share: float = Field(0.0, ge=0, lt=0.9, description="share of items left out for the reported test MSE")

    @field_validator("codebook_size")
    @classmethod
    def _sizes_in_range(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        for size in (value,) if isinstance(value, int) else value:
            if not 2 <= size <= MOST_CODEWORDS:
                raise ValueError(f"sizes must be 2..{MOST_CODEWORDS}")
        return value

    @field_validator("hidden_dims")
    @classmethod
    def _hidden_in_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= width <= 65_536 for width in value):
            raise ValueError("widths must be 1..65536")
        return value

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codewords of every codebook, length L."""
        return (self.codebook_size,) * self.codebooks if isinstance(self.codebook_size, int) else self.codebook_size

    def book_width(self, width: int) -> int:
        """Return the width of the codewords for inputs of ``width`` columns."""
        if self.codebook_dim is not None:
            return self.codebook_dim
        return width if self.init == "rq-kmeans" else self.latent_dim


VQ_DEFAULTS: dict[str, Any] = {"codebooks": 1, "codebook_size": 1024}


def read_options(kind: str, options: Mapping[str, Any]) -> ItemAutoencoderOptions:
    """Return the checked options of ``rq-vae`` or ``vq-vae``; raises ConfigError that names the option."""
    if kind not in KINDS:
        raise ConfigError(f"unknown autoencoder {kind!r}, expected one of {', '.join(KINDS)}")
    values = (VQ_DEFAULTS if kind == "vq-vae" else {}) | dict(options)
    sizes = values.get("codebook_size")
    if isinstance(sizes, (list, tuple)) and "codebooks" not in options:
        values["codebooks"] = len(sizes)
    try:
        read = ItemAutoencoderOptions.model_validate(values)
    except ValidationError as problem:
        raise ConfigError(_describe(kind, problem)) from None
    _check_together(kind, read)
    return read


def _check_together(kind: str, read: ItemAutoencoderOptions) -> None:
    if kind == "vq-vae" and read.codebooks != 1:
        raise ConfigError(f"vq-vae: codebooks={read.codebooks}; it has one codebook: use method rq-vae for more")
    if len(read.sizes) != read.codebooks:
        message = f"codebook_size lists {len(read.sizes)} sizes, codebooks={read.codebooks}; give one size a codebook"
        raise ConfigError(f"{kind}: {message}")
    if read.validation_share + read.test_share > 0.9:
        shares = f"validation_share={read.validation_share} and test_share={read.test_share}"
        raise ConfigError(f"{kind}: {shares} leave less than a tenth of the items to train on; lower them")


def _describe(kind: str, problem: ValidationError) -> str:
    first = problem.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, ItemAutoencoderOptions.model_fields, 1)
        hint = f"did you mean {close[0]!r}?" if close else "options: " + ", ".join(ItemAutoencoderOptions.model_fields)
        return f"{kind} has no option {name!r}; {hint}"
    return f"{kind}: option {name}={first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"
