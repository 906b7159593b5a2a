"""The additive model searched exactly: what the learned lists of the ``item`` family are cut from."""

from __future__ import annotations

from pathlib import Path

from sparcode.errors import RunError
from sparcode.query.encoder.additive import STEM, AdditiveEncoder
from sparcode.retrievers.exact import ExactRetriever


def open_additive_encoder(folder: Path) -> AdditiveEncoder:
    """Open the additive model in ``folder`` (RUN/model); RunError when the run holds none."""
    if not (folder / f"{STEM}.json").exists():
        raise RunError(f"{folder.parent} has no additive model; train again with --set families.item.additive=true")
    return AdditiveEncoder.open(folder)


def additive(encoder: AdditiveEncoder) -> ExactRetriever:
    """Build the retriever: score = cosine of the weighted sum of source vectors and the item's target vector."""
    return ExactRetriever(encoder, encoder.targets, name="additive")
