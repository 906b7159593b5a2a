"""What docs/results.md reports: data sets, kinds of cells, ablations, variants, other splits, targets.

A cell is one measurement that can fail and be repeated alone. Its key is for people (``main/ml-1m/seed-0``), its digest
names its files: the digest covers kind, data set and configuration, never the commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sparcode.config import Config, updated

Changes = dict[str, Any]
"""Dotted configuration keys and their values."""

KINDS = ("main", "ablation", "split", "variant")
OWN = ("sparcode", "sparcode-cache")
EXHAUSTIVE = "all-to-all"
RETRIEVERS = (
    "sparcode", "sparcode-cache", "two-tower", "additive", "two-tower+counts", "two-tower+counts+additive", "counts",
    "item-knn", "content-knn", "recent-popular", "popular", "ease", EXHAUSTIVE,
)  # fmt: skip
"""Measured where the run offers them."""
LEARNED_ALONE = "learned codes only"


@dataclass(frozen=True)
class DataSet:
    """A folder of data and the options it is read with."""

    name: str
    folder: str
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """What the index holds; the key of ``build_index(overrides=...)``."""

    name: str
    overrides: Changes


@dataclass(frozen=True)
class Variant:
    """A model trained with other settings; one seed."""

    data: str
    name: str
    changes: Changes
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """Another protocol. ``depth``: results a query, hence what mrr is over; ``include_seen``: repeats are ranked."""

    name: str
    data: DataSet
    cutoffs: tuple[int, ...] = (10, 50)
    depth: int | None = None
    include_seen: bool = False
    without: tuple[str, ...] = ()
    note: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Target:
    """A bound on the mean over seeds of one figure of one system.

    ``metric``: a metric of the evaluation, ``bytes`` (of the cache, the vectors, or ``hnsw``) or ``minutes`` (training
    and building, two-tower not counted). ``times``: the bound is this multiple of the same figure of that system.
    ``most``: an upper bound. ``above_zero``: the interval of the paired difference must lie above 0 too.
    ``ablation``: the system's index is that of the ablation.
    """

    data: str
    system: str
    metric: str
    bound: float
    times: str | None = None
    most: bool = False
    above_zero: bool = False
    ablation: str | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """One measurement; ``needs``: the main cell whose run an ablation builds upon."""

    kind: str
    key: str
    data: DataSet
    seed: int
    changes: Changes
    label: str = ""
    retrievers: tuple[str, ...] = RETRIEVERS
    overrides: Changes = field(default_factory=dict)
    protocol: Changes = field(default_factory=dict)
    needs: Cell | None = None

    @property
    def config(self) -> Config:
        """The configuration that is trained."""
        return updated(Config(), self.changes)

    @property
    def identity(self) -> Changes:
        """What decides the outcome, JSON-able: kind, data set, changes, and what the index and evaluation differ in."""
        return {
            "kind": self.kind, "data": self.data.name, "changes": self.changes, "overrides": self.overrides,
            "protocol": {name: list(value) if name == "cutoffs" else value for name, value in self.protocol.items()},
        }  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """Name of the cell's files."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Grid:
    """Everything that is measured. ``base``: changes that hold for every cell."""

    data_sets: Sequence[DataSet]
    seeds: Sequence[int]
    ablations: Sequence[Ablation] = ()
    variants: Sequence[Variant] = ()
    splits: Sequence[Split] = ()
    targets: Sequence[Target] = ()
    base: Changes = field(default_factory=lambda: {"train.threads": 1})

    def cells(self) -> list[Cell]:
        """Return all cells; a cell stands behind the one it needs."""
        mains = [self._main(data, seed) for data in self.data_sets for seed in self.seeds]
        built = [_ablation(main, each) for main in mains for each in self._ablations(main)]
        return [*mains, *built, *map(self._split, self.splits), *map(self._variant, self.variants)]

    def _main(self, data: DataSet, seed: int) -> Cell:
        # A closed form over the training matrix does not depend on the seed, and it is the dearest row.
        names = RETRIEVERS if seed == self.seeds[0] else tuple(name for name in RETRIEVERS if name != "ease")
        return Cell("main", f"main/{data.name}/seed-{seed}", data, seed, self._changes(data, seed), retrievers=names)

    def _ablations(self, main: Cell) -> Sequence[Ablation]:
        """All of them with the first seed; with the others those that a target needs."""
        wanted = {target.ablation for target in self.targets if target.data == main.data.name}
        return [each for each in self.ablations if main.seed == self.seeds[0] or each.name in wanted]

    def _split(self, split: Split) -> Cell:
        given = {"cutoffs": split.cutoffs, "depth": split.depth, "include_seen": split.include_seen}
        names = tuple(name for name in RETRIEVERS if name not in split.without)
        # The index is fitted by the protocol that it is measured by.
        seen = {"query.include_seen": True} if split.include_seen else {}
        changes = self._changes(split.data, split.seed) | seen
        key = f"split/{split.name}/seed-{split.seed}"
        return Cell("split", key, split.data, split.seed, changes, split.name, names, protocol=given)

    def _variant(self, variant: Variant) -> Cell:
        data = next(each for each in self.data_sets if each.name == variant.data)
        changes = self._changes(data, variant.seed) | variant.changes
        key = f"variant/{data.name}/seed-{variant.seed}/{_slug(variant.name)}"
        return Cell("variant", key, data, variant.seed, changes, variant.name, (*OWN, "two-tower", EXHAUSTIVE))

    def _changes(self, data: DataSet, seed: int) -> Changes:
        return {"seed": seed, **self.base, **data.changes}


def _ablation(main: Cell, ablation: Ablation) -> Cell:
    key = f"ablation/{main.data.name}/seed-{main.seed}/{_slug(ablation.name)}"
    return Cell("ablation", key, main.data, main.seed, main.changes, ablation.name, OWN, ablation.overrides, needs=main)


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def _families(*, learned: bool, counted: bool, additive: bool) -> Changes:
    return {
        "families.learned.enabled": learned, "families.item.enabled": counted or additive,
        "families.item.counted": counted, "families.item.additive": additive,
    }  # fmt: skip


ABLATIONS = (
    Ablation("counted lists only", _families(learned=False, counted=True, additive=False)),
    Ablation("additive lists only", _families(learned=False, counted=False, additive=True)),
    Ablation("counted + additive", _families(learned=False, counted=True, additive=True)),
    Ablation(LEARNED_ALONE, _families(learned=True, counted=False, additive=False)),
    Ablation("learned + counted", _families(learned=True, counted=True, additive=False)),
    Ablation("all three families", _families(learned=True, counted=True, additive=True)),
)

BEAUTY = "amazon14-beauty"
_BY_TIME = {"data.split_by": "time", "data.time_cut": 0.9}
_BY_COLUMN = {"data.split_by": "column"}
_SHORT = {"cutoffs": (20,), "depth": 20, "without": ("ease",)}

# As published: items without an event, which the table of films holds, are not ranked.
_ML_1M = {"data.columns": {"time": "position"}, "data.where": "in_sasrec=true", "data.catalogue_items": False}
DATA_SETS = (
    DataSet(BEAUTY, BEAUTY),
    DataSet("amazon14-office", "amazon14-office"),
    DataSet("yelp-s3rec", "yelp-s3rec"),
    DataSet("ml-100k", "ml-100k"),
    DataSet("ml-1m", "ml-1m", _ML_1M),
)

SPLITS = (
    Split("ml-100k-time", DataSet("ml-100k-time", "ml-100k", _BY_TIME), note="global cut in time, last tenth = test"),
    Split(
        "movietweetings-100k-time", DataSet("movietweetings-100k-time", "movietweetings-100k", _BY_TIME),
        note="global cut in time, last tenth = test",
    ),
    Split(
        "gowalla-lightgcn", DataSet("gowalla-lightgcn", "gowalla-lightgcn", _BY_COLUMN), **_SHORT,
        note="the given split of users' visits; published tables state recall@20 and ndcg@20",
    ),
    Split(
        "diginetica-gcegnn", DataSet("diginetica-gcegnn", "diginetica-gcegnn", _BY_COLUMN), **_SHORT,
        include_seen=True,
        note="every prefix of a test session; published P@20 is hit_rate@20 here, and items of the session may recur, "
        "so they are ranked too",
    ),
)  # fmt: skip

TUNED_ML_100K: Changes = {
    "model.attention_heads": 4, "model.history": 20, "model.dropout": 0.35, "model.temperature": 0.127,
    "train.epochs": 16, "train.learning_rate": 5.86e-3, "train.weight_decay": 4.95e-3, "train.history_dropout": 0.044,
}  # fmt: skip
"""As in configs/ml-100k.toml."""

VARIANTS = (
    Variant("ml-100k", "no content", {"model.item_content": False}),
    Variant("amazon14-office", "no content", {"model.item_content": False}),
    Variant("amazon14-office", "Hadamard MLP", {"scorer.kind": "hadamard"}),
    Variant("ml-100k", "Hadamard MLP", {"scorer.kind": "hadamard"}),
    Variant("ml-100k", "configs/ml-100k.toml (two-tower tuned over 20 trials)", TUNED_ML_100K),
    Variant("ml-100k", "mixture of logits", {"scorer.kind": "mixture"}),
    Variant("ml-100k", "concatenation MLP", {"scorer.kind": "concatenation"}),
    Variant("ml-100k", "no warm start", {"train.warm_start": False}),
    Variant("ml-100k", "four query tokens", {"model.heads": 4}),
    Variant("ml-100k", "product codes, M = 2, N = 32", {"quantizer.books": 2, "quantizer.codewords": 32}),
    Variant(BEAUTY, "no content", {"model.item_content": False}),
    Variant(BEAUTY, "product codes, M = 2, N = 64", {"quantizer.books": 2, "quantizer.codewords": 64}),
    Variant(
        BEAUTY, "residual codes, M = 2, N = 64",
        {"quantizer.kind": "residual", "quantizer.books": 2, "quantizer.codewords": 64},
    ),
    Variant("ml-100k", "Hadamard MLP, K_c = 4", {"scorer.kind": "hadamard", "model.item_tokens": 4}),
    Variant("ml-100k", "Hadamard MLP, 128 hidden units", {"scorer.kind": "hadamard", "scorer.hidden": 128}),
)  # fmt: skip


def _targets() -> tuple[Target, ...]:
    ndcg = "ndcg@10"
    beauty = [
        Target(BEAUTY, "two-tower", "recall@10", 0.088),
        Target(BEAUTY, "two-tower", ndcg, 0.052),
        Target(BEAUTY, "sparcode-cache", "recall@10", 0.093),
        Target(BEAUTY, "sparcode-cache", ndcg, 0.056),
        Target(BEAUTY, "sparcode-cache", ndcg, 1.05, times="two-tower"),
        Target(BEAUTY, "sparcode", "recall@10", 0.096),
        Target(BEAUTY, "sparcode", ndcg, 0.058),
        Target(BEAUTY, "sparcode", ndcg, 1.07, times="two-tower"),
        Target(BEAUTY, "sparcode", "recall@50", 1.05, times="two-tower"),
        Target(BEAUTY, "sparcode-cache", ndcg, 0.80, times="two-tower", ablation=LEARNED_ALONE),
        Target(BEAUTY, "sparcode", ndcg, 0.96, times="two-tower", ablation=LEARNED_ALONE),
        Target(BEAUTY, "sparcode", "minutes", 12.0, most=True),
    ]
    others = [
        target
        for data in ("ml-1m", "ml-100k", "yelp-s3rec", "amazon14-office")
        for target in (
            Target(data, "sparcode", ndcg, 1.03, times="two-tower", above_zero=True),
            Target(data, "sparcode-cache", ndcg, 0.98, times="two-tower"),
        )
    ]
    sizes = [Target(data.name, "sparcode-cache", "bytes", 1.0, times="hnsw", most=True) for data in DATA_SETS]
    return (*beauty, *others, *sizes)


GRID = Grid(DATA_SETS, (0, 1, 2), ABLATIONS, VARIANTS, SPLITS, _targets())
