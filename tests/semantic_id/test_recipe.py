"""New items in the space of the old ones: a recipe gives old items their vectors again, and survives its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.errors import CorruptIndexError, DataError
from sparcode.index.arrays import read_arrays, read_metadata, write_arrays
from sparcode.semantic_id.recipe import Recipe
from sparcode.semantic_id.sources import AUTO, Sources, embed_fitted, embed_like
from tests.semantic_id.test_sources import shop

CHOICES = {
    "text": Sources(text_columns=["title"], width=8),
    "features": Sources(features=[AUTO]),
    "narrow features": Sources(features=[AUTO], width=5),
    "fused": Sources(text_columns=["title"], features=[AUTO], width=8),
    "projected": Sources(text_columns=["title"], features=[AUTO], width=6, fusion="project"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_old_items_get_their_vectors_again(name: str, tmp_path: Path) -> None:
    embeddings, recipe = embed_fitted(shop(), CHOICES[name])
    recipe.save(tmp_path / "r.safetensors")
    opened = Recipe.load(tmp_path / "r.safetensors")
    assert opened.about == recipe.about
    again = embed_like(shop(), opened)
    assert np.allclose(again.vectors, embeddings.vectors, atol=1e-5)
    few = embed_like(shop().slice(7, 3), opened)
    assert few.ids.to_pylist() == ["i7", "i8", "i9"]
    assert np.allclose(few.vectors, embeddings.vectors[7:10], atol=1e-5)
    recipe.save(tmp_path / "two.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "r.safetensors").read_bytes()


def test_new_items_may_lack_columns_and_have_new_values() -> None:
    _, recipe = embed_fitted(shop(), CHOICES["fused"])
    new = pa.table(
        {"item_id": ["x", "y"], "title": ["red wool scarf", "words unheard of"], "tags": [["tag 0"], ["new"]]}
    )
    embeddings = embed_like(new, recipe)
    assert embeddings.ids.to_pylist() == ["x", "y"]
    assert not embeddings.vectors[1, :8].any()  # its text says nothing: the mean


def test_behaviour_knows_no_new_item(planted: Path) -> None:
    _, alone = embed_fitted(planted, Sources(behaviour="counts", width=4))
    new = pa.table({"item_id": [7001, 7002], "categories": [["group 1"], ["group 2"]]})
    with pytest.raises(DataError, match="behaviour alone"):
        embed_like(new, alone)
    _, fused = embed_fitted(planted, Sources(behaviour="counts", features=["categories"], width=4))
    vectors = embed_like(new, fused).vectors
    assert not vectors[:, -4:].any()
    assert vectors.any(axis=1).all()
    with pytest.raises(DataError, match="needs a table of items"):
        embed_like({"interactions": next(file for file in planted.iterdir() if file.stem == "interactions")}, fused)


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Recipe.load(tmp_path / "none")
    file = tmp_path / "r.safetensors"
    write_arrays(file, {"x": np.ones(2)})
    with pytest.raises(CorruptIndexError, match="no recipe of format 1"):
        Recipe.load(file)
    write_arrays(file, {}, {"format": 1, "sources": [{"kind": "magic"}], "about": {}})
    with pytest.raises(CorruptIndexError, match="unknown kind 'magic'"):
        Recipe.load(file)
    embed_fitted(shop(), CHOICES["features"])[1].save(file)
    arrays, content = dict(read_arrays(file)), read_metadata(file)
    write_arrays(file, {}, content)
    with pytest.raises(CorruptIndexError, match="was edited"):
        Recipe.load(file)
    write_arrays(file, arrays, content)
    whole = bytearray(file.read_bytes())
    whole[-2] ^= 1
    file.write_bytes(whole)
    with pytest.raises(CorruptIndexError, match="damaged"):
        Recipe.load(file)
