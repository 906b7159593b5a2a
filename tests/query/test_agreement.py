"""An index that is sound in itself but not of this model is refused when it is opened, not at some query."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import IndexMismatchError
from sparcode.index.layout import Family, Index, make_index
from sparcode.query.agreement import check_agreement

ITEMS, BOOKS, CODEWORDS = 5, 2, 3
CODEBOOKS = np.zeros((BOOKS, CODEWORDS, 4), np.float32)


def made(items: int = ITEMS, lists: int = ITEMS, **tables) -> Index:
    families = [Family("learned", 0, 2), Family("item", 2, lists)]
    return make_index(np.zeros(lists + 3), [], items, 1.0, families, **({"code_table": [[0, 2], [2, 1]]} | tables))


@pytest.mark.parametrize("tables", [{}, {"code_rows": np.zeros(CODEWORDS**BOOKS)}])
def test_an_index_of_the_model_is_accepted(tables):
    check_agreement(made(**tables), ITEMS, CODEBOOKS)


def test_without_learned_lists_codes_are_not_compared():
    check_agreement(make_index([0], [], ITEMS, 1.0, []), ITEMS, CODEBOOKS)
    check_agreement(made(), ITEMS, None)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (made(items=6), "has 6 items, the model has 5"),
        (made(lists=4), "item lists of 4 items, the model has 5"),
        (made(code_rows=np.zeros(8)), "maps 8 codes, the model has 9"),
        (made(code_table=[[0], [2]]), "codes of 1 codewords each, those of the model have 2"),
        (made(code_table=np.zeros((0, 2))), "stores 0 codes for 2 learned lists"),
        (made(code_table=[[0, 3], [2, 1]]), "codeword 3, the model has 3 a book"),
    ],
)
def test_an_index_of_another_model_is_refused(index, message):
    with pytest.raises(IndexMismatchError, match=f"{message}.*build-index"):
        check_agreement(index, ITEMS, CODEBOOKS)
