"""The ``item`` family of one build: its lists, fitted on validation and cut to a byte budget, and its query weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sparcode.build.items.evidence import ItemEvidence, ListSettings, fixed_settings, open_evidence
from sparcode.build.items.fit import fit_lists
from sparcode.build.items.transitions import Transitions
from sparcode.build.tuning import integer_weights, validation_sample
from sparcode.config import Config
from sparcode.errors import RunError
from sparcode.files import read_object
from sparcode.run import Run


class ItemFamily(NamedTuple):
    """``lists`` (None: the family is off), integer ``weights`` of the event of age 0, 1, ..., what to remember."""

    lists: Transitions | None
    weights: tuple[int, ...]
    info: dict[str, Any]


def make_item_family(run: Run, config: Config, most_postings: int | None) -> ItemFamily:
    """Make the lists of a run under ``config``, at most ``most_postings`` in all.

    Raises RunError when the run it follows (``--like``) left bad settings.
    """
    family = config.families.item
    repeats = run.dataset.train if config.query.include_seen else None
    evidence = open_evidence(run.model_folder, family, repeats)
    if evidence is None:
        return ItemFamily(None, (), {})
    new = np.bincount(run.dataset.train.items, minlength=run.dataset.item_count) == 0
    evidence = replace(evidence, new=new if new.any() else None)
    chosen, figures = _choose(run, config, evidence)
    lists = evidence.lists(chosen)
    lists = lists if most_postings is None else shortened(lists, most_postings)
    weights = integer_weights(evidence.weights(chosen, family.history))
    return ItemFamily(lists, weights, {"item_lists": chosen.to_json()} | figures)


def _choose(run: Run, config: Config, evidence: ItemEvidence) -> tuple[ListSettings, dict[str, Any]]:
    taken = _taken_settings(run)
    if taken is not None:
        return taken, {}
    validation = run.held_out("validation")
    if validation is None or not len(validation):
        return fixed_settings(evidence, config.families.item), {}
    part = validation_sample(validation, config.seed)
    return fit_lists(evidence, config.families.item, part, run.dataset.item_count)


def _taken_settings(run: Run) -> ListSettings | None:
    """Return the list settings of the evaluated run this one follows (``--like``), if it follows one."""
    path = run.query_file
    taken = read_object(path) if path.exists() else {}
    lists = taken.get("item_lists") if "taken_from" in taken else None
    if lists is None:
        return None
    try:
        return ListSettings.from_json(lists)
    except (TypeError, ValueError) as problem:
        raise RunError(f"{path}: item_lists: {problem}; expected the settings of an evaluated run") from None


def shortened(lists: Transitions, most: int) -> Transitions:
    """Return the ``most`` postings of largest value; of equal values those of the smaller source, then id, stay.

    One cut over all lists: a value is what a posting adds to a score, whichever list holds it.
    """
    if len(lists.items) <= most:
        return lists
    kept = np.sort(np.argsort(-lists.values, kind="stable")[: max(most, 0)])
    owners = np.repeat(np.arange(len(lists.indptr) - 1), np.diff(lists.indptr))[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(lists.indptr) - 1))]).astype(np.int64)
    return Transitions(indptr, lists.items[kept], lists.values[kept])
