"""Categories as leading digits, then content; and the two controls that know nothing of content."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import ConfigError, DataError, QueryError
from sparcode.quantize import residual
from sparcode.semantic_id.codec import BaseCodec, FitContext
from sparcode.semantic_id.codecs import controls
from sparcode.semantic_id.codecs.category_prefix import CategoryPrefix, fit, path_digits, shared_levels, split_path
from tests.semantic_id.worlds import planted

ITEMS = planted()


def fitted(categories: list[str | None], **options: object) -> CategoryPrefix:
    settings = {"codebooks": 3, "codebook_size": 8} | options
    return fit(ITEMS.vectors, seed=0, options=settings, context=FitContext(categories=categories))  # type: ignore[arg-type]


def test_levels_are_numbered_inside_their_parent() -> None:
    paths = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("b", "")]
    assert path_digits(paths).tolist() == [[0, 0], [0, 1], [1, 1], [1, 2], [1, 0]]
    assert split_path(" A>B > C", ">", 2) == ("A", "B")
    assert split_path("A", " > ", 3) == ("A", "", "")


def test_levels_that_all_items_share_are_skipped() -> None:
    assert [shared_levels(texts, ">") for texts in (["A > B", "A>C"], ["A", "A > B"], ["A > B", "A > B"], ["A"])] == [
        1, 1, 1, 0]  # fmt: skip
    assert shared_levels(["A > B", "C > B"], ">") == 0
    plain, deep = fitted(ITEMS.categories), fitted([f"Shop > All > {text}" for text in ITEMS.categories])
    assert deep.sizes == plain.sizes
    assert (plain.options["skip"], deep.options["skip"]) == (0, 2)
    given = [f"Shop > All > {text}" for text in ITEMS.categories]
    np.testing.assert_array_equal(
        deep.encode_items(ITEMS.vectors, categories=given),
        plain.encode_items(ITEMS.vectors, categories=ITEMS.categories),
    )


def test_codes_equal_a_slow_reference() -> None:
    codec = fitted(ITEMS.categories, category_digits=2, codebooks=4)
    codes = codec.encode_items(ITEMS.vectors, categories=ITEMS.categories)
    tops = sorted({text.split(" > ")[0] for text in ITEMS.categories})
    arrays = codec.arrays()
    paths = sorted({tuple(text.split(" > ")) for text in ITEMS.categories})
    for row in range(0, 400, 37):
        top, sub = ITEMS.categories[row].split(" > ")
        siblings = [path[1] for path in paths if path[0] == top]
        members = [place for place, text in enumerate(ITEMS.categories) if text == ITEMS.categories[row]]
        rest = ITEMS.vectors[row] - ITEMS.vectors[members].mean(axis=0)
        expected = [tops.index(top), siblings.index(sub)]
        for book in (arrays["book.0"], arrays["book.1"]):
            expected.append(int(((rest - book) ** 2).sum(axis=1).argmin()))
            rest = rest - book[expected[-1]]
        assert codes[row].tolist() == expected
        np.testing.assert_allclose(codec.decode(codes[row : row + 1])[0] + rest, ITEMS.vectors[row], atol=1e-4)


def test_without_a_category_the_nearest_one_is_taken() -> None:
    codec = fitted(ITEMS.categories)
    given = codec.encode_items(ITEMS.vectors, categories=ITEMS.categories)
    means = codec.arrays()["means"]
    nearest = ((ITEMS.vectors[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codec.encode(ITEMS.vectors)[:, 0], nearest)
    unknown = codec.encode_items(ITEMS.vectors, categories=["no such", None, ""] + ITEMS.categories[3:])
    np.testing.assert_array_equal(unknown[:3], codec.encode(ITEMS.vectors[:3]))
    np.testing.assert_array_equal(unknown[3:], given[3:])


def test_items_without_category_take_part() -> None:
    some = [None if row % 4 == 0 else text for row, text in enumerate(ITEMS.categories)]
    assert fitted(some).sizes == (3, 8, 8)
    assert fitted(["one"] * 400).sizes == (1, 8, 8)


def test_costs_equal_decoding_every_digit() -> None:
    codec = fitted(ITEMS.categories)
    codes = codec.encode(ITEMS.vectors[:30])
    expected = BaseCodec.last_digit_costs(codec, ITEMS.vectors[:30], codes)
    np.testing.assert_allclose(codec.last_digit_costs(ITEMS.vectors[:30], codes), expected, rtol=1e-4, atol=1e-4)


def test_a_prefix_that_is_no_category() -> None:
    codec = fitted(["a > x", "a > y", "b > x", None] * 100, category_digits=2, codebooks=3)
    assert codec.sizes == (2, 2, 8)
    with pytest.raises(QueryError, match="prefix 1-1 is no category; 3 categories"):
        codec.decode(np.array([[0, 1, 0], [1, 1, 0]]))


@pytest.mark.parametrize(
    ("categories", "options", "error", "words"),
    [
        (None, {}, DataError, "no categories found for 400 items"),
        (["a"], {}, DataError, "1 categories found for 400 items"),
        ([None] * 400, {}, DataError, "no item has a category"),
        (["a"] * 400, {"category_digits": 3}, ConfigError, "category_digits=3: 1 to 2 expected"),
        (["a"] * 400, {"category_digits": 0}, ConfigError, "category_digits=0"),
        (["a"] * 400, {"separator": ""}, ConfigError, "separator=''"),
        (["a"] * 400, {"seperator": "/"}, ConfigError, "did you mean 'separator'"),
    ],
)
def test_refusals(categories: list[str | None], options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fitted(categories, **options)
    with pytest.raises(DataError, match="one category found, a list"):
        fitted(ITEMS.categories).encode_items(ITEMS.vectors[:1], categories="a")


def test_content_digits_are_those_of_rq_kmeans() -> None:
    codec = fitted(["one"] * 400)
    books = residual.fit(ITEMS.vectors - ITEMS.vectors.mean(axis=0, dtype=np.float64).astype("f"), (8, 8), seed=0)
    np.testing.assert_allclose(codec.arrays()["book.0"], books[0], atol=1e-5)


def test_base_conversion_puts_the_most_significant_digit_first() -> None:
    options = {"codebooks": 3, "codebook_size": 8}
    codec = controls.fit_base(ITEMS.vectors, seed=0, options=options, context=FitContext())
    codes = codec.encode(ITEMS.vectors)
    assert [int("".join(map(str, code)), 8) for code in codes.tolist()] == list(range(400))
    with pytest.raises(DataError, match="row 1 is no vector the numbers were given to"):
        codec.encode(np.stack([ITEMS.vectors[0], ITEMS.vectors[0] + 1]))
    with pytest.raises(ConfigError, match="2 digits of 8 number 64 items, 400 given"):
        controls.fit_base(ITEMS.vectors, seed=0, options=options | {"codebooks": 2}, context=FitContext())


def test_random_digits_are_even_and_differ_by_seed() -> None:
    vectors = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    one, two = (controls.fit_random(vectors, seed=seed, options={}, context=FitContext()) for seed in (0, 1))
    codes = one.encode(vectors)
    for column in codes.T:
        counts = np.bincount(column, minlength=256)
        assert abs(counts - 20_000 / 256).max() < 6 * np.sqrt(20_000 / 256)
    assert (codes == two.encode(vectors)).mean() < 0.01
    assert abs(np.corrcoef(codes[:, 0], codes[:, 1])[0, 1]) < 0.03
