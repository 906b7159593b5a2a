"""What every method promises, whatever it does inside. A method whose module is not installed here is skipped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparcode.errors import ConfigError, DataError, QueryError
from sparcode.semantic_id import tokenizer as tokenizer_module
from sparcode.semantic_id.codec import FITTERS, MODULES, FitContext, open_codec
from sparcode.semantic_id.codecs.checks import fitting_size
from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
from tests.semantic_id.worlds import planted

ITEMS = planted()
SMALL: dict[str, dict[str, Any]] = {
    "rq-vae": {"hidden_dims": [16], "latent_dim": 8, "epochs": 3, "warmup_epochs": 1, "batch_size": 100},
    "vq-vae": {"hidden_dims": [16], "latent_dim": 8, "epochs": 3, "warmup_epochs": 1, "batch_size": 100},
}
SIZES: dict[str, dict[str, Any]] = {
    "vq-vae": {"codebook_size": 32},
    "pq": {"codebooks": 4, "codebook_size": 8},
    "opq": {"codebooks": 4, "codebook_size": 8},
    "fsq": {"codebooks": 4},
    "lsh": {"codebooks": 3, "codebook_size": 8},
}
LEARNS_WORDS = {"rq-kmeans", "rq-vae", "vq-vae", "pq", "opq", "category-prefix"}
NO_VECTORS = {"base", "random"}
ROUNDS_EACH_DIGIT = {"fsq", "lsh"}
"""Methods whose digits do not ask what the reconstruction of the others has left open."""


def has_module(kind: str) -> bool:
    """Tell whether the module of a method is here, and torch where fitting needs it."""
    needed = [f"sparcode.semantic_id.codecs.{MODULES[kind]}", *(["torch"] if "vae" in kind else [])]
    return all(importlib.util.find_spec(name) is not None for name in needed)


KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not has_module(kind), reason=f"no {kind} here")) for kind in MODULES
]
every_method = pytest.mark.parametrize("kind", KINDS)


def unfitted(kind: str, collisions: str = "extra-digit", **more: Any) -> SemanticIdTokenizer:
    """A tokenizer of small sizes."""
    sizes = SIZES.get(kind, {"codebooks": 3, "codebook_size": 8})
    return SemanticIdTokenizer(kind, collisions=collisions, device="cpu", **sizes, **SMALL.get(kind, {}), **more)


_fitted: dict[tuple[str, str], SemanticIdTokenizer] = {}


def fitted(kind: str, collisions: str = "extra-digit") -> SemanticIdTokenizer:
    """A tokenizer fitted to 400 planted items, shared by the tests, which do not change it."""
    if (kind, collisions) not in _fitted:
        _fitted[kind, collisions] = unfitted(kind, collisions).fit(ITEMS.vectors, categories=ITEMS.categories)
    return _fitted[kind, collisions]


def given_categories(kind: str) -> list[str] | None:
    return ITEMS.categories if kind == "category-prefix" else None


@every_method
def test_codes_have_their_shape_type_and_range(kind: str) -> None:
    tokenizer = fitted(kind)
    codes = tokenizer.encode(ITEMS.vectors)
    assert codes.dtype == np.int32
    assert codes.shape == (400, len(tokenizer.codec.sizes))
    assert (codes >= 0).all()
    assert (codes < np.array(tokenizer.codec.sizes)).all()


@every_method
def test_codes_do_not_depend_on_the_batch(kind: str) -> None:
    tokenizer = fitted(kind)
    whole = tokenizer.encode(ITEMS.vectors)
    for size in (1, 7, 150):
        parts = [tokenizer.encode(ITEMS.vectors[low : low + size]) for low in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(parts)[:300], whole[:300])
    shuffled = np.random.default_rng(0).permutation(400)
    np.testing.assert_array_equal(tokenizer.encode(ITEMS.vectors[shuffled]), whole[shuffled])


@every_method
def test_codes_do_not_depend_on_the_layout_in_memory(kind: str) -> None:
    whole = fitted(kind).encode(ITEMS.vectors)
    wide = np.zeros((400, 32), np.float32)
    wide[:, ::2] = ITEMS.vectors
    np.testing.assert_array_equal(fitted(kind).encode(wide[:, ::2]), whole)
    np.testing.assert_array_equal(fitted(kind).encode(np.asfortranarray(ITEMS.vectors)), whole)


@every_method
def test_the_same_seed_gives_the_same_tokenizer(kind: str) -> None:
    again = unfitted(kind).fit(ITEMS.vectors, categories=ITEMS.categories)
    assert again.fingerprint == fitted(kind).fingerprint
    np.testing.assert_array_equal(again.semantic_ids.codes, fitted(kind).semantic_ids.codes)


@every_method
def test_rows_scaled_when_read_or_at_once_are_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in tokenizer_module.READ_BY_ROWS:
        monkeypatch.setattr(tokenizer_module, "READ_BY_ROWS", ())
        whole = unfitted(kind).fit(ITEMS.vectors, categories=ITEMS.categories)
        assert whole.fingerprint == fitted(kind).fingerprint


@every_method
def test_a_saved_tokenizer_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    tokenizer = fitted(kind)
    tokenizer.save(tmp_path / "sid")
    opened = SemanticIdTokenizer.load(tmp_path / "sid")
    assert opened.info() == tokenizer.info()
    np.testing.assert_array_equal(opened.encode(ITEMS.vectors), tokenizer.encode(ITEMS.vectors))
    np.testing.assert_array_equal(opened.semantic_ids.codes, tokenizer.semantic_ids.codes)
    if kind not in NO_VECTORS and tokenizer_decodes(tokenizer):
        codes = tokenizer.semantic_ids
        np.testing.assert_array_equal(opened.decode(codes), tokenizer.decode(codes))


def tokenizer_decodes(tokenizer: SemanticIdTokenizer) -> bool:
    try:
        tokenizer.decode(tokenizer.semantic_ids)
    except QueryError:
        return False
    return True


@every_method
def test_a_reconstruction_is_nearer_than_the_mean_or_refused(kind: str) -> None:
    tokenizer = fitted(kind)
    codes = tokenizer.encode(ITEMS.vectors, given_categories(kind))
    if not tokenizer_decodes(tokenizer):
        with pytest.raises(QueryError, match=kind):
            tokenizer.decode(codes)
        return
    assert kind not in NO_VECTORS
    found = tokenizer.decode(codes)
    assert (found.shape, found.dtype) == (ITEMS.vectors.shape, np.float32)
    assert ((found - ITEMS.vectors) ** 2).mean() < ITEMS.vectors.var(axis=0).mean()


@every_method
def test_costs_of_last_digits(kind: str) -> None:
    tokenizer = fitted(kind)
    vectors = (ITEMS.vectors[:20] - tokenizer._fitted_scaling.mean) / tokenizer._fitted_scaling.scale
    codes = tokenizer.codec.encode(vectors)
    if not tokenizer_decodes(tokenizer):
        with pytest.raises(QueryError):
            tokenizer.codec.last_digit_costs(vectors, codes)
        return
    costs = tokenizer.codec.last_digit_costs(vectors, codes)
    assert (costs.shape, costs.dtype) == ((20, tokenizer.codec.sizes[-1]), np.float32)
    assert np.isfinite(costs).all()
    assert (costs >= 0).all()
    own = costs[np.arange(20), codes[:, -1]]
    if kind in ROUNDS_EACH_DIGIT:
        assert own.mean() < 0.7 * costs.mean()
    else:  # The digit that was chosen is the best one, but for rounding.
        assert (own <= costs.min(axis=1) * 1.001 + 1e-4).all()


@every_method
def test_no_handling_leaves_the_codes(kind: str) -> None:
    tokenizer = fitted(kind, "none")
    expected = tokenizer.encode(ITEMS.vectors, given_categories(kind))
    np.testing.assert_array_equal(tokenizer.semantic_ids.codes, expected)


@every_method
def test_the_extra_digit_leaves_no_collision_and_moves_nothing(kind: str) -> None:
    tokenizer = fitted(kind)
    sids = tokenizer.semantic_ids
    assert sids.collision_rate == 0
    content = tokenizer.encode(ITEMS.vectors, given_categories(kind))
    np.testing.assert_array_equal(sids.codes[:, : content.shape[1]], content)
    assert tokenizer.report["mse_before"] == tokenizer.report["mse_after"]


@every_method
@pytest.mark.filterwarnings("ignore:.*still share a SID")
@pytest.mark.parametrize("policy", ["next-best", "sinkhorn-last"])
def test_moved_items_keep_their_prefix(kind: str, policy: str) -> None:
    if kind == "base":
        assert fitted(kind, policy).report["policy"] == "none"
        return
    if not tokenizer_decodes(fitted(kind)):
        with pytest.raises(ConfigError, match="choose extra-digit"):
            fitted(kind, policy)
        return
    tokenizer = fitted(kind, policy)
    sids, content = tokenizer.semantic_ids, tokenizer.encode(ITEMS.vectors, given_categories(kind))
    np.testing.assert_array_equal(sids.codes[:, :-1], content[:, :-1])
    shared = np.unique(sids.codes, axis=0, return_counts=True)[1] - 1
    assert shared.sum() == tokenizer.report["unresolved"]
    assert tokenizer.report["moved"] == (sids.codes != content).any(axis=1).sum()


@every_method
def test_new_items_are_appended_without_moving_old_ones(kind: str) -> None:
    old = slice(0, 380)
    tokenizer = unfitted(kind).fit(ITEMS.vectors[old], categories=ITEMS.categories[old])
    before = tokenizer.semantic_ids.codes.copy()
    added = tokenizer.append(ITEMS.vectors[370:], np.arange(370, 400), ITEMS.categories[370:])
    np.testing.assert_array_equal(tokenizer.semantic_ids.codes[:380], before)
    np.testing.assert_array_equal(added.codes[:10], before[370:])
    assert tokenizer.semantic_ids.collision_rate == 0
    assert len(tokenizer.semantic_ids) == 400


@every_method
def test_vectors_that_cannot_be_used_are_refused(kind: str) -> None:
    broken = ITEMS.vectors.copy()
    broken[17, 3] = np.nan
    for bad, words in (
        (broken, "row 17 has nan in column 3"),
        (np.where(np.isnan(broken), np.inf, broken), "row 17 has inf in column 3"),
        (np.ones((400, 16)), "zero variance"),
        (ITEMS.vectors[:, 0], "shape"),
        (np.empty((0, 16)), "shape"),
    ):
        with pytest.raises(DataError, match=words):
            unfitted(kind).fit(bad, categories=ITEMS.categories)
        if words != "zero variance":
            with pytest.raises(DataError, match=words):
                fitted(kind).encode(bad)
    with pytest.raises(DataError, match="width 15 found, the tokenizer takes a width of 16"):
        fitted(kind).encode(ITEMS.vectors[:, :15])


@every_method
@pytest.mark.parametrize("items", [5, 60])
def test_sizes_that_nobody_gives_fit_small_catalogues(kind: str, items: int) -> None:
    tokenizer = SemanticIdTokenizer(kind, device="cpu", **SMALL.get(kind, {}))
    tokenizer.fit(ITEMS.vectors[:items], categories=ITEMS.categories[:items])
    assert tokenizer.semantic_ids.collision_rate == 0
    assert not any("collapsed" in note for note in tokenizer.info()["notes"])
    if kind in LEARNS_WORDS | {"hierarchical-kmeans"}:
        # 60 items: 8 words with 4 items each at least; trees: 4 x 4 x 4 nodes name them all.
        expected = {"hierarchical-kmeans": {5: 2, 60: 4}}.get(kind, {5: 2, 60: 8})[items]
        assert set(tokenizer.codec.sizes[kind == "category-prefix" :]) == {expected}


@pytest.mark.parametrize(
    ("items", "most", "size"), [(10**9, 256, 256), (1024, 256, 256), (1023, 256, 128), (3, 256, 2), (60, 16, 8)]
)
def test_the_size_of_a_digit_follows_the_number_of_items(items: int, most: int, size: int) -> None:
    assert fitting_size(items, most) == size


@pytest.mark.parametrize("policy", ["extra-digit", "next-best", "sinkhorn-last"])
def test_heaps_of_equal_vectors_find_room_and_are_no_collapse(policy: str) -> None:
    heaps = ITEMS.vectors[:10].repeat(40, axis=0)
    tokenizer = SemanticIdTokenizer("rq-kmeans", collisions=policy).fit(heaps)
    assert tokenizer.semantic_ids.collision_rate == 0
    # The first digit tells the ten apart and leaves nothing for the others: said, and no collapse.
    notes = tokenizer.info()["notes"]
    assert notes[:2] == [f"digit {digit}: all items have the same codeword" for digit in (2, 3)]
    assert not any("collapsed" in note for note in notes)


def test_vectors_of_every_kind_give_the_same_codes() -> None:
    torch = pytest.importorskip("torch")
    x, tensor = ITEMS.vectors, torch.from_numpy(ITEMS.vectors.copy())
    same = [tensor, tensor.clone().requires_grad_(), tensor.double(), x.tolist(), np.ma.masked_array(x, False)]
    for given in same:
        assert np.array_equal(fitted("rq-kmeans").encode(given), fitted("rq-kmeans").encode(x))
    for narrow in (tensor.bfloat16(), tensor.half()):
        assert np.array_equal(fitted("rq-kmeans").encode(narrow), fitted("rq-kmeans").encode(narrow.float().numpy()))
    with pytest.raises(DataError, match="the vector in row 3 has nan in column 2"):
        fitted("rq-kmeans").encode(np.ma.masked_array(x, np.arange(x.size).reshape(x.shape) == 3 * x.shape[1] + 2))
    with pytest.raises(DataError, match="rows differ in length"):
        fitted("rq-kmeans").encode([[1.0, 2.0], [3.0]])


@every_method
def test_fewer_items_than_codewords(kind: str) -> None:
    few, categories = ITEMS.vectors[:5], ITEMS.categories[:5]
    if kind in LEARNS_WORDS:
        with pytest.raises(DataError, match=r"5 items.* lower codebook_size"):
            unfitted(kind).fit(few, categories=categories)
        return
    assert unfitted(kind).fit(few, categories=categories).semantic_ids.collision_rate == 0


@every_method
def test_equal_vectors_are_items_of_their_own(kind: str) -> None:
    twins = np.concatenate([ITEMS.vectors, ITEMS.vectors[:20]])
    tokenizer = unfitted(kind).fit(twins, categories=ITEMS.categories + ITEMS.categories[:20])
    assert tokenizer.semantic_ids.collision_rate == 0
    assert tokenizer.report["distinct_vectors"] == 400
    codes = tokenizer.encode(twins)
    np.testing.assert_array_equal(codes[:20], codes[400:])


@every_method
def test_an_unknown_option_is_named(kind: str) -> None:
    with pytest.raises(ConfigError, match="codebok"):
        unfitted(kind, codebok=3).fit(ITEMS.vectors, categories=ITEMS.categories)


@every_method
def test_sids_out_of_range_are_refused(kind: str) -> None:
    tokenizer = fitted(kind)
    sids = tokenizer.semantic_ids.codes[:3].copy()
    sids[1, 0] = tokenizer.sizes[0]
    with pytest.raises(QueryError, match="out of range: digit 1"):
        tokenizer.semantic_ids.items_of(sids)
    if tokenizer_decodes(tokenizer):
        with pytest.raises(QueryError, match="out of range: digit 1"):
            tokenizer.decode(sids)
        with pytest.raises(QueryError, match="one column a digit"):
            tokenizer.decode(np.zeros((2, 9), np.int32))


@every_method
def test_spec_and_arrays_are_all_a_codec_needs(kind: str) -> None:
    codec = fitted(kind).codec
    opened = open_codec(codec.spec(), codec.arrays())
    assert (opened.kind, opened.sizes, opened.width) == (kind, codec.sizes, 16)
    vectors = fitted(kind)._fitted_scaling.apply(ITEMS.vectors)
    np.testing.assert_array_equal(opened.encode(vectors), codec.encode(vectors))
    assert open_codec(opened.spec(), opened.arrays()).spec() == codec.spec()


@every_method
def test_fitters_are_found_by_name(kind: str) -> None:
    context = FitContext(categories=ITEMS.categories, device="cpu")
    options = SIZES.get(kind, {"codebooks": 3, "codebook_size": 8}) | SMALL.get(kind, {})
    codec = FITTERS[kind](ITEMS.vectors, seed=0, options=options, context=context)
    assert codec.kind == kind


def test_encoding_loads_no_torch(tmp_path: Path) -> None:
    kinds = [kind for kind in MODULES if has_module(kind)]
    np.save(tmp_path / "x.npy", ITEMS.vectors)
    for kind in kinds:
        fitted(kind).save(tmp_path / kind)
    program = f"""
import sys, numpy as np
from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
x = np.load({str(tmp_path / "x.npy")!r})
for kind in {kinds!r}:
    SemanticIdTokenizer.load({str(tmp_path)!r} + "/" + kind).encode(x)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
