"""Configuration: typed sections, short TOML files, dotted overrides, and errors that suggest the right key.

A file lists only what differs from the defaults. ``None`` (absent) means "chosen from the data"; the resolved
configuration, in which nothing is left open, is saved with every run.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sparcode.errors import ConfigError

TokenizerKind = Literal["sasrec", "gru4rec", "dnn", "self-attentive", "capsule"]


class Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _number_or_iso_date(value: Any) -> float | str:
    """Return a finite number, or text that spells one, as float, and text that is an ISO date as it is."""
    if isinstance(value, str):
        value = value.strip()
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
        if math.isfinite(number):
            return number
    except (TypeError, ValueError, OverflowError):
        if isinstance(value, str) and _is_iso_date(value):
            return value
    raise ValueError("expected a share (0..1), a timestamp, or a date such as 2020-01-01 or 2020-01-01T12:00+02:00")


def _is_iso_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class DataConfig(Section):
    """How the input table is read, cleaned and split."""

    columns: dict[str, str] = Field({}, description="role -> column name; roles: user, item, time, rating, split")
    where: str | None = Field(None, description="keep rows that satisfy this condition, e.g. in_sasrec=true")
    min_rating: float | None = Field(None, description="keep rows rated at least this")
    k_core: int = Field(0, ge=0, description="drop users and items with fewer events, repeatedly; 0 = off")
    split_by: Literal["leave-last-out", "time", "column", "none"] = Field(
        "leave-last-out", description="what is held out: last events, events after a time, rows that say so, nothing"
    )
    time_cut: float | str | None = Field(
        None,
        description="split-by time: share of events (0..1), timestamp, or ISO date of the cut (UTC)",
    )
    catalogue_items: bool = Field(
        True, description="items without an event that stand in the items table are candidates, known by content"
    )
    text_width: int = Field(
        128, ge=0, le=1024, description="width of the vector made of the items' text (TF-IDF, SVD); 0 = off"
    )

    @field_validator("time_cut", mode="before")
    @classmethod
    def _number_or_date(cls, value: Any) -> Any:
        """Return a number as float, a date as ISO text, which every file that holds a configuration can keep."""
        if isinstance(value, date):
            value = value.isoformat()
        return value if value is None else _number_or_iso_date(value)


class ModelConfig(Section):
    """Query tokenizer and item tokens."""

    tokenizer: TokenizerKind = Field("sasrec", description="what turns a history into tokens")
    width: int = Field(64, ge=4, le=1024, description="d, width of every token")
    heads: int | None = Field(None, ge=1, le=32, description="K_u, query tokens; absent: 1")
    item_tokens: int = Field(1, ge=1, le=16, description="K_c, tokens of an item")
    blocks: int | None = Field(
        None, ge=1, le=8, description="transformer blocks (sasrec) or GRU layers (gru4rec); absent: from the data"
    )
    attention_heads: int | None = Field(
        None, ge=1, le=16, description="heads of each attention layer; absent: as blocks"
    )
    history: int = Field(50, ge=1, le=1000, description="events of the history the tokenizer reads")
    dropout: float | None = Field(None, ge=0, lt=1, description="absent: more for sparser data")
    temperature: float | None = Field(None, gt=0, description="divides cosine scores; absent: lower for sparser data")
    item_content: bool | None = Field(
        None, description="add item metadata to item tokens and history; absent: if the data hold any"
    )
    item_ids: bool = Field(True, description="learn a vector an item id; false: items are known by content alone")
    item_id_dropout: float = Field(0.0, ge=0, lt=1, description="share of item ids hidden in training, content stays")
    user_features: bool = Field(False, description="feed user metadata to the tokenizer")
    routing_iterations: int = Field(3, ge=1, le=10, description="capsule tokenizer only")


class QuantizerConfig(Section):
    """Codebooks for query tokens."""

    kind: Literal["product", "residual"] = Field(
        "product", description="books split a token, or each book codes what the books before it left"
    )
    books: int | None = Field(None, ge=1, le=8, description="M; absent: from the data")
    codewords: int | None = Field(None, ge=2, le=65536, description="N, codewords a book; absent: from the data")
    warmup: float = Field(0.6, ge=0, le=1, description="share of training before quantization starts")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="of the moving averages that codewords follow")
    commitment: float = Field(0.25, ge=0, description="weight of the loss that keeps tokens near their codewords")
    revive_below: float = Field(0.02, ge=0, description="codewords used less than this share of the mean are re-seeded")


class ScorerConfig(Section):
    """All-to-all interaction between a query token and the K_c tokens of an item."""

    kind: Literal["hadamard", "concatenation", "mixture", "dot", "counts"] = Field(
        "dot", description="hadamard, concatenation, mixture: all-to-all interaction; dot: none; counts: no training"
    )
    hidden: int = Field(32, ge=1, le=1024, description="hidden units of each layer")
    layers: int = Field(1, ge=1, le=3, description="hidden layers; the gate of a mixture has one")
    skip: bool = Field(True, description="add the cosine of query and item tokens to the MLP's or mixture's output")
    query_components: int = Field(4, ge=1, le=16, description="P_q, vectors made of a query token (mixture)")
    item_components: int = Field(4, ge=1, le=16, description="P_c, vectors made of an item's tokens (mixture)")


class LossConfig(Section):
    """Ranking loss."""

    kind: Literal["sampled", "full", "in-batch", "bpr"] = Field(
        "sampled", description="softmax over sampled negatives, all items or the batch; or pairs (bpr)"
    )
    negatives: int = Field(512, ge=1, description="negatives a row (sampled, bpr)")
    popular_share: float = Field(0.0, ge=0, le=1, description="share of negatives drawn by popularity (mixed)")
    unseen_negatives: bool = Field(
        False, description="items without a training event are negatives too: they are then kept from everybody"
    )
    unquantised_weight: float = Field(1.0, ge=0, description="weight of the co-trained unquantised score")
    logq: bool = Field(True, description="subtract log sampling probabilities (in-batch, mixed)")


class TrainConfig(Section):
    """The training loop."""

    epochs: int | None = Field(None, ge=1, description="length of the schedule; absent: from the data")
    stop_after: int | None = Field(None, ge=1, description="stop after this many epochs of the schedule")
    fine_tune_stop_after: int | None = Field(None, ge=1, description="as stop_after, for the fine-tuning")
    patience: int = Field(5, ge=1, description="epochs without a better validation metric before stopping")
    warm_start: bool = Field(True, description="start SparCode from the trained two-tower instead of from noise")
    fine_tune_epochs: int | None = Field(
        None,
        ge=0,
        description="epochs with codes after a warm start; absent: 2/5 of epochs, or 0 if nothing is left to train",
    )
    batch_positions: int = Field(1024, ge=16, description="sequence positions a step, padding included")
    learning_rate: float = Field(2e-3, gt=0, description="peak of the cosine schedule")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    clip: float = Field(5.0, gt=0, description="largest gradient norm")
    history_dropout: float = Field(0.0, ge=0, lt=1, description="share of history events hidden in training")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products; auto: bfloat16 where the processor multiplies it faster"
    )
    evaluation_users: int = Field(4000, ge=1, description="fixed random users that select the best epoch")
    threads: int = Field(0, ge=0, description="CPU threads; 0 = all this process may use")


class SparsityConfig(Section):
    """ReLU(S + b): the bias that makes lists sparse."""

    target_density: float | None = Field(None, gt=0, lt=100, description="percent of (code, item) pairs kept; steers b")
    bias: float | None = Field(None, description="fixed b; absent and no target: no ReLU in training, cut at build")


class AdditiveConfig(Section):
    """Training of the additive model, whose item -> item scores fill the lists of the ``item`` family."""

    width: int | None = Field(None, ge=4, le=1024, description="width of its vectors, which are not served; absent: d")
    history: int | None = Field(None, ge=1, le=1000, description="events it reads; absent: model.history")
    epochs: int | None = Field(None, ge=1, description="length of its schedule; absent: from the data")
    stop_after: int | None = Field(None, ge=1, description="stop after this many epochs of the schedule")
    dropout: float | None = Field(None, ge=0, lt=1, description="absent: more for sparser data")
    temperature: float | None = Field(None, gt=0, description="divides its cosine scores; absent: as the model's")
    item_id_dropout: float | None = Field(
        None, ge=0, lt=1, description="share of item ids hidden in training; absent: 0.1 for dense data with content"
    )
    history_dropout: float = Field(0.1, ge=0, lt=1, description="share of history events hidden in training")
    learning_rate: float = Field(2e-3, gt=0, description="peak of the cosine schedule")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")


class ItemFamilyConfig(Section):
    """Item -> item evidence as posting lists of the history's own items: counted transitions and learned scores."""

    enabled: bool = Field(True, description="read lists of the history's items")
    counted: bool = Field(True, description="counted item -> next-item transitions")
    additive: bool = Field(True, description="scores of the additive model")
    window: int = Field(10, ge=1, description="largest distance of a counted pair")
    reverse: float = Field(0.3, ge=0, description="weight of a pair read backwards")
    source_power: float = Field(0.5, ge=0, description="divide by popularity(source)^power")
    target_power: float = Field(0.1, ge=0, description="divide by popularity(target)^power")
    length: int = Field(20, ge=1, description="counted postings an item")
    additive_length: int | None = Field(None, ge=1, description="learned postings an item; absent: by validation")
    additive_cut: float | None = Field(
        None, ge=0, le=1, description="share of the first score left out that is subtracted; absent: by validation"
    )
    counted_weight: float | None = Field(
        None, ge=0, description="what a counted value weighs beside a learned one; absent: by validation"
    )
    new_gain: float = Field(
        1.0,
        ge=0,
        description="factor of items without training events; above 1 finds more of them, costs others",
    )
    decay: float = Field(0.7, gt=0, le=1, description="counts alone: query weight of the event of age a is decay^a")
    history: int = Field(50, ge=1, description="history events looked up, where their weight is not 0")


class LearnedFamilyConfig(Section):
    """Learned query codes."""

    enabled: bool = Field(True, description="read lists of the learned codes of the whole history")
    probes: int | None = Field(None, ge=1, le=16, description="nearest codes read a token; absent: by validation")
    length: int = Field(128, ge=1, description="mean postings of a code when nothing else says how much to keep")


class CategoryFamilyConfig(Section):
    """Categories of the history's items: what follows items of that category."""

    enabled: bool = Field(False, description="read lists of the categories of the history's items")
    length: int = Field(50, ge=1, description="postings a category")
    history: int = Field(50, ge=1, le=1000, description="history events whose categories are looked up")


class SegmentFamilyConfig(Section):
    """Categories of the user: what users of that category take; they also answer users without a history.

    Off by default: on ml-100k its lists ranked no better than popularity for users without a history.
    """

    enabled: bool = Field(False, description="read lists of the user's categories")
    length: int = Field(200, ge=1, description="postings a category")


class FamiliesConfig(Section):
    """Code families of the index."""

    learned: LearnedFamilyConfig = LearnedFamilyConfig()
    item: ItemFamilyConfig = ItemFamilyConfig()
    category: CategoryFamilyConfig = CategoryFamilyConfig()
    segment: SegmentFamilyConfig = SegmentFamilyConfig()


class IndexConfig(Section):
    """Offline job: what is kept. Used when build-index gets no --policy."""

    policy: Literal["global-bias", "budget", "length"] = Field(
        "global-bias", description="keep what scores above a bias, what a budget pays for, or the best of every code"
    )
    bias: float | None = Field(None, description="global-bias: keep score + bias > 0")
    density: float | None = Field(None, gt=0, le=100, description="percent of (code, item) pairs kept")
    budget_mb: float | None = Field(None, gt=0, description="MB (10^6 bytes) of cache_bytes")
    postings_per_query: float | None = Field(None, gt=0, description="mean sum of list lengths, validation queries")
    item_floor: int | None = Field(
        None, ge=0, description="budget: lists that every item with a training event is in at least; absent: 0"
    )
    length: int | None = Field(None, ge=1, description="items kept of every code, the best of it")
    block_codes: int = Field(16384, ge=1, description="codes scored as one unit of restart")


class QueryConfig(Section):
    """Online path."""

    rescore: int = Field(100, ge=0, description="R, candidates rescored exactly; 0 = cache only")
    include_seen: bool = Field(
        False, description="items of the history are answers too: lists, weights and evaluation rank repeats"
    )
    item_vectors: Literal["float32", "float16", "int8"] = Field(
        "float32", description="how training stores the item vectors that rescoring reads"
    )


class BaselinesConfig(Section):
    """Systems trained or counted beside SparCode."""

    two_tower: bool = Field(True, description="keep a two-tower to compare with (SparCode starts from one anyway)")
    item_knn_neighbours: int = Field(50, ge=1, description="item-knn: neighbours kept of an item")
    recent_share: float = Field(0.1, gt=0, le=1, description="recent-popular: last share of training events")
    ease_regularisation: float = Field(250.0, gt=0, description="ease: lambda")
    ease_most_items: int = Field(25_000, ge=1, description="ease: larger catalogues are refused (4 n^2 bytes)")


class Config(Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0, description="of everything random")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    scorer: ScorerConfig = ScorerConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    sparsity: SparsityConfig = SparsityConfig()
    additive: AdditiveConfig = AdditiveConfig()
    families: FamiliesConfig = FamiliesConfig()
    index: IndexConfig = IndexConfig()
    query: QueryConfig = QueryConfig()
    baselines: BaselinesConfig = BaselinesConfig()


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> Config:
    """Read a TOML file (or nothing), apply ``key=value`` overrides, validate.

    Raises ConfigError with one line that names the key and, for a typo, the nearest valid key.
    """
    values = _read_toml(path) if path is not None else {}
    for override in overrides or []:
        _apply_override(values, override)
    return config_from_dict(values)


def config_from_dict(values: dict[str, Any]) -> Config:
    """Validate a nested dictionary; raises ConfigError."""
    try:
        return Config.model_validate(values)
    except ValidationError as problem:
        raise ConfigError(_describe(problem)) from None


def check_threads(threads: Any) -> int | None:
    """Return a number of threads, or None for as many as there are; ConfigError for anything else."""
    whole = hasattr(threads, "__index__") and not isinstance(threads, bool)
    if threads is not None and (not whole or threads < 1):
        raise ConfigError(f"threads={threads!r}: expected a whole number, at least 1, or None for as many as there are")
    return None if threads is None else int(threads)


def updated(config: Config, changes: dict[str, Any]) -> Config:
    """Return ``config`` with dotted keys replaced, e.g. ``{"model.heads": 4}``; validated again.

    What was left to its default still counts as not set (``model_fields_set``).
    """
    values = config.model_dump(exclude_unset=True)
    for key, value in changes.items():
        _set(values, key, value)
    return config_from_dict(values)


def to_toml(config: Config, *, changes_only: bool = False) -> str:
    """Write a configuration as TOML; absent values are left out, and with ``changes_only`` the defaults too."""
    values = config.model_dump()
    return tomli_w.dumps(_present(_changes(values, Config().model_dump()) if changes_only else values))


def known_keys() -> list[str]:
    """All dotted keys, in the order they are declared."""
    return list(_walk(Config, ""))


def _walk(section: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _walk(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: no such file") from None
    except OSError as problem:
        raise ConfigError(f"--config {path}: cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"--config {path}: not valid TOML: {problem}") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override!r}: expected KEY=VALUE, e.g. --set model.heads=4")
    _set(values, key.strip(), parse_value(text.strip()))


def parse_value(text: str) -> Any:
    """Return what is written as a value of TOML; anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        nested = values.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ConfigError(_unknown(key))
        values = nested
    values[last] = value


def _unknown(key: str) -> str:
    keys = known_keys()
    sections = sorted({k.rsplit(".", 1)[0] for k in keys if "." in k})
    near = difflib.get_close_matches(key, keys + sections, n=1, cutoff=0.5)
    if not near:
        near = [k for k in keys if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]][:1]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown configuration key {key!r}{hint}"


def _describe(problem: ValidationError) -> str:
    first = problem.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(key)
    message = first["msg"].removeprefix("Value error, ")
    return f"configuration key {key!r}: got {first['input']!r}, {message[:1].lower()}{message[1:]}"


def _changes(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            value = _changes(value, defaults[key])
        elif value == defaults.get(key):
            continue
        if value != {}:
            found[key] = value
    return found


def _present(values: dict[str, Any]) -> dict[str, Any]:
    """Return what TOML can say: it has no word for an absent value."""
    present = {key: _present(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in present.items() if value is not None and value != {}}


def toml_value(value: Any) -> str:
    """Return one plain value as TOML spells it."""
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
