"""Item vectors and tokens: ids, content, dropout of ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcode.config import ModelConfig
from sparcode.data.features import FeatureLayout, Features
from sparcode.model.item_tokens import ItemTokens, unit

ITEMS, WIDTH = 7, 5


def features(vector: bool = True, numeric: bool = True) -> Features:
    """Return categories of 7 items (item 2 has none), two numbers and a given vector of three."""
    bags = [[0, 2], [1], [], [3], [0, 1, 2], [2], [3]]
    random = np.random.default_rng(0)
    numbers = random.normal(size=(ITEMS, 2 if numeric else 0)).astype(np.float32)
    layout = FeatureLayout(["genre=a", "genre=b", "genre=c", "genre=d"])
    indptr = np.cumsum([0, *map(len, bags)]).astype(np.int64)
    given = random.normal(size=(ITEMS, 3)).astype(np.float32) if vector else None
    return Features(layout, indptr, np.array(sum(bags, []), np.int32), numbers, given)


def made(content: Features | None, **options) -> ItemTokens:
    """Return item tokens over the seven items."""
    torch.manual_seed(0)
    return ItemTokens(ModelConfig(width=WIDTH, item_content=content is not None, **options), ITEMS, content)


@pytest.mark.parametrize(("vector", "numeric"), [(True, True), (False, True), (True, False), (False, False)])
def test_vectors_are_id_plus_mean_category_plus_linear(vector, numeric):
    given = features(vector, numeric)
    items = made(given)
    content = items.content
    table = items.table().detach().numpy()
    for item in range(ITEMS):
        wanted = items.embedding[item].detach().numpy().copy()
        bag = given.categories_items[given.categories_indptr[item] : given.categories_indptr[item + 1]]
        for word in bag:
            wanted += content.categories[word].detach().numpy() / len(bag)
        dense = [*given.numeric[item], *(given.vector[item] if vector else [])]
        for place, value in enumerate(dense):
            wanted += content.linear.weight[:, place].detach().numpy() * value
        np.testing.assert_allclose(table[item], wanted, atol=1e-6)


def test_content_without_any_category():
    empty = Features(FeatureLayout(), np.zeros(ITEMS + 1, np.int64), np.empty(0, np.int32), features().numeric)
    items = made(empty)
    assert items.table().shape == (ITEMS, WIDTH)


@pytest.mark.parametrize("count", [1, 3])
def test_tokens_are_unit_maps_of_the_vector(count):
    items = made(None, item_tokens=count)
    vectors = torch.randn(2, 3, WIDTH)
    tokens = items.tokens(vectors)
    assert tokens.shape == (2, 3, count, WIDTH)
    for index in np.ndindex(2, 3, count):
        x = vectors[index[:2]]
        mapped = x if items.token_maps is None else items.token_maps[index[2]] @ x
        torch.testing.assert_close(tokens[index], mapped / mapped.norm())
    if count > 1:
        assert (tokens[:, :, 0] - tokens[:, :, 1]).abs().max() > 1e-3, "tokens must start apart"


def test_id_dropout_hides_ids_and_keeps_content():
    items = made(features(), item_id_dropout=0.5)
    content = items.content().detach()
    items.train()
    table = items.table().detach()
    hidden = [bool(torch.equal(table[item], content[item])) for item in range(ITEMS)]
    assert any(hidden)
    assert not all(hidden)
    items.eval()
    torch.testing.assert_close(items.table(), items.embedding + items.content())


def test_without_content_no_id_is_hidden():
    items = made(None, item_id_dropout=0.5).train()
    assert items.table() is items.embedding


def test_a_zero_vector_stays_zero():
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_an_item_never_seen_is_known_by_its_content_alone():
    items = made(features())
    before = items.table()
    seen = torch.ones(ITEMS, dtype=torch.bool)
    seen[4] = False
    items.learn_ids_of(seen)
    after = items.table()
    torch.testing.assert_close(after[seen], before[seen])
    torch.testing.assert_close(after[4], items.content()[4])
    after[4].sum().backward()
    assert not items.embedding.grad.any()


def test_without_content_an_item_never_seen_is_the_zero_vector():
    items = made(None)
    seen = torch.arange(ITEMS) != 4
    items.learn_ids_of(seen)
    assert torch.equal(items.table()[seen], items.embedding[seen])
    assert not items.table()[4].any()
