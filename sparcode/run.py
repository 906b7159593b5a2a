"""A run folder: everything a trained model needs to answer, evaluate and be rebuilt. Reading it needs no torch."""

from __future__ import annotations

import hashlib
import os
import reprlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcode.errors import ConfigError, CorruptIndexError, RunError
from sparcode.files import read_bytes, read_json, read_object, sha256_of, write_json

if TYPE_CHECKING:
    from sparcode.config import Config
    from sparcode.data.storage import Dataset
    from sparcode.types import EvaluationSet

FORMAT = 1
MAX_CONFIG_BYTES = 1 << 20
MODEL_FILES = (
    "encoder.json",
    "encoder.safetensors",
    "rescorer.json",
    "rescorer.safetensors",
    "codes.safetensors",
    "transitions.safetensors",
    "additive.json",
    "additive.safetensors",
    "popularity.safetensors",
    "categories.safetensors",
    "segments.safetensors",
)
"""Files whose content the index depends on; their digests make the model hash."""
ADDED_FILES = frozenset({"categories.safetensors", "segments.safetensors"})
"""Those that runs of format 1 did not always have; absent they add nothing, so that older runs keep their hash."""


@dataclass(frozen=True)
class Run:
    """A finished training run in ``folder``, which messages name as it was given; parts are read when asked for."""

    folder: Path
    record: dict[str, Any]

    location: Path = field(init=False, repr=False, compare=False)
    """``folder`` as an absolute path: a program may change its working directory before it asks for parts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", Path(self.folder).absolute())

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run; RunError if the folder is no run or its training did not finish."""
        if not isinstance(folder, (str, os.PathLike)):
            raise RunError(f"run is {reprlib.repr(folder)}; expected the path of a run folder")
        folder = Path(folder)
        try:
            str(folder).encode()
        except UnicodeEncodeError:  # the libraries behind the files take names of text only
            raise RunError(f"{ascii(str(folder))}: the name of the folder is not UTF-8; rename it") from None
        if not (folder / "run.json").exists():
            found = "an unfinished training" if (folder / "config.toml").is_file() else "no run"
            advice = f"sparcode train ... --out {folder}" + (" --resume" if "unfinished" in found else "")
            raise RunError(f"{folder}: {found} found there (no run.json); train one with: {advice}")
        record = read_json(folder / "run.json", RunError)
        written = record.get("format") if isinstance(record, dict) else record
        if type(written) is not int or written != FORMAT:
            raise RunError(
                f"{folder}/run.json: format {reprlib.repr(written)} found, {FORMAT} expected; train the run again"
            )
        _check_record(folder / "run.json", record)
        return cls(folder, record)

    @cached_property
    def config(self) -> Config:
        """The resolved configuration; RunError if its file is missing or damaged."""
        from sparcode.config import Config, config_from_dict

        path = self.location / "config.toml"
        try:
            values = tomllib.loads(read_bytes(path, RunError, MAX_CONFIG_BYTES).decode())
            # A run's file is written whole. Cut between two lines it is still TOML, and defaults would fill the gap.
            if (last := list(Config.model_fields)[-1]) not in values:
                raise ConfigError(f"its last section, [{last}], is missing")
            return config_from_dict(values)
        except FileNotFoundError:
            raise RunError(f"{path} does not exist; put the file back, or train the run again") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as problem:
            raise RunError(
                f"{path} is damaged or was edited ({problem}); put it back, or train the run again"
            ) from None

    @cached_property
    def dataset(self) -> Dataset:
        """Id maps, sequences, splits, titles and features."""
        from sparcode.data.storage import open_dataset

        return open_dataset(self.location / "data")

    def held_out(self, split: str) -> EvaluationSet | None:
        """Return the ``test`` or ``validation`` set, with user features if queries read them; None if absent."""
        held: EvaluationSet | None = getattr(self.dataset, split)
        features = self.dataset.user_features
        if held is None or features is None or not self.reads_user_features:
            return held
        from sparcode.data.features import with_user_features

        return with_user_features(held, features)

    @property
    def reads_user_features(self) -> bool:
        """Whether the tokenizer or the segment family reads the features of users."""
        return self.config.model.user_features or self.config.families.segment.enabled

    @property
    def model_folder(self) -> Path:
        """Folder of the exported arrays."""
        return self.location / "model"

    @property
    def index_folder(self) -> Path:
        """Folder of the stored index."""
        return self.location / "index"

    @property
    def model_hash(self) -> str:
        """Digest of the exported model; an index carries the hash of the model it was built from."""
        return str(self.record["model_hash"])

    @property
    def query_file(self) -> Path:
        """File of ``settings``."""
        return self.location / "query.json"

    @property
    def query_settings(self) -> dict[str, Any]:
        """Weights and probes fitted on validation when the index was built."""
        if not self.query_file.exists():
            raise RunError(f"{self.folder} has no index yet; build it with: sparcode build-index {self.folder}")
        return read_object(self.query_file, RunError)

    def check_model(self) -> None:
        """Raise CorruptIndexError unless the exported model is byte for byte the one that was trained."""
        found = hash_model(self.model_folder)
        if found != self.model_hash:
            raise CorruptIndexError(
                f"{self.model_folder}: its files are not those that were trained (their SHA-256 is {found[:12]}..., "
                f"run.json says {self.model_hash[:12]}...); put them back, or train the run again"
            )

    def update(self, **fields: Any) -> Run:
        """Write more fields into run.json and return the run with them."""
        record = self.record | fields
        write_json(self.location / "run.json", record)
        return Run(self.folder, record)


def _check_record(path: Path, record: dict[str, Any]) -> None:
    """Raise RunError unless the fields that are computed with have their types; all others are notes."""
    sound: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "model_hash": ("a text", lambda value: isinstance(value, str)),
        "items": ("a count", lambda value: type(value) is int and 0 <= value < 1 << 31),
        "users": ("a count", lambda value: type(value) is int and 0 <= value < 1 << 31),
        "training": ("an object", lambda value: isinstance(value, dict)),
    }
    for name, (what, holds) in sound.items():
        if (name in record or name == "model_hash") and not holds(record.get(name)):
            raise RunError(f"{path}: {name} is not {what}; it was damaged or edited: put it back, or train again")


def hash_model(folder: Path) -> str:
    """Return one digest over the exported model files, by name and content."""
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        path = folder / name
        if name in ADDED_FILES and not path.exists():
            continue
        digest.update(f"{name}:{sha256_of(path) if path.exists() else 'absent'}\n".encode())
    return digest.hexdigest()
